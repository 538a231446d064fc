//! Integers as VCDIFF writes them (RFC 3284, section 2): base 128, most significant digit first, the high bit set on
//! all bytes but the last.

use crate::error::{Error, Result};

/// Bytes of the longest number that fits 64 bits.
pub(super) const MAX_VARINT_BYTES: usize = 10;

/// Appends `value` in as few bytes as possible. xdelta3 refuses longer spellings.
pub(super) fn push(out: &mut Vec<u8>, value: u64) {
    let mut bytes = [0; MAX_VARINT_BYTES];
    let mut start = MAX_VARINT_BYTES;
    let mut rest = value;
    for place in bytes.iter_mut().rev() {
        // Bits above the seventh are the next digit's.
        *place = (rest & 0x7f) as u8 | if start == MAX_VARINT_BYTES { 0 } else { 0x80 };
        start -= 1;
        rest >>= 7;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(bytes.get(start..).unwrap_or_default());
}

/// How many bytes [`push`] appends for `value`.
pub(super) fn length(value: u64) -> u64 {
    u64::from((70 - (value | 1).leading_zeros()) / 7)
}

/// Decodes a number from bytes that `next` gives one by one. `what` names the number in errors.
///
/// # Errors
/// `Malformed` for a number over 64 bits; those of `next`.
pub(super) fn decode(what: &'static str, mut next: impl FnMut() -> Result<u8>) -> Result<u64> {
    let mut value: u64 = 0;
    for _ in 0..MAX_VARINT_BYTES {
        let byte = next()?;
        // The upper seven bits would be lost in the shift.
        if value >> 57 != 0 {
            break;
        }
        value = value << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(Error::malformed(format!("the {what} of the delta is not a 64-bit number")))
}

/// Takes a number from the front of `bytes`.
///
/// # Errors
/// As [`decode`]; `Malformed` when the bytes end inside of it.
pub(super) fn take(what: &'static str, bytes: &mut &[u8]) -> Result<u64> {
    decode(what, || {
        let (first, rest) = bytes
            .split_first()
            .ok_or_else(|| Error::malformed(format!("a section of the delta ends inside of its {what}")))?;
        *bytes = rest;
        Ok(*first)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    const VALUES: [u64; 11] =
        [0, 1, 127, 128, 16_383, 16_384, 123_456_789, u32::MAX as u64, 1 << 56, 1 << 63, u64::MAX];

    #[test]
    fn number_comes_back_as_it_was_written() {
        for value in VALUES {
            let mut bytes = Vec::new();
            push(&mut bytes, value);
            assert_eq!(take("size", &mut &*bytes).unwrap(), value);
        }
    }

    #[test]
    fn length_is_that_of_the_written_number() {
        for value in VALUES {
            let mut bytes = Vec::new();
            push(&mut bytes, value);
            assert_eq!(length(value), bytes.len() as u64, "{value}");
        }
    }

    #[test]
    fn example_of_the_rfc_has_four_bytes() {
        let mut bytes = Vec::new();
        push(&mut bytes, 123_456_789);
        assert_eq!(bytes, [0xba, 0xef, 0x9a, 0x15]);
    }

    #[test]
    fn number_over_64_bits_is_refused() {
        let mut bytes = vec![0x82];
        bytes.extend([0x80; 8]);
        bytes.push(0);
        assert!(take("size", &mut &*bytes).is_err());
    }
}
