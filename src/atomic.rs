//! Atomic file writes: a file is written beside its destination, then renamed onto it, so that
//! readers see the old or the new content and never a part.
//!
//! This is the only code that gives a finished file its name, and the only place that says what a
//! power cut may undo: see [`Durability`].

#![cfg_attr(
    not(all(feature = "store", feature = "simplestreams")),
    allow(dead_code, reason = "the formats alone replace no files and make no directories of their own")
)]

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::leftovers;
use crate::rooted::{Dir, is, staging_name};

/// What a power cut may undo after a call has returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    /// Nothing: content and name are on the disk. The file is synced before the rename, so that its name never
    /// stands for less than all of it, and the directory after it.
    Durable,
    /// Anything: the old file, the new one, or a part of it may be there. For what can be made
    /// again, and is checked by whoever reads it.
    Volatile,
}

/// What happens to a file that has the name already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Replace {
    /// It is replaced.
    Yes,
    /// It stays, and the call fails with `AlreadyExists`: for files that must not be overwritten.
    No,
}

/// Gives `file`, which is complete and has the name `staging` in `dir`, the name `name` in the same directory.
///
/// If this fails, the staging name may still exist, and the caller removes it; the new name does not.
pub(crate) fn publish(
    file: &File,
    dir: &Dir,
    staging: &[u8],
    name: &[u8],
    replace: Replace,
    durability: Durability,
) -> io::Result<()> {
    if durability == Durability::Durable {
        file.sync_all()?;
    }
    match replace {
        Replace::Yes => dir.rename(staging, name)?,
        Replace::No => dir.rename_new(staging, name)?,
    }
    if durability == Durability::Volatile {
        return Ok(());
    }
    dir.sync().inspect_err(|_| {
        // A replaced file cannot be restored, so its name stays.
        if replace == Replace::No {
            let _ = dir.remove_file(name);
        }
    })
}

/// Gives `file`, which is complete and has the path `staging`, the path `path` on the same file
/// system, replacing any file there.
///
/// Durable when it returns: syncs the file, renames it, and syncs the directory. If it fails,
/// `staging` may still exist.
pub(crate) fn rename(file: &File, staging: &Path, path: &Path) -> io::Result<()> {
    file.sync_all()?;
    std::fs::rename(staging, path)?;
    sync_parent(path)
}

/// Writes `content` to the file at `path`, replacing or creating it, with the permissions `mode` less the umask.
///
/// Before that it removes what killed processes left of earlier calls for the same path ([`leftovers`]).
pub(crate) fn replace(path: &Path, mode: u32, content: &[u8], durability: Durability) -> io::Result<()> {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let name = path.file_name().ok_or(Errno::INVAL)?.as_bytes();
    let dir = Dir::open(path.parent().unwrap_or(Path::new("")))?;
    leftovers::sweep_of(&dir, name);
    let (staging, mut file) = create_locked(&dir, name, mode)?;
    let beside = path.with_file_name(OsStr::from_bytes(&staging));
    let done = file.write_all(content).and_then(|()| match durability {
        Durability::Durable => rename(&file, &beside, path),
        Durability::Volatile => std::fs::rename(&beside, path),
    });
    if done.is_err() {
        // An error of removing would hide the real one, and the next call sweeps the file.
        let _ = dir.remove_file(&staging);
    }
    done
}

/// Creates a directory and its missing parents, each with the permissions `mode`. Their names are
/// on the disk when this returns.
pub(crate) fn make_dirs(path: &Path, mode: u32) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let missing: Vec<PathBuf> = path
        .ancestors()
        .take_while(|path| !path.as_os_str().is_empty() && !path.exists())
        .map(Path::to_path_buf)
        .collect();
    std::fs::DirBuilder::new().recursive(true).mode(mode).create(path)?;
    missing.iter().try_for_each(|made| sync_parent(made))
}

/// Returns once the names in the directory of `path` are on the disk.
pub(crate) fn sync_parent(path: &Path) -> io::Result<()> {
    Dir::open(path.parent().unwrap_or(Path::new("")))?.sync()
}

/// Creates a staging file for `name` and locks it, so that no other process sweeps it.
fn create_locked(dir: &Dir, name: &[u8], mode: u32) -> io::Result<(Vec<u8>, File)> {
    for _ in 0..16 {
        let staging = staging_name(name);
        let file = match dir.create(&staging, mode) {
            Err(error) if is(&error, Errno::EXIST) => continue,
            file => file?,
        };
        // Another process may have swept it between its creation and the lock.
        if leftovers::lock(&file) && rustix::fs::fstat(&file)?.st_nlink > 0 {
            return Ok((staging, file));
        }
    }
    Err(io::Error::other("no free name for a file beside its place was found"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("lxd-image-atomic-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir(&path).unwrap();
        path
    }

    fn names(path: &Path) -> Vec<String> {
        let names = std::fs::read_dir(path).unwrap();
        let mut names: Vec<_> = names.map(|name| name.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn only_unlocked_leftovers_of_the_same_name_are_swept() {
        let path = scratch("sweep");
        let leftover = |name: &str| String::from_utf8(staging_name(name.as_bytes())).unwrap();
        let (dead, living, other) = (leftover("a"), leftover("a"), leftover("b"));
        for name in [&dead, &living, &other] {
            std::fs::write(path.join(name), "x").unwrap();
        }
        let held = File::open(path.join(&living)).unwrap();
        held.lock().unwrap();
        replace(&path.join("a"), 0o600, b"new", Durability::Durable).unwrap();
        let mut expected = vec![living, other, "a".to_owned()];
        expected.sort();
        assert_eq!(names(&path), expected);
        assert_eq!(std::fs::read(path.join("a")).unwrap(), b"new");
        std::fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn failed_replacement_leaves_no_staging_file() {
        let path = scratch("fail");
        std::fs::create_dir(path.join("a")).unwrap();
        replace(&path.join("a"), 0o600, b"new", Durability::Durable).unwrap_err();
        assert_eq!(names(&path), ["a"]);
        std::fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn taken_name_is_not_replaced() {
        let path = scratch("taken");
        std::fs::write(path.join("a"), "old").unwrap();
        std::fs::write(path.join("s"), "new").unwrap();
        let (dir, file) = (Dir::open(&path).unwrap(), File::open(path.join("s")).unwrap());
        let error = publish(&file, &dir, b"s", b"a", Replace::No, Durability::Durable).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read(path.join("a")).unwrap(), b"old");
        std::fs::remove_dir_all(path).unwrap();
    }
}
