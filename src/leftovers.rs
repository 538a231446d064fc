//! Leftovers: staging files and directories of processes that were killed, and how the next run
//! finds and removes them.
//!
//! A leftover is recognised by its name (`rooted::staging_name`), and distinguished from a file in
//! use by a lock (`flock`), which the kernel releases when the process ends. Where the file system
//! has no locks, nothing is treated as a leftover.

use std::os::fd::AsFd;

use rustix::fs::{self, FileType, FlockOperation};
use rustix::io::Errno;

use crate::progress::Cancel;
use crate::rooted::{Dir, is_staging_name, is_staging_name_of};

/// Locks a new staging file or directory, so that no other process removes it. Returns `false` if
/// another process has locked it as a leftover meanwhile: then it is gone or about to go, and the
/// caller creates another one.
pub(crate) fn lock(fd: impl AsFd) -> bool {
    !matches!(try_lock(fd), Err(Errno::WOULDBLOCK))
}

/// Takes the lock without waiting.
fn try_lock(fd: impl AsFd) -> Result<(), Errno> {
    loop {
        match fs::flock(&fd, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::INTR) => {}
            done => return done,
        }
    }
}

/// Removes the leftovers in `dir`. Best effort: what cannot be removed now stays for the next run.
pub(crate) fn sweep(dir: &Dir, cancel: &Cancel) {
    sweep_matching(dir, is_staging_name, cancel);
}

/// As [`sweep`], but only of what was to become `name`: other names in that directory may be made by others.
#[cfg_attr(
    not(any(feature = "store", feature = "simplestreams", feature = "remote")),
    allow(dead_code, reason = "only files that are replaced have one name for ever")
)]
/// As [`sweep`], but only leftovers of files that were to be called `name`: other names in the
/// directory may belong to other programs.
pub(crate) fn sweep_of(dir: &Dir, name: &[u8]) {
    sweep_matching(dir, |found| is_staging_name_of(found, name), &Cancel::new());
}

/// Removes leftovers whose names match `wanted`.
fn sweep_matching(dir: &Dir, wanted: impl Fn(&[u8]) -> bool, cancel: &Cancel) {
    if !is_trusted(dir) {
        return;
    }
    let Ok(names) = dir.names() else { return };
    for name in names.iter().filter(|name| wanted(name)) {
        if cancel.is_cancelled() {
            return;
        }
        let _ = sweep_one(dir, name, cancel);
    }
}

/// Whether no other user can rename one of our own directories so that it looks like a leftover:
/// the directory is ours or root's, and not writable by others unless it is sticky.
fn is_trusted(dir: &Dir) -> bool {
    let Ok(about) = dir.stat_self() else { return false };
    let own = about.st_uid == rustix::process::geteuid().as_raw() || about.st_uid == 0;
    let (shared, sticky) = (about.st_mode & 0o022 != 0, about.st_mode & 0o1000 != 0);
    own && (!shared || sticky)
}

/// Removes one leftover, if it belongs to this user and is not locked. The identity is compared
/// after opening: the name may have been given to another file meanwhile.
fn sweep_one(dir: &Dir, name: &[u8], cancel: &Cancel) -> std::io::Result<()> {
    let about = dir.stat(name)?;
    if about.st_uid != rustix::process::geteuid().as_raw() {
        return Ok(());
    }
    let own = (about.st_dev, about.st_ino);
    match FileType::from_raw_mode(about.st_mode) {
        FileType::Directory => {
            let left = dir.child(name)?;
            if left.identity()? == own && try_lock(&left).is_ok() {
                dir.remove_tree(name, own, cancel)?;
            }
        }
        FileType::RegularFile => {
            let left = dir.open_file(name)?;
            let opened = fs::fstat(&left)?;
            if (opened.st_dev, opened.st_ino) == own && try_lock(&left).is_ok() && dir.identity_of(name)? == own {
                dir.remove_file(name)?;
            }
        }
        _ => {}
    }
    Ok(())
}
