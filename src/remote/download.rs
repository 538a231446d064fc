//! `Download`: one file of a server as a stream that goes on where it broke, and never mixes two files.
//! It is read ahead by a thread of its own, so that the network, the hash and the disk work at once.

use std::fmt;
use std::io::{self, Read};

use super::ahead::{PIECE, read_ahead};
use super::http::{Body, Client, Request, Response, Url};
use crate::error::{Error, Result};
use crate::fingerprint::{Fingerprint, Hasher};
use crate::format::Input;
use crate::progress::{Cancel, Monitor};

/// As many bytes as make a try count as one that got further.
const FURTHER: u64 = 1024;

/// One file to be fetched: from where, and what is known of it before.
#[derive(Debug, Clone)]
pub struct Download {
    client: Client,
    url: Url,
    led_by: Option<Url>,
    size: Option<u64>,
    at_most: Option<u64>,
    digest: Option<Fingerprint>,
    monitor: Monitor,
}

impl Download {
    /// A file of which nothing is known.
    #[must_use]
    pub fn new(client: &Client, url: &Url) -> Self {
        Self {
            client: client.clone(),
            url: url.clone(),
            led_by: None,
            size: None,
            at_most: None,
            digest: None,
            monitor: Monitor::none(),
        }
    }

    /// Says that an answer of another URL named this one; see [`Request::led_by`].
    #[must_use]
    pub fn led_by(mut self, url: &Url) -> Self {
        self.led_by = Some(url.clone());
        self
    }

    /// How many bytes it must have.
    #[must_use]
    pub fn size(mut self, bytes: u64) -> Self {
        self.size = Some(bytes);
        self
    }

    /// How many bytes it may have: for what a server said of an image, which is not always exact. What is longer fails as
    /// `Mismatch` as soon as that shows.
    #[must_use]
    pub fn at_most(mut self, bytes: u64) -> Self {
        self.at_most = Some(bytes);
        self
    }

    /// The sha256 that it must have.
    #[must_use]
    pub fn digest(mut self, digest: Fingerprint) -> Self {
        self.digest = Some(digest);
        self
    }

    /// Listens for cancellation. Progress is told by whoever reads.
    #[must_use]
    pub fn monitor(mut self, monitor: &Monitor) -> Self {
        self.monitor = monitor.clone();
        self
    }

    /// Begins to fetch, ahead of whoever reads the input. Its errors come when it is read: those of
    /// [`Client::send`]; `Mismatch` for another size or digest; `LimitExceeded` for `download`;
    /// `Remote` when the file was replaced while it was fetched, which is temporary: another
    /// download may succeed.
    #[must_use]
    pub fn open(self) -> Input {
        self.open_with(None)
    }

    /// The same for a file whose answer is here already.
    pub(super) fn open_begun(self, mut answer: Response, stop: &Cancel) -> Input {
        answer.watched_by(Monitor::none().with_cancel(stop.clone()));
        self.open_with(Some((answer, stop.clone())))
    }

    fn open_with(self, begun: Option<(Response, Cancel)>) -> Input {
        let (size, name, monitor) = (self.size, self.url.to_string(), self.monitor.clone());
        let (begun, stop) = match begun {
            Some((answer, stop)) => (Some(answer), stop),
            None => (None, Cancel::new()),
        };
        let size = size.or_else(|| begun.as_ref().and_then(Response::length));
        let mut resuming = Resuming::new(self, Monitor::none().with_cancel(stop.clone()));
        resuming.begun = begun;
        let input = Input::attached_stream(read_ahead(resuming, stop, monitor)).named(name);
        match size {
            Some(size) => input.announced(size),
            None => input,
        }
    }

    /// The same without a thread: fetches when it is read.
    #[must_use]
    pub fn reader(self) -> impl Read + Send {
        let monitor = self.monitor.clone();
        Resuming::new(self, monitor)
    }
}

/// Reads a file of a server, and asks for the rest of it when the connection breaks.
struct Resuming {
    what: Download,
    monitor: Monitor,
    /// The first answer, where somebody asked already.
    begun: Option<Response>,
    body: Option<Body>,
    /// Of all bytes that were handed on.
    hasher: Hasher,
    /// What tells this file from another under the same name: its ETag, else the time of its last change.
    validator: Option<String>,
    total: Option<u64>,
    failures: u32,
    failed_at: u64,
    /// Whether only the whole file is asked for: this server does not give the part that it is asked for.
    whole_only: bool,
    /// How the server says that it packed the file, though that was not asked for.
    packed: Option<String>,
    done: bool,
}

impl fmt::Debug for Resuming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resuming").field("what", &self.what).finish_non_exhaustive()
    }
}

impl Resuming {
    fn new(what: Download, monitor: Monitor) -> Self {
        let total = what.size;
        Self {
            what,
            monitor,
            begun: None,
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

    fn next(&mut self, buffer: &mut [u8]) -> Result<usize> {
        loop {
            match self.step(buffer) {
                Err(error) if error.is_transient() && !self.done => {
                    self.body = None;
                    if self.hasher.bytes() >= self.failed_at.saturating_add(FURTHER) {
                        self.failures = 0;
                    }
                    self.failures += 1;
                    self.failed_at = self.hasher.bytes();
                    let retry = &self.what.client.options().retry;
                    if !retry.again(self.failures) {
                        return Err(error);
                    }
                    retry.wait(self.failures, &self.monitor)?;
                }
                done => return done,
            }
        }
    }

    fn step(&mut self, buffer: &mut [u8]) -> Result<usize> {
        if self.body.is_none() {
            self.body = Some(self.ask()?);
        }
        let count = match &mut self.body {
            Some(body) => body.read(buffer)?,
            None => 0,
        };
        if count == 0 {
            return self.conclude();
        }
        self.hasher.update(buffer.get(..count).unwrap_or_default());
        let bytes = self.hasher.bytes();
        self.bound(bytes)?;
        Ok(count)
    }

    /// Whether a file may have `bytes` bytes, at least.
    fn bound(&self, bytes: u64) -> Result<()> {
        let url = &self.what.url;
        let most = self.what.client.limits().download;
        if bytes > most {
            return Err(Error::limit("download", most, format!("the size of {url} in bytes")));
        }
        match self.what.size.or(self.what.at_most).or(self.total) {
            Some(size) if bytes > size => Err(Error::mismatch(
                &format!("the size of {url} in bytes"),
                size.to_string(),
                format!("at least {bytes}"),
            )),
            _ => Ok(()),
        }
    }

    fn conclude(&mut self) -> Result<usize> {
        let (url, bytes) = (&self.what.url, self.hasher.bytes());
        if let Some(total) = self.total.filter(|total| bytes < *total) {
            let host = url.authority();
            return Err(Error::remote(format!("{host} ended its answer after {bytes} of {total} bytes")).transient());
        }
        self.done = true;
        let found = self.hasher.clone().finish();
        match self.what.digest {
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

    fn ask(&mut self) -> Result<Body> {
        if let Some(answer) = self.begun.take() {
            return self.begin(answer);
        }
        let at = self.hasher.bytes();
        let mut request = Request::get(&self.what.url).header("accept-encoding", "identity").monitor(&self.monitor);
        if let Some(url) = &self.what.led_by {
            request = request.led_by(url);
        }
        if at > 0 && !self.whole_only {
            request = request.header("range", format!("bytes={at}-"));
            if let Some(validator) = &self.validator {
                request = request.header("if-range", validator.clone());
            }
        }
        let answer = self.what.client.send(request)?;
        match (at, answer.status()) {
            // The whole file, called a part of it.
            (0, 206) if is_whole(&answer) => self.begin(answer),
            (0, 206) => Err(Error::remote(format!("{} answers with a part that nobody asked for", self.what.url))),
            (0, _) => self.begin(answer),
            (_, 206) => self.go_on(answer, at),
            (_, 200) => self.skip(answer, at),
            (_, 416) if !self.whole_only && self.may_be_whole(&answer) => self.ask_for_whole(),
            (_, 416) => Err(self.changed()),
            _ => Err(answer.failure()),
        }
    }

    /// Asks again, without a range: what the server gives for one is of no use, and the whole file can still be had.
    fn ask_for_whole(&mut self) -> Result<Body> {
        self.whole_only = true;
        self.ask()
    }

    /// Whether an answer that there is no such part leaves it open that the file is the same.
    fn may_be_whole(&self, answer: &Response) -> bool {
        let told = answer
            .header("content-range")
            .and_then(|text| text.trim().strip_prefix("bytes")?.trim().strip_prefix("*/"));
        let now: Option<u64> = told.and_then(|total| total.trim().parse().ok());
        now.is_none() || now == self.total || self.total.is_none()
    }

    fn begin(&mut self, answer: Response) -> Result<Body> {
        let answer = answer.success()?;
        let url = &self.what.url;
        if let Some(packed) = answer.packed() {
            // Some servers name the packing of the file itself there. Then it has the size or the digest that was told.
            let is_itself = match self.what.size {
                Some(size) => answer.length() == Some(size),
                None => self.what.digest.is_some(),
            };
            if !is_itself {
                let sentence = format!("{url} comes packed as {packed}, which was not asked for");
                return Err(Error::remote(sentence).with_hint("the server must send files of images as they are"));
            }
            self.packed = Some(packed);
        }
        if let Some(length) = answer.length() {
            self.bound(length)?;
            if let Some(size) = self.what.size.filter(|size| *size != length) {
                return Err(Error::mismatch(
                    &format!("the size of {url} in bytes"),
                    size.to_string(),
                    length.to_string(),
                ));
            }
            self.total = Some(length);
        }
        self.validator = validator(&answer);
        Ok(answer.into_body())
    }

    /// The rest of the file, if it is the rest of that file.
    fn go_on(&mut self, answer: Response, at: u64) -> Result<Body> {
        let part = answer.header("content-range").and_then(content_range);
        let Some((_, total)) = part.filter(|(first, _)| *first == at && !self.whole_only) else {
            if self.whole_only {
                let sentence = format!("{} answers with another part than the one asked for", self.what.url);
                return Err(Error::remote(sentence));
            }
            return self.ask_for_whole();
        };
        if total.zip(self.total).is_some_and(|(now, before)| now != before) || self.differs(&answer) {
            return Err(self.changed());
        }
        if answer.packed() != self.packed {
            return self.ask_for_whole();
        }
        self.total = self.total.or(total);
        Ok(answer.into_body())
    }

    /// The file from its start: a server that can't go on. What is there already must be its beginning.
    fn skip(&mut self, answer: Response, at: u64) -> Result<Body> {
        let resized = answer.length().zip(self.total).is_some_and(|(now, before)| now != before);
        if self.differs(&answer) || resized || answer.packed() != self.packed {
            return Err(self.changed());
        }
        let mut body = answer.into_body();
        let mut hasher = Hasher::new();
        let mut buffer = vec![0; PIECE];
        while hasher.bytes() < at {
            let most = usize::try_from(at - hasher.bytes()).unwrap_or(PIECE).min(PIECE);
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

    fn differs(&self, answer: &Response) -> bool {
        self.validator.as_ref().zip(validator(answer).as_ref()).is_some_and(|(before, now)| before != now)
    }

    fn changed(&mut self) -> Error {
        // No further try of this download can mend that.
        self.done = true;
        Error::remote(format!("{} was replaced by another file while it was fetched", self.what.url)).needs_restart()
    }
}

/// An ETag that means the very bytes, or the time of the last change.
fn validator(answer: &Response) -> Option<String> {
    let tag = answer.header("etag").filter(|tag| tag.starts_with('"'));
    tag.or_else(|| answer.header("last-modified")).map(str::to_owned)
}

/// Whether a part is all of the file.
fn is_whole(answer: &Response) -> bool {
    let part = answer.header("content-range").and_then(content_range);
    part.is_some_and(|(first, total)| first == 0 && total.is_some() && total == answer.length())
}

/// Where a part begins, and how long the whole is: `bytes 5-9/10`.
fn content_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = text.trim().strip_prefix("bytes")?.trim_start().split_once('/')?;
    let (first, _) = range.split_once('-')?;
    let total = if total.trim() == "*" { None } else { Some(total.trim().parse().ok()?) };
    Some((first.trim().parse().ok()?, total))
}

impl Read for Resuming {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.done || buffer.is_empty() {
            return Ok(0);
        }
        Ok(self.next(buffer)?)
    }
}
