//! [`Catalog`]: the rows of a store, which are all that it keeps besides bytes, and how they
//! change: in transactions that do database work and nothing else.
//!
//! It is a small trait, so that another database can take the place of SQLite. The suite
//! `conformance::catalog` tests an implementation.
//!
//! | file | content |
//! |---|---|
//! | `columns` | how databases store the fields of images and notes |
//! | `query` | what is asked for: filters, order, position, limit |
//! | `object` | notes about objects that no row names |
//! | `records` | records with an expiry, by which servers coordinate |
//! | `attachment` | texts beside images |
//! | `memory` | a catalog in memory |
//! | `sqlite` | a catalog in an SQLite database, with `pool` (connections), `schema` (tables, rows and SQL), `migration` (from older layouts), `waiting` (locks), `watch` (has it changed?), `reserve` (deleting on a full disk) and `failure` (errors) |
//! | `postgres` | a catalog in a PostgreSQL database that several machines share |

mod attachment;
mod columns;
mod failure;
mod memory;
mod migration;
mod object;
mod pool;
#[cfg(feature = "postgres")]
mod postgres;
mod query;
mod records;
mod reserve;
mod schema;
mod sqlite;
mod waiting;
mod watch;

pub use attachment::Attachment;
pub use memory::MemoryCatalog;
pub use object::{Object, ObjectState};
#[cfg(feature = "postgres")]
pub use postgres::{PostgresCatalog, PostgresOptions};
pub use query::{AliasPage, AliasQuery, ImagePage, ImageQuery, Order, Position, Totals};
pub use records::{Expected, MAX_RECORD_BYTES, SharedRecord, SharedRecords};
pub use sqlite::SqliteCatalog;

use std::collections::BTreeSet;

use super::blobs::BlobKey;
use super::image::{Alias, AliasTarget, StoredImage};
use crate::error::Result;
use crate::fingerprint::{Fingerprint, FingerprintPrefix};
use crate::format::ImageType;
use crate::progress::Monitor;

/// The rows of a store: images, aliases, and notes about objects that no image row names (yet, or any more).
///
/// Readers see the state after the last commit and never wait for a writer. Writers of different
/// images need not wait for each other; two writers of one row meet at a compare-and-set on its
/// revision. Every read fails with `Malformed` if the catalog is damaged, with `Transient` if a
/// retry may succeed, and with `Io`.
pub trait Catalog: Send + Sync {
    /// Looks up one image with its aliases; `None` if it does not exist.
    ///
    /// # Errors
    /// See [`Catalog`].
    fn image(&self, fingerprint: &Fingerprint) -> Result<Option<StoredImage>>;

    /// Looks up the alias of images of one type, with its target.
    ///
    /// # Errors
    /// See [`Catalog`].
    fn alias(&self, name: &str, image_type: ImageType) -> Result<Option<(Alias, AliasTarget)>>;

    /// Returns one page of aliases, in the order of their names and types. Rows that cannot be read
    /// are left out; [`check`](Self::check) reports them.
    ///
    /// # Errors
    /// See [`Catalog`].
    fn aliases(&self, query: &AliasQuery) -> Result<AliasPage>;

    /// Returns the first `limit` fingerprints with this prefix, in ascending order.
    ///
    /// # Errors
    /// See [`Catalog`].
    fn with_prefix(&self, prefix: &FingerprintPrefix, limit: usize) -> Result<Vec<Fingerprint>>;

    /// Returns one page of images with their aliases. A row that cannot be read is named in the
    /// page, and does not hide others.
    ///
    /// # Errors
    /// See [`Catalog`].
    fn images(&self, query: &ImageQuery) -> Result<ImagePage>;

    /// Returns one page of the fingerprints that [`images`](Self::images) would return, from an
    /// index alone. Includes rows that cannot be read otherwise.
    ///
    /// # Errors
    /// See [`Catalog`].
    fn fingerprints(&self, query: &ImageQuery) -> Result<(Vec<Fingerprint>, Option<Position>)>;

    /// Counts all images that match a query, and adds up their bytes. Its position and limit are ignored.
    ///
    /// # Errors
    /// See [`Catalog`].
    fn totals(&self, query: &ImageQuery) -> Result<Totals>;

    /// Returns a number that changes with each change of images or aliases by any process; `None` if
    /// the catalog has none. As long as it is the same, anything computed from images and aliases is
    /// still valid. Records of objects and keys of sidecars need not change it: no list shows them.
    ///
    /// # Errors
    /// See [`Catalog`].
    fn version(&self) -> Result<Option<u64>> {
        Ok(None)
    }

    /// Returns the time now, in seconds since 1970, by the clock that leases and graces are compared
    /// with: that of the database, for a catalog that several machines share. It may lag by a second.
    ///
    /// Called inside of transactions too, so it must not wait for another connection. The default is
    /// the clock of this machine.
    fn now(&self) -> i64 {
        crate::time::system_now()
    }

    /// Returns the note about an object, if there is one.
    ///
    /// # Errors
    /// See [`Catalog`].
    fn object(&self, key: &BlobKey) -> Result<Option<Object>>;

    /// Returns the first `limit` notes after the key `after`, in the order of their keys.
    ///
    /// # Errors
    /// See [`Catalog`].
    fn objects(&self, after: Option<&BlobKey>, limit: usize) -> Result<Vec<Object>>;

    /// Returns the texts that are kept beside an image, in the order of their names.
    ///
    /// # Errors
    /// See [`Catalog`].
    fn attachments(&self, fingerprint: &Fingerprint) -> Result<Vec<Attachment>>;

    /// Returns the images with a text beside them whose name begins with `prefix`.
    ///
    /// # Errors
    /// See [`Catalog`].
    fn attached(&self, prefix: &str) -> Result<BTreeSet<Fingerprint>>;

    /// Looks for damage, and describes each finding in one sentence. May take long.
    ///
    /// # Errors
    /// `Cancelled`; see [`Catalog`].
    fn check(&self, monitor: &Monitor) -> Result<Vec<String>>;

    /// Runs `work` in a transaction. If it fails, nothing has changed; when this returns, the change is durable.
    ///
    /// `work` must do database work only: it may run more than once, and other writers may wait for
    /// it. A transaction that removes rows works on a full disk.
    ///
    /// # Errors
    /// `Busy` if other writers took longer than the configured wait; `StorageFull`; `Transient` if
    /// it conflicted with others too often; those of `work`; see [`Catalog`].
    fn write(&self, work: &mut dyn FnMut(&mut dyn Transaction) -> Result<()>) -> Result<()>;

    /// Returns the records by which the servers of this store coordinate; `None` for a catalog that has none:
    /// then each server is on its own.
    fn shared_records(&self) -> Option<&dyn SharedRecords> {
        None
    }

    /// The name of the engine, for metrics and messages.
    fn engine(&self) -> &'static str {
        "other"
    }
}

/// The catalog as one writer sees and changes it. Every call fails as reads of a [`Catalog`] do.
///
/// Transactions are serializable: whatever was read, including the absence of a row, is still true
/// at the commit; otherwise the transaction runs again or fails with `Transient`. Every call here
/// counts as a change of its row in this sense, even if it leaves the revision as it is.
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

    /// Inserts the row of an image, without its aliases.
    ///
    /// # Errors
    /// `AlreadyExists` if it exists; `InvalidInput` if it names no object; see [`Catalog`].
    fn insert(&mut self, image: &StoredImage) -> Result<()>;

    /// Replaces the row of an image that is at the revision `expected`, except for aliases, the key
    /// of the sidecar and the time of its last use, which have calls of their own.
    ///
    /// # Errors
    /// `Transient` if the row is gone or at another revision; see [`Catalog`].
    fn update(&mut self, image: &StoredImage, expected: u64) -> Result<()>;

    /// Records when an image was used, unless a later time is recorded. Does not change its revision.
    ///
    /// # Errors
    /// See [`Catalog`].
    fn set_last_used(&mut self, fingerprint: &Fingerprint, seconds: i64) -> Result<()>;

    /// Names the sidecar of an image in its row, if that is still at `revision`. Returns whether it was.
    ///
    /// # Errors
    /// See [`Catalog`].
    fn set_sidecar(&mut self, fingerprint: &Fingerprint, revision: u64, key: &BlobKey) -> Result<bool>;

    /// Removes the row of an image, its aliases and its attachments. The caller notes the objects that the row named as dead.
    ///
    /// # Errors
    /// See [`Catalog`].
    fn remove(&mut self, fingerprint: &Fingerprint) -> Result<()>;

    /// Creates an alias for the type of its target, or changes its target and description.
    ///
    /// # Errors
    /// `NotFound` if the target does not exist, or has another type; see [`Catalog`].
    fn set_alias(&mut self, alias: &Alias, target: &AliasTarget) -> Result<()>;

    /// Removes the alias of images of one type, if it exists.
    ///
    /// # Errors
    /// See [`Catalog`].
    fn remove_alias(&mut self, name: &str, image_type: ImageType) -> Result<()>;

    /// The texts that are kept beside an image, in the order of their names.
    ///
    /// # Errors
    /// See [`Catalog`].
    fn attachments(&mut self, fingerprint: &Fingerprint) -> Result<Vec<Attachment>>;

    /// Keeps a text beside an image, replacing an earlier one of this name. The caller raises the revision of the row.
    ///
    /// # Errors
    /// `NotFound` without the image; see [`Catalog`].
    fn attach(&mut self, fingerprint: &Fingerprint, attachment: &Attachment) -> Result<()>;

    /// The note about an object, where there is one.
    ///
    /// # Errors
    /// See [`Catalog`].
    fn object(&mut self, key: &BlobKey) -> Result<Option<Object>>;

    /// Writes the note about an object, replacing an earlier one.
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
