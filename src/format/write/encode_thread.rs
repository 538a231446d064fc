//! Compresses on a thread of its own, and hashes the compressed bytes on their way to the output.
//!
//! A call that is cancelled stops waiting for the thread at once. If the thread does not end soon
//! (zstd finishes the jobs that it has begun, a pipe may have no reader), it is left behind, but
//! its output is taken away from it: nothing is written after the call returned.

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, SendTimeoutError, Sender};

use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::Hasher;
use crate::format::codec::{self, Compression};
use crate::progress::{CANCEL_POLL, Cancel, Monitor};

/// A writer that hands bytes to the encoder's thread in large buffers.
pub(super) struct EncodeThread {
    buffer: Vec<u8>,
    /// Filled buffers to the thread; `None` once the stream was ended.
    filled: Option<Sender<Vec<u8>>>,
    /// Empty buffers back from the thread.
    empty: Receiver<Vec<u8>>,
    /// How the thread ended.
    ended: Receiver<Result<()>>,
    /// Hashes what arrives at the output.
    hasher: Arc<Mutex<Hasher>>,
    monitor: Monitor,
    /// Ends the thread.
    abandoned: Cancel,
    out: Box<dyn RevokeOutput>,
}

/// Bytes of a buffer between the threads.
const BUFFER: usize = 256 << 10;
/// Buffers between the threads.
const BUFFERS: usize = 8;

/// How long a thread that was told to end is waited for. Most end at once; zstd can take minutes.
const END_GRACE: Duration = Duration::from_millis(200);

impl EncodeThread {
    /// Compresses into `out`, until `monitor` is cancelled. What arrives there goes on in `hasher`.
    pub(super) fn start(
        out: impl Write + Send + 'static,
        compression: Compression,
        threads: usize,
        hasher: Hasher,
        monitor: &Monitor,
    ) -> Result<Self> {
        let hasher = Arc::new(Mutex::new(hasher));
        let (filled, queue) = crossbeam_channel::bounded::<Vec<u8>>(BUFFERS);
        let (done, empty) = crossbeam_channel::bounded::<Vec<u8>>(BUFFERS);
        let (end, ended) = crossbeam_channel::bounded(1);
        let (out, abandoned) = (RevocableOutput(Arc::new(Mutex::new(Some(out)))), Cancel::new());
        let hashed = HashingOutput { out: out.clone(), hasher: Arc::clone(&hasher), abandoned: abandoned.clone() };
        let mut encoder = codec::encoder(compression, hashed, threads, &abandoned)?;
        let stop = abandoned.clone();
        std::thread::Builder::new()
            .name("lxd-image-encode".to_owned())
            .spawn(move || {
                let mut encode = || {
                    for mut buffer in &queue {
                        stop.check()?;
                        // An empty buffer ends the stream; a queue that ends without one was abandoned.
                        if buffer.is_empty() {
                            return Ok(true);
                        }
                        encoder.write_all(&buffer).map_err(|error| Error::io("the output can't be written", error))?;
                        buffer.clear();
                        let _ = done.try_send(buffer);
                    }
                    Ok(false)
                };
                let encoded = encode().and_then(|whole| if whole { encoder.finish() } else { Err(Error::cancelled()) });
                let _ = end.send(encoded);
            })
            .map_err(|error| Error::io("a thread can't be started", error))?;
        Ok(Self {
            buffer: Vec::with_capacity(BUFFER),
            filled: Some(filled),
            empty,
            ended,
            hasher,
            monitor: monitor.clone(),
            abandoned,
            out: Box::new(out),
        })
    }

    /// Ends the stream, waits until all of it is written, and gives the hasher back.
    pub(super) fn finish(mut self) -> Result<Hasher> {
        if !self.buffer.is_empty() {
            self.send()?;
        }
        self.send()?;
        self.wait()?;
        let hasher = self.hasher.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Ok(hasher)
    }

    /// Hands the filled buffer over; an empty one ends the stream.
    fn send(&mut self) -> Result<()> {
        let next = self.empty.try_recv().unwrap_or_else(|_| Vec::with_capacity(BUFFER));
        let mut full = std::mem::replace(&mut self.buffer, next);
        while let Some(filled) = &self.filled {
            self.monitor.check()?;
            match filled.send_timeout(full, CANCEL_POLL) {
                Ok(()) => return Ok(()),
                Err(SendTimeoutError::Timeout(unsent)) => full = unsent,
                // The thread has ended before its time: it knows why.
                Err(SendTimeoutError::Disconnected(_)) => break,
            }
        }
        self.wait().and_then(|()| Err(Error::new(ErrorKind::Io, "the output's thread has ended")))
    }

    /// Waits for the thread's end.
    fn wait(&mut self) -> Result<()> {
        self.filled = None;
        loop {
            match self.ended.recv_timeout(CANCEL_POLL) {
                Ok(done) => return done,
                Err(RecvTimeoutError::Timeout) => self.monitor.check()?,
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Error::new(ErrorKind::Io, "the output's thread ended unexpectedly"));
                }
            }
        }
    }
}

impl Write for EncodeThread {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let count = bytes.len().min(BUFFER - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..count]);
        if self.buffer.len() == BUFFER {
            self.send()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Drop for EncodeThread {
    fn drop(&mut self) {
        // First the switch and then the queue: the thread must not take the end of the queue for
        // the end of the stream.
        self.abandoned.cancel();
        self.filled = None;
        let until = Instant::now() + END_GRACE;
        // Whatever it says, the output is not finished and nobody will see it.
        let _ = self.ended.recv_deadline(until);
        self.out.revoke(until);
    }
}

/// Takes the output away from a thread that is left behind: the file is closed, and nothing more is
/// written.
trait RevokeOutput: Send {
    fn revoke(&self, until: Instant);
}

/// An output that may be taken away by another thread.
struct RevocableOutput<W>(Arc<Mutex<Option<W>>>);

impl<W> Clone for RevocableOutput<W> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<W: Write + Send> RevokeOutput for RevocableOutput<W> {
    fn revoke(&self, until: Instant) {
        loop {
            match self.0.try_lock() {
                Ok(mut out) => return drop(out.take()),
                Err(TryLockError::Poisoned(out)) => return drop(out.into_inner().take()),
                // A write that waits, for a reader of a pipe perhaps. The thread sees that it is over when that ends.
                Err(TryLockError::WouldBlock) if Instant::now() >= until => return,
                Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }
}

/// Hashes what passes to the output.
struct HashingOutput<W> {
    out: RevocableOutput<W>,
    hasher: Arc<Mutex<Hasher>>,
    abandoned: Cancel,
}

impl<W: Write> HashingOutput<W> {
    fn with<T>(&self, use_it: impl FnOnce(&mut W) -> std::io::Result<T>) -> std::io::Result<T> {
        match self.out.0.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            Some(out) if !self.abandoned.is_cancelled() => use_it(out),
            _ => Err(Error::cancelled().into()),
        }
    }
}

impl<W: Write> Write for HashingOutput<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let count = self.with(|out| out.write(bytes))?;
        self.hasher.lock().unwrap_or_else(PoisonError::into_inner).update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.with(W::flush)
    }
}
