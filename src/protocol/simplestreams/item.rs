//! Items: the types of files that make images, and the paths that a list may name.
//!
//! LXD reads only types with `lxd`, Incus only those with `incus`; both are read here. A path is data of an untrusted server and
//! becomes a URL or a path on disk, so it is a type of its own that can't leave the server or the tree.

use std::fmt;
use std::str::FromStr;

use super::document::Item;
use crate::error::{Error, Result};
use crate::fingerprint::Fingerprint;
use crate::metadata::ImageType;

/// The types of unified images, LXD's first.
pub const UNIFIED_NAMES: [&str; 2] = ["lxd_combined.tar.gz", "incus_combined.tar.gz"];
/// The types of metadata files, LXD's first.
pub const METADATA_NAMES: [&str; 2] = ["lxd.tar.xz", "incus.tar.xz"];

/// The type of the item with the signed statements about an image: JSON lines, one envelope on each. LXD, Incus and other
/// readers ignore it. Its key is [`statements_key`], since a version may hold several images.
pub const STATEMENTS_TYPE: &str = "intoto.jsonl";

/// The key of the item with the statements about an image.
#[must_use]
pub fn statements_key(fingerprint: &Fingerprint) -> String {
    format!("{fingerprint}.{STATEMENTS_TYPE}")
}

/// The kind of rootfs of a split image, in the order in which LXD prefers images of one version.
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

    /// The `ftype` of a delta of it; `None` for kinds that have none.
    #[must_use]
    pub const fn delta_name(self) -> Option<&'static str> {
        match self {
            Self::Squashfs => Some("squashfs.vcdiff"),
            Self::DiskKvm => Some("disk-kvm.img.vcdiff"),
            Self::Tar | Self::Disk1 | Self::Uefi1 => None,
        }
    }

    /// Whether an image with it is for containers or virtual machines.
    #[must_use]
    pub const fn image_type(self) -> ImageType {
        match self {
            Self::Squashfs | Self::Tar => ImageType::Container,
            Self::DiskKvm | Self::Disk1 | Self::Uefi1 => ImageType::VirtualMachine,
        }
    }

    /// The fingerprint that a metadata item has for an image with this rootfs; empty if it has none.
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

    /// The key of that fingerprint in the item.
    #[must_use]
    pub const fn combined_name(self) -> &'static str {
        match self {
            Self::Squashfs => "combined_squashfs_sha256",
            Self::Tar => "combined_rootxz_sha256",
            Self::DiskKvm => "combined_disk-kvm-img_sha256",
            Self::Disk1 => "combined_disk1-img_sha256",
            Self::Uefi1 => "combined_uefi1-img_sha256",
        }
    }

    /// Sets that fingerprint.
    #[cfg(feature = "simplestreams")]
    pub(crate) fn set_fingerprint(self, metadata: &mut Item, fingerprint: &crate::Fingerprint) {
        self.set_combined(metadata, fingerprint.to_string());
    }

    /// Sets that fingerprint; for tar under both keys that readers know.
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

/// The path of an item: relative to the base of a server or, with a leading slash, to its root. Never on another server and never
/// above either.
///
/// Spaces, non-ASCII letters and lone percent signs are accepted, since real lists have them; [`to_url`](Self::to_url) encodes
/// them.
///
/// ```
/// use lxd_image::ErrorKind;
/// use lxd_image::protocol::simplestreams::ItemPath;
///
/// assert_eq!("images/debian/20240601_05:24/lxd.tar.xz".parse::<ItemPath>()?.file_name(), "lxd.tar.xz");
/// assert_eq!("/files/my image.tar".parse::<ItemPath>()?.to_url(), "/files/my%20image.tar");
/// for path in ["../secret", "a/%2e%2e/b", "file:///etc/passwd", "//other.host/x"] {
///     assert_eq!(path.parse::<ItemPath>().unwrap_err().kind(), ErrorKind::UnsafePath, "{path}");
/// }
/// # Ok::<(), lxd_image::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ItemPath(String);

impl ItemPath {
    /// The path as the list has it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The last segment.
    #[must_use]
    pub fn file_name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }

    /// The path as a relative reference (RFC 3986, 4.2). Characters that a URL can't have are percent-encoded, and so is a percent
    /// sign without two hexadecimal digits.
    #[must_use]
    pub fn to_url(&self) -> String {
        let bytes = self.0.as_bytes();
        let mut out = String::with_capacity(bytes.len());
        // A colon in the first segment would make it a scheme.
        if self.0.split('/').next().is_some_and(|first| first.contains(':')) {
            out.push_str("./");
        }
        for (at, byte) in bytes.iter().enumerate() {
            let plain = byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/".contains(byte);
            let code = bytes.get(at + 1..at + 3).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit));
            if plain || *byte == b'%' && code {
                out.push(char::from(*byte));
            } else {
                out.push_str(&format!("%{byte:02X}"));
            }
        }
        out
    }

    /// The path of the file in a static tree, without `.` and empty segments, so that all spellings of a path are equal.
    #[must_use]
    pub fn to_file(&self) -> String {
        let parts = self.0.split('/').filter(|part| !matches!(*part, "" | "."));
        parts.collect::<Vec<_>>().join("/")
    }
}

impl fmt::Display for ItemPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Encoded dot, slash, backslash and NUL, which would change the meaning of a path once it is decoded.
const HIDDEN: [&str; 4] = ["%2e", "%2f", "%5c", "%00"];

/// Whether a path changes its meaning when it is decoded, any number of times: proxies and servers may decode twice.
fn hides_something(path: &str) -> bool {
    let mut text = path.to_ascii_lowercase();
    // Each round takes at least two characters away.
    while text.contains('%') {
        if HIDDEN.iter().any(|code| text.contains(code)) {
            return true;
        }
        let decoded = text.replace("%25", "%");
        if decoded == text {
            return false;
        }
        text = decoded;
    }
    false
}

/// Whether a reference begins with a scheme, such as `https:`.
fn has_scheme(path: &str) -> bool {
    path.split_once(':').is_some_and(|(scheme, _)| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
    })
}

impl FromStr for ItemPath {
    type Err = Error;

    /// # Errors
    /// `UnsafePath` for every path that may leave the server or its base, also after decoding.
    fn from_str(path: &str) -> Result<Self> {
        let refused = |why: &str| {
            let shown: String = path.chars().take(200).collect();
            Err(Error::unsafe_path(format!("the path `{shown}` of an item {why}")).with_hint(
                "paths in a list of images are relative to the server's base, or begin at its root, and stay there",
            ))
        };
        if path.is_empty() || path.len() > 4096 {
            return refused("is empty or over 4096 bytes");
        }
        // What would end a request or the path, or change its meaning.
        if path.chars().any(|c| c.is_control() || matches!(c, '\\' | '?' | '#')) {
            return refused("holds a control character, a backslash, `?` or `#`");
        }
        if path.starts_with("//") || has_scheme(path) {
            return refused("names another server");
        }
        if hides_something(path) {
            return refused("contains an encoded separator");
        }
        if path.split('/').any(|part| part == "..") {
            return refused("contains `..`");
        }
        // A directory is no file.
        if matches!(path.rsplit('/').next(), Some("" | ".")) {
            return refused("ends with a slash");
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
            "/",
            "..",
            "../x",
            "/../x",
            "a/../b",
            "a/.",
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
            "a\nb",
            "%252E%252e/x",
        ] {
            assert_eq!(path.parse::<ItemPath>().unwrap_err().kind(), ErrorKind::UnsafePath, "{path:?}");
        }
        assert_eq!("x/".repeat(3000).parse::<ItemPath>().unwrap_err().kind(), ErrorKind::UnsafePath);
        for path in
            ["x", "images/debian/bookworm/amd64/default/20240601_05:24/rootfs.squashfs", "a/..b", "a/b%20c", "a+b~c"]
        {
            let parsed = path.parse::<ItemPath>().unwrap();
            assert_eq!((parsed.as_str(), &*parsed.to_url(), &*parsed.to_file()), (path, path, path));
        }
    }

    #[test]
    fn odd_but_harmless_paths_are_taken_and_encoded() {
        for (path, url, file) in [
            ("/files/x", "/files/x", "files/x"),
            ("./a//b/./c", "./a//b/./c", "a/b/c"),
            ("a b/ä", "a%20b/%C3%A4", "a b/ä"),
            ("100%", "100%25", "100%"),
            ("50%/x%2", "50%25/x%252", "50%/x%2"),
            ("100%25", "100%25", "100%25"),
            ("2024:01/x", "./2024:01/x", "2024:01/x"),
            ("a[1]{2}\"<>^`|", "a%5B1%5D%7B2%7D%22%3C%3E%5E%60%7C", "a[1]{2}\"<>^`|"),
        ] {
            let parsed = path.parse::<ItemPath>().unwrap();
            assert_eq!((&*parsed.to_url(), &*parsed.to_file()), (url, file), "{path}");
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
