//! `Request`: what is asked of a server.

use std::fmt;
use std::io::Read;
use std::time::Duration;

use super::url::Url;
use crate::progress::Monitor;

/// What is to be done with what a URL names.
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
    /// The word of HTTP.
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

pub(crate) enum Payload<'a> {
    None,
    Bytes(Vec<u8>),
    Stream(Box<dyn Read + Send + 'a>),
}

/// A request to a server.
pub struct Request<'a> {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) payload: Payload<'a>,
    pub(crate) monitor: Monitor,
    pub(crate) patience: Option<Duration>,
    pub(crate) led_by: Option<Url>,
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
            patience: None,
            led_by: None,
        }
    }

    /// Asks for what is there.
    #[must_use]
    pub fn get(url: &Url) -> Self {
        Self::new(Method::Get, url)
    }

    /// Asks for the head of the answer only.
    #[must_use]
    pub fn head(url: &Url) -> Self {
        Self::new(Method::Head, url)
    }

    /// Adds a header. One that is no header makes [`send`](super::Client::send) fail.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sends bytes along.
    #[must_use]
    pub fn bytes(mut self, content_type: &str, bytes: Vec<u8>) -> Self {
        self.payload = Payload::Bytes(bytes);
        self.header("content-type", content_type)
    }

    /// Sends a JSON value along.
    #[must_use]
    pub fn json(self, value: &serde_json::Value) -> Self {
        self.bytes("application/json", value.to_string().into_bytes())
    }

    /// Sends what a reader gives along: exactly `length` bytes, or in pieces when that is not known.
    #[must_use]
    pub fn stream(mut self, content_type: &str, length: Option<u64>, reader: impl Read + Send + 'a) -> Self {
        self.payload = Payload::Stream(Box::new(reader));
        let request = self.header("content-type", content_type);
        match length {
            Some(length) => request.header("content-length", length.to_string()),
            None => request.header("transfer-encoding", "chunked"),
        }
    }

    /// Listens for cancellation, while sending and while the answer is read.
    #[must_use]
    pub fn monitor(mut self, monitor: &Monitor) -> Self {
        self.monitor = monitor.clone();
        self
    }

    /// Says that the answer may be packed for the way, as [`Response::contents`](super::Response::contents) unpacks it.
    #[must_use]
    pub fn may_be_packed(self) -> Self {
        self.header("accept-encoding", super::answer::accepted())
    }

    /// How long the server may be silent, where that is not the limit `idle`: for answers that come
    /// when some work is done.
    #[must_use]
    pub fn patience(mut self, time: Duration) -> Self {
        self.patience = Some(time);
        self
    }

    /// Says that an answer of another URL named this one, and not a person: it is treated as a
    /// redirect from there.
    #[must_use]
    pub fn led_by(mut self, url: &Url) -> Self {
        self.led_by = Some(url.clone());
        self
    }
}
