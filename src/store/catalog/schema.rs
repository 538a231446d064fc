//! The tables of the catalog, and the mapping between rows and values. `LAYOUT.md` describes the tables for people.
//!
//! Any change here is a new layout version, with a migration in `migration.rs` and a store of the
//! old layout among the tests.

mod select;

use std::collections::BTreeSet;

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::attachment::Attachment;
use super::columns::{
    BadValue, ImageColumns, ObjectColumns, end_of_prefix, fingerprint, image_type, json, source, state_columns, stored,
};
use super::object::Object;
use super::query::{AliasPage, AliasQuery, ImageQuery, Position, Totals};
use crate::error::{Error, Result};
use crate::fingerprint::{Fingerprint, FingerprintPrefix};
use crate::format::ImageType;
use crate::store::blobs::BlobKey;
use crate::store::image::{Alias, AliasTarget, StoredImage};

/// The layout that this version writes; SQLite's `user_version` of the catalog.
pub(crate) const LAYOUT_VERSION: i64 = 2;

/// SQLite's `application_id` of the catalog: `lxdI`.
pub(crate) const APPLICATION_ID: i64 = 0x6c78_6449;

/// Layout version 2, but for the table `store`, which has not changed since version 1.
///
/// Every filter has an index that gives the images in the order of their fingerprints, with their
/// sizes for totals; the order by alias has one for all images and one for public ones, which is
/// what the server asks for. `property` and `first_alias` repeat what stands elsewhere so that an
/// index can hold it. Triggers keep them, because rows are also changed by other programs.
///
/// `change` counts changes of images and aliases only: an import also commits records of objects,
/// and those must not invalidate every list. Catalogs of earlier versions lack it, see [`changes`].
pub(crate) const TABLES: &str = "
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
    revision INTEGER NOT NULL,
    object TEXT NOT NULL,
    rootfs_object TEXT,
    sidecar_object TEXT,
    first_alias TEXT
);
CREATE TABLE alias (
    name TEXT NOT NULL,
    type TEXT NOT NULL,
    target TEXT NOT NULL REFERENCES image (fingerprint) ON DELETE CASCADE,
    description TEXT NOT NULL,
    PRIMARY KEY (name, type)
) WITHOUT ROWID;
CREATE TABLE property (
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    PRIMARY KEY (key, value, fingerprint)
) WITHOUT ROWID;
CREATE TABLE object (
    key TEXT NOT NULL PRIMARY KEY,
    fingerprint TEXT NOT NULL,
    state TEXT NOT NULL,
    holder TEXT,
    revision INTEGER,
    time INTEGER
) WITHOUT ROWID;
CREATE TABLE change (number INTEGER NOT NULL);
INSERT INTO change VALUES (0);
CREATE INDEX image_type ON image (type, fingerprint, size);
CREATE INDEX image_architecture ON image (architecture, fingerprint, size);
CREATE INDEX image_size ON image (size, fingerprint);
CREATE INDEX image_public ON image (public, fingerprint, size);
CREATE INDEX image_auto_update ON image (auto_update, fingerprint, size);
CREATE INDEX image_cached ON image (cached, fingerprint, size);
CREATE INDEX image_alias ON image (first_alias, fingerprint);
CREATE INDEX image_public_alias ON image (public, first_alias, fingerprint);
CREATE INDEX alias_target ON alias (target, name);
CREATE TRIGGER image_inserted AFTER INSERT ON image BEGIN
    INSERT OR IGNORE INTO property SELECT key, value, new.fingerprint
        FROM json_each(CASE WHEN json_valid(new.properties) THEN new.properties ELSE '{}' END) WHERE type = 'text';
    UPDATE image SET first_alias = (SELECT min(name) FROM alias WHERE target = new.fingerprint)
        WHERE fingerprint = new.fingerprint
        AND first_alias IS NOT (SELECT min(name) FROM alias WHERE target = new.fingerprint);
END;
CREATE TRIGGER image_changed AFTER UPDATE OF fingerprint, properties ON image
    WHEN old.properties IS NOT new.properties OR old.fingerprint IS NOT new.fingerprint
BEGIN
    DELETE FROM property WHERE (key, value, fingerprint) IN (SELECT key, value, old.fingerprint
        FROM json_each(CASE WHEN json_valid(old.properties) THEN old.properties ELSE '{}' END) WHERE type = 'text');
    INSERT OR IGNORE INTO property SELECT key, value, new.fingerprint
        FROM json_each(CASE WHEN json_valid(new.properties) THEN new.properties ELSE '{}' END) WHERE type = 'text';
END;
CREATE TRIGGER image_deleted AFTER DELETE ON image BEGIN
    DELETE FROM property WHERE (key, value, fingerprint) IN (SELECT key, value, old.fingerprint
        FROM json_each(CASE WHEN json_valid(old.properties) THEN old.properties ELSE '{}' END) WHERE type = 'text');
END;
CREATE TRIGGER alias_inserted AFTER INSERT ON alias BEGIN
    UPDATE image SET first_alias = (SELECT min(name) FROM alias WHERE target = new.target)
        WHERE fingerprint = new.target AND first_alias IS NOT (SELECT min(name) FROM alias WHERE target = new.target);
END;
CREATE TRIGGER alias_changed AFTER UPDATE ON alias BEGIN
    UPDATE image SET first_alias = (SELECT min(name) FROM alias WHERE target = old.target)
        WHERE fingerprint = old.target AND first_alias IS NOT (SELECT min(name) FROM alias WHERE target = old.target);
    UPDATE image SET first_alias = (SELECT min(name) FROM alias WHERE target = new.target)
        WHERE fingerprint = new.target AND first_alias IS NOT (SELECT min(name) FROM alias WHERE target = new.target);
END;
CREATE TRIGGER alias_deleted AFTER DELETE ON alias BEGIN
    UPDATE image SET first_alias = (SELECT min(name) FROM alias WHERE target = old.target)
        WHERE fingerprint = old.target AND first_alias IS NOT (SELECT min(name) FROM alias WHERE target = old.target);
END;
CREATE TRIGGER change_image_inserted AFTER INSERT ON image BEGIN UPDATE change SET number = number + 1; END;
CREATE TRIGGER change_image_changed AFTER UPDATE OF fingerprint, type, architecture, size, rootfs_size, created_at, expires_at,
    uploaded_at, last_used_at, public, auto_update, cached, file_name, rootfs_name, source, properties, original_properties ON image
BEGIN UPDATE change SET number = number + 1; END;
CREATE TRIGGER change_image_deleted AFTER DELETE ON image BEGIN UPDATE change SET number = number + 1; END;
CREATE TRIGGER change_alias_inserted AFTER INSERT ON alias BEGIN UPDATE change SET number = number + 1; END;
CREATE TRIGGER change_alias_changed AFTER UPDATE ON alias BEGIN UPDATE change SET number = number + 1; END;
CREATE TRIGGER change_alias_deleted AFTER DELETE ON alias BEGIN UPDATE change SET number = number + 1; END;
";

/// The table of texts beside images. It is created with the first text, so that catalogs that need none stay as every
/// earlier version knows them; one that has some is still readable by them, and images that they delete take their
/// texts along.
const ATTACHMENTS: &str = "
CREATE TABLE IF NOT EXISTS attachment (
    fingerprint TEXT NOT NULL REFERENCES image (fingerprint) ON DELETE CASCADE,
    name TEXT NOT NULL,
    content TEXT NOT NULL,
    added_at INTEGER NOT NULL,
    PRIMARY KEY (fingerprint, name)
);
CREATE TRIGGER IF NOT EXISTS change_attachment_inserted AFTER INSERT ON attachment
BEGIN UPDATE change SET number = number + 1; END;
CREATE TRIGGER IF NOT EXISTS change_attachment_changed AFTER UPDATE ON attachment
BEGIN UPDATE change SET number = number + 1; END;
";

/// The table that tells whose catalog it is.
pub(crate) const STORE_TABLE: &str = "CREATE TABLE store (id TEXT NOT NULL);";

/// Why a row could not be read or written, before it is known in which file.
#[derive(Debug)]
pub(crate) enum RowError {
    /// An error of SQLite.
    Sqlite(rusqlite::Error),
    /// A value that this library never writes.
    Value(String),
    /// An error that needs no translation.
    Whole(Error),
}

impl From<rusqlite::Error> for RowError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<Error> for RowError {
    fn from(error: Error) -> Self {
        Self::Whole(error)
    }
}

impl From<BadValue> for RowError {
    fn from(BadValue(what): BadValue) -> Self {
        Self::Value(what)
    }
}

impl RowError {
    /// Whether the database itself fails, so that other rows cannot be read either.
    fn is_of_database(&self) -> bool {
        matches!(self, Self::Sqlite(error) if error.sqlite_error_code().is_some())
    }
}

pub(crate) type RowResult<T> = std::result::Result<T, RowError>;

/// All columns of an image row. `select::walk` needs the first two of every query.
const COLUMNS: &str = "image.fingerprint, image.first_alias, image.type, image.architecture, image.size, image.rootfs_size, \
     image.created_at, image.expires_at, image.uploaded_at, image.last_used_at, image.public, image.auto_update, \
     image.cached, image.file_name, image.rootfs_name, image.source, image.properties, image.original_properties, \
     image.revision, image.object, image.rootfs_object, image.sidecar_object";

/// A column as text, without copying.
fn text<'a>(row: &'a Row<'_>, index: usize) -> RowResult<&'a str> {
    Ok(row.get_ref(index)?.as_str().map_err(rusqlite::Error::from)?)
}

/// A column as text or NULL, without copying.
fn optional_text<'a>(row: &'a Row<'_>, index: usize) -> RowResult<Option<&'a str>> {
    Ok(row.get_ref(index)?.as_str_or_null().map_err(rusqlite::Error::from)?)
}

/// The image in a row of [`COLUMNS`], without its aliases.
fn image(row: &Row<'_>) -> RowResult<StoredImage> {
    let columns = ImageColumns {
        fingerprint: text(row, 0)?,
        image_type: text(row, 2)?,
        architecture: text(row, 3)?,
        size: row.get(4)?,
        rootfs_size: row.get(5)?,
        created_at: row.get(6)?,
        expires_at: row.get(7)?,
        uploaded_at: row.get(8)?,
        last_used_at: row.get(9)?,
        public: row.get(10)?,
        auto_update: row.get(11)?,
        cached: row.get(12)?,
        file_name: row.get(13)?,
        rootfs_name: row.get(14)?,
        source: optional_text(row, 15)?,
        properties: text(row, 16)?,
        original_properties: text(row, 17)?,
        revision: row.get(18)?,
        object: text(row, 19)?,
        rootfs_object: optional_text(row, 20)?,
        sidecar_object: optional_text(row, 21)?,
    };
    Ok(columns.decode()?)
}

/// Looks up one image with its aliases.
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

/// A page of images.
#[derive(Default)]
pub(crate) struct Page {
    pub(crate) images: Vec<StoredImage>,
    pub(crate) next: Option<Position>,
    /// Rows that cannot be read, by their fingerprint or the text in its place.
    pub(crate) skipped: Vec<(String, RowError)>,
}

/// The name of a skipped row whose fingerprint is not a text.
const NO_FINGERPRINT: &str = "an image without a fingerprint";

/// One page of images with their aliases.
pub(crate) fn page(connection: &Connection, query: &ImageQuery) -> RowResult<Page> {
    let mut page = Page::default();
    let next = select::walk(connection, query, COLUMNS, &mut |row, _| {
        match image(row) {
            Ok(image) => page.images.push(image),
            Err(error) if error.is_of_database() => return Err(error),
            Err(error) => page.skipped.push((text(row, 0).unwrap_or(NO_FINGERPRINT).to_owned(), error)),
        }
        Ok(())
    })?;
    page.next = next;
    add_aliases(connection, &mut page)?;
    Ok(page)
}

/// Selects the aliases of all images of a page with one query.
const PAGE_ALIASES: &str = "SELECT target, name, description FROM json_each(?1) AS wanted \
     CROSS JOIN alias INDEXED BY alias_target ON alias.target = wanted.value";

/// Adds the aliases to the images of a page, sorted.
fn add_aliases(connection: &Connection, page: &mut Page) -> RowResult<()> {
    let wanted: Vec<String> = page.images.iter().map(|image| image.fingerprint.to_string()).collect();
    let places: std::collections::HashMap<String, usize> =
        wanted.iter().cloned().enumerate().map(|(index, text)| (text, index)).collect();
    let mut statement = connection.prepare_cached(PAGE_ALIASES)?;
    let mut rows = statement.query([json(&wanted)?])?;
    while let Some(row) = rows.next()? {
        let target = text(row, 0)?;
        let Some(image) = places.get(target).and_then(|&index| page.images.get_mut(index)) else { continue };
        match (row.get(1), row.get(2)) {
            (Ok(name), Ok(description)) => image.aliases.push(Alias { name, description }),
            (Err(error), _) | (_, Err(error)) => page.skipped.push((target.to_owned(), error.into())),
        }
    }
    for image in &mut page.images {
        image.aliases.sort();
    }
    Ok(())
}

/// One page of fingerprints.
pub(crate) fn fingerprints(
    connection: &Connection,
    query: &ImageQuery,
) -> RowResult<(Vec<Fingerprint>, Option<Position>)> {
    let mut found = Vec::new();
    let next = select::walk(connection, query, "image.fingerprint, image.first_alias", &mut |_, fingerprint| {
        // A text that is no fingerprint is reported by `page`.
        found.extend(fingerprint);
        Ok(())
    })?;
    Ok((found, next))
}

/// The number of changes of images and aliases that the catalog has counted, modulo 2³²; `None` for a catalog without
/// the counter.
pub(crate) fn changes(connection: &Connection) -> RowResult<Option<u32>> {
    let exists = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'change')";
    if !connection.prepare_cached(exists)?.query_row([], |row| row.get(0))? {
        return Ok(None);
    }
    let low = "SELECT number & 0xffffffff FROM change";
    Ok(connection.prepare_cached(low)?.query_row([], |row| row.get(0)).optional()?)
}

/// The number and the total size of the images that match a query.
pub(crate) fn totals(connection: &Connection, query: &ImageQuery) -> RowResult<Totals> {
    let select = select::totals(connection, query)?;
    let mut statement = connection.prepare_cached(&select.sql)?;
    let (images, high, low) = statement.query_row(rusqlite::params_from_iter(select.values), |row| {
        Ok((row.get::<_, i64>(0)?, row.get::<_, Option<i64>>(1)?, row.get::<_, Option<i64>>(2)?))
    })?;
    let bytes = (i128::from(high.unwrap_or(0)) << 32) + i128::from(low.unwrap_or(0));
    Ok(Totals { images: u64::try_from(images).unwrap_or(0), bytes: u64::try_from(bytes.max(0)).unwrap_or(u64::MAX) })
}

/// Looks up the alias of images of one type.
pub(crate) fn alias(
    connection: &Connection,
    name: &str,
    image_type: ImageType,
) -> RowResult<Option<(Alias, AliasTarget)>> {
    let mut statement =
        connection.prepare_cached("SELECT target, description FROM alias WHERE name = ?1 AND type = ?2")?;
    let mut rows = statement.query([name, image_type.name()])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let target = AliasTarget::new(fingerprint(text(row, 0)?)?, image_type);
    Ok(Some((Alias { name: name.to_owned(), description: row.get(1)? }, target)))
}

/// Selects a page of aliases.
const ALIASES: &str = "SELECT name, type, target, description FROM alias \
     WHERE (name, type) > (?1, ?2) AND name < ?3 AND (?4 IS NULL OR type = ?4) ORDER BY name, type";

/// One page of aliases. A row that cannot be read is left out.
pub(crate) fn aliases(connection: &Connection, query: &AliasQuery) -> RowResult<AliasPage> {
    let prefix = query.prefix.as_deref().unwrap_or_default();
    // An empty blob sorts after every text: it is the upper bound if there is none.
    let end = end_of_prefix(prefix).map_or(Value::Blob(Vec::new()), Value::Text);
    let start = match &query.after {
        Some((name, image_type)) if name.as_str() >= prefix => (name.as_str(), image_type.name()),
        // The empty text sorts before every type.
        _ => (prefix, ""),
    };
    let mut page = AliasPage::default();
    let mut statement = connection.prepare_cached(ALIASES)?;
    let mut rows = statement.query(params![start.0, start.1, end, query.image_type.map(ImageType::name)])?;
    while let Some(row) = rows.next()? {
        // An alias that cannot be read must not hide others; `inconsistencies` reports it.
        let Ok((alias, target)) = whole_alias(row) else { continue };
        if page.aliases.len() == query.limit.max(1) {
            page.next = page.aliases.last().map(|(alias, target)| (alias.name.clone(), target.image_type));
            break;
        }
        page.aliases.push((alias, target));
    }
    Ok(page)
}

/// The alias in a row of [`ALIASES`].
fn whole_alias(row: &Row<'_>) -> RowResult<(Alias, AliasTarget)> {
    let target = AliasTarget::new(fingerprint(text(row, 2)?)?, image_type(text(row, 1)?)?);
    Ok((Alias { name: row.get(0)?, description: row.get(3)? }, target))
}

/// Selects fingerprints in a range.
const WITH_PREFIX: &str = "SELECT fingerprint FROM image \
     WHERE fingerprint >= ?1 AND fingerprint < ?1 || 'g' ORDER BY fingerprint";

/// The first `limit` fingerprints with this prefix, in ascending order.
pub(crate) fn with_prefix(
    connection: &Connection,
    prefix: &FingerprintPrefix,
    limit: usize,
) -> RowResult<Vec<Fingerprint>> {
    // `g` sorts after every hex digit, so the range contains exactly the fingerprints with this prefix.
    let mut statement = connection.prepare_cached(WITH_PREFIX)?;
    let mut rows = statement.query([prefix.as_str()])?;
    let mut found = Vec::new();
    while found.len() < limit
        && let Some(row) = rows.next()?
    {
        found.extend(text(row, 0).and_then(|text| Ok(fingerprint(text)?)));
    }
    Ok(found)
}

/// Inserts the row of an image. Returns `false` if it exists.
pub(crate) fn insert(connection: &Connection, image: &StoredImage) -> RowResult<bool> {
    let (columns, values) = written(image)?;
    let marks: Vec<String> = (4..columns.len() + 4).map(|number| format!("?{number}")).collect();
    let sql = format!(
        "INSERT INTO image (fingerprint, last_used_at, sidecar_object, {}) VALUES (?1, ?2, ?3, {})
         ON CONFLICT (fingerprint) DO NOTHING",
        columns.join(", "),
        marks.join(", ")
    );
    let sidecar = image.objects.sidecar.as_ref().map(|key| key.as_str().to_owned());
    let own = [Value::from(image.fingerprint.to_string()), image.last_used_at.into(), sidecar.into()];
    Ok(execute(connection, &sql, rusqlite::params_from_iter(own.into_iter().chain(values)))? == 1)
}

/// Replaces the row of an image at the revision `expected`. Returns `false` if it is gone or at another one.
pub(crate) fn update(connection: &Connection, image: &StoredImage, expected: u64) -> RowResult<bool> {
    let (columns, values) = written(image)?;
    let set: Vec<String> = columns.iter().zip(3..).map(|(column, number)| format!("{column} = ?{number}")).collect();
    let sql = format!("UPDATE image SET {} WHERE fingerprint = ?1 AND revision = ?2", set.join(", "));
    let row = [Value::from(image.fingerprint.to_string()), stored(expected).into()];
    Ok(execute(connection, &sql, rusqlite::params_from_iter(row.into_iter().chain(values)))? == 1)
}

/// The columns of a row with their values, for insertion and update: all but the fingerprint and
/// the columns that have statements of their own.
fn written(image: &StoredImage) -> RowResult<([&'static str; 18], [Value; 18])> {
    let rootfs = image.objects.rootfs.as_ref().map(|key| key.as_str().to_owned());
    let pairs: [(&str, Value); 18] = [
        ("type", image.image_type.name().to_owned().into()),
        ("architecture", image.architecture.kernel_name().to_owned().into()),
        ("size", stored(image.size).into()),
        ("rootfs_size", image.rootfs_size.map(stored).into()),
        ("created_at", image.created_at.into()),
        ("expires_at", image.expires_at.into()),
        ("uploaded_at", image.uploaded_at.into()),
        ("public", image.public.into()),
        ("auto_update", image.auto_update.into()),
        ("cached", image.cached.into()),
        ("file_name", image.file_name.clone().into()),
        ("rootfs_name", image.rootfs_name.clone().into()),
        ("source", source(image)?.into()),
        ("properties", json(&image.properties)?.into()),
        ("original_properties", json(&image.original_properties)?.into()),
        ("revision", stored(image.revision).into()),
        ("object", image.objects.image.as_str().to_owned().into()),
        ("rootfs_object", rootfs.into()),
    ];
    Ok((std::array::from_fn(|index| pairs[index].0), pairs.map(|(_, value)| value)))
}

/// Records a use, unless a later one is recorded.
pub(crate) fn set_last_used(connection: &Connection, wanted: &Fingerprint, seconds: i64) -> RowResult<()> {
    let sql =
        "UPDATE image SET last_used_at = ?2 WHERE fingerprint = ?1 AND (last_used_at IS NULL OR last_used_at < ?2)";
    execute(connection, sql, params![wanted.to_string(), seconds]).map(|_| ())
}

/// Names the sidecar of a row at `revision`. Returns whether it was at that revision.
pub(crate) fn set_sidecar(
    connection: &Connection,
    wanted: &Fingerprint,
    revision: u64,
    key: &BlobKey,
) -> RowResult<bool> {
    let sql = "UPDATE image SET sidecar_object = ?3 WHERE fingerprint = ?1 AND revision = ?2";
    Ok(execute(connection, sql, params![wanted.to_string(), stored(revision), key.as_str()])? == 1)
}

/// Creates or changes an alias. Returns whether its target exists with that type.
pub(crate) fn set_alias(connection: &Connection, alias: &Alias, target: &AliasTarget) -> RowResult<bool> {
    let sql = "INSERT INTO alias SELECT ?1, type, fingerprint, ?4 FROM image WHERE fingerprint = ?3 AND type = ?2
               ON CONFLICT (name, type) DO UPDATE SET target = excluded.target, description = excluded.description";
    let fingerprint = target.fingerprint.to_string();
    let values = [alias.name.as_str(), target.image_type.name(), &fingerprint, alias.description.as_str()];
    Ok(execute(connection, sql, values)? == 1)
}

/// Whether a table exists.
fn has_table(connection: &Connection, name: &str) -> RowResult<bool> {
    let exists = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1)";
    Ok(connection.prepare_cached(exists)?.query_row([name], |row| row.get(0))?)
}

/// The texts beside an image.
pub(crate) fn attachments(connection: &Connection, wanted: &Fingerprint) -> RowResult<Vec<Attachment>> {
    if !has_table(connection, "attachment")? {
        return Ok(Vec::new());
    }
    let sql = "SELECT name, content, added_at FROM attachment WHERE fingerprint = ?1 ORDER BY name";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([wanted.to_string()])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(Attachment { name: row.get(0)?, content: row.get(1)?, added_at: row.get(2)? });
    }
    Ok(found)
}

/// The images with a text whose name begins so. Answered from the key of the table, without reading a text.
pub(crate) fn attached(connection: &Connection, prefix: &str) -> RowResult<BTreeSet<Fingerprint>> {
    if !has_table(connection, "attachment")? {
        return Ok(BTreeSet::new());
    }
    let sql = "SELECT DISTINCT fingerprint FROM attachment WHERE substr(name, 1, length(?1)) = ?1";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([prefix])?;
    let mut found = BTreeSet::new();
    while let Some(row) = rows.next()? {
        // A text that is no fingerprint belongs to no image that could be found; `check` reports it.
        found.extend(text(row, 0).and_then(|text| Ok(fingerprint(text)?)));
    }
    Ok(found)
}

/// Keeps a text beside an image. Returns whether the image exists.
pub(crate) fn attach(connection: &Connection, of: &Fingerprint, attachment: &Attachment) -> RowResult<bool> {
    if !has_table(connection, "attachment")? {
        if has_table(connection, "change")? {
            connection.execute_batch(ATTACHMENTS)?;
        } else {
            // A catalog of an earlier version without the counter needs no triggers that raise it.
            let table = ATTACHMENTS.split("CREATE TRIGGER").next().unwrap_or_default();
            connection.execute_batch(table)?;
        }
    }
    let sql = "INSERT INTO attachment SELECT fingerprint, ?2, ?3, ?4 FROM image WHERE fingerprint = ?1
               ON CONFLICT (fingerprint, name) DO UPDATE SET content = excluded.content, added_at = excluded.added_at";
    let values = params![of.to_string(), attachment.name, attachment.content, attachment.added_at];
    Ok(execute(connection, sql, values)? == 1)
}

/// The note in a row.
fn noted_object(row: &Row<'_>) -> RowResult<Object> {
    let columns = ObjectColumns {
        key: text(row, 0)?,
        fingerprint: text(row, 1)?,
        state: text(row, 2)?,
        holder: optional_text(row, 3)?,
        revision: row.get(4)?,
        time: row.get(5)?,
    };
    Ok(columns.decode()?)
}

/// The note about an object.
pub(crate) fn object(connection: &Connection, key: &BlobKey) -> RowResult<Option<Object>> {
    let mut statement = connection
        .prepare_cached("SELECT key, fingerprint, state, holder, revision, time FROM object WHERE key = ?1")?;
    let mut rows = statement.query([key.as_str()])?;
    rows.next()?.map(noted_object).transpose()
}

/// Selects a page of notes.
const OBJECTS: &str = "SELECT key, fingerprint, state, holder, revision, time FROM object WHERE key > ?1 ORDER BY key";

/// One page of notes.
pub(crate) fn objects(connection: &Connection, after: Option<&BlobKey>, limit: usize) -> RowResult<Vec<Object>> {
    let mut statement = connection.prepare_cached(OBJECTS)?;
    let mut rows = statement.query([after.map_or("", BlobKey::as_str)])?;
    let mut found = Vec::new();
    while found.len() < limit
        && let Some(row) = rows.next()?
    {
        // A note that cannot be read must not hide others; `inconsistencies` reports it.
        found.extend(noted_object(row));
    }
    Ok(found)
}

/// Writes a note, replacing an earlier one of the same object.
pub(crate) fn put_object(connection: &Connection, object: &Object) -> RowResult<()> {
    let (state, holder, revision, time) = state_columns(&object.state);
    let sql = "INSERT OR REPLACE INTO object VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    let values = params![object.key.as_str(), object.fingerprint.to_string(), state, holder, revision, time];
    execute(connection, sql, values).map(|_| ())
}

/// Finds rows that cannot be read, and rows that contradict each other: one sentence for each.
/// Image rows are not included, since a page of images reports those.
pub(crate) fn inconsistencies(connection: &Connection) -> RowResult<Vec<String>> {
    let mut found = Vec::new();
    let mut count = |sql: &str, what: &str| -> RowResult<()> {
        let number: i64 = connection.query_row(sql, [], |row| row.get(0))?;
        if number > 0 {
            found.push(format!("{number} {what}"));
        }
        Ok(())
    };
    count("SELECT count(*) FROM pragma_foreign_key_check", "aliases point to no image")?;
    count(
        "SELECT count(*) FROM alias JOIN image ON fingerprint = target WHERE alias.type IS NOT image.type",
        "aliases have another type than their image",
    )?;
    count(
        "SELECT count(*) FROM image WHERE first_alias IS NOT (SELECT min(name) FROM alias WHERE target = fingerprint)",
        "images are sorted by an alias that is not their first",
    )?;
    const PROPERTIES: &str = "SELECT key, value, fingerprint FROM image,
        json_each(CASE WHEN json_valid(properties) THEN properties ELSE '{}' END) AS pair WHERE pair.type = 'text'";
    count(
        &format!("SELECT count(*) FROM ({PROPERTIES} EXCEPT SELECT key, value, fingerprint FROM property)"),
        "properties are not found when they are looked for",
    )?;
    count(
        &format!("SELECT count(*) FROM (SELECT key, value, fingerprint FROM property EXCEPT {PROPERTIES})"),
        "properties are found that no image has",
    )?;
    let mut statement = connection.prepare("SELECT name, type, target, description FROM alias")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        if let Err(RowError::Value(what)) = whole_alias(row) {
            found.push(what);
        }
    }
    let mut statement = connection.prepare("SELECT key, fingerprint, state, holder, revision, time FROM object")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        match noted_object(row) {
            Err(RowError::Value(what)) => found.push(what),
            Err(error) if error.is_of_database() => return Err(error),
            Err(_) => found.push("the note about an object cannot be read".to_owned()),
            Ok(_) => {}
        }
    }
    Ok(found)
}

/// Runs a statement, which is cached, and returns the number of changed rows.
pub(crate) fn execute(connection: &Connection, sql: &str, values: impl rusqlite::Params) -> RowResult<usize> {
    Ok(connection.prepare_cached(sql)?.execute(values)?)
}

/// The id of the store that the catalog belongs to.
pub(crate) fn store_id(connection: &Connection) -> RowResult<Option<String>> {
    Ok(connection.query_row("SELECT id FROM store", [], |row| row.get(0)).optional()?)
}

/// The `application_id` and the `user_version` of a database.
pub(crate) fn versions(connection: &Connection) -> RowResult<(i64, i64)> {
    let read = |name| connection.pragma_query_value(None, name, |row| row.get(0));
    Ok((read("application_id")?, read("user_version")?))
}

/// Fails unless the catalog has the layout of this version.
///
/// # Errors
/// `Malformed` for a file that is no catalog; `Unsupported` for another layout.
pub(crate) fn check_version(application: i64, version: i64) -> Result<()> {
    if application != APPLICATION_ID {
        return Err(Error::malformed("the catalog is empty or another program's database"));
    }
    if version != LAYOUT_VERSION {
        let hint = if version == 1 {
            "open the store for writing once, while no other program uses it: that brings it to the new layout"
        } else {
            "use the version of lxd-image that wrote it, or a newer one"
        };
        return Err(Error::unsupported(format!(
            "the store has layout version {version}, and this program knows version {LAYOUT_VERSION}"
        ))
        .with_hint(hint));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
