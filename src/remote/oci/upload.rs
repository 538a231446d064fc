//! Blobs and manifests on their way to a registry.
//!
//! ```text
//! HEAD blob ── there ──▶ done
//!   └ POST uploads?mount=… ── mounted ──▶ done
//!       └ PATCH, PATCH, … ── PUT ?digest= ──▶ done
//!            └ broken ── GET: how far? ──▶ PATCH from there
//! ```
//!
//! The registry names the address of an upload with each answer. It must stay on the registry's host: the body and the
//! token go there. A registry that has forgotten an upload gets it again from the beginning, as often as the retry
//! policy allows.

use std::io::{self, Read};
use std::time::Duration;

use super::repository::{CONTENT_DIGEST, OciRepository};
use super::token::Scope;
use super::{errors, referrers};
use crate::error::{Error, ErrorKind, Escaped, Result};
use crate::oci::{BlobSink, Descriptor, Digest, Document, RawDocument, Reference, Tag};
use crate::progress::{Monitor, Phase};
use crate::protocol::escape::query;
use crate::remote::http::{Method, Request, Response, Url};

/// Bytes that are sent in one request. What is broken is sent again from where the registry got to, so this bounds no
/// loss; it bounds the time of one request, since some registries end those that last for minutes.
const CHUNK_BYTES: u64 = 64 << 20;
/// The smallest chunk after a registry said that one was too large.
const MIN_CHUNK_BYTES: u64 = 1 << 20;
/// A blob of at most this many bytes is sent with the request that ends its upload.
const MAX_WHOLE_BYTES: u64 = 1 << 20;

/// How many seconds a registry may be silent while it ends an upload: it may hash all of it, and copy it to where it
/// stays.
const FINISH_SECONDS: u64 = 600;

/// What gives the bytes of a blob from the beginning.
type Open<'a> = dyn FnMut() -> Result<Box<dyn Read + Send>> + 'a;

/// How one request of an upload ended.
enum Sent {
    /// The registry has all bytes up to here, and goes on at the address.
    Accepted { at: u64, location: Url },
    /// The registry wants smaller chunks.
    TooLarge,
    /// The connection broke, or the token has expired: how far the registry got has to be asked.
    Broken(Error),
}

impl OciRepository {
    /// Sends a blob unless it is there. `from` names a repository of the same registry that may have it.
    ///
    /// # Errors
    /// `Mismatch` where the registry got other bytes than the descriptor names; `Remote` where it refuses, or leads
    /// elsewhere; `Cancelled`.
    pub fn upload(
        &self,
        descriptor: &Descriptor,
        open: &mut Open<'_>,
        from: Option<&str>,
        monitor: &Monitor,
    ) -> Result<()> {
        let scope = match from {
            Some(from) => Scope::mount(self.name(), from),
            None => Scope::push(self.name()),
        };
        if self.has(descriptor, &scope, monitor)? {
            return Ok(());
        }
        self.send_blob(descriptor, open, from, &scope, monitor)
    }

    /// Sends a blob that is not there.
    fn send_blob(
        &self,
        descriptor: &Descriptor,
        open: &mut Open<'_>,
        from: Option<&str>,
        scope: &Scope,
        monitor: &Monitor,
    ) -> Result<()> {
        let retry = &self.registry().client().options().retry;
        let mut failures = 0;
        loop {
            let done = match self.begin(&descriptor.digest, from, scope, monitor) {
                Ok(None) => return Ok(()),
                Ok(Some(location)) => self.fill(descriptor, location, open, scope, monitor),
                Err(error) => Err(error),
            };
            match done {
                Err(error) if error.is_transient() => {
                    failures += 1;
                    if !retry.again(failures) {
                        return Err(error);
                    }
                    retry.wait(failures, monitor)?;
                }
                done => return done,
            }
        }
    }

    /// Begins an upload; `None` where the blob was mounted from another repository.
    fn begin(&self, digest: &Digest, from: Option<&str>, scope: &Scope, monitor: &Monitor) -> Result<Option<Url>> {
        let mut url = self.endpoint("blobs/uploads/")?;
        if let Some(from) = from {
            url = url.with_query(&query([("mount", digest.to_string().as_str()), ("from", from)]));
        }
        // Some registries want to be told that nothing follows.
        let request = Request::new(Method::Post, &url).bytes("application/octet-stream", Vec::new()).monitor(monitor);
        let answer = self.send(request, scope)?;
        match answer.status() {
            201 if from.is_some() => Ok(None),
            202 => self.location(&answer).map(Some),
            _ => Err(errors::failure(answer, "a new upload")),
        }
    }

    /// The address at which an upload goes on.
    ///
    /// # Errors
    /// `Remote` where there is none, or where it is on another host: the bytes and the token would go there.
    fn location(&self, answer: &Response) -> Result<Url> {
        let host = self.registry().inner.base.authority().to_owned();
        let text = answer
            .header("location")
            .ok_or_else(|| Error::remote(format!("{host} does not say where the upload goes on")))?;
        let shown: String = text.split('?').next().unwrap_or_default().chars().take(128).collect();
        let url = answer.url().join(text).map_err(|error| {
            let shown = Escaped(shown.as_bytes()).to_string();
            Error::remote(format!("{host} sends the upload to `{shown}`, which is not a usable address"))
                .with_source(error)
        })?;
        if !url.same_server(&self.registry().inner.base) {
            let sentence = format!("{host} sends the upload to another host, {}", url.authority());
            return Err(Error::remote(sentence).with_hint("the registry may have to be told its own address"));
        }
        Ok(url)
    }

    /// Sends the bytes of a blob to an upload, and ends it.
    fn fill(
        &self,
        descriptor: &Descriptor,
        mut location: Url,
        open: &mut Open<'_>,
        scope: &Scope,
        monitor: &Monitor,
    ) -> Result<()> {
        if descriptor.size <= MAX_WHOLE_BYTES {
            let mut bytes = Vec::new();
            open()?
                .take(descriptor.size.saturating_add(1))
                .read_to_end(&mut bytes)
                .map_err(|error| Error::io("a blob can't be read", error))?;
            check_size(descriptor, bytes.len() as u64)?;
            monitor.report(Phase::Upload, descriptor.size, Some(descriptor.size))?;
            return self.end(descriptor, &location, bytes, scope, monitor);
        }
        let retry = &self.registry().client().options().retry;
        let (mut at, mut chunk) = (0, CHUNK_BYTES);
        let (mut failures, mut failed_at) = (0, 0);
        let mut reader = PositionedReader { inner: None, at: 0 };
        while at < descriptor.size {
            monitor.check()?;
            let end = descriptor.size.min(at.saturating_add(chunk));
            reader.seek(at, open, descriptor)?;
            let error = match self.send_chunk(&location, &mut reader, at..end, descriptor.size, scope, monitor)? {
                Sent::Accepted { at: now, location: next } => {
                    (at, location) = (now, next);
                    continue;
                }
                Sent::TooLarge if chunk > MIN_CHUNK_BYTES => {
                    chunk = (chunk / 4).max(MIN_CHUNK_BYTES);
                    reader.inner = None;
                    (at, location) = self.position(&location, scope, monitor)?;
                    continue;
                }
                Sent::TooLarge => {
                    let host = location.authority();
                    let most = MIN_CHUNK_BYTES;
                    return Err(Error::remote(format!("{host} refuses {most} bytes at once as too many (status 413)")));
                }
                Sent::Broken(error) => error,
            };
            reader.inner = None;
            // An upload that moves on may break any number of times.
            failures = if at > failed_at { 1 } else { failures + 1 };
            failed_at = at;
            if !retry.again(failures) {
                return Err(error);
            }
            retry.wait(failures, monitor)?;
            (at, location) = self.position(&location, scope, monitor)?;
        }
        self.end(descriptor, &location, Vec::new(), scope, monitor)
    }

    /// Sends one chunk.
    fn send_chunk(
        &self,
        location: &Url,
        reader: &mut PositionedReader,
        range: std::ops::Range<u64>,
        total: u64,
        scope: &Scope,
        monitor: &Monitor,
    ) -> Result<Sent> {
        let length = range.end - range.start;
        let mut body = ChunkReader { reader, left: length, total, monitor, failed: None };
        let request = Request::new(Method::Patch, location)
            .header("content-range", format!("{}-{}", range.start, range.end - 1))
            .stream("application/octet-stream", Some(length), &mut body)
            .monitor(monitor);
        let sent = self.send(request, scope);
        // An error of our own file is no error of the connection.
        if let Some(error) = body.failed.take() {
            return Err(error);
        }
        let answer = match sent {
            Ok(answer) => answer,
            Err(error) if error.is_transient() => return Ok(Sent::Broken(error)),
            Err(error) => return Err(error),
        };
        match answer.status() {
            202 | 201 | 204 => {
                let location = self.location(&answer)?;
                let at = match answer.header("range") {
                    Some(range) => end_of(range).unwrap_or(0),
                    None => range.end,
                };
                if at > total {
                    let host = location.authority();
                    return Err(Error::remote(format!("{host} claims {at} bytes of an upload that has {total}")));
                }
                Ok(Sent::Accepted { at, location })
            }
            413 => Ok(Sent::TooLarge),
            // The token has expired, or the registry is at another place than this client.
            401 | 416 => Ok(Sent::Broken(errors::failure(answer, "an upload"))),
            _ => {
                let error = errors::failure(answer, "an upload");
                if error.is_transient() { Ok(Sent::Broken(error)) } else { Err(forgotten(error)) }
            }
        }
    }

    /// Asks how far an upload got.
    fn position(&self, location: &Url, scope: &Scope, monitor: &Monitor) -> Result<(u64, Url)> {
        let answer = self.registry().client().options().retry.run(monitor, || {
            let answer = self.send(Request::get(location).monitor(monitor), scope)?;
            match answer.status() {
                200..=299 => Ok(answer),
                // Begun again by the caller, which counts the tries: this request can't help any more.
                404 | 405 => Ok(answer),
                _ => Err(errors::failure(answer, "an upload")),
            }
        })?;
        if !(200..300).contains(&answer.status()) {
            return Err(forgotten(errors::failure(answer, "an upload")));
        }
        let at = answer.header("range").and_then(end_of).unwrap_or(0);
        let next = if answer.header("location").is_some() { self.location(&answer)? } else { location.clone() };
        Ok((at, next))
    }

    /// Ends an upload, with the last bytes or none. The registry compares the digest.
    fn end(
        &self,
        descriptor: &Descriptor,
        location: &Url,
        bytes: Vec<u8>,
        scope: &Scope,
        monitor: &Monitor,
    ) -> Result<()> {
        let digest = descriptor.digest.to_string();
        let url = location.and_query(&query([("digest", digest.as_str())]));
        let idle = self.registry().client().limits().idle;
        let request = Request::new(Method::Put, &url)
            .bytes("application/octet-stream", bytes)
            .idle_timeout(Duration::from_secs(idle.max(FINISH_SECONDS)))
            .monitor(monitor);
        let answer = self.send(request, scope)?;
        match answer.status() {
            201 | 204 => check_digest(&answer, &descriptor.digest, "blob"),
            _ => {
                let host = url.authority().to_owned();
                let error = errors::failure(answer, "an upload");
                if error.message().contains("DIGEST_INVALID") {
                    return Err(Error::mismatch(&format!("the digest of the blob that {host} got"), digest, "another"));
                }
                Err(forgotten(error))
            }
        }
    }

    /// Sends a manifest or an index under a tag or its digest. Whether the registry keeps its referrers itself is
    /// returned.
    ///
    /// # Errors
    /// `Remote` where the registry refuses; `Mismatch` where it states another digest.
    pub(super) fn send_document(&self, raw: &RawDocument, to: &Reference, monitor: &Monitor) -> Result<bool> {
        let url = self.endpoint(&format!("manifests/{to}"))?;
        let scope = Scope::push(self.name());
        // The same bytes under the same name: sending them again changes nothing.
        let answer = self.registry().client().options().retry.run(monitor, || {
            let request = Request::new(Method::Put, &url).bytes(&raw.descriptor.media_type, raw.bytes.clone());
            let answer = self.send(request.monitor(monitor), &scope)?;
            if matches!(answer.status(), 200..=299) { Ok(answer) } else { Err(errors::failure(answer, "a manifest")) }
        })?;
        check_digest(&answer, &raw.descriptor.digest, "manifest")?;
        Ok(answer.header(referrers::SUBJECT).is_some())
    }
}

impl BlobSink for OciRepository {
    fn has_blob(&mut self, descriptor: &Descriptor, monitor: &Monitor) -> Result<bool> {
        self.has(descriptor, &Scope::push(self.name()), monitor)
    }

    /// Sends the blob without asking whether it is there, which is what [`has_blob`](BlobSink::has_blob) does.
    fn put_blob(&mut self, descriptor: &Descriptor, open: &mut Open<'_>, monitor: &Monitor) -> Result<()> {
        self.send_blob(descriptor, open, None, &Scope::push(self.name()), monitor)
    }

    /// A manifest about another one is also listed under the fallback tag, where the registry has no referrers.
    fn put_document(
        &mut self,
        descriptor: &Descriptor,
        bytes: &[u8],
        tag: Option<&Tag>,
        monitor: &Monitor,
    ) -> Result<()> {
        let limits = self.registry().client().limits().clone();
        let raw = RawDocument { descriptor: descriptor.clone(), bytes: bytes.to_vec() };
        let to = tag.map_or(Reference::Digest(descriptor.digest), |tag| Reference::Tag(tag.clone()));
        let keeps_referrers = self.send_document(&raw, &to, monitor)?;
        if let Document::Manifest(manifest) = raw.document(&limits)?
            && let Some(subject) = manifest.subject.as_ref().filter(|_| !keeps_referrers)
        {
            self.add_to_fallback(&subject.digest, descriptor, &manifest, &limits, monitor)?;
        }
        Ok(())
    }
}

/// An upload that the registry does not know any more can be begun again.
fn forgotten(error: Error) -> Error {
    if error.kind() == ErrorKind::NotFound { error.transient() } else { error }
}

/// Compares the digest that an answer states, if it does, with the one of what was sent.
fn check_digest(answer: &Response, sent: &Digest, what: &str) -> Result<()> {
    let told = answer.header(CONTENT_DIGEST).and_then(|text| text.parse::<Digest>().ok());
    match told.filter(|told| told != sent && told.algorithm() == sent.algorithm()) {
        Some(told) => {
            let host = answer.url().authority();
            Err(Error::mismatch(
                &format!("the digest of the {what} that {host} got"),
                sent.to_string(),
                told.to_string(),
            ))
        }
        None => Ok(()),
    }
}

/// The number of bytes that a header `Range: 0-99` states: 100. An upload without bytes has `0-0` on some registries,
/// which also stands for one byte; the registry then refuses the next chunk, and so on from the beginning.
fn end_of(range: &str) -> Option<u64> {
    let range = range.trim();
    let (first, last) = range.strip_prefix("bytes=").unwrap_or(range).split_once('-')?;
    let (first, last): (u64, u64) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    match (first, last) {
        (0, 0) => Some(0),
        (0, last) => last.checked_add(1),
        _ => None,
    }
}

/// Fails where a blob has not the size of its descriptor.
fn check_size(descriptor: &Descriptor, found: u64) -> Result<()> {
    if found == descriptor.size {
        return Ok(());
    }
    let what = format!("the size of the blob {} in bytes", descriptor.digest);
    Err(Error::mismatch(&what, descriptor.size.to_string(), found.to_string()))
}

/// The bytes of a blob from a position on. Moving back opens them again.
struct PositionedReader {
    inner: Option<Box<dyn Read + Send>>,
    at: u64,
}

impl PositionedReader {
    /// Moves to a position.
    fn seek(&mut self, to: u64, open: &mut Open<'_>, descriptor: &Descriptor) -> Result<()> {
        if self.inner.is_some() && self.at == to {
            return Ok(());
        }
        let mut inner = open()?;
        let skipped = io::copy(&mut inner.by_ref().take(to), &mut io::sink())
            .map_err(|error| Error::io("a blob can't be read", error))?;
        if skipped < to {
            return check_size(descriptor, skipped);
        }
        (self.inner, self.at) = (Some(inner), to);
        Ok(())
    }
}

/// The body of one request.
struct ChunkReader<'a> {
    reader: &'a mut PositionedReader,
    left: u64,
    total: u64,
    monitor: &'a Monitor,
    /// That the blob can't be read, or ends too early.
    failed: Option<Error>,
}

impl Read for ChunkReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        if most == 0 {
            return Ok(0);
        }
        let Some(inner) = &mut self.reader.inner else { return Ok(0) };
        match inner.read(buffer.get_mut(..most).unwrap_or_default()) {
            Ok(0) => {
                let (total, at) = (self.total.to_string(), self.reader.at.to_string());
                self.failed = Some(Error::mismatch("the size of a blob in bytes", total, at));
                Err(io::ErrorKind::UnexpectedEof.into())
            }
            Ok(count) => {
                self.left -= count as u64;
                self.reader.at = self.reader.at.saturating_add(count as u64);
                self.monitor.report(Phase::Upload, self.reader.at, Some(self.total))?;
                Ok(count)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => {
                self.failed = Some(Error::io("a blob can't be read", error));
                Err(io::ErrorKind::Other.into())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn range_of_an_upload_states_its_bytes() {
        for (text, bytes) in [
            ("0-99", Some(100)),
            ("bytes=0-99", Some(100)),
            ("0-0", Some(0)),
            ("0-18446744073709551615", None),
            ("5-99", None),
            ("0", None),
            ("x-y", None),
            ("", None),
        ] {
            assert_eq!(end_of(text), bytes, "{text}");
        }
    }
}
