//! Looking at many images: by query, page by page, so that no call takes memory by the number of images but those that return
//! all of them.

use super::catalog::{AliasPage, AliasQuery, ImagePage, ImageQuery, Position, Totals};
use super::filter::{Filter, NearMiss};
use super::image::{Alias, AliasTarget, StoredImage};
use super::open::Store;
use crate::error::{Error, Result};
use crate::fingerprint::Fingerprint;

impl Store {
    /// A page of images with their aliases, found by an index of the catalog.
    ///
    /// ```
    /// use lxd_image::store::{ImageQuery, Order, Store};
    ///
    /// # fn main() -> lxd_image::Result<()> {
    /// let store = Store::in_memory()?;
    /// let mut query = ImageQuery::new().public(true).property("os", "Debian").order(Order::Alias).limit(100);
    /// loop {
    ///     let page = store.query(&query)?;
    ///     for image in &page.images {
    ///         println!("{}", image.fingerprint);
    ///     }
    ///     let Some(next) = page.next else { break };
    ///     query = query.after(Some(next));
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Malformed` when the catalog is damaged, `Io`.
    pub fn query(&self, query: &ImageQuery) -> Result<ImagePage> {
        self.catalog.images(query)
    }

    /// A page of the fingerprints that [`query`](Self::query) would give, and the position of the next one.
    ///
    /// # Errors
    /// As [`query`](Self::query).
    pub fn fingerprints(&self, query: &ImageQuery) -> Result<(Vec<Fingerprint>, Option<Position>)> {
        self.catalog.fingerprints(query)
    }

    /// How many images a query has in all, and their bytes.
    ///
    /// # Errors
    /// As [`query`](Self::query).
    pub fn totals(&self, query: &ImageQuery) -> Result<Totals> {
        self.catalog.totals(query)
    }

    /// Gives each image of a query to `work`, page by page. A row that cannot be read is given to `skipped` by its
    /// fingerprint, and hides no other.
    ///
    /// Images that come or go meanwhile may be among them or not; all others come once.
    ///
    /// # Errors
    /// Those of `work`; as [`query`](Self::query).
    pub fn for_each(
        &self,
        query: &ImageQuery,
        work: &mut dyn FnMut(StoredImage) -> Result<()>,
        skipped: &mut dyn FnMut(&str, &Error),
    ) -> Result<()> {
        self.pages(query, work, &mut |name, error| {
            skipped(name, &error);
            Ok(())
        })
    }

    /// As [`for_each`](Self::for_each), for calls that must see every row: one that cannot be read is their error.
    pub(crate) fn for_all(&self, query: &ImageQuery, work: &mut dyn FnMut(StoredImage) -> Result<()>) -> Result<()> {
        self.pages(query, work, &mut |_, error| Err(error))
    }

    fn pages(
        &self,
        query: &ImageQuery,
        work: &mut dyn FnMut(StoredImage) -> Result<()>,
        unreadable: &mut dyn FnMut(&str, Error) -> Result<()>,
    ) -> Result<()> {
        let mut query = query.clone();
        loop {
            let page = self.catalog.images(&query)?;
            page.skipped.into_iter().try_for_each(|(name, error)| unreadable(&name, error))?;
            page.images.into_iter().try_for_each(&mut *work)?;
            let Some(next) = page.next else { return Ok(()) };
            query = query.after(Some(next));
        }
    }

    /// All images, in the order of their fingerprints.
    ///
    /// # Errors
    /// `Malformed` when the catalog is damaged, also when a single row is; `Io`.
    pub fn images(&self) -> Result<Vec<StoredImage>> {
        let mut images = Vec::new();
        let mut collect = |image| {
            images.push(image);
            Ok(())
        };
        self.for_all(&ImageQuery::new(), &mut collect)?;
        Ok(images)
    }

    /// All aliases with what they point to, sorted by name.
    ///
    /// # Errors
    /// `Malformed` when the catalog is damaged, `Io`.
    pub fn aliases(&self) -> Result<Vec<(Alias, AliasTarget)>> {
        let mut all = Vec::new();
        let mut query = AliasQuery::new();
        loop {
            let page = self.catalog.aliases(&query)?;
            all.extend(page.aliases);
            let Some(next) = page.next else { return Ok(all) };
            query = query.after(Some(next));
        }
    }

    /// A page of aliases.
    ///
    /// # Errors
    /// `Malformed` when the catalog is damaged, `Io`.
    pub fn alias_page(&self, query: &AliasQuery) -> Result<AliasPage> {
        self.catalog.aliases(query)
    }

    /// The images that meet all filters, sorted by their first alias, those without one at the end.
    ///
    /// # Errors
    /// `Malformed` when the catalog is damaged, `Io`.
    pub fn list(&self, filters: &[Filter]) -> Result<Vec<StoredImage>> {
        let mut found = Vec::new();
        let mut select = |image| {
            if filters.iter().all(|filter| filter.matches(&image)) {
                found.push(image);
            }
            Ok(())
        };
        self.for_all(&ImageQuery::new(), &mut select)?;
        Ok(Filter::select(found, &[]))
    }

    /// The images that do not meet all filters and why, those that nearly do first.
    ///
    /// # Errors
    /// `Malformed` when the catalog is damaged, `Io`.
    pub fn explain(&self, filters: &[Filter]) -> Result<Vec<NearMiss>> {
        Ok(Filter::explain(self.images()?, filters))
    }
}
