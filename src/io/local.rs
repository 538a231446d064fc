//! [`LocalFile`]: a regular file of this machine as bytes at rest, with the fast paths of its file
//! system: shared blocks (reflinks) and holes.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileExt, MetadataExt};

use rustix::fs::{self, SeekFrom};
use rustix::io::Errno;

use super::{ReadAt, Version};

/// A regular file, and its length when it was opened.
pub(super) struct LocalFile {
    file: File,
    length: u64,
}

impl LocalFile {
    /// Takes an open file; anything but a regular file is refused.
    pub(super) fn new(file: File) -> io::Result<Self> {
        let about = file.metadata()?;
        if !about.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "this is not a regular file"));
        }
        Ok(Self { file, length: about.len() })
    }
}

impl ReadAt for LocalFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(&self.file, buffer, offset)
    }

    fn len(&self) -> u64 {
        self.length
    }

    fn version(&self) -> io::Result<Option<Version>> {
        let about = self.file.metadata()?;
        // The inode change time cannot be set by programs: it reveals writes that reset the modification time.
        let numbers = [
            about.dev().to_le_bytes(),
            about.ino().to_le_bytes(),
            about.size().to_le_bytes(),
            about.mtime().to_le_bytes(),
            about.mtime_nsec().to_le_bytes(),
            about.ctime().to_le_bytes(),
            about.ctime_nsec().to_le_bytes(),
        ];
        Ok(Some(Version::new(numbers.as_flattened())))
    }

    fn reflink_to(&self, target: BorrowedFd<'_>) -> bool {
        // It fails across file systems and on those without reflinks; a real error shows up again while copying.
        fs::ioctl_ficlone(target, &self.file).is_ok()
    }

    fn data_ranges(&self, min_hole: u64) -> io::Result<Option<Vec<Range<u64>>>> {
        data_ranges(&self.file, self.length, min_hole)
    }
}

/// The ranges of data in a file of `size` bytes, if the file system knows of holes in it. Holes
/// shorter than `min_hole` are treated as data.
///
/// # Errors
/// Those of the operating system.
pub(crate) fn data_ranges(file: &File, size: u64, min_hole: u64) -> io::Result<Option<Vec<Range<u64>>>> {
    let stat = fs::fstat(file)?;
    let stored = u64::try_from(stat.st_blocks).unwrap_or(u64::MAX).saturating_mul(512);
    if stored >= size {
        return Ok(None);
    }
    // `lseek` moves the position, which the owner of the file may rely on: restore it.
    let before = fs::seek(file, SeekFrom::Current(0))?;
    let found = seek_data(file.as_fd(), size, min_hole);
    fs::seek(file, SeekFrom::Start(before))?;
    match found {
        Ok(ranges) => Ok(Some(ranges)),
        // A file system without SEEK_DATA.
        Err(Errno::INVAL | Errno::NOTSUP) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Walks through data and holes with `SEEK_DATA` and `SEEK_HOLE`.
fn seek_data(file: BorrowedFd<'_>, size: u64, min_hole: u64) -> rustix::io::Result<Vec<Range<u64>>> {
    let (mut ranges, mut at): (Vec<Range<u64>>, u64) = (Vec::new(), 0);
    while at < size {
        let start = match fs::seek(file, SeekFrom::Data(at)) {
            Err(Errno::NXIO) => break,
            start => start?,
        };
        if start >= size {
            break;
        }
        let end = fs::seek(file, SeekFrom::Hole(start))?.min(size);
        match ranges.last_mut() {
            Some(last) if start.saturating_sub(last.end) < min_hole => last.end = end,
            _ => ranges.push(start..end),
        }
        at = end;
    }
    Ok(ranges)
}
