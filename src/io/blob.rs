//! [`Blob`]: a cheap handle to bytes at rest, which hides the backend that holds them.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use super::local::LocalFile;
use super::{ReadAt, Version};

/// A handle to bytes at rest, in whatever backend. A clone is the same bytes, opened once.
///
/// ```
/// use std::io::Read;
///
/// use lxd_image::io::{Blob, ReadAt};
///
/// let blob = Blob::from(b"some bytes".to_vec());
/// let mut tail = String::new();
/// blob.reader_from(5, 100).read_to_string(&mut tail)?;
/// assert_eq!((tail.as_str(), blob.len()), ("bytes", 10));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone)]
pub struct Blob(Arc<dyn ReadAt>);

impl Blob {
    /// Wraps any [`ReadAt`].
    #[must_use]
    pub fn new(source: impl ReadAt + 'static) -> Self {
        Self(Arc::new(source))
    }

    /// Wraps a regular file of this machine. It is read at positions, so its own position does not
    /// matter and does not change.
    ///
    /// # Errors
    /// `InvalidInput` for a pipe, a device or a directory; those of the operating system.
    pub fn file(file: File) -> io::Result<Self> {
        LocalFile::new(file).map(Self::new)
    }

    /// Reads all bytes from the beginning.
    #[must_use]
    pub fn reader(&self) -> BlobReader {
        self.reader_from(0, u64::MAX)
    }

    /// Reads up to `length` bytes from `offset` on. The reader ends where the bytes do.
    #[must_use]
    pub fn reader_from(&self, offset: u64, length: u64) -> BlobReader {
        BlobReader { blob: self.clone(), offset, end: offset.saturating_add(length) }
    }

    /// Whether the other is a clone of this one. Equal bytes that were opened twice are not.
    #[must_use]
    pub fn ptr_eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl ReadAt for Blob {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let room = buffer.len();
        let count = self.0.read_at(buffer, offset)?;
        // All callers slice their buffers at this number: a defective backend must not make them panic.
        if count > room {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "more bytes were read than there was room for"));
        }
        Ok(count)
    }

    fn len(&self) -> u64 {
        self.0.len()
    }

    fn version(&self) -> io::Result<Option<Version>> {
        self.0.version()
    }

    fn reflink_to(&self, target: BorrowedFd<'_>) -> bool {
        self.0.reflink_to(target)
    }

    fn data_ranges(&self, min_hole: u64) -> io::Result<Option<Vec<Range<u64>>>> {
        self.0.data_ranges(min_hole)
    }
}

impl From<Vec<u8>> for Blob {
    fn from(bytes: Vec<u8>) -> Self {
        Self::new(bytes)
    }
}

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Blob").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// Reads a [`Blob`] sequentially. Each reader has a position of its own.
#[derive(Debug)]
pub struct BlobReader {
    blob: Blob,
    offset: u64,
    end: u64,
}

impl Read for BlobReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end.saturating_sub(self.offset)).unwrap_or(usize::MAX);
        let room = left.min(buffer.len());
        let count = self.blob.read_at(buffer.get_mut(..room).unwrap_or_default(), self.offset)?;
        self.offset = self.offset.saturating_add(count as u64);
        Ok(count)
    }
}
