//! Compresses sections with LZMA, so that `xdelta3` reads them.
//!
//! The sections of one kind are one `.xz` stream with one block, which is never finished. A block is a sequence of LZMA2
//! chunks, and an encoder's first chunk resets the dictionary: so the chunks of several encoders, one after the other, are
//! one block. That is how windows are compressed on several threads, with bytes that don't depend on their number.

#[cfg(feature = "xz")]
use liblzma::stream::{Action, Error as LzmaError, Filters, LzmaOptions, Status, Stream};

use crate::error::{Error, ErrorKind, Result};
use crate::progress::Monitor;

/// The smallest dictionary, as a power of two.
const MIN_DICTIONARY_BITS: u32 = 16;
/// Bytes that are given to liblzma between two looks at the monitor.
#[cfg(feature = "xz")]
const STEP_BYTES: usize = 64 << 10;

/// How the sections of one kind are compressed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Compressor {
    level: u32,
    dictionary_bits: u32,
}

impl Compressor {
    /// Sections of at most `max_bytes` for one encoder, with the preset `level`.
    ///
    /// # Errors
    /// `FeatureDisabled` without the feature `xz`.
    pub(super) fn new(level: u32, max_bytes: u64, max_dictionary_bits: u32) -> Result<Self> {
        if cfg!(not(feature = "xz")) {
            let sentence = "deltas are compressed with LZMA: build with the feature `xz`, or make them with level 0";
            return Err(Error::new(ErrorKind::FeatureDisabled, sentence));
        }
        let bits = max_bytes.max(1).next_power_of_two().trailing_zeros();
        Ok(Self { level, dictionary_bits: bits.min(max_dictionary_bits).max(MIN_DICTIONARY_BITS) })
    }

    /// What stands before the first chunk: the header of the stream, without a check, and that of the block.
    pub(super) fn header(self) -> Vec<u8> {
        let mut header = vec![0xfd, b'7', b'z', b'X', b'Z', 0, 0, 0];
        header.extend(crc32(&[0, 0]).to_le_bytes());
        // Its size in words less one, no flags, LZMA2 with one byte of properties (the dictionary), and padding.
        let block = [2, 0, 0x21, 1, ((self.dictionary_bits - 12) * 2) as u8, 0, 0, 0];
        header.extend(block);
        header.extend(crc32(&block).to_le_bytes());
        header
    }

    /// An encoder for some windows in a row.
    ///
    /// # Errors
    /// Those of liblzma.
    #[cfg(feature = "xz")]
    pub(super) fn encoder(self, max_bytes: u64) -> Result<SectionEncoder> {
        let bits = max_bytes.max(1).next_power_of_two().trailing_zeros();
        let bits = bits.min(self.dictionary_bits).max(MIN_DICTIONARY_BITS);
        let mut options = LzmaOptions::new_preset(self.level).map_err(|error| failure(&error))?;
        options.dict_size(1 << bits);
        let mut filters = Filters::new();
        filters.lzma2(&options);
        Ok(SectionEncoder(Stream::new_raw_encoder(&filters).map_err(|error| failure(&error))?))
    }

    #[cfg(not(feature = "xz"))]
    pub(super) fn encoder(self, _: u64) -> Result<SectionEncoder> {
        Self::new(self.level, 0, 0).map(|_| SectionEncoder)
    }
}

/// Compresses sections of one kind, one after the other.
#[cfg(feature = "xz")]
pub(super) struct SectionEncoder(Stream);

#[cfg(feature = "xz")]
impl SectionEncoder {
    /// The next section, as whole chunks.
    ///
    /// # Errors
    /// `Cancelled`; those of liblzma.
    pub(super) fn encode(&mut self, section: &[u8], monitor: &Monitor) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        for part in section.chunks(STEP_BYTES) {
            monitor.check()?;
            let mut rest = part;
            while !rest.is_empty() {
                let taken = self.step(rest, &mut out, Action::Run)?.0;
                rest = rest.get(taken..).unwrap_or_default();
            }
        }
        while self.step(&[], &mut out, Action::SyncFlush)?.1 != Status::StreamEnd {}
        Ok(out)
    }

    fn step(&mut self, bytes: &[u8], out: &mut Vec<u8>, action: Action) -> Result<(usize, Status)> {
        let Self(stream) = self;
        let (taken, made, filled) = (stream.total_in(), stream.total_out(), out.len());
        out.resize(filled + STEP_BYTES, 0);
        let status = stream.process(bytes, out.get_mut(filled..).unwrap_or_default(), action);
        out.truncate(filled + (stream.total_out() - made) as usize);
        Ok(((stream.total_in() - taken) as usize, status.map_err(|error| failure(&error))?))
    }
}

#[cfg(not(feature = "xz"))]
pub(super) struct SectionEncoder;

#[cfg(not(feature = "xz"))]
impl SectionEncoder {
    pub(super) fn encode(&mut self, _: &[u8], _: &Monitor) -> Result<Vec<u8>> {
        Ok(Vec::new())
    }
}

#[cfg(feature = "xz")]
fn failure(error: &LzmaError) -> Error {
    match error {
        LzmaError::Mem => Error::io("memory for encoding", std::io::Error::from(std::io::ErrorKind::OutOfMemory)),
        _ => Error::new(ErrorKind::Io, format!("the LZMA encoder failed: {error}")),
    }
}

/// The checksum of the headers of `.xz`.
fn crc32(bytes: &[u8]) -> u32 {
    let mut sum = u32::MAX;
    for byte in bytes {
        sum ^= u32::from(*byte);
        for _ in 0..8 {
            sum = sum >> 1 ^ if sum & 1 == 1 { 0xedb8_8320 } else { 0 };
        }
    }
    !sum
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[test]
    fn checksum_is_that_of_the_xz_format() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(crc32(&[0, 0]).to_le_bytes(), [0xff, 0x12, 0xd9, 0x41]);
    }
}
