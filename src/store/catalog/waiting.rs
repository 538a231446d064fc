//! Waiting for another writer of the catalog: as long as the caller said, and not once the caller wants to stop.
//! SQLite asks a plain function whether to go on, so what that needs to know belongs to the thread that waits.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::progress::Cancel;

/// What a thread waits for at most.
struct Patience {
    since: Instant,
    timeout: Duration,
    cancel: Cancel,
}

/// The first waits are short, since most writers are done in a moment.
const LONGEST_NAP: Duration = Duration::from_millis(25);

thread_local! {
    static PATIENCE: RefCell<Option<Patience>> = const { RefCell::new(None) };
}

/// Has a connection ask before each wait.
pub(super) fn prepare(connection: &mut Connection) -> rusqlite::Result<()> {
    connection.busy_handler(Some(goes_on))
}

/// Says how long this thread waits from now on.
pub(super) fn begin(timeout: Duration, cancel: &Cancel) {
    PATIENCE.set(Some(Patience { since: Instant::now(), timeout, cancel: cancel.clone() }));
}

/// Whether to try once more, after `times` attempts of one wait.
fn goes_on(times: i32) -> bool {
    PATIENCE.with_borrow_mut(|patience| {
        let Some(patience) = patience else { return false };
        if times == 0 {
            patience.since = Instant::now();
        }
        if patience.cancel.is_cancelled() || patience.since.elapsed() >= patience.timeout {
            return false;
        }
        let nap = Duration::from_millis(1_u64 << u32::try_from(times).unwrap_or(0).min(5));
        std::thread::sleep(nap.min(LONGEST_NAP));
        true
    })
}
