//! Leases of downloads: of several servers that want one image of the upstream, one fetches it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::{Fleet, LIVE_LIFETIME};
use crate::error::{ErrorKind, Result};
use crate::fingerprint::Fingerprint;
use crate::progress::Monitor;
use crate::store::{Expected, StoredImage};

/// The kind of the records of downloads.
const FETCH: &str = "fetch";
/// How often a server that waits looks whether the image is there.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// The leases that this server holds, with their revisions.
#[derive(Debug, Default)]
pub(super) struct Leases(Mutex<HashMap<String, u64>>);

/// Whose turn it is to fetch an image.
pub(crate) enum FetchTurn {
    /// This server's, until the lease is dropped.
    Mine(FetchLease),
    /// Another server fetched it meanwhile.
    Fetched(Box<StoredImage>),
}

/// The right to fetch an image, as long as it is renewed. A server that is paused for longer than a minute loses it
/// without notice; then two servers fetch the image, and the store keeps one.
pub(crate) struct FetchLease {
    fleet: Arc<Fleet>,
    fingerprint: String,
}

impl Drop for FetchLease {
    fn drop(&mut self) {
        let held = self.fleet.leases.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.fingerprint);
        if held.is_some() {
            // Best effort: it expires by itself.
            let _ = self.fleet.records().and_then(|records| records.take(FETCH, &self.fingerprint));
        }
    }
}

impl Fleet {
    /// Waits until this server may fetch an image, or another one has fetched it.
    ///
    /// # Errors
    /// `Cancelled`; those of the catalog.
    pub(crate) fn fetch_turn(self: &Arc<Self>, fingerprint: &Fingerprint, monitor: &Monitor) -> Result<FetchTurn> {
        let id = fingerprint.to_string();
        loop {
            monitor.check()?;
            let lease = self.records()?.put(FETCH, &id, &self.node, LIVE_LIFETIME, Expected::Absent)?;
            if let Some(revision) = lease {
                self.leases.0.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone(), revision);
                let lease = FetchLease { fleet: Arc::clone(self), fingerprint: id };
                // The one before may have fetched it between the look of the caller and the lease.
                return match self.store.image(fingerprint) {
                    Ok(image) => Ok(FetchTurn::Fetched(Box::new(image))),
                    Err(error) if error.kind() == ErrorKind::NotFound => Ok(FetchTurn::Mine(lease)),
                    Err(error) => Err(error),
                };
            }
            match self.store.image(fingerprint) {
                Ok(image) => return Ok(FetchTurn::Fetched(Box::new(image))),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
            std::thread::sleep(LOOK_INTERVAL);
        }
    }

    /// Renews the leases that this server holds; one that it has lost is forgotten.
    ///
    /// # Errors
    /// Those of the catalog.
    pub(super) fn renew_leases(&self) -> Result<()> {
        let held = self.leases.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for (id, revision) in held {
            let renewed = self.records()?.put(FETCH, &id, &self.node, LIVE_LIFETIME, Expected::Revision(revision))?;
            let mut leases = self.leases.0.lock().unwrap_or_else(PoisonError::into_inner);
            // Dropped meanwhile: nothing to keep. What was written just now expires.
            let Some(current) = leases.get_mut(&id) else { continue };
            match renewed {
                Some(revision) => *current = revision,
                None => _ = leases.remove(&id),
            }
        }
        Ok(())
    }
}
