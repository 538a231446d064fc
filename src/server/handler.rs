//! [`Handler`]: from a request to a response, without sockets. Holds the services of the server; which of them answers
//! is decided by the route table. Every request has a response: a panic is a defect, and the listener answers 500 to
//! it.
//!
//! The functions of the routes receive the [`ServerState`], and nothing below them refers back to the handler or to the
//! listener, so that a handler works in a test or behind another HTTP server.

use crate::server::api::rest::{ApiExtension, EXTENSIONS, operations};
use crate::server::api::simplestreams::kept::Streams;
use crate::server::core::metrics::Metrics;
use crate::server::core::services::Services;
use crate::server::message::{Request, Response};
use crate::server::options::ServerOptions;
use crate::server::routes;
use crate::server::state::ServerState;
use crate::store::Store;

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
    state: ServerState,
}

impl Handler {
    /// A handler that serves `store`. It is usually shared with the listener in an [`Arc`](std::sync::Arc).
    ///
    /// Does no work, except for a catalog with shared records: then a thread begins that hears of the other servers. The
    /// store is first read when the first request comes, and the upstream is first asked when a client asks for
    /// something that the store lacks.
    #[must_use]
    pub fn new(store: Store, options: ServerOptions) -> Self {
        Self {
            state: ServerState {
                services: Services::new(store, options, operations::object),
                streams: Streams::default(),
            },
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
        let response = routes::dispatch(&self.state, request);
        if response.status == http::StatusCode::ACCEPTED
            && let Some(fleet) = self.state.services.operations.fleet()
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
        self.state.services.operations.finish();
    }

    /// Cancels all operations and downloads, and waits for five seconds at most until they have ended and cleaned up.
    /// Dropping the handler does the same.
    pub fn stop(&self) {
        self.state.services.stop();
    }

    /// See [`Services::tidy`].
    pub(crate) fn tidy(&self) {
        self.state.services.tidy();
    }

    /// The counters, for the listener.
    pub(crate) fn metrics(&self) -> &Metrics {
        &self.state.services.metrics
    }

    /// Has log messages that belong to no request written.
    pub(crate) fn log_to(&self, log: impl Fn(&dyn std::fmt::Display) + Send + Sync + 'static) {
        self.state.services.notes.write_to(log);
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
