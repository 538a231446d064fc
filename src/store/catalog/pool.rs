//! A pool of connections to one catalog: opened on demand, kept for the next caller, and returned
//! even if the caller panics.
//!
//! A connection whose file was replaced or removed (by a repair, or by hand) is never used again:
//! nobody would find what is written there.

use std::ops::Deref;
use std::os::unix::fs::MetadataExt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::failure::row_error;
use super::schema::{self, RowResult};
use super::waiting;
use super::watch::Watch;
use crate::error::{Error, ErrorKind, Result};
use crate::progress::Cancel;
use crate::store::layout::beside;
use crate::store::lock::StoreLock;

/// How many idle connections are kept open: as many as a busy server uses at once.
const MAX_IDLE: usize = 64;

/// How many prepared statements a connection caches: those of all calls and of the common queries.
pub(super) const STATEMENTS: usize = 64;

/// How often a connection is opened again because the file was replaced meanwhile.
const MAX_TRIES: usize = 5;

/// How the database file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// For reading and writing.
    Write,
    /// For reading only, with the locks of SQLite.
    Read,
    /// Without locks, for a directory in which not even the lock file of SQLite can be created.
    /// Nobody with our permissions can change the file either.
    Immutable,
}

/// The connections to one catalog.
pub(super) struct Pool {
    /// `None`: a database in memory, which lives and dies with its one connection.
    file: Option<DatabaseFile>,
    idle: Mutex<Vec<PooledConnection>>,
    returned: Condvar,
    pub(super) watch: Watch,
    /// Let go of after the connections.
    _lock: Option<StoreLock>,
}

/// The file of a catalog, and how it is opened.
struct DatabaseFile {
    path: PathBuf,
    mode: Mode,
    timeout: Duration,
    cancel: Cancel,
    /// The id of the store that it must be the catalog of.
    id: String,
}

/// A connection, and the identity of the files under it.
pub(super) struct PooledConnection {
    connection: Connection,
    /// The files under it; `None` for a database in memory.
    files: Option<Files>,
}

/// The device and inode of a database file and of its write-ahead log: their identity, whatever has their names now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Files {
    main: (u64, u64),
    log: Option<(u64, u64)>,
}

impl Pool {
    /// A pool with the one connection of a database in memory.
    pub(super) fn in_memory(connection: Connection) -> Self {
        let idle = Mutex::new(vec![PooledConnection { connection, files: None }]);
        Self { file: None, idle, returned: Condvar::new(), watch: Watch::default(), _lock: None }
    }

    /// A pool for the catalog at `path` of the store `id`. It keeps the `lock` of the store until it is dropped.
    pub(super) fn of_file(path: &Path, id: &str, timeout: Duration, cancel: &Cancel, lock: StoreLock) -> Self {
        let (path, id, cancel) = (path.to_path_buf(), id.to_owned(), cancel.clone());
        let file = DatabaseFile { path, mode: Mode::Write, timeout, cancel, id };
        Self {
            file: Some(file),
            idle: Mutex::default(),
            returned: Condvar::new(),
            watch: Watch::default(),
            _lock: Some(lock),
        }
    }

    /// Sets how the next connections are opened.
    pub(super) fn set_mode(&mut self, mode: Mode) {
        if let Some(file) = &mut self.file {
            file.mode = mode;
        }
    }

    /// Switches to a database in memory, and keeps the lock of the file that it is a copy of.
    pub(super) fn replace(&mut self, copy: Connection) {
        let idle = std::mem::take(self.idle.get_mut().unwrap_or_else(PoisonError::into_inner));
        if let Some(file) = self.file.take() {
            for connection in idle.into_iter().chain(self.watch.take()) {
                connection.close(&file);
            }
        }
        self.idle = Mutex::new(vec![PooledConnection { connection: copy, files: None }]);
    }

    /// The path of the catalog; `None` in memory.
    pub(super) fn path(&self) -> Option<&Path> {
        self.file.as_ref().map(|file| file.path.as_path())
    }

    /// Whether connections can write.
    pub(super) fn may_write(&self) -> bool {
        self.file.as_ref().is_none_or(|file| file.mode == Mode::Write)
    }

    /// Runs `work` with a connection to the file that has the name of the catalog now.
    ///
    /// # Errors
    /// `Malformed` if there is no catalog, if it is damaged, or if it belongs to another store;
    /// `Unsupported`, `Busy`, `Cancelled`, `Io`; those of `work`.
    pub(super) fn with<T>(&self, work: impl FnOnce(&PooledConnection) -> Result<T>) -> Result<T> {
        let Some(file) = &self.file else { return self.lend(work) };
        waiting::begin(file.timeout, &file.cancel);
        self.lend(work).map_err(|error| {
            // SQLite reports a wait that was cancelled as busy.
            if error.kind() == ErrorKind::Busy && file.cancel.is_cancelled() { Error::cancelled() } else { error }
        })
    }

    /// Takes a connection out of the pool for `work`, and returns it afterwards.
    fn lend<T>(&self, work: impl FnOnce(&PooledConnection) -> Result<T>) -> Result<T> {
        let connection = self.take()?;
        // A database in memory has one connection, and others wait for it: return it even if `work` panics.
        let done = catch_unwind(AssertUnwindSafe(|| work(&connection)));
        self.give_back(connection);
        done.unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// Whether the connection is to the file that has the name of the catalog now.
    pub(super) fn is_current(&self, connection: &PooledConnection) -> bool {
        self.file.as_ref().is_none_or(|file| connection.is_current(file))
    }

    /// Opens a connection outside of the pool. The caller passes it to [`close`](Self::close).
    pub(super) fn open(&self) -> Result<PooledConnection> {
        match &self.file {
            Some(file) => file.connect(),
            None => Err(Error::new(ErrorKind::Unsupported, "a catalog in memory has one connection")),
        }
    }

    /// Closes a connection without touching files that are not its own.
    pub(super) fn close(&self, connection: PooledConnection) {
        match &self.file {
            Some(file) => connection.close(file),
            None => self.give_back(connection),
        }
    }

    /// Returns a connection to the pool, without a transaction that a panic left open.
    fn give_back(&self, connection: PooledConnection) {
        let whole = connection.is_autocommit() || connection.execute_batch("ROLLBACK").is_ok();
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        match &self.file {
            Some(file) if !whole || idle.len() >= MAX_IDLE => {
                drop(idle);
                connection.close(file);
            }
            _ => {
                idle.push(connection);
                drop(idle);
                self.returned.notify_one();
            }
        }
    }

    /// An idle connection to the current file, or a new one.
    fn take(&self) -> Result<PooledConnection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let found = idle.pop();
            match (found, &self.file) {
                (Some(connection), None) => return Ok(connection),
                (None, None) => idle = self.returned.wait(idle).unwrap_or_else(PoisonError::into_inner),
                (Some(connection), Some(file)) => {
                    if connection.is_current(file) {
                        return Ok(connection);
                    }
                    let same = connection.files.is_some_and(|files| identity(&file.path) == Some(files.main));
                    let connection = connection.abandon();
                    if same {
                        // The database is the same but its log is not: opening it now would create
                        // a second log, and damage it.
                        idle.push(connection);
                        return Err(file.named(
                            Error::malformed("the catalog's log was removed or replaced while it was in use")
                                .with_hint("stop all programs that use the store, then run `lxd-image check --repair`"),
                        ));
                    }
                }
                (None, Some(file)) => {
                    drop(idle);
                    return file.connect();
                }
            }
        }
    }

    /// All idle connections, to be closed by the caller.
    pub(super) fn into_connections(self) -> Vec<Connection> {
        let idle = std::mem::take(&mut *self.idle.lock().unwrap_or_else(PoisonError::into_inner));
        idle.into_iter().map(|idle| idle.connection).collect()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let Some(file) = &self.file else { return };
        let idle = self.idle.get_mut().unwrap_or_else(PoisonError::into_inner).drain(..);
        for connection in idle.chain(self.watch.take()) {
            connection.close(file);
        }
    }
}

impl DatabaseFile {
    /// Adds the path of the catalog to an error.
    fn named(&self, error: Error) -> Error {
        error.in_file(&self.path)
    }

    /// Opens a connection, and makes sure that the file was not replaced meanwhile.
    fn connect(&self) -> Result<PooledConnection> {
        for _ in 0..MAX_TRIES {
            let main = self.find()?;
            let connection = connect(&self.path, self.mode);
            let connection = connection.map_err(|error| row_error(error, Some(&self.path)))?;
            // The first query also opens the log, so its identity is known only after it.
            self.probe(&connection)?;
            let log = if self.mode == Mode::Write { identity(&beside(&self.path, "-wal")) } else { None };
            let opened = PooledConnection { connection, files: Some(Files { main, log }) };
            if opened.is_current(self) {
                return Ok(opened);
            }
            opened.close(self);
        }
        Err(self.named(Error::new(ErrorKind::Busy, "the catalog is being replaced again and again")))
    }

    /// The identity of the file that has the name of the catalog. SQLite would create a missing
    /// file, or fill an empty one.
    fn find(&self) -> Result<(u64, u64)> {
        let about = std::fs::metadata(&self.path).map_err(|error| {
            let kind = if error.kind() == std::io::ErrorKind::NotFound { ErrorKind::Malformed } else { ErrorKind::Io };
            let error = Error::new(kind, "the catalog can't be found").with_source(error);
            self.named(error.with_hint("`lxd-image check --repair` rebuilds the catalog from the images"))
        })?;
        // SQLite opens an empty file as an empty database.
        if about.len() == 0 {
            let error = Error::malformed("the catalog is empty");
            return Err(self.named(error.with_hint("`lxd-image check --repair` rebuilds the catalog from the images")));
        }
        Ok((about.dev(), about.ino()))
    }

    /// Fails unless it is the catalog of this store, in a known layout.
    fn probe(&self, connection: &Connection) -> Result<()> {
        let look = || -> RowResult<(i64, i64, Option<String>)> {
            let (application, version) = schema::versions(connection)?;
            let known = application == schema::APPLICATION_ID && version == schema::LAYOUT_VERSION;
            Ok((application, version, if known { schema::store_id(connection)? } else { None }))
        };
        let (application, version, found) = look().map_err(|error| row_error(error, Some(&self.path)))?;
        schema::check_version(application, version).map_err(|error| self.named(error))?;
        if found.as_deref() == Some(self.id.as_str()) {
            return Ok(());
        }
        Err(self.named(foreign()))
    }
}

/// The error for a catalog with another store's id.
pub(super) fn foreign() -> Error {
    Error::malformed("the catalog is that of another store")
}

impl PooledConnection {
    /// Whether its files still have the names of the catalog and its log.
    fn is_current(&self, file: &DatabaseFile) -> bool {
        self.files.is_none_or(|files| {
            identity(&file.path) == Some(files.main)
                && files.log.is_none_or(|log| identity(&beside(&file.path, "-wal")) == Some(log))
        })
    }

    /// Makes closing the connection harmless. The last connection to a database checkpoints the log
    /// and removes it *by name*, and these names belong to another database now.
    fn abandon(self) -> Self {
        let _ = self.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
        self
    }

    /// Closes it; harmlessly if its files lost their names.
    fn close(self, file: &DatabaseFile) {
        drop(if self.is_current(file) { self } else { self.abandon() });
    }
}

impl Deref for PooledConnection {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

/// Opens a connection, and sets what all connections need: waiting, foreign keys, durability.
pub(super) fn connect(path: &Path, mode: Mode) -> RowResult<Connection> {
    let mut connection = match mode {
        Mode::Write => Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?,
        Mode::Read => Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?,
        Mode::Immutable => {
            let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
            Connection::open_with_flags(uri(path, mode), flags)?
        }
    };
    waiting::prepare(&mut connection)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    connection.pragma_update(None, "foreign_keys", true)?;
    if mode == Mode::Write {
        connection.pragma_update(None, "synchronous", "FULL")?;
    }
    Ok(connection)
}

/// The URI that opens a database for reading only.
pub(super) fn uri(path: &Path, mode: Mode) -> String {
    let how = if mode == Mode::Immutable { "immutable=1" } else { "mode=ro" };
    format!("file:{}?{how}", uri_path(path))
}

/// The device and inode of the file at `path`.
fn identity(path: &Path) -> Option<(u64, u64)> {
    std::fs::metadata(path).ok().map(|about| (about.dev(), about.ino()))
}

/// Escapes a path for a URI.
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
