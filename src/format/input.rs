//! Where an image's bytes come from: bytes at rest, which can be read at any position, and streams,
//! which pass once.
//!
//! [`Input`] is one file, [`ImageSource`] the one or two files of an image. Recognising an image
//! has to look at the first bytes; for a stream these are kept (up to a bound) and returned again
//! by the reader that follows.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::OFlags;

use super::cancellable::{CancelSet, CancellableStream, ReaderThread};
use crate::error::{Error, ErrorKind, Result};
use crate::io::{Blob, ReadAt};
use crate::progress::Cancel;

/// One file of an image: a path, an open file, a blob of a store, a pipe, or any reader.
///
/// Files and blobs are read at positions, and may be read several times. Streams are read once:
/// after a look at their first bytes ([`Image::open`](super::Image::open)) one call may read them
/// to the end. SquashFS needs positions, so a SquashFS that comes as a stream is copied to a
/// temporary file.
///
/// ```
/// use lxd_image::format::Input;
///
/// let input = Input::stream(std::io::Cursor::new(vec![0_u8; 512])).named("download.tar");
/// assert_eq!(input.len(), None);
/// assert_eq!(input.name(), Some(std::path::Path::new("download.tar")));
/// ```
pub struct Input {
    bytes: InputBytes,
    /// The name for errors.
    name: Option<PathBuf>,
    /// The probable length of a stream.
    announced: Option<u64>,
    /// Stops every call that reads this input.
    cancel: Cancel,
}

/// The two kinds of sources.
enum InputBytes {
    /// Bytes that are read at positions.
    AtRest(Blob),
    /// A stream with what was read of it for a first look; `None` once a reader took it.
    Stream(Mutex<Option<PeekedStream>>),
}

/// A stream and the bytes that were already read from it.
struct PeekedStream {
    /// Bytes that were read for a first look.
    seen: Vec<u8>,
    rest: CancellableStream,
}

impl Input {
    /// Opens a file by its path. A pipe or a device is read as a stream.
    ///
    /// # Errors
    /// `NotFound`, or `Io` naming the file; `InvalidInput` for a directory.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        // A FIFO that nobody writes to yet is not waited for here, where nothing could end the wait.
        let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or(0);
        let file = File::options().read(true).custom_flags(flags).open(path).map_err(|error| {
            let kind = if error.kind() == std::io::ErrorKind::NotFound { ErrorKind::NotFound } else { ErrorKind::Io };
            Error::new(kind, "the file can't be opened").with_source(error).in_file(path)
        })?;
        let mut input = Self::file(file).map_err(|error| error.in_file(path))?;
        input.name = Some(path.to_path_buf());
        Ok(input)
    }

    /// Takes an open file. Its position does not matter.
    ///
    /// # Errors
    /// `Io`; `InvalidInput` for a directory.
    pub fn file(file: File) -> Result<Self> {
        let about = file.metadata().map_err(|error| Error::io("the file can't be read", error))?;
        if about.is_dir() {
            return Err(Error::invalid("this is a directory, and an image is one file or two"));
        }
        if !about.is_file() {
            return Ok(Self::once(CancellableStream::Descriptor(file)));
        }
        Ok(Self::blob(Blob::file(file).map_err(|error| Error::io("the file can't be read", error))?))
    }

    /// Takes bytes at rest, wherever they lie: in a store, in memory, on another machine.
    #[must_use]
    pub fn blob(blob: Blob) -> Self {
        Self { bytes: InputBytes::AtRest(blob), name: None, announced: None, cancel: Cancel::new() }
    }

    /// Takes a stream, which can be read once. It is read on a thread of its own, so that
    /// cancellation need not wait for it: a `reader` that never returns is left behind with that
    /// thread.
    #[must_use]
    pub fn stream(reader: impl Read + Send + 'static) -> Self {
        Self::once(CancellableStream::Detached(ReaderThread::new(reader)))
    }

    /// Takes a stream as [`stream`](Self::stream) does, and never returns to the caller while
    /// `reader` is at work: for readers that end their own waits when the call is cancelled, or
    /// that use what the caller frees afterwards.
    #[must_use]
    pub fn attached_stream(reader: impl Read + Send + 'static) -> Self {
        Self::once(CancellableStream::Attached(Box::new(reader)))
    }

    /// Takes an open descriptor as a stream, from where it stands: a pipe, a socket, standard
    /// input. Cancellation ends a wait for its bytes, and leaves nothing behind.
    #[must_use]
    pub fn descriptor(fd: impl Into<OwnedFd>) -> Self {
        Self::once(CancellableStream::Descriptor(File::from(fd.into())))
    }

    fn once(rest: CancellableStream) -> Self {
        let peeked = PeekedStream { seen: Vec::new(), rest };
        Self { bytes: InputBytes::Stream(Mutex::new(Some(peeked))), name: None, announced: None, cancel: Cancel::new() }
    }

    /// Stops whatever reads this input when `cancel` is switched on, also calls that take no
    /// [`Monitor`](crate::Monitor), such as [`Image::open`](super::Image::open).
    #[must_use]
    pub fn with_cancel(mut self, cancel: Cancel) -> Self {
        self.cancel = cancel;
        self
    }

    /// The switch of [`with_cancel`](Self::with_cancel).
    pub(crate) fn cancel(&self) -> &Cancel {
        &self.cancel
    }

    /// The name to show in errors.
    #[must_use]
    pub fn named(mut self, name: impl Into<PathBuf>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// How long a stream will probably be, in bytes: for progress only.
    #[must_use]
    pub fn announced(mut self, bytes: u64) -> Self {
        self.announced = Some(bytes);
        self
    }

    /// The length in bytes, or what was announced of it.
    pub(crate) fn probable_len(&self) -> Option<u64> {
        self.len().or(self.announced)
    }

    /// The file's name, where it is known.
    #[must_use]
    pub fn name(&self) -> Option<&Path> {
        self.name.as_deref()
    }

    /// The length in bytes, where it is known before reading.
    #[must_use]
    pub fn len(&self) -> Option<u64> {
        match &self.bytes {
            InputBytes::AtRest(blob) => Some(blob.len()),
            InputBytes::Stream(_) => None,
        }
    }

    /// Whether the file is known to hold nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == Some(0)
    }

    /// Adds this file's name to an error that has none.
    pub(crate) fn name_error(&self, error: Error) -> Error {
        match &self.name {
            Some(name) => error.in_file(name),
            None => error,
        }
    }

    /// The bytes, where they are at rest: for formats that are read at positions.
    pub(crate) fn as_blob(&self) -> Option<&Blob> {
        match &self.bytes {
            InputBytes::AtRest(blob) => Some(blob),
            InputBytes::Stream(_) => None,
        }
    }

    /// All bytes from the start, until `cancel` is switched on.
    ///
    /// # Errors
    /// `InvalidInput` when a stream was read before.
    pub(crate) fn reader(&self, cancel: &Cancel) -> Result<InputReader<'_>> {
        let cancels = CancelSet::of([&self.cancel, cancel]);
        match &self.bytes {
            InputBytes::AtRest(blob) => Ok(InputReader { cancels, bytes: ReadPosition::At { blob, offset: 0 } }),
            InputBytes::Stream(state) => {
                let peeked = state.lock().unwrap_or_else(PoisonError::into_inner).take();
                let PeekedStream { seen, rest } = peeked.ok_or_else(|| {
                    Error::invalid("this image is a stream, which can be read only once")
                        .with_hint("save it to a file first")
                })?;
                Ok(InputReader { cancels, bytes: ReadPosition::Stream { seen, at: 0, rest } })
            }
        }
    }

    /// Lets `look` read from the start, and forgets that it did.
    pub(crate) fn peek<T>(&self, look: impl FnOnce(&mut (dyn Read + Send)) -> Result<T>) -> Result<T> {
        let cancels = CancelSet::of([&self.cancel]);
        match &self.bytes {
            InputBytes::AtRest(blob) => look(&mut InputReader { cancels, bytes: ReadPosition::At { blob, offset: 0 } }),
            InputBytes::Stream(state) => {
                let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
                let Some(peeked) = state.as_mut() else {
                    return Err(Error::invalid("this image is a stream, which was read already"));
                };
                let mut at = 0;
                look(&mut RecordingReader { peeked, at: &mut at, cancels })
            }
        }
    }
}

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Input").field("name", &self.name).field("len", &self.probable_len()).finish_non_exhaustive()
    }
}

/// Reads all bytes of an input once, from the start.
pub(crate) struct InputReader<'a> {
    cancels: CancelSet,
    bytes: ReadPosition<'a>,
}

/// How far an [`InputReader`] is.
enum ReadPosition<'a> {
    At { blob: &'a Blob, offset: u64 },
    Stream { seen: Vec<u8>, at: usize, rest: CancellableStream },
}

impl Read for InputReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match &mut self.bytes {
            ReadPosition::At { blob, offset } => {
                self.cancels.check()?;
                let count = blob.read_at(buffer, *offset)?;
                *offset += count as u64;
                Ok(count)
            }
            ReadPosition::Stream { seen, at, rest } => {
                let front = seen.get(*at..).unwrap_or_default();
                if front.is_empty() {
                    if !seen.is_empty() {
                        *seen = Vec::new();
                        *at = 0;
                    }
                    return rest.read(buffer, &self.cancels);
                }
                let count = front.len().min(buffer.len());
                buffer[..count].copy_from_slice(&front[..count]);
                *at += count;
                Ok(count)
            }
        }
    }
}

/// Bytes of a stream that are kept for a second look at most, since memory must not grow with the
/// image.
const MAX_PEEKED_BYTES: usize = 32 << 20;

/// Reads a stream and keeps what was read, so that a later reader starts from the beginning.
struct RecordingReader<'a> {
    peeked: &'a mut PeekedStream,
    at: &'a mut usize,
    cancels: CancelSet,
}

impl Read for RecordingReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if *self.at == self.peeked.seen.len() {
            if *self.at >= MAX_PEEKED_BYTES {
                return Err(Error::invalid(
                    "the answer lies too far behind in this image to be looked for in a stream",
                )
                .with_hint("save it to a file first")
                .into());
            }
            let count = self.peeked.rest.read(buffer, &self.cancels)?;
            self.peeked.seen.extend_from_slice(&buffer[..count]);
            *self.at += count;
            return Ok(count);
        }
        let front = self.peeked.seen.get(*self.at..).unwrap_or_default();
        let count = front.len().min(buffer.len());
        buffer[..count].copy_from_slice(&front[..count]);
        *self.at += count;
        Ok(count)
    }
}

/// The one or two files of an image, before anything is known of them.
///
/// ```no_run
/// use lxd_image::format::{Image, ImageSource, Input};
///
/// let unified = Image::open(ImageSource::open("debian.tar.xz", None)?)?;
/// let split = Image::open(ImageSource::split(Input::open("meta.tar.xz")?, Input::open("rootfs.squashfs")?))?;
/// # Ok::<(), lxd_image::Error>(())
/// ```
#[derive(Debug)]
pub struct ImageSource {
    pub(crate) first: Input,
    pub(crate) second: Option<Input>,
}

impl ImageSource {
    /// An image in one file.
    #[must_use]
    pub fn unified(image: Input) -> Self {
        Self { first: image, second: None }
    }

    /// An image in two files, metadata and rootfs. They may be given in either order; their content
    /// tells which is which.
    #[must_use]
    pub fn split(one: Input, other: Input) -> Self {
        Self { first: one, second: Some(other) }
    }

    /// Opens one file or two by their paths.
    ///
    /// # Errors
    /// Those of [`Input::open`].
    pub fn open(image: impl AsRef<Path>, rootfs: Option<&Path>) -> Result<Self> {
        Ok(Self { first: Input::open(image)?, second: rootfs.map(Input::open).transpose()? })
    }
}
