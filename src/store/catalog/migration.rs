//! The migration from layout 1 to layout 2.
//!
//! It is one transaction that also writes the layout number, so that a catalog has one layout or
//! the other whenever a program or its machine stops. The schema of layout 1 below is frozen.

use std::path::Path;

use rusqlite::{Connection, OpenFlags, params};

use super::failure::row_error;
use super::object::{Object, ObjectState};
use super::pool::{self, Mode};
use super::schema::{self, RowError, RowResult};
use crate::error::Result;
use crate::fingerprint::Fingerprint;
use crate::store::blobs::BlobKey;

/// The layout that can be migrated.
const OLD_VERSION: i64 = 1;

/// The tables of layout 1, into which a copy is read. Frozen.
const OLD_TABLES: &str = "
CREATE TABLE image (
    fingerprint TEXT NOT NULL PRIMARY KEY,
    type TEXT NOT NULL,
    architecture TEXT NOT NULL,
    size INTEGER NOT NULL,
    rootfs_size INTEGER,
    created_at INTEGER NOT NULL,
    expires_at INTEGER,
    uploaded_at INTEGER NOT NULL,
    last_used_at INTEGER,
    public INTEGER NOT NULL,
    auto_update INTEGER NOT NULL,
    cached INTEGER NOT NULL,
    file_name TEXT,
    rootfs_name TEXT,
    source TEXT,
    properties TEXT NOT NULL,
    original_properties TEXT NOT NULL,
    revision INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE alias (
    name TEXT NOT NULL PRIMARY KEY,
    target TEXT NOT NULL REFERENCES image (fingerprint) ON DELETE CASCADE,
    description TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX alias_target ON alias (target);
CREATE INDEX image_cached ON image (fingerprint) WHERE cached = 1;
CREATE TABLE unsettled (fingerprint TEXT NOT NULL PRIMARY KEY) WITHOUT ROWID;
";

/// Renames the old tables, so that the text of the new ones is the same in every catalog.
const RENAME: &str = "
DROP INDEX IF EXISTS alias_target;
DROP INDEX IF EXISTS image_cached;
ALTER TABLE alias RENAME TO old_alias;
ALTER TABLE image RENAME TO old_image;
";

/// Fills the new tables; the triggers fill `property` and `first_alias`. An alias without an image is dropped.
const FILL: &str = "
INSERT INTO image SELECT fingerprint, type, architecture, size, rootfs_size, created_at, expires_at, uploaded_at, last_used_at,
    public, auto_update, cached, file_name, rootfs_name, source, properties, original_properties, revision,
    fingerprint, CASE WHEN rootfs_size IS NOT NULL THEN fingerprint || '.rootfs' END, fingerprint || '.json', NULL
    FROM old_image;
INSERT INTO alias SELECT name, type, target, description FROM old_alias JOIN old_image ON fingerprint = target;
";

const DROP: &str = "
DROP TABLE old_alias;
DROP TABLE old_image;
DROP TABLE unsettled;
";

/// Migrates the catalog at `path` of the store `id` to the current layout, if it has an older one.
/// The caller holds the store exclusively.
///
/// # Errors
/// `Unsupported`, with both versions, for a newer layout; `Malformed` if it is damaged or belongs
/// to another store; `StorageFull`; `Busy`; `Io`. The catalog is unchanged then.
pub(super) fn upgrade(path: &Path, id: &str) -> Result<()> {
    let work = || -> RowResult<()> {
        let connection = pool::connect(path, Mode::Write)?;
        begin(&connection, id, "BEGIN IMMEDIATE")?;
        let old = is_old(&connection)?;
        if old {
            convert(&connection)?;
        }
        connection.execute_batch(if old { "COMMIT" } else { "ROLLBACK" })?;
        connection.close().map_err(|(_, error)| error)?;
        Ok(())
    };
    work().map_err(|error| row_error(error, Some(path)))
}

/// Copies a catalog of layout 1 into memory and migrates the copy, for a store that is opened for
/// reading only. `None` for any other layout.
///
/// # Errors
/// As [`upgrade`].
pub(super) fn upgraded_copy(path: &Path, id: &str, mode: Mode) -> Result<Option<Connection>> {
    let work = || -> RowResult<Option<Connection>> {
        let source = pool::connect(path, mode)?;
        begin(&source, id, "BEGIN")?;
        if !is_old(&source)? {
            return Ok(None);
        }
        drop(source);
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_URI;
        let copy = Connection::open_with_flags(":memory:", flags)?;
        copy.pragma_update(None, "foreign_keys", false)?;
        copy.execute("ATTACH ?1 AS source", [pool::uri(path, mode)])?;
        copy.execute_batch("BEGIN")?;
        copy.execute_batch(OLD_TABLES)?;
        copy.execute_batch(schema::STORE_TABLE)?;
        for table in ["store", "image", "alias", "unsettled"] {
            copy.execute(&format!("INSERT INTO main.{table} SELECT * FROM source.{table}"), [])?;
        }
        copy.execute_batch("COMMIT; DETACH source; BEGIN")?;
        convert(&copy)?;
        copy.pragma_update(None, "application_id", schema::APPLICATION_ID)?;
        copy.execute_batch("COMMIT")?;
        copy.pragma_update(None, "foreign_keys", true)?;
        copy.set_prepared_statement_cache_capacity(pool::STATEMENTS);
        Ok(Some(copy))
    };
    work().map_err(|error| row_error(error, Some(path)))
}

/// Begins a transaction on the catalog of the store `id`.
fn begin(connection: &Connection, id: &str, how: &str) -> RowResult<()> {
    // Tables are replaced that others refer to. SQLite ignores this inside of a transaction.
    connection.pragma_update(None, "foreign_keys", false)?;
    connection.execute_batch(how)?;
    let (application, version) = schema::versions(connection)?;
    if application != schema::APPLICATION_ID || version != OLD_VERSION {
        schema::check_version(application, version)?;
    }
    if schema::store_id(connection)?.as_deref() != Some(id) {
        return Err(RowError::Whole(pool::foreign()));
    }
    Ok(())
}

/// Whether the catalog has the layout that can be migrated.
fn is_old(connection: &Connection) -> RowResult<bool> {
    Ok(schema::versions(connection)?.1 == OLD_VERSION)
}

/// Converts the tables of layout 1 in the caller's transaction.
fn convert(connection: &Connection) -> RowResult<()> {
    connection.execute_batch(RENAME)?;
    connection.execute_batch(schema::TABLES)?;
    connection.execute_batch(FILL)?;
    for object in pending(connection)? {
        schema::put_object(connection, &object)?;
    }
    // Prepared statements would keep the tables from being dropped.
    connection.flush_prepared_statement_cache();
    connection.execute_batch(DROP)?;
    connection.pragma_update(None, "user_version", schema::LAYOUT_VERSION)?;
    Ok(())
}

/// Converts the list of images that layout 1 had not finished with (`unsettled`) to notes: the
/// sidecar of an image that exists must be written, and the objects of one that does not exist are
/// dead.
fn pending(connection: &Connection) -> RowResult<Vec<Object>> {
    let mut objects = Vec::new();
    let mut statement = connection.prepare(
        "SELECT unsettled.fingerprint, revision FROM unsettled LEFT JOIN image ON image.fingerprint = unsettled.fingerprint",
    )?;
    let mut rows = statement.query(params![])?;
    while let Some(row) = rows.next()? {
        let text: String = row.get(0)?;
        // What is no fingerprint never named a file.
        let Ok(fingerprint) = text.parse::<Fingerprint>() else { continue };
        let legacy = BlobKey::legacy(&fingerprint);
        match row.get::<_, Option<i64>>(1)? {
            Some(revision) => {
                let revision = u64::try_from(revision).map_err(|_| super::columns::bad("revision", &revision))?;
                let [image, ..] = legacy;
                let state = ObjectState::Sidecar { revision };
                objects.push(Object::new(image.sidecar(revision), fingerprint, state));
            }
            None => {
                let state = ObjectState::Dead { delete_after: 0 };
                objects.extend(legacy.into_iter().map(|key| Object::new(key, fingerprint, state.clone())));
            }
        }
    }
    Ok(objects)
}

#[cfg(test)]
mod tests;
