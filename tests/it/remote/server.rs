//! A small server on loopback that does exactly what a test tells it, byte by byte: plain or with TLS.
//! It stops when it is dropped; nothing in it waits for the clock.
#![allow(dead_code, reason = "what a server can do is used by some tests at a time")]

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use lxd_image::remote::{Certificate, ClientOptions, Trust, Url};

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) method: String,
    /// Path and query.
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// The client's certificate in DER, where it showed one.
    pub(crate) client: Option<Vec<u8>>,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The first byte that is asked for, by `Range: bytes=N-`.
    pub(crate) fn from(&self) -> Option<usize> {
        self.header("range")?.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
    }
}

/// A connection, to write whatever to.
pub(crate) trait Line: Read + Write {}
impl<T: Read + Write> Line for T {}

/// What becomes of the connection after an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    Keep,
    /// Ends it, with TLS's own farewell.
    Close,
    /// Drops it in the middle of whatever there was.
    Cut,
}

type Handler = dyn Fn(&Asked, &mut dyn Line) -> io::Result<Then> + Send + Sync;

pub(crate) struct Server {
    address: SocketAddr,
    tls: bool,
    certificate: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    stopped: Arc<AtomicBool>,
    open: Arc<Mutex<Vec<TcpStream>>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub(crate) fn plain(handler: impl Fn(&Asked, &mut dyn Line) -> io::Result<Then> + Send + Sync + 'static) -> Self {
        Self::start(None, String::new(), Arc::new(handler))
    }

    /// With a certificate of its own, for 127.0.0.1 and localhost.
    pub(crate) fn tls(handler: impl Fn(&Asked, &mut dyn Line) -> io::Result<Then> + Send + Sync + 'static) -> Self {
        let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
        Self::with_certificate(&made, handler)
    }

    pub(crate) fn with_certificate(
        made: &rcgen::CertifiedKey<rcgen::KeyPair>,
        handler: impl Fn(&Asked, &mut dyn Line) -> io::Result<Then> + Send + Sync + 'static,
    ) -> Self {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(Arc::new(AnyClient(provider)))
            .with_single_cert(
                vec![made.cert.der().clone()],
                rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap(),
            )
            .unwrap();
        Self::start(Some(Arc::new(config)), made.cert.pem(), Arc::new(handler))
    }

    /// With a certificate that only pinning takes, over one version of TLS.
    pub(crate) fn with_pem(
        certificate: &str,
        key: &str,
        version: &'static rustls::SupportedProtocolVersion,
        handler: impl Fn(&Asked, &mut dyn Line) -> io::Result<Then> + Send + Sync + 'static,
    ) -> Self {
        use rustls::pki_types::pem::PemObject;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let der = rustls::pki_types::CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
        let key = rustls::pki_types::PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let key = rustls::crypto::ring::sign::any_supported_type(&key).unwrap();
        // Unlike a single certificate this is not looked at.
        let resolver = rustls::sign::SingleCertAndKey::from(rustls::sign::CertifiedKey::new(vec![der], key));
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(resolver));
        Self::start(Some(Arc::new(config)), certificate.to_owned(), Arc::new(handler))
    }

    fn start(config: Option<Arc<rustls::ServerConfig>>, certificate: String, handler: Arc<Handler>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let stopped = Arc::new(AtomicBool::new(false));
        let open = Arc::new(Mutex::new(Vec::new()));
        let tls = config.is_some();
        let thread = std::thread::spawn({
            let (asked, stopped, open) = (Arc::clone(&asked), Arc::clone(&stopped), Arc::clone(&open));
            move || {
                let mut connections = Vec::new();
                while let Ok((stream, _)) = listener.accept() {
                    if stopped.load(Ordering::SeqCst) {
                        break;
                    }
                    open.lock().unwrap().push(stream.try_clone().unwrap());
                    let (config, asked, handler) = (config.clone(), Arc::clone(&asked), Arc::clone(&handler));
                    connections.push(std::thread::spawn(move || {
                        let ended = stream.try_clone();
                        // What a client does to a connection is its own business.
                        let _ = connection(stream, config, &asked, &handler);
                        // Those that are open are remembered, so that dropping one does not end it.
                        if let Ok(ended) = ended {
                            let _ = ended.shutdown(Shutdown::Both);
                        }
                    }));
                }
                for connection in connections {
                    let _ = connection.join();
                }
            }
        });
        Self { address, tls, certificate, asked, stopped, open, thread: Some(thread) }
    }

    pub(crate) fn url(&self, path: &str) -> Url {
        self.text(path).parse().unwrap()
    }

    pub(crate) fn text(&self, path: &str) -> String {
        format!("{}://{}{path}", if self.tls { "https" } else { "http" }, self.address)
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    pub(crate) fn certificate(&self) -> Certificate {
        Certificate::from_pem(&self.certificate).unwrap()
    }

    pub(crate) fn pem(&self) -> &str {
        &self.certificate
    }

    /// Options of a client that trusts this server, and no proxy.
    pub(crate) fn options(&self) -> ClientOptions {
        let options = ClientOptions::new().proxy(lxd_image::remote::Proxy::Direct);
        if self.tls { options.trust(Trust::Pinned(self.certificate().fingerprint())) } else { options }
    }

    /// All requests so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    pub(crate) fn forget(&self) {
        self.asked.lock().unwrap().clear();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        for stream in self.open.lock().unwrap().iter() {
            let _ = stream.shutdown(Shutdown::Both);
        }
        // Wakes the listener.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn connection(
    stream: TcpStream,
    config: Option<Arc<rustls::ServerConfig>>,
    asked: &Mutex<Vec<Asked>>,
    handler: &Arc<Handler>,
) -> io::Result<()> {
    let raw = stream.try_clone()?;
    // Head and body go in two pieces; the second must not wait for the first one's receipt.
    raw.set_nodelay(true)?;
    match config {
        None => requests(stream, |_| None, asked, handler)?,
        Some(config) => {
            let session = rustls::ServerConnection::new(config).map_err(io::Error::other)?;
            let stream = rustls::StreamOwned::new(session, stream);
            let client = |stream: &rustls::StreamOwned<rustls::ServerConnection, TcpStream>| {
                stream.conn.peer_certificates().and_then(|chain| Some(chain.first()?.as_ref().to_vec()))
            };
            requests(stream, client, asked, handler)?;
        }
    }
    raw.shutdown(Shutdown::Both)
}

fn requests<S: Read + Write>(
    stream: S,
    client: impl Fn(&S) -> Option<Vec<u8>>,
    asked: &Mutex<Vec<Asked>>,
    handler: &Arc<Handler>,
) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let mut words = line.split_whitespace();
        let (method, path) = (words.next().unwrap_or_default().to_owned(), words.next().unwrap_or_default().to_owned());
        let mut headers = Vec::new();
        loop {
            let mut line = String::new();
            stream.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let mut request = Asked { method, path, headers, body: Vec::new(), client: client(stream.get_ref()) };
        if let Some(length) = request.header("content-length").and_then(|length| length.parse().ok()) {
            (&mut stream).take(length).read_to_end(&mut request.body)?;
        }
        asked.lock().unwrap().push(request.clone());
        match handler(&request, stream.get_mut())? {
            Then::Keep => stream.get_mut().flush()?,
            Then::Close | Then::Cut => return stream.get_mut().flush(),
        }
    }
}

/// A whole answer.
pub(crate) fn answer(out: &mut dyn Line, status: u16, headers: &[(&str, &str)], body: &[u8]) -> io::Result<Then> {
    head(out, status, headers, Some(body.len()))?;
    out.write_all(body)?;
    Ok(Then::Keep)
}

/// The head of an answer whose body the test writes.
pub(crate) fn head(out: &mut dyn Line, status: u16, headers: &[(&str, &str)], length: Option<usize>) -> io::Result<()> {
    let mut text = format!("HTTP/1.1 {status} Whatever\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    if let Some(length) = length {
        text.push_str(&format!("content-length: {length}\r\n"));
    }
    text.push_str("\r\n");
    out.write_all(text.as_bytes())
}

/// Says nothing more until the client goes away.
pub(crate) fn hold(line: &mut dyn Line) -> io::Result<Then> {
    let _ = line.read(&mut [0; 64]);
    Ok(Then::Cut)
}

/// Takes every client certificate, and none.
#[derive(Debug)]
struct AnyClient(Arc<rustls::crypto::CryptoProvider>);

impl rustls::server::danger::ClientCertVerifier for AnyClient {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[rustls::DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &[rustls::pki_types::CertificateDer<'_>],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::server::danger::ClientCertVerified, rustls::Error> {
        Ok(rustls::server::danger::ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &rustls::pki_types::CertificateDer<'_>,
        signed: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &rustls::pki_types::CertificateDer<'_>,
        signed: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, known)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
