//! `RetryPolicy`: how often and after which pauses a transient failure is tried again.
//!
//! Only requests that change nothing, and parts of an upload, are retried. What fails for good (`NotFound`, `Mismatch`, a
//! refused certificate) is not: see [`Error::is_transient`](crate::Error::is_transient).

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::error::Result;
use crate::progress::Monitor;

/// A pause is slept in pieces no longer than this, so that a cancelled call ends soon.
const SLEEP_SLICE: Duration = Duration::from_millis(100);
/// The longest pause.
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// How often and after which pauses something is tried again after a transient failure.
///
/// ```
/// use lxd_image::remote::{ClientOptions, RetryPolicy};
/// use std::time::Duration;
///
/// // Pauses of 1, 2 and 4 seconds.
/// let options = ClientOptions::new().retry(RetryPolicy::new().tries(4).pause(Duration::from_secs(1)));
/// # let _ = options;
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub struct RetryPolicy {
    /// Tries in all, at least 1.
    tries: u32,
    /// The first pause; it doubles each time, up to [`MAX_PAUSE`].
    pause: Duration,
    /// What sleeps.
    sleep: Arc<dyn Fn(Duration) + Send + Sync>,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { tries: 5, pause: Duration::from_millis(500), sleep: Arc::new(std::thread::sleep) }
    }
}

impl fmt::Debug for RetryPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryPolicy").field("tries", &self.tries).field("pause", &self.pause).finish_non_exhaustive()
    }
}

impl RetryPolicy {
    /// Five tries, with half a second between the first two and twice as much each time after.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The number of tries in all, at least 1, before the error is returned. A download that makes progress between two
    /// failures starts counting again.
    #[must_use]
    pub fn tries(mut self, tries: u32) -> Self {
        self.tries = tries.max(1);
        self
    }

    /// How long to wait before the second try. Each further pause is twice as long, up to half a minute.
    #[must_use]
    pub fn pause(mut self, pause: Duration) -> Self {
        self.pause = pause;
        self
    }

    /// Sleeps with this function instead of [`std::thread::sleep`]: for tests, and for hosts that schedule their own waits.
    #[must_use]
    pub fn sleep(mut self, sleep: impl Fn(Duration) + Send + Sync + 'static) -> Self {
        self.sleep = Arc::new(sleep);
        self
    }

    /// Whether another try is due after `failures` failures.
    pub(crate) fn again(&self, failures: u32) -> bool {
        failures < self.tries
    }

    /// Sleeps for the pause that is due after `failures` failures.
    ///
    /// # Errors
    /// `Cancelled`.
    pub(crate) fn wait(&self, failures: u32, monitor: &Monitor) -> Result<()> {
        let mut left = self.pause.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(MAX_PAUSE);
        while !left.is_zero() {
            monitor.check()?;
            let slice = left.min(SLEEP_SLICE);
            (self.sleep)(slice);
            left -= slice;
        }
        monitor.check()
    }

    /// Repeats `work` until it succeeds, fails for good, or has used up its tries. Nothing that runs in here may retry by
    /// itself, or tries would multiply.
    pub(crate) fn run<T>(&self, monitor: &Monitor, mut work: impl FnMut() -> Result<T>) -> Result<T> {
        let mut failures = 0;
        loop {
            match work() {
                Err(error) if error.is_transient() => {
                    failures += 1;
                    if !self.again(failures) {
                        return Err(error);
                    }
                    self.wait(failures, monitor)?;
                }
                done => return done,
            }
        }
    }
}
