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
use crate::protocol::rest::{self, Operation, upload};
use crate::remote::http::{Method, Request, Response, Url};

/// The size of a part in bytes: what a server that crashes can cost. A server that refuses one reads this much to its end,
/// so that its refusal arrives.
const PART_BYTES: u64 = 8 << 20;

/// What became of an upload in parts.
pub(super) enum Sent {
    /// Its operation ended well.
    Imported(Box<Operation>),
    /// The image is there, by this or another upload.
    Present(Box<rest::Image>),
    /// The server does not take parts now: it has no room for them beside the image, or another server behind the same
    /// address is older.
    Unavailable,
}

impl Lxd {
    /// Sends a body in parts, from where an earlier attempt ended, and begins its import with `finish`, a request that
    /// describes the image.
    ///
    /// # Errors
    /// As [`upload`](Self::upload), once the tries of [`RetryPolicy`](crate::remote::RetryPolicy) are used up.
    pub(super) fn send_in_parts(
        &self,
        image: &Fingerprint,
        body: &UploadBody,
        finish: &dyn Fn() -> Request<'static>,
        monitor: &Monitor,
    ) -> Result<Sent> {
        let name = body.digest(image);
        let url = self.base.join(&format!("1.0/images/uploads/{name}"))?;
        let retry = &self.client.options().retry;
        let mut failures = 0;
        loop {
            // After a lost response, and after another upload of the same image.
            match self.image(&image.to_string(), monitor) {
                Ok(there) => return Ok(Sent::Present(Box::new(there))),
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                Err(_) => {}
            }
            if !self.send_parts(&url, body, monitor)? {
                return Ok(Sent::Unavailable);
            }
            let mut request = finish().bytes(body.content_type(), Vec::new()).monitor(monitor);
            for header in upload::header(upload::PARTS) {
                request = request.header(header, name.to_string());
            }
            let began = self.send(request, "upload in parts");
            let error = match began.and_then(|began| self.wait_for_operation(began, "image", monitor)) {
                Ok(operation) => return Ok(Sent::Imported(Box::new(operation))),
                Err(error) => error,
            };
            // Without its parts, it was finished by another client, or removed.
            failures += 1;
            let is_worth_another =
                error.is_transient() || matches!(error.kind(), ErrorKind::NotFound | ErrorKind::AlreadyExists);
            if !is_worth_another || !retry.again(failures) {
                return Err(error);
            }
            retry.wait(failures, monitor)?;
        }
    }

    /// Sends what the server does not have yet. Returns whether it takes parts.
    pub(super) fn send_parts(&self, url: &Url, body: &UploadBody, monitor: &Monitor) -> Result<bool> {
        let (retry, total) = (&self.client.options().retry, body.len());
        let mut offset = retry.run(monitor, || self.offset_of(url, total, monitor))?;
        // Failures in a row; and answers by which the server has less than before, of which there may be a few in all:
        // another server without these parts, or one that lost some.
        let (mut failures, mut setbacks) = (0, 0);
        while offset < total {
            let next = match self.send_part(url, body, offset, monitor) {
                Ok(next) => next,
                Err(error) if offset == 0 && is_refusal_of_parts(&error) => return Ok(false),
                Err(error) if error.is_transient() => {
                    failures += 1;
                    if !retry.again(failures) {
                        return Err(error);
                    }
                    retry.wait(failures, monitor)?;
                    retry.run(monitor, || self.offset_of(url, total, monitor))?
                }
                Err(error) => return Err(error),
            };
            if next > offset {
                failures = 0;
            } else if next < offset {
                setbacks += 1;
                if !retry.again(setbacks) {
                    let sentence = format!("{url} had {offset} bytes and has {next} now, again and again");
                    return Err(
                        Error::remote(sentence).with_hint("do several servers with different stores answer there?")
                    );
                }
                retry.wait(setbacks, monitor)?;
            }
            offset = next;
        }
        Ok(true)
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
            let next = self.offset_in(&answer, total)?;
            if next == offset {
                return Err(Error::remote(format!("{url} refuses the part that it asks for")));
            }
            return Ok(next);
        }
        let next = self.offset_in(&self.checked(answer, "upload in parts")?, total)?;
        if next <= offset {
            return Err(Error::remote(format!("{url} takes no bytes behind the first {offset}")));
        }
        Ok(next)
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

/// Whether a server refused the first part in a way that leaves an upload as a whole: it does not know the path, or has
/// no room for the parts beside the image.
fn is_refusal_of_parts(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::StorageFull | ErrorKind::Unsupported)
}
