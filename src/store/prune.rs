//! Pruning: cached images that nobody used for a while, or whose time is over, are removed.
//! Images that were put in the store on purpose never are.

use std::time::Duration;

use super::image::StoredImage;
use super::open::Store;
use crate::error::Result;
use crate::fingerprint::Fingerprint;

/// Which cached images go.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PrunePolicy {
    unused_for: Duration,
    dry_run: bool,
}

impl Default for PrunePolicy {
    /// Those that were not used for 10 days, which is what LXD does.
    fn default() -> Self {
        Self::unused_for(Duration::from_secs(10 * 24 * 60 * 60))
    }
}

impl PrunePolicy {
    /// Those that were not used for so long; with zero, only those past their expiry date.
    #[must_use]
    pub const fn unused_for(duration: Duration) -> Self {
        Self { unused_for: duration, dry_run: false }
    }

    /// Whether nothing is removed, and what would be is returned.
    #[must_use]
    pub const fn dry_run(mut self, yes: bool) -> Self {
        self.dry_run = yes;
        self
    }

    fn reason(&self, image: &StoredImage, now: i64) -> Option<Removed> {
        if !image.cached {
            return None;
        }
        if image.expires_at.is_some_and(|date| date <= now) {
            return Some(Removed::Expired);
        }
        // A clock that went back makes the time since the last use negative: then it is none.
        let unused = now.saturating_sub(image.last_used_at.unwrap_or(image.uploaded_at)).max(0);
        let most = self.unused_for.as_secs();
        (most > 0 && unused.unsigned_abs() >= most).then_some(Removed::Unused)
    }
}

/// Why an image was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Removed {
    /// Its expiry date is over.
    Expired,
    /// It was not used for too long.
    Unused,
}

/// What a pruning removed, or would remove.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Pruned {
    /// The images, and why each had to go.
    pub images: Vec<(StoredImage, Removed)>,
    /// The bytes of their files.
    pub bytes: u64,
}

impl Store {
    /// Removes the cached images that the policy names.
    ///
    /// # Errors
    /// `Malformed` when the catalog is damaged or the blobs are not there, `Busy`, `Io`. What was
    /// removed before stays so.
    pub fn prune(&self, policy: &PrunePolicy) -> Result<Pruned> {
        self.blobs.present()?;
        let now = self.now();
        let mut pruned = Pruned::default();
        let mut candidates = Vec::new();
        for image in self.catalog.cached_images()? {
            match policy.reason(&image, now) {
                Some(why) if policy.dry_run => {
                    pruned.bytes = pruned.bytes.saturating_add(image.size);
                    pruned.images.push((image, why));
                }
                Some(_) => candidates.push(image.fingerprint),
                None => {}
            }
        }
        // In lots, so that nobody waits for the lock until all is done.
        for lot in candidates.chunks(64) {
            let removed = self.remove_those(lot, policy, now)?;
            for (image, why) in removed {
                pruned.bytes = pruned.bytes.saturating_add(image.size);
                pruned.images.push((image, why));
            }
        }
        Ok(pruned)
    }

    fn remove_those(&self, lot: &[Fingerprint], policy: &PrunePolicy, now: i64) -> Result<Vec<(StoredImage, Removed)>> {
        let mut removed = Vec::new();
        self.change_to_free(&mut |catalog| {
            removed.clear();
            for fingerprint in lot {
                // Somebody may have used or copied it since the list was made.
                let Some(image) = catalog.image(fingerprint)? else { continue };
                let Some(why) = policy.reason(&image, now) else { continue };
                catalog.remove(fingerprint)?;
                catalog.set_unsettled(fingerprint, true)?;
                removed.push((image, why));
            }
            Ok(())
        })?;
        Ok(removed)
    }
}
