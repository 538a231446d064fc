//! Layers of container images, kept by their digest, so that a second image of one base downloads only its own layers.
//!
//! A kept layer is an object that no row names, and its note says so: a catalog needs no table for it, and a layer that
//! nobody uses is swept as any abandoned upload, once its lease has expired. Each use renews the lease.
//!
//! | note | key | holder |
//! |---|---|---|
//! | a layer that arrives | `DIGEST.RANDOM.layer` | the staged file, as for every upload |
//! | a layer that is there | `DIGEST.RANDOM.layer` | `layer/BYTES` |
//!
//! It is a cache: losing a layer costs a download, so nothing here is repaired, and a layer is hashed again before it is
//! used. All together are bounded by [`Limits::layer_cache`](crate::Limits::layer_cache); the least recently used go first.

#[cfg(feature = "remote")]
mod keep;

use std::cmp::Reverse;
use std::collections::BTreeSet;

use super::blobs::BlobKey;
use super::catalog::{Object, ObjectState};
use super::open::Store;
use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::Fingerprint;

/// How long a layer is kept after its last use, in seconds: as long as `prune` keeps cached images by default.
const LIFETIME_SECONDS: i64 = 10 * 24 * 60 * 60;
/// Notes of one transaction.
const BATCH: usize = 64;
/// What a layer counts for at least towards the limit, in bytes. It bounds the number of notes, which every change of a
/// store reads.
const MIN_CHARGE: u64 = 4 << 20;

/// The layers of container images that a store keeps; see [`Store::layers`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LayerTotals {
    /// How many layers there are.
    pub layers: u64,
    /// Their sizes added up, in bytes, as they came from the registry.
    pub bytes: u64,
}

impl LayerTotals {
    /// Counts one more layer.
    pub(super) fn add(&mut self, layer: &CachedLayer) {
        self.layers = self.layers.saturating_add(1);
        self.bytes = self.bytes.saturating_add(layer.size);
    }
}

/// A layer that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CachedLayer {
    key: BlobKey,
    digest: Fingerprint,
    size: u64,
    lease_until: i64,
}

impl CachedLayer {
    /// The layer that a note describes; `None` for another kind of note.
    fn of(note: Object) -> Option<Self> {
        let ObjectState::Uploading { holder, lease_until } = note.state else { return None };
        let size = holder.strip_prefix("layer/")?.parse().ok()?;
        Some(Self { key: note.key, digest: note.fingerprint, size, lease_until })
    }

    /// Whether a note is one of a layer.
    pub(super) fn is_one(note: &Object) -> bool {
        matches!(&note.state, ObjectState::Uploading { holder, .. } if holder.starts_with("layer/"))
    }

    fn note(&self) -> Object {
        let holder = format!("layer/{}", self.size);
        let state = ObjectState::Uploading { holder, lease_until: self.lease_until };
        Object::new(self.key.clone(), self.digest, state)
    }

    /// When it was last used, in seconds since 1970.
    pub(super) fn last_use(&self) -> i64 {
        self.lease_until.saturating_sub(LIFETIME_SECONDS)
    }
}

impl Store {
    /// Counts the layers of container images that the store keeps, so that images with the same layers need not download
    /// them again. They go when they were not used for ten days, by [`prune`](Self::prune), and when there are more than
    /// [`Limits::layer_cache`](crate::Limits::layer_cache) allows.
    ///
    /// ```
    /// use lxd_image::store::Store;
    ///
    /// assert_eq!(Store::in_memory()?.layers()?.bytes, 0);
    /// # Ok::<(), lxd_image::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of the catalog.
    pub fn layers(&self) -> Result<LayerTotals> {
        let mut totals = LayerTotals::default();
        self.cached_layers()?.iter().for_each(|layer| totals.add(layer));
        Ok(totals)
    }

    /// The layers that a pruning at `now` removes: those without use for `unused_for` seconds (zero: any time), those whose
    /// lease has expired, and those over the limit.
    pub(super) fn layers_to_prune(&self, unused_for: u64, now: i64) -> Result<Vec<CachedLayer>> {
        let is_unused = |layer: &CachedLayer| {
            // After the clock was set back the last use may lie in the future: that counts as just used.
            let unused = now.saturating_sub(layer.last_use()).max(0);
            layer.lease_until <= now || unused_for > 0 && unused.unsigned_abs() >= unused_for
        };
        let (mut unused, rest): (Vec<_>, Vec<_>) = self.cached_layers()?.into_iter().partition(is_unused);
        unused.extend(over_limit(rest, self.options.limits.layer_cache));
        Ok(unused)
    }

    /// The layers among notes that a store should not have when it is opened: those over the limit, and second copies. A
    /// process that was killed between keeping and trimming leaves them.
    pub(super) fn layers_over_limit(&self, notes: Vec<Object>) -> Result<Vec<CachedLayer>> {
        let all: Vec<CachedLayer> = notes.into_iter().filter_map(CachedLayer::of).collect();
        if all.is_empty() {
            return Ok(all);
        }
        let bytes = all.iter().fold(0_u64, |sum, layer| sum.saturating_add(layer.size));
        Ok(over_limit(all, self.layer_limit(bytes)?))
    }

    /// The bytes that layers may take together: the limit, and at most a quarter of the disk's free space, with the
    /// `bytes` that they have of it. A cache must not keep images out.
    fn layer_limit(&self, bytes: u64) -> Result<u64> {
        let limit = self.options.limits.layer_cache;
        if self.blobs.engine() != "directory" {
            // Scratch tells nothing of the room that a bucket has.
            return Ok(limit);
        }
        Ok(self.scratch.space()?.map_or(limit, |free| limit.min(free.saturating_add(bytes) / 4)))
    }

    /// Drops all layers, and parts of them, where an import failed because the disk is full, and returns what they took. It is the import's
    /// error that counts: where this fails too, nothing was dropped.
    pub(super) fn drop_layers_for_room(&self, error: &Error) -> LayerTotals {
        // The directory for temporary files may be on another disk, and its error names it.
        if error.kind() != ErrorKind::StorageFull || error.file() == Some(&*std::env::temp_dir()) {
            return LayerTotals::default();
        }
        let mut dropped = self.cached_layers().and_then(|all| self.drop_layers(&all)).unwrap_or_default();
        let (parts, bytes) = self.scratch.drop_parts().unwrap_or_default();
        dropped.layers = dropped.layers.saturating_add(parts);
        dropped.bytes = dropped.bytes.saturating_add(bytes);
        dropped
    }

    /// Marks layers as dead that are as they were read, and deletes them. Returns what was dropped.
    pub(super) fn drop_layers(&self, layers: &[CachedLayer]) -> Result<LayerTotals> {
        let mut dropped = LayerTotals::default();
        for batch in layers.chunks(BATCH) {
            let mut gone = dropped;
            self.catalog.write(&mut |catalog| {
                gone = dropped;
                for layer in batch {
                    // Somebody may have used it since.
                    if catalog.object(&layer.key)? == Some(layer.note()) {
                        catalog.put_object(&self.dead(&layer.key, &layer.digest))?;
                        gone.add(layer);
                    }
                }
                Ok(())
            })?;
            dropped = gone;
        }
        if !layers.is_empty() {
            // The notes of what can't be deleted now remain for a later sweep.
            let _ = self.reconcile();
        }
        Ok(dropped)
    }

    /// All layers that are kept. The limit bounds their number.
    fn cached_layers(&self) -> Result<Vec<CachedLayer>> {
        let mut all = Vec::new();
        self.for_each_note(&mut |note| {
            all.extend(CachedLayer::of(note));
            Ok(())
        })?;
        Ok(all)
    }
}

/// Those of all layers that have to go so that the rest fits, and second copies.
fn over_limit(mut all: Vec<CachedLayer>, limit: u64) -> Vec<CachedLayer> {
    all.sort_by(|one, other| (Reverse(one.lease_until), &one.key).cmp(&(Reverse(other.lease_until), &other.key)));
    let mut seen = BTreeSet::new();
    let mut bytes = 0_u64;
    all.retain(|layer| {
        if !seen.insert(layer.digest) {
            return true;
        }
        bytes = bytes.saturating_add(layer.size.max(MIN_CHARGE));
        bytes > limit
    });
    all
}
