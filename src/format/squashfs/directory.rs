//! Reads a directory's listing: runs of entries, each behind a header, sorted by name.
//!
//! Entries are returned one at a time, each name checked before anything else sees it. In a listing
//! a header (12 bytes) gives the block of the inode table and the first inode number for up to 256
//! entries of 8 bytes and a name.

use super::fields::Fields;
use super::inode::{InodeRef, ListingRef};
use super::metadata_blocks::{MetadataBlocks, MetadataCursor, TableRegion};
use crate::error::{Error, Result};
use crate::io::ReadAt;
use crate::limits::Limits;

/// Entries behind one header at most, by the kernel's `SQUASHFS_DIR_COUNT`.
pub(super) const RUN: u32 = 256;
/// Bytes that a listing's size counts for the `.` and `..` entries, which are not stored.
pub(super) const UNSTORED: u32 = 3;

/// An entry: a name, the inode that it names, and the type that the entry gives, which must be the
/// inode's.
pub(super) struct Dirent {
    pub(super) name: Vec<u8>,
    pub(super) inode: InodeRef,
    /// The basic type's number, which must match the inode.
    pub(super) kind: u16,
}

/// A listing that is being read. Holds the last name, to check that they ascend.
pub(super) struct Listing {
    /// None for an empty directory, whose position may point anywhere.
    cursor: Option<MetadataCursor>,
    /// Bytes of the listing that were not read.
    remaining: u32,
    /// Entries left behind the current header.
    in_run: u32,
    /// The block of the inode table that the current header names.
    block: u32,
    /// The name before, to check that names ascend.
    last: Vec<u8>,
}

impl Listing {
    /// Starts at the beginning of a listing. An empty one needs no valid position, as some writers
    /// leave none.
    pub(super) fn new(at: ListingRef, table: TableRegion) -> Result<Self> {
        let remaining = at.bytes.saturating_sub(UNSTORED);
        let cursor =
            if remaining > 0 { Some(MetadataCursor::new(table, u64::from(at.block), at.offset)?) } else { None };
        Ok(Self { cursor, remaining, in_run: 0, block: 0, last: Vec::new() })
    }

    /// Drops the decoded block, for a listing that waits while a subdirectory is read. Otherwise a
    /// deep tree would hold a block of 8 KiB for each level.
    pub(super) fn rest(&mut self) {
        if let Some(cursor) = &mut self.cursor {
            cursor.rest();
        }
    }

    /// Returns the next entry, `None` after the last.
    ///
    /// # Errors
    /// `UnsafePath` for a name that is no single component and for one that comes twice;
    /// `Malformed` for names that are not sorted.
    pub(super) fn next(
        &mut self,
        source: &impl ReadAt,
        blocks: &MetadataBlocks,
        limits: &Limits,
    ) -> Result<Option<Dirent>> {
        let Some(cursor) = &mut self.cursor else { return Ok(None) };
        if self.in_run == 0 {
            if self.remaining == 0 {
                return Ok(None);
            }
            self.remaining = take(self.remaining, 12)?;
            let header: [u8; 12] = cursor.array(source, blocks)?;
            let mut header = Fields(&header);
            self.in_run = header.u32()?.saturating_add(1);
            self.block = header.u32()?;
            if self.in_run > RUN {
                return Err(Error::malformed(format!("{} entries of a directory behind one header", self.in_run)));
            }
        }
        self.in_run -= 1;
        self.remaining = take(self.remaining, 8)?;
        let entry: [u8; 8] = cursor.array(source, blocks)?;
        let mut entry = Fields(&entry);
        let (offset, _number) = (entry.u16()?, entry.i16()?);
        let kind = entry.u16()?;
        let length = u32::from(entry.u16()?) + 1;
        self.remaining = take(self.remaining, length)?;
        if u64::from(length) > limits.component {
            return Err(Error::limit("component", limits.component, "a name"));
        }
        let name = cursor.bytes(source, blocks, usize::try_from(length).unwrap_or(usize::MAX))?;
        check_name(&name)?;
        if name == self.last {
            return Err(Error::unsafe_path("a name stands twice in one directory").in_entry(&name));
        }
        if name < self.last {
            return Err(Error::malformed("the names of a directory are not sorted").in_entry(&name));
        }
        self.last.clone_from(&name);
        Ok(Some(Dirent { name, inode: InodeRef::new(self.block, offset), kind }))
    }
}

/// What remains of a listing after `bytes` of it.
fn take(remaining: u32, bytes: u32) -> Result<u32> {
    remaining.checked_sub(bytes).ok_or_else(|| Error::malformed("a directory's entries are longer than its listing"))
}

/// Fails unless `name` is one plain component.
pub(super) fn check_name(name: &[u8]) -> Result<()> {
    let wrong = match name {
        b"" => "a name is empty",
        b"." | b".." => "a name is `.` or `..`",
        name if name.contains(&b'/') => "a name holds a slash",
        name if name.contains(&0) => "a name holds a NUL",
        _ => return Ok(()),
    };
    Err(Error::unsafe_path(wrong).in_entry(name))
}
