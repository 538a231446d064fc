//! Streams that may be silent for ever: a wait for their bytes ends when the call is cancelled.
//!
//! There is no portable way to interrupt a `read`, so there are three ways to read. A descriptor is
//! polled first with a timeout. Any other reader is read on a thread of its own, which is left
//! behind with the reader if it never returns. A reader that must not outlive the call is read
//! directly and has to end its own waits.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::error::Error;
use crate::progress::{CANCEL_POLL, Cancel};

/// The switches that end a wait: that of the input and that of the call that reads it. Any of them
/// is enough.
#[derive(Debug, Clone, Default)]
pub(super) struct CancelSet(Vec<Cancel>);

impl CancelSet {
    /// The set of these switches.
    pub(super) fn of<'a>(switches: impl IntoIterator<Item = &'a Cancel>) -> Self {
        Self(switches.into_iter().cloned().collect())
    }

    /// Fails with `Cancelled` once one of the switches is set.
    pub(super) fn check(&self) -> io::Result<()> {
        Ok(self.0.iter().try_for_each(Cancel::check)?)
    }
}

/// A stream of bytes, by the way in which a wait for them is ended.
pub(super) enum CancellableStream {
    /// A pipe, a socket or a device.
    Descriptor(File),
    /// A reader of the caller's, on a thread that is left behind with it when it never answers.
    Detached(ReaderThread),
    /// A reader that ends its own waits, or that must not outlive the call.
    Attached(Box<dyn Read + Send>),
}

impl CancellableStream {
    /// Reads as [`Read::read`] does; fails with `Cancelled` soon after one of the switches was set.
    pub(super) fn read(&mut self, buffer: &mut [u8], cancels: &CancelSet) -> io::Result<usize> {
        cancels.check()?;
        match self {
            Self::Descriptor(file) => loop {
                wait_for_input(&*file, cancels)?;
                match file.read(buffer) {
                    // Opened so that opening does not wait, and somebody else was faster.
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    done => return done,
                }
            },
            Self::Detached(pump) => pump.read(buffer, cancels),
            Self::Attached(reader) => reader.read(buffer),
        }
    }
}

/// Waits until a read would return at once. A FIFO that no process has opened for writing yet is
/// waited for, too.
fn wait_for_input(fd: impl AsFd, cancels: &CancelSet) -> io::Result<()> {
    let timeout = Timespec::try_from(CANCEL_POLL).unwrap_or_default();
    loop {
        cancels.check()?;
        match poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&timeout)) {
            Ok(0) | Err(Errno::INTR) => {}
            // The end and errors are for the read to tell.
            Ok(_) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Empty pieces on their way to the reading thread, and filled ones on their way back.
type Channels = (Sender<Vec<u8>>, Receiver<io::Result<Vec<u8>>>);

/// A reader on a thread of its own. The thread reads only when asked, exactly what it is asked for,
/// so that nothing is taken from a stream that the caller does not want.
pub(super) struct ReaderThread {
    /// The reader until its thread is started.
    reader: Option<Box<dyn Read + Send>>,
    /// The channels to and from the thread.
    thread: Option<Channels>,
    /// Whether the thread still owes an answer.
    asked: bool,
    /// The last answer.
    given: Vec<u8>,
    /// How many bytes of the answer were returned.
    at: usize,
}

/// Bytes that are asked for at once at most.
const MAX_REQUEST_BYTES: usize = 256 << 10;

impl ReaderThread {
    /// A reader whose thread starts with the first read.
    pub(super) fn new(reader: impl Read + Send + 'static) -> Self {
        Self { reader: Some(Box::new(reader)), thread: None, asked: false, given: Vec::new(), at: 0 }
    }

    fn read(&mut self, buffer: &mut [u8], cancels: &CancelSet) -> io::Result<usize> {
        if self.at == self.given.len() {
            let mut piece = std::mem::take(&mut self.given);
            self.at = 0;
            // Started with the first read, since many inputs are opened and never read.
            if let Some(reader) = self.reader.take() {
                self.thread = Some(start(reader)?);
            }
            let Some((requests, answers)) = &self.thread else { return Err(ended()) };
            if !self.asked {
                piece.resize(buffer.len().min(MAX_REQUEST_BYTES), 0);
                requests.send(piece).map_err(|_| ended())?;
                self.asked = true;
            }
            loop {
                match answers.recv_timeout(CANCEL_POLL) {
                    Ok(answer) => {
                        self.asked = false;
                        self.given = answer?;
                        break;
                    }
                    Err(RecvTimeoutError::Timeout) => cancels.check()?,
                    Err(RecvTimeoutError::Disconnected) => return Err(ended()),
                }
            }
        }
        let rest = self.given.get(self.at..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        self.at += count;
        Ok(count)
    }
}

/// Starts the thread. It ends when the sender of requests is dropped, or after the read it is in.
fn start(mut reader: Box<dyn Read + Send>) -> io::Result<Channels> {
    let (requests, asked) = bounded::<Vec<u8>>(1);
    let (given, answers) = bounded(1);
    std::thread::Builder::new().name("lxd-image-wait".to_owned()).spawn(move || {
        for mut piece in asked {
            let read = reader.read(&mut piece).map(|count| {
                piece.truncate(count);
                piece
            });
            // Whoever asked has gone.
            if given.send(read).is_err() {
                return;
            }
        }
    })?;
    Ok((requests, answers))
}

/// The error for a thread that panicked.
fn ended() -> io::Error {
    Error::new(crate::ErrorKind::Io, "the thread that reads the stream ended unexpectedly").into()
}

/// A reader that checks for cancellation before every read: for decoders, which may produce
/// gigabytes from a few bytes.
pub(super) struct CancelReader<R> {
    pub(super) reader: R,
    pub(super) cancel: Cancel,
}

impl<R: Read> Read for CancelReader<R> {
    /// Returns bytes of the last answer, or asks the thread for more and waits for them. After a
    /// cancelled wait the answer stays owed, and the next read takes it.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.cancel.check()?;
        self.reader.read(buffer)
    }
}
