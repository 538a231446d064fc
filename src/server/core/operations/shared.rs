//! Operations of all servers of a store: what clients ask for, wherever it runs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{MAX_WAIT, Operations};
use crate::error::{Error, Result};
use crate::server::core::access::not_found;
use crate::server::core::client::Client;
use crate::server::core::fleet::{Fleet, Signal};
use crate::server::core::operation::OperationSnapshot;
use crate::server::core::secret::SecretDigest;

/// How often an operation of another server is looked at while a client waits for it.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

impl Operations {
    /// Lets the other servers of the store know of these operations. Once, before the first one begins.
    pub(crate) fn share(&self, fleet: &Arc<Fleet>) {
        // The first fleet stays: a handler joins one.
        let _ = self.0.fleet.set(Arc::clone(fleet));
    }

    /// The other servers, if there can be some.
    pub(crate) fn fleet(&self) -> Option<&Arc<Fleet>> {
        self.0.fleet.get()
    }

    /// One operation of any server as it is now, with the secret of a token only at the server that issued it.
    ///
    /// # Errors
    /// Those of the catalog, for an operation that this server does not know.
    pub(crate) fn find(&self, id: &str) -> Result<Option<OperationSnapshot>> {
        match (self.get(id), self.fleet()) {
            (None, Some(fleet)) => Ok(fleet.operation(id)?.map(|shared| shared.operation)),
            (found, _) => Ok(found),
        }
    }

    /// All operations of all servers, the oldest first.
    ///
    /// # Errors
    /// Those of the catalog.
    pub(crate) fn list_all(&self) -> Result<Vec<OperationSnapshot>> {
        let mut all = self.list();
        if let Some(fleet) = self.fleet() {
            all.extend(fleet.operations()?);
            // RFC 3339 in UTC with a fraction of its own length: good enough for people.
            all.sort_by(|one, other| one.created_at.cmp(&other.created_at));
        }
        Ok(all)
    }

    /// Whether an untrusted client began this operation, at any server, with this secret.
    pub(crate) fn is_open_to(&self, id: &str, secret: &str) -> bool {
        if self.is_authenticated_by(id, secret) {
            return true;
        }
        let Some(fleet) = self.fleet().filter(|_| self.get(id).is_none()) else { return false };
        // Like a wrong secret while the catalog can't be asked.
        let Ok(Some(shared)) = fleet.operation(id) else { return false };
        shared.token.is_some_and(|digest| SecretDigest::of(secret).is_named(&digest))
    }

    /// Waits until an operation of any server ends, like [`wait`](Self::wait).
    ///
    /// # Errors
    /// `Busy` when too many clients wait; those of the catalog.
    pub(crate) fn wait_anywhere(&self, id: &str, time: Option<Duration>) -> Result<Option<OperationSnapshot>> {
        let Some(fleet) = self.fleet().filter(|_| self.get(id).is_none()) else { return self.wait(id, time) };
        let until = Instant::now() + time.unwrap_or(MAX_WAIT).min(MAX_WAIT);
        let Some(mut shared) = fleet.operation(id)? else { return Ok(None) };
        let _waiter = if shared.is_over() { None } else { Some(self.waiter()?) };
        while !shared.is_over() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || self.is_stopped() {
                break;
            }
            std::thread::sleep(left.min(LOOK_INTERVAL));
            // A server that died takes its operations along.
            let Some(now) = fleet.operation(id)? else { return Ok(None) };
            shared = now;
        }
        Ok(Some(shared.operation))
    }

    /// Asks an operation of any server to stop, like [`cancel`](Self::cancel). Another server hears of it within a
    /// second.
    ///
    /// # Errors
    /// `NotFound`; `InvalidInput` for an operation that has ended; those of the catalog.
    pub(crate) fn cancel_anywhere(&self, id: &str) -> Result<()> {
        let Some(fleet) = self.fleet().filter(|_| self.get(id).is_none()) else { return self.cancel(id) };
        let Some(shared) = fleet.operation(id)? else { return Err(not_found()) };
        if shared.is_over() {
            return Err(Error::invalid("the operation has ended already"));
        }
        fleet.signal(Signal::Cancel, id)
    }

    /// Ends the operation of a token that was used, at the server that issued it.
    ///
    /// # Errors
    /// Those of the catalog.
    pub(crate) fn used_anywhere(&self, id: &str) -> Result<()> {
        match self.fleet().filter(|_| self.get(id).is_none()) {
            Some(fleet) => fleet.signal(Signal::Used, id),
            None => {
                self.used(id);
                Ok(())
            }
        }
    }

    /// Publishes that `action` happened to `source` to the listeners of all servers.
    pub(crate) fn lifecycle(&self, action: &str, source: &str, context: &serde_json::Value, client: &Client) {
        let share = self.fleet().map(|fleet| |event: &serde_json::Value| fleet.publish(event));
        self.events().lifecycle(action, source, context, client, share.as_ref().map(|share| share as &dyn Fn(&_)));
    }

    /// An operation of this server as others see it, with the digest of the secret that opens it.
    pub(crate) fn shared_snapshot(&self, id: &str) -> Option<(OperationSnapshot, Option<String>)> {
        self.lock().find(id).map(|entry| (entry.operation.clone(), entry.token.as_ref().map(SecretDigest::name)))
    }

    /// The IDs of the operations of this server that have not ended.
    pub(crate) fn running(&self) -> Vec<String> {
        let state = self.lock();
        state
            .all
            .iter()
            .filter(|entry| !entry.operation.status.is_over())
            .map(|entry| entry.operation.id.clone())
            .collect()
    }

    /// Whether the server shuts down.
    fn is_stopped(&self) -> bool {
        self.lock().stopped
    }

    /// A place among the clients that wait.
    ///
    /// # Errors
    /// `Busy`.
    fn waiter(&self) -> Result<Waiter<'_>> {
        let mut state = self.lock();
        if state.waiting >= super::MAX_WAITERS {
            return Err(super::too_many_waiters());
        }
        state.waiting += 1;
        Ok(Waiter(self))
    }
}

/// A client that waits, until it is dropped.
struct Waiter<'a>(&'a Operations);

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.0.lock().waiting -= 1;
    }
}
