//! `Request`: method, URL, headers and body of one request.

use std::fmt;
use std::io::Read;
use std::time::Duration;

use super::url::Url;
use crate::progress::Monitor;

/// The method of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "HTTP's own words")]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
}

impl Method {
    /// The method as HTTP writes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }
}

/// The body of a request.
pub(crate) enum Payload<'a> {
    None,
    /// Can be sent again after a redirect.
    Bytes(Vec<u8>),
    /// Is used up by the first try, so that it is never retried.
    Stream(Box<dyn Read + Send + 'a>),
}

/// A request to a server, which [`Client::send`](super::Client::send) sends once.
///
/// ```
/// use lxd_image::remote::{Method, Request, Url};
///
/// let url: Url = "https://images.example/1.0/images/aliases/x".parse()?;
/// let request = Request::new(Method::Put, &url).json(&serde_json::json!({"target": "0123"})).header("if-match", "\"7\"");
/// assert_eq!(format!("{request:?}"), "Request(PUT https://images.example/1.0/images/aliases/x)");
/// # Ok::<(), lxd_image::Error>(())
/// ```
pub struct Request<'a> {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) payload: Payload<'a>,
    pub(crate) monitor: Monitor,
    /// Instead of `Limits::idle`.
    pub(crate) idle_timeout: Option<Duration>,
    /// The URL whose response named this one.
    pub(crate) referred_by: Option<Url>,
}

impl fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Request({} {})", self.method.name(), self.url)
    }
}

impl<'a> Request<'a> {
    /// A request without a body.
    #[must_use]
    pub fn new(method: Method, url: &Url) -> Self {
        Self {
            method,
            url: url.clone(),
            headers: Vec::new(),
            payload: Payload::None,
            monitor: Monitor::none(),
            idle_timeout: None,
            referred_by: None,
        }
    }

    /// A `GET` request.
    #[must_use]
    pub fn get(url: &Url) -> Self {
        Self::new(Method::Get, url)
    }

    /// A `HEAD` request.
    #[must_use]
    pub fn head(url: &Url) -> Self {
        Self::new(Method::Head, url)
    }

    /// The same request once more, for a second try with other headers. `None` for a stream, which can't be read again.
    pub(crate) fn again(&self) -> Option<Request<'static>> {
        let payload = match &self.payload {
            Payload::None => Payload::None,
            Payload::Bytes(bytes) => Payload::Bytes(bytes.clone()),
            Payload::Stream(_) => return None,
        };
        Some(Request {
            method: self.method,
            url: self.url.clone(),
            headers: self.headers.clone(),
            payload,
            monitor: self.monitor.clone(),
            idle_timeout: self.idle_timeout,
            referred_by: self.referred_by.clone(),
        })
    }

    /// Adds a header. An invalid one makes [`send`](super::Client::send) fail as `InvalidInput`.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sets the body and its `Content-Type`.
    #[must_use]
    pub fn bytes(mut self, content_type: &str, bytes: Vec<u8>) -> Self {
        self.payload = Payload::Bytes(bytes);
        self.header("content-type", content_type)
    }

    /// Sets a JSON value as the body.
    #[must_use]
    pub fn json(self, value: &serde_json::Value) -> Self {
        self.bytes("application/json", value.to_string().into_bytes())
    }

    /// Sets a reader as the body: exactly `length` bytes of it, or all in chunked encoding if the length is not known. Such a
    /// request can be sent only once.
    #[must_use]
    pub fn stream(mut self, content_type: &str, length: Option<u64>, reader: impl Read + Send + 'a) -> Self {
        self.payload = Payload::Stream(Box::new(reader));
        let request = self.header("content-type", content_type);
        match length {
            Some(length) => request.header("content-length", length.to_string()),
            None => request.header("transfer-encoding", "chunked"),
        }
    }

    /// Sets the monitor that cancels the request and the reading of its response.
    #[must_use]
    pub fn monitor(mut self, monitor: &Monitor) -> Self {
        self.monitor = monitor.clone();
        self
    }

    /// Accepts a response with `Content-Encoding: gzip`, which [`Response::contents`](super::Response::contents) decompresses.
    /// For documents; files of images must come as they are.
    #[must_use]
    pub fn accept_gzip(self) -> Self {
        self.header("accept-encoding", super::response::accept_encoding())
    }

    /// How long the server may be silent, instead of the limit `idle`: for responses that come only when an operation is done.
    #[must_use]
    pub fn idle_timeout(mut self, time: Duration) -> Self {
        self.idle_timeout = Some(time);
        self
    }

    /// Says that a response of another URL named this one, and not the user. The request is then treated as a redirect from
    /// there: no client certificate for another host, no local addresses.
    #[must_use]
    pub fn referred_by(mut self, url: &Url) -> Self {
        self.referred_by = Some(url.clone());
        self
    }
}
