//! [`Fleet`]: what the servers of one store tell each other, by the shared records of its catalog: operations,
//! lifecycle events, tokens, and who fetches which image. With it any server answers any request; without it (the
//! catalog is that of one machine) everything stays in the process.
//!
//! | record | id | content | lifetime |
//! |---|---|---|---|
//! | `operation-2` | UUID | its snapshot without secrets, the server that runs it | 60 s, renewed; 300 s after its end |
//! | `lifecycle` | server and number | one event | 60 s |
//! | `cancel`, `used` | UUID | for the server that runs the operation | 60 s |
//! | `token` | digest of the secret | what it allows | that of the token |
//! | `fetch` | fingerprint | the server that fetches it | 60 s, renewed |
//!
//! Requests read and write records themselves where they need the answer. Changes that nobody waits for are queued in
//! the outbox, which a thread of the fleet writes; the same thread reads the changes of other servers twice a second.
//! A server that dies stops renewing, so its operations and leases end within a minute.
//!
//! # Invariants
//!
//! - No lock is held while the catalog is asked. The outbox has a lock of its own, which is taken last.
//! - No record contains a secret: tokens are found by their digest.
//! - A change of an operation is a state, not a difference: if several are written at once, the last one counts.

pub(crate) mod joining;
mod lease;
mod outbox;
mod worker;

use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub(crate) use self::lease::FetchTurn;
use self::outbox::Outbox;
use crate::error::{Error, ErrorKind, Result};
use crate::server::core::operation::OperationSnapshot;
use crate::store::{MAX_RECORD_BYTES, SharedRecords, Store};

/// How often changes of other servers are read.
const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// How long the records of a server that died are kept.
const LIVE_LIFETIME: Duration = Duration::from_secs(60);
/// How often a server renews what it runs: three tries before it counts as dead.
const RENEW_INTERVAL: Duration = Duration::from_secs(20);
/// How long an ended operation is kept, for clients that ask later how it ended.
const ENDED_LIFETIME: Duration = Duration::from_secs(300);
/// How long a response waits until its operation is known to the other servers.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);
/// Operations of other servers in one list.
const MAX_LISTED: usize = 5_000;
/// Records of one read.
const PAGE: usize = 500;

/// The kind of the records of operations.
const OPERATION: &str = "operation-2";
/// The kind of the records of lifecycle events.
const LIFECYCLE: &str = "lifecycle";
/// The kind of the records of tokens.
pub(crate) const TOKEN: &str = "token";

/// What a server asks of the one that runs an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signal {
    /// To stop it.
    Cancel,
    /// To end it, since its token was used.
    Used,
}

impl Signal {
    const fn kind(self) -> &'static str {
        match self {
            Self::Cancel => "cancel",
            Self::Used => "used",
        }
    }
}

/// An operation as other servers see it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SharedOperation {
    /// The server that runs it.
    pub(crate) node: String,
    /// The digest of the secret by which an untrusted client may follow it.
    pub(crate) token: Option<String>,
    /// The operation without secrets.
    pub(crate) operation: OperationSnapshot,
}

impl SharedOperation {
    /// Whether its state is final.
    pub(crate) fn is_over(&self) -> bool {
        self.operation.status.is_over()
    }
}

/// The servers of one store, as one of them sees them.
pub(crate) struct Fleet {
    store: Store,
    /// The name of this server: random, new with each start.
    node: String,
    outbox: Outbox,
    leases: lease::Leases,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl std::fmt::Debug for Fleet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fleet").field("node", &self.node).finish_non_exhaustive()
    }
}

impl Fleet {
    /// The records of the catalog.
    ///
    /// # Errors
    /// `Io` if the catalog has none any more, which does not happen.
    pub(crate) fn records(&self) -> Result<&dyn SharedRecords> {
        self.store.shared_records().ok_or_else(|| Error::new(ErrorKind::Io, "the catalog has no shared records"))
    }

    /// Notes that an operation of this server changed.
    ///
    /// Called with the lock of the operations held: it only notes the ID.
    pub(crate) fn changed(&self, operation: &str) {
        self.outbox.changed(operation);
    }

    /// Queues a lifecycle event for the listeners of other servers.
    pub(crate) fn publish(&self, event: &Value) {
        self.outbox.publish(event.to_string());
    }

    /// Asks the server that runs an operation for something.
    ///
    /// # Errors
    /// Those of the catalog.
    pub(crate) fn signal(&self, signal: Signal, operation: &str) -> Result<()> {
        use crate::store::Expected;
        self.records()?.put(signal.kind(), operation, "", LIVE_LIFETIME, Expected::Any).map(|_| ())
    }

    /// An operation that another server runs; `None` if there is none.
    ///
    /// # Errors
    /// Those of the catalog.
    pub(crate) fn operation(&self, id: &str) -> Result<Option<SharedOperation>> {
        // IDs come from clients: one that can't be a name is none.
        if id.is_empty() || id.len() > 64 || id.contains('\0') {
            return Ok(None);
        }
        let found = self.records()?.get(OPERATION, id)?;
        Ok(found.and_then(|record| serde_json::from_str(&record.value).ok()))
    }

    /// The operations that other servers run.
    ///
    /// # Errors
    /// Those of the catalog.
    pub(crate) fn operations(&self) -> Result<Vec<OperationSnapshot>> {
        let mut found = Vec::new();
        let mut after = String::new();
        while found.len() < MAX_LISTED {
            let page = self.records()?.list(OPERATION, &after, PAGE)?;
            let is_last = page.len() < PAGE;
            for record in page {
                // One that a newer server wrote in another form is left to that server.
                if let Ok(shared) = serde_json::from_str::<SharedOperation>(&record.value)
                    && shared.node != self.node
                {
                    found.push(shared.operation);
                }
                after = record.id;
            }
            if is_last {
                break;
            }
        }
        Ok(found)
    }

    /// Waits until the changes of operations so far are known to the other servers: the client of a response may ask
    /// any of them next. Gives up after two seconds.
    pub(crate) fn flush(&self) {
        self.outbox.flush(FLUSH_TIMEOUT);
    }

    /// Writes what is queued, and ends the thread.
    pub(crate) fn stop(&self) {
        self.outbox.stop();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // A panic of the thread is no reason for another one.
            let _ = thread.join();
        }
    }

    /// The record of an operation.
    fn record(&self, mut operation: OperationSnapshot, token: Option<&str>) -> String {
        operation.remove_secret();
        let shared =
            |operation| SharedOperation { node: self.node.clone(), token: token.map(str::to_owned), operation };
        let text = serde_json::to_string(&shared(operation.clone())).unwrap_or_default();
        if text.len() <= MAX_RECORD_BYTES {
            return text;
        }
        // What remains says how it ended; the whole metadata is at the server that ran it.
        operation.metadata.clear();
        operation.metadata.insert("shortened".to_owned(), Value::Bool(true));
        // Four bytes are the longest character.
        operation.error = operation.error.chars().take(MAX_RECORD_BYTES / 16).collect();
        serde_json::to_string(&shared(operation)).unwrap_or_default()
    }
}
