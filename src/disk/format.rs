//! [`DiskFormat`]: the formats, their names, and how they are recognised.

use std::fmt;
use std::str::FromStr;

use super::{qcow2, vhd, vhdx, vmdk};
use crate::error::{Error, Result};
use crate::io::{Blob, ReadAt};

/// The format of a disk image.
///
/// ```
/// use lxd_image::disk::DiskFormat;
/// use lxd_image::io::Blob;
///
/// assert_eq!("vmdk".parse::<DiskFormat>()?, DiskFormat::Vmdk);
/// // Zeros may be anything: a raw disk is never guessed.
/// assert_eq!(DiskFormat::detect(&Blob::from(vec![0; 4096]))?, None);
/// # Ok::<(), lxd_image::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DiskFormat {
    /// The bytes of the disk as they are. It has no magic number.
    Raw,
    /// QEMU's qcow2, versions 2 and 3.
    Qcow2,
    /// VMware's sparse disk in one file: `monolithicSparse` and `streamOptimized`.
    Vmdk,
    /// A virtual appliance: a tar archive with an OVF descriptor and one disk.
    Ova,
    /// Virtual PC's VHD (`vpc` in QEMU), fixed and dynamic.
    Vhd,
    /// Hyper-V's VHDX, fixed and dynamic.
    Vhdx,
}

/// Bytes at the start that decide: a tar header, and the magic numbers.
const HEAD_BYTES: usize = 512;

impl DiskFormat {
    /// All formats, in the order of their declaration.
    pub const ALL: [Self; 6] = [Self::Raw, Self::Qcow2, Self::Vmdk, Self::Ova, Self::Vhd, Self::Vhdx];

    /// The name that command lines use.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
            Self::Vmdk => "vmdk",
            Self::Ova => "ova",
            Self::Vhd => "vhd",
            Self::Vhdx => "vhdx",
        }
    }

    /// Recognises a format by its magic number: at the start, or for a VHD at the end. `None` for
    /// everything else; [`Raw`](Self::Raw) is never guessed, since what a virtual machine writes to
    /// its disk could otherwise choose the format.
    ///
    /// # Errors
    /// `Io`.
    pub fn detect(blob: &Blob) -> Result<Option<Self>> {
        let mut head = [0; HEAD_BYTES];
        let have = usize::try_from(blob.len()).unwrap_or(HEAD_BYTES).min(HEAD_BYTES);
        let (head, _) = head.split_at_mut(have);
        blob.read_exact_at(head, 0)?;
        if head.starts_with(qcow2::MAGIC) {
            return Ok(Some(Self::Qcow2));
        }
        if head.starts_with(vmdk::MAGIC) || head.starts_with(vmdk::DESCRIPTOR_MAGIC) {
            return Ok(Some(Self::Vmdk));
        }
        if head.starts_with(vhdx::MAGIC) {
            return Ok(Some(Self::Vhdx));
        }
        if crate::format::TarHeader::looks_like_one(head) {
            return Ok(Some(Self::Ova));
        }
        if head.starts_with(vhd::MAGIC) || vhd::has_footer(blob)? {
            return Ok(Some(Self::Vhd));
        }
        Ok(None)
    }
}

impl fmt::Display for DiskFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for DiskFormat {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|format| format.name() == text).ok_or_else(|| {
            Error::invalid(format!("the disk format `{text}` is not known"))
                .with_hint("the formats are raw, qcow2, vmdk, ova, vhd and vhdx")
        })
    }
}
