//! Sparse files in tar: where the data of a file with holes belongs.
//!
//! Four forms are read: GNU's old header (type `S`) and its PAX forms 0.0, 0.1 and 1.0, after the
//! GNU tar manual, "Storing Sparse Files". Form 1.0 is written. star's form is refused by name in
//! `pax`.
//!
//! A map is hostile input: it may overlap, go backwards, claim more bytes than are stored, or have
//! millions of entries. [`SparseMap::checked`] is the only way to make one from an archive, and
//! each form counts its entries against `sparse_segments` while it reads them.

use super::header::{self, BLOCK, Header};
use super::pax::decimal;
use crate::error::{Error, Result};
use crate::limits::Limits;

/// Where the stored bytes of a sparse file belong: segments in ascending order, and the size with
/// its holes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct SparseMap {
    /// Offset and length in the file. Ascending, without overlap, lengths not 0.
    pub(crate) segments: Vec<(u64, u64)>,
    /// Logical size of the file in bytes.
    pub(crate) size: u64,
}

impl SparseMap {
    /// Checks a map against the `stored` bytes that the archive holds for it.
    ///
    /// # Errors
    /// `Malformed` for segments that overlap, go backwards, lie beyond `size` or don't add up to
    /// `stored`.
    pub(crate) fn checked(segments: Vec<(u64, u64)>, size: u64, stored: u64) -> Result<Self> {
        let (mut end, mut total) = (0_u64, 0_u64);
        for &(offset, length) in &segments {
            if offset < end {
                return Err(Error::malformed("the segments of a sparse file overlap or go backwards"));
            }
            end = offset.checked_add(length).ok_or_else(too_far)?;
            total = total.checked_add(length).ok_or_else(too_far)?;
        }
        if end > size {
            return Err(Error::malformed("a segment of a sparse file lies beyond the file's size"));
        }
        if total != stored {
            return Err(Error::malformed(format!(
                "the segments of a sparse file need {total} bytes, the archive holds {stored}"
            )));
        }
        let segments = segments.into_iter().filter(|&(_, length)| length > 0).collect();
        Ok(Self { segments, size })
    }
}

/// The error for a segment whose end does not fit 64 bits.
fn too_far() -> Error {
    Error::malformed("a segment of a sparse file ends beyond 64 bits")
}

/// Adds a segment, within the limit on their number.
fn push(segments: &mut Vec<(u64, u64)>, offset: u64, length: u64, limits: &Limits) -> Result<()> {
    if segments.len() as u64 >= limits.sparse_segments {
        return Err(Error::limit("sparse_segments", limits.sparse_segments, "the number of segments of a sparse file"));
    }
    segments.push((offset, length));
    Ok(())
}

/// What the `GNU.sparse.*` records of a member say, in any of the three PAX forms.
#[derive(Debug, Default)]
pub(crate) struct PaxSparse {
    /// The file's real name; the header's is a made-up one.
    pub(crate) name: Option<Vec<u8>>,
    major: Option<u64>,
    minor: Option<u64>,
    /// The logical size.
    size: Option<u64>,
    /// The number of segments, where it is stated.
    count: Option<u64>,
    segments: Vec<(u64, u64)>,
    /// An offset whose length has not come yet (0.0 gives them in turns).
    pending: Option<u64>,
    /// Whether a map came, even an empty one.
    mapped: bool,
}

impl PaxSparse {
    /// Takes one record; `key` is the keyword without `GNU.sparse.`. Form 0.0 repeats the keywords
    /// `offset` and `numbytes`, so order counts.
    ///
    /// # Errors
    /// `Malformed` for values that are no numbers or don't fit together, `LimitExceeded` for too
    /// many segments.
    pub(crate) fn apply(&mut self, key: &[u8], value: &[u8], limits: &Limits) -> Result<()> {
        let number = || decimal(value).ok_or_else(|| Error::malformed("a number of a sparse file is none"));
        match key {
            b"name" => {
                if value.is_empty() || value.contains(&0) {
                    return Err(Error::malformed("the name of a sparse file is empty or holds a NUL byte"));
                }
                self.name = Some(value.to_vec());
            }
            b"major" => self.major = Some(number()?),
            b"minor" => self.minor = Some(number()?),
            b"size" | b"realsize" => self.size = Some(number()?),
            b"numblocks" => self.count = Some(number()?),
            b"offset" => {
                if self.pending.replace(number()?).is_some() {
                    return Err(Error::malformed("a segment of a sparse file has no length"));
                }
                self.mapped = true;
            }
            // Form 0.0: one pair of records for each segment, offset first.
            b"numbytes" => {
                let offset =
                    self.pending.take().ok_or_else(|| Error::malformed("a segment of a sparse file has no offset"))?;
                push(&mut self.segments, offset, number()?, limits)?;
            }
            // Form 0.1: all segments in one record, which replaces an earlier one.
            b"map" => {
                self.mapped = true;
                self.segments.clear();
                let mut numbers = value.split(|&byte| byte == b',').filter(|_| !value.is_empty());
                while let Some(offset) = numbers.next() {
                    let pair = numbers.next().and_then(|length| Some((decimal(offset)?, decimal(length)?)));
                    let (offset, length) = pair.ok_or_else(|| Error::malformed("the map of a sparse file is odd"))?;
                    push(&mut self.segments, offset, length, limits)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether these records make the next member a sparse file.
    pub(crate) fn is_sparse(&self) -> bool {
        self.mapped || self.major.is_some() || self.size.is_some()
    }

    /// Whether the map stands at the front of the data (version 1.0).
    pub(crate) fn map_in_data(&self) -> Result<bool> {
        match (self.major.unwrap_or(0), self.minor.unwrap_or(0)) {
            (1, 0) => Ok(true),
            (0, 0 | 1) => Ok(false),
            (major, minor) => Err(Error::unsupported(format!("sparse files of format {major}.{minor} are not known"))),
        }
    }

    /// The logical size, which every version must give.
    pub(crate) fn real_size(&self) -> Result<u64> {
        self.size.ok_or_else(|| Error::malformed("a sparse file does not say its size"))
    }

    /// The map of versions 0.0 and 0.1.
    pub(crate) fn take_map(&mut self, stored: u64) -> Result<SparseMap> {
        if self.pending.is_some() {
            return Err(Error::malformed("the last segment of a sparse file has no length"));
        }
        let segments = std::mem::take(&mut self.segments);
        if self.count.is_some_and(|count| count != segments.len() as u64) {
            return Err(Error::malformed("a sparse file's number of segments is not what it says"));
        }
        SparseMap::checked(segments, self.real_size()?, stored)
    }
}

/// The map of a form 1.0 file while it is read from the front of the data, block by block: decimal
/// numbers, one a line.
#[derive(Debug, Default)]
pub(crate) struct InlineSparseMap {
    /// The number of segments, which comes first.
    count: Option<u64>,
    /// An offset whose length has not come.
    offset: Option<u64>,
    segments: Vec<(u64, u64)>,
    /// The digits of a number that crosses blocks.
    digits: Vec<u8>,
}

impl InlineSparseMap {
    /// Takes one block; returns true when the map is complete. The rest of that block is padding.
    pub(crate) fn take_block(&mut self, block: &[u8; BLOCK], limits: &Limits) -> Result<bool> {
        for &byte in block {
            if byte != b'\n' {
                self.digits.push(byte);
                // 2^64 has 20 digits.
                if self.digits.len() > 20 {
                    return Err(Error::malformed("the map of a sparse file holds something that is no number"));
                }
                continue;
            }
            let value = decimal(&self.digits).ok_or_else(|| Error::malformed("the map of a sparse file is odd"))?;
            self.digits.clear();
            match (self.count, self.offset.take()) {
                (None, _) => {
                    if value > limits.sparse_segments {
                        return Err(Error::limit(
                            "sparse_segments",
                            limits.sparse_segments,
                            format_args!("a sparse file of {value} segments"),
                        ));
                    }
                    self.count = Some(value);
                }
                (Some(_), None) => self.offset = Some(value),
                (Some(_), Some(offset)) => push(&mut self.segments, offset, value, limits)?,
            }
            if self.count == Some(self.segments.len() as u64) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    pub(crate) fn into_segments(self) -> Vec<(u64, u64)> {
        self.segments
    }
}

/// The map of GNU's old sparse header (type `S`): four segments in the header, 21 in each extension
/// block after it.
#[derive(Debug, Default)]
pub(crate) struct OldGnuSparse {
    segments: Vec<(u64, u64)>,
    size: u64,
    /// Whether an extension block follows.
    more: bool,
    /// Whether an empty pair has ended the map.
    done: bool,
}

impl OldGnuSparse {
    /// Reads the header's own segments. Offsets 386, 482 and 483 are those of `struct
    /// oldgnu_header` in GNU tar.
    pub(crate) fn from_header(head: &Header, limits: &Limits) -> Result<Self> {
        let size = unsigned(head.bytes(483, 12))?;
        let mut map = Self { size, more: head.bytes(482, 1) != [0], ..Self::default() };
        map.take_pairs(head.bytes(386, 96), limits)?;
        Ok(map)
    }

    /// Whether an extension block follows.
    pub(crate) fn wants_block(&self) -> bool {
        self.more
    }

    /// Takes an extension block: 21 segments, and whether another block follows.
    pub(crate) fn take_block(&mut self, block: &[u8; BLOCK], limits: &Limits) -> Result<()> {
        self.more = block[504] != 0;
        self.take_pairs(&block[..504], limits)
    }

    /// Takes pairs of offset and length of 12 bytes each, up to the first empty one.
    fn take_pairs(&mut self, pairs: &[u8], limits: &Limits) -> Result<()> {
        for pair in pairs.chunks_exact(24) {
            if pair[0] == 0 || self.done {
                self.done = true;
                continue;
            }
            push(&mut self.segments, unsigned(&pair[..12])?, unsigned(&pair[12..])?, limits)?;
        }
        Ok(())
    }

    /// The map, checked against the bytes that are stored.
    pub(crate) fn into_map(self, stored: u64) -> Result<SparseMap> {
        SparseMap::checked(self.segments, self.size, stored)
    }
}

/// A number of the old header, which must not be negative.
fn unsigned(field: &[u8]) -> Result<u64> {
    header::number(field)
        .and_then(|value| u64::try_from(value).ok())
        .ok_or_else(|| Error::malformed("a number of a sparse file's header is none"))
}
