//! Where the objects are: engine, bucket and prefix from an address such as `s3://bucket/prefix`,
//! and the paths of a store's objects below it.

use std::fmt;

use object_store::path::Path;

use crate::error::{Error, Result};
use crate::store::blobs::BlobKey;

/// The protocol that the object store speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    S3,
    Gcs,
    Azure,
}

/// The areas below the prefix, each a common prefix of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// The objects of the store.
    Blobs,
    /// Objects that a repair archived; never read, never overwritten.
    Archive,
    /// Scratch objects of the probe.
    Probe,
}

impl Place {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Blobs => "blobs",
            Self::Archive => "archive",
            Self::Probe => "probe",
        }
    }
}

/// The name of the identity object below the prefix.
const IDENTITY: &str = "store.json";

/// The longest prefix, in bytes. S3 allows 1024 for a whole key, of which ours take up to 350.
const MAX_PREFIX_BYTES: usize = 512;

/// A bucket (a container on Azure) and the prefix of a store in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Location {
    pub(super) protocol: Protocol,
    pub(super) bucket: String,
    /// Without a slash at either end; may be empty.
    prefix: String,
}

impl Location {
    /// Parses `s3://bucket/prefix`, `gs://bucket/prefix` or `az://container/prefix`.
    ///
    /// The address itself is never part of an error: people put credentials into addresses.
    pub(super) fn parse(url: &str) -> Result<Self> {
        const FORM: &str = "write it as `s3://bucket/prefix`, `gs://bucket/prefix` or `az://container/prefix`";
        let invalid = |what: &'static str| Error::invalid(what).with_hint(FORM);
        let (scheme, rest) =
            url.split_once("://").ok_or_else(|| invalid("the address of the object store has no scheme"))?;
        let protocol = match scheme {
            "s3" => Protocol::S3,
            "gs" => Protocol::Gcs,
            "az" => Protocol::Azure,
            _ => return Err(invalid("the address of the object store has an unknown scheme")),
        };
        if rest.contains(['@', '?', '#', '\\']) {
            return Err(invalid("the address of the object store must have a bucket and a prefix only")
                .with_hint("credentials come from the environment or from files, the endpoint is an option"));
        }
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        if bucket.is_empty() || bucket.len() > 255 || !bucket.bytes().all(plain) || bucket.starts_with('.') {
            return Err(invalid("the address of the object store has no valid bucket name"));
        }
        let prefix = prefix.trim_end_matches('/');
        let is_plain = |part: &str| !matches!(part, "" | "." | "..") && part.bytes().all(plain);
        if prefix.len() > MAX_PREFIX_BYTES || !(prefix.is_empty() || prefix.split('/').all(is_plain)) {
            return Err(invalid("the prefix in the address of the object store is invalid")
                .with_hint("use letters, digits, `.`, `-`, `_` and `/`"));
        }
        Ok(Self { protocol, bucket: bucket.to_owned(), prefix: prefix.to_owned() })
    }

    /// The scheme of its address.
    pub(super) fn scheme(&self) -> &'static str {
        match self.protocol {
            Protocol::S3 => "s3",
            Protocol::Gcs => "gs",
            Protocol::Azure => "az",
        }
    }

    /// The path of a name below the prefix.
    fn below(&self, name: &str) -> Result<Path> {
        let text = if self.prefix.is_empty() { name.to_owned() } else { format!("{}/{name}", self.prefix) };
        // `parse` keeps every byte: other constructors escape some, and the key would be another one.
        Path::parse(&text).map_err(|_| Error::invalid("this cannot be the key of an object in a bucket"))
    }

    /// The path of the object `key`.
    pub(super) fn blob(&self, key: &BlobKey) -> Result<Path> {
        self.below(&format!("{}/{key}", Place::Blobs.name()))
    }

    /// The path of the object `key` in one batch of archived objects.
    pub(super) fn archived(&self, batch: &str, key: &BlobKey) -> Result<Path> {
        self.below(&format!("{}/{batch}/{key}", Place::Archive.name()))
    }

    /// The path of a scratch object of the probe.
    pub(super) fn scratch(&self, name: &str) -> Result<Path> {
        self.below(&format!("{}/{name}", Place::Probe.name()))
    }

    /// The path of the identity object.
    pub(super) fn identity(&self) -> Result<Path> {
        self.below(IDENTITY)
    }

    /// The text that all paths of `place` begin with, up to and with the last slash.
    pub(super) fn prefix_of(&self, place: Place) -> String {
        if self.prefix.is_empty() { format!("{}/", place.name()) } else { format!("{}/{}/", self.prefix, place.name()) }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme(), self.bucket)?;
        if self.prefix.is_empty() { Ok(()) } else { write!(f, "/{}", self.prefix) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[test]
    fn address_has_engine_bucket_and_prefix() {
        for (url, shown, prefix) in [
            ("s3://images", "s3://images", "blobs/"),
            ("s3://images/", "s3://images", "blobs/"),
            ("gs://images/ci/eu", "gs://images/ci/eu", "ci/eu/blobs/"),
            ("az://images/ci/", "az://images/ci", "ci/blobs/"),
        ] {
            let location = Location::parse(url).unwrap();
            assert_eq!((location.to_string(), location.prefix_of(Place::Blobs)), (shown.to_owned(), prefix.to_owned()));
        }
    }

    #[test]
    fn invalid_address_is_refused_without_being_shown() {
        for url in [
            "images",
            "http://images/x",
            "s3://",
            "s3:///x",
            "s3://AK:secret@images/x",
            "s3://images?secret=1",
            "s3://images/a//b",
            "s3://images/../b",
            "s3://images/a b",
        ] {
            let error = Location::parse(url).unwrap_err();
            assert_eq!(error.kind(), crate::ErrorKind::InvalidInput, "{url}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }
}
