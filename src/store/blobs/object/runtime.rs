//! Runs the futures of the object store clients for synchronous callers.
//!
//! One small runtime serves all [`ObjectBlobs`](super::ObjectBlobs) of the process. Callers wait on
//! a channel and never enter the runtime, so that they may be threads of another one.

use std::future::Future;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Mutex, PoisonError};

use tokio::runtime::{Builder, Handle, Runtime};

use crate::error::{Error, Result};
use crate::progress::{CANCEL_POLL, Cancel};

/// Threads of the runtime. They copy between sockets and memory, hash requests and sleep; local
/// files are read by the callers.
const WORKERS: usize = 2;

/// The runtime, once it was needed. It lives as long as the process: dropping a runtime blocks, and
/// panics on threads of another one.
static SHARED: Mutex<Option<&'static Runtime>> = Mutex::new(None);

/// The handle of the shared runtime, which is started by the first call.
///
/// # Errors
/// `Io` if the system refuses threads or descriptors.
pub(super) fn handle() -> Result<&'static Handle> {
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(runtime) = *shared {
        return Ok(runtime.handle());
    }
    let runtime = Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .thread_name("lxd-image-objects")
        .enable_all()
        .build()
        .map_err(|error| Error::io("the threads for the object store cannot be started", error))?;
    let runtime: &'static Runtime = Box::leak(Box::new(runtime));
    *shared = Some(runtime);
    Ok(runtime.handle())
}

/// Runs a future to its end, and returns its result. When `cancel` is switched on, the future is
/// dropped and the call fails with `Cancelled`.
///
/// # Errors
/// `Cancelled`; those of the future.
pub(super) fn run<T, F>(cancel: Option<&Cancel>, future: F) -> Result<T>
where
    T: Send + 'static,
    F: Future<Output = Result<T>> + Send + 'static,
{
    let (sender, receiver) = mpsc::sync_channel(1);
    let task = handle()?.spawn(async move {
        let _ = sender.send(future.await);
    });
    loop {
        match receiver.recv_timeout(CANCEL_POLL) {
            Ok(result) => return result,
            Err(RecvTimeoutError::Timeout) => {
                if let Some(Err(cancelled)) = cancel.map(Cancel::check) {
                    task.abort();
                    return Err(cancelled);
                }
            }
            Err(RecvTimeoutError::Disconnected) => return Err(died()),
        }
    }
}

/// The error for a task that ended without a result: it panicked, in code of the object store client.
pub(super) fn died() -> Error {
    Error::new(crate::ErrorKind::Io, "a request to the object store ended without a result")
}
