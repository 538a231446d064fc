//! Uploads: one request for a small object, a multipart upload for a large one.
//!
//! The calling thread reads the parts and waits; the requests run on the shared runtime. Nothing
//! counts as written before the server has shown the object with the right length and tag: an
//! answer may be lost, and a server may answer before it knows.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use bytes::Bytes;
use md5::{Digest, Md5};
use object_store::multipart::PartId;
use object_store::path::Path;
use tokio::task::AbortHandle;

use super::bucket::Bucket;
use super::failure::{Failure, Reason, Verb};
use super::reader::bare;
use super::runtime;
use super::transport::{self, AnswerHeaders};
use crate::error::{Error, Result};
use crate::fingerprint::hex;
use crate::io::{Blob, ReadAt};
use crate::progress::{CANCEL_POLL, Monitor, Phase};

/// The most parts that S3 takes; others take more.
const MAX_PARTS: u64 = 10_000;
/// How long a call that was cancelled waits for the abort of its upload. The abort goes on after it.
const ABORT_PATIENCE: Duration = Duration::from_millis(500);

/// Writes `source` to `path`, and returns once the server has shown that it has it.
pub(super) fn upload(bucket: &Arc<Bucket>, path: &Path, source: &Blob, monitor: &Monitor) -> Result<()> {
    let length = source.len();
    let tag = if length <= bucket.options.part_bytes {
        whole(bucket, path, source, monitor)?
    } else {
        Multipart::begin(bucket, path, length, monitor)?.run(source, monitor)?
    };
    let (shared, at) = (Arc::clone(bucket), path.clone());
    runtime::run(Some(monitor.cancel()), async move {
        let checked = check(&shared, &at, length, tag.as_deref()).await;
        checked.map_err(|failure| shared.error(failure, Verb::Write, Some(&at)))
    })?;
    monitor.report(Phase::Upload, length, Some(length))
}

/// Fails unless the server has the object with this length and tag.
async fn check(bucket: &Bucket, path: &Path, length: u64, tag: Option<&str>) -> std::result::Result<(), Failure> {
    let lost = |detail: String| Failure::new(Reason::Invalid, format!("it was acknowledged, and then {detail}"));
    let meta = match bucket.head(path).await {
        Err(failure) if failure.reason == Reason::Missing => return Err(lost("is not there".to_owned())),
        meta => meta?,
    };
    if meta.size != length {
        return Err(lost(format!("has {} bytes instead of {length}", meta.size)));
    }
    match (tag, meta.e_tag.as_deref()) {
        (Some(tag), Some(found)) if bare(tag) != bare(found) => {
            Err(lost(format!("has the ETag {found} instead of {tag}")))
        }
        _ => Ok(()),
    }
}

/// Reads a part into memory.
fn read_part(source: &Blob, start: u64, length: u64) -> Result<Bytes> {
    let size = usize::try_from(length).map_err(|_| Error::invalid("a part of the upload does not fit into memory"))?;
    let mut bytes = vec![0; size];
    source.read_exact_at(&mut bytes, start).map_err(|error| error.context("the staged file of an upload"))?;
    Ok(bytes.into())
}

/// The MD5 of some bytes that the server's tag of them must be, if nothing else tells whether they arrived.
fn md5_of(bucket: &Bucket, bytes: &[u8]) -> Option<[u8; 16]> {
    let facts = bucket.facts();
    (facts.has_md5_tags && !facts.checks_payloads).then(|| Md5::digest(bytes).into())
}

/// The tag that an object of these parts has, where tags are MD5s: the MD5 of their MD5s.
fn tag_of(parts: &[PartId]) -> Option<String> {
    let mut digests = Md5::new();
    for part in parts {
        let tag = bare(&part.content_id);
        let digest = tag.get(..32).filter(|_| tag.len() == 32)?;
        for at in (0..32).step_by(2) {
            digests.update([u8::from_str_radix(digest.get(at..at + 2)?, 16).ok()?]);
        }
    }
    Some(format!("{}-{}", hex(&digests.finalize()), parts.len()))
}

/// Writes an object in one request. Returns its tag.
fn whole(bucket: &Arc<Bucket>, path: &Path, source: &Blob, monitor: &Monitor) -> Result<Option<String>> {
    let length = source.len();
    let bytes = read_part(source, 0, length)?;
    let md5 = md5_of(bucket, &bytes);
    let sent = Arc::new(AtomicU64::new(0));
    let (shared, at, counter) = (Arc::clone(bucket), path.clone(), Arc::clone(&sent));
    let tasks = Tasks::default();
    let (sender, receiver) = mpsc::channel();
    tasks.spawn(async move {
        let put = transport::counted(counter, shared.put(&at, &bytes)).await;
        let _ = sender.send(put.and_then(|answer| {
            let tag = answer.e_tag;
            if let (Some(md5), Some(tag)) = (md5, tag.as_deref())
                && bare(tag) != hex(&md5)
            {
                return Err(Failure::new(Reason::Invalid, "its ETag is not the MD5 of what was sent"));
            }
            check_stated_md5(answer.extensions.get::<AnswerHeaders>(), &bytes)?;
            Ok(tag)
        }));
    })?;
    loop {
        match receiver.recv_timeout(CANCEL_POLL) {
            Ok(done) => return done.map_err(|failure| bucket.error(failure, Verb::Write, Some(path))),
            Err(RecvTimeoutError::Timeout) => {
                monitor.report(Phase::Upload, sent.load(Ordering::Relaxed).min(length), Some(length))?;
            }
            Err(RecvTimeoutError::Disconnected) => return Err(runtime::died()),
        }
    }
}

/// Google and Azure say in headers which MD5 they computed of an object that came in one request.
fn check_stated_md5(headers: Option<&AnswerHeaders>, bytes: &[u8]) -> std::result::Result<(), Failure> {
    let Some(AnswerHeaders(headers)) = headers else { return Ok(()) };
    let text = |value: &http::HeaderValue| value.to_str().ok().map(str::to_owned);
    let google = headers.get_all("x-goog-hash").iter().filter_map(text);
    let google = google.flat_map(|value| value.split(',').map(str::to_owned).collect::<Vec<_>>());
    let stated = google
        .filter_map(|part| part.trim().strip_prefix("md5=").map(str::to_owned))
        .chain(headers.get("content-md5").and_then(text))
        .next();
    match stated {
        Some(stated) if stated != base64(&Md5::digest(bytes)) => {
            Err(Failure::new(Reason::Invalid, "the server has another MD5 than what was sent"))
        }
        _ => Ok(()),
    }
}

/// Base64 with padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let group = (0..3).fold(0_u32, |group, index| (group << 8) | u32::from(chunk.get(index).copied().unwrap_or(0)));
        for index in 0..4_u32 {
            let digit = DIGITS.get(((group >> (18 - 6 * index)) & 63) as usize).copied().unwrap_or(b'=');
            text.push(char::from(if index as usize <= chunk.len() { digit } else { b'=' }));
        }
    }
    text
}

/// Requests that are stopped when this is dropped, that is, when the call fails or is cancelled.
#[derive(Default)]
struct Tasks(std::sync::Mutex<Vec<AbortHandle>>);

impl Tasks {
    fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) -> Result<()> {
        let task = runtime::handle()?.spawn(future);
        let mut tasks = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        tasks.retain(|task| !task.is_finished());
        tasks.push(task.abort_handle());
        Ok(())
    }

    fn stop(&self) {
        for task in self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).drain(..) {
            task.abort();
        }
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.stop();
    }
}

/// One finished part: its index, and what became of it.
type Finished = (usize, std::result::Result<PartId, Failure>);

/// A multipart upload. Aborted when it is dropped before it is complete.
struct Multipart {
    bucket: Arc<Bucket>,
    path: Path,
    id: Arc<String>,
    length: u64,
    part_bytes: u64,
    tasks: Tasks,
    is_complete: bool,
}

impl Multipart {
    fn begin(bucket: &Arc<Bucket>, path: &Path, length: u64, monitor: &Monitor) -> Result<Self> {
        let part_bytes = bucket.options.part_bytes.max(length.div_ceil(MAX_PARTS));
        let (shared, at) = (Arc::clone(bucket), path.clone());
        // Not stopped by a cancellation: the id would be lost, and the upload could not be aborted.
        let id = runtime::run(None, async move {
            shared.begin_upload(&at).await.map_err(|failure| shared.error(failure, Verb::Write, Some(&at)))
        })?;
        let upload = Self {
            bucket: Arc::clone(bucket),
            path: path.clone(),
            id: Arc::new(id),
            length,
            part_bytes,
            tasks: Tasks::default(),
            is_complete: false,
        };
        monitor.check()?;
        Ok(upload)
    }

    fn error(&self, failure: Failure) -> Error {
        self.bucket.error(vanished(failure), Verb::Write, Some(&self.path))
    }

    /// Sends all parts and completes the upload. Returns the tag of the object.
    fn run(mut self, source: &Blob, monitor: &Monitor) -> Result<Option<String>> {
        let count = usize::try_from(self.length.div_ceil(self.part_bytes)).unwrap_or(usize::MAX);
        let (sender, receiver) = mpsc::channel::<Finished>();
        let mut parts: Vec<Option<PartId>> = vec![None; count];
        // The bytes sent of parts that are in flight, and of those that are done.
        let mut in_flight: Vec<(usize, Arc<AtomicU64>)> = Vec::new();
        let mut done: u64 = 0;
        let mut next = 0;
        while next < count || !in_flight.is_empty() {
            if next < count && in_flight.len() < self.bucket.options.concurrency {
                let start = (next as u64).saturating_mul(self.part_bytes);
                let bytes = read_part(source, start, self.part_bytes.min(self.length.saturating_sub(start)))?;
                let md5 = md5_of(&self.bucket, &bytes);
                let sent = Arc::new(AtomicU64::new(0));
                in_flight.push((next, Arc::clone(&sent)));
                self.send(next, bytes, md5, sent, sender.clone())?;
                next += 1;
                monitor.check()?;
            }
            let is_full = next >= count || in_flight.len() >= self.bucket.options.concurrency;
            let finished =
                if is_full { receiver.recv_timeout(CANCEL_POLL) } else { receiver.recv_timeout(Duration::ZERO) };
            match finished {
                Ok((index, part)) => {
                    let part = part.map_err(|failure| self.error(failure))?;
                    in_flight.retain(|(sending, _)| *sending != index);
                    let start = (index as u64).saturating_mul(self.part_bytes);
                    done = done.saturating_add(self.part_bytes.min(self.length.saturating_sub(start)));
                    if let Some(slot) = parts.get_mut(index) {
                        *slot = Some(part);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(runtime::died()),
            }
            let sent = in_flight.iter().fold(done, |sum, (_, sent)| sum.saturating_add(sent.load(Ordering::Relaxed)));
            monitor.report(Phase::Upload, sent.min(self.length), Some(self.length))?;
        }
        let parts: Vec<PartId> = parts.into_iter().flatten().collect();
        if parts.len() != count {
            return Err(runtime::died());
        }
        let expected = self.bucket.facts().has_md5_tags.then(|| tag_of(&parts)).flatten();
        let (bucket, path, id, length) =
            (Arc::clone(&self.bucket), self.path.clone(), Arc::clone(&self.id), self.length);
        let tag = runtime::run(Some(monitor.cancel()), async move {
            let completed = complete(&bucket, &path, &id, parts, length, expected.as_deref()).await;
            completed.map_err(|failure| bucket.error(vanished(failure), Verb::Write, Some(&path)))
        })?;
        self.is_complete = true;
        Ok(tag)
    }

    /// Starts to send one part.
    fn send(
        &self,
        index: usize,
        bytes: Bytes,
        md5: Option<[u8; 16]>,
        sent: Arc<AtomicU64>,
        sender: mpsc::Sender<Finished>,
    ) -> Result<()> {
        let (bucket, path, id) = (Arc::clone(&self.bucket), self.path.clone(), Arc::clone(&self.id));
        self.tasks.spawn(async move {
            let part = transport::counted(sent, bucket.put_part(&path, &id, index, &bytes)).await;
            let _ = sender.send((
                index,
                part.and_then(|part| match md5 {
                    Some(md5) if bare(&part.content_id) != hex(&md5) => {
                        Err(Failure::new(Reason::Invalid, "the ETag of a part is not the MD5 of what was sent"))
                    }
                    _ => Ok(part),
                }),
            ));
        })
    }
}

impl Drop for Multipart {
    fn drop(&mut self) {
        if self.is_complete {
            return;
        }
        self.tasks.stop();
        let (bucket, path, id) = (Arc::clone(&self.bucket), self.path.clone(), Arc::clone(&self.id));
        let (sender, receiver) = mpsc::channel();
        let Ok(handle) = runtime::handle() else { return };
        // If it fails, the sweep or a lifecycle rule of the bucket aborts it later.
        handle.spawn(async move {
            let _ = bucket.abort_upload(&path, &id).await;
            let _ = sender.send(());
        });
        let _ = receiver.recv_timeout(ABORT_PATIENCE);
    }
}

/// A server that does not know the upload any more: somebody aborted it, and the object must be sent again.
fn vanished(failure: Failure) -> Failure {
    match failure.reason {
        Reason::Missing => Failure::new(Reason::Transient, "the upload is gone: it was aborted by another program"),
        _ => failure,
    }
}

/// Completes an upload. An answer may be lost, and a second request then finds no such upload: so
/// after each failure the object itself says whether the upload is complete.
async fn complete(
    bucket: &Bucket,
    path: &Path,
    id: &String,
    parts: Vec<PartId>,
    length: u64,
    expected: Option<&str>,
) -> std::result::Result<Option<String>, Failure> {
    let mut tries = 0;
    loop {
        let failure = match bucket.complete_once(path, id, parts.clone()).await {
            // Ceph's gateway leaves the tag empty: then only `HEAD` has it.
            Ok(answer) => match (expected, answer.e_tag.filter(|tag| !bare(tag).is_empty())) {
                (Some(expected), Some(tag)) if bare(&tag) != expected => {
                    let what = format!("its ETag is {tag}, and not {expected} as the parts which were sent have it");
                    return Err(Failure::new(Reason::Invalid, what));
                }
                (expected, tag) => return Ok(tag.or(expected.map(str::to_owned))),
            },
            Err(failure) => failure,
        };
        let is_unclear = failure.is_transient() || matches!(failure.reason, Reason::Missing | Reason::Invalid);
        if is_unclear
            && let Ok(meta) = bucket.head(path).await
            && meta.size == length
            && expected.is_none_or(|expected| meta.e_tag.as_deref().map(bare) == Some(expected))
        {
            return Ok(meta.e_tag);
        }
        bucket.pause(failure, &mut tries).await?;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    fn part(tag: &str) -> PartId {
        PartId { content_id: tag.to_owned() }
    }

    #[test]
    fn tag_of_parts_is_the_md5_of_their_md5s() {
        let tag = |text: &str| format!("\"{}\"", hex(&Md5::digest(text)));
        let mut both = Md5::digest("one").to_vec();
        both.extend(Md5::digest("two"));
        let expected = format!("{}-2", hex(&Md5::digest(both)));
        assert_eq!(tag_of(&[part(&tag("one")), part(&tag("two"))]), Some(expected));
    }

    #[test]
    fn parts_without_md5s_have_no_tag_that_is_known() {
        for tag in ["", "\"0x8D4\"", "zz345678901234567890123456789012", "ä2345678901234567890123456789012"] {
            assert_eq!(tag_of(&[part(tag)]), None, "{tag}");
        }
    }

    #[test]
    fn base64_has_padding() {
        for (bytes, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }
}
