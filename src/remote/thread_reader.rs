//! [`ThreadReader`]: the reading side of a thread that hands over bytes in chunks.

use std::io::{self, Read};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use super::http::POLL_INTERVAL;
use crate::error::{Error, Result};
use crate::progress::{Cancel, Monitor};

/// Bytes that are handed over at once.
pub(super) const CHUNK_BYTES: usize = 256 << 10;
/// How many full chunks may wait for the reader: 2 MiB.
pub(super) const MAX_CHUNKS: usize = 8;

/// What the thread sends: chunks in order, then the end (`None`) or an error. Without either, the thread panicked.
pub(super) type Message = Result<Option<Vec<u8>>>;

/// Reads what a thread sends. Dropping it cancels the thread and waits for its end.
pub(super) struct ThreadReader {
    /// `None` after the end or an error.
    chunks: Option<Receiver<Message>>,
    /// Where chunks go that the thread may fill again.
    used: Option<Sender<Vec<u8>>>,
    /// The chunk that is being read, and how far.
    chunk: Vec<u8>,
    at: usize,
    /// That the thread could not be started.
    failed: Option<Error>,
    stop: Cancel,
    monitor: Monitor,
    thread: Option<JoinHandle<()>>,
}

impl ThreadReader {
    /// Reads `chunks` of a thread that was just started, or could not be: then the first read returns `error` with the
    /// reason. `stop` must end whatever the thread waits in; `monitor` cancels the reader.
    pub(super) fn new(
        thread: io::Result<JoinHandle<()>>,
        error: &'static str,
        chunks: Receiver<Message>,
        used: Option<Sender<Vec<u8>>>,
        (stop, monitor): (Cancel, Monitor),
    ) -> Self {
        let (thread, failed) = match thread {
            Ok(thread) => (Some(thread), None),
            Err(reason) => (None, Some(Error::io(error, reason))),
        };
        Self { chunks: Some(chunks), used, chunk: Vec::new(), at: 0, failed, stop, monitor, thread }
    }
}

impl Read for ThreadReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.chunk.len() {
            if let Some(error) = self.failed.take() {
                return Err(error.into());
            }
            let Some(chunks) = &self.chunks else { return Ok(0) };
            match chunks.recv_timeout(POLL_INTERVAL) {
                Ok(Ok(Some(chunk))) => {
                    let read = std::mem::replace(&mut self.chunk, chunk);
                    self.at = 0;
                    if let Some(used) = &self.used {
                        // A thread that has all it needs takes no more.
                        let _ = used.try_send(read);
                    }
                }
                Ok(Ok(None)) => self.chunks = None,
                Ok(Err(error)) => {
                    self.chunks = None;
                    return Err(error.into());
                }
                Err(RecvTimeoutError::Timeout) => self.monitor.check()?,
                // The thread panicked: what came is not all.
                Err(RecvTimeoutError::Disconnected) => return Err(io::ErrorKind::BrokenPipe.into()),
            }
        }
        let rest = self.chunk.get(self.at..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        self.at += count;
        Ok(count)
    }
}

impl Drop for ThreadReader {
    fn drop(&mut self) {
        // In this order: the thread may be in a read that only `stop` ends, or in a send that only a closed channel ends.
        self.stop.cancel();
        self.chunks = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
