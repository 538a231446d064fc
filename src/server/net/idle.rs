//! Whether a connection gets anywhere: the bytes that cross it are counted, and so is who waits for whom. A client
//! that is waited for and moves next to nothing is left alone with it; a slow disk of ours is no fault of his.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::observed::Observer;

/// What must move within the time for silence, so that a byte now and then is silence too.
const ENOUGH: u64 = 1 << 10;

/// What is known of one connection.
#[derive(Debug, Default)]
pub(super) struct Flow {
    moved: AtomicU64,
    /// Requests that came, and whose response is not over.
    requests: AtomicUsize,
    /// Those of them that can't go on before the client reads or writes.
    waiting: AtomicUsize,
}

/// A request that goes on, until it is dropped.
#[derive(Debug)]
pub(super) struct Going(Arc<Flow>);

/// Somebody waits for the client, until it is dropped.
#[derive(Debug)]
pub(super) struct Waiting(Arc<Flow>);

impl Flow {
    pub(super) fn going(self: &Arc<Self>) -> Going {
        self.requests.fetch_add(1, Ordering::Relaxed);
        Going(Arc::clone(self))
    }

    /// Whether no request has come that is not answered. One whose head is not complete has not come.
    pub(super) fn is_idle(&self) -> bool {
        self.requests.load(Ordering::Relaxed) == 0
    }

    pub(super) fn waiting(self: &Arc<Self>) -> Waiting {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        Waiting(Arc::clone(self))
    }
}

impl Going {
    pub(super) fn waiting(&self) -> Waiting {
        self.0.waiting()
    }
}

impl Observer for Arc<Flow> {
    fn came(&mut self, bytes: &[u8]) {
        self.went(bytes.len());
    }

    fn went(&mut self, count: usize) {
        self.moved.fetch_add(count as u64, Ordering::Relaxed);
    }
}

impl Drop for Going {
    fn drop(&mut self) {
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Looks at a flow now and then.
#[derive(Debug)]
pub(super) struct Watch {
    flow: Arc<Flow>,
    /// Since when nothing worth the name happened, and what had moved then.
    since: Instant,
    moved: u64,
    idle: bool,
    silence: Duration,
}

impl Watch {
    pub(super) fn new(flow: Arc<Flow>, silence: Duration) -> Self {
        Self { flow, since: Instant::now(), moved: 0, idle: true, silence }
    }

    /// How often to look.
    pub(super) fn period(&self) -> Duration {
        (self.silence / 8).clamp(Duration::from_millis(20), Duration::from_secs(5))
    }

    /// Whether it has been silent for too long.
    pub(super) fn is_silent(&mut self, now: Instant) -> bool {
        let moved = self.flow.moved.load(Ordering::Relaxed);
        let idle = self.flow.requests.load(Ordering::Relaxed) == 0;
        let waiting = idle || self.flow.waiting.load(Ordering::Relaxed) > 0;
        // Without a request, bytes are no progress: a head that dribbles in is no request yet.
        let progress = !idle && moved - self.moved >= ENOUGH;
        if !waiting || progress || idle != self.idle {
            (self.since, self.moved, self.idle) = (now, moved, idle);
        }
        now.saturating_duration_since(self.since) >= self.silence
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_client_that_is_waited_for_and_moves_next_to_nothing_is_silent() {
        let flow = Arc::new(Flow::default());
        let start = Instant::now();
        let mut watch = Watch::new(Arc::clone(&flow), Duration::from_secs(60));
        let mut silent_after = |seconds: u64| watch.is_silent(start + Duration::from_secs(seconds));
        // Without a request, bytes change nothing.
        flow.moved.fetch_add(10_000, Ordering::Relaxed);
        assert!(!silent_after(30) && silent_after(61));
        let going = flow.going();
        // The server works.
        assert!(!silent_after(100) && !silent_after(1_000));
        let waiting = going.waiting();
        assert!(!silent_after(1_050));
        flow.moved.fetch_add(ENOUGH, Ordering::Relaxed);
        assert!(!silent_after(1_059) && !silent_after(1_110));
        flow.moved.fetch_add(ENOUGH - 1, Ordering::Relaxed);
        assert!(silent_after(1_130));
        drop(waiting);
        assert!(!silent_after(1_131));
        drop(going);
        assert!(!silent_after(1_140) && silent_after(1_201));
    }
}
