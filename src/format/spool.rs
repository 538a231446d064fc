//! Copies a SquashFS that comes as a stream to a temporary file, since it has to be read at
//! positions.
//!
//! The size of the copy is known from the superblock, which comes first, and is compared with the
//! limit `spool` before anything is written. Bytes after the image (padding) are hashed for the
//! fingerprint and not kept.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use rustix::fs::{self, AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;

use super::pipeline::ReadPass;
use super::squashfs::{SUPERBLOCK, bytes_used};
use crate::error::{Error, Result};
use crate::fingerprint::Hasher;
use crate::rooted::staging_name;

/// SquashFS images are padded to whole pages of this many bytes.
const PAGE: u64 = 4096;

/// Reads `stream` to its end and hashes all of it. Returns an unnamed file in `directory` that
/// holds the image with its padding.
///
/// # Errors
/// `LimitExceeded` for an image larger than `spool`; `Malformed` for one that is cut in its
/// superblock; `StorageFull`; `Io`.
pub(super) fn keep(stream: &mut impl Read, pass: &ReadPass<'_>, hasher: &mut Hasher, directory: &Path) -> Result<File> {
    let unread = |error| Error::io("the image can't be read", error);
    let mut head = Vec::with_capacity(SUPERBLOCK);
    stream.by_ref().take(SUPERBLOCK as u64).read_to_end(&mut head).map_err(unread)?;
    let limit = pass.limits.spool;
    let claimed = bytes_used(&head)?;
    let kept = claimed
        .checked_next_multiple_of(PAGE)
        .filter(|kept| *kept <= limit)
        .ok_or_else(|| Error::limit("spool", limit, format_args!("a SquashFS of {claimed} bytes in a stream")))?;
    let mut copy = nameless(directory).map_err(|error| unkept(error, directory, kept))?;
    let mut left = kept;
    let mut take = |bytes: &[u8]| {
        hasher.update(bytes);
        let part = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
        copy.write_all(&bytes[..part]).map_err(|error| unkept(error, directory, kept))?;
        left -= part as u64;
        pass.monitor.report(pass.phase, hasher.bytes(), pass.total)
    };
    take(&head)?;
    let mut buffer = vec![0; 256 << 10];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(copy),
            Ok(count) => take(&buffer[..count])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(unread(error)),
        }
    }
}

/// A file without a name, which the kernel removes with its last descriptor, whatever happens to
/// this process. Where the file system has no `O_TMPFILE`, the file is made and unlinked at once.
pub(crate) fn nameless(directory: &Path) -> io::Result<File> {
    let (flags, mode) = (OFlags::RDWR | OFlags::CLOEXEC, Mode::from_raw_mode(0o600));
    match fs::openat(CWD, directory, flags | OFlags::TMPFILE, mode) {
        // The file system, or the kernel, can't.
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL | Errno::NOENT) => {}
        opened => return Ok(File::from(opened?)),
    }
    let name = staging_name(b"spool");
    let path = directory.join(std::str::from_utf8(&name).unwrap_or("spool"));
    let file = fs::openat(CWD, &path, flags | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW, mode)?;
    fs::unlinkat(CWD, &path, AtFlags::empty())?;
    Ok(File::from(file))
}

/// The error for a copy that can't be written, with the number of bytes that it needs.
fn unkept(error: io::Error, directory: &Path, bytes: u64) -> Error {
    Error::io("the stream can't be kept here while it is read", error).in_file(directory).with_hint(format!(
        "{bytes} bytes are needed: name a directory with more room in TMPDIR, or save the image to a file and name that"
    ))
}
