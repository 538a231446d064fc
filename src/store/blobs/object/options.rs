//! [`ObjectOptions`]: how a bucket is reached, and how much is in flight at once.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Error, Result};

const MIB: u64 = 1 << 20;

/// S3 refuses smaller parts, except for the last one.
const MIN_PART_BYTES: u64 = 5 * MIB;
/// S3 refuses larger parts; a part is held in memory, so less than its 5 GiB.
const MAX_PART_BYTES: u64 = 1 << 30;
/// More requests at once than this make servers throttle.
const MAX_CONCURRENCY: usize = 64;

/// How a bucket is reached, and how much of uploads and downloads is in flight at once.
///
/// Credentials are not options: they come from where the programs of each engine look for them, see
/// [`ObjectBlobs`](super::ObjectBlobs).
///
/// ```
/// use std::time::Duration;
///
/// use lxd_image::store::ObjectOptions;
///
/// // A Ceph object gateway in the same rack.
/// let options = ObjectOptions::new()
///     .endpoint("http://10.0.0.7:7480")
///     .allow_http(true)
///     .region("us-east-1")
///     .concurrency(8)
///     .grace(Duration::from_secs(48 * 60 * 60));
/// # let _ = options;
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub struct ObjectOptions {
    pub(super) endpoint: Option<String>,
    pub(super) region: Option<String>,
    pub(super) allow_http: bool,
    pub(super) path_style: Option<bool>,
    pub(super) profile: Option<String>,
    pub(super) credentials_file: Option<PathBuf>,
    pub(super) part_bytes: u64,
    pub(super) concurrency: usize,
    pub(super) read_ahead: u64,
    pub(super) read_memory: u64,
    pub(super) grace: Duration,
    pub(super) connect_timeout: Duration,
    pub(super) idle_timeout: Duration,
    pub(super) retries: u32,
    pub(super) probe: bool,
}

impl Default for ObjectOptions {
    fn default() -> Self {
        Self {
            endpoint: None,
            region: None,
            allow_http: false,
            path_style: None,
            profile: None,
            credentials_file: None,
            part_bytes: 16 * MIB,
            concurrency: 4,
            read_ahead: 32 * MIB,
            read_memory: 256 * MIB,
            grace: Duration::from_secs(24 * 60 * 60),
            connect_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            retries: 8,
            probe: true,
        }
    }
}

impl fmt::Debug for ObjectOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the endpoint as it is: it may have been written with a password in it.
        f.debug_struct("ObjectOptions")
            .field("endpoint", &self.endpoint.as_deref().map(shown_endpoint))
            .field("region", &self.region)
            .field("part_bytes", &self.part_bytes)
            .field("concurrency", &self.concurrency)
            .field("grace", &self.grace)
            .finish_non_exhaustive()
    }
}

impl ObjectOptions {
    /// The defaults: the engine's own endpoint, HTTPS only, parts of 16 MiB, four requests at once,
    /// a grace of a day.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The address of the server, for example `https://s3.example.com`. The default is the one of
    /// the environment (`AWS_ENDPOINT_URL_S3`, `AWS_ENDPOINT_URL`), then of the profile, then the
    /// engine's own.
    #[must_use]
    pub fn endpoint(mut self, endpoint: impl Into<String>) -> Self {
        self.endpoint = Some(endpoint.into());
        self
    }

    /// The region of the bucket, for S3. The default is the one of the environment (`AWS_REGION`,
    /// `AWS_DEFAULT_REGION`), then of the profile, then `us-east-1`.
    #[must_use]
    pub fn region(mut self, region: impl Into<String>) -> Self {
        self.region = Some(region.into());
        self
    }

    /// Whether an endpoint without TLS may be used. Then everybody on the way reads the images.
    #[must_use]
    pub fn allow_http(mut self, yes: bool) -> Self {
        self.allow_http = yes;
        self
    }

    /// Whether the bucket is the first part of the path (`https://host/bucket/key`) and not of the
    /// host name (`https://bucket.host/key`), for S3. The default is the path if an endpoint is
    /// set or the name of the bucket has a dot, otherwise the host name.
    #[must_use]
    pub fn path_style(mut self, yes: bool) -> Self {
        self.path_style = Some(yes);
        self
    }

    /// The profile in the AWS files to take credentials, region and endpoint from. The default is
    /// `AWS_PROFILE`, then `default`. A profile that is set here comes before `AWS_ACCESS_KEY_ID`.
    #[must_use]
    pub fn profile(mut self, profile: impl Into<String>) -> Self {
        self.profile = Some(profile.into());
        self
    }

    /// The AWS file of credentials. The default is `AWS_SHARED_CREDENTIALS_FILE`, then
    /// `~/.aws/credentials`. A file that is set here comes before `AWS_ACCESS_KEY_ID`.
    #[must_use]
    pub fn credentials_file(mut self, file: impl AsRef<Path>) -> Self {
        self.credentials_file = Some(file.as_ref().to_path_buf());
        self
    }

    /// How many bytes one part of a multipart upload has: 5 MiB to 1 GiB. Smaller objects are sent
    /// in one request. An object of more than 10,000 parts gets larger ones.
    #[must_use]
    pub fn part_bytes(mut self, bytes: u64) -> Self {
        self.part_bytes = bytes;
        self
    }

    /// How many parts of one upload, and how many requests of one listing or deletion, are in
    /// flight at once: 1 to 64. An upload holds this many parts, and one more, in memory.
    #[must_use]
    pub fn concurrency(mut self, requests: usize) -> Self {
        self.concurrency = requests;
        self
    }

    /// How many bytes of one open object are in memory, at most: what was read last, and what is
    /// fetched ahead of a sequential reader. Zero switches fetching ahead off; requests of a
    /// sequential reader still grow to 8 MiB.
    #[must_use]
    pub fn read_ahead(mut self, bytes: u64) -> Self {
        self.read_ahead = bytes;
        self
    }

    /// How many bytes all open objects together fetch ahead, at most. Beyond it readers get what
    /// they ask for, and nothing is fetched ahead.
    #[must_use]
    pub fn read_memory(mut self, bytes: u64) -> Self {
        self.read_memory = bytes;
        self
    }

    /// How long an object outlives the row that named it: see
    /// [`BlobStore::grace`](crate::store::BlobStore::grace). It must be longer than the longest
    /// read and upload; links are valid for half of it at most. Uploads that are older are aborted
    /// by a sweep. All programs of a store must use the same.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// How long connecting may take before it counts as failed.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long a request may go on without a byte in either direction before it counts as failed.
    /// There is no bound on the whole request: images are large and links are slow.
    #[must_use]
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.idle_timeout = timeout;
        self
    }

    /// How often a request is repeated that failed in a way that may pass: no connection, no
    /// answer, a broken one, `500`, `503 SlowDown`. The pauses double from 0.1 to 5 seconds; eight
    /// repetitions take about 15 seconds.
    #[must_use]
    pub fn retries(mut self, retries: u32) -> Self {
        self.retries = retries;
        self
    }

    /// Whether connecting writes, reads, lists and deletes a scratch object, and refuses a server
    /// that gets one of them wrong. Only for credentials that may not write, or where another
    /// process has just done it.
    #[must_use]
    pub fn probe(mut self, yes: bool) -> Self {
        self.probe = yes;
        self
    }

    /// Fails for values that cannot work.
    pub(super) fn check(&self) -> Result<()> {
        if !(MIN_PART_BYTES..=MAX_PART_BYTES).contains(&self.part_bytes) {
            return Err(Error::invalid("the parts of an upload must have 5 MiB to 1 GiB"));
        }
        if !(1..=MAX_CONCURRENCY).contains(&self.concurrency) {
            return Err(Error::invalid("there can be 1 to 64 requests at once"));
        }
        if self.grace < Duration::from_secs(1) {
            return Err(Error::invalid("the grace of an object store cannot be zero")
                .with_hint("readers of a deleted object need it to come to the end"));
        }
        if self.connect_timeout.is_zero() || self.idle_timeout.is_zero() {
            return Err(Error::invalid("a timeout of an object store cannot be zero"));
        }
        Ok(())
    }
}

/// An endpoint without what may be a password.
pub(super) fn shown_endpoint(endpoint: &str) -> String {
    match endpoint.split_once("://") {
        Some((scheme, rest)) => {
            let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
            let host = host.rsplit('@').next().unwrap_or_default();
            format!("{scheme}://{host}")
        }
        None => "an address without a scheme".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[test]
    fn debug_shows_no_password_of_an_endpoint() {
        let options = ObjectOptions::new().endpoint("https://user:secret@host:1/x?token=secret");
        let shown = format!("{options:?}");
        assert!(shown.contains("https://host:1") && !shown.contains("secret"), "{shown}");
    }

    #[test]
    fn values_that_cannot_work_are_refused() {
        assert!(ObjectOptions::new().check().is_ok());
        for options in [
            ObjectOptions::new().part_bytes(1),
            ObjectOptions::new().concurrency(0),
            ObjectOptions::new().grace(Duration::ZERO),
            ObjectOptions::new().idle_timeout(Duration::ZERO),
        ] {
            assert!(options.check().is_err(), "{options:?}");
        }
    }
}
