//! [`Digest`]: the name of a blob, and [`DigestReader`], which lets nothing else pass for it.

use std::fmt;
use std::io::Read;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256, Sha512};

use crate::error::{Error, Result};
use crate::fingerprint::Fingerprint;

/// The digest of a blob: `sha256:` with 64 lower-case hex digits, or `sha512:` with 128.
///
/// It parses strictly. Untrusted text that parses is therefore safe as a file name and as a segment of a URL.
///
/// ```
/// use lxd_image::oci::Digest;
///
/// let empty: Digest = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a".parse()?;
/// assert_eq!(empty, Digest::of(b"{}"));
/// assert!("md5:99914b932bd37a50b983c5e7c90ae93b".parse::<Digest>().is_err());
/// # Ok::<(), lxd_image::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(Value);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Value {
    Sha256([u8; 32]),
    Sha512([u8; 64]),
}

impl Digest {
    /// Computes the SHA-256 of bytes in memory.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Value::Sha256(Sha256::digest(bytes).into()))
    }

    /// The name of the algorithm: `sha256` or `sha512`.
    #[must_use]
    pub const fn algorithm(&self) -> &'static str {
        match self.0 {
            Value::Sha256(_) => "sha256",
            Value::Sha512(_) => "sha512",
        }
    }

    /// The digits without the algorithm.
    #[must_use]
    pub fn hex(&self) -> String {
        let bytes: &[u8] = match &self.0 {
            Value::Sha256(bytes) => bytes,
            Value::Sha512(bytes) => bytes,
        };
        crate::fingerprint::hex(bytes)
    }

    /// The digest as a fingerprint, which is a SHA-256; `None` for a SHA-512.
    #[must_use]
    pub const fn as_fingerprint(&self) -> Option<Fingerprint> {
        match self.0 {
            Value::Sha256(bytes) => Some(Fingerprint::from_bytes(bytes)),
            Value::Sha512(_) => None,
        }
    }

    /// A hasher of the same algorithm, to compare with.
    #[must_use]
    pub fn hasher(&self) -> DigestHasher {
        match self.0 {
            Value::Sha256(_) => DigestHasher(Algorithm::Sha256(Sha256::new())),
            Value::Sha512(_) => DigestHasher(Algorithm::Sha512(Sha512::new())),
        }
    }
}

const HEX: &[u8; 16] = b"0123456789abcdef";

impl From<Fingerprint> for Digest {
    fn from(fingerprint: Fingerprint) -> Self {
        Self(Value::Sha256(*fingerprint.as_bytes()))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm(), self.hex())
    }
}

impl FromStr for Digest {
    type Err = Error;

    /// Takes the algorithm, a colon and lower-case digits, as the specification wants them.
    fn from_str(text: &str) -> Result<Self> {
        // Untrusted text may be long. Its beginning is enough to recognise it.
        let shown: String = text.chars().take(80).collect();
        let Some((algorithm, digits)) = text.split_once(':') else {
            return Err(Error::malformed(format!("the digest `{shown}` has no algorithm before a colon")));
        };
        let value = match algorithm {
            "sha256" => bytes_of(digits).map(Value::Sha256),
            "sha512" => bytes_of(digits).map(Value::Sha512),
            _ => {
                return Err(Error::unsupported(format!("the algorithm of the digest `{shown}` is not known here"))
                    .with_hint("digests are sha256 or sha512"));
            }
        };
        value
            .map(Self)
            .ok_or_else(|| Error::malformed(format!("the digest `{shown}` has wrong digits or a wrong number of them")))
    }
}

/// The bytes of exactly twice as many lower-case digits.
fn bytes_of<const N: usize>(digits: &str) -> Option<[u8; N]> {
    let nibble = |digit: u8| HEX.iter().position(|known| *known == digit).and_then(|at| u8::try_from(at).ok());
    if digits.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.as_bytes().chunks_exact(2)) {
        *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    Some(bytes)
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(|error: Error| serde::de::Error::custom(error.message()))
    }
}

/// Computes a [`Digest`] of bytes that come in pieces of any size.
#[derive(Clone)]
pub struct DigestHasher(Algorithm);

#[derive(Clone)]
enum Algorithm {
    Sha256(Sha256),
    Sha512(Sha512),
}

impl DigestHasher {
    /// A hasher for SHA-256, which everything written here uses.
    #[must_use]
    pub fn new() -> Self {
        Self(Algorithm::Sha256(Sha256::new()))
    }

    /// Hashes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            Algorithm::Sha256(hasher) => hasher.update(bytes),
            Algorithm::Sha512(hasher) => hasher.update(bytes),
        }
    }

    /// The digest of everything hashed so far.
    #[must_use]
    pub fn finish(self) -> Digest {
        Digest(match self.0 {
            Algorithm::Sha256(hasher) => Value::Sha256(hasher.finalize().into()),
            Algorithm::Sha512(hasher) => Value::Sha512(hasher.finalize().into()),
        })
    }
}

impl Default for DigestHasher {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for DigestHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DigestHasher").finish_non_exhaustive()
    }
}

/// A reader that reaches its end only if the bytes read have the expected digest and size.
///
/// The `read` that would return 0 fails with `Mismatch` instead when the bytes are not the expected ones, and one that
/// goes past the expected size fails at once. Data is handed out before it is verified: do not act on it until the
/// reader has reached its end.
#[derive(Debug)]
pub struct DigestReader<R> {
    inner: R,
    /// `None` once the end was verified or an error reported: nothing more is handed out.
    hasher: Option<DigestHasher>,
    bytes: u64,
    size: Option<u64>,
    expected: Digest,
}

impl<R: Read> DigestReader<R> {
    /// Wraps `inner`, which must yield exactly `size` bytes (any number, if `None`) with the digest `expected`.
    pub fn new(inner: R, size: Option<u64>, expected: Digest) -> Self {
        Self { inner, hasher: Some(expected.hasher()), bytes: 0, size, expected }
    }

    fn conclude(&mut self) -> Result<()> {
        let Some(hasher) = self.hasher.take() else { return Ok(()) };
        if let Some(size) = self.size.filter(|size| *size != self.bytes) {
            let what = format!("the size of the blob {} in bytes", self.expected);
            return Err(Error::mismatch(&what, size.to_string(), self.bytes.to_string()));
        }
        let found = hasher.finish();
        if found != self.expected {
            return Err(Error::mismatch("the digest of a blob", self.expected.to_string(), found.to_string()));
        }
        Ok(())
    }
}

impl<R: Read> Read for DigestReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let count = self.inner.read(buffer)?;
        if count == 0 {
            self.conclude()?;
            return Ok(0);
        }
        let bytes = buffer.get(..count).unwrap_or_default();
        let Some(hasher) = self.hasher.as_mut() else {
            return Err(Error::mismatch("the size of a blob in bytes", "the end of the data", "more bytes").into());
        };
        hasher.update(bytes);
        self.bytes = self.bytes.saturating_add(count as u64);
        if let Some(size) = self.size.filter(|size| self.bytes > *size) {
            self.hasher = None;
            let what = format!("the size of the blob {} in bytes", self.expected);
            return Err(Error::mismatch(&what, size.to_string(), format!("more than {size}")).into());
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn digest_prints_as_it_was_parsed() {
        for text in [format!("sha256:{}", "0123456789abcdef".repeat(4)), format!("sha512:{}", "fe".repeat(64))] {
            assert_eq!(text.parse::<Digest>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn digest_of_wrong_form_is_refused() {
        for text in [
            "",
            "sha256",
            "sha256:",
            "sha256:../../etc/passwd",
            "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
            "sha256:44136FA355B3678A1146AD16F7E8649E94FB4FC21FE77E8310C060F61CAAFF8A",
            "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a0",
            "sha512:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
            "sha256+b64:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
        ] {
            assert!(text.parse::<Digest>().is_err(), "{text}");
        }
    }

    #[test]
    fn reader_refuses_other_bytes_and_other_sizes() {
        let read = |bytes: &[u8], size| {
            let mut found = Vec::new();
            DigestReader::new(bytes, size, Digest::of(b"layer")).read_to_end(&mut found).map_err(Error::from)
        };
        assert_eq!(read(b"layer", Some(5)).unwrap(), 5);
        assert_eq!(read(b"layer", None).unwrap(), 5);
        for (bytes, size) in [(&b"other"[..], Some(5)), (b"layer", Some(4)), (b"layer", Some(6)), (b"", None)] {
            assert_eq!(read(bytes, size).unwrap_err().kind(), ErrorKind::Mismatch, "{bytes:?} {size:?}");
        }
    }
}
