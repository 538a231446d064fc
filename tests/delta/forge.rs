//! Writes deltas by hand, right and wrong ones.

/// A number as VCDIFF writes it.
pub(crate) fn number(value: u64) -> Vec<u8> {
    let mut digits = vec![(value & 0x7f) as u8];
    let mut rest = value >> 7;
    while rest > 0 {
        digits.insert(0, (rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    digits
}

/// The bytes before the windows, without a compressor.
pub(crate) const PLAIN: &[u8] = &[0xd6, 0xc3, 0xc4, 0, 0];
/// With DJW.
pub(crate) const DJW: &[u8] = &[0xd6, 0xc3, 0xc4, 0, 1, 1];
/// With LZMA.
pub(crate) const LZMA: &[u8] = &[0xd6, 0xc3, 0xc4, 0, 1, 2];

/// A window. Every field may be set to something wrong; the sizes are right unless `told` is set.
#[derive(Clone, Default)]
pub(crate) struct Window {
    pub(crate) indicator: u8,
    /// Length and offset of the segment.
    pub(crate) segment: Option<(u64, u64)>,
    pub(crate) length: u64,
    pub(crate) compressed: u8,
    pub(crate) data: Vec<u8>,
    pub(crate) instructions: Vec<u8>,
    pub(crate) addresses: Vec<u8>,
    pub(crate) checksum: Option<u32>,
    /// The size of the encoding, if it is to be wrong.
    pub(crate) told: Option<u64>,
}

impl Window {
    pub(crate) fn new(length: u64, data: &[u8], instructions: &[u8]) -> Self {
        Self { length, data: data.to_vec(), instructions: instructions.to_vec(), ..Self::default() }
    }

    pub(crate) fn with_base(mut self, length: u64, offset: u64, addresses: &[u8]) -> Self {
        self.indicator |= 1;
        self.segment = Some((length, offset));
        self.addresses = addresses.to_vec();
        self
    }

    pub(crate) fn with_target(mut self, length: u64, offset: u64, addresses: &[u8]) -> Self {
        self.indicator |= 2;
        self.segment = Some((length, offset));
        self.addresses = addresses.to_vec();
        self
    }

    pub(crate) fn checked(mut self, checksum: u32) -> Self {
        self.indicator |= 4;
        self.checksum = Some(checksum);
        self
    }

    pub(crate) fn compressed(mut self, bits: u8) -> Self {
        self.compressed = bits;
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut encoding = number(self.length);
        encoding.push(self.compressed);
        for section in [&self.data, &self.instructions, &self.addresses] {
            encoding.extend(number(section.len() as u64));
        }
        encoding.extend(self.checksum.map(u32::to_be_bytes).into_iter().flatten());
        for section in [&self.data, &self.instructions, &self.addresses] {
            encoding.extend(section);
        }
        let mut bytes = vec![self.indicator];
        if let Some((length, offset)) = self.segment {
            bytes.extend(number(length));
            bytes.extend(number(offset));
        }
        bytes.extend(number(self.told.unwrap_or(encoding.len() as u64)));
        bytes.extend(encoding);
        bytes
    }
}

/// A delta of a header and windows.
pub(crate) fn delta(header: &[u8], windows: &[Window]) -> Vec<u8> {
    let mut bytes = header.to_vec();
    windows.iter().for_each(|window| bytes.extend(window.bytes()));
    bytes
}

/// Adler-32, by its definition.
pub(crate) fn adler32(bytes: &[u8]) -> u32 {
    let (mut low, mut high) = (1_u32, 0_u32);
    for byte in bytes {
        low = (low + u32::from(*byte)) % 65_521;
        high = (high + low) % 65_521;
    }
    high << 16 | low
}

/// CRC-32, by its definition: the headers of `.xz` have it.
pub(crate) fn crc32(bytes: &[u8]) -> u32 {
    let mut sum = u32::MAX;
    for byte in bytes {
        sum ^= u32::from(*byte);
        for _ in 0..8 {
            sum = sum >> 1 ^ if sum & 1 == 1 { 0xedb8_8320 } else { 0 };
        }
    }
    !sum
}

/// Bits, from the lowest of each byte on; numbers with their highest bit first.
#[derive(Default)]
pub(crate) struct Bits {
    bytes: Vec<u8>,
    used: usize,
}

impl Bits {
    pub(crate) fn push(mut self, count: u32, value: u32) -> Self {
        for bit in (0..count).rev() {
            if self.used.is_multiple_of(8) {
                self.bytes.push(0);
            }
            let at = self.used % 8;
            *self.bytes.last_mut().unwrap() |= ((value >> bit & 1) as u8) << at;
            self.used += 1;
        }
        self
    }

    pub(crate) fn repeat(self, times: u32, count: u32, value: u32) -> Self {
        (0..times).fold(self, |bits, _| bits.push(count, value))
    }

    /// The section: the size that it claims to have, and the bits.
    pub(crate) fn section(self, length: u64) -> Vec<u8> {
        let mut bytes = number(length);
        bytes.extend(self.bytes);
        bytes
    }
}

/// The head of a DJW section with one table, in which every byte has the code that it is itself: eight bits.
pub(crate) fn flat_djw() -> Bits {
    // One table; seven code lengths: of "run" and of "length 8", one bit each.
    let head = Bits::default().push(3, 0).push(4, 0).push(4, 1).repeat(5, 4, 0).push(4, 1);
    // "Length 8", and 255 times more: the digits of a run.
    head.push(1, 1).repeat(8, 1, 0)
}

/// The `.xz` stream and block headers, with one byte for the dictionary's size.
pub(crate) fn xz_header(dictionary: u8) -> Vec<u8> {
    let mut bytes = vec![0xfd, b'7', b'z', b'X', b'Z', 0, 0, 0];
    bytes.extend(crc32(&[0, 0]).to_le_bytes());
    let block = [2, 0, 0x21, 1, dictionary, 0, 0, 0];
    bytes.extend(block);
    bytes.extend(crc32(&block).to_le_bytes());
    bytes
}

/// An LZMA2 chunk that is not compressed; the first one resets the dictionary.
pub(crate) fn stored_chunk(bytes: &[u8], first: bool) -> Vec<u8> {
    let mut chunk = vec![if first { 1 } else { 2 }];
    chunk.extend(((bytes.len() - 1) as u16).to_be_bytes());
    chunk.extend_from_slice(bytes);
    chunk
}

/// An LZMA section: the size that it claims to have, then bytes.
pub(crate) fn lzma_section(length: u64, parts: &[&[u8]]) -> Vec<u8> {
    let mut bytes = number(length);
    parts.iter().for_each(|part| bytes.extend_from_slice(part));
    bytes
}
