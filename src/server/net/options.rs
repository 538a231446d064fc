//! [`ListenerOptions`]: trusted clients, the certificate, and the limits on connections and time. The timeout of idle
//! clients is `Limits::idle`.

use std::fmt;
use std::io::Write;
use std::num::NonZeroUsize;
use std::time::Duration;

use super::certificate::ServerCertificate;
use super::trust::TrustedClients;
use crate::limits::Limits;

/// How a server listens.
///
/// ```
/// use std::time::Duration;
/// use lxd_image::server::ListenerOptions;
///
/// let options = ListenerOptions::new().connections(200).grace(Duration::from_secs(10));
/// # let _ = options;
/// ```
///
/// The defaults suit a public image server with 1 GiB of memory. Without a certificate the listener
/// speaks plain HTTP only.
pub struct ListenerOptions {
    /// The certificate for TLS.
    pub(super) certificate: Option<ServerCertificate>,
    /// The trusted clients; `None` for a server that is only read from.
    pub(super) trusted: Option<TrustedClients>,
    /// Of the limits, `headers` (bytes of a head) and `idle` (seconds) are used here.
    pub(super) limits: Limits,
    /// Connections in all.
    pub(super) connections: usize,
    /// Connections of one address.
    pub(super) connections_per_address: usize,
    /// The time for a handshake, and for the head of a request.
    pub(super) head_time: Duration,
    /// The time for running requests at shutdown.
    pub(super) grace: Duration,
    /// Threads of the runtime; `None` for one per core.
    pub(super) threads: Option<NonZeroUsize>,
    /// Where the access log is written; `None` for nowhere.
    pub(super) log: Option<Box<dyn Write + Send>>,
}

impl Default for ListenerOptions {
    fn default() -> Self {
        Self {
            certificate: None,
            trusted: None,
            limits: Limits::default(),
            // A request holds at most some 400 KiB (what is read ahead, what is encrypted), and clients of images have
            // one each, so 400 MiB; a connection of HTTP/2 may have four.
            connections: 1_024,
            // Whatever one address does, as many connections are left for all others.
            connections_per_address: 512,
            // Twice what the slowest honest handshake takes over a satellite. A silent client is gone after it.
            head_time: Duration::from_secs(30),
            grace: Duration::from_secs(30),
            threads: None,
            log: None,
        }
    }
}

impl fmt::Debug for ListenerOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ListenerOptions")
            .field("certificate", &self.certificate)
            .field("connections", &self.connections)
            .field("connections_per_address", &self.connections_per_address)
            .field("head_time", &self.head_time)
            .field("grace", &self.grace)
            .finish_non_exhaustive()
    }
}

impl ListenerOptions {
    /// The default limits; no certificate, no trusted clients, no log.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the server's certificate. Required for TLS.
    #[must_use]
    pub fn certificate(mut self, certificate: ServerCertificate) -> Self {
        self.certificate = Some(certificate);
        self
    }

    /// Sets the trusted clients. Without it, clients are not asked for a certificate, and all are untrusted.
    #[must_use]
    pub fn trusted(mut self, trusted: TrustedClients) -> Self {
        self.trusted = Some(trusted);
        self
    }

    /// Sets the limits on what clients send; `headers` and `idle` apply to the listener.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets the limit on connections; more wait until others end. At least one.
    #[must_use]
    pub fn connections(mut self, connections: usize) -> Self {
        self.connections = connections.clamp(1, 1 << 20);
        self
    }

    /// Sets the limit on connections of one address (for IPv6, one /64 network); more are closed. At least one.
    #[must_use]
    pub fn connections_per_address(mut self, connections: usize) -> Self {
        self.connections_per_address = connections.max(1);
        self
    }

    /// Sets the time for the handshake and for the head of a request, and how long a connection without a request stays
    /// open.
    #[must_use]
    pub fn head_time(mut self, time: Duration) -> Self {
        self.head_time = time;
        self
    }

    /// Sets the time that running requests get when the server stops (default: 30 seconds). A
    /// download that takes longer is cut; its client can continue it with a range request.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Sets the number of threads for connections (default: one per core). Handlers run on other threads.
    #[must_use]
    pub fn threads(mut self, threads: NonZeroUsize) -> Self {
        self.threads = Some(threads);
        self
    }

    /// Sets the access log. A writer that is too slow loses lines, and delays no request.
    ///
    /// The format is that of web servers, a line for each request, flushed when the server stops.
    #[must_use]
    pub fn log(mut self, log: impl Write + Send + 'static) -> Self {
        self.log = Some(Box::new(log));
        self
    }
}
