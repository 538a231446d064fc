//! [`SqliteCatalog`]: the catalog in one SQLite file in WAL mode, shared by any number of processes.
//!
//! Readers never wait. Writers wait for each other, up to the timeout of their caller. That is
//! stricter than a [`Catalog`] must be: `BEGIN IMMEDIATE` admits one writer at a time, so
//! transactions never conflict and never run again.
//!
//! Commits are durable (`synchronous=FULL`): with WAL, the log is synced before a commit returns.
//! Before a connection is used it is verified that its file still has the name of the catalog,
//! since a repair replaces that file; a transaction that was committed to a replaced file is
//! reported as lost and not as done.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::failure::{is_full, row_error, sqlite_error};
use super::pool::{self, Mode, Pool};
use super::reserve::{private_file, release_reserve, reserve};
use super::schema::{self, RowError, RowResult};
use super::{
    AliasPage, AliasQuery, Attachment, Catalog, ImagePage, ImageQuery, Object, ObjectState, Position, Totals,
    Transaction, migration,
};
use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::{Fingerprint, FingerprintPrefix};
use crate::format::ImageType;
use crate::progress::{CANCEL_POLL, Cancel, Monitor};
use crate::store::blobs::BlobKey;
use crate::store::image::{Alias, AliasTarget, StoredImage};
use crate::store::layout::{self, CATALOG_SUFFIXES, beside};
use crate::store::lock::StoreLock;

/// The catalog of a store in an SQLite database.
///
/// [`StoreOptions::open`](crate::store::StoreOptions::open) opens it together with the other parts
/// of a directory store.
///
/// ```
/// use lxd_image::store::{Catalog, ImageQuery, SqliteCatalog};
///
/// let catalog = SqliteCatalog::in_memory()?;
/// assert_eq!(catalog.totals(&ImageQuery::new())?.images, 0);
/// # Ok::<(), lxd_image::Error>(())
/// ```
pub struct SqliteCatalog {
    pool: Pool,
    /// The catalog that this is a copy of, in memory: one of an older layout, opened for reading only.
    copied: Option<PathBuf>,
}

impl SqliteCatalog {
    /// A catalog in memory, which is freed when it is dropped: for tests.
    ///
    /// # Errors
    /// `Io`.
    pub fn in_memory() -> Result<Self> {
        let connection = Connection::open_in_memory().map_err(|error| sqlite_error(error, None))?;
        create_tables(&connection, "memory").map_err(|error| row_error(error, None))?;
        connection.pragma_update(None, "foreign_keys", true).map_err(|error| sqlite_error(error, None))?;
        connection.set_prepared_statement_cache_capacity(pool::STATEMENTS);
        Ok(Self { pool: Pool::in_memory(connection), copied: None })
    }

    /// Opens the catalog of the store at `path` alone, for tools and measurements. Rows that are
    /// inserted through it have no objects until the caller creates them.
    ///
    /// # Errors
    /// `NotFound` without a store; `Malformed`, `Unsupported`, `Busy` and `Io` as when a store is opened.
    pub fn of_store(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let marker = layout::Marker::read(path)?
            .ok_or_else(|| Error::new(ErrorKind::NotFound, "there is no image store").in_file(path))?;
        let wait = Duration::from_secs(5);
        let cancel = Cancel::new();
        let lock = StoreLock::shared(path, wait, &cancel)?;
        Self::open(&layout::catalog(path), &marker.id, (wait, &cancel), false, lock)
    }

    /// The id of the store that the catalog at `path` belongs to; `None` if there is no catalog, or an unfinished one.
    ///
    /// # Errors
    /// `Malformed` for a file that is no catalog; `Busy`; `Io`.
    pub(crate) fn store_id(path: &Path) -> Result<Option<String>> {
        if !path.exists() {
            return Ok(None);
        }
        let read = || -> RowResult<Option<String>> {
            let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
            let exists = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'store')";
            if connection.query_row(exists, [], |row| row.get(0))? { schema::store_id(&connection) } else { Ok(None) }
        };
        read().map_err(|error| row_error(error, Some(path)))
    }

    /// Creates the catalog of the store `id`. Replaces the files of an interrupted attempt: the
    /// caller holds the lock of the store.
    pub(crate) fn create(path: &Path, id: &str) -> Result<()> {
        for suffix in CATALOG_SUFFIXES {
            match std::fs::remove_file(beside(path, suffix)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::io("an unfinished catalog can't be removed", error).in_file(path));
                }
                _ => {}
            }
        }
        // SQLite creates its other files with the mode of this one, so it must be private before SQLite opens it.
        private_file(path)?;
        let make = || -> RowResult<()> {
            let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
            connection.pragma_update(None, "journal_mode", "WAL")?;
            connection.pragma_update(None, "synchronous", "FULL")?;
            create_tables(&connection, id)?;
            close(connection)
        };
        make().map_err(|error| row_error(error, Some(path)))?;
        reserve(path);
        File::open(path)
            .and_then(|file| file.sync_all())
            .map_err(|error| Error::io("the new catalog can't be made durable", error).in_file(path))
    }

    /// Upgrades the catalog of the store `id` to the layout of this version, if it has an older
    /// one. The caller holds the store exclusively.
    ///
    /// # Errors
    /// `Unsupported`, with both versions, for a newer layout; `Malformed` if it is damaged or
    /// belongs to another store; `Busy`; `StorageFull`; `Io`. It is unchanged then.
    pub(crate) fn upgrade(path: &Path, id: &str) -> Result<()> {
        match migration::upgrade(path, id) {
            Err(error) if is_full(&error) && release_reserve(path) => {
                let done = migration::upgrade(path, id);
                reserve(path);
                done
            }
            done => done,
        }
    }

    /// Opens the catalog of the store `id`, and keeps `lock` as long as it is open.
    ///
    /// A catalog of layout 1 can be opened for reading only: it is copied into memory, and later
    /// changes by others are not seen.
    ///
    /// # Errors
    /// `Malformed` if it is damaged or belongs to another store; `Unsupported` for another layout; `Busy`; `Io`.
    pub(crate) fn open(
        path: &Path,
        id: &str,
        (timeout, cancel): (Duration, &Cancel),
        read_only: bool,
        lock: StoreLock,
    ) -> Result<Self> {
        let modes: &[Mode] = if read_only { &[Mode::Read, Mode::Immutable] } else { &[Mode::Write] };
        let mut failed = None;
        let mut pool = Pool::of_file(path, id, timeout, cancel, lock);
        for &mode in modes {
            // The database without its log is an older state than the one that was committed.
            if mode == Mode::Immutable && std::fs::metadata(beside(path, "-wal")).is_ok_and(|log| log.len() > 0) {
                continue;
            }
            pool.set_mode(mode);
            match pool.with(|_| Ok(())) {
                Err(error) if is_full(&error) && mode == Mode::Write && release_reserve(path) => {
                    pool.with(|_| Ok(()))?;
                    return Ok(Self { pool, copied: None });
                }
                Err(error) if error.kind() == ErrorKind::Unsupported && read_only => {
                    let Some(copy) = migration::upgraded_copy(path, id, mode)? else { return Err(error) };
                    pool.replace(copy);
                    return Ok(Self { pool, copied: Some(path.to_path_buf()) });
                }
                Err(error) if matches!(error.kind(), ErrorKind::Malformed | ErrorKind::Unsupported) => {
                    return Err(error);
                }
                Err(error) => failed = failed.or(Some(error)),
                Ok(()) => {
                    if mode == Mode::Write {
                        reserve(path);
                    }
                    return Ok(Self { pool, copied: None });
                }
            }
        }
        Err(failed.unwrap_or_else(|| Error::new(ErrorKind::Io, "the catalog can't be opened").in_file(path)))
    }

    /// Closes the catalog so that one file contains all of it, on the disk, and verifies that file.
    ///
    /// # Errors
    /// `Malformed` if it does not have `images` images and `aliases` aliases, or is damaged; `Io`.
    /// The file must not be used then.
    pub(crate) fn finish(self, images: usize, aliases: usize) -> Result<()> {
        let Some(path) = self.pool.path().map(Path::to_path_buf) else { return Ok(()) };
        let named = |error: RowError| row_error(error, Some(&path));
        // `sqlite3_close` ignores errors of the last checkpoint, so checkpoint explicitly.
        for connection in self.pool.into_connections() {
            close(connection).map_err(named)?;
        }
        if std::fs::metadata(beside(&path, "-wal")).is_ok_and(|log| log.len() > 0) {
            return Err(Error::new(ErrorKind::Io, "the new catalog can't be closed").in_file(&path));
        }
        File::open(&path)
            .and_then(|file| file.sync_all())
            .map_err(|error| Error::io("the new catalog can't be made durable", error).in_file(&path))?;
        let look = || -> RowResult<(Vec<String>, i64, i64)> {
            let connection = pool::connect(&path, Mode::Immutable)?;
            let mut found = damage(&connection, "PRAGMA integrity_check")?;
            found.extend(schema::inconsistencies(&connection)?);
            let count = |sql| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
            let (images, aliases) = (count("SELECT count(*) FROM image")?, count("SELECT count(*) FROM alias")?);
            connection.close().map_err(|(_, error)| error)?;
            Ok((found, images, aliases))
        };
        let (found, found_images, found_aliases) = look().map_err(named)?;
        if found.is_empty() && (found_images, found_aliases) == (images as i64, aliases as i64) {
            return Ok(());
        }
        let what = found.into_iter().next().unwrap_or_else(|| {
            format!("{found_images} of {images} images and {found_aliases} of {aliases} aliases are in it")
        });
        Err(Error::malformed(format!("the new catalog was not written as it should be: {what}")).in_file(&path))
    }

    /// Runs `look` in a read transaction: all its queries see one state of the catalog.
    fn read<T>(&self, look: impl FnOnce(&Connection) -> RowResult<T>) -> Result<T> {
        self.pool.with(|connection| {
            let found = connection.unchecked_transaction().map_err(RowError::from).and_then(|state| look(&state));
            found.map_err(|error| self.error(error))
        })
    }

    /// As [`read`](Self::read), and interrupts a long query soon after the caller cancels.
    fn read_until<T>(&self, monitor: &Monitor, look: impl FnOnce(&Connection) -> RowResult<T>) -> Result<T> {
        monitor.check()?;
        let done = self.read(|connection| {
            let handle = connection.get_interrupt_handle();
            let (ended, end) = channel::<()>();
            std::thread::scope(|scope| {
                let cancel = monitor.cancel();
                // A progress handler would slow down every query; interrupting from another thread costs nothing.
                scope.spawn(move || {
                    while end.recv_timeout(CANCEL_POLL) == Err(RecvTimeoutError::Timeout) {
                        if cancel.is_cancelled() {
                            handle.interrupt();
                        }
                    }
                });
                // Dropped even if `look` panics, so that the thread ends.
                let _ended = ended;
                look(connection)
            })
        });
        // An interrupted query fails with an error of SQLite: report the cancellation instead.
        if done.is_err() {
            monitor.check()?;
        }
        done
    }

    /// The file that errors name.
    fn path(&self) -> Option<&Path> {
        self.pool.path().or(self.copied.as_deref())
    }

    /// Adds the file to an error.
    fn in_file(&self, error: Error) -> Error {
        match self.path() {
            Some(path) => error.in_file(path),
            None => error,
        }
    }

    /// The error of reading or writing a row.
    fn error(&self, error: RowError) -> Error {
        row_error(error, self.path())
    }

    /// Runs `work` in a transaction, and again if the file of the catalog was replaced before it
    /// began. With `only_removals`, fails if `work` removes nothing: on a full disk, the reserved
    /// space is for that alone.
    fn attempt(
        &self,
        work: &mut dyn FnMut(&mut dyn Transaction) -> Result<()>,
        only_removals: bool,
    ) -> std::result::Result<(), Failed> {
        for _ in 0..3 {
            let mut began = false;
            let mut removes = false;
            let written = self.pool.with(|connection| {
                connection.execute_batch("BEGIN IMMEDIATE").map_err(|error| self.error(error.into()))?;
                if !self.pool.is_current(connection) {
                    return Ok(Written::NotBegun);
                }
                began = true;
                let mut writer = Writer { connection, catalog: self, removes: false };
                let done = work(&mut writer);
                removes = writer.removes;
                done?;
                if only_removals && !removes {
                    return Ok(Written::Refused);
                }
                connection.execute_batch("COMMIT").map_err(|error| self.error(error.into()))?;
                Ok(if self.pool.is_current(connection) { Written::Kept } else { Written::Lost })
            });
            match written {
                // Where no transaction could be begun, nobody knows yet what it would do.
                Err(error) => return Err(Failed { error, may_free: !began || removes }),
                Ok(Written::Kept) => return Ok(()),
                // The next connection is one to the new file.
                Ok(Written::NotBegun) => {}
                Ok(Written::Lost) => break,
                Ok(Written::Refused) => {
                    let error = Error::storage_full("there is no space left for the catalog");
                    return Err(Failed { error: self.in_file(error), may_free: false });
                }
            }
        }
        let error = Error::new(ErrorKind::Io, "the catalog was replaced while it was changed, and the change is lost")
            .with_hint("do it again");
        Err(Failed { error: self.in_file(error), may_free: false })
    }
}

/// Why a transaction was not committed.
struct Failed {
    error: Error,
    /// Whether it removes rows, or might, and so deserves the space that is reserved for that.
    may_free: bool,
}

/// Checkpoints the whole log into the database, and closes it.
fn close(connection: Connection) -> RowResult<()> {
    let (busy, _, _) = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| {
        Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?))
    })?;
    if busy != 0 {
        return Err(RowError::Value("the new catalog is used by another program".to_owned()));
    }
    Ok(connection.close().map_err(|(_, error)| error)?)
}

/// The findings of one of the integrity checks of SQLite.
fn damage(connection: &Connection, check: &str) -> RowResult<Vec<String>> {
    let mut found: Vec<String> =
        connection.prepare(check)?.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    found.retain(|line| line != "ok");
    Ok(found)
}

/// Creates all tables and marks the database as the catalog of the store `id`.
fn create_tables(connection: &Connection, id: &str) -> RowResult<()> {
    let all = connection.unchecked_transaction()?;
    all.execute_batch(schema::STORE_TABLE)?;
    all.execute_batch(schema::TABLES)?;
    all.execute("INSERT INTO store VALUES (?1)", [id])?;
    all.pragma_update(None, "application_id", schema::APPLICATION_ID)?;
    all.pragma_update(None, "user_version", schema::LAYOUT_VERSION)?;
    Ok(all.commit()?)
}

impl Catalog for SqliteCatalog {
    fn engine(&self) -> &'static str {
        "sqlite"
    }

    fn image(&self, fingerprint: &Fingerprint) -> Result<Option<StoredImage>> {
        self.read(|connection| schema::get(connection, fingerprint))
    }

    fn alias(&self, name: &str, image_type: ImageType) -> Result<Option<(Alias, AliasTarget)>> {
        self.read(|connection| schema::alias(connection, name, image_type))
    }

    fn aliases(&self, query: &AliasQuery) -> Result<AliasPage> {
        self.read(|connection| schema::aliases(connection, query))
    }

    fn with_prefix(&self, prefix: &FingerprintPrefix, limit: usize) -> Result<Vec<Fingerprint>> {
        self.read(|connection| schema::with_prefix(connection, prefix, limit))
    }

    fn images(&self, query: &ImageQuery) -> Result<ImagePage> {
        let page = self.read(|connection| schema::page(connection, query))?;
        let skipped = page.skipped.into_iter().map(|(name, error)| (name, self.error(error))).collect();
        Ok(ImagePage { images: page.images, next: page.next, skipped })
    }

    fn fingerprints(&self, query: &ImageQuery) -> Result<(Vec<Fingerprint>, Option<Position>)> {
        self.read(|connection| schema::fingerprints(connection, query))
    }

    fn totals(&self, query: &ImageQuery) -> Result<Totals> {
        self.read(|connection| schema::totals(connection, query))
    }

    fn version(&self) -> Result<Option<u64>> {
        match (&self.copied, self.pool.path()) {
            // A copy in memory never changes.
            (Some(_), _) => Ok(Some(0)),
            (None, None) => Ok(None),
            (None, Some(_)) => self.pool.watch.version(&self.pool).map(Some),
        }
    }

    fn object(&self, key: &BlobKey) -> Result<Option<Object>> {
        self.read(|connection| schema::object(connection, key))
    }

    fn objects(&self, after: Option<&BlobKey>, limit: usize) -> Result<Vec<Object>> {
        self.read(|connection| schema::objects(connection, after, limit))
    }

    fn attachments(&self, fingerprint: &Fingerprint) -> Result<Vec<Attachment>> {
        self.read(|connection| schema::attachments(connection, fingerprint))
    }

    fn attached(&self, prefix: &str) -> Result<BTreeSet<Fingerprint>> {
        self.read(|connection| schema::attached(connection, prefix))
    }

    fn check(&self, monitor: &Monitor) -> Result<Vec<String>> {
        let looked = self.read_until(monitor, |connection| {
            let mut found = damage(connection, "PRAGMA quick_check")?;
            // If SQLite finds damage, further queries may fail or return anything: stop here.
            if found.is_empty() {
                found = schema::inconsistencies(connection)?;
            }
            Ok(found)
        });
        match looked {
            // Too damaged even for the check.
            Err(error) if error.kind() == ErrorKind::Malformed => Ok(vec![error.to_string()]),
            looked => looked,
        }
    }

    fn write(&self, work: &mut dyn FnMut(&mut dyn Transaction) -> Result<()>) -> Result<()> {
        if let (false, _, Some(path)) | (_, Some(path), _) =
            (self.pool.may_write(), self.copied.as_deref(), self.pool.path())
        {
            return Err(Error::new(ErrorKind::Io, "the store was opened for reading only")
                .with_source(std::io::Error::from(std::io::ErrorKind::ReadOnlyFilesystem))
                .in_file(path));
        }
        match (self.attempt(work, false), self.pool.path()) {
            (Err(failed), Some(path)) if failed.may_free && is_full(&failed.error) && release_reserve(path) => {
                let done = self.attempt(work, true);
                reserve(path);
                done.map_err(|failed| failed.error)
            }
            (done, _) => done.map_err(|failed| failed.error),
        }
    }
}

/// The outcome of a transaction, considering that the file of the catalog may be replaced meanwhile.
enum Written {
    Kept,
    NotBegun,
    Lost,
    /// It removes nothing, and the remaining space is reserved for transactions that do.
    Refused,
}

/// A transaction on one connection.
struct Writer<'a> {
    connection: &'a Connection,
    catalog: &'a SqliteCatalog,
    /// Whether it removes rows, or notes objects as dead: such work may use the space that is reserved for it.
    removes: bool,
}

impl Writer<'_> {
    /// Adds the path of the catalog to an error.
    fn named<T>(&self, result: RowResult<T>) -> Result<T> {
        result.map_err(|error| self.catalog.error(error))
    }

    /// Runs a statement that removes rows.
    fn delete(&mut self, sql: &str, values: impl rusqlite::Params) -> Result<()> {
        self.removes = true;
        self.named(schema::execute(self.connection, sql, values)).map(|_| ())
    }
}

/// Fails with `InvalidInput` for an image without objects: nothing of it could ever be read.
pub(super) fn check_objects(image: &StoredImage) -> Result<()> {
    if image.objects.keys().any(BlobKey::is_empty) {
        return Err(Error::invalid(format!("the image {} names no object that holds its bytes", image.fingerprint))
            .with_hint("set its `objects`"));
    }
    Ok(())
}

/// The error for inserting an image that exists.
pub(super) fn already_there(fingerprint: &Fingerprint) -> Error {
    Error::new(ErrorKind::AlreadyExists, format!("the image {fingerprint} is in the catalog already"))
}

/// The error for a row that is gone or at another revision.
pub(super) fn row_changed(fingerprint: &Fingerprint, expected: u64) -> Error {
    let what = format!("the image {fingerprint} is no longer at revision {expected} in the catalog");
    Error::new(ErrorKind::Transient, what).with_hint("read it again and repeat the change")
}

/// The error for an attachment of an image that does not exist.
pub(super) fn no_image(fingerprint: &Fingerprint) -> Error {
    Error::new(ErrorKind::NotFound, format!("the image {fingerprint} is not in the catalog"))
}

/// The error for an alias whose target does not exist or has another type.
pub(super) fn no_target(alias: &Alias, target: &AliasTarget) -> Error {
    let shown: String = alias.name.chars().take(64).collect();
    let (kind, fingerprint) = (target.image_type, target.fingerprint);
    Error::new(ErrorKind::NotFound, format!("the alias `{shown}` has no {kind} image {fingerprint} to point to"))
}

impl Transaction for Writer<'_> {
    fn image(&mut self, fingerprint: &Fingerprint) -> Result<Option<StoredImage>> {
        self.named(schema::get(self.connection, fingerprint))
    }

    fn alias(&mut self, name: &str, image_type: ImageType) -> Result<Option<(Alias, AliasTarget)>> {
        self.named(schema::alias(self.connection, name, image_type))
    }

    fn insert(&mut self, image: &StoredImage) -> Result<()> {
        check_objects(image)?;
        if self.named(schema::insert(self.connection, image))? {
            return Ok(());
        }
        Err(self.catalog.in_file(already_there(&image.fingerprint)))
    }

    fn update(&mut self, image: &StoredImage, expected: u64) -> Result<()> {
        check_objects(image)?;
        if self.named(schema::update(self.connection, image, expected))? {
            return Ok(());
        }
        Err(self.catalog.in_file(row_changed(&image.fingerprint, expected)))
    }

    fn set_last_used(&mut self, fingerprint: &Fingerprint, seconds: i64) -> Result<()> {
        self.named(schema::set_last_used(self.connection, fingerprint, seconds))
    }

    fn set_sidecar(&mut self, fingerprint: &Fingerprint, revision: u64, key: &BlobKey) -> Result<bool> {
        self.named(schema::set_sidecar(self.connection, fingerprint, revision, key))
    }

    fn remove(&mut self, fingerprint: &Fingerprint) -> Result<()> {
        self.delete("DELETE FROM image WHERE fingerprint = ?1", [fingerprint.to_string()])
    }

    fn set_alias(&mut self, alias: &Alias, target: &AliasTarget) -> Result<()> {
        if self.named(schema::set_alias(self.connection, alias, target))? {
            return Ok(());
        }
        Err(self.catalog.in_file(no_target(alias, target)))
    }

    fn remove_alias(&mut self, name: &str, image_type: ImageType) -> Result<()> {
        self.delete("DELETE FROM alias WHERE name = ?1 AND type = ?2", [name, image_type.name()])
    }

    fn attachments(&mut self, fingerprint: &Fingerprint) -> Result<Vec<Attachment>> {
        self.named(schema::attachments(self.connection, fingerprint))
    }

    fn attach(&mut self, fingerprint: &Fingerprint, attachment: &Attachment) -> Result<()> {
        if self.named(schema::attach(self.connection, fingerprint, attachment))? {
            return Ok(());
        }
        Err(self.catalog.in_file(no_image(fingerprint)))
    }

    fn object(&mut self, key: &BlobKey) -> Result<Option<Object>> {
        self.named(schema::object(self.connection, key))
    }

    fn put_object(&mut self, object: &Object) -> Result<()> {
        // A removal begins with this note.
        self.removes |= matches!(object.state, ObjectState::Dead { .. });
        self.named(schema::put_object(self.connection, object))
    }

    fn remove_object(&mut self, key: &BlobKey) -> Result<()> {
        self.delete("DELETE FROM object WHERE key = ?1", [key.as_str()])
    }
}

#[cfg(test)]
mod tests;
