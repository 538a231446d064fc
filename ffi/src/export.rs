//! Getting an image's bytes out of a store again: to files or to a callback.

use std::ffi::c_void;
use std::os::unix::ffi::OsStrExt;

use lxd_image::store::Exported;

use crate::about::index_out_of_range;
use crate::args;
use crate::error::{call, free, lxi_error};
use crate::handle::{self, handles};
use crate::monitor::{lxi_monitor, monitor_from};
use crate::store::lxi_store;
use crate::stream::{Writer, lxi_write_fn};
use crate::types::*;

/// The files that an export made. Read-only, so it may be shared between threads.
pub struct lxi_exported {
    _opaque: (),
}

handles! { lxi_exported(20) = Exported; }

/// Writes an image's files to `target`, compared with the fingerprint. Into a directory they go under the name they
/// came with, or their fingerprint's: one file, or metadata as `meta-NAME` and rootfs. Any other target is a name: the
/// image, or the metadata, gets it with its own ending, a rootfs with `.root`. `monitor` and `exported` may be NULL.
///
/// Owner: the caller, who frees the result with `lxi_exported_free`. Threads: any. Errors: LXI_NOT_FOUND;
/// LXI_ALREADY_EXISTS for a file that is there; LXI_MISMATCH when the store's bytes are no longer the image;
/// LXI_CANCELLED; LXI_IO. No part of the image is left then.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_store_export(
    store: *const lxi_store,
    fingerprint: *const lxi_fingerprint,
    target: lxi_str,
    monitor: *const lxi_monitor,
    exported: *mut *mut lxi_exported,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let place = args::optional_out_handle(exported, "exported")?;
        let store = handle::get(store)?;
        let (of, target, monitor) =
            (args::fingerprint(fingerprint)?, args::path(target, "target")?, monitor_from(monitor)?);
        let done = store.export(&of, target, &monitor)?;
        if let Some(place) = place {
            place.set(handle::make(done));
        }
        Ok(())
    })
}

/// Writes a unified image to `write`, which gets `user`; both are used during the call only. `monitor` and `bytes`,
/// which gets the image's size, may be NULL.
///
/// Threads: any; `write` is called on the caller's. Errors: LXI_NOT_FOUND; LXI_INVALID_INPUT for a split image, which
/// is two streams; LXI_MISMATCH when the store's bytes turn out not to be the image, after they were written; what
/// `write` returns; LXI_CANCELLED; LXI_IO.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_store_export_to(
    store: *const lxi_store,
    fingerprint: *const lxi_fingerprint,
    write: lxi_write_fn,
    user: *mut c_void,
    monitor: *const lxi_monitor,
    bytes: *mut u64,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let place = args::optional_out(bytes, 0, "bytes")?;
        let store = handle::get(store)?;
        let monitor = monitor_from(monitor)?;
        let mut writer = Writer::new(write, user)?;
        let size = store.export_to(&args::fingerprint(fingerprint)?, &mut writer, &monitor)?;
        if let Some(place) = place {
            place.set(size);
        }
        Ok(())
    })
}

/// A file of the image, with an index from 0: the image, or its metadata and its rootfs.
///
/// Owner: the path belongs to `exported`. Threads: any. Errors: LXI_NOT_FOUND for an index past the end.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_exported_file_at(
    exported: *const lxi_exported,
    index: usize,
    path: *mut lxi_str,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let path = args::out_str(path, "path")?;
        let found = handle::get(exported)?.files.get(index).ok_or_else(|| index_out_of_range(index, "file"))?;
        path.set(lxi_str::of_bytes(found.as_os_str().as_bytes()));
        Ok(())
    })
}

/// Frees the result of an export; NULL is allowed. The files stay.
///
/// Threads: any, the handle being no longer used. Errors: LXI_INVALID_INPUT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_exported_free(exported: *mut lxi_exported) -> lxi_status {
    free(exported)
}
