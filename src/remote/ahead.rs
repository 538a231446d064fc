//! Reading ahead: a thread of its own fetches what will be read next, so that the network, the hash and the disk work at once.
//! What waits is bounded, and the thread ends when nobody reads any more.

use std::io::{self, Read};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use crate::error::{Error, Result};
use crate::progress::{Cancel, Monitor};

/// Bytes that are handed over at once, and how many such pieces may wait: 2 MiB for each download.
pub(super) const PIECE: usize = 256 << 10;
const PIECES: usize = 8;
/// How often a reader that waits looks whether it was cancelled.
const LOOK: Duration = Duration::from_millis(100);

/// Reads `from` ahead. `stop` is what ends a read of it that waits: thrown when the result is
/// dropped. Whoever reads the result is stopped by `monitor`.
pub(super) fn read_ahead(from: impl Read + Send + 'static, stop: Cancel, monitor: Monitor) -> impl Read + Send {
    let (full, filled) = bounded(PIECES);
    let (used, empty) = bounded(PIECES + 1);
    let thread = std::thread::Builder::new().name("download".into()).spawn(move || fetch_ahead(from, &full, &empty));
    let (thread, failed) = match thread {
        Ok(thread) => (Some(thread), None),
        Err(error) => (None, Some(Error::io("a thread for the download can't be started", error))),
    };
    Ahead { filled: Some(filled), used, piece: Vec::new(), at: 0, failed, stop, monitor, thread }
}

/// Fetches as far ahead as there are pieces.
fn fetch_ahead(mut from: impl Read, full: &Sender<Result<Vec<u8>>>, empty: &Receiver<Vec<u8>>) {
    loop {
        let mut piece = empty.try_recv().unwrap_or_default();
        piece.resize(PIECE, 0);
        let mut filled = 0;
        let done = loop {
            match from.read(piece.get_mut(filled..).unwrap_or_default()) {
                Ok(0) => break Ok(()),
                Ok(count) => filled += count,
                Err(error) => break Err(Error::from(error)),
            }
        };
        let last = filled < PIECE || done.is_err();
        piece.truncate(filled);
        // Nobody reads any more: nobody wants to know.
        if full.send(Ok(piece)).is_err() {
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

/// What a thread fetches, as a reader.
struct Ahead {
    filled: Option<Receiver<Result<Vec<u8>>>>,
    used: Sender<Vec<u8>>,
    piece: Vec<u8>,
    at: usize,
    failed: Option<Error>,
    stop: Cancel,
    monitor: Monitor,
    thread: Option<JoinHandle<()>>,
}

impl Read for Ahead {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.piece.len() {
            if let Some(error) = self.failed.take() {
                return Err(error.into());
            }
            let Some(filled) = &self.filled else { return Ok(0) };
            match filled.recv_timeout(LOOK) {
                Ok(Ok(piece)) => {
                    let used = std::mem::replace(&mut self.piece, piece);
                    self.at = 0;
                    let _ = self.used.try_send(used);
                }
                Ok(Err(error)) => return Err(error.into()),
                Err(RecvTimeoutError::Timeout) => self.monitor.check()?,
                Err(RecvTimeoutError::Disconnected) => self.filled = None,
            }
        }
        let rest = self.piece.get(self.at..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        self.at += count;
        Ok(count)
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.stop.cancel();
        self.filled = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
