//! Adopting: an image that is in the store gets what an import asks for, without a look at its bytes.
//! And what happens to images whose last alias such a change takes away.

use super::catalog::Transaction;
use super::image::{Alias, StoredImage};
use super::import::{ImportOptions, give_aliases};
use super::open::{Store, missing};
use super::reconcile::note_sidecar;
use crate::error::Result;
use crate::fingerprint::Fingerprint;
use crate::omissions::Omitted;
use crate::progress::Monitor;

/// An image that was removed because another one took its last alias, which is named.
pub(crate) type Replaced = (Fingerprint, String);

impl StoredImage {
    /// Whether somebody marked it to be kept, by the property `keep`, when another image takes its last alias.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        let mark = self.properties.get("keep").unwrap_or_default().to_lowercase();
        matches!(&*mark, "true" | "yes" | "on" | "1")
    }
}

impl Store {
    /// Gives an image that is in the store what `options` ask for: aliases, visibility, updates from a source, properties, and
    /// that it stays if it was cached. One change of the catalog; nothing of the image is read.
    ///
    /// # Errors
    /// `NotFound`; `AlreadyExists` for an alias that is taken; `Mismatch` for another fingerprint than the expected one;
    /// `InvalidInput` for an alias that is none; `Busy`; `Io`. The store is as it was.
    pub fn adopt(&self, fingerprint: &Fingerprint, options: &ImportOptions) -> Result<StoredImage> {
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
        report_replaced(&replaced, options.watch());
        adopted.ok_or_else(|| missing(fingerprint))
    }

    /// Changes what is known of an image that is there as `options` say.
    pub(crate) fn extend(
        &self,
        catalog: &mut dyn Transaction,
        there: &StoredImage,
        options: &ImportOptions,
    ) -> Result<(StoredImage, Vec<Replaced>)> {
        let mut image = there.clone();
        options.extend(&mut image)?;
        let names = options.aliases();
        if image == *there && names.iter().all(|name| image.aliases.contains(name)) {
            return Ok((image, Vec::new()));
        }
        image.revision = image.revision.saturating_add(1);
        catalog.update(&image, there.revision)?;
        let replaced;
        (image.aliases, replaced) = self.take_aliases(catalog, &image, options)?;
        note_sidecar(catalog, &image)?;
        Ok((image, replaced))
    }

    /// Points the aliases of an import to its image, and removes images that lose their last one by that, where this is wanted.
    ///
    /// Returns all aliases that the image has then, and what was removed.
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

/// Says which images are gone.
pub(crate) fn report_replaced(replaced: &[Replaced], monitor: &Monitor) {
    for (fingerprint, alias) in replaced {
        let reason = format!("its last alias `{alias}` moved to another image");
        monitor.omit(fingerprint.to_string(), Omitted::Removed { reason: reason.into() });
    }
}
