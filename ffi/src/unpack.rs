//! Unpacking in one pass, and what it left.

use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use lxd_image::format::{IdMap, ImageType, UnpackOptions, UnpackReport, Unpacked};
use lxd_image::{Fingerprint, Metadata, Monitor, Result};

use crate::about::index_out_of_range;
use crate::args::{self, versioned};
use crate::disk::disk_output;
use crate::error::{call, free, lxi_error};
use crate::handle::{self, handles};
use crate::image::lxi_image;
use crate::metadata::lxi_metadata;
use crate::monitor::{lxi_monitor, monitor_from};
use crate::types::*;
use crate::verify::threads;

/// How an image is unpacked. NULL, or all but `size` zero: everything as the image says, on all cores.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct lxi_unpack_options {
    /// The size of this structure in bytes.
    pub size: usize,
    /// LXI_UNPACK_….
    pub flags: u32,
    /// How many threads decode and write, at most; 0 for all cores.
    pub threads: u32,
    /// How owners and groups are shifted; none: not at all.
    pub id_map: *const lxi_id_range,
    /// How many ranges.
    pub id_map_len: usize,
    /// Progress, cancellation and omissions of the call, or NULL.
    pub monitor: *const lxi_monitor,
    /// What the disk of a virtual machine is written as: `raw`, which is sparse, or `qcow2`; empty or `keep`: as it is.
    /// Refused for a container but with LXI_UNPACK_DISK_IF_ANY.
    pub disk_format: lxi_str,
}

/// Writes the root file system itself to the destination, without metadata and templates.
pub const LXI_UNPACK_ROOTFS_ONLY: u32 = 1;
/// Makes no device nodes, even where they could be made.
pub const LXI_UNPACK_SKIP_DEVICES: u32 = 2;
/// Sets `trusted.*` and every `security.*` attribute too, not only file capabilities.
pub const LXI_UNPACK_ALL_XATTRS: u32 = 4;
/// Waits until everything is on the disk before it becomes visible.
pub const LXI_UNPACK_DURABLE: u32 = 8;

/// `disk_format` is for images of virtual machines, and another one is unpacked all the same.
pub const LXI_UNPACK_DISK_IF_ANY: u32 = 16;

/// The result of unpacking. Read-only, so it may be shared between threads; what is on the disk does not depend on it.
pub struct lxi_unpacked {
    _opaque: (),
}

/// The result of unpacking; filled by `lxi_unpacked_get` and `lxi_staged_get`. Set `size` to
/// `sizeof(lxi_unpacked_info)` before.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct lxi_unpacked_info {
    /// The size of this structure in bytes, set by the caller.
    pub size: usize,
    /// Where it is; empty while it is staged.
    pub path: lxi_str,
    /// The fingerprint of the bytes that were unpacked.
    pub fingerprint: lxi_fingerprint,
    /// Container or virtual machine.
    pub image_type: lxi_image_type,
    /// Whether everything in the image was written as it stands there.
    pub complete: bool,
    /// Entries written.
    pub entries: u64,
    /// Bytes of file content written.
    pub bytes: u64,
    /// How many omissions `lxi_unpacked_omission_at` tells of: the first 1,000.
    pub omissions: usize,
    /// How many kinds of omissions `lxi_unpacked_omission_kind_at` counts.
    pub omission_kinds: usize,
}

/// An unpacking with the texts that C may look at.
pub struct UnpackedView {
    path: PathBuf,
    fingerprint: Fingerprint,
    image_type: ImageType,
    metadata: Metadata,
    report: UnpackReport,
    omissions: Vec<String>,
}

versioned!(lxi_unpack_options since disk_format);
versioned!(lxi_unpacked_info);
handles! { lxi_unpacked(9) = UnpackedView; }

impl UnpackedView {
    pub(crate) fn new(
        path: PathBuf,
        fingerprint: Fingerprint,
        image_type: ImageType,
        metadata: Metadata,
        report: UnpackReport,
    ) -> Self {
        let omissions = report.omissions.iter().map(|omission| omission.what.to_string()).collect();
        Self { path, fingerprint, image_type, metadata, report, omissions }
    }

    pub(crate) fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    pub(crate) fn info(&self) -> lxi_unpacked_info {
        lxi_unpacked_info {
            size: 0,
            path: lxi_str::of_bytes(self.path.as_os_str().as_bytes()),
            fingerprint: self.fingerprint.into(),
            image_type: image_type(self.image_type),
            complete: self.report.is_complete(),
            entries: self.report.entries,
            bytes: self.report.bytes,
            omissions: self.omissions.len(),
            omission_kinds: self.report.omissions.counts().len(),
        }
    }
}

impl From<Unpacked> for UnpackedView {
    fn from(unpacked: Unpacked) -> Self {
        Self::new(unpacked.path, unpacked.fingerprint, unpacked.image_type, unpacked.metadata, unpacked.report)
    }
}

/// How owners are shifted.
pub(crate) unsafe fn id_map(ranges: *const lxi_id_range, len: usize) -> Result<IdMap> {
    args::items(ranges, len, "id map")?
        .iter()
        .try_fold(IdMap::identity(), |map, range| map.with_range(range.inside, range.outside, range.count))
}

pub(crate) unsafe fn unpack_options(pointer: *const lxi_unpack_options) -> Result<(UnpackOptions, Monitor)> {
    let given = args::options(pointer)?;
    let flags = args::flags(given.flags, 31, "flags of unpacking")?;
    let mut options = UnpackOptions::new()
        .rootfs_only(flags & LXI_UNPACK_ROOTFS_ONLY != 0)
        .skip_devices(flags & LXI_UNPACK_SKIP_DEVICES != 0)
        .all_xattrs(flags & LXI_UNPACK_ALL_XATTRS != 0)
        .durable(flags & LXI_UNPACK_DURABLE != 0)
        .map_ids(id_map(given.id_map, given.id_map_len)?);
    if let Some(format) = disk_output(given.disk_format)? {
        options = if flags & LXI_UNPACK_DISK_IF_ANY == 0 {
            options.disk_format(format)
        } else {
            options.disk_format_if_any(format)
        };
    }
    if given.threads > 0 {
        options = options.threads(threads(given.threads));
    }
    Ok((options, monitor_from(given.monitor)?))
}

/// Unpacks to `destination` in one pass, hashed, decoded, checked and written at the same time: nothing is visible
/// there unless the fingerprint is `expected_fingerprint` and every rule holds. The destination must not exist, or be
/// an empty directory. `options` and `unpacked` may be NULL.
///
/// Owner: the caller, who frees the result with `lxi_unpacked_free`. Threads: any. Errors: LXI_MISMATCH with both
/// values; LXI_ALREADY_EXISTS or LXI_UNSAFE_PATH for the destination; for the image LXI_MALFORMED, LXI_UNSAFE_PATH,
/// LXI_UNSUPPORTED, LXI_LIMIT_EXCEEDED; LXI_CANCELLED; LXI_IO. Whatever the error, nothing is left.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_image_unpack_verified(
    image: *const lxi_image,
    destination: lxi_str,
    expected_fingerprint: *const lxi_fingerprint,
    options: *const lxi_unpack_options,
    unpacked: *mut *mut lxi_unpacked,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let place = args::optional_out_handle(unpacked, "unpacked")?;
        let (image, expected) = (handle::get(image)?, args::fingerprint(expected_fingerprint)?);
        let destination = args::path(destination, "destination")?;
        let (options, monitor) = unpack_options(options)?;
        let done = image.unpack_verified(destination, &expected, &options, &monitor)?;
        if let Some(place) = place {
            place.set(handle::make(done.into()));
        }
        Ok(())
    })
}

/// Unpacks to `destination` without comparing the fingerprint, for images from a trusted origin. `options` and
/// `unpacked` may be NULL.
///
/// Owner, threads and errors: as `lxi_image_unpack_verified`, but for LXI_MISMATCH.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_image_unpack_unverified(
    image: *const lxi_image,
    destination: lxi_str,
    options: *const lxi_unpack_options,
    unpacked: *mut *mut lxi_unpacked,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let place = args::optional_out_handle(unpacked, "unpacked")?;
        let image = handle::get(image)?;
        let (options, monitor) = unpack_options(options)?;
        let done = image.unpack_unverified(args::path(destination, "destination")?, &options, &monitor)?;
        if let Some(place) = place {
            place.set(handle::make(done.into()));
        }
        Ok(())
    })
}

/// Fills `info` with the result of unpacking.
///
/// Owner: the texts belong to `unpacked`. Threads: any. Errors: LXI_INVALID_INPUT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_unpacked_get(
    unpacked: *const lxi_unpacked,
    info: *mut lxi_unpacked_info,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || args::fill(info, &handle::get(unpacked)?.info()))
}

/// A copy of the image's metadata.
///
/// Owner: the caller, who frees it with `lxi_metadata_free`. Threads: any. Errors: LXI_INVALID_INPUT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_unpacked_metadata(
    unpacked: *const lxi_unpacked,
    metadata: *mut *mut lxi_metadata,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let metadata = args::out_handle(metadata, "metadata")?;
        metadata.set(handle::make(handle::get(unpacked)?.metadata.clone()));
        Ok(())
    })
}

/// Something that was left out, with an index from 0: bytes of the entry's path, and what was left out of it in words.
///
/// Owner: both belong to `unpacked`. Threads: any. Errors: LXI_NOT_FOUND for an index past the end.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_unpacked_omission_at(
    unpacked: *const lxi_unpacked,
    index: usize,
    path: *mut lxi_bytes,
    what: *mut lxi_str,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let (path, what) = (args::out(path, lxi_bytes::EMPTY, "path")?, args::out_str(what, "what")?);
        let left = handle::get(unpacked)?;
        let found = left.report.omissions.iter().nth(index).zip(left.omissions.get(index));
        let (omission, text) = found.ok_or_else(|| index_out_of_range(index, "omission"))?;
        path.set(lxi_bytes::of(&omission.path));
        what.set(lxi_str::of(text));
        Ok(())
    })
}

/// A kind of omissions, with an index from 0: in words, and how many there were in all.
///
/// Owner: the text belongs to `unpacked`. Threads: any. Errors: LXI_NOT_FOUND for an index past the end.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_unpacked_omission_kind_at(
    unpacked: *const lxi_unpacked,
    index: usize,
    what: *mut lxi_str,
    count: *mut u64,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let (what, count) = (args::out_str(what, "what")?, args::out(count, 0, "count")?);
        let found = handle::get(unpacked)?.report.omissions.counts().iter().nth(index);
        let (text, number) = found.ok_or_else(|| index_out_of_range(index, "kind of omissions"))?;
        what.set(lxi_str::of(text));
        count.set(*number);
        Ok(())
    })
}

/// Frees the result of unpacking; NULL is allowed. The unpacked files stay.
///
/// Threads: any, the handle being no longer used. Errors: LXI_INVALID_INPUT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_unpacked_free(unpacked: *mut lxi_unpacked) -> lxi_status {
    free(unpacked)
}
