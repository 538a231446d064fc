//! `piped`: bytes that one thread writes and another one reads, as they come.
//!
//! A conversion writes to where it is told, and an import reads from where it is told; nothing between them is kept.
//! The reader's end comes only after the writing ended well. Dropping the reader cancels the writing and waits for it.

use std::io::{self, Read, Write};

use crossbeam_channel::{SendTimeoutError, Sender, bounded};

use crate::error::Result;
use crate::progress::{Cancel, Monitor};
use crate::remote::http::POLL_INTERVAL;
use crate::remote::thread_reader::{CHUNK_BYTES, MAX_CHUNKS, Message, ThreadReader};

/// Runs `write` on a thread of its own and returns a reader of what it writes. `stop` must end it; `monitor` cancels
/// the reader.
pub(super) fn piped(
    stop: Cancel,
    monitor: Monitor,
    write: impl FnOnce(PipeWriter) -> Result<()> + Send + 'static,
) -> impl Read + Send + 'static {
    let (full, chunks) = bounded(MAX_CHUNKS);
    let writer = PipeWriter { full: full.clone(), chunk: Vec::new(), stop: stop.clone() };
    let thread = std::thread::Builder::new().name("convert".into()).spawn(move || {
        let end = write(writer).map(|()| None);
        // Nobody reads any more; there is nobody to tell.
        let _ = full.send(end);
    });
    ThreadReader::new(thread, "a thread for the conversion can't be started", chunks, None, (stop, monitor))
}

/// The writing side. What is not flushed when it is dropped is lost.
pub(super) struct PipeWriter {
    /// Chunks in order, then the end or an error.
    full: Sender<Message>,
    chunk: Vec<u8>,
    stop: Cancel,
}

impl Write for PipeWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(CHUNK_BYTES - self.chunk.len());
        self.chunk.extend_from_slice(bytes.get(..count).unwrap_or_default());
        if self.chunk.len() == CHUNK_BYTES {
            self.flush()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.chunk.is_empty() {
            return Ok(());
        }
        let mut message = Ok(Some(std::mem::take(&mut self.chunk)));
        loop {
            match self.full.send_timeout(message, POLL_INTERVAL) {
                Ok(()) => return Ok(()),
                Err(SendTimeoutError::Disconnected(_)) => return Err(io::ErrorKind::BrokenPipe.into()),
                Err(SendTimeoutError::Timeout(again)) => {
                    self.stop.check()?;
                    message = again;
                }
            }
        }
    }
}

impl Drop for PipeWriter {
    fn drop(&mut self) {
        // A writer that is done need not flush by itself. If this fails, the reader misses the end as well.
        let _ = self.flush();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;
    use crate::error::{Error, ErrorKind};

    #[test]
    fn everything_that_is_written_is_read() {
        let bytes: Vec<u8> = (0..3_000_000_u32).map(|number| number.to_le_bytes()[0]).collect();
        let written = bytes.clone();
        let mut reader = piped(Cancel::new(), Monitor::none(), move |mut pipe| Ok(pipe.write_all(&written)?));
        let mut found = Vec::new();
        reader.read_to_end(&mut found).unwrap();
        assert_eq!(found, bytes);
    }

    #[test]
    fn error_of_the_writer_is_the_end() {
        let mut reader = piped(Cancel::new(), Monitor::none(), |mut pipe| {
            pipe.write_all(b"some")?;
            drop(pipe);
            Err(Error::malformed("broken"))
        });
        let mut found = Vec::new();
        let error = Error::from(reader.read_to_end(&mut found).unwrap_err());
        assert_eq!((error.kind(), &*found), (ErrorKind::Malformed, &b"some"[..]));
    }

    #[test]
    fn dropped_reader_ends_the_writer() {
        let reader = piped(Cancel::new(), Monitor::none(), |mut pipe| {
            loop {
                pipe.write_all(&[0; 4096])?;
            }
        });
        drop(reader);
    }
}
