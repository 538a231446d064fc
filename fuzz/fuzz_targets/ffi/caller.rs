//! A program in C, so to say: the handles that it has and had, and what holds for every call that it makes.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use lxd_image_ffi::*;
use lxd_image_fuzz::Scratch;

use crate::kinds::{FREES, Handle};
use crate::streams::{Feed, touch};

/// Memory for structures, results and what arguments point to.
pub(crate) type Room = Box<[u64; 128]>;

/// What a place holds before a call: nothing that a call may leave there.
const BEFORE: u64 = 0x5555_5555_5555_5555;

/// One run's program.
pub(crate) struct Caller<'a> {
    choices: &'a [u8],
    pub(crate) material: &'a [u8],
    pub(crate) place: PathBuf,
    pub(crate) file: Scratch,
    /// All handles that ever were, and the kinds of those that live.
    pub(crate) seen: Vec<usize>,
    pub(crate) living: BTreeMap<usize, Vec<usize>>,
    /// Fingerprints that results told.
    pub(crate) known: Vec<lxi_fingerprint>,
    /// Streams, and whether the library must let go of them.
    pub(crate) feeds: Vec<(Box<Feed>, bool)>,
    /// What belongs to the call at hand.
    pub(crate) rooms: Vec<Room>,
    pub(crate) kept: Vec<Box<dyn std::any::Any>>,
    handles: Vec<(*mut u64, usize)>,
    results: Vec<(*mut u8, usize)>,
    /// Whether an argument must be refused, and whether one of them is a place for a result.
    pub(crate) refused: bool,
    misplaced: bool,
    /// Limits under which every call is short.
    pub(crate) tight: usize,
}

impl<'a> Caller<'a> {
    pub(crate) fn new(choices: &'a [u8], material: &'a [u8], place: &Path) -> Self {
        for directory in ["tree/etc", "templates", "out2"] {
            fs::create_dir_all(place.join(directory)).expect("a directory");
        }
        fs::write(place.join("tree/etc/hostname"), "box\n").expect("a file");
        fs::write(place.join("templates/a"), "{{ container.name }}\n").expect("a file");
        let mut caller = Self {
            choices,
            material,
            place: place.to_path_buf(),
            file: Scratch::new(),
            seen: Vec::new(),
            living: BTreeMap::new(),
            known: Vec::new(),
            feeds: Vec::new(),
            rooms: Vec::new(),
            kept: Vec::new(),
            handles: Vec::new(),
            results: Vec::new(),
            refused: false,
            misplaced: false,
            tight: 0,
        };
        let mut limits = std::ptr::null_mut();
        // SAFETY: the places are ours.
        assert_eq!(unsafe { lxi_limits_new(&raw mut limits, std::ptr::null_mut()) }, LXI_OK);
        caller.tight = limits.expose_provenance();
        caller.tighten(limits);
        caller
    }

    /// Lets every call under these limits be short.
    pub(crate) fn tighten(&self, limits: *mut lxi_limits) {
        let tight = lxd_image_fuzz::template_limits();
        let mut name = lxi_str { data: std::ptr::null(), len: 0 };
        // SAFETY: the handle lives, and the names always do.
        for index in 0.. {
            if unsafe { lxi_limits_name_at(index, &raw mut name, std::ptr::null_mut()) } != LXI_OK {
                break;
            }
            let value = tight.get(text_of(name)).expect("a limit of this name");
            assert_eq!(unsafe { lxi_limits_set(limits, name, value, std::ptr::null_mut()) }, LXI_OK);
        }
    }

    /// The next choice: 0 is the usual.
    pub(crate) fn choice(&mut self) -> u8 {
        let Some((&first, rest)) = self.choices.split_first() else { return 0 };
        self.choices = rest;
        first
    }

    /// Where the call's error goes.
    pub(crate) fn error(&mut self) -> *mut *mut lxi_error {
        match self.choice() {
            240..=255 => std::ptr::null_mut(),
            _ => {
                self.rooms.push(Box::new([BEFORE; 128]));
                self.rooms.last_mut().map_or(std::ptr::null_mut(), |room| room.as_mut_ptr().cast())
            }
        }
    }

    fn spoilt<T>(&mut self, optional: bool) -> Option<*mut T> {
        let choice = self.choice();
        if choice < 240 {
            return None;
        }
        if choice < 248 {
            self.refused |= !optional;
            self.misplaced |= !optional;
            return Some(std::ptr::null_mut());
        }
        self.rooms.push(Box::new([BEFORE; 128]));
        let room: *mut u8 = self.rooms.last_mut().map_or(std::ptr::null_mut(), |room| room.as_mut_ptr().cast());
        // Bytes have no alignment that could be wrong.
        if align_of::<T>() > 1 {
            (self.refused, self.misplaced) = (true, true);
        }
        // SAFETY: within the room.
        Some(unsafe { room.add(1) }.cast())
    }

    /// A place for a new handle.
    pub(crate) fn handle_place<T: Handle>(&mut self, optional: bool) -> *mut *mut T {
        if let Some(spoilt) = self.spoilt(optional) {
            return spoilt;
        }
        self.rooms.push(Box::new([BEFORE; 128]));
        let place: *mut u64 = self.rooms.last_mut().map_or(std::ptr::null_mut(), |room| room.as_mut_ptr());
        self.handles.push((place, T::KIND));
        place.cast()
    }

    /// A place for a number, a text and the like.
    pub(crate) fn result<T>(&mut self, optional: bool) -> *mut T {
        if let Some(spoilt) = self.spoilt(optional) {
            return spoilt;
        }
        self.rooms.push(Box::new([BEFORE; 128]));
        let place: *mut u8 = self.rooms.last_mut().map_or(std::ptr::null_mut(), |room| room.as_mut_ptr().cast());
        self.results.push((place, size_of::<T>()));
        place.cast()
    }

    /// Judges a call that ended, and says whether it went well.
    pub(crate) fn done(&mut self, name: &str, status: lxi_status, error: *mut *mut lxi_error) -> bool {
        let known = (LXI_OK..=LXI_TRANSIENT).contains(&status);
        let mut message = String::new();
        if !error.is_null() {
            // SAFETY: the place is ours, and the library set it.
            let error = unsafe { error.read() };
            assert_eq!(error.is_null(), status == LXI_OK, "{name}: status {status} and error do not fit");
            if !error.is_null() {
                message = self.judge(error, status);
                self.keep(error.expose_provenance(), lxi_error::KIND);
            }
        }
        assert!(known, "{name}: status {status}, {message}");
        assert!(!self.refused || status != LXI_OK, "{name}: takes what must be refused");
        for (place, kind) in std::mem::take(&mut self.handles) {
            // SAFETY: the place is ours.
            let handle = unsafe { place.read() };
            if status == LXI_OK {
                assert!(handle != 0 && handle != BEFORE, "{name}: no handle, and no error");
            } else if !self.misplaced && !(name.starts_with("lxi_apply") && handle != BEFORE) {
                assert_eq!(handle, 0, "{name}: a handle of a call that failed: {message}");
            }
            if handle != 0 && handle != BEFORE {
                self.keep(handle as usize, kind);
            }
        }
        for (place, size) in std::mem::take(&mut self.results) {
            if status != LXI_OK && !self.misplaced {
                let bytes = touch(place, size);
                assert!(bytes.iter().all(|byte| *byte == 0), "{name}: a result of a call that failed: {message}");
            }
        }
        (self.refused, self.misplaced) = (false, false);
        status == LXI_OK
    }

    /// What a call leaves: to be called when its results were looked at.
    pub(crate) fn forget(&mut self) {
        self.rooms.clear();
        self.kept.clear();
    }

    fn judge(&self, error: *mut lxi_error, status: lxi_status) -> String {
        // SAFETY: all zeros are one.
        let mut info: lxi_error_info = unsafe { std::mem::zeroed() };
        info.size = size_of::<lxi_error_info>();
        // SAFETY: both live.
        assert_eq!(unsafe { lxi_error_get(error, &raw mut info) }, LXI_OK);
        assert_eq!(info.status, status, "the error has another status");
        let texts = [info.sentence, info.hint, info.expected, info.found, info.limit];
        for text in texts {
            text_of(text);
        }
        touch(info.file.data.cast(), info.file.len);
        touch(info.entry.data.cast(), info.entry.len);
        let message = text_of(info.message);
        assert!(!message.is_empty(), "an error without a message");
        message.to_owned()
    }

    fn keep(&mut self, address: usize, kind: usize) {
        self.seen.push(address);
        self.living.entry(kind).or_default().push(address);
    }

    pub(crate) fn is_living(&self, address: usize, kind: usize) -> bool {
        self.living.get(&kind).is_some_and(|all| all.contains(&address))
    }

    /// A handle was freed.
    pub(crate) fn freed(&mut self, address: usize, kind: usize) {
        if let Some(all) = self.living.get_mut(&kind) {
            all.retain(|other| *other != address);
        }
    }

    /// Frees everything, and sees that all streams were let go of.
    pub(crate) fn finish(&mut self) {
        self.forget();
        for (kind, all) in std::mem::take(&mut self.living) {
            for address in all {
                // SAFETY: it lives, and is of this kind.
                assert_eq!(unsafe { FREES[kind](address) }, LXI_OK, "a living handle can be freed");
            }
        }
        // SAFETY: it lives until here.
        assert_eq!(unsafe { FREES[lxi_limits::KIND](self.tight) }, LXI_OK);
        for (feed, must) in &self.feeds {
            assert_eq!(feed.released(), u32::from(*must), "how often a stream was let go of");
        }
    }
}

/// A text that the library says is UTF-8.
pub(crate) fn text_of(text: lxi_str) -> &'static str {
    std::str::from_utf8(touch(text.data.cast(), text.len)).expect("UTF-8")
}

/// Reads texts that the library says are UTF-8.
pub(crate) fn texts_of(texts: &[lxi_str]) {
    for text in texts {
        text_of(*text);
    }
}

/// Calls one function of the interface, and says whether it went well.
macro_rules! call {
    ($caller:ident, $name:ident($($argument:expr),* $(,)?)) => {{
        let error = $caller.error();
        // SAFETY: what the library must refuse it refuses, and everything else is what it says.
        let status = unsafe { $name($($argument,)* error) };
        $caller.done(stringify!($name), status, error)
    }};
}
pub(crate) use call;
