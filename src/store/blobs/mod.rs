//! `Blobs`: the files of a store, at the level of single file operations, so that each can be made to fail.
//! What order of them survives a power cut is the store's business, not the implementation's.

mod directory;

pub use directory::DirectoryBlobs;

use std::io::{self, Write};

use crate::error::Result;
use crate::io::Blob;

/// The three places where a store keeps files.
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

/// Files in three places, all on one file system.
///
/// Names are plain: the store makes them from fingerprints and random numbers only.
pub trait Blobs: Send + Sync {
    /// Makes a new file in staging, readable by nobody else, and locks it until it is dropped.
    ///
    /// # Errors
    /// The operating system's.
    fn create(&self) -> io::Result<Box<dyn StagedFile>>;

    /// Opens a file for reading. It stays readable when its name goes. It must have a [version](crate::io::ReadAt::version): what can't be
    /// told from another one is never repaired, and hashed each time that a server sends it.
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
    fn seize(&self, staged: &str) -> io::Result<Option<Box<dyn Send>>>;

    /// Whether the files that belong to this store are there at all: a file system that is not
    /// mounted must not look like a store whose images are gone.
    ///
    /// # Errors
    /// `Malformed` when something else is in their place.
    fn present(&self) -> Result<()> {
        Ok(())
    }
}

/// A new file, locked, in staging.
pub trait StagedFile: Write + Send {
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
