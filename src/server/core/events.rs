//! `Events`: what happens to operations and images, told to whoever listens, in texts that are made once for all of them.
//! Nobody waits for a listener: one that is too slow is left behind.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};
use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::error::{Error, ErrorKind, Result};
use crate::protocol::rest::Operation;
use crate::server::message::Client;

/// How many may listen at once.
const MAX_LISTENERS: usize = 256;
/// How many texts wait for one listener before it is left behind.
const MAX_QUEUED: usize = 1_024;

/// What a listener wants to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EventKinds {
    pub(crate) operation: bool,
    pub(crate) lifecycle: bool,
}

impl EventKinds {
    /// The kinds that a list names, separated by commas; without a list all of them. `logging` is one that says nothing here.
    ///
    /// # Errors
    /// `InvalidInput` for a name that is none.
    pub(crate) fn of(list: Option<&str>) -> Result<Self> {
        let Some(list) = list else { return Ok(Self { operation: true, lifecycle: true }) };
        let mut kinds = Self { operation: false, lifecycle: false };
        for name in list.split(',').map(str::trim) {
            match name {
                "operation" => kinds.operation = true,
                "lifecycle" => kinds.lifecycle = true,
                // Peers have more of them, of which nothing happens here.
                "logging" | "ovn" | "network-acl" => {}
                _ => return Err(Error::invalid("the types of events are operation, lifecycle and logging")),
            }
        }
        Ok(kinds)
    }
}

struct EventListener {
    kinds: EventKinds,
    sender: Sender<Arc<str>>,
}

/// Those who listen.
#[derive(Default)]
pub(crate) struct Events(Mutex<Vec<EventListener>>);

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}

impl Events {
    /// Begins to tell.
    ///
    /// # Errors
    /// `Busy` when too many listen.
    pub(crate) fn listen(&self, kinds: EventKinds) -> Result<Receiver<Arc<str>>> {
        let mut listeners = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        listeners.retain(|listener| !listener.sender.is_closed());
        if listeners.len() >= MAX_LISTENERS {
            return Err(Error::new(ErrorKind::Busy, "too many listen to this server's events"));
        }
        let (sender, receiver) = channel(MAX_QUEUED);
        listeners.push(EventListener { kinds, sender });
        Ok(receiver)
    }

    /// An operation changed. A secret in it is for whoever asked for it, and asks for the operation.
    pub(crate) fn operation(&self, operation: &Operation) {
        let told = || {
            let mut operation = operation.clone();
            operation.metadata.remove("secret");
            serde_json::to_value(operation).unwrap_or_default()
        };
        self.tell(|kinds| kinds.operation, "operation", told);
    }

    /// Something became of `source`, which is an address like `/1.0/images/FINGERPRINT`.
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

    /// Everybody is told that there is nothing more to come.
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
        // Who is gone and who is too slow are no longer told anything; the latter see the connection end.
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
