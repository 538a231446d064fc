//! The names of the files that items list.

use crate::fingerprint::Fingerprint;
use crate::format::Container;
use crate::protocol::simplestreams::RootKind;

/// The end of the file name of a unified image, as `incus-simplestreams` writes it. The real
/// compression may be another one; clients look at the bytes.
pub(super) const UNIFIED: &str = "incus_combined.tar.gz";
/// The end of the file name of a metadata file.
pub(super) const METADATA: &str = "incus.tar.xz";

/// The path of the metadata file of a split image.
pub(crate) fn metadata_path(fingerprint: &Fingerprint) -> String {
    format!("/images/{fingerprint}.{METADATA}")
}

/// The path of the rootfs file of a split image, which is of this kind.
pub(crate) fn rootfs_path(fingerprint: &Fingerprint, container: Container) -> String {
    format!("/images/{fingerprint}.{}", rootfs_ending(root_kind(container)))
}

/// What readers of lists call a rootfs.
pub(super) const fn root_kind(container: Container) -> RootKind {
    match container {
        Container::SquashFs => RootKind::Squashfs,
        // Whatever it is compressed with: readers look at the bytes.
        Container::Tar(_) => RootKind::Tar,
        Container::Qcow2 => RootKind::DiskKvm,
    }
}

/// The end of the file name of a rootfs of this kind.
pub(super) const fn rootfs_ending(kind: RootKind) -> &'static str {
    match kind {
        RootKind::Squashfs => "squashfs",
        RootKind::Tar => "root.tar.xz",
        RootKind::DiskKvm | RootKind::Disk1 | RootKind::Uefi1 => "qcow2",
    }
}
