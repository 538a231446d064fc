//! `BlobStore`: the bytes of images, written once under keys that are never used again.
//!
//! Why not a file-system interface? A store must be able to live on an object store, which has no
//! rename, no links, no locks and no directories to sync, and whose listing is slow. So the
//! contract has the verbs that both can keep: create an object, read it at positions, delete it,
//! list keys page by page. What is visible is decided by the catalog alone; an object without a row
//! is not there for anybody. A local directory keeps its fast paths (hard link, shared blocks)
//! behind [`BlobStore::put`].

mod directory;
mod files;
mod key;
mod memory;
#[cfg(feature = "object-store")]
mod object;

pub use directory::{DirectoryBlobs, DirectoryFiles};
pub use files::{Area, Files, NewFile};
pub(crate) use key::SplitKey;
pub use key::{BlobKey, ObjectPart};
pub use memory::{MemoryBlobs, MemoryFiles};
#[cfg(feature = "object-store")]
pub use object::{ObjectBlobs, ObjectOptions};

use std::time::Duration;

use super::scratch::StagedFile;
use crate::error::Result;
use crate::io::Blob;
use crate::progress::Monitor;

/// Where a store keeps the bytes of its images.
///
/// Every call can be made from any thread, by any number of processes on any number of machines.
/// Errors have the kinds that callers need: `NotFound`, `AlreadyExists`, `StorageFull`, `Transient`
/// (worth another try), `Cancelled`, `Malformed` (the blobs are not those of this store), and `Io`
/// for everything else.
pub trait BlobStore: Send + Sync {
    /// Creates the object `key` from a staged file. When this returns, the object is durable and
    /// whole. When it fails, the object may or may not be there: the caller deletes the key.
    ///
    /// # Errors
    /// `AlreadyExists` when the key was used before, where the backend can tell; see [`BlobStore`].
    fn put(&self, key: &BlobKey, staged: &mut StagedFile, monitor: &Monitor) -> Result<()>;

    /// Opens an object. Its bytes stay readable when it is deleted meanwhile, for as long as the
    /// [grace](Self::grace) says. They must have a [version](crate::io::ReadAt::version): what
    /// can't be told from another is never repaired, and hashed each time that a server sends it.
    ///
    /// # Errors
    /// `NotFound`; see [`BlobStore`].
    fn open(&self, key: &BlobKey) -> Result<Blob>;

    /// Deletes objects. Those that are not there are no error. When this returns, the deletion is durable.
    ///
    /// # Errors
    /// See [`BlobStore`].
    fn delete(&self, keys: &[BlobKey]) -> Result<()>;

    /// The first `limit` keys after `after`, in the order of their bytes. For check and repair
    /// only: it may be slow, and an object that is created or deleted meanwhile may be missed or
    /// listed.
    ///
    /// # Errors
    /// See [`BlobStore`].
    fn list(&self, after: Option<&BlobKey>, limit: usize) -> Result<Vec<BlobKey>>;

    /// Takes objects that belong together out of the store, and keeps their bytes where an operator
    /// finds them: they are no longer opened or listed, and nothing that was archived before is
    /// overwritten. Those that are not there are no error.
    ///
    /// # Errors
    /// See [`BlobStore`].
    fn archive(&self, keys: &[BlobKey]) -> Result<()>;

    /// Removes what calls of processes that are gone left on their way into the store, other than
    /// objects. Returns how many things that were.
    ///
    /// # Errors
    /// See [`BlobStore`].
    fn sweep(&self) -> Result<usize> {
        Ok(0)
    }

    /// An address at which anybody may read the object for as long as `lifetime`; `None` where
    /// there is no such thing.
    ///
    /// # Errors
    /// See [`BlobStore`].
    fn link(&self, key: &BlobKey, lifetime: Duration) -> Result<Option<String>> {
        let _ = (key, lifetime);
        Ok(None)
    }

    /// How long an object outlives the row that named it, so that whoever has it open reads to the
    /// end. Zero where open readers survive a deletion.
    fn grace(&self) -> Duration {
        Duration::ZERO
    }

    /// Fails unless these are the blobs of this store: a file system that is not mounted must not
    /// look like a store whose images are gone.
    ///
    /// # Errors
    /// `Malformed` when something else is in their place.
    fn check_identity(&self) -> Result<()> {
        Ok(())
    }

    /// The name of the engine, for metrics and messages.
    fn engine(&self) -> &'static str {
        "other"
    }
}
