//! Buffers for what is sent, used again and again: fresh memory costs more than reading a file into it.
//! How many there are follows from how many responses there are; only so many spare ones are kept.

use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender, bounded};

/// How much is read at once. Larger ones are not faster, and there are two for each response.
pub(super) const SIZE: usize = 128 << 10;
/// Spare ones that are kept, 4 MiB.
const KEPT: usize = 32;

/// Where spare buffers are. Clones are the same permit.
#[derive(Debug, Clone)]
pub(super) struct Buffers {
    free: Receiver<Box<[u8]>>,
    home: Sender<Box<[u8]>>,
}

impl Buffers {
    pub(super) fn new() -> Self {
        let (home, free) = bounded(KEPT);
        Self { free, home }
    }

    /// A buffer for `wanted` bytes, or as many as go into one. What is in it is what was in it last.
    pub(super) fn take(&self, wanted: u64) -> Buffer {
        match usize::try_from(wanted) {
            // What is small is not worth a large one.
            Ok(small) if small < SIZE / 4 => Buffer { bytes: vec![0; small].into(), length: small, home: None },
            length => {
                let bytes = self.free.try_recv().unwrap_or_else(|_| vec![0; SIZE].into());
                Buffer { bytes, length: length.unwrap_or(SIZE).min(SIZE), home: Some(self.home.clone()) }
            }
        }
    }
}

/// A buffer, and how much of it is used.
pub(super) struct Buffer {
    bytes: Box<[u8]>,
    length: usize,
    home: Option<Sender<Box<[u8]>>>,
}

impl Buffer {
    /// What it has room for.
    pub(super) fn room(&mut self) -> &mut [u8] {
        let length = self.length;
        self.bytes.get_mut(..length).unwrap_or_default()
    }

    /// Its first bytes, to be shared; the buffer goes back when nobody has them any more.
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
            // Where there are enough spare ones, this one just ends.
            let _ = home.try_send(std::mem::take(&mut self.bytes));
        }
    }
}
