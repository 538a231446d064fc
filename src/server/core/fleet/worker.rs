//! The thread of a fleet: writes what is queued, and reads what other servers wrote.

use std::collections::HashMap;
use std::time::Instant;

use serde_json::Value;

use super::outbox::Batch;
use super::{
    ENDED_LIFETIME, Fleet, LIFECYCLE, LIVE_LIFETIME, OPERATION, PAGE, POLL_INTERVAL, RENEW_INTERVAL, SharedOperation,
    Signal,
};
use crate::error::Result;
use crate::server::core::notes::Notes;
use crate::server::core::operations::Operations;
use crate::store::{Expected, SharedRecord};

/// How far below the highest revision that was seen is read again: writes at the same moment may become visible out
/// of order.
const REREAD: u64 = 256;
/// Pages of one reading: after a long outage the rest comes with the next one.
const MAX_PAGES: usize = 20;

/// Runs until the fleet is stopped.
pub(super) fn run(fleet: &Fleet, operations: &Operations, notes: &Notes) {
    let mut changes = Changes::default();
    let mut number = 0_u64;
    let (mut read_at, mut renewed_at) = (None::<Instant>, Instant::now());
    let mut failing = false;
    while let Some(batch) = fleet.outbox.next(POLL_INTERVAL) {
        let mut done = write(fleet, operations, batch, &mut number);
        if done.is_ok() && read_at.is_none_or(|at| at.elapsed() >= POLL_INTERVAL) {
            read_at = Some(Instant::now());
            done = changes.read(fleet, operations);
        }
        if done.is_ok() && renewed_at.elapsed() >= RENEW_INTERVAL {
            renewed_at = Instant::now();
            done = renew(fleet, operations);
        }
        match done {
            Ok(()) => failing = false,
            Err(error) => {
                // Once for each outage.
                if !failing {
                    notes.fleet(&error);
                }
                failing = true;
                if !fleet.outbox.is_stopped() {
                    std::thread::sleep(POLL_INTERVAL);
                }
            }
        }
    }
}

/// Writes a batch. What could not be written goes back into the outbox.
fn write(fleet: &Fleet, operations: &Operations, mut batch: Batch, number: &mut u64) -> Result<()> {
    let mut done = Ok(());
    while let Some(id) = batch.operations.pop_first() {
        done = write_operation(fleet, operations, &id);
        if done.is_err() {
            batch.operations.insert(id);
            break;
        }
    }
    while done.is_ok()
        && let Some(event) = batch.events.pop_front()
    {
        *number += 1;
        let id = format!("{}-{number}", fleet.node);
        let put = || fleet.records()?.put(LIFECYCLE, &id, &event, LIVE_LIFETIME, Expected::Any);
        done = put().map(|_| ());
        if done.is_err() {
            batch.events.push_front(event);
        }
    }
    if done.is_ok() {
        batch.lost = 0;
    }
    fleet.outbox.written(batch);
    done
}

/// Writes an operation of this server as it is now. One that was dropped from the registry has expired everywhere.
fn write_operation(fleet: &Fleet, operations: &Operations, id: &str) -> Result<()> {
    let Some((operation, token)) = operations.shared_snapshot(id) else { return Ok(()) };
    let lifetime = if operation.status.is_over() { ENDED_LIFETIME } else { LIVE_LIFETIME };
    let record = fleet.record(operation, token.as_deref());
    fleet.records()?.put(OPERATION, id, &record, lifetime, Expected::Any).map(|_| ())
}

/// Renews what this server runs, and removes what nobody renewed.
fn renew(fleet: &Fleet, operations: &Operations) -> Result<()> {
    for id in operations.running() {
        write_operation(fleet, operations, &id)?;
    }
    fleet.renew_leases()?;
    fleet.records()?.expire().map(|_| ())
}

/// The changes of other servers.
#[derive(Debug, Default)]
struct Changes {
    /// The highest revision that was seen.
    highest: u64,
    /// The revisions that were seen near it, by kind and id.
    seen: HashMap<(String, String), u64>,
    /// Whether the first reading is done: what was there before this server is no news.
    begun: bool,
}

impl Changes {
    /// Reads what is new, and tells the operations and listeners of this server.
    fn read(&mut self, fleet: &Fleet, operations: &Operations) -> Result<()> {
        let mut from = self.highest.saturating_sub(REREAD);
        for _ in 0..MAX_PAGES {
            let page = fleet.records()?.newer(from, PAGE)?;
            let is_last = page.len() < PAGE;
            for record in page {
                from = record.revision;
                self.highest = self.highest.max(record.revision);
                let key = (record.kind.clone(), record.id.clone());
                let is_new = self.seen.insert(key, record.revision) != Some(record.revision);
                if is_new && self.begun {
                    deliver(fleet, operations, &record);
                }
            }
            if is_last {
                self.begun = true;
                break;
            }
        }
        let floor = self.highest.saturating_sub(REREAD);
        self.seen.retain(|_, revision| *revision > floor);
        Ok(())
    }
}

/// Hands a record of another server to those whom it concerns.
fn deliver(fleet: &Fleet, operations: &Operations, record: &SharedRecord) {
    match record.kind.as_str() {
        OPERATION => {
            if let Ok(shared) = serde_json::from_str::<SharedOperation>(&record.value)
                && shared.node != fleet.node
            {
                operations.events().operation(&shared.operation);
            }
        }
        LIFECYCLE if !record.id.starts_with(&fleet.node) => {
            if let Ok(event) = serde_json::from_str::<Value>(&record.value) {
                operations.events().relay_lifecycle(event);
            }
        }
        // Without effect for the operations of other servers, and for those that have ended.
        kind if kind == Signal::Cancel.kind() => _ = operations.cancel(&record.id),
        kind if kind == Signal::Used.kind() => operations.used(&record.id),
        _ => {}
    }
}
