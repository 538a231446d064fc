//! `Response` and `Body`: an answer of a server, of which nothing is believed and little is kept.

use std::fmt;
use std::io::{self, Read};

use ureq::http;

use super::failure::io_failure;
use super::request::Method;
use super::url::Url;
use super::watch::Watch;
use crate::error::{Error, ErrorKind, Escaped, Result};
use crate::limits::Limits;
use crate::progress::Monitor;

/// The head of an answer, and its body still to be read.
pub struct Response {
    status: u16,
    headers: http::HeaderMap,
    url: Url,
    limits: Limits,
    body: Body,
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Response({} from {})", self.status, self.url)
    }
}

impl Response {
    pub(super) fn new(
        answer: http::Response<ureq::Body>,
        url: Url,
        method: Method,
        watch: Watch,
        limits: Limits,
    ) -> Self {
        let (head, body) = answer.into_parts();
        let length = head.headers.get("content-length").and_then(|value| value.to_str().ok()?.parse().ok());
        let nothing = method == Method::Head || head.status == 204 || head.status == 304;
        let body = Body {
            reader: body.into_with_config().limit(u64::MAX).reader(),
            url: url.clone(),
            watch,
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

    /// The limits that it is read within.
    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// A header's value, if it is there once and is text. Names are compared without their case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.get_all(name).iter();
        let value = values.next()?.to_str().ok()?;
        values.next().is_none().then_some(value)
    }

    /// Where the answer came from, after redirects.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// How long the body is, in bytes, as the server says: for `HEAD`, what it would be.
    #[must_use]
    pub fn length(&self) -> Option<u64> {
        self.header("content-length")?.parse().ok()
    }

    /// Hands the answer over to somebody else, who may cancel its reading.
    pub(crate) fn watched_by(&mut self, monitor: Monitor) {
        self.body.watch.hand_to(monitor);
    }

    /// This answer, if its status is one of success (200 to 299).
    ///
    /// # Errors
    /// `NotFound` for 404 and 410, `Remote` for any other; with what the server says, if that is
    /// short or the JSON of the REST API. Those that may pass are temporary.
    pub fn success(self) -> Result<Self> {
        match self.status {
            200..=299 => Ok(self),
            _ => Err(self.failure()),
        }
    }

    /// The error that this answer is.
    #[must_use]
    pub fn failure(mut self) -> Error {
        let (status, url) = (self.status, self.url.clone());
        let mut said = Vec::new();
        // What can't be read is not said.
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

    /// How the body is packed for the way, in lower case, if it is.
    pub(crate) fn packed(&self) -> Option<String> {
        let mut named = Vec::new();
        for value in self.headers.get_all("content-encoding") {
            let value = value.to_str().unwrap_or("what is no text").to_ascii_lowercase();
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
            .map_err(|_| Error::malformed(format!("the answer of {url} is no text")))
    }

    /// The whole body in memory, unpacked if the server packed it for the way.
    ///
    /// # Errors
    /// `LimitExceeded`, naming `limit`, for one with more than `most` bytes, told or untold, packed
    /// or unpacked; `Unsupported` for a way of packing that is not known; `Remote`; `Cancelled`.
    pub fn contents(self, limit: &'static str, most: u64) -> Result<Vec<u8>> {
        let url = self.url.clone();
        let over = || Error::limit(limit, most, format!("the answer of {url}, in bytes,"));
        if self.body.length.is_some_and(|length| length > most) {
            return Err(over());
        }
        let packed = self.packed();
        let mut out = Vec::new();
        let window = self.limits.codec_memory;
        let reader = match packed {
            None => Box::new(self.body) as Box<dyn Read>,
            Some(packing) => unpacking(self.body, &packing, window)?,
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

    /// The body, to be read as it comes, exactly as it is sent.
    #[must_use]
    pub fn into_body(self) -> Body {
        self.body
    }
}

/// What a request may say of the ways that its answer may be packed.
#[must_use]
pub(crate) fn accepted() -> &'static str {
    if cfg!(feature = "gzip") { "gzip" } else { "identity" }
}

/// Unpacks what a server packed for the way, asked or not: `gzip`, `deflate` and `zstd`, where they are built in.
#[cfg_attr(not(feature = "zstd"), expect(unused_variables, reason = "only zstd has windows of any size"))]
fn unpacking(body: Body, packing: &str, window: u64) -> Result<Box<dyn Read>> {
    match packing {
        #[cfg(feature = "gzip")]
        "gzip" | "x-gzip" => Ok(Box::new(flate2::read::MultiGzDecoder::new(body))),
        #[cfg(feature = "gzip")]
        "deflate" => deflated(body),
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

/// `deflate` is a zlib stream by the standard, and bare of that from some servers.
#[cfg(feature = "gzip")]
fn deflated(mut body: Body) -> Result<Box<dyn Read>> {
    let mut head = Vec::new();
    (&mut body).take(2).read_to_end(&mut head)?;
    let is_zlib = matches!(*head, [a, b] if a & 0x0f == 8 && (u16::from(a) << 8 | u16::from(b)) % 31 == 0);
    let whole = io::Cursor::new(head).chain(body);
    if is_zlib {
        return Ok(Box::new(flate2::read::ZlibDecoder::new(whole)));
    }
    Ok(Box::new(flate2::read::DeflateDecoder::new(whole)))
}

/// The body of an answer. Ends well only when all that the server announced came.
///
/// Every error is one of this library, carried by [`io::Error`].
pub struct Body {
    reader: ureq::BodyReader<'static>,
    url: Url,
    watch: Watch,
    length: Option<u64>,
    read: u64,
}

impl Body {
    /// How many bytes are still to come, as far as the server said.
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
        let done = self.watch.over(|| reader.read(buffer));
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
