//! [`ObjectReader`]: an object as bytes at rest. Ranged requests, pinned to the version that was
//! opened, with read-ahead for sequential readers and bounded memory.
//!
//! The object is fetched in *segments*. A read outside of all segments fetches a small one; a read
//! that goes on where a segment ended fetches four times as much, up to a bound, and the segments
//! after it as well. So a sequential reader soon has several large requests in flight, and a reader
//! that jumps around costs little. Segments that were read go first when memory is needed.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use object_store::path::Path;
use tokio::task::AbortHandle;

use super::bucket::{Bucket, TagForm};
use super::failure::{Failure, Reason, Verb};
use super::runtime;
use crate::error::{Error, Result};
use crate::io::{ReadAt, Version};

/// The first segment of a reader, in bytes.
const FIRST_SEGMENT: u64 = 128 << 10;
/// The largest segment, in bytes: large enough that the time of a request does not matter.
const LARGEST_SEGMENT: u64 = 8 << 20;
/// By how much segments grow for a sequential reader.
const GROWTH: u64 = 4;
/// Objects up to this size are fetched by their first read, in bytes.
const WHOLE_OBJECT: u64 = 256 << 10;

/// How many bytes all readers of one blob store have in memory.
#[derive(Debug, Default)]
pub(super) struct ReadMemory(AtomicU64);

/// An open object.
pub(super) struct ObjectReader {
    bucket: Arc<Bucket>,
    path: Path,
    length: u64,
    tag: String,
    memory: Arc<ReadMemory>,
    segments: Mutex<VecDeque<Arc<Segment>>>,
}

/// A range of the object that is in memory, or on its way.
struct Segment {
    start: u64,
    end: u64,
    /// Whether it goes on where another one ended, so that more is fetched ahead.
    is_sequential: bool,
    was_read: AtomicBool,
    slot: Arc<Slot>,
    task: AbortHandle,
    memory: Arc<ReadMemory>,
}

/// What a request of a segment came to.
#[derive(Default)]
struct Slot {
    result: Mutex<Option<std::result::Result<Bytes, Failure>>>,
    is_ready: Condvar,
}

impl Segment {
    fn length(&self) -> u64 {
        self.end.saturating_sub(self.start)
    }

    fn holds(&self, offset: u64) -> bool {
        (self.start..self.end).contains(&offset)
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        self.task.abort();
        self.memory.0.fetch_sub(self.length(), Ordering::Relaxed);
    }
}

impl Slot {
    fn set(&self, result: std::result::Result<Bytes, Failure>) {
        let mut slot = self.result.lock().unwrap_or_else(PoisonError::into_inner);
        slot.get_or_insert(result);
        self.is_ready.notify_all();
    }

    /// Waits for the request. It ends by itself: each try has a timeout, and there are so many tries.
    fn wait(&self) -> std::result::Result<Bytes, Failure> {
        let mut slot = self.result.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(result) = &*slot {
                return result.clone();
            }
            slot = self.is_ready.wait(slot).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Wakes the waiters of a slot even if its request ends without a result.
struct Promise(Arc<Slot>);

impl Drop for Promise {
    fn drop(&mut self) {
        self.0.set(Err(Failure::new(Reason::Transient, "the request was given up")));
    }
}

/// A tag without quotes and the mark of a weak one: servers differ in both between their answers.
pub(super) fn bare(tag: &str) -> &str {
    tag.strip_prefix("W/").unwrap_or(tag).trim_matches('"')
}

impl ObjectReader {
    /// Opens the object at `path`.
    ///
    /// # Errors
    /// `NotFound`; `Malformed` if the server sends no tag; those of the server.
    pub(super) fn open(bucket: &Arc<Bucket>, memory: &Arc<ReadMemory>, path: Path) -> Result<Self> {
        let (shared, at) = (Arc::clone(bucket), path.clone());
        let (length, tag) = runtime::run(None, async move {
            let meta = shared.head(&at).await.map_err(|failure| shared.error(failure, Verb::Read, Some(&at)))?;
            let tag = meta.e_tag.filter(|tag| !bare(tag).is_empty()).ok_or_else(|| {
                let failure = Failure::new(Reason::Invalid, "there is no ETag");
                shared.error(failure, Verb::Read, Some(&at))
            })?;
            Ok((meta.size, tag))
        })?;
        let (bucket, memory) = (Arc::clone(bucket), Arc::clone(memory));
        Ok(Self { bucket, path, length, tag, memory, segments: Mutex::default() })
    }

    fn error(&self, failure: Failure) -> Error {
        self.bucket.error(failure, Verb::Read, Some(&self.path))
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Arc<Segment>>> {
        self.segments.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts to fetch `start..end`.
    fn fetch(&self, start: u64, end: u64, is_sequential: bool) -> Result<Arc<Segment>> {
        let slot = Arc::new(Slot::default());
        let promise = Promise(Arc::clone(&slot));
        let (bucket, path, tag, length) = (Arc::clone(&self.bucket), self.path.clone(), self.tag.clone(), self.length);
        let task = runtime::handle()?.spawn(async move {
            let if_match = match bucket.facts().if_match {
                Some(TagForm::AsSent) => Some(&*tag),
                Some(TagForm::Bare) => Some(bare(&tag)),
                None => None,
            };
            let result = match bucket.range(&path, (start, end), if_match).await {
                // Compared in any case: not every server honours the condition.
                Ok((meta, bytes)) if meta.size == length && meta.e_tag.as_deref().map(bare) == Some(bare(&tag)) => {
                    Ok(bytes)
                }
                Ok(_) => Err(Failure::new(Reason::Changed, "its ETag or length differs")),
                // An object that was there when it was opened, and is deleted now.
                Err(failure) => Err(failure),
            };
            promise.0.set(result);
        });
        self.memory.0.fetch_add(end.saturating_sub(start), Ordering::Relaxed);
        let memory = Arc::clone(&self.memory);
        let was_read = AtomicBool::new(false);
        Ok(Arc::new(Segment { start, end, is_sequential, was_read, slot, task: task.abort_handle(), memory }))
    }

    /// The segment that holds `offset`, which is before the end. Fetches it if there is none, and
    /// what a sequential reader will want next.
    fn segment(&self, offset: u64, wanted: u64) -> Result<Arc<Segment>> {
        let mut segments = self.lock();
        let found = segments.iter().position(|segment| segment.holds(offset));
        let segment = match found.and_then(|index| segments.remove(index)) {
            Some(segment) => segment,
            None => {
                let before =
                    segments.iter().find(|segment| segment.end == offset && segment.was_read.load(Ordering::Relaxed));
                let size = match before {
                    _ if self.length <= WHOLE_OBJECT => self.length,
                    Some(before) => before.length().saturating_mul(GROWTH),
                    None => FIRST_SEGMENT,
                };
                let is_sequential = before.is_some() || offset == 0;
                let start = if self.length <= WHOLE_OBJECT { 0 } else { offset };
                let end = start.saturating_add(size.max(wanted).clamp(FIRST_SEGMENT, LARGEST_SEGMENT));
                // A segment that overlaps with one that is there already would be fetched twice.
                let next = segments.iter().map(|segment| segment.start).filter(|next| *next > offset).min();
                let end = end.min(self.length).min(next.unwrap_or(u64::MAX));
                self.fetch(start, end, is_sequential)?
            }
        };
        let is_first_read = !segment.was_read.swap(true, Ordering::Relaxed);
        segments.push_back(Arc::clone(&segment));
        if is_first_read && segment.is_sequential {
            self.fetch_ahead(&mut segments, &segment)?;
        }
        self.evict(&mut segments, &segment);
        Ok(segment)
    }

    /// Fetches what comes after a segment that a sequential reader has come to.
    fn fetch_ahead(&self, segments: &mut VecDeque<Arc<Segment>>, current: &Segment) -> Result<()> {
        let options = &self.bucket.options;
        let ahead = current.length().saturating_mul(GROWTH).saturating_mul(2);
        let ahead = ahead.min(options.read_ahead.saturating_sub(current.length()));
        let horizon = current.end.saturating_add(ahead).min(self.length);
        let size = current.length().saturating_mul(GROWTH).min(LARGEST_SEGMENT).min(options.read_ahead / 4);
        let mut at = current.end;
        while at < horizon && size > 0 {
            if let Some(present) = segments.iter().find(|segment| segment.holds(at)) {
                at = present.end;
                continue;
            }
            let next = segments.iter().map(|segment| segment.start).filter(|next| *next > at).min();
            let end = at.saturating_add(size).min(self.length).min(next.unwrap_or(u64::MAX));
            let held = self.memory.0.load(Ordering::Relaxed);
            if held.saturating_add(end.saturating_sub(at)) > options.read_memory {
                break;
            }
            segments.push_back(self.fetch(at, end, true)?);
            at = end;
        }
        Ok(())
    }

    /// Drops segments that will hardly be read again, and then more until the rest fits: first those
    /// that were read, the one that was read longest ago first, then those that were fetched ahead.
    fn evict(&self, segments: &mut VecDeque<Arc<Segment>>, current: &Arc<Segment>) {
        // A sequential reader has left these behind. The one before the current one may still be in
        // use: several threads share a reader. Small ones stay, for readers that jump around.
        let is_crowded = self.memory.0.load(Ordering::Relaxed) > self.bucket.options.read_memory;
        segments.retain(|segment| {
            let is_behind = segment.is_sequential && current.is_sequential && segment.end < current.start;
            Arc::ptr_eq(segment, current)
                || !segment.was_read.load(Ordering::Relaxed)
                || !(is_crowded || is_behind && segment.length() > FIRST_SEGMENT)
        });
        let held = |segments: &VecDeque<Arc<Segment>>| {
            segments.iter().fold(0_u64, |sum, segment| sum.saturating_add(segment.length()))
        };
        while segments.len() > 1 && held(segments) > self.bucket.options.read_ahead.max(LARGEST_SEGMENT) {
            let may_go = |segment: &Arc<Segment>| !Arc::ptr_eq(segment, current);
            let was_read = |segment: &Arc<Segment>| may_go(segment) && segment.was_read.load(Ordering::Relaxed);
            let index = segments.iter().position(was_read).or_else(|| segments.iter().position(may_go));
            let Some(index) = index else { break };
            segments.remove(index);
        }
    }

    /// Drops the large segments once a sequential reader has come to the end: an object may stay
    /// open for long.
    fn release(&self) {
        self.lock().retain(|segment| segment.length() <= FIRST_SEGMENT || !segment.was_read.load(Ordering::Relaxed));
    }

    /// Forgets a segment whose request failed, so that the next read tries again.
    fn forget(&self, failed: &Arc<Segment>) {
        self.lock().retain(|segment| !Arc::ptr_eq(segment, failed));
    }
}

impl ReadAt for ObjectReader {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        if buffer.is_empty() || offset >= self.length {
            return Ok(0);
        }
        let segment = self.segment(offset, buffer.len() as u64)?;
        let bytes = match segment.slot.wait() {
            Ok(bytes) => bytes,
            Err(failure) => {
                self.forget(&segment);
                return Err(self.error(failure).into());
            }
        };
        let start = usize::try_from(offset.saturating_sub(segment.start)).unwrap_or(usize::MAX);
        let found = bytes.get(start..).unwrap_or_default();
        let count = found.len().min(buffer.len());
        let (Some(target), Some(found)) = (buffer.get_mut(..count), found.get(..count)) else { return Ok(0) };
        target.copy_from_slice(found);
        if segment.is_sequential && offset.saturating_add(count as u64) >= self.length {
            self.release();
        }
        Ok(count)
    }

    fn len(&self) -> u64 {
        self.length
    }

    fn version(&self) -> io::Result<Option<Version>> {
        Ok(Some(Version::new(format!("{} {}", bare(&self.tag), self.length))))
    }
}
