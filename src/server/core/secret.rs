//! Secrets that clients show: random when they are made, and kept as digests only.

use std::fmt;

use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::Fingerprint;

/// The digest of a secret: what is stored and compared. The secret itself is in nothing that can be printed.
///
/// A digest without salt is enough: secrets are random and never chosen by people.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct SecretDigest(Fingerprint);

impl SecretDigest {
    /// Hashes a secret.
    pub(crate) fn of(secret: &str) -> Self {
        Self(Fingerprint::of(secret.as_bytes()))
    }

    /// The digest as 64 hexadecimal digits: the name of a token among those of all servers.
    pub(crate) fn name(&self) -> String {
        self.0.to_string()
    }

    /// Whether the digest has this name, compared in constant time.
    pub(crate) fn is_named(&self, name: &str) -> bool {
        name.parse().is_ok_and(|other| self.matches(&Self(other)))
    }

    /// Compares two digests in constant time.
    ///
    /// Without an early exit at the first byte that differs, so that the time of an answer does not
    /// tell how much of a guess was right. A digest of fixed length has no length to leak.
    pub(crate) fn matches(&self, other: &Self) -> bool {
        let (one, other) = (self.0.to_string(), other.0.to_string());
        one.bytes().zip(other.bytes()).fold(0, |differ, (one, other)| differ | (one ^ other)) == 0
    }
}

impl fmt::Debug for SecretDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretDigest")
    }
}

/// Fills `bytes` with random numbers that nobody can predict.
///
/// The source is that of the TLS library, so that there is one source of random numbers to trust.
///
/// # Errors
/// `Io`.
pub(crate) fn random(bytes: &mut [u8]) -> Result<()> {
    rustls::crypto::ring::default_provider()
        .secure_random
        .fill(bytes)
        .map_err(|_| Error::new(ErrorKind::Io, "the machine gives no random numbers"))
}
