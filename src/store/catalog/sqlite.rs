//! `SqliteCatalog`: the catalog in one SQLite file in WAL mode, shared by any number of processes.
//! Readers never wait; writers wait for each other, as long as their caller said.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::failure::{is_full, row_error, sqlite_error};
use super::reserve::{private_file, release_reserve, reserve};
use super::schema::{self, RowError, RowResult};
use super::{Catalog, Transaction};
use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::{Fingerprint, Prefix};
use crate::store::image::{Alias, StoredImage};
use crate::store::layout::{self, beside};

/// Connections that are kept open while nobody uses them.
const IDLE: usize = 4;

/// The catalog of a store in an SQLite database.
pub struct SqliteCatalog {
    place: Place,
    timeout: Duration,
    idle: Mutex<Vec<Connection>>,
    returned: Condvar,
}

enum Place {
    /// A database that lives and dies with its one connection.
    Memory,
    File(PathBuf, Mode),
}

/// How a database file is opened.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Write,
    Read,
    /// Where not even SQLite's own lock file can be made: the file can't be changed by anyone who is like us.
    Immutable,
}

impl SqliteCatalog {
    /// A catalog in memory, which is gone when it is dropped: for tests and for trying things.
    ///
    /// # Errors
    /// `Io`.
    pub fn in_memory() -> Result<Self> {
        let connection = Connection::open_in_memory().map_err(|error| sqlite_error(error, None))?;
        let catalog = Self {
            place: Place::Memory,
            timeout: Duration::ZERO,
            idle: Mutex::new(Vec::new()),
            returned: Condvar::new(),
        };
        create_tables(&connection, "memory").map_err(|error| catalog.error(error))?;
        connection.pragma_update(None, "foreign_keys", true).map_err(|error| sqlite_error(error, None))?;
        catalog.give_back(connection);
        Ok(catalog)
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
        Self::open(&layout::catalog(path), &marker.id, Duration::from_secs(5), false)
    }

    /// Makes a new catalog for the store `id`. A file of that name, left from an attempt that was
    /// cut short, is replaced: the caller holds the store's lock.
    pub(crate) fn create(path: &Path, id: &str) -> Result<()> {
        for suffix in ["", "-wal", "-shm"] {
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
            create_tables(&connection, id)
        };
        make().map_err(|error| row_error(error, Some(path)))?;
        reserve(path);
        File::open(path)
            .and_then(|file| file.sync_all())
            .map_err(|error| Error::io("the new catalog can't be made durable", error).in_file(path))
    }

    /// Opens the catalog of the store `id`.
    ///
    /// # Errors
    /// `Malformed` when it is damaged or another store's, `Unsupported` when its layout is newer,
    /// `Busy`, `Io`.
    pub(crate) fn open(path: &Path, id: &str, timeout: Duration, read_only: bool) -> Result<Self> {
        let modes: &[Mode] = if read_only { &[Mode::Read, Mode::Immutable] } else { &[Mode::Write] };
        let mut failed = None;
        for &mode in modes {
            // Without its log the file alone would be an older state than the one that was promised.
            if mode == Mode::Immutable && std::fs::metadata(beside(path, "-wal")).is_ok_and(|log| log.len() > 0) {
                continue;
            }
            let place = Place::File(path.to_path_buf(), mode);
            let catalog = Self { place, timeout, idle: Mutex::new(Vec::new()), returned: Condvar::new() };
            match catalog.probe(id) {
                Err(error) if is_full(&error) && mode == Mode::Write && release_reserve(path) => {
                    catalog.probe(id)?;
                    return Ok(catalog);
                }
                Err(error) if matches!(error.kind(), ErrorKind::Malformed | ErrorKind::Unsupported) => {
                    return Err(error);
                }
                Err(error) => failed = failed.or(Some(error)),
                Ok(()) => {
                    if mode == Mode::Write {
                        reserve(path);
                    }
                    return Ok(catalog);
                }
            }
        }
        Err(failed.unwrap_or_else(|| Error::new(ErrorKind::Io, "the catalog can't be opened").in_file(path)))
    }

    fn probe(&self, id: &str) -> Result<()> {
        // A file that was cut to nothing opens well and would be made anew.
        if let Place::File(path, _) = &self.place {
            let length = std::fs::metadata(path).map_err(|error| {
                let kind =
                    if error.kind() == std::io::ErrorKind::NotFound { ErrorKind::Malformed } else { ErrorKind::Io };
                Error::new(kind, "the catalog can't be found").with_source(error).in_file(path)
            })?;
            if length.len() == 0 {
                return Err(Error::malformed("the catalog is empty").in_file(path));
            }
        }
        let (application, version, found) = self.read(|connection| {
            let application = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
            let version = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
            let id = if application == schema::APPLICATION_ID && version == schema::LAYOUT_VERSION {
                schema::store_id(connection)?
            } else {
                None
            };
            Ok((application, version, id))
        })?;
        schema::check_version(application, version)
            .and_then(|()| {
                if found.as_deref() == Some(id) {
                    Ok(())
                } else {
                    Err(Error::malformed("the catalog is that of another store"))
                }
            })
            .map_err(|error| self.name(error))
    }

    fn connect(&self) -> RowResult<Connection> {
        let Place::File(path, mode) = &self.place else {
            return Err(RowError::Value("a catalog in memory has one connection".to_owned()));
        };
        let connection = match mode {
            Mode::Write => Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?,
            Mode::Read => Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?,
            Mode::Immutable => {
                let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
                Connection::open_with_flags(format!("file:{}?immutable=1", uri_path(path)), flags)?
            }
        };
        connection.busy_timeout(self.timeout)?;
        connection.pragma_update(None, "foreign_keys", true)?;
        if *mode == Mode::Write {
            connection.pragma_update(None, "synchronous", "FULL")?;
        }
        Ok(connection)
    }

    fn take(&self) -> RowResult<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match (idle.pop(), &self.place) {
                (Some(connection), _) => return Ok(connection),
                (None, Place::Memory) => {
                    idle = self.returned.wait(idle).unwrap_or_else(PoisonError::into_inner);
                }
                (None, Place::File(..)) => {
                    drop(idle);
                    return self.connect();
                }
            }
        }
    }

    fn give_back(&self, connection: Connection) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE {
            idle.push(connection);
            self.returned.notify_one();
        }
    }

    /// Runs `look` on one state of the catalog.
    fn read<T>(&self, look: impl FnOnce(&Connection) -> RowResult<T>) -> Result<T> {
        let connection = self.take().map_err(|error| self.error(error))?;
        let found = connection.unchecked_transaction().map_err(RowError::from).and_then(|state| look(&state));
        self.give_back(connection);
        found.map_err(|error| self.error(error))
    }

    fn path(&self) -> Option<&Path> {
        match &self.place {
            Place::Memory => None,
            Place::File(path, _) => Some(path),
        }
    }

    fn name(&self, error: Error) -> Error {
        match self.path() {
            Some(path) => error.in_file(path),
            None => error,
        }
    }

    fn error(&self, error: RowError) -> Error {
        row_error(error, self.path())
    }
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
        self.read(|connection| schema::all(connection, false))
    }

    fn cached_images(&self) -> Result<Vec<StoredImage>> {
        self.read(|connection| schema::all(connection, true))
    }

    fn unsettled(&self) -> Result<Vec<Fingerprint>> {
        self.read(schema::unsettled)
    }

    fn check(&self) -> Result<Vec<String>> {
        let looked = self.read(|connection| {
            let mut found: Vec<String> = connection
                .prepare("PRAGMA quick_check")?
                .query_map([], |row| row.get(0))?
                .collect::<rusqlite::Result<_>>()?;
            found.retain(|line| line != "ok");
            let lost: i64 =
                connection.query_row("SELECT count(*) FROM pragma_foreign_key_check", [], |row| row.get(0))?;
            if lost > 0 {
                found.push(format!("{lost} aliases point to no image"));
            }
            Ok(found)
        });
        match looked {
            // Too damaged to be looked at is damaged, too.
            Err(error) if error.kind() == ErrorKind::Malformed => Ok(vec![error.to_string()]),
            looked => looked,
        }
    }

    fn write(&self, work: &mut dyn FnMut(&mut dyn Transaction) -> Result<()>) -> Result<()> {
        if let Place::File(path, Mode::Read | Mode::Immutable) = &self.place {
            return Err(Error::new(ErrorKind::Io, "the store was opened for reading only").in_file(path));
        }
        let connection = self.take().map_err(|error| self.error(error))?;
        if let Err(error) = connection.execute_batch("BEGIN IMMEDIATE") {
            self.give_back(connection);
            return Err(self.error(error.into()));
        }
        let mut writer = Writer { connection: &connection, catalog: self };
        let done = work(&mut writer)
            .and_then(|()| connection.execute_batch("COMMIT").map_err(|error| self.error(error.into())));
        if done.is_ok() || connection.is_autocommit() || connection.execute_batch("ROLLBACK").is_ok() {
            self.give_back(connection);
        }
        done
    }

    fn write_to_free(&self, work: &mut dyn FnMut(&mut dyn Transaction) -> Result<()>) -> Result<()> {
        match self.write(work) {
            Err(error) if is_full(&error) && self.path().is_some_and(release_reserve) => {
                let done = self.write(work);
                if let Some(path) = self.path() {
                    reserve(path);
                }
                done
            }
            done => done,
        }
    }
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

/// A path as a part of a URI.
fn uri_path(path: &Path) -> String {
    use std::fmt::Write;
    use std::os::unix::ffi::OsStrExt;
    path.as_os_str().as_bytes().iter().fold(String::new(), |mut text, &byte| {
        if byte.is_ascii_alphanumeric() || b"/._-".contains(&byte) {
            text.push(char::from(byte));
        } else {
            let _ = write!(text, "%{byte:02x}");
        }
        text
    })
}
