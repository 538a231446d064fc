//! Inputs and outputs: descriptors, memory, and C callbacks.

use std::ffi::c_void;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use lxd_image::format::{ImageSource, Input};
use lxd_image::io::Blob;
use lxd_image::{Error, ErrorKind, Result};

use crate::args::{self, invalid, versioned};
use crate::types::*;

/// Gives the next bytes: writes up to `capacity` (never 0) of them to `buffer`, how many to `got`, and returns LXI_OK.
/// 0 bytes are the end. Any other status ends the call with it: LXI_IO, LXI_CANCELLED, whatever fits. Called from one
/// thread at a time, which need not be the caller's. Must not unwind or jump out.
pub type lxi_read_fn =
    Option<unsafe extern "C" fn(user: *mut c_void, buffer: *mut u8, capacity: usize, got: *mut usize) -> lxi_status>;

/// Takes the next bytes, all of them, and returns LXI_OK. Any other status ends the call with it. Called from one
/// thread at a time, which need not be the caller's. Must not unwind or jump out.
pub type lxi_write_fn = Option<unsafe extern "C" fn(user: *mut c_void, data: *const u8, len: usize) -> lxi_status>;

/// Says that `user` is no longer needed. Called once, from any thread. Must not unwind or jump out.
pub type lxi_release_fn = Option<unsafe extern "C" fn(user: *mut c_void)>;

/// Where the bytes of an `lxi_input` come from: LXI_INPUT_….
pub type lxi_input_kind = u32;
/// From a file descriptor. It is borrowed for the call that takes the input, which duplicates it. A regular file is
/// read at positions, so its offset neither matters nor moves, and it may be read many times; a pipe is read once.
pub const LXI_INPUT_FD: lxi_input_kind = 1;
/// From memory, which is borrowed for the call that takes the input, and copied. It may be read many times.
pub const LXI_INPUT_BYTES: lxi_input_kind = 2;
/// From a callback. It is read once, from front to back: a second reading fails with LXI_INVALID_INPUT.
pub const LXI_INPUT_STREAM: lxi_input_kind = 3;
/// From the file at a path. A pipe or a device is read as a stream.
pub const LXI_INPUT_PATH: lxi_input_kind = 4;

/// One file of an image. Set `size` to `sizeof(lxi_input)`, `kind`, and what belongs to that kind; the rest to zero.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct lxi_input {
    /// The size of this structure in bytes.
    pub size: usize,
    /// LXI_INPUT_….
    pub kind: lxi_input_kind,
    /// For LXI_INPUT_FD.
    pub fd: i32,
    /// For LXI_INPUT_BYTES.
    pub bytes: lxi_bytes,
    /// For LXI_INPUT_PATH.
    pub path: lxi_str,
    /// For LXI_INPUT_STREAM. Used until `release` is called.
    pub read: lxi_read_fn,
    /// Handed to `read` and `release`.
    pub user: *mut c_void,
    /// For LXI_INPUT_STREAM, or NULL: called once when the stream is no longer needed, which is when what was opened
    /// from it is freed, or before the call returns where nothing was opened. It is called in any case, unless this
    /// structure itself was refused (NULL, misaligned, wrong size, unknown kind, no `read`).
    pub release: lxi_release_fn,
    /// The name to show in errors, and that a store remembers; bytes of a path. May be empty.
    pub name: lxi_str,
}

versioned!(lxi_input);

/// A reader over a C read callback.
pub(crate) struct Reader {
    read: unsafe extern "C" fn(user: *mut c_void, buffer: *mut u8, capacity: usize, got: *mut usize) -> lxi_status,
    user: *mut c_void,
    release: lxi_release_fn,
}

// SAFETY: the header says that the callbacks may be called from any thread.
unsafe impl Send for Reader {}

impl Reader {
    /// A reader that lives no longer than the call.
    pub(crate) fn new(read: lxi_read_fn, user: *mut c_void, release: lxi_release_fn) -> Result<Self> {
        let read = read.ok_or_else(|| invalid("the read callback is NULL"))?;
        Ok(Self { read, user, release })
    }
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let mut got = 0;
        // SAFETY: a function of this type, by the caller's promise, with what belongs to it.
        let status = unsafe { (self.read)(self.user, buffer.as_mut_ptr(), buffer.len(), &raw mut got) };
        if status != LXI_OK {
            return Err(failed(status, "read").into());
        }
        if got > buffer.len() {
            return Err(invalid(format!("the read callback gave {got} bytes where {} fit", buffer.len())).into());
        }
        Ok(got)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if let Some(release) = self.release.take() {
            // SAFETY: a function of this type, by the caller's promise, called once.
            unsafe { release(self.user) };
        }
    }
}

/// A writer over a C write callback.
pub(crate) struct Writer {
    write: unsafe extern "C" fn(user: *mut c_void, data: *const u8, len: usize) -> lxi_status,
    user: *mut c_void,
}

// SAFETY: the header says that the callback may be called from any thread.
unsafe impl Send for Writer {}

impl Writer {
    pub(crate) fn new(write: lxi_write_fn, user: *mut c_void) -> Result<Self> {
        let write = write.ok_or_else(|| invalid("the write callback is NULL"))?;
        Ok(Self { write, user })
    }
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !bytes.is_empty() {
            // SAFETY: a function of this type, by the caller's promise, with what belongs to it.
            let status = unsafe { (self.write)(self.user, bytes.as_ptr(), bytes.len()) };
            if status != LXI_OK {
                return Err(failed(status, "write").into());
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A writer for a call that may abandon its threads when it is cancelled: none of them calls C once this is dropped.
pub(crate) struct RevocableWriter(Arc<Mutex<Option<Writer>>>);

impl RevocableWriter {
    /// The writer, and what ends it: dropped before the call returns, it waits for a callback that is at work.
    pub(crate) fn new(writer: Writer) -> (Self, impl Write + Send + 'static) {
        let shared = Arc::new(Mutex::new(Some(writer)));
        (Self(Arc::clone(&shared)), WriterHandle(shared))
    }
}

impl Drop for RevocableWriter {
    fn drop(&mut self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

struct WriterHandle(Arc<Mutex<Option<Writer>>>);

impl Write for WriterHandle {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.0.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            Some(writer) => writer.write(bytes),
            None => Err(Error::new(ErrorKind::Cancelled, "cancelled").into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The error that a callback's status stands for.
pub(crate) fn failed(status: lxi_status, what: &str) -> Error {
    Error::new(kind(status), format!("the {what} callback failed with the status {status}"))
}

/// A duplicate of a descriptor of the caller.
pub(crate) unsafe fn duplicate(fd: i32) -> Result<OwnedFd> {
    if fd < 0 {
        return Err(invalid(format!("the file descriptor is {fd}: the file was not opened before this call"))
            .with_hint("look at what `open` returned, or give the file by its path with LXI_INPUT_PATH"));
    }
    // SAFETY: not -1. Whether it is open says the kernel; that nobody closes it meanwhile is the caller's promise.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    borrowed.try_clone_to_owned().map_err(|error| {
        let kind = match rustix::io::Errno::from_io_error(&error) {
            Some(rustix::io::Errno::BADF) => ErrorKind::InvalidInput,
            _ => ErrorKind::Io,
        };
        Error::new(kind, format!("the file descriptor {fd} can't be used")).with_source(error)
    })
}

/// Takes what an input brings that must be released, before anything can fail.
enum Taken {
    Fd(i32),
    Bytes(lxi_bytes),
    Path(lxi_str),
    Stream(Reader),
}

unsafe fn take(pointer: *const lxi_input) -> Result<(Taken, lxi_str)> {
    let given = args::required(pointer)?;
    let taken = match given.kind {
        LXI_INPUT_FD => Taken::Fd(given.fd),
        LXI_INPUT_BYTES => Taken::Bytes(given.bytes),
        LXI_INPUT_PATH => Taken::Path(given.path),
        LXI_INPUT_STREAM => Taken::Stream(Reader::new(given.read, given.user, given.release)?),
        other => return Err(invalid(format!("{other} is no kind of an input"))),
    };
    Ok((taken, given.name))
}

unsafe fn input((taken, name): (Taken, lxi_str)) -> Result<Input> {
    let name = args::optional_path(name, "input's name")?;
    let input = match taken {
        Taken::Fd(fd) => Input::file(File::from(duplicate(fd)?))?,
        Taken::Bytes(bytes) => Input::blob(in_memory(args::bytes(bytes, "input's bytes")?)?),
        Taken::Path(path) => Input::open(args::path(path, "input's path")?)?,
        // What the callback uses may be freed once the call has returned.
        Taken::Stream(reader) => Input::attached_stream(reader),
    };
    Ok(match name {
        Some(name) => input.named(name),
        None => input,
    })
}

/// A copy, since the caller's memory is his again when the call is over. Too large a one is an error and not the end
/// of the process.
fn in_memory(bytes: &[u8]) -> Result<Blob> {
    let mut copy = Vec::new();
    copy.try_reserve_exact(bytes.len())
        .map_err(|error| Error::new(ErrorKind::Io, "the bytes can't be kept in memory").with_source(error))?;
    copy.extend_from_slice(bytes);
    Ok(copy.into())
}

/// One file.
pub(crate) unsafe fn one_input(pointer: *const lxi_input) -> Result<Input> {
    input(take(pointer)?)
}

/// One file or two.
pub(crate) unsafe fn inputs(first: *const lxi_input, second: *const lxi_input) -> Result<(Input, Option<Input>)> {
    // Both are taken before either can fail, so that both are released.
    let (first, second) = (take(first), (!second.is_null()).then(|| take(second)).transpose());
    let (first, second) = (first?, second?);
    Ok((input(first)?, second.map(|second| input(second)).transpose()?))
}

/// The source of an image.
pub(crate) unsafe fn source(first: *const lxi_input, second: *const lxi_input) -> Result<ImageSource> {
    Ok(match inputs(first, second)? {
        (image, None) => ImageSource::unified(image),
        (one, Some(other)) => ImageSource::split(one, other),
    })
}
