//! `ListKeys`: the keys that may sign the lists of a remote, and `ListSignature`, who signed one.

use super::list_form::{BLOCK, CLOCK_SKEW, is_packets};
use super::{PublicKey, Signature};
use crate::error::{Error, ErrorKind, Result};
use crate::limits::Limits;

/// Public keys of OpenPGP and minisign. One of them must vouch for each list that is read.
///
/// ```
/// use lxd_image::Limits;
/// use lxd_image::trust::ListKeys;
///
/// let minisign = b"untrusted comment: minisign public key\nRWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3\n";
/// let keys = ListKeys::parse(minisign, &Limits::default())?;
/// assert_eq!(keys.describe(1_800_000_000).len(), 1);
/// # Ok::<(), lxd_image::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListKeys {
    #[cfg(feature = "signatures")]
    openpgp: Option<super::openpgp::Keyring>,
    minisign: Vec<PublicKey>,
}

/// Who signed a list.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub struct ListSignature {
    /// `openpgp` or `minisign`.
    pub kind: String,
    /// The key that is pinned: the fingerprint of an OpenPGP certificate, or the number of a minisign key.
    pub key: String,
    /// The key that signed: with OpenPGP it may be a subkey.
    pub signed_by: String,
    /// When, in seconds since 1970 by the clock of the signer; `None` for a minisign signature without a time.
    pub signed_at: Option<i64>,
}

/// One key of a [`ListKeys`], for people.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListKey {
    /// `openpgp` or `minisign`.
    pub kind: &'static str,
    /// The fingerprint of an OpenPGP certificate, or the number of a minisign key.
    pub key: String,
    /// Its first user ID; empty for minisign. Whoever made the key wrote it.
    pub name: String,
    /// Why it can't sign now; `None` if it can.
    pub unusable: Option<String>,
}

impl ListKeys {
    /// Reads keys: OpenPGP public keys, armored or binary, keyrings with several certificates, public keys of minisign, and
    /// text with any number of these.
    ///
    /// # Errors
    /// `InvalidInput` for secret keys; `Malformed` for what holds no key; `FeatureDisabled` for OpenPGP without the feature
    /// `signatures`; `LimitExceeded` (`key_file`).
    pub fn parse(bytes: &[u8], limits: &Limits) -> Result<Self> {
        if bytes.len() as u64 > limits.key_file {
            return Err(Error::limit("key_file", limits.key_file, "the size of the keys in bytes"));
        }
        let mut keys = Self::default();
        let is_binary = is_packets(bytes) || bytes.get(8..12) == Some(b"KBXf");
        if is_binary {
            keys.add_openpgp(bytes, limits)?;
            return Ok(keys);
        }
        let text = std::str::from_utf8(bytes).map_err(|_| Error::malformed("it is neither a text nor a binary key"))?;
        if text.contains(BLOCK) {
            keys.add_openpgp(bytes, limits)?;
        }
        for line in outside_of_blocks(text)? {
            keys.minisign.push(PublicKey::parse(line.as_bytes())?);
        }
        if keys.is_empty() {
            return Err(Error::malformed("there is no public key in it")
                .with_hint("lists are signed with OpenPGP or minisign keys"));
        }
        Ok(keys)
    }

    /// The keys of one keyring.
    #[cfg(feature = "signatures")]
    pub(super) fn of_openpgp(keyring: super::openpgp::Keyring) -> Self {
        Self { openpgp: Some(keyring), minisign: Vec::new() }
    }

    /// One key.
    pub(super) fn of_minisign(key: PublicKey) -> Self {
        Self { minisign: vec![key], ..Self::default() }
    }

    #[cfg(feature = "signatures")]
    fn add_openpgp(&mut self, bytes: &[u8], limits: &Limits) -> Result<()> {
        self.extend(Self::of_openpgp(super::openpgp::Keyring::parse(bytes, limits)?));
        Ok(())
    }

    #[cfg(not(feature = "signatures"))]
    fn add_openpgp(&mut self, _bytes: &[u8], _limits: &Limits) -> Result<()> {
        Err(Error::new(ErrorKind::FeatureDisabled, "OpenPGP keys need the Cargo feature `signatures`"))
    }

    /// Adds the keys of another set, each once.
    pub fn extend(&mut self, other: Self) {
        #[cfg(feature = "signatures")]
        if let Some(found) = other.openpgp {
            match &mut self.openpgp {
                Some(known) => known.extend(found),
                known => *known = Some(found),
            }
        }
        for key in other.minisign {
            if !self.minisign.contains(&key) {
                self.minisign.push(key);
            }
        }
    }

    /// Whether there is no key: then lists need no signature.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.has_openpgp() && self.minisign.is_empty()
    }

    /// Whether there is an OpenPGP key, so that `.sjson` and `.json.gpg` can vouch.
    #[must_use]
    pub fn has_openpgp(&self) -> bool {
        #[cfg(feature = "signatures")]
        return self.openpgp.is_some();
        #[cfg(not(feature = "signatures"))]
        false
    }

    /// Whether there is a minisign key, so that `.json.minisig` can vouch.
    #[must_use]
    pub fn has_minisign(&self) -> bool {
        !self.minisign.is_empty()
    }

    /// The keys as text that [`parse`](Self::parse) reads.
    ///
    /// # Errors
    /// `Malformed` for a key that can't be written.
    pub fn to_text(&self) -> Result<String> {
        let mut text = String::new();
        #[cfg(feature = "signatures")]
        if let Some(keyring) = &self.openpgp {
            text.push_str(&keyring.to_armored()?);
        }
        for key in &self.minisign {
            text.push_str(&key.to_text());
        }
        Ok(text)
    }

    /// All keys, for people. `now` is in seconds since 1970.
    #[must_use]
    pub fn describe(&self, now: i64) -> Vec<ListKey> {
        let mut all = Vec::new();
        #[cfg(feature = "signatures")]
        if let Some(keyring) = &self.openpgp {
            let rest = keyring.names().into_iter().zip(keyring.unusable(now));
            for (key, (name, unusable)) in keyring.fingerprints().into_iter().zip(rest) {
                all.push(ListKey { kind: "openpgp", key, name, unusable });
            }
        }
        #[cfg(not(feature = "signatures"))]
        let _ = now;
        for key in &self.minisign {
            let key = key.id().to_string();
            all.push(ListKey { kind: "minisign", key, name: String::new(), unusable: None });
        }
        all
    }

    /// Verifies a cleartext message (`.sjson`) and returns the signed text. `now` is in seconds since 1970.
    ///
    /// # Errors
    /// `Malformed` for anything but exactly one message; `Untrusted` when none of the keys vouches for it;
    /// `LimitExceeded`; `FeatureDisabled`.
    pub fn verify_cleartext(&self, message: &[u8], now: i64, limits: &Limits) -> Result<(Vec<u8>, ListSignature)> {
        #[cfg(feature = "signatures")]
        if let Some(keyring) = &self.openpgp {
            let (text, good) = keyring.verify_cleartext(message, now, limits)?;
            return Ok((text, good.into()));
        }
        let _ = (message, now, limits);
        Err(untrusted("a signed message needs an OpenPGP key, and none is trusted"))
    }

    /// Verifies bytes against a detached OpenPGP signature (`.gpg`).
    ///
    /// # Errors
    /// As [`verify_cleartext`](Self::verify_cleartext).
    pub fn verify_openpgp(&self, bytes: &[u8], signature: &[u8], now: i64, limits: &Limits) -> Result<ListSignature> {
        #[cfg(feature = "signatures")]
        if let Some(keyring) = &self.openpgp {
            return keyring.verify_detached(bytes, signature, now, limits).map(Into::into);
        }
        let _ = (bytes, signature, now, limits);
        Err(untrusted("an OpenPGP signature needs an OpenPGP key, and none is trusted"))
    }

    /// Verifies bytes against a signature of minisign (`.minisig`).
    ///
    /// # Errors
    /// As [`verify_cleartext`](Self::verify_cleartext).
    pub fn verify_minisign(&self, bytes: &[u8], signature: &[u8], now: i64, limits: &Limits) -> Result<ListSignature> {
        if signature.len() as u64 > limits.signature {
            return Err(Error::limit("signature", limits.signature, "the size of the signature in bytes"));
        }
        let signature = Signature::parse(signature)?;
        let id = signature.key_id();
        let mut named = self.minisign.iter().filter(|key| key.id() == id).peekable();
        if named.peek().is_none() {
            return Err(untrusted(format!("the signature by {id} is by none of the keys that are trusted")));
        }
        let mut last = None;
        for key in named {
            match key.verify_detached(bytes, &signature) {
                Ok(comment) => {
                    // The comment is signed, too. minisign writes the time into it unless it is told not to.
                    let time = comment.split_ascii_whitespace().find_map(|word| word.strip_prefix("timestamp:"));
                    let signed_at = time.and_then(|time| time.parse::<i64>().ok()).filter(|time| *time >= 0);
                    if signed_at.is_some_and(|time| time > now.saturating_add(CLOCK_SKEW)) {
                        return Err(untrusted(format!("the signature by {id} was made in the future")));
                    }
                    let key = id.to_string();
                    return Ok(ListSignature { kind: "minisign".into(), signed_by: key.clone(), key, signed_at });
                }
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| untrusted(format!("the signature by {id} does not match what is signed"))))
    }
}

#[cfg(feature = "signatures")]
impl From<super::openpgp::GoodSignature> for ListSignature {
    fn from(good: super::openpgp::GoodSignature) -> Self {
        Self { kind: "openpgp".into(), key: good.certificate, signed_by: good.key, signed_at: Some(good.created_at) }
    }
}

/// The lines with minisign keys: what is neither an OpenPGP block nor a comment.
fn outside_of_blocks(text: &str) -> Result<Vec<&str>> {
    let mut found = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        let line = line.trim();
        match () {
            () if line.starts_with(BLOCK) => inside = true,
            () if inside => inside = !line.starts_with("-----END PGP "),
            () if line.starts_with("-----BEGIN ") => {
                return Err(Error::unsupported(
                    "lists are signed with OpenPGP or minisign keys, and this is another one",
                ));
            }
            // A minisign key is one line of base64 that begins so.
            () if line.starts_with("RW") && line.len() == 56 => found.push(line),
            () => {}
        }
    }
    Ok(found)
}

/// The error for a list that no key vouches for.
fn untrusted(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::Untrusted, what.into())
}
