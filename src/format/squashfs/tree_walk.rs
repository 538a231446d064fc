//! Walks the whole tree, one member at a time: depth first, parents before children, siblings by
//! name.
//!
//! Every directory is entered once, by its inode's position, so that no image can send the walk in
//! circles or make it visit a directory through many names. Memory is a few bytes per directory and
//! per file with several names.

use std::collections::{HashMap, HashSet};

use super::directory::Listing;
use super::inode::InodeRef;
use super::reader::{Node, SquashFsReader, child};
use crate::error::{Error, Result};
use crate::format::entry::EntryKind;
use crate::io::ReadAt;

/// An iterator over all members of an image. Ends after the first error.
pub(crate) struct TreeWalk<'r, S> {
    /// The image.
    reader: &'r SquashFsReader<S>,
    /// Where the walk is.
    state: WalkState,
    /// The directories it is in: what is left of each listing, and the directory's path.
    stack: Vec<(Listing, Vec<u8>)>,
    /// Directories that were entered, by position.
    entered: HashSet<InodeRef>,
    /// Where an inode with several names was met first.
    linked: HashMap<u32, (InodeRef, Vec<u8>)>,
    /// Members so far.
    count: u64,
}

/// Whether the top was returned, and whether the walk has ended.
enum WalkState {
    /// The top comes next.
    Start,
    /// Members come, until the stack is empty.
    Inside,
    /// The end was reached, or an error returned.
    Done,
}

impl<'r, S: ReadAt> TreeWalk<'r, S> {
    /// A walk that begins with the top.
    pub(super) fn new(reader: &'r SquashFsReader<S>) -> Self {
        Self {
            reader,
            state: WalkState::Start,
            stack: Vec::new(),
            entered: HashSet::new(),
            linked: HashMap::new(),
            count: 0,
        }
    }

    /// The next member.
    ///
    /// # Errors
    /// `Malformed` for a tree with a circle, or for two inodes with one number; `LimitExceeded`;
    /// `Io`.
    fn step(&mut self) -> Result<Option<Node>> {
        if matches!(self.state, WalkState::Start) {
            self.state = WalkState::Inside;
            let root = self.reader.root()?;
            self.enter(&root, InodeRef(self.reader.superblock.root))?;
            return self.counted(root).map(Some);
        }
        let reader = self.reader;
        while let Some((listing, parent)) = self.stack.last_mut() {
            let found = listing.next(&reader.source, &reader.blocks, &reader.limits);
            let Some(found) = found.map_err(|error| error.in_entry(parent))? else {
                self.stack.pop();
                continue;
            };
            let path = child(parent, &found.name, &reader.limits)?;
            let mut node = reader.node(path, found.inode, Some(found.kind))?;
            if node.listing.is_some() {
                self.enter(&node, found.inode)?;
            } else if node.links > 1 {
                self.link(&mut node, found.inode)?;
            }
            return self.counted(node).map(Some);
        }
        Ok(None)
    }

    /// Goes into a directory, unless it was entered before.
    fn enter(&mut self, node: &Node, at: InodeRef) -> Result<()> {
        let Some(listing) = node.listing else { return Ok(()) };
        if !self.entered.insert(at) {
            return Err(
                Error::malformed("a directory stands in the tree twice, or contains itself").in_entry(&node.entry.path)
            );
        }
        if let Some((parent, _)) = self.stack.last_mut() {
            parent.rest();
        }
        let listing = self.reader.listing(listing).map_err(|error| error.in_entry(&node.entry.path))?;
        self.stack.push((listing, node.entry.path.clone()));
        Ok(())
    }

    /// A further name of an inode becomes a hard link to its first.
    ///
    /// The number of an inode is what `stat` shows on a mounted image, so two inodes with one
    /// number would be one file there.
    fn link(&mut self, node: &mut Node, at: InodeRef) -> Result<()> {
        match self.linked.get(&node.number) {
            None => {
                self.linked.insert(node.number, (at, node.entry.path.clone()));
            }
            Some((first, _)) if *first != at => {
                return Err(Error::malformed("two inodes have one number").in_entry(&node.entry.path));
            }
            Some((_, target)) => {
                node.entry.kind = EntryKind::HardLink { target: target.clone() };
                node.data = None;
            }
        }
        Ok(())
    }

    /// Counts a member against the limit on entries.
    fn counted(&mut self, node: Node) -> Result<Node> {
        self.count += 1;
        let limit = self.reader.limits.entries;
        if self.count > limit {
            return Err(Error::limit("entries", limit, "the number of members").in_entry(&node.entry.path));
        }
        Ok(node)
    }
}

impl<S: ReadAt> Iterator for TreeWalk<'_, S> {
    type Item = Result<Node>;

    fn next(&mut self) -> Option<Self::Item> {
        if matches!(self.state, WalkState::Done) {
            return None;
        }
        let step = self.step();
        if !matches!(step, Ok(Some(_))) {
            self.state = WalkState::Done;
        }
        step.transpose()
    }
}
