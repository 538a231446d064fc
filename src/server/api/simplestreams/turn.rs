//! `Turn`: what only one request does at a time, and for which others wait, but not for long and not too many: each has a thread.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::digests::{PATIENCE, WAITERS};
use crate::error::{Error, ErrorKind, Result};

/// Whose turn it is.
#[derive(Debug, Default)]
pub(super) struct Turn {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    taken: bool,
    waiting: usize,
}

/// The turn of one request, which ends when this is dropped.
pub(super) struct Taken<'a>(&'a Turn);

impl Turn {
    /// Takes the turn, or waits for it.
    ///
    /// # Errors
    /// `Busy` when that takes too long, or too many wait.
    pub(super) fn take(&self) -> Result<Taken<'_>> {
        self.take_within(PATIENCE)
    }

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
    fn a_turn_that_is_taken_is_not_given_twice() {
        let turn = Turn::default();
        let taken = turn.take().unwrap();
        assert_eq!(turn.take_within(Duration::from_millis(1)).err().map(|error| error.kind()), Some(ErrorKind::Busy));
        drop(taken);
        turn.take_within(Duration::from_millis(1)).unwrap();
    }
}
