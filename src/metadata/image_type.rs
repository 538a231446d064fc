//! [`ImageType`]: container or virtual machine, with the names of LXD's API.
//!
//! The type is never written in `metadata.yaml`. An archive shows it by its rootfs (a directory
//! tree or a disk image), a simplestreams item by its file type, the REST API by the field `type`.
//! The enum is shared by archives, stores, remotes and servers.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

/// Whether an image is for a container or for a virtual machine.
///
/// A container and a virtual machine may share an alias, as in simplestreams; the type tells them
/// apart.
///
/// ```
/// use lxd_image::ImageType;
///
/// assert_eq!("virtual-machine".parse::<ImageType>()?, ImageType::VirtualMachine);
/// assert_eq!(ImageType::Container.to_string(), "container");
/// # Ok::<(), lxd_image::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ImageType {
    /// The rootfs is a tree of files, in the tar archive or as SquashFS.
    Container,
    /// The rootfs is a disk image (`rootfs.img`, qcow2).
    VirtualMachine,
}

impl ImageType {
    /// Both types, containers first: the order in which an alias that both have is looked up.
    pub const ALL: [Self; 2] = [Self::Container, Self::VirtualMachine];

    /// The name in LXD's API: `container` or `virtual-machine`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::VirtualMachine => "virtual-machine",
        }
    }
}

impl fmt::Display for ImageType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for ImageType {
    type Err = Error;

    /// Parses the names of LXD's API. The empty text means a container, as in LXD: images stored
    /// before virtual machines existed have no type.
    fn from_str(name: &str) -> Result<Self> {
        match name {
            "" | "container" => Ok(Self::Container),
            "virtual-machine" => Ok(Self::VirtualMachine),
            _ => {
                // Untrusted text may be long. Its beginning is enough to recognise it.
                let shown: String = name.chars().take(64).collect();
                Err(Error::invalid(format!("`{shown}` is no type of image"))
                    .with_hint("the types are container and virtual-machine"))
            }
        }
    }
}
