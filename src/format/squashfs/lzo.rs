//! Decodes LZO1X, without `unsafe`: what every variant of the compressor writes (`lzo1x_1` to
//! `lzo1x_999`).
//!
//! Format facts: the kernel's `Documentation/staging/lzo.rst`. Each step checks both buffers, so
//! that no input can make it read or write outside of them.

use crate::error::{Error, Result};

/// How many literals the instruction before copied; the meaning of an instruction below 16 depends
/// on it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum PrecedingLiterals {
    None,
    /// One to three, which the last match brought along.
    Few,
    /// A run of four or more.
    Run,
}

/// Decodes all of `input` into `output` and returns how many bytes that gave.
///
/// # Errors
/// `Malformed` for a stream that is cut, goes on behind its end, looks back before its start or gives more than
/// `output` holds.
pub(super) fn decode(input: &[u8], output: &mut [u8]) -> Result<usize> {
    let mut stream = LzoStream { input, at: 0, output, filled: 0 };
    let mut before = PrecedingLiterals::None;
    // The first byte may be a run of literals by itself.
    if let Some(&first) = input.first()
        && first > 17
    {
        stream.at = 1;
        let count = usize::from(first - 17);
        stream.literals(count)?;
        before = if count < 4 { PrecedingLiterals::Few } else { PrecedingLiterals::Run };
    }
    loop {
        let code = stream.byte()?;
        let instruction = usize::from(code);
        let (length, distance, trailing) = match (code, before) {
            (0..=15, PrecedingLiterals::None) => {
                let count = if code == 0 { stream.long(15)? } else { instruction };
                stream.literals(count.checked_add(3).ok_or_else(broken)?)?;
                before = PrecedingLiterals::Run;
                continue;
            }
            (0..=15, PrecedingLiterals::Few) => {
                (2, (usize::from(stream.byte()?) << 2) + (instruction >> 2) + 1, instruction)
            }
            (0..=15, PrecedingLiterals::Run) => {
                (3, (usize::from(stream.byte()?) << 2) + (instruction >> 2) + 0x801, instruction)
            }
            (16..=31, _) => {
                let length = match instruction & 7 {
                    0 => stream.long(7)?,
                    short => short,
                };
                let word = stream.word()?;
                let distance = ((instruction & 8) << 11) + (word >> 2);
                if distance == 0 {
                    // The end, which nothing may follow.
                    return if length == 1 && stream.at == input.len() { Ok(stream.filled) } else { Err(broken()) };
                }
                (length.checked_add(2).ok_or_else(broken)?, distance + 0x4000, word)
            }
            (32..=63, _) => {
                let length = match instruction & 31 {
                    0 => stream.long(31)?,
                    short => short,
                };
                let word = stream.word()?;
                (length.checked_add(2).ok_or_else(broken)?, (word >> 2) + 1, word)
            }
            (64..=255, _) => {
                ((instruction >> 5) + 1, (usize::from(stream.byte()?) << 3) + ((instruction >> 2) & 7) + 1, instruction)
            }
        };
        stream.copy(distance, length)?;
        let trailing = trailing & 3;
        stream.literals(trailing)?;
        before = if trailing == 0 { PrecedingLiterals::None } else { PrecedingLiterals::Few };
    }
}

/// The input with its position, and the output as far as it is filled.
struct LzoStream<'a> {
    input: &'a [u8],
    at: usize,
    output: &'a mut [u8],
    filled: usize,
}

impl LzoStream<'_> {
    /// The next byte of the input.
    fn byte(&mut self) -> Result<u8> {
        let byte = *self.input.get(self.at).ok_or_else(broken)?;
        self.at += 1;
        Ok(byte)
    }

    /// A little-endian number of two bytes.
    fn word(&mut self) -> Result<usize> {
        Ok(usize::from(self.byte()?) | usize::from(self.byte()?) << 8)
    }

    /// A length that did not fit its instruction: 255 for each zero, and the first other byte.
    fn long(&mut self, mut length: usize) -> Result<usize> {
        loop {
            match self.byte()? {
                0 => length = length.checked_add(255).ok_or_else(broken)?,
                last => return length.checked_add(usize::from(last)).ok_or_else(broken),
            }
        }
    }

    /// Copies bytes from the input to the output.
    fn literals(&mut self, count: usize) -> Result<()> {
        let from = self.at.checked_add(count).and_then(|end| self.input.get(self.at..end)).ok_or_else(broken)?;
        let room = self.filled.checked_add(count).and_then(|end| self.output.get_mut(self.filled..end));
        room.ok_or_else(broken)?.copy_from_slice(from);
        self.at += count;
        self.filled += count;
        Ok(())
    }

    /// Repeats `length` bytes from `distance` before; they may overlap with what they make.
    fn copy(&mut self, distance: usize, length: usize) -> Result<()> {
        let from = self.filled.checked_sub(distance).ok_or_else(broken)?;
        let end = self.filled.checked_add(length).filter(|end| *end <= self.output.len()).ok_or_else(broken)?;
        if length <= distance {
            self.output.copy_within(from..from + length, self.filled);
        } else {
            for at in self.filled..end {
                self.output[at] = self.output[at - distance];
            }
        }
        self.filled = end;
        Ok(())
    }
}

/// The error for a block that is damaged.
fn broken() -> Error {
    Error::malformed("a block does not decode as lzo")
}

#[cfg(test)]
mod tests {
    use super::decode;

    #[test]
    fn literals_matches_and_the_end_are_decoded() {
        // 4 literals, then 20 bytes from 4 back, then the end.
        let stream = [21, b'a', b'b', b'c', b'd', 32 | 18, 3 << 2, 0, 17, 0, 0];
        let mut out = [0; 64];
        let length = decode(&stream, &mut out).unwrap_or_default();
        assert_eq!(&out[..length], b"abcdabcdabcdabcdabcdabcd");
    }

    #[test]
    fn stream_that_is_cut_or_too_long_or_looks_too_far_back_is_refused() {
        let stream = [21, b'a', b'b', b'c', b'd', 32 | 18, 3 << 2, 0, 17, 0, 0];
        for length in 0..stream.len() {
            assert!(decode(&stream[..length], &mut [0; 64]).is_err(), "{length}");
        }
        assert!(decode(&[&stream[..], b"x"].concat(), &mut [0; 64]).is_err());
        assert!(decode(&stream, &mut [0; 23]).is_err());
        assert!(decode(&[18, b'a', 32 | 18, 3 << 2, 0, 17, 0, 0], &mut [0; 64]).is_err());
    }

    #[test]
    fn no_input_makes_it_panic_or_run_on() {
        let mut state = 1_u64;
        for round in 0..20_000 {
            let bytes: Vec<u8> = (0..round % 60)
                .map(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    (state >> 33) as u8
                })
                .collect();
            let _ = decode(&bytes, &mut [0; 300]);
        }
    }
}
