//! How many connections there are, in all and from one address, and how many requests are worked on.
//! What is taken is given back when its holder is dropped, however it ends.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Requests that are worked on at once; each has a thread, and others wait. Threads that are left over read ahead.
pub(super) const MAX_REQUESTS: usize = 256;
/// How many of one address: the others are left for everybody else, however long these take.
const MAX_REQUESTS_PER_ADDRESS: usize = 128;
/// Uploads and waiting for operations, which may take as long as they like, and so must not keep readers from their permit.
pub(super) const MAX_LONG_REQUESTS: usize = 64;
/// Threads for reading ahead, which never wait for a client.
pub(super) const READERS: usize = 64;

/// What all connections share.
#[derive(Debug)]
pub(super) struct Admission {
    connections: Arc<Semaphore>,
    per_address: usize,
    addresses: Arc<Mutex<HashMap<IpAddr, Holder>>>,
    requests: Arc<Semaphore>,
    long: Arc<Semaphore>,
}

#[derive(Debug)]
struct Holder {
    connections: usize,
    requests: Arc<Semaphore>,
}

/// One connection that counts among all.
pub(super) type GlobalPermit = OwnedSemaphorePermit;

/// One connection that counts for its address.
#[derive(Debug)]
pub(super) struct ConnectionPermit {
    address: IpAddr,
    addresses: Arc<Mutex<HashMap<IpAddr, Holder>>>,
    requests: Arc<Semaphore>,
}

/// One request that counts.
#[derive(Debug)]
pub(super) struct RequestPermit {
    _all: OwnedSemaphorePermit,
    _address: OwnedSemaphorePermit,
}

impl Admission {
    pub(super) fn new(connections: usize, per_address: usize) -> Self {
        Self {
            connections: Arc::new(Semaphore::new(connections)),
            per_address,
            addresses: Arc::default(),
            requests: Arc::new(Semaphore::new(MAX_REQUESTS)),
            long: Arc::new(Semaphore::new(MAX_LONG_REQUESTS)),
        }
    }

    /// Waits until there may be one more connection.
    pub(super) async fn connection(&self) -> Option<GlobalPermit> {
        Arc::clone(&self.connections).acquire_owned().await.ok()
    }

    /// One more connection from an address; `None` when it has enough.
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

    /// Waits until a request from there may be worked on.
    pub(super) async fn request(&self, permit: &ConnectionPermit, long: bool) -> Option<RequestPermit> {
        let all = if long { &self.long } else { &self.requests };
        // The address first: who waits for his own must not hold what others could have.
        let address = Arc::clone(&permit.requests).acquire_owned().await.ok()?;
        let all = Arc::clone(all).acquire_owned().await.ok()?;
        Some(RequestPermit { _all: all, _address: address })
    }

    /// Waits until there are no connections, of so many that there may be.
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
            if holder.connections == 0 {
                addresses.remove(&self.address);
            }
        }
    }
}

/// What counts as one address: who has one of IPv6 has a network of them.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) if !address.is_loopback() => {
            let bits = address.to_bits() >> 64 << 64;
            IpAddr::V6(Ipv6Addr::from_bits(bits))
        }
        other => other,
    }
}
