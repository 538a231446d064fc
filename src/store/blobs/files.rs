//! `Files`: local files at the level of single operations, so that each can be made to fail. Scratch and the blobs of a directory
//! are made of them; nothing else sees files, locks or directories.

use std::io::{self, Write};

use crate::error::Result;
use crate::io::Blob;

/// The three places where a directory store keeps files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Area {
    /// Images and their sidecars, under names made from fingerprints.
    Blobs,
    /// Files in the making, each locked by who makes it.
    Staging,
    /// Files that were found damaged.
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

/// Files in three places, all on one file system: what [`Scratch`](super::super::Scratch) and
/// [`DirectoryBlobs`](super::DirectoryBlobs) are made of.
///
/// Names are plain: the store makes them from fingerprints and random numbers only. What order of operations survives a power
/// cut is their users' business, not the implementation's.
pub trait Files: Send + Sync {
    /// Makes a new file in staging, readable by nobody else, and locks it until it is dropped.
    ///
    /// # Errors
    /// The operating system's.
    fn create(&self) -> io::Result<Box<dyn NewFile>>;

    /// Opens a file for reading. It stays readable when its name goes.
    ///
    /// # Errors
    /// `NotFound`, and the operating system's.
    fn open(&self, area: Area, name: &str) -> io::Result<Blob>;

    /// Gives a staged file its further name among the blobs.
    ///
    /// # Errors
    /// `AlreadyExists` when the name is taken, and the operating system's.
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

    /// Locks a staged file whose maker is gone, until what is returned is dropped; `None` when it is
    /// locked, by its maker or by another who asks the same, or is not there.
    ///
    /// # Errors
    /// The operating system's.
    fn try_lock_orphan(&self, staged: &str) -> io::Result<Option<Box<dyn Send>>>;

    /// Fails unless the files that belong to this store are there: a file system that is not mounted must not look like a
    /// store whose images are gone.
    ///
    /// # Errors
    /// `Malformed` when something else is in their place.
    fn check_identity(&self) -> Result<()> {
        Ok(())
    }
}

/// A new file, locked, in staging.
pub trait NewFile: Write + Send {
    /// The name that it was made with.
    fn name(&self) -> &str;

    /// Takes the content of other bytes by sharing their blocks, if the engines of both can do that.
    ///
    /// # Errors
    /// The operating system's.
    fn reflink(&mut self, from: &Blob) -> io::Result<bool>;

    /// Goes on after so many bytes of zeros, which take no space where the file system can leave them out.
    ///
    /// # Errors
    /// The operating system's.
    fn skip(&mut self, bytes: u64) -> io::Result<()> {
        let written = io::copy(&mut io::Read::take(io::repeat(0), bytes), self)?;
        if written == bytes { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }

    /// Returns when the content is on the disk.
    ///
    /// # Errors
    /// The operating system's; after one, the content is not to be trusted.
    fn sync(&mut self) -> io::Result<()>;

    /// The content, to read.
    ///
    /// # Errors
    /// The operating system's.
    fn reader(&self) -> io::Result<Blob>;
}
