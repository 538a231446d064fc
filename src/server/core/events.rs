//! [`Events`]: publishes what happens to operations and images to all listeners of `GET
//! /1.0/events`, each event serialized once.
//!
//! Publishing never blocks: a listener whose queue is full is disconnected. It would miss events
//! otherwise without knowing it; a client of LXD or Incus reconnects and reads the state again.
//!
//! Events have the format of LXD's `doc/events.md`: a type, a time and metadata. Two types occur
//! here: `operation`, with the object that the API has for it, and `lifecycle`, with an action such
//! as `image-created`, the path of what it happened to, and the client that caused it. Events of
//! type `logging` do not occur: the log of the server may contain what no client should read.
//!
//! The order of events about one operation is the order of its changes, because both happen under
//! the lock of the registry of operations. Between different operations no order is promised.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};
use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::error::{Error, ErrorKind, Result};
use crate::server::core::client::Client;
use crate::server::core::operation::OperationSnapshot;

/// Listeners at once. Each holds a connection and a queue, and every event is offered to all of
/// them.
const MAX_LISTENERS: usize = 256;
/// Events in the queue of a listener before it is disconnected. A client that reads at all keeps up
/// with far more than the one event per second and operation that a running task publishes.
const MAX_QUEUED: usize = 1_024;

/// The types of events that a listener wants.
///
/// A client names them in `?type=`; LXD's clients ask for `operation` while they wait for one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EventKinds {
    /// Changes of operations.
    pub(crate) operation: bool,
    /// Changes of images and aliases.
    pub(crate) lifecycle: bool,
}

impl EventKinds {
    /// Parses a comma-separated list of types; without one, all. `logging` and types of other LXD features are valid,
    /// and have no events here.
    ///
    /// # Errors
    /// `InvalidInput` for a name that is no type.
    pub(crate) fn of(list: Option<&str>) -> Result<Self> {
        let Some(list) = list else { return Ok(Self { operation: true, lifecycle: true }) };
        let mut kinds = Self { operation: false, lifecycle: false };
        for name in list.split(',').map(str::trim) {
            match name {
                "operation" => kinds.operation = true,
                "lifecycle" => kinds.lifecycle = true,
                // Types of LXD and Incus whose events do not occur here.
                "logging" | "ovn" | "network-acl" => {}
                _ => return Err(Error::invalid("the types of events are operation, lifecycle and logging")),
            }
        }
        Ok(kinds)
    }
}

/// One listener: a queue whose other end is the body of its response.
struct EventListener {
    /// The types that the client asked for.
    kinds: EventKinds,
    /// The sending end of its queue. The text is shared between all listeners of an event.
    sender: Sender<Arc<str>>,
}

/// Makes the object that listeners are told of an operation.
pub(crate) type OperationObject = fn(&OperationSnapshot) -> Value;

/// The listeners of a server. A listener that disconnects is removed at the next event of its
/// types, or when the next listener is added.
pub(crate) struct Events {
    listeners: Mutex<Vec<EventListener>>,
    object: OperationObject,
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}

impl Events {
    /// Nobody listens yet. `object` makes what an event tells of an operation.
    pub(crate) fn new(object: OperationObject) -> Self {
        Self { listeners: Mutex::default(), object }
    }

    /// Adds a listener.
    ///
    /// The receiver yields each event as one JSON text. It ends at shutdown, and when the listener
    /// did not keep up. Nothing is sent about the past: a client that wants the current state
    /// listens first, and reads the state then, or it misses what happens in between.
    ///
    /// # Errors
    /// `Busy` when there are too many.
    pub(crate) fn listen(&self, kinds: EventKinds) -> Result<Receiver<Arc<str>>> {
        let mut listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        // Closed ones are removed here as well, or a quiet server would refuse listeners that are
        // long gone.
        listeners.retain(|listener| !listener.sender.is_closed());
        if listeners.len() >= MAX_LISTENERS {
            return Err(Error::new(ErrorKind::Busy, "too many clients listen to events of this server"));
        }
        let (sender, receiver) = channel(MAX_QUEUED);
        listeners.push(EventListener { kinds, sender });
        Ok(receiver)
    }

    /// Publishes a change of an operation, without the secret of a token: that is for the client that issued it only.
    pub(crate) fn operation(&self, operation: &OperationSnapshot) {
        let told = || {
            let mut operation = operation.clone();
            // Every trusted client sees the event; only the one that asked for the token may have
            // the secret.
            operation.remove_secret();
            (self.object)(&operation)
        };
        self.tell(|kinds| kinds.operation, "operation", told);
    }

    /// Publishes that `action` happened to `source`, a path like `/1.0/images/FINGERPRINT`.
    ///
    /// `context` has details in the keys that LXD uses for the action, and is `null` where it has
    /// none. The requestor is the SHA-256 of the client's certificate, or empty for an untrusted
    /// client that caused a download.
    ///
    /// `share` takes the event to the listeners of other servers, where there can be some.
    pub(super) fn lifecycle(
        &self,
        action: &str,
        source: &str,
        context: &Value,
        client: &Client,
        share: Option<&dyn Fn(&Value)>,
    ) {
        let requestor = match client {
            Client::Trusted(certificate) => json!({"username": certificate.to_string(), "protocol": "tls"}),
            Client::Untrusted => json!({"username": "", "protocol": ""}),
        };
        let metadata = || json!({"action": action, "source": source, "context": context, "requestor": requestor, "project": "default"});
        if let Some(share) = share {
            share(&metadata());
        }
        self.tell(|kinds| kinds.lifecycle, "lifecycle", metadata);
    }

    /// Publishes what happened at another server.
    pub(super) fn relay_lifecycle(&self, metadata: Value) {
        self.tell(|kinds| kinds.lifecycle, "lifecycle", || metadata);
    }

    /// Disconnects all listeners, as part of the shutdown. Events that are queued are still
    /// delivered.
    pub(crate) fn stop(&self) {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Serializes an event if at least one listener wants its type, and queues it for those who do.
    /// `what` is called only then: most of the time nobody listens.
    fn tell(&self, wants: impl Fn(EventKinds) -> bool, kind: &str, what: impl FnOnce() -> Value) {
        let mut listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        if !listeners.iter().any(|listener| wants(listener.kinds)) {
            return;
        }
        let text: Arc<str> = json!({
            "type": kind, "timestamp": jiff::Timestamp::now().to_string(), "metadata": what(),
            "location": "none", "project": "default",
        })
        .to_string()
        .into();
        // Listeners that are gone or too slow are dropped; the latter see their connection end.
        // `try_send`, because the caller holds the lock of the operations: it must never wait for a
        // client.
        listeners.retain(|listener| !wants(listener.kinds) || listener.sender.try_send(Arc::clone(&text)).is_ok());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use std::collections::BTreeMap;

    use super::*;
    use crate::server::core::operation::{Class, Status};

    #[test]
    fn listener_that_does_not_keep_up_is_left_behind_and_nobody_waits_for_it() {
        let events = Events::new(|_| Value::Null);
        let mut slow = events.listen(EventKinds::of(None).unwrap()).unwrap();
        let mut none = events.listen(EventKinds::of(Some("logging")).unwrap()).unwrap();
        let operation = OperationSnapshot {
            id: String::new(),
            class: Class::Task,
            description: String::new(),
            created_at: String::new(),
            updated_at: String::new(),
            status: Status::Running,
            images: Vec::new(),
            metadata: BTreeMap::new(),
            error: String::new(),
        };
        for _ in 0..MAX_QUEUED + 10 {
            events.operation(&operation);
        }
        let mut told = 0;
        while slow.try_recv().is_ok() {
            told += 1;
        }
        assert_eq!(told, MAX_QUEUED);
        assert!(slow.is_closed(), "it was to be left behind");
        assert!(none.try_recv().is_err() && !none.is_closed());
    }

    #[test]
    fn only_so_many_listen_and_who_goes_makes_room() {
        let events = Events::new(|_| Value::Null);
        let kinds = EventKinds::of(Some("lifecycle, operation")).unwrap();
        let mut all: Vec<_> = (0..MAX_LISTENERS).map(|_| events.listen(kinds).unwrap()).collect();
        assert_eq!(events.listen(kinds).unwrap_err().kind(), ErrorKind::Busy);
        all.pop();
        assert!(events.listen(kinds).is_ok());
        assert!(EventKinds::of(Some("everything")).is_err());
    }
}
