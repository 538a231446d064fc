//! [`StoreDescription`]: a store whose catalog, blobs and scratch are in different places, as a TOML file names them.
//!
//! A directory store needs no description. Everything that takes the path of a store takes the path of a description
//! instead: [`StoreOptions::open`] tells them apart by what the path is, so that every program and every verb works
//! with both.
//!
//! The catalog and the blobs each hold the random id of the store. They are opened together only if the ids are equal:
//! a bucket of another store must not look like one whose images are gone.

use std::path::{Path, PathBuf};
use std::sync::Arc;
#[cfg(feature = "postgres")]
use std::sync::OnceLock;

use serde::Deserialize;

use super::blobs::{BlobStore, DirectoryFiles};
use super::catalog::{Catalog, ImageQuery, SqliteCatalog};
use super::lock::StoreLock;
use super::open::{Store, StoreOptions, directory_parts};
use super::random::random_id;
use super::scratch::Scratch;
use crate::atomic;
use crate::error::{Error, ErrorKind, Result};
use crate::redact;

/// What is wrong with parts whose ids differ.
const FOREIGN_PARTS: &str = "the catalog and the blobs belong to different stores";
/// The largest description that is read, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// Where the parts of a store are, read from a TOML file.
///
/// | key | value |
/// |---|---|
/// | `catalog` | `postgresql://USER@HOST/DATABASE`, or the path of an SQLite database |
/// | `blobs` | `s3://BUCKET/PREFIX`, `gs://BUCKET/PREFIX`, `az://CONTAINER/PREFIX`, or the path of a directory |
/// | `scratch` | a local directory for staged files; by default beside the description, with the ending `.scratch` |
/// | `[s3]` | `endpoint`, `region`, `allow_http`, `path_style` |
///
/// Relative paths start at the directory of the file. Credentials are not part of a description: each engine reads them
/// from its standard environment variables and files. A key that is not known is an error.
///
/// ```
/// use lxd_image::store::{Store, StoreDescription, StoreOptions};
///
/// # fn main() -> lxd_image::Result<()> {
/// # let dir = std::env::temp_dir().join(format!("lxd-image-description-{}", std::process::id()));
/// # std::fs::create_dir_all(&dir)?;
/// let file = dir.join("store.toml");
/// std::fs::write(&file, "catalog = 'catalog/images.sqlite'\nblobs = 'blobs'\n")?;
/// let store = StoreOptions::new().open(&file)?;
/// assert!(store.images()?.is_empty());
/// assert_eq!(StoreDescription::read(&file)?.blobs(), dir.join("blobs").display().to_string());
/// # drop(store);
/// # std::fs::remove_dir_all(&dir)?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct StoreDescription {
    path: PathBuf,
    catalog: CatalogAddress,
    blobs: BlobAddress,
    scratch: PathBuf,
    #[cfg_attr(not(feature = "object-store"), allow(dead_code, reason = "only object storage has settings"))]
    s3: S3Settings,
}

/// Where the catalog is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum CatalogAddress {
    /// The path of an SQLite database.
    Sqlite(PathBuf),
    /// A connection URL, which may hold a password: shown by [`redact::address`] only.
    Postgres(String),
}

/// Where the blobs are.
#[derive(Debug, Clone, PartialEq, Eq)]
enum BlobAddress {
    Directory(PathBuf),
    /// The URL of a bucket and a prefix.
    Objects(String),
}

/// The keys of the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    catalog: String,
    blobs: String,
    scratch: Option<PathBuf>,
    #[serde(default)]
    s3: S3Settings,
}

/// The table `[s3]`: settings for servers other than Amazon's.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(not(feature = "object-store"), allow(dead_code, reason = "only object storage has settings"))]
struct S3Settings {
    endpoint: Option<String>,
    region: Option<String>,
    #[serde(default)]
    allow_http: bool,
    path_style: Option<bool>,
}

impl StoreDescription {
    /// Whether `path` is to be read as a description: a file, or a missing one whose name ends in `.toml`.
    pub(crate) fn is_at(path: &Path) -> bool {
        path.is_file() || !path.exists() && path.extension().is_some_and(|ending| ending == "toml")
    }

    /// Reads a description. Does not look at the places that it names.
    ///
    /// # Errors
    /// `NotFound`, `Io`; `LimitExceeded` for a file of more than 1 MiB; `Malformed` with the line for anything but a
    /// valid description.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        use std::io::Read;
        let path = path.as_ref();
        let mut text = String::new();
        let read = std::fs::File::open(path).and_then(|file| file.take(MAX_BYTES + 1).read_to_string(&mut text));
        let length = read.map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => {
                Error::new(ErrorKind::NotFound, "there is no description of a store").in_file(path)
            }
            _ => Error::io("the description of the store can't be read", error).in_file(path),
        })?;
        if u64::try_from(length).is_ok_and(|length| length > MAX_BYTES) {
            return Err(
                Error::new(ErrorKind::LimitExceeded, "the description of the store is larger than 1 MiB").in_file(path)
            );
        }
        Self::parse(&text, path).map_err(|error| error.in_file(path))
    }

    /// Parses a description that is no file, such as one that a program makes from its own settings. Relative paths start at
    /// `directory`.
    ///
    /// ```
    /// use lxd_image::store::{StoreDescription, StoreOptions};
    ///
    /// # fn main() -> lxd_image::Result<()> {
    /// # let dir = std::env::temp_dir().join(format!("lxd-image-described-{}", std::process::id()));
    /// # std::fs::create_dir_all(&dir)?;
    /// let description = StoreDescription::from_toml("catalog = 'images.sqlite'\nblobs = 'blobs'\n", &dir)?;
    /// let store = StoreOptions::new().open_described(&description)?;
    /// assert!(store.images()?.is_empty());
    /// # drop(store);
    /// # std::fs::remove_dir_all(&dir)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Malformed` with the line for anything but a valid description; `Unsupported` for an unknown engine.
    pub fn from_toml(text: &str, directory: impl AsRef<Path>) -> Result<Self> {
        Self::parse(text, &directory.as_ref().join("store.toml"))
    }

    /// Parses a description that was read from `path`.
    fn parse(text: &str, path: &Path) -> Result<Self> {
        let document: Document = toml::from_str(text).map_err(|error| {
            // The message alone: the full text repeats the line, which may hold a password.
            let line = error.span().map(|span| text.get(..span.start).unwrap_or("").matches('\n').count() + 1);
            let line = line.map(|line| format!(" in line {line}")).unwrap_or_default();
            Error::malformed(format!("the description of the store is wrong{line}: {}", error.message().trim_end()))
                .with_hint("it needs `catalog` and `blobs`, and may have `scratch` and the table `[s3]`")
        })?;
        let beside = path.parent().unwrap_or(Path::new(""));
        let catalog = match scheme(&document.catalog) {
            None => CatalogAddress::Sqlite(beside.join(&document.catalog)),
            Some("postgresql" | "postgres") => CatalogAddress::Postgres(document.catalog),
            Some(other) => return Err(unknown_engine("catalog", other, "a path or `postgresql://…`")),
        };
        let blobs = match scheme(&document.blobs) {
            None => BlobAddress::Directory(beside.join(&document.blobs)),
            Some("s3" | "gs" | "az") => BlobAddress::Objects(document.blobs),
            Some(other) => return Err(unknown_engine("blobs", other, "a path, `s3://…`, `gs://…` or `az://…`")),
        };
        let scratch = match document.scratch {
            Some(scratch) => beside.join(scratch),
            None => path.with_extension("scratch"),
        };
        Ok(Self { path: path.to_owned(), catalog, blobs, scratch, s3: document.s3 })
    }

    /// The place of the catalog, without a password.
    #[must_use]
    pub fn catalog(&self) -> String {
        match &self.catalog {
            CatalogAddress::Sqlite(path) => path.display().to_string(),
            CatalogAddress::Postgres(url) => redact::address(url),
        }
    }

    /// The place of the blobs.
    #[must_use]
    pub fn blobs(&self) -> String {
        match &self.blobs {
            BlobAddress::Directory(path) => path.display().to_string(),
            BlobAddress::Objects(url) => redact::address(url),
        }
    }

    /// The directory of staged files; unused if the blobs are a directory, which has its own.
    #[must_use]
    pub fn scratch(&self) -> &Path {
        &self.scratch
    }

    /// Opens the parts as one store.
    ///
    /// # Errors
    /// `NotFound` if there is no store and none may be created; `Malformed` if the parts belong to different stores, or
    /// the catalog is lost; those of the engines.
    pub(crate) fn open(&self, options: &StoreOptions) -> Result<Store> {
        let parts = self.connect(options)?;
        let id = self.identify(&parts, options)?;
        self.compose(&parts, &id, options)
    }

    /// Opens the parts for a repair: a catalog that is empty is given the id of the blobs. Returns whether its rows are
    /// to be rebuilt.
    pub(crate) fn open_to_repair(&self, options: &StoreOptions) -> Result<(Store, bool)> {
        let parts = self.connect(options)?;
        match (parts.catalog.id()?, parts.blobs.id()?) {
            (None, Some(id)) => {
                if parts.catalog.init(&id)? != id {
                    return Err(self.wrong(FOREIGN_PARTS));
                }
                Ok((self.compose(&parts, &id, options)?, true))
            }
            _ => {
                let id = self.identify(&parts, options)?;
                let store = self.compose(&parts, &id, options)?;
                // A repair that was interrupted after it had initialised the catalog. A note means that the catalog was
                // in use: its objects are those of images that were deleted, and must not come back.
                let catalog = &store.catalog;
                let is_new = catalog.fingerprints(&ImageQuery::new().limit(1))?.0.is_empty()
                    && catalog.objects(None, 1)?.is_empty();
                Ok((store, is_new))
            }
        }
    }

    fn connect(&self, options: &StoreOptions) -> Result<Parts> {
        Ok(Parts { catalog: self.connect_catalog(options)?, blobs: self.connect_blobs()? })
    }

    fn connect_catalog(&self, options: &StoreOptions) -> Result<CatalogPart> {
        match &self.catalog {
            CatalogAddress::Sqlite(path) => {
                Ok(CatalogPart::Sqlite { path: path.clone(), options: Box::new(options.clone()) })
            }
            #[cfg(feature = "postgres")]
            CatalogAddress::Postgres(url) => {
                let settings = super::PostgresOptions::new()
                    .busy_timeout(options.wait())
                    .migrate(!options.is_read_only())
                    .cancel(options.cancelling().cancel().clone());
                Ok(CatalogPart::Postgres { url: url.clone(), settings: Box::new(settings), opened: OnceLock::new() })
            }
            #[cfg(not(feature = "postgres"))]
            CatalogAddress::Postgres(_) => Err(left_out("a catalog on PostgreSQL", "postgres").in_file(&self.path)),
        }
    }

    fn connect_blobs(&self) -> Result<BlobPart> {
        match &self.blobs {
            BlobAddress::Directory(path) => Ok(BlobPart::Directory(path.clone())),
            #[cfg(feature = "object-store")]
            BlobAddress::Objects(url) => {
                let mut settings = super::ObjectOptions::new();
                if let Some(endpoint) = &self.s3.endpoint {
                    settings = settings.endpoint(endpoint);
                }
                if let Some(region) = &self.s3.region {
                    settings = settings.region(region);
                }
                if let Some(path_style) = self.s3.path_style {
                    settings = settings.path_style(path_style);
                }
                // A new store is probed when it is created; 20 requests at each opening would be felt.
                let settings = settings.allow_http(self.s3.allow_http).probe(false);
                Ok(BlobPart::Objects(Arc::new(super::ObjectBlobs::connect(url, &settings)?)))
            }
            #[cfg(not(feature = "object-store"))]
            BlobAddress::Objects(_) => Err(left_out("blobs in object storage", "object-store").in_file(&self.path)),
        }
    }

    /// The id of the store that both parts belong to. Creates the store if neither has one and `options` allow it.
    fn identify(&self, parts: &Parts, options: &StoreOptions) -> Result<String> {
        let may_create = options.may_create();
        match (parts.catalog.id()?, parts.blobs.id()?) {
            (Some(catalog), Some(blobs)) if catalog == blobs => Ok(catalog),
            (Some(_), Some(_)) => Err(self.wrong(FOREIGN_PARTS)),
            (None, None) if may_create => {
                // The catalog first: of two programs that create the store at once, it lets one id win.
                let id = parts.catalog.init(&random_id())?;
                parts.blobs.init(&id)?;
                Ok(id)
            }
            (None, None) => Err(Error::new(ErrorKind::NotFound, "there is no image store at the places that are described")
                .with_hint("`lxd-image store init` creates it")
                .in_file(&self.path)),
            // A creation that stopped half way. With images in the catalog, these would be the wrong blobs.
            (Some(id), None) if may_create && parts.catalog.is_empty(&id)? => {
                parts.blobs.init(&id)?;
                Ok(id)
            }
            (Some(_), None) => Err(self.wrong("the blobs have no mark of the store: they are missing, or others are in their place")),
            (None, Some(_)) => Err(self
                .wrong("the blobs belong to a store, and the catalog is empty")
                .with_hint("`lxd-image check --repair` rebuilds the catalog from the images; first see that `catalog` names the right one")),
        }
    }

    fn wrong(&self, what: &str) -> Error {
        Error::malformed(format!("{what} (catalog {}, blobs {})", self.catalog(), self.blobs()))
            .with_hint("see that the description names the right places")
            .in_file(&self.path)
    }

    fn compose(&self, parts: &Parts, id: &str, options: &StoreOptions) -> Result<Store> {
        let catalog = parts.catalog.open(id)?;
        let (blobs, scratch): (Arc<dyn BlobStore>, Scratch) = match &parts.blobs {
            BlobPart::Directory(path) => directory_parts(path, id)?,
            #[cfg(feature = "object-store")]
            BlobPart::Objects(blobs) => {
                if !options.is_read_only() {
                    atomic::make_dirs(&self.scratch, 0o700).map_err(|error| {
                        Error::io("the directory for staged files can't be made", error).in_file(&self.scratch)
                    })?;
                }
                // Compared with the identity object when the store was identified.
                blobs.remember(id);
                (Arc::clone(blobs) as Arc<dyn BlobStore>, Scratch::directory(&self.scratch)?)
            }
        };
        Ok(options.open_parts(blobs, catalog, scratch))
    }
}

/// The engines of a store, before it is known whether they belong together.
struct Parts {
    catalog: CatalogPart,
    blobs: BlobPart,
}

enum CatalogPart {
    Sqlite {
        path: PathBuf,
        options: Box<StoreOptions>,
    },
    #[cfg(feature = "postgres")]
    Postgres {
        url: String,
        settings: Box<super::PostgresOptions>,
        /// The connection that found out the id.
        opened: OnceLock<Arc<super::PostgresCatalog>>,
    },
}

enum BlobPart {
    Directory(PathBuf),
    #[cfg(feature = "object-store")]
    Objects(Arc<super::ObjectBlobs>),
}

impl CatalogPart {
    /// The id of the store that the catalog belongs to; `None` if it is not initialised.
    fn id(&self) -> Result<Option<String>> {
        match self {
            Self::Sqlite { path, .. } => SqliteCatalog::store_id(path),
            #[cfg(feature = "postgres")]
            Self::Postgres { .. } => Ok(self.database()?.map(|catalog| catalog.store_id().to_owned())),
        }
    }

    /// Initialises the catalog for the store `id`. Returns the id that it has then: that of another program which
    /// was faster.
    fn init(&self, id: &str) -> Result<String> {
        match self {
            Self::Sqlite { path, options } => {
                let directory = parent(path);
                atomic::make_dirs(directory, 0o700).map_err(|error| {
                    Error::io("the directory of the catalog can't be made", error).in_file(directory)
                })?;
                let mut found = None;
                let lock = StoreLock::making(directory, options.wait(), options.cancelling().cancel(), &mut || {
                    found = SqliteCatalog::store_id(path)?;
                    Ok(found.is_some())
                })?;
                if let (None, Some(found)) = (&lock, found) {
                    return Ok(found);
                }
                if let Some(found) = SqliteCatalog::store_id(path)? {
                    return Ok(found);
                }
                SqliteCatalog::create(path, id)?;
                Ok(id.to_owned())
            }
            #[cfg(feature = "postgres")]
            Self::Postgres { url, settings, opened } => {
                match super::PostgresCatalog::init(url, id, settings) {
                    Ok(catalog) => _ = opened.set(Arc::new(catalog)),
                    // Another program was faster.
                    Err(error) if error.kind() == ErrorKind::Mismatch => {}
                    Err(error) => return Err(error),
                }
                Ok(self.database()?.map_or_else(|| id.to_owned(), |catalog| catalog.store_id().to_owned()))
            }
        }
    }

    fn open(&self, id: &str) -> Result<Arc<dyn Catalog>> {
        match self {
            Self::Sqlite { path, options } => {
                let monitor = options.cancelling();
                let wait = (options.wait(), monitor.cancel());
                let lock = StoreLock::shared(parent(path), options.wait(), monitor.cancel())?;
                Ok(Arc::new(SqliteCatalog::open(path, id, wait, options.is_read_only(), lock)?))
            }
            #[cfg(feature = "postgres")]
            Self::Postgres { .. } => match self.database()? {
                Some(catalog) if catalog.store_id() == id => Ok(catalog as Arc<dyn Catalog>),
                _ => Err(Error::mismatch("the id of the store in the database", id.to_owned(), "another".to_owned())),
            },
        }
    }

    /// The catalog in the database; `None` if that was not initialised.
    #[cfg(feature = "postgres")]
    fn database(&self) -> Result<Option<Arc<super::PostgresCatalog>>> {
        let Self::Postgres { url, settings, opened } = self else { return Ok(None) };
        if let Some(catalog) = opened.get() {
            return Ok(Some(Arc::clone(catalog)));
        }
        match super::PostgresCatalog::connect(url, settings) {
            Ok(catalog) => Ok(Some(Arc::clone(opened.get_or_init(|| Arc::new(catalog))))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether the catalog has no images.
    fn is_empty(&self, id: &str) -> Result<bool> {
        Ok(self.open(id)?.fingerprints(&ImageQuery::new().limit(1))?.0.is_empty())
    }
}

impl BlobPart {
    /// The id of the store that the blobs belong to; `None` if they are not initialised.
    fn id(&self) -> Result<Option<String>> {
        match self {
            Self::Directory(path) => DirectoryFiles::store_id(path),
            #[cfg(feature = "object-store")]
            Self::Objects(blobs) => blobs.identity(),
        }
    }

    fn init(&self, id: &str) -> Result<()> {
        match self {
            Self::Directory(path) => DirectoryFiles::create_or_open(path, id).map(drop),
            #[cfg(feature = "object-store")]
            Self::Objects(blobs) => {
                blobs.probe()?;
                blobs.init(id)
            }
        }
    }
}

/// The directory of a file.
fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The scheme of a URL; `None` for a path.
fn scheme(text: &str) -> Option<&str> {
    let (scheme, _) = text.split_once("://")?;
    scheme.chars().all(|character| character.is_ascii_alphanumeric()).then_some(scheme)
}

fn unknown_engine(key: &str, scheme: &str, known: &str) -> Error {
    let scheme: String = scheme.chars().take(32).collect();
    Error::new(ErrorKind::Unsupported, format!("`{key}` of the store's description has the unknown scheme `{scheme}`"))
        .with_hint(format!("use {known}"))
}

#[cfg(not(all(feature = "postgres", feature = "object-store")))]
fn left_out(what: &str, feature: &str) -> Error {
    Error::new(ErrorKind::FeatureDisabled, format!("{what} needs the feature `{feature}`, which this build lacks"))
        .with_hint("build lxd-image with this feature")
}
