//! Quotas of clients that store images: how many uploads and imports one client may begin in an hour, how many bytes it
//! may have stored, and how full the store may become.
//!
//! A client is its certificate, or its address where it uploads with a token. Which images it stored is in the catalog
//! (`store::owner`), so that the quota holds over restarts and for all servers of a store. What runs, unfinished uploads in
//! parts and the uploads of the last hour are known to one server, since it was started.
//!
//! An upload reserves its bytes before it begins, so that many at once are not more than one after the other. No lock
//! is held while the store is asked.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::Fingerprint;
use crate::limits::Limits;
use crate::server::core::client::Client;
use crate::store::{ImageQuery, Store, StoredImage};

/// The window of the limit on uploads, in seconds.
const HOUR: i64 = 3_600;
/// Clients that are remembered. One that uploads needs a trusted certificate or a token, so real servers have few; the
/// bound keeps a client with many tokens from growing the map.
const MAX_CLIENTS: usize = 10_000;

/// Who stores images.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Uploader {
    /// By its certificate.
    Certificate(Fingerprint),
    /// By the network that it comes from; `None` without a network.
    Network(Option<IpAddr>),
}

impl Uploader {
    /// A client that comes from this address.
    pub(crate) fn of(client: &Client, peer: Option<IpAddr>) -> Self {
        match client {
            Client::Trusted(certificate) => Self::Certificate(*certificate),
            Client::Untrusted => Self::Network(peer.map(network)),
        }
    }

    /// Its name in the catalog, without a slash.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Certificate(certificate) => format!("certificate:{certificate}"),
            Self::Network(Some(network)) => format!("network:{network}"),
            Self::Network(None) => "network:".to_owned(),
        }
    }
}

/// What is known of one client.
#[derive(Debug, Default)]
struct Ledger {
    /// When its uploads of the last hour began, in seconds since 1970; ascending.
    begun: VecDeque<i64>,
    /// The images that it stored, with their sizes in bytes.
    stored: BTreeMap<Fingerprint, u64>,
    /// Bytes of uploads that run.
    reserved: u64,
    /// The uploads in parts that it has not finished, with the bytes that are there.
    parts: BTreeMap<Fingerprint, u64>,
}

impl Ledger {
    /// Bytes that it has, and that it may come to have by what runs.
    fn bytes(&self) -> u64 {
        let kept = self.stored.values().chain(self.parts.values());
        kept.fold(self.reserved, |sum, size| sum.saturating_add(*size))
    }
}

/// The ledgers of all clients.
#[derive(Debug, Default)]
pub(crate) struct Quotas(Mutex<HashMap<Uploader, Ledger>>);

/// A part that a client sends of an upload in parts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PartOfUpload {
    /// The ID of the upload in the store.
    pub(crate) id: Fingerprint,
    /// Where it begins, in bytes.
    pub(crate) offset: u64,
    /// In bytes.
    pub(crate) length: u64,
    /// The size of the whole in bytes, if it is known.
    pub(crate) total: Option<u64>,
}

/// Why an upload may not begin.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// Too many in an hour; the client may try again after this many seconds.
    TooMany {
        /// In seconds, at least 1.
        retry: u64,
    },
    /// Any other reason.
    Error(Error),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

/// The share of an upload that runs in the quota of its client. Dropping it gives the reserved bytes back.
#[derive(Debug)]
pub(crate) struct UploadPermit {
    quotas: Arc<Quotas>,
    uploader: Uploader,
    reserved: u64,
    /// The bytes that the upload may have.
    pub(crate) most: u64,
    /// Whether `most` is what the disk has room for, and no limit.
    pub(crate) by_space: bool,
}

impl Quotas {
    /// Begins an upload or an import. `announced` is its length in bytes where it is known.
    ///
    /// # Errors
    /// [`Refusal::TooMany`] for the limit `client_uploads`; `LimitExceeded` for `client_stored` and `stored`;
    /// `StorageFull` where the disk has no room for it; those of the store.
    pub(crate) fn begin(
        self: &Arc<Self>,
        uploader: Uploader,
        announced: Option<u64>,
        limits: &Limits,
        store: &Store,
    ) -> std::result::Result<UploadPermit, Refusal> {
        self.count(&uploader, limits.client_uploads, store.now())?;
        self.reserve(uploader, announced, limits, store)
    }

    /// Begins to take a part of an upload in parts. The first part is judged by the size of the whole, as far as that is
    /// known: what can't be finished is not begun.
    ///
    /// # Errors
    /// As [`begin`](Self::begin), but not for the number of uploads: the import of the parts counts; `LimitExceeded` for
    /// `client_unfinished`; `StorageFull` if there is no room for the parts and the image made of them.
    pub(crate) fn begin_part(
        self: &Arc<Self>,
        uploader: Uploader,
        part: &PartOfUpload,
        limits: &Limits,
        store: &Store,
    ) -> std::result::Result<UploadPermit, Refusal> {
        if part.offset == 0 {
            self.check_unfinished(&uploader, &part.id, limits.client_unfinished, store)?;
            let needed = part.total.unwrap_or(part.length).saturating_mul(2);
            if store.staging_space()?.is_some_and(|space| space < needed) {
                let sentence = format!("no room for {needed} bytes, the parts and the image made of them");
                return Err(Error::storage_full(sentence).into());
            }
            drop(self.reserve(uploader.clone(), part.total, limits, store)?);
        }
        let permit = self.reserve(uploader, Some(part.length), limits, store)?;
        // Another server may have taken the parts before.
        permit.keep_parts(part.id, part.offset);
        Ok(permit)
    }

    /// Begins to import the parts of an upload as an image of `length` bytes. Their bytes are counted once.
    ///
    /// # Errors
    /// As [`begin`](Self::begin); the parts stay counted then.
    pub(crate) fn begin_import_of_parts(
        self: &Arc<Self>,
        uploader: Uploader,
        id: &Fingerprint,
        length: u64,
        limits: &Limits,
        store: &Store,
    ) -> std::result::Result<UploadPermit, Refusal> {
        self.count(&uploader, limits.client_uploads, store.now())?;
        let counted = self.forget_parts(&uploader, id);
        let permit = self.reserve(uploader.clone(), Some(length), limits, store);
        if let (Err(_), Some(bytes)) = (&permit, counted) {
            let mut ledgers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            ledgers.entry(uploader).or_default().parts.insert(*id, bytes);
        }
        permit
    }

    /// Takes an upload in parts off the ledger of its client. Returns its bytes, if it was there.
    pub(crate) fn forget_parts(&self, uploader: &Uploader, id: &Fingerprint) -> Option<u64> {
        let mut ledgers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ledgers.get_mut(uploader)?.parts.remove(id)
    }

    /// Fails if a client has too many uploads in parts that are not finished, besides `id`.
    fn check_unfinished(&self, uploader: &Uploader, id: &Fingerprint, most: u64, store: &Store) -> Result<()> {
        let others = || -> Vec<Fingerprint> {
            let ledgers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let parts = ledgers.get(uploader).map(|ledger| ledger.parts.keys());
            parts.into_iter().flatten().filter(|other| *other != id).copied().collect()
        };
        let known = others();
        if (known.len() as u64) < most {
            return Ok(());
        }
        self.forget_ended(uploader, &known, store)?;
        if (others().len() as u64) < most {
            return Ok(());
        }
        let error = Error::limit("client_unfinished", most, "the number of uploads that this client has not finished");
        Err(error.with_hint("finish or delete one; they are removed three days after they began"))
    }

    /// Reserves the bytes of what begins.
    fn reserve(
        self: &Arc<Self>,
        uploader: Uploader,
        announced: Option<u64>,
        limits: &Limits,
        store: &Store,
    ) -> std::result::Result<UploadPermit, Refusal> {
        let space = store.staging_space()?;
        let (mut most, mut by_space) = (limits.upload, false);
        if let Some(space) = space.filter(|space| *space < most) {
            (most, by_space) = (space, true);
        }
        if limits.stored < u64::MAX {
            let there = store.totals(&ImageQuery::new())?.bytes;
            let left = limits.stored.saturating_sub(there);
            if left == 0 || announced.is_some_and(|length| length > left) {
                return Err(Error::limit("stored", limits.stored, "the size of all images of the store").into());
            }
            (most, by_space) = if left < most { (left, false) } else { (most, by_space) };
        }
        if let Some(length) = announced.filter(|length| by_space && *length > most) {
            let sentence = format!("no room for {length} bytes: {most} bytes may be filled");
            return Err(Error::storage_full(sentence).into());
        }
        self.read_stored(&uploader, limits.client_stored, store)?;
        let mut ledgers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let ledger = ledgers.entry(uploader.clone()).or_default();
        let left = limits.client_stored.saturating_sub(ledger.bytes());
        if left == 0 || announced.is_some_and(|length| length > left) {
            let error = Error::limit("client_stored", limits.client_stored, "what this client has stored, in bytes,");
            return Err(error.with_hint("deleted images no longer count").into());
        }
        (most, by_space) = if left < most { (left, false) } else { (most, by_space) };
        let reserved = announced.unwrap_or(most);
        ledger.reserved = ledger.reserved.saturating_add(reserved);
        Ok(UploadPermit { quotas: Arc::clone(self), uploader, reserved, most, by_space })
    }

    /// Counts one more upload of a client in this hour.
    fn count(&self, uploader: &Uploader, most: u64, now: i64) -> std::result::Result<(), Refusal> {
        let mut ledgers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if ledgers.len() >= MAX_CLIENTS && !ledgers.contains_key(uploader) {
            ledgers.retain(|_, ledger| {
                !ledger.stored.is_empty()
                    || !ledger.parts.is_empty()
                    || ledger.reserved > 0
                    || ledger.begun.back().is_some_and(|at| now - at < HOUR)
            });
            if ledgers.len() >= MAX_CLIENTS {
                return Err(Error::new(ErrorKind::Busy, "too many clients upload to this server").into());
            }
        }
        let ledger = ledgers.entry(uploader.clone()).or_default();
        // A time in the future comes from a clock that was set back.
        while ledger.begun.front().is_some_and(|at| now.saturating_sub(*at) >= HOUR || *at > now) {
            ledger.begun.pop_front();
        }
        if ledger.begun.len() as u64 >= most {
            let oldest = ledger.begun.front().copied().unwrap_or(now);
            let retry = oldest.saturating_add(HOUR).saturating_sub(now).max(1);
            return Err(Refusal::TooMany { retry: retry.unsigned_abs() });
        }
        ledger.begun.push_back(now);
        Ok(())
    }

    /// Takes those of a client's uploads in parts off its ledger that have ended, here or at another server.
    fn forget_ended(&self, uploader: &Uploader, ids: &[Fingerprint], store: &Store) -> Result<()> {
        for id in ids {
            if store.partial_upload(id)?.is_none() {
                let mut ledgers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                ledgers.get_mut(uploader).and_then(|ledger| ledger.parts.remove(id));
            }
        }
        Ok(())
    }

    /// Reads which images a client has stored: before the server was started, and by other servers of the store, too. Ended uploads
    /// in parts are taken off its ledger.
    fn read_stored(&self, uploader: &Uploader, most: u64, store: &Store) -> Result<()> {
        if most == u64::MAX {
            return Ok(());
        }
        let (known, parts): (BTreeSet<Fingerprint>, Vec<Fingerprint>) = {
            let ledgers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            ledgers.get(uploader).map_or_else(Default::default, |ledger| {
                (ledger.stored.keys().copied().collect(), ledger.parts.keys().copied().collect())
            })
        };
        self.forget_ended(uploader, &parts, store)?;
        let there = store.images_stored_by(&uploader.name())?;
        let mut new = Vec::new();
        for fingerprint in there.difference(&known) {
            match store.image(fingerprint) {
                Ok(image) => new.push((*fingerprint, image.size)),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        let mut ledgers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let ledger = ledgers.entry(uploader.clone()).or_default();
        // What another request recorded meanwhile is not among the known ones, and stays.
        known.difference(&there).for_each(|fingerprint| _ = ledger.stored.remove(fingerprint));
        ledger.stored.extend(new);
        Ok(())
    }
}

impl UploadPermit {
    /// The name of the client in the catalog.
    pub(crate) fn owner(&self) -> String {
        self.uploader.name()
    }

    /// Records that the upload stored an image.
    pub(crate) fn stored(&self, image: &StoredImage) {
        let mut ledgers = self.quotas.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(ledger) = ledgers.get_mut(&self.uploader) {
            ledger.stored.insert(image.fingerprint, image.size);
        }
    }

    /// Records that this many bytes of an upload in parts are there.
    pub(crate) fn keep_parts(&self, id: Fingerprint, bytes: u64) {
        let mut ledgers = self.quotas.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(ledger) = ledgers.get_mut(&self.uploader).filter(|_| bytes > 0) {
            ledger.parts.insert(id, bytes);
        }
    }
}

impl Drop for UploadPermit {
    fn drop(&mut self) {
        let mut ledgers = self.quotas.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(ledger) = ledgers.get_mut(&self.uploader) {
            ledger.reserved = ledger.reserved.saturating_sub(self.reserved);
        }
    }
}

/// The unit that limits per address count: an IPv4 address, or the /64 network of an IPv6 address, which is what one
/// customer gets at least (RFC 6177).
pub(in crate::server) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) if !address.is_loopback() => {
            // A customer can use every address of a /64, so a limit on single addresses would limit
            // nobody.
            let bits = address.to_bits() >> 64 << 64;
            IpAddr::V6(Ipv6Addr::from_bits(bits))
        }
        other => other,
    }
}
