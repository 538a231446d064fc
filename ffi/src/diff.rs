//! What differs between two images: metadata, templates, and every member of the rootfs.

use lxd_image::format::{Difference, differences};

use crate::about::index_out_of_range;
use crate::args::{self, versioned};
use crate::error::{call, free, lxi_error};
use crate::handle::{self, handles};
use crate::image::lxi_image;
use crate::types::*;
use crate::verify::{lxi_verify_options, verify_options};

/// How a member differs: LXI_DIFFERENCE_….
pub type lxi_difference_kind = u32;
/// Only the first image has it.
pub const LXI_DIFFERENCE_ONLY_IN_FIRST: lxi_difference_kind = 1;
/// Only the second image has it.
pub const LXI_DIFFERENCE_ONLY_IN_SECOND: lxi_difference_kind = 2;
/// Both have it, with other attributes or content.
pub const LXI_DIFFERENCE_CHANGED: lxi_difference_kind = 3;

/// What differs between two images. Read-only, so it may be shared between threads.
pub struct lxi_differences {
    _opaque: (),
}

/// One difference; filled by `lxi_differences_at`. Set `size` to `sizeof(lxi_difference_info)` before.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct lxi_difference_info {
    /// The size of this structure in bytes, set by the caller.
    pub size: usize,
    /// The member: `metadata.yaml`, or a path that begins with `templates/` or `rootfs`. Bytes.
    pub path: lxi_bytes,
    /// How it differs.
    pub kind: lxi_difference_kind,
    /// How many attributes of it differ: `lxi_differences_attribute_at`.
    pub attributes: usize,
}

versioned!(lxi_difference_info);
handles! { lxi_differences(12) = Vec<Difference>; }

/// Compares what two images hold. Their form and codecs don't count. `options` may be NULL; `count` gets how many
/// differences there are.
///
/// Owner: the caller, who frees the result with `lxi_differences_free`. Threads: any. Errors: those of
/// `lxi_image_verify`, and LXI_MALFORMED or LXI_UNSAFE_PATH when one of them breaks a rule.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_image_differences(
    first: *const lxi_image,
    second: *const lxi_image,
    options: *const lxi_verify_options,
    found: *mut *mut lxi_differences,
    count: *mut usize,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let (found, count) = (args::out_handle(found, "found")?, args::out(count, 0, "count")?);
        let (first, second) = (handle::get(first)?, handle::get(second)?);
        let (options, _, monitor) = verify_options(options)?;
        let differences = differences(first, second, &options, &monitor)?;
        count.set(differences.len());
        found.set(handle::make(differences));
        Ok(())
    })
}

/// Fills `info` with a difference, with an index from 0, sorted by path.
///
/// Owner: the path belongs to `found`. Threads: any. Errors: LXI_NOT_FOUND for an index past the end.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_differences_at(
    found: *const lxi_differences,
    index: usize,
    info: *mut lxi_difference_info,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let difference = handle::get(found)?.get(index).ok_or_else(|| index_out_of_range(index, "difference"))?;
        let (kind, attributes) = match difference {
            Difference::OnlyInFirst(_) => (LXI_DIFFERENCE_ONLY_IN_FIRST, 0),
            Difference::OnlyInSecond(_) => (LXI_DIFFERENCE_ONLY_IN_SECOND, 0),
            Difference::Changed(_, attributes) => (LXI_DIFFERENCE_CHANGED, attributes.len()),
            _ => (0, 0),
        };
        args::fill(info, &lxi_difference_info { size: 0, path: lxi_bytes::of(difference.path()), kind, attributes })
    })
}

/// An attribute that differs: its name (`mode`, `owner`, `mtime`, `content` …) and both values; both indexes from 0.
///
/// Owner: the texts belong to `found`. Threads: any. Errors: LXI_NOT_FOUND for an index past the end.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_differences_attribute_at(
    found: *const lxi_differences,
    difference: usize,
    index: usize,
    name: *mut lxi_str,
    first: *mut lxi_str,
    second: *mut lxi_str,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let name = args::out_str(name, "name")?;
        let (first, second) = (args::out_str(first, "first")?, args::out_str(second, "second")?);
        let attribute = match handle::get(found)?.get(difference) {
            Some(Difference::Changed(_, attributes)) => attributes.get(index),
            _ => None,
        };
        let attribute = attribute.ok_or_else(|| index_out_of_range(index, "attribute"))?;
        name.set(lxi_str::of(&attribute.0));
        first.set(lxi_str::of(&attribute.1));
        second.set(lxi_str::of(&attribute.2));
        Ok(())
    })
}

/// Frees differences; NULL is allowed.
///
/// Threads: any, the handle being no longer used. Errors: LXI_INVALID_INPUT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_differences_free(found: *mut lxi_differences) -> lxi_status {
    free(found)
}
