//! How a server joins the others of its store.

use std::sync::{Arc, Mutex, PoisonError};

use super::Fleet;
use super::lease::Leases;
use super::outbox::Outbox;
use super::worker::run;
use crate::error::{Error, Result};
use crate::fingerprint::hex;
use crate::server::core::notes::Notes;
use crate::server::core::operations::Operations;
use crate::server::core::secret::random;
use crate::store::Store;

/// Joins the servers of `store`, if its catalog has shared records, and lets `operations` know them.
///
/// Begins a thread, which [`stop`](Fleet::stop) ends.
///
/// # Errors
/// `Io` when the machine gives no random numbers or no thread.
pub(crate) fn join(store: &Store, operations: &Operations, notes: &Arc<Notes>) -> Result<()> {
    if store.shared_records().is_none() {
        return Ok(());
    }
    let mut bytes = [0; 8];
    random(&mut bytes)?;
    let fleet = Arc::new(Fleet {
        store: store.clone(),
        node: hex(&bytes),
        outbox: Outbox::default(),
        leases: Leases::default(),
        thread: Mutex::default(),
    });
    operations.share(&fleet);
    let (own, operations, notes) = (Arc::clone(&fleet), operations.clone(), Arc::clone(notes));
    let thread = std::thread::Builder::new()
        .name("fleet".to_owned())
        .spawn(move || run(&own, &operations, &notes))
        .map_err(|error| Error::io("the thread that speaks to other servers can't be started", error))?;
    *fleet.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
    Ok(())
}
