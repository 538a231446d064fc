//! How long the current thread waits for a server, and whether it still should: silence, the deadline, cancellation.
//! A connection is taken from a pool and outlives a request, so what concerns the request is kept by its thread.

use std::cell::RefCell;
use std::io;
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::limits::Limits;
use crate::progress::Monitor;

/// How often a thread that waits looks whether it was cancelled.
pub(crate) const SLICE: Duration = Duration::from_millis(100);
/// Fewer bytes than this within the time that counts as silence are silence.
const LEAST: u64 = 1024;

thread_local! {
    static CURRENT: RefCell<Option<Watch>> = const { RefCell::new(None) };
}

/// What is waited for, and how long.
#[derive(Debug, Clone)]
pub(crate) struct Watch {
    monitor: Monitor,
    idle: Duration,
    end: Option<Instant>,
    total: u64,
    waited: Duration,
    bytes: u64,
}

impl Watch {
    pub(crate) fn new(monitor: Monitor, limits: &Limits, patience: Option<Duration>) -> Self {
        // Beyond what a clock can say there is no deadline.
        let end = Instant::now().checked_add(Duration::from_secs(limits.total)).filter(|_| limits.total < 1 << 40);
        let idle = patience.unwrap_or(Duration::from_secs(limits.idle.min(1 << 40)));
        Self { monitor, idle, end, total: limits.total, waited: Duration::ZERO, bytes: 0 }
    }

    /// Runs `work` under this watch.
    pub(crate) fn over<T>(&mut self, work: impl FnOnce() -> T) -> T {
        /// Puts back what was there, also when `work` panics.
        struct Back<'a>(&'a mut Watch, Option<Watch>);
        impl Drop for Back<'_> {
            fn drop(&mut self) {
                if let Some(watch) = CURRENT.with_borrow_mut(|current| std::mem::replace(current, self.1.take())) {
                    *self.0 = watch;
                }
            }
        }
        let before = CURRENT.replace(Some(self.clone()));
        let _back = Back(self, before);
        work()
    }

    /// Listens to somebody else from here on.
    pub(crate) fn hand_to(&mut self, monitor: Monitor) {
        self.monitor = monitor;
    }

    /// Begins to count silence anew.
    pub(crate) fn restart(&mut self) {
        (self.waited, self.bytes) = (Duration::ZERO, 0);
    }

    fn note(&mut self, waited: Duration, bytes: u64) -> Result<(), Error> {
        self.monitor.check()?;
        self.waited += waited;
        self.bytes = self.bytes.saturating_add(bytes);
        if self.end.is_some_and(|end| Instant::now() >= end) {
            return Err(Error::limit("total", self.total, "the time that the server's answer takes, in seconds,"));
        }
        if self.waited < self.idle {
            return Ok(());
        }
        if self.bytes < LEAST {
            let seconds = self.idle.as_secs();
            return Err(Error::remote(format!("the server was silent for {seconds} s")).transient());
        }
        self.restart();
        Ok(())
    }
}

/// Waits for one input or output step, which gives up by itself after [`SLICE`], as long as the current watch allows.
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
            // The end of a stream is no silence.
            Some(_) if matches!(done, Ok(0)) => Ok(()),
            Some(watch) => watch.note(elapsed, bytes),
            None => Ok(()),
        })?;
        if done.is_ok() {
            return done;
        }
    }
}

/// Counts a wait that is over, and fails when there must be no further one.
pub(crate) fn check(waited: Duration) -> io::Result<()> {
    CURRENT.with_borrow_mut(|current| current.as_mut().map_or(Ok(()), |watch| watch.note(waited, 0)))?;
    Ok(())
}
