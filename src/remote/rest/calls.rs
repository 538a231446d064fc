//! Requests to the REST API: envelopes, errors with the server's message, and operations that are waited for.
//!
//! Requests that only read are retried after transient errors; requests that change something are sent once, but for
//! parts of an upload.

use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;

use super::Lxd;
use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::Fingerprint;
use crate::progress::Monitor;
use crate::protocol::escape::query;
use crate::protocol::rest::{Envelope, Operation, Server};
use crate::remote::http::{Request, Response, Url};

/// How many seconds a server may hold back its response to `GET /1.0/operations/UUID/wait`.
const LONG_POLL_SECONDS: u64 = 10;
/// A response that comes sooner than this was not held back, so that the client pauses by itself before it asks again.
const MIN_LONG_POLL: Duration = Duration::from_millis(500);
/// The most bytes that are read of an error response. LXD's are a few hundred bytes long.
const MAX_ERROR_BYTES: u64 = 64 << 10;

impl Lxd {
    /// The description of the server (`GET /1.0`), which says whether it trusts this client (`auth`).
    ///
    /// # Errors
    /// Those of [`Client::send`](crate::remote::Client::send); `Malformed` if it is not an LXD or Incus server.
    pub fn server(&self, monitor: &Monitor) -> Result<Server> {
        self.object(&self.base.join("1.0")?, "LXD or Incus server", monitor)
    }

    /// Requests an object, with retries. `what` names it in errors.
    pub(super) fn object<T: DeserializeOwned>(&self, url: &Url, what: &str, monitor: &Monitor) -> Result<T> {
        self.client
            .options()
            .retry
            .run(monitor, || self.send(Request::get(url).accept_gzip().monitor(monitor), what)?.object(what))
    }

    /// Sends a request once and reads the envelope of its response.
    pub(super) fn send(&self, request: Request<'_>, what: &str) -> Result<Envelope> {
        let limits = self.client.limits();
        let sent = self.client.send(request).and_then(|answer| self.checked(answer, what));
        let read = sent.and_then(|answer| answer.contents("remote_index", limits.remote_index));
        read.and_then(|text| Envelope::from_json(&text, limits)).map_err(|error| self.without_secret(error))
    }

    /// Removes the secret of this client from an error: a server may repeat the URL that it was asked for.
    pub(super) fn without_secret(&self, error: Error) -> Error {
        match &self.secret {
            Some(secret) => error.without_secret(secret),
            None => error,
        }
    }

    /// The response if it is a success, else the error with the server's message.
    pub(super) fn checked(&self, answer: Response, what: &str) -> Result<Response> {
        let status = answer.status();
        let json = answer.header("content-type").is_some_and(|kind| kind.starts_with("application/json"));
        if (200..300).contains(&status) || !json {
            return answer.success();
        }
        let said = answer.contents("remote_index", MAX_ERROR_BYTES)?;
        let mut envelope = Envelope::from_json(&said, self.client.limits()).unwrap_or_default();
        if envelope.error_code == 0 {
            envelope.error_code = status;
        }
        let error = self.without_secret(envelope.into_error(what).context(&self.base));
        Err(if matches!(status, 408 | 425 | 429 | 500 | 502 | 503 | 504) { error.transient() } else { error })
    }

    /// The error for a response about another image than the requested one.
    pub(super) fn wrong_image(&self, asked: &str, found: &Fingerprint) -> Error {
        Error::mismatch(&format!("the image that {} answers with", self.base), asked, found.to_string())
    }

    /// Waits until the operation that a response announced is done. Long polling, so that the end is seen at once and an operation
    /// of minutes needs few requests.
    ///
    /// # Errors
    /// `Remote` with what the server says, `AlreadyExists`; `LimitExceeded` for `total`; `Cancelled`.
    pub(super) fn wait_for_operation(&self, began: Envelope, what: &str, monitor: &Monitor) -> Result<Operation> {
        if began.kind != "async" {
            return began.object(what);
        }
        // The URL comes from the server, and the client certificate and the secret are sent there: it must stay on this server.
        if !began.operation.starts_with("/1.0/operations/") || began.operation.contains(['?', '#']) {
            return Err(Error::malformed(format!("{} does not say which operation it began", self.base)));
        }
        let time = LONG_POLL_SECONDS.to_string();
        let (mut about, mut waiting) = (Vec::new(), vec![("timeout", &*time)]);
        if let Some(secret) = &self.secret {
            // An untrusted client proves by the secret that the operation is its own.
            about.push(("secret", &**secret));
            waiting.push(("secret", &**secret));
        }
        let here = self.base.join(&began.operation)?;
        let here = if about.is_empty() { here } else { here.with_query(&query(about)) };
        let wait = self.base.join(&format!("{}/wait", began.operation))?.with_query(&query(waiting));
        let started = Instant::now();
        let (most, retry) = (self.client.limits().total, &self.client.options().retry);
        let (mut quick, mut failures) = (0, 0);
        loop {
            monitor.check()?;
            if started.elapsed().as_secs() >= most {
                return Err(Error::limit("total", most, "the time that the server's operation takes, in seconds,"));
            }
            let asked = Instant::now();
            // Some servers answer with an error when the wait times out; then the operation itself has its state.
            let state = self.state(&wait, monitor).or_else(|error| match error.kind() {
                ErrorKind::Cancelled => Err(error),
                _ => self.state(&here, monitor),
            });
            match state {
                Ok(operation) => {
                    if operation.outcome().map_err(|error| self.without_secret(error))? {
                        return Ok(operation);
                    }
                    failures = 0;
                    quick = if asked.elapsed() < MIN_LONG_POLL { quick + 1 } else { 0 };
                    if quick > 0 {
                        retry.wait(quick, monitor)?;
                    }
                }
                Err(error) if error.is_transient() => {
                    failures += 1;
                    if !retry.again(failures) {
                        return Err(error);
                    }
                    retry.wait(failures, monitor)?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Requests the state of an operation once. The idle timeout covers the time that the server holds the response back.
    fn state(&self, url: &Url, monitor: &Monitor) -> Result<Operation> {
        let idle_timeout =
            Duration::from_secs(LONG_POLL_SECONDS.saturating_add(self.client.limits().idle.min(1 << 40)));
        self.send(Request::get(url).idle_timeout(idle_timeout).monitor(monitor), "operation")?.object("operation")
    }
}
