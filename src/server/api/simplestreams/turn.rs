//! [`Turn`]: work that one request does at a time. The others wait for it, for a bounded time and
//! in a bounded number, because each holds a thread.
//!
//! It is not a `Mutex`, since a wait for one has neither a timeout nor a limit on the waiters.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::digests::{PATIENCE, WAITERS};
use crate::error::{Error, ErrorKind, Result};

/// The right to do the work. There is no order among the waiters.
#[derive(Debug, Default)]
pub(super) struct Turn {
    state: Mutex<State>,
    changed: Condvar,
}

/// What the lock protects.
#[derive(Debug, Default)]
struct State {
    /// Whether a request has the turn.
    taken: bool,
    /// The number of requests that wait for it.
    waiting: usize,
}

/// The turn of one request, which ends when this is dropped, also by a panic.
pub(super) struct Taken<'a>(&'a Turn);

impl Turn {
    /// Takes the turn, or waits for it.
    ///
    /// # Errors
    /// `Busy` when that takes longer than 30 seconds, or 32 requests wait already.
    pub(super) fn take(&self) -> Result<Taken<'_>> {
        self.take_within(PATIENCE)
    }

    /// [`take`](Self::take) with another time, for tests.
    fn take_within(&self, patience: Duration) -> Result<Taken<'_>> {
        let busy = || Error::new(ErrorKind::Busy, "the list of the images is still being made");
        let mut state = self.lock();
        if state.taken && state.waiting >= WAITERS {
            return Err(busy());
        }
        state.waiting += 1;
        let waited = self.changed.wait_timeout_while(state, patience, |state| state.taken);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.waiting -= 1;
        if state.taken {
            return Err(busy());
        }
        state.taken = true;
        Ok(Taken(self))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.0.lock().taken = false;
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[test]
    fn turn_that_is_taken_is_not_given_twice() {
        let turn = Turn::default();
        let taken = turn.take().unwrap();
        assert_eq!(turn.take_within(Duration::from_millis(1)).err().map(|error| error.kind()), Some(ErrorKind::Busy));
        drop(taken);
        turn.take_within(Duration::from_millis(1)).unwrap();
    }
}
