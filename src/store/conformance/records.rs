//! The conformance suite of [`SharedRecords`]: one writer of several wins, expired records do not exist, and readers of
//! changes see each of them.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::owed;
use crate::error::Result;
use crate::store::catalog::{Expected, MAX_RECORD_BYTES, SharedRecords};

/// Long enough for the suite.
const LONG: Duration = Duration::from_secs(600);
/// Callers that want one thing at the same time.
const CALLERS: usize = 4;

/// Runs the suite on records without any of the kinds that begin with `suite`, and removes its own.
///
/// # Errors
/// `InvalidInput` with a sentence about the violated part of the contract; errors of the implementation.
pub fn shared_records(records: &dyn SharedRecords) -> Result<()> {
    let (kind, other) = ("suite-a", "suite-b");
    owed(records.list(kind, "", 1)?.is_empty(), "the suite begins with nothing")?;
    let first = records.put(kind, "1", "one", LONG, Expected::Absent)?;
    owed(first.is_some(), "an absent record can be created")?;
    owed(records.put(kind, "1", "two", LONG, Expected::Absent)?.is_none(), "a record is created once")?;
    owed(records.get(kind, "1")?.is_some_and(|found| found.value == "one"), "a refused write changes nothing")?;
    owed(records.get(other, "1")?.is_none(), "kinds are apart")?;
    let wrong = first.unwrap_or_default().wrapping_add(1_000);
    owed(records.put(kind, "1", "x", LONG, Expected::Revision(wrong))?.is_none(), "a wrong revision is refused")?;
    let second = records.put(kind, "1", "zwei \u{1f600}", LONG, Expected::Revision(first.unwrap_or_default()))?;
    owed(second > first, "a write has a higher revision")?;
    owed(records.get(kind, "1")?.is_some_and(|found| found.value == "zwei \u{1f600}"), "a value comes back")?;
    owed(records.put(kind, "none", "x", LONG, Expected::Revision(1))?.is_none(), "an absent record has no revision")?;

    records.put(kind, "2", "", LONG, Expected::Any)?;
    records.put(kind, "3", "three", LONG, Expected::Any)?;
    let ids = |found: Vec<crate::store::SharedRecord>| found.into_iter().map(|record| record.id).collect::<Vec<_>>();
    owed(ids(records.list(kind, "", 10)?) == ["1", "2", "3"], "a list is in the order of ids")?;
    owed(ids(records.list(kind, "1", 1)?) == ["2"], "a list goes on after an id")?;
    let newer: BTreeSet<_> = ids(records.newer(second.unwrap_or_default(), 1_000)?).into_iter().collect();
    owed(newer == BTreeSet::from(["2".to_owned(), "3".to_owned()]), "newer records are those written later")?;

    owed(records.take(kind, "2")?.is_some() && records.take(kind, "2")?.is_none(), "a record is taken once")?;
    records.put(kind, "2", "short", Duration::ZERO, Expected::Any)?;
    owed(records.get(kind, "2")?.is_none() && records.take(kind, "2")?.is_none(), "an expired record does not exist")?;
    owed(ids(records.list(kind, "", 10)?) == ["1", "3"], "a list has no expired records")?;
    owed(records.put(kind, "2", "again", LONG, Expected::Absent)?.is_some(), "an expired record can be created")?;
    records.put(kind, "gone", "x", Duration::ZERO, Expected::Any)?;
    owed(records.expire()? >= 1, "expired records are removed")?;

    for (id, value) in [("", "x".to_owned()), ("x", "x".repeat(MAX_RECORD_BYTES + 1)), ("a\0", String::new())] {
        owed(records.put(kind, id, &value, LONG, Expected::Any).is_err(), "what cannot be written is refused")?;
    }
    let winners = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..CALLERS {
            scope.spawn(|| {
                if matches!(records.put(kind, "race", "x", LONG, Expected::Absent), Ok(Some(_))) {
                    winners.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    owed(winners.load(Ordering::Relaxed) == 1, "one of several callers creates a record")?;
    for record in records.list(kind, "", 100)? {
        records.take(kind, &record.id)?;
    }
    owed(records.list(kind, "", 1)?.is_empty(), "records can be removed")
}
