//! Request bodies: JSON with a limit on its size, and uploads whose bytes are counted while they
//! are read. The length that a client announces and the bytes that it sends must agree.

use std::io::{self, Read};
use std::sync::{Arc, Mutex, PoisonError};

use http::header;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::progress::Cancel;
use crate::protocol::from_request;
use crate::server::api::digits;
use crate::server::core::quota::UploadPermit;
use crate::server::message::Request;

/// The length in `Content-Length`.
///
/// The HTTP library checks it too; a caller of the handler may not have one.
///
/// # Errors
/// `Malformed` for a value that is no number.
pub(super) fn announced(request: &Request) -> Result<Option<u64>> {
    let Some(value) = request.headers.get(header::CONTENT_LENGTH) else { return Ok(None) };
    let length = value.to_str().ok().and_then(digits).and_then(|text| text.parse().ok());
    length.map(Some).ok_or_else(|| Error::malformed("the length of the request's body is no number"))
}

/// Parses the JSON body of a request.
///
/// # Why the length is checked twice
///
/// A request that announces too much is refused before its body is read; one with chunks announces
/// nothing, and is cut at the limit.
///
/// # Errors
/// `LimitExceeded` for `request`; `Malformed`; `Io` when the connection breaks.
pub(super) fn json<T: DeserializeOwned>(request: &mut Request, limits: &Limits) -> Result<T> {
    let too_long = || Error::limit("request", limits.request, "the request's body, in bytes,");
    if announced(request)?.is_some_and(|length| length > limits.request) {
        return Err(too_long());
    }
    let mut text = Vec::new();
    let mut body = (&mut request.body).take(limits.request.saturating_add(1));
    // One byte more than the limit, to tell a body that is too long from one that just fits.
    body.read_to_end(&mut text).map_err(|error| Error::io("the request's body can't be read", error))?;
    if text.len() as u64 > limits.request {
        return Err(too_long());
    }
    from_request(&text, limits)
}

/// The body of an upload, with its limit, its announced length and its cancel switch. Clones share
/// the position: the import consumes one, and the caller keeps another to read what the import
/// left.
#[derive(Clone)]
pub(super) struct Upload(Arc<Mutex<Counted>>);

/// What the clones of an upload share.
struct Counted {
    /// The bytes that the client sends.
    body: Box<dyn Read + Send>,
    /// Bytes that were read so far.
    done: u64,
    /// The limit on them.
    most: u64,
    /// The error for more than that.
    over: fn(u64) -> Error,
    /// The length that the client announced, which must be that of the body.
    announced: Option<u64>,
    /// The switch by which a client cancels the upload's operation.
    cancel: Cancel,
}

impl Upload {
    /// An upload that begins. The permit bounds its bytes.
    pub(super) fn new(
        body: Box<dyn Read + Send>,
        announced: Option<u64>,
        permit: &UploadPermit,
        cancel: Cancel,
    ) -> Self {
        let over: fn(u64) -> Error = if permit.by_space {
            |most| Error::storage_full(format!("no room for what the client sends: {most} bytes may be filled"))
        } else {
            |most| Error::limit("upload", most, "what the client sends, in bytes,")
        };
        Self(Arc::new(Mutex::new(Counted { body, done: 0, most: permit.most, over, announced, cancel })))
    }

    /// Reads and discards the rest, so that a client that is still sending receives the response
    /// instead of a reset connection.
    pub(super) fn pass_over(mut self) {
        let mut scrap = vec![0; 64 << 10];
        while self.read(&mut scrap).is_ok_and(|count| count > 0) {}
    }
}

impl Read for Upload {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Before the read, which may wait for the client for long.
        counted.cancel.check()?;
        let count = counted.body.read(out)?;
        counted.done = counted.done.saturating_add(count as u64);
        let (done, most) = (counted.done, counted.most);
        if done > most {
            return Err((counted.over)(most).into());
        }
        if let Some(announced) = counted.announced
            && (done > announced || count == 0 && !out.is_empty() && done < announced)
        {
            return Err(
                Error::malformed(format!("the client announced {announced} bytes and sent another number")).into()
            );
        }
        Ok(count)
    }
}
