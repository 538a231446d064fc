//! The inode and the directory table: children before their directory, siblings side by side.
//! Side by side means few headers in the listing and few blocks for whoever reads it.

use super::super::directory::{RUN, UNSTORED};
use super::super::inode::kind;
use super::super::superblock::NONE;
use super::content::StoredFile;
use super::encode::Encoder;
use super::records::MetadataWriter;
use super::tree::{Inode, Kind, TOP, Tree};
use crate::error::{Error, Result};

/// Both tables, compressed.
pub(super) struct Tables {
    pub(super) inodes: Vec<u8>,
    pub(super) listings: Vec<u8>,
    /// Each inode's place, by its number less one.
    pub(super) places: Vec<u64>,
    pub(super) root: u64,
}

/// A listing in the directory table.
#[derive(Clone, Default)]
struct Listed {
    block: u64,
    offset: u16,
    bytes: u64,
    /// Where runs of entries begin that lie in other blocks than the first.
    index: Vec<Indexed>,
}

#[derive(Clone)]
struct Indexed {
    bytes: u64,
    block: u64,
    name: Box<[u8]>,
}

struct Tabler<'a> {
    tree: &'a Tree,
    files: &'a [StoredFile],
    inodes: MetadataWriter,
    listings: MetadataWriter,
    /// By the tree's own count: the format's number, and the place once it is written.
    numbers: Vec<u32>,
    places: Vec<Option<(u64, u16)>>,
    listed: Vec<Option<Box<Listed>>>,
    by_number: Vec<u64>,
}

/// Builds both tables.
pub(super) fn write(tree: &Tree, files: &[StoredFile], encoder: impl Fn() -> Result<Encoder>) -> Result<Tables> {
    let (numbers, count) = number(tree)?;
    let mut tabler = Tabler {
        tree,
        files,
        inodes: MetadataWriter::new(encoder()?),
        listings: MetadataWriter::new(encoder()?),
        numbers,
        places: vec![None; tree.len()],
        listed: vec![None; tree.len()],
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
    let (block, offset) = tabler.inode(TOP, count.saturating_add(1))?;
    Ok(Tables {
        inodes: tabler.inodes.finish()?.0,
        listings: tabler.listings.finish()?.0,
        places: tabler.by_number,
        root: block << 16 | u64::from(offset),
    })
}

/// Numbers from 1 on for every inode that has a name, siblings one after the other.
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
        if let Some(Inode { kind: Kind::Directory(names), .. }) = tree.inode(directory) {
            for inode in names.values() {
                give(*inode)?;
            }
            waiting.extend(subdirectories(tree, directory));
        }
    }
    Ok((numbers, last))
}

/// The directories in a directory, the last by name first: they are taken from the end.
fn subdirectories(tree: &Tree, directory: usize) -> Vec<usize> {
    let Some(Inode { kind: Kind::Directory(names), .. }) = tree.inode(directory) else { return Vec::new() };
    let is_directory = |inode: &usize| matches!(tree.inode(*inode), Some(Inode { kind: Kind::Directory(_), .. }));
    names.values().rev().copied().filter(is_directory).collect()
}

impl Tabler<'_> {
    fn number(&self, inode: usize) -> u32 {
        self.numbers.get(inode).copied().unwrap_or_default()
    }

    /// Writes the inodes of a directory's members, then its listing.
    fn directory(&mut self, directory: usize) -> Result<()> {
        let tree = self.tree;
        let Some(Inode { kind: Kind::Directory(names), .. }) = tree.inode(directory) else { return Ok(()) };
        let parent = self.number(directory);
        let mut members = Vec::with_capacity(names.len());
        for (name, inode) in names {
            members.push((name, *inode, self.inode(*inode, parent)?));
        }
        let mut listed = Listed::default();
        (listed.block, listed.offset) = self.listings.place();
        let mut indexed = listed.block;
        let mut rest = members.as_slice();
        while let Some((first, number, (block, _))) =
            rest.first().map(|(name, inode, at)| (name, self.number(*inode), *at))
        {
            let length = rest
                .iter()
                .take(RUN as usize)
                .take_while(|(_, inode, at)| at.0 == block && delta(self.number(*inode), number).is_some())
                .count();
            let (run, later) = rest.split_at(length);
            rest = later;
            let place = self.listings.place().0;
            // The index has sixteen bits for its count; without more of it, look-ups scan on.
            if place != indexed && listed.index.len() < usize::from(u16::MAX) {
                listed.index.push(Indexed { bytes: listed.bytes, block: place, name: (*first).clone() });
                indexed = place;
            }
            let mut bytes = Vec::with_capacity(12 + run.len() * 24);
            // At most 256 entries.
            bytes.extend((run.len() as u32 - 1).to_le_bytes());
            bytes.extend(narrow(block, "inode table")?.to_le_bytes());
            bytes.extend(number.to_le_bytes());
            for (name, inode, at) in run {
                bytes.extend(at.1.to_le_bytes());
                bytes.extend(delta(self.number(*inode), number).unwrap_or_default().to_le_bytes());
                bytes.extend(tree.inode(*inode).map_or(0, |inode| basic(&inode.kind)).to_le_bytes());
                // At most 255 bytes, at least one.
                bytes.extend((name.len() as u16 - 1).to_le_bytes());
                bytes.extend(name.iter());
            }
            self.listings.write(&bytes)?;
            listed.bytes += bytes.len() as u64;
        }
        if let Some(slot) = self.listed.get_mut(directory) {
            *slot = Some(Box::new(listed));
        }
        Ok(())
    }

    /// Writes an inode unless it is written already, and returns its place.
    fn inode(&mut self, number: usize, parent: u32) -> Result<(u64, u16)> {
        if let Some(Some(place)) = self.places.get(number) {
            return Ok(*place);
        }
        let tree = self.tree;
        let Some(inode) = tree.inode(number) else { return Err(Error::invalid("a name has no inode")) };
        let mut body = Vec::new();
        let extended = match &inode.kind {
            Kind::Directory(_) => {
                let listed = self.listed.get_mut(number).and_then(Option::take).unwrap_or_default();
                directory_body(inode, &listed, parent, &mut body)?
            }
            Kind::File(content) => {
                let Some(file) = self.files.get(*content) else { return Err(Error::invalid("a file has no content")) };
                file_body(inode, file, &mut body)
            }
            Kind::Symlink(target) => {
                words(&mut body, &[inode.links, target.len() as u32]);
                body.extend(target.iter());
                with_xattrs(inode, &mut body)
            }
            Kind::BlockDevice(device) | Kind::CharDevice(device) => {
                words(&mut body, &[inode.links, *device]);
                with_xattrs(inode, &mut body)
            }
            Kind::Fifo | Kind::Socket => {
                words(&mut body, &[inode.links]);
                with_xattrs(inode, &mut body)
            }
        };
        let place = self.inodes.place();
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
            *slot = place.0 << 16 | u64::from(place.1);
        }
        Ok(place)
    }
}

fn directory_body(inode: &Inode, listed: &Listed, parent: u32, body: &mut Vec<u8>) -> Result<bool> {
    let links = inode.links.saturating_add(2);
    let bytes = narrow(listed.bytes + u64::from(UNSTORED), "listing of a directory")?;
    let block = narrow(listed.block, "directory table")?;
    if let Ok(bytes) = u16::try_from(bytes)
        && inode.xattrs.is_none()
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
    words(body, &[inode.xattrs.unwrap_or(NONE)]);
    for indexed in &listed.index {
        let (bytes, block) = (narrow(indexed.bytes, "listing")?, narrow(indexed.block, "directory table")?);
        words(body, &[bytes, block, indexed.name.len() as u32 - 1]);
        body.extend(indexed.name.iter());
    }
    Ok(true)
}

fn file_body(inode: &Inode, file: &StoredFile, body: &mut Vec<u8>) -> bool {
    let start = file.start.unwrap_or_default();
    let (fragment, offset) = file.fragment.unwrap_or((NONE, 0));
    let plain = inode.links == 1 && inode.xattrs.is_none() && file.in_holes == 0;
    let extended = match (u32::try_from(start), u32::try_from(file.size)) {
        (Ok(start), Ok(size)) if plain => {
            words(body, &[start, fragment, offset, size]);
            false
        }
        _ => {
            for long in [start, file.size, file.in_holes] {
                body.extend(long.to_le_bytes());
            }
            words(body, &[inode.links, fragment, offset, inode.xattrs.unwrap_or(NONE)]);
            true
        }
    };
    words(body, &file.blocks);
    extended
}

/// Adds the set's number where there is one, which makes the inode an extended one.
fn with_xattrs(inode: &Inode, body: &mut Vec<u8>) -> bool {
    if let Some(set) = inode.xattrs {
        words(body, &[set]);
    }
    inode.xattrs.is_some()
}

fn words(body: &mut Vec<u8>, words: &[u32]) {
    for word in words {
        body.extend(word.to_le_bytes());
    }
}

fn basic(of: &Kind) -> u16 {
    match of {
        Kind::Directory(_) => kind::DIRECTORY,
        Kind::File(_) => kind::FILE,
        Kind::Symlink(_) => kind::SYMLINK,
        Kind::BlockDevice(_) => kind::BLOCK_DEVICE,
        Kind::CharDevice(_) => kind::CHAR_DEVICE,
        Kind::Fifo => kind::FIFO,
        Kind::Socket => kind::SOCKET,
    }
}

/// How far `number` is from the run's first, where sixteen bits hold it.
fn delta(number: u32, first: u32) -> Option<i16> {
    i16::try_from(i64::from(number) - i64::from(first)).ok()
}

fn narrow(place: u64, what: &str) -> Result<u32> {
    u32::try_from(place).map_err(|_| Error::unsupported(format!("the {what} would be larger than SquashFS can tell")))
}
