//! The bounds on hostile input, by name.

use lxd_image::{Error, ErrorKind, Limits};

use crate::about::index_out_of_range;
use crate::args;
use crate::error::{call, free, lxi_error};
use crate::handle::{self, handles};
use crate::types::*;

/// What input may ask for: every bound on an image from a stranger. Calls that take one copy it; NULL stands for the
/// defaults, which suit images from anywhere.
pub struct lxi_limits {
    _opaque: (),
}

handles! { lxi_limits(3) = Limits; }

/// The limits behind a handle, or the defaults.
pub(crate) unsafe fn limits_or_default(limits: *const lxi_limits) -> lxd_image::Result<Limits> {
    Ok(handle::get_optional(limits)?.cloned().unwrap_or_default())
}

/// Makes limits with the default values.
///
/// Owner: the caller, who frees it with `lxi_limits_free`. Threads: any. Errors: LXI_INVALID_INPUT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_limits_new(limits: *mut *mut lxi_limits, error: *mut *mut lxi_error) -> lxi_status {
    call(error, || {
        args::out_handle(limits, "limits")?.set(handle::make(Limits::default()));
        Ok(())
    })
}

/// Makes limits for images whose maker is trusted: what guards memory, disk and time is lifted as far as the formats
/// go. Rules about paths are not limits and always hold.
///
/// Owner: the caller, who frees it with `lxi_limits_free`. Threads: any. Errors: LXI_INVALID_INPUT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_limits_new_trusted(
    limits: *mut *mut lxi_limits,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        args::out_handle(limits, "limits")?.set(handle::make(Limits::trusted()));
        Ok(())
    })
}

/// Sets one limit by its name. Bytes, unless it counts something else; `lxi_limits_name_at` lists the names. Two bound
/// what goes to temporary files: over `diff_memory` comparing two images uses one, and `spool` is the most of a
/// SquashFS that comes as a stream.
///
/// Threads: one at a time. Errors: LXI_INVALID_INPUT for an unknown name, and for 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_limits_set(
    limits: *mut lxi_limits,
    name: lxi_str,
    value: u64,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || handle::get_mut(limits)?.set(args::text(name, "name of a limit")?, value))
}

/// The value of one limit.
///
/// Threads: any. Errors: LXI_INVALID_INPUT for an unknown name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_limits_get(
    limits: *const lxi_limits,
    name: lxi_str,
    value: *mut u64,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let value = args::out(value, 0, "value")?;
        let name = args::text(name, "name of a limit")?;
        let found = handle::get(limits)?.get(name);
        value.set(found.ok_or_else(|| Error::new(ErrorKind::InvalidInput, format!("there is no limit `{name}`")))?);
        Ok(())
    })
}

/// The name of the limit with an index from 0.
///
/// Owner: the library; never freed. Threads: any. Errors: LXI_NOT_FOUND for an index past the end.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_limits_name_at(
    index: usize,
    name: *mut lxi_str,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let name = args::out_str(name, "name")?;
        name.set(lxi_str::of(Limits::NAMES.get(index).ok_or_else(|| index_out_of_range(index, "limit"))?));
        Ok(())
    })
}

/// Frees limits; NULL is allowed.
///
/// Threads: any, the limits being no longer used. Errors: LXI_INVALID_INPUT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_limits_free(limits: *mut lxi_limits) -> lxi_status {
    free(limits)
}
