//! Counts the calls of a store's engines, with their failures and their time: what a server shows as metrics of its
//! backends.
//!
//! The counters are atomics without a lock. Bytes are counted where they are created; reads go through a
//! [`Blob`](crate::io::Blob) and are counted as responses.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::blobs::{BlobKey, BlobStore};
use super::catalog::{
    AliasPage, AliasQuery, Attachment, Catalog, ImagePage, ImageQuery, Object, Position, SharedRecords, Totals,
    Transaction,
};
use super::image::{Alias, AliasTarget, StoredImage};
use super::open::Store;
use super::scratch::StagedFile;
use crate::error::{ErrorKind, Result};
use crate::fingerprint::{Fingerprint, FingerprintPrefix};
use crate::format::ImageType;
use crate::io::Blob;
use crate::progress::Monitor;

/// The calls of both traits that are counted apart.
const CALLS: [&str; 12] = [
    "put",
    "open",
    "delete",
    "list_objects",
    "archive",
    "link",
    "read_image",
    "read_alias",
    "query",
    "read_object",
    "version",
    "write",
];
/// The kinds of failures that are counted apart.
const FAILURES: [&str; 4] = ["transient", "busy", "storage_full", "other"];

/// One of `CALLS`.
#[derive(Debug, Clone, Copy)]
enum Call {
    Put,
    Open,
    Delete,
    ListObjects,
    Archive,
    Link,
    ReadImage,
    ReadAlias,
    Query,
    ReadObject,
    Version,
    Write,
}

/// The counters of one kind of call.
#[derive(Debug, Default)]
struct CallCounters {
    calls: AtomicU64,
    failures: [AtomicU64; FAILURES.len()],
    microseconds: AtomicU64,
}

/// What is known of one kind of call to a backend since the server was started.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct CallFigures {
    pub(crate) call: &'static str,
    pub(crate) calls: u64,
    /// Kinds of failures with their numbers. That something is missing or there already is none.
    pub(crate) failures: [(&'static str, u64); FAILURES.len()],
    pub(crate) time: Duration,
}

/// The counters of one engine.
#[derive(Debug)]
pub(crate) struct BackendMetrics {
    /// The name of the engine.
    pub(crate) backend: &'static str,
    calls: [CallCounters; CALLS.len()],
    put_bytes: AtomicU64,
}

impl BackendMetrics {
    fn new(backend: &'static str) -> Self {
        Self { backend, calls: Default::default(), put_bytes: AtomicU64::new(0) }
    }

    /// The calls that there were.
    pub(crate) fn figures(&self) -> impl Iterator<Item = CallFigures> {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        CALLS
            .iter()
            .zip(&self.calls)
            .map(move |(call, counters)| CallFigures {
                call,
                calls: of(&counters.calls),
                failures: std::array::from_fn(|index| (FAILURES[index], of(&counters.failures[index]))),
                time: Duration::from_micros(of(&counters.microseconds)),
            })
            .filter(|figures| figures.calls > 0)
    }

    /// Bytes of objects that were created.
    pub(crate) fn put_bytes(&self) -> u64 {
        self.put_bytes.load(Ordering::Relaxed)
    }

    fn timed<T>(&self, call: Call, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let began = Instant::now();
        let done = work();
        let counters = &self.calls[call as usize];
        let microseconds = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        counters.microseconds.fetch_add(microseconds, Ordering::Relaxed);
        counters.calls.fetch_add(1, Ordering::Relaxed);
        if let Some(failure) = done.as_ref().err().and_then(|error| failure(error.kind())) {
            counters.failures[failure].fetch_add(1, Ordering::Relaxed);
        }
        done
    }
}

/// The index of a failure in `FAILURES`; `None` for an answer that is an error to the caller only.
fn failure(kind: ErrorKind) -> Option<usize> {
    match kind {
        ErrorKind::NotFound
        | ErrorKind::AlreadyExists
        | ErrorKind::Cancelled
        | ErrorKind::InvalidInput
        | ErrorKind::Ambiguous
        | ErrorKind::LimitExceeded
        | ErrorKind::Untrusted
        | ErrorKind::Mismatch => None,
        ErrorKind::Transient => Some(0),
        ErrorKind::Busy => Some(1),
        ErrorKind::StorageFull => Some(2),
        _ => Some(3),
    }
}

/// The counters of both engines of a store.
#[derive(Debug, Clone)]
pub(crate) struct StoreMetrics {
    pub(crate) blobs: Arc<BackendMetrics>,
    pub(crate) catalog: Arc<BackendMetrics>,
}

impl Store {
    /// The same store, with calls of its engines counted.
    pub(crate) fn observed(self) -> (Self, StoreMetrics) {
        let blobs = Arc::new(BackendMetrics::new(self.blobs.engine()));
        let catalog = Arc::new(BackendMetrics::new(self.catalog.engine()));
        let metrics = StoreMetrics { blobs: Arc::clone(&blobs), catalog: Arc::clone(&catalog) };
        let store = Self {
            blobs: Arc::new(ObservedBlobs { inner: self.blobs, metrics: blobs }),
            catalog: Arc::new(ObservedCatalog { inner: self.catalog, metrics: catalog }),
            ..self
        };
        (store, metrics)
    }
}

/// A blob store whose calls are counted.
struct ObservedBlobs {
    inner: Arc<dyn BlobStore>,
    metrics: Arc<BackendMetrics>,
}

impl BlobStore for ObservedBlobs {
    fn put(&self, key: &BlobKey, staged: &mut StagedFile, monitor: &Monitor) -> Result<()> {
        self.metrics.timed(Call::Put, || self.inner.put(key, staged, monitor))?;
        self.metrics.put_bytes.fetch_add(staged.len(), Ordering::Relaxed);
        Ok(())
    }

    fn open(&self, key: &BlobKey) -> Result<Blob> {
        self.metrics.timed(Call::Open, || self.inner.open(key))
    }

    fn delete(&self, keys: &[BlobKey]) -> Result<()> {
        self.metrics.timed(Call::Delete, || self.inner.delete(keys))
    }

    fn list(&self, after: Option<&BlobKey>, limit: usize) -> Result<Vec<BlobKey>> {
        self.metrics.timed(Call::ListObjects, || self.inner.list(after, limit))
    }

    fn archive(&self, keys: &[BlobKey]) -> Result<()> {
        self.metrics.timed(Call::Archive, || self.inner.archive(keys))
    }

    fn sweep(&self) -> Result<usize> {
        self.inner.sweep()
    }

    fn link(&self, key: &BlobKey, lifetime: Duration) -> Result<Option<String>> {
        self.metrics.timed(Call::Link, || self.inner.link(key, lifetime))
    }

    fn grace(&self) -> Duration {
        self.inner.grace()
    }

    fn check_identity(&self) -> Result<()> {
        self.inner.check_identity()
    }

    fn engine(&self) -> &'static str {
        self.inner.engine()
    }
}

/// A catalog whose calls are counted.
struct ObservedCatalog {
    inner: Arc<dyn Catalog>,
    metrics: Arc<BackendMetrics>,
}

impl Catalog for ObservedCatalog {
    fn image(&self, fingerprint: &Fingerprint) -> Result<Option<StoredImage>> {
        self.metrics.timed(Call::ReadImage, || self.inner.image(fingerprint))
    }

    fn alias(&self, name: &str, image_type: ImageType) -> Result<Option<(Alias, AliasTarget)>> {
        self.metrics.timed(Call::ReadAlias, || self.inner.alias(name, image_type))
    }

    fn aliases(&self, query: &AliasQuery) -> Result<AliasPage> {
        self.metrics.timed(Call::Query, || self.inner.aliases(query))
    }

    fn with_prefix(&self, prefix: &FingerprintPrefix, limit: usize) -> Result<Vec<Fingerprint>> {
        self.metrics.timed(Call::Query, || self.inner.with_prefix(prefix, limit))
    }

    fn images(&self, query: &ImageQuery) -> Result<ImagePage> {
        self.metrics.timed(Call::Query, || self.inner.images(query))
    }

    fn fingerprints(&self, query: &ImageQuery) -> Result<(Vec<Fingerprint>, Option<Position>)> {
        self.metrics.timed(Call::Query, || self.inner.fingerprints(query))
    }

    fn totals(&self, query: &ImageQuery) -> Result<Totals> {
        self.metrics.timed(Call::Query, || self.inner.totals(query))
    }

    fn version(&self) -> Result<Option<u64>> {
        self.metrics.timed(Call::Version, || self.inner.version())
    }

    fn now(&self) -> i64 {
        self.inner.now()
    }

    fn object(&self, key: &BlobKey) -> Result<Option<Object>> {
        self.metrics.timed(Call::ReadObject, || self.inner.object(key))
    }

    fn objects(&self, after: Option<&BlobKey>, limit: usize) -> Result<Vec<Object>> {
        self.metrics.timed(Call::ReadObject, || self.inner.objects(after, limit))
    }

    fn attachments(&self, fingerprint: &Fingerprint) -> Result<Vec<Attachment>> {
        self.metrics.timed(Call::ReadImage, || self.inner.attachments(fingerprint))
    }

    fn attached(&self, prefix: &str) -> Result<BTreeSet<Fingerprint>> {
        self.metrics.timed(Call::ReadImage, || self.inner.attached(prefix))
    }

    fn check(&self, monitor: &Monitor) -> Result<Vec<String>> {
        self.inner.check(monitor)
    }

    fn write(&self, work: &mut dyn FnMut(&mut dyn Transaction) -> Result<()>) -> Result<()> {
        self.metrics.timed(Call::Write, || self.inner.write(work))
    }

    fn shared_records(&self) -> Option<&dyn SharedRecords> {
        self.inner.shared_records()
    }

    fn engine(&self) -> &'static str {
        self.inner.engine()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;
    use crate::error::Error;

    #[test]
    fn failures_are_counted_by_kind_and_answers_are_none() {
        let metrics = BackendMetrics::new("some engine");
        for kind in [ErrorKind::Transient, ErrorKind::Io, ErrorKind::Io, ErrorKind::NotFound] {
            metrics.timed::<()>(Call::Open, || Err(Error::new(kind, "no"))).unwrap_err();
        }
        metrics.timed(Call::Open, || Ok(())).unwrap();
        let figures: Vec<_> = metrics.figures().collect();
        assert_eq!(figures.len(), 1);
        assert_eq!((figures[0].call, figures[0].calls), ("open", 5));
        assert_eq!(figures[0].failures, [("transient", 1), ("busy", 0), ("storage_full", 0), ("other", 2)]);
    }

    #[test]
    fn every_call_has_its_name() {
        for (call, name) in
            [(Call::Put, "put"), (Call::Link, "link"), (Call::ReadImage, "read_image"), (Call::Write, "write")]
        {
            assert_eq!(CALLS[call as usize], name);
        }
    }
}
