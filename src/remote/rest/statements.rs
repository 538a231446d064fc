//! Statements about images, which our own server gives out beside them and takes with uploads. LXD and Incus have none.

use std::sync::PoisonError;

use super::Lxd;
use super::upload::UploadBody;
use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::Fingerprint;
use crate::progress::Monitor;
use crate::remote::http::{Method, Request};
use crate::trust::{Envelope, Evidence};

/// About how many images it is remembered whether there are statements.
const MAX_NOTED: usize = 10_000;

impl Lxd {
    /// Remembers whether the server said that it has statements about an image.
    pub(super) fn note_stated(&self, fingerprint: Fingerprint, is_stated: bool) {
        let mut stated = self.stated.lock().unwrap_or_else(PoisonError::into_inner);
        if stated.len() < MAX_NOTED || stated.contains_key(&fingerprint) {
            stated.insert(fingerprint, is_stated);
        }
    }

    /// The statements of the server about an image. Servers that have none are asked only for images that were listed
    /// without a description of their own.
    pub(super) fn statements(&self, fingerprint: &Fingerprint, monitor: &Monitor) -> Result<Evidence> {
        let noted = self.stated.lock().unwrap_or_else(PoisonError::into_inner).get(fingerprint).copied();
        if noted == Some(false) {
            return Ok(Evidence::new());
        }
        let url = self.image_url(&fingerprint.to_string(), "/statements")?;
        let limits = self.client.limits();
        let asked = self.client.options().retry.run(monitor, || {
            let request = Request::get(&url).accept_gzip().monitor(monitor);
            let answer = self.client.send(request).and_then(|answer| self.checked(answer, "statements"))?;
            answer.contents("statements", limits.statements)
        });
        let text = match asked {
            // A server that knows no statements: it refuses the path, or has another meaning for it.
            Err(error) if noted.is_none() && matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Remote) => {
                return Ok(Evidence::new());
            }
            asked => asked.map_err(|error| self.without_secret(error))?,
        };
        match self.parse_statements(&text) {
            // Another meaning: a policy that needs statements refuses the image all the same.
            Err(error) if noted.is_none() && error.kind() == ErrorKind::Malformed => Ok(Evidence::new()),
            parsed => parsed.map(|statements| Evidence::new().statements(statements)),
        }
    }

    fn parse_statements(&self, text: &[u8]) -> Result<Vec<Envelope>> {
        let malformed = || Error::malformed(format!("the statements of {} are not a list", self.base));
        let answer: serde_json::Value = serde_json::from_slice(text).map_err(|error| malformed().with_source(error))?;
        let list = answer["metadata"].as_array().ok_or_else(malformed)?;
        let limits = self.client.limits();
        list.iter().map(|one| Envelope::parse_with(one.to_string().as_bytes(), limits)).collect()
    }

    /// Sends statements ahead of their image, as an upload in parts, and returns its name; `None` without statements. What an
    /// earlier attempt has sent is not sent again.
    ///
    /// # Errors
    /// `StorageFull` where the server has no room for them; those of [`upload`](Self::upload).
    pub(super) fn send_statements(&self, statements: &[Envelope], monitor: &Monitor) -> Result<Option<Fingerprint>> {
        if statements.is_empty() {
            return Ok(None);
        }
        let bundle = Envelope::bundle(statements);
        let name = Fingerprint::of(bundle.as_bytes());
        let url = self.base.join(&format!("1.0/images/uploads/{name}"))?;
        // Progress is that of the image.
        let quiet = Monitor::none().with_cancel(monitor.cancel().clone());
        if self.send_parts(&url, &UploadBody::text(bundle), &quiet)? {
            return Ok(Some(name));
        }
        Err(Error::new(ErrorKind::StorageFull, format!("{} has no room for the statements about the image", self.base)))
    }

    /// Adds statements about an image that the server has. Those that it has already change nothing.
    ///
    /// # Errors
    /// Those of [`upload`](Self::upload).
    pub(super) fn post_statements(
        &self,
        fingerprint: &Fingerprint,
        statements: &[Envelope],
        monitor: &Monitor,
    ) -> Result<()> {
        if statements.is_empty() {
            return Ok(());
        }
        let list: Vec<&str> = statements.iter().map(Envelope::as_json).collect();
        let url = self.image_url(&fingerprint.to_string(), "/statements")?;
        let body = format!("{{\"statements\":[{}]}}", list.join(",")).into_bytes();
        let request = Request::new(Method::Post, &url).bytes("application/json", body).monitor(monitor);
        self.send(request, "statements").map(|_| ())
    }
}
