//! `SecretKey`: signs documents.

use std::fmt;

use pgp::composed::{ArmorOptions, CleartextSignedMessage, Deserializable, DetachedSignature, SignedSecretKey};
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{SignatureConfig, SignatureType, Subpacket, SubpacketData};
use pgp::types::{KeyDetails, KeyVersion, Password, SigningKey, Timestamp};

use super::keyring::{Keyring, blocks, unreadable};
use super::{shown, usable};
use crate::error::{Error, Result};
use crate::limits::Limits;

/// An OpenPGP key that signs: the newest signing subkey of a certificate whose secret is in the file, else its primary key.
///
/// ```no_run
/// use lxd_image::Limits;
/// use lxd_image::trust::openpgp::SecretKey;
///
/// let key = SecretKey::parse(&std::fs::read("signing.asc")?, Some(b"passphrase"), 1_800_000_000, &Limits::default())?;
/// std::fs::write("index.sjson", key.sign_cleartext("{}\n", 1_800_000_000)?)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct SecretKey {
    key: std::sync::Arc<SignedSecretKey>,
    /// Position of the signing subkey; `None` for the primary key.
    subkey: Option<usize>,
    password: std::sync::Arc<Password>,
    public: Keyring,
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SecretKey").field(&self.fingerprint()).finish()
    }
}

impl SecretKey {
    /// Reads a secret key, armored or binary, as `gpg --export-secret-keys` writes it. `now` is in seconds since 1970.
    ///
    /// # Errors
    /// `InvalidInput` when it needs a passphrase, when the passphrase is wrong, and when no key in it may sign now;
    /// `Ambiguous` for several keys; `Malformed`; `LimitExceeded` (`key_file`).
    pub fn parse(bytes: &[u8], passphrase: Option<&[u8]>, now: i64, limits: &Limits) -> Result<Self> {
        if bytes.len() as u64 > limits.key_file {
            return Err(Error::limit("key_file", limits.key_file, "the size of the key in bytes"));
        }
        let mut found = Vec::new();
        for packets in blocks(bytes)? {
            for key in SignedSecretKey::from_bytes_many(&packets[..]).map_err(unreadable)? {
                found.push(key.map_err(unreadable)?);
            }
        }
        if found.len() > 1 {
            return Err(Error::new(crate::ErrorKind::Ambiguous, "the file holds several secret keys")
                .with_hint("export one: gpg --export-secret-keys FINGERPRINT > FILE"));
        }
        let Some(key) = found.pop() else {
            return Err(Error::invalid("there is no OpenPGP secret key in it")
                .with_hint("export it: gpg --export-secret-keys FINGERPRINT > FILE"));
        };
        let public = Keyring { certificates: vec![key.to_public_key()] };
        let subkey = choose(&key, &public, now)?;
        let password = passphrase.map_or_else(Password::empty, Password::from);
        let chosen = Self { key: key.into(), subkey, password: password.into(), public };
        chosen.unlock(passphrase.is_some())?;
        Ok(chosen)
    }

    /// The fingerprint of the certificate's primary key, in upper case.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        format!("{:X}", self.key.fingerprint())
    }

    /// The public part, which verifies what this key signs.
    #[must_use]
    pub fn public(&self) -> &Keyring {
        &self.public
    }

    /// Signs a text as a cleartext message (`.sjson`). The text is handed out as it was, without blanks at the ends of lines.
    ///
    /// # Errors
    /// `InvalidInput` for carriage returns, which the framework would change; `Malformed` when the key can't sign.
    pub fn sign_cleartext(&self, text: &str, now: i64) -> Result<String> {
        if text.contains('\r') {
            return Err(Error::invalid("a text with carriage returns can't be signed in clear"));
        }
        // The framework signs neither the last line end nor blanks before line ends.
        let text = text.strip_suffix('\n').unwrap_or(text);
        let lines: Vec<&str> = text.split('\n').map(|line| line.trim_end_matches([' ', '\t'])).collect();
        let text = lines.join("\n");
        let config = self.config(SignatureType::Text, now)?;
        let message = match self.subkey() {
            None => CleartextSignedMessage::new(&text, config, &self.key.primary_key, &self.password),
            Some(subkey) => CleartextSignedMessage::new(&text, config, &subkey.key, &self.password),
        };
        message.and_then(|message| message.to_armored_string(ArmorOptions::default())).map_err(|error| unsigned(&error))
    }

    /// Signs bytes; the result is an armored detached signature (`.gpg`, `.asc`).
    ///
    /// # Errors
    /// `Malformed` when the key can't sign.
    pub fn sign_detached(&self, bytes: &[u8], now: i64) -> Result<String> {
        let config = self.config(SignatureType::Binary, now)?;
        let signature = match self.subkey() {
            None => config.sign(&self.key.primary_key, &self.password, bytes),
            Some(subkey) => config.sign(&subkey.key, &self.password, bytes),
        };
        signature
            .and_then(|signature| DetachedSignature::new(signature).to_armored_string(ArmorOptions::default()))
            .map_err(|error| unsigned(&error))
    }

    fn subkey(&self) -> Option<&pgp::composed::SignedSecretSubKey> {
        self.subkey.and_then(|position| self.key.secret_subkeys.get(position))
    }

    /// What is signed beside the document: the date, and who signs.
    fn config(&self, kind: SignatureType, now: i64) -> Result<SignatureConfig> {
        match self.subkey() {
            None => config(&self.key.primary_key, kind, now),
            Some(subkey) => config(&subkey.key, kind, now),
        }
    }

    /// Tries the passphrase, so that a wrong one fails before anything is changed.
    fn unlock(&self, given: bool) -> Result<()> {
        let tried = match self.subkey() {
            None => self.key.primary_key.unlock(&self.password, |_, _| Ok(())),
            Some(subkey) => subkey.key.unlock(&self.password, |_, _| Ok(())),
        };
        match tried {
            Ok(Ok(())) => Ok(()),
            _ if given => Err(Error::invalid("the passphrase does not unlock the secret key")),
            _ => Err(Error::invalid("the secret key is protected by a passphrase")
                .with_hint("give it: --passphrase-file FILE")),
        }
    }
}

/// Chooses the key that signs: `None` for the primary one.
fn choose(key: &SignedSecretKey, public: &Keyring, now: i64) -> Result<Option<usize>> {
    let certificate = public.certificates.first().ok_or_else(|| Error::malformed("the key has no public part"))?;
    let keys = usable::keys(certificate);
    let newest = key
        .secret_subkeys
        .iter()
        .enumerate()
        .filter(|(_, subkey)| {
            let fingerprint = subkey.key.fingerprint();
            keys.iter().any(|public| public.fingerprint() == fingerprint && public.may_sign(now).is_ok())
        })
        .max_by_key(|(_, subkey)| subkey.key.created_at().as_secs());
    if let Some((position, _)) = newest {
        return Ok(Some(position));
    }
    match keys.first().map(|primary| primary.may_sign(now)) {
        Some(Ok(())) => Ok(None),
        Some(Err(reason)) => Err(Error::invalid(format!("the secret key can't sign: {reason}"))),
        None => Err(Error::malformed("the key has no public part")),
    }
}

/// The signed part of a signature by a key.
fn config<K: SigningKey>(key: &K, kind: SignatureType, now: i64) -> Result<SignatureConfig> {
    use HashAlgorithm::{Sha256, Sha384, Sha512};
    let hash = match key.hash_alg() {
        hash @ (Sha256 | Sha384 | Sha512) => hash,
        _ => Sha512,
    };
    let mut config = match key.version() {
        KeyVersion::V4 => SignatureConfig::v4(kind, key.algorithm(), hash),
        KeyVersion::V6 => {
            let mut salt = vec![0; hash.salt_len().unwrap_or(32)];
            rustix::rand::getrandom(&mut salt, rustix::rand::GetRandomFlags::empty())
                .map_err(|error| Error::io("the system has no random bytes", std::io::Error::from(error)))?;
            SignatureConfig::v6_with_salt(kind, key.algorithm(), hash, salt)
        }
        _ => return Err(Error::unsupported("the secret key has a version that can't sign")),
    };
    let seconds = u32::try_from(now).map_err(|_| Error::invalid("the time is not one that OpenPGP can write"))?;
    let part = |data| Subpacket::regular(data).map_err(|error| unsigned(&error));
    config.hashed_subpackets = vec![
        part(SubpacketData::SignatureCreationTime(Timestamp::from_secs(seconds)))?,
        part(SubpacketData::IssuerFingerprint(key.fingerprint()))?,
    ];
    if key.version() == KeyVersion::V4 {
        config.unhashed_subpackets = vec![part(SubpacketData::IssuerKeyId(key.legacy_key_id()))?];
    }
    Ok(config)
}

/// The error for a signature that could not be made.
fn unsigned(error: &pgp::errors::Error) -> Error {
    Error::malformed(format!("the OpenPGP key can't sign: {}", shown(error)))
}
