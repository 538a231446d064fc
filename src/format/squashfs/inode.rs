//! Inodes: what a member is, its attributes, and where its content or its listing is.
//!
//! The format has fourteen kinds, a basic and an extended one of each of seven types. Both become
//! one [`Inode`].

use super::fields::Fields;
use super::metadata_blocks::{MetadataBlocks, MetadataCursor};
use super::superblock::NONE;
use crate::error::{Error, Result};
use crate::format::entry::DeviceNumber;
use crate::io::ReadAt;
use crate::limits::Limits;

/// The number of a basic inode's kind; an extended one has [`EXTENDED`] more.
pub(super) mod kind {
    pub(in super::super) const DIRECTORY: u16 = 1;
    pub(in super::super) const FILE: u16 = 2;
    pub(in super::super) const SYMLINK: u16 = 3;
    pub(in super::super) const BLOCK_DEVICE: u16 = 4;
    pub(in super::super) const CHAR_DEVICE: u16 = 5;
    pub(in super::super) const FIFO: u16 = 6;
    pub(in super::super) const SOCKET: u16 = 7;
    pub(in super::super) const EXTENDED: u16 = 7;
}

/// Where an inode is: the start of its metadata block, relative to the inode table, in the upper 48
/// bits, and the offset in the decoded block in the lower 16.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct InodeRef(pub(super) u64);

impl InodeRef {
    /// The reference with this block and offset.
    pub(super) fn new(block: u32, offset: u16) -> Self {
        Self(u64::from(block) << 16 | u64::from(offset))
    }

    /// The start of its metadata block, relative to the inode table.
    pub(super) fn block(self) -> u64 {
        self.0 >> 16
    }

    /// The offset in the decoded block.
    pub(super) fn offset(self) -> u16 {
        // The lower sixteen bits, which is what is meant.
        (self.0 & 0xffff) as u16
    }
}

/// An inode as it was read. Owners are indices into the id table, xattrs the number of a set.
pub(super) struct Inode {
    /// What kind of member it is.
    pub(super) content: InodeContent,
    /// The permission bits, setuid, setgid and sticky.
    pub(super) mode: u32,
    /// The owner, as an index into the id table.
    pub(super) uid_index: u16,
    /// The group, as an index into the id table.
    pub(super) gid_index: u16,
    /// The modification time in seconds since 1970.
    pub(super) mtime: u32,
    /// The inode's number, which hard links share.
    pub(super) number: u32,
    /// How many names it has.
    pub(super) links: u32,
    /// The number of its set of attributes.
    pub(super) xattrs: Option<u32>,
}

/// What kind of member the inode describes, with what is particular to it.
pub(super) enum InodeContent {
    /// A directory, with its listing.
    Directory(ListingRef),
    /// A regular file, with its content.
    File(FileRef),
    /// A symbolic link, with its target.
    Symlink(Vec<u8>),
    /// A block device, with its number.
    BlockDevice(DeviceNumber),
    /// A character device, with its number.
    CharDevice(DeviceNumber),
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
}

impl InodeContent {
    /// The kind's number as directory entries carry it.
    pub(super) fn number(&self) -> u16 {
        match self {
            Self::Directory(_) => kind::DIRECTORY,
            Self::File(_) => kind::FILE,
            Self::Symlink(_) => kind::SYMLINK,
            Self::BlockDevice(_) => kind::BLOCK_DEVICE,
            Self::CharDevice(_) => kind::CHAR_DEVICE,
            Self::Fifo => kind::FIFO,
            Self::Socket => kind::SOCKET,
        }
    }
}

/// Where a directory's listing is in the directory table, and its size.
#[derive(Debug, Clone, Copy)]
pub(super) struct ListingRef {
    /// The metadata block, relative to the directory table.
    pub(super) block: u32,
    /// The offset in that block after it was decoded.
    pub(super) offset: u16,
    /// Bytes of the listing, and three for `.` and `..`.
    pub(super) bytes: u32,
}

/// Where a file's bytes are. The sizes of its blocks follow the inode and are read from `blocks` as
/// they are needed.
#[derive(Clone)]
pub(super) struct FileRef {
    /// Logical bytes.
    pub(super) size: u64,
    /// Where its first block is stored.
    pub(super) start: u64,
    /// Number of the fragment block with the file's tail, and the tail's offset in it.
    pub(super) fragment: Option<(u32, u32)>,
    /// At the list of block sizes.
    pub(super) blocks: MetadataCursor,
}

/// Reads the inode that stands at `cursor`.
///
/// Types below eight are basic, the others extended. Fields that only serve speed, such as the
/// index of a directory, are passed over.
///
/// # Errors
/// `Malformed` for an unknown kind, an empty or invalid link target, and for fields outside of the
/// table; `LimitExceeded` for `file_size` and `link_target`; those of reading.
pub(super) fn read(
    mut cursor: MetadataCursor,
    source: &impl ReadAt,
    blocks: &MetadataBlocks,
    limits: &Limits,
) -> Result<Inode> {
    let header: [u8; 16] = cursor.array(source, blocks)?;
    let mut header = Fields(&header);
    let number_of_kind = header.u16()?;
    let mode = u32::from(header.u16()?) & 0o7777;
    let (uid_index, gid_index) = (header.u16()?, header.u16()?);
    let mtime = header.u32()?;
    let number = header.u32()?;
    let extended = number_of_kind > kind::EXTENDED;
    let basic = if extended { number_of_kind - kind::EXTENDED } else { number_of_kind };
    let mut body = InodeBody { cursor, source, blocks };
    let links;
    let mut xattrs = NONE;
    let content = match basic {
        kind::DIRECTORY => {
            let listing;
            (listing, links, xattrs) = body.directory(extended)?;
            InodeContent::Directory(listing)
        }
        kind::FILE => {
            let file;
            (file, links, xattrs) = body.file(extended)?;
            if file.size > limits.file_size {
                return Err(Error::limit("file_size", limits.file_size, "a file"));
            }
            InodeContent::File(file)
        }
        kind::SYMLINK => {
            let (count, length): (u32, u32) = body.two()?;
            links = count;
            let target = body.target(length, limits)?;
            if extended {
                xattrs = body.one()?;
            }
            InodeContent::Symlink(target)
        }
        kind::BLOCK_DEVICE | kind::CHAR_DEVICE => {
            let (count, device): (u32, u32) = body.two()?;
            links = count;
            if extended {
                xattrs = body.one()?;
            }
            let device = unpack_device(device);
            if basic == kind::BLOCK_DEVICE {
                InodeContent::BlockDevice(device)
            } else {
                InodeContent::CharDevice(device)
            }
        }
        kind::FIFO | kind::SOCKET => {
            links = body.one()?;
            if extended {
                xattrs = body.one()?;
            }
            if basic == kind::FIFO { InodeContent::Fifo } else { InodeContent::Socket }
        }
        _ => return Err(Error::malformed(format!("an inode is of the unknown kind {number_of_kind}"))),
    };
    let xattrs = (xattrs != NONE).then_some(xattrs);
    Ok(Inode { content, mode, uid_index, gid_index, mtime, number, links, xattrs })
}

/// The fields after an inode's common header.
struct InodeBody<'a, S> {
    cursor: MetadataCursor,
    source: &'a S,
    blocks: &'a MetadataBlocks,
}

impl<S: ReadAt> InodeBody<'_, S> {
    /// The next bytes of the inode.
    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.cursor.array(self.source, self.blocks)
    }

    /// One number of 32 bits.
    fn one(&mut self) -> Result<u32> {
        self.array().map(u32::from_le_bytes)
    }

    /// Two numbers of 32 bits.
    fn two(&mut self) -> Result<(u32, u32)> {
        Ok((self.one()?, self.one()?))
    }

    /// The fields of a directory: its listing, links and xattrs. A directory's index only speeds up
    /// look-ups and is not read.
    fn directory(&mut self, extended: bool) -> Result<(ListingRef, u32, u32)> {
        if extended {
            let bytes: [u8; 24] = self.array()?;
            let mut fields = Fields(&bytes);
            let (links, bytes, block) = (fields.u32()?, fields.u32()?, fields.u32()?);
            let (_parent, _index_count, offset) = (fields.u32()?, fields.u16()?, fields.u16()?);
            return Ok((ListingRef { block, offset, bytes }, links, fields.u32()?));
        }
        let bytes: [u8; 16] = self.array()?;
        let mut fields = Fields(&bytes);
        let (block, links, bytes, offset) = (fields.u32()?, fields.u32()?, fields.u16()?, fields.u16()?);
        Ok((ListingRef { block, offset, bytes: u32::from(bytes) }, links, NONE))
    }

    /// The fields of a regular file, with its cursor at the list of block sizes.
    fn file(&mut self, extended: bool) -> Result<(FileRef, u32, u32)> {
        let (start, size, links, fragment, offset, xattrs);
        if extended {
            let bytes: [u8; 40] = self.array()?;
            let mut fields = Fields(&bytes);
            (start, size) = (fields.u64()?, fields.u64()?);
            let _bytes_in_holes = fields.u64()?;
            (links, fragment, offset, xattrs) = (fields.u32()?, fields.u32()?, fields.u32()?, fields.u32()?);
        } else {
            let bytes: [u8; 16] = self.array()?;
            let mut fields = Fields(&bytes);
            start = u64::from(fields.u32()?);
            (fragment, offset) = (fields.u32()?, fields.u32()?);
            size = u64::from(fields.u32()?);
            (links, xattrs) = (1, NONE);
        }
        let fragment = (fragment != NONE).then_some((fragment, offset));
        Ok((FileRef { size, start, fragment, blocks: self.cursor.clone() }, links, xattrs))
    }

    /// The target of a symbolic link, bounded before it is read.
    fn target(&mut self, length: u32, limits: &Limits) -> Result<Vec<u8>> {
        if length == 0 {
            return Err(Error::malformed("a symbolic link has no target"));
        }
        if u64::from(length) > limits.link_target {
            return Err(Error::limit("link_target", limits.link_target, "the target of a symbolic link"));
        }
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let target = self.cursor.bytes(self.source, self.blocks, length)?;
        if target.contains(&0) {
            return Err(Error::malformed("the target of a symbolic link holds a NUL"));
        }
        Ok(target)
    }
}

/// The kernel's 32 bits of a device number: twelve of the major amid twenty of the minor.
pub(super) fn unpack_device(number: u32) -> DeviceNumber {
    DeviceNumber { major: (number >> 8) & 0xfff, minor: (number & 0xff) | ((number >> 12) & 0xf_ff00) }
}

/// The reverse of [`unpack_device`], where the numbers fit.
///
/// `None` for a device that the format can't hold.
pub(super) fn pack_device(device: DeviceNumber) -> Option<u32> {
    (device.major <= 0xfff && device.minor <= 0xf_ffff)
        .then_some((device.minor & 0xff) | device.major << 8 | (device.minor & !0xff) << 12)
}
