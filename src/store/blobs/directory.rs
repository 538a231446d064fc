//! [`DirectoryFiles`]: three directories on one file system, used through descriptors. And
//! [`DirectoryBlobs`], which implements [`BlobStore`] with them.
//!
//! Directories have mode 0700 and files 0600, whatever the umask. Locks are `flock`, which the
//! kernel releases when a process ends. A blob appears by a hard link from a staged file that was
//! synced, so its name never stands for incomplete content.

use std::fs::File;
use std::io::{self, Write};
use std::num::NonZeroU64;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{self, AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::{Area, BlobKey, BlobStore, Files, NewFile};
use crate::error::{Error, ErrorKind, Result};
use crate::io::{self as bytes, Blob, ReadAt};
use crate::progress::{Monitor, Phase};
use crate::rooted::{Dir, is, staging_name};
use crate::store::random::random_id;
use crate::store::scratch::{Scratch, StagedFile};

/// The file in the directory of the blobs that has the id of its store.
const MARKER: &str = "store-id";

/// The files of a store below one directory.
///
/// ```
/// use std::sync::Arc;
///
/// use lxd_image::store::{DirectoryBlobs, DirectoryFiles, MemoryCatalog, Scratch, StoreOptions};
///
/// # let dir = std::env::temp_dir().join(format!("lxd-image-files-{}", std::process::id()));
/// // A store with a catalog of its own kind. Blobs and scratch share the files, so that an upload is a link.
/// let files = Arc::new(DirectoryFiles::create_or_open(&dir, "an id of this store")?);
/// let (blobs, scratch) = (DirectoryBlobs::new(files.clone()), Scratch::new(files, "an id of this store"));
/// let store = StoreOptions::new().open_parts(Arc::new(blobs), Arc::new(MemoryCatalog::new()), scratch);
/// assert!(store.images()?.is_empty());
/// # drop(store);
/// # std::fs::remove_dir_all(&dir)?;
/// # Ok::<(), lxd_image::Error>(())
/// ```
pub struct DirectoryFiles {
    path: PathBuf,
    id: String,
    blobs: Dir,
    staging: Dir,
    quarantine: Dir,
}

impl DirectoryFiles {
    /// Opens the directories below `path`, or creates them, for programs that bring a catalog of
    /// their own. `id` identifies the store that they belong to.
    ///
    /// # Errors
    /// `Malformed` if they belong to another store; `Io`.
    pub fn create_or_open(path: impl AsRef<Path>, id: &str) -> Result<Self> {
        let path = path.as_ref();
        if !path.join(Area::Blobs.name()).exists() {
            crate::atomic::make_dirs(path, 0o777)
                .map_err(|error| Error::io("the directory can't be made", error).in_file(path))?;
            Self::create(path, id)?;
        }
        Self::open(path, id)
    }

    /// The id of the store that the directories below `path` belong to; `None` without a marker.
    pub(in crate::store) fn store_id(path: &Path) -> Result<Option<String>> {
        let marker = path.join(Area::Blobs.name()).join(MARKER);
        match std::fs::read_to_string(&marker) {
            Ok(id) => Ok(Some(id.trim_end().to_owned()).filter(|id| !id.is_empty())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io("the directory's marker can't be read", error).in_file(marker)),
        }
    }

    /// Opens the directories below `path`, or creates them with a random id, and returns the id.
    pub(in crate::store) fn private(path: impl AsRef<Path>) -> Result<(Self, String)> {
        let path = path.as_ref();
        let id = Self::store_id(path)?.unwrap_or_else(random_id);
        Ok((Self::create_or_open(path, &id)?, id))
    }

    /// Creates the directories below `path` for the store `id`. Directories that exist are kept, so
    /// an interrupted call can be repeated.
    pub(crate) fn create(path: &Path, id: &str) -> Result<()> {
        let fail = |what: &'static str| move |error: io::Error| Error::io(what, error).in_file(path);
        let top = Dir::open(path).map_err(fail("the store's directory can't be opened"))?;
        for area in Area::ALL {
            let name = area.name().as_bytes();
            match top.make_dir(name, 0o700) {
                Err(error) if !is(&error, Errno::EXIST) => {
                    return Err(fail("a directory of the store can't be made")(error));
                }
                _ => {}
            }
            let dir = top.child(name).map_err(fail("a directory of the store can't be opened"))?;
            fs::fchmod(dir.as_fd(), Mode::from_raw_mode(0o700))
                .map_err(|error| fail("a directory of the store can't be made private")(error.into()))?;
        }
        let blobs =
            top.child(Area::Blobs.name().as_bytes()).map_err(fail("a directory of the store can't be opened"))?;
        let write = || -> io::Result<()> {
            match blobs.remove_file(MARKER.as_bytes()) {
                Err(error) if !is(&error, Errno::NOENT) => return Err(error),
                _ => {}
            }
            let mut file = blobs.create(MARKER.as_bytes(), 0o600)?;
            file.write_all(id.as_bytes())?;
            file.sync_all()?;
            fs::fsync(blobs.as_fd())?;
            Ok(fs::fsync(top.as_fd())?)
        };
        write().map_err(fail("the marker of the blobs can't be written"))
    }

    /// Opens the directories below `path`, which must belong to the store `id`.
    ///
    /// # Errors
    /// `Malformed` if they belong to another store or are missing; `Io`.
    pub(crate) fn open(path: &Path, id: &str) -> Result<Self> {
        let open = |top: &Dir, area: Area| {
            top.child(area.name().as_bytes()).map_err(|error| {
                let error = if is(&error, Errno::NOENT) {
                    Error::malformed("a directory of the store is missing")
                } else {
                    Error::io("a directory of the store can't be opened", error)
                };
                error.in_file(path.join(area.name()))
            })
        };
        let top = Dir::open(path).map_err(|error| Error::io("the store can't be opened", error).in_file(path))?;
        let opened = Self {
            path: path.to_path_buf(),
            id: id.to_owned(),
            blobs: open(&top, Area::Blobs)?,
            staging: open(&top, Area::Staging)?,
            quarantine: open(&top, Area::Quarantine)?,
        };
        opened.check_identity()?;
        Ok(opened)
    }

    /// The open directory of an area.
    fn dir(&self, area: Area) -> &Dir {
        match area {
            Area::Blobs => &self.blobs,
            Area::Staging => &self.staging,
            Area::Quarantine => &self.quarantine,
        }
    }
}

/// Takes a `flock`; `false` while another process holds it. Waits if `operation` does.
fn lock(file: &impl AsFd, operation: FlockOperation) -> io::Result<bool> {
    loop {
        match fs::flock(file, operation) {
            Ok(()) => return Ok(true),
            Err(Errno::WOULDBLOCK) => return Ok(false),
            Err(Errno::INTR) => {}
            Err(error @ (Errno::NOLCK | Errno::NOSYS | Errno::OPNOTSUPP | Errno::INVAL)) => {
                let error = Error::unsupported("the store's file system has no file locks (`flock`)")
                    .with_source(io::Error::from(error));
                return Err(error.into());
            }
            Err(error) => return Err(error.into()),
        }
    }
}

impl Files for DirectoryFiles {
    fn directory(&self) -> Option<&Path> {
        Some(&self.path)
    }

    fn create(&self) -> io::Result<Box<dyn NewFile>> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        for _ in 0..16 {
            let name = String::from_utf8_lossy(&staging_name(b"new")).into_owned();
            let file = match fs::openat(&self.staging, &name, flags, Mode::from_raw_mode(0o600)) {
                Err(Errno::EXIST) => continue,
                opened => File::from(opened?),
            };
            let prepared = fs::fchmod(&file, Mode::from_raw_mode(0o600))
                .map_err(io::Error::from)
                .and_then(|()| lock(&file, FlockOperation::LockExclusive))
                .and_then(|_| Ok(fs::fstat(&file)?.st_nlink));
            match prepared {
                // Another process swept the file between its creation and the lock.
                Ok(0) => {}
                Ok(_) => return Ok(Box::new(DirectoryFile { name, file, at: 0, written_back: 0 })),
                Err(error) => {
                    let _ = self.staging.remove_file(name.as_bytes());
                    return Err(error);
                }
            }
        }
        Err(io::Error::other("no free name for a staging file was found"))
    }

    fn space(&self) -> io::Result<Option<u64>> {
        let about = fs::fstatvfs(&self.staging)?;
        // A file system in memory without a bound says that it has no blocks at all.
        Ok((about.f_blocks > 0).then(|| about.f_bavail.saturating_mul(about.f_frsize)))
    }

    fn open(&self, area: Area, name: &str) -> io::Result<Blob> {
        self.dir(area).open_file(name.as_bytes()).and_then(Blob::file)
    }

    fn link(&self, staged: &str, blob: &str) -> io::Result<()> {
        match fs::linkat(&self.staging, staged, &self.blobs, blob, AtFlags::empty()) {
            Err(error @ (Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS)) => {
                let error =
                    Error::unsupported("the store's file system has no hard links").with_source(io::Error::from(error));
                Err(error.into())
            }
            done => Ok(done?),
        }
    }

    fn rename(&self, from: (Area, &str), to: (Area, &str)) -> io::Result<()> {
        Ok(fs::renameat(self.dir(from.0), from.1, self.dir(to.0), to.1)?)
    }

    fn remove(&self, area: Area, name: &str) -> io::Result<()> {
        self.dir(area).remove_file(name.as_bytes())
    }

    fn names(&self, area: Area) -> io::Result<Vec<String>> {
        let names = self.dir(area).names()?;
        // The store creates ASCII names only, so names that are not UTF-8 are foreign.
        Ok(names.into_iter().filter_map(|name| String::from_utf8(name).ok()).filter(|name| name != MARKER).collect())
    }

    fn sync(&self, area: Area) -> io::Result<()> {
        Ok(fs::fsync(self.dir(area))?)
    }

    fn try_lock_orphan(&self, staged: &str) -> io::Result<Option<Box<dyn Send>>> {
        let file = match self.staging.open_file(staged.as_bytes()) {
            Err(error) if is(&error, Errno::NOENT) => return Ok(None),
            file => file?,
        };
        let held: Box<dyn Send> = Box::new(OwnedFd::from(file.try_clone()?));
        Ok(if lock(&file, FlockOperation::NonBlockingLockExclusive)? { Some(held) } else { None })
    }

    fn check_identity(&self) -> Result<()> {
        use std::io::Read;
        let mut found = String::new();
        let blobs = self.path.join(Area::Blobs.name());
        // By path and not by descriptor, on purpose: a file system may have been mounted over the
        // directory meanwhile.
        let opened = Dir::open(&blobs).and_then(|dir| dir.open_file(MARKER.as_bytes()));
        let read = opened.and_then(|file| file.take(1 << 10).read_to_string(&mut found));
        match read {
            Ok(_) if found.trim_end() == self.id => Ok(()),
            Err(error) if !is(&error, Errno::NOENT) && !is(&error, Errno::NOTDIR) => {
                Err(Error::io("the marker of the blobs can't be read", error).in_file(blobs.join(MARKER)))
            }
            _ => Err(Error::malformed(
                "these are not the blobs of this store: the marker with its id is missing or another",
            )
            .with_hint("is the file system of the blobs mounted?")
            .in_file(blobs)),
        }
    }
}

/// After so many bytes the kernel is asked to write back what it has.
const WRITE_BACK_BYTES: u64 = 8 << 20;

/// A staged file: open, and locked by this descriptor.
struct DirectoryFile {
    name: String,
    file: File,
    /// Where the next bytes go.
    at: u64,
    /// From where on the kernel was not asked to write back.
    written_back: u64,
}

impl DirectoryFile {
    /// Begins to write to the disk what has arrived, so that the disk works while the rest arrives and the `fsync` at the
    /// end finds little left. The advice says that the pages are not needed: the kernel then starts to write those that are
    /// dirty and keeps them until that is done, and drops only the others, of which a new file has none.
    fn write_back(&mut self) {
        let length = self.at.saturating_sub(self.written_back);
        if length >= WRITE_BACK_BYTES {
            // Without it the `fsync` takes longer, and nothing else changes.
            let _ = fs::fadvise(&self.file, self.written_back, NonZeroU64::new(length), fs::Advice::DontNeed);
            self.written_back = self.at;
        }
    }
}

impl Write for DirectoryFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.at = self.at.saturating_add(count as u64);
        self.write_back();
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl NewFile for DirectoryFile {
    fn name(&self) -> &str {
        &self.name
    }

    fn reflink(&mut self, from: &Blob) -> io::Result<bool> {
        Ok(from.reflink_to(self.file.as_fd()))
    }

    fn skip(&mut self, bytes: u64) -> io::Result<()> {
        self.at = self.at.saturating_add(bytes);
        crate::sparse::skip(&mut self.file, bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(fs::fsync(&self.file)?)
    }

    fn reader(&self) -> io::Result<Blob> {
        self.file.try_clone().and_then(Blob::file)
    }
}

/// A [`BlobStore`] of the files of one directory.
///
/// An upload from scratch on the same files is a hard link; from anywhere else it is copied first.
/// Open files survive their deletion, so no grace is needed.
pub struct DirectoryBlobs {
    files: Arc<dyn Files>,
    /// What a listing that is going on found when it began: reading the directory again for each
    /// page would take the square of the number of files.
    listing: Mutex<Vec<BlobKey>>,
}

impl DirectoryBlobs {
    /// Blobs on any implementation of [`Files`].
    #[must_use]
    pub fn new(files: Arc<dyn Files>) -> Self {
        Self { files, listing: Mutex::default() }
    }

    /// The same files as scratch, for copies of what was staged elsewhere.
    fn scratch(&self) -> Scratch {
        Scratch::new(Arc::clone(&self.files), "")
    }

    /// Copies a staged file of other files into these.
    fn copy_here(&self, staged: &StagedFile, monitor: &Monitor) -> Result<StagedFile> {
        let (from, mut copy) = (staged.reader()?, self.scratch().create()?);
        if copy.reflink(&from)? {
            return Ok(copy);
        }
        let mut report = |read| monitor.report(Phase::Upload, read, Some(from.len()));
        bytes::read_all(&from, "a staged file cannot be read", &mut report, &mut |bytes| {
            copy.write_sparse(bytes).map_err(|error| Error::io("the image cannot be written into the store", error))
        })?;
        Ok(copy)
    }

    /// Makes a staged file of these files the object `key`, by a hard link.
    fn link(&self, key: &BlobKey, staged: &mut StagedFile) -> Result<()> {
        // Content before name: after a failed sync it is unknown what is on the disk, and the name
        // must not exist then.
        staged.sync()?;
        self.files.link(staged.name(), key.as_str()).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => {
                Error::new(ErrorKind::AlreadyExists, format!("the object `{key}` is there already"))
            }
            _ => Error::io("the image cannot be given its name", error),
        })?;
        self.files.sync(Area::Blobs).map_err(blob_error)
    }
}

impl BlobStore for DirectoryBlobs {
    fn engine(&self) -> &'static str {
        "directory"
    }

    fn put(&self, key: &BlobKey, staged: &mut StagedFile, monitor: &Monitor) -> Result<()> {
        monitor.check()?;
        if staged.is_among(&self.files) {
            return self.link(key, staged);
        }
        self.link(key, &mut self.copy_here(staged, monitor)?)
    }

    fn open(&self, key: &BlobKey) -> Result<Blob> {
        self.files.open(Area::Blobs, key.as_str()).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => {
                Error::new(ErrorKind::NotFound, format!("the object `{key}` is not in the store")).with_source(error)
            }
            _ => Error::io(format!("the object `{key}` cannot be opened"), error),
        })
    }

    fn delete(&self, keys: &[BlobKey]) -> Result<()> {
        for key in keys {
            match self.files.remove(Area::Blobs, key.as_str()) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(blob_error(error)),
                _ => {}
            }
        }
        if keys.is_empty() { Ok(()) } else { self.files.sync(Area::Blobs).map_err(blob_error) }
    }

    fn list(&self, after: Option<&BlobKey>, limit: usize) -> Result<Vec<BlobKey>> {
        let mut listing = self.listing.lock().unwrap_or_else(PoisonError::into_inner);
        if after.is_none() || listing.is_empty() {
            let names = self.files.names(Area::Blobs).map_err(blob_error)?;
            // A directory cannot hold a name that is no key.
            *listing = names.into_iter().filter_map(|name| BlobKey::new(name).ok()).collect();
            listing.sort_unstable();
        }
        let start = after.map_or(0, |after| listing.partition_point(|key| key <= after));
        let page: Vec<BlobKey> = listing.iter().skip(start).take(limit).cloned().collect();
        if start + page.len() == listing.len() {
            listing.clear();
        }
        Ok(page)
    }

    fn sweep(&self) -> Result<usize> {
        // Copies of what was staged elsewhere. Where these files are the store's scratch as well,
        // it has swept them before.
        self.scratch().sweep()
    }

    fn archive(&self, keys: &[BlobKey]) -> Result<()> {
        let aside = |key: &BlobKey, number: u32| if number == 0 { key.to_string() } else { format!("{key}.{number}") };
        let is_free = |name: &str| match self.files.open(Area::Quarantine, name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
            Err(error) => Err(blob_error(error)),
            Ok(_) => Ok(false),
        };
        let mut number: u32 = 0;
        loop {
            let free: Vec<bool> = keys.iter().map(|key| is_free(&aside(key, number))).collect::<Result<_>>()?;
            if free.into_iter().all(|free| free) {
                break;
            }
            let full = || Error::new(ErrorKind::Io, "the quarantine has no free name left");
            number = number.checked_add(1).ok_or_else(full)?;
        }
        for key in keys {
            match self.files.rename((Area::Blobs, key.as_str()), (Area::Quarantine, &aside(key, number))) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(blob_error(error)),
                _ => {}
            }
        }
        // The new names first: a power cut in between leaves the files in both places and never in none.
        self.files.sync(Area::Quarantine).and_then(|()| self.files.sync(Area::Blobs)).map_err(blob_error)
    }

    fn check_identity(&self) -> Result<()> {
        self.files.check_identity()
    }
}

fn blob_error(error: io::Error) -> Error {
    Error::io("the store's directory of blobs cannot be used", error)
}
