//! `Download`: one file of a server as a stream that resumes where it broke and never mixes two versions of the file.
//!
//! After a transient error the rest is requested with `Range` and `If-Range` (RFC 9110, sections 13.1.5 and 14). Servers answer
//! that in several ways, and each is handled:
//!
//! | answer | then |
//! |---|---|
//! | 206 with the part that was asked for | goes on |
//! | 206 with another part, or compressed otherwise | the whole file is requested, once |
//! | 200 | the bytes that are here already are read again and their digest compared |
//! | 416 | the whole file is requested if it may be unchanged |
//! | another validator or length | fails with an error that asks for a restart: the file was replaced |
//!
//! So a stream either is one version of the file from its first to its last byte, or ends in an error. Size and digest are checked
//! while it is read, so that nothing has to be read twice. The stream is read ahead by a thread ([`read_ahead`]).

use std::fmt;
use std::io::{self, Read};
use std::sync::Arc;

use super::http::{Body, Client, Request, Response, Url};
use super::read_ahead::read_ahead;
use super::thread_reader::CHUNK_BYTES;
use crate::error::{Error, Result};
use crate::fingerprint::{Fingerprint, Hasher};
use crate::format::Input;
use crate::progress::{Cancel, Monitor};

/// A try that brought at least this many bytes made progress, so that failures are counted from the start again.
const MIN_PROGRESS_BYTES: u64 = 1024;

/// One file to be downloaded: its URL, and what is known of it before.
///
/// ```no_run
/// use lxd_image::remote::{Client, ClientOptions, Download};
/// use std::io::Read;
///
/// let client = Client::new(ClientOptions::new())?;
/// let url = "https://images.example/box.tar.xz".parse()?;
/// let mut bytes = Vec::new();
/// Download::new(&client, &url).max_size(1 << 30).reader().read_to_end(&mut bytes)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Download {
    client: Client,
    url: Url,
    /// The URL whose response named the file.
    referred_by: Option<Url>,
    /// The exact size in bytes, if it is known.
    size: Option<u64>,
    /// The greatest size in bytes, if that is known.
    max_size: Option<u64>,
    /// The expected sha256.
    digest: Option<Fingerprint>,
    /// What sends the requests instead of the client.
    sender: Option<Arc<dyn Sender>>,
    /// Whether the URL names the bytes by their digest, so that they are the same whatever their validators say.
    immutable: bool,
    monitor: Monitor,
}

/// Sends the requests of a download, where they need more than the client knows: a registry's tokens, which expire.
pub(super) trait Sender: fmt::Debug + Send + Sync {
    /// Sends one request; see [`Client::send`].
    fn send(&self, request: Request<'_>) -> Result<Response>;
}

impl Download {
    /// A file of which only the URL is known.
    #[must_use]
    pub fn new(client: &Client, url: &Url) -> Self {
        Self {
            client: client.clone(),
            url: url.clone(),
            referred_by: None,
            size: None,
            max_size: None,
            digest: None,
            sender: None,
            immutable: false,
            monitor: Monitor::none(),
        }
    }

    /// Sends the requests with `sender`.
    pub(super) fn sender(mut self, sender: Arc<dyn Sender>) -> Self {
        self.sender = Some(sender);
        self
    }

    /// Says that the URL names the bytes by their digest. Validators are then not compared, since each server of a CDN may have
    /// its own; whoever reads checks the digest.
    pub(super) fn immutable(mut self) -> Self {
        self.immutable = true;
        self
    }

    /// Marks the URL as named by an answer of another one; see [`Request::referred_by`].
    #[must_use]
    pub fn referred_by(mut self, url: &Url) -> Self {
        self.referred_by = Some(url.clone());
        self
    }

    /// The exact size in bytes.
    #[must_use]
    pub fn size(mut self, bytes: u64) -> Self {
        self.size = Some(bytes);
        self
    }

    /// The greatest size in bytes, for a server's description that is not always exact. A longer file fails as `Mismatch` as soon
    /// as that shows.
    #[must_use]
    pub fn max_size(mut self, bytes: u64) -> Self {
        self.max_size = Some(bytes);
        self
    }

    /// The expected sha256. A file with another one ends in `Mismatch` instead of its end.
    #[must_use]
    pub fn digest(mut self, digest: Fingerprint) -> Self {
        self.digest = Some(digest);
        self
    }

    /// Sets the monitor that cancels it. Progress is reported by whoever reads.
    #[must_use]
    pub fn monitor(mut self, monitor: &Monitor) -> Self {
        self.monitor = monitor.clone();
        self
    }

    /// Starts the download on a thread of its own. Errors come when the input is read: those of [`Client::send`]; `Mismatch` for
    /// another size or digest; `LimitExceeded` for `download`; `Remote` when the file was replaced meanwhile, which
    /// asks for a restart: another download may succeed.
    #[must_use]
    pub fn open(self) -> Input {
        self.open_with(None)
    }

    /// As [`open`](Self::open) for a file whose first response is here already. `stop` must be what cancels that response.
    pub(super) fn open_response(self, mut answer: Response, stop: &Cancel) -> Input {
        answer.set_monitor(Monitor::none().with_cancel(stop.clone()));
        self.open_with(Some((answer, stop.clone())))
    }

    /// Starts the thread, with the first response if there is one.
    fn open_with(self, response: Option<(Response, Cancel)>) -> Input {
        let (size, name, monitor) = (self.size, self.url.to_string(), self.monitor.clone());
        let (response, stop) = match response {
            Some((answer, stop)) => (Some(answer), stop),
            None => (None, Cancel::new()),
        };
        let size = size.or_else(|| response.as_ref().and_then(Response::length));
        let mut resuming = ResumingReader::new(self, Monitor::none().with_cancel(stop.clone()));
        resuming.response = response;
        let input = Input::attached_stream(read_ahead(resuming, stop, monitor)).named(name);
        match size {
            Some(size) => input.announced(size),
            None => input,
        }
    }

    /// As [`open`](Self::open), as a reader: a thread downloads ahead of it.
    pub(super) fn ahead(self) -> impl Read + Send + 'static {
        let (monitor, stop) = (self.monitor.clone(), Cancel::new());
        let resuming = ResumingReader::new(self, Monitor::none().with_cancel(stop.clone()));
        read_ahead(resuming, stop, monitor)
    }

    /// As [`open`](Self::open), but without a thread: downloads when it is read.
    #[must_use]
    pub fn reader(self) -> impl Read + Send + 'static {
        self.reader_after(Hasher::new())
    }

    /// As [`reader`](Self::reader), of what follows the bytes that `before` has seen. The digest is that of the whole file.
    pub(super) fn reader_after(self, before: Hasher) -> impl Read + Send + 'static {
        let monitor = self.monitor.clone();
        let mut reader = ResumingReader::new(self, monitor);
        reader.failed_at = before.bytes();
        reader.hasher = before;
        reader
    }
}

/// The reader that resumes. Invariant: `hasher` has seen exactly the bytes that were returned.
struct ResumingReader {
    download: Download,
    monitor: Monitor,
    /// The first answer, where somebody asked already.
    response: Option<Response>,
    body: Option<Body>,
    /// The digest and number of all bytes that were returned.
    hasher: Hasher,
    /// The strong `ETag`, else `Last-Modified`: what identifies this version of the file.
    validator: Option<String>,
    /// The size of the file, as far as it is known.
    total: Option<u64>,
    /// Failures since the last progress, and the number of bytes at the last one.
    failures: u32,
    failed_at: u64,
    /// Whether ranges are no longer requested, because this server does not return the one that it is asked for.
    whole_only: bool,
    /// The `Content-Encoding` of the first response. Some servers label `.gz` files so.
    packed: Option<String>,
    /// Whether the end or a final error was reached: there are no further requests.
    done: bool,
}

impl fmt::Debug for ResumingReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResumingReader").field("download", &self.download).finish_non_exhaustive()
    }
}

impl ResumingReader {
    /// A reader at the start of the file, without a request.
    fn new(download: Download, monitor: Monitor) -> Self {
        let total = download.size;
        Self {
            download,
            monitor,
            response: None,
            body: None,
            hasher: Hasher::new(),
            validator: None,
            total,
            failures: 0,
            failed_at: 0,
            whole_only: false,
            packed: None,
            done: false,
        }
    }

    /// Reads, and retries after transient errors. The only retry of a download.
    fn next(&mut self, buffer: &mut [u8]) -> Result<usize> {
        loop {
            match self.step(buffer) {
                Err(error) if error.is_transient() && !self.done => {
                    self.body = None;
                    if self.hasher.bytes() >= self.failed_at.saturating_add(MIN_PROGRESS_BYTES) {
                        self.failures = 0;
                    }
                    self.failures += 1;
                    self.failed_at = self.hasher.bytes();
                    let retry = &self.download.client.options().retry;
                    if !retry.again(self.failures) {
                        return Err(error);
                    }
                    retry.wait(self.failures, &self.monitor)?;
                }
                done => return done,
            }
        }
    }

    /// Reads once, from the current response or a new one.
    fn step(&mut self, buffer: &mut [u8]) -> Result<usize> {
        if self.body.is_none() {
            // All of it may have been there before.
            if self.hasher.bytes() > 0 && self.total == Some(self.hasher.bytes()) {
                return self.finish_file();
            }
            self.body = Some(self.request()?);
        }
        let count = match &mut self.body {
            Some(body) => body.read(buffer)?,
            None => 0,
        };
        if count == 0 {
            return self.finish_file();
        }
        self.hasher.update(buffer.get(..count).unwrap_or_default());
        let bytes = self.hasher.bytes();
        self.check_size(bytes)?;
        Ok(count)
    }

    /// Checks a number of bytes, read or announced, against the limit and what is known of the file.
    fn check_size(&self, bytes: u64) -> Result<()> {
        let url = &self.download.url;
        let most = self.download.client.limits().download;
        if bytes > most {
            return Err(Error::limit("download", most, format!("the size of {url} in bytes")));
        }
        match self.download.size.or(self.download.max_size).or(self.total) {
            Some(size) if bytes > size => Err(Error::mismatch(
                &format!("the size of {url} in bytes"),
                size.to_string(),
                format!("at least {bytes}"),
            )),
            _ => Ok(()),
        }
    }

    /// Ends the file: it must be complete and have the expected digest.
    fn finish_file(&mut self) -> Result<usize> {
        let (url, bytes) = (&self.download.url, self.hasher.bytes());
        if let Some(total) = self.total.filter(|total| bytes < *total) {
            let host = url.authority();
            return Err(Error::remote(format!("{host} ended its answer after {bytes} of {total} bytes")).transient());
        }
        self.done = true;
        let found = self.hasher.clone().finish();
        match self.download.digest {
            Some(digest) if digest != found => {
                let error = Error::mismatch(&format!("the sha256 of {url}"), digest.to_string(), found.to_string());
                Err(match &self.packed {
                    Some(packed) => error.with_hint(format!("the server says that it packed the file as {packed}")),
                    None => error,
                })
            }
            _ => Ok(0),
        }
    }

    /// Requests the file, or the rest of it, and checks that the response continues what is here.
    fn request(&mut self) -> Result<Body> {
        if let Some(answer) = self.response.take() {
            return self.begin(answer);
        }
        let at = self.hasher.bytes();
        let mut request = Request::get(&self.download.url).header("accept-encoding", "identity").monitor(&self.monitor);
        if let Some(url) = &self.download.referred_by {
            request = request.referred_by(url);
        }
        if at > 0 && !self.whole_only {
            request = request.header("range", format!("bytes={at}-"));
            if let Some(validator) = &self.validator {
                request = request.header("if-range", validator.clone());
            }
        }
        let answer = match &self.download.sender {
            Some(sender) => sender.send(request)?,
            None => self.download.client.send(request)?,
        };
        match (at, answer.status()) {
            // Some servers answer with 206 although no range was requested.
            (0, 206) if is_whole(&answer) => self.begin(answer),
            (0, 206) => Err(Error::remote(format!("{} answers with a part that was not requested", self.download.url))),
            (0, _) => self.begin(answer),
            (_, 206) => self.resume(answer, at),
            (_, 200) => self.skip_to_offset(answer, at),
            (_, 416) if !self.whole_only && self.may_be_unchanged(&answer) => self.request_whole(),
            (_, 416) => Err(self.changed()),
            _ => Err(answer.failure()),
        }
    }

    /// Requests the whole file, after the server did not return the range that it was asked for.
    fn request_whole(&mut self) -> Result<Body> {
        self.whole_only = true;
        self.request()
    }

    /// Whether a 416 leaves it open that the file is unchanged: it names no size, or the one that is known.
    fn may_be_unchanged(&self, answer: &Response) -> bool {
        let told = answer
            .header("content-range")
            .and_then(|text| text.trim().strip_prefix("bytes")?.trim().strip_prefix("*/"));
        let now: Option<u64> = told.and_then(|total| total.trim().parse().ok());
        now.is_none() || now == self.total || self.total.is_none()
    }

    /// Takes the first response to a request for the whole file.
    fn begin(&mut self, answer: Response) -> Result<Body> {
        let answer = answer.success()?;
        let url = &self.download.url;
        if let Some(packed) = answer.content_encoding() {
            // Some servers put the format of the file itself there. If its size or digest is known, it can't be mistaken.
            let is_itself = match self.download.size {
                Some(size) => answer.length() == Some(size),
                None => self.download.digest.is_some(),
            };
            if !is_itself {
                let sentence = format!("{url} comes packed as {packed}, which was not asked for");
                return Err(Error::remote(sentence).with_hint("the server must send files of images as they are"));
            }
            self.packed = Some(packed);
        }
        if let Some(length) = answer.length() {
            self.check_size(length)?;
            if let Some(size) = self.download.size.filter(|size| *size != length) {
                return Err(Error::mismatch(
                    &format!("the size of {url} in bytes"),
                    size.to_string(),
                    length.to_string(),
                ));
            }
            self.total = Some(length);
        }
        self.validator = validator(&answer).filter(|_| !self.download.immutable);
        Ok(answer.into_body())
    }

    /// Takes a 206, if it is the requested rest of the same version.
    fn resume(&mut self, answer: Response, at: u64) -> Result<Body> {
        let part = answer.header("content-range").and_then(content_range);
        let Some((_, total)) = part.filter(|(first, _)| *first == at && !self.whole_only) else {
            if self.whole_only {
                let sentence = format!("{} answers with another part than the one asked for", self.download.url);
                return Err(Error::remote(sentence));
            }
            return self.request_whole();
        };
        if total.zip(self.total).is_some_and(|(now, before)| now != before) || self.differs(&answer) {
            return Err(self.changed());
        }
        if answer.content_encoding() != self.packed {
            return self.request_whole();
        }
        self.total = self.total.or(total);
        Ok(answer.into_body())
    }

    /// Takes a 200 from a server that ignores ranges: reads up to the offset again and compares the digest of those bytes.
    fn skip_to_offset(&mut self, answer: Response, at: u64) -> Result<Body> {
        let resized = answer.length().zip(self.total).is_some_and(|(now, before)| now != before);
        if self.differs(&answer) || resized || answer.content_encoding() != self.packed {
            return Err(self.changed());
        }
        let mut body = answer.into_body();
        let mut hasher = Hasher::new();
        let mut buffer = vec![0; CHUNK_BYTES];
        while hasher.bytes() < at {
            let most = usize::try_from(at - hasher.bytes()).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES);
            let count = body.read(buffer.get_mut(..most).unwrap_or_default())?;
            if count == 0 {
                return Err(self.changed());
            }
            hasher.update(buffer.get(..count).unwrap_or_default());
        }
        if hasher.finish() != self.hasher.clone().finish() {
            return Err(self.changed());
        }
        Ok(body)
    }

    /// Whether the validator says that this is another version of the file.
    fn differs(&self, answer: &Response) -> bool {
        self.validator.as_ref().zip(validator(answer).as_ref()).is_some_and(|(before, now)| before != now)
    }

    /// The final error for a file that was replaced.
    fn changed(&mut self) -> Error {
        // Bytes of the old version were returned already, so that only a new download can succeed.
        self.done = true;
        Error::remote(format!("{} was replaced by another file while it was fetched", self.download.url))
            .needs_restart()
    }
}

/// The validator for `If-Range`: a strong `ETag` (a weak one must not be used there, RFC 9110, 13.1.5), else `Last-Modified`.
fn validator(answer: &Response) -> Option<String> {
    let tag = answer.header("etag").filter(|tag| tag.starts_with('"'));
    tag.or_else(|| answer.header("last-modified")).map(str::to_owned)
}

/// Whether a 206 holds the whole file.
fn is_whole(answer: &Response) -> bool {
    let part = answer.header("content-range").and_then(content_range);
    part.is_some_and(|(first, total)| first == 0 && total.is_some() && total == answer.length())
}

/// Parses `Content-Range`, like `bytes 5-9/10`: the offset, and the size of the file if it is known.
fn content_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = text.trim().strip_prefix("bytes")?.trim_start().split_once('/')?;
    let (first, _) = range.split_once('-')?;
    let total = if total.trim() == "*" { None } else { Some(total.trim().parse().ok()?) };
    Some((first.trim().parse().ok()?, total))
}

impl Read for ResumingReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.done || buffer.is_empty() {
            return Ok(0);
        }
        Ok(self.next(buffer)?)
    }
}
