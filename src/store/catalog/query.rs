//! Queries of a catalog: filters that an index serves, an order, a position to continue from, and a limit.

use crate::error::Error;
use crate::fingerprint::{Fingerprint, FingerprintPrefix};
use crate::format::ImageType;
use crate::metadata::Architecture;
use crate::store::image::{Alias, AliasTarget, StoredImage};

/// The largest page. Bounds the memory and the time of one call.
const MAX_PAGE: usize = 10_000;

/// Which images, in which order, and how many.
///
/// All filters must match. For words, patterns and abbreviations, which no index serves, see
/// [`Filter`](crate::store::Filter).
///
/// ```
/// use lxd_image::store::{Catalog, ImageQuery, MemoryCatalog, Order};
///
/// let catalog = MemoryCatalog::new();
/// let query = ImageQuery::new().public(true).property("os", "Debian").order(Order::Alias).limit(100);
/// let page = catalog.images(&query)?;
/// assert!(page.images.is_empty() && page.next.is_none());
/// # Ok::<(), lxd_image::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ImageQuery {
    /// Only public ones, or only private ones.
    pub public: Option<bool>,
    /// Only cached ones, or only those that are not.
    pub cached: Option<bool>,
    /// Only those that follow their source, or only those that do not.
    pub auto_update: Option<bool>,
    /// Only those of this type.
    pub image_type: Option<ImageType>,
    /// Only those for this machine.
    pub architecture: Option<Architecture>,
    /// Only those with this many bytes.
    pub size: Option<u64>,
    /// Only those whose fingerprint begins so.
    pub prefix: Option<FingerprintPrefix>,
    /// Only those with all of these properties, each a key and its whole value.
    pub properties: Vec<(String, String)>,
    /// Their order.
    pub order: Order,
    /// Only those after this position of the same query.
    pub after: Option<Position>,
    /// At most so many: between 1 and 10,000.
    pub limit: usize,
}

/// The order of images.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Order {
    /// By fingerprint.
    #[default]
    Fingerprint,
    /// By the first alias, then by fingerprint; those without an alias at the end.
    Alias,
}

/// A position in the results of a query, from which the next page continues. It stays valid when
/// rows are added and removed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Position {
    /// The first alias of the last image of the page, where the order is by alias.
    pub alias: Option<String>,
    /// The fingerprint of the last image of the page.
    pub fingerprint: Fingerprint,
}

impl Position {
    /// The position after an image.
    #[must_use]
    pub fn after(image: &StoredImage) -> Self {
        Self { alias: image.aliases.first().map(|alias| alias.name.clone()), fingerprint: image.fingerprint }
    }
}

/// A page of images.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct ImagePage {
    /// The images.
    pub images: Vec<StoredImage>,
    /// Where the next page begins; `None` when this is the last one.
    pub next: Option<Position>,
    /// Rows that cannot be read, by their fingerprint or what stands in its place.
    pub skipped: Vec<(String, Error)>,
}

/// How many images there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Totals {
    /// Images.
    pub images: u64,
    /// Bytes of all their files.
    pub bytes: u64,
}

impl Default for ImageQuery {
    fn default() -> Self {
        Self {
            public: None,
            cached: None,
            auto_update: None,
            image_type: None,
            architecture: None,
            size: None,
            prefix: None,
            properties: Vec::new(),
            order: Order::default(),
            after: None,
            limit: 1_000,
        }
    }
}

impl ImageQuery {
    /// All images in the order of their fingerprints, 1,000 a page.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Only public images, or only private ones.
    #[must_use]
    pub fn public(mut self, yes: bool) -> Self {
        self.public = Some(yes);
        self
    }

    /// Only cached images, or only those that are not.
    #[must_use]
    pub fn cached(mut self, yes: bool) -> Self {
        self.cached = Some(yes);
        self
    }

    /// Only images that follow their source, or only those that do not.
    #[must_use]
    pub fn auto_update(mut self, yes: bool) -> Self {
        self.auto_update = Some(yes);
        self
    }

    /// Only images of this type.
    #[must_use]
    pub fn image_type(mut self, image_type: ImageType) -> Self {
        self.image_type = Some(image_type);
        self
    }

    /// Only images for this machine.
    #[must_use]
    pub fn architecture(mut self, architecture: Architecture) -> Self {
        self.architecture = Some(architecture);
        self
    }

    /// Only images with this many bytes.
    #[must_use]
    pub fn size(mut self, bytes: u64) -> Self {
        self.size = Some(bytes);
        self
    }

    /// Only images whose fingerprint begins so.
    #[must_use]
    pub fn prefix(mut self, prefix: FingerprintPrefix) -> Self {
        self.prefix = Some(prefix);
        self
    }

    /// Only images with this property.
    #[must_use]
    pub fn property(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.properties.push((key.into(), value.into()));
        self
    }

    /// The order.
    #[must_use]
    pub fn order(mut self, order: Order) -> Self {
        self.order = order;
        self
    }

    /// Goes on after this position.
    #[must_use]
    pub fn after(mut self, position: Option<Position>) -> Self {
        self.after = position;
        self
    }

    /// At most so many images: 1 to 10,000; other numbers count as the nearest of these.
    #[must_use]
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = limit.clamp(1, MAX_PAGE);
        self
    }

    /// Whether an image matches all filters, whatever the position. For implementations of a catalog.
    #[must_use]
    pub fn matches(&self, image: &StoredImage) -> bool {
        self.public.is_none_or(|public| image.public == public)
            && self.cached.is_none_or(|cached| image.cached == cached)
            && self.auto_update.is_none_or(|auto_update| image.auto_update == auto_update)
            && self.image_type.is_none_or(|image_type| image.image_type == image_type)
            && self.architecture.is_none_or(|architecture| image.architecture == architecture)
            && self.size.is_none_or(|size| image.size == size)
            && self.prefix.as_ref().is_none_or(|prefix| prefix.matches(&image.fingerprint))
            && self.properties.iter().all(|(key, value)| image.properties.get(key) == Some(value))
    }
}

/// Which aliases, and how many.
///
/// ```
/// use lxd_image::store::{AliasQuery, Store};
///
/// let store = Store::in_memory()?;
/// let page = store.alias_page(&AliasQuery::new().prefix("debian/").limit(50))?;
/// assert!(page.aliases.is_empty() && page.next.is_none());
/// # Ok::<(), lxd_image::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AliasQuery {
    /// Only names that begin so.
    pub prefix: Option<String>,
    /// Only aliases of images of this type.
    pub image_type: Option<ImageType>,
    /// Only those after this name and type.
    pub after: Option<(String, ImageType)>,
    /// At most so many.
    pub limit: usize,
}

impl Default for AliasQuery {
    fn default() -> Self {
        Self { prefix: None, image_type: None, after: None, limit: 1_000 }
    }
}

impl AliasQuery {
    /// All aliases, 1,000 a page.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Only names that begin so.
    #[must_use]
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = Some(prefix.into());
        self
    }

    /// Only aliases of images of this type.
    #[must_use]
    pub fn image_type(mut self, image_type: ImageType) -> Self {
        self.image_type = Some(image_type);
        self
    }

    /// Goes on after this name and type.
    #[must_use]
    pub fn after(mut self, position: Option<(String, ImageType)>) -> Self {
        self.after = position;
        self
    }

    /// At most so many aliases: 1 to 10,000; other numbers count as the nearest of these.
    #[must_use]
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = limit.clamp(1, MAX_PAGE);
        self
    }
}

/// A page of aliases.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct AliasPage {
    /// The aliases and what they point to.
    pub aliases: Vec<(Alias, AliasTarget)>,
    /// Where the next page begins; `None` when this is the last one.
    pub next: Option<(String, ImageType)>,
}
