//! [`TokenStore`]: secrets that trusted clients issue for others: to download one private image, or to upload one
//! image. A token is used once, expires, and is kept as a digest only: in memory, or in the shared records of a catalog
//! that several servers have. A wrong token has the same effect as none.
//!
//! # Life of a token
//!
//! 1. A trusted client asks for one: `POST /1.0/images/FINGERPRINT/secret` for a download, `POST
//!    /1.0/images` with the mode `push` for an upload. The response is an operation of the class
//!    `token` with the secret in its metadata, as in LXD.
//! 2. The client hands the secret to another server, over a channel that it trusts.
//! 3. The other server shows it. An upload token is used up at once. A download token may be used
//!    for five more seconds, since one download is two requests: the image's metadata, and its
//!    bytes.
//! 4. The token expires, or a trusted client cancels the operation that represents it.
//!
//! # Invariants
//!
//! - The secret is returned once, by `issue`. What is stored here is its digest, so that no debug
//!   output has a usable secret. The operation of the token has the secret in its metadata, until the
//!   token ends: that is where the client that asked for it reads it.
//! - Each lookup compares every token in constant time. Neither a near miss nor the position of a
//!   token changes how long the answer takes.
//! - A token of one scope never works for the other.
//! - The token and its operation end together: use, expiry and cancellation change both.

mod shared;

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::{Fingerprint, hex};
use crate::server::core::operations::Operations;
use crate::server::core::secret::{SecretDigest, random};
use crate::server::core::upload_spec::UploadSpec;

/// How long an unused token is valid. The client passes it to another server, which uses it at
/// once.
pub(crate) const UNUSED_LIFETIME: Duration = Duration::from_secs(300);
/// How long a download token is valid after its first use: clients request the image's metadata, and then its bytes.
const USED_LIFETIME: Duration = Duration::from_secs(5);
/// Tokens that are valid at once.
///
/// Each lookup compares all of them.
const MAX_TOKENS: usize = 1_000;
/// Random bytes in a secret: 256 bits can't be guessed, so wrong tries need no limit of their own.
const SECRET_BYTES: usize = 32;

/// What a token allows.
#[derive(Debug)]
pub(crate) enum TokenScope {
    /// To download this image.
    Image(Fingerprint),
    /// To upload one image.
    Upload(Box<UploadSpec>),
}

/// A token that was issued and has neither expired nor been used up.
#[derive(Debug)]
struct Token {
    /// The digest of its secret.
    digest: SecretDigest,
    /// What it allows.
    scope: TokenScope,
    /// The operation that represents it: trusted clients list and cancel tokens as operations.
    operation: String,
    /// When it expires. Brought forward by the first use of a download token.
    ends: Instant,
    /// Whether a download token was used before.
    used: bool,
}

/// The tokens that are valid now.
///
/// The lock is held for comparisons of digests only. `opens` and `take_upload` take the lock of the
/// operations while they hold it; the operations never take this one, so the order is fixed.
#[derive(Debug)]
pub(crate) struct TokenStore {
    all: Mutex<Vec<Token>>,
    operations: Operations,
}

impl TokenStore {
    /// A store without tokens. Tokens that are used end their operation in `operations`.
    pub(crate) fn new(operations: Operations) -> Self {
        Self { all: Mutex::default(), operations }
    }

    /// Issues a token and returns its secret. `operation` is the operation that represents it.
    ///
    /// # Errors
    /// `Busy` when there are `MAX_TOKENS` already; `Io` when the machine gives no random numbers.
    pub(crate) fn issue(&self, scope: TokenScope, operation: &str) -> Result<String> {
        self.issue_at(scope, operation, Instant::now())
    }

    /// [`issue`](Self::issue) at a given time, for tests.
    fn issue_at(&self, scope: TokenScope, operation: &str, now: Instant) -> Result<String> {
        let mut bytes = [0; SECRET_BYTES];
        random(&mut bytes)?;
        // Hexadecimal digits need no escaping in a header, a query or JSON.
        let secret = hex(&bytes);
        if let Some(fleet) = self.operations.fleet() {
            shared::issue(fleet, &SecretDigest::of(&secret), scope, operation)?;
            return Ok(secret);
        }
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|token| token.ends > now);
        if all.len() >= MAX_TOKENS {
            return Err(too_many());
        }
        let operation = operation.to_owned();
        all.push(Token {
            digest: SecretDigest::of(&secret),
            scope,
            operation,
            ends: now + UNUSED_LIFETIME,
            used: false,
        });
        Ok(secret)
    }

    /// Whether `secret` allows to download the image. The first use shortens the token's validity to `USED_LIFETIME`.
    ///
    /// # Errors
    /// Those of a catalog that several servers have.
    pub(crate) fn opens(&self, fingerprint: &Fingerprint, secret: &str) -> Result<bool> {
        if let Some(fleet) = self.operations.fleet() {
            let Some(first) = shared::opens(fleet, fingerprint, &SecretDigest::of(secret))? else { return Ok(false) };
            if let Some(operation) = first {
                self.operations.used_anywhere(&operation)?;
            }
            return Ok(true);
        }
        Ok(self.opens_at(fingerprint, secret, Instant::now()))
    }

    /// [`opens`](Self::opens) at a given time, for tests.
    fn opens_at(&self, fingerprint: &Fingerprint, secret: &str, now: Instant) -> bool {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|token| token.ends > now);
        let digest = SecretDigest::of(secret);
        let mut found = None;
        for token in all.iter_mut() {
            // Every token is compared, so that timing does not tell whether one matched.
            if token.digest.matches(&digest) && matches!(&token.scope, TokenScope::Image(image) if image == fingerprint)
            {
                found = Some(token);
            }
        }
        // Reported by the same `false` as a wrong scope: an expired token was removed above.
        let Some(token) = found else { return false };
        if !token.used {
            token.used = true;
            // `min`, since the first use never extends the life of a token.
            token.ends = token.ends.min(now + USED_LIFETIME);
            self.operations.used(&token.operation);
        }
        true
    }

    /// Takes the upload token with this secret: what it allows. It is invalid afterwards.
    ///
    /// Removing it before the upload begins means that two clients with the same secret can't both
    /// upload. A failed upload needs a new token.
    ///
    /// # Errors
    /// Those of a catalog that several servers have.
    pub(crate) fn take_upload(&self, secret: &str) -> Result<Option<UploadSpec>> {
        let Some(fleet) = self.operations.fleet() else { return Ok(self.take_upload_at(secret, Instant::now())) };
        let Some((spec, operation)) = shared::take_upload(fleet, &SecretDigest::of(secret))? else { return Ok(None) };
        self.operations.used_anywhere(&operation)?;
        Ok(Some(spec))
    }

    /// [`take_upload`](Self::take_upload) at a given time, for tests.
    fn take_upload_at(&self, secret: &str, now: Instant) -> Option<UploadSpec> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|token| token.ends > now);
        let digest = SecretDigest::of(secret);
        let mut found = None;
        for (index, token) in all.iter().enumerate() {
            if token.digest.matches(&digest) && matches!(token.scope, TokenScope::Upload(_)) {
                found = Some(index);
            }
        }
        // Removed under the lock under which it was found, so that it can't be used twice.
        let token = all.remove(found?);
        self.operations.used(&token.operation);
        match token.scope {
            TokenScope::Upload(spec) => Some(*spec),
            TokenScope::Image(_) => None,
        }
    }

    /// Revokes the token that this operation represents; nothing where it represents none.
    ///
    /// The caller cancels the operation itself.
    ///
    /// # Errors
    /// Those of a catalog that several servers have.
    pub(crate) fn revoke(&self, operation: &str) -> Result<()> {
        if let Some(fleet) = self.operations.fleet() {
            return shared::revoke(fleet, operation);
        }
        self.all.lock().unwrap_or_else(PoisonError::into_inner).retain(|token| token.operation != operation);
        Ok(())
    }
}

/// The error of a token beyond `MAX_TOKENS`.
fn too_many() -> Error {
    Error::new(ErrorKind::Busy, "too many tokens are valid at once")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    fn tokens() -> TokenStore {
        TokenStore::new(Operations::new(|_| serde_json::Value::Null))
    }

    #[test]
    fn pass_opens_one_image_for_five_seconds_after_its_first_use() {
        let (tokens, image, other) = (tokens(), Fingerprint::of(b"one"), Fingerprint::of(b"other"));
        let now = Instant::now();
        let secret = tokens.issue_at(TokenScope::Image(image), "", now).unwrap();
        assert_eq!(secret.len(), 64);
        let after = |seconds| now + Duration::from_secs(seconds);
        assert!(!tokens.opens_at(&other, &secret, now));
        assert!(!tokens.opens_at(&image, &secret[1..], now) && !tokens.opens_at(&image, "", now));
        assert!(tokens.opens_at(&image, &secret, after(100)));
        assert!(tokens.opens_at(&image, &secret, after(104)));
        assert!(!tokens.opens_at(&image, &secret, after(105)));
        assert!(!tokens.opens_at(&image, &secret, after(1)), "it is gone for good");
    }

    #[test]
    fn pass_that_nobody_uses_runs_out() {
        let (tokens, image) = (tokens(), Fingerprint::of(b"one"));
        let now = Instant::now();
        let secret = tokens.issue_at(TokenScope::Image(image), "", now).unwrap();
        assert!(!tokens.opens_at(&image, &secret, now + UNUSED_LIFETIME));
        let upload = tokens.issue_at(TokenScope::Upload(Box::default()), "", now).unwrap();
        assert!(tokens.take_upload_at(&upload, now + UNUSED_LIFETIME).is_none());
    }

    #[test]
    fn pass_for_an_upload_serves_once_and_reads_nothing() {
        let (tokens, image) = (tokens(), Fingerprint::of(b"one"));
        let upload = tokens.issue(TokenScope::Upload(Box::default()), "").unwrap();
        let read = tokens.issue(TokenScope::Image(image), "").unwrap();
        assert!(!tokens.opens(&image, &upload).unwrap() && tokens.take_upload(&read).unwrap().is_none());
        assert!(tokens.take_upload(&upload).unwrap().is_some());
        assert!(tokens.take_upload(&upload).unwrap().is_none());
        assert!(tokens.opens(&image, &read).unwrap());
    }

    #[test]
    fn only_so_many_are_out_and_one_can_be_taken_back() {
        let (tokens, image) = (tokens(), Fingerprint::of(b"one"));
        let now = Instant::now();
        let first = tokens.issue_at(TokenScope::Image(image), "first", now).unwrap();
        for _ in 1..MAX_TOKENS {
            tokens.issue_at(TokenScope::Image(image), "", now).unwrap();
        }
        assert_eq!(tokens.issue_at(TokenScope::Image(image), "", now).unwrap_err().kind(), ErrorKind::Busy);
        tokens.revoke("first").unwrap();
        assert!(!tokens.opens_at(&image, &first, now));
        assert!(tokens.issue_at(TokenScope::Image(image), "", now).is_ok());
        assert!(tokens.issue_at(TokenScope::Image(image), "", now + UNUSED_LIFETIME).is_ok());
    }
}
