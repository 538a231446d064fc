//! [`Encoder`]: what all codecs write with.

use std::io::Write;

use crate::error::Result;

/// A writer of compressed bytes, as [`encode`](super::encode) returns it.
///
/// Bytes that were written may still be in a buffer or in the queue of a thread; only
/// [`finish`](Self::finish) makes sure that all of them and the end of the stream have reached the
/// sink. An encoder that is dropped unfinished leaves a stream without an end, which every decoder
/// refuses as cut.
pub trait Encoder: Write + Send {
    /// Writes what is pending and the stream's end, and flushes the sink.
    ///
    /// Consumes the encoder, so that nothing can be written after the end of the stream. The sink
    /// itself is not closed or synchronised to disk; that is left to its owner.
    ///
    /// # Errors
    /// What the sink fails with.
    fn finish(self: Box<Self>) -> Result<()>;
}
