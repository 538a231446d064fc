//! Connections: TCP, or what a proxy gave, with TLS on top where the URL asks for it.
//! Every wait goes through `watch`, so that a silent server and a cancelled call end it.

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

use super::url::is_local;
use super::watch;
use crate::error::Error;

/// How long one attempt to reach one address may take.
const REACH: Duration = Duration::from_secs(10);
/// How long looking up a name may take.
const LOOK_UP: Duration = Duration::from_secs(20);
/// Bytes that are asked of the operating system at once.
const READ: usize = 128 << 10;

/// Makes connections for one purpose: with these certificates, to these hosts.
pub(crate) struct Connections {
    pub(crate) tls: Option<Arc<ClientConfig>>,
    /// Whether this machine and its own wire must not be reached: a stranger's answer led here.
    pub(crate) led: bool,
    /// Whether they go to a proxy that is asked by absolute addresses.
    pub(crate) forwarding: bool,
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connections").field("led", &self.led).finish_non_exhaustive()
    }
}

fn fail(error: Error) -> ureq::Error {
    ureq::Error::Io(io::Error::from(error))
}

impl<In: Transport> Connector<In> for Connections {
    type Out = Box<dyn Transport>;

    fn connect(&self, details: &ConnectionDetails<'_>, chained: Option<In>) -> Result<Option<Self::Out>, ureq::Error> {
        let socket = match chained {
            Some(tunnel) => Socket::Tunnel(TransportAdapter::new(Box::new(tunnel), Arc::clone(&details.current_time))),
            None => Socket::Tcp(self.reach(details)?),
        };
        let stream = if details.needs_tls() {
            let tls = self.tls.as_ref().ok_or_else(|| fail(Error::invalid("TLS is not set up for this connection")))?;
            let host = details.uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
            let name = ServerName::try_from(host.to_owned())
                .map_err(|_| fail(Error::invalid(format!("`{host}` can't be the name of a server"))))?;
            let session = ClientConnection::new(Arc::clone(tls), name)
                .map_err(|error| fail(Error::remote("TLS can't begin").with_source(error)))?;
            let mut secured = Secured { session, socket: BufReader::with_capacity(READ, socket) };
            secured.shake_hands()?;
            Stream::Tls(Box::new(secured))
        } else {
            Stream::Plain(socket)
        };
        let buffers = LazyBuffers::new(details.config.input_buffer_size(), details.config.output_buffer_size());
        let forward = self.forwarding.then_some(true);
        Ok(Some(Box::new(Connection { stream, buffers, forward })))
    }
}

impl Connections {
    fn reach(&self, details: &ConnectionDetails<'_>) -> Result<TcpStream, ureq::Error> {
        let mut last = None;
        for address in &details.addrs {
            if self.led && is_local(address.ip()) {
                let sentence = format!("a server's answer leads to {}, an address of this machine", address.ip());
                return Err(fail(Error::remote(sentence)));
            }
            let target = *address;
            match aside(REACH, move || TcpStream::connect_timeout(&target, REACH)) {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    stream.set_read_timeout(Some(watch::SLICE))?;
                    stream.set_write_timeout(Some(watch::SLICE))?;
                    return Ok(stream);
                }
                // Whoever cancelled or set a deadline need not see the other addresses tried.
                Err(error) if error.get_ref().is_some_and(|inner| inner.is::<Error>()) => return Err(error.into()),
                Err(error) => last = Some(error),
            }
        }
        Err(ureq::Error::Io(last.unwrap_or_else(|| io::ErrorKind::NotConnected.into())))
    }
}

/// Runs what can't be interrupted on a thread of its own, and waits for it as long as the current watch allows. The thread ends
/// by itself.
fn aside<T: Send + 'static>(most: Duration, work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    let (done, result) = mpsc::sync_channel(1);
    std::thread::Builder::new().name("connect".into()).spawn(move || drop(done.send(work())))?;
    let began = Instant::now();
    loop {
        let asked = Instant::now();
        match result.recv_timeout(watch::SLICE) {
            Ok(done) => return done,
            Err(mpsc::RecvTimeoutError::Disconnected) => return Err(io::ErrorKind::Other.into()),
            Err(mpsc::RecvTimeoutError::Timeout) if began.elapsed() > most => {
                return Err(io::ErrorKind::TimedOut.into());
            }
            Err(mpsc::RecvTimeoutError::Timeout) => watch::check(asked.elapsed())?,
        }
    }
}

/// Looks names up, and listens for cancellation meanwhile.
#[derive(Debug)]
pub(crate) struct LookUp;

impl Resolver for LookUp {
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
        let all = aside(LOOK_UP, move || Ok(name.to_socket_addrs()?.collect::<Vec<_>>()))?;
        // As many as the list has room for.
        all.into_iter().take(16).for_each(|address| found.push(address));
        if found.is_empty() { Err(ureq::Error::HostNotFound) } else { Ok(found) }
    }
}

enum Socket {
    Tcp(TcpStream),
    /// What a proxy opened. Below it are connections of ours, which watch.
    Tunnel(TransportAdapter),
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => watch::wait(|| stream.read(buffer)),
            Self::Tunnel(tunnel) => tunnel.read(buffer),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => watch::wait(|| stream.write(bytes)),
            Self::Tunnel(tunnel) => tunnel.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Socket {
    fn is_open(&mut self) -> bool {
        match self {
            Self::Tunnel(tunnel) => tunnel.get_mut().is_open(),
            Self::Tcp(stream) => {
                // Between two requests a server has nothing to say: bytes or an end mean that it is done.
                let quiet = stream.set_nonblocking(true).and_then(|()| stream.peek(&mut [0]));
                let back = stream.set_nonblocking(false);
                back.is_ok() && quiet.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
            }
        }
    }
}

/// TLS over a socket. The session asks for 4 KiB at a time, hence the buffer between.
struct Secured {
    session: ClientConnection,
    socket: BufReader<Socket>,
}

impl Secured {
    fn shake_hands(&mut self) -> io::Result<()> {
        while self.session.is_handshaking() {
            self.exchange()?;
        }
        self.send()
    }

    /// Sends what is to be sent, or else takes what comes.
    fn exchange(&mut self) -> io::Result<()> {
        if self.session.wants_write() {
            return self.send();
        }
        let count = self.session.read_tls(&mut self.socket)?;
        if let Err(error) = self.session.process_new_packets() {
            // The server may be told why; that it can't be changes nothing.
            let _ = self.send();
            return Err(io::Error::new(io::ErrorKind::InvalidData, error));
        }
        if count == 0 && self.session.is_handshaking() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }

    fn send(&mut self) -> io::Result<()> {
        while self.session.wants_write() {
            self.session.write_tls(self.socket.get_mut())?;
        }
        Ok(())
    }
}

impl Read for Secured {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.session.reader().read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.exchange()?,
                done => return done,
            }
        }
    }
}

impl Write for Secured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.session.writer().write(bytes)?;
        self.send()?;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.send()
    }
}

enum Stream {
    Plain(Socket),
    Tls(Box<Secured>),
}

struct Connection {
    stream: Stream,
    buffers: LazyBuffers,
    /// To a proxy that is asked by absolute addresses: whether what is sent next begins a request.
    forward: Option<bool>,
}

/// The first bytes of a request, whose path is a whole URL, without the slash in front of that.
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
            Stream::Tls(secured) => secured.write_all(output)?,
        }
        Ok(())
    }

    fn await_input(&mut self, _: NextTimeout) -> Result<bool, ureq::Error> {
        let input = self.buffers.input_append_buf();
        let count = match &mut self.stream {
            Stream::Plain(socket) => socket.read(input)?,
            Stream::Tls(secured) => secured.read(input)?,
        };
        self.buffers.input_appended(count);
        // What is sent after an answer is the next request.
        self.forward = self.forward.map(|_| true);
        Ok(count > 0)
    }

    fn is_open(&mut self) -> bool {
        match &mut self.stream {
            Stream::Plain(socket) => socket.is_open(),
            Stream::Tls(secured) => {
                // TLS 1.3 sends tickets after the handshake, which may wait unread; an end shows all the same.
                match secured.socket.get_mut() {
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
