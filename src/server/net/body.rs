//! Bodies between the handler, which reads and is read on threads, and the network, which waits for nobody. In: each
//! read waits for the client. Out: one chunk is sent while the next one is read, so that memory stays as it is.

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
pub(super) struct Arriving {
    /// `None` when it was read to its end, or broke.
    incoming: Option<Incoming>,
    runtime: Handle,
    monitor: Arc<IdleMonitor>,
    rest: Bytes,
}

impl Arriving {
    pub(super) fn new(incoming: Incoming, monitor: Arc<IdleMonitor>) -> Self {
        Self { incoming: Some(incoming), runtime: Handle::current(), monitor, rest: Bytes::new() }
    }
}

impl Read for Arriving {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            let Some(incoming) = &mut self.incoming else { return Ok(0) };
            let waiting = self.monitor.wait_for_client();
            let frame = self.runtime.block_on(poll_fn(|cx| Pin::new(&mut *incoming).poll_frame(cx)));
            drop(waiting);
            match frame {
                None => {
                    self.incoming = None;
                    return Ok(0);
                }
                Some(Err(error)) => return Err(io::Error::new(io::ErrorKind::ConnectionReset, error)),
                // What is no data is a trailer, which nobody asked for.
                Some(Ok(frame)) => self.rest = frame.into_data().unwrap_or_default(),
            }
        }
        let count = self.rest.len().min(buffer.len());
        self.rest.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}

/// How much of a body that nobody reads any more is taken off the wire, and how long its connection stays open for
/// that. A connection that is closed while its client still sends is reset, and the answer with it.
const LINGER_BYTES: u64 = 16 << 20;
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

/// The body of a response while it is sent.
pub(super) struct Departing {
    state: State,
    /// What is not sent yet: what the client was promised, less what it got. `None` where nothing was promised, for the
    /// body is made while it is sent.
    left: Option<u64>,
    waiting: Option<ClientWait>,
    buffers: Buffers,
    going: ActiveRequest,
    entry: Entry,
}

enum State {
    /// Read, and not taken yet; what comes after it is not being read.
    Ready(Bytes, Pieces),
    Reading(JoinHandle<(io::Result<Bytes>, Pieces)>),
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

    fn take(&mut self, chunk: Bytes, pieces: Pieces) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let count = chunk.len() as u64;
        match &mut self.left {
            // The end of a body that told no length.
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
        self.state = if self.left == Some(0) {
            State::Over
        } else {
            State::Reading(spawn_blocking(move || read(pieces, &buffers)))
        };
        // Until it is asked for the next one, it is the client who must read.
        self.waiting = Some(self.going.wait_for_client());
        Poll::Ready(Some(Ok(Frame::data(chunk))))
    }

    fn fail(&mut self, error: io::Error) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.state = State::Over;
        self.entry.broke();
        Poll::Ready(Some(Err(error)))
    }
}

/// The next chunk. Everything that was read is checked before any of it is given out.
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
        // A body that told no length ends with its last chunk, and one that broke has none.
        matches!(self.state, State::Over) && self.left == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
