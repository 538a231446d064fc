//! [`SharedRecords`]: small records with an expiry, by which the servers of one store coordinate:
//! tokens, operations, events and leases.
//!
//! They are no part of what a store keeps: nothing about images depends on them, no migration or
//! backup has to carry them, and losing all of them costs no more than a restart of every server.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::time::system_now;

/// The longest value of a record, in bytes: an operation with its metadata fits easily.
pub const MAX_RECORD_BYTES: usize = 256 << 10;
/// The longest kind and id of a record, in bytes.
const MAX_NAME_BYTES: usize = 255;

/// A record that has not expired.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedRecord {
    /// What it is about: a namespace of ids.
    pub kind: String,
    /// Its name among those of its kind.
    pub id: String,
    /// The content, which the catalog does not interpret. Never a secret: whoever may read the
    /// database sees it.
    pub value: String,
    /// Changes with every write. A later write has a higher one, except that writes at the same
    /// moment may become visible out of order.
    pub revision: u64,
}

/// What must hold for a record to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// Nothing: the record is created or replaced.
    Any,
    /// No such record exists, or it has expired.
    Absent,
    /// The record exists with this revision, and has not expired.
    Revision(u64),
}

/// Records that all processes with the same catalog see, with an expiry by the catalog's clock.
///
/// ```
/// use std::time::Duration;
///
/// use lxd_image::store::{Catalog, Expected, MemoryCatalog};
///
/// let catalog = MemoryCatalog::new();
/// let records = catalog.shared_records().unwrap();
/// let minute = Duration::from_secs(60);
/// // A lease: the first one gets it.
/// let lease = records.put("fetch", "debian/12", "node 1", minute, Expected::Absent)?;
/// assert!(lease.is_some());
/// assert_eq!(records.put("fetch", "debian/12", "node 2", minute, Expected::Absent)?, None);
/// # Ok::<(), lxd_image::Error>(())
/// ```
///
/// Each call is one atomic step. A write whose answer was lost may have happened, so a lease may be
/// held by nobody until it expires, and a record that was taken may be gone.
///
/// Every call fails with `InvalidInput` for names and values that are too long or contain NUL, with `Transient` if a
/// retry may succeed, and with `Io`.
pub trait SharedRecords: Send + Sync {
    /// Writes a record that expires after `lifetime`. Returns its new revision; `None` if it is not as `expected`, and
    /// nothing was written.
    ///
    /// # Errors
    /// See [`SharedRecords`].
    fn put(&self, kind: &str, id: &str, value: &str, lifetime: Duration, expected: Expected) -> Result<Option<u64>>;

    /// Looks up a record; `None` if it does not exist or has expired.
    ///
    /// # Errors
    /// See [`SharedRecords`].
    fn get(&self, kind: &str, id: &str) -> Result<Option<SharedRecord>>;

    /// Returns the first `limit` records of a kind after the id `after`, in the order of their ids.
    ///
    /// # Errors
    /// See [`SharedRecords`].
    fn list(&self, kind: &str, after: &str, limit: usize) -> Result<Vec<SharedRecord>>;

    /// Returns the first `limit` records of every kind with a revision above `revision`, in the order of their revisions.
    ///
    /// # Errors
    /// See [`SharedRecords`].
    fn newer(&self, revision: u64, limit: usize) -> Result<Vec<SharedRecord>>;

    /// Removes a record and returns it; `None` if it does not exist or has expired. Of several callers one gets it.
    ///
    /// # Errors
    /// See [`SharedRecords`].
    fn take(&self, kind: &str, id: &str) -> Result<Option<SharedRecord>>;

    /// Removes records that have expired, up to a few thousand. Returns how many.
    ///
    /// # Errors
    /// See [`SharedRecords`].
    fn expire(&self) -> Result<u64>;
}

/// Fails unless names and value can be written.
pub(super) fn check_record(kind: &str, id: &str, value: &str) -> Result<()> {
    if kind.is_empty() || id.is_empty() || kind.len() > MAX_NAME_BYTES || id.len() > MAX_NAME_BYTES {
        return Err(Error::invalid(format!("the names of a shared record have 1 to {MAX_NAME_BYTES} bytes")));
    }
    if value.len() > MAX_RECORD_BYTES {
        return Err(Error::invalid(format!("a shared record has at most {MAX_RECORD_BYTES} bytes")));
    }
    if [kind, id, value].iter().any(|text| text.contains('\0')) {
        return Err(Error::invalid("a shared record contains no NUL"));
    }
    Ok(())
}

/// A record in memory, and when it expires, in seconds since 1970.
#[derive(Debug, Clone)]
struct Stored {
    value: String,
    revision: u64,
    expires_at: i64,
}

/// The records of a catalog in memory.
#[derive(Debug, Default)]
pub(super) struct MemoryRecords {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    records: BTreeMap<(String, String), Stored>,
    /// The revision of the last write.
    last: u64,
}

impl MemoryRecords {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stored {
    fn shown(&self, (kind, id): &(String, String)) -> SharedRecord {
        SharedRecord { kind: kind.clone(), id: id.clone(), value: self.value.clone(), revision: self.revision }
    }

    fn is_live(&self) -> bool {
        self.expires_at > system_now()
    }
}

impl SharedRecords for MemoryRecords {
    fn put(&self, kind: &str, id: &str, value: &str, lifetime: Duration, expected: Expected) -> Result<Option<u64>> {
        check_record(kind, id, value)?;
        let mut state = self.lock();
        let key = (kind.to_owned(), id.to_owned());
        let current = state.records.get(&key).filter(|record| record.is_live()).map(|record| record.revision);
        let fits = match expected {
            Expected::Any => true,
            Expected::Absent => current.is_none(),
            Expected::Revision(revision) => current == Some(revision),
        };
        if !fits {
            return Ok(None);
        }
        state.last += 1;
        let revision = state.last;
        let expires_at = system_now().saturating_add(i64::try_from(lifetime.as_secs()).unwrap_or(i64::MAX));
        state.records.insert(key, Stored { value: value.to_owned(), revision, expires_at });
        Ok(Some(revision))
    }

    fn get(&self, kind: &str, id: &str) -> Result<Option<SharedRecord>> {
        let key = (kind.to_owned(), id.to_owned());
        Ok(self.lock().records.get(&key).filter(|record| record.is_live()).map(|record| record.shown(&key)))
    }

    fn list(&self, kind: &str, after: &str, limit: usize) -> Result<Vec<SharedRecord>> {
        let state = self.lock();
        let of_kind = state.records.range((kind.to_owned(), after.to_owned())..);
        let of_kind = of_kind.take_while(|((of, _), _)| of == kind).filter(|((_, id), _)| id != after);
        Ok(of_kind.filter(|(_, record)| record.is_live()).take(limit).map(|(key, record)| record.shown(key)).collect())
    }

    fn newer(&self, revision: u64, limit: usize) -> Result<Vec<SharedRecord>> {
        let state = self.lock();
        let newer = state.records.iter().filter(|(_, record)| record.revision > revision && record.is_live());
        let mut found: Vec<_> = newer.map(|(key, record)| record.shown(key)).collect();
        found.sort_by_key(|record| record.revision);
        found.truncate(limit);
        Ok(found)
    }

    fn take(&self, kind: &str, id: &str) -> Result<Option<SharedRecord>> {
        let key = (kind.to_owned(), id.to_owned());
        Ok(self.lock().records.remove(&key).filter(Stored::is_live).map(|record| record.shown(&key)))
    }

    fn expire(&self) -> Result<u64> {
        let mut state = self.lock();
        let before = state.records.len();
        state.records.retain(|_, record| record.is_live());
        Ok((before - state.records.len()) as u64)
    }
}
