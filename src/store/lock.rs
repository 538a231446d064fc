//! The lock on a store: shared by all that use it, exclusive for a repair or an upgrade that replaces its catalog.
//!
//! It is a `flock` on the directory of the store: every store has a directory, whatever version
//! created it and even if nothing can be written to it. The kernel releases it when the process
//! ends.

use std::fs::File;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::error::{Error, ErrorKind, Result};
use crate::progress::{Cancel, Monitor};

/// How long to sleep between two attempts: `flock` cannot wait with a timeout or be cancelled.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// A lock on a store, held until this is dropped or the process ends.
#[derive(Debug)]
pub(crate) struct StoreLock {
    directory: File,
}

impl StoreLock {
    /// The open directory of the store.
    pub(crate) fn directory(&self) -> &File {
        &self.directory
    }

    /// Locks the store for use, beside any number of other users.
    ///
    /// # Errors
    /// `Busy` if a repair holds the store for longer than `wait`; `Cancelled`; `Io`.
    pub(crate) fn shared(store: &Path, wait: Duration, cancel: &Cancel) -> Result<Self> {
        let directory = open(store)?;
        match try_for(&directory, FlockOperation::NonBlockingLockShared, wait, &mut || cancel.check())? {
            Some(Errno::WOULDBLOCK) => Err(Error::new(ErrorKind::Busy, "the catalog of the store is being rebuilt")
                .with_hint("wait until `lxd-image check --repair` is done")
                .in_file(store)),
            // On a file system without locks an exclusive lock always fails, so a shared one is not needed.
            _ => Ok(Self { directory }),
        }
    }

    /// Locks the store exclusively, for a repair or an upgrade.
    ///
    /// # Errors
    /// `Busy` if others use the store for longer than `wait`; `Unsupported` on a file system
    /// without locks; `Cancelled`; `Io`.
    pub(crate) fn exclusive(store: &Path, wait: Duration, monitor: &Monitor) -> Result<Self> {
        let directory = open(store)?;
        match try_for(&directory, FlockOperation::NonBlockingLockExclusive, wait, &mut || monitor.check())? {
            None => Ok(Self { directory }),
            Some(Errno::WOULDBLOCK) => Err(Error::new(
                ErrorKind::Busy,
                "the catalog must be rebuilt, and other programs use the store",
            )
            .with_hint(
                "stop `lxd-image serve` and all else that uses the store, then run `lxd-image check --repair` again",
            )
            .in_file(store)),
            Some(error) => Err(no_locks(store, error)),
        }
    }

    /// A handle without a lock, for a caller that holds the store exclusively already: a second
    /// `flock` by the same process would conflict with the first.
    pub(crate) fn unlocked(store: &Path) -> Result<Self> {
        Ok(Self { directory: open(store)? })
    }

    /// Locks the directory of a store that is being created. `None` if `made` says that another
    /// process has created it meanwhile.
    ///
    /// # Errors
    /// As [`exclusive`](Self::exclusive), and those of `made`.
    pub(crate) fn making(
        store: &Path,
        wait: Duration,
        cancel: &Cancel,
        made: &mut dyn FnMut() -> Result<bool>,
    ) -> Result<Option<Self>> {
        let directory = open(store)?;
        let until = Instant::now() + wait;
        loop {
            cancel.check()?;
            if made()? {
                return Ok(None);
            }
            match flock(&directory, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Some(Self { directory })),
                Err(Errno::INTR) => {}
                Err(Errno::WOULDBLOCK) if Instant::now() < until => sleep(POLL_INTERVAL),
                Err(Errno::WOULDBLOCK) => {
                    return Err(Error::new(ErrorKind::Busy, "another program makes or uses this store").in_file(store));
                }
                Err(error) => return Err(no_locks(store, error)),
            }
        }
    }
}

fn open(store: &Path) -> Result<File> {
    File::open(store).map_err(|error| Error::io("the store's directory can't be opened", error).in_file(store))
}

fn no_locks(store: &Path, error: Errno) -> Error {
    Error::unsupported("the store's file system has no file locks (`flock`)")
        .with_source(std::io::Error::from(error))
        .in_file(store)
}

/// Tries to lock until `wait` is over. Returns the last error of `flock`, or `None` with the lock held.
fn try_for(
    directory: &File,
    operation: FlockOperation,
    wait: Duration,
    check: &mut dyn FnMut() -> Result<()>,
) -> Result<Option<Errno>> {
    let until = Instant::now() + wait;
    loop {
        check()?;
        match flock(directory, operation) {
            Ok(()) => return Ok(None),
            Err(Errno::INTR) => {}
            Err(Errno::WOULDBLOCK) if Instant::now() < until => sleep(POLL_INTERVAL),
            Err(error) => return Ok(Some(error)),
        }
    }
}
