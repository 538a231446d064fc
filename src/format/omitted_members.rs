//! Members that were left out of what is written, such as devices that an ordinary user can't make.
//!
//! What comes later is judged as if they were there, so that the verdict on an image does not
//! depend on who unpacks it, and their further names (hard links) are left out as well.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};

use super::entry::Entry;
use super::namespace::{self, below_file};
use super::path::split_last;
use crate::error::Result;

/// The paths of such members, as hashes under a random key.
///
/// Hashes instead of paths, as an image may have millions of devices. With a random key nobody can
/// prepare paths whose hashes collide; by chance two of a million do with a probability of one in
/// 37 million.
#[derive(Default)]
pub(super) struct OmittedMembers {
    paths: HashSet<u64>,
    hasher: RandomState,
}

impl OmittedMembers {
    /// Adds the path of a member that was left out.
    pub(super) fn insert(&mut self, path: &[u8]) {
        self.paths.insert(self.hasher.hash_one(path));
    }

    /// Whether the member at this path was left out.
    pub(super) fn holds(&self, path: &[u8]) -> bool {
        !self.paths.is_empty() && self.paths.contains(&self.hasher.hash_one(path))
    }

    /// Forgets a member that another replaces, which may come back to the same path.
    pub(super) fn forget(&mut self, path: &[u8]) {
        if !self.paths.is_empty() {
            self.paths.remove(&self.hasher.hash_one(path));
        }
    }

    /// Refuses what could not stand beside or below such a member; what replaces one is let in.
    ///
    /// # Errors
    /// `Malformed` for a member below such a member, and for a directory in its place.
    pub(super) fn check(&mut self, entry: &Entry) -> Result<()> {
        if self.paths.is_empty() {
            return Ok(());
        }
        let (mut parent, _) = split_last(&entry.path);
        while !parent.is_empty() {
            if self.holds(parent) {
                return Err(below_file());
            }
            parent = split_last(parent).0;
        }
        if self.holds(&entry.path) && entry.is_directory() {
            return Err(namespace::file_becomes_directory());
        }
        self.forget(&entry.path);
        Ok(())
    }
}
