//! Admission control: bounds the connections, in all and per client address, and the requests that are processed at
//! once. A permit is released when it is dropped, however its connection or request ends.
//!
//! Three limits apply to a connection or request, and each guards against something else:
//!
//! | limit | guards against |
//! |---|---|
//! | connections in all | memory: each may hold some 400 KiB |
//! | connections and requests of one address | one client that takes everything |
//! | long requests apart from others | uploads and waits that block downloads |
//!
//! Waiting is first come, first served. A request that does not get a permit within the idle
//! timeout is answered with 503 and `Retry-After`.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::server::core::quota::network;

/// Requests that are processed at once. Each has a thread; others wait for a permit.
pub(super) const MAX_REQUESTS: usize = 256;
/// Requests of one address that are processed at once, so that one client can't take all permits with slow requests.
///
/// Half of all: two addresses are needed to use the server up.
const MAX_REQUESTS_PER_ADDRESS: usize = 128;
/// Uploads and waits for operations that are processed at once. They may take as long as the client likes, so they have
/// permits of their own and never block reads.
pub(super) const MAX_LONG_REQUESTS: usize = 64;
/// Threads that read bodies ahead of the client. They wait for the disk only, never for a client.
pub(super) const READERS: usize = 64;

/// The limits of one listener, shared by all its connections.
#[derive(Debug)]
pub(super) struct Admission {
    /// One permit for each connection that there may be.
    connections: Arc<Semaphore>,
    /// The connections that one address may have.
    per_address: usize,
    /// The addresses that have connections now. An address without any is removed, so that the map
    /// does not grow with the clients of a year.
    addresses: Arc<Mutex<HashMap<IpAddr, Holder>>>,
    /// One permit for each short request that there may be.
    requests: Arc<Semaphore>,
    /// One permit for each long request that there may be.
    long: Arc<Semaphore>,
}

/// What the connections of one address share.
#[derive(Debug)]
struct Holder {
    /// Its connections now.
    connections: usize,
    /// One permit for each request that it may have at once.
    requests: Arc<Semaphore>,
}

/// The share of a connection in the limit on all connections.
pub(super) type GlobalPermit = OwnedSemaphorePermit;

/// The share of a connection in the limit of its address.
#[derive(Debug)]
pub(super) struct ConnectionPermit {
    address: IpAddr,
    addresses: Arc<Mutex<HashMap<IpAddr, Holder>>>,
    requests: Arc<Semaphore>,
}

/// The share of a request in the limits on requests. Held until the thread is done, also when the client is gone.
#[derive(Debug)]
pub(super) struct RequestPermit {
    _all: OwnedSemaphorePermit,
    _address: OwnedSemaphorePermit,
}

impl Admission {
    /// Both limits are on connections; those on requests are constants.
    pub(super) fn new(connections: usize, per_address: usize) -> Self {
        Self {
            connections: Arc::new(Semaphore::new(connections)),
            per_address,
            addresses: Arc::default(),
            requests: Arc::new(Semaphore::new(MAX_REQUESTS)),
            long: Arc::new(Semaphore::new(MAX_LONG_REQUESTS)),
        }
    }

    /// Waits until one more connection is within the limit on all connections; `None` when the listener ends.
    pub(super) async fn connection(&self) -> Option<GlobalPermit> {
        Arc::clone(&self.connections).acquire_owned().await.ok()
    }

    /// Counts one more connection of an address; `None` when the address has as many as it may. Does not wait: the
    /// caller closes the connection at once.
    ///
    /// The lock is held for a look into a map; it is never held across a wait.
    pub(super) fn try_acquire(&self, address: IpAddr) -> Option<ConnectionPermit> {
        let address = network(address);
        let mut addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        let holder = addresses
            .entry(address)
            .or_insert_with(|| Holder { connections: 0, requests: Arc::new(Semaphore::new(MAX_REQUESTS_PER_ADDRESS)) });
        if holder.connections >= self.per_address {
            return None;
        }
        holder.connections += 1;
        let requests = Arc::clone(&holder.requests);
        Some(ConnectionPermit { address, addresses: Arc::clone(&self.addresses), requests })
    }

    /// Waits until a request of this connection may be processed. `long` is for those that may take as long as the
    /// client likes.
    pub(super) async fn request(&self, permit: &ConnectionPermit, long: bool) -> Option<RequestPermit> {
        let all = if long { &self.long } else { &self.requests };
        // The address first: a client that waits for its own limit must not hold a permit that others could use.
        let address = Arc::clone(&permit.requests).acquire_owned().await.ok()?;
        let all = Arc::clone(all).acquire_owned().await.ok()?;
        Some(RequestPermit { _all: all, _address: address })
    }

    /// Waits until all connections have ended; `connections` is the limit on them.
    pub(super) async fn empty(&self, connections: usize) {
        let all = u32::try_from(connections).unwrap_or(u32::MAX);
        let _ = self.connections.acquire_many(all).await;
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let mut addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(holder) = addresses.get_mut(&self.address) {
            holder.connections -= 1;
            // Under the same lock as the count, so that a new connection never gets a holder that
            // is being removed.
            if holder.connections == 0 {
                addresses.remove(&self.address);
            }
        }
    }
}
