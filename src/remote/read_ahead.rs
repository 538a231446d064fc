//! `read_ahead`: a reader that another thread fills, so that network, hash and disk work at the same time.
//!
//! Two bounded channels connect them: full chunks go to the reader, used ones come back to be filled again. So memory is bounded
//! by [`CHUNK_BYTES`] × ([`MAX_CHUNKS`] + 2) and no chunk is allocated twice. Dropping the reader cancels the read that the
//! thread waits in, closes the channel, and joins the thread.

use std::io::Read;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::thread_reader::{CHUNK_BYTES, MAX_CHUNKS, Message, ThreadReader};
use crate::error::Error;
use crate::progress::{Cancel, Monitor};

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
    ThreadReader::new(thread, "a thread for the download can't be started", filled, Some(used), (stop, monitor))
}

/// The thread: fills chunks until the end, an error, or a reader that is gone. A chunk that is not full is the last one.
fn fetch_ahead(mut from: impl Read, full: &Sender<Message>, empty: &Receiver<Vec<u8>>) {
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
        if full.send(Ok(Some(chunk))).is_err() {
            return;
        }
        if last {
            let _ = full.send(done.map(|()| None));
            return;
        }
    }
}
