//! Sparse files: whole blocks of zeros become holes, so that a copy of a disk image takes no more
//! space than the original.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};

/// The block size of common file systems. Shorter runs of zeros are written.
const BLOCK: u64 = 4096;

/// A part of the bytes of a file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Run<'a> {
    /// Bytes to write.
    Data(&'a [u8]),
    /// A number of zeros, which are whole blocks of the file.
    Hole(usize),
}

/// Splits `bytes`, which belong at `offset` of a file, into data and holes, in order.
///
/// Holes begin and end at block boundaries of the file, not of `bytes`.
pub(crate) fn runs(offset: u64, bytes: &[u8]) -> Vec<Run<'_>> {
    let mut runs = Vec::new();
    // Up to the first block's beginning nothing can be left out.
    let ahead = usize::try_from(offset.next_multiple_of(BLOCK).saturating_sub(offset)).unwrap_or(usize::MAX);
    let (head, blocks) = bytes.split_at(ahead.min(bytes.len()));
    let mut data = head.len();
    let mut rest = bytes;
    let mut hole = 0;
    for block in blocks.chunks(4096) {
        if block.len() == 4096 && block.iter().all(|&byte| byte == 0) {
            if data > 0 {
                let (before, after) = rest.split_at(data);
                runs.push(Run::Data(before));
                (rest, data) = (after, 0);
            }
            hole += block.len();
        } else {
            if hole > 0 {
                runs.push(Run::Hole(hole));
                (rest, hole) = (rest.get(hole..).unwrap_or_default(), 0);
            }
            data += block.len();
        }
    }
    if hole > 0 {
        runs.push(Run::Hole(hole));
    } else if data > 0 {
        runs.push(Run::Data(rest));
    }
    runs
}

/// Extends a file by a hole of `bytes` at its end, where its position must be, and moves the position behind it.
pub(crate) fn skip(file: &mut File, bytes: u64) -> io::Result<()> {
    let end = file.stream_position()?.checked_add(bytes).ok_or(io::ErrorKind::FileTooLarge)?;
    file.set_len(end)?;
    file.seek(SeekFrom::Start(end)).map(drop)
}

/// Writes a new file sequentially, and leaves holes for zeros.
pub(crate) struct SparseFile<'a> {
    file: &'a mut File,
    offset: u64,
}

impl<'a> SparseFile<'a> {
    /// Continues to write `file` at `offset`, which must be both its end and its position.
    pub(crate) fn at(file: &'a mut File, offset: u64) -> Self {
        Self { file, offset }
    }
}

impl Write for SparseFile<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = match runs(self.offset, bytes).first() {
            None => 0,
            Some(Run::Data(data)) => self.file.write(data)?,
            Some(Run::Hole(length)) => {
                skip(self.file, *length as u64)?;
                *length
            }
        };
        self.offset = self.offset.saturating_add(count as u64);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_blocks_of_zeros_are_holes() {
        let mut bytes = vec![0; 4096 * 5 + 7];
        bytes[4096 * 3] = 1;
        assert_eq!(
            runs(0, &bytes),
            [
                Run::Hole(4096 * 3),
                Run::Data(&bytes[4096 * 3..4096 * 4]),
                Run::Hole(4096),
                Run::Data(&bytes[4096 * 5..])
            ]
        );
        assert_eq!(
            runs(4000, &bytes),
            [
                Run::Data(&bytes[..96]),
                Run::Hole(4096 * 2),
                Run::Data(&bytes[96 + 4096 * 2..96 + 4096 * 3]),
                Run::Hole(4096),
                Run::Data(&bytes[96 + 4096 * 4..]),
            ]
        );
        assert_eq!(runs(1, &bytes[..100]), [Run::Data(&bytes[..100])]);
        assert_eq!(runs(0, b""), []);
    }
}
