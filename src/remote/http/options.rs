//! `ClientOptions`: whom a client trusts, who it is, through which proxy, within which limits.

use std::fmt;

use super::tls::{Identity, Trust};
use crate::limits::Limits;
use crate::redact;
use crate::remote::Retry;

/// Which proxy a client goes through.
#[derive(Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Proxy {
    /// The one that `HTTPS_PROXY`, `HTTP_PROXY` (for plain http) or `ALL_PROXY` name, in either
    /// case, unless `NO_PROXY` names the host: `*`, a name, a domain, an address, a block of addresses (`10.0.0.0/8`), perhaps
    /// with a port. Plain http goes through by absolute addresses, TLS through a tunnel. This machine itself is never asked
    /// for through one.
    #[default]
    Environment,
    /// None.
    Direct,
    /// This one, for all but this machine itself: `http://…`, `https://…`, `socks5://…`, `socks4://…`.
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

/// How a [`Client`](super::Client) behaves.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ClientOptions {
    pub(crate) limits: Limits,
    pub(crate) trust: Trust,
    pub(crate) identity: Option<Identity>,
    pub(crate) proxy: Proxy,
    pub(crate) allow_http: bool,
    pub(crate) allow_local: bool,
    pub(crate) retry: Retry,
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
            retry: Retry::default(),
            user_agent: concat!("lxd-image/", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }
}

impl ClientOptions {
    /// The system's trust, no certificate of its own, the proxy of the environment, TLS only.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The limits: `redirects`, `headers`, `idle`, `total`, `remote_index`, `download`.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Which servers are believed.
    #[must_use]
    pub fn trust(mut self, trust: Trust) -> Self {
        self.trust = trust;
        self
    }

    /// Who this client is. Only shown to the server that it was made to talk to, never to one that
    /// a redirect leads to.
    #[must_use]
    pub fn identity(mut self, identity: Identity) -> Self {
        self.identity = Some(identity);
        self
    }

    /// Which proxy is used.
    #[must_use]
    pub fn proxy(mut self, proxy: Proxy) -> Self {
        self.proxy = proxy;
        self
    }

    /// Whether plain http is spoken with other machines than this one.
    #[must_use]
    pub fn allow_http(mut self, yes: bool) -> Self {
        self.allow_http = yes;
        self
    }

    /// Whether a server elsewhere may lead to loopback and link-local addresses.
    #[must_use]
    pub fn allow_local(mut self, yes: bool) -> Self {
        self.allow_local = yes;
        self
    }

    /// How often things are tried that fail for reasons that may pass. [`Client::send`](super::Client::send)
    /// itself tries once.
    #[must_use]
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// What the client says it is.
    #[must_use]
    pub fn user_agent(mut self, text: impl Into<String>) -> Self {
        self.user_agent = text.into();
        self
    }
}
