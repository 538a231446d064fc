//! [`Handler`]: from a request to a response, without sockets. Holds the services of the server; which of them answers
//! is decided by the route table. Every request has a response: a panic is a defect, and the listener answers 500 to
//! it.
//!
//! The services are independent of each other as far as possible; where one needs another, it is
//! passed in, or found through the handler that every function of a route receives. None of them
//! refers back to the listener, so that a handler works in a test or behind another HTTP server.

use std::sync::Arc;
use std::time::Duration;

use crate::error::Result;
use crate::server::api::rest::{ApiExtension, EXTENSIONS};
use crate::server::api::{metrics, simplestreams};
use crate::server::core::fleet::Fleet;
use crate::server::core::notes::Notes;
use crate::server::core::operations::Operations;
use crate::server::core::quota::Quotas;
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
///
/// One handler serves one store. It is shared by all threads that answer requests; everything in it
/// may be used by several at once. Several handlers, also in different processes, may serve the
/// same store. With a catalog that several machines share, they are one server: any of them answers
/// for the tokens, operations and events of all. With another one, each has its own.
///
/// To put it on the network, give it to a [`Listener`](super::Listener). To embed it in another
/// HTTP server, translate requests and responses, and set [`Request::client`] from a certificate
/// that was verified: the handler trusts this field.
#[derive(Debug)]
pub struct Handler {
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
    /// The documents of the simplestreams tree, as they were last made.
    pub(crate) streams: simplestreams::Streams,
    /// The counters of `GET /metrics`; the listener counts connections and bytes in them.
    pub(crate) metrics: metrics::Metrics,
    /// The index of the public images, as it was last made.
    pub(crate) public: public::Kept,
    /// What clients upload, and how much of it they may.
    pub(crate) quotas: Arc<Quotas>,
    /// Log messages that belong to no request. Shared with bodies that are generated while they are
    /// sent.
    pub(crate) notes: Arc<Notes>,
}

impl Handler {
    /// A handler that serves `store`. It is usually shared with the listener in an [`Arc`].
    ///
    /// Does no work, except for a catalog with shared records: then a thread begins that hears of the other servers. The
    /// store is first read when the first request comes, and the upstream is first asked when a client asks for
    /// something that the store lacks.
    #[must_use]
    pub fn new(store: Store, options: ServerOptions) -> Self {
        let (store, store_metrics) = store.observed();
        let operations = Operations::default();
        let notes = Arc::default();
        let joined = Fleet::join(&store, &operations, &notes);
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
            streams: simplestreams::Streams::default(),
            metrics: metrics::Metrics::of(store_metrics),
            public: public::Kept::default(),
            quotas: Arc::default(),
            notes,
        }
    }

    /// Answers a request. Blocks while the store or an upstream is asked, and until the body of an upload is read. The
    /// response to `HEAD` has the body of `GET`; the listener does not send it.
    ///
    /// Call it from a thread that may block, as many at once as there are requests. An upload
    /// blocks for as long as its client sends, and `GET /1.0/operations/ID/wait` for up to an hour,
    /// so bound the number of such requests apart from others, as the listener does.
    ///
    /// Never fails: every error is a response. Errors of the server itself are shown in full to
    /// trusted clients only.
    #[must_use]
    pub fn handle(&self, request: Request) -> Response {
        let response = routes::dispatch(self, request);
        if response.status == http::StatusCode::ACCEPTED
            && let Some(fleet) = self.operations.fleet()
        {
            // The client asks for its operation next, perhaps another server.
            fleet.flush();
        }
        response
    }

    /// Begins shutdown: wakes all requests that wait for operations, ends event streams, and refuses new operations.
    /// Operations that run continue.
    ///
    /// Call it when no new requests are to be accepted, so that waiting clients don't hold up the
    /// shutdown.
    pub fn finish(&self) {
        self.operations.finish();
    }

    /// Cancels all operations and downloads, and waits for five seconds at most until they have ended and cleaned up.
    /// Dropping the handler does the same.
    pub fn stop(&self) {
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

    /// Evicts cached images that are unused for long or over quota, if there is an upstream, and removes the remains of
    /// interrupted uploads.
    ///
    /// Runs when the listener starts, every hour, and after each download from the upstream.
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
        // A time in the future comes from a clock that was set back: it is corrected, or the image
        // would not be marked again before that time.
        if image.cached && image.last_used_at.is_none_or(|last| now.saturating_sub(last) > HOUR || last > now) {
            // Best effort: the client has its image.
            let _ = self.store.mark_used(&image.fingerprint);
        }
    }

    /// The API extensions that touch images: those that every server claims, and those that it does not, with the reason.
    ///
    /// ```
    /// use lxd_image::server::Handler;
    ///
    /// assert!(Handler::api_extensions().any(|extension| extension.name == "etag" && extension.claimed));
    /// ```
    pub fn api_extensions() -> impl Iterator<Item = ApiExtension> {
        EXTENSIONS.iter().copied()
    }

    /// The routes of every server, in the order in which their patterns are tried.
    ///
    /// ```
    /// use lxd_image::server::Handler;
    ///
    /// let open: Vec<_> = Handler::routes().filter(|route| route.access == "anonymous").collect();
    /// assert!(open.iter().any(|route| route.methods == "GET, HEAD" && route.pattern == "/1.0/images"));
    /// ```
    ///
    /// The access names what a client must show at least, before the function of the route decides
    /// what it sees. A test of the repository walks the table with each kind of client; a program
    /// can list it for its administrators.
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
