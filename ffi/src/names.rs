//! Lists of names: tags, repositories, images of a layout.

use crate::about::index_out_of_range;
use crate::args;
use crate::error::{call, free, lxi_error};
use crate::handle::{self, handles};
use crate::types::*;

/// Names. Read-only, so it may be shared between threads.
pub struct lxi_names {
    _opaque: (),
}

handles! { lxi_names(45) = Vec<String>; }

/// How many names there are.
///
/// Threads: any. Errors: LXI_INVALID_INPUT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_names_len(
    names: *const lxi_names,
    len: *mut usize,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        args::out(len, 0, "len")?.set(handle::get(names)?.len());
        Ok(())
    })
}

/// The name with an index from 0.
///
/// Owner: the text belongs to the list. Threads: any. Errors: LXI_NOT_FOUND for an index past the end.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_names_at(
    names: *const lxi_names,
    index: usize,
    name: *mut lxi_str,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let place = args::out_str(name, "name")?;
        place.set(lxi_str::of(handle::get(names)?.get(index).ok_or_else(|| index_out_of_range(index, "name"))?));
        Ok(())
    })
}

/// Frees a list; NULL is allowed.
///
/// Threads: any, the list being no longer used. Errors: LXI_INVALID_INPUT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_names_free(names: *mut lxi_names) -> lxi_status {
    free(names)
}
