//! One member of an archive or a tree, in the terms that tar and SquashFS share.
//!
//! Readers produce entries and writers take them; the bytes of a file travel apart. An [`Entry`]
//! that a reader returned has a normalised path, so it never leads out of the image.

use std::time::{Duration, SystemTime};

/// An extended attribute: its full name (`security.capability`) and its value, both bytes.
pub type Xattr = (Vec<u8>, Vec<u8>);

/// A member: its name, what it is, and its attributes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry {
    /// Path relative to the archive's top: components joined by `/`, without `.` and empty ones,
    /// no slash at either end. Bytes, not UTF-8. Empty for the top itself.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: EntryKind,
    /// Permission bits with setuid, setgid and sticky: `0o7777` at most.
    pub mode: u32,
    /// Numeric owner; names in the archive are never looked at.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
    /// Time of the last change of content.
    pub mtime: Timestamp,
    /// Extended attributes: full names (`security.capability`) and values, both bytes.
    pub xattrs: Vec<Xattr>,
}

impl Entry {
    /// A member with no owner but root, no attributes and the time 0.
    ///
    /// The mode is cut to its twelve permission bits. Set the other fields as needed; the type may
    /// get more of them.
    #[must_use]
    pub fn new(path: impl Into<Vec<u8>>, kind: EntryKind, mode: u32) -> Self {
        Self {
            path: path.into(),
            kind,
            mode: mode & 0o7777,
            uid: 0,
            gid: 0,
            mtime: Timestamp::default(),
            xattrs: Vec::new(),
        }
    }

    /// Whether this is a directory.
    #[must_use]
    pub fn is_directory(&self) -> bool {
        matches!(self.kind, EntryKind::Directory)
    }
}

/// What a member is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum EntryKind {
    /// A regular file.
    File {
        /// Logical size in bytes, holes included.
        size: u64,
    },
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink {
        /// Where it points, as it stands there: 1 to 4,095 bytes without NUL.
        target: Vec<u8>,
    },
    /// A further name of a member that came earlier.
    HardLink {
        /// The earlier member's path, in the form of [`Entry::path`].
        target: Vec<u8>,
    },
    /// A character device.
    CharDevice(DeviceNumber),
    /// A block device.
    BlockDevice(DeviceNumber),
    /// A named pipe.
    Fifo,
    /// A Unix socket. Tar can't hold one, SquashFS can.
    Socket,
}

/// The number of a device node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceNumber {
    /// The driver.
    pub major: u32,
    /// The device of that driver.
    pub minor: u32,
}

/// A moment: seconds since 1970-01-01 00:00 UTC, negative before, and nanoseconds after that second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Timestamp {
    /// Whole seconds, rounded down.
    pub seconds: i64,
    /// 0 to 999,999,999.
    pub nanoseconds: u32,
}

impl Timestamp {
    /// A moment at a whole second.
    #[must_use]
    pub const fn from_seconds(seconds: i64) -> Self {
        Self { seconds, nanoseconds: 0 }
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        let whole = |duration: Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
        match time.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(after) => Self { seconds: whole(after), nanoseconds: after.subsec_nanos() },
            Err(before) => {
                let before = before.duration();
                match before.subsec_nanos() {
                    0 => Self::from_seconds(-whole(before)),
                    nanos => Self { seconds: -whole(before) - 1, nanoseconds: 1_000_000_000 - nanos },
                }
            }
        }
    }
}
