//! Progress, cancellation and the record of omissions of long calls.

use std::ffi::c_void;
use std::ops::ControlFlow;
use std::sync::Arc;

use lxd_image::{Cancel, Monitor, Phase, Progress, Result, Update};

use crate::args::{self, versioned};
use crate::error::{call, free, lxi_error};
use crate::handle::{self, handles};
use crate::omissions::{OmissionRecord, lxi_omissions};
use crate::types::*;

/// A switch that stops the long calls it was given to. It is made to be shared: one thread waits in a call, another
/// one sets it.
pub struct lxi_cancel {
    _opaque: (),
}

handles! { lxi_cancel(4) = Cancel; }

/// The phase of a long call: LXI_PHASE_….
pub type lxi_phase = u32;
/// A value that this version of the list does not know.
pub const LXI_PHASE_OTHER: lxi_phase = 0;
/// Reading and hashing.
pub const LXI_PHASE_HASH: lxi_phase = 1;
/// Reading, decoding and checking.
pub const LXI_PHASE_VERIFY: lxi_phase = 2;
/// Reading, decoding and writing a tree.
pub const LXI_PHASE_UNPACK: lxi_phase = 3;
/// Reading a tree and writing an archive.
pub const LXI_PHASE_PACK: lxi_phase = 4;
/// Reading one archive and writing another.
pub const LXI_PHASE_CONVERT: lxi_phase = 5;
/// Sending to a server or to object storage.
pub const LXI_PHASE_UPLOAD: lxi_phase = 6;
/// Making or applying a delta.
pub const LXI_PHASE_DELTA: lxi_phase = 7;

/// One report of a long call. Lives as long as the callback runs.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct lxi_progress {
    /// The size of this structure in bytes, set by the library.
    pub size: usize,
    /// The phase of the call.
    pub phase: lxi_phase,
    /// Whether `total` is known.
    pub has_total: bool,
    /// Bytes of the input consumed so far.
    pub done: u64,
    /// Bytes of the input in all, if `has_total`.
    pub total: u64,
}

/// Takes reports: at least once for each MiB of input, from any thread, also from several at the same time. 0 goes on;
/// any other value stops the call, which then fails with LXI_CANCELLED. Must not unwind or jump out.
pub type lxi_progress_fn = Option<unsafe extern "C" fn(user: *mut c_void, progress: *const lxi_progress) -> i32>;

/// Who watches a long call. Set `size` to `sizeof(lxi_monitor)`; the rest may be zero. The switch, the
/// record and what `user` points to must live until the call returns; afterwards none of them is used.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct lxi_monitor {
    /// The size of this structure in bytes.
    pub size: usize,
    /// The switch that stops the call, or NULL.
    pub cancel: *const lxi_cancel,
    /// Takes reports, or NULL.
    pub progress: lxi_progress_fn,
    /// Handed to `progress`.
    pub user: *mut c_void,
    /// Records what the call leaves out, or NULL.
    pub omissions: *const lxi_omissions,
}

versioned!(lxi_monitor since omissions);

struct ProgressCallback {
    progress: unsafe extern "C" fn(user: *mut c_void, progress: *const lxi_progress) -> i32,
    user: *mut c_void,
}

// SAFETY: the header says that `progress` is called from any thread.
unsafe impl Send for ProgressCallback {}
// SAFETY: and from several at the same time.
unsafe impl Sync for ProgressCallback {}

impl Progress for ProgressCallback {
    fn report(&self, update: &Update) -> ControlFlow<()> {
        let progress = lxi_progress {
            size: size_of::<lxi_progress>(),
            phase: match update.phase {
                Phase::Hash => LXI_PHASE_HASH,
                Phase::Verify => LXI_PHASE_VERIFY,
                Phase::Unpack => LXI_PHASE_UNPACK,
                Phase::Pack => LXI_PHASE_PACK,
                Phase::Convert => LXI_PHASE_CONVERT,
                Phase::Upload => LXI_PHASE_UPLOAD,
                Phase::Delta => LXI_PHASE_DELTA,
                _ => LXI_PHASE_OTHER,
            },
            has_total: update.total.is_some(),
            done: update.done,
            total: update.total.unwrap_or(0),
        };
        // SAFETY: a function of this type, by the caller's promise, with what belongs to it.
        match unsafe { (self.progress)(self.user, &raw const progress) } {
            0 => ControlFlow::Continue(()),
            _ => ControlFlow::Break(()),
        }
    }
}

/// The monitor of a call.
pub(crate) unsafe fn monitor_from(pointer: *const lxi_monitor) -> Result<Monitor> {
    let given = args::options(pointer)?;
    let mut monitor = handle::get_optional(given.omissions)?.map_or_else(Monitor::none, OmissionRecord::monitor);
    if let Some(cancel) = handle::get_optional(given.cancel)? {
        monitor = monitor.with_cancel(cancel.clone());
    }
    if let Some(progress) = given.progress {
        monitor = monitor.with_progress(Arc::new(ProgressCallback { progress, user: given.user }));
    }
    Ok(monitor)
}

/// Makes a switch that is not set.
///
/// Owner: the caller, who frees it with `lxi_cancel_free` after the calls that it was given to. Threads: any. Errors:
/// LXI_INVALID_INPUT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_cancel_new(cancel: *mut *mut lxi_cancel, error: *mut *mut lxi_error) -> lxi_status {
    call(error, || {
        args::out_handle(cancel, "cancel")?.set(handle::make(Cancel::new()));
        Ok(())
    })
}

/// Stops the calls, soon: each undoes what it began and fails with LXI_CANCELLED. A call that the switch is given to
/// later stops at once; a switch cannot be reset.
///
/// Threads: any, while others use the switch. Errors: LXI_INVALID_INPUT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_cancel_set(cancel: *const lxi_cancel, error: *mut *mut lxi_error) -> lxi_status {
    call(error, || {
        handle::get(cancel)?.cancel();
        Ok(())
    })
}

/// Whether the switch is set: by `lxi_cancel_set`, or by a progress callback that stopped a call.
///
/// Threads: any. Errors: LXI_INVALID_INPUT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_cancel_is_set(
    cancel: *const lxi_cancel,
    yes: *mut bool,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let yes = args::out(yes, false, "yes")?;
        yes.set(handle::get(cancel)?.is_cancelled());
        Ok(())
    })
}

/// Frees a switch; NULL is allowed.
///
/// Threads: any, the switch being no longer used. Errors: LXI_INVALID_INPUT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_cancel_free(cancel: *mut lxi_cancel) -> lxi_status {
    free(cancel)
}
