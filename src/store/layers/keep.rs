//! Keeping and using layers, for the clients of registries.

use super::{CachedLayer, LIFETIME_SECONDS, MIN_CHARGE, over_limit};
use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::{Fingerprint, Hasher};
use crate::io::{self as bytes, Blob, ReadAt};
use crate::omissions::Omitted;
use crate::progress::Monitor;
use crate::store::blobs::BlobKey;
use crate::store::open::Store;
use crate::store::scratch::StagedFile;

impl Store {
    /// Opens a kept layer, once its bytes were hashed and have the digest, and renews its lease. `None` where there is none.
    /// A layer that is damaged is dropped, and the monitor is told.
    ///
    /// # Errors
    /// `Cancelled`; those of the catalog.
    pub(crate) fn cached_layer(&self, digest: &Fingerprint, size: u64, monitor: &Monitor) -> Result<Option<Blob>> {
        let now = self.now();
        for layer in self.copies_of_layer(digest)? {
            if layer.lease_until <= now || layer.size != size {
                continue;
            }
            match self.verified_layer(&layer, digest, monitor) {
                Ok(blob) => {
                    self.renew(&layer, now)?;
                    return Ok(Some(blob));
                }
                Err(error) if error.kind() == ErrorKind::Cancelled => return Err(error),
                // Dropped by another process meanwhile.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                // It may be whole: the store can't be read now.
                Err(error) if error.kind() != ErrorKind::Mismatch => return Err(error),
                Err(error) => {
                    let reason = format!("its copy in the store can't be used, and was dropped: {}", error.message());
                    monitor.omit(format!("sha256:{digest}"), Omitted::Skipped { reason: reason.into() });
                    self.drop_layers(&[layer])?;
                }
            }
        }
        Ok(None)
    }

    /// Opens the object of a layer and hashes it.
    fn verified_layer(&self, layer: &CachedLayer, digest: &Fingerprint, monitor: &Monitor) -> Result<Blob> {
        let blob = self.blobs.open(&layer.key)?;
        if blob.len() != layer.size {
            return Err(Error::mismatch("its size in bytes", layer.size.to_string(), blob.len().to_string()));
        }
        let mut hasher = Hasher::new();
        let mut check = |_| monitor.check();
        bytes::read_all(&blob, "it can't be read", &mut check, &mut |bytes| {
            hasher.update(bytes);
            Ok(())
        })?;
        let found = hasher.finish();
        if found != *digest {
            return Err(Error::mismatch("its digest", digest.to_string(), found.to_string()));
        }
        Ok(blob)
    }

    /// Notes that a layer is used now, unless it was dropped meanwhile.
    fn renew(&self, layer: &CachedLayer, now: i64) -> Result<()> {
        let renewed = CachedLayer { lease_until: now.saturating_add(LIFETIME_SECONDS), ..layer.clone() };
        if renewed.lease_until <= layer.lease_until {
            return Ok(());
        }
        self.catalog.write(&mut |catalog| {
            let there = catalog.object(&layer.key)?.and_then(CachedLayer::of);
            // Another process may have renewed it.
            if there.is_some_and(|there| there.lease_until < renewed.lease_until) {
                catalog.put_object(&renewed.note())?;
            }
            Ok(())
        })
    }

    /// Keeps a layer whose bytes have this digest, as far as the caller could tell. Returns whether it fits into the limit.
    /// Call [`trim_layers`](Self::trim_layers) after the last one.
    ///
    /// # Errors
    /// Those of the blob store and the catalog. Nothing of it is left then.
    pub(crate) fn keep_layer(&self, digest: &Fingerprint, staged: &mut StagedFile, monitor: &Monitor) -> Result<bool> {
        let size = staged.len();
        if size.max(MIN_CHARGE) > self.layer_limit(size)? {
            return Ok(false);
        }
        let key = BlobKey::layer(digest);
        let note = self.uploading(key.clone(), digest, staged.holder());
        self.catalog.write(&mut |catalog| catalog.put_object(&note))?;
        let kept = self.blobs.put(&key, staged, monitor).and_then(|()| {
            let lease_until = self.now().saturating_add(LIFETIME_SECONDS);
            let layer = CachedLayer { key: key.clone(), digest: *digest, size, lease_until };
            self.catalog.write(&mut |catalog| {
                if catalog.object(&key)?.as_ref() != Some(&note) {
                    return Err(Error::new(
                        ErrorKind::Transient,
                        "the layer took longer than its lease, and was swept",
                    ));
                }
                catalog.put_object(&layer.note())
            })
        });
        if kept.is_err() {
            // Where even this fails, a later sweep finds the note.
            let _ = self.abandon(digest, &[key]);
        }
        kept.map(|()| true)
    }

    /// Drops the layers that are over the limit, the least recently used first, and second copies of one layer, which
    /// several downloads at once may leave.
    ///
    /// # Errors
    /// Those of the catalog.
    pub(crate) fn trim_layers(&self) -> Result<()> {
        let all = self.cached_layers()?;
        let bytes = all.iter().fold(0_u64, |sum, layer| sum.saturating_add(layer.size));
        let limit = self.layer_limit(bytes)?;
        self.drop_layers(&over_limit(all, limit)).map(drop)
    }

    /// The copies of one layer: one, except after downloads at the same time.
    fn copies_of_layer(&self, digest: &Fingerprint) -> Result<Vec<CachedLayer>> {
        let mut copies = Vec::new();
        self.for_each_note_of(digest, &mut |note| {
            copies.extend(CachedLayer::of(note));
            Ok(())
        })?;
        Ok(copies)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use std::io::{Read, Write};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicI64, Ordering};
    use std::time::Duration;

    use super::super::LayerTotals;
    use super::*;
    use crate::store::{CheckOptions, MemoryBlobs, MemoryCatalog, PruneOptions, Scratch, StoreOptions};

    /// A store in memory whose clock the test sets.
    fn store(limit: u64) -> (Store, Arc<AtomicI64>) {
        let time = Arc::new(AtomicI64::new(1_700_000_000));
        let clock = Arc::clone(&time);
        let limits = crate::Limits { layer_cache: limit, ..crate::Limits::default() };
        let options = StoreOptions::new().limits(limits).clock(move || clock.load(Ordering::Relaxed));
        let (blobs, catalog) = (Arc::new(MemoryBlobs::new()), Arc::new(MemoryCatalog::new()));
        (options.open_parts(blobs, catalog, Scratch::in_memory()), time)
    }

    fn keep(store: &Store, content: &[u8]) -> Fingerprint {
        let digest = Fingerprint::of(content);
        keep_as(store, &digest, content);
        digest
    }

    fn keep_as(store: &Store, digest: &Fingerprint, content: &[u8]) {
        let mut staged = store.scratch.create().unwrap();
        staged.write_all(content).unwrap();
        store.keep_layer(digest, &mut staged, &Monitor::none()).unwrap();
        store.trim_layers().unwrap();
    }

    fn read(store: &Store, digest: &Fingerprint, size: u64) -> Option<Vec<u8>> {
        let blob = store.cached_layer(digest, size, &Monitor::none()).unwrap()?;
        let mut all = Vec::new();
        blob.reader().read_to_end(&mut all).unwrap();
        Some(all)
    }

    fn blobs(store: &Store) -> usize {
        store.blobs.list(None, 1_000).unwrap().len()
    }

    #[test]
    fn layers_over_the_limit_go_when_a_store_is_opened() {
        let (blobs, catalog) = (Arc::new(MemoryBlobs::new()), Arc::new(MemoryCatalog::new()));
        let open = |limit| {
            let limits = crate::Limits { layer_cache: limit, ..crate::Limits::default() };
            let options = StoreOptions::new().limits(limits);
            options.open_parts(Arc::clone(&blobs) as _, Arc::clone(&catalog) as _, Scratch::in_memory())
        };
        let store = open(1 << 30);
        let (one, two) = (keep(&store, b"one"), keep(&store, b"two"));
        assert_eq!(open(2 * MIN_CHARGE).layers().unwrap().layers, 2);
        assert_eq!(open(MIN_CHARGE).layers().unwrap().layers, 1);
        let left = [one, two].iter().filter(|digest| read(&store, digest, 3).is_some()).count();
        assert_eq!(left, 1);
    }

    #[test]
    fn kept_layer_is_read_again() {
        let (store, _) = store(1 << 30);
        let digest = keep(&store, b"a layer");
        assert_eq!(read(&store, &digest, 7).unwrap(), b"a layer");
        assert_eq!(read(&store, &digest, 8), None, "another size is another blob");
        assert_eq!(store.layers().unwrap(), LayerTotals { layers: 1, bytes: 7 });
    }

    #[test]
    fn damaged_layer_is_dropped_and_told() {
        let (store, _) = store(1 << 30);
        let digest = Fingerprint::of(b"a layer");
        keep_as(&store, &digest, b"rotten!");
        let monitor = Monitor::none().nested();
        assert!(store.cached_layer(&digest, 7, &monitor).unwrap().is_none());
        assert_eq!(monitor.omissions().total(), 1);
        assert_eq!((store.layers().unwrap().layers, blobs(&store)), (0, 0));
    }

    #[test]
    fn second_copy_of_a_layer_is_dropped() {
        let (store, _) = store(1 << 30);
        let digest = keep(&store, b"a layer");
        assert_eq!(keep(&store, b"a layer"), digest);
        assert_eq!((store.layers().unwrap().layers, blobs(&store)), (1, 1));
        assert_eq!(read(&store, &digest, 7).unwrap(), b"a layer");
    }

    #[test]
    fn least_recently_used_layer_goes_first() {
        // Room for two.
        let (store, time) = store(2 * MIN_CHARGE);
        let one = keep(&store, b"one");
        time.fetch_add(1, Ordering::Relaxed);
        let two = keep(&store, b"two");
        time.fetch_add(1, Ordering::Relaxed);
        assert!(read(&store, &one, 3).is_some());
        time.fetch_add(1, Ordering::Relaxed);
        let three = keep(&store, b"3rd");
        assert!(read(&store, &one, 3).is_some() && read(&store, &three, 3).is_some());
        assert!(read(&store, &two, 3).is_none());
        assert_eq!(blobs(&store), 2);
    }

    #[test]
    fn layer_over_the_limit_is_not_kept() {
        let (store, _) = store(MIN_CHARGE - 1);
        keep(&store, b"a layer");
        assert_eq!((store.layers().unwrap().layers, blobs(&store)), (0, 0));
    }

    #[test]
    fn prune_removes_unused_layers_and_counts_their_bytes() {
        let (store, time) = store(1 << 30);
        keep(&store, b"a layer");
        time.fetch_add(60, Ordering::Relaxed);
        let used = keep(&store, b"another");
        let options = PruneOptions::unused_for(Duration::from_secs(60));
        let would = store.prune(&options.clone().dry_run(true), &Monitor::none()).unwrap();
        assert_eq!((would.layers, would.layer_bytes, would.bytes), (1, 7, 7));
        assert_eq!(store.layers().unwrap().layers, 2);
        let done = store.prune(&options, &Monitor::none()).unwrap();
        assert_eq!((done.layers, done.layer_bytes, done.bytes), (1, 7, 7));
        assert!(read(&store, &used, 7).is_some());
        assert_eq!(blobs(&store), 1);
    }

    #[test]
    fn lease_that_expired_lets_a_sweep_remove_the_layer() {
        let (store, time) = store(1 << 30);
        let digest = keep(&store, b"a layer");
        time.fetch_add(LIFETIME_SECONDS - 1, Ordering::Relaxed);
        store.sweep().unwrap();
        assert!(read(&store, &digest, 7).is_some(), "a use renews the lease");
        time.fetch_add(LIFETIME_SECONDS, Ordering::Relaxed);
        assert!(read(&store, &digest, 7).is_none());
        store.sweep().unwrap();
        assert_eq!(blobs(&store), 0);
    }

    #[test]
    fn check_does_not_call_a_layer_damage() {
        let (store, _) = store(1 << 30);
        let digest = keep(&store, b"a layer");
        assert!(store.check(&CheckOptions::new(), &Monitor::none()).unwrap().is_clean());
        assert!(store.check(&CheckOptions::new().repair(true), &Monitor::none()).unwrap().is_clean());
        assert!(read(&store, &digest, 7).is_some());
    }

    #[test]
    fn repair_removes_a_layer_without_a_note() {
        let (store, _) = store(1 << 30);
        keep(&store, b"a layer");
        let key = store.blobs.list(None, 1).unwrap().remove(0);
        store.catalog.write(&mut |catalog| catalog.remove_object(&key)).unwrap();
        assert!(store.check(&CheckOptions::new(), &Monitor::none()).unwrap().is_clean());
        assert!(store.check(&CheckOptions::new().repair(true), &Monitor::none()).unwrap().is_clean());
        assert_eq!(blobs(&store), 0);
    }

    #[test]
    fn cancelled_keeping_leaves_no_object() {
        let (store, _) = store(1 << 30);
        let cancel = crate::progress::Cancel::new();
        cancel.cancel();
        let mut staged = store.scratch.create().unwrap();
        staged.write_all(b"a layer").unwrap();
        let monitor = Monitor::none().with_cancel(cancel);
        store.keep_layer(&Fingerprint::of(b"a layer"), &mut staged, &monitor).unwrap_err();
        assert_eq!((store.layers().unwrap().layers, blobs(&store)), (0, 0));
        assert!(store.catalog.objects(None, 10).unwrap().is_empty());
    }
}
