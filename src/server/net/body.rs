//! Bodies between the handler, which reads and is read on threads that may block, and the network,
//! whose tasks must not block.
//!
//! - [`Arriving`]: the body of a request. A read on a request thread waits for the client's next
//!   bytes.
//! - [`Departing`]: the body of a response. While the network sends one chunk, a reader thread
//!   fills the next one, so that disk and network work at the same time. At most two chunks are in
//!   memory for each response, however slow its client is.
//!
//! Both mark the times when they wait for the client, by which `idle` finds clients that are stuck.

use std::future::poll_fn;
use std::io::{self, Read};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::runtime::Handle;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::timeout;

use super::access_log::Entry;
use super::buffers::Buffers;
use super::idle::{ActiveRequest, ClientWait, IdleMonitor};
use crate::server::message::Pieces;

/// The body of a request, read by a thread that may block.
///
/// If it is dropped before its end, because a request was refused, the rest is read and discarded
/// for a short time. A connection that is closed while its client still sends is reset, and the
/// client loses the response that explains the refusal (RFC 9112, section 9.6).
pub(super) struct Arriving {
    /// `None` when it was read to its end, or broke.
    incoming: Option<Incoming>,
    /// The runtime that receives the bytes. The reading thread waits on it.
    runtime: Handle,
    monitor: Arc<IdleMonitor>,
    /// Bytes that were received and not read yet.
    rest: Bytes,
}

impl Arriving {
    /// The body of a request. Called on a thread of the runtime.
    pub(super) fn new(incoming: Incoming, monitor: Arc<IdleMonitor>) -> Self {
        Self { incoming: Some(incoming), runtime: Handle::current(), monitor, rest: Bytes::new() }
    }
}

impl Read for Arriving {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            let Some(incoming) = &mut self.incoming else { return Ok(0) };
            // Marked only around the wait, so that the time in which the handler works does not
            // count.
            let waiting = self.monitor.wait_for_client();
            // Allowed here: this is a thread of the blocking pool and not one that runs tasks.
            let frame = self.runtime.block_on(poll_fn(|cx| Pin::new(&mut *incoming).poll_frame(cx)));
            drop(waiting);
            match frame {
                None => {
                    self.incoming = None;
                    return Ok(0);
                }
                Some(Err(error)) => return Err(io::Error::new(io::ErrorKind::ConnectionReset, error)),
                // A frame without data is a trailer, which no handler reads.
                Some(Ok(frame)) => self.rest = frame.into_data().unwrap_or_default(),
            }
        }
        let count = self.rest.len().min(buffer.len());
        self.rest.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}

/// The bytes that are still received of a body without a reader, and how long its connection stays open for
/// that. A connection that is closed while its client still sends is reset, and the answer with it.
///
/// Enough for an upload that is refused by its headers to notice the response.
const LINGER_BYTES: u64 = 16 << 20;
/// How long the connection of a refused upload stays open for that.
const LINGER_TIME: Duration = Duration::from_secs(3);

impl Drop for Arriving {
    fn drop(&mut self) {
        let Some(incoming) = self.incoming.take().filter(|incoming| !incoming.is_end_stream()) else { return };
        // Most clients read the answer meanwhile, and stop.
        self.runtime.spawn(async move { drop(timeout(LINGER_TIME, pass_over(incoming)).await) });
    }
}

/// Reads what is left, within a bound; then only waits, so that the client has its answer before the connection ends.
async fn pass_over(mut incoming: Incoming) {
    let mut passed = 0_u64;
    while passed < LINGER_BYTES {
        match poll_fn(|cx| Pin::new(&mut incoming).poll_frame(cx)).await {
            Some(Ok(frame)) => passed = passed.saturating_add(frame.data_ref().map_or(0, |data| data.len() as u64)),
            None | Some(Err(_)) => return,
        }
    }
    std::future::pending::<()>().await;
}

/// The body of a response while it is sent. Its log line is written when it is dropped, with the
/// bytes that were sent by then.
pub(super) struct Departing {
    /// The next chunk: read, being read, or none.
    state: State,
    /// The bytes that are still to be sent: the announced length, less what was sent. `None` for a body
    /// without an announced length, which is generated while it is sent.
    left: Option<u64>,
    /// Set while a chunk is with the network and the client has to take it.
    waiting: Option<ClientWait>,
    /// Where chunks get their memory.
    buffers: Buffers,
    /// Counts the request until the body has ended.
    going: ActiveRequest,
    /// The log line of the request.
    entry: Entry,
}

/// What comes next.
enum State {
    /// Read, and not taken yet; what comes after it is not being read.
    Ready(Bytes, Pieces),
    /// The next chunk is being read on a thread.
    Reading(JoinHandle<(io::Result<Bytes>, Pieces)>),
    /// Everything was sent, or reading failed.
    Over,
}

impl Departing {
    /// Sends `first`, which was read from `pieces`, and then the rest of them: `length` bytes in all, where that is
    /// known.
    pub(super) fn new(
        (first, pieces): (Bytes, Pieces),
        length: Option<u64>,
        buffers: Buffers,
        going: ActiveRequest,
        entry: Entry,
    ) -> Self {
        let state = if length == Some(0) { State::Over } else { State::Ready(first, pieces) };
        Self { state, left: length, waiting: None, buffers, going, entry }
    }

    /// Passes on a chunk that was read, and begins to read the next one. A body that turns out
    /// longer or shorter than its announced length is an error: the client must not take it for
    /// complete.
    fn take(&mut self, chunk: Bytes, pieces: Pieces) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let count = chunk.len() as u64;
        match &mut self.left {
            // The end of a body without a length.
            None if count == 0 => return Poll::Ready(None),
            None => {}
            Some(left) if count == 0 || count > *left => {
                let sentence = "a body has another length than it said";
                return self.fail(io::Error::new(io::ErrorKind::UnexpectedEof, sentence));
            }
            Some(left) => *left -= count,
        }
        self.entry.sent(count);
        let buffers = self.buffers.clone();
        // Nothing is read ahead after the last byte: the check of a file has run by then.
        self.state = if self.left == Some(0) {
            State::Over
        } else {
            State::Reading(spawn_blocking(move || read(pieces, &buffers)))
        };
        // Until it is asked for the next one, it is the client who must read.
        self.waiting = Some(self.going.wait_for_client());
        Poll::Ready(Some(Ok(Frame::data(chunk))))
    }

    /// Ends the body with an error. The connection is cut, which is how a client sees it.
    fn fail(&mut self, error: io::Error) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.state = State::Over;
        self.entry.broke();
        Poll::Ready(Some(Err(error)))
    }
}

/// The next chunk. Everything that was read is checked before any of it is given out.
///
/// Fills a whole buffer if it can: many small pieces become one write. An error discards the chunk,
/// so that bytes of a file that failed its check are not sent.
pub(super) fn read(mut pieces: Pieces, buffers: &Buffers) -> (io::Result<Bytes>, Pieces) {
    let mut chunk = buffers.take(pieces.left());
    let room = chunk.room();
    let mut filled = 0;
    while filled < room.len() {
        match pieces.read(&mut room[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) => return (Err(error), pieces),
        }
    }
    (Ok(chunk.filled(filled)), pieces)
}

impl http_body::Body for Departing {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = self.get_mut();
        // The network asks for the next chunk, so the client took the one before.
        this.waiting = None;
        match std::mem::replace(&mut this.state, State::Over) {
            State::Over => Poll::Ready(None),
            State::Ready(chunk, pieces) => this.take(chunk, pieces),
            State::Reading(mut reading) => match Pin::new(&mut reading).poll(cx) {
                Poll::Pending => {
                    this.state = State::Reading(reading);
                    Poll::Pending
                }
                Poll::Ready(Ok((Ok(chunk), pieces))) => this.take(chunk, pieces),
                Poll::Ready(Ok((Err(error), _))) => this.fail(error),
                // Reading panicked, or the server stops.
                Poll::Ready(Err(error)) => this.fail(io::Error::other(error)),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        // A body without a length ends with its last chunk; a body that failed has no regular end.
        matches!(self.state, State::Over) && self.left == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
