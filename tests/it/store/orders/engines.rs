//! Blobs and a catalog in memory whose every call is a step of the scheduler.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use lxd_image::io::{Blob, ReadAt, Version};
use lxd_image::metadata::ImageType;
use lxd_image::store::{
    Alias, AliasPage, AliasQuery, AliasTarget, Attachment, BlobKey, BlobStore, Catalog, ImagePage, ImageQuery,
    MemoryBlobs, MemoryCatalog, Object, Position, StagedFile, StoredImage, Totals, Transaction,
};
use lxd_image::{Fingerprint, FingerprintPrefix, Monitor, Result};

use super::schedule::Scheduler;

/// What all machines share.
#[derive(Clone, Default)]
pub(crate) struct Shared {
    pub(crate) blobs: Arc<MemoryBlobs>,
    pub(crate) catalog: Arc<MemoryCatalog>,
}

impl Shared {
    /// Promise 2: no row names an object that is not there.
    pub(crate) fn missing(&self) -> Option<String> {
        let images = self.catalog.images(&ImageQuery::new()).unwrap().images;
        let keys = images.iter().flat_map(|image| image.objects.keys().map(move |key| (image.fingerprint, key)));
        let mut missing = keys.filter(|(_, key)| self.blobs.open(key).is_err());
        missing.next().map(|(fingerprint, key)| format!("the row of {fingerprint} names {key}, which is gone"))
    }

    /// Looks after a step: so the first step that breaks the promise is found.
    fn audit(&self, scheduler: &Scheduler) {
        if let Some(missing) = self.missing() {
            scheduler.violated(&missing);
        }
    }
}

/// The blobs of all machines. With a grace they behave as a bucket: what is deleted can't be read on.
pub(crate) struct SteppedBlobs {
    pub(crate) scheduler: Arc<Scheduler>,
    pub(crate) shared: Shared,
    pub(crate) grace: Duration,
}

impl BlobStore for SteppedBlobs {
    fn put(&self, key: &BlobKey, staged: &mut StagedFile, monitor: &Monitor) -> Result<()> {
        self.scheduler.step("put", true, || self.shared.blobs.put(key, staged, monitor))
    }

    fn open(&self, key: &BlobKey) -> Result<Blob> {
        let blob = self.scheduler.step("open", false, || self.shared.blobs.open(key))?;
        if self.grace.is_zero() {
            return Ok(blob);
        }
        let (scheduler, inner) = (Arc::clone(&self.scheduler), Arc::clone(&self.shared.blobs));
        Ok(Blob::new(Remote { scheduler, inner, key: key.clone(), length: blob.len() }))
    }

    fn delete(&self, keys: &[BlobKey]) -> Result<()> {
        let done = self.scheduler.step("delete", true, || self.shared.blobs.delete(keys));
        self.shared.audit(&self.scheduler);
        done
    }

    fn list(&self, after: Option<&BlobKey>, limit: usize) -> Result<Vec<BlobKey>> {
        self.scheduler.step("list", false, || self.shared.blobs.list(after, limit))
    }

    fn archive(&self, keys: &[BlobKey]) -> Result<()> {
        self.scheduler.step("archive", true, || self.shared.blobs.archive(keys))
    }

    fn grace(&self) -> Duration {
        self.grace
    }
}

/// An object that each read asks for anew.
struct Remote {
    scheduler: Arc<Scheduler>,
    inner: Arc<MemoryBlobs>,
    key: BlobKey,
    length: u64,
}

impl ReadAt for Remote {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        if offset >= self.length {
            return Ok(0);
        }
        let read = || {
            let blob = self.inner.open(&self.key)?;
            Ok(blob.read_at(buffer, offset)?)
        };
        self.scheduler.step("read", false, read).map_err(io::Error::other)
    }

    fn len(&self) -> u64 {
        self.length
    }

    fn version(&self) -> io::Result<Option<Version>> {
        Ok(Some(Version::new(self.key.as_str())))
    }
}

/// The catalog of all machines. A transaction is one step: others never see its middle.
pub(crate) struct SteppedCatalog {
    pub(crate) scheduler: Arc<Scheduler>,
    pub(crate) shared: Shared,
}

impl SteppedCatalog {
    fn read<T>(&self, name: &'static str, work: impl FnOnce(&MemoryCatalog) -> Result<T>) -> Result<T> {
        self.scheduler.step(name, false, || work(&self.shared.catalog))
    }
}

impl Catalog for SteppedCatalog {
    fn image(&self, fingerprint: &Fingerprint) -> Result<Option<StoredImage>> {
        self.read("image", |rows| rows.image(fingerprint))
    }

    fn alias(&self, name: &str, image_type: ImageType) -> Result<Option<(Alias, AliasTarget)>> {
        self.read("alias", |rows| rows.alias(name, image_type))
    }

    fn aliases(&self, query: &AliasQuery) -> Result<AliasPage> {
        self.read("aliases", |rows| rows.aliases(query))
    }

    fn with_prefix(&self, prefix: &FingerprintPrefix, limit: usize) -> Result<Vec<Fingerprint>> {
        self.read("prefix", |rows| rows.with_prefix(prefix, limit))
    }

    fn images(&self, query: &ImageQuery) -> Result<ImagePage> {
        self.read("images", |rows| rows.images(query))
    }

    fn fingerprints(&self, query: &ImageQuery) -> Result<(Vec<Fingerprint>, Option<Position>)> {
        self.read("fingerprints", |rows| rows.fingerprints(query))
    }

    fn totals(&self, query: &ImageQuery) -> Result<Totals> {
        self.read("totals", |rows| rows.totals(query))
    }

    fn object(&self, key: &BlobKey) -> Result<Option<Object>> {
        self.read("object", |rows| rows.object(key))
    }

    fn objects(&self, after: Option<&BlobKey>, limit: usize) -> Result<Vec<Object>> {
        self.read("objects", |rows| rows.objects(after, limit))
    }

    fn attachments(&self, fingerprint: &Fingerprint) -> Result<Vec<Attachment>> {
        self.read("attachments", |rows| rows.attachments(fingerprint))
    }

    fn attached(&self, prefix: &str) -> Result<BTreeSet<Fingerprint>> {
        self.read("attached", |rows| rows.attached(prefix))
    }

    fn check(&self, monitor: &Monitor) -> Result<Vec<String>> {
        // Memory is never damaged: no step, so that there are fewer orders.
        self.shared.catalog.check(monitor)
    }

    fn write(&self, work: &mut dyn FnMut(&mut dyn Transaction) -> Result<()>) -> Result<()> {
        let done = self.scheduler.step("write", true, || self.shared.catalog.write(work));
        self.shared.audit(&self.scheduler);
        done
    }
}
