//! `Handler`: from a request to a response, without sockets. Decides which part of the server answers, and nothing else.
//! Whatever a request holds, there is a response: a panic in one is caught by the listener, and is a defect.

use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};

use crate::server::api::address::Address;
use crate::server::api::{answer, direct, metrics, rest, simplestreams};
use crate::server::core::notes::Notes;
use crate::server::core::operations::Operations;
use crate::server::core::tokens::TokenStore;
use crate::server::core::upstream_cache::UpstreamCache;
use crate::server::core::verified::Verified;
use crate::server::core::{access, public};
use crate::server::message::{Request, Response};
use crate::server::options::ServerOptions;
use crate::server::web;
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
        self.route(request)
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

    fn route(&self, request: Request) -> Response {
        let address = match Address::of(&request.uri) {
            Ok(address) => address,
            Err(error) => return answer::error(&error, request.is_trusted()),
        };
        match *address.parts() {
            [] if web::wants(&request) => web::index(self, &request, &address),
            [] => rest::versions(&request).with(http::header::VARY, "Accept"),
            ["1.0", ref rest @ ..] => rest::route(self, request, &address, rest),
            ["streams", "v1", ref rest @ ..] => simplestreams::route(self, &request, rest),
            ["metrics"] => metrics::answer(self, &request),
            ["health"] => metrics::health(self, &request),
            ["static", name] => web::asset(&request, name),
            ["images", name] => {
                simplestreams::file(self, &request, name).unwrap_or_else(|| web::image(self, &request, name))
            }
            // Any other address may be an alias: direct import.
            ref parts => direct::answer(self, &request, &parts.join("/")),
        }
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

    /// The response for what only `GET` and `HEAD` may do, where the method is another.
    pub(crate) fn read_only(request: &Request) -> Option<Response> {
        let reads = matches!(request.method, Method::GET | Method::HEAD);
        (!reads).then(|| match request.method.as_str() {
            "POST" | "PUT" | "PATCH" | "DELETE" | "OPTIONS" | "TRACE" | "CONNECT" => answer::wrong_method("GET, HEAD"),
            _ => answer::failure(StatusCode::NOT_IMPLEMENTED, "this method is not known here"),
        })
    }
}

impl Drop for Handler {
    fn drop(&mut self) {
        self.stop();
    }
}
