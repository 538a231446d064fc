//! Where a rule's path leads: resolved as a process in the instance would, below a handle on its
//! root, or refused.
//!
//! The kernel does the walking (`openat2` with `RESOLVE_IN_ROOT`), so absolute links and `..` stay
//! inside the root even if somebody renames directories at the same time. In steps:
//!
//! 1. [`components`] splits the path and refuses `..`, NULs and names that are too long.
//! 2. The parents are opened as deep as they exist. The rest becomes `missing`.
//! 3. The last name is looked at without opening it. If it is a link, its target is the new path,
//!    and 2 follows, at most [`MAX_LINKS`] times.
//! 4. The result is a directory handle and a name. The caller writes beside that name and renames,
//!    so no later change of the path matters.
//!
//! Resolution makes nothing; missing parents are made just before the file is written
//! ([`CreatedParents`]), and removed if that fails.

use rustix::fs::{self, FileType, Mode};
use rustix::io::Errno;
use std::io;
use std::os::fd::AsFd;

use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::rooted::{Dir, is};

/// The number of links that are followed for the last component: the kernel's own limit
/// (`MAXSYMLINKS`, path_resolution(7)).
const MAX_LINKS: usize = 40;

/// A resolved path: the deepest existing directory, the names missing below it, and the file's
/// name.
#[derive(Debug)]
pub(super) struct ResolvedTarget {
    pub(super) dir: Dir,
    /// Directories to make, outermost first.
    pub(super) missing: Vec<Vec<u8>>,
    pub(super) name: Vec<u8>,
    /// Whether something has the name already. Never true if directories are missing.
    pub(super) exists: bool,
}

/// How a path is walked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Resolver {
    /// `openat2` resolves links below the root.
    Kernel,
    /// One `openat` for each component, refusing every link: for kernels before 5.6, and sandboxes
    /// whose seccomp filter hides `openat2`.
    Stepwise,
}

/// Splits a rule's path into names, dropping empty ones and `.`.
///
/// # Errors
/// `UnsafePath` for `..`, a NUL or no name at all; `LimitExceeded` for a long path or name. LXD
/// cleans `..` away; a path that contains it is never honest, so it is refused here.
pub(super) fn components<'p>(path: &'p str, limits: &Limits) -> Result<Vec<&'p [u8]>> {
    if path.len() as u64 > limits.path {
        return Err(Error::limit("path", limits.path, format_args!("a path of {} bytes", path.len())));
    }
    let mut components = Vec::new();
    for component in path.as_bytes().split(|&byte| byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." => return Err(Error::unsafe_path("the path climbs with `..`")),
            name if name.contains(&0) => return Err(Error::unsafe_path("there is a NUL in the path")),
            name if name.len() as u64 > limits.component => {
                let length = name.len();
                return Err(Error::limit("component", limits.component, format_args!("a name of {length} bytes")));
            }
            name => components.push(name),
        }
    }
    if components.is_empty() {
        return Err(Error::unsafe_path("the path names no file"));
    }
    Ok(components)
}

/// Resolves a path below `root`. With `stop_at_link` the last component is not followed: to
/// `create_only` a link is something that exists.
pub(super) fn find(root: &Dir, components: &[&[u8]], stop_at_link: bool) -> Result<ResolvedTarget> {
    match find_by(Resolver::Kernel, root, components, stop_at_link) {
        Ok(Err(_)) => find_by(Resolver::Stepwise, root, components, stop_at_link)?
            .map_err(|error| Error::io("the way to the target can't be walked", error)),
        Ok(found) => found.map_err(|error| Error::io("the way to the target can't be walked", error)),
        Err(error) => Err(error),
    }
}

/// Resolves a path with one resolver. The inner error means that the kernel does not support it.
fn find_by(walk: Resolver, root: &Dir, components: &[&[u8]], stop_at_link: bool) -> Result<io::Result<ResolvedTarget>> {
    let Some((name, parents)) = components.split_last() else {
        return Err(Error::unsafe_path("the path names no file"));
    };
    let mut path = parents.join(&b'/');
    let mut name = name.to_vec();
    // The kernel resolves the parents; links in the last component are followed here, because the
    // name must be known for the rename.
    for followed in 0..=MAX_LINKS {
        let (dir, missing) = match open_parents(walk, root, &path, followed == 0)? {
            Ok(opened) => opened,
            Err(error) => return Ok(Err(error)),
        };
        if !missing.is_empty() {
            return Ok(Ok(ResolvedTarget { dir, missing, name, exists: false }));
        }
        let kind = match dir.stat(&name) {
            Ok(stat) => FileType::from_raw_mode(stat.st_mode),
            Err(error) if is(&error, Errno::NOENT) => {
                return Ok(Ok(ResolvedTarget { dir, missing, name, exists: false }));
            }
            Err(error) => return Err(Error::io("the target can't be examined", error)),
        };
        // `create_only` asks only whether the name is taken, also by a dangling link.
        if kind != FileType::Symlink || stop_at_link {
            return Ok(Ok(ResolvedTarget { dir, missing, name, exists: true }));
        }
        if walk == Resolver::Stepwise {
            return Err(Error::unsafe_path("the target is a link, which this kernel can't follow inside the root"));
        }
        let target = dir.read_link(&name).map_err(|error| Error::io("a link can't be read", error))?;
        (path, name) = behind(&path, &target)?;
    }
    Err(Error::unsafe_path("the target is a link to a link, without an end"))
}

/// The parent and the name that a link in `parent` leads to. `..` in it is left to the kernel,
/// which knows the real parent.
fn behind(parent: &[u8], target: &[u8]) -> Result<(Vec<u8>, Vec<u8>)> {
    let (way, name) = match target.iter().rposition(|&byte| byte == b'/') {
        Some(slash) => (&target[..=slash], &target[slash + 1..]),
        None => (&b""[..], target),
    };
    if matches!(name, b"" | b"." | b"..") {
        return Err(Error::unsafe_path("the target is a link to a directory"));
    }
    // An absolute link starts at the instance's root, which is the directory that the kernel is
    // given.
    let way = if way.starts_with(b"/") { way.to_vec() } else { [parent, b"/", way].concat() };
    let first = way.iter().position(|&byte| byte != b'/').unwrap_or(way.len());
    Ok((way[first..].to_vec(), name.to_vec()))
}

/// The deepest directory that exists, and the names missing below it.
type Opened = (Dir, Vec<Vec<u8>>);

/// Opens the deepest existing directory on `path`. With `may_miss` the rest may be missing; behind
/// a link it may not, since making the target of a dangling link surprises whoever made the link.
fn open_parents(walk: Resolver, root: &Dir, path: &[u8], may_miss: bool) -> Result<io::Result<Opened>> {
    let mut end = path.len();
    loop {
        let opened = match walk {
            Resolver::Kernel => root.inside(&path[..end]),
            Resolver::Stepwise => step(root, &path[..end]),
        };
        let dir = match opened {
            Ok(dir) => dir,
            Err(error) if walk == Resolver::Kernel && (is(&error, Errno::NOSYS) || is(&error, Errno::PERM)) => {
                return Ok(Err(error));
            }
            Err(error) if is(&error, Errno::NOENT) && end > 0 => {
                if !may_miss {
                    return Err(Error::unsafe_path("the target is a link to a place that is not there"));
                }
                end = path[..end].iter().rposition(|&byte| byte == b'/').unwrap_or(0);
                continue;
            }
            Err(error) => return Err(refused(error)),
        };
        let missing: Vec<Vec<u8>> =
            path[end..].split(|&byte| byte == b'/').filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect();
        // `openat2` reports a dangling link like a missing directory. Making a directory of that
        // name would fail later.
        if let Some(first) = missing.first()
            && dir.stat(first).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Symlink)
        {
            return Err(Error::unsafe_path("a directory on the way is a link to a place that is not there"));
        }
        return Ok(Ok((dir, missing)));
    }
}

/// Opens a directory name by name, following no link.
fn step(root: &Dir, path: &[u8]) -> io::Result<Dir> {
    let names = path.split(|&byte| byte == b'/').filter(|name| !name.is_empty());
    names.fold(root.try_clone(), |dir, name| dir?.child(name))
}

/// Turns the error of a walk into `UnsafePath` if something in the tree prevents it, else `Io`.
pub(super) fn refused(error: io::Error) -> Error {
    let in_the_way = [Errno::LOOP, Errno::NOTDIR, Errno::XDEV, Errno::NAMETOOLONG];
    if in_the_way.iter().any(|&errno| is(&error, errno)) {
        return Error::unsafe_path("a link, or something else that is no directory, is in the way").with_source(error);
    }
    Error::io("a directory can't be opened", error)
}

/// Directories made on the way to a target, to be removed if writing it fails.
#[derive(Debug, Default)]
pub(super) struct CreatedParents(Vec<(Dir, Vec<u8>)>);

impl CreatedParents {
    /// Makes the missing directories as the instance's root would, mode 0755, and returns the
    /// innermost.
    pub(super) fn parents(&mut self, place: &ResolvedTarget, uid: u32, gid: u32) -> Result<Dir> {
        let cant = |error| Error::io("a directory can't be made", error);
        let mut dir = place.dir.try_clone().map_err(cant)?;
        for name in &place.missing {
            // 0700 until the owner is right. Another process may have made the directory meanwhile;
            // then it stays as it is.
            let ours = match dir.make_dir(name, 0o700) {
                Ok(()) => true,
                Err(error) if is(&error, Errno::EXIST) => false,
                Err(error) => return Err(cant(error)),
            };
            let child = dir.child(name).map_err(refused)?;
            if ours {
                self.0.push((dir, name.clone()));
                super::write::give(child.as_fd(), uid, gid)?;
                fs::fchmod(&child, Mode::from_raw_mode(0o755))
                    .map_err(|error| Error::io("a directory's mode can't be set", error))?;
            }
            dir = child;
        }
        Ok(dir)
    }

    /// Removes the directories, innermost first. One that is not empty stays: somebody else uses
    /// it.
    pub(super) fn undo(self) {
        for (dir, name) in self.0.into_iter().rev() {
            let _ = dir.remove_dir(&name);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn without_openat2_every_link_is_refused_and_plain_paths_are_walked() {
        let root = std::env::temp_dir().join(format!("lxi-place-{}", std::process::id()));
        std::fs::create_dir_all(root.join("etc/sub")).unwrap();
        let _ = std::os::unix::fs::symlink("etc", root.join("link"));
        let _ = std::os::unix::fs::symlink("sub", root.join("etc/file"));
        let dir = Dir::open(&root).unwrap();
        let walk = |path: &str| {
            let limits = Limits::default();
            find_by(Resolver::Stepwise, &dir, &components(path, &limits).unwrap(), false).map(Result::unwrap)
        };
        for (path, missing, taken) in
            [("/etc/sub/x", 0, false), ("/etc/sub", 0, true), ("//etc/./a/b/c", 2, false), ("/x", 0, false)]
        {
            let place = walk(path).unwrap();
            assert_eq!((place.missing.len(), place.exists), (missing, taken), "{path}");
        }
        for path in ["/link/x", "/etc/file", "/link/sub/x", "/etc/file/x"] {
            assert_eq!(walk(path).unwrap_err().kind(), ErrorKind::UnsafePath, "{path}");
        }
        std::fs::remove_dir_all(&root).unwrap();
    }
}
