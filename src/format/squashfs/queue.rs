//! A bounded queue between the thread that finds work and the threads that do it.
//!
//! Closing it ends the workers once it is empty; stopping it drops what waits. (`crossbeam_channel`
//! has no way to drop the queued items from the sending side.)

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Work that waits, at most `capacity` items.
pub(super) struct WorkQueue<T> {
    state: Mutex<QueueState<T>>,
    /// Signalled when an item was added.
    filled: Condvar,
    /// Signalled when there is room.
    emptied: Condvar,
    /// The most items that wait; a producer waits beyond it.
    capacity: usize,
}

/// The items, and whether more will come.
struct QueueState<T> {
    /// The items, the oldest first.
    waiting: VecDeque<T>,
    /// Whether no more items will come.
    closed: bool,
}

impl<T> WorkQueue<T> {
    /// An empty queue for `capacity` items.
    pub(super) fn new(capacity: usize) -> Self {
        let state = QueueState { waiting: VecDeque::new(), closed: false };
        Self { state: Mutex::new(state), filled: Condvar::new(), emptied: Condvar::new(), capacity }
    }

    /// Locks the state, also after a panic: each change of it is complete.
    fn lock(&self) -> MutexGuard<'_, QueueState<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a piece of work, waiting for room; gives it up once the queue was closed.
    pub(super) fn push(&self, work: T) {
        let mut state = self.lock();
        while state.waiting.len() >= self.capacity && !state.closed {
            state = self.emptied.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if !state.closed {
            state.waiting.push_back(work);
            self.filled.notify_one();
        }
    }

    /// The next piece of work, waiting for it; none once the queue is closed and empty.
    pub(super) fn pop(&self) -> Option<T> {
        let mut state = self.lock();
        loop {
            if let Some(work) = state.waiting.pop_front() {
                self.emptied.notify_one();
                return Some(work);
            }
            if state.closed {
                return None;
            }
            state = self.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// No more work will come.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.filled.notify_all();
        self.emptied.notify_all();
    }

    /// No more work will be done: what waits is dropped.
    ///
    /// Items are dropped without the lock: dropping one may close a file.
    pub(super) fn stop(&self) {
        let waiting = {
            let mut state = self.lock();
            state.closed = true;
            std::mem::take(&mut state.waiting)
        };
        self.filled.notify_all();
        self.emptied.notify_all();
        drop(waiting);
    }
}
