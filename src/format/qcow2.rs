//! The disk of an image, as far as its header tells: everything that leads to other files is refused.

use super::foreign;
use crate::disk::{QCOW2_HEAD_BYTES, Qcow2Header};
use crate::error::Result;
use crate::limits::Limits;

pub(crate) use crate::disk::QCOW2_MAGIC as MAGIC;

/// How much of a disk's start [`Qcow2::parse`] looks at, at most: bytes.
pub const HEAD_BYTES: usize = QCOW2_HEAD_BYTES;

/// What the header of a qcow2 disk says. [`DiskImage`](crate::disk::DiskImage) reads its content, too.
///
/// ```
/// use lxd_image::{Limits, format::Qcow2};
///
/// assert!(Qcow2::parse(b"not a disk", 10, &Limits::default()).is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Qcow2 {
    /// 2 or 3.
    pub version: u32,
    /// The size that a machine sees, in bytes.
    pub virtual_size: u64,
    /// Bytes of a cluster.
    pub cluster_size: u64,
    /// How many internal snapshots it holds.
    pub snapshots: u32,
}

impl Qcow2 {
    /// Reads the header from the start of a disk.
    ///
    /// `head` holds the first [`HEAD_BYTES`] of it, or all when it is shorter; `length` is that of
    /// the whole file in bytes.
    ///
    /// Everything in the header that refers to another file is refused, since the hypervisor would
    /// open that file with its own permissions.
    ///
    /// # Errors
    /// `Unsupported` for what would need another file or a key (backing file, external data file,
    /// encryption), for unknown incompatible features and other disk formats; `Malformed` for a
    /// header that does not hold together; `LimitExceeded` for a disk larger than allowed.
    pub fn parse(head: &[u8], length: u64, limits: &Limits) -> Result<Self> {
        if !head.starts_with(MAGIC) {
            return Err(foreign::disk_refusal(head, None));
        }
        let header = Qcow2Header::parse(head, length, limits)?;
        Ok(Self {
            version: header.version,
            virtual_size: header.virtual_size,
            cluster_size: header.cluster_size(),
            snapshots: header.snapshots,
        })
    }
}
