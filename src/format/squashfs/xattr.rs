//! Reads extended attributes: a table of sets, each a run of names and values. Members with the
//! same attributes share a set. A value may be stored out of line, shared by several sets.

use super::fields::Fields;
use super::metadata_blocks::{MetadataBlocks, MetadataCursor, TableRegion};
use super::superblock::Superblock;
use super::tables::LookupTable;
use crate::error::{Error, Result};
use crate::io::ReadAt;
use crate::limits::Limits;

/// The prefixes that names are stored without, by their numbers.
pub(super) const PREFIXES: [&[u8]; 3] = [b"user.", b"trusted.", b"security."];
/// Whether an attribute of this name can be stored: SquashFS has three name spaces, `system.*`
/// (ACLs) is not one of them.
pub(crate) fn holds(name: &[u8]) -> bool {
    PREFIXES.iter().any(|prefix| name.strip_prefix(*prefix).is_some_and(|rest| !rest.is_empty()))
}

/// The bit in an attribute's type that says its value is stored out of line.
const ELSEWHERE: u16 = 0x100;
/// Bytes of a set's record in the table.
pub(super) const RECORD: usize = 16;
/// Bytes before the table's index.
pub(super) const HEADER: u64 = 16;

/// Where the sets and their names and values are.
pub(super) struct Xattrs {
    /// The records of the sets, by number.
    sets: LookupTable,
    /// Where names and values are.
    pairs: TableRegion,
}

impl Xattrs {
    /// Finds the table of sets, without reading any.
    ///
    /// # Errors
    /// `Malformed` where the table is not in the image or its parts are out of order; `Io`.
    pub(super) fn open(source: &impl ReadAt, superblock: &Superblock, table: u64) -> Result<Self> {
        let index = table.checked_add(HEADER).filter(|end| *end <= superblock.bytes_used);
        let index =
            index.ok_or_else(|| Error::malformed("the xattr table lies outside of the image").at_offset(table))?;
        let mut header = [0; 16];
        source.read_exact_at(&mut header, table)?;
        let mut header = Fields(&header);
        let (start, count) = (header.u64()?, header.u32()?);
        if start < superblock.id_table || start > table {
            return Err(Error::malformed("the extended attributes lie outside of their table").at_offset(start));
        }
        let sets = TableRegion { start, end: table, name: "xattr id table" };
        Ok(Self {
            sets: LookupTable::new(sets, index, superblock.bytes_used, count, RECORD)?,
            pairs: TableRegion { start, end: table, name: "xattr table" },
        })
    }

    /// The attributes of one set.
    ///
    /// # Errors
    /// `LimitExceeded` for the number of attributes, a name or a value; `Malformed` for an unknown
    /// name space, an invalid name, or a name that is there twice; `Io`.
    pub(super) fn get(
        &self,
        source: &impl ReadAt,
        blocks: &MetadataBlocks,
        limits: &Limits,
        set: u32,
    ) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let record: [u8; RECORD] = self.sets.get(source, blocks, set)?;
        let mut record = Fields(&record);
        let (place, count) = (record.u64()?, record.u32()?);
        if u64::from(count) > limits.xattrs_per_entry {
            return Err(Error::limit("xattrs_per_entry", limits.xattrs_per_entry, "the number of extended attributes"));
        }
        let mut cursor = self.cursor(place)?;
        let mut pairs: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        for _ in 0..count {
            let header: [u8; 4] = cursor.array(source, blocks)?;
            let mut header = Fields(&header);
            let (kind, length) = (header.u16()?, header.u16()?);
            let Some(prefix) = PREFIXES.get(usize::from(kind & !ELSEWHERE)) else {
                return Err(Error::malformed(format!("an extended attribute is of the unknown kind {kind}")));
            };
            let mut name = prefix.to_vec();
            if name.len() as u64 + u64::from(length) > limits.xattr_name {
                return Err(Error::limit("xattr_name", limits.xattr_name, "the name of an extended attribute"));
            }
            name.extend(cursor.bytes(source, blocks, usize::from(length))?);
            if length == 0 || name.contains(&0) {
                return Err(Error::malformed("the name of an extended attribute is empty or holds a NUL"));
            }
            let value = if kind & ELSEWHERE == 0 {
                value(&mut cursor, source, blocks, limits)?
            } else {
                let reference: [u8; 12] = cursor.array(source, blocks)?;
                let mut reference = Fields(&reference);
                if reference.u32()? != 8 {
                    return Err(Error::malformed("the place of an extended attribute's value is not 8 bytes"));
                }
                value(&mut self.cursor(reference.u64()?)?, source, blocks, limits)?
            };
            pairs.push((name, value));
        }
        let mut names: Vec<_> = pairs.iter().map(|(name, _)| name).collect();
        names.sort_unstable();
        if names.windows(2).any(|pair| pair.first() == pair.last()) {
            return Err(Error::malformed("an extended attribute stands twice in one set"));
        }
        Ok(pairs)
    }

    /// A cursor at a reference: block in the upper 48 bits, offset in the lower 16.
    fn cursor(&self, place: u64) -> Result<MetadataCursor> {
        // The lower sixteen bits are the offset, the rest is the block.
        MetadataCursor::new(self.pairs, place >> 16, (place & 0xffff) as u16)
    }
}

/// Reads a value, within the limit on its length.
fn value(
    cursor: &mut MetadataCursor,
    source: &impl ReadAt,
    blocks: &MetadataBlocks,
    limits: &Limits,
) -> Result<Vec<u8>> {
    let length = u32::from_le_bytes(cursor.array(source, blocks)?);
    if u64::from(length) > limits.xattr_value {
        return Err(Error::limit("xattr_value", limits.xattr_value, "the value of an extended attribute"));
    }
    cursor.bytes(source, blocks, usize::try_from(length).unwrap_or(usize::MAX))
}
