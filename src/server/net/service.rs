//! [`Service`]: passes requests of a connection to the handler on a thread, and its responses back.
//! Refuses requests that must not reach the handler, and answers 500 to its panics.
//!
//! # Steps
//!
//! 1. The log entry and the active request begin.
//! 2. A request whose framing is ambiguous or whose host is missing or doubled is refused, and the
//!    connection closed.
//! 3. The request waits for a permit. It is answered with 503 if there is none within the idle
//!    timeout.
//! 4. A thread runs the handler and reads the first chunk of the body. As long as nothing was sent,
//!    an error of reading still becomes a response with status 500.
//! 5. The response is passed to the HTTP library, which reads the rest of the body from
//!    [`Departing`].
//!
//! The permit covers step 4 only: sending the body holds no request thread, so that clients that
//! read slowly do not use them up.

use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, Version, header, request};
use hyper::body::Incoming;
use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::timeout;

use super::access_log::{AccessLog, Entry};
use super::admission::{Admission, ConnectionPermit};
use super::body::{self, Arriving, Departing};
use super::buffers::Buffers;
use super::idle::IdleMonitor;
use super::stage::Stage;
use super::trust::TrustedClients;
use super::websocket;
use crate::fingerprint::Fingerprint;
use crate::server::api::answer;
use crate::server::core::client::Client;
use crate::server::handler::Handler;
use crate::server::message::{Body, Pieces, Request, Response};

/// The state of a listener that all its connections share.
///
/// All of it may be used by several threads at once; nothing of it changes but counters.
pub(super) struct ListenerState {
    /// Answers the requests.
    pub(super) handler: Arc<Handler>,
    /// The trusted certificates; `None` if no client is trusted.
    pub(super) trusted: Option<TrustedClients>,
    /// The limits on connections and requests.
    pub(super) admission: Admission,
    /// Where requests and notes are logged.
    pub(super) access_log: AccessLog,
    /// Memory for the bodies of responses.
    pub(super) buffers: Buffers,
    /// The time for a handshake and for the head of a request.
    pub(super) head_time: Duration,
    /// The timeout of idle clients, and of waiting for a permit.
    pub(super) silence: Duration,
    /// The largest head of a request in bytes.
    pub(super) longest_head: usize,
    /// The stage of the shutdown.
    pub(super) stage: watch::Receiver<Stage>,
}

/// The state of a connection that all its requests share.
pub(super) struct Peer {
    /// The address of the client, or of the proxy before it.
    pub(super) address: IpAddr,
    /// The client's certificate; the handshake verified that it has the key.
    pub(super) certificate: Option<Fingerprint>,
    /// Whether the connection has TLS.
    pub(super) secure: bool,
    /// Counts bytes, requests and waits of the connection.
    pub(super) monitor: Arc<IdleMonitor>,
    /// Whether a request head was received that can be parsed in two ways.
    pub(super) ambiguous: Arc<AtomicBool>,
    /// The share of the connection in the limits of its address.
    pub(super) permit: ConnectionPermit,
    /// The task that continues after the connection was upgraded to a WebSocket.
    pub(super) upgraded: Mutex<Option<JoinHandle<()>>>,
}

/// Answers the requests of one connection.
#[derive(Clone)]
pub(super) struct Service {
    /// The listener's state.
    pub(super) shared: Arc<ListenerState>,
    /// The connection's state.
    pub(super) peer: Arc<Peer>,
}

/// The future of a response. It never fails: an error is a response, too.
type Answering = Pin<Box<dyn Future<Output = Result<hyper::Response<Departing>, Infallible>> + Send>>;

impl hyper::service::Service<hyper::Request<Incoming>> for Service {
    type Response = hyper::Response<Departing>;
    type Error = Infallible;
    type Future = Answering;

    fn call(&self, request: hyper::Request<Incoming>) -> Answering {
        let this = self.clone();
        Box::pin(async move { Ok(this.answer(request).await) })
    }
}

/// A response whose first bytes were read.
///
/// The split between head and body is here: until now, a failure could change the status.
struct Begun {
    /// Status and headers. Its body was taken out.
    response: Response,
    /// The first chunk of the body.
    first: Bytes,
    /// The rest of the body.
    pieces: Pieces,
    /// The length of the whole body in bytes, also where it is not sent; `None` for a generated
    /// one.
    length: Option<u64>,
    /// Whether the body could not be read, so that the response is an error in its place.
    broke: bool,
}

impl Begun {
    /// Reads what is sent first, on a thread that may wait for the disk. While nothing is sent yet, an error is still
    /// an answer.
    fn new(mut response: Response, head: bool, buffers: &Buffers) -> Self {
        let mut broke = false;
        loop {
            let pieces = match std::mem::replace(&mut response.body, Body::empty()) {
                Body::Pieces(pieces) => pieces,
                Body::Events(_) => Pieces::default(),
            };
            let length = pieces.length();
            if head {
                return Self { response, first: Bytes::new(), pieces: Pieces::default(), length, broke };
            }
            if let (Ok(first), pieces) = body::read(pieces, buffers) {
                return Self { response, first, pieces, length, broke };
            }
            // What is in memory can be read, so this is the last round.
            broke = true;
            response = answer::failure(StatusCode::INTERNAL_SERVER_ERROR, "what was asked for can't be read here");
        }
    }
}

impl Service {
    /// Answers one request, in the steps of the description of the module.
    async fn answer(&self, mut request: hyper::Request<Incoming>) -> hyper::Response<Departing> {
        let going = self.peer.monitor.begin_request();
        let about = (request.method(), request.uri(), request.version());
        let mut entry =
            Entry::new(&self.shared.access_log, &self.shared.handler, self.peer.address, self.peer.certificate, about);
        let head = request.method() == Method::HEAD;
        // Taken before the request is split into head and body: the upgrade is bound to the whole
        // request.
        let upgrade = websocket::Upgrade::of(&mut request);
        let (mut parts, incoming) = request.into_parts();
        let version = parts.version;
        // After chunks it is not looked for two ends of the next request, so there is none.
        let mut close = self.shared.stage.borrow().is_ending() || parts.headers.contains_key(header::TRANSFER_ENCODING);
        let begun = match self.refuse(&mut parts) {
            Some(refused) => {
                close = true;
                Begun::new(refused, head, &self.shared.buffers)
            }
            None => self.work(parts, incoming, upgrade).await,
        };
        let Begun { mut response, first, pieces, length, broke } = begun;
        if broke {
            entry.broke();
        }
        // RFC 9110, section 6.4.1: these responses have no body, whatever the handler made.
        let bodiless = response.status == StatusCode::NOT_MODIFIED
            || response.status == StatusCode::NO_CONTENT
            || response.status.is_informational();
        if let Some(length) = length.filter(|_| !bodiless) {
            response.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        }
        // HTTP/2 has no such header (RFC 9113, section 8.2.2).
        if close && version < Version::HTTP_2 {
            response.headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        entry.status(response.status);
        // `HEAD` announces the length of the body and sends none of it.
        let length = if head || bodiless { Some(0) } else { length };
        let buffers = self.shared.buffers.clone();
        let mut sent = hyper::Response::new(Departing::new((first, pieces), length, buffers, going, entry));
        *sent.status_mut() = response.status;
        *sent.headers_mut() = response.headers;
        sent
    }

    /// Refuses a request because of its framing or host; the connection is closed after the response.
    ///
    /// RFC 9112, section 3.2: a request of HTTP/1.1 without exactly one `Host` is answered with
    /// 400.
    fn refuse(&self, parts: &mut request::Parts) -> Option<Response> {
        if self.peer.ambiguous.load(Ordering::Relaxed) {
            // RFC 9112, section 6.3: a server that rejects such a request must close the
            // connection.
            return Some(answer::failure(StatusCode::BAD_REQUEST, "the end of the request is told twice"));
        }
        // RFC 9113, section 8.3.1: the authority is a pseudo-header, and `Host` may be absent.
        if parts.version >= Version::HTTP_2 {
            // The rest of the server reads the host from the header.
            let host = parts.uri.authority().and_then(|host| HeaderValue::from_str(host.as_str()).ok());
            if let (Some(host), false) = (host, parts.headers.contains_key(header::HOST)) {
                parts.headers.insert(header::HOST, host);
            }
        }
        let hosts = parts.headers.get_all(header::HOST).iter().count();
        if hosts > 1 || (hosts == 0 && parts.version == Version::HTTP_11) {
            return Some(answer::failure(StatusCode::BAD_REQUEST, "the request names no host, or several"));
        }
        None
    }

    /// Waits for a permit, calls the handler on a thread, and reads the first chunk of the body
    /// there.
    async fn work(&self, parts: request::Parts, incoming: Incoming, upgrade: Option<websocket::Upgrade>) -> Begun {
        let head = parts.method == Method::HEAD;
        let long = is_long(&parts);
        let busy = || {
            let refused = answer::failure(StatusCode::SERVICE_UNAVAILABLE, "the server has too much to do");
            Begun::new(refused.with(header::RETRY_AFTER, "5"), head, &self.shared.buffers)
        };
        let Ok(Some(permit)) =
            timeout(self.shared.silence, self.shared.admission.request(&self.peer.permit, long)).await
        else {
            return busy();
        };
        // The thread may outlive the connection, so it owns what it uses.
        let (shared, peer) = (Arc::clone(&self.shared), Arc::clone(&self.peer));
        let body = Arriving::new(incoming, Arc::clone(&self.peer.monitor));
        let worked = spawn_blocking(move || {
            // The permit is held until the thread is done, also when the client is gone.
            let _permit = permit;
            let request = Request {
                method: parts.method,
                uri: parts.uri,
                headers: parts.headers,
                client: client(&shared, &peer),
                secure: peer.secure,
                peer: Some(peer.address),
                body: Box::new(body),
            };
            let mut response = shared.handler.handle(request);
            let events = match std::mem::replace(&mut response.body, Body::empty()) {
                Body::Events(events) => Some(events),
                body @ Body::Pieces(_) => {
                    response.body = body;
                    None
                }
            };
            (Begun::new(response, head, &shared.buffers), events)
        });
        match worked.await {
            Ok((begun, None)) => begun,
            Ok((_, Some(events))) => {
                let Some(upgrade) = upgrade else {
                    let refused = answer::failure(StatusCode::UPGRADE_REQUIRED, "events are told over a WebSocket");
                    return Begun::new(refused.with(header::UPGRADE, "websocket"), head, &self.shared.buffers);
                };
                let (shared, peer) = (Arc::clone(&self.shared), Arc::clone(&self.peer));
                // Events reveal private images, so trust is checked for each of them.
                let may = move || matches!(client(&shared, &peer), Client::Trusted(_));
                let (response, telling) = upgrade.accept(events, self.shared.stage.clone(), self.shared.silence, may);
                *self.peer.upgraded.lock().unwrap_or_else(PoisonError::into_inner) = Some(tokio::spawn(telling));
                Begun::new(response, head, &self.shared.buffers)
            }
            Err(_) => {
                self.shared.handler.metrics().panicked();
                let failed = answer::failure(StatusCode::INTERNAL_SERVER_ERROR, "the server can't do this now");
                Begun::new(failed, head, &self.shared.buffers)
            }
        }
    }
}

/// Who the client is now: trust is checked for each request, not for each connection.
///
/// If the trusted certificates can't be read, nobody is trusted, and the log says so.
fn client(shared: &ListenerState, peer: &Peer) -> Client {
    let (Some(certificate), Some(trusted)) = (peer.certificate, &shared.trusted) else { return Client::Untrusted };
    match trusted.knows(&certificate) {
        Ok(true) => Client::Trusted(certificate),
        Ok(false) => Client::Untrusted,
        Err(error) => {
            shared.access_log.note(format_args!("no client is trusted: {error}"));
            Client::Untrusted
        }
    }
}

/// Whether the duration of a request is up to its client: an upload, or waiting for an operation.
///
/// All writes count, since an edit is a body that the client sends as slowly as it likes.
fn is_long(parts: &request::Parts) -> bool {
    // Downloads are no long requests: their body is sent without a request thread.
    let reads = matches!(parts.method, Method::GET | Method::HEAD);
    !reads
        || (parts.uri.path().starts_with("/1.0/operations/")
            && parts.uri.path().trim_end_matches('/').ends_with("/wait"))
}
