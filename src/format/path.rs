//! Names in archives: one form for all of them, and the refusal of those that lead out of the
//! image.
//!
//! Every name that a reader takes from an image passes through [`normalize`] before anything else
//! is done with it.

use crate::error::{Error, Result};
use crate::limits::Limits;

/// Brings a member's name to the form of [`Entry::path`](super::Entry::path): components joined
/// by single slashes, no `.`, no slash at either end; the top itself is empty.
///
/// # Errors
/// `UnsafePath` for an absolute name and for `..` anywhere, `Malformed` for an empty name and for
/// a NUL, `LimitExceeded` for what no kernel could name.
pub(crate) fn normalize(raw: &[u8], limits: &Limits) -> Result<Vec<u8>> {
    if raw.is_empty() {
        return Err(Error::malformed("a member has an empty name"));
    }
    if raw.contains(&0) {
        return Err(Error::malformed("a name holds a NUL byte"));
    }
    if raw[0] == b'/' {
        return Err(Error::unsafe_path("an absolute name: members are named relative to the image")
            .with_hint("make the archive from inside of the directory, as with `tar -C DIRECTORY -cf FILE .`"));
    }
    let mut path = Vec::with_capacity(raw.len());
    for component in raw.split(|&byte| byte == b'/') {
        match component {
            b"" | b"." => continue,
            b".." => return Err(Error::unsafe_path("a name with `..` could leave the image")),
            _ => {}
        }
        if component.len() as u64 > limits.component {
            return Err(Error::limit(
                "component",
                limits.component,
                format_args!("a name of {} bytes", component.len()),
            ));
        }
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(component);
        if path.len() as u64 > limits.path {
            return Err(Error::limit("path", limits.path, format_args!("a path of {} bytes", raw.len())));
        }
    }
    Ok(path)
}

/// Checks the target of a symbolic link, which stays the bytes it is.
///
/// # Errors
/// `Malformed` when empty or with a NUL, `LimitExceeded` when too long for the kernel.
pub(crate) fn check_link_target(target: &[u8], limits: &Limits) -> Result<()> {
    if target.is_empty() {
        return Err(Error::malformed("a symbolic link points to the empty name"));
    }
    if target.contains(&0) {
        return Err(Error::malformed("the target of a link holds a NUL byte"));
    }
    if target.len() as u64 > limits.link_target {
        return Err(Error::limit(
            "link_target",
            limits.link_target,
            format_args!("a link target of {} bytes", target.len()),
        ));
    }
    Ok(())
}

/// The directory part and the last component of a normalized path.
pub(crate) fn split_last(path: &[u8]) -> (&[u8], &[u8]) {
    path.iter().rposition(|&byte| byte == b'/').map_or((&[][..], path), |at| (&path[..at], &path[at + 1..]))
}
