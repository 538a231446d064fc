//! Waiting for another writer of the catalog: as long as the caller said, and not once the caller wants to stop.
//! SQLite asks a plain function whether to go on, so what that needs to know belongs to the thread that waits.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::progress::Cancel;

/// What a thread waits for at most.
struct WaitLimit {
    since: Instant,
    timeout: Duration,
    cancel: Cancel,
}

/// The first waits are short, since most writers are done in a moment.
const MAX_SLEEP: Duration = Duration::from_millis(25);

thread_local! {
    static WAIT_LIMIT: RefCell<Option<WaitLimit>> = const { RefCell::new(None) };
}

/// Has a connection ask before each wait.
pub(super) fn prepare(connection: &mut Connection) -> rusqlite::Result<()> {
    connection.busy_handler(Some(retries))
}

/// Says how long this thread waits from now on.
pub(super) fn begin(timeout: Duration, cancel: &Cancel) {
    WAIT_LIMIT.set(Some(WaitLimit { since: Instant::now(), timeout, cancel: cancel.clone() }));
}

/// Whether to try once more, after `times` attempts of one wait.
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
