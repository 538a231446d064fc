//! Maps errors of SQLite to errors of this library, with the file and what to do.
//!
//! Callers distinguish a busy catalog, a damaged one and a full disk, so each has a kind of its own.

use std::path::Path;

use rusqlite::ErrorCode;

use super::schema::RowError;
use crate::error::{Error, ErrorKind};

/// The error of reading or writing a row of the catalog at `path`.
pub(super) fn row_error(error: RowError, path: Option<&Path>) -> Error {
    match error {
        RowError::Sqlite(error) => sqlite_error(error, path),
        RowError::Value(what) => damaged(what, path),
        RowError::Whole(error) => match path {
            Some(path) => error.in_file(path),
            None => error,
        },
    }
}

/// The error for a damaged catalog.
fn damaged(what: String, path: Option<&Path>) -> Error {
    let error = Error::malformed(what).with_hint("`lxd-image check --repair` rebuilds the catalog from the images");
    match path {
        Some(path) => error.in_file(path),
        None => error,
    }
}

/// The error of a call of SQLite on the catalog at `path`.
pub(super) fn sqlite_error(error: rusqlite::Error, path: Option<&Path>) -> Error {
    let (kind, what) = match error.sqlite_error_code() {
        _ if is_sqlite_full(&error) => {
            let full = Error::storage_full("there is no space left for the catalog").with_source(error);
            return match path {
                Some(path) => full.in_file(path),
                None => full,
            };
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            (ErrorKind::Busy, "another program holds the store's catalog, and the wait is over")
        }
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            return damaged("the catalog is damaged".to_owned(), path).with_source(error);
        }
        Some(ErrorCode::ReadOnly) => (ErrorKind::Io, "the catalog can only be read"),
        Some(ErrorCode::CannotOpen) => (ErrorKind::Io, "the catalog can't be opened"),
        Some(ErrorCode::ConstraintViolation) => (ErrorKind::InvalidInput, "the catalog refuses the change"),
        Some(_) => (ErrorKind::Io, "the catalog can't be used"),
        // A value of the wrong type or a missing table: another program changed the database.
        None => return damaged("the catalog is damaged".to_owned(), path).with_source(error),
    };
    let error = Error::new(kind, what).with_source(error);
    match path {
        Some(path) => error.in_file(path),
        None => error,
    }
}

/// Whether the disk or a quota is full.
pub(super) fn is_full(error: &Error) -> bool {
    error.kind() == ErrorKind::StorageFull
}

/// Whether SQLite reports a full disk or quota.
fn is_sqlite_full(error: &rusqlite::Error) -> bool {
    // For the shared-memory file of the write-ahead log, SQLite reports a full disk as SQLITE_IOERR_SHMSIZE.
    error.sqlite_error_code() == Some(ErrorCode::DiskFull)
        || error.sqlite_error().is_some_and(|error| error.extended_code == rusqlite::ffi::SQLITE_IOERR_SHMSIZE)
}
