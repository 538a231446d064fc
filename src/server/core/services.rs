//! [`Services`]: the store with all that a server knows beside it. Functions of `core` that need several of its parts take it
//! whole; parts that need little take that alone, and none of them refers back to it.

use std::sync::Arc;
use std::time::Duration;

use crate::error::Result;
use crate::fingerprint::Fingerprint;
use crate::metadata::ImageType;
use crate::progress::Monitor;
use crate::server::core::client::Client;
use crate::server::core::events::OperationObject;
use crate::server::core::fleet::joining;
use crate::server::core::lifecycle;
use crate::server::core::metrics::Metrics;
use crate::server::core::not_found::not_found;
use crate::server::core::notes::Notes;
use crate::server::core::operations::Operations;
use crate::server::core::public::{Kept, PublicImages};
use crate::server::core::quota::{Quotas, Refusal, UploadPermit, Uploader};
use crate::server::core::tokens::TokenStore;
use crate::server::core::transfer::ImageTransfer;
use crate::server::core::upstream_cache::UpstreamCache;
use crate::server::core::verified::Verified;
use crate::server::options::ServerOptions;
use crate::store::{PruneOptions, Store, StoredImage};

/// What answers are made of. Shared by all threads that answer requests.
#[derive(Debug)]
pub(crate) struct Services {
    /// The images.
    pub(crate) store: Store,
    /// What the program configured. Never changes.
    pub(crate) options: ServerOptions,
    /// Work in the background, and the listeners that are told about it.
    pub(crate) operations: Operations,
    /// Why the other servers of the store can't be joined, if they can't; `operations` knows them.
    pub(crate) joined: Result<()>,
    /// The secrets that are valid now.
    pub(crate) tokens: TokenStore,
    /// Answers of the upstream, and what is fetched from it now.
    pub(crate) upstream_cache: UpstreamCache,
    /// The files that were hashed already. Shared with bodies that are hashed while they are sent.
    pub(crate) verified: Arc<Verified>,
    /// The counters; the listener counts connections and bytes in them.
    pub(crate) metrics: Metrics,
    /// The index of the public images, as it was last made.
    public: Kept,
    /// What clients upload, and how much of it they may.
    pub(crate) quotas: Arc<Quotas>,
    /// Log messages that belong to no request. Shared with bodies that are generated while they are
    /// sent.
    pub(crate) notes: Arc<Notes>,
}

impl Services {
    /// The services of a store. A catalog with shared records is joined: a thread begins that hears of the other servers.
    /// `object` makes what listeners of events are told of an operation.
    pub(crate) fn new(store: Store, options: ServerOptions, object: OperationObject) -> Self {
        let (store, store_metrics) = store.observed();
        let operations = Operations::new(object);
        let notes = Arc::default();
        let joined = joining::join(&store, &operations, &notes);
        Self {
            joined,
            store,
            options,
            // The token store ends the operation of a token that was used, so it needs the same
            // registry.
            tokens: TokenStore::new(operations.clone()),
            operations,
            upstream_cache: UpstreamCache::default(),
            verified: Arc::default(),
            metrics: Metrics::of(store_metrics),
            public: Kept::default(),
            quotas: Arc::default(),
            notes,
        }
    }

    /// The index of the public images for the catalog as it is now.
    ///
    /// # Errors
    /// Those of reading the catalog. Damaged rows are no error.
    pub(crate) fn public_images(&self) -> Result<Arc<PublicImages>> {
        self.public.get(&self.store, || PublicImages::read(&self.store, &self.notes))
    }

    /// The transfer by which to fetch from the upstream, if there is one.
    ///
    /// `None` without a transfer, and also with one that only serves imports of trusted clients.
    pub(crate) fn upstream(&self) -> Option<&dyn ImageTransfer> {
        self.options.image_transfer.as_deref().filter(|transfer| transfer.has_upstream())
    }

    /// Resolves an alias of this type, or a fingerprint prefix, at the upstream; see [`UpstreamCache::resolve`]. `None`
    /// without an upstream, and where it has nothing.
    ///
    /// # Errors
    /// Those of the upstream cache, and of reading the catalog.
    pub(crate) fn resolve_upstream(&self, name: &str, image_type: ImageType) -> Result<Option<Fingerprint>> {
        let Some(upstream) = self.upstream() else { return Ok(None) };
        // What an earlier process fetched by this name is in the catalog.
        let earlier = || Ok(self.public_images()?.brought(name, image_type));
        self.upstream_cache.resolve(upstream, name, image_type, &earlier)
    }

    /// Fetches an image of the upstream into the store; see [`UpstreamCache::fetch`]. After a download the images over quota are
    /// evicted, and an event is published.
    ///
    /// # Errors
    /// `NotFound` without an upstream; those of the upstream cache.
    pub(crate) fn fetch_upstream(&self, fingerprint: &Fingerprint) -> Result<StoredImage> {
        let upstream = self.upstream().ok_or_else(not_found)?;
        let arrived = |image: &StoredImage| {
            lifecycle::image_created(&self.operations, image, &Client::Untrusted);
            self.evict();
        };
        self.upstream_cache.fetch(upstream, fingerprint, &self.store, &self.operations, &self.notes, &arrived)
    }

    /// Begins the share of an upload, a pull or a refresh in the quota of its client. `announced` is its length in bytes where it
    /// is known.
    ///
    /// # Errors
    /// Those of [`Quotas::begin`].
    pub(crate) fn begin_upload(
        &self,
        uploader: Uploader,
        announced: Option<u64>,
    ) -> std::result::Result<UploadPermit, Refusal> {
        self.quotas.begin(uploader, announced, &self.options.limits, &self.store)
    }

    /// Evicts cached images, and removes the remains of interrupted uploads. Runs when the listener starts, and every hour.
    pub(crate) fn tidy(&self) {
        self.evict();
        // A server runs for months, and no other process may open its store to clean up.
        if let Some(damage) = self.store.sweep_leftovers() {
            self.notes.not_swept(&damage);
        }
    }

    /// Evicts cached images that are unused for long or over quota, if there is an upstream. Runs also after each download
    /// from it.
    fn evict(&self) {
        if self.upstream().is_some() {
            let options = PruneOptions::default().max_bytes(self.options.limits.cache);
            // Best effort: the client has its image, and the next call tries again.
            let _ = self.store.prune(&options, &Monitor::none());
        }
    }

    /// Records that a cached image was used, so that it is not evicted. At most once an hour, because it is a write.
    pub(crate) fn used(&self, image: &StoredImage) {
        const HOUR: i64 = 3_600;
        let now = self.store.now();
        // A time in the future comes from a clock that was set back: it is corrected, or the image
        // would not be marked again before that time.
        if image.cached && image.last_used_at.is_none_or(|last| now.saturating_sub(last) > HOUR || last > now) {
            // Best effort: the client has its image.
            let _ = self.store.mark_used(&image.fingerprint);
        }
    }

    /// Cancels all operations and downloads, and waits for five seconds at most until they have ended and cleaned up.
    pub(crate) fn stop(&self) {
        // Long enough to remove staged files, short enough for a service manager that kills after a
        // while.
        const CLEANUP_TIMEOUT: Duration = Duration::from_secs(5);
        self.operations.stop();
        self.upstream_cache.stop();
        self.operations.settle(CLEANUP_TIMEOUT);
        if let Some(fleet) = self.operations.fleet() {
            fleet.stop();
        }
    }
}
