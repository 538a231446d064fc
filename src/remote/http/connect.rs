//! `Connections`: opens TCP connections, or takes the tunnel of a proxy, with TLS on top if the URL asks for it.
//!
//! `ureq` calls this as a connector and a transport. Its own cannot be cancelled while they wait, so every wait here goes through
//! `deadline`: sockets by short timeouts, DNS lookups and connects, which have none, on a thread of their own.

use std::fmt;
use std::io::{self, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};
use ureq::http;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport, TransportAdapter,
};

use super::deadline;
use super::url::is_local;
use crate::error::Error;

/// The timeout for connecting to one address.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The timeout for a DNS lookup.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(20);
/// Bytes that are read from a socket at once.
const READ_BUFFER_BYTES: usize = 128 << 10;

/// Makes connections for one pool_key: with these certificates, to these hosts.
pub(crate) struct Connections {
    /// The configuration of TLS, where it is needed.
    pub(crate) tls: Option<Arc<ClientConfig>>,
    /// Whether loopback and link-local addresses are refused, because an answer of another host named this address.
    pub(crate) local_forbidden: bool,
    /// Whether they go to a proxy that gets absolute URLs.
    pub(crate) forwarding: bool,
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connections").field("local_forbidden", &self.local_forbidden).finish_non_exhaustive()
    }
}

/// An error of this library inside of one of `ureq`, which `errors::translate` takes out again.
fn fail(error: Error) -> ureq::Error {
    ureq::Error::Io(io::Error::from(error))
}

impl<In: Transport> Connector<In> for Connections {
    type Out = Box<dyn Transport>;

    fn connect(&self, details: &ConnectionDetails<'_>, chained: Option<In>) -> Result<Option<Self::Out>, ureq::Error> {
        let socket = match chained {
            Some(tunnel) => Socket::Tunnel(TransportAdapter::new(Box::new(tunnel), Arc::clone(&details.current_time))),
            None => Socket::Tcp(self.connect_tcp(details)?),
        };
        let stream = if details.needs_tls() {
            let tls = self.tls.as_ref().ok_or_else(|| fail(Error::invalid("TLS is not set up for this connection")))?;
            let host = details.uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
            let name = ServerName::try_from(host.to_owned())
                .map_err(|_| fail(Error::invalid(format!("`{host}` can't be the name of a server"))))?;
            let session = ClientConnection::new(Arc::clone(tls), name)
                .map_err(|error| fail(Error::remote("TLS can't begin").with_source(error)))?;
            let mut tls = TlsStream { session, socket: BufReader::with_capacity(READ_BUFFER_BYTES, socket) };
            tls.handshake()?;
            Stream::Tls(Box::new(tls))
        } else {
            Stream::Plain(socket)
        };
        let buffers = LazyBuffers::new(details.config.input_buffer_size(), details.config.output_buffer_size());
        let forward = self.forwarding.then_some(true);
        Ok(Some(Box::new(Connection { stream, buffers, forward })))
    }
}

impl Connections {
    /// Connects to the first address that answers. The address is checked here, after DNS: a name may resolve to anything.
    fn connect_tcp(&self, details: &ConnectionDetails<'_>) -> Result<TcpStream, ureq::Error> {
        let mut last = None;
        for address in &details.addrs {
            if self.local_forbidden && is_local(address.ip()) {
                let sentence = format!("a server's answer leads to {}, an address of this machine", address.ip());
                return Err(fail(Error::remote(sentence)));
            }
            let target = *address;
            match interruptible(CONNECT_TIMEOUT, move || TcpStream::connect_timeout(&target, CONNECT_TIMEOUT)) {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    stream.set_read_timeout(Some(deadline::POLL_INTERVAL))?;
                    stream.set_write_timeout(Some(deadline::POLL_INTERVAL))?;
                    return Ok(stream);
                }
                // Cancelled, or past the deadline: the other addresses must not be tried.
                Err(error) if error.get_ref().is_some_and(|inner| inner.is::<Error>()) => return Err(error.into()),
                Err(error) => last = Some(error),
            }
        }
        Err(ureq::Error::Io(last.unwrap_or_else(|| io::ErrorKind::NotConnected.into())))
    }
}

/// Runs a call that can't be interrupted on a thread of its own, and waits for it at most `most` and as long as the current
/// deadline allows. After that the thread is left to end by itself, since a blocked `getaddrinfo` can't be stopped.
fn interruptible<T: Send + 'static>(
    most: Duration,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let (done, result) = mpsc::sync_channel(1);
    std::thread::Builder::new().name("connect".into()).spawn(move || drop(done.send(work())))?;
    let began = Instant::now();
    loop {
        let asked = Instant::now();
        match result.recv_timeout(deadline::POLL_INTERVAL) {
            Ok(done) => return done,
            Err(mpsc::RecvTimeoutError::Disconnected) => return Err(io::ErrorKind::Other.into()),
            Err(mpsc::RecvTimeoutError::Timeout) if began.elapsed() > most => {
                return Err(io::ErrorKind::TimedOut.into());
            }
            Err(mpsc::RecvTimeoutError::Timeout) => deadline::check(asked.elapsed())?,
        }
    }
}

/// Resolves names with the system's resolver, cancellably.
#[derive(Debug)]
pub(crate) struct SystemResolver;

impl Resolver for SystemResolver {
    fn resolve(
        &self,
        uri: &http::Uri,
        _: &ureq::config::Config,
        _: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let parts = uri.scheme().zip(uri.authority());
        let name = parts.and_then(|(scheme, authority)| DefaultResolver::host_and_port(scheme, authority));
        let name = name.ok_or_else(|| ureq::Error::BadUri("it names no host".to_owned()))?;
        let mut found = self.empty();
        if let Ok(address) = name.parse() {
            found.push(address);
            return Ok(found);
        }
        let all = interruptible(LOOKUP_TIMEOUT, move || Ok(name.to_socket_addrs()?.collect::<Vec<_>>()))?;
        // `ResolvedSocketAddrs` holds 16 addresses.
        all.into_iter().take(16).for_each(|address| found.push(address));
        if found.is_empty() { Err(ureq::Error::HostNotFound) } else { Ok(found) }
    }
}

/// What TLS or HTTP runs on.
enum Socket {
    Tcp(TcpStream),
    /// What a proxy opened. Below it are connections of ours, which deadline.
    Tunnel(TransportAdapter),
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => deadline::wait(|| stream.read(buffer)),
            Self::Tunnel(tunnel) => tunnel.read(buffer),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => deadline::wait(|| stream.write(bytes)),
            Self::Tunnel(tunnel) => tunnel.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Socket {
    /// Whether a pooled connection can be used again.
    fn is_open(&mut self) -> bool {
        match self {
            Self::Tunnel(tunnel) => tunnel.get_mut().is_open(),
            Self::Tcp(stream) => {
                // Between two requests a server sends nothing: readable bytes or an end mean that it closed the connection.
                let quiet = stream.set_nonblocking(true).and_then(|()| stream.peek(&mut [0]));
                let back = stream.set_nonblocking(false);
                back.is_ok() && quiet.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
            }
        }
    }
}

/// TLS over a socket. The session asks for 4 KiB at a time, hence the buffer between.
struct TlsStream {
    session: ClientConnection,
    socket: BufReader<Socket>,
}

impl TlsStream {
    /// Completes the handshake, so that its errors come from connecting and not from the first read.
    fn handshake(&mut self) -> io::Result<()> {
        while self.session.is_handshaking() {
            self.exchange()?;
        }
        self.send()
    }

    /// Writes pending records, or else reads and processes some.
    fn exchange(&mut self) -> io::Result<()> {
        if self.session.wants_write() {
            return self.send();
        }
        let count = self.session.read_tls(&mut self.socket)?;
        if let Err(error) = self.session.process_new_packets() {
            // Sends the TLS alert. Best effort: the connection is unusable either way.
            let _ = self.send();
            return Err(io::Error::new(io::ErrorKind::InvalidData, error));
        }
        if count == 0 && self.session.is_handshaking() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }

    /// Writes all pending records.
    fn send(&mut self) -> io::Result<()> {
        while self.session.wants_write() {
            self.session.write_tls(self.socket.get_mut())?;
        }
        Ok(())
    }
}

impl Read for TlsStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.session.reader().read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.exchange()?,
                done => return done,
            }
        }
    }
}

impl Write for TlsStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.session.writer().write(bytes)?;
        self.send()?;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.send()
    }
}

/// A connection with or without TLS.
enum Stream {
    Plain(Socket),
    Tls(Box<TlsStream>),
}

/// A connection, as `ureq` pools it.
struct Connection {
    stream: Stream,
    buffers: LazyBuffers,
    /// For a proxy that gets absolute URLs: whether the next bytes begin a request.
    forward: Option<bool>,
}

/// Removes the slash before an absolute URL in a request line. `ureq` can only send paths, so `proxy::forwarded` makes the URL a
/// path, and this turns it into the absolute form that a proxy needs (RFC 9112, 3.2.2).
fn absolute(output: &[u8]) -> Option<Vec<u8>> {
    let blank = output.iter().position(|byte| *byte == b' ')?;
    let (method, path) = output.split_at_checked(blank + 1)?;
    let url = path.strip_prefix(b"/").filter(|url| url.starts_with(b"http://"))?;
    Some([method, url].concat())
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("tls", &self.is_tls()).finish_non_exhaustive()
    }
}

impl Transport for Connection {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, _: NextTimeout) -> Result<(), ureq::Error> {
        let mut output = self.buffers.output().get(..amount).unwrap_or_default();
        let head = self.forward.and_then(|begins| if begins { absolute(output) } else { None });
        if let Some(head) = &head {
            output = head;
        }
        self.forward = self.forward.map(|_| false);
        match &mut self.stream {
            Stream::Plain(socket) => socket.write_all(output)?,
            Stream::Tls(tls) => tls.write_all(output)?,
        }
        Ok(())
    }

    fn await_input(&mut self, _: NextTimeout) -> Result<bool, ureq::Error> {
        let input = self.buffers.input_append_buf();
        let count = match &mut self.stream {
            Stream::Plain(socket) => socket.read(input)?,
            Stream::Tls(tls) => tls.read(input)?,
        };
        self.buffers.input_appended(count);
        // HTTP/1.1 without pipelining: after a response comes the next request.
        self.forward = self.forward.map(|_| true);
        Ok(count > 0)
    }

    fn is_open(&mut self) -> bool {
        match &mut self.stream {
            Stream::Plain(socket) => socket.is_open(),
            Stream::Tls(tls) => {
                // TLS 1.3 servers send session tickets after the handshake, so readable bytes don't mean a closed connection.
                match tls.socket.get_mut() {
                    Socket::Tcp(stream) => {
                        let state = stream.set_nonblocking(true).and_then(|()| stream.peek(&mut [0]));
                        let back = stream.set_nonblocking(false);
                        back.is_ok()
                            && match state {
                                Ok(count) => count > 0,
                                Err(error) => error.kind() == io::ErrorKind::WouldBlock,
                            }
                    }
                    tunnel @ Socket::Tunnel(_) => tunnel.is_open(),
                }
            }
        }
    }

    fn is_tls(&self) -> bool {
        matches!(self.stream, Stream::Tls(_))
    }
}
