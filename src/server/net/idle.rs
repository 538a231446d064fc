//! Detects idle clients: counts the bytes of a connection, its requests, and how many of these wait for the client. A
//! connection is cut when the server waits for its client and the client transfers next to nothing; never because the
//! server itself is slow.
//!
//! # When a client counts as idle
//!
//! - Between requests: from the end of the last one, whatever bytes come. A head that arrives byte
//!   by byte is bounded by the head time and by this timer, too.
//! - While a body is sent or received and the server waits for the client: if it moves less than 1
//!   KiB within the timeout.
//! - Never while the handler works. A large image may be hashed for minutes before the first byte.
//!
//! The counters are atomics without an order between them: the timer looks every few seconds and
//! decides on differences, so a value that is a moment old changes nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::observed::Observer;

/// The bytes that count as progress within the idle timeout, so that a client can't hold a connection by a byte now and
/// then.
///
/// The slowest modem moves more.
const MIN_PROGRESS_BYTES: u64 = 1 << 10;

/// The counters of one connection.
#[derive(Debug, Default)]
pub(super) struct IdleMonitor {
    /// Bytes in both directions since the connection began. With TLS they are encrypted bytes.
    moved: AtomicU64,
    /// Requests whose head was received and whose response has not ended.
    requests: AtomicUsize,
    /// The requests that can't continue before the client reads or writes. With HTTP/2 there may be
    /// several.
    waiting: AtomicUsize,
}

/// A request that is being processed, until this is dropped.
#[derive(Debug)]
pub(super) struct ActiveRequest(Arc<IdleMonitor>);

/// The server waits for the client, until this is dropped.
#[derive(Debug)]
pub(super) struct ClientWait(Arc<IdleMonitor>);

impl IdleMonitor {
    /// Counts a request whose head was received.
    pub(super) fn begin_request(self: &Arc<Self>) -> ActiveRequest {
        self.requests.fetch_add(1, Ordering::Relaxed);
        ActiveRequest(Arc::clone(self))
    }

    /// Whether no request is being processed. A request whose head is incomplete does not count.
    pub(super) fn is_idle(&self) -> bool {
        self.requests.load(Ordering::Relaxed) == 0
    }

    /// Marks that a request can't continue before the client reads or writes, until the result is
    /// dropped.
    pub(super) fn wait_for_client(self: &Arc<Self>) -> ClientWait {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        ClientWait(Arc::clone(self))
    }
}

impl ActiveRequest {
    /// Marks that this request can't continue before the client reads or writes.
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

/// Decides, looking at an [`IdleMonitor`] periodically, when its client has been idle for too long.
#[derive(Debug)]
pub(super) struct IdleTimer {
    monitor: Arc<IdleMonitor>,
    /// When there was progress last.
    since: Instant,
    /// The bytes that had been transferred then.
    moved: u64,
    /// Whether there was no request then. The time starts again when a request begins or the last
    /// one ends.
    idle: bool,
    /// The timeout.
    silence: Duration,
}

impl IdleTimer {
    /// A timer that begins now, for a connection without a request.
    pub(super) fn new(monitor: Arc<IdleMonitor>, silence: Duration) -> Self {
        Self { monitor, since: Instant::now(), moved: 0, idle: true, silence }
    }

    /// How often to call [`IdleTimer::is_silent`].
    ///
    /// An eighth of the timeout, so that a client is cut late by an eighth at most.
    pub(super) fn period(&self) -> Duration {
        (self.silence / 8).clamp(Duration::from_millis(20), Duration::from_secs(5))
    }

    /// Whether the client has been idle for the whole timeout.
    pub(super) fn is_silent(&mut self, now: Instant) -> bool {
        let moved = self.monitor.moved.load(Ordering::Relaxed);
        let idle = self.monitor.requests.load(Ordering::Relaxed) == 0;
        // Also with several requests of HTTP/2: one that waits for its client is enough, since
        // bytes of any of them count as progress.
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
