//! Trees on disk for the tests: made, told entry by entry, and filled by a plain sink.
//! The sink trusts its input; the rooted one of the library does not.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hasher};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags};

use super::super::extract::{ExtractSink, FileTarget};
use crate::error::{Error, Result};
use crate::format::entry::{Entry, EntryKind};

/// A directory that goes away with its value.
pub(super) struct Scratchpad(PathBuf);

impl Scratchpad {
    pub(super) fn new(name: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("lxd-image-squashfs-{name}-{}-{count}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(super) fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratchpad {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub(super) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// What can be seen of one entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fact {
    kind: String,
    mode: u32,
    owner: (u32, u32),
    mtime: i64,
    content: String,
    /// The first name of the inode, where it has several.
    same_as: Option<PathBuf>,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

pub(super) type Facts = BTreeMap<PathBuf, Fact>;

/// Tells the whole tree below and with `top`.
pub(super) fn facts(top: &Path) -> Facts {
    let mut found = Facts::new();
    let mut inodes = HashMap::new();
    collect(top, Path::new(""), &mut inodes, &mut found);
    found
}

fn collect(top: &Path, below: &Path, inodes: &mut HashMap<u64, PathBuf>, found: &mut Facts) {
    let path = top.join(below);
    let meta = fs::symlink_metadata(&path).unwrap();
    let kind = meta.file_type();
    let mut content = String::new();
    let name = if kind.is_dir() {
        "directory"
    } else if kind.is_symlink() {
        content = format!("{:?}", fs::read_link(&path).unwrap());
        "symlink"
    } else if kind.is_file() {
        content = format!("{} {}", meta.len(), digest(&path, meta.len()));
        "file"
    } else {
        content = format!("{:x}", meta.rdev());
        match () {
            () if kind.is_block_device() => "block",
            () if kind.is_char_device() => "char",
            () if kind.is_fifo() => "fifo",
            () => "socket",
        }
    };
    let same_as = if !kind.is_dir() && meta.nlink() > 1 {
        Some(inodes.entry(meta.ino()).or_insert_with(|| below.to_path_buf()).clone())
    } else {
        None
    };
    found.insert(
        below.to_path_buf(),
        Fact {
            kind: name.into(),
            mode: meta.permissions().mode() & 0o7777,
            owner: (meta.uid(), meta.gid()),
            mtime: meta.mtime(),
            content,
            same_as,
            xattrs: xattrs(&path),
        },
    );
    if kind.is_dir() {
        let mut names: Vec<_> = fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
        for name in names {
            collect(top, &below.join(name), inodes, found);
        }
    }
}

/// A hash that std brings optimised, since these run unoptimised; of a large sparse file its data only.
fn digest(path: &Path, size: u64) -> String {
    let file = File::open(path).unwrap();
    let mut hash = DefaultHasher::new();
    let mut at = 0;
    let mut buffer = vec![0; 1 << 20];
    while at < size {
        if size > 1 << 30 {
            match rustix::fs::seek(&file, rustix::fs::SeekFrom::Data(at)) {
                Ok(data) => at = data / 4096 * 4096,
                Err(_) => break,
            }
        }
        let count = file.read_at(&mut buffer, at).unwrap();
        if count == 0 {
            break;
        }
        if buffer[..count].iter().any(|byte| *byte != 0) {
            for (page, bytes) in buffer[..count].chunks(4096).enumerate() {
                if bytes.iter().any(|byte| *byte != 0) {
                    hash.write_u64(at + page as u64 * 4096);
                    hash.write(bytes);
                }
            }
        }
        at += count as u64;
    }
    format!("{:016x}", hash.finish())
}

pub(super) fn xattrs(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut names = vec![0; 1 << 16];
    let Ok(length) = rustix::fs::llistxattr(path, names.as_mut_slice()) else { return BTreeMap::new() };
    let mut found = BTreeMap::new();
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0; 1 << 16];
        let length = rustix::fs::lgetxattr(path, OsStr::from_bytes(name), value.as_mut_slice()).unwrap();
        value.truncate(length);
        found.insert(name.to_vec(), value);
    }
    found
}

/// Writes a tree into a directory, attributes and all.
pub(super) struct DirectorySink {
    top: PathBuf,
    directories: Vec<Entry>,
}

impl DirectorySink {
    pub(super) fn new(top: &Path) -> Self {
        fs::create_dir_all(top).unwrap();
        Self { top: top.to_path_buf(), directories: Vec::new() }
    }

    fn path(&self, path: &[u8]) -> PathBuf {
        if path.is_empty() { self.top.clone() } else { self.top.join(OsStr::from_bytes(path)) }
    }

    /// Sets what only lasts when nothing is written below any more.
    pub(super) fn finish(self) {
        for entry in self.directories.iter().rev() {
            attributes(&self.path(&entry.path), entry).unwrap();
        }
    }
}

fn attributes(path: &Path, entry: &Entry) -> Result<()> {
    let failed = |source: rustix::io::Errno| Error::io(format!("{}", path.display()), source);
    if is_root() {
        std::os::unix::fs::lchown(path, Some(entry.uid), Some(entry.gid))?;
    }
    for (name, value) in &entry.xattrs {
        rustix::fs::lsetxattr(path, OsStr::from_bytes(name), value, XattrFlags::empty()).map_err(failed)?;
    }
    if !matches!(entry.kind, EntryKind::Symlink { .. }) {
        fs::set_permissions(path, fs::Permissions::from_mode(entry.mode))?;
    }
    let time = Timespec { tv_sec: entry.mtime.seconds, tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)
}

impl ExtractSink for DirectorySink {
    type Target = DiskFile;

    fn entry(&mut self, entry: &Entry) -> Result<Option<DiskFile>> {
        let path = self.path(&entry.path);
        match &entry.kind {
            EntryKind::Directory => {
                fs::create_dir_all(&path)?;
                self.directories.push(entry.clone());
                return Ok(None);
            }
            EntryKind::File { size } => {
                let file = File::options().write(true).create_new(true).mode(0o600).open(&path)?;
                file.set_len(*size)?;
                return Ok(Some(DiskFile { file, path, entry: entry.clone() }));
            }
            EntryKind::HardLink { target } => {
                fs::hard_link(self.path(target), &path)?;
                return Ok(None);
            }
            EntryKind::Symlink { target } => std::os::unix::fs::symlink(OsStr::from_bytes(target), &path)?,
            EntryKind::CharDevice(number) | EntryKind::BlockDevice(number) => {
                let kind = if matches!(entry.kind, EntryKind::BlockDevice(_)) {
                    FileType::BlockDevice
                } else {
                    FileType::CharacterDevice
                };
                let number = rustix::fs::makedev(number.major, number.minor);
                rustix::fs::mknodat(CWD, &path, kind, Mode::empty(), number)
                    .map_err(|source| Error::io("mknod", source))?;
            }
            EntryKind::Fifo | EntryKind::Socket => {
                let kind = if entry.kind == EntryKind::Fifo { FileType::Fifo } else { FileType::Socket };
                rustix::fs::mknodat(CWD, &path, kind, Mode::empty(), 0).map_err(|source| Error::io("mknod", source))?;
            }
        }
        attributes(&path, entry)?;
        Ok(None)
    }
}

pub(super) struct DiskFile {
    file: File,
    path: PathBuf,
    entry: Entry,
}

impl FileTarget for DiskFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        self.file.write_all_at(bytes, offset).map_err(|source| Error::io("write", source))
    }

    fn finish(self) -> Result<()> {
        attributes(&self.path, &self.entry)
    }
}
