//! Fingerprints: parsed, shown, and made of bytes as they come or of whole files.

use std::ffi::{c_char, c_void};

use lxd_image::format::fingerprint_of;
use lxd_image::{Fingerprint, Hasher};

use crate::args::{self, invalid};
use crate::error::{call, free, lxi_error};
use crate::handle::{self, handles};
use crate::monitor::{lxi_monitor, monitor_from};
use crate::stream::{Reader, inputs, lxi_input, lxi_read_fn};
use crate::types::*;

/// Computes a fingerprint incrementally. Feed it the bytes of an image in order: of a split one, the metadata file's
/// and then the rootfs file's.
pub struct lxi_hasher {
    _opaque: (),
}

handles! { lxi_hasher(5) = Hasher; }

/// The digits of a fingerprint, and the NUL behind them.
pub const LXI_FINGERPRINT_TEXT: usize = 65;

/// Reads a fingerprint: 64 hex digits of either case and nothing else.
///
/// Threads: any. Errors: LXI_INVALID_INPUT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_fingerprint_parse(
    text: lxi_str,
    fingerprint: *mut lxi_fingerprint,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let fingerprint = args::out(fingerprint, lxi_fingerprint::NONE, "fingerprint")?;
        fingerprint.set(args::text(text, "fingerprint")?.parse::<Fingerprint>()?.into());
        Ok(())
    })
}

/// Writes a fingerprint as 64 lower-case hex digits and a NUL to `text`, which has room for `capacity` bytes: at least
/// LXI_FINGERPRINT_TEXT.
///
/// Threads: any. Errors: LXI_INVALID_INPUT, also when the room is too small.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_fingerprint_format(
    fingerprint: *const lxi_fingerprint,
    text: *mut c_char,
    capacity: usize,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let digits = args::fingerprint(fingerprint)?.to_string();
        if text.is_null() || capacity <= digits.len() {
            return Err(invalid(format!("a fingerprint needs room for {LXI_FINGERPRINT_TEXT} bytes, not {capacity}")));
        }
        digits.as_ptr().cast::<c_char>().copy_to_nonoverlapping(text, digits.len());
        text.add(digits.len()).write(0);
        Ok(())
    })
}

/// Makes an empty hasher.
///
/// Owner: the caller, who frees it with `lxi_hasher_free`. Threads: any. Errors: LXI_INVALID_INPUT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_hasher_new(hasher: *mut *mut lxi_hasher, error: *mut *mut lxi_error) -> lxi_status {
    call(error, || {
        args::out_handle(hasher, "hasher")?.set(handle::make(Hasher::new()));
        Ok(())
    })
}

/// Takes the next bytes.
///
/// Threads: one at a time. Errors: LXI_INVALID_INPUT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_hasher_update(
    hasher: *mut lxi_hasher,
    bytes: lxi_bytes,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        handle::get_mut(hasher)?.update(args::bytes(bytes, "bytes")?);
        Ok(())
    })
}

/// Hashes everything that `read` returns, up to its end, and stores the number of bytes in `count` (which may be NULL).
///
/// `read` and `user` are used during the call only. Threads: one at a time. Errors: LXI_INVALID_INPUT, and what `read`
/// returns; the hasher has seen what came before.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_hasher_update_from(
    hasher: *mut lxi_hasher,
    read: lxi_read_fn,
    user: *mut c_void,
    count: *mut u64,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let count = args::optional_out(count, 0, "count")?;
        let hasher = handle::get_mut(hasher)?;
        let total = hasher.read_all(Reader::new(read, user, None)?)?;
        if let Some(count) = count {
            count.set(total);
        }
        Ok(())
    })
}

/// The fingerprint of all that the hasher has seen so far, and in `bytes` (which may be NULL) how many bytes that were.
/// More may follow.
///
/// Threads: any, while nobody updates it. Errors: LXI_INVALID_INPUT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_hasher_get(
    hasher: *const lxi_hasher,
    fingerprint: *mut lxi_fingerprint,
    bytes: *mut u64,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let fingerprint = args::out(fingerprint, lxi_fingerprint::NONE, "fingerprint")?;
        let bytes = args::optional_out(bytes, 0, "bytes")?;
        let hasher = handle::get(hasher)?;
        if let Some(bytes) = bytes {
            bytes.set(hasher.bytes());
        }
        fingerprint.set(hasher.clone().finish().into());
        Ok(())
    })
}

/// Frees a hasher; NULL is allowed.
///
/// Threads: any, the hasher being no longer used. Errors: LXI_INVALID_INPUT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_hasher_free(hasher: *mut lxi_hasher) -> lxi_status {
    free(hasher)
}

/// The fingerprint of one file, or of two one after the other (`second` may be NULL). They need not be an image.
/// `monitor` may be NULL.
///
/// Threads: any. Errors: LXI_INVALID_INPUT, LXI_NOT_FOUND, LXI_CANCELLED, LXI_IO.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_fingerprint_of(
    first: *const lxi_input,
    second: *const lxi_input,
    monitor: *const lxi_monitor,
    fingerprint: *mut lxi_fingerprint,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let source = inputs(first, second);
        let fingerprint = args::out(fingerprint, lxi_fingerprint::NONE, "fingerprint")?;
        let monitor = monitor_from(monitor)?;
        let (first, second) = source?;
        let files: Vec<_> = std::iter::once(first).chain(second).collect();
        let total = files.iter().try_fold(0_u64, |sum, file| sum.checked_add(file.len()?));
        fingerprint.set(fingerprint_of(&files, total, &monitor)?.into());
        Ok(())
    })
}
