//! `Request` and `Response`: what goes into the handler and what comes out, with no socket behind either.
//! A response's body is read piece by piece, so that neither an image nor a long list is ever in memory. Bodies that are made of
//! files know their length; lists are made while they are sent.

use std::fmt;
use std::io::{self, Read};
use std::net::IpAddr;
use std::sync::Arc;

use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};

use crate::fingerprint::Fingerprint;
use crate::io::{Blob, ReadAt};

/// What the server takes a client for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Client {
    /// Anybody: sees what is public.
    #[default]
    Untrusted,
    /// One whose certificate is trusted, with the sha256 of that certificate: sees and changes everything.
    Trusted(Fingerprint),
}

/// A request: its head, its client, and its body as a stream.
pub struct Request {
    /// The method.
    pub method: Method,
    /// What was asked for, as it was sent: the path is still escaped.
    pub uri: Uri,
    /// The headers.
    pub headers: HeaderMap,
    /// Who asks.
    pub client: Client,
    /// Whether it came over TLS.
    pub secure: bool,
    /// Where it came from, as far as the network tells; `None` when there was none.
    pub peer: Option<IpAddr>,
    /// The body; whoever reads it may stop early.
    pub body: Box<dyn Read + Send>,
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("method", &self.method)
            .field("uri", &crate::redact::address(&self.uri.to_string()))
            .finish_non_exhaustive()
    }
}

impl Request {
    /// A stranger's request without a body, over TLS.
    #[must_use]
    pub fn new(method: Method, uri: Uri) -> Self {
        Self {
            method,
            uri,
            headers: HeaderMap::new(),
            client: Client::Untrusted,
            secure: true,
            peer: None,
            body: Box::new(io::empty()),
        }
    }

    /// Whether it comes from a client that is trusted.
    #[must_use]
    pub fn is_trusted(&self) -> bool {
        matches!(self.client, Client::Trusted(_))
    }

    /// A header's value as text; `None` when it is not there, or is no text.
    #[must_use]
    pub fn header(&self, name: impl header::AsHeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// A response: status, headers, body.
#[derive(Debug)]
pub struct Response {
    /// The status.
    pub status: StatusCode,
    /// The headers, without those that tell where the body ends.
    pub headers: HeaderMap,
    /// The body.
    pub body: Body,
}

impl Response {
    /// A response without a body.
    #[must_use]
    pub fn new(status: StatusCode) -> Self {
        Self { status, headers: HeaderMap::new(), body: Body::empty() }
    }

    /// A response with a text of this type, like `text/plain; charset=utf-8`.
    #[must_use]
    pub fn text(status: StatusCode, content_type: &'static str, text: impl Into<Vec<u8>>) -> Self {
        let mut response = Self::new(status);
        response.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        response.body = Body::bytes(text);
        response
    }

    /// Sets a header. A value that no header can hold is left out: it comes from a store, and the rest of the
    /// answer is worth more than nothing.
    #[must_use]
    pub fn with(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(name, value);
        }
        self
    }

    /// A header's value as text.
    #[must_use]
    pub fn header(&self, name: impl header::AsHeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// The body of a response.
#[derive(Debug)]
pub enum Body {
    /// Pieces, one after the other.
    Pieces(Pieces),
    /// What happens, for as long as the client listens: a WebSocket of texts.
    Events(tokio::sync::mpsc::Receiver<Arc<str>>),
}

impl Body {
    /// Nothing.
    #[must_use]
    pub fn empty() -> Self {
        Self::Pieces(Pieces::default())
    }

    /// Some bytes.
    #[must_use]
    pub fn bytes(bytes: impl Into<Vec<u8>>) -> Self {
        Self::Pieces(Pieces::new(vec![Piece::Bytes(bytes.into())]))
    }

    /// All its bytes: for tests and for what is small.
    ///
    /// # Errors
    /// Those of reading and of what makes the body; `InvalidData` when a file is not what it was.
    pub fn read_to_end(self) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        match self {
            Self::Pieces(mut pieces) => pieces.read_to_end(&mut all)?,
            Self::Events(_) => 0,
        };
        Ok(all)
    }
}

/// A piece of a body.
#[derive(Debug)]
pub enum Piece {
    /// Bytes that are there.
    Bytes(Vec<u8>),
    /// Bytes that many responses have in common.
    Shared(Arc<[u8]>),
    /// A part of bytes at rest, which is read as it is sent.
    Stored {
        /// The bytes, of which it is a part.
        blob: Blob,
        /// Where the part begins.
        offset: u64,
        /// How long it is.
        length: u64,
    },
}

impl Piece {
    fn length(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Shared(bytes) => <[u8]>::len(bytes) as u64,
            Self::Stored { length, .. } => *length,
        }
    }
}

/// What makes a body while it is sent: one chunk after the other. After an error there is no more, and the client learns that the
/// body is not whole.
pub type Chunks = Box<dyn Iterator<Item = io::Result<Vec<u8>>> + Send>;

/// Called with the digest of all files' bytes before the last of them is given out; `false` cuts the body short.
pub type Check = Box<dyn FnOnce(Fingerprint) -> bool + Send>;

/// Pieces one after the other. [`Read`] gives their bytes.
#[derive(Default)]
pub struct Pieces {
    pieces: Vec<Piece>,
    /// The piece that is read, and how far.
    at: usize,
    inside: u64,
    /// Hashes what comes from files, where that is asked.
    check: Option<(crate::fingerprint::Hasher, Check)>,
    /// What is made while it is sent, behind the pieces.
    generated: Option<Box<Generated>>,
}

/// Chunks, and what of the last one was not read yet.
struct Generated {
    chunks: Chunks,
    chunk: io::Cursor<Vec<u8>>,
}

impl fmt::Debug for Pieces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pieces").field("pieces", &self.pieces).finish_non_exhaustive()
    }
}

impl Pieces {
    /// These pieces.
    #[must_use]
    pub fn new(pieces: Vec<Piece>) -> Self {
        Self { pieces, ..Self::default() }
    }

    /// Hashes the bytes of all files on their way, and asks before the last of them goes out: a file that was
    /// damaged meanwhile never reaches a client as a whole.
    #[must_use]
    pub fn checked(mut self, check: Check) -> Self {
        self.check = Some((crate::fingerprint::Hasher::new(), check));
        self
    }

    /// Chunks that are made as they are sent, when the client has taken those before. How many bytes they are is not known
    /// beforehand.
    #[must_use]
    pub fn generated(chunks: Chunks) -> Self {
        let generated = Generated { chunks, chunk: io::Cursor::default() };
        Self { generated: Some(Box::new(generated)), ..Self::default() }
    }

    /// How many bytes there are in all; `None` where they are made while they are sent.
    #[must_use]
    pub fn length(&self) -> Option<u64> {
        let known = || self.pieces.iter().map(Piece::length).fold(0, u64::saturating_add);
        self.generated.is_none().then(known)
    }

    /// How many bytes were not read yet, at most.
    pub(crate) fn left(&self) -> u64 {
        if self.generated.is_some() {
            return u64::MAX;
        }
        let rest = self.pieces.iter().skip(self.at).map(Piece::length).fold(0, u64::saturating_add);
        rest.saturating_sub(self.inside)
    }

    fn files_after(&self, at: usize) -> bool {
        self.pieces.iter().skip(at + 1).any(|piece| matches!(piece, Piece::Stored { length, .. } if *length > 0))
    }
}

impl Read for Generated {
    /// Makes the next chunk only when all before it were read.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.chunk.read(buffer)?;
            if read > 0 {
                return Ok(read);
            }
            match self.chunks.next() {
                // An empty chunk is not the end of the body.
                Some(Ok(chunk)) => self.chunk = io::Cursor::new(chunk),
                Some(Err(error)) => {
                    // Whoever reads on must not take this for the end.
                    let kind = error.kind();
                    let broken = move || Some(Err(io::Error::new(kind, "the rest of the body could not be made")));
                    self.chunks = Box::new(std::iter::from_fn(broken));
                    return Err(error);
                }
                None => return Ok(0),
            }
        }
    }
}

fn copy(bytes: &[u8], from: u64, buffer: &mut [u8]) -> io::Result<usize> {
    let from = usize::try_from(from).unwrap_or(usize::MAX);
    let mut rest = bytes.get(from..).unwrap_or_default();
    rest.read(buffer)
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        while let Some(piece) = self.pieces.get(self.at) {
            let left = piece.length() - self.inside;
            if left == 0 {
                (self.at, self.inside) = (self.at + 1, 0);
                continue;
            }
            let room = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            let buffer = &mut buffer[..room];
            let read = match piece {
                Piece::Bytes(bytes) => copy(bytes, self.inside, buffer)?,
                Piece::Shared(bytes) => copy(bytes, self.inside, buffer)?,
                Piece::Stored { blob, offset, .. } => {
                    let read = loop {
                        match blob.read_at(buffer, offset.saturating_add(self.inside)) {
                            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                            other => break other?,
                        }
                    };
                    if read == 0 {
                        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "a file became shorter"));
                    }
                    if let Some((hasher, _)) = &mut self.check {
                        hasher.update(&buffer[..read]);
                    }
                    read
                }
            };
            let last = matches!(piece, Piece::Stored { .. }) && read as u64 == left && !self.files_after(self.at);
            if last
                && let Some((hasher, check)) = self.check.take()
                && !check(hasher.finish())
            {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a file is not what it was"));
            }
            self.inside += read as u64;
            return Ok(read);
        }
        self.generated.as_mut().map_or(Ok(0), |generated| generated.read(buffer))
    }
}
