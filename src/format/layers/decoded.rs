//! Decoded layers in an unnamed temporary file, so that a layer of which something is left need not be decoded again.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use rustix::fs::{FallocateFlags, fallocate};

use super::Layer;
use crate::format::nameless;
use crate::io::Blob;

/// How much more than the stored bytes may be kept for each of them. Real layers decode to three times their size; what
/// decodes to far more is decoded fast, and must not fill the disk.
const MAX_RATIO: u64 = 8;
/// What may be kept of a layer however small it is stored, in bytes.
const MIN_ROOM: u64 = 1 << 20;

/// Decoded layers one behind the other in one file, so that they take one descriptor, however many there are.
///
/// It only saves decoding them again: an error of writing is none of the caller, and the layer is decoded twice.
pub(super) struct DecodedLayers {
    /// Made for the first layer that is worth it; `None` where that failed, too.
    file: Option<Arc<File>>,
    end: u64,
    /// Bytes that may be added.
    room: u64,
}

/// Where the decoded bytes of a whole layer are.
#[derive(Clone, Copy)]
pub(super) struct DecodedLayer {
    pub(super) offset: u64,
    pub(super) length: u64,
}

impl DecodedLayers {
    /// An empty file for what is kept of these layers: no more than `most` bytes, and half of what is free in the
    /// temporary directory once the layers themselves and an image of their size may have been stored there.
    pub(super) fn new(layers: &[&dyn Layer], most: u64) -> Self {
        let stored = layers.iter().fold(0_u64, |sum, layer| sum.saturating_add(layer.size()));
        let free = rustix::fs::statvfs(std::env::temp_dir())
            .map_or(u64::MAX, |about| about.f_bavail.saturating_mul(about.f_frsize));
        Self { file: None, end: 0, room: most.min(free.saturating_sub(stored.saturating_mul(2)) / 2) }
    }

    /// Begins to keep a layer; `None` for one that is decoded as fast as it is read.
    pub(super) fn begin(&mut self, layer: &dyn Layer) -> Option<DecodedWriter> {
        if !layer.codec().is_slow() {
            return None;
        }
        if self.file.is_none() {
            self.file = nameless(&std::env::temp_dir()).ok().map(Arc::new);
        }
        let room = self.room.min(layer.size().saturating_mul(MAX_RATIO).max(MIN_ROOM));
        Some(DecodedWriter { file: Arc::clone(self.file.as_ref()?), offset: self.end, length: 0, room, is_whole: true })
    }

    /// Takes a layer in that was written.
    pub(super) fn add(&mut self, layer: DecodedLayer) {
        self.end = layer.offset.saturating_add(layer.length);
        self.room = self.room.saturating_sub(layer.length);
    }

    /// Gives the space of a layer back that nobody reads, where the file system can do that.
    pub(super) fn forget(&self, layer: DecodedLayer) {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        let _ = self.file.as_ref().map(|file| fallocate(file, flags, layer.offset, layer.length));
    }

    /// The bytes of all layers.
    pub(super) fn blob(&self) -> Option<Blob> {
        self.file.as_ref().and_then(|file| Blob::file(file.try_clone().ok()?).ok())
    }
}

/// Keeps what is decoded of a layer, as long as there is room.
pub(super) struct DecodedWriter {
    file: Arc<File>,
    offset: u64,
    length: u64,
    room: u64,
    is_whole: bool,
}

impl DecodedWriter {
    /// Keeps the next bytes.
    pub(super) fn append(&mut self, bytes: &[u8]) {
        if !self.is_whole {
            return;
        }
        let at = self.offset.saturating_add(self.length);
        self.length = self.length.saturating_add(bytes.len() as u64);
        if self.length > self.room || self.file.write_all_at(bytes, at).is_err() {
            self.is_whole = false;
            // What was written of it must not fill the disk.
            let _ = self.file.set_len(self.offset);
        }
    }

    /// The layer, if all of it was kept.
    pub(super) fn finish(self) -> Option<DecodedLayer> {
        self.is_whole.then_some(DecodedLayer { offset: self.offset, length: self.length })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use std::io::Read;

    use super::*;
    use crate::error::Result;
    use crate::format::codec::Codec;
    use crate::io::ReadAt;
    use crate::progress::Monitor;

    /// A layer of which only codec and size matter.
    struct Described(Codec, u64);

    impl Layer for Described {
        fn codec(&self) -> Codec {
            self.0
        }

        fn size(&self) -> u64 {
            self.1
        }

        fn name(&self) -> String {
            String::new()
        }

        fn open(&self, _: &Monitor) -> Result<Box<dyn Read + Send>> {
            Ok(Box::new(std::io::empty()))
        }

        fn decoded_digest(&self) -> (&'static str, String) {
            ("sha256", String::new())
        }
    }

    fn kept(layers: &mut DecodedLayers, layer: &Described, byte: u8, pieces: usize) -> Option<u64> {
        let mut writer = layers.begin(layer)?;
        (0..pieces).for_each(|_| writer.append(&[byte; 1 << 20]));
        let decoded = writer.finish()?;
        layers.add(decoded);
        let mut all = Vec::new();
        layers.blob().unwrap().reader_from(decoded.offset, decoded.length).read_to_end(&mut all).unwrap();
        assert!(all.len() as u64 == decoded.length && all.iter().all(|read| *read == byte));
        Some(decoded.length)
    }

    #[test]
    fn decoded_layer_is_kept_whole_or_not_at_all() {
        let layer = Described(Codec::Gzip, 1 << 20);
        let mut layers = DecodedLayers::new(&[&layer], 18 << 20);
        assert_eq!(kept(&mut layers, &layer, 1, 8), Some(8 << 20));
        assert_eq!(kept(&mut layers, &layer, 2, 9), None, "more than eight times the stored bytes");
        assert_eq!(layers.blob().unwrap().len(), 8 << 20);
        assert_eq!(kept(&mut layers, &layer, 3, 8), Some(8 << 20));
        assert_eq!(kept(&mut layers, &layer, 4, 3), None, "no room");
        assert_eq!(kept(&mut layers, &layer, 5, 2), Some(2 << 20));
    }

    #[test]
    fn layer_that_is_decoded_fast_is_not_kept() {
        for codec in [Codec::None, Codec::Zstd, Codec::Lz4] {
            let layer = Described(codec, 1 << 20);
            assert_eq!(kept(&mut DecodedLayers::new(&[&layer], u64::MAX), &layer, 1, 1), None, "{codec}");
        }
    }
}
