//! One pass over a file: read and hashed on one thread, decoded on another, consumed on the
//! caller's.
//!
//! Every byte that is consumed was hashed from the same buffer, so that a file which changes while
//! it is read can't pass the check with one content and be unpacked with another. The stages are
//! connected by bounded queues of pooled buffers, which bounds memory and lets the slowest stage
//! set the pace.

use std::io::Read;
use std::thread;

use super::chunk::{ChunkPool, ChunkReader, Chunks, ReceivedChunks};
use super::codec::{self, Codec};
use crate::error::{Error, Result};
use crate::fingerprint::Hasher;
use crate::limits::Limits;
use crate::progress::{Cancel, Monitor, Phase};

/// Bytes of a buffer between the stages: few and large buffers cost less hand-over than many small
/// ones.
const BUFFER_BYTES: usize = 256 << 10;
/// Buffers of stored bytes: 2 MiB in all.
const RAW_BUFFERS: usize = 8;
/// Buffers of decoded bytes: 6 MiB in all. Members hold on to their pieces until a batch is full,
/// so there are more of them.
const DECODED_BUFFERS: usize = 24;

/// The number of threads used unless the caller chooses: as many as the machine runs at once. Respects the
/// process's CPU affinity and cgroup quota.
pub(crate) fn default_threads() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// The settings of a pass, shared by all files of an image.
#[derive(Clone, Copy)]
pub(crate) struct ReadPass<'a> {
    pub(crate) limits: &'a Limits,
    pub(crate) monitor: &'a Monitor,
    /// The phase that progress is reported as.
    pub(crate) phase: Phase,
    /// Threads that a codec may use.
    pub(crate) threads: usize,
    /// Bytes of all files of the image, for progress.
    pub(crate) total: Option<u64>,
}

impl ReadPass<'_> {
    /// Reads `input` to its end through `codec`. The bytes as stored go to `hasher`, those decoded
    /// to `consume`, which must take them to the end of its stream unless it fails.
    ///
    /// Everything that `consume` takes was hashed. A failure of any stage stops the others: each
    /// notices within [`CANCEL_POLL`](crate::progress::CANCEL_POLL) that nobody receives any more.
    ///
    /// # Errors
    /// Those of the input, the codec and `consume`; whatever came first in the stream.
    pub(crate) fn run<T>(
        &self,
        input: impl Read + Send,
        codec: Codec,
        hasher: &mut Hasher,
        consume: impl FnOnce(&mut ReceivedChunks) -> Result<T>,
    ) -> Result<T> {
        let mut done = hasher.bytes();
        self.run_observed(input, codec, &mut done, |bytes| hasher.update(bytes), consume)
    }

    /// As [`run`](Self::run), with `observe` in the place of the hasher; `done` counts the bytes as stored.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub(crate) fn run_observed<T>(
        &self,
        input: impl Read + Send,
        codec: Codec,
        done: &mut u64,
        mut observe: impl FnMut(&[u8]) + Send,
        consume: impl FnOnce(&mut ReceivedChunks) -> Result<T>,
    ) -> Result<T> {
        thread::scope(|scope| {
            // Bounded by the number of buffers: a chunk in the queue holds one, so a full queue
            // means that the pool is empty as well.
            let (raw, raw_chunks) = crossbeam_channel::bounded(RAW_BUFFERS);
            let unread = Cancel::new();
            let raw_chunks = ReceivedChunks::new(raw_chunks, unread.clone());
            let reading = spawn(scope, "lxd-image-read", move || {
                let mut input = input;
                let mut pool = ChunkPool::new(RAW_BUFFERS, BUFFER_BYTES, unread);
                loop {
                    let next = match pool.fill(&mut input) {
                        Ok(Some(chunk)) => self.monitor.report(self.phase, *done, self.total).map(|()| chunk),
                        Ok(None) => return,
                        Err(error) => Err(error),
                    };
                    match next {
                        Ok(chunk) => {
                            // The next stage starts while this one hashes.
                            if raw.send(Ok(chunk.clone())).is_err() {
                                return;
                            }
                            observe(&chunk);
                            *done = done.saturating_add(chunk.len() as u64);
                        }
                        Err(error) => {
                            let _ = raw.send(Err(error));
                            return;
                        }
                    }
                }
            })?;
            let mut decoding = None;
            let mut chunks = if codec == Codec::None {
                raw_chunks
            } else {
                let (decoded, decoded_chunks) = crossbeam_channel::bounded(DECODED_BUFFERS);
                let unused = Cancel::new();
                let decoded_chunks = ReceivedChunks::new(decoded_chunks, unused.clone());
                decoding = Some(spawn(scope, "lxd-image-decode", move || {
                    let mut pool = ChunkPool::new(DECODED_BUFFERS, BUFFER_BYTES, unused);
                    let reader = ChunkReader::new(raw_chunks);
                    let cancel = self.monitor.cancel();
                    let mut decoder = match codec::decoder(codec, reader, self.limits, self.threads, cancel) {
                        Ok(decoder) => decoder,
                        Err(error) => {
                            let _ = decoded.send(Err(error));
                            return;
                        }
                    };
                    loop {
                        // A little of the input may decode to very much.
                        let next = match self.monitor.check().and_then(|()| pool.fill(&mut decoder)) {
                            Ok(Some(chunk)) => Ok(chunk),
                            Ok(None) => return,
                            Err(error) => Err(error),
                        };
                        let failed = next.is_err();
                        if decoded.send(next).is_err() || failed {
                            return;
                        }
                    }
                })?);
                decoded_chunks
            };
            let consumed = consume(&mut chunks).and_then(|value| match chunks.next_chunk()? {
                None => Ok(value),
                Some(_) => Err(Error::malformed("something follows the end of the data")),
            });
            // The order matters: a thread that still waits for room in a queue ends only once the
            // receiver is gone, so the joins below would never return if they came first.
            // Whoever still has something to send learns that nobody listens, and ends.
            drop(chunks);
            let decoded = decoding.is_none_or(|thread| thread.join().is_ok());
            let read = reading.join().is_ok();
            match consumed {
                Ok(_) if !decoded || !read => {
                    Err(Error::new(crate::ErrorKind::Io, "a reading thread ended unexpectedly"))
                }
                consumed => consumed,
            }
        })
    }
}

/// Starts a named thread of the scope. The name shows in `ps -L` and in panics.
fn spawn<'scope, T: Send + 'scope>(
    scope: &'scope thread::Scope<'scope, '_>,
    name: &str,
    work: impl FnOnce() -> T + Send + 'scope,
) -> Result<thread::ScopedJoinHandle<'scope, T>> {
    thread::Builder::new()
        .name(name.to_owned())
        .spawn_scoped(scope, work)
        .map_err(|error| Error::io("a thread can't be started", error))
}
