//! Lists of what a store holds: images, and what a pruning removed.

use lxd_image::store::StoredImage;

use crate::about::index_out_of_range;
use crate::args;
use crate::error::{call, free, lxi_error};
use crate::handle::{self, handles};
use crate::stored::{lxi_stored_image, stored};
use crate::types::*;

/// Images of a store. Read-only, so it may be shared between threads.
pub struct lxi_image_list {
    _opaque: (),
}

handles! { lxi_image_list(18) = Vec<StoredImage>; }

/// How many images there are.
///
/// Threads: any. Errors: LXI_INVALID_INPUT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_image_list_len(
    images: *const lxi_image_list,
    len: *mut usize,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let len = args::out(len, 0, "len")?;
        len.set(handle::get(images)?.len());
        Ok(())
    })
}

/// A copy of the image with an index from 0.
///
/// Owner: the caller, who frees it with `lxi_stored_image_free`. Threads: any. Errors: LXI_NOT_FOUND for an index past
/// the end.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_image_list_at(
    images: *const lxi_image_list,
    index: usize,
    image: *mut *mut lxi_stored_image,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let place = args::out_handle(image, "image")?;
        let found = handle::get(images)?.get(index).ok_or_else(|| index_out_of_range(index, "image"))?;
        place.set(stored(found.clone()));
        Ok(())
    })
}

/// Frees a list; NULL is allowed.
///
/// Threads: any, the list being no longer used. Errors: LXI_INVALID_INPUT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_image_list_free(images: *mut lxi_image_list) -> lxi_status {
    free(images)
}
