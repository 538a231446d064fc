//! Who uses a store, for as long as it is open: all together, or a repair that replaces its catalog, alone.
//! The lock (`flock`) is on the store's directory: every store has one, whatever version made it, also where nothing can be written.

use std::fs::File;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::error::{Error, ErrorKind, Result};
use crate::progress::{Cancel, Monitor};

/// How long to sleep between two tries.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// A lock on a store, until it is dropped or its process ends.
#[derive(Debug)]
pub(crate) struct StoreLock {
    directory: File,
}

impl StoreLock {
    /// The store's directory.
    pub(crate) fn directory(&self) -> &File {
        &self.directory
    }

    /// Of a user of the store, beside any number of others.
    ///
    /// # Errors
    /// `Busy` when a repair has the store for itself for longer than `wait`; `Cancelled`; `Io`.
    pub(crate) fn shared(store: &Path, wait: Duration, cancel: &Cancel) -> Result<Self> {
        let directory = open(store)?;
        match try_for(&directory, FlockOperation::NonBlockingLockShared, wait, &mut || cancel.check())? {
            Some(Errno::WOULDBLOCK) => Err(Error::new(ErrorKind::Busy, "the store's catalog is being made anew")
                .with_hint("wait until `lxd-image check --repair` is done")
                .in_file(store)),
            // Where there are no locks, a repair can't get the store for itself.
            _ => Ok(Self { directory }),
        }
    }

    /// Of a repair, which has the store for itself.
    ///
    /// # Errors
    /// `Busy` when others use the store for longer than `wait`; `Unsupported` on a file system without locks; `Cancelled`; `Io`.
    pub(crate) fn exclusive(store: &Path, wait: Duration, monitor: &Monitor) -> Result<Self> {
        let directory = open(store)?;
        match try_for(&directory, FlockOperation::NonBlockingLockExclusive, wait, &mut || monitor.check())? {
            None => Ok(Self { directory }),
            Some(Errno::WOULDBLOCK) => Err(Error::new(
                ErrorKind::Busy,
                "the catalog must be made anew, and other programs use the store",
            )
            .with_hint(
                "stop `lxd-image serve` and all else that uses the store, then run `lxd-image check --repair` again",
            )
            .in_file(store)),
            Some(error) => Err(no_locks(store, error)),
        }
    }

    /// Stands for no lock of its own, for who has the store for itself already.
    pub(crate) fn unlocked(store: &Path) -> Result<Self> {
        Ok(Self { directory: open(store)? })
    }

    /// Of whoever makes the store. `None` when `made` says that somebody else has made it meanwhile.
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

/// Tries until it has the lock or the wait is over; the last error is what is in the way.
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
