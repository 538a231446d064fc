//! [`ObjectBlobs`]: the blobs of a store in a bucket of an object store.
//!
//! | file | does |
//! |---|---|
//! | `location` | parses the address, makes the paths of objects |
//! | `options` | how the bucket is reached, how much is in flight |
//! | `credentials` | keys from the files of the AWS command line |
//! | `transport` | HTTP: TLS, timeouts, what a server said about a failure |
//! | `runtime` | runs the clients' futures for synchronous callers |
//! | `bucket` | single operations, repeated while a failure may pass |
//! | `failure` | failures and the errors they become |
//! | `upload`, `reader`, `archive`, `sweep`, `identity`, `probe` | what a blob store does with them |
//!
//! Nothing depends on conditional writes: some servers accept the header and ignore it. Keys are
//! used once, so a condition is not needed: an upload that is repeated writes the same bytes.

mod archive;
mod bucket;
mod credentials;
mod failure;
mod identity;
mod location;
mod options;
mod probe;
mod reader;
mod runtime;
mod sweep;
mod transport;
mod upload;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

pub use options::ObjectOptions;

use self::bucket::Bucket;
use self::failure::{Reason, Verb};
use self::location::{Location, Place};
use self::reader::{ObjectReader, ReadMemory};
use super::{BlobKey, BlobStore, ObjectPart};
use crate::error::{Error, Result};
use crate::io::Blob;
use crate::progress::Monitor;
use crate::store::scratch::StagedFile;

/// How many objects one request deletes: the most that S3 takes.
const DELETE_BATCH: usize = 1000;
/// The longest link that S3 signs.
const MAX_LINK: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// A [`BlobStore`] in a bucket: of S3 and servers that speak its protocol (Ceph, MinIO, Garage, R2),
/// of Google Cloud Storage, or a container of Azure's Blob Storage.
///
/// Any number of processes on any number of machines may use the same bucket and prefix, as long as
/// they have the same catalog. `LAYOUT.md` describes the objects.
///
/// # Credentials
///
/// They come from where the programs of each engine look for them, and are never part of an error,
/// of `Debug` or of a log:
///
/// | engine | in this order |
/// |---|---|
/// | `s3://` | `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`; a web identity (`AWS_WEB_IDENTITY_TOKEN_FILE`, `AWS_ROLE_ARN`); a profile of `~/.aws/credentials` and `~/.aws/config` with keys (`AWS_PROFILE`, `AWS_SHARED_CREDENTIALS_FILE`, `AWS_CONFIG_FILE`); a container's role; the instance's role |
/// | `gs://` | `GOOGLE_SERVICE_ACCOUNT`, `GOOGLE_APPLICATION_CREDENTIALS`, those of `gcloud`; the instance's service account |
/// | `az://` | `AZURE_STORAGE_ACCOUNT_NAME` with `AZURE_STORAGE_ACCOUNT_KEY`, or with `AZURE_STORAGE_CLIENT_ID`, `AZURE_STORAGE_CLIENT_SECRET` and `AZURE_STORAGE_TENANT_ID`, a SAS or a federated token; the machine's identity |
///
/// Certificates are those that the system trusts; `SSL_CERT_FILE` names others. `HTTPS_PROXY` and `NO_PROXY` work.
///
/// # Errors
///
/// Besides those of [`BlobStore`]: `NotFound` without a bucket; `Io` for credentials that are
/// missing, refused, or do not permit a request (the hint names the permission), and for a clock
/// that is wrong; `Transient` when the server was overloaded or not reachable even after all
/// repetitions; `Malformed` for an object that another program replaced and for answers that cannot
/// be right.
///
/// ```no_run
/// use std::sync::Arc;
///
/// use lxd_image::store::{ObjectBlobs, ObjectOptions, Scratch, SqliteCatalog, StoreOptions};
///
/// # fn main() -> lxd_image::Result<()> {
/// let options = ObjectOptions::new().region("eu-central-1");
/// let blobs = ObjectBlobs::connect("s3://company-images/ci", &options)?;
/// // Once, when the store is created; `bind` later.
/// blobs.init("0b2c4f4d5a5e4b0f")?;
/// # let catalog = SqliteCatalog::in_memory()?;
/// let scratch = Scratch::directory("/var/tmp/lxd-image")?;
/// let store = StoreOptions::new().open_parts(Arc::new(blobs), Arc::new(catalog), scratch);
/// # let _ = store;
/// # Ok(())
/// # }
/// ```
pub struct ObjectBlobs {
    bucket: Arc<Bucket>,
    memory: Arc<ReadMemory>,
    /// The id of the store, once it is known.
    id: Mutex<Option<String>>,
}

impl fmt::Debug for ObjectBlobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectBlobs")
            .field("location", &self.bucket.location.to_string())
            .field("endpoint", &self.bucket.endpoint)
            .finish_non_exhaustive()
    }
}

impl ObjectBlobs {
    /// Connects to `s3://bucket/prefix`, `gs://bucket/prefix` or `az://container/prefix`, and
    /// [probes](Self::probe) the server unless the options say not to.
    ///
    /// The bucket must exist. The prefix need not; without one the store has the whole bucket.
    ///
    /// # Errors
    /// `InvalidInput` for an address or options that cannot be; as [`probe`](Self::probe).
    pub fn connect(url: &str, options: &ObjectOptions) -> Result<Self> {
        let bucket = Arc::new(Bucket::new(Location::parse(url)?, options)?);
        let blobs = Self { bucket, memory: Arc::default(), id: Mutex::default() };
        if options.probe {
            blobs.probe()?;
        }
        Ok(blobs)
    }

    /// Writes, reads, lists and deletes a scratch object below `probe/`, and refuses a server that
    /// gets one of them wrong: one that does not show at once what was written last, answers a range
    /// with other bytes, has no `ETag`, or lists what was deleted. Takes about 20 small requests.
    ///
    /// It also finds out whether the server honours `If-Match` for reads, and whether its tags are
    /// MD5s: then uploads are compared with them, unless the server itself refuses what arrives damaged.
    ///
    /// # Errors
    /// `Unsupported` for a server that does something wrong; `NotFound` for a missing bucket; see
    /// [`ObjectBlobs`].
    pub fn probe(&self) -> Result<()> {
        let bucket = Arc::clone(&self.bucket);
        let facts = runtime::run(None, async move {
            // First a listing: its failures have a code, unlike those of `HEAD`, which have no body.
            let prefix = bucket.location.prefix_of(Place::Probe);
            let listed = bucket.list(&prefix, None, 1, |_| true).await;
            listed.map_err(|failure| match failure.reason {
                Reason::Missing => {
                    bucket.error(failure::Failure { reason: Reason::NoBucket, ..failure }, Verb::List, None)
                }
                _ => bucket.error(failure, Verb::List, None),
            })?;
            probe::probe(&bucket).await
        })?;
        let _ = self.bucket.facts.set(facts);
        Ok(())
    }

    /// Makes the prefix that of the store `id`: writes the identity object, unless it is there.
    ///
    /// # Errors
    /// `AlreadyExists` if the prefix belongs to another store; `Malformed` if another program uses
    /// it; `InvalidInput` for an id that is empty or longer than 255 bytes; see [`ObjectBlobs`].
    pub fn init(&self, id: &str) -> Result<()> {
        let (bucket, own) = (Arc::clone(&self.bucket), id.to_owned());
        runtime::run(None, async move { identity::create(&bucket, &own).await })?;
        self.remember(id);
        Ok(())
    }

    /// Fails unless the objects belong to the store `id`.
    /// [`check_identity`](BlobStore::check_identity) compares with it from now on.
    ///
    /// # Errors
    /// `Malformed` if they belong to another store or to none; see [`ObjectBlobs`].
    pub fn bind(&self, id: &str) -> Result<()> {
        let (bucket, own) = (Arc::clone(&self.bucket), id.to_owned());
        runtime::run(None, async move { identity::check(&bucket, Some(&own)).await })?;
        self.remember(id);
        Ok(())
    }

    /// The id of the store that the objects belong to; `None` for a prefix without an identity object.
    ///
    /// # Errors
    /// `Malformed` if something else is in its place; see [`ObjectBlobs`].
    pub fn identity(&self) -> Result<Option<String>> {
        let bucket = Arc::clone(&self.bucket);
        runtime::run(None, async move { identity::read(&bucket).await })
    }

    /// As [`bind`](Self::bind), for a caller that has just compared the [`identity`](Self::identity).
    pub(in crate::store) fn remember(&self, id: &str) {
        *self.id.lock().unwrap_or_else(PoisonError::into_inner) = Some(id.to_owned());
    }
}

impl BlobStore for ObjectBlobs {
    fn engine(&self) -> &'static str {
        self.bucket.location.scheme()
    }

    fn put(&self, key: &BlobKey, staged: &mut StagedFile, monitor: &Monitor) -> Result<()> {
        monitor.check()?;
        upload::upload(&self.bucket, &self.bucket.location.blob(key)?, &staged.reader()?, monitor)
    }

    fn open(&self, key: &BlobKey) -> Result<Blob> {
        let path = self.bucket.location.blob(key)?;
        ObjectReader::open(&self.bucket, &self.memory, path).map(Blob::new)
    }

    fn delete(&self, keys: &[BlobKey]) -> Result<()> {
        let path_of = |key: &BlobKey| self.bucket.location.blob(key);
        let paths = keys.iter().map(path_of).collect::<Result<Vec<_>>>()?;
        if paths.is_empty() {
            return Ok(());
        }
        // A sidecar is too small for an upload in several parts.
        let large = keys.iter().filter(|key| !matches!(key.parse(), Some((_, ObjectPart::Sidecar))));
        let large = large.map(path_of).collect::<Result<Vec<_>>>()?;
        let bucket = Arc::clone(&self.bucket);
        runtime::run(None, async move {
            // First, so that none of them is completed behind the deletion.
            sweep::abort_uploads_of(&bucket, &large).await?;
            for batch in paths.chunks(DELETE_BATCH) {
                let path = if let [only] = batch { Some(only) } else { None };
                bucket.delete(batch.to_vec()).await.map_err(|failure| bucket.error(failure, Verb::Delete, path))?;
            }
            Ok(())
        })
    }

    fn list(&self, after: Option<&BlobKey>, limit: usize) -> Result<Vec<BlobKey>> {
        let prefix = self.bucket.location.prefix_of(Place::Blobs);
        let after = after.map(|after| format!("{prefix}{after}"));
        let bucket = Arc::clone(&self.bucket);
        runtime::run(None, async move {
            let key_of = |path: &object_store::path::Path| {
                BlobKey::new(path.as_ref().strip_prefix(&*prefix).unwrap_or_default()).ok()
            };
            // What is deeper in the tree is no key, and nothing of ours.
            let is_key = |object: &object_store::ObjectMeta| key_of(&object.location).is_some();
            let listed = bucket.list(&prefix, after.as_deref(), limit, is_key).await;
            let listed = listed.map_err(|failure| bucket.error(failure, Verb::List, None))?;
            Ok(listed.iter().filter_map(|object| key_of(&object.location)).collect())
        })
    }

    fn archive(&self, keys: &[BlobKey]) -> Result<()> {
        archive::archive(&self.bucket, &self.memory, keys)
    }

    /// Aborts multipart uploads that are older than the [grace](Self::grace), and deletes scratch
    /// objects of interrupted probes. Uploads can only be listed by the protocol of S3; Google's
    /// buckets need a lifecycle rule, and Azure forgets them after a week.
    fn sweep(&self) -> Result<usize> {
        let bucket = Arc::clone(&self.bucket);
        runtime::run(None, async move { sweep::sweep(&bucket).await })
    }

    /// A presigned address, for `GET` only. Its lifetime is `lifetime`, or half of the
    /// [grace](Self::grace) if that is shorter: a download that begins in the last moment has the
    /// other half. S3 signs for seven days at most, and for no longer than temporary credentials
    /// are valid. Whoever has the address has the object: do not log it.
    fn link(&self, key: &BlobKey, lifetime: Duration) -> Result<Option<String>> {
        let path = self.bucket.location.blob(key)?;
        let lifetime = lifetime.min(self.bucket.options.grace / 2).min(MAX_LINK);
        if lifetime < Duration::from_secs(1) {
            return Err(Error::invalid("a link must be valid for at least a second"));
        }
        let bucket = Arc::clone(&self.bucket);
        runtime::run(None, async move {
            match bucket.sign(&path, lifetime, &[]).await {
                Ok(address) => Ok(Some(address)),
                // For example with an anonymous bucket, or a SAS.
                Err(failure) if failure.reason == Reason::Unsupported => Ok(None),
                Err(failure) => Err(bucket.error(failure, Verb::Sign, Some(&path))),
            }
        })
    }

    fn grace(&self) -> Duration {
        self.bucket.options.grace
    }

    fn check_identity(&self) -> Result<()> {
        let expected = self.id.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let bucket = Arc::clone(&self.bucket);
        let found = runtime::run(None, async move { identity::check(&bucket, expected.as_deref()).await })?;
        self.remember(&found);
        Ok(())
    }
}
