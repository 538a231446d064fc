//! [`Pool`]: connections, opened on demand up to a number, kept for the next caller, and closed if
//! anything is wrong with them.

use std::ops::Deref;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::failure::{Failure, Outcome};
use super::migrations;
use super::runtime::Patience;
use super::session::{Endpoint, Session};
use crate::error::{Error, ErrorKind};
use crate::progress::CANCEL_POLL;
use crate::store::shared_runtime::backoff;

/// The longest first sleep between two attempts.
const FIRST_SLEEP: Duration = Duration::from_millis(5);
/// The longest sleep between two attempts to connect.
const MAX_SLEEP: Duration = Duration::from_millis(500);

/// The connections of one catalog.
pub(super) struct Pool {
    pub(super) endpoint: Arc<Endpoint>,
    /// The store that every connection must lead to; set once the first one was verified.
    store_id: String,
    state: Mutex<State>,
    returned: Condvar,
}

#[derive(Default)]
struct State {
    idle: Vec<Session>,
    /// How many there are, idle or not.
    open: usize,
}

/// A connection that is lent.
pub(super) struct Lease<'a> {
    pool: &'a Pool,
    session: Option<Session>,
}

impl Pool {
    /// A pool with a first connection, which leads to the store.
    pub(super) fn new(endpoint: Arc<Endpoint>, first: Session, store_id: String) -> Self {
        let state = Mutex::new(State { idle: vec![first], open: 1 });
        Self { endpoint, store_id, state, returned: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The id of the store.
    pub(super) fn store_id(&self) -> &str {
        &self.store_id
    }

    /// An idle connection, if there is one.
    fn idle(&self, state: &mut State) -> Option<Session> {
        while let Some(session) = state.idle.pop() {
            if session.is_reusable() {
                return Some(session);
            }
            state.open = state.open.saturating_sub(1);
        }
        None
    }

    /// Closes all connections that nobody uses.
    pub(super) fn close_idle(&self) {
        let mut state = self.lock();
        state.open = state.open.saturating_sub(state.idle.len());
        let closed = std::mem::take(&mut state.idle);
        drop(state);
        drop(closed);
        self.returned.notify_all();
    }

    /// A connection that is idle now, without waiting.
    pub(super) fn try_idle(&self) -> Option<Lease<'_>> {
        let session = self.idle(&mut self.lock())?;
        Some(Lease { pool: self, session: Some(session) })
    }

    /// A connection: an idle one, a new one, or the next that comes back.
    ///
    /// # Errors
    /// `Overloaded` if all stay in use; those of connecting.
    pub(super) fn lease(&self, patience: &Patience) -> Outcome<Lease<'_>> {
        let mut state = self.lock();
        loop {
            if let Some(session) = self.idle(&mut state) {
                return Ok(Lease { pool: self, session: Some(session) });
            }
            if state.open < self.endpoint.options.pool_size {
                state.open += 1;
                drop(state);
                // Counted until it is dropped, whatever happens.
                let mut lease = Lease { pool: self, session: None };
                lease.session = Some(self.connect(patience)?);
                return Ok(lease);
            }
            if patience.cancel.is_cancelled() {
                return Err(Error::cancelled().into());
            }
            let left = patience.left();
            if left.is_zero() {
                let what = format!(
                    "all {} connections to the {} are in use, and the wait is over",
                    self.endpoint.options.pool_size, self.endpoint.address
                );
                let error = Error::new(ErrorKind::Busy, what).with_hint("raise the pool size of the catalog");
                return Err(Failure::Overloaded(error));
            }
            let waited = self.returned.wait_timeout(state, left.min(CANCEL_POLL));
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Opens a connection, and again while the server has none left.
    fn connect(&self, patience: &Patience) -> Outcome<Session> {
        let mut attempt = 0;
        loop {
            let connected = self.endpoint.connect().and_then(|session| {
                // After a failover or a migration the server may be another one than before.
                migrations::verify(&session, Some(&self.store_id))?;
                Ok(session)
            });
            match connected {
                Err(Failure::Overloaded(error)) => {
                    if patience.sleep(pause_before(attempt)).is_err() {
                        return Err(Failure::Overloaded(error));
                    }
                    attempt += 1;
                }
                done => return done,
            }
        }
    }
}

/// How long to sleep before attempt number `attempt` + 1.
pub(super) fn pause_before(attempt: u32) -> Duration {
    backoff(FIRST_SLEEP, MAX_SLEEP, attempt)
}

impl Deref for Lease<'_> {
    type Target = Session;

    fn deref(&self) -> &Session {
        match &self.session {
            Some(session) => session,
            None => unreachable!("a lease has a session until it is dropped"),
        }
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        let mut state = self.pool.lock();
        match self.session.take().filter(Session::is_reusable) {
            Some(session) => state.idle.push(session),
            None => state.open = state.open.saturating_sub(1),
        }
        drop(state);
        self.pool.returned.notify_one();
    }
}
