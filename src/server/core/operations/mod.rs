//! [`Operations`]: the registry of background operations. An operation may outlive its request;
//! trusted clients list it, wait for it and cancel it, and each of its changes is sent as an event.
//! The worker holds an [`OperationHandle`]. Tokens are represented as operations, too, as in LXD.
//! How many operations there are, and how long ended ones are kept, is bounded.
//!
//! # States
//!
//! ```text
//!             begin                succeed
//!   (request) ─────▶ Running ─────────────────────▶ Success
//!                     │   │ fail, or handle dropped
//!                     │   └────────────────────────▶ Failure
//!        cancel of    │ cancel of a task
//!        a token      ▼
//!        or expiry   Cancelling ── worker notices ─▶ Cancelled
//!            └─────────────────────────────────────▶ Cancelled
//! ```
//!
//! A state on the right is final. A task that was cancelled too late to have an effect succeeds:
//! what it did is done, and the client should see it.
//!
//! # Where they are
//!
//! Operations describe work of this process, and are in its memory. After a restart there is no
//! worker any more, and clients of LXD and Incus treat a missing operation as ended. What an
//! operation did is in the store. Where several servers have one catalog, `shared` finds those of
//! the others by records that expire.

mod handle;
mod shared;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::hex;
use crate::progress::Cancel;
use crate::server::core::events::{Events, OperationObject};
use crate::server::core::fleet::Fleet;
use crate::server::core::operation::{Class, OperationSnapshot, Status};
use crate::server::core::secret::{self, SecretDigest};

pub(crate) use handle::OperationHandle;

/// Tasks that run at once. Each has a thread of its own, or holds the thread of its request.
const MAX_RUNNING: usize = 256;
/// Operations of tokens that are valid at once; the same bound as on the tokens themselves.
const MAX_TOKENS: usize = 1_000;
/// Ended operations that are kept; when there are more, the oldest are dropped.
const MAX_FINISHED: usize = 1_000;
/// How long an ended operation is kept, for clients that ask later how it ended.
const FINISHED_LIFETIME: Duration = Duration::from_secs(300);
/// Clients that wait for operations at once: each holds a thread.
const MAX_WAITERS: usize = 32;
/// The longest wait of one request; clients that want to wait longer ask again.
const MAX_WAIT: Duration = Duration::from_secs(3_600);

/// One operation of the registry.
#[derive(Debug)]
struct Entry {
    /// The operation as it is now.
    operation: OperationSnapshot,
    /// The switch that its worker watches.
    cancel: Cancel,
    /// When it reached a final state; it is dropped `FINISHED_LIFETIME` later.
    ended: Option<Instant>,
    /// When a token expires.
    ends: Option<Instant>,
    /// The token by which an untrusted client began it, and may follow it.
    token: Option<SecretDigest>,
}

/// What the lock of the registry protects. Nothing slow happens while it is held.
#[derive(Debug, Default)]
struct RegistryState {
    /// All operations, the oldest first.
    all: VecDeque<Entry>,
    /// Clients that wait for an operation.
    waiting: usize,
    /// Whether the server shuts down: nothing begins any more.
    stopped: bool,
}

/// What all clones of [`Operations`] and all handles share.
#[derive(Debug)]
struct Registry {
    state: Mutex<RegistryState>,
    /// Notified at every change of an operation, and at shutdown.
    changed: Condvar,
    /// The listeners of `GET /1.0/events`.
    events: Events,
    /// The other servers of the store, where the catalog has shared records.
    fleet: OnceLock<Arc<Fleet>>,
}

/// The operations of a server. Clones share the same registry.
///
/// The registry has one lock. It is taken last: the services that call it may hold their own lock,
/// and nothing is called from under it but the event queues, which never block.
#[derive(Debug, Clone)]
pub(crate) struct Operations(Arc<Registry>);

impl Operations {
    /// No operations yet. `object` makes what listeners are told of one.
    pub(crate) fn new(object: OperationObject) -> Self {
        Self(Arc::new(Registry {
            state: Mutex::default(),
            changed: Condvar::new(),
            events: Events::new(object),
            fleet: OnceLock::new(),
        }))
    }

    /// The event stream on which changes are published.
    pub(crate) fn events(&self) -> &Events {
        &self.0.events
    }

    /// Begins an operation. `images` are the paths of the images that it is about, like `/1.0/images/FINGERPRINT`.
    ///
    /// The operation is visible to clients at once. It ends when the returned handle says so.
    ///
    /// # Errors
    /// `Busy` when too many of its class run, or the server shuts down.
    pub(crate) fn begin(&self, class: Class, description: &str, images: &[String]) -> Result<OperationHandle> {
        let id = uuid()?;
        let mut state = self.lock();
        let most = if class == Class::Token { MAX_TOKENS } else { MAX_RUNNING };
        // Each class has a bound of its own: tokens that wait to be used must not block imports.
        let running = state
            .all
            .iter()
            .filter(|entry| entry.operation.class == class && !entry.operation.status.is_over())
            .count();
        if state.stopped || running >= most {
            return Err(Error::new(ErrorKind::Busy, "the server has too much to do"));
        }
        let now = jiff::Timestamp::now().to_string();
        let operation = OperationSnapshot {
            id: id.clone(),
            class,
            description: description.to_owned(),
            created_at: now.clone(),
            updated_at: now,
            status: Status::Running,
            images: images.to_vec(),
            metadata: BTreeMap::new(),
            error: String::new(),
        };
        let cancel = Cancel::new();
        let entry = Entry { operation, cancel: cancel.clone(), ended: None, ends: None, token: None };
        // Under the lock, so that no listener sees a change before the beginning.
        self.0.publish(&entry);
        state.all.push_back(entry);
        Ok(OperationHandle::new(Arc::clone(&self.0), id, cancel))
    }

    /// One operation as it is now.
    ///
    /// Includes the secret of a token: the caller decides who may see it.
    pub(crate) fn get(&self, id: &str) -> Option<OperationSnapshot> {
        self.lock().find(id).map(|entry| entry.operation.clone())
    }

    /// All operations, the oldest first.
    ///
    /// The operations of tokens include their secrets, which the caller removes.
    pub(crate) fn list(&self) -> Vec<OperationSnapshot> {
        self.lock().all.iter().map(|entry| entry.operation.clone()).collect()
    }

    /// Whether an untrusted client began this operation with this secret.
    ///
    /// Such a client may read and wait for this operation and no other. `false` for an operation
    /// that does not exist, so that an untrusted client can't probe for IDs.
    pub(crate) fn is_authenticated_by(&self, id: &str, secret: &str) -> bool {
        let digest = SecretDigest::of(secret);
        self.lock().find(id).and_then(|entry| entry.token.as_ref()).is_some_and(|secret| secret.matches(&digest))
    }

    /// Waits until an operation ends, `time` is over, or the server shuts down, and returns the operation as it is
    /// then. Without `time`, waits for an hour at most. `None` for an operation that does not exist.
    ///
    /// # Errors
    /// `Busy` when too many clients wait.
    pub(crate) fn wait(&self, id: &str, time: Option<Duration>) -> Result<Option<OperationSnapshot>> {
        let until = Instant::now() + time.unwrap_or(MAX_WAIT).min(MAX_WAIT);
        let mut state = self.lock();
        // Only a request that would really wait is refused: an operation that has ended needs no
        // thread.
        if state.find(id).is_some_and(|entry| !entry.operation.status.is_over()) && state.waiting >= MAX_WAITERS {
            return Err(too_many_waiters());
        }
        state.waiting += 1;
        let found = loop {
            state.tidy();
            let stopped = state.stopped;
            // Looked up again after each wake-up: the operation may have been dropped meanwhile.
            let Some(entry) = state.find(id) else { break None };
            let left = until.saturating_duration_since(Instant::now());
            if entry.operation.status.is_over() || stopped || left.is_zero() {
                break Some(entry.operation.clone());
            }
            // Nothing notifies when a token expires.
            let left = entry.ends.map_or(left, |ends| left.min(ends.saturating_duration_since(Instant::now())));
            // A wait of zero would turn the loop into a busy one when a token expires right now.
            let left = left.max(Duration::from_millis(1));
            state = self.0.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        };
        state.waiting -= 1;
        Ok(found)
    }

    /// Asks an operation to stop. A token is cancelled at once; a task when its worker notices.
    ///
    /// The thread of the worker is not stopped: it sees the switch at its next read or write,
    /// within a second, and removes what it had staged.
    ///
    /// # Errors
    /// `NotFound`; `InvalidInput` for an operation that has ended.
    pub(crate) fn cancel(&self, id: &str) -> Result<()> {
        let mut state = self.lock();
        let Some(entry) = state.find(id) else { return Err(crate::server::core::access::not_found()) };
        if entry.operation.status.is_over() {
            return Err(Error::invalid("the operation has ended already"));
        }
        entry.cancel.cancel();
        entry.set(if entry.operation.class == Class::Token { Status::Cancelled } else { Status::Cancelling });
        self.0.notify(entry);
        Ok(())
    }

    /// Ends the operation of a token that was used.
    ///
    /// An operation that has ended already stays as it is.
    pub(crate) fn used(&self, id: &str) {
        let mut state = self.lock();
        if let Some(entry) =
            state.find(id).filter(|entry| entry.operation.class == Class::Token && !entry.operation.status.is_over())
        {
            entry.operation.remove_secret();
            entry.set(Status::Success);
            self.0.notify(entry);
        }
    }

    /// Begins shutdown: wakes all waiters, ends all event streams, and refuses new operations.
    ///
    /// Operations that run continue, and their handles still work.
    pub(crate) fn finish(&self) {
        let mut state = self.lock();
        state.stopped = true;
        // Waiters see `stopped` and answer with the operation as it is.
        self.0.changed.notify_all();
        self.0.events.stop();
    }

    /// Begins shutdown, and cancels all operations.
    pub(crate) fn stop(&self) {
        self.finish();
        for entry in &self.lock().all {
            entry.cancel.cancel();
        }
    }

    /// Waits until no task runs, for `time` at most.
    ///
    /// Used after [`stop`](Self::stop), so that workers can remove what they had staged before the
    /// process ends. Tokens are not waited for: nobody works on them.
    pub(crate) fn settle(&self, time: Duration) {
        let until = Instant::now() + time;
        let mut state = self.lock();
        while state.all.iter().any(|entry| entry.operation.class == Class::Task && !entry.operation.status.is_over()) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            state = self.0.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Locks the registry, with expired operations removed: no caller sees a token that has
    /// expired.
    fn lock(&self) -> MutexGuard<'_, RegistryState> {
        let mut state = self.0.lock();
        state.tidy();
        state
    }
}

impl Registry {
    /// Locks the registry as it is.
    fn lock(&self) -> MutexGuard<'_, RegistryState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Publishes a change as an event and wakes the waiters.
    ///
    /// Called with the lock held, so that events are queued in the order of the changes.
    fn notify(&self, entry: &Entry) {
        self.publish(entry);
        self.changed.notify_all();
    }

    /// Publishes a change to the listeners, and notes it for the other servers.
    fn publish(&self, entry: &Entry) {
        self.events.operation(&entry.operation);
        if let Some(fleet) = self.fleet.get() {
            fleet.changed(&entry.operation.id);
        }
    }
}

impl RegistryState {
    /// The operation with this ID. The scan is over 2,300 entries at most.
    fn find(&mut self, id: &str) -> Option<&mut Entry> {
        self.all.iter_mut().find(|entry| entry.operation.id == id)
    }

    /// Cancels expired tokens, and drops operations that ended long ago or are too many.
    ///
    /// There is no timer: this runs whenever the registry is used. An expired token is therefore
    /// cancelled when somebody looks, which no client can tell from a timer.
    fn tidy(&mut self) {
        let now = Instant::now();
        for entry in self.all.iter_mut().filter(|entry| !entry.operation.status.is_over()) {
            if entry.ends.is_some_and(|ends| ends <= now) {
                entry.set(Status::Cancelled);
            }
        }
        self.all.retain(|entry| entry.ended.is_none_or(|ended| now.duration_since(ended) < FINISHED_LIFETIME));
        // The oldest are at the front, and go first.
        let mut over = self.all.iter().filter(|entry| entry.operation.status.is_over()).count();
        self.all.retain(|entry| {
            // The deque has the oldest first, and `retain` goes in this order.
            let goes = over > MAX_FINISHED && entry.operation.status.is_over();
            over -= usize::from(goes);
            !goes
        });
    }
}

impl Entry {
    /// Changes the status.
    ///
    /// The caller publishes the change with `notify`.
    fn set(&mut self, status: Status) {
        self.operation.status = status;
        self.operation.updated_at = jiff::Timestamp::now().to_string();
        if status.is_over() {
            self.ended = Some(Instant::now());
            if self.operation.class == Class::Token {
                // The secret is invalid now, and must not stay in a list.
                self.operation.remove_secret();
            }
        }
    }
}

/// The error of a wait beyond `MAX_WAITERS`.
fn too_many_waiters() -> Error {
    Error::new(ErrorKind::Busy, "too many clients wait for operations of this server")
}

/// The path of an operation.
///
/// Clients of LXD and Incus find it in the header `Location` and in the field `operation`.
pub(crate) fn location(id: &str) -> String {
    format!("/1.0/operations/{id}")
}

/// A random UUID of version 4 (RFC 9562).
///
/// Random, so that an untrusted client can't guess the ID of an operation.
///
/// # Errors
/// `Io` when the machine gives no random numbers.
fn uuid() -> Result<String> {
    let mut bytes = [0; 16];
    secret::random(&mut bytes)?;
    // RFC 9562, section 5.4: four bits of version 4, and two bits of the variant.
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let digits = hex(&bytes);
    let parts: Vec<&str> =
        [0..8, 8..12, 12..16, 16..20, 20..32].into_iter().filter_map(|part| digits.get(part)).collect();
    Ok(parts.join("-"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[test]
    fn what_is_dropped_without_a_word_has_failed_and_waiters_are_told() {
        let operations = Operations::new(|_| serde_json::Value::Null);
        let operation = operations.begin(Class::Task, "work", &[]).unwrap();
        let id = operation.id().to_owned();
        let waiter = {
            let (operations, id) = (operations.clone(), id.clone());
            std::thread::spawn(move || operations.wait(&id, None).unwrap().unwrap())
        };
        drop(operation);
        let told = waiter.join().unwrap();
        assert_eq!(told.status, Status::Failure);
        assert!(operations.cancel(&id).is_err());
        assert!(operations.wait("other", None).unwrap().is_none());
    }

    #[test]
    fn one_that_was_cancelled_too_late_is_a_success() {
        let operations = Operations::new(|_| serde_json::Value::Null);
        let operation = operations.begin(Class::Task, "work", &[]).unwrap();
        let id = operation.id().to_owned();
        operations.cancel(&id).unwrap();
        assert_eq!(operations.get(&id).unwrap().status, Status::Cancelling);
        assert!(operation.cancel().is_cancelled());
        operation.succeed(&[], []);
        assert_eq!(operations.get(&id).unwrap().status, Status::Success);
        let other = operations.begin(Class::Task, "work", &[]).unwrap();
        let id = other.id().to_owned();
        operations.cancel(&id).unwrap();
        other.fail(ErrorKind::Cancelled, "cancelled");
        assert_eq!(operations.get(&id).unwrap().status, Status::Cancelled);
    }

    #[test]
    fn only_so_many_go_on_and_only_so_many_are_remembered() {
        let operations = Operations::new(|_| serde_json::Value::Null);
        let all: Vec<_> = (0..MAX_RUNNING).map(|_| operations.begin(Class::Task, "work", &[]).unwrap()).collect();
        assert_eq!(operations.begin(Class::Task, "work", &[]).unwrap_err().kind(), ErrorKind::Busy);
        let last = all.last().unwrap().id().to_owned();
        drop(all);
        for _ in 0..MAX_FINISHED + 10 {
            operations.begin(Class::Task, "work", &[]).unwrap().succeed(&[], []);
        }
        assert_eq!(operations.list().len(), MAX_FINISHED);
        assert!(operations.get(&last).is_none(), "the oldest go first");
    }

    #[test]
    fn stop_ends_every_wait_and_lets_nothing_begin() {
        let operations = Operations::new(|_| serde_json::Value::Null);
        let operation = operations.begin(Class::Task, "work", &[]).unwrap();
        let id = operation.id().to_owned();
        let waiter = {
            let operations = operations.clone();
            std::thread::spawn(move || operations.wait(&id, None).unwrap().unwrap())
        };
        operations.stop();
        assert_eq!(waiter.join().unwrap().status, Status::Running);
        assert!(operation.cancel().is_cancelled());
        assert_eq!(operations.begin(Class::Task, "work", &[]).unwrap_err().kind(), ErrorKind::Busy);
    }

    #[test]
    fn names_are_uuids_and_never_twice_the_same() {
        let (one, other) = (uuid().unwrap(), uuid().unwrap());
        assert_ne!(one, other);
        assert_eq!((one.len(), one.as_bytes()[14], one.matches('-').count()), (36, b'4', 4));
    }
}
