//! Arguments: the usual ones where nothing else is chosen, and all that a program can get wrong without breaking the one
//! promise that nobody can check: that what a pointer and a length say is there.

use std::os::fd::IntoRawFd;

use lxd_image_ffi::*;
use lxd_image_fuzz::archive;

use crate::caller::Caller;
use crate::kinds::Handle;
use crate::streams::{Feed, Patience, progress, read, release};

const TEXTS: &[&str] = &[
    "web",
    "a",
    "x86_64",
    "create",
    "start",
    "os",
    "hostname.tpl",
    "/etc/hostname",
    "/../outside/victim",
    "os=web",
    "architecture=x86_64",
    "entries",
    "..",
    "a/b",
    "",
    "\u{1b}[2J",
    "zstd",
    "container",
    "c1",
    "2c26b46b68ff",
];
const YAML: &[u8] = b"architecture: x86_64\ncreation_date: 1700000000\nproperties: {os: web, a: b}\n\
    templates:\n  /etc/hostname:\n    when: [create, start]\n    template: a\n    properties: {k: v}\n";
const JSON: &[u8] =
    br#"{"container": {"name": "c1", "type": "container"}, "config": {"user.a": "b"}, "list": [1, "a", null]}"#;
const TEMPLATE: &[u8] = b"{{ container.name }}{% for x in list %}{{ x }}{% endfor %}\n";

impl Caller<'_> {
    fn any<T: Handle>(&mut self, optional: bool) -> *mut T {
        let choice = self.choice();
        let living = self.living.get(&T::KIND).map_or(&[][..], |all| all);
        let newest = living.iter().rev().nth(usize::from(choice) % living.len().max(1)).copied().unwrap_or(0);
        let address = match choice {
            // Of any kind, living or freed.
            200..=223 => {
                self.seen.iter().rev().nth(usize::from(choice - 200) % self.seen.len().max(1)).copied().unwrap_or(0)
            }
            224..=231 => 0,
            232..=239 => newest + 1,
            240.. => {
                self.rooms.push(Box::new([0; 128]));
                self.rooms.last().map_or(0, |room| room.as_ptr().expose_provenance())
            }
            _ => newest,
        };
        self.refused |= if address == 0 { !optional } else { !self.is_living(address, T::KIND) };
        std::ptr::with_exposed_provenance_mut(address)
    }

    /// A handle of this kind, in most cases.
    pub(crate) fn handle<T: Handle>(&mut self) -> *mut T {
        self.any(false)
    }

    /// The same, where NULL is one too.
    pub(crate) fn optional<T: Handle>(&mut self) -> *mut T {
        self.any(true)
    }

    /// Limits under which every call is short. NULL would stand for usual ones.
    pub(crate) fn limits(&mut self) -> *const lxi_limits {
        if self.choice() % 8 < 6 {
            return std::ptr::with_exposed_provenance(self.tight);
        }
        let limits: *mut lxi_limits = self.any(true);
        if limits.is_null() {
            return std::ptr::with_exposed_provenance(self.tight);
        }
        limits
    }

    /// The fingerprint that a result told last, in most cases.
    pub(crate) fn fingerprint(&mut self, optional: bool) -> *const lxi_fingerprint {
        let choice = self.choice();
        if choice >= 240 {
            self.refused |= !optional;
            return std::ptr::null();
        }
        let known = self.known.iter().rev().nth(usize::from(choice)).copied();
        let bytes = known.map_or([choice; 32], |known| known.bytes);
        self.kept.push(Box::new(Box::new(lxi_fingerprint { bytes })));
        let kept = self.kept.last().and_then(|kept| kept.downcast_ref::<Box<lxi_fingerprint>>());
        kept.map_or(std::ptr::null(), |kept| &raw const **kept)
    }

    /// Bytes that live until the call ended.
    pub(crate) fn keep_bytes(&mut self, bytes: Vec<u8>) -> lxi_bytes {
        let view = lxi_bytes { data: bytes.as_ptr(), len: bytes.len() };
        self.kept.push(Box::new(bytes));
        view
    }

    fn keep_text(&mut self, bytes: Vec<u8>) -> lxi_str {
        let view = self.keep_bytes(bytes);
        lxi_str { data: view.data.cast(), len: view.len }
    }

    /// A text.
    pub(crate) fn text(&mut self) -> lxi_str {
        let choice = self.choice();
        match choice {
            250 => {
                self.refused = true;
                lxi_str { data: std::ptr::null(), len: 5 }
            }
            251 => {
                self.refused = true;
                self.keep_text(vec![b'a'; (1 << 20) + 1])
            }
            252..=255 => {
                let bytes = self.material.get(..usize::from(self.choice())).unwrap_or(self.material).to_vec();
                self.refused |= std::str::from_utf8(&bytes).is_err();
                self.keep_text(bytes)
            }
            _ => {
                let text = TEXTS[usize::from(choice) % TEXTS.len()];
                lxi_str { data: text.as_ptr().cast(), len: text.len() }
            }
        }
    }

    /// One of these texts, in most cases.
    pub(crate) fn one_of(&mut self, texts: &'static [&'static str]) -> lxi_str {
        let choice = usize::from(self.choice());
        match texts.get(choice % (texts.len() + 1)) {
            Some(text) => lxi_str { data: text.as_ptr().cast(), len: text.len() },
            None => self.text(),
        }
    }

    /// A path in the run's own directory: the `usual` one, in most cases.
    pub(crate) fn path(&mut self, usual: &str, optional: bool) -> lxi_str {
        let choice = self.choice();
        let name: &[u8] = match choice {
            0..=127 => usual.as_bytes(),
            128..=239 => [&b"tree"[..], b"out", b"out2", b"templates", b"store", b"image", b"image.root", b"\xff\n"]
                [usize::from(choice % 8)],
            240..=247 => {
                self.refused |= !optional;
                b""
            }
            248..=251 => b"a\0b",
            252.. => &[b'a'; 4096],
        };
        self.refused |= choice >= 248;
        let mut path = self.place.as_os_str().as_encoded_bytes().to_vec();
        if name.is_empty() {
            path.clear();
        } else {
            path.push(b'/');
            path.extend_from_slice(name);
        }
        self.keep_text(path)
    }

    /// What fits as metadata, a context or a template, or whatever the fuzzer gave.
    pub(crate) fn bytes(&mut self, usual: Material) -> lxi_bytes {
        let bytes = match self.choice() {
            255 => {
                self.refused = true;
                return lxi_bytes { data: std::ptr::null(), len: 5 };
            }
            choice if choice % 2 == 1 => self.material,
            _ => match usual {
                Material::Yaml => YAML,
                Material::Json => JSON,
                Material::Template => TEMPLATE,
            },
        };
        self.keep_bytes(bytes.to_vec())
    }

    /// An index or a number: small, in most cases.
    pub(crate) fn index(&mut self) -> usize {
        match self.choice() {
            250.. => usize::MAX,
            choice => usize::from(choice % 8),
        }
    }

    /// Seconds since 1970.
    pub(crate) fn seconds(&mut self) -> i64 {
        match self.choice() {
            250.. => i64::MIN,
            240..=249 => i64::MAX,
            choice => 1_700_000_000 * i64::from(choice % 4),
        }
    }

    /// Flags: none, in most cases.
    pub(crate) fn flags(&mut self) -> u32 {
        match self.choice() {
            255 => u32::MAX,
            choice => u32::from(choice),
        }
    }

    /// How many threads.
    pub(crate) fn threads(&mut self) -> u32 {
        [1, 2, 0, 3, 9][usize::from(self.choice() % 5)]
    }

    /// A descriptor: the run's directories, files, and what is none. Never one that the process has for itself.
    pub(crate) fn descriptor(&mut self, usual: &str) -> i32 {
        let choice = self.choice();
        let name = if choice % 8 == 7 { "tree/etc/hostname" } else { usual };
        match choice {
            240.. => -1,
            232..=239 => i32::MAX,
            _ => std::fs::File::open(self.place.join(name)).map_or(-1, |file| {
                let fd = file.into_raw_fd();
                // SAFETY: it is open, and ours.
                self.kept.push(Box::new(unsafe { <std::os::fd::OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(fd) }));
                fd
            }),
        }
    }

    fn structure<T: Copy>(&mut self, value: Option<T>, optional: bool, may_be_null: bool) -> *mut T {
        assert!(size_of::<T>() <= 512 && align_of::<T>() <= 8, "the room is large enough");
        let choice = self.choice();
        let mut room = Box::new([0_u64; 128]);
        let start: *mut u8 = room.as_mut_ptr().cast();
        if let Some(value) = value {
            // SAFETY: there is room, and it is aligned.
            unsafe { start.cast::<T>().write(value) };
        }
        let (size, refused) = match choice {
            0..=231 => (size_of::<T>(), false),
            232..=235 => (size_of::<T>() + 8, false),
            236..=239 if value.is_some() => {
                // SAFETY: within the room.
                unsafe { start.add(size_of::<T>() + 3).write(1) };
                (size_of::<T>() + 8, true)
            }
            236..=241 => (0, true),
            242 => (size_of::<T>() - 1, true),
            243 => ((64 << 10) + 1, true),
            244..=247 => (usize::MAX, true),
            _ => (size_of::<T>(), choice < 252 || !optional),
        };
        room[0] = size as u64;
        self.rooms.push(room);
        self.refused |= refused;
        match choice {
            // SAFETY: within the room.
            248..=251 => unsafe { start.add(1) }.cast(),
            252.. if !optional || may_be_null => std::ptr::null_mut(),
            _ => start.cast(),
        }
    }

    /// A structure to be filled.
    pub(crate) fn info<T: Copy>(&mut self) -> *mut T {
        self.structure(None, false, true)
    }

    /// Options, which may be left out: then nothing is looked at that they would hold.
    pub(crate) fn options<T: Copy>(&mut self, fill: impl FnOnce(&mut Self) -> T) -> *const T {
        self.filled(true, fill).0
    }

    /// A structure of which `fill` chooses what it holds, and whether it is taken. What is left out is not looked at.
    fn filled<T: Copy>(&mut self, optional: bool, fill: impl FnOnce(&mut Self) -> T) -> (*const T, bool) {
        let before = std::mem::take(&mut self.refused);
        let value = fill(self);
        let pointer = self.structure(Some(value), optional, true);
        let left_out = optional && pointer.is_null();
        let taken = !self.refused && !left_out;
        self.refused = before || self.refused && !left_out;
        (pointer, taken)
    }

    /// Options that are not left out, since the usual limits are too long for a fuzzer.
    pub(crate) fn given<T: Copy>(&mut self, value: T) -> *const T {
        self.structure(Some(value), true, false)
    }

    /// A structure that must be there.
    pub(crate) fn required<T: Copy>(&mut self, value: T) -> *const T {
        self.structure(Some(value), false, true)
    }

    /// What a callback gets.
    pub(crate) fn patience(&mut self) -> *mut std::ffi::c_void {
        let patience = Box::new(Patience::new(self.choice()));
        let user: *const Patience = &raw const *patience;
        self.kept.push(Box::new(patience));
        user.cast_mut().cast()
    }

    /// Somebody who watches, or nobody.
    pub(crate) fn monitor(&mut self) -> *const lxi_monitor {
        if self.choice() % 4 == 0 {
            return std::ptr::null();
        }
        self.options(|caller| {
            let mut monitor: lxi_monitor = zeroed();
            monitor.cancel = caller.optional::<lxi_cancel>();
            monitor.progress = (caller.choice() % 4 != 1).then_some(progress as _);
            monitor.user = caller.patience();
            monitor
        })
    }

    /// The files of an image: one that is well formed, or of the fuzzer's bytes, or those as a program that writes one.
    fn files(&mut self) -> Vec<Vec<u8>> {
        match self.choice() % 6 {
            0 => archive(&[0], false),
            1 => vec![self.material.to_vec()],
            2 => archive(&[0], true),
            3 => archive(self.material, false),
            4 => archive(self.material, true),
            _ => {
                let (one, other) = self.material.split_at(self.material.len().min(2048));
                vec![one.to_vec(), other.to_vec()]
            }
        }
    }

    /// One input, or two.
    pub(crate) fn inputs(&mut self) -> (*const lxi_input, *const lxi_input) {
        let mut files = self.files().into_iter();
        let first = files.next().map_or(std::ptr::null(), |file| self.input(file, false));
        // Without a second one, the first is all there is.
        let second = files.next().map_or(std::ptr::null(), |file| self.input(file, true));
        (first, second)
    }

    /// An input of these bytes.
    fn input(&mut self, file: Vec<u8>, optional: bool) -> *const lxi_input {
        let mut fed = None;
        let (pointer, taken) = self.filled(optional, |caller| {
            let mut input: lxi_input = zeroed();
            let kind = caller.choice();
            input.kind = u32::from(kind % 8);
            match kind % 8 {
                0 => {
                    input.kind = LXI_INPUT_BYTES;
                    input.bytes = caller.keep_bytes(file);
                }
                LXI_FD => {
                    use std::os::fd::AsRawFd;
                    let file = caller.file.file(&file);
                    input.fd = if kind > 240 { -1 } else { file.as_raw_fd() };
                    caller.refused |= kind > 240;
                    caller.kept.push(Box::new(file));
                }
                2 => input.bytes = caller.keep_bytes(file),
                LXI_STREAM => {
                    let feed = Box::new(Feed::new(file, caller.choice(), caller.choice()));
                    input.read = Some(read);
                    input.release = Some(release);
                    input.user = (&raw const *feed).cast_mut().cast();
                    fed = Some(feed);
                    return input;
                }
                4 => input.path = caller.path("image", false),
                // There is no such kind.
                _ => caller.refused = true,
            }
            if kind >= 128 {
                input.name = caller.path("image", true);
            }
            input
        });
        self.feeds.extend(fed.map(|feed| (feed, taken)));
        pointer
    }
}

const LXI_FD: u8 = LXI_INPUT_FD as u8;
const LXI_STREAM: u8 = LXI_INPUT_STREAM as u8;

/// What bytes are meant to be.
#[derive(Clone, Copy)]
pub(crate) enum Material {
    /// Metadata.
    Yaml,
    /// A context.
    Json,
    /// A template.
    Template,
}

/// Options of which none is set.
pub(crate) fn zeroed<T: Copy>() -> T {
    // SAFETY: only used for the interface's structures, of which all zeros are one.
    unsafe { std::mem::zeroed() }
}
