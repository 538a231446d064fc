//! [`Request`] and [`Response`]: the input and output of the handler, without a socket. A response's body is read piece
//! by piece, so that neither an image nor a long list is ever in memory. Bodies that consist of files have a known
//! length; lists are generated while they are sent.
//!
//! The types are independent of the HTTP library that the listener uses: bodies are read with
//! [`Read`], on threads that may block. A request's body arrives while it is read, a response's
//! body is produced while it is read; in both directions the reader sets the pace, so that a slow
//! client costs a bounded amount of memory.

use std::fmt;
use std::io::{self, Read};
use std::net::IpAddr;
use std::sync::Arc;

use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};

use crate::fingerprint::Fingerprint;
use crate::io::{Blob, ReadAt};
use crate::server::core::client::Client;

/// A request: its head, its client, and its body as a stream.
///
/// ```
/// use http::Method;
/// use lxd_image::server::{Client, Request};
///
/// let mut request = Request::new(Method::GET, "/1.0/images".parse().unwrap());
/// assert!(!request.is_trusted());
/// request.client = Client::Trusted(lxd_image::Fingerprint::of(b"the certificate in DER"));
/// assert!(request.is_trusted());
/// ```
///
/// A program that calls the handler by itself fills in the fields; [`Request::new`] has defaults
/// for a test. The fields `client`, `secure` and `peer` are believed: they must come from the
/// connection and never from headers.
pub struct Request {
    /// The method.
    pub method: Method,
    /// The target as it was sent: the path is still escaped.
    pub uri: Uri,
    /// The headers. A listener of HTTP/2 adds `Host` from the pseudo-header `:authority`, because
    /// the handler looks there.
    pub headers: HeaderMap,
    /// Who the client is.
    pub client: Client,
    /// Whether it came over TLS. For information only: access depends on `client`.
    pub secure: bool,
    /// The address of the client or of the proxy before it; `None` without a network.
    pub peer: Option<IpAddr>,
    /// The body. The handler may stop reading it early.
    ///
    /// A read blocks until the client has sent more, and fails when the connection breaks.
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
    /// An untrusted client's request without a body, over TLS.
    ///
    /// It has no headers and no address of a peer. Change the fields as needed.
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

    /// Whether the client is trusted.
    #[must_use]
    pub fn is_trusted(&self) -> bool {
        self.client.is_trusted()
    }

    /// A header's value; `None` when it is absent or not ASCII text.
    #[must_use]
    pub fn header(&self, name: impl header::AsHeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// A response: status, headers, body.
///
/// ```
/// use http::StatusCode;
/// use lxd_image::server::Response;
///
/// let response = Response::text(StatusCode::OK, "text/plain", "hello").with(http::header::ETAG, "\"1\"");
/// assert_eq!(response.body.read_to_end().unwrap(), b"hello");
/// ```
///
/// Its body has not been read when the response is returned. An error while the body is read can't
/// change the status any more: the listener cuts the connection then, so that the client sees that
/// it is incomplete.
#[derive(Debug)]
pub struct Response {
    /// The status.
    pub status: StatusCode,
    /// The headers, without those that frame the body: the listener adds them.
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
    ///
    /// The type is written as it is; name the character set for texts.
    #[must_use]
    pub fn text(status: StatusCode, content_type: &'static str, text: impl Into<Vec<u8>>) -> Self {
        let mut response = Self::new(status);
        response.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        response.body = Body::bytes(text);
        response
    }

    /// Sets a header. A value that no header can hold is dropped: such values come from image metadata, and the
    /// response is of use without them.
    #[must_use]
    pub fn with(mut self, name: HeaderName, value: &str) -> Self {
        // `HeaderValue` refuses line feeds, so no value can add a header of its own.
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
///
/// Most bodies are `Pieces`. `Events` is the answer of `GET /1.0/events` only; a listener that does
/// not speak WebSocket answers 426 in its place.
#[derive(Debug)]
pub enum Body {
    /// Bytes of known origin, one piece after the other.
    Pieces(Pieces),
    /// Events, for as long as the client listens: text messages over a WebSocket.
    Events(tokio::sync::mpsc::Receiver<Arc<str>>),
}

impl Body {
    /// A body of no bytes.
    #[must_use]
    pub fn empty() -> Self {
        Self::Pieces(Pieces::default())
    }

    /// A body of these bytes.
    #[must_use]
    pub fn bytes(bytes: impl Into<Vec<u8>>) -> Self {
        Self::Pieces(Pieces::new(vec![Piece::Bytes(bytes.into())]))
    }

    /// Reads the whole body into memory: for tests and small bodies. Events are left out.
    ///
    /// # Errors
    /// Those of reading and of generating the body; `InvalidData` when a file does not match its fingerprint.
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
///
/// Files are opened before the response begins, so that an image that is deleted meanwhile is still
/// sent.
#[derive(Debug)]
pub enum Piece {
    /// Bytes in memory.
    Bytes(Vec<u8>),
    /// Bytes in memory that several responses share.
    Shared(Arc<[u8]>),
    /// A range of a stored blob, read while it is sent.
    Stored {
        /// The blob.
        blob: Blob,
        /// Where the range begins, in bytes.
        offset: u64,
        /// The length of the range in bytes.
        length: u64,
    },
}

impl Piece {
    /// The number of bytes of this piece.
    fn length(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Shared(bytes) => <[u8]>::len(bytes) as u64,
            Self::Stored { length, .. } => *length,
        }
    }
}

/// Generates a body while it is sent, one chunk after the other. After an error there are no more chunks, and the
/// listener cuts the connection so that the client sees that the body is incomplete.
///
/// An empty chunk is allowed and is not the end. A chunk should be some KiB to some 100 KiB: it is
/// in memory as a whole.
pub type Chunks = Box<dyn Iterator<Item = io::Result<Vec<u8>>> + Send>;

/// Called with the SHA-256 of all bytes of files before the last of them is returned; `false` makes
/// reading fail instead. It is called at most once, and not at all if the body is not read to its
/// end.
pub type Check = Box<dyn FnOnce(Fingerprint) -> bool + Send>;

/// Pieces of a body in order. [`Read`] returns their bytes.
///
/// Errors of a blob and of a generator are returned as they are. A blob that is shorter than its
/// piece is `UnexpectedEof`, and a file that does not match its fingerprint is `InvalidData`; after
/// either the body must not be continued.
#[derive(Default)]
pub struct Pieces {
    pieces: Vec<Piece>,
    /// The index of the current piece.
    at: usize,
    /// The bytes of it that were read.
    inside: u64,
    /// Hashes the bytes of files, if asked to.
    check: Option<(crate::fingerprint::Hasher, Check)>,
    /// What is generated after the pieces.
    generated: Option<Box<Generated>>,
}

/// The source of a generated body, and the unread rest of its last chunk.
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
    /// A body of these pieces.
    #[must_use]
    pub fn new(pieces: Vec<Piece>) -> Self {
        Self { pieces, ..Self::default() }
    }

    /// Hashes the bytes of all files while they are read, and calls `check` before the last of them is returned, so
    /// that a damaged file never reaches a client completely.
    ///
    /// Bytes in memory, such as the heads of a form, are not hashed: the digest is that of the
    /// stored files, one after the other, which is the definition of a split image's fingerprint.
    #[must_use]
    pub fn checked(mut self, check: Check) -> Self {
        self.check = Some((crate::fingerprint::Hasher::new(), check));
        self
    }

    /// A body that is generated while it is sent: each chunk when the client has read those before. Its length is
    /// unknown.
    #[must_use]
    pub fn generated(chunks: Chunks) -> Self {
        let generated = Generated { chunks, chunk: io::Cursor::default() };
        Self { generated: Some(Box::new(generated)), ..Self::default() }
    }

    /// The length in bytes; `None` for a generated body.
    #[must_use]
    pub fn length(&self) -> Option<u64> {
        // Saturating: lengths come from the catalog, which may be damaged.
        let known = || self.pieces.iter().map(Piece::length).fold(0, u64::saturating_add);
        self.generated.is_none().then(known)
    }

    /// An upper bound on the bytes that were not read yet.
    ///
    /// Used to choose the size of a buffer, so it need not be exact.
    pub(crate) fn left(&self) -> u64 {
        if self.generated.is_some() {
            return u64::MAX;
        }
        let rest = self.pieces.iter().skip(self.at).map(Piece::length).fold(0, u64::saturating_add);
        rest.saturating_sub(self.inside)
    }

    /// Whether bytes of files follow after the piece with this index. The check runs at the last of
    /// them, and an empty file has no read at which it could run.
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
                    // A reader that continues after the error must not take it for the end of the body.
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

/// Copies bytes from a position on; nothing from a position behind the end.
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
            // A read never crosses the end of a piece, so that the check runs exactly at the last
            // file's end.
            let room = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            let buffer = &mut buffer[..room];
            let read = match piece {
                Piece::Bytes(bytes) => copy(bytes, self.inside, buffer)?,
                Piece::Shared(bytes) => copy(bytes, self.inside, buffer)?,
                Piece::Stored { blob, offset, .. } => {
                    // A blob may be a network file: a signal must not look like the end of an
                    // image.
                    let read = loop {
                        match blob.read_at(buffer, offset.saturating_add(self.inside)) {
                            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                            other => break other?,
                        }
                    };
                    // The length was promised in a header. A shorter body must not end like a
                    // complete one.
                    if read == 0 {
                        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "a file became shorter"));
                    }
                    if let Some((hasher, _)) = &mut self.check {
                        hasher.update(&buffer[..read]);
                    }
                    read
                }
            };
            // Checked before the bytes are returned: a client that got all bytes but the last one
            // has no image.
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
