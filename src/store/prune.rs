//! Pruning: cached images that nobody used for a while, or whose time is over, are removed.
//! Images that were put in the store on purpose never are.

use std::time::Duration;

use super::catalog::ImageQuery;
use super::image::StoredImage;
use super::open::Store;
use crate::error::Result;
use crate::fingerprint::Fingerprint;

/// Which cached images go.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PrunePolicy {
    unused_for: Duration,
    most: Option<u64>,
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
        Self { unused_for: duration, most: None, dry_run: false }
    }

    /// How many bytes cached images may have in all. Where they have more, those that were not used for longest go, but for
    /// the last one.
    #[must_use]
    pub const fn most(mut self, bytes: u64) -> Self {
        self.most = Some(bytes);
        self
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
        let unused = now.saturating_sub(last_use(image)).max(0);
        let most = self.unused_for.as_secs();
        (most > 0 && unused.unsigned_abs() >= most).then_some(Removed::Unused)
    }

    /// Of cached images those that must go so that the others have no more than they may.
    fn for_room(&self, mut images: Vec<StoredImage>) -> Vec<StoredImage> {
        let Some(most) = self.most else { return Vec::new() };
        images.sort_by_key(|image| (last_use(image), image.fingerprint));
        let mut bytes = images.iter().fold(0_u64, |bytes, image| bytes.saturating_add(image.size));
        let mut going = 0;
        for image in images.iter().take(images.len().saturating_sub(1)) {
            if bytes <= most {
                break;
            }
            bytes = bytes.saturating_sub(image.size);
            going += 1;
        }
        images.truncate(going);
        images
    }
}

/// When an image was last of use, in seconds since 1970.
fn last_use(image: &StoredImage) -> i64 {
    image.last_used_at.unwrap_or(image.uploaded_at)
}

/// Why an image was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Removed {
    /// Its expiry date is over.
    Expired,
    /// It was not used for too long.
    Unused,
    /// Cached images had too many bytes in all, and others were used later.
    Room,
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

impl Pruned {
    fn add(&mut self, removed: Vec<(StoredImage, Removed)>) {
        self.bytes = removed.iter().fold(self.bytes, |bytes, (image, _)| bytes.saturating_add(image.size));
        self.images.extend(removed);
    }
}

impl Store {
    /// Removes the cached images that the policy names.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use lxd_image::store::{PrunePolicy, StoreOptions};
    ///
    /// # fn main() -> lxd_image::Result<()> {
    /// # let dir = std::env::temp_dir().join(format!("lxd-image-prune-{}", std::process::id()));
    /// let store = StoreOptions::new().open(&dir)?;
    /// // Not used for a month, past their expiry date, or more than 20 GB in all.
    /// let policy = PrunePolicy::unused_for(Duration::from_secs(30 * 24 * 60 * 60)).most(20_000_000_000);
    /// let would = store.prune(&policy.clone().dry_run(true))?;
    /// for (image, why) in &would.images {
    ///     println!("{}: {why:?}", image.fingerprint);
    /// }
    /// let done = store.prune(&policy)?;
    /// assert_eq!(done.bytes, would.bytes);
    /// # std::fs::remove_dir_all(&dir)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Malformed` when the catalog is damaged or the blobs are not there, `Busy`, `Io`. What was
    /// removed before stays so.
    pub fn prune(&self, policy: &PrunePolicy) -> Result<Pruned> {
        self.blobs.check_identity()?;
        let now = self.now();
        let mut pruned = Pruned::default();
        let mut candidates = Vec::new();
        let mut kept = Vec::new();
        self.for_all(&ImageQuery::new().cached(true), &mut |image| {
            match policy.reason(&image, now) {
                Some(why) if policy.dry_run => {
                    pruned.bytes = pruned.bytes.saturating_add(image.size);
                    pruned.images.push((image, why));
                }
                Some(_) => candidates.push(image.fingerprint),
                None => kept.push(image),
            }
            Ok(())
        })?;
        let for_room = policy.for_room(kept);
        if policy.dry_run {
            pruned.bytes = for_room.iter().fold(pruned.bytes, |bytes, image| bytes.saturating_add(image.size));
            pruned.images.extend(for_room.into_iter().map(|image| (image, Removed::Room)));
            return Ok(pruned);
        }
        // In lots, so that nobody waits for the lock until all is done.
        for lot in candidates.chunks(64) {
            pruned.add(self.remove_those(lot, &|image| policy.reason(image, now))?);
        }
        for lot in for_room.chunks(64) {
            let fingerprints: Vec<_> = lot.iter().map(|image| image.fingerprint).collect();
            let as_it_was = |image: &StoredImage| {
                let before = lot.iter().find(|before| before.fingerprint == image.fingerprint);
                before.is_some_and(|before| image.cached && last_use(image) == last_use(before))
            };
            let reason = |image: &StoredImage| as_it_was(image).then_some(Removed::Room);
            pruned.add(self.remove_those(&fingerprints, &reason)?);
        }
        Ok(pruned)
    }

    fn remove_those(
        &self,
        lot: &[Fingerprint],
        reason: &dyn Fn(&StoredImage) -> Option<Removed>,
    ) -> Result<Vec<(StoredImage, Removed)>> {
        let mut removed = Vec::new();
        self.change(&mut |catalog| {
            removed.clear();
            for fingerprint in lot {
                // Somebody may have used or copied it since the list was made.
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
