//! Handles: the values behind opaque C pointers, with a tag for their kind.
//! A wrong kind is refused always; a freed or foreign pointer in debug builds, which keep a list of live handles.

use std::sync::atomic::{AtomicU32, Ordering};

use lxd_image::{Error, ErrorKind, Result};

/// An opaque type of C and what is behind it.
pub(crate) trait Handle {
    /// What the pointer leads to.
    type Value: Send + Sync;
    /// Tells this kind from the others, and from memory that is none.
    const KIND: u32;
    /// The type's name in C.
    const NAME: &'static str;
}

/// The allocation behind a handle.
#[repr(C)]
struct Boxed<T> {
    tag: AtomicU32,
    value: T,
}

/// What the tag becomes when a handle is freed.
const FREED: u32 = 0xdead_0000;

/// Declares opaque types of C and the values behind them.
macro_rules! handles {
    ($($(#[$doc:meta])* $name:ident($kind:literal) = $value:ty;)*) => {$(
        impl $crate::handle::Handle for $name {
            type Value = $value;
            const KIND: u32 = 0x6c78_0000 + $kind;
            const NAME: &'static str = stringify!($name);
        }
    )*};
}
pub(crate) use handles;

/// Moves a value behind a handle, which the caller of C owns from now on.
pub(crate) fn make<H: Handle>(value: H::Value) -> *mut H {
    let pointer = Box::into_raw(Box::new(Boxed { tag: AtomicU32::new(H::KIND), value }));
    live_handles::add(pointer.addr(), H::KIND);
    pointer.cast()
}

/// The value behind a handle that may be shared.
///
/// # Safety
/// In release builds the pointer is NULL or a handle of this library that is not freed; nobody changes it meanwhile.
pub(crate) unsafe fn get<'a, H: Handle>(handle: *const H) -> Result<&'a H::Value> {
    check::<H>(handle)?;
    // SAFETY: checked above as far as that can be, and for the rest the caller's promise.
    let boxed = unsafe { &*handle.cast::<Boxed<H::Value>>() };
    Ok(&boxed.value)
}

/// The value behind a handle, or `None` for NULL.
///
/// # Safety
/// That of [`get`].
pub(crate) unsafe fn get_optional<'a, H: Handle>(handle: *const H) -> Result<Option<&'a H::Value>> {
    if handle.is_null() {
        return Ok(None);
    }
    // SAFETY: the caller's promise.
    unsafe { get(handle) }.map(Some)
}

/// The value behind a handle that is the caller's alone.
///
/// # Safety
/// That of [`get`], and nobody else uses the handle meanwhile.
pub(crate) unsafe fn get_mut<'a, H: Handle>(handle: *mut H) -> Result<&'a mut H::Value> {
    check::<H>(handle)?;
    // SAFETY: checked above as far as that can be, and for the rest the caller's promise.
    let boxed = unsafe { &mut *handle.cast::<Boxed<H::Value>>() };
    Ok(&mut boxed.value)
}

/// Takes the value back and frees the handle; NULL gives nothing.
///
/// # Safety
/// That of [`get_mut`].
pub(crate) unsafe fn take<H: Handle>(handle: *mut H) -> Result<Option<H::Value>> {
    if handle.is_null() {
        return Ok(None);
    }
    check::<H>(handle)?;
    if !live_handles::remove(handle.addr(), H::KIND) {
        return Err(freed(H::NAME));
    }
    // SAFETY: it was made by `make` of the same type, and is not freed: the list in debug builds, else the promise.
    let boxed = unsafe { Box::from_raw(handle.cast::<Boxed<H::Value>>()) };
    // Whoever still has the pointer finds this, unless the memory was used again.
    boxed.tag.store(FREED, Ordering::Relaxed);
    Ok(Some(boxed.value))
}

fn check<H: Handle>(handle: *const H) -> Result<()> {
    if handle.is_null() {
        return Err(Error::new(ErrorKind::InvalidInput, format!("the `{}` is NULL", H::NAME)));
    }
    let boxed = handle.cast::<Boxed<H::Value>>();
    if !boxed.is_aligned() {
        return Err(Error::new(ErrorKind::InvalidInput, format!("the `{}` is not aligned", H::NAME)));
    }
    live_handles::check(handle.addr(), H::NAME)?;
    // SAFETY: alive, as far as this build knows; the tag comes first, whatever the kind. Nobody writes it but `take`.
    let tag = unsafe { (*boxed.cast::<AtomicU32>()).load(Ordering::Relaxed) };
    match tag {
        tag if tag == H::KIND => Ok(()),
        FREED => Err(freed(H::NAME)),
        _ => Err(Error::new(ErrorKind::InvalidInput, format!("this is no `{}`, but another kind of handle", H::NAME))),
    }
}

fn freed(name: &str) -> Error {
    Error::new(ErrorKind::InvalidInput, format!("the `{name}` was freed, or never came from this library"))
}

/// All live handles. Costs a lock for each call, so only debug builds have it.
#[cfg(debug_assertions)]
mod live_handles {
    use std::collections::BTreeMap;
    use std::sync::{LazyLock, PoisonError, RwLock};

    use lxd_image::Result;

    /// By the complement of their addresses: a plain address in here would make a leaked handle look used to whoever
    /// looks for leaks.
    static LIVE_HANDLES: LazyLock<RwLock<BTreeMap<usize, u32>>> = LazyLock::new(RwLock::default);

    pub(super) fn add(address: usize, kind: u32) {
        LIVE_HANDLES.write().unwrap_or_else(PoisonError::into_inner).insert(!address, kind);
    }

    pub(super) fn remove(address: usize, kind: u32) -> bool {
        let mut living = LIVE_HANDLES.write().unwrap_or_else(PoisonError::into_inner);
        // Two threads may free at the same time: one of them finds nothing.
        living.get(&!address) == Some(&kind) && living.remove(&!address).is_some()
    }

    pub(super) fn check(address: usize, name: &str) -> Result<()> {
        let living = LIVE_HANDLES.read().unwrap_or_else(PoisonError::into_inner);
        if living.contains_key(&!address) { Ok(()) } else { Err(super::freed(name)) }
    }
}

#[cfg(not(debug_assertions))]
mod live_handles {
    use lxd_image::Result;

    pub(super) fn add(_: usize, _: u32) {}

    pub(super) fn remove(_: usize, _: u32) -> bool {
        true
    }

    pub(super) fn check(_: usize, _: &str) -> Result<()> {
        Ok(())
    }
}
