//! [`Listener`]: the handler on the network, over TLS 1.2 or 1.3 with HTTP/1.1 and HTTP/2, until it is stopped. The
//! only part of the library with an async runtime: the runtime serves the connections, and handlers run on threads that
//! may block.
//!
//! `admission` bounds connections and requests, `idle` cuts connections of idle clients, `framing` refuses requests
//! that can be parsed in two ways, `trust` reads the list of trusted certificates, `access_log` writes a line for each
//! request.
//!
//! # Threads
//!
//! | threads | how many | what they do |
//! |---|---|---|
//! | runtime workers | one per core, or [`ListenerOptions::threads`] | accept, TLS, parse, send; never block |
//! | request threads | 256, and 64 for long requests | run [`Handler::handle`]; wait for disk and client |
//! | readers | up to 64 | read the next chunk of a body ahead of the client |
//! | access log | 1 | writes lines from a bounded queue |
//!
//! The bounds on request threads are those of `admission`; the pool of the runtime has exactly as
//! many threads as these bounds allow, so a permit never waits for a thread.
//!
//! # Life of a connection
//!
//! 1. Accepted, if its address has fewer connections than it may; closed at once otherwise.
//! 2. Waits until there are fewer connections in all than there may be.
//! 3. Handshake of TLS within the head time. The client certificate is read, and not judged.
//! 4. Each request: head within the head time, framing checked, permit, handler, body.
//! 5. Ends when the client closes it, is idle for too long, sends a request that can be parsed in
//!    two ways, or the server stops.
//!
//! # Shutdown
//!
//! [`Listener::run`] closes the listening sockets first, so that clients go elsewhere, then tells
//! every connection to finish. Idle connections end at once, others after their request. What still
//! runs after the grace time is cut, and its uploads are discarded.

mod access_log;
mod admission;
mod body;
mod buffers;
mod certificate;
mod connection;
mod framing;
mod idle;
mod observed;
mod options;
mod service;
mod stage;
mod tls;
mod trust;
mod websocket;

use std::fmt;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use self::access_log::AccessLog;
use self::admission::Admission;
use self::buffers::Buffers;
pub use self::certificate::ServerCertificate;
pub use self::options::ListenerOptions;
use self::service::ListenerState;
use self::stage::Stage;
pub use self::trust::TrustedClients;
use crate::error::{Error, Result};
use crate::fingerprint::Fingerprint;
use crate::progress::Cancel;
use crate::server::handler::Handler;

/// How often the stop switch is polled: [`Cancel`] is a plain flag that nobody can be woken by.
const LOOK: Duration = Duration::from_millis(50);
/// The delay after a failed accept, mostly because the process has no file descriptors left.
///
/// Without it the loop would spin until another connection ends.
const RECOVER: Duration = Duration::from_millis(100);
/// How often cached images are evicted and remains of interrupted uploads are removed.
const TIDY: Duration = Duration::from_secs(60 * 60);
/// How long shutdown waits for threads at the very end.
///
/// A thread may hang in a read of a broken network file system; the process ends nevertheless.
const THREADS_END: Duration = Duration::from_secs(1);

/// A server on the network. Bind it to addresses, then [`run`](Self::run) it.
///
/// ```
/// use std::sync::Arc;
/// use lxd_image::Cancel;
/// use lxd_image::server::{Handler, Listener, ListenerOptions, ServerCertificate, ServerOptions};
/// use lxd_image::store::Store;
///
/// # let directory = std::env::temp_dir().join(format!("lxd-image-doc-listener-{}", std::process::id()));
/// let handler = Handler::new(Store::open(directory.join("store"))?, ServerOptions::new());
/// let certificate = ServerCertificate::kept_in(&directory, &["images.example".to_owned()])?;
/// let mut listener = Listener::new(Arc::new(handler), ListenerOptions::new().certificate(certificate))?;
/// listener.bind("127.0.0.1:0".parse().unwrap())?;
/// println!("https://{} {:?}", listener.local_addresses()[0].0, listener.fingerprint());
/// let stop = Cancel::new();
/// # stop.cancel();
/// listener.run(&stop)?;
/// # std::fs::remove_dir_all(&directory).unwrap();
/// # Ok::<(), lxd_image::Error>(())
/// ```
///
/// It may listen on several sockets at once, with TLS and without. TLS needs a
/// [`ServerCertificate`]; clients are asked for a certificate if the options have
/// [`TrustedClients`].
pub struct Listener {
    /// Answers the requests.
    handler: Arc<Handler>,
    /// The limits; the certificate and the log are taken out of it.
    options: ListenerOptions,
    /// Accepts handshakes; `None` without a certificate.
    tls: Option<TlsAcceptor>,
    /// The SHA-256 of the server's certificate, which clients pin.
    fingerprint: Option<Fingerprint>,
    /// The sockets, each with its address and with whether it speaks TLS.
    sockets: Vec<(TcpListener, SocketAddr, bool)>,
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener")
            .field("addresses", &self.local_addresses())
            .field("fingerprint", &self.fingerprint)
            .finish_non_exhaustive()
    }
}

impl Listener {
    /// A listener that is bound to no address yet.
    ///
    /// # Errors
    /// `Malformed` when the certificate and the key don't belong together.
    pub fn new(handler: Arc<Handler>, mut options: ListenerOptions) -> Result<Self> {
        let certificate = options.certificate.take();
        let fingerprint = certificate.as_ref().map(ServerCertificate::fingerprint);
        // Browsers ask their users for a certificate when the server requests one, which bothers
        // people on a server that trusts nobody.
        let ask = options.trusted.is_some();
        let tls = certificate.map(|certificate| tls::config(certificate, ask)).transpose()?.map(TlsAcceptor::from);
        Ok(Self { handler, options, tls, fingerprint, sockets: Vec::new() })
    }

    /// Binds to an address, for TLS; port 0 takes a free one.
    ///
    /// Call it once for each address. Connections wait in the kernel until [`run`](Self::run) is
    /// called.
    ///
    /// # Errors
    /// `Io` when the address can't be bound, `InvalidInput` without a certificate.
    pub fn bind(&mut self, address: SocketAddr) -> Result<()> {
        let failed = |error| Error::io(format!("cannot listen on {address}"), error);
        self.listen(TcpListener::bind(address).map_err(failed)?)
    }

    /// Accepts TLS connections from a listening socket, such as one from systemd.
    ///
    /// # Errors
    /// `Io`, `InvalidInput` when there is no certificate.
    pub fn listen(&mut self, socket: TcpListener) -> Result<()> {
        if self.tls.is_none() {
            return Err(Error::invalid("TLS needs a certificate"));
        }
        self.add(socket, true)
    }

    /// Accepts plain HTTP connections from a listening socket: for a proxy on the same machine or in a private network.
    ///
    /// Over plain HTTP no client can show a certificate, so all are untrusted. Whoever can see the
    /// network can read tokens: do not use it across one.
    ///
    /// # Errors
    /// `Io`.
    pub fn listen_plain(&mut self, socket: TcpListener) -> Result<()> {
        self.add(socket, false)
    }

    /// Adds a listening socket. It becomes non-blocking, which the runtime requires.
    fn add(&mut self, socket: TcpListener, tls: bool) -> Result<()> {
        let failed = |error| Error::io("cannot listen on a socket", error);
        socket.set_nonblocking(true).map_err(failed)?;
        let address = socket.local_addr().map_err(failed)?;
        self.sockets.push((socket, address, tls));
        Ok(())
    }

    /// The bound addresses, each with whether it is for TLS.
    ///
    /// Port 0 has been replaced by the port that the kernel chose.
    #[must_use]
    pub fn local_addresses(&self) -> Vec<(SocketAddr, bool)> {
        self.sockets.iter().map(|(_, address, tls)| (*address, *tls)).collect()
    }

    /// The SHA-256 of the server's certificate.
    ///
    /// `None` without a certificate. Print it for administrators: clients compare it when they add
    /// the server as a remote.
    #[must_use]
    pub fn fingerprint(&self) -> Option<Fingerprint> {
        self.fingerprint
    }

    /// Serves until `stop` is switched on; then refuses new requests, lets running ones finish for the grace time of
    /// the options, and returns.
    ///
    /// Blocks the calling thread. The handler is stopped as well: its operations are cancelled.
    /// Shutdown takes the grace time and some seconds at most, also if clients hang.
    ///
    /// # Errors
    /// `InvalidInput` when it is bound to no address; `Io` when it can't start.
    pub fn run(mut self, stop: &Cancel) -> Result<()> {
        if self.sockets.is_empty() {
            return Err(Error::invalid("the server listens nowhere"));
        }
        let runtime = runtime(&self.options)?;
        let access_log = AccessLog::new(self.options.log.take())?;
        let handler = Arc::clone(&self.handler);
        let notes = access_log.clone();
        // The handler exists before the listener, so it learns of the log only now.
        handler.log_to(move |text| notes.note(text));
        let served = runtime.block_on(self.serve(stop, access_log.clone()));
        handler.stop();
        // After the handler: its threads end sooner once their operations are cancelled.
        runtime.shutdown_timeout(THREADS_END);
        access_log.flush();
        served
    }

    /// Serves until `stop` is switched on, and then runs the stages of the shutdown.
    async fn serve(self, stop: &Cancel, access_log: AccessLog) -> Result<()> {
        let (stage, staged) = watch::channel(Stage::Serve);
        let ListenerOptions { trusted, limits, connections, connections_per_address, head_time, grace, .. } =
            self.options;
        let shared = Arc::new(ListenerState {
            handler: self.handler,
            trusted,
            admission: Admission::new(connections, connections_per_address),
            access_log,
            buffers: Buffers::new(),
            head_time,
            silence: Duration::from_secs(limits.idle),
            longest_head: usize::try_from(limits.headers).unwrap_or(usize::MAX),
            stage: staged,
        });
        let mut accepting = JoinSet::new();
        for (socket, _, tls) in self.sockets {
            let failed = |error| Error::io("cannot listen on a socket", error);
            let socket = tokio::net::TcpListener::from_std(socket).map_err(failed)?;
            let tls = if tls { self.tls.clone() } else { None };
            // One task for each socket; the limits are shared.
            accepting.spawn(accept(Arc::clone(&shared), socket, tls));
        }
        let tidying = tokio::spawn(tidy(Arc::clone(&shared.handler)));
        while !stop.is_cancelled() {
            sleep(LOOK).await;
        }
        tidying.abort();
        // The sockets are closed, so that clients go elsewhere at once.
        accepting.shutdown().await;
        stage.send_replace(Stage::Finish);
        // Wakes the requests that wait for operations, or each of them would use up the whole grace
        // time.
        shared.handler.finish();
        if timeout(grace, shared.admission.empty(connections)).await.is_err() {
            stage.send_replace(Stage::Cut);
            shared.handler.stop();
            let _ = timeout(THREADS_END, shared.admission.empty(connections)).await;
        }
        Ok(())
    }
}

/// Accepts connections until it is dropped.
///
/// The limit per address is checked before the wait for the limit on all: a client with too many
/// connections must not occupy the queue, where it would delay others.
async fn accept(shared: Arc<ListenerState>, socket: tokio::net::TcpListener, tls: Option<TlsAcceptor>) {
    loop {
        let Ok((stream, from)) = socket.accept().await else {
            sleep(RECOVER).await;
            continue;
        };
        // `from` is the socket's address and never a header: headers of a proxy can be forged.
        let Some(permit) = shared.admission.try_acquire(from.ip()) else {
            shared.handler.metrics().refused();
            continue;
        };
        // One waits here, and those after it in the kernel.
        let Some(ticket) = shared.admission.connection().await else { return };
        let (shared, tls) = (Arc::clone(&shared), tls.clone());
        // A task of its own, so that one connection that panics ends alone.
        tokio::spawn(async move {
            connection::serve(shared, tls, stream, from, permit).await;
            drop(ticket);
        });
    }
}

/// Evicts cached images and removes leftovers, at once and every hour; never ends by itself.
async fn tidy(handler: Arc<Handler>) {
    loop {
        let handler = Arc::clone(&handler);
        // A defect that ends it is no reason not to try again.
        let _ = spawn_blocking(move || handler.tidy()).await;
        sleep(TIDY).await;
    }
}

/// The runtime of the listener. Its pool for blocking work is as large as all permits together.
fn runtime(options: &ListenerOptions) -> Result<Runtime> {
    let mut builder = Builder::new_multi_thread();
    if let Some(threads) = options.threads {
        builder.worker_threads(threads.get());
    }
    builder
        .thread_name("listener")
        .max_blocking_threads(admission::MAX_REQUESTS + admission::MAX_LONG_REQUESTS + admission::READERS)
        .enable_io()
        .enable_time()
        .build()
        .map_err(|error| Error::io("the server's threads can't be started", error))
}
