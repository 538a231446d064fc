//! The transport of all remotes: one request, its redirects and its answer, over TLS or to this machine.
//! Redirects, limits and trust are decided here; framing is `ureq`'s.

mod answer;
mod connect;
mod failure;
mod options;
mod proxy;
mod request;
mod spki;
mod tls;
mod url;
mod watch;

pub use answer::{Body, Response};
pub use options::{ClientOptions, Proxy};
pub use request::{Method, Request};
pub use tls::{Certificate, Identity, Trust};
pub use url::{Scheme, Url};

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use ureq::http;
use ureq::unversioned::transport::{ConnectProxyConnector, Connector, SocksConnector};

use self::connect::Connections;
use self::request::Payload;
use self::watch::Watch;
use crate::error::{Error, Result};
use crate::limits::Limits;

/// Talks HTTP/1.1 with servers. Cheap to clone; connections are kept and used again.
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

struct Inner {
    options: ClientOptions,
    agents: Mutex<HashMap<Purpose, ureq::Agent>>,
}

/// What connections are for: those for different purposes are never exchanged.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Purpose {
    tls: bool,
    /// The way was told by an answer, and leads to another server than the one that was meant.
    stranger: bool,
    /// And it must not end on this machine.
    led: bool,
    proxy: Option<String>,
    /// Whether the proxy is asked by absolute addresses, and not for a tunnel.
    forwarded: bool,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("options", &self.0.options).finish_non_exhaustive()
    }
}

impl Client {
    /// A client that has not talked to anyone.
    ///
    /// # Errors
    /// `InvalidInput` for a proxy that is none, or an identity whose parts don't fit together.
    pub fn new(options: ClientOptions) -> Result<Self> {
        if let Proxy::Url(text) = &options.proxy {
            proxy::proxy(text)?;
        }
        if options.identity.is_some() && matches!(options.trust, Trust::Pinned(_)) {
            tls::config(&options.trust, options.identity.as_ref())?;
        }
        Ok(Self(Arc::new(Inner { options, agents: Mutex::default() })))
    }

    /// The limits that its answers must keep.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.0.options.limits
    }

    /// How it behaves.
    #[must_use]
    pub fn options(&self) -> &ClientOptions {
        &self.0.options
    }

    /// Sends a request and returns the answer's head, of whatever status; its body is read from the
    /// answer. Redirects of `GET` and `HEAD` are followed: never from https to http, to a file, or
    /// (unless allowed) from another machine to this one.
    ///
    /// # Errors
    /// `Remote`, saying whether the host, the way, the certificate or the answer is at fault;
    /// `LimitExceeded` for `redirects`, `headers`, `total`; `InvalidInput` for plain http that is
    /// not allowed; `Cancelled`.
    pub fn send(&self, mut request: Request<'_>) -> Result<Response> {
        let limits = &self.0.options.limits;
        let mut watch = Watch::new(request.monitor.clone(), limits, request.patience);
        let start = request.led_by.clone().unwrap_or_else(|| request.url.clone());
        let mut url = request.url.clone();
        let mut hops = 0;
        loop {
            let purpose = self.purpose(&start, &url)?;
            let answer = self.once(&purpose, &url, &mut request, &mut watch)?;
            let status = answer.status().as_u16();
            if status == 407 {
                // A proxy's answer, which must not pass for one of the server.
                return Err(Response::new(answer, url, request.method, watch, limits.clone()).failure());
            }
            let follow =
                matches!(status, 301 | 302 | 303 | 307 | 308) && matches!(request.method, Method::Get | Method::Head);
            if !follow {
                return Ok(Response::new(answer, url, request.method, watch, limits.clone()));
            }
            let next = answer.headers().get("location").and_then(|value| value.to_str().ok()).ok_or_else(|| {
                Error::remote(format!("{} redirects (status {status}) without saying where to", url.authority()))
            })?;
            let next = url.join(next).map_err(|error| {
                Error::remote(format!("{} redirects to what can't be followed", url.authority())).with_source(error)
            })?;
            if url.scheme() == Scheme::Https && next.scheme() != Scheme::Https {
                return Err(Error::remote(format!(
                    "{} redirects from https to {next}, which nobody protects",
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

    /// The certificate that a server shows, without trusting it: for people to compare its
    /// fingerprint, and to pin it. Nothing is sent to the server.
    ///
    /// # Errors
    /// `Remote` when it can't be reached or does not speak TLS, `InvalidInput` for a URL without TLS.
    pub fn server_certificate(&self, url: &Url, monitor: &crate::Monitor) -> Result<Certificate> {
        if url.scheme() != Scheme::Https {
            return Err(Error::invalid(format!("{url} is spoken to without TLS, so that it has no certificate")));
        }
        let (config, seen) = tls::asking()?;
        let purpose = self.purpose(url, url)?;
        let agent = self.agent(&purpose, Some(config))?;
        let mut watch = Watch::new(monitor.clone(), self.limits(), None);
        let asked = self.run(&agent, &purpose, &mut Request::head(url), url, &mut watch);
        let certificate = seen.lock().unwrap_or_else(PoisonError::into_inner).take();
        match (certificate, asked) {
            (Some(certificate), _) => Ok(certificate),
            (None, Err(error)) => Err(error),
            (None, Ok(_)) => Err(Error::remote(format!("{} shows no certificate", url.authority()))),
        }
    }

    fn purpose(&self, start: &Url, url: &Url) -> Result<Purpose> {
        let options = &self.0.options;
        if url.scheme() == Scheme::File {
            return Err(Error::invalid(format!("{url} is no address of a server")));
        }
        let stranger = !start.same_server(url);
        let led = stranger && !start.is_loopback() && start.scheme() != Scheme::File && !options.allow_local;
        if led && (url.is_loopback() || url.host().parse().is_ok_and(url::is_local)) {
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
        Ok(Purpose { tls: url.scheme() == Scheme::Https, stranger, led, proxy, forwarded })
    }

    fn agent(&self, purpose: &Purpose, tls: Option<Arc<rustls::ClientConfig>>) -> Result<ureq::Agent> {
        let options = &self.0.options;
        let size = |limit: u64| usize::try_from(limit.min(16 << 20)).unwrap_or(16 << 20);
        let through = purpose.proxy.as_deref().map(proxy::proxy).transpose()?;
        let forwarding = purpose.forwarded;
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
        // Behind a proxy nobody here knows the server's address, and the proxy's own is a person's choice.
        let led = purpose.led && purpose.proxy.is_none();
        let connections = Connections { tls, led, forwarding };
        let connector = ().chain(SocksConnector::default()).chain(ConnectProxyConnector::default()).chain(connections);
        Ok(ureq::Agent::with_parts(config, connector, connect::LookUp))
    }

    fn once(
        &self,
        purpose: &Purpose,
        url: &Url,
        request: &mut Request<'_>,
        watch: &mut Watch,
    ) -> Result<http::Response<ureq::Body>> {
        let known = self.0.agents.lock().unwrap_or_else(PoisonError::into_inner).get(purpose).cloned();
        let agent = match known {
            Some(agent) => agent,
            None => {
                let options = &self.0.options;
                // A proxy may be spoken to over TLS, also where the server is not.
                let needed = purpose.tls || purpose.proxy.as_ref().is_some_and(|proxy| proxy.starts_with("https:"));
                let identity = options.identity.as_ref().filter(|_| !purpose.stranger);
                let tls = needed.then(|| tls::config(&options.trust, identity)).transpose()?;
                let agent = self.agent(purpose, tls)?;
                let mut agents = self.0.agents.lock().unwrap_or_else(PoisonError::into_inner);
                agents.entry(purpose.clone()).or_insert(agent).clone()
            }
        };
        self.run(&agent, purpose, request, url, watch)
    }

    fn run(
        &self,
        agent: &ureq::Agent,
        purpose: &Purpose,
        request: &mut Request<'_>,
        url: &Url,
        watch: &mut Watch,
    ) -> Result<http::Response<ureq::Body>> {
        request.monitor.check()?;
        let mut head = http::Request::builder().method(request.method.name());
        match purpose.proxy.as_deref().filter(|_| purpose.forwarded) {
            Some(text) => {
                let proxy = proxy::proxy(text)?;
                head = head.uri(proxy::forwarded(url, &proxy)).header("host", url.authority());
                if let Some(who) = proxy::authorization(&proxy) {
                    head = head.header("proxy-authorization", who);
                }
            }
            None => head = head.uri(url.to_wire()),
        }
        for (name, value) in &request.headers {
            head = head.header(name, value);
        }
        let wrong = |error: http::Error| Error::invalid("a request can't be made of this").with_source(error);
        watch.restart();
        let answer = watch.over(|| match &mut request.payload {
            Payload::None => agent.run(head.body(()).map_err(wrong)?).map_err(|error| failure::translate(error, url)),
            Payload::Bytes(bytes) => {
                agent.run(head.body(&**bytes).map_err(wrong)?).map_err(|error| failure::translate(error, url))
            }
            Payload::Stream(reader) => {
                let mut lent: &mut (dyn io::Read + Send) = &mut **reader;
                let body = ureq::SendBody::from_reader(&mut lent);
                agent.run(head.body(body).map_err(wrong)?).map_err(|error| failure::translate(error, url))
            }
        })?;
        watch.restart();
        Ok(answer)
    }
}
