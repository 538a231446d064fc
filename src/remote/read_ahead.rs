//! `read_ahead`: a reader that another thread fills, so that network, hash and disk work at the same time.
//!
//! Two bounded channels connect them: full chunks go to the reader, used ones come back to be filled again. So memory is bounded
//! by [`CHUNK_BYTES`] × ([`MAX_CHUNKS`] + 2) and no chunk is allocated twice. Dropping the reader cancels the read that the
//! thread waits in, closes the channel, and joins the thread.

use std::io::{self, Read};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use crate::error::{Error, Result};
use crate::progress::{Cancel, Monitor};

/// Bytes in a chunk.
pub(super) const CHUNK_BYTES: usize = 256 << 10;
/// How many full chunks may wait for the reader: 2 MiB for each download.
const MAX_CHUNKS: usize = 8;
/// How often a waiting reader checks for cancellation.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Reads `from` ahead on a thread of its own. `stop` must end a read of `from` that waits; it is cancelled when the result is
/// dropped. `monitor` cancels the reader of the result.
///
/// If no thread can be started, the first read returns that error.
pub(super) fn read_ahead(
    from: impl Read + Send + 'static,
    stop: Cancel,
    monitor: Monitor,
) -> impl Read + Send + 'static {
    let (full, filled) = bounded(MAX_CHUNKS);
    let (used, empty) = bounded(MAX_CHUNKS + 1);
    let thread = std::thread::Builder::new().name("download".into()).spawn(move || fetch_ahead(from, &full, &empty));
    let (thread, failed) = match thread {
        Ok(thread) => (Some(thread), None),
        Err(error) => (None, Some(Error::io("a thread for the download can't be started", error))),
    };
    ReadAhead { filled: Some(filled), used, chunk: Vec::new(), at: 0, failed, stop, monitor, thread }
}

/// The thread: fills chunks until the end, an error, or a reader that is gone. A chunk that is not full is the last one.
fn fetch_ahead(mut from: impl Read, full: &Sender<Result<Vec<u8>>>, empty: &Receiver<Vec<u8>>) {
    loop {
        let mut chunk = empty.try_recv().unwrap_or_default();
        chunk.resize(CHUNK_BYTES, 0);
        let mut filled = 0;
        let done = loop {
            match from.read(chunk.get_mut(filled..).unwrap_or_default()) {
                Ok(0) => break Ok(()),
                Ok(count) => filled += count,
                Err(error) => break Err(Error::from(error)),
            }
        };
        let last = filled < CHUNK_BYTES || done.is_err();
        chunk.truncate(filled);
        // The reader was dropped, so that there is nobody to report to.
        if full.send(Ok(chunk)).is_err() {
            return;
        }
        if let Err(error) = done {
            let _ = full.send(Err(error));
        }
        if last {
            return;
        }
    }
}

/// The reading side.
struct ReadAhead {
    /// Full chunks, in order; `None` after the last one.
    filled: Option<Receiver<Result<Vec<u8>>>>,
    /// Chunks to be filled again.
    used: Sender<Vec<u8>>,
    /// The chunk that is being read, and how far.
    chunk: Vec<u8>,
    at: usize,
    /// That the thread could not be started.
    failed: Option<Error>,
    stop: Cancel,
    monitor: Monitor,
    thread: Option<JoinHandle<()>>,
}

impl Read for ReadAhead {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.chunk.len() {
            if let Some(error) = self.failed.take() {
                return Err(error.into());
            }
            let Some(filled) = &self.filled else { return Ok(0) };
            match filled.recv_timeout(POLL_INTERVAL) {
                Ok(Ok(chunk)) => {
                    let used = std::mem::replace(&mut self.chunk, chunk);
                    self.at = 0;
                    let _ = self.used.try_send(used);
                }
                Ok(Err(error)) => return Err(error.into()),
                Err(RecvTimeoutError::Timeout) => self.monitor.check()?,
                Err(RecvTimeoutError::Disconnected) => self.filled = None,
            }
        }
        let rest = self.chunk.get(self.at..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        self.at += count;
        Ok(count)
    }
}

impl Drop for ReadAhead {
    fn drop(&mut self) {
        // In this order: the thread may be in a read that only `stop` ends, or in a send that only a closed channel ends.
        self.stop.cancel();
        self.filled = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
