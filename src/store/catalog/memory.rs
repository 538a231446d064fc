//! [`MemoryCatalog`]: a catalog in memory, for tests and short-lived tools.
//!
//! It promises no more than a [`Catalog`] must: transactions run concurrently on a snapshot,
//! conflict when they commit, and run again. So code that works with it does not depend on the
//! stricter order of SQLite.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock};

use super::records::{MemoryRecords, SharedRecords};
use super::sqlite::{already_there, check_objects, no_image, no_target, row_changed};
use super::{
    AliasPage, AliasQuery, Attachment, Catalog, ImagePage, ImageQuery, Object, Order, Position, Totals, Transaction,
};
use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::{Fingerprint, FingerprintPrefix};
use crate::format::ImageType;
use crate::progress::Monitor;
use crate::store::blobs::BlobKey;
use crate::store::image::{Alias, AliasTarget, StoredImage};

/// How often a transaction runs before it fails with `Transient` because others committed first each time.
const MAX_RUNS: usize = 100;

/// A catalog in memory, which is freed when it is dropped.
///
/// ```
/// use lxd_image::store::{Catalog, ImageQuery, MemoryCatalog};
///
/// let catalog = MemoryCatalog::new();
/// assert_eq!(catalog.totals(&ImageQuery::new())?.images, 0);
/// # Ok::<(), lxd_image::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct MemoryCatalog {
    /// The snapshot after the last commit. Readers and transactions clone the pointer and hold no lock.
    current: RwLock<Arc<State>>,
    /// Apart from the rows: no transaction reads them.
    records: MemoryRecords,
}

#[derive(Debug, Clone, Default)]
struct State {
    /// The images with their aliases, which are sorted.
    images: BTreeMap<Fingerprint, StoredImage>,
    /// The fingerprint and the description of each alias.
    aliases: BTreeMap<(String, ImageType), (Fingerprint, String)>,
    objects: BTreeMap<BlobKey, Object>,
    /// The texts beside images, by image and name.
    attachments: BTreeMap<(Fingerprint, String), Attachment>,
    /// How many commits changed images or aliases.
    changes: u64,
}

impl MemoryCatalog {
    /// An empty catalog.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The snapshot after the last commit.
    fn state(&self) -> Arc<State> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces the snapshot `base` by `changed`. Returns `false` if another transaction has committed since.
    fn commit(&self, base: &Arc<State>, changed: State) -> bool {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&current, base) {
            return false;
        }
        *current = Arc::new(changed);
        true
    }
}

impl State {
    fn alias(&self, name: &str, image_type: ImageType) -> Option<(Alias, AliasTarget)> {
        let (fingerprint, description) = self.aliases.get(&(name.to_owned(), image_type))?;
        let alias = Alias { name: name.to_owned(), description: description.clone() };
        Some((alias, AliasTarget::new(*fingerprint, image_type)))
    }

    fn attachments(&self, fingerprint: &Fingerprint) -> Vec<Attachment> {
        let range = self.attachments.range((*fingerprint, String::new())..);
        range.take_while(|((of, _), _)| of == fingerprint).map(|(_, attachment)| attachment.clone()).collect()
    }

    /// The images that a query matches after its position, in its order.
    fn page<'a>(&'a self, query: &ImageQuery) -> Vec<&'a StoredImage> {
        let limit = query.limit.max(1).saturating_add(1);
        let matching = |image: &&StoredImage| query.matches(image);
        match query.order {
            Order::Fingerprint => {
                let start = query.after.as_ref().map_or(Bound::Unbounded, |after| Bound::Excluded(after.fingerprint));
                let range = self.images.range((start, Bound::Unbounded)).map(|(_, image)| image);
                range.filter(matching).take(limit).collect()
            }
            Order::Alias => {
                let after =
                    query.after.as_ref().map(|position| place(position.alias.as_deref(), &position.fingerprint));
                let mut found: Vec<_> =
                    self.images.values().filter(matching).filter(|image| Some(place_of(image)) > after).collect();
                found.sort_by_key(|image| place_of(image));
                found.truncate(limit);
                found
            }
        }
    }
}

/// The sort key of an image in the order by alias: images without one come last.
fn place<'a>(alias: Option<&'a str>, fingerprint: &Fingerprint) -> (bool, Option<&'a str>, Fingerprint) {
    (alias.is_none(), alias, *fingerprint)
}

/// The sort key of an image.
fn place_of(image: &StoredImage) -> (bool, Option<&str>, Fingerprint) {
    place(image.aliases.first().map(|alias| alias.name.as_str()), &image.fingerprint)
}

/// Shortens a page to the limit of the query, and returns the position of the next one, if there is more.
fn cut(found: &mut Vec<&StoredImage>, query: &ImageQuery) -> Option<Position> {
    let limit = query.limit.max(1);
    if found.len() <= limit {
        return None;
    }
    found.truncate(limit);
    found.last().map(|image| Position::after(image))
}

impl Catalog for MemoryCatalog {
    fn engine(&self) -> &'static str {
        "memory"
    }

    fn image(&self, fingerprint: &Fingerprint) -> Result<Option<StoredImage>> {
        Ok(self.state().images.get(fingerprint).cloned())
    }

    fn alias(&self, name: &str, image_type: ImageType) -> Result<Option<(Alias, AliasTarget)>> {
        Ok(self.state().alias(name, image_type))
    }

    fn aliases(&self, query: &AliasQuery) -> Result<AliasPage> {
        let state = self.state();
        let prefix = query.prefix.as_deref().unwrap_or_default();
        let first = (prefix.to_owned(), ImageType::Container);
        let start = match &query.after {
            Some(after) if *after >= first => Bound::Excluded(after.clone()),
            _ => Bound::Included(first),
        };
        let mut page = AliasPage::default();
        for ((name, image_type), (fingerprint, description)) in state.aliases.range((start, Bound::Unbounded)) {
            if !name.starts_with(prefix) {
                break;
            }
            if query.image_type.is_some_and(|wanted| wanted != *image_type) {
                continue;
            }
            if page.aliases.len() == query.limit.max(1) {
                page.next = page.aliases.last().map(|(alias, target)| (alias.name.clone(), target.image_type));
                break;
            }
            let alias = Alias { name: name.clone(), description: description.clone() };
            page.aliases.push((alias, AliasTarget::new(*fingerprint, *image_type)));
        }
        Ok(page)
    }

    fn with_prefix(&self, prefix: &FingerprintPrefix, limit: usize) -> Result<Vec<Fingerprint>> {
        let state = self.state();
        Ok(state.images.keys().filter(|fingerprint| prefix.matches(fingerprint)).take(limit).copied().collect())
    }

    fn images(&self, query: &ImageQuery) -> Result<ImagePage> {
        let state = self.state();
        let mut found = state.page(query);
        let next = cut(&mut found, query);
        Ok(ImagePage { images: found.into_iter().cloned().collect(), next, skipped: Vec::new() })
    }

    fn fingerprints(&self, query: &ImageQuery) -> Result<(Vec<Fingerprint>, Option<Position>)> {
        let state = self.state();
        let mut found = state.page(query);
        let next = cut(&mut found, query);
        Ok((found.into_iter().map(|image| image.fingerprint).collect(), next))
    }

    fn totals(&self, query: &ImageQuery) -> Result<Totals> {
        let mut totals = Totals::default();
        for image in self.state().images.values().filter(|image| query.matches(image)) {
            totals.images += 1;
            totals.bytes = totals.bytes.saturating_add(image.size);
        }
        Ok(totals)
    }

    fn version(&self) -> Result<Option<u64>> {
        Ok(Some(self.state().changes))
    }

    fn object(&self, key: &BlobKey) -> Result<Option<Object>> {
        Ok(self.state().objects.get(key).cloned())
    }

    fn objects(&self, after: Option<&BlobKey>, limit: usize) -> Result<Vec<Object>> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let state = self.state();
        Ok(state.objects.range((start, Bound::Unbounded)).take(limit).map(|(_, object)| object.clone()).collect())
    }

    fn attachments(&self, fingerprint: &Fingerprint) -> Result<Vec<Attachment>> {
        Ok(self.state().attachments(fingerprint))
    }

    fn attached(&self, prefix: &str) -> Result<BTreeSet<Fingerprint>> {
        let state = self.state();
        let names = state.attachments.keys().filter(|(_, name)| name.starts_with(prefix));
        Ok(names.map(|(fingerprint, _)| *fingerprint).collect())
    }

    fn check(&self, monitor: &Monitor) -> Result<Vec<String>> {
        monitor.check()?;
        Ok(Vec::new())
    }

    fn write(&self, work: &mut dyn FnMut(&mut dyn Transaction) -> Result<()>) -> Result<()> {
        for _ in 0..MAX_RUNS {
            let base = self.state();
            let mut snapshot = Snapshot { base: &base, changed: None };
            work(&mut snapshot)?;
            // Work that only read saw one snapshot, so it cannot conflict.
            let Some(changed) = snapshot.changed else { return Ok(()) };
            if self.commit(&base, changed) {
                return Ok(());
            }
            std::thread::yield_now();
        }
        Err(Error::new(ErrorKind::Transient, "others changed the catalog each time before this change was done")
            .with_hint("try again"))
    }

    fn shared_records(&self) -> Option<&dyn SharedRecords> {
        Some(&self.records)
    }
}

/// A transaction: the snapshot that it started from, and a copy of its own once it changes something.
struct Snapshot<'a> {
    base: &'a Arc<State>,
    changed: Option<State>,
}

impl Snapshot<'_> {
    /// What the transaction sees: its own changes included.
    fn state(&self) -> &State {
        self.changed.as_ref().unwrap_or(self.base)
    }

    /// The copy to change, made on the first change.
    fn change(&mut self) -> &mut State {
        self.changed.get_or_insert_with(|| State::clone(self.base))
    }

    /// The copy, for a change of images or aliases, which raises the version of the catalog.
    fn change_images(&mut self) -> &mut State {
        let changes = self.base.changes.wrapping_add(1);
        let state = self.change();
        state.changes = changes;
        state
    }

    /// Removes an alias from the row of the image that it points to.
    fn unlink(&mut self, name: &str, image_type: ImageType) {
        let state = self.change_images();
        if let Some((fingerprint, _)) = state.aliases.remove(&(name.to_owned(), image_type))
            && let Some(image) = state.images.get_mut(&fingerprint)
        {
            image.aliases.retain(|alias| alias.name != name);
        }
    }
}

impl Transaction for Snapshot<'_> {
    fn image(&mut self, fingerprint: &Fingerprint) -> Result<Option<StoredImage>> {
        Ok(self.state().images.get(fingerprint).cloned())
    }

    fn alias(&mut self, name: &str, image_type: ImageType) -> Result<Option<(Alias, AliasTarget)>> {
        Ok(self.state().alias(name, image_type))
    }

    fn insert(&mut self, image: &StoredImage) -> Result<()> {
        check_objects(image)?;
        if self.state().images.contains_key(&image.fingerprint) {
            return Err(already_there(&image.fingerprint));
        }
        let row = StoredImage { aliases: Vec::new(), ..image.clone() };
        self.change_images().images.insert(image.fingerprint, row);
        Ok(())
    }

    fn update(&mut self, image: &StoredImage, expected: u64) -> Result<()> {
        check_objects(image)?;
        let old = self.state().images.get(&image.fingerprint).filter(|old| old.revision == expected);
        let Some(old) = old else { return Err(row_changed(&image.fingerprint, expected)) };
        let mut row = image.clone();
        row.aliases.clone_from(&old.aliases);
        row.last_used_at = old.last_used_at;
        row.objects.sidecar.clone_from(&old.objects.sidecar);
        self.change_images().images.insert(image.fingerprint, row);
        Ok(())
    }

    fn set_last_used(&mut self, fingerprint: &Fingerprint, seconds: i64) -> Result<()> {
        let is_later = |image: &StoredImage| image.last_used_at.is_none_or(|last| last < seconds);
        if self.state().images.get(fingerprint).is_some_and(is_later)
            && let Some(image) = self.change_images().images.get_mut(fingerprint)
        {
            image.last_used_at = Some(seconds);
        }
        Ok(())
    }

    fn set_sidecar(&mut self, fingerprint: &Fingerprint, revision: u64, key: &BlobKey) -> Result<bool> {
        if self.state().images.get(fingerprint).is_none_or(|image| image.revision != revision) {
            return Ok(false);
        }
        if let Some(image) = self.change().images.get_mut(fingerprint) {
            image.objects.sidecar = Some(key.clone());
        }
        Ok(true)
    }

    fn remove(&mut self, fingerprint: &Fingerprint) -> Result<()> {
        if !self.state().images.contains_key(fingerprint) {
            return Ok(());
        }
        let state = self.change_images();
        if let Some(image) = state.images.remove(fingerprint) {
            for alias in image.aliases {
                state.aliases.remove(&(alias.name, image.image_type));
            }
            state.attachments.retain(|(of, _), _| of != fingerprint);
        }
        Ok(())
    }

    fn set_alias(&mut self, alias: &Alias, target: &AliasTarget) -> Result<()> {
        let image = self.state().images.get(&target.fingerprint);
        if image.is_none_or(|image| image.image_type != target.image_type) {
            return Err(no_target(alias, target));
        }
        self.unlink(&alias.name, target.image_type);
        let state = self.change_images();
        let value = (target.fingerprint, alias.description.clone());
        state.aliases.insert((alias.name.clone(), target.image_type), value);
        if let Some(image) = state.images.get_mut(&target.fingerprint) {
            image.aliases.push(alias.clone());
            image.aliases.sort();
        }
        Ok(())
    }

    fn remove_alias(&mut self, name: &str, image_type: ImageType) -> Result<()> {
        if self.state().aliases.contains_key(&(name.to_owned(), image_type)) {
            self.unlink(name, image_type);
        }
        Ok(())
    }

    fn attachments(&mut self, fingerprint: &Fingerprint) -> Result<Vec<Attachment>> {
        Ok(self.state().attachments(fingerprint))
    }

    fn attach(&mut self, fingerprint: &Fingerprint, attachment: &Attachment) -> Result<()> {
        if !self.state().images.contains_key(fingerprint) {
            return Err(no_image(fingerprint));
        }
        let key = (*fingerprint, attachment.name.clone());
        self.change_images().attachments.insert(key, attachment.clone());
        Ok(())
    }

    fn object(&mut self, key: &BlobKey) -> Result<Option<Object>> {
        Ok(self.state().objects.get(key).cloned())
    }

    fn put_object(&mut self, object: &Object) -> Result<()> {
        self.change().objects.insert(object.key.clone(), object.clone());
        Ok(())
    }

    fn remove_object(&mut self, key: &BlobKey) -> Result<()> {
        if self.state().objects.contains_key(key) {
            self.change().objects.remove(key);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;
    use crate::metadata::Architecture;

    fn image(content: &[u8]) -> StoredImage {
        let mut image = StoredImage::new(Fingerprint::of(content), ImageType::Container, Architecture::X86_64);
        image.objects.image = BlobKey::pair(&image.fingerprint).0;
        image
    }

    #[cfg(feature = "conformance")]
    #[test]
    fn memory_catalog_passes_the_conformance_suite() {
        crate::store::conformance::catalog(&MemoryCatalog::new()).unwrap();
    }

    #[test]
    fn memory_records_pass_the_conformance_suite() {
        crate::store::conformance::shared_records(MemoryCatalog::new().shared_records().unwrap()).unwrap();
    }

    #[test]
    fn conflicting_work_runs_again() {
        let catalog = MemoryCatalog::new();
        let mut runs = 0;
        let work = &mut |rows: &mut dyn Transaction| {
            runs += 1;
            if runs == 1 {
                // No lock is held here, so that a second transaction can commit.
                catalog.write(&mut |others| others.insert(&image(b"other")))?;
            }
            rows.insert(&image(b"mine"))
        };
        catalog.write(work).unwrap();
        assert_eq!((runs, catalog.totals(&ImageQuery::new()).unwrap().images), (2, 2));
    }

    #[test]
    fn permanently_conflicting_work_fails_with_transient() {
        let catalog = MemoryCatalog::new();
        let mut number = 0_u32;
        let failed = catalog.write(&mut |rows| {
            number += 1;
            catalog.write(&mut |others| others.insert(&image(&number.to_le_bytes())))?;
            rows.insert(&image(b"mine"))
        });
        assert_eq!(failed.unwrap_err().kind(), ErrorKind::Transient);
    }

    #[test]
    fn version_counts_changes_of_images() {
        let catalog = MemoryCatalog::new();
        catalog.write(&mut |rows| rows.insert(&image(b"one"))).unwrap();
        catalog.write(&mut |rows| rows.image(&Fingerprint::of(b"one")).map(|_| ())).unwrap();
        catalog.write(&mut |rows| rows.remove(&Fingerprint::of(b"one"))).unwrap();
        assert_eq!(catalog.version().unwrap(), Some(2));
    }
}
