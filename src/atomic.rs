//! Files that appear or change in one step: written beside their place, then renamed onto it. The
//! one piece of code that gives a finished file its name, and the one place that says what a power
//! cut may take back.

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

/// What a power cut may take back once a call has returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    /// Nothing: content and name are on the disk. The file is synced before the rename, so that the name never
    /// stands for less than all of it, and the directory after it.
    Durable,
    /// Anything: the old file, the new one, or a part of it may be there. For what can be made
    /// again, and is checked by whoever reads it.
    Volatile,
}

/// Whether a file that has the name already gives way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Replace {
    /// The new file takes its place.
    Yes,
    /// It stays, and the call fails with `AlreadyExists`.
    No,
}

/// Gives `file`, which is complete and stands as `staging` in `dir`, the name `name` there.
///
/// When this fails, the staging name may still be there, for the caller to remove; a new name is not.
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
        // Of a file that was replaced nothing is left to go back to.
        if replace == Replace::No {
            let _ = dir.remove_file(name);
        }
    })
}

/// Gives `file`, which is complete and stands at `staging`, the path `path` in the same file
/// system, replacing what is there. It is on the disk when this returns. When this fails, `staging`
/// may still be there.
pub(crate) fn rename(file: &File, staging: &Path, path: &Path) -> io::Result<()> {
    file.sync_all()?;
    std::fs::rename(staging, path)?;
    sync_parent(path)
}

/// Gives the file at `path` new content, or makes it, with the permissions `mode` as far as the umask leaves them.
///
/// Removes on the way what earlier calls for the same path left that were killed ([`leftovers`]).
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
        // That it can't be removed would hide why it failed; the next call removes it.
        let _ = dir.remove_file(&staging);
    }
    done
}

/// Makes a directory and those above it that are not there, each with the permissions `mode`; they
/// are on the disk when this returns.
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

/// Returns when the names in the directory that `path` is in are on the disk.
pub(crate) fn sync_parent(path: &Path) -> io::Result<()> {
    Dir::open(path.parent().unwrap_or(Path::new("")))?.sync()
}

fn create_locked(dir: &Dir, name: &[u8], mode: u32) -> io::Result<(Vec<u8>, File)> {
    for _ in 0..16 {
        let staging = staging_name(name);
        let file = match dir.create(&staging, mode) {
            Err(error) if is(&error, Errno::EXIST) => continue,
            file => file?,
        };
        // Another process may have taken it for a leftover before it was locked.
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
    fn leftovers_of_the_dead_are_swept_and_files_of_the_living_are_not() {
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
    fn a_file_that_cannot_be_replaced_leaves_nothing_beside_it() {
        let path = scratch("fail");
        std::fs::create_dir(path.join("a")).unwrap();
        replace(&path.join("a"), 0o600, b"new", Durability::Durable).unwrap_err();
        assert_eq!(names(&path), ["a"]);
        std::fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn a_name_that_is_taken_stays_when_it_is_not_to_be_replaced() {
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
