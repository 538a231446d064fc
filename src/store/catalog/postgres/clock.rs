//! [`Clock`]: the time of the database, asked for rarely and kept in step by a clock that counts
//! sleep as well.
//!
//! Leases are compared by many machines, so none of their clocks may be trusted. Every transaction
//! brings the time of the database with it.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// How long a reading is used before the database is asked again. A machine whose own clock stood
/// still meanwhile, as that of a paused virtual machine does, lags for so long at most.
const MAX_AGE: Duration = Duration::from_secs(1);

/// The database's time at one moment of this machine.
#[derive(Clone, Copy)]
struct Reading {
    seconds: i64,
    at: Duration,
}

/// The database's clock.
pub(super) struct Clock(Mutex<Reading>);

/// The time since this machine was started, in which it may have slept.
pub(super) fn since_boot() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// The statement that reads the clock. Not `now()`, which stands still in a transaction.
pub(super) const READ_CLOCK: &str = "SELECT floor(extract(epoch FROM clock_timestamp()))::bigint";

impl Clock {
    /// A clock that was just read.
    pub(super) fn new(seconds: i64) -> Self {
        Self(Mutex::new(Reading { seconds, at: since_boot() }))
    }

    /// Records what the database said just now.
    pub(super) fn set(&self, seconds: i64) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Reading { seconds, at: since_boot() };
    }

    /// The time, and whether it is so old that the database should be asked.
    pub(super) fn get(&self) -> (i64, bool) {
        let reading = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let age = since_boot().saturating_sub(reading.at);
        let seconds = reading.seconds.saturating_add(i64::try_from(age.as_secs()).unwrap_or(i64::MAX));
        (seconds, age > MAX_AGE)
    }
}
