//! Statements about images, which our own server gives out beside them. LXD and Incus have none.

use std::sync::PoisonError;

use super::Lxd;
use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::Fingerprint;
use crate::progress::Monitor;
use crate::remote::http::Request;
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
        let malformed = || Error::malformed(format!("the statements of {} are not a list", self.base));
        let answer: serde_json::Value =
            serde_json::from_slice(&text).map_err(|error| malformed().with_source(error))?;
        let list = answer["metadata"].as_array().ok_or_else(malformed)?;
        let statements = list.iter().map(|one| Envelope::parse_with(one.to_string().as_bytes(), limits));
        Ok(Evidence::new().statements(statements.collect::<Result<Vec<_>>>()?))
    }
}
