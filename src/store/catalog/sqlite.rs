//! `SqliteCatalog`: the catalog in one SQLite file in WAL mode, shared by any number of processes.
//! Readers never wait; writers wait for each other, as long as their caller said.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::failure::{is_full, row_error, sqlite_error};
use super::pool::{self, Mode, Pool};
use super::reserve::{private_file, release_reserve, reserve};
use super::schema::{self, RowError, RowResult};
use super::{Catalog, Transaction};
use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::{Fingerprint, Prefix};
use crate::progress::Cancel;
use crate::store::image::{Alias, StoredImage};
use crate::store::layout::{self, CATALOG_SUFFIXES, beside};
use crate::store::lock::StoreLock;

/// The catalog of a store in an SQLite database.
pub struct SqliteCatalog {
    pool: Pool,
}

impl SqliteCatalog {
    /// A catalog in memory, which is gone when it is dropped: for tests and for trying things.
    ///
    /// # Errors
    /// `Io`.
    pub fn in_memory() -> Result<Self> {
        let connection = Connection::open_in_memory().map_err(|error| sqlite_error(error, None))?;
        create_tables(&connection, "memory").map_err(|error| row_error(error, None))?;
        connection.pragma_update(None, "foreign_keys", true).map_err(|error| sqlite_error(error, None))?;
        Ok(Self { pool: Pool::in_memory(connection) })
    }

    /// The catalog of the store at `path`, by itself: rows changed through it have no files behind
    /// them until they are put there. For tools and measurements.
    ///
    /// # Errors
    /// `NotFound` without a store; `Malformed`, `Unsupported`, `Busy` and `Io` as when opening one.
    pub fn of_store(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let marker = layout::Marker::read(path)?
            .ok_or_else(|| Error::new(ErrorKind::NotFound, "there is no image store").in_file(path))?;
        let wait = Duration::from_secs(5);
        let cancel = Cancel::new();
        let lock = StoreLock::shared(path, wait, &cancel)?;
        Self::open(&layout::catalog(path), &marker.id, (wait, &cancel), false, lock)
    }

    /// Makes a new catalog for the store `id`. A file of that name, left from an attempt that was
    /// cut short, is replaced: the caller holds the store's lock.
    pub(crate) fn create(path: &Path, id: &str) -> Result<()> {
        for suffix in CATALOG_SUFFIXES {
            match std::fs::remove_file(beside(path, suffix)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::io("an unfinished catalog can't be removed", error).in_file(path));
                }
                _ => {}
            }
        }
        // SQLite gives its further files the mode of this one, whatever the umask.
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

    /// Opens the catalog of the store `id`, whose `lock` it keeps as long as it is open.
    ///
    /// # Errors
    /// `Malformed` when it is damaged or another store's, `Unsupported` when its layout is newer,
    /// `Busy`, `Io`.
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
            // Without its log the file alone would be an older state than the one that was promised.
            if mode == Mode::Immutable && std::fs::metadata(beside(path, "-wal")).is_ok_and(|log| log.len() > 0) {
                continue;
            }
            pool.set_mode(mode);
            match pool.with(|_| Ok(())) {
                Err(error) if is_full(&error) && mode == Mode::Write && release_reserve(path) => {
                    pool.with(|_| Ok(()))?;
                    return Ok(Self { pool });
                }
                Err(error) if matches!(error.kind(), ErrorKind::Malformed | ErrorKind::Unsupported) => {
                    return Err(error);
                }
                Err(error) => failed = failed.or(Some(error)),
                Ok(()) => {
                    if mode == Mode::Write {
                        reserve(path);
                    }
                    return Ok(Self { pool });
                }
            }
        }
        Err(failed.unwrap_or_else(|| Error::new(ErrorKind::Io, "the catalog can't be opened").in_file(path)))
    }

    /// Closes the catalog so that its one file holds all of it, on the disk, and reads that file again.
    ///
    /// # Errors
    /// `Malformed` when there are not `images` images and `aliases` aliases in it, or it is damaged; `Io`. What is in the file
    /// is not to be used then.
    pub(crate) fn finish(self, images: usize, aliases: usize) -> Result<()> {
        let Some(path) = self.pool.path().map(Path::to_path_buf) else { return Ok(()) };
        let named = |error: RowError| row_error(error, Some(&path));
        // The library of SQLite closes without a word where its last writes fail.
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
            let found = damage(&connection, "PRAGMA integrity_check")?;
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

    /// Runs `look` on one state of the catalog.
    fn read<T>(&self, look: impl FnOnce(&Connection) -> RowResult<T>) -> Result<T> {
        self.pool.with(|connection| {
            let found = connection.unchecked_transaction().map_err(RowError::from).and_then(|state| look(&state));
            found.map_err(|error| self.error(error))
        })
    }

    fn error(&self, error: RowError) -> Error {
        row_error(error, self.pool.path())
    }
}

/// Writes all of the log into the database and closes it.
fn close(connection: Connection) -> RowResult<()> {
    let (busy, _, _) = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| {
        Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?))
    })?;
    if busy != 0 {
        return Err(RowError::Value("the new catalog is used by another program".to_owned()));
    }
    Ok(connection.close().map_err(|(_, error)| error)?)
}

/// What one of SQLite's own checks finds, and aliases without an image.
fn damage(connection: &Connection, check: &str) -> RowResult<Vec<String>> {
    let mut found: Vec<String> =
        connection.prepare(check)?.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    found.retain(|line| line != "ok");
    let lost: i64 = connection.query_row("SELECT count(*) FROM pragma_foreign_key_check", [], |row| row.get(0))?;
    if lost > 0 {
        found.push(format!("{lost} aliases point to no image"));
    }
    Ok(found)
}

fn create_tables(connection: &Connection, id: &str) -> RowResult<()> {
    let all = connection.unchecked_transaction()?;
    all.execute_batch(schema::TABLES)?;
    all.execute("INSERT INTO store VALUES (?1)", [id])?;
    all.pragma_update(None, "application_id", schema::APPLICATION_ID)?;
    all.pragma_update(None, "user_version", schema::LAYOUT_VERSION)?;
    Ok(all.commit()?)
}

impl Catalog for SqliteCatalog {
    fn image(&self, fingerprint: &Fingerprint) -> Result<Option<StoredImage>> {
        self.read(|connection| schema::get(connection, fingerprint))
    }

    fn alias(&self, name: &str) -> Result<Option<(Alias, Fingerprint)>> {
        self.read(|connection| schema::alias(connection, name))
    }

    fn with_prefix(&self, prefix: &Prefix, most: usize) -> Result<Vec<Fingerprint>> {
        self.read(|connection| schema::with_prefix(connection, prefix, most))
    }

    fn images(&self) -> Result<Vec<StoredImage>> {
        self.read(|connection| schema::all(connection, false, &mut |_, error| Err(error)))
    }

    fn cached_images(&self) -> Result<Vec<StoredImage>> {
        self.read(|connection| schema::all(connection, true, &mut |_, error| Err(error)))
    }

    fn readable_images(&self, skipped: &mut dyn FnMut(&str, &Error)) -> Result<Vec<StoredImage>> {
        self.read(|connection| {
            schema::all(connection, false, &mut |name, error| {
                skipped(name, &self.error(error));
                Ok(())
            })
        })
    }

    fn version(&self) -> Result<Option<u64>> {
        if self.pool.path().is_none() {
            return Ok(None);
        }
        self.pool.watch.version(&self.pool).map(Some)
    }

    fn unsettled(&self) -> Result<Vec<Fingerprint>> {
        self.read(schema::unsettled)
    }

    fn check(&self) -> Result<Vec<String>> {
        let looked = self.read(|connection| damage(connection, "PRAGMA quick_check"));
        match looked {
            // Too damaged to be looked at is damaged, too.
            Err(error) if error.kind() == ErrorKind::Malformed => Ok(vec![error.to_string()]),
            looked => looked,
        }
    }

    fn write(&self, work: &mut dyn FnMut(&mut dyn Transaction) -> Result<()>) -> Result<()> {
        if let (false, Some(path)) = (self.pool.may_write(), self.pool.path()) {
            return Err(Error::new(ErrorKind::Io, "the store was opened for reading only")
                .with_source(std::io::Error::from(std::io::ErrorKind::ReadOnlyFilesystem))
                .in_file(path));
        }
        for _ in 0..3 {
            let written = self.pool.with(|connection| {
                connection.execute_batch("BEGIN IMMEDIATE").map_err(|error| self.error(error.into()))?;
                if !self.pool.is_current(connection) {
                    return Ok(Written::NotBegun);
                }
                work(&mut Writer { connection, catalog: self })?;
                connection.execute_batch("COMMIT").map_err(|error| self.error(error.into()))?;
                Ok(if self.pool.is_current(connection) { Written::Kept } else { Written::Lost })
            })?;
            match written {
                Written::Kept => return Ok(()),
                // The next connection is one to the new file.
                Written::NotBegun => {}
                Written::Lost => break,
            }
        }
        let error = Error::new(ErrorKind::Io, "the catalog was replaced while it was changed, and the change is lost")
            .with_hint("do it again");
        Err(match self.pool.path() {
            Some(path) => error.in_file(path),
            None => error,
        })
    }

    fn write_to_free(&self, work: &mut dyn FnMut(&mut dyn Transaction) -> Result<()>) -> Result<()> {
        match (self.write(work), self.pool.path()) {
            (Err(error), Some(path)) if is_full(&error) && release_reserve(path) => {
                let done = self.write(work);
                reserve(path);
                done
            }
            (done, _) => done,
        }
    }
}

/// What became of a transaction, if the catalog was replaced meanwhile.
enum Written {
    Kept,
    NotBegun,
    Lost,
}

struct Writer<'a> {
    connection: &'a Connection,
    catalog: &'a SqliteCatalog,
}

impl Writer<'_> {
    fn named<T>(&self, result: RowResult<T>) -> Result<T> {
        result.map_err(|error| self.catalog.error(error))
    }
}

impl Transaction for Writer<'_> {
    fn image(&mut self, fingerprint: &Fingerprint) -> Result<Option<StoredImage>> {
        self.named(schema::get(self.connection, fingerprint))
    }

    fn alias(&mut self, name: &str) -> Result<Option<(Alias, Fingerprint)>> {
        self.named(schema::alias(self.connection, name))
    }

    fn put(&mut self, image: &StoredImage) -> Result<()> {
        self.named(schema::put(self.connection, image))
    }

    fn remove(&mut self, fingerprint: &Fingerprint) -> Result<()> {
        let sql = "DELETE FROM image WHERE fingerprint = ?1";
        self.named(schema::execute(self.connection, sql, [fingerprint.to_string()]))
    }

    fn set_alias(&mut self, alias: &Alias, target: &Fingerprint) -> Result<()> {
        let sql = "INSERT INTO alias VALUES (?1, ?2, ?3)
                   ON CONFLICT (name) DO UPDATE SET target = ?2, description = ?3";
        self.named(schema::execute(
            self.connection,
            sql,
            [alias.name.as_str(), target.to_string().as_str(), alias.description.as_str()],
        ))
    }

    fn remove_alias(&mut self, name: &str) -> Result<()> {
        self.named(schema::execute(self.connection, "DELETE FROM alias WHERE name = ?1", [name]))
    }

    fn unsettled(&mut self) -> Result<Vec<Fingerprint>> {
        self.named(schema::unsettled(self.connection))
    }

    fn set_unsettled(&mut self, fingerprint: &Fingerprint, unsettled: bool) -> Result<()> {
        let sql = if unsettled {
            "INSERT OR IGNORE INTO unsettled VALUES (?1)"
        } else {
            "DELETE FROM unsettled WHERE fingerprint = ?1"
        };
        self.named(schema::execute(self.connection, sql, [fingerprint.to_string()]))
    }
}
