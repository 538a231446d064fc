//! A stream with an observer that sees its bytes go by: to count them (`idle`), or to read along
//! (`framing`). The bytes are not changed, delayed or copied.
//!
//! An observer runs on the runtime's threads for every read and write, so it must be fast and must
//! not block.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Receives the bytes that a stream reads, and the number of those that it writes.
///
/// Called after the stream has succeeded, with what was really transferred.
pub(super) trait Observer {
    /// Bytes were read.
    fn on_read(&mut self, bytes: &[u8]);

    /// `count` bytes were written.
    fn on_write(&mut self, _count: usize) {}
}

/// A stream with its observer.
#[derive(Debug)]
pub(super) struct Observed<S, O> {
    /// The stream.
    inner: S,
    /// Sees the bytes.
    observer: O,
}

impl<S, O: Observer> Observed<S, O> {
    /// `inner` with an observer.
    pub(super) fn new(inner: S, observer: O) -> Self {
        Self { inner, observer }
    }

    /// Reports a write that succeeded. A write that failed or is pending has transferred nothing.
    fn wrote(&mut self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(count)) = &written {
            self.observer.on_write(*count);
        }
        written
    }
}

impl<S: AsyncRead + Unpin, O: Observer + Unpin> AsyncRead for Observed<S, O> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let polled = Pin::new(&mut this.inner).poll_read(cx, buffer);
        this.observer.on_read(&buffer.filled()[before..]);
        polled
    }
}

impl<S: AsyncWrite + Unpin, O: Observer + Unpin> AsyncWrite for Observed<S, O> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.inner).poll_write(cx, buffer);
        this.wrote(written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.inner).poll_write_vectored(cx, buffers);
        this.wrote(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}
