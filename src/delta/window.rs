//! Headers of a delta and of its windows (RFC 3284, section 4), read from a stream.
//!
//! xdelta3's dialect adds an application header and a checksum for each window; both are marked in the indicators, in bits
//! that the RFC leaves free. A code table of the delta's own is refused: no program that makes images writes one, and
//! xdelta3 has dropped it.

use std::io::{self, Read};

use super::secondary::Secondary;
use super::varint;
use crate::error::{Error, Result};
use crate::limits::Limits;

/// `VCD` with the high bits set, and version 0.
pub(super) const MAGIC: [u8; 4] = [0xd6, 0xc3, 0xc4, 0];
/// Header: secondary compression is used.
pub(super) const HAS_SECONDARY: u8 = 1;
/// Header: a code table follows.
const HAS_CODE_TABLE: u8 = 2;
/// Header: an application header follows.
const HAS_APPLICATION_HEADER: u8 = 4;
/// Window: the segment is a part of the base.
pub(super) const FROM_BASE: u8 = 1;
/// Window: the segment is a part of the output so far.
const FROM_TARGET: u8 = 2;
/// Window: an Adler-32 of its output follows.
pub(super) const HAS_CHECKSUM: u8 = 4;
/// Sections: data, instructions, addresses are compressed.
pub(super) const COMPRESSED: [u8; 3] = [1, 2, 4];
/// What the sections hold, in their order.
pub(super) const KINDS: [&str; 3] = ["data", "instruction", "address"];

/// What stands before the windows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) secondary: Option<Secondary>,
}

/// The part of base or output that a window copies from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Segment {
    None,
    Base { offset: u64, length: u64 },
    Target { offset: u64, length: u64 },
}

impl Segment {
    pub(super) fn length(self) -> u64 {
        match self {
            Self::None => 0,
            Self::Base { length, .. } | Self::Target { length, .. } => length,
        }
    }
}

/// One section as it stands in the delta.
#[derive(Debug)]
pub(super) struct Section {
    pub(super) bytes: Vec<u8>,
    pub(super) compressed: bool,
}

/// A window, its sections not decompressed yet.
#[derive(Debug)]
pub(super) struct Window<S> {
    pub(super) segment: Segment,
    /// The size of its output.
    pub(super) length: usize,
    pub(super) checksum: Option<u32>,
    /// Data, instructions, addresses.
    pub(super) sections: [S; 3],
}

/// Reads a delta: the header, then window after window.
pub(super) struct DeltaReader<'a, R> {
    reader: R,
    /// Bytes taken from the stream so far.
    offset: u64,
    limits: &'a Limits,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
}

impl<'a, R: Read> DeltaReader<'a, R> {
    pub(super) fn new(reader: R, limits: &'a Limits) -> Self {
        Self { reader, offset: 0, limits, buffer: vec![0; 64 << 10].into(), start: 0, end: 0 }
    }

    /// Bytes of the delta that were used so far.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Reads what stands before the windows.
    ///
    /// # Errors
    /// `Malformed`; `Unsupported` for a code table, another version, an unknown compressor; `LimitExceeded`; those of the reader.
    pub(super) fn header(&mut self) -> Result<Header> {
        let mut magic = [0; 4];
        for place in &mut magic {
            *place = self.byte()?.ok_or_else(|| Error::malformed("this is no delta: it is too short"))?;
        }
        if magic.first_chunk::<3>() != MAGIC.first_chunk::<3>() {
            return Err(Error::malformed("this is no delta in the VCDIFF format"));
        }
        if magic != MAGIC {
            return Err(Error::unsupported(format!("the delta has the VCDIFF version {}, only 0 is known", magic[3])));
        }
        let indicator = self.expect_byte()?;
        if indicator & !(HAS_SECONDARY | HAS_CODE_TABLE | HAS_APPLICATION_HEADER) != 0 {
            return Err(Error::malformed(format!("the header of the delta has unknown bits: {indicator:#04x}")));
        }
        let secondary = match indicator & HAS_SECONDARY {
            0 => None,
            _ => Some(self.expect_byte().and_then(Secondary::from_number)?),
        };
        if indicator & HAS_CODE_TABLE != 0 {
            return Err(Error::unsupported("the delta brings a code table of its own"));
        }
        if indicator & HAS_APPLICATION_HEADER != 0 {
            // xdelta3 puts names of files there, for calls without names. They decide nothing here.
            let length = self.number("size of the application header")?;
            if length > self.limits.vcdiff_header {
                let what = "the application header of the delta";
                return Err(Error::limit("vcdiff_header", self.limits.vcdiff_header, what));
            }
            self.bytes(length)?;
        }
        Ok(Header { secondary })
    }

    /// Reads the next window; `None` at the end of the delta. `written` is the size of the output so far.
    ///
    /// # Errors
    /// `Malformed`; `LimitExceeded`; those of the reader.
    pub(super) fn window(&mut self, written: u64, secondary: Option<Secondary>) -> Result<Option<Window<Section>>> {
        let Some(indicator) = self.byte()? else { return Ok(None) };
        if indicator & !(FROM_BASE | FROM_TARGET | HAS_CHECKSUM) != 0 {
            return Err(self.malformed(format!("a window of the delta has unknown bits: {indicator:#04x}")));
        }
        let segment = match indicator & (FROM_BASE | FROM_TARGET) {
            0 => Segment::None,
            FROM_BASE | FROM_TARGET => {
                let length = self.number("size of a segment")?;
                let offset = self.number("offset of a segment")?;
                let end = offset.checked_add(length);
                if indicator & FROM_BASE != 0 {
                    end.ok_or_else(|| self.malformed("a segment of the delta ends past 64 bits"))?;
                    Segment::Base { offset, length }
                } else {
                    if end.is_none_or(|end| end > written) {
                        return Err(self.malformed("a window of the delta copies from output that is not written yet"));
                    }
                    Segment::Target { offset, length }
                }
            }
            _ => return Err(self.malformed("a window of the delta has two segments")),
        };
        let told = self.number("size of a window's encoding")?;
        let start = self.offset;
        let max = self.limits.vcdiff_window;
        let over = |what: &str| Error::limit("vcdiff_window", max, what);
        let length = self.number("size of a window")?;
        if length > max {
            return Err(over("a window of the delta"));
        }
        segment
            .length()
            .checked_add(length)
            .ok_or_else(|| self.malformed("a window of the delta ends past 64 bits"))?;
        let compressed = self.expect_byte()?;
        if compressed & !7 != 0 {
            return Err(self.malformed(format!("the sections of a window have unknown bits: {compressed:#04x}")));
        }
        if compressed != 0 && secondary.is_none() {
            return Err(self.malformed("a section of the delta is compressed, and the header names no compressor"));
        }
        let mut lengths = [0; 3];
        for place in &mut lengths {
            *place = self.number("size of a section")?;
        }
        let checksum = match indicator & HAS_CHECKSUM {
            0 => None,
            _ => {
                let mut sum = 0;
                for _ in 0..4 {
                    sum = sum << 8 | u32::from(self.expect_byte()?);
                }
                Some(sum)
            }
        };
        let used = self.offset - start;
        let all = lengths.iter().try_fold(used, |sum, length| sum.checked_add(*length));
        if all != Some(told) {
            return Err(self.malformed("the sizes of a window of the delta contradict each other"));
        }
        let mut sections = Vec::with_capacity(3);
        for (length, bit) in lengths.into_iter().zip(COMPRESSED) {
            if length > max {
                return Err(over("a section of a window of the delta"));
            }
            sections.push(Section { bytes: self.bytes(length)?, compressed: compressed & bit != 0 });
        }
        let sections = <[Section; 3]>::try_from(sections).map_err(|_| Error::malformed("the delta has no sections"))?;
        // Both are below the limit, and a limit over the address space ends as an error of the allocation.
        let length = usize::try_from(length).map_err(|_| over("a window of the delta"))?;
        Ok(Some(Window { segment, length, checksum, sections }))
    }

    /// An error at the place that is being read.
    fn malformed(&self, what: impl Into<std::borrow::Cow<'static, str>>) -> Error {
        Error::malformed(what).at_offset(self.offset)
    }

    /// The next byte; `None` at the end of the stream.
    fn byte(&mut self) -> Result<Option<u8>> {
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
            loop {
                match self.reader.read(&mut self.buffer) {
                    Ok(count) => {
                        self.end = count.min(self.buffer.len());
                        break;
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(Error::io("the delta can't be read", error)),
                }
            }
        }
        let byte = self.buffer.get(self.start..self.end).and_then(|rest| rest.first()).copied();
        if byte.is_some() {
            self.start += 1;
            self.offset = self.offset.saturating_add(1);
        }
        Ok(byte)
    }

    /// The next byte, which must be there.
    fn expect_byte(&mut self) -> Result<u8> {
        self.byte()?.ok_or_else(|| ends_early().at_offset(self.offset))
    }

    fn number(&mut self, what: &'static str) -> Result<u64> {
        varint::decode(what, || self.expect_byte()).map_err(|error| error.at_offset(self.offset))
    }

    /// The next `length` bytes. Memory grows as they arrive.
    fn bytes(&mut self, length: u64) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        let buffered = self.buffer.get(self.start..self.end).unwrap_or_default();
        let part = buffered.len().min(usize::try_from(length).unwrap_or(usize::MAX));
        out.extend_from_slice(buffered.get(..part).unwrap_or_default());
        self.start += part;
        let rest = length.saturating_sub(part as u64);
        if rest > 0 {
            self.reader
                .by_ref()
                .take(rest)
                .read_to_end(&mut out)
                .map_err(|error| Error::io("the delta can't be read", error))?;
        }
        self.offset = self.offset.saturating_add(out.len() as u64);
        if out.len() as u64 != length {
            return Err(ends_early().at_offset(self.offset));
        }
        Ok(out)
    }
}

fn ends_early() -> Error {
    Error::malformed("the delta ends early")
}
