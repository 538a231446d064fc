//! `Listener`: the handler on the network, over TLS 1.3 with HTTP/1.1 and 2, within bounds, until it is told to stop.
//! The only part of the library that has an async runtime.

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
mod tls;
mod trust;
mod websocket;

use std::fmt;
use std::future::poll_fn;
use std::net::{SocketAddr, TcpListener};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
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
pub use self::trust::TrustedClients;
use crate::error::{Error, Result};
use crate::fingerprint::Fingerprint;
use crate::progress::Cancel;
use crate::server::handler::Handler;

/// How often it is looked whether the server is to stop.
const LOOK: Duration = Duration::from_millis(50);
/// How long is waited when a connection can't be taken, mostly because there are no descriptors left.
const RECOVER: Duration = Duration::from_millis(100);
/// How often room is made.
const TIDY: Duration = Duration::from_secs(60 * 60);
/// How long threads that still work are waited for at the very end.
const THREADS_END: Duration = Duration::from_secs(1);

/// How far the server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Serve,
    /// Requests that are under way are finished, and no others begun.
    Finish,
    /// Whatever is under way ends now.
    Cut,
}

impl Stage {
    fn is_ending(&self) -> bool {
        *self != Self::Serve
    }
}

/// A server that listens, and serves as soon as it is [`run`](Self::run).
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
pub struct Listener {
    handler: Arc<Handler>,
    options: ListenerOptions,
    tls: Option<TlsAcceptor>,
    fingerprint: Option<Fingerprint>,
    /// Each with whether it speaks TLS.
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
    /// A server that listens nowhere yet.
    ///
    /// # Errors
    /// `Malformed` when the certificate and the key don't belong together.
    pub fn new(handler: Arc<Handler>, mut options: ListenerOptions) -> Result<Self> {
        let certificate = options.certificate.take();
        let fingerprint = certificate.as_ref().map(ServerCertificate::fingerprint);
        let ask = options.trusted.is_some();
        let tls = certificate.map(|certificate| tls::config(certificate, ask)).transpose()?.map(TlsAcceptor::from);
        Ok(Self { handler, options, tls, fingerprint, sockets: Vec::new() })
    }

    /// Listens at an address, with TLS; port 0 takes one that is free.
    ///
    /// # Errors
    /// `Io` when the address can't be had, `InvalidInput` when there is no certificate.
    pub fn bind(&mut self, address: SocketAddr) -> Result<()> {
        let failed = |error| Error::io(format!("cannot listen on {address}"), error);
        self.listen(TcpListener::bind(address).map_err(failed)?)
    }

    /// Listens at a socket that is open, with TLS.
    ///
    /// # Errors
    /// `Io`, `InvalidInput` when there is no certificate.
    pub fn listen(&mut self, socket: TcpListener) -> Result<()> {
        if self.tls.is_none() {
            return Err(Error::invalid("TLS needs a certificate"));
        }
        self.add(socket, true)
    }

    /// Listens at a socket that is open, with plain http: for a proxy on the same machine, or in a network of its own.
    ///
    /// # Errors
    /// `Io`.
    pub fn listen_plain(&mut self, socket: TcpListener) -> Result<()> {
        self.add(socket, false)
    }

    fn add(&mut self, socket: TcpListener, tls: bool) -> Result<()> {
        let failed = |error| Error::io("cannot listen on a socket", error);
        socket.set_nonblocking(true).map_err(failed)?;
        let address = socket.local_addr().map_err(failed)?;
        self.sockets.push((socket, address, tls));
        Ok(())
    }

    /// Where it listens, each with whether it speaks TLS there.
    #[must_use]
    pub fn local_addresses(&self) -> Vec<(SocketAddr, bool)> {
        self.sockets.iter().map(|(_, address, tls)| (*address, *tls)).collect()
    }

    /// The sha256 of the certificate that it shows.
    #[must_use]
    pub fn fingerprint(&self) -> Option<Fingerprint> {
        self.fingerprint
    }

    /// Serves until `stop` is switched on; then takes no more requests, gives those that are under way their time of grace,
    /// and returns.
    ///
    /// # Errors
    /// `InvalidInput` when it listens nowhere; `Io` when it can't begin.
    pub fn run(mut self, stop: &Cancel) -> Result<()> {
        if self.sockets.is_empty() {
            return Err(Error::invalid("the server listens nowhere"));
        }
        let runtime = runtime(&self.options)?;
        let access_log = AccessLog::new(self.options.log.take())?;
        let handler = Arc::clone(&self.handler);
        let notes = access_log.clone();
        handler.notes.write_to(move |text| notes.note(text));
        let served = runtime.block_on(self.serve(stop, access_log.clone()));
        handler.stop();
        runtime.shutdown_timeout(THREADS_END);
        access_log.flush();
        served
    }

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
        shared.handler.finish();
        if timeout(grace, shared.admission.empty(connections)).await.is_err() {
            stage.send_replace(Stage::Cut);
            shared.handler.stop();
            let _ = timeout(THREADS_END, shared.admission.empty(connections)).await;
        }
        Ok(())
    }
}

/// Takes connections for as long as it is not dropped.
async fn accept(shared: Arc<ListenerState>, socket: tokio::net::TcpListener, tls: Option<TlsAcceptor>) {
    loop {
        let Ok((stream, from)) = socket.accept().await else {
            sleep(RECOVER).await;
            continue;
        };
        let Some(permit) = shared.admission.try_acquire(from.ip()) else {
            shared.handler.metrics.refused();
            continue;
        };
        // One waits here, and those after it in the kernel.
        let Some(ticket) = shared.admission.connection().await else { return };
        let (shared, tls) = (Arc::clone(&shared), tls.clone());
        tokio::spawn(async move {
            connection::serve(shared, tls, stream, from, permit).await;
            drop(ticket);
        });
    }
}

/// Makes room at once and every hour; never ends by itself.
async fn tidy(handler: Arc<Handler>) {
    loop {
        let handler = Arc::clone(&handler);
        // A defect that ends it is no reason not to try again.
        let _ = spawn_blocking(move || handler.tidy()).await;
        sleep(TIDY).await;
    }
}

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

/// Whichever is there first; the other is dropped. The first is asked first.
async fn either<T>(one: impl Future<Output = T>, other: impl Future<Output = T>) -> T {
    let (mut one, mut other) = (pin!(one), pin!(other));
    poll_fn(|cx| match one.as_mut().poll(cx) {
        Poll::Ready(first) => Poll::Ready(first),
        Poll::Pending => other.as_mut().poll(cx),
    })
    .await
}
