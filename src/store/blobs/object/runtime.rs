//! Runs the futures of the object store clients for synchronous callers.
//!
//! One small runtime serves all [`ObjectBlobs`](super::ObjectBlobs) of the process. Callers wait on
//! a channel and never enter the runtime, so that they may be threads of another one.

use std::future::Future;
use std::sync::mpsc::{self, RecvTimeoutError};

use tokio::runtime::Handle;

use crate::error::{Error, Result};
use crate::progress::{CANCEL_POLL, Cancel};
use crate::store::shared_runtime::SharedRuntime;

/// Blocking threads that the runtime may have: the default of `tokio`.
const BLOCKING: usize = 512;

static RUNTIME: SharedRuntime = SharedRuntime::new("lxd-image-objects", BLOCKING);

/// The handle of the shared runtime.
///
/// # Errors
/// `Io` if the system refuses threads or descriptors.
pub(super) fn handle() -> Result<Handle> {
    RUNTIME.handle()
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
