//! Listing and counting images and aliases: by query and page by page, so that memory does not grow
//! with the number of images. Only the calls that return all of them in one vector are exceptions.

use super::catalog::{AliasPage, AliasQuery, ImagePage, ImageQuery, Position, Totals};
use super::filter::{Filter, NearMiss};
use super::image::{Alias, AliasTarget, StoredImage};
use super::open::Store;
use crate::error::{Error, Result};
use crate::fingerprint::Fingerprint;

impl Store {
    /// Returns one page of the images that match `query`, with their aliases. An index of the catalog finds them.
    ///
    /// To get all pages, repeat the query with [`after`](ImageQuery::after) set to the page's
    /// `next`, or use [`for_each`](Self::for_each).
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
    /// `Malformed` if the catalog is damaged; `Io`.
    pub fn query(&self, query: &ImageQuery) -> Result<ImagePage> {
        self.catalog.images(query)
    }

    /// Returns one page of the fingerprints that [`query`](Self::query) would return, and the
    /// position of the next page. Much cheaper than whole images.
    ///
    /// # Errors
    /// As [`query`](Self::query).
    pub fn fingerprints(&self, query: &ImageQuery) -> Result<(Vec<Fingerprint>, Option<Position>)> {
        self.catalog.fingerprints(query)
    }

    /// Counts the images that match a query, and adds up their bytes. The position and the limit of
    /// the query are ignored.
    ///
    /// # Errors
    /// As [`query`](Self::query).
    pub fn totals(&self, query: &ImageQuery) -> Result<Totals> {
        self.catalog.totals(query)
    }

    /// Calls `work` with each image that matches a query, page by page. A row that cannot be read
    /// is passed to `skipped` with its fingerprint, and does not hide the others.
    ///
    /// Images that are added or removed meanwhile may be included or not; all others come exactly once.
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

    /// As [`for_each`](Self::for_each), for calls that must see every row: a row that cannot be read is an error.
    pub(crate) fn for_all(&self, query: &ImageQuery, work: &mut dyn FnMut(StoredImage) -> Result<()>) -> Result<()> {
        self.pages(query, work, &mut |_, error| Err(error))
    }

    /// The loop over all pages.
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

    /// Returns all images, in the order of their fingerprints. For a large store use [`for_each`](Self::for_each).
    ///
    /// # Errors
    /// `Malformed` if the catalog, or a single row, is damaged; `Io`.
    pub fn images(&self) -> Result<Vec<StoredImage>> {
        let mut images = Vec::new();
        let mut collect = |image| {
            images.push(image);
            Ok(())
        };
        self.for_all(&ImageQuery::new(), &mut collect)?;
        Ok(images)
    }

    /// Returns all aliases with their targets, sorted by name.
    ///
    /// # Errors
    /// `Malformed` if the catalog is damaged; `Io`.
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

    /// Returns one page of aliases.
    ///
    /// # Errors
    /// `Malformed` if the catalog is damaged; `Io`.
    pub fn alias_page(&self, query: &AliasQuery) -> Result<AliasPage> {
        self.catalog.aliases(query)
    }

    /// Returns the images that match all filters, sorted by their first alias; those without one
    /// are last. Reads every row: filters are more powerful than queries, and no index serves them.
    ///
    /// # Errors
    /// `Malformed` if the catalog is damaged; `Io`.
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

    /// Returns the images that do not match all filters, with the reasons; those that match most filters are first.
    ///
    /// # Errors
    /// `Malformed` if the catalog is damaged; `Io`.
    pub fn explain(&self, filters: &[Filter]) -> Result<Vec<NearMiss>> {
        Ok(Filter::explain(self.images()?, filters))
    }
}
