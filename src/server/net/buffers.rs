//! Buffers for the bytes of responses, used again and again: fresh memory costs more than reading a
//! file into it, since the kernel clears each page first.
//!
//! A [`Buffer`] is filled by a thread that reads, becomes [`Bytes`] for the network without a copy,
//! and returns to the pool when the last part of it has been sent. Responses are bounded by the
//! limits on requests, so the number of buffers in use is bounded, too; only the spare ones need a
//! bound here.

use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender, bounded};

/// The size of a buffer in bytes: how much is read at once. Larger ones are not faster, and each
/// response has two, one that is sent and one that is filled.
pub(super) const SIZE: usize = 128 << 10;
/// Spare buffers that are kept, 4 MiB in all.
const KEPT: usize = 32;

/// The pool of spare buffers. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Buffers {
    /// Spare buffers are taken from here.
    free: Receiver<Box<[u8]>>,
    /// Buffers return here.
    home: Sender<Box<[u8]>>,
}

impl Buffers {
    /// An empty pool; buffers are made when they are first needed.
    pub(super) fn new() -> Self {
        let (home, free) = bounded(KEPT);
        Self { free, home }
    }

    /// A buffer for `wanted` bytes, or of [`SIZE`] if they are more. Never waits. It contains what
    /// was in it before: the caller overwrites it and passes on what it wrote only.
    pub(super) fn take(&self, wanted: u64) -> Buffer {
        match usize::try_from(wanted) {
            // What is small is not worth a large one.
            Ok(small) if small < SIZE / 4 => Buffer { bytes: vec![0; small].into(), length: small, home: None },
            length => {
                // Zeroed only when it is new; a spare one has old bytes, which are overwritten
                // before they are used.
                let bytes = self.free.try_recv().unwrap_or_else(|_| vec![0; SIZE].into());
                Buffer { bytes, length: length.unwrap_or(SIZE).min(SIZE), home: Some(self.home.clone()) }
            }
        }
    }
}

/// A buffer with the number of bytes of it that are used.
pub(super) struct Buffer {
    /// The memory.
    bytes: Box<[u8]>,
    /// The usable bytes while it is filled; the valid bytes afterwards.
    length: usize,
    /// Where the memory returns; `None` for a small buffer, which is freed.
    home: Option<Sender<Box<[u8]>>>,
}

impl Buffer {
    /// The part to be filled.
    pub(super) fn room(&mut self) -> &mut [u8] {
        let length = self.length;
        self.bytes.get_mut(..length).unwrap_or_default()
    }

    /// The first `length` bytes, to be shared; the memory returns to the pool when nobody has them
    /// any more.
    pub(super) fn filled(mut self, length: usize) -> Bytes {
        self.length = self.length.min(length);
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(home) = &self.home {
            // Where there are enough spare ones, this one is freed.
            let _ = home.try_send(std::mem::take(&mut self.bytes));
        }
    }
}
