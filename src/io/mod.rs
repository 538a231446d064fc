//! Bytes at rest: files, objects of a remote store, buffers. Read at positions, by several threads at once.
//!
//! [`ReadAt`] is the trait that a storage engine implements, [`Blob`] the handle that this library
//! carries: an image can be opened, verified, unpacked, converted and served from any of them.
//! Bytes that pass only once are streams, see [`Input::stream`](crate::format::Input::stream).
//!
//! ```
//! use std::io;
//! use std::sync::Arc;
//! use std::sync::atomic::{AtomicU64, Ordering};
//!
//! use lxd_image::Monitor;
//! use lxd_image::Metadata;
//! use lxd_image::format::{Image, Input, PackOptions, Rootfs, ImageSource, pack};
//! use lxd_image::io::{Blob, ReadAt, Version};
//!
//! /// An object of a bucket. Here the bucket is a buffer; a real one would send a ranged `GET`.
//! struct Object {
//!     bytes: Vec<u8>,
//!     etag: &'static str,
//!     requests: Arc<AtomicU64>,
//! }
//!
//! impl ReadAt for Object {
//!     fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
//!         self.requests.fetch_add(1, Ordering::Relaxed);
//!         self.bytes.read_at(buffer, offset)
//!     }
//!
//!     fn len(&self) -> u64 {
//!         self.bytes.len() as u64
//!     }
//!
//!     fn version(&self) -> io::Result<Option<Version>> {
//!         Ok(Some(Version::new(format!("{} {}", self.etag, self.bytes.len()))))
//!     }
//! }
//!
//! # let dir = std::env::temp_dir().join(format!("lxd-image-doc-io-{}", std::process::id()));
//! # std::fs::create_dir_all(dir.join("root"))?;
//! # let metadata = Metadata::new("x86_64", 1_700_000_000)?;
//! # pack(&Rootfs::open(dir.join("root"))?, dir.join("box.tar.gz"), &PackOptions::new(metadata), &Monitor::none())?;
//! # let bytes = std::fs::read(dir.join("box.tar.gz"))?;
//! let requests = Arc::new(AtomicU64::new(0));
//! let object = Object { bytes, etag: "\"5d41402a\"", requests: Arc::clone(&requests) };
//! let image = Image::open(ImageSource::unified(Input::blob(Blob::new(object))))?;
//! assert_eq!(image.metadata()?.architecture(), "x86_64");
//! assert!(requests.load(Ordering::Relaxed) > 0);
//! # std::fs::remove_dir_all(&dir)?;
//! # Ok::<(), lxd_image::Error>(())
//! ```

mod blob;
mod local;
mod memory;

use std::io;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

pub use self::blob::{Blob, BlobReader};
pub(crate) use self::local::data_ranges;
use crate::error::{Error, Result};

/// Bytes that can be read at any position, by several threads at once.
///
/// An implementation may be a local file, a buffer, or an object that is fetched with ranged
/// requests. Reads may be slow; one that can hang must end by itself, with an error, since callers
/// look for cancellation between reads and not inside of one.
///
/// The methods with a default are fast paths: an engine that has none leaves them out, and callers
/// read and write instead.
pub trait ReadAt: Send + Sync {
    /// Reads some bytes from `offset` on into `buffer`, and returns how many: 0 only at the end, or
    /// for an empty buffer. Fewer than asked for are allowed anywhere.
    ///
    /// # Errors
    /// Those of the engine. `Interrupted` makes callers try again. An [`Error`] of this library may
    /// travel inside of the [`io::Error`], and comes out with its own kind; all others become
    /// [`ErrorKind::Io`](crate::ErrorKind::Io).
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// How many bytes there were when this was opened.
    fn len(&self) -> u64;

    /// What tells the bytes as they are now from other ones: the same name with the same version
    /// holds the same bytes. `None` where the engine can't tell, and then nothing that depends on
    /// it is remembered or repaired.
    ///
    /// # Errors
    /// Those of asking the engine.
    fn version(&self) -> io::Result<Option<Version>> {
        Ok(None)
    }

    /// Whether there are no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills `buffer` with what stands at `offset`.
    ///
    /// # Errors
    /// `Malformed` when the bytes end before, those of [`read_at`](Self::read_at).
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.read_at(rest, offset.saturating_add(filled as u64)) {
                Ok(0) => return Err(Error::malformed("the image ends early").at_offset(offset)),
                Ok(count) => filled = filled.saturating_add(count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::io("the image can't be read", error).at_offset(offset)),
            }
        }
        Ok(())
    }

    /// Makes `target`, a new file of this machine, share the blocks of these bytes (a *reflink*).
    /// Returns whether it does; otherwise nothing was written, and the caller copies.
    fn reflink_to(&self, target: BorrowedFd<'_>) -> bool {
        let _ = target;
        false
    }

    /// Where there is data, in order, when it is known that all else is zeros. Holes shorter than
    /// `min_hole` may count as data. `None` when nothing is known of holes.
    ///
    /// # Errors
    /// Those of the engine.
    fn data_ranges(&self, min_hole: u64) -> io::Result<Option<Vec<Range<u64>>>> {
        let _ = min_hole;
        Ok(None)
    }
}

/// A token that changes whenever the bytes of a [`ReadAt`] may have changed. Only equality means
/// anything, and only between versions of one engine and one name.
///
/// For a local file it is made of device, inode, size and times, for an object of its etag and its length.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Version(Arc<[u8]>);

impl Version {
    /// A version from what the engine tells of the bytes.
    #[must_use]
    pub fn new(token: impl AsRef<[u8]>) -> Self {
        Self(token.as_ref().into())
    }
}

/// The size of the buffer that [`read_all`] and [`read_stream`] read into, in bytes.
const CHUNK_BYTES: usize = 256 << 10;

/// Reads a source from its start to its end and passes the bytes to `take`, in order, in chunks of up to 256 KiB.
///
/// `before` is called before each read with the number of bytes read so far: it reports progress,
/// and its error stops the call.
///
/// # Errors
/// Those of `before` and `take`; an error of reading becomes an `Io` error with the message `what`.
pub(crate) fn read_all(
    source: &(impl ReadAt + ?Sized),
    what: &'static str,
    before: &mut dyn FnMut(u64) -> Result<()>,
    take: &mut dyn FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    let is_retryable = |error: &io::Error| error.kind() == io::ErrorKind::Interrupted;
    read_chunks(&mut |buffer, offset| source.read_at(buffer, offset), &is_retryable, what, before, take)
}

/// As [`read_all`], for a stream. A stream that would block is read again: `before` says when to give up.
///
/// # Errors
/// As [`read_all`].
#[cfg(feature = "store")]
pub(crate) fn read_stream(
    reader: &mut dyn io::Read,
    what: &'static str,
    before: &mut dyn FnMut(u64) -> Result<()>,
    take: &mut dyn FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    let is_retryable =
        |error: &io::Error| matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock);
    read_chunks(&mut |buffer, _| reader.read(buffer), &is_retryable, what, before, take)
}

/// The loop of both: one place for the buffer, the retries and the order of calls.
fn read_chunks(
    read: &mut dyn FnMut(&mut [u8], u64) -> io::Result<usize>,
    is_retryable: &dyn Fn(&io::Error) -> bool,
    what: &'static str,
    before: &mut dyn FnMut(u64) -> Result<()>,
    take: &mut dyn FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut offset = 0;
    loop {
        before(offset)?;
        match read(&mut buffer, offset) {
            Ok(0) => return Ok(()),
            Ok(count) => {
                take(buffer.get(..count).unwrap_or_default())?;
                offset = offset.saturating_add(count as u64);
            }
            Err(error) if is_retryable(&error) => {}
            Err(error) => return Err(Error::io(what, error)),
        }
    }
}
