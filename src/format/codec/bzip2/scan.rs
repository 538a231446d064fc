//! Finds the 48-bit magic numbers of bzip2, which may begin at any bit.
//!
//! Compressed data may hold the same bits by chance (or because somebody wants it to), so a match
//! is a candidate; `parallel` finds out by decoding.

use super::bits::get;
use super::{BLOCK_MAGIC, END_MAGIC, MAGIC_BITS};

/// Finds magic numbers by sampling: wherever one begins, the four pairs of bytes at offsets 1 to 4
/// from its first byte hold nothing but bits of it, and one of them is met in steps of four.
/// `pairs` is a set of all such pairs, one bit for each value, so that most of the input costs one
/// look-up per four bytes.
pub(super) struct Scanner {
    /// One bit for each value of two bytes that can be inside of a magic number.
    pairs: Box<[u64; 1024]>,
}

/// Bytes between two samples.
const STEP: usize = 4;

impl Scanner {
    pub(super) fn new() -> Self {
        let mut pairs = Box::new([0; 1024]);
        for magic in [BLOCK_MAGIC, END_MAGIC] {
            for shift in 0..8 {
                for offset in 1..=STEP {
                    let pair = (magic << 16 >> shift >> (48 - 8 * offset)) as u16;
                    pairs[usize::from(pair >> 6)] |= 1 << (pair & 63);
                }
            }
        }
        Self { pairs }
    }

    /// The bit at which the first magic number at `from` or later begins, or, as the error, the bit
    /// from which to look once there are more bytes.
    pub(super) fn find(&self, bytes: &[u8], from: u64) -> Result<u64, u64> {
        let end = (bytes.len() as u64 * 8 + 1).saturating_sub(MAGIC_BITS);
        let mut sample = (from / 8) as usize + STEP;
        while let Some(&[high, low]) = bytes.get(sample..).and_then(|rest| rest.first_chunk::<2>()) {
            let pair = u16::from_be_bytes([high, low]);
            if self.pairs[usize::from(pair >> 6)] >> (pair & 63) & 1 != 0 {
                let start = (sample - STEP) as u64 * 8;
                let range = start.max(from)..(start + 8 * STEP as u64).min(end);
                if let Some(position) = range.into_iter().find(|&position| is_magic(bytes, position)) {
                    return Ok(position);
                }
            }
            sample += STEP;
        }
        let rest = ((sample - STEP) as u64 * 8).max(from)..end;
        rest.into_iter().find(|&position| is_magic(bytes, position)).ok_or(end.max(from))
    }
}

/// Whether either magic number stands at this bit.
fn is_magic(bytes: &[u8], position: u64) -> bool {
    matches!(get(bytes, position, MAGIC_BITS), Some(BLOCK_MAGIC | END_MAGIC))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::codec::bzip2::bits::BitWriter;

    #[test]
    fn magic_number_is_found_at_every_bit_and_from_every_start() {
        let scanner = Scanner::new();
        for magic in [BLOCK_MAGIC, END_MAGIC] {
            for before in 0..200_u64 {
                for after in [0, 1, 7, 8, 40, 100] {
                    let mut writer = BitWriter::default();
                    (0..before).for_each(|_| writer.put(1, 1));
                    writer.put(magic, 48);
                    (0..after).for_each(|_| writer.put(1, 1));
                    let bytes = writer.finish();
                    for from in [0, before / 2, before] {
                        assert_eq!(scanner.find(&bytes, from), Ok(before));
                    }
                    let cut = &bytes[..(before + 47) as usize / 8];
                    let resume = scanner.find(cut, 0).expect_err("the magic number is cut");
                    assert!(resume <= before, "{resume} is beyond {before}");
                    assert!(scanner.find(&bytes, before + 1).is_err());
                }
            }
        }
    }
}
