//! [`Handler`]: from a request to a response, without sockets. Holds the services of the server; which of them answers
//! is decided by the route table. Every request has a response: a panic is a defect, and the listener answers 500 to
//! it.

use std::sync::Arc;
use std::time::Duration;

use crate::server::api::{metrics, simplestreams};
use crate::server::core::notes::Notes;
use crate::server::core::operations::Operations;
use crate::server::core::tokens::TokenStore;
use crate::server::core::upstream_cache::UpstreamCache;
use crate::server::core::verified::Verified;
use crate::server::core::{access, public};
use crate::server::message::{Request, Response};
use crate::server::options::ServerOptions;
use crate::server::routes;
use crate::store::{PruneOptions, Store, StoredImage};

/// Serves a store: the REST API of LXD and Incus for images, simplestreams, direct import, a page for people.
///
/// ```
/// use http::{Method, StatusCode};
/// use lxd_image::server::{Handler, Request, ServerOptions};
/// use lxd_image::store::Store;
///
/// # let directory = std::env::temp_dir().join(format!("lxd-image-doc-handler-{}", std::process::id()));
/// let handler = Handler::new(Store::open(&directory)?, ServerOptions::new());
/// let response = handler.handle(Request::new(Method::GET, "/1.0/images".parse().unwrap()));
/// assert_eq!(response.status, StatusCode::OK);
/// # std::fs::remove_dir_all(&directory).unwrap();
/// # Ok::<(), lxd_image::Error>(())
/// ```
#[derive(Debug)]
pub struct Handler {
    pub(crate) store: Store,
    pub(crate) options: ServerOptions,
    pub(crate) operations: Operations,
    pub(crate) tokens: TokenStore,
    pub(crate) upstream_cache: UpstreamCache,
    pub(crate) verified: Arc<Verified>,
    pub(crate) streams: simplestreams::Streams,
    pub(crate) metrics: metrics::Metrics,
    pub(crate) public: public::Kept,
    /// Shared with bodies that are generated while they are sent.
    pub(crate) notes: Arc<Notes>,
}

impl Handler {
    /// A handler that serves `store`. It is usually shared with the listener in an [`Arc`].
    #[must_use]
    pub fn new(store: Store, options: ServerOptions) -> Self {
        let operations = Operations::default();
        Self {
            store,
            options,
            tokens: TokenStore::new(operations.clone()),
            operations,
            upstream_cache: UpstreamCache::default(),
            verified: Arc::default(),
            streams: simplestreams::Streams::default(),
            metrics: metrics::Metrics::default(),
            public: public::Kept::default(),
            notes: Arc::default(),
        }
    }

    /// Answers a request. Blocks while the store or an upstream is asked, and until the body of an upload is read. The
    /// response to `HEAD` has the body of `GET`; the listener does not send it.
    #[must_use]
    pub fn handle(&self, request: Request) -> Response {
        routes::dispatch(self, request)
    }

    /// Begins shutdown: wakes all requests that wait for operations, ends event streams, and refuses new operations.
    /// Operations that run continue.
    pub fn finish(&self) {
        self.operations.finish();
    }

    /// Cancels all operations and downloads, and waits for five seconds at most until they have ended and cleaned up.
    /// Dropping the handler does the same.
    pub fn stop(&self) {
        const CLEANUP_TIMEOUT: Duration = Duration::from_secs(5);
        self.operations.stop();
        self.upstream_cache.stop();
        self.operations.settle(CLEANUP_TIMEOUT);
    }

    /// Evicts cached images that are unused for long or over quota, if there is an upstream, and removes the remains of
    /// interrupted uploads.
    pub(crate) fn tidy(&self) {
        if access::find_upstream(self).is_some() {
            let options = PruneOptions::default().max_bytes(self.options.limits.cache);
            // Best effort: the client has its image, and the next call tries again.
            let _ = self.store.prune(&options);
        }
        // A server runs for months, and no other process may open its store to clean up.
        let _ = self.store.sweep();
    }

    /// Records that a cached image was used, so that it is not evicted. At most once an hour, because it is a write.
    pub(crate) fn used(&self, image: &StoredImage) {
        const HOUR: i64 = 3_600;
        let now = self.store.now();
        if image.cached && image.last_used_at.is_none_or(|last| now.saturating_sub(last) > HOUR || last > now) {
            // Best effort: the client has its image.
            let _ = self.store.mark_used(&image.fingerprint);
        }
    }

    /// The routes of every server, in the order in which their patterns are tried.
    ///
    /// ```
    /// use lxd_image::server::Handler;
    ///
    /// let open: Vec<_> = Handler::routes().filter(|route| route.access == "anonymous").collect();
    /// assert!(open.iter().any(|route| route.methods == "GET, HEAD" && route.pattern == "/1.0/images"));
    /// ```
    pub fn routes() -> impl Iterator<Item = RouteInfo> {
        routes::ROUTES.iter().map(|route| RouteInfo {
            methods: route.verb.names(),
            pattern: route.pattern,
            access: route.access.name(),
        })
    }
}

/// A route of the server: which requests it is for, and what a client must show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct RouteInfo {
    /// The methods, as the header `Allow` lists them; `*` for all.
    pub methods: &'static str,
    /// The path. `{name}` stands for one segment, `{name...}` for one or more.
    pub pattern: &'static str,
    /// What an untrusted client must show: `anonymous` (nothing), `image token`, `operation token`, `upload token`,
    /// `trusted` (a trusted certificate) or `local` (a connection from the same machine). Trusted clients may call
    /// every route.
    pub access: &'static str,
}

impl Drop for Handler {
    fn drop(&mut self) {
        self.stop();
    }
}
