//! [`OperationHandle`]: an operation as its worker sees it. The worker reports progress by it and
//! ends the operation. An operation ends exactly once, also when the worker panics.
//!
//! A handle is moved into the thread that does the work, and consumed by the call that ends the
//! operation. So the compiler prevents two ends, and dropping the handle covers the path that
//! forgot.
//!
//! Changes through a handle have no effect once the operation has ended, for example because its
//! token was cancelled: the final state of an operation never changes.

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Entry, Registry, location};
use crate::error::ErrorKind;
use crate::progress::{Cancel, Phase, Progress, Update};
use crate::server::core::operation::{OperationSnapshot, Status};
use crate::server::core::secret::SecretDigest;

/// A running operation. If it is dropped before [`succeed`](Self::succeed) or [`fail`](Self::fail), the operation
/// fails.
#[derive(Debug)]
pub(crate) struct OperationHandle {
    /// The registry that has the operation.
    shared: Arc<Registry>,
    /// The operation's ID, by which each change finds it again.
    id: String,
    /// The switch of this operation.
    cancel: Cancel,
    /// Whether dropping the handle is still a failure.
    open: bool,
}

impl OperationHandle {
    /// The handle of an operation that is in the registry already.
    pub(super) fn new(shared: Arc<Registry>, id: String, cancel: Cancel) -> Self {
        Self { shared, id, cancel, open: true }
    }

    /// The operation's ID.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// The path of the operation.
    pub(crate) fn location(&self) -> String {
        location(&self.id)
    }

    /// The switch by which clients cancel the operation.
    ///
    /// The worker passes it to the monitor of its library calls.
    pub(crate) fn cancel(&self) -> Cancel {
        self.cancel.clone()
    }

    /// The operation as it is now. `None` if it was dropped from the registry, which happens only after it has ended.
    pub(crate) fn snapshot(&self) -> Option<OperationSnapshot> {
        self.shared.lock().find(&self.id).map(|entry| entry.operation.clone())
    }

    /// Adds to the operation's metadata.
    ///
    /// Clients show these values; keys are those that LXD uses, as far as it has them.
    pub(crate) fn add_metadata(&self, metadata: impl IntoIterator<Item = (&'static str, Value)>) {
        self.change(|entry| {
            entry.operation.metadata.extend(metadata.into_iter().map(|(key, value)| (key.to_owned(), value)));
            entry.operation.updated_at = jiff::Timestamp::now().to_string();
        });
    }

    /// A receiver of progress that publishes it in the operation's metadata, as clients of LXD and Incus show it. At
    /// most once a second: each change is an event for all listeners.
    pub(crate) fn progress(&self) -> Arc<dyn Progress> {
        let (shared, id) = (Arc::clone(&self.shared), self.id.clone());
        let last: Mutex<Option<Instant>> = Mutex::new(None);
        Arc::new(move |update: &Update| {
            // A worker may report from several threads; the lock also keeps them from publishing
            // twice.
            let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
            if last.is_none_or(|last| last.elapsed() >= Duration::from_secs(1)) {
                *last = Some(Instant::now());
                let text = match update.total.filter(|total| *total > 0) {
                    Some(total) => format!("{}%", (u128::from(update.done) * 100 / u128::from(total)).min(100)),
                    None => format!("{}MB", update.done / 1_000_000),
                };
                // LXD's clients print the value as it is, after the name of the image.
                let step = if update.phase == Phase::Hash { "image" } else { update.phase.name() };
                change(&shared, &id, |entry| {
                    let value = Value::String(format!("{step}: {text}"));
                    entry.operation.metadata.insert("download_progress".to_owned(), value);
                });
            }
            ControlFlow::Continue(())
        })
    }

    /// Lets the untrusted client that used up the token with this secret follow the operation with it. The secret is in
    /// the operation's metadata, where an LXD that pushes an image takes it from to wait.
    ///
    /// The digest of the secret stays with the operation when it has ended, so that its client can
    /// still ask for the result.
    pub(crate) fn authenticated_by(&self, secret: &str) {
        self.change(|entry| {
            entry.token = Some(SecretDigest::of(secret));
            entry.operation.metadata.insert("secret".to_owned(), Value::String(secret.to_owned()));
        });
    }

    /// Ends the operation as a success; `images` are the paths of the images that it is about.
    pub(crate) fn succeed(mut self, images: &[String], metadata: impl IntoIterator<Item = (&'static str, Value)>) {
        self.open = false;
        self.change(|entry| {
            entry.operation.metadata.extend(metadata.into_iter().map(|(key, value)| (key.to_owned(), value)));
            if !images.is_empty() {
                entry.operation.images = images.to_vec();
            }
            entry.set(Status::Success);
        });
    }

    /// Ends the operation as a failure, or as cancelled when a client cancelled it. The client reads `sentence`.
    ///
    /// The state is `Cancelled` only if a client cancelled it *and* the work ended because of that:
    /// an error that came first is reported as itself.
    pub(crate) fn fail(mut self, kind: ErrorKind, sentence: impl Into<String>) {
        self.end_badly(kind, sentence.into());
    }

    /// Leaves the operation to represent a token that expires after `time`.
    ///
    /// There is no worker from now on: use, cancellation and expiry end the operation.
    pub(crate) fn into_token(mut self, time: Duration) {
        self.open = false;
        self.change(|entry| entry.ends = Some(Instant::now() + time));
    }

    /// Ends the operation as failed or cancelled, for `fail` and for a handle that is dropped.
    fn end_badly(&mut self, kind: ErrorKind, sentence: String) {
        self.open = false;
        // A worker may end with `Cancelled` for another reason, such as an upstream that is shut
        // down.
        let cancelled = kind == ErrorKind::Cancelled && self.cancel.is_cancelled();
        self.change(|entry| {
            entry.operation.error = sentence;
            entry.set(if cancelled { Status::Cancelled } else { Status::Failure });
        });
    }

    /// Changes the operation and publishes that, unless it has ended.
    fn change(&self, how: impl FnOnce(&mut Entry)) {
        change(&self.shared, &self.id, how);
    }
}

/// [`OperationHandle::change`] for a closure that can't borrow the handle.
fn change(shared: &Registry, id: &str, how: impl FnOnce(&mut Entry)) {
    let mut state = shared.lock();
    if let Some(entry) = state.find(id).filter(|entry| !entry.operation.status.is_over()) {
        how(entry);
        shared.notify(entry);
    }
}

impl Drop for OperationHandle {
    fn drop(&mut self) {
        if self.open {
            self.end_badly(ErrorKind::Io, "the work ended without a result".to_owned());
        }
    }
}
