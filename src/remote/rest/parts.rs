//! Uploads in parts, to servers that take them: what has arrived stays there when the connection, the server or this
//! program breaks, and the upload goes on from there. See `server::api::rest::parts` for the other side.
//!
//! Unlike other changes, each step can be repeated: a part says where it begins, and parts that were imported are gone,
//! with the image in their place.

use super::Lxd;
use super::upload::{ProgressReader, UploadBody};
use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::Fingerprint;
use crate::progress::Monitor;
use crate::protocol::rest::{Operation, upload};
use crate::remote::http::{Method, Request, Response, Url};

/// The size of a part in bytes: what a server that crashes can cost.
const PART_BYTES: u64 = 64 << 20;
impl Lxd {
    /// Sends a body in parts, from where an earlier attempt ended, and begins its import with `finish`, a request that
    /// describes the image. Returns the operation when it has ended; `None` if the image turns out to be there.
    ///
    /// # Errors
    /// As [`upload`](Self::upload), once the tries of [`RetryPolicy`](crate::remote::RetryPolicy) are used up.
    pub(super) fn send_in_parts(
        &self,
        image: &Fingerprint,
        body: &UploadBody,
        finish: &dyn Fn() -> Request<'static>,
        monitor: &Monitor,
    ) -> Result<Option<Operation>> {
        let name = body.digest(image);
        let url = self.base.join(&format!("1.0/images/uploads/{name}"))?;
        let retry = &self.client.options().retry;
        let mut failures = 0;
        loop {
            // It has tries of its own.
            self.send_parts(&url, body, monitor)?;
            let mut request = finish().bytes(body.content_type(), Vec::new()).monitor(monitor);
            for header in upload::header(upload::PARTS) {
                request = request.header(header, name.to_string());
            }
            let began = self.send(request, "upload in parts");
            let done = began.and_then(|began| self.wait_for_operation(began, "image", monitor));
            let error = match done {
                Ok(operation) => return Ok(Some(operation)),
                Err(error) => error,
            };
            // A lost response, or another client that finished the same upload: then the parts are gone. As is an upload
            // that was too old.
            if error.is_transient() || matches!(error.kind(), ErrorKind::NotFound | ErrorKind::AlreadyExists) {
                match self.image(&image.to_string(), monitor) {
                    Ok(_) => return Ok(None),
                    Err(missing) if missing.kind() != ErrorKind::NotFound && !missing.is_transient() => {
                        return Err(missing);
                    }
                    Err(_) => {}
                }
            }
            failures += 1;
            if !error.is_transient() && error.kind() != ErrorKind::NotFound || !retry.again(failures) {
                return Err(error);
            }
            retry.wait(failures, monitor)?;
        }
    }

    /// Sends what the server does not have yet.
    fn send_parts(&self, url: &Url, body: &UploadBody, monitor: &Monitor) -> Result<()> {
        let (retry, total) = (&self.client.options().retry, body.len());
        let mut offset = retry.run(monitor, || self.offset_of(url, total, monitor))?;
        let mut failures = 0;
        while offset < total {
            match self.send_part(url, body, offset, monitor) {
                Ok(next) => {
                    // Another client that sends the same bytes may be ahead, and a server may have lost some of them.
                    failures = if next > offset { 0 } else { failures + 1 };
                    if !retry.again(failures) {
                        let sentence = format!("{url} takes no bytes behind the first {next}");
                        return Err(Error::remote(sentence));
                    }
                    offset = next;
                }
                Err(error) if error.is_transient() => {
                    failures += 1;
                    if !retry.again(failures) {
                        return Err(error);
                    }
                    retry.wait(failures, monitor)?;
                    let next = retry.run(monitor, || self.offset_of(url, total, monitor))?;
                    if next > offset {
                        failures = 0;
                    }
                    offset = next;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Sends one part. Returns where the next one begins.
    fn send_part(&self, url: &Url, body: &UploadBody, offset: u64, monitor: &Monitor) -> Result<u64> {
        let total = body.len();
        let length = PART_BYTES.min(total.saturating_sub(offset));
        let last = offset.saturating_add(length).saturating_sub(1);
        let reader = ProgressReader::new(body.reader(offset, length), offset, total, monitor);
        let request = Request::new(Method::Patch, url)
            .header("content-range", format!("bytes {offset}-{last}/{total}"))
            .stream("application/octet-stream", Some(length), reader)
            .monitor(monitor);
        let answer = self.client.send(request)?;
        if answer.status() == 409 && answer.header("upload-offset").is_some() {
            return self.offset_in(&answer, total);
        }
        self.offset_in(&self.checked(answer, "upload in parts")?, total)
    }

    /// How many bytes of an upload the server has; 0 for one that it does not know.
    fn offset_of(&self, url: &Url, total: u64, monitor: &Monitor) -> Result<u64> {
        let answer = self.client.send(Request::head(url).monitor(monitor))?;
        if answer.status() == 404 {
            return Ok(0);
        }
        let answer = answer.success()?;
        self.offset_in(&answer, total)
    }

    fn offset_in(&self, answer: &Response, total: u64) -> Result<u64> {
        let offset = answer.header("upload-offset").and_then(|text| text.parse().ok());
        offset
            .filter(|offset| *offset <= total)
            .ok_or_else(|| Error::malformed(format!("{} does not say how much of the upload it has", self.base)))
    }
}
