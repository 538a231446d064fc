//! `Deadline`: how long a request may take, checked at every wait for the network.
//!
//! `ureq` keeps connections in a pool, where they outlive a request, and its timeouts can't be cancelled. So sockets have a
//! short timeout ([`POLL_INTERVAL`]), and every read and write loops in [`wait`] as long as the deadline of the current request
//! allows. That deadline is kept by the thread ([`Deadline::run`]), since a pooled connection can't hold it.

use std::cell::RefCell;
use std::io;
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::limits::Limits;
use crate::progress::Monitor;

/// How often a waiting thread checks for cancellation, and the timeout of every socket.
pub(crate) const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// A server that sends fewer bytes than this within the idle timeout counts as silent, so that it can't hold a client with a
/// byte now and then.
const MIN_BYTES: u64 = 1024;

thread_local! {
    /// The deadline of the request that this thread runs.
    static CURRENT: RefCell<Option<Deadline>> = const { RefCell::new(None) };
}

/// The bounds on one request and its answer: idle timeout, total time (`Limits::idle`, `Limits::total`) and cancellation.
#[derive(Debug, Clone)]
pub(crate) struct Deadline {
    /// Cancels the wait.
    monitor: Monitor,
    /// How long the server may be silent.
    idle: Duration,
    /// When the total time is over; `None` for no bound.
    end: Option<Instant>,
    /// The total time in seconds, for the error.
    total: u64,
    /// The time waited, and the bytes moved, since the idle timer was reset.
    waited: Duration,
    bytes: u64,
}

impl Deadline {
    /// Starts the clock. `idle_timeout` takes the place of `Limits::idle`.
    pub(crate) fn new(monitor: Monitor, limits: &Limits, idle_timeout: Option<Duration>) -> Self {
        // `Instant` overflows far in the future; such a limit means that there is none.
        let end = Instant::now().checked_add(Duration::from_secs(limits.total)).filter(|_| limits.total < 1 << 40);
        let idle = idle_timeout.unwrap_or(Duration::from_secs(limits.idle.min(1 << 40)));
        Self { monitor, idle, end, total: limits.total, waited: Duration::ZERO, bytes: 0 }
    }

    /// Runs `work` with this deadline as the thread's current one. Nested calls restore the outer deadline.
    pub(crate) fn run<T>(&mut self, work: impl FnOnce() -> T) -> T {
        /// Restores the previous deadline, also when `work` panics.
        struct Restore<'a>(&'a mut Deadline, Option<Deadline>);
        impl Drop for Restore<'_> {
            fn drop(&mut self) {
                if let Some(deadline) = CURRENT.with_borrow_mut(|current| std::mem::replace(current, self.1.take())) {
                    *self.0 = deadline;
                }
            }
        }
        let before = CURRENT.replace(Some(self.clone()));
        let _restore = Restore(self, before);
        work()
    }

    /// Replaces the monitor whose cancellation ends the wait.
    pub(crate) fn set_monitor(&mut self, monitor: Monitor) {
        self.monitor = monitor;
    }

    /// Resets the idle timer.
    pub(crate) fn restart(&mut self) {
        (self.waited, self.bytes) = (Duration::ZERO, 0);
    }

    /// Adds a wait and the bytes that came of it.
    ///
    /// # Errors
    /// `Cancelled`; `LimitExceeded` for `total`; `Remote`, transient, for a silent server.
    fn record(&mut self, waited: Duration, bytes: u64) -> Result<(), Error> {
        self.monitor.check()?;
        self.waited += waited;
        self.bytes = self.bytes.saturating_add(bytes);
        if self.end.is_some_and(|end| Instant::now() >= end) {
            return Err(Error::limit("total", self.total, "the time that the server's answer takes, in seconds,"));
        }
        if self.waited < self.idle {
            return Ok(());
        }
        if self.bytes < MIN_BYTES {
            let seconds = self.idle.as_secs();
            return Err(Error::remote(format!("the server was silent for {seconds} s")).transient());
        }
        self.restart();
        Ok(())
    }
}

/// Repeats one read or write of a socket, which times out after [`POLL_INTERVAL`], until it moves bytes or the current deadline
/// ends it.
pub(crate) fn wait(mut step: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        let began = Instant::now();
        let done = step();
        let bytes = match &done {
            Ok(count) => *count as u64,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => 0,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return done,
        };
        let elapsed = began.elapsed();
        CURRENT.with_borrow_mut(|current| match current {
            // A closed stream returns 0 at once; it must not count as silence.
            Some(_) if matches!(done, Ok(0)) => Ok(()),
            Some(deadline) => deadline.record(elapsed, bytes),
            None => Ok(()),
        })?;
        if done.is_ok() {
            return done;
        }
    }
}

/// Adds a wait that was not for a socket, like a DNS lookup, to the current deadline.
///
/// # Errors
/// Those of [`wait`].
pub(crate) fn check(waited: Duration) -> io::Result<()> {
    CURRENT.with_borrow_mut(|current| current.as_mut().map_or(Ok(()), |deadline| deadline.record(waited, 0)))?;
    Ok(())
}
