//! Measures a block: follows its codes to the last one without undoing the transform.
//!
//! Slower than looking for the next magic number, but right for every valid block, also one that
//! holds the bits of a magic number. Used once the fast way has failed. The end of a block is
//! marked by a symbol of its own, so all codes before it have to be followed.

use super::bits::get;

/// Why a block's end can't be found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BlockEndError {
    /// The bytes end before the block does.
    Truncated,
    /// This is no block.
    Corrupt,
}

/// A Huffman code: how long codes are and where each length's codes end.
struct CodeBook {
    /// For each length from 1: the first value that has a longer code, in 20 bits.
    limits: Vec<u64>,
    /// The end-of-block code and its length.
    end: (u64, u64),
}

/// Bits of the longest code that bzip2 allows.
const MAX_CODE_BITS: u64 = 20;
/// Symbols that are coded with one code book before the next one is chosen.
const GROUP_SYMBOLS: u32 = 50;

/// A position in the bits of a block, moved on by each read.
struct BitCursor<'a> {
    bytes: &'a [u8],
    position: u64,
}

impl BitCursor<'_> {
    fn take(&mut self, count: u64) -> Result<u64, BlockEndError> {
        let value = get(self.bytes, self.position, count).ok_or(BlockEndError::Truncated)?;
        self.position += count;
        Ok(value)
    }

    /// Reads a code book of `symbols` symbols, the last of which ends the block.
    fn codes(&mut self, symbols: usize) -> Result<CodeBook, BlockEndError> {
        let mut length = self.take(5)?;
        let mut lengths = Vec::with_capacity(symbols);
        for _ in 0..symbols {
            loop {
                if !(1..=MAX_CODE_BITS).contains(&length) {
                    return Err(BlockEndError::Corrupt);
                }
                if self.take(1)? == 0 {
                    break;
                }
                length = if self.take(1)? == 0 { length + 1 } else { length - 1 };
            }
            lengths.push(length);
        }
        let (mut code, mut limits, mut end) = (0_u64, Vec::new(), (0, 0));
        for length in 1..=MAX_CODE_BITS {
            let count = lengths.iter().filter(|&&other| other == length).count();
            code += count as u64;
            if length == lengths[symbols - 1] && end.1 == 0 {
                // The last symbol has the last code of its length.
                end = (code - 1, length);
            }
            limits.push(code << (MAX_CODE_BITS - length));
            code <<= 1;
        }
        Ok(CodeBook { limits, end })
    }

    /// Follows one code; true for the one that ends the block.
    fn symbol(&mut self, codes: &CodeBook) -> Result<bool, BlockEndError> {
        let available = (self.bytes.len() as u64 * 8).saturating_sub(self.position).min(MAX_CODE_BITS);
        let bits = get(self.bytes, self.position, available).unwrap_or(0) << (MAX_CODE_BITS - available);
        let length = codes.limits.iter().position(|&limit| bits < limit).ok_or(BlockEndError::Corrupt)? as u64 + 1;
        let code = self.take(length)?;
        Ok((code, length) == codes.end)
    }
}

/// Returns the bit behind the block whose magic number stands at bit `start`. `symbols_max` is how
/// many bytes a block of this stream may hold, so that damaged data does not send it through the
/// whole window.
pub(super) fn block_end(bytes: &[u8], start: u64, symbols_max: u32) -> Result<u64, BlockEndError> {
    let mut walk = BitCursor { bytes, position: start + super::MAGIC_BITS + super::CRC_BITS };
    // Whether randomised, and where the transform starts.
    walk.take(25)?;
    let rows = walk.take(16)?;
    let mut used = 0;
    for _ in 0..rows.count_ones() {
        used += walk.take(16)?.count_ones() as usize;
    }
    let books = walk.take(3)? as usize;
    let choices = walk.take(15)?;
    if used == 0 || !(2..=6).contains(&books) || choices == 0 {
        return Err(BlockEndError::Corrupt);
    }
    let mut recent: Vec<usize> = (0..books).collect();
    let mut chosen = Vec::with_capacity(choices as usize);
    for _ in 0..choices {
        let mut back = 0;
        while walk.take(1)? == 1 {
            back += 1;
            if back == books {
                return Err(BlockEndError::Corrupt);
            }
        }
        recent[..=back].rotate_right(1);
        chosen.push(recent[0]);
    }
    let books = (0..books).map(|_| walk.codes(used + 2)).collect::<Result<Vec<_>, _>>()?;
    let mut symbols = 0;
    for book in chosen {
        for _ in 0..GROUP_SYMBOLS {
            if walk.symbol(&books[book])? {
                return Ok(walk.position);
            }
            symbols += 1;
            if symbols > symbols_max {
                return Err(BlockEndError::Corrupt);
            }
        }
    }
    Err(BlockEndError::Corrupt)
}
