//! Large buffers that pass from stage to stage as a whole, and the pool that bounds their number.
//!
//! A [`Chunk`] is shared, never copied: the hash, the parser and the writing threads look at the
//! same bytes. A buffer goes back to its pool when the last piece of it is dropped, on whichever
//! thread that happens. The pool hands out no more than its number of buffers, so memory has a
//! bound however fast or slow the stages are.

use std::io::Read;
use std::ops::Range;
use std::sync::Arc;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use crate::error::{Error, Result};
use crate::progress::{CANCEL_POLL, Cancel};

/// A piece of a pooled buffer. Clones share the buffer; the last one gives it back.
#[derive(Clone)]
pub(crate) struct Chunk {
    buffer: Arc<PooledBuffer>,
    range: Range<usize>,
}

impl Chunk {
    /// Bytes that belong to no pool.
    pub(crate) fn from_bytes(bytes: Vec<u8>) -> Self {
        let range = 0..bytes.len();
        Self { buffer: Arc::new(PooledBuffer { bytes, home: None }), range }
    }

    /// A part of this chunk. The range is relative to it, and cut to what is there.
    pub(crate) fn slice(&self, range: Range<usize>) -> Self {
        let start = self.range.start.saturating_add(range.start).min(self.range.end);
        let end = self.range.start.saturating_add(range.end).clamp(start, self.range.end);
        Self { buffer: Arc::clone(&self.buffer), range: start..end }
    }

    /// Takes the first `count` bytes off and returns them.
    pub(crate) fn split_to(&mut self, count: usize) -> Self {
        let head = self.slice(0..count);
        self.range.start = head.range.end;
        head
    }
}

impl std::ops::Deref for Chunk {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.buffer.bytes.get(self.range.clone()).unwrap_or_default()
    }
}

/// A buffer and the pool that it returns to when dropped; none for bytes that were allocated for
/// this chunk.
struct PooledBuffer {
    bytes: Vec<u8>,
    /// Where the buffer goes when it is dropped.
    home: Option<Sender<Vec<u8>>>,
}

impl Drop for PooledBuffer {
    fn drop(&mut self) {
        if let Some(home) = &self.home {
            // The pool itself may be gone; then the buffer just ends here.
            let _ = home.try_send(std::mem::take(&mut self.bytes));
        }
    }
}

/// A fixed number of buffers of one size. Taking one more waits until one comes back.
pub(crate) struct ChunkPool {
    /// Buffers that came back.
    free: Receiver<Vec<u8>>,
    /// Given to each buffer, so that it finds its way back.
    home: Sender<Vec<u8>>,
    /// Bytes of each buffer.
    size: usize,
    /// Buffers that may still be allocated.
    unallocated: usize,
    /// Switched on when nobody takes chunks any more. Those that wait in a queue keep their buffers
    /// as long as the queue has a sender, so that no buffer may ever come back then.
    abandoned: Cancel,
    /// What went wrong behind the bytes of the last chunk.
    failed: Option<Error>,
}

impl ChunkPool {
    /// A pool of `count` buffers of `size` bytes, allocated when they are first needed. `abandoned`
    /// ends a wait for a buffer.
    pub(crate) fn new(count: usize, size: usize, abandoned: Cancel) -> Self {
        let (home, free) = crossbeam_channel::bounded(count);
        Self { free, home, size, unallocated: count, abandoned, failed: None }
    }

    /// An empty buffer, when one is free.
    ///
    /// # Errors
    /// `Cancelled` once the receiving side is gone.
    fn take(&mut self) -> Result<Vec<u8>> {
        if let Ok(buffer) = self.free.try_recv() {
            return Ok(buffer);
        }
        if self.unallocated > 0 {
            self.unallocated -= 1;
            return Ok(vec![0; self.size]);
        }
        loop {
            match self.free.recv_timeout(CANCEL_POLL) {
                Ok(buffer) => return Ok(buffer),
                Err(RecvTimeoutError::Timeout) => self.abandoned.check()?,
                Err(RecvTimeoutError::Disconnected) => return Err(Error::cancelled()),
            }
        }
    }

    /// Fills one buffer from `reader`, as far as the reader goes. `None` at its end. Bytes before an
    /// error come first, so that what can be read does not depend on where buffers end.
    pub(crate) fn fill(&mut self, reader: &mut impl Read) -> Result<Option<Chunk>> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        let mut bytes = self.take()?;
        bytes.resize(self.size, 0);
        let mut filled = 0;
        while filled < bytes.len() {
            match reader.read(&mut bytes[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => {
                    let error = Error::io("the image can't be read", error);
                    if filled > 0 {
                        self.failed = Some(error);
                        break;
                    }
                    let _ = self.home.try_send(bytes);
                    return Err(error);
                }
            }
        }
        if filled == 0 {
            let _ = self.home.try_send(bytes);
            return Ok(None);
        }
        let buffer = Arc::new(PooledBuffer { bytes, home: Some(self.home.clone()) });
        Ok(Some(Chunk { buffer, range: 0..filled }))
    }
}

/// A stream of bytes in chunks.
pub(crate) trait Chunks {
    /// The next bytes, never empty; `None` at the end of the stream, which is then known to be whole.
    fn next_chunk(&mut self) -> Result<Option<Chunk>>;
}

/// Chunks of any reader, read on the caller's own thread: for a look at the first members of an
/// archive.
pub(crate) struct ReadChunks<R> {
    reader: R,
    pool: ChunkPool,
}

impl<R: Read> ReadChunks<R> {
    /// Small buffers: whoever reads this way wants to see little of the stream.
    pub(crate) fn new(reader: R) -> Self {
        Self { reader, pool: ChunkPool::new(8, 64 << 10, Cancel::new()) }
    }
}

impl<R: Read> Chunks for ReadChunks<R> {
    fn next_chunk(&mut self) -> Result<Option<Chunk>> {
        self.pool.fill(&mut self.reader)
    }
}

/// Chunks from another thread. Dropping it tells that thread's pool to stop waiting. An error ends
/// the stream.
pub(crate) struct ReceivedChunks {
    chunks: Receiver<Result<Chunk>>,
    /// Set when this is dropped, to stop the sender's pool from waiting.
    abandoned: Cancel,
}

impl ReceivedChunks {
    /// Takes the chunks that come over `chunks` from a pool with the switch `abandoned`.
    pub(crate) fn new(chunks: Receiver<Result<Chunk>>, abandoned: Cancel) -> Self {
        Self { chunks, abandoned }
    }
}

impl Drop for ReceivedChunks {
    fn drop(&mut self) {
        self.abandoned.cancel();
    }
}

impl Chunks for ReceivedChunks {
    fn next_chunk(&mut self) -> Result<Option<Chunk>> {
        match self.chunks.recv() {
            Ok(Ok(chunk)) => Ok(Some(chunk)),
            Ok(Err(error)) => Err(error),
            Err(_) => Ok(None),
        }
    }
}

/// A [`Read`] over chunks, for decoders, which want bytes.
pub(crate) struct ChunkReader<C> {
    chunks: C,
    /// The chunk whose bytes are being returned.
    current: Option<Chunk>,
}

impl<C: Chunks> ChunkReader<C> {
    pub(crate) fn new(chunks: C) -> Self {
        Self { chunks, current: None }
    }
}

impl<C: Chunks> Read for ChunkReader<C> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        loop {
            if let Some(chunk) = &mut self.current
                && !chunk.is_empty()
            {
                let head = chunk.split_to(buffer.len());
                buffer[..head.len()].copy_from_slice(&head);
                return Ok(head.len());
            }
            self.current = self.chunks.next_chunk()?;
            if self.current.is_none() {
                return Ok(0);
            }
        }
    }
}
