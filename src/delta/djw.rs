//! DJW, the Huffman coding that xdelta3 offers as secondary compression (`-S djw`). Decoding only.
//!
//! A section is one bit stream, each byte from its lowest bit on; numbers and codes have their highest bit first:
//!
//! - 3 bits: the number of code tables, less one. With several, 5 bits: a table serves `5 · (n + 1)` bytes at a time (a
//!   *sector*); one table serves the whole section.
//! - 4 bits: how many lengths follow beyond the first seven, and those lengths, 4 bits each: the code in which the tables'
//!   own code lengths are written.
//! - All tables' code lengths, one after the other, in move-to-front and run coding. A byte without a code in the first
//!   table has none in the others, and is not written there.
//! - With several tables: 3-bit code lengths, and in that code, move-to-front and run coded, the table of each sector.
//! - The bytes.
//!
//! All codes are canonical: shorter ones first, those of one length in the order of their symbols.

use crate::error::{Error, Result};

/// Longest code of a byte.
const MAX_CODE_BITS: usize = 20;
/// Symbols of the code of code lengths: two for runs, one for each length.
const LENGTH_SYMBOLS: usize = MAX_CODE_BITS + 2;
/// How many lengths of that code are always written.
const ALWAYS_WRITTEN: usize = 7;
/// The order in which code lengths stand in the move-to-front list at first.
const FIRST_ORDER: [u8; MAX_CODE_BITS + 1] = [0, 4, 5, 6, 7, 8, 9, 10, 3, 11, 2, 12, 13, 1, 14, 15, 16, 17, 18, 19, 20];

/// Decodes a section of `length` bytes. All of `bytes` must be used up, but for padding bits.
///
/// # Errors
/// `Malformed`.
pub(super) fn decode(bytes: &[u8], length: usize) -> Result<Vec<u8>> {
    let mut bits = Bits { bytes, byte: 0, left: 0 };
    let tables = bits.number(3)? as usize + 1;
    let sector = if tables > 1 { (bits.number(5)? as usize + 1) * 5 } else { length };
    let codes = code_tables(&mut bits, tables)?;
    let choices = if tables > 1 { choices(&mut bits, tables, length.div_ceil(sector.max(1)))? } else { vec![0] };
    // Each byte takes at least one bit, so that a short section can't ask for much memory.
    let mut out = Vec::with_capacity(length.min(bytes.len().saturating_mul(8)));
    for choice in choices {
        let code = codes.get(usize::from(choice)).ok_or_else(|| broken("names a table that it does not have"))?;
        let end = out.len().saturating_add(sector).min(length);
        while out.len() < end {
            out.push(code.symbol(&mut bits)? as u8);
        }
    }
    if !bits.bytes.is_empty() {
        return Err(broken("is longer than its contents"));
    }
    Ok(out)
}

/// Reads the code tables of bytes.
fn code_tables(bits: &mut Bits<'_>, tables: usize) -> Result<Vec<Code>> {
    let written = bits.number(4)? as usize + ALWAYS_WRITTEN;
    let mut lengths = [0; LENGTH_SYMBOLS];
    for place in lengths.iter_mut().take(written) {
        *place = bits.number(4)? as u8;
    }
    let code = Code::new(&lengths)?;
    let lengths = run_decode(bits, &code, &mut FIRST_ORDER.to_vec(), 256 * tables, Some(256))?;
    lengths.chunks(256).map(Code::new).collect()
}

/// Reads which table each sector uses.
fn choices(bits: &mut Bits<'_>, tables: usize, sectors: usize) -> Result<Vec<u8>> {
    let mut lengths = vec![0; tables + 1];
    for place in &mut lengths {
        *place = bits.number(3)? as u8;
    }
    let code = Code::new(&lengths)?;
    let mut order: Vec<u8> = (0..=tables as u8).collect();
    run_decode(bits, &code, &mut order, sectors, None)
}

/// Undoes run coding and move-to-front coding. With `skip`, a value is 0 and not written where that many values before
/// stands a 0.
fn run_decode(
    bits: &mut Bits<'_>,
    code: &Code,
    order: &mut [u8],
    count: usize,
    skip: Option<usize>,
) -> Result<Vec<u8>> {
    let mut values: Vec<u8> = Vec::new();
    let mut repeat: usize = 0;
    let mut place: usize = 0;
    // Run symbols in a row are the digits of a number in base two, with the digits 1 and 2.
    let mut digit = 0;
    while values.len() < count {
        let before = skip.and_then(|skip| values.get(values.len().checked_sub(skip)?));
        if before == Some(&0) {
            values.push(0);
        } else if repeat > 0 {
            repeat -= 1;
            values.push(order.first().copied().unwrap_or_default());
        } else if place > 0 {
            let part = order.get_mut(..=place).ok_or_else(|| broken("has a code length that does not exist"))?;
            part.rotate_right(1);
            values.push(part.first().copied().unwrap_or_default());
            place = 0;
        } else {
            match code.symbol(bits)? {
                symbol @ 0..=1 => {
                    // A run is at least 2^digit long, and values are few: it never comes near 32.
                    repeat = (symbol as usize + 1).checked_shl(digit).unwrap_or(usize::MAX);
                    digit += 1;
                }
                symbol => {
                    place = symbol as usize - 1;
                    digit = 0;
                }
            }
        }
    }
    if repeat > 0 {
        return Err(broken("has a run that is too long"));
    }
    Ok(values)
}

/// The bits that are not read yet.
struct Bits<'a> {
    bytes: &'a [u8],
    byte: u8,
    /// How many bits of `byte` are not read.
    left: u32,
}

impl Bits<'_> {
    fn bit(&mut self) -> Result<u32> {
        if self.left == 0 {
            let (first, rest) = self.bytes.split_first().ok_or_else(|| broken("ends early"))?;
            (self.byte, self.bytes, self.left) = (*first, rest, 8);
        }
        let bit = self.byte & 1;
        self.byte >>= 1;
        self.left -= 1;
        Ok(u32::from(bit))
    }

    fn number(&mut self, count: u32) -> Result<u32> {
        let mut value = 0;
        for _ in 0..count {
            value = value << 1 | self.bit()?;
        }
        Ok(value)
    }
}

/// A canonical prefix code.
struct Code {
    /// How many codes there are of each length, from one bit on.
    counts: [u32; MAX_CODE_BITS],
    /// The symbols in the order of their codes.
    symbols: Vec<u16>,
}

impl Code {
    /// The code with these lengths, one for each symbol; 0 for one without a code.
    fn new(lengths: &[u8]) -> Result<Self> {
        let mut counts = [0; MAX_CODE_BITS];
        let mut symbols = Vec::new();
        for (count, length) in counts.iter_mut().zip(1_u8..) {
            for (symbol, _) in (0_u16..).zip(lengths).filter(|(_, there)| **there == length) {
                *count += 1;
                symbols.push(symbol);
            }
        }
        let mut free: u64 = 1;
        for count in counts {
            free = (free * 2).checked_sub(u64::from(count)).ok_or_else(|| broken("has more codes than fit"))?;
        }
        Ok(Self { counts, symbols })
    }

    /// Reads one symbol.
    fn symbol(&self, bits: &mut Bits<'_>) -> Result<u16> {
        let (mut code, mut first, mut index) = (0_u32, 0_u32, 0_u32);
        for count in self.counts {
            code |= bits.bit()?;
            if let Some(offset) = code.checked_sub(first).filter(|offset| *offset < count) {
                let symbol = self.symbols.get((index + offset) as usize);
                return symbol.copied().ok_or_else(|| broken("has a code without a symbol"));
            }
            index += count;
            first = (first + count) << 1;
            code <<= 1;
        }
        Err(broken("has a code that does not exist"))
    }
}

fn broken(what: &str) -> Error {
    Error::malformed(format!("a section of the delta, compressed with DJW, {what}"))
}
