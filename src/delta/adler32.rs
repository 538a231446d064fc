//! Adler-32 (RFC 1950, section 8.2), the checksum of a window in xdelta3's dialect.
//!
//! Sixteen columns are summed side by side, so that the compiler can use vector instructions: the
//! usual loop adds byte after byte, and each sum waits for the one before.

const MODULUS: u32 = 65_521;
/// Columns that are summed side by side.
const LANES: usize = 16;
/// Rows between two reductions. The sums of a column stay below 255 · 512² / 2 < 2³².
const ROWS: usize = 512;

/// The checksum of `bytes`.
pub(super) fn adler32(bytes: &[u8]) -> u32 {
    let (mut low, mut high) = (1_u64, 0_u64);
    let modulus = u64::from(MODULUS);
    for block in bytes.chunks(LANES * ROWS) {
        let (rows, rest) = block.as_chunks::<LANES>();
        let mut sums = [0_u32; LANES];
        let mut sums_of_sums = [0_u32; LANES];
        for row in rows {
            for lane in 0..LANES {
                sums_of_sums[lane] += sums[lane];
                sums[lane] += u32::from(row[lane]);
            }
        }
        let count = (rows.len() * LANES) as u64;
        high += count * low;
        for lane in 0..LANES {
            // A byte counts once for each byte from itself to the end of the block.
            high += LANES as u64 * u64::from(sums_of_sums[lane]) + (LANES - lane) as u64 * u64::from(sums[lane]);
            low += u64::from(sums[lane]);
        }
        for byte in rest {
            low += u64::from(*byte);
            high += low;
        }
        low %= modulus;
        high %= modulus;
    }
    // Both are below 2^16 after the reduction.
    (high as u32) << 16 | low as u32
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    fn slow(bytes: &[u8]) -> u32 {
        let (mut low, mut high) = (1_u32, 0_u32);
        for byte in bytes {
            low = (low + u32::from(*byte)) % MODULUS;
            high = (high + low) % MODULUS;
        }
        high << 16 | low
    }

    #[test]
    fn known_value_is_found() {
        assert_eq!(adler32(b"Wikipedia"), 0x11e6_0398);
        assert_eq!(adler32(b""), 1);
    }

    #[test]
    fn sums_are_those_of_the_definition() {
        for length in [1, 15, 16, 17, 8_191, 8_192, 8_193, 50_000] {
            assert_eq!(adler32(&vec![0xff; length]), slow(&vec![0xff; length]), "{length}");
            let bytes: Vec<u8> = (0..length).map(|index| ((index * index) >> 3) as u8).collect();
            assert_eq!(adler32(&bytes), slow(&bytes), "{length}");
        }
    }
}
