//! [`Policy`]: what an image needs before a store makes it visible.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::envelope::Envelope;
use super::key_file;
use super::public_key::PublicKey;
use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::Fingerprint;
use crate::limits::Limits;
use crate::metadata::Properties;

/// Who signed the list of a server that named the image.
///
/// The client of the remote checks the signature and makes this value; a store keeps it beside the image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SignedList {
    /// The key: the fingerprint of an OpenPGP key in hex, or the id of a `minisign` key.
    pub key: String,
    /// When the list was signed, in seconds since 1970, if the signature tells.
    #[serde(default)]
    pub signed_at: Option<i64>,
}

impl SignedList {
    /// A list that was signed by this key.
    #[must_use]
    pub fn new(key: impl Into<String>, signed_at: Option<i64>) -> Self {
        Self { key: key.into(), signed_at }
    }
}

/// What vouches for an image, as it comes from where the image comes from.
///
/// ```
/// use lxd_image::trust::{Evidence, SignedList};
///
/// // What the client of a remote says after it has verified the signature of a list.
/// let evidence = Evidence::new().list(SignedList::new("D2EB44626FDDC30B513D5BB71A5D6C4C7DB87C81", Some(1_700_000_000)));
/// assert!(!evidence.is_empty());
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Evidence {
    /// Who signed the list that named it; the signature is verified.
    pub list: Option<SignedList>,
    /// Statements about it; their signatures are not verified.
    pub statements: Vec<Envelope>,
}

impl Evidence {
    /// Nobody vouches.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets who signed the list.
    #[must_use]
    pub fn list(mut self, list: SignedList) -> Self {
        self.list = Some(list);
        self
    }

    /// Adds statements.
    #[must_use]
    pub fn statements(mut self, statements: impl IntoIterator<Item = Envelope>) -> Self {
        self.statements.extend(statements);
        self
    }

    /// Whether nobody vouches.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_none() && self.statements.is_empty()
    }
}

/// An image that is about to become visible, as a policy sees it.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// The fingerprint, which was verified.
    pub fingerprint: &'a Fingerprint,
    /// The address of the server that it comes from; `None` for files, trees and uploads.
    pub server: Option<&'a str>,
    /// All aliases that it will have.
    pub aliases: &'a [&'a str],
    /// Its properties.
    pub properties: &'a Properties,
    /// Who signed the list that named it.
    pub list: Option<&'a SignedList>,
    /// The statements about it; their signatures need not be checked yet.
    pub statements: &'a [Envelope],
}

/// Why an image was admitted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Admission {
    /// The rule that decided; `None` if no rule was for the image.
    pub rule: Option<String>,
    /// Who vouched, one sentence for each.
    pub vouched: Vec<String>,
}

/// Rules about what images need: read from TOML.
///
/// The first rule that is for an image decides; without one the `default` does, which is `allow` unless the file says
/// `deny`. A rule is for an image if everything that it names is true of it.
///
/// ```
/// use lxd_image::trust::Policy;
///
/// let policy = Policy::parse(
///     r#"
///     default = "deny"
///     [keys]
///     builder = "RWQp5riM67Qw32hs+4vbSv+iJZcHSWdIuyUKtf+1x+KgCRRgLDR+zU7u"
///     [[rule]]
///     name = "ours"
///     alias = "prod/*"
///     statements = [{ key = "builder", type = "https://slsa.dev/provenance/v1" }]
///     [[rule]]
///     name = "Ubuntu"
///     remote = "https://cloud-images.ubuntu.com/*"
///     signed-list = ["D2EB 4462 6FDD C30B 513D 5BB7 1A5D 6C4C 7DB8 7C81"]
///     "#,
///     "/etc/lxd-image".as_ref(),
/// )?;
/// # let _ = policy;
/// # Ok::<(), lxd_image::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Policy {
    deny: bool,
    rules: Vec<Rule>,
    keys: BTreeMap<String, PublicKey>,
}

#[derive(Debug, Clone)]
struct Rule {
    name: String,
    remote: Option<String>,
    alias: Option<String>,
    property: BTreeMap<String, String>,
    /// One of these fingerprints; empty for any.
    pinned: Vec<Fingerprint>,
    /// Signed by one of these keys; empty for no need.
    signed_list: Vec<String>,
    statements: Vec<Need>,
    deny: bool,
}

/// A statement that is needed.
#[derive(Debug, Clone)]
struct Need {
    /// Names of the policy's keys.
    keys: Vec<String>,
    /// How many of them must have signed.
    count: usize,
    predicate_type: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default)]
    default: Option<Verdict>,
    #[serde(default)]
    keys: BTreeMap<String, String>,
    #[serde(default)]
    rule: Vec<WrittenRule>,
}

#[derive(Deserialize, PartialEq, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Allow,
    Deny,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct WrittenRule {
    name: String,
    #[serde(default)]
    remote: Option<String>,
    #[serde(default)]
    alias: Option<String>,
    #[serde(default)]
    property: BTreeMap<String, String>,
    #[serde(default)]
    fingerprints: Option<Vec<String>>,
    #[serde(default)]
    signed_list: Option<Vec<String>>,
    #[serde(default)]
    statements: Option<Vec<WrittenNeed>>,
    #[serde(default)]
    verdict: Option<Verdict>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenNeed {
    #[serde(default)]
    key: Option<String>,
    #[serde(default)]
    keys: Vec<String>,
    #[serde(default)]
    count: Option<usize>,
    #[serde(default, rename = "type")]
    predicate_type: Option<String>,
}

impl Policy {
    /// Reads a policy from a file of at most [`Limits::key_file`] bytes. Files of keys that it names are relative to
    /// its directory.
    ///
    /// # Errors
    /// `Io`; `LimitExceeded`; those of [`parse`](Self::parse).
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let content = key_file::read(path, &Limits::default())?;
        let directory = path.parent().unwrap_or_else(|| Path::new("."));
        key_file::text(&content, "the policy")
            .and_then(|text| Self::parse(text, directory))
            .map_err(|error| error.in_file(path))
    }

    /// Parses a policy. `directory` is where files of keys are looked for.
    ///
    /// # Errors
    /// `InvalidInput` for unknown words, rules without a need or verdict, unknown keys and fingerprints that are none;
    /// those of [`PublicKey::read`].
    pub fn parse(text: &str, directory: &Path) -> Result<Self> {
        let written: Written =
            toml::from_str(text).map_err(|error| Error::invalid(format!("the policy: {}", error.message())))?;
        let mut keys = BTreeMap::new();
        for (name, key) in written.keys {
            let is_text = key.contains("-----BEGIN ") || key.len() == 56 && key.starts_with("RW");
            let key = if is_text { PublicKey::parse(key.as_bytes()) } else { PublicKey::read(directory.join(key)) };
            keys.insert(name.clone(), key.map_err(|error| error.context(format!("the key `{name}` of the policy")))?);
        }
        let mut rules: Vec<Rule> = Vec::new();
        for rule in written.rule {
            let name = rule.name.clone();
            if rules.iter().any(|other| other.name == name) {
                return Err(Error::invalid(format!("two rules of the policy have the name `{name}`")));
            }
            let rule = Rule::of(rule, &keys).map_err(|error| error.context(format!("the rule `{name}`")))?;
            rules.push(rule);
        }
        Ok(Self { deny: written.default == Some(Verdict::Deny), rules, keys })
    }

    /// Replaces names of remotes in rules by their addresses, as `address` knows them. Patterns with `*` and addresses
    /// stay; so does `local`, which stands for files, trees and uploads.
    ///
    /// # Errors
    /// `InvalidInput` for a name that `address` does not know: a rule that never matches protects nothing.
    pub fn with_remotes(mut self, address: impl Fn(&str) -> Option<String>) -> Result<Self> {
        for rule in &mut self.rules {
            let Some(remote) = rule.remote.as_mut() else { continue };
            if remote == "local" || remote.contains("://") || remote.contains('*') {
                continue;
            }
            *remote = address(remote).ok_or_else(|| {
                Error::invalid(format!("the rule `{}` is for the remote `{remote}`, which is unknown", rule.name))
            })?;
        }
        Ok(self)
    }

    /// Decides about an image.
    ///
    /// # Errors
    /// `Untrusted`, with the rule, the image and what is missing.
    pub fn admit(&self, image: &Candidate<'_>) -> Result<Admission> {
        let refused = |rule: &str, missing: &str| {
            let error = Error::new(
                ErrorKind::Untrusted,
                format!("{rule} of the policy refuses the image {}: {missing}", image.fingerprint.short()),
            );
            error.with_hint("`lxd-image verify --policy` explains; the policy is a decision of this machine's operator")
        };
        let Some(rule) = self.rules.iter().find(|rule| rule.is_for(image)) else {
            if self.deny {
                return Err(refused("the default", "no rule is for it"));
            }
            return Ok(Admission { rule: None, vouched: Vec::new() });
        };
        let named = format!("the rule `{}`", rule.name);
        let mut vouched = Vec::new();
        if rule.deny {
            return Err(refused(&named, "such images are denied"));
        }
        if !rule.pinned.is_empty() {
            if !rule.pinned.contains(image.fingerprint) {
                return Err(refused(&named, "its fingerprint is not pinned"));
            }
            vouched.push("the fingerprint is pinned".to_owned());
        }
        if !rule.signed_list.is_empty() {
            let Some(list) = image.list else {
                return Err(refused(&named, "no signed list names it"));
            };
            let key = plain_id(&list.key);
            if !rule.signed_list.contains(&key) {
                return Err(refused(
                    &named,
                    &format!("the list that names it is signed by the key {key}, not by {}", one_of(&rule.signed_list)),
                ));
            }
            vouched.push(format!("a list signed by the key {key}"));
        }
        for need in &rule.statements {
            vouched.extend(self.satisfy(need, image).map_err(|missing| refused(&named, &missing))?);
        }
        Ok(Admission { rule: Some(rule.name.clone()), vouched })
    }

    /// The sentences about who made the needed statement, or what is missing.
    fn satisfy(&self, need: &Need, image: &Candidate<'_>) -> std::result::Result<Vec<String>, String> {
        let mut signed: Vec<(&str, &str)> = Vec::new();
        for name in &need.keys {
            let Some(key) = self.keys.get(name) else { continue };
            let made = image.statements.iter().find(|envelope| {
                let statement = envelope.statement();
                let wanted = need.predicate_type.as_deref();
                wanted.is_none_or(|wanted| wanted == statement.predicate_type())
                    && statement.is_about(image.fingerprint)
                    && !envelope.signers(std::slice::from_ref(key)).is_empty()
            });
            if let Some(envelope) = made {
                signed.push((name, envelope.statement().predicate_type()));
            }
        }
        if signed.len() >= need.count {
            return Ok(signed.iter().map(|(name, of)| format!("a statement `{of}` by the key `{name}`")).collect());
        }
        let of = need.predicate_type.as_ref().map_or_else(String::new, |of| format!(" `{of}`"));
        let keys = one_of(&need.keys);
        Err(if need.count > 1 {
            format!("it has statements{of} by {} of the {} keys that are needed of {keys}", signed.len(), need.count)
        } else {
            format!("it has no statement{of} by the key {keys}")
        })
    }
}

/// Names, quoted and with `or` between.
fn one_of(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" or ")
}

/// The id of a key without blanks and in upper case, as it is compared.
fn plain_id(id: &str) -> String {
    id.chars().filter(|c| !c.is_whitespace()).collect::<String>().to_ascii_uppercase()
}

impl Rule {
    fn of(written: WrittenRule, keys: &BTreeMap<String, PublicKey>) -> Result<Self> {
        let is_empty = |is_empty: Option<bool>, word: &str| match is_empty {
            Some(true) => Err(Error::invalid(format!("`{word}` is an empty list"))),
            _ => Ok(()),
        };
        is_empty(written.fingerprints.as_ref().map(Vec::is_empty), "fingerprints")?;
        is_empty(written.signed_list.as_ref().map(Vec::is_empty), "signed-list")?;
        is_empty(written.statements.as_ref().map(Vec::is_empty), "statements")?;
        let has_need = written.fingerprints.is_some() || written.signed_list.is_some() || written.statements.is_some();
        match written.verdict {
            None if !has_need => {
                return Err(Error::invalid("it needs nothing")
                    .with_hint("set `verdict = \"allow\"` or `\"deny\"`, or what the image needs"));
            }
            Some(_) if has_need => return Err(Error::invalid("it has both a verdict and needs")),
            _ => {}
        }
        let mut pinned = Vec::new();
        for text in written.fingerprints.unwrap_or_default() {
            pinned.push(text.parse()?);
        }
        let mut statements = Vec::new();
        for need in written.statements.unwrap_or_default() {
            let names: Vec<String> = need.key.into_iter().chain(need.keys).collect();
            let count = need.count.unwrap_or(1);
            if let Some(unknown) = names.iter().find(|name| !keys.contains_key(*name)) {
                return Err(Error::invalid(format!("the key `{unknown}` is not among the policy's keys")));
            }
            let mut distinct: Vec<&PublicKey> = Vec::new();
            for key in names.iter().filter_map(|name| keys.get(name)) {
                if distinct.contains(&key) {
                    return Err(Error::invalid("a statement names one key twice"));
                }
                distinct.push(key);
            }
            if count == 0 || count > names.len() {
                return Err(Error::invalid(format!("a statement needs 1 to {} keys, not {count}", names.len())));
            }
            statements.push(Need { keys: names, count, predicate_type: need.predicate_type });
        }
        // A name of the policy's keys stands for that key.
        let list_key = |id: String| keys.get(&id).map_or_else(|| plain_id(&id), |key| plain_id(key.id().as_str()));
        Ok(Self {
            name: written.name,
            remote: written.remote,
            alias: written.alias,
            property: written.property,
            pinned,
            signed_list: written.signed_list.unwrap_or_default().into_iter().map(list_key).collect(),
            statements,
            deny: written.verdict == Some(Verdict::Deny),
        })
    }

    /// Whether everything that the rule names is true of the image.
    fn is_for(&self, image: &Candidate<'_>) -> bool {
        let remote = self.remote.as_deref().is_none_or(|pattern| match image.server {
            None => pattern == "local",
            Some(server) => {
                let (pattern, server) = (pattern.trim_end_matches('/'), server.trim_end_matches('/'));
                glob(pattern, server) || pattern.strip_suffix("/*").is_some_and(|host| glob(host, server))
            }
        });
        let alias = self.alias.as_deref();
        remote
            && alias.is_none_or(|pattern| image.aliases.iter().any(|alias| glob(pattern, alias)))
            && self
                .property
                .iter()
                .all(|(key, pattern)| image.properties.get(key).is_some_and(|value| glob(pattern, value)))
    }
}

/// Whether a text matches a pattern, in which `*` stands for any text. Takes time of pattern times text at most.
fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut at, mut position) = (0, 0);
    // Where to continue if the text does not match: after the last `*`, one byte further.
    let mut again = None;
    while position < text.len() {
        if pattern.get(at) == Some(&b'*') {
            again = Some((at + 1, position));
            at += 1;
        } else if pattern.get(at) == text.get(position) {
            at += 1;
            position += 1;
        } else if let Some((star, from)) = again {
            at = star;
            position = from + 1;
            again = Some((star, position));
        } else {
            return false;
        }
    }
    pattern.iter().skip(at).all(|&byte| byte == b'*')
}
