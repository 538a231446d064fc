//! Computing fingerprints in one pass: [`Hasher`] for bytes as they come, [`VerifyingReader`]
//! around a reader.
//!
//! Images are gigabytes large, so they are never read a second time only to be hashed: whoever
//! decodes, stores or sends an image feeds the same bytes to a hasher. A split image has one
//! fingerprint; feed the metadata's bytes, then the rootfs's, to the same hasher.

use std::fmt;
use std::io::Read;

use sha2::{Digest, Sha256};

use super::Fingerprint;
use crate::error::{Error, Result};

/// Computes a [`Fingerprint`] of bytes that come in pieces of any size.
///
/// Feed it the bytes of the image in order. Cloning one forks the computation, which is how a split
/// image's metadata is hashed once for several root file systems.
///
/// ```
/// use lxd_image::{Fingerprint, Hasher};
///
/// let mut hasher = Hasher::new();
/// hasher.update(b"meta");
/// hasher.update(b"data");
/// assert_eq!(hasher.bytes(), 8);
/// assert_eq!(hasher.finish(), Fingerprint::of(b"metadata"));
/// ```
#[derive(Clone, Default)]
pub struct Hasher {
    digest: Sha256,
    bytes: u64,
}

impl Hasher {
    /// Creates a hasher without any input. [`finish`](Self::finish) would give the digest of no
    /// bytes.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Hashes the next bytes. The sizes of the pieces have no effect on the result.
    pub fn update(&mut self, bytes: &[u8]) {
        self.digest.update(bytes);
        self.bytes = self.bytes.saturating_add(bytes.len() as u64);
    }

    /// Hashes everything up to the end of `reader` and returns the number of bytes read.
    ///
    /// Reads 256 KiB at a time, so wrapping the reader in a `BufReader` gains nothing. Interrupted
    /// reads (`EINTR`) are retried.
    ///
    /// ```
    /// use lxd_image::{Fingerprint, Hasher};
    ///
    /// let mut hasher = Hasher::new();
    /// assert_eq!(hasher.read_all(&b"metadata"[..])?, 8);
    /// assert_eq!(hasher.finish(), Fingerprint::of(b"metadata"));
    /// # Ok::<(), lxd_image::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Io` if the reader fails. Bytes read before that stay hashed.
    pub fn read_all(&mut self, mut reader: impl Read) -> Result<u64> {
        let mut buffer = vec![0; 256 << 10];
        let mut total: u64 = 0;
        loop {
            match reader.read(&mut buffer) {
                Ok(0) => return Ok(total),
                Ok(count) => {
                    self.update(&buffer[..count]);
                    total = total.saturating_add(count as u64);
                }
                // A signal handler ran; POSIX read(2) transferred nothing and may be repeated.
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::io("the image can't be read", error)),
            }
        }
    }

    /// The number of bytes hashed so far.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns the fingerprint of everything hashed so far.
    #[must_use]
    pub fn finish(self) -> Fingerprint {
        Fingerprint::from_bytes(self.digest.finalize().into())
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hasher").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

/// A reader that reaches its end only if the bytes read have the expected size and digest.
///
/// The `read` that would return 0 fails with `Mismatch` instead when the bytes are not the expected
/// ones. A `read` that goes past the expected size fails at once: at most one buffer beyond it is
/// taken from the source, so a server that sends endless data is cut off. Data is handed out before
/// it is verified: do not act on it until the reader has reached its end, or call
/// [`finish`](Self::finish) first.
///
/// ```
/// use std::io::Read;
///
/// use lxd_image::{ErrorKind, Fingerprint, VerifyingReader};
///
/// let expected = Fingerprint::of(b"image");
/// let mut text = String::new();
/// VerifyingReader::new(&b"image"[..], Some(5), expected).read_to_string(&mut text)?;
/// assert_eq!(text, "image");
///
/// let error = VerifyingReader::new(&b"other"[..], Some(5), expected).finish().unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::Mismatch);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct VerifyingReader<R> {
    inner: R,
    /// `None` once the end was verified or the size exceeded. Any byte after that is an error.
    hasher: Option<Hasher>,
    size: Option<u64>,
    expected: Fingerprint,
}

impl<R: Read> VerifyingReader<R> {
    /// Wraps `inner`, which must yield exactly `size` bytes (any number, if `None`) with the digest
    /// `expected`.
    pub fn new(inner: R, size: Option<u64>, expected: Fingerprint) -> Self {
        Self { inner, hasher: Some(Hasher::new()), size, expected }
    }

    /// Reads and discards the rest of the source, verifies the whole, and returns the fingerprint.
    ///
    /// # Errors
    /// `Mismatch` with the expected and the actual value if size or digest differ; `Io` if the
    /// source fails.
    pub fn finish(mut self) -> Result<Fingerprint> {
        let mut buffer = vec![0; 64 << 10];
        while self.read(&mut buffer)? > 0 {}
        Ok(self.expected)
    }

    /// Compares size and digest at the end of the source. Later calls do nothing: the result was
    /// reported.
    fn conclude(&mut self) -> Result<()> {
        let Some(hasher) = self.hasher.take() else { return Ok(()) };
        if let Some(size) = self.size
            && size != hasher.bytes()
        {
            return Err(Error::mismatch("the size in bytes", size.to_string(), hasher.bytes().to_string()));
        }
        let found = hasher.finish();
        if found != self.expected {
            return Err(Error::mismatch("the fingerprint", self.expected.to_string(), found.to_string()));
        }
        Ok(())
    }
}

impl<R: Read> Read for VerifyingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let count = self.inner.read(buffer)?;
        if count == 0 {
            self.conclude()?;
            return Ok(0);
        }
        let Some(hasher) = self.hasher.as_mut() else {
            return Err(Error::mismatch("the size in bytes", "the end of the data", "more bytes").into());
        };
        hasher.update(&buffer[..count]);
        if let Some(size) = self.size
            && hasher.bytes() > size
        {
            // Without a hasher every later read fails too. A caller that ignores this error must
            // not get the rest.
            self.hasher = None;
            return Err(Error::mismatch("the size in bytes", size.to_string(), format!("more than {size}")).into());
        }
        Ok(count)
    }
}

/// Writes to another writer, and hashes what that took.
#[cfg(feature = "simplestreams")]
#[derive(Debug)]
pub(crate) struct HashingWriter<W> {
    pub(crate) inner: W,
    pub(crate) hasher: Hasher,
}

#[cfg(feature = "simplestreams")]
impl<W: std::io::Write> HashingWriter<W> {
    pub(crate) fn new(inner: W) -> Self {
        Self { inner, hasher: Hasher::new() }
    }
}

#[cfg(feature = "simplestreams")]
impl<W: std::io::Write> std::io::Write for HashingWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.hasher.update(bytes.get(..count).unwrap_or_default());
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}
