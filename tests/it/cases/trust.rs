//! Steps about keys, statements and policies.

use std::collections::BTreeMap;
use std::fs;

use lxd_image::metadata::Properties;
use lxd_image::store::ImportOptions;
use lxd_image::trust::{Admission, Candidate, Envelope, Evidence, Policy, PublicKey, SecretKey, Statement, VOUCH};
use lxd_image::{Error, ErrorKind, Fingerprint, Result};
use serde_json::json;

use super::images::from_files;
use super::stores::print;
use super::{Lines, Outcome, Place, quoted, text};

/// The keys and the policy of a case.
#[derive(Default)]
pub(crate) struct Trust {
    keys: BTreeMap<String, SecretKey>,
    /// What stores that are opened from now on demand.
    pub(super) policy: Option<Policy>,
}

fn key(place: &mut Place, name: &[u8], file: &[u8], passphrase: Option<&&[u8]>) -> Lines {
    let (key, lines) = if file == b"-" {
        (SecretKey::generate()?, Vec::new())
    } else {
        let key = SecretKey::read(place.path(file), passphrase.copied())?;
        let id = key.public_key().id().to_string();
        (key, vec![id])
    };
    fs::write(place.dir.join(format!("{}.pub", text(name))), key.public_key().to_text()).unwrap();
    place.trust.keys.insert(text(name).to_owned(), key);
    Ok(lines)
}

fn shown(envelopes: &[Envelope]) -> Vec<String> {
    let line = |envelope: &Envelope| {
        let (kind, predicate) = (envelope.statement().predicate_type(), envelope.statement().predicate().to_string());
        format!("statement {} {} {}", envelope.digest(), quoted(kind), quoted(predicate))
    };
    envelopes.iter().map(line).collect()
}

fn predicate(words: &[&[u8]]) -> Result<(String, serde_json::Value)> {
    let [kind, predicate] = words else { return Ok((VOUCH.to_owned(), json!({ "vouched": true }))) };
    let value: serde_json::Value = serde_json::from_slice(predicate)
        .map_err(|error| Error::new(ErrorKind::Malformed, "not JSON").with_source(error))?;
    if !value.is_object() {
        return Err(Error::new(ErrorKind::Malformed, "not an object"));
    }
    Ok((text(kind).to_owned(), value))
}

fn secret_keys<'a>(place: &'a Place, names: &[u8]) -> Vec<&'a SecretKey> {
    text(names).split(',').filter(|name| *name != "-").map(|name| &place.trust.keys[name]).collect()
}

fn sign(place: &Place, of: &[u8], names: &[u8], words: &[&[u8]]) -> Lines {
    let (store, of) = (place.store.as_ref().unwrap(), text(of).parse::<Fingerprint>()?);
    let (kind, predicate) = predicate(words)?;
    let statement = store.state(&of, &kind, predicate, &place.monitor)?;
    let envelope = Envelope::sign(&statement, &secret_keys(place, names))?;
    store.attach_statements(&of, vec![envelope.clone()])?;
    Ok(shown(&[envelope]))
}

fn sign_file(place: &Place, out: &[u8], of: &[u8], names: &[u8], words: &[&[u8]]) -> Lines {
    let (kind, predicate) = predicate(words)?;
    let statement = Statement::new(kind, predicate).image(&text(of).parse()?);
    let envelopes = [Envelope::sign(&statement, &secret_keys(place, names))?];
    let mut bundle = fs::read_to_string(place.path(out)).unwrap_or_default();
    bundle.push_str(&Envelope::bundle(&envelopes));
    fs::write(place.path(out), bundle).unwrap();
    Ok(shown(&envelopes))
}

fn signed(place: &Place, of: &[u8], kind: &[u8], names: &[u8]) -> Lines {
    let of = text(of).parse::<Fingerprint>()?;
    let keys: Vec<_> = text(names)
        .split(',')
        .map(|name| PublicKey::read(place.dir.join(format!("{name}.pub"))))
        .collect::<Result<_>>()?;
    let statements = place.store.as_ref().unwrap().statements(&of)?;
    let is_meant = |envelope: &&Envelope| {
        envelope.statement().is_about(&of)
            && (kind == b"-" || text(kind) == envelope.statement().predicate_type())
            && !envelope.signers(&keys).is_empty()
    };
    match statements.iter().filter(is_meant).count() {
        0 => Err(Error::new(ErrorKind::Untrusted, "nobody signed it")),
        count => Ok(vec![format!("signed {count}")]),
    }
}

fn admitted(admission: &Admission) -> Vec<String> {
    let rule = format!("rule {}", quoted(admission.rule.as_deref().unwrap_or_default()));
    std::iter::once(rule).chain(admission.vouched.iter().map(|by| format!("vouched {}", quoted(by)))).collect()
}

fn bundle(place: &Place, file: &[u8]) -> Result<Vec<Envelope>> {
    if file == b"-" {
        return Ok(Vec::new());
    }
    Envelope::parse_bundle(&fs::read(place.path(file)).unwrap(), &place.limits)
}

fn judge(place: &Place, of: &[u8], aliases: &[u8], file: &[u8]) -> Lines {
    let (of, statements) = (text(of).parse::<Fingerprint>()?, bundle(place, file)?);
    let aliases: Vec<&str> = text(aliases).split(',').filter(|name| *name != "-").collect();
    let mut properties = Properties::new();
    properties.set("os", "Debian")?;
    let admission = place.trust.policy.as_ref().unwrap().admit(&Candidate {
        fingerprint: &of,
        server: None,
        aliases: &aliases,
        properties: &properties,
        list: None,
        statements: &statements,
    })?;
    Ok(admitted(&admission))
}

fn vouched(place: &Place, of: &[u8]) -> Lines {
    let (store, of) = (place.store.as_ref().unwrap(), text(of).parse::<Fingerprint>()?);
    store.image(&of)?;
    let Some((admission, at)) = store.vouched(&of)?.admission else { return Ok(vec!["not asked".to_owned()]) };
    Ok(admitted(&admission).into_iter().chain([format!("at {at}")]).collect())
}

pub(super) fn step(place: &mut Place, name: &str, words: &[&[u8]]) -> Option<Outcome> {
    let lines = match (name, words) {
        ("key", [name, file, rest @ ..]) => key(place, name, file, rest.first()),
        ("sign", [of, names, rest @ ..]) => sign(place, of, names, rest),
        ("sign-file", [out, of, names, rest @ ..]) => sign_file(place, out, of, names, rest),
        ("attach", [of, file]) => bundle(place, file).and_then(|statements| {
            place.store.as_ref().unwrap().attach_statements(&text(of).parse()?, statements)?;
            Ok(Vec::new())
        }),
        ("statements", [of]) => text(of)
            .parse()
            .and_then(|of| place.store.as_ref().unwrap().statements(&of))
            .map(|statements| shown(&statements)),
        ("signed", [of, kind, names]) => signed(place, of, kind, names),
        ("policy", [content]) => Policy::parse(text(content), &place.dir).map(|policy| {
            place.trust.policy = Some(policy);
            Vec::new()
        }),
        ("judge", [of, aliases, file]) => judge(place, of, aliases, file),
        ("ask", [of]) => text(of)
            .parse()
            .and_then(|of| place.store.as_ref().unwrap().ask_policy(place.trust.policy.as_ref().unwrap(), &of))
            .map(|admission| admitted(&admission)),
        ("vouched", [of]) => vouched(place, of),
        ("import-stated", [file, files @ ..]) => bundle(place, file).and_then(|statements| {
            let options = ImportOptions::new().evidence(Evidence::new().statements(statements));
            place
                .store
                .as_ref()
                .unwrap()
                .import(from_files(place, files), &options, &place.monitor)
                .map(|image| print(&image))
        }),
        _ => return None,
    };
    Some(lines.map(|lines| (lines, None)))
}
