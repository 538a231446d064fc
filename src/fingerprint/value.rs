//! [`Fingerprint`] and [`FingerprintPrefix`]: parsing, printing, ordering and serde.
//!
//! Both parse strictly: hex digits of either case and nothing else. Untrusted text that parses is
//! therefore safe as a file name, a URL segment and a database key; text that does not never
//! reaches one.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{Error, Result};

/// The SHA-256 of an image: 32 bytes, printed as 64 lower-case hex digits.
///
/// For a unified image it is the digest of the file as stored, that is compressed; for a split
/// image that of the metadata file's bytes followed by the rootfs file's. Ordering is the ordering
/// of the printed text. Serde carries it as text.
///
/// ```
/// use lxd_image::Fingerprint;
///
/// let empty: Fingerprint = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855".parse()?;
/// assert_eq!(empty, Fingerprint::of(b""));
/// assert_eq!(empty.short(), "e3b0c44298fc");
/// # Ok::<(), lxd_image::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Takes a digest that was computed elsewhere, for example read from a database.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Computes the digest of bytes in memory. For files and streams use [`Hasher`](super::Hasher).
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let mut hasher = super::Hasher::new();
        hasher.update(bytes);
        hasher.finish()
    }

    /// The 32 bytes of the digest.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first 12 digits, the form that `lxc image list` shows. It is not unique: use it for
    /// people only.
    ///
    /// ```
    /// use lxd_image::Fingerprint;
    ///
    /// assert_eq!(Fingerprint::of(b"").short(), "e3b0c44298fc");
    /// ```
    #[must_use]
    pub fn short(&self) -> String {
        let mut text = self.to_string();
        text.truncate(12);
        text
    }
}

/// Bytes as hexadecimal digits in lower case.
#[cfg(any(feature = "server", feature = "object-store", feature = "oci"))]
pub(crate) fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
    digits.map(char::from).collect()
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0; 64];
        for (pair, byte) in text.chunks_exact_mut(2).zip(self.0) {
            pair[0] = HEX[usize::from(byte >> 4)];
            pair[1] = HEX[usize::from(byte & 15)];
        }
        f.pad(std::str::from_utf8(&text).unwrap_or_default())
    }
}

/// The digits of the printed form. Lower case, as LXD's API and simplestreams write fingerprints.
const HEX: &[u8; 16] = b"0123456789abcdef";

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

impl FromStr for Fingerprint {
    type Err = Error;

    /// Takes 64 hex digits of either case and nothing else.
    fn from_str(text: &str) -> Result<Self> {
        let digits = nibbles(text)?;
        if digits.len() != 64 {
            return Err(Error::invalid(format!("a fingerprint has 64 hex digits, this one has {}", digits.len())));
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = pair[0] << 4 | pair[1];
        }
        Ok(Self(bytes))
    }
}

/// The leading part of a fingerprint: 4 to 64 hex digits, printed in lower case.
///
/// A prefix names an image if exactly one image in a store begins with it; finding that out is the
/// store's work. LXD accepts a single digit. Here four are the minimum, so that a short alias (`a`,
/// `12`) is not mistaken for a fingerprint by accident.
///
/// ```
/// use lxd_image::{Fingerprint, FingerprintPrefix};
///
/// let prefix: FingerprintPrefix = "E3B0c442".parse()?;
/// assert!(prefix.matches(&Fingerprint::of(b"")));
/// assert_eq!(prefix.to_string(), "e3b0c442");
/// assert!("e3b".parse::<FingerprintPrefix>().is_err());
/// # Ok::<(), lxd_image::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FingerprintPrefix(String);

impl FingerprintPrefix {
    /// The smallest number of digits that a prefix may have.
    pub const MIN_DIGITS: usize = 4;

    /// Whether `fingerprint` begins with these digits.
    #[must_use]
    pub fn matches(&self, fingerprint: &Fingerprint) -> bool {
        fingerprint.to_string().starts_with(&self.0)
    }

    /// The digits, in lower case.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The complete fingerprint, if the prefix has all 64 digits; else `None`.
    #[must_use]
    pub fn as_fingerprint(&self) -> Option<Fingerprint> {
        self.0.parse().ok()
    }
}

impl fmt::Display for FingerprintPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for FingerprintPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FingerprintPrefix({self})")
    }
}

impl From<Fingerprint> for FingerprintPrefix {
    fn from(fingerprint: Fingerprint) -> Self {
        Self(fingerprint.to_string())
    }
}

impl FromStr for FingerprintPrefix {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let digits = nibbles(text)?.len();
        if !(Self::MIN_DIGITS..=64).contains(&digits) {
            return Err(Error::invalid(format!(
                "a fingerprint's prefix has 4 to 64 hex digits, this one has {digits}"
            )));
        }
        Ok(Self(text.to_ascii_lowercase()))
    }
}

/// Converts hex digits to their values. The error shows the first character that is not a hex
/// digit.
fn nibbles(text: &str) -> Result<Vec<u8>> {
    text.chars()
        .map(|character| {
            character
                .to_digit(16)
                .and_then(|digit| u8::try_from(digit).ok())
                .ok_or_else(|| Error::invalid(format!("a fingerprint has hex digits only, not {character:?}")))
        })
        .collect()
}

/// Implements serde as text for a type with `Display` and `FromStr`, so that both formats are one.
macro_rules! as_text {
    ($($type:ty),*) => {$(
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}

as_text!(Fingerprint, FingerprintPrefix);
