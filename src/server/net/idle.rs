//! Whether a connection gets anywhere: the bytes that cross it are counted, and so is who waits for whom. A client
//! that is waited for and moves next to nothing is left alone with it; a slow disk of ours is no fault of his.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::observed::Observer;

/// What must move within the time for silence, so that a byte now and then is silence too.
const MIN_PROGRESS_BYTES: u64 = 1 << 10;

/// What is known of one connection.
#[derive(Debug, Default)]
pub(super) struct IdleMonitor {
    moved: AtomicU64,
    /// Requests that came, and whose response is not over.
    requests: AtomicUsize,
    /// Those of them that can't go on before the client reads or writes.
    waiting: AtomicUsize,
}

/// A request that goes on, until it is dropped.
#[derive(Debug)]
pub(super) struct ActiveRequest(Arc<IdleMonitor>);

/// Somebody waits for the client, until it is dropped.
#[derive(Debug)]
pub(super) struct ClientWait(Arc<IdleMonitor>);

impl IdleMonitor {
    pub(super) fn begin_request(self: &Arc<Self>) -> ActiveRequest {
        self.requests.fetch_add(1, Ordering::Relaxed);
        ActiveRequest(Arc::clone(self))
    }

    /// Whether no request has come that is not answered. One whose head is not complete has not come.
    pub(super) fn is_idle(&self) -> bool {
        self.requests.load(Ordering::Relaxed) == 0
    }

    pub(super) fn wait_for_client(self: &Arc<Self>) -> ClientWait {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        ClientWait(Arc::clone(self))
    }
}

impl ActiveRequest {
    pub(super) fn wait_for_client(&self) -> ClientWait {
        self.0.wait_for_client()
    }
}

impl Observer for Arc<IdleMonitor> {
    fn on_read(&mut self, bytes: &[u8]) {
        self.on_write(bytes.len());
    }

    fn on_write(&mut self, count: usize) {
        self.moved.fetch_add(count as u64, Ordering::Relaxed);
    }
}

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for ClientWait {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Looks at a monitor now and then.
#[derive(Debug)]
pub(super) struct IdleTimer {
    monitor: Arc<IdleMonitor>,
    /// Since when nothing worth the name happened, and what had moved then.
    since: Instant,
    moved: u64,
    idle: bool,
    silence: Duration,
}

impl IdleTimer {
    pub(super) fn new(monitor: Arc<IdleMonitor>, silence: Duration) -> Self {
        Self { monitor, since: Instant::now(), moved: 0, idle: true, silence }
    }

    /// How often to look.
    pub(super) fn period(&self) -> Duration {
        (self.silence / 8).clamp(Duration::from_millis(20), Duration::from_secs(5))
    }

    /// Whether it has been silent for too long.
    pub(super) fn is_silent(&mut self, now: Instant) -> bool {
        let moved = self.monitor.moved.load(Ordering::Relaxed);
        let idle = self.monitor.requests.load(Ordering::Relaxed) == 0;
        let waiting = idle || self.monitor.waiting.load(Ordering::Relaxed) > 0;
        // Without a request, bytes are no progress: a head that dribbles in is no request yet.
        let progress = !idle && moved - self.moved >= MIN_PROGRESS_BYTES;
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
        let monitor = Arc::new(IdleMonitor::default());
        let start = Instant::now();
        let mut watch = IdleTimer::new(Arc::clone(&monitor), Duration::from_secs(60));
        let mut silent_after = |seconds: u64| watch.is_silent(start + Duration::from_secs(seconds));
        // Without a request, bytes change nothing.
        monitor.moved.fetch_add(10_000, Ordering::Relaxed);
        assert!(!silent_after(30) && silent_after(61));
        let going = monitor.begin_request();
        // The server works.
        assert!(!silent_after(100) && !silent_after(1_000));
        let waiting = going.wait_for_client();
        assert!(!silent_after(1_050));
        monitor.moved.fetch_add(MIN_PROGRESS_BYTES, Ordering::Relaxed);
        assert!(!silent_after(1_059) && !silent_after(1_110));
        monitor.moved.fetch_add(MIN_PROGRESS_BYTES - 1, Ordering::Relaxed);
        assert!(silent_after(1_130));
        drop(waiting);
        assert!(!silent_after(1_131));
        drop(going);
        assert!(!silent_after(1_140) && silent_after(1_201));
    }
}
