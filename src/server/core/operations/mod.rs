//! `Operations`: work that may go on after its request was answered, and what became of it.
//! Trusted clients follow it, wait for it, cancel it. How many there are and how long they are remembered is bounded.

mod handle;

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind, Result};
use crate::progress::Cancel;
use crate::protocol::rest;
use crate::server::core::events::Events;
use crate::server::core::tokens::{self, SecretDigest};

pub(crate) use handle::OperationHandle;

/// How many may run at once.
const MAX_RUNNING: usize = 256;
/// How many passes may be out at once.
const MAX_TOKENS: usize = 1_000;
/// How many that are over are remembered, and for how long.
const MAX_FINISHED: usize = 1_000;
const FINISHED_LIFETIME: Duration = Duration::from_secs(300);
/// How many clients may wait at once, and for how long a single question may be held back.
const MAX_WAITERS: usize = 32;
const MAX_WAIT: Duration = Duration::from_secs(3_600);

/// Their states, as the API numbers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Running = 103,
    Cancelling = 104,
    Success = 200,
    Failure = 400,
    Cancelled = 401,
}

impl Status {
    const fn name(self) -> &'static str {
        match self {
            Self::Running => "Running",
            Self::Cancelling => "Cancelling",
            Self::Success => "Success",
            Self::Failure => "Failure",
            Self::Cancelled => "Cancelled",
        }
    }

    const fn is_over(self) -> bool {
        matches!(self, Self::Success | Self::Failure | Self::Cancelled)
    }
}

/// What kind of operation it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// Work.
    Task,
    /// A pass that was given out, until it is used or too old.
    Token,
}

#[derive(Debug)]
struct Entry {
    operation: rest::Operation,
    class: Class,
    status: Status,
    cancel: Cancel,
    /// When it was over.
    ended: Option<Instant>,
    /// When a token is too old.
    ends: Option<Instant>,
    /// Of the pass by which a stranger began it.
    pass: Option<SecretDigest>,
}

#[derive(Debug, Default)]
struct RegistryState {
    /// In the order in which they began.
    all: VecDeque<Entry>,
    waiting: usize,
    stopped: bool,
}

#[derive(Debug, Default)]
struct Registry {
    state: Mutex<RegistryState>,
    changed: Condvar,
    events: Events,
}

/// The operations of a server. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Operations(Arc<Registry>);

impl Operations {
    /// What is told to those who listen.
    pub(crate) fn events(&self) -> &Events {
        &self.0.events
    }

    /// Begins one. `resources` are addresses of images that it is about.
    ///
    /// # Errors
    /// `Busy` when too many go on, or the server is about to stop.
    pub(crate) fn begin(&self, class: Class, description: &str, resources: &[String]) -> Result<OperationHandle> {
        let id = uuid()?;
        let mut state = self.lock();
        let most = if class == Class::Token { MAX_TOKENS } else { MAX_RUNNING };
        let running = state.all.iter().filter(|entry| entry.class == class && !entry.status.is_over()).count();
        if state.stopped || running >= most {
            return Err(Error::new(ErrorKind::Busy, "the server has too much to do"));
        }
        let now = jiff::Timestamp::now().to_string();
        let mut told = rest::Operation::default();
        told.id.clone_from(&id);
        told.class = if class == Class::Token { "token" } else { "task" }.to_owned();
        description.clone_into(&mut told.description);
        told.created_at.clone_from(&now);
        told.updated_at = now;
        told.may_cancel = true;
        "none".clone_into(&mut told.location);
        if !resources.is_empty() {
            told.resources.insert("images".to_owned(), resources.to_vec());
        }
        let cancel = Cancel::new();
        let entry = Entry {
            operation: told,
            class,
            status: Status::Running,
            cancel: cancel.clone(),
            ended: None,
            ends: None,
            pass: None,
        };
        self.0.events.operation(&entry.snapshot());
        state.all.push_back(entry);
        Ok(OperationHandle::new(Arc::clone(&self.0), id, cancel))
    }

    /// One of them.
    pub(crate) fn get(&self, id: &str) -> Option<rest::Operation> {
        self.lock().find(id).map(|entry| entry.snapshot())
    }

    /// All of them, in the order in which they began.
    pub(crate) fn list(&self) -> Vec<rest::Operation> {
        self.lock().all.iter().map(Entry::snapshot).collect()
    }

    /// Whether a stranger began it with this pass.
    pub(crate) fn is_authenticated_by(&self, id: &str, secret: &str) -> bool {
        let digest = SecretDigest::of(secret);
        self.lock().find(id).and_then(|entry| entry.pass.as_ref()).is_some_and(|secret| secret.matches(&digest))
    }

    /// Waits until it is over, or the time is, or the server stops; what it is then. Without a time, as long as a question
    /// may be held back at all.
    ///
    /// # Errors
    /// `Busy` when too many wait.
    pub(crate) fn wait(&self, id: &str, time: Option<Duration>) -> Result<Option<rest::Operation>> {
        let until = Instant::now() + time.unwrap_or(MAX_WAIT).min(MAX_WAIT);
        let mut state = self.lock();
        if state.find(id).is_some_and(|entry| !entry.status.is_over()) && state.waiting >= MAX_WAITERS {
            return Err(Error::new(ErrorKind::Busy, "too many wait for this server's operations"));
        }
        state.waiting += 1;
        let found = loop {
            state.tidy();
            let stopped = state.stopped;
            let Some(entry) = state.find(id) else { break None };
            let left = until.saturating_duration_since(Instant::now());
            if entry.status.is_over() || stopped || left.is_zero() {
                break Some(entry.snapshot());
            }
            // A token's end comes by the clock.
            let left = entry.ends.map_or(left, |ends| left.min(ends.saturating_duration_since(Instant::now())));
            let left = left.max(Duration::from_millis(1));
            state = self.0.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        };
        state.waiting -= 1;
        Ok(found)
    }

    /// Has it stop soon.
    ///
    /// # Errors
    /// `NotFound`; `InvalidInput` for one that is over.
    pub(crate) fn cancel(&self, id: &str) -> Result<()> {
        let mut state = self.lock();
        let Some(entry) = state.find(id) else { return Err(crate::server::core::access::not_found()) };
        if entry.status.is_over() {
            return Err(Error::invalid("the operation is over"));
        }
        entry.cancel.cancel();
        entry.set(if entry.class == Class::Token { Status::Cancelled } else { Status::Cancelling });
        self.0.notify(entry);
        Ok(())
    }

    /// A token was used.
    pub(crate) fn used(&self, id: &str) {
        let mut state = self.lock();
        if let Some(entry) = state.find(id).filter(|entry| entry.class == Class::Token && !entry.status.is_over()) {
            entry.operation.metadata.remove("secret");
            entry.set(Status::Success);
            self.0.notify(entry);
        }
    }

    /// Has nobody wait or listen any more, and nothing begin.
    pub(crate) fn finish(&self) {
        let mut state = self.lock();
        state.stopped = true;
        self.0.changed.notify_all();
        self.0.events.stop();
    }

    /// Has all of them stop as well.
    pub(crate) fn stop(&self) {
        self.finish();
        for entry in &self.lock().all {
            entry.cancel.cancel();
        }
    }

    /// Waits until no work goes on, for so long at most.
    pub(crate) fn settle(&self, time: Duration) {
        let until = Instant::now() + time;
        let mut state = self.lock();
        while state.all.iter().any(|entry| entry.class == Class::Task && !entry.status.is_over()) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            state = self.0.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn lock(&self) -> MutexGuard<'_, RegistryState> {
        let mut state = self.0.lock();
        state.tidy();
        state
    }
}

impl Registry {
    fn lock(&self) -> MutexGuard<'_, RegistryState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn notify(&self, entry: &Entry) {
        self.events.operation(&entry.snapshot());
        self.changed.notify_all();
    }
}

impl RegistryState {
    fn find(&mut self, id: &str) -> Option<&mut Entry> {
        self.all.iter_mut().find(|entry| entry.operation.id == id)
    }

    /// Ends tokens that are too old, and forgets what has been over for long.
    fn tidy(&mut self) {
        let now = Instant::now();
        for entry in self.all.iter_mut().filter(|entry| !entry.status.is_over()) {
            if entry.ends.is_some_and(|ends| ends <= now) {
                entry.set(Status::Cancelled);
            }
        }
        self.all.retain(|entry| entry.ended.is_none_or(|ended| now.duration_since(ended) < FINISHED_LIFETIME));
        let mut over = self.all.iter().filter(|entry| entry.status.is_over()).count();
        self.all.retain(|entry| {
            let goes = over > MAX_FINISHED && entry.status.is_over();
            over -= usize::from(goes);
            !goes
        });
    }
}

impl Entry {
    fn set(&mut self, status: Status) {
        self.status = status;
        self.operation.updated_at = jiff::Timestamp::now().to_string();
        if status.is_over() {
            self.operation.may_cancel = false;
            self.ended = Some(Instant::now());
            if self.class == Class::Token {
                // It opens nothing any more.
                self.operation.metadata.remove("secret");
            }
        }
    }

    fn snapshot(&self) -> rest::Operation {
        let mut told = self.operation.clone();
        self.status.name().clone_into(&mut told.status);
        told.status_code = self.status as u16;
        told
    }
}

/// Where an operation is found.
pub(crate) fn location(id: &str) -> String {
    format!("/1.0/operations/{id}")
}

/// A random name in the form of a UUID of version 4.
fn uuid() -> Result<String> {
    let mut bytes = [0; 16];
    tokens::random(&mut bytes)?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let digits = tokens::hex(&bytes);
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
        let operations = Operations::default();
        let operation = operations.begin(Class::Task, "work", &[]).unwrap();
        let id = operation.id().to_owned();
        let waiter = {
            let (operations, id) = (operations.clone(), id.clone());
            std::thread::spawn(move || operations.wait(&id, None).unwrap().unwrap())
        };
        drop(operation);
        let told = waiter.join().unwrap();
        assert_eq!((told.status_code, told.may_cancel), (400, false));
        assert!(operations.cancel(&id).is_err());
        assert!(operations.wait("other", None).unwrap().is_none());
    }

    #[test]
    fn one_that_was_cancelled_too_late_is_a_success() {
        let operations = Operations::default();
        let operation = operations.begin(Class::Task, "work", &[]).unwrap();
        let id = operation.id().to_owned();
        operations.cancel(&id).unwrap();
        assert_eq!(operations.get(&id).unwrap().status_code, 104);
        assert!(operation.cancel().is_cancelled());
        operation.succeed(&[], []);
        assert_eq!(operations.get(&id).unwrap().status_code, 200);
        let other = operations.begin(Class::Task, "work", &[]).unwrap();
        let id = other.id().to_owned();
        operations.cancel(&id).unwrap();
        other.fail(ErrorKind::Cancelled, "cancelled");
        assert_eq!(operations.get(&id).unwrap().status_code, 401);
    }

    #[test]
    fn only_so_many_go_on_and_only_so_many_are_remembered() {
        let operations = Operations::default();
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
    fn a_stop_ends_every_wait_and_lets_nothing_begin() {
        let operations = Operations::default();
        let operation = operations.begin(Class::Task, "work", &[]).unwrap();
        let id = operation.id().to_owned();
        let waiter = {
            let operations = operations.clone();
            std::thread::spawn(move || operations.wait(&id, None).unwrap().unwrap())
        };
        operations.stop();
        assert_eq!(waiter.join().unwrap().status_code, 103);
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
