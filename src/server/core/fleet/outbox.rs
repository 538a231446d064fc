//! [`Outbox`]: changes that the thread of the fleet writes. Whoever adds one never waits.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Lifecycle events that wait while the catalog is away. When there are more, the oldest are dropped and counted:
/// events are no record of what happened, and a client that reconnects reads the state again.
const MAX_EVENTS: usize = 1_024;

/// What waits to be written.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// Operations that changed. Their state is read when it is written.
    pub(super) operations: BTreeSet<String>,
    /// Lifecycle events, the oldest first.
    pub(super) events: VecDeque<String>,
    /// Events that were dropped.
    pub(super) lost: u64,
}

#[derive(Debug, Default)]
struct State {
    batch: Batch,
    /// Whether a batch is being written.
    writing: bool,
    stopped: bool,
}

/// The queue of the fleet.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    state: Mutex<State>,
    /// Notified when something is added or written, and at the stop.
    changed: Condvar,
}

impl Outbox {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that an operation changed.
    pub(super) fn changed(&self, operation: &str) {
        self.lock().batch.operations.insert(operation.to_owned());
        self.changed.notify_all();
    }

    /// Queues an event.
    pub(super) fn publish(&self, event: String) {
        let mut state = self.lock();
        state.batch.events.push_back(event);
        state.batch.bound();
        drop(state);
        self.changed.notify_all();
    }

    /// Waits for changes, `time` at most, and takes them. `None` after the stop, when nothing is left.
    pub(super) fn next(&self, time: Duration) -> Option<Batch> {
        let until = Instant::now() + time;
        let mut state = self.lock();
        while state.batch.is_empty() && !state.stopped {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        if state.stopped && state.batch.is_empty() {
            return None;
        }
        state.writing = true;
        Some(std::mem::take(&mut state.batch))
    }

    /// Ends the writing of a batch. `rest` could not be written, and waits for the next try unless the fleet stops.
    pub(super) fn written(&self, mut rest: Batch) {
        let mut state = self.lock();
        state.writing = false;
        if !state.stopped {
            rest.operations.append(&mut state.batch.operations);
            rest.events.append(&mut state.batch.events);
            rest.lost += state.batch.lost;
            rest.bound();
            state.batch = rest;
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Waits until all changes of operations are written, `time` at most.
    pub(super) fn flush(&self, time: Duration) {
        let until = Instant::now() + time;
        let mut state = self.lock();
        while (state.writing || !state.batch.operations.is_empty()) && !state.stopped {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Lets the thread end when it has written what is there.
    pub(super) fn stop(&self) {
        self.lock().stopped = true;
        self.changed.notify_all();
    }

    /// Whether the fleet stops.
    pub(super) fn is_stopped(&self) -> bool {
        self.lock().stopped
    }
}

impl Batch {
    fn is_empty(&self) -> bool {
        self.operations.is_empty() && self.events.is_empty() && self.lost == 0
    }

    fn bound(&mut self) {
        while self.events.len() > MAX_EVENTS {
            self.events.pop_front();
            self.lost += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[test]
    fn unwritten_changes_come_again_before_newer_events() {
        let outbox = Outbox::default();
        outbox.publish("1".to_owned());
        let batch = outbox.next(Duration::ZERO).unwrap();
        outbox.publish("2".to_owned());
        outbox.written(batch);
        assert_eq!(outbox.next(Duration::ZERO).unwrap().events, ["1", "2"]);
    }

    #[test]
    fn events_beyond_the_bound_are_counted() {
        let outbox = Outbox::default();
        for number in 0..MAX_EVENTS + 3 {
            outbox.publish(number.to_string());
        }
        let batch = outbox.next(Duration::ZERO).unwrap();
        assert_eq!((batch.events.len(), batch.lost), (MAX_EVENTS, 3));
    }

    #[test]
    fn stop_ends_the_thread_after_the_last_batch() {
        let outbox = Outbox::default();
        outbox.changed("x");
        outbox.stop();
        let batch = outbox.next(Duration::ZERO).unwrap();
        assert_eq!(batch.operations.len(), 1);
        outbox.written(batch);
        assert!(outbox.next(Duration::from_secs(60)).is_none());
    }
}
