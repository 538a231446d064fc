//! A digest of a file's content for which runs of zeros cost nothing, whether they are stored or
//! holes.
//!
//! For comparing contents only, not a checksum that others compute: a sparse file may have 16 TiB
//! of which nothing is stored, which would take hours to hash byte by byte.

use crate::fingerprint::{Fingerprint, Hasher};

/// Bytes of a block. Blocks of zeros are left out of the digest; others are hashed with their
/// number.
const BLOCK: usize = 64 << 10;

/// Takes a file's data in ascending order, with any holes between.
#[derive(Default)]
pub(super) struct ContentDigest {
    hasher: Hasher,
    /// The block being filled: its number, and its bytes as far as they came.
    number: u64,
    block: Vec<u8>,
}

impl ContentDigest {
    /// Adds bytes at `offset`, which must not be before the end of the last ones.
    pub(super) fn take(&mut self, mut offset: u64, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let number = offset / BLOCK as u64;
            if number != self.number {
                self.end_block();
                self.number = number;
            }
            let at = usize::try_from(offset % BLOCK as u64).unwrap_or(0);
            let now = bytes.len().min(BLOCK - at);
            self.block.resize(at, 0);
            self.block.extend_from_slice(&bytes[..now]);
            bytes = &bytes[now..];
            offset = offset.saturating_add(now as u64);
        }
    }

    /// The digest: equal for two files exactly when their sizes and contents are.
    pub(super) fn finish(mut self, size: u64) -> Fingerprint {
        self.end_block();
        self.hasher.update(&size.to_le_bytes());
        self.hasher.finish()
    }

    /// Hashes the current block, unless it is all zeros.
    fn end_block(&mut self) {
        if self.block.iter().any(|&byte| byte != 0) {
            self.block.resize(BLOCK, 0);
            self.hasher.update(&self.number.to_le_bytes());
            self.hasher.update(&self.block);
        }
        self.block.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::{BLOCK, ContentDigest};

    #[test]
    fn zeros_and_holes_are_the_same_and_sixteen_tib_of_them_take_no_time() {
        let size = 16 << 40;
        let mut stored = ContentDigest::default();
        stored.take(0, &vec![0; 3 * BLOCK]);
        stored.take(size - 1, b"x");
        let mut hole = ContentDigest::default();
        hole.take(size - 1, b"x");
        assert_eq!(stored.finish(size), hole.finish(size));
    }

    #[test]
    fn content_place_and_size_count_and_pieces_do_not() {
        let digest = |pieces: &[(u64, &[u8])], size| {
            let mut digest = ContentDigest::default();
            pieces.iter().for_each(|(offset, bytes)| digest.take(*offset, bytes));
            digest.finish(size)
        };
        let whole: Vec<u8> = (0..200_000_u32).map(|n| n as u8).collect();
        let (a, b) = whole.split_at(70_001);
        let one = digest(&[(0, &whole)], 200_000);
        assert_eq!(one, digest(&[(0, a), (70_001, b)], 200_000));
        assert_ne!(one, digest(&[(0, a), (70_002, b)], 200_001));
        assert_ne!(digest(&[], 1), digest(&[], 2));
        assert_ne!(digest(&[(0, b"x")], 9), digest(&[(1, b"x")], 9));
    }
}
