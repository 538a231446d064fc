//! Scratch: the local directory for uploads. Bytes are hashed and verified there before any of them become visible.
//!
//! It is local even if the blobs are on an object store. Each staged file is locked by the process
//! that writes it; a file whose lock is free is an orphan, and the next sweep removes it. The part of a
//! layer says so in its name, and is kept for a day, so that a later download goes on from there.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::blobs::{Area, DirectoryFiles, Files, MemoryFiles, NewFile};
use super::random::random_id;
use crate::error::{Error, Result};
#[cfg(feature = "remote")]
use crate::fingerprint::{Fingerprint, Hasher};
#[cfg(feature = "remote")]
use crate::io::read_all;
use crate::io::{Blob, ReadAt};
#[cfg(feature = "remote")]
use crate::progress::Monitor;
use crate::sparse::{self, Run};
use crate::time::system_now;

/// How long a sweep leaves the part of a layer whose process is gone, in seconds.
const PART_SECONDS: u64 = 24 * 60 * 60;

/// The local directory of staged files.
///
/// A directory store keeps it on the file system of its blobs, so that an upload is a hard link.
/// For any other blob store choose a directory with space for the largest image.
///
/// ```
/// use std::io::Write;
///
/// use lxd_image::store::Scratch;
///
/// let scratch = Scratch::in_memory();
/// let mut staged = scratch.create()?;
/// staged.write_all(b"some bytes")?;
/// assert_eq!(staged.len(), 10);
/// // Dropping it removes it.
/// # Ok::<(), lxd_image::Error>(())
/// ```
#[derive(Clone)]
pub struct Scratch {
    files: Arc<dyn Files>,
    id: String,
}

impl Scratch {
    /// Scratch on any implementation of [`Files`].
    ///
    /// `id` must be the same for all processes that share these files, and must not be used for any
    /// others: the note of an upload contains it, and a process that shares the files treats the
    /// upload as abandoned if the staged file is gone.
    #[must_use]
    pub fn new(files: Arc<dyn Files>, id: impl Into<String>) -> Self {
        Self { files, id: id.into() }
    }

    /// Scratch in a directory, which is created if it is missing. Processes of one machine may share it.
    ///
    /// # Errors
    /// `Malformed` if the directory belongs to something else; `Io`.
    pub fn directory(path: impl AsRef<Path>) -> Result<Self> {
        let (files, id) = DirectoryFiles::private(path)?;
        Ok(Self { files: Arc::new(files), id })
    }

    /// Scratch in memory, which is freed with the last clone.
    #[must_use]
    pub fn in_memory() -> Self {
        Self { files: Arc::new(MemoryFiles::new()), id: random_id() }
    }

    /// Creates a staged file, which is locked, and removed when it is dropped.
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

    /// Where files without a name are made whose bytes come here: on the same file system, if it has a directory.
    pub(crate) fn nameless_in(&self) -> PathBuf {
        self.files.directory().map_or_else(std::env::temp_dir, Path::to_path_buf)
    }

    /// The bytes that one upload may fill: what is free but a twentieth, so that a disk is never filled to its last byte by
    /// it. `None` where that is not known.
    pub(crate) fn space(&self) -> Result<Option<u64>> {
        let free = self.files.space().map_err(|error| Error::io("the free space can't be told", error))?;
        Ok(free.map(|free| free - free / 20))
    }

    /// The name of the staged file that the `holder` of a note means, if it is in this scratch.
    pub(crate) fn own<'a>(&self, holder: &'a str) -> Option<&'a str> {
        holder.strip_prefix(&*self.id)?.strip_prefix('/').filter(|name| !name.contains(['/', '\0']))
    }

    /// The names of all staged files.
    pub(crate) fn names(&self) -> Result<Vec<String>> {
        self.files.names(Area::Staging).map_err(staging_error)
    }

    /// Whether there are staged files whose processes are gone.
    pub(crate) fn has_orphans(&self) -> bool {
        let is_orphan = |name: &String| !is_kept_part(name) && !matches!(self.try_lock_orphan(name), Ok(None));
        self.names().is_ok_and(|names| names.iter().any(is_orphan))
    }

    /// Removes the staged files whose processes are gone, and returns their number. A file that
    /// cannot be opened, for example because another user owns it, does not keep the others from
    /// being removed.
    ///
    /// # Errors
    /// The first one, once all files were tried.
    pub(crate) fn sweep(&self) -> Result<usize> {
        let (mut swept, mut failed) = (0, Ok(()));
        for name in self.names()?.into_iter().filter(|name| !is_kept_part(name)) {
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

    /// Creates a staged file for a layer with this digest and size. It begins with what a process that is gone had of the
    /// layer, and the hash of that is returned with it. Nobody has checked those bytes.
    ///
    /// # Errors
    /// As [`create`](Self::create); `Cancelled`.
    #[cfg(feature = "remote")]
    pub(crate) fn create_part(
        &self,
        digest: &Fingerprint,
        size: u64,
        monitor: &Monitor,
    ) -> Result<(StagedFile, Hasher)> {
        let (mut staged, mut hasher) = (self.create()?, Hasher::new());
        staged.rename(format!("part-{}-{digest}-{:016x}", system_now(), super::random::random_number()))?;
        let digits = digest.to_string();
        for name in self.names()? {
            // Its own is locked.
            if part_of(&name).is_none_or(|(_, of)| of != digits) {
                continue;
            }
            // A part of another user, and one that is removed just now, must not fail a download that needs none.
            let Ok(Some(_lock)) = self.try_lock_orphan(&name) else { continue };
            let Ok(part) = self.files.open(Area::Staging, &name) else { continue };
            // Whatever becomes of it: it is read once.
            self.remove(&name)?;
            if hasher.bytes() > 0 || part.len() > size {
                continue;
            }
            let mut check = |_| monitor.check();
            read_all(&part, "the part of a layer can't be read", &mut check, &mut |bytes| {
                hasher.update(bytes);
                staged.write_sparse(bytes).map_err(staging_error)
            })?;
        }
        Ok((staged, hasher))
    }

    /// Removes the parts of layers whose processes are gone, however old, and returns their number and bytes.
    pub(crate) fn drop_parts(&self) -> Result<(u64, u64)> {
        let (mut count, mut bytes) = (0_u64, 0_u64);
        for name in self.names()?.iter().filter(|name| part_of(name).is_some()) {
            let Ok(Some(_lock)) = self.try_lock_orphan(name) else { continue };
            let Ok(part) = self.files.open(Area::Staging, name) else { continue };
            let length = part.len();
            if self.remove(name).is_err() {
                continue;
            }
            (count, bytes) = (count + 1, bytes.saturating_add(length));
        }
        Ok((count, bytes))
    }

    /// Whether a staged file exists, locked or not.
    pub(crate) fn holds(&self, name: &str) -> Result<bool> {
        match self.files.open(Area::Staging, name) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(staging_error(error)),
        }
    }

    /// Locks a staged file whose process is gone. `None` while a process holds it, and if it does not exist.
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

/// A file in scratch, locked by its owner, and removed when this is dropped.
///
/// Write to it with [`std::io::Write`]; whole blocks of zeros become holes.
/// [`BlobStore::put`](super::BlobStore::put) makes an object of it.
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

    /// How the notes of its upload name it: the id of the scratch and the name of the file.
    pub(crate) fn holder(&self) -> &str {
        &self.holder
    }

    /// Gives it another name in scratch, before anything notes it.
    #[cfg(feature = "remote")]
    fn rename(&mut self, name: String) -> Result<()> {
        self.files.rename((Area::Staging, &self.name), (Area::Staging, &name)).map_err(staging_error)?;
        self.holder.truncate(self.holder.len() - self.name.len());
        self.holder.push_str(&name);
        self.name = name;
        Ok(())
    }

    /// Its length in bytes so far.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.length
    }

    /// Whether nothing has been written yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Opens its bytes for reading, also those that are written later. They stay readable when the file is dropped.
    ///
    /// # Errors
    /// `Io`.
    pub fn reader(&self) -> Result<Blob> {
        self.file.reader().map_err(staging_error)
    }

    /// Returns once its bytes are on the disk (`fsync`).
    ///
    /// # Errors
    /// `Io`. The content must not be used after that: the kernel reports a failed write-back only
    /// once, and a second `fsync` may succeed although data was lost.
    pub fn sync(&mut self) -> Result<()> {
        self.file.sync().map_err(|error| Error::io("the image cannot be made durable", error))
    }

    /// Whether it is one of `files`, so that it can become a blob by a hard link.
    pub(crate) fn is_among(&self, files: &Arc<dyn Files>) -> bool {
        Arc::ptr_eq(&self.files, files)
    }

    /// Shares the blocks of `from` instead of copying, if the file system can. Returns whether it
    /// did; if not, nothing was written.
    pub(crate) fn reflink(&mut self, from: &Blob) -> Result<bool> {
        let shared = self.file.reflink(from).map_err(staging_error)?;
        if shared {
            self.length = from.len();
        }
        Ok(shared)
    }

    /// Writes all of `bytes`, and leaves holes for whole blocks of zeros: disk images consist mostly of zeros.
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

/// When the part of a layer was begun, in seconds since 1970, and the layer's digest, by its name; `None` for any other file.
fn part_of(name: &str) -> Option<(i64, &str)> {
    let (time, rest) = name.strip_prefix("part-")?.split_once('-')?;
    Some((time.parse().ok()?, rest.split_once('-')?.0))
}

/// Whether a file is the part of a layer that is not too old. The clock is that of this machine, as scratch is.
fn is_kept_part(name: &str) -> bool {
    part_of(name).is_some_and(|(begun, _)| system_now().abs_diff(begun) < PART_SECONDS)
}

fn staging_error(error: io::Error) -> Error {
    Error::io("the store's staging directory cannot be used", error)
}

/// As [`Write::write_all`], but also retries a write that would block, as pipes of a caller may.
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[test]
    fn part_of_a_layer_is_kept_for_a_day() {
        let scratch = Scratch::in_memory();
        let digits = "0".repeat(64);
        let day = i64::try_from(PART_SECONDS).unwrap();
        let names = [0, 60 - day, 1 - day - 60, day + 60].map(|age| format!("part-{}-{digits}-0", system_now() + age));
        for name in &names {
            let made = scratch.create().unwrap();
            scratch.files.rename((Area::Staging, made.name()), (Area::Staging, name)).unwrap();
        }
        assert_eq!(scratch.sweep().unwrap(), 2, "one is too old, and one is from the future");
        let mut left = scratch.names().unwrap();
        left.sort();
        assert_eq!(left, [names[1].clone(), names[0].clone()]);
        assert!(!scratch.has_orphans());
        assert_eq!(scratch.drop_parts().unwrap(), (2, 0));
    }
}
