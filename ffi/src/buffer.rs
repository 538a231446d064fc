//! Byte buffers that a call returns and its caller owns.

use crate::args;
use crate::error::{call, free, lxi_error};
use crate::handle::{self, handles};
use crate::types::*;

/// Bytes that a call returned: a rendered template, a YAML text, a path. Read-only, so it may be shared between
/// threads.
pub struct lxi_buffer {
    _opaque: (),
}

handles! { lxi_buffer(2) = Vec<u8>; }

/// Makes a buffer handle of these bytes.
pub(crate) fn buffer(bytes: impl Into<Vec<u8>>) -> *mut lxi_buffer {
    handle::make(bytes.into())
}

/// The bytes of a buffer.
///
/// Owner: the buffer. Threads: any. Errors: LXI_INVALID_INPUT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_buffer_get(
    buffer: *const lxi_buffer,
    bytes: *mut lxi_bytes,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let bytes = args::out(bytes, lxi_bytes::EMPTY, "bytes")?;
        bytes.set(lxi_bytes::of(handle::get(buffer)?));
        Ok(())
    })
}

/// Frees a buffer; NULL is allowed.
///
/// Threads: any, the buffer being no longer used. Errors: LXI_INVALID_INPUT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_buffer_free(buffer: *mut lxi_buffer) -> lxi_status {
    free(buffer)
}
