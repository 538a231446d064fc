//! Builds the inode table and the directory table: children before their directory, siblings next
//! to each other.
//!
//! Inodes of siblings in one metadata block mean few headers in the listing and few blocks to read
//! for it. A listing refers to inodes by position, so a directory's members have to be written
//! before its listing, and its listing before its own inode.

use std::collections::HashMap;
use std::num::NonZeroU64;

use super::super::directory::{RUN, UNSTORED};
use super::super::inode::kind;
use super::super::superblock::NONE;
use super::content::StoredFile;
use super::encode::Encoder;
use super::records::MetadataWriter;
use super::tree::{Inode, InodeKind, TOP, Tree};
use crate::error::{Error, Result};

/// Both tables, compressed.
pub(super) struct InodeTables {
    /// The inode table.
    pub(super) inodes: Vec<u8>,
    /// The directory table.
    pub(super) listings: Vec<u8>,
    /// Each inode's place, by its number less one.
    pub(super) places: Vec<u64>,
    /// The root directory's inode reference.
    pub(super) root: u64,
}

/// A listing in the directory table, before the inode that refers to it is written.
#[derive(Clone, Default)]
struct DirectoryListing {
    /// The metadata block in which the listing begins, relative to the directory table.
    block: u64,
    /// The offset in that block.
    offset: u16,
    /// Bytes of the listing.
    bytes: u64,
    /// Where runs of entries begin that lie in other blocks than the first.
    index: Vec<IndexEntry>,
}

/// An entry of a directory's index: where in the listing a new metadata block begins, and the first
/// name in it.
#[derive(Clone)]
struct IndexEntry {
    bytes: u64,
    block: u64,
    name: Box<[u8]>,
}

/// Where an inode stands: its block and the offset in it, as a reference of the format and one
/// more, so that none is zero.
#[derive(Clone, Copy)]
struct InodePlace(NonZeroU64);

impl InodePlace {
    /// The place with this block and offset.
    fn new((block, offset): (u64, u16)) -> Self {
        Self(NonZeroU64::MIN.saturating_add(block << 16 | u64::from(offset)))
    }

    /// The position as the format's inode reference.
    fn reference(self) -> u64 {
        self.0.get() - 1
    }

    /// The start of the metadata block, relative to the inode table.
    fn block(self) -> u64 {
        self.reference() >> 16
    }

    /// The offset in the decoded block.
    fn offset(self) -> u16 {
        // The lower sixteen bits, which is what is meant.
        (self.reference() & 0xffff) as u16
    }
}

/// Both tables while they are built.
struct TableBuilder<'a> {
    /// The inodes and names to be written.
    tree: &'a Tree,
    /// Where the content of files is.
    files: &'a [StoredFile],
    /// The inode table so far.
    inodes: MetadataWriter,
    /// The directory table so far.
    listings: MetadataWriter,
    /// By the tree's own count: the format's number, and the place once it is written.
    numbers: Vec<u32>,
    places: Vec<Option<InodePlace>>,
    /// Listings of directories whose inodes are still to be written.
    listed: HashMap<usize, DirectoryListing>,
    /// Inode references in the order of numbers, for the export table.
    by_number: Vec<u64>,
}

/// Builds both tables.
///
/// The tree is walked without recursion, since its depth is up to whoever made it.
///
/// # Errors
/// `Unsupported` for more inodes or larger tables than the format can count; those of compressing.
pub(super) fn write(tree: &Tree, files: &[StoredFile], encoder: impl Fn() -> Result<Encoder>) -> Result<InodeTables> {
    let (numbers, count) = number(tree)?;
    let mut tabler = TableBuilder {
        tree,
        files,
        inodes: MetadataWriter::new(encoder()?),
        listings: MetadataWriter::new(encoder()?),
        numbers,
        places: vec![None; tree.len()],
        listed: HashMap::new(),
        by_number: vec![0; usize::try_from(count).unwrap_or(usize::MAX)],
    };
    let mut stack = vec![(TOP, subdirectories(tree, TOP))];
    while let Some((directory, below)) = stack.last_mut() {
        match below.pop() {
            Some(next) => stack.push((next, subdirectories(tree, next))),
            None => {
                let directory = *directory;
                tabler.directory(directory)?;
                stack.pop();
            }
        }
    }
    // The top has no parent; the format's tools give it the number after the last.
    let top = tabler.inode(TOP, count.saturating_add(1))?;
    Ok(InodeTables {
        inodes: tabler.inodes.finish()?.0,
        listings: tabler.listings.finish()?.0,
        places: tabler.by_number,
        root: top.reference(),
    })
}

/// Numbers the inodes from 1 on, siblings one after the other. Hard links share the number of their
/// inode.
///
/// Numbers of siblings are close to each other, because a listing stores only the differences, in
/// 16 bits.
fn number(tree: &Tree) -> Result<(Vec<u32>, u32)> {
    let mut numbers = vec![0; tree.len()];
    let mut last = 0u32;
    let mut give = |inode: usize| -> Result<()> {
        if let Some(number @ 0) = numbers.get_mut(inode) {
            last = last.checked_add(1).ok_or_else(|| Error::unsupported("SquashFS holds fewer than 2^32 inodes"))?;
            *number = last;
        }
        Ok(())
    };
    give(TOP)?;
    let mut waiting = vec![TOP];
    while let Some(directory) = waiting.pop() {
        if let Some(Inode { kind: InodeKind::Directory(names), .. }) = tree.inode(directory) {
            for inode in names.0.values() {
                give(*inode as usize)?;
            }
            waiting.extend(subdirectories(tree, directory));
        }
    }
    Ok((numbers, last))
}

/// The directories in a directory, the last by name first: they are taken from the end.
fn subdirectories(tree: &Tree, directory: usize) -> Vec<usize> {
    let Some(Inode { kind: InodeKind::Directory(names), .. }) = tree.inode(directory) else { return Vec::new() };
    let is_directory = |inode: &usize| matches!(tree.inode(*inode), Some(Inode { kind: InodeKind::Directory(_), .. }));
    names.0.values().rev().map(|inode| *inode as usize).filter(is_directory).collect()
}

impl TableBuilder<'_> {
    /// The format's number of an inode.
    fn number(&self, inode: usize) -> u32 {
        self.numbers.get(inode).copied().unwrap_or_default()
    }

    /// Writes the inodes of a directory's members, then its listing.
    ///
    /// A listing is made of runs: up to 256 entries whose inodes are in one metadata block and
    /// whose numbers are close to the first one's.
    fn directory(&mut self, directory: usize) -> Result<()> {
        let tree = self.tree;
        let Some(Inode { kind: InodeKind::Directory(names), .. }) = tree.inode(directory) else { return Ok(()) };
        let parent = self.number(directory);
        for inode in names.0.values() {
            self.inode(*inode as usize, parent)?;
        }
        let mut listed = DirectoryListing::default();
        (listed.block, listed.offset) = self.listings.place();
        let mut indexed = listed.block;
        let mut rest = names.0.iter();
        while let Some((first, inode)) = rest.clone().next() {
            let (number, block) = (self.number(*inode as usize), self.place(*inode)?.block());
            let belongs = |inode: u32| {
                self.place(inode).is_ok_and(|place| place.block() == block)
                    && delta(self.number(inode as usize), number).is_some()
            };
            let length = rest.clone().take(RUN as usize).take_while(|(_, inode)| belongs(**inode)).count();
            let place = self.listings.place().0;
            // The index has sixteen bits for its count; without more of it, look-ups scan on.
            if place != indexed && listed.index.len() < usize::from(u16::MAX) {
                listed.index.push(IndexEntry { bytes: listed.bytes, block: place, name: first.clone() });
                indexed = place;
            }
            let mut bytes = Vec::with_capacity(12 + length * 24);
            // At most 256 entries.
            bytes.extend((length as u32).saturating_sub(1).to_le_bytes());
            bytes.extend(narrow(block, "inode table")?.to_le_bytes());
            bytes.extend(number.to_le_bytes());
            for (name, inode) in rest.by_ref().take(length) {
                let at = *inode as usize;
                bytes.extend(self.place(*inode)?.offset().to_le_bytes());
                bytes.extend(delta(self.number(at), number).unwrap_or_default().to_le_bytes());
                bytes.extend(tree.inode(at).map_or(0, |inode| basic(&inode.kind)).to_le_bytes());
                // At most 255 bytes, at least one.
                bytes.extend((name.len() as u16 - 1).to_le_bytes());
                bytes.extend(name.iter());
            }
            self.listings.write(&bytes)?;
            listed.bytes += bytes.len() as u64;
        }
        self.listed.insert(directory, listed);
        Ok(())
    }

    /// Where an inode stands that was written.
    fn place(&self, inode: u32) -> Result<InodePlace> {
        let place = self.places.get(inode as usize).copied().flatten();
        place.ok_or_else(|| Error::invalid("a name has no inode"))
    }

    /// Writes an inode unless it is written already, and returns its place.
    ///
    /// An inode is basic where its fields fit, and extended otherwise.
    fn inode(&mut self, number: usize, parent: u32) -> Result<InodePlace> {
        if let Some(Some(place)) = self.places.get(number) {
            return Ok(*place);
        }
        let tree = self.tree;
        let Some(inode) = tree.inode(number) else { return Err(Error::invalid("a name has no inode")) };
        let mut body = Vec::new();
        let extended = match &inode.kind {
            InodeKind::Directory(_) => {
                let listed = self.listed.remove(&number).unwrap_or_default();
                directory_body(inode, &listed, parent, &mut body)?
            }
            InodeKind::File(content) => {
                let Some(file) = self.files.get(*content as usize) else {
                    return Err(Error::invalid("a file has no content"));
                };
                file_body(inode, file, &mut body)
            }
            InodeKind::Symlink(target) => {
                words(&mut body, &[inode.links, target.0.len() as u32]);
                body.extend(target.0.iter());
                with_xattrs(inode, &mut body)
            }
            InodeKind::BlockDevice(device) | InodeKind::CharDevice(device) => {
                words(&mut body, &[inode.links, *device]);
                with_xattrs(inode, &mut body)
            }
            InodeKind::Fifo | InodeKind::Socket => {
                words(&mut body, &[inode.links]);
                with_xattrs(inode, &mut body)
            }
        };
        let place = InodePlace::new(self.inodes.place());
        let kind = basic(&inode.kind) + if extended { kind::EXTENDED } else { 0 };
        let mut header = Vec::with_capacity(16);
        for half in [kind, inode.mode, inode.uid, inode.gid] {
            header.extend(half.to_le_bytes());
        }
        words(&mut header, &[inode.mtime, self.number(number)]);
        self.inodes.write(&header)?;
        self.inodes.write(&body)?;
        if let Some(slot) = self.places.get_mut(number) {
            *slot = Some(place);
        }
        let index = usize::try_from(self.number(number)).unwrap_or_default();
        if let Some(slot) = index.checked_sub(1).and_then(|index| self.by_number.get_mut(index)) {
            *slot = place.reference();
        }
        Ok(place)
    }
}

/// Appends a directory's fields; returns whether it has to be an extended inode: for an index,
/// xattrs, or a long listing.
fn directory_body(inode: &Inode, listed: &DirectoryListing, parent: u32, body: &mut Vec<u8>) -> Result<bool> {
    let links = inode.links.saturating_add(2);
    let bytes = narrow(listed.bytes + u64::from(UNSTORED), "listing of a directory")?;
    let block = narrow(listed.block, "directory table")?;
    if let Ok(bytes) = u16::try_from(bytes)
        && inode.xattrs == NONE
    {
        words(body, &[block, links]);
        body.extend(bytes.to_le_bytes());
        body.extend(listed.offset.to_le_bytes());
        words(body, &[parent]);
        return Ok(false);
    }
    words(body, &[links, bytes, block, parent]);
    // The count was bounded when the index was made.
    body.extend((listed.index.len() as u16).to_le_bytes());
    body.extend(listed.offset.to_le_bytes());
    words(body, &[inode.xattrs]);
    for indexed in &listed.index {
        let (bytes, block) = (narrow(indexed.bytes, "listing")?, narrow(indexed.block, "directory table")?);
        words(body, &[bytes, block, indexed.name.len() as u32 - 1]);
        body.extend(indexed.name.iter());
    }
    Ok(true)
}

/// Appends a file's fields and block sizes; returns whether it has to be an extended inode.
fn file_body(inode: &Inode, file: &StoredFile, body: &mut Vec<u8>) -> bool {
    let start = file.start_or_zero();
    let (fragment, offset) = file.fragment;
    let plain = inode.links == 1 && inode.xattrs == NONE && file.in_holes == 0;
    let extended = match (u32::try_from(start), u32::try_from(file.size)) {
        (Ok(start), Ok(size)) if plain => {
            words(body, &[start, fragment, offset, size]);
            false
        }
        _ => {
            for long in [start, file.size, file.in_holes] {
                body.extend(long.to_le_bytes());
            }
            words(body, &[inode.links, fragment, offset, inode.xattrs]);
            true
        }
    };
    words(body, &file.blocks);
    extended
}

/// Adds the set's number where there is one, which makes the inode an extended one.
fn with_xattrs(inode: &Inode, body: &mut Vec<u8>) -> bool {
    if inode.xattrs != NONE {
        words(body, &[inode.xattrs]);
    }
    inode.xattrs != NONE
}

/// Appends little-endian numbers.
fn words(body: &mut Vec<u8>, words: &[u32]) {
    for word in words {
        body.extend(word.to_le_bytes());
    }
}

/// The number of the basic inode type.
fn basic(of: &InodeKind) -> u16 {
    match of {
        InodeKind::Directory(_) => kind::DIRECTORY,
        InodeKind::File(_) => kind::FILE,
        InodeKind::Symlink(_) => kind::SYMLINK,
        InodeKind::BlockDevice(_) => kind::BLOCK_DEVICE,
        InodeKind::CharDevice(_) => kind::CHAR_DEVICE,
        InodeKind::Fifo => kind::FIFO,
        InodeKind::Socket => kind::SOCKET,
    }
}

/// How far `number` is from the run's first, where sixteen bits hold it.
fn delta(number: u32, first: u32) -> Option<i16> {
    i16::try_from(i64::from(number) - i64::from(first)).ok()
}

/// A position that the format keeps in 32 bits.
fn narrow(place: u64, what: &str) -> Result<u32> {
    u32::try_from(place).map_err(|_| Error::unsupported(format!("the {what} would be larger than SquashFS can tell")))
}
