//! Opening a store: [`StoreOptions`], [`Store`] itself, and [`OpenedImage`] for reading the bytes of an image.
//!
//! The other operations of a store are in files of their own, named after the operation.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::blobs::{BlobKey, BlobStore, DirectoryBlobs, DirectoryFiles, Files, MemoryBlobs};
use super::catalog::{Catalog, MemoryCatalog, SqliteCatalog};
use super::description::StoreDescription;
use super::image::StoredImage;
use super::layout::{self, Marker};
use super::lock::StoreLock;
use super::scratch::Scratch;
use crate::atomic;
use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::Fingerprint;
use crate::format::{Image, ImageSource, Input, VerifyOptions};
use crate::io::{Blob, ReadAt};
use crate::limits::Limits;
use crate::progress::{Cancel, Monitor};

/// How a store is opened, and how its calls behave: waiting, limits, threads, the clock.
///
/// ```
/// use std::time::Duration;
///
/// use lxd_image::store::StoreOptions;
///
/// # let dir = std::env::temp_dir().join(format!("lxd-image-store-options-{}", std::process::id()));
/// # drop(StoreOptions::new().open(&dir)?);
/// // For a program that only reads, and gives up after a second.
/// let options = StoreOptions::new().read_only(true).busy_timeout(Duration::from_secs(1));
/// let store = options.open(&dir)?;
/// # drop(store);
/// # std::fs::remove_dir_all(&dir)?;
/// # Ok::<(), lxd_image::Error>(())
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub struct StoreOptions {
    create: bool,
    read_only: bool,
    busy_timeout: Duration,
    cancel: Cancel,
    threads: Option<usize>,
    pub(crate) limits: Limits,
    clock: Option<Arc<dyn Fn() -> i64 + Send + Sync>>,
    #[cfg(feature = "trust")]
    pub(crate) policy: Option<Arc<crate::trust::Policy>>,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            create: true,
            read_only: false,
            busy_timeout: Duration::from_secs(5),
            cancel: Cancel::new(),
            threads: None,
            limits: Limits::default(),
            clock: None,
            #[cfg(feature = "trust")]
            policy: None,
        }
    }
}

impl fmt::Debug for StoreOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreOptions")
            .field("create", &self.create)
            .field("read_only", &self.read_only)
            .field("busy_timeout", &self.busy_timeout)
            .finish_non_exhaustive()
    }
}

impl StoreOptions {
    /// Creates the store if it is missing, and waits up to five seconds for other writers.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether to create a store that is missing. Otherwise opening it fails with `NotFound`.
    #[must_use]
    pub fn create(mut self, yes: bool) -> Self {
        self.create = yes;
        self
    }

    /// Whether to change nothing, not even leftovers of dead processes. Works on a read-only file system.
    #[must_use]
    pub fn read_only(mut self, yes: bool) -> Self {
        self.read_only = yes;
        self
    }

    /// How long calls wait for other writers before they fail with `Busy`.
    #[must_use]
    pub fn busy_timeout(mut self, wait: Duration) -> Self {
        self.busy_timeout = wait;
        self
    }

    /// Sets a switch that ends all waits for other writers: the waiting call fails with `Cancelled`.
    #[must_use]
    pub fn cancel(mut self, cancel: Cancel) -> Self {
        self.cancel = cancel;
        self
    }

    /// Sets the limits for images that are imported or read.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets what images need before this handle of the store makes them visible, whatever brings them: imports, copies,
    /// refreshes, caches, uploads to a server, new aliases. Without a policy nothing is needed.
    #[cfg(feature = "trust")]
    #[must_use]
    pub fn policy(mut self, policy: crate::trust::Policy) -> Self {
        self.policy = Some(Arc::new(policy));
        self
    }

    /// How many threads decode an image while it is verified, at most. The default is all cores.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = Some(threads);
        self
    }

    /// The options for verifying an image.
    pub(crate) fn verifying(&self) -> VerifyOptions {
        let options = VerifyOptions::new();
        match self.threads {
            Some(threads) => options.threads(threads),
            None => options,
        }
    }

    /// Sets the source of the time, in seconds since 1970. For tests: the default is the clock of the
    /// catalog ([`Catalog::now`]).
    #[must_use]
    pub fn clock(mut self, clock: impl Fn() -> i64 + Send + Sync + 'static) -> Self {
        self.clock = Some(Arc::new(clock));
        self
    }

    /// The time now, in seconds since 1970, where there is no catalog to ask.
    pub(crate) fn now(&self) -> i64 {
        self.clock.as_ref().map_or_else(crate::time::system_now, |clock| clock())
    }

    /// A monitor that is cancelled by the switch of these options.
    pub(crate) fn cancelling(&self) -> Monitor {
        Monitor::none().with_cancel(self.cancel.clone())
    }

    /// Whether a store that is missing may be created.
    pub(crate) fn may_create(&self) -> bool {
        self.create && !self.read_only
    }

    /// Whether nothing may be changed.
    pub(crate) fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// How long to wait for other writers.
    pub(crate) fn wait(&self) -> Duration {
        self.busy_timeout
    }

    /// Opens the store at `path`: a directory, or a file that [describes](super::StoreDescription) where its parts are.
    ///
    /// Upgrades a store of an older layout, and sweeps leftovers of dead processes, unless it is opened for reading
    /// only.
    ///
    /// # Errors
    /// `NotFound` if it is missing and may not be created; `Unsupported` for a newer layout and for
    /// a directory that is no store; `Malformed` if it is damaged; `Busy` while a repair rebuilds
    /// its catalog, and if it has an older layout and other programs use it; `Io`.
    pub fn open(&self, path: impl AsRef<Path>) -> Result<Store> {
        let path = path.as_ref();
        if StoreDescription::is_at(path) {
            return StoreDescription::read(path)?.open(self);
        }
        let marker = match Marker::read(path)? {
            Some(marker) => marker,
            None if self.create && !self.read_only => make(path, self.busy_timeout, &self.cancel)?,
            None if path.exists() && !layout::is_unfinished(path)? => return Err(layout::foreign(path)),
            None => return Err(Error::new(ErrorKind::NotFound, "there is no image store").in_file(path)),
        };
        if marker.layout < layout::VERSION && !self.read_only {
            upgrade(path, &marker, self)?;
        }
        let store = self.open_unswept(path, &marker)?;
        if !self.read_only {
            // Damage is told by the calls that meet it, and by a check.
            let _ = store.sweep_leftovers();
            remove_unfinished_catalog(path);
        }
        Ok(store)
    }

    /// Opens the store whose parts a description names.
    ///
    /// # Errors
    /// `NotFound` if there is no store and none may be created; `Malformed` if the parts belong to different stores, or the
    /// catalog is lost; `FeatureDisabled` for an engine that was compiled out; those of the engines.
    pub fn open_described(&self, description: &StoreDescription) -> Result<Store> {
        description.open(self)
    }

    /// Opens the store at `path` without sweeping.
    pub(crate) fn open_unswept(&self, path: &Path, marker: &Marker) -> Result<Store> {
        // Taken before the catalog is opened, and kept by it: no repair replaces the file under an open catalog.
        let lock = StoreLock::shared(path, self.busy_timeout, &self.cancel)?;
        let (blobs, scratch) = directory_parts(path, &marker.id)?;
        let (wait, read_only) = ((self.busy_timeout, &self.cancel), self.read_only);
        let catalog = SqliteCatalog::open(&layout::catalog(path), &marker.id, wait, read_only, lock)?;
        Ok(Store { blobs, catalog: Arc::new(catalog), scratch, options: self.clone() })
    }

    /// Composes a store of a blob store, a catalog and scratch.
    ///
    /// All processes that share a store must use the same blobs and the same catalog; scratch
    /// belongs to each machine.
    ///
    /// ```
    /// use std::sync::Arc;
    ///
    /// use lxd_image::store::{ImageQuery, MemoryBlobs, MemoryCatalog, Scratch, StoreOptions};
    ///
    /// # fn main() -> lxd_image::Result<()> {
    /// let (blobs, catalog) = (Arc::new(MemoryBlobs::new()), Arc::new(MemoryCatalog::new()));
    /// let store = StoreOptions::new().open_parts(blobs, catalog, Scratch::in_memory());
    /// assert_eq!(store.totals(&ImageQuery::new())?.images, 0);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn open_parts(&self, blobs: Arc<dyn BlobStore>, catalog: Arc<dyn Catalog>, scratch: Scratch) -> Store {
        let store = Store { blobs, catalog, scratch, options: self.clone() };
        if !self.read_only {
            // Damage is told by the calls that meet it, and by a check.
            let _ = store.sweep_leftovers();
        }
        store
    }
}

/// The blobs and the scratch below one directory. Both use the same files, so that an upload is a hard link.
pub(crate) fn directory_parts(path: &Path, id: &str) -> Result<(Arc<dyn BlobStore>, Scratch)> {
    let files: Arc<dyn Files> = Arc::new(DirectoryFiles::open(path, id)?);
    Ok((Arc::new(DirectoryBlobs::new(Arc::clone(&files))), Scratch::new(files, id)))
}

/// Upgrades a store of an older layout, with the store locked exclusively: an older program must
/// not go on writing the old layout.
///
/// An interrupted upgrade is completed by the next opening. The catalog is migrated first, so
/// programs that know only the older layout refuse the store from then on; the marker is written
/// last.
pub(crate) fn upgrade(path: &Path, marker: &Marker, options: &StoreOptions) -> Result<()> {
    let lock = StoreLock::exclusive(path, options.busy_timeout, &options.cancelling()).map_err(|error| {
        if error.kind() != ErrorKind::Busy {
            return error;
        }
        let (from, to) = (marker.layout, layout::VERSION);
        let what =
            format!("the store has layout version {from} and is to be brought to {to}, and other programs use it");
        Error::new(ErrorKind::Busy, what)
            .with_hint("stop all programs that use the store; it is upgraded when it is opened next")
            .in_file(path)
    })?;
    let catalog = layout::catalog(path);
    if !catalog.exists() {
        return Err(Error::malformed("the catalog can't be found")
            .with_hint("`lxd-image check --repair` rebuilds the catalog from the images")
            .in_file(catalog));
    }
    SqliteCatalog::upgrade(&catalog, &marker.id)?;
    abandon_old_imports(path, marker, options)?;
    marker.write(path)?;
    drop(lock);
    Ok(())
}

/// Marks the objects of unfinished imports of layout 1 as dead. Layout 1 had no notes, but the
/// names of its staged files begin with the fingerprint.
fn abandon_old_imports(path: &Path, marker: &Marker, options: &StoreOptions) -> Result<()> {
    let (blobs, scratch) = directory_parts(path, &marker.id)?;
    let begun: Vec<Fingerprint> = scratch.names()?.iter().filter_map(|name| name.get(..64)?.parse().ok()).collect();
    if begun.is_empty() {
        return Ok(());
    }
    let wait = (options.busy_timeout, &options.cancel);
    let rows = SqliteCatalog::open(&layout::catalog(path), &marker.id, wait, false, StoreLock::unlocked(path)?)?;
    let store = Store { blobs, catalog: Arc::new(rows), scratch, options: options.clone() };
    store.catalog.write(&mut |catalog| {
        for fingerprint in &begun {
            if catalog.image(fingerprint)?.is_none() {
                BlobKey::legacy(fingerprint)
                    .iter()
                    .try_for_each(|key| catalog.put_object(&store.dead(key, fingerprint)))?;
            }
        }
        Ok(())
    })
}

/// Removes what a killed repair left. The open store excludes a repair that is running.
fn remove_unfinished_catalog(path: &Path) {
    for suffix in layout::CATALOG_SUFFIXES {
        let _ = std::fs::remove_file(layout::beside(&layout::rebuilt_catalog(path), suffix));
    }
}

/// Creates a store, or completes the creation that another process did not finish.
fn make(path: &Path, wait: Duration, cancel: &Cancel) -> Result<Marker> {
    let fail = |error: std::io::Error| Error::io("the store's directory can't be made", error).in_file(path);
    atomic::make_dirs(path, 0o700).map_err(fail)?;
    let mut made = None;
    // One process at a time; the lock ends with this function or with the process.
    let lock = StoreLock::making(path, wait, cancel, &mut || {
        made = Marker::read(path)?;
        // Checked before waiting: a store that has lost its marker may be in use, and then the lock is never free.
        if made.is_none() && !layout::is_unfinished(path)? { Err(layout::foreign(path)) } else { Ok(made.is_some()) }
    })?;
    let Some(lock) = lock else {
        return made.ok_or_else(|| Error::new(ErrorKind::NotFound, "there is no image store").in_file(path));
    };
    if let Some(marker) = Marker::read(path)? {
        return Ok(marker);
    }
    if !layout::is_unfinished(path)? {
        return Err(layout::foreign(path));
    }
    rustix::fs::fchmod(lock.directory(), rustix::fs::Mode::from_raw_mode(0o700)).map_err(|error| fail(error.into()))?;
    let marker = Marker::new();
    DirectoryFiles::create(path, &marker.id)?;
    SqliteCatalog::create(&layout::catalog(path), &marker.id)?;
    marker.write(path)?;
    Ok(marker)
}

/// A store of images.
///
/// Any number of processes and threads may use a store at the same time; a clone is the same store.
/// An image becomes visible once it is complete, verified and on the disk. A change that a call has
/// reported as done survives a crash and a power cut.
///
/// ```
/// use lxd_image::store::Store;
///
/// # let directory = std::env::temp_dir().join(format!("lxd-image-doc-{}", std::process::id()));
/// let store = Store::open(&directory)?;
/// assert!(store.images()?.is_empty());
/// assert_eq!(store.resolve("debian/12").unwrap_err().kind(), lxd_image::ErrorKind::NotFound);
/// # drop(store);
/// # std::fs::remove_dir_all(&directory).unwrap();
/// # Ok::<(), lxd_image::Error>(())
/// ```
#[derive(Clone)]
pub struct Store {
    pub(crate) blobs: Arc<dyn BlobStore>,
    pub(crate) catalog: Arc<dyn Catalog>,
    pub(crate) scratch: Scratch,
    pub(crate) options: StoreOptions,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the store at `path`, or creates it, with the default options.
    ///
    /// # Errors
    /// As [`StoreOptions::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        StoreOptions::new().open(path)
    }

    /// Creates a store in memory, which is freed with its last clone: for tests and short-lived tools.
    ///
    /// # Errors
    /// None today; where the system refuses memory, using the store fails with `Io`.
    pub fn in_memory() -> Result<Self> {
        let blobs = Arc::new(MemoryBlobs::new());
        Ok(StoreOptions::new().open_parts(blobs, Arc::new(MemoryCatalog::new()), Scratch::in_memory()))
    }

    /// Fails if nothing can be written: stages a file, and commits a transaction without a change.
    ///
    /// # Errors
    /// `Busy`, `StorageFull`, `Io`, with what refused; `Malformed` if the blobs are not those of this store.
    pub fn check_writable(&self) -> Result<()> {
        self.blobs.check_identity()?;
        drop(self.scratch.create()?);
        self.catalog.write(&mut |_| Ok(()))
    }

    /// A monitor that is cancelled by the switch that ends waits of this store.
    pub(crate) fn waiting(&self) -> Monitor {
        self.options.cancelling()
    }

    /// A number that changes with every commit to the catalog; `None` if the catalog has none.
    /// Callers use it to keep caches.
    #[cfg(feature = "server")]
    pub(crate) fn version(&self) -> Option<u64> {
        self.catalog.version().ok().flatten()
    }

    /// The records by which the servers of this store coordinate, if its catalog is one that several machines share.
    #[cfg(feature = "server")]
    pub(crate) fn shared_records(&self) -> Option<&dyn super::catalog::SharedRecords> {
        self.catalog.shared_records()
    }

    /// Whether the blob store can give anybody an address at which an object may be read for some time.
    ///
    /// # Errors
    /// Those of the blob store: missing credentials, for example.
    pub fn has_presigned_links(&self) -> Result<bool> {
        let (key, _) = BlobKey::pair(&Fingerprint::of(b""));
        Ok(self.blobs.link(&key, Duration::from_secs(60))?.is_some())
    }

    /// An address at which anybody may read an object for as long as `lifetime`; `None` if the blob store has no such
    /// addresses.
    #[cfg(feature = "server")]
    pub(crate) fn link(&self, key: &BlobKey, lifetime: Duration) -> Result<Option<String>> {
        self.blobs.link(key, lifetime)
    }

    /// Looks up one image with its aliases.
    ///
    /// # Errors
    /// `NotFound`; `Malformed` if the catalog is damaged; `Io`.
    pub fn image(&self, fingerprint: &Fingerprint) -> Result<StoredImage> {
        self.catalog.image(fingerprint)?.ok_or_else(|| missing(fingerprint))
    }

    /// A file in scratch, for bytes that are on their way into the store.
    #[cfg(feature = "remote")]
    pub(crate) fn stage_file(&self) -> Result<super::scratch::StagedFile> {
        self.scratch.create()
    }

    /// A file in scratch for a layer with this digest and size, with what a process that is gone had of it, and the hash of
    /// that.
    #[cfg(feature = "remote")]
    pub(crate) fn stage_layer(
        &self,
        digest: &Fingerprint,
        size: u64,
        monitor: &Monitor,
    ) -> Result<(super::scratch::StagedFile, crate::fingerprint::Hasher)> {
        self.scratch.create_part(digest, size, monitor)
    }

    /// Opens the files of an image. They stay readable when the image is deleted meanwhile.
    ///
    /// # Errors
    /// `NotFound`; `Mismatch` if the size of a file differs from its row; `Malformed` if a file is missing; `Io`.
    pub fn open_image(&self, fingerprint: &Fingerprint) -> Result<OpenedImage> {
        // Another process may delete the image between the lookup and the opening, and even import
        // it again under new keys. After three attempts the file really is missing.
        for _ in 0..3 {
            let image = self.image(fingerprint)?;
            if let Some(opened) = self.open_files(image)? {
                return Ok(opened);
            }
        }
        self.blobs.check_identity()?;
        Err(Error::malformed(format!("a file of the image {fingerprint} is missing from the store"))
            .with_hint("`lxd-image check` looks for more damage"))
    }

    /// Opens the objects that a row names; `None` if one of them is missing.
    pub(crate) fn open_files(&self, image: StoredImage) -> Result<Option<OpenedImage>> {
        let fingerprint = image.fingerprint;
        let opened = self.blobs.open(&image.objects.image).and_then(|first| {
            let rootfs = image.objects.rootfs.as_ref().map(|key| self.blobs.open(key)).transpose()?;
            Ok((first, rootfs))
        });
        let (first, rootfs) = match opened {
            Ok(files) => files,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        check_length(&first, image.first_size(), &fingerprint)?;
        if let Some(rootfs) = &rootfs {
            check_length(rootfs, image.rootfs_size.unwrap_or(0), &fingerprint)?;
        }
        Ok(Some(OpenedImage { image, first, rootfs }))
    }

    /// The time now, in seconds since 1970: that of the catalog, as several machines must agree on it.
    pub(crate) fn now(&self) -> i64 {
        self.options.clock.as_ref().map_or_else(|| self.catalog.now(), |clock| clock())
    }
}

/// Fails with `Mismatch` if a file does not have the size that its row says.
fn check_length(file: &Blob, expected: u64, fingerprint: &Fingerprint) -> Result<()> {
    let found = file.len();
    if found == expected {
        return Ok(());
    }
    let what = format!("the size of a file of the image {}", fingerprint.short());
    Err(Error::mismatch(&what, expected.to_string(), found.to_string()))
}

/// The error for a fingerprint that is not in the store.
pub(crate) fn missing(fingerprint: &Fingerprint) -> Error {
    Error::new(ErrorKind::NotFound, format!("there is no image {fingerprint} in the store"))
}

/// An image whose files are open. They stay readable until this is dropped, even if the image is deleted.
///
/// ```no_run
/// use lxd_image::Monitor;
/// use lxd_image::format::UnpackOptions;
/// use lxd_image::io::ReadAt;
/// use lxd_image::store::StoreOptions;
/// use lxd_image::Limits;
///
/// # fn main() -> lxd_image::Result<()> {
/// let store = StoreOptions::new().create(false).open("/var/lib/boxes/images")?;
/// let known = store.resolve("debian/12")?;
/// let opened = store.open_image(&known.fingerprint)?;
/// // As an image: to look into, to verify, to unpack.
/// let image = opened.open(&Limits::default())?;
/// image.unpack_verified("/srv/c1", &known.fingerprint, &UnpackOptions::new(), &Monitor::none())?;
/// // Or as bytes, to send on as they are.
/// let (first, rootfs) = opened.files();
/// println!("{} bytes, {}", first.len(), if rootfs.is_some() { "split" } else { "unified" });
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct OpenedImage {
    image: StoredImage,
    first: Blob,
    rootfs: Option<Blob>,
}

impl OpenedImage {
    /// The row of the image at the time when it was opened.
    #[must_use]
    pub fn image(&self) -> &StoredImage {
        &self.image
    }

    /// The image's file, or the metadata file of a split one, and the rootfs file.
    #[must_use]
    pub fn files(&self) -> (&Blob, Option<&Blob>) {
        (&self.first, self.rootfs.as_ref())
    }

    /// The files as an image to inspect, verify or unpack.
    #[must_use]
    pub fn source(&self) -> ImageSource {
        let input = |file: &Blob, name: String| Input::blob(file.clone()).named(PathBuf::from(name));
        let first = input(&self.first, self.image.fingerprint.to_string());
        match &self.rootfs {
            None => ImageSource::unified(first),
            Some(rootfs) => ImageSource::split(first, input(rootfs, format!("{}.rootfs", self.image.fingerprint))),
        }
    }

    /// Opens the files as an image.
    ///
    /// # Errors
    /// Those of [`Image::open_with`].
    pub fn open(&self, limits: &Limits) -> Result<Image> {
        Image::open_with(self.source(), limits)
    }
}
