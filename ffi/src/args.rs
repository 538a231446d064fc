//! Arguments as they come from C: pointers that may be NULL or misaligned, wrong lengths, bytes that need not be
//! text. Each is checked here as far as it can be, once, and comes out as a Rust value or as `InvalidInput`.

use std::ffi::OsStr;
use std::mem::{MaybeUninit, size_of};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use lxd_image::{Error, ErrorKind, Fingerprint, Result};

use crate::types::{lxi_bytes, lxi_fingerprint, lxi_pair, lxi_str};

/// The longest text that a call takes, in bytes. Names and values of images are far shorter.
pub(crate) const MAX_TEXT_BYTES: usize = 1 << 20;
/// The most items that an array may have.
pub(crate) const MAX_ITEMS: usize = 1 << 16;
/// The longest path: the kernel's `PATH_MAX` less its NUL.
const MAX_PATH_BYTES: usize = 4095;
/// A structure of a later version may be larger than ours; one above this was never initialised.
const MAX_STRUCT_BYTES: usize = 64 << 10;

pub(crate) fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidInput, message.into())
}

/// A structure whose first member is its size in bytes, and which is valid whatever bytes it holds.
///
/// # Safety
/// `repr(C)`, begins with a `usize`, has numbers, pointers and optional functions only; one that is only filled, and
/// never read, may have truth values too.
pub(crate) unsafe trait Versioned: Copy {
    /// The size that the structure had when it first came: no caller's can be smaller.
    const MIN_SIZE: usize = size_of::<Self>();
    /// Its name in C.
    const NAME: &'static str;
}

/// Declares structures that begin with their size; `since` names the first member that came later.
macro_rules! versioned {
    ($name:ident since $member:ident) => {
        // SAFETY: `repr(C)`, its first member is `size`, and it holds what the trait allows.
        unsafe impl $crate::args::Versioned for $name {
            const MIN_SIZE: usize = std::mem::offset_of!($name, $member);
            const NAME: &'static str = stringify!($name);
        }
    };
    ($($name:ident),* $(,)?) => {$(
        // SAFETY: `repr(C)`, its first member is `size`, and it holds what the trait allows.
        unsafe impl $crate::args::Versioned for $name {
            const NAME: &'static str = stringify!($name);
        }
    )*};
}
pub(crate) use versioned;

/// Reads options: NULL is all zeros, which everywhere stands for the usual.
///
/// # Safety
/// The pointer is NULL or leads to as many readable bytes as the first member says.
pub(crate) unsafe fn options<T: Versioned>(pointer: *const T) -> Result<T> {
    let mut value = MaybeUninit::<T>::zeroed();
    if !pointer.is_null() {
        // SAFETY: the caller's promise.
        let size = unsafe { size_of_struct(pointer)? };
        let ours = size.min(size_of::<T>());
        // SAFETY: `ours` bytes are readable by the promise, and fit.
        unsafe { pointer.cast::<u8>().copy_to_nonoverlapping(value.as_mut_ptr().cast(), ours) };
        for at in ours..size {
            // SAFETY: below the size that the caller gave.
            if unsafe { pointer.cast::<u8>().add(at).read() } != 0 {
                return Err(invalid(format!(
                    "the `{}` asks for something that this version of the library does not know",
                    T::NAME
                )));
            }
        }
    }
    // SAFETY: zeros or the caller's bytes, and any bytes are a value.
    Ok(unsafe { value.assume_init() })
}

/// Reads options that must be there.
///
/// # Safety
/// That of [`options`].
pub(crate) unsafe fn required<T: Versioned>(pointer: *const T) -> Result<T> {
    if pointer.is_null() {
        return Err(invalid(format!("the `{}` is NULL", T::NAME)));
    }
    // SAFETY: the caller's promise.
    unsafe { options(pointer) }
}

/// Fills a structure of the caller, as much of it as it knows; its size stays.
///
/// # Safety
/// The pointer is NULL or leads to as many writable bytes as its first member says.
pub(crate) unsafe fn fill<T: Versioned>(pointer: *mut T, value: &T) -> Result<()> {
    if pointer.is_null() {
        return Err(invalid(format!("the `{}` to fill is NULL", T::NAME)));
    }
    // SAFETY: the caller's promise.
    let size = unsafe { size_of_struct(pointer)? };
    let first = size_of::<usize>();
    let ours = size.min(size_of::<T>());
    // SAFETY: both have `ours` bytes; what a newer caller has beyond them is set to nothing.
    unsafe {
        let to = pointer.cast::<u8>();
        std::ptr::from_ref(value).cast::<u8>().add(first).copy_to_nonoverlapping(to.add(first), ours - first);
        to.add(ours).write_bytes(0, size - ours);
    }
    Ok(())
}

unsafe fn size_of_struct<T: Versioned>(pointer: *const T) -> Result<usize> {
    if !pointer.is_aligned() {
        return Err(invalid(format!("the `{}` is not aligned", T::NAME)));
    }
    // SAFETY: aligned, and the size is the first member.
    let size = unsafe { pointer.cast::<usize>().read() };
    if !(T::MIN_SIZE..=MAX_STRUCT_BYTES).contains(&size) {
        return Err(invalid(format!(
            "the first member of a `{}` must be its size, at least {} bytes; it is {size}",
            T::NAME,
            T::MIN_SIZE
        )));
    }
    Ok(size)
}

/// Checks the pointer for a result and sets it to `none` until there is one.
///
/// # Safety
/// The pointer is NULL or leads to a writable `T`.
pub(crate) unsafe fn out<T>(pointer: *mut T, none: T, what: &str) -> Result<Out<T>> {
    if pointer.is_null() {
        return Err(invalid(format!("the pointer for the result `{what}` is NULL")));
    }
    if !pointer.is_aligned() {
        return Err(invalid(format!("the pointer for the result `{what}` is not aligned")));
    }
    // SAFETY: writable by the caller's promise.
    unsafe { pointer.write(none) };
    Ok(Out(pointer))
}

/// A checked pointer for a result.
pub(crate) struct Out<T>(*mut T);

impl<T> Out<T> {
    pub(crate) fn set(self, value: T) {
        // SAFETY: checked by `out`, whose caller promised that it can be written.
        unsafe { self.0.write(value) };
    }
}

/// Checks the pointer for a handle and sets it to NULL until there is one.
///
/// # Safety
/// That of [`out`].
pub(crate) unsafe fn out_handle<T>(pointer: *mut *mut T, what: &str) -> Result<Out<*mut T>> {
    // SAFETY: the caller's promise.
    unsafe { out(pointer, std::ptr::null_mut(), what) }
}

/// As [`out`], for a result that the caller need not take: `None` for NULL.
///
/// # Safety
/// That of [`out`].
pub(crate) unsafe fn optional_out<T>(pointer: *mut T, none: T, what: &str) -> Result<Option<Out<T>>> {
    // SAFETY: the caller's promise.
    if pointer.is_null() { Ok(None) } else { unsafe { out(pointer, none, what) }.map(Some) }
}

/// As [`out_handle`], for a handle that the caller need not take: `None` for NULL.
///
/// # Safety
/// That of [`out`].
pub(crate) unsafe fn optional_out_handle<T>(pointer: *mut *mut T, what: &str) -> Result<Option<Out<*mut T>>> {
    // SAFETY: the caller's promise.
    unsafe { optional_out(pointer, std::ptr::null_mut(), what) }
}

/// Checks the pointer for text borrowed from a handle and sets it to empty text until there is one.
///
/// # Safety
/// That of [`out`].
pub(crate) unsafe fn out_str(pointer: *mut lxi_str, what: &str) -> Result<Out<lxi_str>> {
    // SAFETY: the caller's promise.
    unsafe { out(pointer, lxi_str::EMPTY, what) }
}

/// Bytes that live at least as long as the call.
///
/// # Safety
/// NULL or as many readable bytes as the length says.
pub(crate) unsafe fn raw_bytes<'a>(data: *const u8, len: usize, what: &str) -> Result<&'a [u8]> {
    // SAFETY: bytes are never misaligned; the rest is the caller's promise.
    unsafe { slice(data, len, usize::MAX, what) }
}

/// Bytes of the caller that a call fills, and that live at least as long as it.
///
/// # Safety
/// NULL or as many writable bytes as the length says, which nobody else uses meanwhile.
pub(crate) unsafe fn writable<'a>(data: *mut u8, len: usize, what: &str) -> Result<&'a mut [u8]> {
    if len == 0 {
        return Ok(&mut []);
    }
    if data.is_null() {
        return Err(invalid(format!("the {what} is NULL, and its length {len}")));
    }
    if isize::try_from(len).is_err() {
        return Err(invalid(format!("the length {len} of the {what} is too large")));
    }
    // SAFETY: not NULL, no larger than memory can be; writable by the caller's promise.
    Ok(unsafe { std::slice::from_raw_parts_mut(data, len) })
}

/// Bytes.
///
/// # Safety
/// That of [`raw_bytes`].
pub(crate) unsafe fn bytes<'a>(bytes: lxi_bytes, what: &str) -> Result<&'a [u8]> {
    // SAFETY: the caller's promise.
    unsafe { raw_bytes(bytes.data, bytes.len, what) }
}

/// Text in UTF-8.
///
/// # Safety
/// That of [`raw_bytes`].
pub(crate) unsafe fn text<'a>(text: lxi_str, what: &str) -> Result<&'a str> {
    if text.len > MAX_TEXT_BYTES {
        return Err(invalid(format!("the {what} is longer than {MAX_TEXT_BYTES} bytes")));
    }
    // SAFETY: the caller's promise.
    let bytes = unsafe { raw_bytes(text.data.cast(), text.len, what)? };
    std::str::from_utf8(bytes).map_err(|error| invalid(format!("the {what} is not UTF-8")).with_source(error))
}

/// Text in UTF-8, or `None` if it is empty.
///
/// # Safety
/// That of [`raw_bytes`].
pub(crate) unsafe fn optional_text<'a>(value: lxi_str, what: &str) -> Result<Option<&'a str>> {
    // SAFETY: the caller's promise.
    Ok(Some(unsafe { text(value, what)? }).filter(|text| !text.is_empty()))
}

/// A path of the host: bytes, not necessarily UTF-8.
///
/// # Safety
/// That of [`raw_bytes`].
pub(crate) unsafe fn path<'a>(path: lxi_str, what: &str) -> Result<&'a Path> {
    if path.len == 0 {
        return Err(invalid(format!("the {what} is empty")));
    }
    if path.len > MAX_PATH_BYTES {
        return Err(invalid(format!("the {what} is longer than {MAX_PATH_BYTES} bytes")));
    }
    // SAFETY: the caller's promise.
    let bytes = unsafe { raw_bytes(path.data.cast(), path.len, what)? };
    if bytes.contains(&0) {
        return Err(invalid(format!("there is a NUL in the {what}")));
    }
    Ok(Path::new(OsStr::from_bytes(bytes)))
}

/// A path, or `None` if it is empty.
///
/// # Safety
/// That of [`raw_bytes`].
pub(crate) unsafe fn optional_path<'a>(value: lxi_str, what: &str) -> Result<Option<&'a Path>> {
    // SAFETY: the caller's promise.
    if value.len == 0 { Ok(None) } else { unsafe { path(value, what) }.map(Some) }
}

/// An array.
///
/// # Safety
/// NULL or as many readable items as `len` says.
pub(crate) unsafe fn items<'a, T: Copy>(data: *const T, len: usize, what: &str) -> Result<&'a [T]> {
    // SAFETY: the caller's promise.
    unsafe { slice(data, len, MAX_ITEMS, what) }
}

unsafe fn slice<'a, T: Copy>(data: *const T, len: usize, most: usize, what: &str) -> Result<&'a [T]> {
    if len == 0 {
        return Ok(&[]);
    }
    if data.is_null() {
        return Err(invalid(format!("the {what} is NULL, and its length {len}")));
    }
    if !data.is_aligned() {
        return Err(invalid(format!("the {what} is not aligned")));
    }
    if len > most || len.checked_mul(size_of::<T>()).is_none_or(|size| isize::try_from(size).is_err()) {
        return Err(invalid(format!("the length {len} of the {what} is too large")));
    }
    // SAFETY: not NULL, aligned, no larger than memory can be; readable by the caller's promise.
    Ok(unsafe { std::slice::from_raw_parts(data, len) })
}

/// Names and values.
///
/// # Safety
/// An array as [`items`] takes it, of texts as [`text`] takes them.
pub(crate) unsafe fn pairs<'a>(data: *const lxi_pair, len: usize, what: &str) -> Result<Vec<(&'a str, &'a str)>> {
    // SAFETY: the caller's promise, here and for each of them.
    unsafe { items(data, len, what)?.iter().map(|pair| Ok((text(pair.key, what)?, text(pair.value, what)?))).collect() }
}

/// Texts.
///
/// # Safety
/// An array as [`items`] takes it, of texts as [`text`] takes them.
pub(crate) unsafe fn texts<'a>(data: *const lxi_str, len: usize, what: &str) -> Result<Vec<&'a str>> {
    // SAFETY: the caller's promise, here and for each of them.
    unsafe { items(data, len, what)?.iter().map(|item| text(*item, what)).collect() }
}

/// A value that must be there.
///
/// # Safety
/// The pointer is NULL or leads to a readable `T`, which is valid whatever bytes it holds.
pub(crate) unsafe fn value<T: Copy>(pointer: *const T, what: &str) -> Result<T> {
    // SAFETY: one item, by the caller's promise.
    unsafe { items(pointer, 1, what).map(|one| one[0]) }
}

/// A fingerprint.
///
/// # Safety
/// That of [`value`].
pub(crate) unsafe fn fingerprint(pointer: *const lxi_fingerprint) -> Result<Fingerprint> {
    // SAFETY: the caller's promise; any 32 bytes are a fingerprint.
    unsafe { value(pointer, "fingerprint") }.map(|found| Fingerprint::from_bytes(found.bytes))
}

/// A fingerprint, or `None` for NULL.
///
/// # Safety
/// That of [`value`].
pub(crate) unsafe fn optional_fingerprint(pointer: *const lxi_fingerprint) -> Result<Option<Fingerprint>> {
    // SAFETY: the caller's promise.
    if pointer.is_null() { Ok(None) } else { unsafe { fingerprint(pointer) }.map(Some) }
}

/// Checks that all flags are known to this version.
pub(crate) fn flags(given: u32, known: u32, what: &str) -> Result<u32> {
    if given & !known == 0 {
        return Ok(given);
    }
    Err(invalid(format!("the {what} have unknown bits: {:#x}", given & !known)))
}
