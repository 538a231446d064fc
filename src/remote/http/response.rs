//! `Response` and `Body`: the head of a response, and its body as a stream that ends well only if it is complete.

use std::fmt;
use std::io::{self, Read};

use ureq::http;

use super::deadline::Deadline;
use super::errors::io_failure;
use super::request::Method;
use super::url::Url;
use crate::error::{Error, ErrorKind, Escaped, Result};
use crate::limits::Limits;
use crate::progress::Monitor;

/// The head of a response, with its body still to be read.
///
/// ```no_run
/// use lxd_image::remote::{Client, ClientOptions, Request};
///
/// let client = Client::new(ClientOptions::new())?;
/// let response = client.send(Request::get(&"https://images.example/1.0".parse()?))?;
/// println!("{} {:?}", response.status(), response.header("content-type"));
/// let bytes = response.success()?.contents("remote_index", 1 << 20)?;
/// # let _ = bytes;
/// # Ok::<(), lxd_image::Error>(())
/// ```
pub struct Response {
    status: u16,
    headers: http::HeaderMap,
    /// After redirects.
    url: Url,
    /// Of the client.
    limits: Limits,
    body: Body,
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Response({} from {})", self.status, self.url)
    }
}

impl Response {
    /// Takes a response of `ureq` apart. A response to `HEAD`, 204 and 304 have no body, whatever their `Content-Length` says
    /// (RFC 9112, 6.3).
    pub(super) fn new(
        answer: http::Response<ureq::Body>,
        url: Url,
        method: Method,
        deadline: Deadline,
        limits: Limits,
    ) -> Self {
        let (head, body) = answer.into_parts();
        let length = head.headers.get("content-length").and_then(|value| value.to_str().ok()?.parse().ok());
        let nothing = method == Method::Head || head.status == 204 || head.status == 304;
        let body = Body {
            reader: body.into_with_config().limit(u64::MAX).reader(),
            url: url.clone(),
            deadline,
            length: if nothing { Some(0) } else { length },
            read: 0,
        };
        Self { status: head.status.as_u16(), headers: head.headers, url, limits, body }
    }

    /// The status code.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The limits of the client that it came from.
    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The value of a header that occurs once and is ASCII; `None` otherwise, so that contradicting headers don't count. Case is
    /// ignored in names.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.get_all(name).iter();
        let value = values.next()?.to_str().ok()?;
        values.next().is_none().then_some(value)
    }

    /// All values of a header that are ASCII, in their order.
    pub(crate) fn header_values(&self, name: &str) -> impl Iterator<Item = &str> {
        self.headers.get_all(name).iter().filter_map(|value| value.to_str().ok())
    }

    /// The URL that answered, after redirects.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The length of the body in bytes, as the server says; for `HEAD`, what it would be for `GET`.
    #[must_use]
    pub fn length(&self) -> Option<u64> {
        self.header("content-length")?.parse().ok()
    }

    /// Replaces the monitor that cancels reading the body.
    pub(crate) fn set_monitor(&mut self, monitor: Monitor) {
        self.body.deadline.set_monitor(monitor);
    }

    /// This response if its status is 2xx, else the error that it means.
    ///
    /// # Errors
    /// `NotFound` for 404 and 410, `Remote` for any other, with the server's message if that is short text or JSON of the REST
    /// API. 408, 425, 429, 500, 502, 503 and 504 are transient.
    pub fn success(self) -> Result<Self> {
        match self.status {
            200..=299 => Ok(self),
            _ => Err(self.failure()),
        }
    }

    /// The error that this response means. Reads at most 4 KiB of the body, and removes secrets of the URL from it.
    #[must_use]
    pub fn failure(mut self) -> Error {
        let (status, url) = (self.status, self.url.clone());
        let mut said = Vec::new();
        // The message is a courtesy; an error in reading it must not hide the status.
        let _ = (&mut self.body).take(4 << 10).read_to_end(&mut said);
        let said = match serde_json::from_slice::<serde_json::Value>(&said) {
            Ok(value) => value.get("error").and_then(|text| text.as_str()).unwrap_or_default().to_owned(),
            Err(_) if self.header("content-type").is_some_and(|kind| kind.starts_with("text/plain")) => {
                String::from_utf8_lossy(&said).trim().chars().take(200).collect()
            }
            Err(_) => String::new(),
        };
        let said = url.secrets().iter().fold(said, |said, secret| said.replace(secret.as_str(), "***"));
        let said = if said.is_empty() { said } else { format!(": {}", Escaped(said.as_bytes())) };
        let error = match status {
            404 | 410 => Error::new(ErrorKind::NotFound, format!("{url} is not there{said}")),
            407 => Error::remote(format!(
                "the proxy on the way to {} wants to know who asks (status 407){said}",
                url.authority()
            ))
            .with_hint("write http://NAME:PASSWORD@HOST:PORT for the proxy, with special characters percent-encoded"),
            401 | 403 => Error::remote(format!("{} does not allow it (status {status}){said}", url.authority()))
                .with_hint("the server may want a client certificate that it trusts"),
            _ => Error::remote(format!("{url} answers with status {status}{said}")),
        };
        if matches!(status, 408 | 425 | 429 | 500 | 502 | 503 | 504) { error.transient() } else { error }
    }

    /// The `Content-Encoding` in lower case, if there is one but `identity`.
    pub(crate) fn content_encoding(&self) -> Option<String> {
        let mut named = Vec::new();
        for value in self.headers.get_all("content-encoding") {
            let value = value.to_str().unwrap_or("what is not ASCII").to_ascii_lowercase();
            let parts = value.split(',').map(str::trim).filter(|name| !matches!(*name, "" | "identity" | "none"));
            named.extend(parts.map(str::to_owned));
        }
        let all: String = named.join(", ").chars().take(64).collect();
        (!all.is_empty()).then(|| Escaped(all.as_bytes()).to_string())
    }

    /// The body as text, within the limit `remote_index`.
    ///
    /// # Errors
    /// As [`contents`](Self::contents); `Malformed` when it is no UTF-8.
    pub fn text(self) -> Result<String> {
        let limit = self.limits.remote_index;
        let url = self.url.clone();
        String::from_utf8(self.contents("remote_index", limit)?)
            .map_err(|_| Error::malformed(format!("the answer of {url} is not UTF-8")))
    }

    /// The whole body in memory, decompressed according to its `Content-Encoding`.
    ///
    /// # Errors
    /// `LimitExceeded`, naming `limit`, for more than `most` bytes, announced or read, compressed or not; `Unsupported` for an
    /// unknown encoding; `Malformed` for damaged data; `Remote`; `Cancelled`.
    pub fn contents(self, limit: &'static str, most: u64) -> Result<Vec<u8>> {
        let url = self.url.clone();
        let over = || Error::limit(limit, most, format!("the answer of {url}, in bytes,"));
        if self.body.length.is_some_and(|length| length > most) {
            return Err(over());
        }
        let packed = self.content_encoding();
        let mut out = Vec::new();
        let window = self.limits.codec_memory;
        let reader = match packed {
            None => Box::new(self.body) as Box<dyn Read>,
            Some(packing) => decompress(self.body, &packing, window)?,
        };
        reader.take(most.saturating_add(1)).read_to_end(&mut out).map_err(|error| {
            if error.get_ref().is_some_and(|inner| inner.is::<Error>()) {
                return Error::from(error);
            }
            Error::malformed(format!("the answer of {url} is damaged")).with_source(error)
        })?;
        if out.len() as u64 > most {
            return Err(over());
        }
        Ok(out)
    }

    /// The body as a stream, exactly as it is sent.
    #[must_use]
    pub fn into_body(self) -> Body {
        self.body
    }
}

/// The value of `Accept-Encoding` for documents.
#[must_use]
pub(crate) fn accept_encoding() -> &'static str {
    if cfg!(feature = "gzip") { "gzip" } else { "identity" }
}

/// Decompresses a body by its encoding, requested or not: some servers compress whatever they are asked.
#[cfg_attr(not(feature = "zstd"), expect(unused_variables, reason = "only zstd has windows of any size"))]
fn decompress(body: Body, packing: &str, window: u64) -> Result<Box<dyn Read>> {
    match packing {
        #[cfg(feature = "gzip")]
        "gzip" | "x-gzip" => Ok(Box::new(flate2::read::MultiGzDecoder::new(body))),
        #[cfg(feature = "gzip")]
        "deflate" => inflate(body),
        #[cfg(feature = "zstd")]
        "zstd" => {
            let wrong = |error| Error::io("zstd can't be set up", error);
            let mut decoder = zstd::stream::read::Decoder::new(body).map_err(wrong)?;
            decoder.window_log_max(window.max(1).ilog2().clamp(10, 31)).map_err(wrong)?;
            Ok(Box::new(decoder))
        }
        known if matches!(known, "gzip" | "x-gzip" | "deflate" | "zstd") => Err(Error::new(
            ErrorKind::FeatureDisabled,
            format!("{} packs its answer as {packing}", body.url.authority()),
        )
        .with_hint("build with the features `gzip` and `zstd`")),
        other => Err(Error::unsupported(format!(
            "{} sends its answer packed as {other}, which was not asked for",
            body.url.authority()
        ))),
    }
}

/// Decompresses `deflate`: a zlib stream by RFC 9110 (8.4.1.2), raw DEFLATE from some servers.
#[cfg(feature = "gzip")]
fn inflate(mut body: Body) -> Result<Box<dyn Read>> {
    let mut head = Vec::new();
    (&mut body).take(2).read_to_end(&mut head)?;
    let is_zlib = matches!(*head, [a, b] if a & 0x0f == 8 && (u16::from(a) << 8 | u16::from(b)) % 31 == 0);
    let whole = io::Cursor::new(head).chain(body);
    if is_zlib {
        return Ok(Box::new(flate2::read::ZlibDecoder::new(whole)));
    }
    Ok(Box::new(flate2::read::DeflateDecoder::new(whole)))
}

/// The body of a response, as a reader. It ends well only when all announced bytes arrived; a connection that closes early is a
/// transient error.
///
/// Every error is an [`Error`](crate::Error), carried by [`io::Error`].
pub struct Body {
    /// Of `ureq`, which undoes chunked encoding and checks `Content-Length`.
    reader: ureq::BodyReader<'static>,
    /// For errors.
    url: Url,
    /// Of the whole request: reading the body counts, too.
    deadline: Deadline,
    /// `Content-Length`, if there is one.
    length: Option<u64>,
    /// The number of bytes that were read.
    read: u64,
}

impl Body {
    /// The number of bytes still to come, if the server announced it.
    #[must_use]
    pub fn remaining(&self) -> Option<u64> {
        self.length.map(|length| length.saturating_sub(self.read))
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body").field("read", &self.read).field("length", &self.length).finish_non_exhaustive()
    }
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let reader = &mut self.reader;
        let done = self.deadline.run(|| reader.read(buffer));
        match done {
            Ok(count) => {
                self.read = self.read.saturating_add(count as u64);
                Ok(count)
            }
            Err(error) => {
                let mut error = io_failure(error, &self.url);
                if let Some(length) = self.length.filter(|length| error.is_transient() && self.read < *length) {
                    error = error.context(format_args!("after {} of {length} bytes", self.read));
                }
                Err(error.into())
            }
        }
    }
}
