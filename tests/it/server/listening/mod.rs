//! The server on the network, on loopback: what clients get, well-behaved or not, while it runs and when it stops.
//! Clients here are bytes over TCP and TLS, so that they can do what no decent program does.

mod bounds;
mod hostile;
#[cfg(feature = "cli")]
mod killing;
#[cfg(feature = "cli")]
mod serving;
mod stopping;
mod talking;
mod telling;
mod tidying;
mod trusting;

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use lxd_image::server::{Handler, Listener, ListenerOptions, ServerCertificate, ServerOptions, TrustedClients};
use lxd_image::store::{ImportOptions, Store, StoreOptions, StoredImage};
use lxd_image::{Cancel, Fingerprint, Monitor, Result};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, WebPkiServerVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};

use crate::store::{Scratch, alias, metadata, stream, unified, unified_with};

/// Long enough for anything that happens at all; a test that hangs fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server that listens on loopback.
pub(super) struct Listening {
    pub(super) address: SocketAddr,
    pub(super) plain: SocketAddr,
    pub(super) store: Store,
    pub(super) log: Log,
    pub(super) scratch: Scratch,
    stop: Cancel,
    thread: Option<JoinHandle<Result<()>>>,
}

/// What the server wrote down.
#[derive(Clone, Default)]
pub(super) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Listening {
    pub(super) fn new() -> Self {
        Self::with(|options, _| options)
    }

    /// With other options; the second argument is a directory to put things.
    pub(super) fn with(change: impl FnOnce(ListenerOptions, &Scratch) -> ListenerOptions) -> Self {
        Self::of(&StoreOptions::new(), change)
    }

    /// That trusts a client, by a file in the directory `trusted`.
    pub(super) fn trusting(friend: &Identity) -> Self {
        Self::with(|options, scratch| {
            std::fs::create_dir(scratch.join("trusted")).unwrap();
            std::fs::write(scratch.join("trusted/one.crt"), &friend.pem).unwrap();
            options.trusted(TrustedClients::at(scratch.join("trusted")).unwrap())
        })
    }

    /// With a store that was opened in some way.
    pub(super) fn of(store: &StoreOptions, change: impl FnOnce(ListenerOptions, &Scratch) -> ListenerOptions) -> Self {
        Self::start(store, None, change)
    }

    /// That listens at one more socket.
    pub(super) fn also(socket: TcpListener, change: impl FnOnce(ListenerOptions, &Scratch) -> ListenerOptions) -> Self {
        Self::start(&StoreOptions::new(), Some(socket), change)
    }

    fn start(
        store: &StoreOptions,
        also: Option<TcpListener>,
        change: impl FnOnce(ListenerOptions, &Scratch) -> ListenerOptions,
    ) -> Self {
        let scratch = Scratch::new();
        let store = store.open(scratch.join("store")).unwrap();
        let handler = Handler::new(store.clone(), ServerOptions::new());
        let certificate = ServerCertificate::kept_in(&scratch.join("server"), &[]).unwrap();
        let log = Log::default();
        let options = ListenerOptions::new().certificate(certificate).log(log.clone());
        let mut listener = Listener::new(Arc::new(handler), change(options, &scratch)).unwrap();
        listener.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        listener.listen_plain(TcpListener::bind("127.0.0.1:0").unwrap()).unwrap();
        if let Some(socket) = also {
            listener.listen(socket).unwrap();
        }
        let addresses = listener.local_addresses();
        let stop = Cancel::new();
        let switch = stop.clone();
        let thread = Some(std::thread::spawn(move || listener.run(&switch)));
        Self { address: addresses[0].0, plain: addresses[1].0, store, log, scratch, stop, thread }
    }

    pub(super) fn import(&self, tag: &str) -> StoredImage {
        let options = ImportOptions::new().public(true).alias(alias(tag));
        self.store.import(stream(unified(tag)), &options, &Monitor::none()).unwrap()
    }

    /// A public image that is larger than all buffers between two programs.
    pub(super) fn import_large(&self, tag: &str) -> (StoredImage, Vec<u8>) {
        let content: Vec<u8> = (0..LARGE).map(|index| (index / 7 % 251) as u8).collect();
        let bytes = unified_with(&metadata(tag, ""), &content);
        let image =
            self.store.import(stream(bytes.clone()), &ImportOptions::new().public(true), &Monitor::none()).unwrap();
        (image, bytes)
    }

    /// Stops it, and gives what running gave.
    pub(super) fn stop(&mut self) -> Result<()> {
        self.stop.cancel();
        self.thread.take().unwrap().join().unwrap()
    }

    pub(super) fn begin_to_stop(&self) {
        self.stop.cancel();
    }

    pub(super) fn tcp(&self) -> TcpStream {
        connect(self.address).unwrap()
    }

    /// A connection with TLS.
    pub(super) fn tls(&self) -> Talk<Tls> {
        Talk::new(StreamOwned::new(client(None, &[b"http/1.1"]), self.tcp()))
    }

    /// A connection of a client with a certificate.
    pub(super) fn trusted(&self, identity: &Identity) -> Talk<Tls> {
        Talk::new(StreamOwned::new(client(Some(identity), &[b"http/1.1"]), self.tcp()))
    }

    /// A connection without.
    pub(super) fn plain(&self) -> Talk<TcpStream> {
        Talk::new(connect(self.plain).unwrap())
    }

    /// One request on a connection of its own.
    pub(super) fn get(&self, path: &str) -> Answer {
        let mut talk = self.tls();
        talk.ask("GET", path, &[]);
        talk.answer("GET").unwrap()
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

const LARGE: usize = 32 << 20;

pub(super) fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

pub(super) type Tls = StreamOwned<ClientConnection, TcpStream>;

/// A client's certificate, and the key that it uses.
pub(super) struct Identity {
    pub(super) pem: String,
    pub(super) key_pem: String,
    pub(super) certificate: CertificateDer<'static>,
}

impl Identity {
    pub(super) fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(vec!["client".to_owned()]).unwrap();
        Self { pem: made.cert.pem(), key_pem: made.signing_key.serialize_pem(), certificate: made.cert.der().clone() }
    }

    /// Somebody who has seen the certificate, and has a key of his own.
    pub(super) fn stolen(&self) -> Self {
        Self { pem: self.pem.clone(), certificate: self.certificate.clone(), key_pem: Self::new().key_pem }
    }

    pub(super) fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.certificate)
    }
}

#[derive(Debug)]
struct Shows(Arc<CertifiedKey>);

impl ResolvesClientCert for Shows {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Takes any server; which one it is, is not what these tests are about.
#[derive(Debug)]
struct Any(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for Any {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// The client's side of TLS.
pub(super) fn client(identity: Option<&Identity>, protocols: &[&[u8]]) -> ClientConnection {
    client_of(rustls::DEFAULT_VERSIONS, identity, protocols)
}

pub(super) fn client_of(
    versions: &[&'static rustls::SupportedProtocolVersion],
    identity: Option<&Identity>,
    protocols: &[&[u8]],
) -> ClientConnection {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(Identity::new().certificate).unwrap();
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build().unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Any(verifier)));
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let key = provider
                .key_provider
                .load_private_key(PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes()).unwrap())
                .unwrap();
            let shown = CertifiedKey::new(vec![identity.certificate.clone()], key);
            builder.with_client_cert_resolver(Arc::new(Shows(Arc::new(shown))))
        }
    };
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap()
}

/// A connection with requests and answers on it.
pub(super) struct Talk<S: Read + Write> {
    pub(super) stream: BufReader<S>,
}

/// An answer: status, headers in lower case, body as far as it came.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
    /// Whether the body has the length that was promised.
    pub(super) whole: bool,
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl<S: Read + Write> Talk<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream: BufReader::new(stream) }
    }

    pub(super) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)?;
        self.stream.get_mut().flush()
    }

    pub(super) fn ask(&mut self, method: &str, path: &str, headers: &[(&str, &str)]) {
        self.try_ask(method, path, headers).unwrap();
    }

    pub(super) fn try_ask(&mut self, method: &str, path: &str, headers: &[(&str, &str)]) -> io::Result<()> {
        let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        self.send(format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n").as_bytes())
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end().to_owned())
    }

    pub(super) fn head(&mut self) -> io::Result<Answer> {
        let status = self.line()?;
        let mut words = status.split(' ');
        assert_eq!(words.next(), Some("HTTP/1.1"), "{status}");
        let status = words.next().unwrap().parse().unwrap();
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            let Some((name, value)) = line.split_once(": ") else { break };
            headers.push((name.to_ascii_lowercase(), value.to_owned()));
        }
        Ok(Answer { status, headers, body: Vec::new(), whole: false })
    }

    /// The answer to a request with this method.
    pub(super) fn answer(&mut self, method: &str) -> io::Result<Answer> {
        let mut answer = self.head()?;
        let length = answer.header("content-length").map_or(0, |length| length.parse().unwrap());
        if method != "HEAD" {
            // How a connection that is cut short ends, is nothing that counts.
            let _ = (&mut self.stream).take(length).read_to_end(&mut answer.body);
        }
        answer.whole = method == "HEAD" || answer.body.len() as u64 == length;
        Ok(answer)
    }

    /// Whether the server ended the connection, with nothing more to say.
    pub(super) fn is_closed(&mut self) -> bool {
        let mut rest = Vec::new();
        match self.stream.read_to_end(&mut rest) {
            Ok(_) => rest.is_empty(),
            Err(error) => {
                let patience = matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut);
                rest.is_empty() && !patience
            }
        }
    }
}
