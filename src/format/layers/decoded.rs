//! Decoded layers in unnamed temporary files, so that a layer of which something is left need not be decoded again.

use std::fs::File;
use std::io::Write;

use super::Layer;
use crate::format::nameless;
use crate::io::Blob;

/// How much more than the stored bytes may be kept for each of them. Real layers decode to three times their size; what
/// decodes to far more is decoded fast, and must not fill the disk.
const MAX_RATIO: u64 = 8;
/// What may be kept of a layer however small it is stored, in bytes.
const MIN_ROOM: u64 = 1 << 20;

/// The bytes that decoded layers may take together: no more than `most`, and half of what is free in the temporary
/// directory once the layers themselves and an image of their size may have been stored there.
pub(super) fn room(layers: &[&dyn Layer], most: u64) -> u64 {
    let stored = layers.iter().fold(0_u64, |sum, layer| sum.saturating_add(layer.size()));
    let free = rustix::fs::statvfs(std::env::temp_dir())
        .map_or(u64::MAX, |about| about.f_bavail.saturating_mul(about.f_frsize));
    most.min(free.saturating_sub(stored.saturating_mul(2)) / 2)
}

/// Keeps what is decoded, as long as there is room. Without it the layer is decoded twice, and nothing else changes: so an
/// error of writing is none of the caller.
pub(super) struct DecodedWriter {
    file: Option<File>,
    length: u64,
    room: u64,
}

/// The decoded bytes of a whole layer.
pub(super) struct DecodedLayer {
    pub(super) blob: Blob,
    pub(super) length: u64,
}

impl DecodedWriter {
    /// A writer for a layer, which may take `room` bytes. It keeps nothing of what is decoded as fast as it is read.
    pub(super) fn new(layer: &dyn Layer, room: u64) -> Self {
        let is_slow = layer.codec().is_slow();
        let file = if is_slow { nameless(&std::env::temp_dir()).ok() } else { None };
        let room = room.min(layer.size().saturating_mul(MAX_RATIO).max(MIN_ROOM));
        Self { file, length: 0, room }
    }

    /// Keeps the next bytes.
    pub(super) fn append(&mut self, bytes: &[u8]) {
        self.length = self.length.saturating_add(bytes.len() as u64);
        if self.length > self.room || self.file.as_mut().is_some_and(|file| file.write_all(bytes).is_err()) {
            self.file = None;
        }
    }

    /// The layer, if all of it was kept.
    pub(super) fn finish(self) -> Option<DecodedLayer> {
        let blob = Blob::file(self.file?).ok()?;
        Some(DecodedLayer { blob, length: self.length })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use std::io::Read;

    use super::*;
    use crate::error::Result;
    use crate::format::codec::Codec;
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

    fn kept(layer: &Described, room: u64, pieces: usize) -> Option<u64> {
        let mut writer = DecodedWriter::new(layer, room);
        (0..pieces).for_each(|_| writer.append(&[7; 1 << 20]));
        let mut all = Vec::new();
        let decoded = writer.finish()?;
        decoded.blob.reader().read_to_end(&mut all).unwrap();
        assert_eq!(all.len() as u64, decoded.length);
        Some(decoded.length)
    }

    #[test]
    fn decoded_layer_is_kept_whole_or_not_at_all() {
        let layer = Described(Codec::Gzip, 1 << 20);
        assert_eq!(kept(&layer, u64::MAX, 8), Some(8 << 20));
        assert_eq!(kept(&layer, u64::MAX, 9), None, "more than eight times the stored bytes");
        assert_eq!(kept(&layer, (8 << 20) - 1, 8), None, "no room");
    }

    #[test]
    fn layer_that_is_decoded_fast_is_not_kept() {
        for codec in [Codec::None, Codec::Zstd, Codec::Lz4] {
            assert_eq!(kept(&Described(codec, 1 << 20), u64::MAX, 1), None, "{codec}");
        }
    }
}
