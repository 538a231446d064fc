//! `Client`: the HTTP/1.1 transport of all remotes.
//!
//! `ureq` does the framing and pools connections. Everything that is a decision is made here, because a server is untrusted:
//!
//! - *Redirects* of `GET` and `HEAD` are followed one by one: never from https to http, to a file, or from another host to this
//!   machine (server-side request forgery). A URL that a document named counts as a redirect from there
//!   ([`Request::referred_by`]).
//! - *Identity*: the client certificate and the header `Authorization` go only to the server that the caller named, never to one
//!   that a redirect leads to. So connections are pooled by [`PoolKey`], and never shared between purposes.
//! - *Time*: each wait is bounded and can be cancelled (`deadline.rs`).
//! - *Trust*: system authorities, more of them, or one pinned certificate (`tls.rs`, `spki.rs`).
//! - *Size*: heads are bounded by `Limits::headers`; bodies by whoever reads them.
//!
//! A request is sent once; what may be retried is decided by the caller.

mod connect;
mod deadline;
mod errors;
mod options;
mod proxy;
mod request;
mod response;
mod spki;
mod tls;
mod url;

pub(crate) use deadline::POLL_INTERVAL;
pub use options::{ClientOptions, Proxy};
pub(crate) use proxy::base64;
pub use request::{Method, Request};
pub use response::{Body, Response};
pub use tls::{Certificate, Identity, Trust};
pub use url::{Scheme, Url};

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use ureq::http;
use ureq::unversioned::transport::{ConnectProxyConnector, Connector, SocksConnector};

use self::connect::Connections;
use self::deadline::Deadline;
use self::request::Payload;
use crate::error::{Error, Result};
use crate::limits::Limits;

/// Whether a header proves who the client is.
fn is_credential(name: &str) -> bool {
    ["authorization", "cookie"].iter().any(|secret| name.eq_ignore_ascii_case(secret))
}

/// An HTTP/1.1 client. Cheap to clone; clones share their connections.
///
/// ```no_run
/// use lxd_image::remote::{Client, ClientOptions, Request};
///
/// let client = Client::new(ClientOptions::new())?;
/// let answer = client.send(Request::get(&"https://images.example/1.0".parse()?))?.success()?;
/// println!("{}", answer.text()?);
/// # Ok::<(), lxd_image::Error>(())
/// ```
#[derive(Clone)]
pub struct Client(Arc<Inner>);

/// What clones share.
struct Inner {
    options: ClientOptions,
    /// One `ureq` agent, and so one connection pool, for each kind of connection.
    agents: Mutex<HashMap<PoolKey, ureq::Agent>>,
}

/// What kind of connection a request needs. Connections of different kinds are never exchanged, since they differ in who the
/// client says it is and in what it may reach.
#[derive(Clone, PartialEq, Eq, Hash)]
struct PoolKey {
    /// Whether the server is spoken to over TLS.
    tls: bool,
    /// Whether a redirect or a document led from the requested server to another one, which must not see the client certificate.
    cross_origin: bool,
    /// Whether loopback and link-local addresses are refused for that reason.
    local_forbidden: bool,
    /// The URL of the proxy.
    proxy: Option<String>,
    /// Whether the proxy gets absolute URLs (plain http) instead of a `CONNECT` (RFC 9112, 3.2.2 and 3.2.3).
    forwarded: bool,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("options", &self.0.options).finish_non_exhaustive()
    }
}

impl Client {
    /// A client without connections. Nothing is sent yet.
    ///
    /// # Errors
    /// `InvalidInput` for an invalid proxy URL, or a client certificate and key that don't belong together.
    pub fn new(options: ClientOptions) -> Result<Self> {
        if let Proxy::Url(text) = &options.proxy {
            proxy::proxy(text)?;
        }
        if options.identity.is_some() && matches!(options.trust, Trust::Pinned(_)) {
            tls::config(&options.trust, options.identity.as_ref())?;
        }
        Ok(Self(Arc::new(Inner { options, agents: Mutex::default() })))
    }

    /// The limits on responses.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.0.options.limits
    }

    /// The options that it was made with.
    #[must_use]
    pub fn options(&self) -> &ClientOptions {
        &self.0.options
    }

    /// Sends a request once and returns the response, whatever its status; the body is read from it. Redirects of `GET` and
    /// `HEAD` are followed: never from https to http, to a file, or (unless allowed) from another host to this machine.
    ///
    /// # Errors
    /// `Remote`, saying whether the name, the connection, the certificate or the response is at fault;
    /// `LimitExceeded` for `redirects`, `headers`, `total`; `InvalidInput` for plain http that is
    /// not allowed; `Cancelled`.
    pub fn send(&self, mut request: Request<'_>) -> Result<Response> {
        let limits = &self.0.options.limits;
        let mut deadline = Deadline::new(request.monitor.clone(), limits, request.idle_timeout);
        let start = request.referred_by.clone().unwrap_or_else(|| request.url.clone());
        let mut url = request.url.clone();
        let mut hops = 0;
        loop {
            let pool_key = self.pool_key(&start, &url)?;
            let answer = self.send_once(&pool_key, &url, &mut request, &mut deadline)?;
            let status = answer.status().as_u16();
            if status == 407 {
                // This response is the proxy's and must not be taken for the server's.
                return Err(Response::new(answer, url, request.method, deadline, limits.clone()).failure());
            }
            let follow =
                matches!(status, 301 | 302 | 303 | 307 | 308) && matches!(request.method, Method::Get | Method::Head);
            if !follow {
                return Ok(Response::new(answer, url, request.method, deadline, limits.clone()));
            }
            let next = answer.headers().get("location").and_then(|value| value.to_str().ok()).ok_or_else(|| {
                Error::remote(format!("{} redirects (status {status}) without saying where to", url.authority()))
            })?;
            let next = url.join(next).map_err(|error| {
                Error::remote(format!("{} redirects to what can't be followed", url.authority())).with_source(error)
            })?;
            if url.scheme() == Scheme::Https && next.scheme() != Scheme::Https {
                return Err(Error::remote(format!(
                    "{} redirects from https to {next}, which is not encrypted",
                    url.authority()
                )));
            }
            hops += 1;
            if hops > limits.redirects {
                let what = format!("the number of redirects of {}", request.url.authority());
                return Err(Error::limit("redirects", limits.redirects, what));
            }
            url = next;
        }
    }

    /// The certificate that a server shows, without trusting it: for a user to compare its fingerprint and to pin it. The
    /// handshake is ended before any data is sent.
    ///
    /// # Errors
    /// `Remote` when it can't be reached or does not speak TLS, `InvalidInput` for a URL without TLS.
    pub fn server_certificate(&self, url: &Url, monitor: &crate::Monitor) -> Result<Certificate> {
        if url.scheme() != Scheme::Https {
            return Err(Error::invalid(format!("{url} is spoken to without TLS, so that it has no certificate")));
        }
        let (config, seen) = tls::recording_config()?;
        let pool_key = self.pool_key(url, url)?;
        let agent = self.agent(&pool_key, Some(config))?;
        let mut deadline = Deadline::new(monitor.clone(), self.limits(), None);
        let asked = self.run(&agent, &pool_key, &mut Request::head(url), url, &mut deadline);
        let certificate = seen.lock().unwrap_or_else(PoisonError::into_inner).take();
        match (certificate, asked) {
            (Some(certificate), _) => Ok(certificate),
            (None, Err(error)) => Err(error),
            (None, Ok(_)) => Err(Error::remote(format!("{} shows no certificate", url.authority()))),
        }
    }

    /// Decides what kind of connection the next hop needs, and refuses hops that are not allowed. `start` is the URL that the user
    /// named, or the document that named this one; `url` is the hop. The check by name and literal address here is repeated for
    /// resolved addresses in `Connections::connect_tcp`.
    ///
    /// # Errors
    /// `InvalidInput` for a file and for plain http that is not allowed; `Remote` for a local address that another host named.
    fn pool_key(&self, start: &Url, url: &Url) -> Result<PoolKey> {
        let options = &self.0.options;
        if url.scheme() == Scheme::File {
            return Err(Error::invalid(format!("{url} is no address of a server")));
        }
        let cross_origin = !start.same_server(url);
        let local_forbidden =
            cross_origin && !start.is_loopback() && start.scheme() != Scheme::File && !options.allow_local;
        if local_forbidden && (url.is_loopback() || url.host().parse().is_ok_and(url::is_local)) {
            return Err(Error::remote(format!(
                "an answer of {} leads to {}, an address of this machine",
                start.authority(),
                url.authority()
            )));
        }
        if url.scheme() == Scheme::Http && !url.is_loopback() && !options.allow_http {
            return Err(Error::invalid(format!("{url} is plain http, which anyone on the way can read and change"))
                .with_hint("use https, or allow it with `--allow-http`"));
        }
        let proxy = if url.is_loopback() {
            None
        } else {
            match &options.proxy {
                Proxy::Direct => None,
                Proxy::Url(text) => Some(text.clone()),
                Proxy::Environment => proxy::from_environment(url),
            }
        };
        let forwarded = match &proxy {
            Some(text) => proxy::forwards(url, &proxy::proxy(text)?),
            None => false,
        };
        Ok(PoolKey { tls: url.scheme() == Scheme::Https, cross_origin, local_forbidden, proxy, forwarded })
    }

    /// Builds the agent for one kind of connection. Redirects of `ureq` are off, since they are decided in [`send`](Self::send);
    /// statuses are no errors, since callers read them.
    fn agent(&self, pool_key: &PoolKey, tls: Option<Arc<rustls::ClientConfig>>) -> Result<ureq::Agent> {
        let options = &self.0.options;
        let size = |limit: u64| usize::try_from(limit.min(16 << 20)).unwrap_or(16 << 20);
        let through = pool_key.proxy.as_deref().map(proxy::proxy).transpose()?;
        let forwarding = pool_key.forwarded;
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .max_response_header_size(size(options.limits.headers))
            .user_agent(options.user_agent.clone())
            .input_buffer_size(size(options.limits.headers).max(128 << 10))
            .output_buffer_size(64 << 10)
            .proxy(through.filter(|_| !forwarding))
            .build();
        // The proxy resolves the name, so that the address can't be checked here; the address of the proxy itself was chosen by
        // the user and may be local.
        let local_forbidden = pool_key.local_forbidden && pool_key.proxy.is_none();
        let connections = Connections { tls, local_forbidden, forwarding };
        let connector = ().chain(SocksConnector::default()).chain(ConnectProxyConnector::default()).chain(connections);
        Ok(ureq::Agent::with_parts(config, connector, connect::SystemResolver))
    }

    /// Sends one hop over the agent of its kind, which is made when first needed. The lock is held only for the lookup and the
    /// insertion, never over I/O.
    fn send_once(
        &self,
        pool_key: &PoolKey,
        url: &Url,
        request: &mut Request<'_>,
        deadline: &mut Deadline,
    ) -> Result<http::Response<ureq::Body>> {
        let known = self.0.agents.lock().unwrap_or_else(PoisonError::into_inner).get(pool_key).cloned();
        let agent = match known {
            Some(agent) => agent,
            None => {
                let options = &self.0.options;
                // The connection to an https proxy needs TLS even if the one to the server does not.
                let needed = pool_key.tls || pool_key.proxy.as_ref().is_some_and(|proxy| proxy.starts_with("https:"));
                let identity = options.identity.as_ref().filter(|_| !pool_key.cross_origin);
                let tls = needed.then(|| tls::config(&options.trust, identity)).transpose()?;
                let agent = self.agent(pool_key, tls)?;
                let mut agents = self.0.agents.lock().unwrap_or_else(PoisonError::into_inner);
                agents.entry(pool_key.clone()).or_insert(agent).clone()
            }
        };
        self.run(&agent, pool_key, request, url, deadline)
    }

    /// Sends one hop and waits for the head of its response, under the deadline of the request. The idle timer starts again before
    /// and after, so that time between requests of one connection does not count.
    fn run(
        &self,
        agent: &ureq::Agent,
        pool_key: &PoolKey,
        request: &mut Request<'_>,
        url: &Url,
        deadline: &mut Deadline,
    ) -> Result<http::Response<ureq::Body>> {
        request.monitor.check()?;
        let mut head = http::Request::builder().method(request.method.name());
        match pool_key.proxy.as_deref().filter(|_| pool_key.forwarded) {
            Some(text) => {
                let proxy = proxy::proxy(text)?;
                head = head.uri(proxy::forwarded(url, &proxy)).header("host", url.authority());
                if let Some(who) = proxy::authorization(&proxy) {
                    head = head.header("proxy-authorization", who);
                }
            }
            None => head = head.uri(url.to_wire()),
        }
        // A redirect to another server must not take along what proves who the client is.
        let cross_origin = !request.url.same_server(url);
        for (name, value) in request.headers.iter().filter(|(name, _)| !(cross_origin && is_credential(name))) {
            head = head.header(name, value);
        }
        let wrong = |error: http::Error| Error::invalid("a request can't be made of this").with_source(error);
        deadline.restart();
        let answer = deadline.run(|| match &mut request.payload {
            Payload::None => agent.run(head.body(()).map_err(wrong)?).map_err(|error| errors::translate(error, url)),
            Payload::Bytes(bytes) => {
                agent.run(head.body(&**bytes).map_err(wrong)?).map_err(|error| errors::translate(error, url))
            }
            Payload::Stream(reader) => {
                let mut lent: &mut (dyn io::Read + Send) = &mut **reader;
                let body = ureq::SendBody::from_reader(&mut lent);
                agent.run(head.body(body).map_err(wrong)?).map_err(|error| errors::translate(error, url))
            }
        })?;
        deadline.restart();
        Ok(answer)
    }
}
