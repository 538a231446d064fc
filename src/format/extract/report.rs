//! What an unpacking could not or would not write: told to the caller, never lost in silence.

use std::collections::BTreeMap;
use std::fmt;

use crate::error::Shown;

/// What was left out of one entry.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Omitted {
    /// A device node, not made: not permitted here, or not wanted.
    Device,
    /// The owner, left as the caller's own: only root can give files away.
    Owner,
    /// Setuid and setgid, left off because the owner is another than in the image.
    SetId,
    /// An extended attribute, by its name.
    Xattr(Vec<u8>),
    /// The modification time, which the file system would not take.
    Time,
    /// The whole entry, which stands at the top of the archive and is nothing that an image has.
    Stray,
}

impl fmt::Display for Omitted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device => f.write_str("device node not made"),
            Self::Owner => f.write_str("owner not set"),
            Self::SetId => f.write_str("setuid or setgid not set, since the owner is not the image's"),
            Self::Xattr(name) => write!(f, "attribute {} not set", Shown(name)),
            Self::Time => f.write_str("modification time not set"),
            Self::Stray => f.write_str("not part of an image, not written"),
        }
    }
}

/// Something that was left out.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Omission {
    /// The entry: raw bytes of its path below the root file system; for [`Omitted::Stray`] below the archive's top.
    pub path: Vec<u8>,
    /// What was left out of it.
    pub what: Omitted,
}

/// What an unpacking did.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Report {
    /// Entries written, directories that were only implied not counted.
    pub entries: u64,
    /// Bytes of file content written.
    pub bytes: u64,
    /// What was left out: the first [`Report::MOST_OMISSIONS`] of them.
    pub omissions: Vec<Omission>,
    /// How many were left out in all, by the same text as [`Omitted`] shows.
    pub omitted: BTreeMap<String, u64>,
}

impl Report {
    /// How many omissions are kept one by one; beyond, they are only counted.
    pub const MOST_OMISSIONS: usize = 1_000;

    pub(crate) fn omit(&mut self, path: &[u8], what: Omitted) {
        // An image names its attributes; without a bound on their number the counts would be memory for it.
        let mut key = what.to_string();
        if !self.omitted.contains_key(&key) && self.omitted.len() >= Self::MOST_OMISSIONS {
            key = "something else left out".to_owned();
        }
        *self.omitted.entry(key).or_default() += 1;
        if self.omissions.len() < Self::MOST_OMISSIONS {
            self.omissions.push(Omission { path: path.to_vec(), what });
        }
    }

    /// Whether everything in the image was written as it stands there.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.omitted.is_empty()
    }
}
