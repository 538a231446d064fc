//! Items: the names of files that make images, and where a file may lie.
//! LXD reads only the names with `lxd`, Incus only those with `incus`; we read both.

use std::fmt;
use std::str::FromStr;

use super::document::Item;
use crate::error::{Error, Result};
use crate::metadata::ImageType;

/// The names of unified images, LXD's first.
pub const UNIFIED_NAMES: [&str; 2] = ["lxd_combined.tar.gz", "incus_combined.tar.gz"];
/// The names of metadata files, LXD's first.
pub const METADATA_NAMES: [&str; 2] = ["lxd.tar.xz", "incus.tar.xz"];

/// What the rootfs of a split image is. In the order of preference among images of one version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RootKind {
    /// `squashfs`.
    Squashfs,
    /// `root.tar.xz`, whatever it is compressed with.
    Tar,
    /// `disk-kvm.img`, a qcow2 disk.
    DiskKvm,
    /// `disk1.img`, a qcow2 disk.
    Disk1,
    /// `uefi1.img`, a qcow2 disk.
    Uefi1,
}

impl RootKind {
    /// All of them, best first.
    pub const ALL: [Self; 5] = [Self::Squashfs, Self::Tar, Self::DiskKvm, Self::Disk1, Self::Uefi1];

    /// The item's `ftype`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Squashfs => "squashfs",
            Self::Tar => "root.tar.xz",
            Self::DiskKvm => "disk-kvm.img",
            Self::Disk1 => "disk1.img",
            Self::Uefi1 => "uefi1.img",
        }
    }

    /// What an image with it is for.
    #[must_use]
    pub const fn image_type(self) -> ImageType {
        match self {
            Self::Squashfs | Self::Tar => ImageType::Container,
            Self::DiskKvm | Self::Disk1 | Self::Uefi1 => ImageType::VirtualMachine,
        }
    }

    /// The fingerprint that a metadata item gives for an image with it; empty when it gives none.
    #[must_use]
    pub fn combined(self, metadata: &Item) -> &str {
        match self {
            Self::Squashfs => &metadata.combined_squashfs_sha256,
            Self::Tar if metadata.combined_rootxz_sha256.is_empty() => &metadata.combined_sha256,
            Self::Tar => &metadata.combined_rootxz_sha256,
            Self::DiskKvm => &metadata.combined_disk_kvm_sha256,
            Self::Disk1 => &metadata.combined_disk1_sha256,
            Self::Uefi1 => &metadata.combined_uefi1_sha256,
        }
    }

    pub(super) fn set_combined(self, metadata: &mut Item, fingerprint: String) {
        match self {
            Self::Squashfs => metadata.combined_squashfs_sha256 = fingerprint,
            Self::Tar => {
                metadata.combined_sha256.clone_from(&fingerprint);
                metadata.combined_rootxz_sha256 = fingerprint;
            }
            Self::DiskKvm => metadata.combined_disk_kvm_sha256 = fingerprint,
            Self::Disk1 => metadata.combined_disk1_sha256 = fingerprint,
            Self::Uefi1 => metadata.combined_uefi1_sha256 = fingerprint,
        }
    }
}

/// Where an item lies below a server's base: relative, without `..`, in characters that a URL holds.
///
/// ```
/// use lxd_image::ErrorKind;
/// use lxd_image::protocol::simplestreams::ItemPath;
///
/// assert_eq!("images/debian/20240601_05:24/lxd.tar.xz".parse::<ItemPath>()?.file_name(), "lxd.tar.xz");
/// for path in ["/etc/passwd", "../secret", "a/%2e%2e/b", "file:///etc/passwd", "//other.host/x"] {
///     assert_eq!(path.parse::<ItemPath>().unwrap_err().kind(), ErrorKind::UnsafePath, "{path}");
/// }
/// # Ok::<(), lxd_image::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ItemPath(String);

impl ItemPath {
    /// The path, with slashes between its parts.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The last part: the file's name.
    #[must_use]
    pub fn file_name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }
}

impl fmt::Display for ItemPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for ItemPath {
    type Err = Error;

    /// # Errors
    /// `UnsafePath` for everything that may lead elsewhere, also when it is unescaped by somebody.
    fn from_str(path: &str) -> Result<Self> {
        let refused = |why: &str| {
            let shown: String = path.chars().take(200).collect();
            Err(Error::unsafe_path(format!("the path `{shown}` of an item {why}"))
                .with_hint("paths in a list of images are relative to the server's base and stay below it"))
        };
        if path.is_empty() || path.len() > 4096 {
            return refused("is empty or over 4096 bytes");
        }
        // What can't stand in a URL as it is, and what would end the path or change its meaning.
        if path.bytes().any(|byte| !byte.is_ascii_graphic() || matches!(byte, b'\\' | b'?' | b'#')) {
            return refused("holds a character that is none of a path");
        }
        // A colon in the first part would make a scheme of it; behind that, real lists have it in their dates.
        if path.split('/').next().is_some_and(|first| first.contains(':')) {
            return refused("names another place");
        }
        // What somebody unescapes must not lead elsewhere.
        let plain = path.to_ascii_lowercase();
        if ["%2e", "%2f", "%5c", "%00", "%25"].iter().any(|escape| plain.contains(escape)) {
            return refused("hides where it leads");
        }
        // `./x` and `a//b` are no danger, but the same file under two names.
        if path.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return refused("is absolute or climbs");
        }
        Ok(Self(path.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;
    use crate::error::ErrorKind;

    /// hostile.md 159.
    #[test]
    fn only_paths_that_stay_below_the_base_are_taken() {
        for path in [
            "",
            "/etc/passwd",
            "..",
            "../x",
            "a/../b",
            "a/./b",
            "a//b",
            "a/",
            "//host/x",
            "file:///etc/passwd",
            "c:x/y",
            "https://other.example/x",
            "a\\..\\b",
            "a/%2e%2e/b",
            "%2E./b",
            "a%2fb",
            "a%5Cb",
            "a%252e",
            "a%00",
            "a?b",
            "a#b",
            "a b",
            "a\nb",
            "ä",
        ] {
            assert_eq!(path.parse::<ItemPath>().unwrap_err().kind(), ErrorKind::UnsafePath, "{path:?}");
        }
        assert_eq!("x/".repeat(3000).parse::<ItemPath>().unwrap_err().kind(), ErrorKind::UnsafePath);
        for path in
            ["x", "images/debian/bookworm/amd64/default/20240601_05:24/rootfs.squashfs", "a/..b", "a/b%20c", "a+b~c"]
        {
            assert_eq!(path.parse::<ItemPath>().unwrap().as_str(), path);
        }
    }

    #[test]
    fn every_kind_of_rootfs_has_a_digest_of_its_own_on_the_metadata() {
        let mut item = Item::default();
        for kind in RootKind::ALL {
            kind.set_combined(&mut item, kind.name().to_owned());
            assert_eq!(RootKind::ALL.into_iter().find(|other| other.name() == kind.name()), Some(kind));
        }
        for kind in RootKind::ALL {
            assert_eq!(kind.combined(&item), kind.name());
        }
    }
}
