//! Questions to the REST API and what comes back: envelopes, errors with the server's words, operations that are waited for.
//! What only asks is tried again when it fails in passing; what changes something is not.

use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;

use super::Lxd;
use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::Fingerprint;
use crate::progress::Monitor;
use crate::protocol::escape::query;
use crate::protocol::rest::{Envelope, Operation, Server};
use crate::remote::http::{Request, Response, Url};

/// How long a server may hold back its answer to the question whether an operation is over.
const WAIT: u64 = 10;
/// An answer that comes sooner than this was not waited for.
const SOON: Duration = Duration::from_millis(500);
/// Errors are short, and one with more is none of LXD's.
const MOST_ERROR: u64 = 64 << 10;

impl Lxd {
    /// What the server says of itself, and whether it trusts this client (`auth`).
    ///
    /// # Errors
    /// Those of [`Client::send`](crate::remote::Client::send); `Malformed` where no LXD answers.
    pub fn server(&self, monitor: &Monitor) -> Result<Server> {
        self.object(&self.base.join("1.0")?, "LXD or Incus server", monitor)
    }

    /// Asks for an object, and again if that fails in passing.
    pub(super) fn object<T: DeserializeOwned>(&self, url: &Url, what: &str, monitor: &Monitor) -> Result<T> {
        self.client
            .options()
            .retry
            .run(monitor, || self.send(Request::get(url).may_be_packed().monitor(monitor), what)?.object(what))
    }

    /// Sends one request once, and reads the answer's envelope.
    pub(super) fn send(&self, request: Request<'_>, what: &str) -> Result<Envelope> {
        let limits = self.client.limits();
        let sent = self.client.send(request).and_then(|answer| self.checked(answer, what));
        let read = sent.and_then(|answer| answer.contents("remote_index", limits.remote_index));
        read.and_then(|text| Envelope::from_json(&text, limits)).map_err(|error| self.discreet(error))
    }

    /// An error without the secret that goes with this client's questions: a server may say again what it was asked.
    pub(super) fn discreet(&self, error: Error) -> Error {
        match &self.secret {
            Some(secret) => error.without_secret(secret),
            None => error,
        }
    }

    /// An answer of success, or the error in the server's own words.
    pub(super) fn checked(&self, answer: Response, what: &str) -> Result<Response> {
        let status = answer.status();
        let json = answer.header("content-type").is_some_and(|kind| kind.starts_with("application/json"));
        if (200..300).contains(&status) || !json {
            return answer.success();
        }
        let said = answer.contents("remote_index", MOST_ERROR)?;
        let mut envelope = Envelope::from_json(&said, self.client.limits()).unwrap_or_default();
        if envelope.error_code == 0 {
            envelope.error_code = status;
        }
        let error = self.discreet(envelope.into_error(what).context(&self.base));
        Err(if matches!(status, 408 | 425 | 429 | 500 | 502 | 503 | 504) { error.transient() } else { error })
    }

    /// The error for an answer that is about another image.
    pub(super) fn another(&self, asked: &str, found: &Fingerprint) -> Error {
        Error::mismatch(&format!("the image that {} answers with", self.base), asked, found.to_string())
    }

    /// Waits until the operation that an answer began is over.
    ///
    /// # Errors
    /// `Remote` with what the server says, `AlreadyExists`; `LimitExceeded` for `total`; `Cancelled`.
    pub(super) fn finished(&self, began: Envelope, what: &str, monitor: &Monitor) -> Result<Operation> {
        if began.kind != "async" {
            return began.object(what);
        }
        // It must be below this server, whatever it says.
        if !began.operation.starts_with("/1.0/operations/") || began.operation.contains(['?', '#']) {
            return Err(Error::malformed(format!("{} does not say which operation it began", self.base)));
        }
        let time = WAIT.to_string();
        let (mut about, mut waiting) = (Vec::new(), vec![("timeout", &*time)]);
        if let Some(secret) = &self.secret {
            // By it a stranger is known for who began the operation.
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
            // Some servers answer with an error when the time is over; then the operation itself tells.
            let state = self.state(&wait, monitor).or_else(|error| match error.kind() {
                ErrorKind::Cancelled => Err(error),
                _ => self.state(&here, monitor),
            });
            match state {
                Ok(operation) => {
                    if operation.outcome().map_err(|error| self.discreet(error))? {
                        return Ok(operation);
                    }
                    failures = 0;
                    quick = if asked.elapsed() < SOON { quick + 1 } else { 0 };
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

    fn state(&self, url: &Url, monitor: &Monitor) -> Result<Operation> {
        let patience = Duration::from_secs(WAIT.saturating_add(self.client.limits().idle.min(1 << 40)));
        self.send(Request::get(url).patience(patience).monitor(monitor), "operation")?.object("operation")
    }
}
