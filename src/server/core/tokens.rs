//! `Secrets`: passes that trusted clients have made for others: to read one private image, to upload one image.
//! Each is for one use, runs out by itself, is never on disk, and a wrong one is no different from none.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::Fingerprint;
use crate::server::api::rest::Ticket;
use crate::server::core::operations::Operations;

/// How long one that nobody uses is good.
pub(crate) const UNUSED: Duration = Duration::from_secs(300);
/// How long after its first use one still opens an image: clients ask what it is, and then for its bytes.
const ONCE: Duration = Duration::from_secs(5);
/// How many there may be at once.
const MOST: usize = 1_000;
/// Bytes of chance in one.
const LENGTH: usize = 32;

/// What is kept of a secret, and compared. Also hides it from whoever prints it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Digest(Fingerprint);

impl Digest {
    pub(crate) fn of(secret: &str) -> Self {
        Self(Fingerprint::of(secret.as_bytes()))
    }

    /// Whether both are the same, in a time that tells nothing of where they differ.
    pub(crate) fn is(&self, other: &Self) -> bool {
        let (one, other) = (self.0.to_string(), other.0.to_string());
        one.bytes().zip(other.bytes()).fold(0, |differ, (one, other)| differ | (one ^ other)) == 0
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digest")
    }
}

/// What a pass is for.
#[derive(Debug)]
pub(crate) enum Opens {
    /// Reads this image.
    Image(Fingerprint),
    /// Uploads one image.
    Upload(Box<Ticket>),
}

#[derive(Debug)]
struct Pass {
    digest: Digest,
    opens: Opens,
    /// The operation that stands for it.
    operation: String,
    ends: Instant,
    used: bool,
}

/// The passes that are valid now.
#[derive(Debug)]
pub(crate) struct Secrets {
    all: Mutex<Vec<Pass>>,
    operations: Operations,
}

impl Secrets {
    pub(crate) fn new(operations: Operations) -> Self {
        Self { all: Mutex::default(), operations }
    }

    /// Makes one. `operation` stands for it where trusted clients look.
    ///
    /// # Errors
    /// `Busy` when too many are out; `Io` when the machine has no chance to give.
    pub(crate) fn make(&self, opens: Opens, operation: &str) -> Result<String> {
        self.make_at(opens, operation, Instant::now())
    }

    fn make_at(&self, opens: Opens, operation: &str, now: Instant) -> Result<String> {
        let mut bytes = [0; LENGTH];
        random(&mut bytes)?;
        let secret = hex(&bytes);
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|pass| pass.ends > now);
        if all.len() >= MOST {
            return Err(Error::new(ErrorKind::Busy, "too many secrets are out"));
        }
        let operation = operation.to_owned();
        all.push(Pass { digest: Digest::of(&secret), opens, operation, ends: now + UNUSED, used: false });
        Ok(secret)
    }

    /// Whether `secret` opens the image. Reading with it makes it run out soon.
    pub(crate) fn opens(&self, fingerprint: &Fingerprint, secret: &str) -> bool {
        self.opens_at(fingerprint, secret, Instant::now())
    }

    fn opens_at(&self, fingerprint: &Fingerprint, secret: &str, now: Instant) -> bool {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|pass| pass.ends > now);
        let digest = Digest::of(secret);
        let mut found = None;
        for pass in all.iter_mut() {
            // All of them are looked at, so that time tells nothing.
            if pass.digest.is(&digest) && matches!(&pass.opens, Opens::Image(image) if image == fingerprint) {
                found = Some(pass);
            }
        }
        let Some(pass) = found else { return false };
        if !pass.used {
            pass.used = true;
            pass.ends = pass.ends.min(now + ONCE);
            self.operations.used(&pass.operation);
        }
        true
    }

    /// What may be uploaded with `secret`, which is used up by asking.
    pub(crate) fn upload(&self, secret: &str) -> Option<Ticket> {
        self.upload_at(secret, Instant::now())
    }

    fn upload_at(&self, secret: &str, now: Instant) -> Option<Ticket> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|pass| pass.ends > now);
        let digest = Digest::of(secret);
        let mut found = None;
        for (index, pass) in all.iter().enumerate() {
            if pass.digest.is(&digest) && matches!(pass.opens, Opens::Upload(_)) {
                found = Some(index);
            }
        }
        let pass = all.remove(found?);
        self.operations.used(&pass.operation);
        match pass.opens {
            Opens::Upload(ticket) => Some(*ticket),
            Opens::Image(_) => None,
        }
    }

    /// The pass that an operation stands for opens nothing any more.
    pub(crate) fn forget(&self, operation: &str) {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).retain(|pass| pass.operation != operation);
    }
}

/// Fills `bytes` by chance that nobody can foresee.
///
/// # Errors
/// `Io`.
pub(crate) fn random(bytes: &mut [u8]) -> Result<()> {
    rustls::crypto::ring::default_provider()
        .secure_random
        .fill(bytes)
        .map_err(|_| Error::new(ErrorKind::Io, "the machine gives no random numbers"))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    fn secrets() -> Secrets {
        Secrets::new(Operations::default())
    }

    #[test]
    fn a_pass_opens_one_image_for_five_seconds_after_its_first_use() {
        let (secrets, image, other) = (secrets(), Fingerprint::of(b"one"), Fingerprint::of(b"other"));
        let now = Instant::now();
        let secret = secrets.make_at(Opens::Image(image), "", now).unwrap();
        assert_eq!(secret.len(), 64);
        let after = |seconds| now + Duration::from_secs(seconds);
        assert!(!secrets.opens_at(&other, &secret, now));
        assert!(!secrets.opens_at(&image, &secret[1..], now) && !secrets.opens_at(&image, "", now));
        assert!(secrets.opens_at(&image, &secret, after(100)));
        assert!(secrets.opens_at(&image, &secret, after(104)));
        assert!(!secrets.opens_at(&image, &secret, after(105)));
        assert!(!secrets.opens_at(&image, &secret, after(1)), "it is gone for good");
    }

    #[test]
    fn a_pass_that_nobody_uses_runs_out() {
        let (secrets, image) = (secrets(), Fingerprint::of(b"one"));
        let now = Instant::now();
        let secret = secrets.make_at(Opens::Image(image), "", now).unwrap();
        assert!(!secrets.opens_at(&image, &secret, now + UNUSED));
        let upload = secrets.make_at(Opens::Upload(Box::default()), "", now).unwrap();
        assert!(secrets.upload_at(&upload, now + UNUSED).is_none());
    }

    #[test]
    fn a_pass_for_an_upload_serves_once_and_reads_nothing() {
        let (secrets, image) = (secrets(), Fingerprint::of(b"one"));
        let upload = secrets.make(Opens::Upload(Box::default()), "").unwrap();
        let read = secrets.make(Opens::Image(image), "").unwrap();
        assert!(!secrets.opens(&image, &upload) && secrets.upload(&read).is_none());
        assert!(secrets.upload(&upload).is_some());
        assert!(secrets.upload(&upload).is_none());
        assert!(secrets.opens(&image, &read));
    }

    #[test]
    fn only_so_many_are_out_and_one_can_be_taken_back() {
        let (secrets, image) = (secrets(), Fingerprint::of(b"one"));
        let now = Instant::now();
        let first = secrets.make_at(Opens::Image(image), "first", now).unwrap();
        for _ in 1..MOST {
            secrets.make_at(Opens::Image(image), "", now).unwrap();
        }
        assert_eq!(secrets.make_at(Opens::Image(image), "", now).unwrap_err().kind(), ErrorKind::Busy);
        secrets.forget("first");
        assert!(!secrets.opens_at(&image, &first, now));
        assert!(secrets.make_at(Opens::Image(image), "", now).is_ok());
        assert!(secrets.make_at(Opens::Image(image), "", now + UNUSED).is_ok());
    }
}
