//! Pruning: removes cached images that expired, were not used for a while, or exceed the quota of the cache, and layers
//! of container images that were not used for a while. Images that were imported on purpose are never pruned.

use std::time::Duration;

use super::catalog::ImageQuery;
use super::image::StoredImage;
use super::layers::LayerTotals;
use super::open::Store;
use crate::error::Result;
use crate::fingerprint::Fingerprint;
use crate::progress::Monitor;

/// How many images one transaction removes.
const BATCH: usize = 64;

/// Which cached images [`Store::prune`] removes.
///
/// Images that were imported on purpose are never removed, whatever these options say; only those
/// with [`StoredImage::cached`](super::StoredImage) set are candidates. Three rules apply, in this
/// order: an expiry date that has passed, a time without use ([`unused_for`](Self::unused_for)),
/// and a quota for all that remain ([`max_bytes`](Self::max_bytes)).
///
/// Layers of container images that the store keeps go by the time without use, and are bounded by
/// [`Limits::layer_cache`](crate::Limits::layer_cache); the quota is for images.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PruneOptions {
    unused_for: Duration,
    max_bytes: Option<u64>,
    dry_run: bool,
}

impl Default for PruneOptions {
    /// Removes images that were not used for 10 days, the default of LXD's
    /// `images.remote_cache_expiry`, and has no quota.
    fn default() -> Self {
        Self::unused_for(Duration::from_secs(10 * 24 * 60 * 60))
    }
}

impl PruneOptions {
    /// Removes images that were not used for `duration`; zero removes only those past their expiry date.
    #[must_use]
    pub const fn unused_for(duration: Duration) -> Self {
        Self { unused_for: duration, max_bytes: None, dry_run: false }
    }

    /// Sets a quota for all cached images together, in bytes of their files.
    ///
    /// Over it, the least recently used images are evicted first. The most recently used one always
    /// stays, even if it alone is larger than the quota: evicting it would only fetch it again.
    #[must_use]
    pub const fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = Some(bytes);
        self
    }

    /// Reports what would be removed, and removes nothing.
    #[must_use]
    pub const fn dry_run(mut self, yes: bool) -> Self {
        self.dry_run = yes;
        self
    }

    /// Why `image` is to be removed at `now` (seconds since 1970), leaving the quota aside; `None` if it stays.
    fn reason(&self, image: &StoredImage, now: i64) -> Option<Removed> {
        if !image.cached {
            return None;
        }
        if image.expires_at.is_some_and(|date| date <= now) {
            return Some(Removed::Expired);
        }
        // After the clock was set back the last use may lie in the future: that counts as just used.
        let unused = now.saturating_sub(last_use(image)).max(0);
        let max_unused = self.unused_for.as_secs();
        (max_unused > 0 && unused.unsigned_abs() >= max_unused).then_some(Removed::Unused)
    }

    /// The images to evict so that the rest fits into the quota, the least recently used first.
    fn over_quota(&self, mut images: Vec<StoredImage>) -> Vec<StoredImage> {
        let Some(quota) = self.max_bytes else { return Vec::new() };
        images.sort_by_key(|image| (last_use(image), image.fingerprint));
        let mut bytes = images.iter().fold(0_u64, |bytes, image| bytes.saturating_add(image.size));
        let mut evicted = 0;
        for image in images.iter().take(images.len().saturating_sub(1)) {
            if bytes <= quota {
                break;
            }
            bytes = bytes.saturating_sub(image.size);
            evicted += 1;
        }
        images.truncate(evicted);
        images
    }
}

/// When an image was last used, in seconds since 1970; an image that was never used counts from its upload.
fn last_use(image: &StoredImage) -> i64 {
    image.last_used_at.unwrap_or(image.uploaded_at)
}

/// Why an image was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Removed {
    /// Its expiry date has passed.
    Expired,
    /// It was not used for [`PruneOptions::unused_for`].
    Unused,
    /// The cached images were over [`PruneOptions::max_bytes`], and it was among the least recently used.
    Evicted,
}

/// What [`Store::prune`] removed, or would remove in a dry run.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Pruned {
    /// The images, each with the rule that removed it.
    pub images: Vec<(StoredImage, Removed)>,
    /// The sizes of their files and of the layers added up, in bytes.
    pub bytes: u64,
    /// How many layers of container images were removed.
    pub layers: u64,
    /// The sizes of these layers added up, in bytes.
    pub layer_bytes: u64,
}

impl Pruned {
    fn add(&mut self, removed: Vec<(StoredImage, Removed)>) {
        self.bytes = removed.iter().fold(self.bytes, |bytes, (image, _)| bytes.saturating_add(image.size));
        self.images.extend(removed);
    }

    fn add_layers(&mut self, removed: LayerTotals) {
        self.layers = removed.layers;
        self.layer_bytes = removed.bytes;
        self.bytes = self.bytes.saturating_add(removed.bytes);
    }
}

impl Store {
    /// Removes the cached images and the layers that `options` select, and reports them.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use lxd_image::Monitor;
    /// use lxd_image::store::{PruneOptions, StoreOptions};
    ///
    /// # fn main() -> lxd_image::Result<()> {
    /// # let dir = std::env::temp_dir().join(format!("lxd-image-prune-{}", std::process::id()));
    /// let store = StoreOptions::new().open(&dir)?;
    /// // Not used for a month, past their expiry date, or more than 20 GB in all.
    /// let options = PruneOptions::unused_for(Duration::from_secs(30 * 24 * 60 * 60)).max_bytes(20_000_000_000);
    /// let would = store.prune(&options.clone().dry_run(true), &Monitor::none())?;
    /// for (image, why) in &would.images {
    ///     println!("{}: {why:?}", image.fingerprint);
    /// }
    /// let done = store.prune(&options, &Monitor::none())?;
    /// assert_eq!(done.bytes, would.bytes);
    /// # std::fs::remove_dir_all(&dir)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Malformed` if the catalog is damaged or the blobs are missing; `Busy`; `Cancelled`; `Io`. Images that
    /// were removed before the error stay removed.
    pub fn prune(&self, options: &PruneOptions, monitor: &Monitor) -> Result<Pruned> {
        monitor.check()?;
        self.blobs.check_identity()?;
        let now = self.now();
        let mut pruned = Pruned::default();
        let mut candidates = Vec::new();
        let mut kept = Vec::new();
        self.for_all(&ImageQuery::new().cached(true), &mut |image| {
            match options.reason(&image, now) {
                Some(why) if options.dry_run => {
                    pruned.bytes = pruned.bytes.saturating_add(image.size);
                    pruned.images.push((image, why));
                }
                Some(_) => candidates.push(image.fingerprint),
                None => kept.push(image),
            }
            Ok(())
        })?;
        let over_quota = options.over_quota(kept);
        let layers = self.layers_to_prune(options.unused_for.as_secs(), now)?;
        if options.dry_run {
            pruned.bytes = over_quota.iter().fold(pruned.bytes, |bytes, image| bytes.saturating_add(image.size));
            pruned.images.extend(over_quota.into_iter().map(|image| (image, Removed::Evicted)));
            let mut totals = LayerTotals::default();
            layers.iter().for_each(|layer| totals.add(layer));
            pruned.add_layers(totals);
            return Ok(pruned);
        }
        // In batches: one transaction holds the catalog's write lock, and other writers must get a turn.
        for batch in candidates.chunks(BATCH) {
            monitor.check()?;
            pruned.add(self.remove_batch(batch, &|image| options.reason(image, now))?);
        }
        for batch in over_quota.chunks(BATCH) {
            monitor.check()?;
            let fingerprints: Vec<_> = batch.iter().map(|image| image.fingerprint).collect();
            // An image that was used since the quota was computed is no longer among the least recently used.
            let unused_since = |image: &StoredImage| {
                let listed = batch.iter().find(|listed| listed.fingerprint == image.fingerprint);
                listed.is_some_and(|listed| image.cached && last_use(image) == last_use(listed))
            };
            let reason = |image: &StoredImage| unused_since(image).then_some(Removed::Evicted);
            pruned.add(self.remove_batch(&fingerprints, &reason)?);
        }
        monitor.check()?;
        pruned.add_layers(self.drop_layers(&layers)?);
        Ok(pruned)
    }

    /// Removes those of `batch` that still have a `reason` inside the transaction that deletes their rows.
    fn remove_batch(
        &self,
        batch: &[Fingerprint],
        reason: &dyn Fn(&StoredImage) -> Option<Removed>,
    ) -> Result<Vec<(StoredImage, Removed)>> {
        let mut removed = Vec::new();
        self.change(&mut |catalog| {
            removed.clear();
            for fingerprint in batch {
                // It may have been used, published or deleted since the list was made: only the row decides.
                let Some(image) = catalog.image(fingerprint)? else { continue };
                let Some(why) = reason(&image) else { continue };
                self.remove_image(catalog, &image)?;
                removed.push((image, why));
            }
            Ok(())
        })?;
        Ok(removed)
    }
}
