//! What a process that was killed left beside a destination: told by its name and from the living
//! by a lock (`flock`), which ends with the process that holds it. The next run that writes to the
//! same directory removes it.

use std::os::fd::AsFd;

use rustix::fs::{self, FileType, FlockOperation};
use rustix::io::Errno;

use crate::progress::Cancel;
use crate::rooted::{Dir, is_staging_name, is_staging_name_of};

/// Marks a new staging file or directory as that of a living process. False when another process
/// took it for a leftover in the moment before: then it is gone, or will be. Where the file system
/// has no locks, nothing is ever taken for a leftover.
pub(crate) fn lock(fd: impl AsFd) -> bool {
    !matches!(try_lock(fd), Err(Errno::WOULDBLOCK))
}

fn try_lock(fd: impl AsFd) -> Result<(), Errno> {
    loop {
        match fs::flock(&fd, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::INTR) => {}
            done => return done,
        }
    }
}

/// Removes what processes that are gone left in `dir`. Best effort: what can't be removed stays for the next run.
pub(crate) fn sweep(dir: &Dir, cancel: &Cancel) {
    sweep_matching(dir, is_staging_name, cancel);
}

/// As [`sweep`], but only of what was to become `name`: other names in that directory may be made by others.
#[cfg_attr(
    not(any(feature = "store", feature = "simplestreams", feature = "remote")),
    allow(dead_code, reason = "only files that are replaced have one name for ever")
)]
pub(crate) fn sweep_of(dir: &Dir, name: &[u8]) {
    sweep_matching(dir, |found| is_staging_name_of(found, name), &Cancel::new());
}

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

/// Whether nobody else can give one of our own directories a name that makes it look like a leftover.
fn is_trusted(dir: &Dir) -> bool {
    let Ok(about) = dir.stat_self() else { return false };
    let own = about.st_uid == rustix::process::geteuid().as_raw() || about.st_uid == 0;
    let (shared, sticky) = (about.st_mode & 0o022 != 0, about.st_mode & 0o1000 != 0);
    own && (!shared || sticky)
}

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
