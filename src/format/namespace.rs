//! The tree that an archive describes, kept as hashes: enough to judge each member by those before it.
//! Verifying and converting use it where unpacking asks the tree on disk; the verdicts are the same.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use super::entry::{Entry, EntryKind};
use super::path::split_last;
use crate::error::{Error, Result};
use crate::limits::Limits;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NodeKind {
    Directory,
    Symlink,
    Other,
}

/// Members seen so far: 16 bytes each, under a keyed hash that an archive's maker can't aim at.
#[derive(Debug)]
pub(crate) struct Namespace {
    seen: HashMap<u64, NodeKind>,
    hasher: RandomState,
    /// How many parents may still be taken that no member named before.
    implied: u64,
    limit: u64,
}

impl Namespace {
    /// Under the limit on entries, which holds for the parents that paths imply as well.
    pub(crate) fn new(limits: &Limits) -> Self {
        Self { seen: HashMap::new(), hasher: RandomState::new(), implied: limits.entries, limit: limits.entries }
    }

    /// Takes the next member, as `path` below the root.
    ///
    /// # Errors
    /// `UnsafePath` for a member below a link, `Malformed` for one below a file, for a hard link
    /// before its target, and where directory and file have one name; `LimitExceeded` where paths
    /// imply more directories than there may be members.
    pub(crate) fn take(&mut self, path: &[u8], entry: &Entry) -> Result<()> {
        if path.is_empty() {
            return Ok(());
        }
        self.take_parents(path)?;
        let kind = match &entry.kind {
            EntryKind::Directory => NodeKind::Directory,
            EntryKind::Symlink { .. } => NodeKind::Symlink,
            EntryKind::HardLink { target } => self.linked(path, target)?,
            _ => NodeKind::Other,
        };
        let key = self.key(path);
        match (self.seen.insert(key, kind), kind) {
            (Some(NodeKind::Symlink), NodeKind::Directory) => Err(link_becomes_directory()),
            (Some(NodeKind::Other), NodeKind::Directory) => Err(file_becomes_directory()),
            (Some(NodeKind::Directory), NodeKind::Symlink | NodeKind::Other) => Err(directory_becomes_file()),
            _ => Ok(()),
        }
    }

    fn take_parents(&mut self, path: &[u8]) -> Result<()> {
        // From the nearest parent up: an archive in order stops at the first.
        let mut missing = Vec::new();
        let (mut parent, _) = split_last(path);
        while !parent.is_empty() {
            let key = self.key(parent);
            match self.seen.get(&key) {
                Some(NodeKind::Directory) => break,
                Some(NodeKind::Symlink) => return Err(below_link()),
                Some(NodeKind::Other) => return Err(below_file()),
                None => missing.push(key),
            }
            parent = split_last(parent).0;
        }
        self.implied = self.implied.checked_sub(missing.len() as u64).ok_or_else(|| too_many_implied(self.limit))?;
        self.seen.extend(missing.into_iter().map(|key| (key, NodeKind::Directory)));
        Ok(())
    }

    fn linked(&self, path: &[u8], target: &[u8]) -> Result<NodeKind> {
        if path == target {
            return Err(link_to_itself());
        }
        let (mut parent, _) = split_last(target);
        while !parent.is_empty() {
            match self.seen.get(&self.key(parent)) {
                Some(NodeKind::Symlink) => return Err(through_link()),
                Some(NodeKind::Directory) => break,
                _ => {}
            }
            parent = split_last(parent).0;
        }
        match self.seen.get(&self.key(target)) {
            None => Err(link_before_target(target)),
            Some(NodeKind::Directory) => Err(link_to_directory()),
            Some(kind) => Ok(*kind),
        }
    }

    fn key(&self, path: &[u8]) -> u64 {
        self.hasher.hash_one(path)
    }
}

// The sentences are shared with the extractor, which finds the same on disk.

/// A long path names thousands of directories in one member, so that counting members bounds nothing.
pub(super) fn too_many_implied(limit: u64) -> Error {
    Error::limit("entries", limit, "the number of directories that paths imply")
}

pub(super) fn below_link() -> Error {
    Error::unsafe_path("a member below a symbolic link, which could lead anywhere")
}

pub(super) fn below_file() -> Error {
    Error::malformed("a member below something that is no directory")
}

pub(super) fn link_to_itself() -> Error {
    Error::malformed("a hard link to itself")
}

pub(super) fn through_link() -> Error {
    Error::unsafe_path("a hard link whose target lies below a symbolic link")
}

pub(super) fn link_before_target(target: &[u8]) -> Error {
    Error::malformed(format!("a hard link to `{}`, which has not come yet", crate::error::Escaped(target)))
}

pub(super) fn link_to_directory() -> Error {
    Error::malformed("a hard link to a directory")
}

pub(super) fn link_becomes_directory() -> Error {
    Error::unsafe_path("a directory in the place of a symbolic link that came earlier")
}

pub(super) fn file_becomes_directory() -> Error {
    Error::malformed("a directory in the place of a file that came earlier")
}

pub(super) fn directory_becomes_file() -> Error {
    Error::malformed("something else in the place of a directory that came earlier")
}
