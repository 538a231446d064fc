//! Writes metadata blocks, and look-up tables of equal records made of them: the counterpart of
//! `metadata_blocks` and `tables`.
//!
//! A metadata block has 8 KiB of plain bytes, behind a header of 16 bits: the stored length, and a
//! bit that says that the block is not compressed. Only the last block of a table may be shorter.

use std::io::{Read, Seek, Write};

use super::super::metadata_blocks::RAW;
use super::super::superblock::METADATA_BLOCK;
use super::content::DataWriter;
use super::encode::Encoder;
use crate::error::Result;

/// Collects bytes into metadata blocks.
pub(super) struct MetadataWriter {
    /// Compresses full blocks.
    encoder: Encoder,
    /// The block that is being filled.
    plain: Vec<u8>,
    /// The blocks that are complete, with their headers.
    out: Vec<u8>,
}

impl MetadataWriter {
    /// A table without any bytes.
    pub(super) fn new(encoder: Encoder) -> Self {
        Self { encoder, plain: Vec::with_capacity(2 * METADATA_BLOCK), out: Vec::new() }
    }

    /// Where the next byte will stand: its block, from the table's start, and the offset in it.
    pub(super) fn place(&self) -> (u64, u16) {
        // There is always less than a block waiting.
        (self.out.len() as u64, self.plain.len() as u16)
    }

    /// Appends bytes, across the border of blocks.
    ///
    /// # Errors
    /// Those of compressing a block that became full.
    pub(super) fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let room = METADATA_BLOCK - self.plain.len();
            let (now, later) = bytes.split_at(bytes.len().min(room));
            self.plain.extend(now);
            bytes = later;
            if self.plain.len() == METADATA_BLOCK {
                self.end_block()?;
            }
        }
        Ok(())
    }

    /// Compresses the block that is full, behind its header.
    fn end_block(&mut self) -> Result<()> {
        // A block has at most 8 KiB.
        let (header, stored) = match self.encoder.encode(&self.plain)? {
            Some(packed) => (packed.len() as u16, packed),
            None => (self.plain.len() as u16 | RAW, self.plain.as_slice()),
        };
        self.out.extend(header.to_le_bytes());
        self.out.extend(stored);
        self.plain.clear();
        Ok(())
    }

    /// All blocks, and the encoder for the next table.
    pub(super) fn finish(mut self) -> Result<(Vec<u8>, Encoder)> {
        if !self.plain.is_empty() {
            self.end_block()?;
        }
        Ok((self.out, self.encoder))
    }
}

/// Writes a table of records and its index; returns where the index stands.
///
/// The index has the position of each block, and is not compressed.
pub(super) fn write<W: Read + Write + Seek>(
    contents: &mut DataWriter<W>,
    encoder: &mut Encoder,
    records: &[u8],
) -> Result<u64> {
    let index = write_blocks(contents, encoder, records)?;
    contents.append(&index)
}

/// Writes a table of records and returns its index.
///
/// For tables whose index stands behind something else, such as that of extended attributes.
pub(super) fn write_blocks<W: Read + Write + Seek>(
    contents: &mut DataWriter<W>,
    encoder: &mut Encoder,
    records: &[u8],
) -> Result<Vec<u8>> {
    let mut index = Vec::new();
    for plain in records.chunks(METADATA_BLOCK) {
        let (header, stored) = match encoder.encode(plain)? {
            Some(packed) => (packed.len() as u16, packed),
            None => (plain.len() as u16 | RAW, plain),
        };
        let place = contents.append(&header.to_le_bytes())?;
        contents.append(stored)?;
        index.extend(place.to_le_bytes());
    }
    Ok(index)
}
