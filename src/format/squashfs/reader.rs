//! An open image: its tables are found and checked, nothing else is read yet.
//!
//! Turns inodes into entries, finds a member by its path without looking at the rest, and reads the
//! content of files.
//!
//! An image is opened by reading its superblock and its id table; every other table is only located
//! and checked for its place. After that each method reads what it needs: an inode costs one or two
//! metadata blocks, which are cached.
//!
//! Positions come from the image and are never trusted: each is compared with the table that it
//! must be in before a byte is read there.

use super::data::{BlockDecoder, FileData, FilePiece, FilePieces, StoredBlock};
use super::decode::SquashFsDecoder;
use super::directory::Listing;
use super::fragments::{self, FragmentCache};
use super::inode::{self, Inode, InodeContent, InodeRef, ListingRef};
use super::metadata_blocks::{MetadataBlocks, MetadataCursor, TableRegion};
use super::superblock::{SUPERBLOCK, SquashFsCompression, Superblock};
use super::tables::LookupTable;
use super::tree_walk::TreeWalk;
use super::xattr::Xattrs;
use crate::error::{Error, ErrorKind, Result};
use crate::format::entry::{Entry, EntryKind, Timestamp};
use crate::io::ReadAt;
use crate::limits::Limits;

/// Bytes that an xz block's decoder may use beside its dictionary, which is at most a block.
const XZ_OVERHEAD: u64 = 4 << 20;

/// A SquashFS that can be listed and read, by several threads at once. All methods take `&self`.
pub(crate) struct SquashFsReader<S> {
    /// The bytes of the image.
    pub(super) source: S,
    /// The superblock, with the order of its tables checked.
    pub(super) superblock: Superblock,
    /// Limits on paths, files, members and memory.
    pub(super) limits: Limits,
    /// Decodes and caches metadata blocks.
    pub(super) blocks: MetadataBlocks,
    /// The table of fragment blocks, if there are any.
    pub(super) fragments: Option<LookupTable>,
    /// The fragment blocks that were used last, decoded.
    pub(super) fragment_cache: FragmentCache,
    /// The id table.
    ids: Vec<u32>,
    /// The table of extended attributes, if there is one.
    xattrs: Option<Xattrs>,
}

/// A part of a file's content.
#[derive(Debug)]
pub(crate) enum FileBytes<'a> {
    /// These bytes.
    Bytes(&'a [u8]),
    /// So many zeros, which the image does not store.
    Hole(u64),
}

/// A member of the tree, with what is needed to read on from it.
pub(crate) struct Node {
    /// The member as every format tells it.
    pub(crate) entry: Entry,
    /// The content, for a regular file that is not a further name of one.
    pub(crate) data: Option<FileData>,
    /// Where a directory's listing is.
    pub(super) listing: Option<ListingRef>,
    /// The inode's number.
    pub(super) number: u32,
    /// How many names the inode has.
    pub(super) links: u32,
}

impl<S: ReadAt> SquashFsReader<S> {
    /// Reads the superblock and finds the tables.
    ///
    /// # Errors
    /// `Malformed` for an image whose tables can't be where they are said to be; `Unsupported` or
    /// `FeatureDisabled` by its compression; `LimitExceeded`; `Io`.
    pub(crate) fn open(source: S, limits: &Limits) -> Result<Self> {
        let length = source.len();
        let mut bytes = [0; SUPERBLOCK];
        source.read_exact_at(&mut bytes, 0)?;
        // Positions of tables are checked in here; everything below relies on their order.
        let superblock = Superblock::parse(&bytes, length, limits)?;
        let decoder = new_decoder(&superblock, limits)?;
        let blocks = MetadataBlocks::new(decoder);
        let fragments = fragment_table(&superblock)?;
        check_export_table(&superblock)?;
        let ids = read_ids(&source, &blocks, &superblock)?;
        let xattrs = superblock.xattr_table.map(|table| Xattrs::open(&source, &superblock, table)).transpose()?;
        Ok(Self {
            fragment_cache: FragmentCache::new(superblock.block_size),
            source,
            limits: limits.clone(),
            blocks,
            fragments,
            ids,
            xattrs,
            superblock,
        })
    }

    /// How the blocks are compressed.
    pub(crate) fn compression(&self) -> SquashFsCompression {
        self.superblock.compression
    }

    /// Bytes of a data block.
    pub(crate) fn block_size(&self) -> u32 {
        self.superblock.block_size
    }

    /// Inodes that the image says it has. Nothing depends on it.
    pub(crate) fn inode_count(&self) -> u32 {
        self.superblock.inodes
    }

    /// When the image was made.
    pub(crate) fn made(&self) -> Timestamp {
        Timestamp::from_seconds(i64::from(self.superblock.mkfs_time))
    }

    /// Bytes of the image without the padding after it.
    pub(crate) fn bytes_used(&self) -> u64 {
        self.superblock.bytes_used
    }

    /// All members from the top, depth first, parents before children, siblings by name.
    pub(crate) fn walk(&self) -> TreeWalk<'_, S> {
        TreeWalk::new(self)
    }

    /// A further decoder of the image's blocks, for another thread.
    pub(super) fn decoder(&self) -> Result<SquashFsDecoder> {
        new_decoder(&self.superblock, &self.limits)
    }

    /// The top directory.
    ///
    /// # Errors
    /// `Malformed` where the top of the tree is no directory; those of reading.
    pub(crate) fn root(&self) -> Result<Node> {
        let node = self.node(Vec::new(), InodeRef(self.superblock.root), None)?;
        if node.listing.is_none() {
            return Err(Error::malformed("the top of the image is not a directory"));
        }
        Ok(node)
    }

    /// The member at `path`, by reading only the directories on its way. Links are not followed.
    ///
    /// # Errors
    /// `NotFound`; `Malformed`; `LimitExceeded` for the path; `Io`.
    pub(crate) fn find(&self, path: &[u8]) -> Result<Node> {
        let mut node = self.root()?;
        for component in path.split(|byte| *byte == b'/').filter(|component| !matches!(*component, b"" | b".")) {
            let missing = || Error::new(ErrorKind::NotFound, "the image has no such member").in_entry(path);
            let mut names = self.list(&node)?.ok_or_else(missing)?;
            node = loop {
                match names.listing.next(&self.source, &self.blocks, &self.limits)? {
                    Some(entry) if entry.name == component => {
                        break self.node(
                            child(&names.parent, component, &self.limits)?,
                            entry.inode,
                            Some(entry.kind),
                        )?;
                    }
                    // Sorted by name: what comes after it will not come.
                    Some(entry) if entry.name.as_slice() < component => {}
                    _ => return Err(missing()),
                }
            };
        }
        Ok(node)
    }

    /// The members of a directory, in order of name; `None` for what is no directory.
    ///
    /// A member that can't be read is an error of its own; the ones after it are not returned.
    pub(crate) fn list(&self, node: &Node) -> Result<Option<DirectoryMembers<'_, S>>> {
        let Some(at) = node.listing else { return Ok(None) };
        Ok(Some(DirectoryMembers { reader: self, listing: self.listing(at)?, parent: node.entry.path.clone() }))
    }

    /// Opens a directory's listing.
    pub(super) fn listing(&self, at: ListingRef) -> Result<Listing> {
        let (start, end) = (self.superblock.directory_table, self.superblock.after_directories());
        Listing::new(at, TableRegion { start, end, name: "directory table" })
    }

    /// The member at `path` with the inode at `at`, which must be of `kind` if that is known.
    pub(super) fn node(&self, path: Vec<u8>, at: InodeRef, kind: Option<u16>) -> Result<Node> {
        self.read_node(&path, at, kind).map_err(|error| error.in_entry(&path)).map(|mut node| {
            node.entry.path = path;
            node
        })
    }

    /// Reads an inode and checks it against what the directory says of it.
    ///
    /// A directory repeats the kind of each member, so that a listing needs no inodes; both must
    /// agree.
    fn read_node(&self, path: &[u8], at: InodeRef, kind: Option<u16>) -> Result<Node> {
        let (start, end) = (self.superblock.inode_table, self.superblock.directory_table);
        let cursor = MetadataCursor::new(TableRegion { start, end, name: "inode table" }, at.block(), at.offset())?;
        let inode = inode::read(cursor, &self.source, &self.blocks, &self.limits)?;
        if kind.is_some_and(|kind| kind != inode.content.number()) {
            return Err(Error::malformed("a directory and an inode differ on what a member is"));
        }
        if path.is_empty() && !matches!(inode.content, InodeContent::Directory(_)) {
            return Err(Error::malformed("the top of the image is not a directory"));
        }
        self.describe(inode)
    }

    /// Makes a node of an inode: resolves owners and extended attributes.
    fn describe(&self, inode: Inode) -> Result<Node> {
        let (mut data, mut listing) = (None, None);
        let (uid, gid) = (self.id(inode.uid_index)?, self.id(inode.gid_index)?);
        let kind = match inode.content {
            InodeContent::Directory(at) => {
                listing = Some(at);
                EntryKind::Directory
            }
            InodeContent::File(at) => {
                let size = at.size;
                data = Some(FileData { at });
                EntryKind::File { size }
            }
            InodeContent::Symlink(target) => EntryKind::Symlink { target },
            InodeContent::BlockDevice(number) => EntryKind::BlockDevice(number),
            InodeContent::CharDevice(number) => EntryKind::CharDevice(number),
            InodeContent::Fifo => EntryKind::Fifo,
            InodeContent::Socket => EntryKind::Socket,
        };
        let mut entry = Entry::new(Vec::new(), kind, inode.mode);
        (entry.uid, entry.gid) = (uid, gid);
        entry.mtime = Timestamp::from_seconds(i64::from(inode.mtime));
        if let Some(set) = inode.xattrs {
            let xattrs = self.xattrs.as_ref();
            let xattrs = xattrs.ok_or_else(|| Error::malformed("an inode has extended attributes, the image none"))?;
            entry.xattrs = xattrs.get(&self.source, &self.blocks, &self.limits, set)?;
        }
        Ok(Node { entry, data, listing, number: inode.number, links: inode.links })
    }

    /// The owner with this index.
    fn id(&self, index: u16) -> Result<u32> {
        let id = self.ids.get(usize::from(index)).copied();
        let id = id.ok_or_else(|| Error::malformed(format!("an owner is number {index} of {} ids", self.ids.len())))?;
        // To the kernel this one means "leave the owner as it is".
        if id == u32::MAX {
            return Err(Error::malformed("an owner is 4294967295, which is no id"));
        }
        Ok(id)
    }

    /// Gives a file's content to `take`, in order: where it belongs, and what it is.
    ///
    /// Holes are passed on as such, so that a sparse file of terabytes costs nothing.
    ///
    /// # Errors
    /// Those of `take`; `Malformed` for a block that does not decode or has another length; `Io`.
    pub(crate) fn read_file(
        &self,
        data: &FileData,
        take: &mut dyn FnMut(u64, FileBytes<'_>) -> Result<()>,
    ) -> Result<()> {
        let mut scratch = BlockDecoder::new(self)?;
        let mut pieces = FilePieces::new(self, data);
        while let Some(piece) = pieces.next(self)? {
            match piece {
                FilePiece::Hole { offset, length } => take(offset, FileBytes::Hole(u64::from(length)))?,
                FilePiece::Block { block, offset, length } => {
                    take(offset, FileBytes::Bytes(scratch.block(&self.source, &block, length)?))?;
                }
                FilePiece::Tail { fragment, within, offset, length } => {
                    let block = fragments::find(self, fragment)?;
                    self.tail(&mut scratch, block, within, length, |bytes| take(offset, FileBytes::Bytes(bytes)))?;
                }
            }
        }
        Ok(())
    }

    /// Where a file has data: offset and length of each run, in order. Decodes nothing.
    ///
    /// Only the sizes of the blocks are read.
    pub(crate) fn segments(&self, data: &FileData) -> Result<Vec<(u64, u64)>> {
        let mut segments: Vec<(u64, u64)> = Vec::new();
        let mut pieces = FilePieces::new(self, data);
        while let Some(piece) = pieces.next(self)? {
            let (offset, length) = match piece {
                FilePiece::Hole { .. } => continue,
                FilePiece::Block { offset, length, .. } | FilePiece::Tail { offset, length, .. } => {
                    (offset, u64::from(length))
                }
            };
            if let Some((start, run)) = segments.last_mut()
                && *start + *run == offset
            {
                *run += length;
                continue;
            }
            segments.push((offset, length));
        }
        Ok(segments)
    }

    /// Gives `length` bytes, from `within` on, of a fragment block to `take`.
    ///
    /// # Errors
    /// Those of `take` and of decoding; `Malformed` where the tail is not in its block.
    pub(super) fn tail(
        &self,
        scratch: &mut BlockDecoder,
        block: StoredBlock,
        within: u32,
        length: u32,
        take: impl FnOnce(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let content = self
            .fragment_cache
            .get(block, || Ok(scratch.decode(&self.source, &block, self.superblock.block_size)?.into()))?;
        let range = usize::try_from(within).ok().zip(usize::try_from(length).ok());
        let tail = range.and_then(|(start, length)| content.get(start..start.checked_add(length)?));
        take(tail.ok_or_else(|| Error::malformed("a file's tail lies outside of its fragment block"))?)
    }
}

/// An iterator over the members of one directory.
pub(crate) struct DirectoryMembers<'r, S> {
    reader: &'r SquashFsReader<S>,
    /// What is left of the directory's listing.
    listing: Listing,
    /// The directory's path, which begins the path of each member.
    parent: Vec<u8>,
}

impl<S: ReadAt> Iterator for DirectoryMembers<'_, S> {
    type Item = Result<Node>;

    fn next(&mut self) -> Option<Self::Item> {
        let reader = self.reader;
        let entry = self.listing.next(&reader.source, &reader.blocks, &reader.limits).transpose()?;
        Some(entry.and_then(|entry| {
            let path = child(&self.parent, &entry.name, &reader.limits)?;
            reader.node(path, entry.inode, Some(entry.kind))
        }))
    }
}

/// The path of a directory's member, within the limit on paths.
///
/// # Errors
/// `LimitExceeded` for the whole path, even if each name is short.
pub(super) fn child(parent: &[u8], name: &[u8], limits: &Limits) -> Result<Vec<u8>> {
    let mut path = Vec::with_capacity(parent.len() + 1 + name.len());
    path.extend(parent);
    if !parent.is_empty() {
        path.push(b'/');
    }
    path.extend(name);
    if path.len() as u64 > limits.path {
        return Err(Error::limit("path", limits.path, "a path").in_entry(&path));
    }
    Ok(path)
}

/// A decoder for the image's blocks, with its memory bounded by what a block can need.
fn new_decoder(superblock: &Superblock, limits: &Limits) -> Result<SquashFsDecoder> {
    let memory = limits.codec_memory.min(XZ_OVERHEAD + u64::from(superblock.block_size));
    SquashFsDecoder::new(superblock.compression, memory)
}

/// Finds the fragment table; `None` for an image without fragments.
fn fragment_table(superblock: &Superblock) -> Result<Option<LookupTable>> {
    let Some(table) = superblock.fragment_table.filter(|_| superblock.fragments > 0) else { return Ok(None) };
    let blocks = TableRegion { start: superblock.directory_table, end: table, name: "fragment table" };
    let end = superblock.export_table.unwrap_or(superblock.id_table);
    LookupTable::new(blocks, table, end, superblock.fragments, fragments::RECORD).map(Some)
}

/// The export table serves NFS alone and is not read, but one that can't be there is a sign.
fn check_export_table(superblock: &Superblock) -> Result<()> {
    let Some(table) = superblock.export_table else { return Ok(()) };
    let blocks = TableRegion { start: superblock.directory_table, end: table, name: "export table" };
    LookupTable::new(blocks, table, superblock.id_table, superblock.inodes, 8).map(drop)
}

/// Reads the id table, which has at most 65,535 entries.
fn read_ids(source: &impl ReadAt, blocks: &MetadataBlocks, superblock: &Superblock) -> Result<Vec<u32>> {
    let table = superblock.id_table;
    let region = TableRegion { start: superblock.directory_table, end: table, name: "id table" };
    let end = superblock.xattr_table.unwrap_or(superblock.bytes_used);
    let lookup = LookupTable::new(region, table, end, u32::from(superblock.ids), 4)?;
    (0..lookup.count()).map(|number| lookup.get(source, blocks, number).map(u32::from_le_bytes)).collect()
}
