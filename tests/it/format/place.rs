//! A place on disk for one test, and trees as lines of text, so that whole trees are compared at once.
//! A line says all that unpacking owes: type, mode, owner, size or content, time, links, attributes.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use lxd_image::{Escaped, Fingerprint};
use rustix::fs as sys;

use super::forge::TIME;

/// A directory of one test's own, removed at its end.
pub(crate) struct Place(PathBuf);

impl Place {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// A directory that is there.
    pub(crate) fn directory(&self, name: &str) -> PathBuf {
        let path = self.at(name);
        fs::create_dir_all(&path).unwrap();
        path
    }

    pub(crate) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.at(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    /// The names in a directory of this place.
    pub(crate) fn names(&self, name: &str) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.at(name))
            .unwrap()
            .map(|entry| Escaped(entry.unwrap().file_name().as_bytes()).to_string())
            .collect();
        names.sort();
        names
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Every member below `top`, one line each, in the order of their paths.
pub(crate) fn tree(top: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    walk(top, top, &mut HashMap::new(), &mut lines);
    lines
}

fn walk(top: &Path, at: &Path, first_names: &mut HashMap<(u64, u64), String>, lines: &mut Vec<String>) {
    let mut paths: Vec<PathBuf> = fs::read_dir(at).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    for path in paths {
        lines.push(line(top, &path, first_names));
        if path.symlink_metadata().unwrap().is_dir() {
            walk(top, &path, first_names, lines);
        }
    }
}

fn line(top: &Path, path: &Path, first_names: &mut HashMap<(u64, u64), String>) -> String {
    let about = path.symlink_metadata().unwrap();
    let kind = about.file_type();
    let name = Escaped(path.strip_prefix(top).unwrap().as_os_str().as_bytes()).to_string();
    let mut line = name.clone();
    if !about.is_dir() && about.nlink() > 1 {
        if let Some(first) = first_names.get(&(about.dev(), about.ino())) {
            return format!("{line} = {first}");
        }
        first_names.insert((about.dev(), about.ino()), name);
    }
    let letter = if kind.is_dir() {
        'd'
    } else if kind.is_symlink() {
        'l'
    } else if kind.is_fifo() {
        'p'
    } else if kind.is_char_device() {
        'c'
    } else if kind.is_block_device() {
        'b'
    } else {
        '-'
    };
    write!(line, " {letter}{:o} {}:{}", about.mode() & 0o7777, about.uid(), about.gid()).unwrap();
    match (about.mtime(), about.mtime_nsec()) {
        (TIME, 0) => {}
        // Made by this very test: nothing said which time.
        (seconds, _) if seconds > TIME + 10_000_000 => line.push_str(" now"),
        (seconds, nanoseconds) => write!(line, " @{seconds}.{nanoseconds:09}").unwrap(),
    }
    if kind.is_symlink() {
        write!(line, " -> {}", Escaped(fs::read_link(path).unwrap().as_os_str().as_bytes())).unwrap();
    } else if kind.is_char_device() || kind.is_block_device() {
        write!(line, " {}:{}", sys::major(about.rdev()), sys::minor(about.rdev())).unwrap();
    } else if kind.is_file() {
        let content = fs::read(path).unwrap();
        if content.len() <= 100 {
            write!(line, " \"{}\"", Escaped(&content)).unwrap();
        } else {
            write!(line, " {} {}", content.len(), Fingerprint::of(&content).short()).unwrap();
        }
        if about.blocks() * 512 + 4096 < about.len() {
            line.push_str(" sparse");
        }
    }
    for (name, value) in xattrs(path) {
        write!(line, " {name}={}", hex(&value)).unwrap();
    }
    line
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

/// The attributes that belong to the tree: what a security module of the machine sets does not.
pub(crate) fn xattrs(path: &Path) -> Vec<(String, Vec<u8>)> {
    let mut list = vec![0; 64 << 10];
    let Ok(length) = sys::llistxattr(path, &mut list) else { return Vec::new() };
    let mut found: Vec<(String, Vec<u8>)> = list[..length]
        .split(|&byte| byte == 0)
        .filter(|name| !name.is_empty() && *name != b"security.selinux")
        .map(|name| {
            let mut value = vec![0; 64 << 10];
            let length = sys::lgetxattr(path, name, &mut value).unwrap();
            (Escaped(name).to_string(), value[..length].to_vec())
        })
        .collect();
    found.sort();
    found
}
