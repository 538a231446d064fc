//! [`Events`]: publishes what happens to operations and images to all listeners, each event serialized once.
//! Publishing never blocks: a listener whose queue is full is disconnected.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};
use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::error::{Error, ErrorKind, Result};
use crate::protocol::rest::Operation;
use crate::server::message::Client;

/// Listeners at once.
const MAX_LISTENERS: usize = 256;
/// Events in the queue of a listener before it is disconnected.
const MAX_QUEUED: usize = 1_024;

/// The types of events that a listener wants.
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

/// One listener.
struct EventListener {
    kinds: EventKinds,
    sender: Sender<Arc<str>>,
}

/// The listeners of a server.
#[derive(Default)]
pub(crate) struct Events(Mutex<Vec<EventListener>>);

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}

impl Events {
    /// Adds a listener.
    ///
    /// # Errors
    /// `Busy` when there are too many.
    pub(crate) fn listen(&self, kinds: EventKinds) -> Result<Receiver<Arc<str>>> {
        let mut listeners = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        listeners.retain(|listener| !listener.sender.is_closed());
        if listeners.len() >= MAX_LISTENERS {
            return Err(Error::new(ErrorKind::Busy, "too many clients listen to events of this server"));
        }
        let (sender, receiver) = channel(MAX_QUEUED);
        listeners.push(EventListener { kinds, sender });
        Ok(receiver)
    }

    /// Publishes a change of an operation, without the secret of a token: that is for the client that issued it only.
    pub(crate) fn operation(&self, operation: &Operation) {
        let told = || {
            let mut operation = operation.clone();
            operation.metadata.remove("secret");
            serde_json::to_value(operation).unwrap_or_default()
        };
        self.tell(|kinds| kinds.operation, "operation", told);
    }

    /// Publishes that `action` happened to `source`, a path like `/1.0/images/FINGERPRINT`.
    pub(crate) fn lifecycle(&self, action: &str, source: &str, context: &Value, client: &Client) {
        let requestor = match client {
            Client::Trusted(certificate) => json!({"username": certificate.to_string(), "protocol": "tls"}),
            Client::Untrusted => json!({"username": "", "protocol": ""}),
        };
        self.tell(
            |kinds| kinds.lifecycle,
            "lifecycle",
            || json!({"action": action, "source": source, "context": context, "requestor": requestor, "project": "default"}),
        );
    }

    /// Disconnects all listeners.
    pub(crate) fn stop(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn tell(&self, wants: impl Fn(EventKinds) -> bool, kind: &str, what: impl FnOnce() -> Value) {
        let mut listeners = self.0.lock().unwrap_or_else(PoisonError::into_inner);
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
        listeners.retain(|listener| !wants(listener.kinds) || listener.sender.try_send(Arc::clone(&text)).is_ok());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[test]
    fn a_listener_that_does_not_keep_up_is_left_behind_and_nobody_waits_for_it() {
        let events = Events::default();
        let mut slow = events.listen(EventKinds::of(None).unwrap()).unwrap();
        let mut none = events.listen(EventKinds::of(Some("logging")).unwrap()).unwrap();
        for _ in 0..MAX_QUEUED + 10 {
            events.operation(&Operation::default());
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
        let events = Events::default();
        let kinds = EventKinds::of(Some("lifecycle, operation")).unwrap();
        let mut all: Vec<_> = (0..MAX_LISTENERS).map(|_| events.listen(kinds).unwrap()).collect();
        assert_eq!(events.listen(kinds).unwrap_err().kind(), ErrorKind::Busy);
        all.pop();
        assert!(events.listen(kinds).is_ok());
        assert!(EventKinds::of(Some("everything")).is_err());
    }
}
