//! [`Watch`]: a number that changes with each change of images or aliases.
//!
//! A counter in a row would make all writers wait for each other. A sequence would not, but it
//! counts before the commit: a reader that sees the new number and still the old rows would keep
//! them for good. So every transaction that changes images inserts a row of its own into `change`,
//! under the number of the transaction, and the question is whether *a row has become visible*:
//!
//! - A look at the table sees one snapshot, as every statement does. All transactions below its
//!   `xmin` have ended, so no row below it can appear any more: it is the *floor* of the next look.
//! - The next look combines the random numbers of all visible rows at or above that floor. If the
//!   result is the same, no row was added in between: nothing was committed. Rows of transactions
//!   that committed late, out of the order of their numbers, are at or above the floor, and are seen.
//! - Few rows are read: those of transactions that ended since the last look, and those above the
//!   oldest transaction that still runs on the server.
//!
//! Old rows are deleted after [`KEPT`]; whoever has not looked for half of that time assumes a
//! change. So does whoever meets a server that was started at another time: after a failover or a
//! restored backup, rows may be gone that were seen.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio_postgres::types::Type;

use super::failure::Outcome;
use super::runtime::Patience;
use super::session::Session;
use crate::error::Error;

/// How long rows of `change` and `commit_log` are kept.
pub(super) const KEPT: Duration = Duration::from_secs(60 * 60);

/// What was seen last.
#[derive(Default)]
pub(super) struct Watch(Mutex<State>);

#[derive(Default)]
struct State {
    /// The number that was returned.
    number: u64,
    seen: Option<Seen>,
}

struct Seen {
    /// The number of a transaction; all before it had ended.
    floor: String,
    /// The visible rows from the floor on: their number, and their random numbers combined.
    rows: (i64, i64),
    /// When the server was started, as a text.
    server: String,
    /// The time of the server in seconds.
    time: i64,
}

/// Looks at the rows from a floor ($1) on, and at those from the next floor on, in one snapshot.
pub(super) const LOOK: &str = "\
    WITH state AS MATERIALIZED (SELECT pg_snapshot_xmin(pg_current_snapshot()) AS floor) \
    SELECT (SELECT floor::text FROM state), pg_postmaster_start_time()::text, \
        extract(epoch FROM clock_timestamp())::bigint, old.count, old.sum, new.count, new.sum \
    FROM (SELECT count(*), coalesce(bit_xor(nonce), 0) AS sum FROM @.change WHERE xid >= $1::text::xid8) AS old, \
        (SELECT count(*), coalesce(bit_xor(nonce), 0) AS sum FROM @.change WHERE xid >= (SELECT floor FROM state)) AS new";

impl Watch {
    /// The number of the last change.
    ///
    /// The state is locked only before and after the question, so that a slow one holds up nobody.
    /// Of two at once, the one that began with an outdated state asks again.
    pub(super) fn version(&self, session: &Session, patience: &Patience) -> Outcome<u64> {
        loop {
            let (number, floor) = {
                let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                (state.number, state.seen.as_ref().map_or_else(|| "0".to_owned(), |seen| seen.floor.clone()))
            };
            let rows = session.query(&session.sql(LOOK), &[(&floor, Type::TEXT)], patience)?;
            let (old, new) = decode(&rows)
                .map_err(|error| Error::malformed("the catalog does not tell its changes").with_source(error))?;
            let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let current = state.seen.as_ref().map_or("0", |seen| seen.floor.as_str());
            if state.number != number || current != floor {
                continue;
            }
            let most = i64::try_from(KEPT.as_secs() / 2).unwrap_or(i64::MAX);
            let is_same = state.seen.as_ref().is_some_and(|seen| {
                seen.rows == old && seen.server == new.server && new.time.saturating_sub(seen.time).abs() < most
            });
            if !is_same {
                state.number = state.number.wrapping_add(1);
            }
            state.seen = Some(new);
            return Ok(state.number);
        }
    }
}

/// The rows from the old floor on, and what the next look begins with.
fn decode(rows: &[tokio_postgres::Row]) -> Result<((i64, i64), Seen), Box<dyn std::error::Error + Send + Sync>> {
    let row = rows.first().ok_or("no row")?;
    let seen = Seen {
        floor: row.try_get(0)?,
        server: row.try_get(1)?,
        time: row.try_get(2)?,
        rows: (row.try_get(5)?, row.try_get(6)?),
    };
    Ok(((row.try_get(3)?, row.try_get(4)?), seen))
}
