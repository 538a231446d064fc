//! The WebSocket of the event stream (RFC 6455): the server sends events, the client pings and
//! close frames only. The protocol is run on bytes in memory; events that can't be sent in time are
//! dropped with the connection.
//!
//! # Why not an asynchronous WebSocket
//!
//! The protocol library reads and writes a pair of buffers in memory ([`Buffers`]), and this module
//! moves their bytes from and to the connection. So one place decides how long a write may take,
//! and dropping the connection at any point leaves nothing half done.
//!
//! # When the stream ends
//!
//! - The client sends a close frame or closes the connection.
//! - It takes nothing for the idle timeout, or does not answer a ping within 30 seconds.
//! - It sends a message longer than 4 KiB or an invalid frame.
//! - Its certificate is not trusted any more: checked before each event and each ping.
//! - It did not keep up with the events, or the server stops: then it receives a close frame.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, StatusCode, Version, header};
use hyper::body::Incoming;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};

use super::stage::{Stage, either};
use crate::server::message::Response;

/// The longest message of a client in bytes, which sends pings and close frames only.
const LONGEST: usize = 4 << 10;
/// How often a silent client is pinged.
///
/// Proxies and firewalls forget connections that are silent for a minute or more.
const PING: Duration = Duration::from_secs(30);

/// A valid upgrade request (RFC 6455, section 4.2.1), to be accepted if the route answers with
/// events.
pub(super) struct Upgrade {
    /// The raw connection, once the response has been sent.
    upgraded: OnUpgrade,
    /// The key from which the accept header is derived.
    key: HeaderValue,
}

impl Upgrade {
    /// The upgrade request in an HTTP request, if there is one. It is looked for before the handler
    /// runs, because the connection can only be taken from the request of the HTTP library.
    ///
    /// HTTP/2 has an upgrade of its own (RFC 8441), which clients of LXD and Incus do not use.
    pub(super) fn of(request: &mut hyper::Request<Incoming>) -> Option<Self> {
        if request.method() != Method::GET || request.version() != Version::HTTP_11 {
            return None;
        }
        let headers = request.headers();
        let version = headers.get(header::SEC_WEBSOCKET_VERSION)?;
        let key = headers.get(header::SEC_WEBSOCKET_KEY)?.clone();
        // Sixteen bytes in base64.
        // RFC 6455, section 4.1: the base64 of 16 bytes has 24 characters and ends with two equals
        // signs.
        let well_formed = key.len() == 24 && key.as_bytes().ends_with(b"==");
        if !has(headers, &header::CONNECTION, "upgrade") || !has(headers, &header::UPGRADE, "websocket") {
            return None;
        }
        (version == "13" && well_formed).then(|| Self { upgraded: hyper::upgrade::on(request), key })
    }

    /// The response that accepts, and a future that sends the events after it. `may` says whether
    /// the client is still trusted. `silence` is the longest time that a write may take.
    pub(super) fn accept(
        self,
        events: mpsc::Receiver<Arc<str>>,
        stage: watch::Receiver<Stage>,
        silence: Duration,
        may: impl Fn() -> bool + Send + Sync + 'static,
    ) -> (Response, impl Future<Output = ()> + Send + 'static) {
        let response = Response::new(StatusCode::SWITCHING_PROTOCOLS)
            .with(header::CONNECTION, "Upgrade")
            .with(header::UPGRADE, "websocket")
            .with(header::SEC_WEBSOCKET_ACCEPT, &derive_accept_key(self.key.as_bytes()));
        let telling = async move {
            // A client who went away before the answer hears nothing.
            if let Ok(Ok(upgraded)) = timeout(silence, self.upgraded).await {
                let _ = Socket::new(upgraded, silence).tell(events, stage, &may).await;
            }
        };
        (response, telling)
    }
}

/// Whether a comma-separated header contains a token.
fn has(headers: &HeaderMap, name: &header::HeaderName, word: &str) -> bool {
    let mut values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.any(|value| value.split(',').any(|one| one.trim().eq_ignore_ascii_case(word)))
}

/// The bytes that were received and those that are to be sent, between protocol and connection.
#[derive(Default)]
struct Buffers {
    /// Received bytes that the protocol has not read yet.
    came: Vec<u8>,
    /// Bytes that the protocol wrote and that were not sent yet.
    to_go: Vec<u8>,
}

impl Read for Buffers {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.came.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let count = self.came.len().min(buffer.len());
        buffer[..count].copy_from_slice(&self.came[..count]);
        self.came.drain(..count);
        Ok(count)
    }
}

impl Write for Buffers {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.to_go.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An upgraded connection with the state of its protocol.
struct Socket {
    /// The connection.
    stream: TokioIo<Upgraded>,
    /// Makes and parses frames.
    protocol: WebSocketContext,
    /// Where the protocol reads and writes.
    buffers: Buffers,
    silence: Duration,
}

/// What happened next.
enum Next {
    /// An event to be sent; `None` when there will be no more.
    Event(Option<Arc<str>>),
    /// Bytes were received; zero at the end of the connection.
    Came(io::Result<usize>),
    /// The server stops.
    Stage,
    /// Nothing was received for as long as [`PING`].
    Quiet,
}

impl Socket {
    /// The socket of a connection whose upgrade was accepted.
    fn new(upgraded: Upgraded, silence: Duration) -> Self {
        // A client has no reason to send much; without limits one message could fill the memory.
        let config = WebSocketConfig::default()
            .max_message_size(Some(LONGEST))
            .max_frame_size(Some(LONGEST))
            .read_buffer_size(LONGEST);
        let protocol = WebSocketContext::new(Role::Server, Some(config));
        Self { stream: TokioIo::new(upgraded), protocol, buffers: Buffers::default(), silence }
    }

    /// Sends events until the stream ends, for one of the reasons in the description of the module.
    ///
    /// # Errors
    /// Those of the connection and of the protocol. They are of no use to anybody: the client is
    /// gone.
    async fn tell(
        &mut self,
        mut events: mpsc::Receiver<Arc<str>>,
        mut stage: watch::Receiver<Stage>,
        may: &(impl Fn() -> bool + Send + Sync),
    ) -> Result<(), Error> {
        let mut bytes = [0; LONGEST];
        let mut asked = false;
        loop {
            let next = {
                let read = async {
                    match timeout(PING, self.stream.read(&mut bytes)).await {
                        Ok(count) => Next::Came(count),
                        Err(_) => Next::Quiet,
                    }
                };
                // Events before what the client sends: a client that only sends must not hold its
                // events back.
                let told = either(async { Next::Event(events.recv().await) }, read);
                let ended = async {
                    let _ = stage.wait_for(Stage::is_ending).await;
                    Next::Stage
                };
                either(ended, told).await
            };
            // Trust may have ended since the last event; the event that would reveal something is
            // not sent.
            let next = if matches!(next, Next::Event(Some(_)) | Next::Quiet) && !may() { Next::Stage } else { next };
            match next {
                Next::Event(Some(text)) => {
                    self.protocol.write(&mut self.buffers, Message::Text(Utf8Bytes::from(&*text)))?;
                }
                Next::Came(count) => {
                    let count = count?;
                    if count == 0 {
                        return Ok(());
                    }
                    asked = false;
                    self.buffers.came.extend_from_slice(&bytes[..count]);
                    self.listen()?;
                }
                Next::Quiet if asked => return Ok(()),
                Next::Quiet => {
                    asked = true;
                    self.protocol.write(&mut self.buffers, Message::Ping(Vec::new().into()))?;
                }
                Next::Event(None) | Next::Stage => {
                    self.protocol.close(&mut self.buffers, None)?;
                    self.send().await?;
                    return Ok(());
                }
            }
            self.send().await?;
            if !self.protocol.can_write() {
                return Ok(());
            }
        }
    }

    /// Takes what the client sent. The protocol makes the answers to pings and close frames by
    /// itself; the messages themselves are ignored.
    fn listen(&mut self) -> Result<(), Error> {
        loop {
            match self.protocol.read(&mut self.buffers) {
                Ok(_) => {}
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(Error::ConnectionClosed) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Sends what the protocol wrote. Fails when the client does not take it within the idle
    /// timeout.
    async fn send(&mut self) -> Result<(), Error> {
        match self.protocol.flush(&mut self.buffers) {
            Ok(()) | Err(Error::ConnectionClosed) => {}
            Err(error) => return Err(error),
        }
        // Everything that the protocol wrote, in one write: several events may be pending.
        let to_go = std::mem::take(&mut self.buffers.to_go);
        let sending = async {
            self.stream.write_all(&to_go).await?;
            self.stream.flush().await
        };
        match timeout(self.silence, sending).await {
            Ok(sent) => Ok(sent?),
            Err(_) => Err(Error::Io(io::ErrorKind::TimedOut.into())),
        }
    }
}
