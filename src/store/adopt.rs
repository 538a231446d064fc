//! Adopting: applies import options to an image that is in the store already, without reading its bytes.
//!
//! Also removes images that lose their last alias to another one, if the caller asked for that
//! ([`ImportOptions::replace_images`]).

use super::catalog::Transaction;
use super::image::{Alias, StoredImage};
use super::import::{ImportOptions, give_aliases};
use super::open::{Store, missing};
use super::reconcile::note_sidecar;
use crate::error::Result;
use crate::fingerprint::Fingerprint;
use crate::omissions::Omitted;
use crate::progress::Monitor;

/// An image that was removed because another one took its last alias, and that alias.
pub(crate) type Replaced = (Fingerprint, String);

impl StoredImage {
    /// Whether its property `keep` (`true`, `yes`, `on` or `1`) protects it from [`ImportOptions::replace_images`].
    #[must_use]
    pub fn is_kept(&self) -> bool {
        let mark = self.properties.get("keep").unwrap_or_default().to_lowercase();
        matches!(&*mark, "true" | "yes" | "on" | "1")
    }
}

impl Store {
    /// Applies `options` to an image that is in the store: adds aliases and properties, makes it
    /// public, has it follow a source, and turns a cached image into a permanent one. Only the
    /// catalog changes, in one transaction; no byte of the image is read.
    ///
    /// Use it instead of [`import`](Self::import) if the fingerprint is known: an import would copy
    /// and verify the whole image.
    ///
    /// ```no_run
    /// use lxd_image::Monitor;
    /// use lxd_image::store::{Alias, ImportOptions, Store};
    ///
    /// # fn main() -> lxd_image::Result<()> {
    /// let store = Store::open("/var/lib/lxd-image")?;
    /// // Keep a cached image under a name of its own.
    /// let cached = store.resolve("c0ffee42")?;
    /// store.adopt(&cached.fingerprint, &ImportOptions::new().alias(Alias::new("pinned")?), &Monitor::none())?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `NotFound`; `AlreadyExists` for an alias that points to another image; `Mismatch` if the
    /// expected fingerprint is another one; `InvalidInput` for an invalid alias; `Busy`; `Io`.
    /// Nothing changes then.
    pub fn adopt(&self, fingerprint: &Fingerprint, options: &ImportOptions, monitor: &Monitor) -> Result<StoredImage> {
        options.check()?;
        options.check_expected(fingerprint)?;
        let mut adopted = None;
        let mut replaced = Vec::new();
        self.change(&mut |catalog| {
            let there = catalog.image(fingerprint)?.ok_or_else(|| missing(fingerprint))?;
            let (image, gone) = self.extend(catalog, &there, options)?;
            adopted = Some(image);
            replaced = gone;
            Ok(())
        })?;
        report_replaced(&replaced, monitor);
        adopted.ok_or_else(|| missing(fingerprint))
    }

    /// Applies `options` to the row `there` in the caller's transaction. Returns the new row, and
    /// the images that were replaced.
    ///
    /// If the row says all that already, nothing is written, and the revision stays.
    pub(crate) fn extend(
        &self,
        catalog: &mut dyn Transaction,
        there: &StoredImage,
        options: &ImportOptions,
    ) -> Result<(StoredImage, Vec<Replaced>)> {
        let mut image = there.clone();
        options.extend(&mut image)?;
        let names = options.aliases();
        let has_new_evidence = options.keep_evidence(self, catalog, &there.fingerprint)?;
        if !has_new_evidence && image == *there && names.iter().all(|name| image.aliases.contains(name)) {
            return Ok((image, Vec::new()));
        }
        if there.cached && !image.cached {
            // From now on it takes up space because of this client.
            options.keep_owner(self, catalog, &there.fingerprint)?;
        }
        image.revision = image.revision.saturating_add(1);
        catalog.update(&image, there.revision)?;
        let replaced;
        (image.aliases, replaced) = self.take_aliases(catalog, &image, options)?;
        note_sidecar(catalog, &image)?;
        Ok((image, replaced))
    }

    /// Points the aliases of `options` to `image`, and removes images that thereby lose their last
    /// alias if that is wanted.
    ///
    /// Returns all aliases that the image has then, sorted, and the images that were removed.
    pub(crate) fn take_aliases(
        &self,
        catalog: &mut dyn Transaction,
        image: &StoredImage,
        options: &ImportOptions,
    ) -> Result<(Vec<Alias>, Vec<Replaced>)> {
        let mut losers: Vec<Replaced> = Vec::new();
        for alias in options.aliases() {
            if let Some((_, target)) = catalog.alias(&alias.name, image.image_type)?
                && target.fingerprint != image.fingerprint
            {
                losers.retain(|(loser, _)| *loser != target.fingerprint);
                losers.push((target.fingerprint, alias.name.clone()));
            }
        }
        let aliases = give_aliases(catalog, image, options.aliases(), options.reuses_aliases())?;
        let mut replaced = Vec::new();
        for (loser, name) in losers.into_iter().filter(|_| options.replaces_images()) {
            let Some(image) = catalog.image(&loser)? else { continue };
            if image.aliases.is_empty() && !image.is_kept() {
                self.remove_image(catalog, &image)?;
                replaced.push((loser, name));
            }
        }
        Ok((aliases, replaced))
    }
}

/// Records in the monitor which images were removed.
pub(crate) fn report_replaced(replaced: &[Replaced], monitor: &Monitor) {
    for (fingerprint, alias) in replaced {
        let reason = format!("its last alias `{alias}` moved to another image");
        monitor.omit(fingerprint.to_string(), Omitted::Removed { reason: reason.into() });
    }
}
