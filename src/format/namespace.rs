//! The tree that an archive describes, kept as hashes: enough to judge each member by those before
//! it.
//!
//! Verifying and converting use it where unpacking asks the tree on disk. The verdicts and
//! sentences are the same, and a test compares them. Without it, an archive could pass verification
//! and fail to unpack, or the other way round.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use super::entry::{Entry, EntryKind};
use super::path::split_last;
use crate::error::{Error, Result};
use crate::limits::Limits;

/// What stands at a path, as far as later members depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NodeKind {
    Directory,
    Symlink,
    /// A file, device, pipe or socket.
    Other,
}

/// The paths seen so far, 16 bytes each, under a keyed hash. The key is random, so that the maker
/// of an archive can't aim for two paths with one hash.
#[derive(Debug)]
pub(crate) struct Namespace {
    seen: HashMap<u64, NodeKind>,
    hasher: RandomState,
    /// How many parents may still be taken that no member named before.
    implied: u64,
    /// The limit on entries, for the error.
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
        // Inserted before it is judged: a caller that skips broken members goes on with the tree as
        // unpacking would have left it.
        let key = self.key(path);
        match (self.seen.insert(key, kind), kind) {
            (Some(NodeKind::Symlink), NodeKind::Directory) => Err(link_becomes_directory()),
            (Some(NodeKind::Other), NodeKind::Directory) => Err(file_becomes_directory()),
            (Some(NodeKind::Directory), NodeKind::Symlink | NodeKind::Other) => Err(directory_becomes_file()),
            _ => Ok(()),
        }
    }

    /// Checks the directories above a path, and adds those that no member named. They count against
    /// the limit on entries, since a long path names thousands of them.
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

    /// What a hard link becomes: the kind of its target, which must have come before and not lie
    /// below a symbolic link.
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

    /// The keyed hash of a path. 64 bits: with 2^22 members the chance of any collision is below
    /// 2^-20.
    fn key(&self, path: &[u8]) -> u64 {
        self.hasher.hash_one(path)
    }
}

// The sentences are shared with the extractor, which finds the same on disk.

/// The error for paths that imply more directories than there may be members. Counting members
/// alone would bound nothing.
pub(super) fn too_many_implied(limit: u64) -> Error {
    Error::limit("entries", limit, "the number of directories that paths imply")
}

/// A member whose path leads through a symbolic link: it would be written wherever the link points.
pub(super) fn below_link() -> Error {
    Error::unsafe_path("a member below a symbolic link, which could lead anywhere")
}

/// A member whose path leads through something that is no directory.
pub(super) fn below_file() -> Error {
    Error::malformed("a member below something that is no directory")
}

/// A hard link whose target is its own path.
pub(super) fn link_to_itself() -> Error {
    Error::malformed("a hard link to itself")
}

/// A hard link whose target is reached through a symbolic link.
pub(super) fn through_link() -> Error {
    Error::unsafe_path("a hard link whose target lies below a symbolic link")
}

/// A hard link whose target was not a member so far.
pub(super) fn link_before_target(target: &[u8]) -> Error {
    Error::malformed(format!("a hard link to `{}`, which has not come yet", crate::error::Escaped(target)))
}

/// A hard link to a directory, which no file system allows.
pub(super) fn link_to_directory() -> Error {
    Error::malformed("a hard link to a directory")
}

/// A directory with the path of an earlier symbolic link: members below it would follow the link.
pub(super) fn link_becomes_directory() -> Error {
    Error::unsafe_path("a directory in the place of a symbolic link that came earlier")
}

/// A directory with the path of an earlier file.
pub(super) fn file_becomes_directory() -> Error {
    Error::malformed("a directory in the place of a file that came earlier")
}

/// Anything else with the path of an earlier directory.
pub(super) fn directory_becomes_file() -> Error {
    Error::malformed("something else in the place of a directory that came earlier")
}
