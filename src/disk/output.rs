//! [`DiskOutput`]: the output format of an image's disk.

use std::str::FromStr;

use super::format::DiskFormat;
use crate::error::{Error, Result};

/// In which format the disk of a virtual machine's image is written.
///
/// ```
/// use lxd_image::disk::DiskOutput;
///
/// assert_eq!("raw".parse::<DiskOutput>()?, DiskOutput::Raw);
/// # Ok::<(), lxd_image::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum DiskOutput {
    /// The bytes of the image, unchanged: LXD and Incus want a qcow2 disk in what they import.
    #[default]
    Keep,
    /// The disk as the virtual machine sees it, with holes.
    Raw,
    /// qcow2.
    Qcow2,
}

impl FromStr for DiskOutput {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "keep" => Ok(Self::Keep),
            "raw" => Ok(Self::Raw),
            "qcow2" => Ok(Self::Qcow2),
            _ => Err(Error::invalid(format!("a disk can't be written in the format `{text}`"))
                .with_hint("the formats are raw, qcow2 and keep")),
        }
    }
}

impl DiskOutput {
    /// The resulting format of a qcow2 disk.
    #[must_use]
    pub const fn format(self) -> DiskFormat {
        match self {
            Self::Raw => DiskFormat::Raw,
            Self::Keep | Self::Qcow2 => DiskFormat::Qcow2,
        }
    }
}
