//! `Handler`: from a request to a response, without sockets. Decides which part of the server answers, and nothing else.
//! Whatever a request holds, there is a response: a panic in one is caught by the listener, and is a defect.

use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};

use crate::server::api::{answer, metrics, simplestreams};
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
    /// Shared with bodies that are made while they are sent.
    pub(crate) notes: Arc<Notes>,
}

impl Handler {
    /// Serves `store`.
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

    /// The response to a request, to `HEAD` the same as to `GET`: the listener leaves the body out. The body of an upload is read before
    /// it returns.
    #[must_use]
    pub fn handle(&self, request: Request) -> Response {
        routes::dispatch(self, request)
    }

    /// Has nobody wait for what goes on any more, and nothing begin that takes long: the server is about to end.
    pub fn finish(&self) {
        self.operations.finish();
    }

    /// Has all that goes on stop, and waits a moment until it has: what is half done is undone.
    pub fn stop(&self) {
        const MOMENT: Duration = Duration::from_secs(5);
        self.operations.stop();
        self.upstream_cache.stop();
        self.operations.settle(MOMENT);
    }

    /// Removes of what came from the upstream what nobody used for long, and what is too much. Nothing where there is none.
    pub(crate) fn tidy(&self) {
        if access::find_upstream(self).is_some() {
            let options = PruneOptions::default().max_bytes(self.options.limits.cache);
            // Clients have their images whether or not others can go now; the next time tries again.
            let _ = self.store.prune(&options);
        }
        // What uploads left that ended badly; a server runs for months, and nobody else may open its store.
        let _ = self.store.sweep();
    }

    /// Keeps an image that came by being used, for it was used again. At most once an hour: it is a write.
    pub(crate) fn used(&self, image: &StoredImage) {
        const HOUR: i64 = 3_600;
        let now = self.store.now();
        if image.cached && image.last_used_at.is_none_or(|last| now.saturating_sub(last) > HOUR || last > now) {
            // That it can't be noted takes nothing away from the client.
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

    /// Refuses other methods than `GET` and `HEAD`. The route table does so before; this is for functions of it that are called
    /// for paths of several kinds.
    pub(crate) fn read_only(request: &Request) -> Option<Response> {
        let reads = matches!(request.method, Method::GET | Method::HEAD);
        (!reads).then(|| answer::failure(StatusCode::METHOD_NOT_ALLOWED, "this method is not allowed here"))
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
    /// What an untrusted client must show: `anonymous` (nothing), `image token`, `operation token`, `upload token`, `trusted`
    /// (a trusted certificate) or `local` (a connection from the same machine). Trusted clients may call every route.
    pub access: &'static str,
}

impl Drop for Handler {
    fn drop(&mut self) {
        self.stop();
    }
}
