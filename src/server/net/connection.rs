//! One connection, from its first byte to its last: handshake, protocol, requests, and the reasons
//! to end it.
//!
//! A connection is one task of the runtime. Everything that belongs to it is owned by that task:
//! when the task ends, for whatever reason, its permits, counters and bodies are dropped. Requests
//! that run on threads at this moment notice it when they next read or write.
//!
//! The task waits for three things at once: the protocol, a timer that looks for idle clients, and
//! the stage of the shutdown. None of the waits holds a lock.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{interval, timeout};
use tokio_rustls::TlsAcceptor;

use super::admission::ConnectionPermit;
use super::framing::Scan;
use super::idle::{IdleMonitor, IdleTimer};
use super::observed::Observed;
use super::service::{ListenerState, Peer, Service};
use super::stage::{Stage, either};
use super::tls::H2;
use crate::fingerprint::Fingerprint;

/// Requests of one connection of HTTP/2 at once. A client of images has one or two; each may hold
/// two files and two chunks for as long as its client does not read.
const STREAMS: u32 = 4;
/// The bytes of one body that a client may send before they are read (RFC 9113, section 5.2).
const WINDOW: u32 = 256 << 10;
/// The bytes of all bodies of a connection that a client may send before they are read.
const WINDOWS: u32 = 1 << 20;
/// Bytes of one response that HTTP/2 keeps while the client does not read it.
const UNSENT: usize = 256 << 10;
/// How long an idle connection may take to close when the server stops: TLS and HTTP/2 send a last
/// message.
const FAREWELL: Duration = Duration::from_millis(200);
/// Headers of a request. Browsers send 20.
///
/// The parser reserves memory for this number.
const HEADERS: usize = 100;

/// Serves one connection until it ends.
///
/// Returns when everything of the connection is dropped. Errors are not reported: a connection can
/// end at any time, and its requests are in the access log.
pub(super) async fn serve(
    shared: Arc<ListenerState>,
    tls: Option<TlsAcceptor>,
    stream: TcpStream,
    from: SocketAddr,
    permit: ConnectionPermit,
) {
    // A response's head must not wait for more of it.
    let _ = stream.set_nodelay(true);
    shared.handler.metrics().connected();
    let _counted = Connected(&shared);
    let monitor = Arc::new(IdleMonitor::default());
    let stream = Observed::new(stream, Arc::clone(&monitor));
    let peer = |certificate, secure| {
        Arc::new(Peer {
            address: from.ip().to_canonical(),
            certificate,
            secure,
            monitor: Arc::clone(&monitor),
            ambiguous: Arc::new(AtomicBool::new(false)),
            permit,
            upgraded: Mutex::new(None),
        })
    };
    let Some(tls) = tls else {
        return talk(&shared, peer(None, false), stream, false).await;
    };
    // A client that fails here, speaks no TLS or is too slow gets nothing.
    let mut stage = shared.stage.clone();
    let ending = async {
        let _ = stage.wait_for(|stage| stage.is_ending()).await;
        None
    };
    let shaken = either(async { timeout(shared.head_time, tls.accept(stream)).await.ok() }, ending).await;
    let Some(Ok(stream)) = shaken else { return };
    let session = stream.get_ref().1;
    // The handshake verified that the client has the key of the first certificate of the chain; the
    // others are not looked at.
    let certificate = session.peer_certificates().and_then(|chain| chain.first()).map(|first| Fingerprint::of(first));
    let h2 = session.alpn_protocol() == Some(H2);
    talk(&shared, peer(certificate, true), stream, h2).await;
}

/// Counts a connection in the metrics until it is dropped.
struct Connected<'a>(&'a ListenerState);

impl Drop for Connected<'_> {
    fn drop(&mut self) {
        self.0.handler.metrics().disconnected();
    }
}

/// Speaks HTTP/1.1 or HTTP/2 on a connection whose handshake is done, and then WebSocket if a
/// request asked for that.
async fn talk<S>(shared: &Arc<ListenerState>, peer: Arc<Peer>, stream: S, h2: bool)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = Service { shared: Arc::clone(shared), peer: Arc::clone(&peer) };
    if h2 {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        let head = u32::try_from(shared.longest_head).unwrap_or(u32::MAX);
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS)
            .max_header_list_size(head)
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOWS)
            .max_send_buf_size(UNSENT);
        let connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
        run(shared, &peer, connection, |connection| connection.graceful_shutdown()).await;
    } else {
        let mut builder = http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(shared.head_time)
            .max_buf_size(shared.longest_head.max(8 << 10))
            // The one is looked at while a head comes, the other when it is there.
            .max_header_size(shared.longest_head)
            .max_headers(HEADERS);
        // Behind TLS, so that the scan sees plain bytes; the idle monitor is before it and counts
        // all.
        let stream = Observed::new(stream, Scan::new(Arc::clone(&peer.ambiguous)));
        let connection = pin!(builder.serve_connection(TokioIo::new(stream), service).with_upgrades());
        run(shared, &peer, connection, |connection| connection.graceful_shutdown()).await;
    }
    // The HTTP library is done with an upgraded connection; its events are sent by a task that this
    // one waits for, so that the permits stay taken.
    let upgraded = peer.upgraded.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(mut telling) = upgraded {
        let mut stage = shared.stage.clone();
        let ended = async {
            let _ = stage.wait_for(|stage| *stage == Stage::Cut).await;
        };
        either(ended, async { drop((&mut telling).await) }).await;
        telling.abort();
    }
}

/// Runs the protocol until the connection ends, its client is idle for too long, or the server
/// stops. Returning drops the protocol, and with it all requests of the connection.
async fn run<C>(
    shared: &ListenerState,
    peer: &Peer,
    mut connection: std::pin::Pin<&mut C>,
    finish: impl Fn(std::pin::Pin<&mut C>),
) where
    C: Future<Output = hyper::Result<()>>,
{
    /// What happened first.
    enum Next {
        Ended,
        Look,
        Stage(Stage),
    }
    let mut stage = shared.stage.clone();
    let mut watch = IdleTimer::new(Arc::clone(&peer.monitor), shared.silence);
    let mut looks = interval(watch.period());
    let mut finishing = false;
    loop {
        let next = {
            let talking = async {
                // Why a client went away is of no use to anybody.
                let _ = connection.as_mut().await;
                Next::Ended
            };
            let looking = async {
                looks.tick().await;
                Next::Look
            };
            let staging = async {
                let next = stage.wait_for(|stage| *stage == Stage::Cut || (stage.is_ending() && !finishing)).await;
                Next::Stage(next.map_or(Stage::Cut, |stage| *stage))
            };
            either(talking, either(looking, staging)).await
        };
        match next {
            Next::Ended => return,
            Next::Look if watch.is_silent(Instant::now()) => {
                shared.handler.metrics().cut();
                return;
            }
            Next::Look => {}
            Next::Stage(Stage::Cut) => return,
            Next::Stage(_) => {
                finishing = true;
                finish(connection.as_mut());
                if peer.monitor.is_idle() {
                    // No request is pending: half a head would hold up the shutdown for the whole head time.
                    let _ = timeout(FAREWELL, connection.as_mut()).await;
                    return;
                }
            }
        }
    }
}
