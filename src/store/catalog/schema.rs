//! The catalog's tables and how rows become values. `LAYOUT.md` tells them to people.
//! A change here is a new layout version with a migration, and a store of the old one among the tests.

use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::error::{Error, Result};
use crate::fingerprint::{Fingerprint, Prefix};
use crate::format::ImageType;
use crate::metadata::Properties;
use crate::store::image::{Alias, StoredImage, UpdateSource};

/// The layout that this version writes; SQLite's `user_version` of the catalog.
pub(crate) const LAYOUT_VERSION: i64 = 1;

/// SQLite's `application_id` of the catalog: `lxdI`.
pub(crate) const APPLICATION_ID: i64 = 0x6c78_6449;

/// Layout version 1.
pub(crate) const TABLES: &str = "
CREATE TABLE store (id TEXT NOT NULL);
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

/// Why a row could not be read or written, before it is known in which file.
#[derive(Debug)]
pub(crate) enum RowError {
    Sqlite(rusqlite::Error),
    /// A value that this library never writes.
    Value(String),
}

impl From<rusqlite::Error> for RowError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

pub(crate) type RowResult<T> = std::result::Result<T, RowError>;

const COLUMNS: &str = "fingerprint, type, architecture, size, rootfs_size, created_at, expires_at, uploaded_at, \
     last_used_at, public, auto_update, cached, file_name, rootfs_name, source, properties, original_properties, revision";

fn bad(column: &str, value: &dyn std::fmt::Display) -> RowError {
    RowError::Value(format!("the catalog's {column} holds `{value}`"))
}

fn fingerprint(text: &str) -> RowResult<Fingerprint> {
    text.parse().map_err(|_| bad("fingerprint", &text))
}

fn size(number: i64) -> RowResult<u64> {
    u64::try_from(number).map_err(|_| bad("size", &number))
}

/// A size as the database holds it; files are never as large as the bound.
fn stored(size: u64) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

fn properties(text: &str) -> RowResult<Properties> {
    let map: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(text).map_err(|error| bad("properties", &error))?;
    let mut properties = Properties::new();
    for (key, value) in map {
        let value = value.as_str().ok_or_else(|| bad("properties", &value))?;
        properties.set(key, value).map_err(|error| bad("properties", &error))?;
    }
    Ok(properties)
}

/// Values of ours as JSON text; they always can be written so.
fn json(value: &impl serde::Serialize) -> RowResult<String> {
    serde_json::to_string(value).map_err(|error| RowError::Value(error.to_string()))
}

fn image(row: &Row<'_>) -> RowResult<StoredImage> {
    let text = |index: usize| row.get_ref(index).and_then(|value| Ok(value.as_str()?));
    let kind = match text(1)? {
        "container" => ImageType::Container,
        "virtual-machine" => ImageType::VirtualMachine,
        other => return Err(bad("type", &other)),
    };
    let architecture = text(2)?;
    let source: Option<UpdateSource> = match row.get::<_, Option<String>>(14)? {
        None => None,
        Some(text) => Some(serde_json::from_str(&text).map_err(|error| bad("source", &error))?),
    };
    Ok(StoredImage {
        fingerprint: fingerprint(text(0)?)?,
        image_type: kind,
        architecture: architecture.parse().map_err(|_| bad("architecture", &architecture))?,
        size: size(row.get(3)?)?,
        rootfs_size: row.get::<_, Option<i64>>(4)?.map(size).transpose()?,
        created_at: row.get(5)?,
        expires_at: row.get(6)?,
        uploaded_at: row.get(7)?,
        last_used_at: row.get(8)?,
        public: row.get(9)?,
        auto_update: row.get(10)?,
        cached: row.get(11)?,
        file_name: row.get(12)?,
        rootfs_name: row.get(13)?,
        source,
        properties: properties(text(15)?)?,
        original_properties: properties(text(16)?)?,
        revision: size(row.get(17)?)?,
        aliases: Vec::new(),
    })
}

pub(crate) fn get(connection: &Connection, wanted: &Fingerprint) -> RowResult<Option<StoredImage>> {
    let mut statement = connection.prepare_cached(&format!("SELECT {COLUMNS} FROM image WHERE fingerprint = ?1"))?;
    let mut rows = statement.query([wanted.to_string()])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let mut found = image(row)?;
    let mut statement =
        connection.prepare_cached("SELECT name, description FROM alias WHERE target = ?1 ORDER BY name")?;
    let mut rows = statement.query([wanted.to_string()])?;
    while let Some(row) = rows.next()? {
        found.aliases.push(Alias { name: row.get(0)?, description: row.get(1)? });
    }
    Ok(Some(found))
}

/// All images, or the cached ones, in order. What `bad` is told of rows that can't be read decides whether that ends it.
pub(crate) fn all(
    connection: &Connection,
    cached_only: bool,
    bad: &mut dyn FnMut(&str, RowError) -> RowResult<()>,
) -> RowResult<Vec<StoredImage>> {
    let (rows, targets) = if cached_only {
        ("WHERE cached = 1", "WHERE target IN (SELECT fingerprint FROM image WHERE cached = 1)")
    } else {
        ("", "")
    };
    let mut images = Vec::new();
    let mut statement =
        connection.prepare_cached(&format!("SELECT {COLUMNS} FROM image {rows} ORDER BY fingerprint"))?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        match image(row) {
            Ok(image) => images.push(image),
            // The database itself is at fault, and the next row will fare no better.
            Err(RowError::Sqlite(error)) if error.sqlite_error_code().is_some() => return Err(error.into()),
            Err(error) => bad(row.get_ref(0)?.as_str().unwrap_or("an image without a fingerprint"), error)?,
        }
    }
    // Both are sorted by fingerprint, so each alias belongs to this image or to a later one.
    let mut statement = connection
        .prepare_cached(&format!("SELECT target, name, description FROM alias {targets} ORDER BY target, name"))?;
    let mut rows = statement.query([])?;
    let mut targets = images.iter_mut().peekable();
    while let Some(row) = rows.next()? {
        let text = row.get_ref(0)?.as_str().unwrap_or_default();
        let target = match fingerprint(text) {
            Ok(target) => target,
            Err(error) => {
                bad(text, error)?;
                continue;
            }
        };
        while targets.next_if(|image| image.fingerprint < target).is_some() {}
        if let Some(image) = targets.peek_mut().filter(|image| image.fingerprint == target) {
            match (row.get(1), row.get(2)) {
                (Ok(name), Ok(description)) => image.aliases.push(Alias { name, description }),
                (Err(error), _) | (_, Err(error)) => bad(&image.fingerprint.to_string(), error.into())?,
            }
        }
    }
    Ok(images)
}

pub(crate) fn alias(connection: &Connection, name: &str) -> RowResult<Option<(Alias, Fingerprint)>> {
    let mut statement = connection.prepare_cached("SELECT target, description FROM alias WHERE name = ?1")?;
    let mut rows = statement.query([name])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let target = fingerprint(row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?)?;
    Ok(Some((Alias { name: name.to_owned(), description: row.get(1)? }, target)))
}

pub(crate) fn with_prefix(connection: &Connection, prefix: &Prefix, most: usize) -> RowResult<Vec<Fingerprint>> {
    // `g` stands behind every hex digit, so the range is exactly those that begin so.
    let mut statement = connection.prepare_cached(
        "SELECT fingerprint FROM image WHERE fingerprint >= ?1 AND fingerprint < ?1 || 'g' ORDER BY 1 LIMIT ?2",
    )?;
    let mut rows = statement.query(params![prefix.as_str(), i64::try_from(most).unwrap_or(i64::MAX)])?;
    fingerprints(&mut rows)
}

pub(crate) fn unsettled(connection: &Connection) -> RowResult<Vec<Fingerprint>> {
    let mut statement = connection.prepare_cached("SELECT fingerprint FROM unsettled ORDER BY 1")?;
    let mut rows = statement.query([])?;
    fingerprints(&mut rows)
}

fn fingerprints(rows: &mut rusqlite::Rows<'_>) -> RowResult<Vec<Fingerprint>> {
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(fingerprint(row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?)?);
    }
    Ok(found)
}

pub(crate) fn put(connection: &Connection, image: &StoredImage) -> RowResult<()> {
    // Not `INSERT OR REPLACE`: that deletes the old row, and its aliases with it.
    let mut statement = connection.prepare_cached(
        "INSERT INTO image VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18)
         ON CONFLICT (fingerprint) DO UPDATE SET type = ?2, architecture = ?3, size = ?4, rootfs_size = ?5,
         created_at = ?6, expires_at = ?7, uploaded_at = ?8, last_used_at = ?9, public = ?10, auto_update = ?11,
         cached = ?12, file_name = ?13, rootfs_name = ?14, source = ?15, properties = ?16, original_properties = ?17,
         revision = ?18",
    )?;
    let source = image.source.as_ref().map(json).transpose()?;
    statement.execute(params![
        image.fingerprint.to_string(),
        image.image_type.name(),
        image.architecture.kernel_name(),
        stored(image.size),
        image.rootfs_size.map(stored),
        image.created_at,
        image.expires_at,
        image.uploaded_at,
        image.last_used_at,
        image.public,
        image.auto_update,
        image.cached,
        image.file_name,
        image.rootfs_name,
        source,
        json(&image.properties)?,
        json(&image.original_properties)?,
        stored(image.revision),
    ])?;
    Ok(())
}

pub(crate) fn execute(connection: &Connection, sql: &str, values: impl rusqlite::Params) -> RowResult<()> {
    connection.prepare_cached(sql)?.execute(values)?;
    Ok(())
}

pub(crate) fn store_id(connection: &Connection) -> RowResult<Option<String>> {
    Ok(connection.query_row("SELECT id FROM store", [], |row| row.get(0)).optional()?)
}

/// Says what layout a catalog has.
///
/// # Errors
/// `Malformed` for a file that is no catalog, `Unsupported` for a newer layout.
pub(crate) fn check_version(application: i64, version: i64) -> Result<()> {
    if application != APPLICATION_ID {
        return Err(Error::malformed("the catalog is empty or another program's database"));
    }
    if version != LAYOUT_VERSION {
        return Err(Error::unsupported(format!(
            "the store has layout version {version}, and this program knows version {LAYOUT_VERSION}"
        ))
        .with_hint("use the version of lxd-image that wrote it, or a newer one"));
    }
    Ok(())
}
