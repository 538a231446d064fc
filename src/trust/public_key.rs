//! [`PublicKey`]: an Ed25519 key that vouches, in the form of `minisign` or as PEM.

use std::fmt;
use std::path::Path;

use blake2::{Blake2b512, Digest};
use ring::signature::{ED25519, UnparsedPublicKey};

use super::key_file::{self, decode, encode, encoded_line, part};
use super::signature::Signature;
use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::Fingerprint;
use crate::limits::Limits;

/// The DER of an Ed25519 `SubjectPublicKeyInfo` before the 32 bytes of the key.
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// The name of a key, for people and for policies.
///
/// A key of `minisign` has the 16 upper case hex digits that `minisign` prints; another Ed25519 key
/// has the sha256 of its DER `SubjectPublicKeyInfo`, 64 lower case hex digits. A name identifies a key
/// and proves nothing: only [`PublicKey::verify`] does.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(String);

impl KeyId {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of a `minisign` key: its number, printed as `minisign` does.
    pub(super) fn of_number(number: [u8; 8]) -> Self {
        Self(format!("{:016X}", u64::from_le_bytes(number)))
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An Ed25519 public key.
///
/// Two keys are equal if their 32 bytes are: the name does not count.
#[derive(Debug, Clone)]
pub struct PublicKey {
    /// The key number, for keys of `minisign`.
    number: Option<[u8; 8]>,
    bytes: [u8; 32],
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for PublicKey {}

impl PublicKey {
    pub(super) fn new(number: Option<[u8; 8]>, bytes: [u8; 32]) -> Self {
        Self { number, bytes }
    }

    /// Reads a key from a file of at most [`Limits::key_file`] bytes; see [`parse`](Self::parse).
    ///
    /// # Errors
    /// `Io`; `LimitExceeded`; those of [`parse`](Self::parse).
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Self::parse(&key_file::read(path, &Limits::default())?).map_err(|error| error.in_file(path))
    }

    /// Parses a key: the file that `minisign -G` writes, its second line alone, or PEM
    /// (`-----BEGIN PUBLIC KEY-----`, as `openssl pkey -pubout` writes it).
    ///
    /// # Errors
    /// `Malformed` for text that is no key; `Unsupported` for a key of another algorithm.
    pub fn parse(content: &[u8]) -> Result<Self> {
        let text = key_file::text(content, "the public key")?;
        if let Some(der) = key_file::pem(text, "PUBLIC KEY")? {
            let bytes = der.strip_prefix(&SPKI_PREFIX).and_then(|key| key.try_into().ok());
            let bytes = bytes.ok_or_else(|| Error::unsupported("the public key is not an Ed25519 key"))?;
            return Ok(Self { number: None, bytes });
        }
        let raw: [u8; 42] = decode(encoded_line(text, "the public key file")?, "the public key")?;
        if raw[..2] != *b"Ed" {
            return Err(Error::unsupported("the public key is for another algorithm than Ed25519"));
        }
        Ok(Self { number: Some(part(&raw, 2)?), bytes: part(&raw, 10)? })
    }

    /// The key as text: the two lines of `minisign`, or PEM for a key without a number.
    #[must_use]
    pub fn to_text(&self) -> String {
        match self.number {
            Some(number) => {
                let raw = [b"Ed".as_slice(), &number, &self.bytes].concat();
                format!("untrusted comment: minisign public key {}\n{}\n", self.id(), encode(&raw))
            }
            None => format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", encode(&self.spki())),
        }
    }

    fn spki(&self) -> Vec<u8> {
        [SPKI_PREFIX.as_slice(), &self.bytes].concat()
    }

    /// The name of the key.
    #[must_use]
    pub fn id(&self) -> KeyId {
        match self.number {
            Some(number) => KeyId::of_number(number),
            None => KeyId(Fingerprint::of(&self.spki()).to_string()),
        }
    }

    /// The 32 bytes of the key.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.bytes
    }

    /// Checks a plain Ed25519 signature over `message`.
    ///
    /// # Errors
    /// `Untrusted` if this key did not make it.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<()> {
        UnparsedPublicKey::new(&ED25519, &self.bytes).verify(message, signature).map_err(|_| {
            Error::new(
                ErrorKind::Untrusted,
                format!("the signature is not one of the key {} over this data", self.id()),
            )
        })
    }

    /// Checks a detached signature of `minisign` over `message`, and the signature over its trusted
    /// comment, which is returned. Both the prehashed form and the older one are accepted.
    ///
    /// # Errors
    /// `Untrusted` if another key made it, or the message or the trusted comment was changed.
    pub fn verify_detached<'a>(&self, message: &[u8], signature: &'a Signature) -> Result<&'a str> {
        if self.number.is_some_and(|number| number != signature.key_number()) {
            return Err(Error::new(
                ErrorKind::Untrusted,
                format!("the signature is by the key {}, not by {}", signature.key_id(), self.id()),
            ));
        }
        if signature.is_prehashed() {
            self.verify(&Blake2b512::digest(message), signature.bytes())?;
        } else {
            self.verify(message, signature.bytes())?;
        }
        self.verify(&signature.signed_comment(), signature.comment_signature())
            .map_err(|error| error.context("the trusted comment"))?;
        Ok(signature.trusted_comment())
    }
}
