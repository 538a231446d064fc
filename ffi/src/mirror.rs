//! Mirrors: a store or a static tree made equal to a remote.

use lxd_image::remote::{MirrorOptions, MirrorTarget, Mirrored, mirror};
use lxd_image::store::StoredImage;
use lxd_image::{Fingerprint, Result};

use crate::about::index_out_of_range;
use crate::args::{self, versioned};
use crate::cursor::filters;
use crate::error::{Report, call, free, lxi_error, lxi_error_info};
use crate::handle::{self, handles};
use crate::monitor::{lxi_monitor, monitor_from};
use crate::remote::lxi_remote;
use crate::store::lxi_store;
use crate::stored::{lxi_stored_image, stored};
use crate::tree::lxi_tree;
use crate::types::*;

/// Which images are mirrored. NULL, or all but `size` zero: all, and nothing is deleted.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct lxi_mirror_options {
    /// The size of this structure in bytes.
    pub size: usize,
    /// LXI_MIRROR_….
    pub flags: u32,
    /// Padding; must be 0.
    pub reserved: u32,
    /// Conditions that an image must meet, as `lxi_store_list` takes them.
    pub filters: *const lxi_str,
    /// How many.
    pub filters_len: usize,
    /// Progress, cancellation and omissions of the call, or NULL.
    pub monitor: *const lxi_monitor,
}

/// Images that meet the filters and are gone on the remote are deleted; in a store only those that a mirror brought from
/// there. A remote that lists nothing deletes nothing.
pub const LXI_MIRROR_DELETE: u32 = 1;

/// What a mirror did. Read-only, so it may be shared between threads.
pub struct lxi_mirrored {
    _opaque: (),
}

/// What a mirror did; filled by `lxi_mirrored_get`. Set `size` to `sizeof(lxi_mirrored_info)` before.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct lxi_mirrored_info {
    /// The size of this structure in bytes, set by the caller.
    pub size: usize,
    /// Images that were copied: `lxi_mirrored_copied_at`.
    pub copied: usize,
    /// Images that were there already.
    pub kept: usize,
    /// Images that were deleted: `lxi_mirrored_removed_at`.
    pub removed: usize,
    /// Images that could not be copied because of themselves: `lxi_mirrored_failed_at`. The next run tries them again.
    pub failed: usize,
}

/// A result with the texts that C may look at.
pub struct MirroredView {
    copied: Vec<StoredImage>,
    kept: usize,
    removed: Vec<Fingerprint>,
    failed: Vec<(Fingerprint, Report)>,
}

versioned!(lxi_mirror_options, lxi_mirrored_info);
handles! { lxi_mirrored(38) = MirroredView; }

unsafe fn run(
    remote: *const lxi_remote,
    target: MirrorTarget<'_>,
    options: *const lxi_mirror_options,
) -> Result<*mut lxi_mirrored> {
    let given = args::options(options)?;
    let flags = args::flags(given.flags, LXI_MIRROR_DELETE, "flags of mirroring")?;
    args::flags(given.reserved, 0, "reserved bits of mirroring")?;
    let mut options = MirrorOptions::new().delete(flags != 0);
    for filter in filters(given.filters, given.filters_len)? {
        options = options.filter(filter);
    }
    let (remote, monitor) = (handle::get(remote)?, monitor_from(given.monitor)?);
    let Mirrored { copied, kept, removed, failed, .. } = mirror(remote.source(), target, &options, &monitor)?;
    let failed = failed.into_iter().map(|(of, error)| (of, Report::new(error))).collect();
    Ok(handle::make(MirroredView { copied, kept, removed, failed }))
}

/// Makes a store equal to a remote: copies what is missing, newest first. An image that can't be copied does not stop the
/// others. An interrupted run is continued by the next one. `options` may be NULL.
///
/// Owner: the caller, who frees the result with `lxi_mirrored_free`. Threads: any. Errors: LXI_INVALID_INPUT for a filter
/// that is none; LXI_UNTRUSTED as for `lxi_remote_resolve`; LXI_REMOTE when the server can't be reached any more, or lists
/// nothing while what is gone is to be deleted; LXI_CANCELLED; LXI_STORAGE_FULL; LXI_IO. What was copied before stays.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_mirror_to_store(
    remote: *const lxi_remote,
    store: *const lxi_store,
    options: *const lxi_mirror_options,
    mirrored: *mut *mut lxi_mirrored,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let place = args::out_handle(mirrored, "mirrored")?;
        place.set(run(remote, MirrorTarget::Store(handle::get(store)?), options)?);
        Ok(())
    })
}

/// Makes a static tree equal to a remote, with the products, versions and aliases of a simplestreams server. As
/// `lxi_mirror_to_store` in all else.
///
/// Owner: the caller, who frees the result with `lxi_mirrored_free`. Threads: any. Errors: as `lxi_mirror_to_store`;
/// LXI_BUSY while another process writes into the tree.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_mirror_to_tree(
    remote: *const lxi_remote,
    tree: *const lxi_tree,
    options: *const lxi_mirror_options,
    mirrored: *mut *mut lxi_mirrored,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let place = args::out_handle(mirrored, "mirrored")?;
        place.set(run(remote, MirrorTarget::Tree(handle::get(tree)?), options)?);
        Ok(())
    })
}

/// Fills `info` with what a mirror did.
///
/// Threads: any. Errors: LXI_INVALID_INPUT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_mirrored_get(
    mirrored: *const lxi_mirrored,
    info: *mut lxi_mirrored_info,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let found = handle::get(mirrored)?;
        let told = lxi_mirrored_info {
            size: 0,
            copied: found.copied.len(),
            kept: found.kept,
            removed: found.removed.len(),
            failed: found.failed.len(),
        };
        args::fill(info, &told)
    })
}

/// An image that was copied, with an index from 0, as the remote described it.
///
/// Owner: the caller, who frees it with `lxi_stored_image_free`. Threads: any. Errors: LXI_NOT_FOUND past the last one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_mirrored_copied_at(
    mirrored: *const lxi_mirrored,
    index: usize,
    image: *mut *mut lxi_stored_image,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let place = args::out_handle(image, "image")?;
        let found = handle::get(mirrored)?.copied.get(index).ok_or_else(|| index_out_of_range(index, "image"))?;
        place.set(stored(found.clone()));
        Ok(())
    })
}

/// The fingerprint of an image that was deleted, with an index from 0.
///
/// Threads: any. Errors: LXI_NOT_FOUND past the last one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_mirrored_removed_at(
    mirrored: *const lxi_mirrored,
    index: usize,
    fingerprint: *mut lxi_fingerprint,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let place = args::out(fingerprint, lxi_fingerprint::NONE, "fingerprint")?;
        let found = handle::get(mirrored)?.removed.get(index).ok_or_else(|| index_out_of_range(index, "image"))?;
        place.set((*found).into());
        Ok(())
    })
}

/// The fingerprint of an image that could not be copied, with an index from 0; fills `info` with why.
///
/// Owner: the texts belong to `mirrored`. Threads: any. Errors: LXI_NOT_FOUND past the last one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_mirrored_failed_at(
    mirrored: *const lxi_mirrored,
    index: usize,
    fingerprint: *mut lxi_fingerprint,
    info: *mut lxi_error_info,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let place = args::out(fingerprint, lxi_fingerprint::NONE, "fingerprint")?;
        let found = handle::get(mirrored)?.failed.get(index).ok_or_else(|| index_out_of_range(index, "image"))?;
        args::fill(info, &found.1.info())?;
        place.set(found.0.into());
        Ok(())
    })
}

/// Frees the result of a mirror; NULL is allowed.
///
/// Threads: any, the handle being no longer used. Errors: LXI_INVALID_INPUT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_mirrored_free(mirrored: *mut lxi_mirrored) -> lxi_status {
    free(mirrored)
}
