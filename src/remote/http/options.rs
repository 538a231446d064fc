//! `ClientOptions`: trust, identity, proxy, limits and retries of a client.

use std::fmt;

use super::tls::{Identity, Trust};
use crate::limits::Limits;
use crate::redact;
use crate::remote::RetryPolicy;

/// The proxy of a client.
#[derive(Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Proxy {
    /// The one that `HTTPS_PROXY`, `HTTP_PROXY` (for plain http) or `ALL_PROXY` names, in upper or lower case, unless `NO_PROXY`
    /// matches the host: `*`, a name, a domain, an address, a network (`10.0.0.0/8`), each with or without a port. Plain http is
    /// sent to the proxy with absolute URLs, TLS through a tunnel. Loopback addresses are never proxied.
    #[default]
    Environment,
    /// No proxy.
    Direct,
    /// This one for all hosts but loopback: `http://…`, `https://…`, `socks5://…`, `socks4://…`.
    Url(String),
}

impl fmt::Debug for Proxy {
    /// Without the password that may stand in a proxy's address.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Environment => f.write_str("Environment"),
            Self::Direct => f.write_str("Direct"),
            Self::Url(url) => write!(f, "Url({})", redact::address(url)),
        }
    }
}

/// Options of a [`Client`](super::Client) and of every remote.
///
/// ```
/// use lxd_image::Limits;
/// use lxd_image::remote::{ClientOptions, Proxy};
///
/// let mut limits = Limits::default();
/// limits.total = 600;
/// let options = ClientOptions::new().limits(limits).proxy(Proxy::Direct);
/// # let _ = options;
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ClientOptions {
    pub(crate) limits: Limits,
    pub(crate) trust: Trust,
    pub(crate) identity: Option<Identity>,
    pub(crate) proxy: Proxy,
    pub(crate) allow_http: bool,
    pub(crate) allow_local: bool,
    pub(crate) retry: RetryPolicy,
    pub(crate) user_agent: String,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            trust: Trust::default(),
            identity: None,
            proxy: Proxy::default(),
            allow_http: false,
            allow_local: false,
            retry: RetryPolicy::default(),
            user_agent: concat!("lxd-image/", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }
}

impl ClientOptions {
    /// System trust, no client certificate, the proxy of the environment, TLS only.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The limits on requests and responses: `redirects`, `headers`, `idle`, `total`, `remote_index`, `download`.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Which server certificates are trusted.
    #[must_use]
    pub fn trust(mut self, trust: Trust) -> Self {
        self.trust = trust;
        self
    }

    /// The client certificate. It is shown only to the server that a request names, never to one that a redirect leads to.
    #[must_use]
    pub fn identity(mut self, identity: Identity) -> Self {
        self.identity = Some(identity);
        self
    }

    /// The proxy.
    #[must_use]
    pub fn proxy(mut self, proxy: Proxy) -> Self {
        self.proxy = proxy;
        self
    }

    /// Whether plain http may be spoken with hosts other than this one. Anyone on the way can read and change it.
    #[must_use]
    pub fn allow_http(mut self, yes: bool) -> Self {
        self.allow_http = yes;
        self
    }

    /// Whether redirects and documents of another host may lead to loopback and link-local addresses.
    #[must_use]
    pub fn allow_local(mut self, yes: bool) -> Self {
        self.allow_local = yes;
        self
    }

    /// How transient failures are retried. [`Client::send`](super::Client::send) itself tries once; remotes and downloads retry.
    #[must_use]
    pub fn retry(mut self, retry: RetryPolicy) -> Self {
        self.retry = retry;
        self
    }

    /// The `User-Agent`.
    #[must_use]
    pub fn user_agent(mut self, text: impl Into<String>) -> Self {
        self.user_agent = text.into();
        self
    }
}
