//! `Catalog`: what a store keeps of its images besides their bytes, and how that changes: in transactions that do database work
//! and nothing else. A small trait, so that another database can stand in for SQLite; `conformance` says what it owes.

mod failure;
mod memory;
mod migration;
mod object;
mod pool;
mod query;
mod reserve;
mod schema;
mod sqlite;
mod waiting;
mod watch;

pub use memory::MemoryCatalog;
pub use object::{Object, ObjectState};
pub use query::{AliasPage, AliasQuery, ImagePage, ImageQuery, Order, Position, Totals};
pub use sqlite::SqliteCatalog;

use super::blobs::BlobKey;
use super::image::{Alias, AliasTarget, StoredImage};
use crate::error::Result;
use crate::fingerprint::{Fingerprint, Prefix};
use crate::format::ImageType;
use crate::progress::Monitor;

/// The rows of a store: images, aliases, and objects that no image row names (yet, or any more).
///
/// Readers see the state after the last commit and never wait for a writer. Writers of different images need not wait for each
/// other; two writers of one row meet at a compare-and-set on its revision. Every read fails with `Malformed` when the catalog
/// is damaged, `Transient` when another try may do, `Io`.
pub trait Catalog: Send + Sync {
    /// One image with its aliases.
    ///
    /// # Errors
    /// See [`Catalog`].
    fn image(&self, fingerprint: &Fingerprint) -> Result<Option<StoredImage>>;

    /// What an alias of images of this type points to.
    ///
    /// # Errors
    /// See [`Catalog`].
    fn alias(&self, name: &str, image_type: ImageType) -> Result<Option<(Alias, AliasTarget)>>;

    /// A page of aliases, in the order of their names and types. A row that cannot be read is left out; [`check`](Self::check)
    /// tells of it.
    ///
    /// # Errors
    /// See [`Catalog`].
    fn aliases(&self, query: &AliasQuery) -> Result<AliasPage>;

    /// The first `limit` fingerprints that begin so, in order.
    ///
    /// # Errors
    /// See [`Catalog`].
    fn with_prefix(&self, prefix: &Prefix, limit: usize) -> Result<Vec<Fingerprint>>;

    /// A page of images with their aliases. A row that cannot be read is named in the page, and hides no other.
    ///
    /// # Errors
    /// See [`Catalog`].
    fn images(&self, query: &ImageQuery) -> Result<ImagePage>;

    /// A page of fingerprints only: what [`images`](Self::images) would give, for the price of an index. A row that cannot be
    /// read otherwise is among them.
    ///
    /// # Errors
    /// See [`Catalog`].
    fn fingerprints(&self, query: &ImageQuery) -> Result<(Vec<Fingerprint>, Option<Position>)>;

    /// How many images a query has in all, and their bytes; its position and limit do not matter.
    ///
    /// # Errors
    /// See [`Catalog`].
    fn totals(&self, query: &ImageQuery) -> Result<Totals>;

    /// A number that is another one after each change of images or aliases, by whatever process; `None` where there is no such
    /// thing. What was made of them is as it would be made now as long as the number is the same. Notes about objects, and
    /// the keys of sidecars, need not change it: nobody lists those.
    ///
    /// # Errors
    /// See [`Catalog`].
    fn version(&self) -> Result<Option<u64>> {
        Ok(None)
    }

    /// The note about an object, where there is one.
    ///
    /// # Errors
    /// See [`Catalog`].
    fn object(&self, key: &BlobKey) -> Result<Option<Object>>;

    /// The first `limit` noted objects, in the order of their keys, after `after`.
    ///
    /// # Errors
    /// See [`Catalog`].
    fn objects(&self, after: Option<&BlobKey>, limit: usize) -> Result<Vec<Object>>;

    /// Looks for damage: one sentence for each.
    ///
    /// # Errors
    /// `Cancelled`; see [`Catalog`].
    fn check(&self, monitor: &Monitor) -> Result<Vec<String>>;

    /// Runs `work` in a transaction. When it fails, nothing has changed; when this returns, the change is durable. `work` does
    /// database work only: it may run more than once, and others may wait for it. Changes that remove rows work on a full disk.
    ///
    /// # Errors
    /// `Busy` when other writers took longer than the wait that was set; `StorageFull`; `Transient` when it met others too
    /// often; those of `work`; see [`Catalog`].
    fn write(&self, work: &mut dyn FnMut(&mut dyn Transaction) -> Result<()>) -> Result<()>;
}

/// The catalog as one writer sees and changes it. Every call fails as reads of a [`Catalog`] do.
///
/// Transactions are serializable: what was read, also that something is not there, is still so at the commit, or the transaction
/// is run again or fails with `Transient`. Every call here changes a row in this sense, also one that leaves its revision.
pub trait Transaction {
    /// One image with its aliases.
    ///
    /// # Errors
    /// See [`Catalog`].
    fn image(&mut self, fingerprint: &Fingerprint) -> Result<Option<StoredImage>>;

    /// What an alias of images of this type points to.
    ///
    /// # Errors
    /// See [`Catalog`].
    fn alias(&mut self, name: &str, image_type: ImageType) -> Result<Option<(Alias, AliasTarget)>>;

    /// Adds an image that is not there, without its aliases.
    ///
    /// # Errors
    /// `AlreadyExists` when it is there; `InvalidInput` when it names no object; see [`Catalog`].
    fn insert(&mut self, image: &StoredImage) -> Result<()>;

    /// Replaces what is known of the image whose row is at the revision `expected`: all but its aliases, its sidecar's key and
    /// the time of its last use, which have calls of their own.
    ///
    /// # Errors
    /// `Transient` when the row is gone or at another revision; see [`Catalog`].
    fn update(&mut self, image: &StoredImage, expected: u64) -> Result<()>;

    /// Notes when an image was used, unless it was used later. Does not change its revision.
    ///
    /// # Errors
    /// See [`Catalog`].
    fn set_last_used(&mut self, fingerprint: &Fingerprint, seconds: i64) -> Result<()>;

    /// Names the object that holds an image's sidecar, if its row is still at this revision. Returns whether it was.
    ///
    /// # Errors
    /// See [`Catalog`].
    fn set_sidecar(&mut self, fingerprint: &Fingerprint, revision: u64, key: &BlobKey) -> Result<bool>;

    /// Removes an image and its aliases. The objects that its row named are the caller's to note as dead.
    ///
    /// # Errors
    /// See [`Catalog`].
    fn remove(&mut self, fingerprint: &Fingerprint) -> Result<()>;

    /// Makes an alias for the type of the image that it points to, or points it and its description elsewhere.
    ///
    /// # Errors
    /// `NotFound` when the target is not there, or is of another type; see [`Catalog`].
    fn set_alias(&mut self, alias: &Alias, target: &AliasTarget) -> Result<()>;

    /// Removes an alias of images of this type, if it is there.
    ///
    /// # Errors
    /// See [`Catalog`].
    fn remove_alias(&mut self, name: &str, image_type: ImageType) -> Result<()>;

    /// The note about an object, where there is one.
    ///
    /// # Errors
    /// See [`Catalog`].
    fn object(&mut self, key: &BlobKey) -> Result<Option<Object>>;

    /// Notes an object, in the place of what was noted of it.
    ///
    /// # Errors
    /// See [`Catalog`].
    fn put_object(&mut self, object: &Object) -> Result<()>;

    /// Removes the note about an object, if there is one.
    ///
    /// # Errors
    /// See [`Catalog`].
    fn remove_object(&mut self, key: &BlobKey) -> Result<()>;
}
