//! The small types that all calls share: texts, bytes, fingerprints, and the numbers of states and choices.

use lxd_image::format::ImageType;
use lxd_image::{ErrorKind, Fingerprint, Result};

use crate::args::invalid;

/// The outcome of a call: LXI_OK, or why it failed. The values never change their meaning; later versions may add some.
pub type lxi_status = i32;

/// It worked.
pub const LXI_OK: lxi_status = 0;
/// The thing that was named does not exist; also: an index past the end of a list.
pub const LXI_NOT_FOUND: lxi_status = 1;
/// The thing that was to be made is already there.
pub const LXI_ALREADY_EXISTS: lxi_status = 2;
/// An argument makes no sense: NULL, misaligned, too long, no UTF-8, of a wrong size, a freed handle or one of another
/// kind.
pub const LXI_INVALID_INPUT: lxi_status = 3;
/// The bytes are not what their format says they must be.
pub const LXI_MALFORMED: lxi_status = 4;
/// The bytes are well formed, but ask for something that this library does not do.
pub const LXI_UNSUPPORTED: lxi_status = 5;
/// The piece that would do it was compiled out; the message names the feature.
pub const LXI_FEATURE_DISABLED: lxi_status = 6;
/// A digest, a size or an ETag differs from the one that was expected; the error has both.
pub const LXI_MISMATCH: lxi_status = 7;
/// A name or a link would lead out of the place it belongs to.
pub const LXI_UNSAFE_PATH: lxi_status = 8;
/// A limit was reached; the error names it, and `lxi_limits_set` raises it.
pub const LXI_LIMIT_EXCEEDED: lxi_status = 9;
/// Several things match where exactly one is needed.
pub const LXI_AMBIGUOUS: lxi_status = 10;
/// Somebody else holds the thing, and the wait that was allowed is over.
pub const LXI_BUSY: lxi_status = 11;
/// A template could not be parsed or rendered.
pub const LXI_TEMPLATE: lxi_status = 12;
/// A server answered wrongly, late or not at all.
pub const LXI_REMOTE: lxi_status = 13;
/// The caller asked to stop, by an `lxi_cancel` or by what a callback returned.
pub const LXI_CANCELLED: lxi_status = 14;
/// The operating system refused; the message tells why.
pub const LXI_IO: lxi_status = 15;
/// There is no space left on the file system that is written to, or in the quota there.
pub const LXI_STORAGE_FULL: lxi_status = 16;
/// Something between here and the data failed in a way that another try may mend.
pub const LXI_TRANSIENT: lxi_status = 17;
/// A signature is not valid, a list is not signed by a key of its remote, or the policy does not admit the image.
pub const LXI_UNTRUSTED: lxi_status = 18;
/// A defect of this library: it panicked, and the message has the panic's text. Handles that were given to the call as
/// non-const pointers can only be freed afterwards. Please report it.
pub const LXI_PANIC: lxi_status = 100;
/// An error of a kind that is newer than this list.
pub const LXI_OTHER: lxi_status = 101;

/// Text: UTF-8 where it names something in an image or a store, any bytes without NUL where it is a path of the host.
/// Not terminated by NUL. As an argument it is borrowed for the call. As a result it points into the handle that gave
/// it, until that handle is changed or freed. NULL with length 0 is the empty text.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct lxi_str {
    /// The first byte.
    pub data: *const std::ffi::c_char,
    /// How many bytes.
    pub len: usize,
}

/// Bytes. Borrowed and owned as `lxi_str` is.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct lxi_bytes {
    /// The first byte.
    pub data: *const u8,
    /// How many bytes.
    pub len: usize,
}

/// A name with its value.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct lxi_pair {
    /// The name.
    pub key: lxi_str,
    /// The value.
    pub value: lxi_str,
}

/// The name of an image: the sha256 of its bytes as stored; of a split image, of the metadata file's bytes followed by
/// the rootfs file's.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct lxi_fingerprint {
    /// The digest.
    pub bytes: [u8; 32],
}

/// A run of owners: `count` numbers from `inside` (the image) become those from `outside` (the host).
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct lxi_id_range {
    /// First number in the image.
    pub inside: u32,
    /// First number on the host.
    pub outside: u32,
    /// How many.
    pub count: u32,
}

/// Whether an image is one file or two: LXI_FORM_….
pub type lxi_form = u32;
/// As an option: whichever is usual. Never a result.
pub const LXI_FORM_DEFAULT: lxi_form = 0;
/// One archive with metadata and rootfs.
pub const LXI_FORM_UNIFIED: lxi_form = 1;
/// A metadata archive and a rootfs file.
pub const LXI_FORM_SPLIT: lxi_form = 2;

/// Whether an image is for a container or for a virtual machine: LXI_TYPE_….
pub type lxi_image_type = u32;
/// The rootfs is a tree of files.
pub const LXI_TYPE_CONTAINER: lxi_image_type = 1;
/// The rootfs is a disk.
pub const LXI_TYPE_VIRTUAL_MACHINE: lxi_image_type = 2;

impl lxi_str {
    pub(crate) const EMPTY: Self = Self { data: std::ptr::null(), len: 0 };

    pub(crate) fn of(text: &str) -> Self {
        Self::of_bytes(text.as_bytes())
    }

    pub(crate) fn of_bytes(bytes: &[u8]) -> Self {
        Self { data: bytes.as_ptr().cast(), len: bytes.len() }
    }

    pub(crate) fn of_optional(text: Option<&str>) -> Self {
        text.map_or(Self::EMPTY, Self::of)
    }
}

impl lxi_bytes {
    pub(crate) const EMPTY: Self = Self { data: std::ptr::null(), len: 0 };

    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self { data: bytes.as_ptr(), len: bytes.len() }
    }
}

impl From<Fingerprint> for lxi_fingerprint {
    fn from(fingerprint: Fingerprint) -> Self {
        Self { bytes: *fingerprint.as_bytes() }
    }
}

impl lxi_fingerprint {
    pub(crate) const NONE: Self = Self { bytes: [0; 32] };
}

pub(crate) fn image_type(of: ImageType) -> lxi_image_type {
    match of {
        ImageType::Container => LXI_TYPE_CONTAINER,
        ImageType::VirtualMachine => LXI_TYPE_VIRTUAL_MACHINE,
    }
}

/// The type that a caller said; `None` for 0.
pub(crate) fn optional_image_type(of: lxi_image_type) -> Result<Option<ImageType>> {
    match of {
        0 => Ok(None),
        LXI_TYPE_CONTAINER => Ok(Some(ImageType::Container)),
        LXI_TYPE_VIRTUAL_MACHINE => Ok(Some(ImageType::VirtualMachine)),
        other => Err(invalid(format!("{other} is not an image type"))),
    }
}

pub(crate) fn status(kind: ErrorKind) -> lxi_status {
    KINDS.iter().find(|(_, known)| *known == kind).map_or(LXI_OTHER, |(status, _)| *status)
}

/// The kind of a status that a callback returned: anything that is none counts as `Io`.
pub(crate) fn kind(status: lxi_status) -> ErrorKind {
    KINDS.iter().find(|(known, _)| *known == status).map_or(ErrorKind::Io, |(_, kind)| *kind)
}

const KINDS: &[(lxi_status, ErrorKind)] = &[
    (LXI_NOT_FOUND, ErrorKind::NotFound),
    (LXI_ALREADY_EXISTS, ErrorKind::AlreadyExists),
    (LXI_INVALID_INPUT, ErrorKind::InvalidInput),
    (LXI_MALFORMED, ErrorKind::Malformed),
    (LXI_UNSUPPORTED, ErrorKind::Unsupported),
    (LXI_FEATURE_DISABLED, ErrorKind::FeatureDisabled),
    (LXI_MISMATCH, ErrorKind::Mismatch),
    (LXI_UNSAFE_PATH, ErrorKind::UnsafePath),
    (LXI_LIMIT_EXCEEDED, ErrorKind::LimitExceeded),
    (LXI_AMBIGUOUS, ErrorKind::Ambiguous),
    (LXI_BUSY, ErrorKind::Busy),
    (LXI_TEMPLATE, ErrorKind::Template),
    (LXI_REMOTE, ErrorKind::Remote),
    (LXI_CANCELLED, ErrorKind::Cancelled),
    (LXI_IO, ErrorKind::Io),
    (LXI_STORAGE_FULL, ErrorKind::StorageFull),
    (LXI_TRANSIENT, ErrorKind::Transient),
    (LXI_UNTRUSTED, ErrorKind::Untrusted),
];

#[cfg(test)]
mod tests {
    use std::ffi::CStr;

    use super::*;
    use crate::about::lxi_status_name;

    #[test]
    fn every_kind_has_a_status_of_its_name() {
        for (status, kind) in KINDS {
            // SAFETY: a text of this library.
            let name = unsafe { CStr::from_ptr(lxi_status_name(*status)) };
            assert_eq!(name.to_str(), Ok(kind.name()));
        }
        assert_eq!(status(ErrorKind::Untrusted), LXI_UNTRUSTED);
    }
}
