//! `Retry`: trying again what may pass by itself, with growing pauses.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::error::Result;
use crate::progress::Monitor;

/// A pause is slept in pieces no longer than this, so that a cancelled call ends soon.
const PIECE: Duration = Duration::from_millis(100);
/// No pause is longer.
const LONGEST: Duration = Duration::from_secs(30);

/// How often and after which pauses something is tried again that failed for a reason that may pass.
#[derive(Clone)]
#[non_exhaustive]
pub struct Retry {
    tries: u32,
    pause: Duration,
    sleep: Arc<dyn Fn(Duration) + Send + Sync>,
}

impl Default for Retry {
    fn default() -> Self {
        Self { tries: 5, pause: Duration::from_millis(500), sleep: Arc::new(std::thread::sleep) }
    }
}

impl fmt::Debug for Retry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retry").field("tries", &self.tries).field("pause", &self.pause).finish_non_exhaustive()
    }
}

impl Retry {
    /// Five tries, with half a second between the first two and twice as much each time after.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How often something is tried in all, before its error is the answer. A download that gets
    /// further counts anew.
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

    /// What waits, instead of [`std::thread::sleep`].
    #[must_use]
    pub fn sleep(mut self, sleep: impl Fn(Duration) + Send + Sync + 'static) -> Self {
        self.sleep = Arc::new(sleep);
        self
    }

    /// Whether there is one more try after `failures` of them.
    pub(crate) fn again(&self, failures: u32) -> bool {
        failures < self.tries
    }

    /// Waits as long as is due after `failures` tries.
    ///
    /// # Errors
    /// `Cancelled`.
    pub(crate) fn wait(&self, failures: u32, monitor: &Monitor) -> Result<()> {
        let mut left = self.pause.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(LONGEST);
        while !left.is_zero() {
            monitor.check()?;
            let piece = left.min(PIECE);
            (self.sleep)(piece);
            left -= piece;
        }
        monitor.check()
    }

    /// Does something until it succeeds, fails for good, or was tried often enough.
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
