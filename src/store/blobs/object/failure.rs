//! [`Failure`]: why an operation on the bucket failed, whether it may pass, and the [`Error`] that
//! says what to check.

use std::time::Duration;

use object_store::path::Path;

use super::location::{Location, Protocol};
use super::transport::{Refusal, Seen};
use crate::error::{Error, ErrorKind};

/// What is done with an object or the bucket, in words and as the permission that it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Write,
    Read,
    Delete,
    List,
    Copy,
    ListUploads,
    AbortUpload,
    Sign,
}

impl Verb {
    const fn words(self) -> &'static str {
        match self {
            Self::Write => "write",
            Self::Read => "read",
            Self::Delete => "delete",
            Self::List => "list",
            Self::Copy => "copy",
            Self::ListUploads => "list the unfinished uploads of",
            Self::AbortUpload => "abort an upload of",
            Self::Sign => "sign a link to",
        }
    }

    /// The permission that an operator has to grant.
    const fn permission(self, protocol: Protocol) -> &'static str {
        match (protocol, self) {
            (Protocol::S3, Self::Write) => "s3:PutObject",
            (Protocol::S3, Self::Read | Self::Sign) => "s3:GetObject and s3:ListBucket",
            (Protocol::S3, Self::Delete) => "s3:DeleteObject",
            (Protocol::S3, Self::List) => "s3:ListBucket",
            (Protocol::S3, Self::Copy) => "s3:GetObject and s3:PutObject",
            (Protocol::S3, Self::ListUploads) => "s3:ListBucketMultipartUploads",
            (Protocol::S3, Self::AbortUpload) => "s3:AbortMultipartUpload",
            (Protocol::Gcs, Self::Write | Self::Copy) => "storage.objects.create and storage.objects.delete",
            (Protocol::Gcs, Self::Read) => "storage.objects.get",
            (Protocol::Gcs, Self::Delete) => "storage.objects.delete",
            (Protocol::Gcs, Self::List) => "storage.objects.list",
            (Protocol::Gcs, Self::ListUploads) => "storage.multipartUploads.list",
            (Protocol::Gcs, Self::AbortUpload) => "storage.multipartUploads.abort",
            (Protocol::Gcs, Self::Sign) => "iam.serviceAccounts.signBlob",
            (Protocol::Azure, Self::Sign) => "the role `Storage Blob Delegator`",
            (Protocol::Azure, _) => "the role `Storage Blob Data Contributor`",
        }
    }
}

/// Why an operation failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    /// There is no such object.
    Missing,
    /// There is no such bucket.
    NoBucket,
    /// The credentials are valid and do not permit it.
    Denied,
    /// The credentials are not valid.
    BadCredentials,
    /// No credentials were found.
    NoCredentials,
    /// The clocks of server and client differ too much.
    ClockSkew,
    /// The bucket is in another region than the one that was signed for.
    Region,
    /// There is no space or quota left.
    Full,
    /// It may pass: overload, a broken connection, no answer.
    Transient,
    /// The object is not the one that was opened.
    Changed,
    /// The answer cannot be right.
    Invalid,
    /// The server does not implement it.
    Unsupported,
    /// Anything else.
    Other,
}

/// A failed operation.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    pub(super) reason: Reason,
    /// What the server or the connection said.
    pub(super) detail: String,
    pub(super) retry_after: Option<Duration>,
}

impl Failure {
    pub(super) fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into(), retry_after: None }
    }

    /// Whether the same request may succeed a little later.
    pub(super) fn is_transient(&self) -> bool {
        self.reason == Reason::Transient
    }

    /// The failure of an operation of a client, with what was seen of its last request.
    pub(super) fn of(error: &object_store::Error, seen: Option<Seen>) -> Self {
        use object_store::Error as E;
        match seen {
            Some(Seen::NoCredentials { what }) => Self::new(Reason::NoCredentials, what),
            Some(Seen::Broken { what }) => Self::new(Reason::Transient, what),
            Some(Seen::Refused(refusal)) => Self::refused(refusal),
            None => {
                let detail = error.to_string();
                let reason = match error {
                    E::NotFound { .. } => Reason::Missing,
                    E::NotSupported { .. } | E::NotImplemented { .. } => Reason::Unsupported,
                    E::PermissionDenied { .. } => Reason::Denied,
                    E::Unauthenticated { .. } => Reason::BadCredentials,
                    E::Precondition { .. } => Reason::Changed,
                    // S3 answers 200 to some requests before it knows whether they succeed.
                    _ if detail.contains("InternalError") || detail.contains("SlowDown") => Reason::Transient,
                    _ if detail.contains("credential") || detail.contains("token") => Reason::NoCredentials,
                    _ => Reason::Invalid,
                };
                Self::new(reason, detail)
            }
        }
    }

    /// The failure that a server's refusal means.
    fn refused(refusal: Refusal) -> Self {
        let reason = match (refusal.status, &*refusal.code) {
            (_, "NoSuchBucket" | "ContainerNotFound" | "InvalidBucketName") => Reason::NoBucket,
            (_, "RequestTimeTooSkewed" | "RequestExpired") => Reason::ClockSkew,
            (
                _,
                "InvalidAccessKeyId"
                | "SignatureDoesNotMatch"
                | "ExpiredToken"
                | "InvalidToken"
                | "TokenRefreshRequired"
                | "AuthenticationFailed"
                | "InvalidAuthenticationInfo",
            )
            | (401, _) => Reason::BadCredentials,
            (_, "AuthorizationHeaderMalformed" | "PermanentRedirect") | (301 | 307, _) => Reason::Region,
            (_, "QuotaExceeded" | "XMinioStorageFull" | "EntityTooLarge") | (507 | 413, _) => Reason::Full,
            (_, "SlowDown" | "RequestTimeout" | "OperationAborted" | "ServiceUnavailable") => Reason::Transient,
            // The bytes were damaged on their way: sent again, they may arrive.
            (_, "XAmzContentSHA256Mismatch" | "BadDigest") => Reason::Transient,
            (404 | 410, _) => Reason::Missing,
            (403, _) => Reason::Denied,
            (412, _) => Reason::Changed,
            (501 | 405, _) => Reason::Unsupported,
            (416, _) => Reason::Invalid,
            (408 | 425 | 429 | 500..=599, _) => Reason::Transient,
            _ => Reason::Other,
        };
        let Refusal { status, code, message, retry_after } = refusal;
        let mut detail = status.to_string();
        for part in [code, message].into_iter().filter(|part| !part.is_empty()) {
            detail.push_str(if detail.contains(' ') { ": " } else { " " });
            detail.push_str(&part);
        }
        Self { reason, detail, retry_after }
    }

    /// The error that says what failed, where, and what to check.
    pub(super) fn into_error(self, verb: Verb, path: Option<&Path>, location: &Location, endpoint: &str) -> Error {
        let Self { reason, detail, .. } = self;
        let bucket = &location.bucket;
        let object = path.map_or_else(|| format!("the bucket `{bucket}`"), |path| format!("the object `{path}`"));
        let cannot = format!("cannot {} {object} ({detail})", verb.words());
        let permission = verb.permission(location.protocol);
        let error = match reason {
            Reason::Missing => Error::new(ErrorKind::NotFound, format!("{object} is not in the object store")),
            Reason::NoBucket => Error::new(ErrorKind::NotFound, format!("there is no bucket `{bucket}` at {endpoint}"))
                .with_hint("create the bucket, or check its name, the endpoint and the region"),
            Reason::Denied => Error::new(ErrorKind::Io, cannot).with_hint(format!(
                "the credentials need {permission} on `{bucket}` at {endpoint}; check the policies of user and bucket"
            )),
            Reason::BadCredentials => Error::new(ErrorKind::Io, cannot).with_hint(format!(
                "{endpoint} does not accept the credentials; check that they belong to it and have not expired"
            )),
            Reason::NoCredentials => {
                Error::new(ErrorKind::Io, format!("there are no credentials for {endpoint} ({detail})"))
                    .with_hint(sources(location.protocol))
            }
            Reason::ClockSkew => Error::new(ErrorKind::Io, cannot).with_hint(format!(
                "the clocks of this machine and of {endpoint} differ by more than 15 minutes: set them"
            )),
            Reason::Region => Error::new(ErrorKind::InvalidInput, cannot)
                .with_hint("the bucket is in another region: set the region, or the endpoint of that region"),
            Reason::Full => Error::new(ErrorKind::StorageFull, cannot)
                .with_hint(format!("free some space at {endpoint}, or raise the quota of `{bucket}`")),
            Reason::Transient => Error::new(ErrorKind::Transient, cannot)
                .transient()
                .with_hint(format!("{endpoint} is overloaded or cannot be reached; try again a little later")),
            Reason::Changed => Error::malformed(format!("{object} was replaced while it was read ({detail})"))
                .with_hint("objects never change: check which other program writes below this prefix"),
            Reason::Invalid => Error::malformed(format!("{endpoint} answers incorrectly: {cannot}"))
                .with_hint("check that this is an object store, and that no proxy in between changes its answers"),
            Reason::Unsupported => Error::unsupported(cannot)
                .with_hint(format!("{endpoint} does not implement a request that the store needs")),
            Reason::Other => Error::new(ErrorKind::Io, cannot),
        };
        error.in_file(location.to_string())
    }
}

/// Where credentials are looked for.
fn sources(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::S3 => {
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE for a profile in ~/.aws, or give the machine a role"
        }
        Protocol::Gcs => "set GOOGLE_APPLICATION_CREDENTIALS, or give the machine a service account",
        Protocol::Azure => {
            "set AZURE_STORAGE_ACCOUNT_NAME with AZURE_STORAGE_ACCOUNT_KEY, or AZURE_CLIENT_ID and AZURE_TENANT_ID, or give the machine an identity"
        }
    }
}
