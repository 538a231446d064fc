//! Callbacks that read, write, watch and look, and now and then refuse or lie.

use std::ffi::c_void;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};

use lxd_image_ffi::*;

/// Bytes that are read by a callback.
#[derive(Debug, Default)]
pub(crate) struct Feed {
    bytes: Vec<u8>,
    /// How many are given, and how many at a time at most; 0 is any number.
    state: Mutex<usize>,
    piece: usize,
    /// What is returned in the place of the end.
    end: lxi_status,
    /// Whether the end is a number of bytes that can't be.
    lies: bool,
    /// How often it was let go of.
    released: AtomicU32,
}

impl Feed {
    pub(crate) fn new(bytes: Vec<u8>, piece: u8, end: u8) -> Self {
        let (end, lies) = if end < 200 { (LXI_OK, false) } else { (i32::from(end) - 200, end == 255) };
        Self { bytes, piece: usize::from(piece), end: if lies { LXI_OK } else { end }, lies, ..Self::default() }
    }

    pub(crate) fn released(&self) -> u32 {
        self.released.load(Ordering::Relaxed)
    }
}

/// Reads of a [`Feed`].
pub(crate) unsafe extern "C" fn read(
    user: *mut c_void,
    buffer: *mut u8,
    capacity: usize,
    got: *mut usize,
) -> lxi_status {
    // SAFETY: `user` is a feed that lives until the end of the run.
    let feed = unsafe { &*user.cast::<Feed>() };
    assert_eq!(feed.released(), 0, "read after it was let go of");
    assert!(capacity > 0, "a read of nothing");
    let mut at = feed.state.try_lock().expect("one thread at a time");
    let rest = &feed.bytes[*at..];
    let most = if feed.piece == 0 { capacity } else { feed.piece };
    let count = rest.len().min(capacity).min(most);
    if count == 0 && feed.end != LXI_OK {
        return feed.end;
    }
    // SAFETY: there is room for `capacity` bytes, and for how many there are.
    unsafe {
        buffer.copy_from_nonoverlapping(rest.as_ptr(), count);
        got.write(if count == 0 && feed.lies { capacity + 1 } else { count });
    }
    *at += count;
    LXI_OK
}

/// Lets go of a [`Feed`].
pub(crate) unsafe extern "C" fn release(user: *mut c_void) {
    // SAFETY: `user` is a feed that lives until the end of the run.
    unsafe { &*user.cast::<Feed>() }.released.fetch_add(1, Ordering::Relaxed);
}

/// How many calls go well; a callback's `user`.
#[derive(Debug)]
pub(crate) struct Patience(AtomicU8);

impl Patience {
    pub(crate) fn new(calls: u8) -> Self {
        // With the usual choice it has no end.
        Self(AtomicU8::new(if calls == 0 { 255 } else { calls }))
    }

    fn spend(&self) -> bool {
        let left = self.0.load(Ordering::Relaxed);
        self.0.store(if left == 255 { left } else { left.saturating_sub(1) }, Ordering::Relaxed);
        left > 0
    }
}

/// Takes bytes while there is patience.
pub(crate) unsafe extern "C" fn write(user: *mut c_void, data: *const u8, len: usize) -> lxi_status {
    touch(data, len);
    // SAFETY: `user` is what the call was given with it.
    if unsafe { &*user.cast::<Patience>() }.spend() { LXI_OK } else { LXI_BUSY }
}

/// Watches while there is patience.
pub(crate) unsafe extern "C" fn progress(user: *mut c_void, now: *const lxi_progress) -> i32 {
    // SAFETY: a structure that lives as long as the call; `user` is what the call was given with it.
    let (now, patience) = unsafe { (&*now, &*user.cast::<Patience>()) };
    assert_eq!(now.size, size_of::<lxi_progress>());
    i32::from(!patience.spend())
}

/// Looks at entries while there is patience.
pub(crate) unsafe extern "C" fn entry(user: *mut c_void, entry: *const lxi_entry) -> lxi_status {
    // SAFETY: a structure that lives as long as the call; `user` is what the call was given with it.
    let (entry, patience) = unsafe { (&*entry, &*user.cast::<Patience>()) };
    assert_eq!(entry.size, size_of::<lxi_entry>());
    assert!(entry.kind <= LXI_ENTRY_SOCKET, "a kind of entry that the header does not have");
    touch(entry.path.data, entry.path.len);
    touch(entry.target.data, entry.target.len);
    for index in 0..entry.xattrs_len {
        // SAFETY: there are as many.
        let xattr = unsafe { &*entry.xattrs.add(index) };
        touch(xattr.name.data, xattr.name.len);
        touch(xattr.value.data, xattr.value.len);
    }
    if patience.spend() { LXI_OK } else { LXI_CANCELLED }
}

/// A clock that stands.
pub(crate) unsafe extern "C" fn clock(_: *mut c_void) -> i64 {
    1_700_000_000
}

/// Reads all that a result points to, so that AddressSanitizer sees it where it is not there.
pub(crate) fn touch(data: *const u8, len: usize) -> &'static [u8] {
    if len == 0 {
        return &[];
    }
    assert!(!data.is_null(), "a length without bytes");
    // SAFETY: what is checked here: the library says that they are there. Nobody keeps them longer than they live.
    let bytes = unsafe { std::slice::from_raw_parts(data, len) };
    std::hint::black_box(bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)));
    bytes
}
