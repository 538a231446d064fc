//! Waiting for another writer of the SQLite database: up to a timeout, and only until the caller cancels.
//!
//! SQLite calls a plain function to ask whether to retry (`sqlite3_busy_handler`). That function
//! gets no context from us, so the limit belongs to the thread that waits.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::progress::Cancel;

/// How long the current thread waits.
struct WaitLimit {
    since: Instant,
    timeout: Duration,
    cancel: Cancel,
}

/// The longest sleep between two attempts. The first ones are shorter, since most transactions take
/// less than a millisecond.
const MAX_SLEEP: Duration = Duration::from_millis(25);

thread_local! {
    static WAIT_LIMIT: RefCell<Option<WaitLimit>> = const { RefCell::new(None) };
}

/// Installs the busy handler on a connection.
pub(super) fn prepare(connection: &mut Connection) -> rusqlite::Result<()> {
    connection.busy_handler(Some(retries))
}

/// Sets how long calls of this thread wait from now on.
pub(super) fn begin(timeout: Duration, cancel: &Cancel) {
    WAIT_LIMIT.set(Some(WaitLimit { since: Instant::now(), timeout, cancel: cancel.clone() }));
}

/// The busy handler: whether to try again after `times` attempts of one wait. Sleeps before it answers yes.
fn retries(times: i32) -> bool {
    WAIT_LIMIT.with_borrow_mut(|limit| {
        let Some(limit) = limit else { return false };
        if times == 0 {
            limit.since = Instant::now();
        }
        if limit.cancel.is_cancelled() || limit.since.elapsed() >= limit.timeout {
            return false;
        }
        let nap = Duration::from_millis(1_u64 << u32::try_from(times).unwrap_or(0).min(5));
        std::thread::sleep(nap.min(MAX_SLEEP));
        true
    })
}
