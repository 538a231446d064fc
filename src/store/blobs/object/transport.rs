//! [`Transport`]: the HTTP client under the object store clients.
//!
//! It is ours for four reasons: TLS is `rustls` with `ring` as in the rest of this library, a
//! request fails when nothing moves (and not when it is long), answers are bounded, and what a
//! server said about a failure is kept with its code, so that an error can say what to check.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody, HttpResponse, HttpResponseBody,
    HttpService,
};
use reqwest::redirect::Policy;
use tokio::time::Sleep;

use super::options::ObjectOptions;
use crate::error::{Error, Result};

/// The longest body of a failure that is read. Real ones have some hundred bytes.
const MAX_FAILURE_BYTES: usize = 64 << 10;
/// The longest body of an answer that is not part of an object: a page of a listing has 1000 keys
/// of up to 1 KiB, with some tags around each.
const MAX_DOCUMENT_BYTES: u64 = 16 << 20;
/// The longest code and message of a failure that are kept.
const MAX_MESSAGE_BYTES: usize = 300;

/// What was seen of the last request of an operation that failed.
#[derive(Debug, Clone)]
pub(super) enum Seen {
    /// The server refused it.
    Refused(Refusal),
    /// There was no whole answer. The text says what happened, and has no address in it.
    Broken { what: String },
    /// A service that hands out credentials did not.
    NoCredentials { what: String },
}

/// What a server said about a request that it did not carry out.
#[derive(Debug, Clone, Default)]
pub(super) struct Refusal {
    pub(super) status: u16,
    /// The engine's code, for example `SlowDown`; empty if there is none.
    pub(super) code: String,
    pub(super) message: String,
    pub(super) retry_after: Option<Duration>,
}

/// The headers of an answer, as an extension of it.
#[derive(Debug, Clone)]
pub(super) struct AnswerHeaders(pub(super) http::HeaderMap);

tokio::task_local! {
    /// Where requests of the current operation put what they saw. The clients have their own error
    /// types, which hide status and code.
    static OBSERVED: Arc<Mutex<Option<Seen>>>;
    /// Counts the bytes of the current upload that were handed to the connection.
    static SENT: Arc<AtomicU64>;
    /// The body of the current request arrives with other bytes than those that were signed.
    static DAMAGED: ();
}

/// Runs an operation, and returns what was seen of its last failed request.
pub(super) async fn observe<T>(operation: impl Future<Output = T>) -> (T, Option<Seen>) {
    let seen = Arc::new(Mutex::new(None));
    let result = OBSERVED.scope(Arc::clone(&seen), operation).await;
    let seen = seen.lock().unwrap_or_else(PoisonError::into_inner).take();
    (result, seen)
}

/// Runs an upload whose bytes are counted in `sent`. A repeated request starts again at zero.
pub(super) async fn counted<T>(sent: Arc<AtomicU64>, upload: impl Future<Output = T>) -> T {
    SENT.scope(sent, upload).await
}

/// Runs an upload whose bytes are damaged after they were signed.
pub(super) async fn damaged<T>(upload: impl Future<Output = T>) -> T {
    DAMAGED.scope((), upload).await
}

fn note(seen: Seen) {
    let _ = OBSERVED.try_with(|observed| *observed.lock().unwrap_or_else(PoisonError::into_inner) = Some(seen));
}

/// The HTTP client of one [`ObjectBlobs`](super::ObjectBlobs).
#[derive(Clone)]
pub(super) struct Transport {
    client: reqwest::Client,
    /// For the metadata service of the machine, which no proxy can reach.
    direct: reqwest::Client,
    allow_http: bool,
    idle: Duration,
    /// The `Date` of the last answer: ages of objects are compared with the server's clock.
    date: Arc<Mutex<Option<String>>>,
}

impl std::fmt::Debug for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transport").finish_non_exhaustive()
    }
}

impl Transport {
    /// Builds the client.
    ///
    /// # Errors
    /// `Io` if TLS cannot be set up.
    pub(super) fn new(options: &ObjectOptions) -> Result<Self> {
        let fail = |error: reqwest::Error| {
            Error::new(crate::ErrorKind::Io, "the client for the object store cannot be built").with_source(error)
        };
        let tls = tls()?;
        let builder = || {
            reqwest::Client::builder()
                .tls_backend_preconfigured(tls.clone())
                .connect_timeout(options.connect_timeout)
                .redirect(Policy::none())
                .user_agent(concat!("lxd-image/", env!("CARGO_PKG_VERSION")))
        };
        Ok(Self {
            client: builder().build().map_err(fail)?,
            // It answers at once or not at all, and on most machines there is none.
            direct: builder().no_proxy().connect_timeout(Duration::from_secs(1)).build().map_err(fail)?,
            allow_http: options.allow_http,
            idle: options.idle_timeout,
            date: Arc::default(),
        })
    }

    /// The `Date` header of the last answer.
    pub(super) fn server_date(&self) -> Option<String> {
        self.date.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sends a request, and waits for the head of the answer.
    async fn send(&self, request: HttpRequest) -> std::result::Result<http::Response<reqwest::Body>, Broken> {
        let (head, body) = request.into_parts();
        let host = head.uri.host().unwrap_or_default().to_owned();
        let is_metadata = is_metadata(&host);
        let broken = |what: String| Broken { what, host: host.clone() };
        if head.uri.scheme_str() != Some("https") && !self.allow_http && !is_metadata {
            return Err(broken("a request without TLS is not allowed".to_owned()));
        }
        let url = head.uri.to_string().parse().map_err(|_| broken("the address is invalid".to_owned()))?;
        let begun = Instant::now();
        let moved = Arc::new(AtomicU64::new(0));
        let sent = SENT.try_with(Arc::clone).unwrap_or_default();
        sent.store(0, Ordering::Relaxed);
        let mut request = reqwest::Request::new(head.method, url);
        *request.headers_mut() = head.headers;
        if body.content_length() > 0 {
            let is_damaged = DAMAGED.try_with(|()| ()).is_ok();
            let watched = WatchedUpload { body, begun, moved: Arc::clone(&moved), sent, is_damaged };
            *request.body_mut() = Some(reqwest::Body::wrap(watched));
        }
        let client = if is_metadata { &self.direct } else { &self.client };
        let mut answer = Box::pin(client.execute(request));
        let mut wait = self.idle;
        loop {
            match tokio::time::timeout(wait, &mut answer).await {
                Ok(Ok(answer)) => return Ok(answer.into()),
                Ok(Err(error)) => return Err(broken(describe(&error))),
                Err(_) => {
                    let last = Duration::from_millis(moved.load(Ordering::Relaxed));
                    let idle = begun.elapsed().saturating_sub(last);
                    wait = self.idle.saturating_sub(idle);
                    if wait.is_zero() {
                        return Err(broken(format!("no answer within {} s", self.idle.as_secs_f32())));
                    }
                }
            }
        }
    }
}

/// A request without a whole answer.
struct Broken {
    what: String,
    host: String,
}

impl Broken {
    /// Keeps it for the error of the operation. The clients' own retries are off, so the kind is only for their messages.
    fn into_error(self) -> HttpError {
        let error = HttpError::new(HttpErrorKind::Interrupted, std::io::Error::other(self.what.clone()));
        note(if gives_credentials(&self.host) {
            Seen::NoCredentials { what: format!("{}: {}", self.host, self.what) }
        } else {
            Seen::Broken { what: self.what }
        });
        error
    }
}

#[async_trait]
impl HttpService for Transport {
    async fn call(&self, request: HttpRequest) -> std::result::Result<HttpResponse, HttpError> {
        let range = request.headers().get(http::header::RANGE).and_then(|range| length_of(range.to_str().ok()?));
        let host = request.uri().host().unwrap_or_default().to_owned();
        let answer = self.send(request).await.map_err(Broken::into_error)?;
        let (mut head, body) = answer.into_parts();
        if let Some(date) = head.headers.get(http::header::DATE).and_then(|date| date.to_str().ok()) {
            *self.date.lock().unwrap_or_else(PoisonError::into_inner) = Some(date.to_owned());
        }
        let limit = range.unwrap_or(MAX_DOCUMENT_BYTES);
        let body = WatchedAnswer::new(body, self.idle, if head.status.is_success() { limit } else { u64::MAX });
        if head.status.is_success() {
            head.extensions.insert(AnswerHeaders(head.headers.clone()));
            return Ok(HttpResponse::from_parts(head, HttpResponseBody::new(body)));
        }
        let text = beginning(body).await;
        let refusal = refusal(&head, &text);
        note(if gives_credentials(&host) {
            Seen::NoCredentials { what: format!("{host} answers {}", refusal.status) }
        } else {
            Seen::Refused(refusal)
        });
        Ok(HttpResponse::from_parts(head, HttpResponseBody::from(text)))
    }
}

impl HttpConnector for Transport {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

/// Whether a host is the metadata service of a cloud's machine.
fn is_metadata(host: &str) -> bool {
    host.starts_with("169.254.") || host == "metadata.google.internal" || host == "[fd00:ec2::254]"
}

/// Whether a host hands out credentials: what it refuses has nothing to do with the bucket.
fn gives_credentials(host: &str) -> bool {
    const TOKENS: [&str; 4] =
        ["oauth2.googleapis.com", "accounts.google.com", "login.microsoftonline.com", "sts.googleapis.com"];
    is_metadata(host) || TOKENS.contains(&host) || (host.starts_with("sts.") && host.contains("amazonaws.com"))
}

/// How many bytes the range `bytes=FIRST-LAST` has.
fn length_of(range: &str) -> Option<u64> {
    let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    last.parse::<u64>().ok()?.checked_sub(first.parse().ok()?)?.checked_add(1)
}

/// The innermost cause of a failed request. The outer ones name the address, which may hold a signature.
fn describe(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    let what = if error.is_connect() { "cannot connect: " } else { "" };
    // Without a cause the text of the error itself would show the address.
    let inner = if std::ptr::addr_eq(std::ptr::from_ref(cause), std::ptr::from_ref(error)) {
        "the connection failed".to_owned()
    } else {
        cause.to_string()
    };
    shorten(&format!("{what}{inner}"))
}

/// The first bytes of a failure's body. What cannot be read is left out: the status says enough.
async fn beginning(body: WatchedAnswer) -> String {
    let mut body = Box::pin(body);
    let mut text = Vec::new();
    while let Some(Ok(frame)) = std::future::poll_fn(|context| body.as_mut().poll_frame(context)).await {
        if let Ok(data) = frame.into_data() {
            let room = MAX_FAILURE_BYTES.saturating_sub(text.len());
            text.extend(data.iter().take(room));
        }
        if text.len() >= MAX_FAILURE_BYTES {
            break;
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// What a server says about a failure: S3, Google's XML API and Azure use the same two elements.
fn refusal(head: &http::response::Parts, text: &str) -> Refusal {
    let element = |name: &str| {
        let (_, rest) = text.split_once(&format!("<{name}>"))?;
        Some(shorten(rest.split_once("</")?.0))
    };
    let header = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
    let seconds = header("retry-after").and_then(|value| value.parse().ok());
    Refusal {
        status: head.status.as_u16(),
        code: element("Code").or_else(|| header("x-ms-error-code").map(shorten)).unwrap_or_default(),
        message: element("Message").unwrap_or_default(),
        retry_after: seconds.map(Duration::from_secs),
    }
}

/// One line of limited length.
fn shorten(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default().trim();
    let end = (0..=line.len().min(MAX_MESSAGE_BYTES)).rev().find(|end| line.is_char_boundary(*end)).unwrap_or(0);
    line.get(..end).unwrap_or_default().to_owned()
}

/// TLS with the system's authorities. A machine without any still reaches servers without TLS.
fn tls() -> Result<rustls::ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    // A system has odd old ones among its authorities; those that can be used are enough.
    let _ = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::new(crate::ErrorKind::Io, "TLS cannot be set up").with_source(error))?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

/// The body of a request, which notes when its bytes move.
struct WatchedUpload {
    body: HttpRequestBody,
    begun: Instant,
    /// When bytes moved last, in milliseconds since `begun`.
    moved: Arc<AtomicU64>,
    sent: Arc<AtomicU64>,
    /// Whether each piece is to arrive with a wrong byte.
    is_damaged: bool,
}

impl Body for WatchedUpload {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<Frame<Bytes>, HttpError>>> {
        let this = self.get_mut();
        let mut frame = Pin::new(&mut this.body).poll_frame(context);
        if this.is_damaged {
            frame = frame.map_ok(|frame| {
                frame.map_data(|data| {
                    let mut data = data.to_vec();
                    if let Some(byte) = data.first_mut() {
                        *byte ^= 1;
                    }
                    data.into()
                })
            });
        }
        if let Poll::Ready(Some(Ok(frame))) = &frame {
            let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
            this.sent.fetch_add(bytes, Ordering::Relaxed);
            this.moved.store(u64::try_from(this.begun.elapsed().as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body of an answer: fails when nothing comes for a while, and when more comes than there may be.
struct WatchedAnswer {
    body: reqwest::Body,
    idle: Duration,
    deadline: Pin<Box<Sleep>>,
    left: u64,
}

impl WatchedAnswer {
    fn new(body: reqwest::Body, idle: Duration, limit: u64) -> Self {
        Self { body, idle, deadline: Box::pin(tokio::time::sleep(idle)), left: limit }
    }

    fn fail(what: String) -> HttpError {
        Broken { what, host: String::new() }.into_error()
    }
}

impl Body for WatchedAnswer {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<Frame<Bytes>, HttpError>>> {
        let this = self.get_mut();
        match Pin::new(&mut this.body).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => {
                let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
                let Some(left) = this.left.checked_sub(bytes) else {
                    return Poll::Ready(Some(Err(Self::fail("the answer is longer than it may be".to_owned()))));
                };
                this.left = left;
                let next = tokio::time::Instant::now() + this.idle;
                this.deadline.as_mut().reset(next);
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(Self::fail(describe(&error))))),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => match this.deadline.as_mut().poll(context) {
                Poll::Ready(()) => {
                    let what = format!("the answer stopped for {} s", this.idle.as_secs_f32());
                    Poll::Ready(Some(Err(Self::fail(what))))
                }
                Poll::Pending => Poll::Pending,
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
