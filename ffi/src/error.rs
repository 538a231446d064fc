//! Errors for C, and the frame around every call: a panic ends here, and so does every `Err`.

use std::any::Any;
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use lxd_image::{Error, Result, TemplateStage};

use crate::args::{self, versioned};
use crate::handle::{self, handles};
use crate::types::*;

/// Why a call failed. Made by the call that failed, owned by its caller, and not bound to a thread: free it with
/// `lxi_error_free`.
pub struct lxi_error {
    _opaque: (),
}

/// What an error says; filled by `lxi_error_get`. Set `size` to `sizeof(lxi_error_info)` before. The texts live as long
/// as the handle that they were asked of, and are empty where nothing is known.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct lxi_error_info {
    /// The size of this structure in bytes, set by the caller.
    pub size: usize,
    /// What the call returned.
    pub status: lxi_status,
    /// Where in a template it failed: LXI_STAGE_….
    pub template_stage: u32,
    /// All of it in one line, for people: file, entry, what is wrong, offset, cause. Safe to print: what a terminal
    /// could act on is escaped.
    pub message: lxi_str,
    /// What is wrong, without file, entry, offset and cause. Not escaped.
    pub sentence: lxi_str,
    /// What a person can do about it.
    pub hint: lxi_str,
    /// The file that it happened in: bytes of its path.
    pub file: lxi_str,
    /// The member of an archive or tree that it happened in: bytes of its name.
    pub entry: lxi_str,
    /// For LXI_MISMATCH: the value that was expected.
    pub expected: lxi_str,
    /// For LXI_MISMATCH: the value that was found.
    pub found: lxi_str,
    /// For LXI_LIMIT_EXCEEDED: the name of the limit.
    pub limit: lxi_str,
    /// The position in the decoded stream in bytes, if `has_offset`.
    pub offset: u64,
    /// The line in a template, from 1; 0 where it is not known.
    pub line: u32,
    /// The column in that line in bytes, from 1; 0 where it is not known.
    pub column: u32,
    /// Whether `offset` is known.
    pub has_offset: bool,
}

/// The error is not one of a template.
pub const LXI_STAGE_NONE: u32 = 0;
/// The template is not well formed.
pub const LXI_STAGE_PARSE: u32 = 1;
/// The template is well formed, but could not be rendered with what it was given.
pub const LXI_STAGE_EXEC: u32 = 2;

versioned!(lxi_error_info);

/// An error with the texts that C may look at.
pub(crate) struct Report {
    status: lxi_status,
    message: String,
    error: Error,
}

impl Report {
    pub(crate) fn new(error: Error) -> Self {
        Self { status: status(error.kind()), message: error.to_string(), error }
    }

    pub(crate) fn info(&self) -> lxi_error_info {
        let error = &self.error;
        let place = error.template_place();
        let (line, column) = place.and_then(|place| place.position).unwrap_or_default();
        let (expected, found) = error.expected_and_found().unwrap_or_default();
        lxi_error_info {
            size: 0,
            status: self.status,
            template_stage: match place.map(|place| place.stage) {
                None => LXI_STAGE_NONE,
                Some(TemplateStage::Parse) => LXI_STAGE_PARSE,
                Some(TemplateStage::Exec) => LXI_STAGE_EXEC,
            },
            message: lxi_str::of(&self.message),
            sentence: lxi_str::of(error.message()),
            hint: lxi_str::of_optional(error.hint()),
            file: error.file().map_or(lxi_str::EMPTY, |file| lxi_str::of_bytes(file.as_os_str().as_bytes())),
            entry: error.entry().map_or(lxi_str::EMPTY, lxi_str::of_bytes),
            expected: lxi_str::of(expected),
            found: lxi_str::of(found),
            limit: lxi_str::of_optional(error.limit_name()),
            offset: error.offset().unwrap_or(0),
            line,
            column,
            has_offset: error.offset().is_some(),
        }
    }
}

handles! { lxi_error(1) = Report; }

/// Runs a call: nothing unwinds out of it, and an error goes to where the caller wants it.
///
/// # Safety
/// `error` is NULL or leads to a writable pointer.
pub(crate) unsafe fn call(error: *mut *mut lxi_error, body: impl FnOnce() -> Result<()>) -> lxi_status {
    let place = if error.is_null() {
        None
    } else {
        // SAFETY: the caller's promise.
        match unsafe { args::out_handle(error, "error") } {
            Ok(place) => Some(place),
            Err(_) => return LXI_INVALID_INPUT,
        }
    };
    // What a panic leaves half done is behind a handle that the manual says to free, or was only read.
    let report = match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => return LXI_OK,
        Ok(Err(error)) => Report::new(error),
        Err(panic) => {
            let text = format!("this library panicked: {}", panic_text(&*panic));
            let message = lxd_image::Escaped(text.as_bytes()).to_string();
            // Dropping a payload may panic again; nobody needs it.
            std::mem::forget(panic);
            Report { status: LXI_PANIC, message, error: Error::new(lxd_image::ErrorKind::Io, text) }
        }
    };
    let status = report.status;
    if let Some(place) = place {
        place.set(handle::make(report));
    }
    status
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a text")
}

/// Frees a handle of any kind.
///
/// # Safety
/// The handle is NULL, or came from this library and is not freed.
pub(crate) unsafe fn free<H: handle::Handle>(pointer: *mut H) -> lxi_status {
    // SAFETY: the caller's promise; without a place nothing is written.
    unsafe { call(std::ptr::null_mut(), || handle::take(pointer).map(drop)) }
}

/// Fills `info` with what the error says.
///
/// Owner: the texts belong to the error. Threads: any. Errors: LXI_INVALID_INPUT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_error_get(error: *const lxi_error, info: *mut lxi_error_info) -> lxi_status {
    call(std::ptr::null_mut(), || args::fill(info, &handle::get(error)?.info()))
}

/// Frees an error; NULL is allowed.
///
/// Threads: any, the error being no longer used. Errors: LXI_INVALID_INPUT for what is no error, or was freed (debug
/// builds).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_error_free(error: *mut lxi_error) -> lxi_status {
    free(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panic_becomes_an_error_with_its_text() {
        type Payload = Box<dyn Any + Send>;
        for (payload, expected) in [
            (Box::new("a plain text") as Payload, "a plain text"),
            (Box::new("a text that was made".to_owned()), "a text that was made"),
            (Box::new(7_u8), "without a text"),
        ] {
            let mut error = std::ptr::null_mut();
            // SAFETY: the place is ours.
            let status = unsafe { call(&raw mut error, || std::panic::resume_unwind(payload)) };
            assert_eq!(status, LXI_PANIC);
            // SAFETY: just made.
            let report = unsafe { handle::take(error) }.expect("an error").expect("not NULL");
            assert_eq!(report.message, format!("this library panicked: {expected}"));
        }
    }
}
