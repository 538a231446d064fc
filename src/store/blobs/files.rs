//! [`Files`]: local files at the level of single operations, so that tests can make each of them fail.
//!
//! Scratch and the blobs of a directory store are made of them; no other code of the store sees
//! files, locks or directories.

use std::io::{self, Write};
use std::path::Path;

use crate::error::Result;
use crate::io::Blob;

/// The three directories of a directory store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Area {
    /// Images and their sidecars, under names that begin with the fingerprint.
    Blobs,
    /// Files that are being written, each locked by its process.
    Staging,
    /// Damaged files that a repair archived.
    Quarantine,
}

impl Area {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Blobs, Self::Staging, Self::Quarantine];

    /// The name of its directory.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Blobs => "blobs",
            Self::Staging => "staging",
            Self::Quarantine => "quarantine",
        }
    }
}

/// Files in three directories, all on one file system: the base of
/// [`Scratch`](super::super::Scratch) and [`DirectoryBlobs`](super::DirectoryBlobs).
///
/// Names are plain: the store makes them of fingerprints and random numbers only. The callers
/// choose an order of operations that survives a power cut; an implementation only has to do what
/// each call says.
pub trait Files: Send + Sync {
    /// Creates a new staged file, readable by its owner only, and locks it until it is dropped.
    ///
    /// # Errors
    /// Those of the operating system.
    fn create(&self) -> io::Result<Box<dyn NewFile>>;

    /// Opens a file for reading. It stays readable when its name goes.
    ///
    /// # Errors
    /// `NotFound`, and the operating system's.
    fn open(&self, area: Area, name: &str) -> io::Result<Blob>;

    /// Links a staged file into the blobs under a further name.
    ///
    /// # Errors
    /// `AlreadyExists` if the name is taken; those of the operating system.
    fn link(&self, staged: &str, blob: &str) -> io::Result<()>;

    /// Renames a file, replacing what has the name.
    ///
    /// # Errors
    /// The operating system's.
    fn rename(&self, from: (Area, &str), to: (Area, &str)) -> io::Result<()>;

    /// Removes a name.
    ///
    /// # Errors
    /// `NotFound`, and the operating system's.
    fn remove(&self, area: Area, name: &str) -> io::Result<()>;

    /// All names, in any order.
    ///
    /// # Errors
    /// The operating system's.
    fn names(&self, area: Area) -> io::Result<Vec<String>>;

    /// Returns when the names in `area` are on the disk as they are now.
    ///
    /// # Errors
    /// The operating system's.
    fn sync(&self, area: Area) -> io::Result<()>;

    /// The bytes that may be written to staged files before the disk is full; `None` where that is not known.
    ///
    /// # Errors
    /// Those of the operating system.
    fn space(&self) -> io::Result<Option<u64>> {
        Ok(None)
    }

    /// A directory on the same file system in which files without a name can be made; `None` where there is none.
    fn directory(&self) -> Option<&Path> {
        None
    }

    /// Locks a staged file whose process is gone, until the result is dropped. `None` if it is
    /// locked, by its owner or by another caller of this, and if it does not exist.
    ///
    /// # Errors
    /// Those of the operating system.
    fn try_lock_orphan(&self, staged: &str) -> io::Result<Option<Box<dyn Send>>>;

    /// Fails unless these files belong to the store: a file system that is not mounted must not
    /// look like a store without images.
    ///
    /// # Errors
    /// `Malformed` if something else is in their place.
    fn check_identity(&self) -> Result<()> {
        Ok(())
    }
}

/// A new file, locked, in staging.
pub trait NewFile: Write + Send {
    /// The name that it was made with.
    fn name(&self) -> &str;

    /// Shares the blocks of other bytes instead of copying them. Returns whether it did.
    ///
    /// # Errors
    /// Those of the operating system.
    fn reflink(&mut self, from: &Blob) -> io::Result<bool>;

    /// Appends `bytes` zeros, as a hole if the file system has holes.
    ///
    /// # Errors
    /// Those of the operating system.
    fn skip(&mut self, bytes: u64) -> io::Result<()> {
        let written = io::copy(&mut io::Read::take(io::repeat(0), bytes), self)?;
        if written == bytes { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }

    /// Returns once the content is on the disk.
    ///
    /// # Errors
    /// Those of the operating system; the content must not be used after one.
    fn sync(&mut self) -> io::Result<()>;

    /// The content, to read: also what is written after this.
    ///
    /// # Errors
    /// The operating system's.
    fn reader(&self) -> io::Result<Blob>;
}
