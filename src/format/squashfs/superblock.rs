//! The first 96 bytes: what the image holds and where its tables start.
//!
//! Everything that can be judged without reading further is judged here: version, block size, and
//! that the tables are in the order in which every known writer puts them, each before the next,
//! all within the file.

use super::fields::Fields;
use crate::error::{Error, Result};
use crate::limits::Limits;

/// Bytes of the superblock.
pub(crate) const SUPERBLOCK: usize = 96;
/// `hsqs`, as a little-endian number.
pub(super) const MAGIC: u32 = 0x7371_7368;
/// Plain bytes of a metadata block; only the last of a table may hold fewer.
pub(super) const METADATA_BLOCK: usize = 8192;
/// The smallest and the largest data block.
pub(super) const BLOCK_SIZES: std::ops::RangeInclusive<u32> = 4096..=1 << 20;
/// In place of a table's position: the image has no such table.
pub(super) const NO_TABLE: u64 = u64::MAX;
/// In place of an index or number: there is none.
pub(super) const NONE: u32 = u32::MAX;

/// Flags of the superblock, as the writer sets them. A reader needs none.
pub(super) mod flags {
    /// Inodes, data blocks, fragment blocks, extended attributes and ids that are not compressed.
    /// Each block tells for itself; these are for who looks at the superblock only.
    pub(in super::super) const STORED: u16 = 0x1 | 0x2 | 0x8 | 0x100 | 0x800;
    /// No file's tail is in a fragment.
    pub(in super::super) const NO_FRAGMENTS: u16 = 0x10;
    /// The tail of every file is in a fragment.
    pub(in super::super) const ALWAYS_FRAGMENTS: u16 = 0x20;
    /// Files with the same content share it.
    pub(in super::super) const DUPLICATES: u16 = 0x40;
    /// There is an export table, which NFS needs.
    pub(in super::super) const EXPORTABLE: u16 = 0x80;
    /// The compressor's settings stand behind the superblock.
    pub(in super::super) const OPTIONS: u16 = 0x400;
}

/// How blocks are compressed, by the format's own numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SquashFsCompression {
    /// zlib streams.
    Gzip,
    /// The legacy `.lzma` container. Read, not written.
    Lzma,
    /// LZO1X. Read, not written.
    Lzo,
    /// xz streams, with or without branch filters.
    Xz,
    /// Bare LZ4 blocks.
    Lz4,
    /// zstd frames.
    Zstd,
}

impl SquashFsCompression {
    /// The name that `mksquashfs -comp` takes.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Lzma => "lzma",
            Self::Lzo => "lzo",
            Self::Xz => "xz",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }

    /// The format's number of the compressor.
    pub(super) const fn number(self) -> u16 {
        match self {
            Self::Gzip => 1,
            Self::Lzma => 2,
            Self::Lzo => 3,
            Self::Xz => 4,
            Self::Lz4 => 5,
            Self::Zstd => 6,
        }
    }

    /// How the image is compressed whose first bytes are `head`; `None` where they are not those of a SquashFS 4.0.
    pub(crate) fn of_head(head: &[u8]) -> Option<Self> {
        let number = head.get(20..22)?.first_chunk().map(|number| u16::from_le_bytes(*number))?;
        head.starts_with(&MAGIC.to_le_bytes()).then(|| Self::from_number(number).ok())?
    }

    /// The compressor with this number.
    ///
    /// # Errors
    /// `Unsupported` for a number that is not in the format.
    fn from_number(number: u16) -> Result<Self> {
        Ok(match number {
            1 => Self::Gzip,
            2 => Self::Lzma,
            3 => Self::Lzo,
            4 => Self::Xz,
            5 => Self::Lz4,
            6 => Self::Zstd,
            _ => {
                return Err(Error::unsupported(format!("SquashFS compressor number {number} is unknown")));
            }
        })
    }
}

/// How long the image that begins with `head` says that it is, before anything else of it is looked at.
pub(crate) fn bytes_used(head: &[u8]) -> Result<u64> {
    let field = head.get(40..48).and_then(|field| <[u8; 8]>::try_from(field).ok());
    match field {
        Some(field) if head.starts_with(&MAGIC.to_le_bytes()) => Ok(u64::from_le_bytes(field)),
        _ => Err(Error::malformed("the SquashFS is cut short in its superblock")),
    }
}

/// The superblock's fields that matter, checked.
#[derive(Debug, Clone)]
pub(super) struct Superblock {
    /// The number of inodes. Nothing depends on it.
    pub(super) inodes: u32,
    /// When the image was made, in seconds since 1970.
    pub(super) mkfs_time: u32,
    /// Plain bytes of a data block.
    pub(super) block_size: u32,
    /// The number of fragment blocks.
    pub(super) fragments: u32,
    pub(super) compression: SquashFsCompression,
    pub(super) flags: u16,
    /// The number of different owners and groups.
    pub(super) ids: u16,
    /// The root directory's inode: metadata block and offset, as an inode reference.
    pub(super) root: u64,
    /// Bytes of the image without padding.
    pub(super) bytes_used: u64,
    pub(super) id_table: u64,
    pub(super) xattr_table: Option<u64>,
    pub(super) inode_table: u64,
    pub(super) directory_table: u64,
    pub(super) fragment_table: Option<u64>,
    pub(super) export_table: Option<u64>,
}

impl Superblock {
    /// Reads and checks; `length` is the file's own.
    pub(super) fn parse(bytes: &[u8; SUPERBLOCK], length: u64, limits: &Limits) -> Result<Self> {
        let mut fields = Fields(bytes);
        if fields.u32()? != MAGIC {
            return Err(Error::malformed("this is no SquashFS: it does not begin with `hsqs`"));
        }
        let inodes = fields.u32()?;
        let mkfs_time = fields.u32()?;
        let block_size = fields.u32()?;
        let fragments = fields.u32()?;
        let compressor = fields.u16()?;
        let block_log = fields.u16()?;
        let flags = fields.u16()?;
        let ids = fields.u16()?;
        let (major, minor) = (fields.u16()?, fields.u16()?);
        if (major, minor) != (4, 0) {
            return Err(Error::unsupported(format!("SquashFS version {major}.{minor}: only 4.0 is read"))
                .with_hint("unpack it with a `unsquashfs` that reads it, and make it again with `mksquashfs`"));
        }
        if !BLOCK_SIZES.contains(&block_size) || !block_size.is_power_of_two() {
            return Err(Error::malformed(format!("a block size of {block_size} bytes is none of SquashFS")));
        }
        if u32::from(block_log) != block_size.trailing_zeros() {
            return Err(Error::malformed("the block size and its logarithm differ"));
        }
        if u64::from(block_size) > limits.squashfs_block {
            return Err(Error::limit("squashfs_block", limits.squashfs_block, "the block size of the image"));
        }
        if ids == 0 {
            return Err(Error::malformed("the image has no owner ids"));
        }
        let this = Self {
            inodes,
            mkfs_time,
            block_size,
            fragments,
            compression: SquashFsCompression::from_number(compressor)?,
            flags,
            ids,
            root: fields.u64()?,
            bytes_used: fields.u64()?,
            id_table: fields.u64()?,
            xattr_table: present(fields.u64()?),
            inode_table: fields.u64()?,
            directory_table: fields.u64()?,
            fragment_table: present(fields.u64()?),
            export_table: present(fields.u64()?),
        };
        this.check_places(length)?;
        Ok(this)
    }

    /// Checks that the tables come in one order, each complete before the next begins, all of them
    /// within the file. Then no table can be made to overlap another, and each cursor has a region
    /// that it must not leave.
    fn check_places(&self, length: u64) -> Result<()> {
        if self.bytes_used > length {
            return Err(Error::malformed(format!(
                "the image claims {} bytes, the file has {length}: it was cut",
                self.bytes_used
            )));
        }
        if self.fragments > 0 && self.fragment_table.is_none() {
            return Err(Error::malformed("the image has fragments but no table of them"));
        }
        let places = [
            ("superblock", Some(0)),
            ("inode table", Some(self.inode_table)),
            ("directory table", Some(self.directory_table)),
            ("fragment table", self.fragment_table),
            ("export table", self.export_table),
            ("id table", Some(self.id_table)),
            ("xattr table", self.xattr_table),
            ("end of the image", Some(self.bytes_used)),
        ];
        let mut before = ("superblock", 0);
        for (name, place) in places {
            let Some(place) = place else { continue };
            if place < before.1 {
                return Err(
                    Error::malformed(format!("the {name} does not come after the {}", before.0)).at_offset(place)
                );
            }
            before = (name, place);
        }
        if self.inode_table < SUPERBLOCK as u64 || self.inode_table >= self.directory_table {
            return Err(Error::malformed("the inode table is empty or lies in the superblock"));
        }
        if self.root >> 16 >= self.directory_table - self.inode_table || self.root & 0xffff >= METADATA_BLOCK as u64 {
            return Err(Error::malformed("the root directory's inode lies outside the inode table"));
        }
        Ok(())
    }

    /// Where the data blocks must end.
    pub(super) fn data_end(&self) -> u64 {
        self.inode_table
    }

    /// The first table after the directory table: its own index, since what is before is unknown yet.
    pub(super) fn after_directories(&self) -> u64 {
        self.fragment_table.or(self.export_table).unwrap_or(self.id_table)
    }

    /// The superblock as bytes, for the writer.
    pub(super) fn encode(&self) -> [u8; SUPERBLOCK] {
        let mut bytes = Vec::with_capacity(SUPERBLOCK);
        for number in [MAGIC, self.inodes, self.mkfs_time, self.block_size, self.fragments] {
            bytes.extend(number.to_le_bytes());
        }
        // The logarithm of at most 20 fits whatever the cast does.
        let block_log = self.block_size.trailing_zeros() as u16;
        for number in [self.compression.number(), block_log, self.flags, self.ids, 4, 0] {
            bytes.extend(number.to_le_bytes());
        }
        let place = |table: Option<u64>| table.unwrap_or(NO_TABLE);
        for number in [
            self.root,
            self.bytes_used,
            self.id_table,
            place(self.xattr_table),
            self.inode_table,
            self.directory_table,
            place(self.fragment_table),
            place(self.export_table),
        ] {
            bytes.extend(number.to_le_bytes());
        }
        let mut block = [0; SUPERBLOCK];
        for (to, from) in block.iter_mut().zip(bytes) {
            *to = from;
        }
        block
    }
}

/// A table's position, unless the number says that there is none.
fn present(table: u64) -> Option<u64> {
    (table != NO_TABLE).then_some(table)
}
