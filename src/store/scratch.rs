//! `Scratch`: where bytes are on their way into a store. Always local, whatever holds the blobs: they are hashed and verified
//! there before anything of them can be seen. Each staged file is locked by its maker; one whose lock is free is an orphan.

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use super::blobs::{Area, DirectoryFiles, Files, MemoryFiles, NewFile};
use crate::error::{Error, Result};
use crate::io::{Blob, ReadAt};
use crate::sparse::{self, Run};

/// The local directory of staged files.
#[derive(Clone)]
pub struct Scratch {
    files: Arc<dyn Files>,
    id: String,
}

impl Scratch {
    /// Scratch made of these files. All who share them give the same `id`, and nobody else does: whoever finds a note about an
    /// upload tells by it whether the upload's file must be here, and takes the upload for abandoned when it is not.
    #[must_use]
    pub fn new(files: Arc<dyn Files>, id: impl Into<String>) -> Self {
        Self { files, id: id.into() }
    }

    /// A directory of its own, which is made if it is not there, and which processes of this machine may share.
    ///
    /// # Errors
    /// `Malformed` when the directory belongs to something else, `Io`.
    pub fn directory(path: impl AsRef<Path>) -> Result<Self> {
        let (files, id) = DirectoryFiles::private(path)?;
        Ok(Self { files: Arc::new(files), id })
    }

    /// Memory, which is gone with the last clone.
    #[must_use]
    pub fn in_memory() -> Self {
        Self { files: Arc::new(MemoryFiles::new()), id: random_id() }
    }

    /// Makes a staged file, locked until it is dropped.
    ///
    /// # Errors
    /// `StorageFull`, `Io`.
    pub fn create(&self) -> Result<StagedFile> {
        let file = self.files.create().map_err(staging_error)?;
        let name = file.name().to_owned();
        Ok(StagedFile {
            holder: format!("{}/{name}", self.id),
            files: Arc::clone(&self.files),
            file,
            name,
            length: 0,
            original_name: None,
        })
    }

    /// The staged file that a note's `holder` names, if it is one of this scratch.
    pub(crate) fn own<'a>(&self, holder: &'a str) -> Option<&'a str> {
        holder.strip_prefix(&*self.id)?.strip_prefix('/').filter(|name| !name.contains(['/', '\0']))
    }

    pub(crate) fn names(&self) -> Result<Vec<String>> {
        self.files.names(Area::Staging).map_err(staging_error)
    }

    /// Whether there are files whose makers are gone.
    pub(crate) fn has_orphans(&self) -> bool {
        let is_orphan = |name: &String| !matches!(self.try_lock_orphan(name), Ok(None));
        self.names().is_ok_and(|names| names.iter().any(is_orphan))
    }

    /// Removes the files whose makers are gone, and returns how many those were. One that can't be looked at, since it is somebody
    /// else's, say, keeps none of the others.
    ///
    /// # Errors
    /// The first one, when all was tried.
    pub(crate) fn sweep(&self) -> Result<usize> {
        let (mut swept, mut failed) = (0, Ok(()));
        for name in self.names()? {
            match self.sweep_one(&name) {
                Ok(true) => swept += 1,
                Ok(false) => {}
                Err(error) => failed = failed.and(Err(error)),
            }
        }
        failed.map(|()| swept)
    }

    fn sweep_one(&self, name: &str) -> Result<bool> {
        let Some(_lock) = self.try_lock_orphan(name)? else { return Ok(false) };
        self.remove(name)?;
        Ok(true)
    }

    /// Whether a file is there, also one whose maker is gone.
    pub(crate) fn holds(&self, name: &str) -> Result<bool> {
        match self.files.open(Area::Staging, name) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(staging_error(error)),
        }
    }

    /// Locks a staged file whose maker is gone; `None` while somebody has it, and when it is not there.
    pub(crate) fn try_lock_orphan(&self, name: &str) -> Result<Option<Box<dyn Send>>> {
        self.files.try_lock_orphan(name).map_err(staging_error)
    }

    fn remove(&self, name: &str) -> Result<()> {
        match self.files.remove(Area::Staging, name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(staging_error(error)),
            _ => Ok(()),
        }
    }
}

/// A file in scratch, locked by whoever has this. Its name goes when it is dropped.
pub struct StagedFile {
    files: Arc<dyn Files>,
    file: Box<dyn NewFile>,
    name: String,
    holder: String,
    length: u64,
    pub(crate) original_name: Option<String>,
}

impl StagedFile {
    /// Its name in scratch.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// What notes about the upload of this file name it by.
    pub(crate) fn holder(&self) -> &str {
        &self.holder
    }

    /// Its length in bytes so far.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.length
    }

    /// Whether nothing was written yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Its bytes, to read while it is there.
    ///
    /// # Errors
    /// `Io`.
    pub fn reader(&self) -> Result<Blob> {
        self.file.reader().map_err(staging_error)
    }

    /// Returns when its bytes are on the disk.
    ///
    /// # Errors
    /// `Io`; the bytes are not to be trusted then.
    pub fn sync(&mut self) -> Result<()> {
        self.file.sync().map_err(|error| Error::io("the image cannot be made durable", error))
    }

    /// Whether it lies among `files`, so that a link gives it a further name.
    pub(crate) fn is_among(&self, files: &Arc<dyn Files>) -> bool {
        Arc::ptr_eq(&self.files, files)
    }

    /// Takes the content of a file by sharing its blocks, where the file system can.
    pub(crate) fn reflink(&mut self, from: &Blob) -> Result<bool> {
        let shared = self.file.reflink(from).map_err(staging_error)?;
        if shared {
            self.length = from.len();
        }
        Ok(shared)
    }

    /// Writes all, and leaves holes for whole blocks of zeros: a disk image is mostly that.
    pub(crate) fn write_sparse(&mut self, bytes: &[u8]) -> io::Result<()> {
        for run in sparse::runs(self.length, bytes) {
            let count = match run {
                Run::Data(data) => {
                    write_all(&mut *self.file, data)?;
                    data.len()
                }
                Run::Hole(length) => {
                    self.file.skip(length as u64)?;
                    length
                }
            };
            self.length = self.length.saturating_add(count as u64);
        }
        Ok(())
    }
}

impl Drop for StagedFile {
    fn drop(&mut self) {
        let _ = self.files.remove(Area::Staging, &self.name);
    }
}

impl Write for StagedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_sparse(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// An id that nothing else has: not another scratch directory, not another process's memory.
pub(super) fn random_id() -> String {
    format!("{:016x}{:016x}", random_number(), random_number())
}

/// A number that nobody else has, also not a process that was forked from this one.
pub(super) fn random_number() -> u64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    use std::sync::atomic::{AtomicU64, Ordering};
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let mut bytes = [0; 8];
    if rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()).is_ok_and(|count| count == 8) {
        return u64::from_ne_bytes(bytes);
    }
    // Kernels have had the call since 2014. Elsewhere process, time and count tell one from another.
    let mut hasher = RandomState::new().build_hasher();
    hasher.write_u32(std::process::id());
    hasher.write_u64(COUNT.fetch_add(1, Ordering::Relaxed));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    hasher.write_u128(now.as_nanos());
    hasher.finish()
}

fn staging_error(error: io::Error) -> Error {
    Error::io("the store's staging directory cannot be used", error)
}

/// Writes all, whatever small steps it takes.
pub(crate) fn write_all(file: &mut (impl Write + ?Sized), mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
