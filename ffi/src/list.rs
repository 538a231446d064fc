//! Lists of what a store holds: images, and what a pruning removed.

use lxd_image::store::{NearMiss, StoredImage};

use crate::about::index_out_of_range;
use crate::args;
use crate::cursor::filters;
use crate::error::{call, free, lxi_error};
use crate::handle::{self, handles};
use crate::store::lxi_store;
use crate::stored::{lxi_stored_image, stored};
use crate::types::*;

/// Images of a store. Read-only, so it may be shared between threads.
pub struct lxi_image_list {
    _opaque: (),
}

/// Images that a list left out, and why. Read-only, so it may be shared between threads.
pub struct lxi_near_misses {
    _opaque: (),
}

handles! {
    lxi_image_list(18) = Vec<StoredImage>;
    lxi_near_misses(47) = Vec<NearMiss>;
}

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

/// Why images are not in the list that `lxi_store_list` gives for these filters: those that don't meet all of them,
/// with a sentence for each that they miss. The ones that miss fewest come first. All of them are in memory at once.
///
/// Owner: the caller, who frees the result with `lxi_near_misses_free`. Threads: any. Errors: LXI_INVALID_INPUT for a
/// filter that is none, LXI_MALFORMED when the catalog is damaged, LXI_IO.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_store_explain(
    store: *const lxi_store,
    filters: *const lxi_str,
    filters_len: usize,
    misses: *mut *mut lxi_near_misses,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let place = args::out_handle(misses, "misses")?;
        let filters = self::filters(filters, filters_len)?;
        place.set(handle::make(handle::get(store)?.explain(&filters)?));
        Ok(())
    })
}

/// How many images there are.
///
/// Threads: any. Errors: LXI_INVALID_INPUT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_near_misses_len(
    misses: *const lxi_near_misses,
    len: *mut usize,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        args::out(len, 0, "len")?.set(handle::get(misses)?.len());
        Ok(())
    })
}

/// The image with an index from 0, and how many filters it does not meet (`reasons` may be NULL).
///
/// Owner: the caller, who frees the image with `lxi_stored_image_free`. Threads: any. Errors: LXI_NOT_FOUND for an
/// index past the end.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_near_misses_at(
    misses: *const lxi_near_misses,
    index: usize,
    image: *mut *mut lxi_stored_image,
    reasons: *mut usize,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let place = args::out_handle(image, "image")?;
        let reasons = args::optional_out(reasons, 0, "reasons")?;
        let found = handle::get(misses)?.get(index).ok_or_else(|| index_out_of_range(index, "image"))?;
        if let Some(reasons) = reasons {
            reasons.set(found.reasons.len());
        }
        place.set(stored(found.image.clone()));
        Ok(())
    })
}

/// A reason why an image is not in the list, both with an index from 0.
///
/// Owner: the text belongs to the handle. Threads: any. Errors: LXI_NOT_FOUND for an index past the end.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_near_misses_reason_at(
    misses: *const lxi_near_misses,
    image: usize,
    index: usize,
    reason: *mut lxi_str,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let place = args::out_str(reason, "reason")?;
        let found = handle::get(misses)?.get(image).ok_or_else(|| index_out_of_range(image, "image"))?;
        place.set(lxi_str::of(found.reasons.get(index).ok_or_else(|| index_out_of_range(index, "reason"))?));
        Ok(())
    })
}

/// Frees the result of `lxi_store_explain`; NULL is allowed.
///
/// Threads: any, the handle being no longer used. Errors: LXI_INVALID_INPUT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_near_misses_free(misses: *mut lxi_near_misses) -> lxi_status {
    free(misses)
}
