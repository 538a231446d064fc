//! `ImageType`: what an image is for. The API's names and the enum, used by archives, stores and servers alike.
//! Never written in `metadata.yaml`: an archive tells it by what its rootfs is.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

/// Whether an image is for a container or for a virtual machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ImageType {
    /// The rootfs is a tree of files.
    Container,
    /// The rootfs is a disk.
    VirtualMachine,
}

impl ImageType {
    /// Both, containers first: the order in which a name that both have is looked up.
    pub const ALL: [Self; 2] = [Self::Container, Self::VirtualMachine];

    /// The name that LXD's API uses.
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

    /// Takes the names of LXD's API; nothing stands for a container, as it does there.
    fn from_str(name: &str) -> Result<Self> {
        match name {
            "" | "container" => Ok(Self::Container),
            "virtual-machine" => Ok(Self::VirtualMachine),
            _ => {
                let shown: String = name.chars().take(64).collect();
                Err(Error::invalid(format!("`{shown}` is no type of image"))
                    .with_hint("the types are container and virtual-machine"))
            }
        }
    }
}
