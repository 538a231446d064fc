//! `Protocol`: the protocols by which a source of images can be asked, parsed once instead of compared as text.
//! A value type below the store and the remotes: the store records the protocol, the remotes speak it.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

/// A protocol of image servers.
///
/// The words are those of LXD's and Incus's API (`update_source.protocol`, `source.protocol`) and of the catalog. A catalog or
/// a client may hold a word that this version does not know; it stays text there and is parsed where it matters:
///
/// ```
/// use lxd_image::remote::Protocol;
///
/// let protocol: Protocol = "simplestreams".parse()?;
/// assert_eq!(protocol, Protocol::Simplestreams);
/// assert!("ftp".parse::<Protocol>().is_err());
/// # Ok::<(), lxd_image::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Protocol {
    /// LXD's REST API.
    #[default]
    Lxd,
    /// The REST API of Incus, which differs from LXD's in header names only.
    Incus,
    /// Static files: an index and lists of products that name the files of images.
    Simplestreams,
    /// Direct import: one URL that answers `HEAD` with the hash and the address of one image.
    Direct,
    /// A registry of container images (OCI, Docker).
    Oci,
}

impl Protocol {
    /// All protocols, in the order of the enum.
    pub const ALL: [Self; 5] = [Self::Lxd, Self::Incus, Self::Simplestreams, Self::Direct, Self::Oci];

    /// The word for it in the REST API, in the catalog, in settings and on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Lxd => "lxd",
            Self::Incus => "incus",
            Self::Simplestreams => "simplestreams",
            Self::Direct => "direct",
            Self::Oci => "oci",
        }
    }

    /// Whether the REST API of LXD and Incus is spoken. Such a server reports all properties of an image, takes uploads and
    /// accepts an image secret; the others only add properties to the image's own.
    #[must_use]
    pub const fn is_rest(self) -> bool {
        matches!(self, Self::Lxd | Self::Incus)
    }

    /// Whether the address alone stands for the newest image, so that an image follows its source without an alias.
    #[must_use]
    pub const fn follows_address(self) -> bool {
        matches!(self, Self::Direct)
    }

    /// Parses the protocol of a server that can be added under a name: one with a list of images, which direct import lacks.
    ///
    /// # Errors
    /// `InvalidInput` for any other word, `direct` included.
    pub fn of_server(text: &str) -> Result<Self> {
        match text.parse() {
            Ok(protocol) if protocol != Self::Direct => Ok(protocol),
            _ => {
                let shown: String = text.chars().take(64).collect();
                Err(Error::invalid(format!("`{shown}` is not a protocol of image servers"))
                    .with_hint("the protocols are lxd, incus, simplestreams and oci"))
            }
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Protocol {
    type Err = Error;

    /// Parses [`name`](Self::name), in lower case only.
    ///
    /// # Errors
    /// `Unsupported` for any other word: it may be a protocol that another version knows.
    fn from_str(text: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|protocol| protocol.name() == text).ok_or_else(|| {
            let shown: String = text.chars().take(64).collect();
            Error::unsupported(format!("images can't be fetched by the protocol `{shown}`"))
        })
    }
}

impl From<Protocol> for String {
    fn from(protocol: Protocol) -> Self {
        protocol.name().to_owned()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn every_protocol_parses_from_its_name() {
        for protocol in Protocol::ALL {
            assert_eq!(protocol.name().parse::<Protocol>().unwrap(), protocol);
        }
    }

    #[test]
    fn unknown_protocol_is_unsupported() {
        assert_eq!("LXD".parse::<Protocol>().unwrap_err().kind(), ErrorKind::Unsupported);
    }

    #[test]
    fn direct_import_is_not_the_protocol_of_a_named_server() {
        assert_eq!(Protocol::of_server("direct").unwrap_err().kind(), ErrorKind::InvalidInput);
    }
}
