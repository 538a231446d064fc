//! Hashing in one pass: `Hasher` for bytes as they come, `VerifyingReader` around a reader.
//! A split image is hashed by feeding the metadata's bytes, then the rootfs's, to one hasher.

use std::fmt;
use std::io::Read;

use sha2::{Digest, Sha256};

use super::Fingerprint;
use crate::error::{Error, Result};

/// A fingerprint in the making. Feed it the bytes of the image in order.
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
    /// A hasher that has seen nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.digest.update(bytes);
        self.bytes = self.bytes.saturating_add(bytes.len() as u64);
    }

    /// Takes all that a reader gives.
    ///
    /// # Errors
    /// Those of the reader, as `Io`.
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
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::io("the image can't be read", error)),
            }
        }
    }

    /// How many bytes it has seen.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The fingerprint of what it has seen.
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

/// A reader that ends well only if what came through it has the expected size and digest.
///
/// The last `read` that would return 0 fails with `Mismatch` instead when the bytes are not the
/// expected ones, and a read that goes past the expected size fails at once: no more than one
/// buffer beyond it is ever taken from the source. Read to the end, or call
/// [`finish`](Self::finish), before trusting what was read.
#[derive(Debug)]
pub struct VerifyingReader<R> {
    inner: R,
    hasher: Option<Hasher>,
    size: Option<u64>,
    expected: Fingerprint,
}

impl<R: Read> VerifyingReader<R> {
    /// Wraps `inner`, which must give exactly `size` bytes (any number, if `None`) with the digest `expected`.
    pub fn new(inner: R, size: Option<u64>, expected: Fingerprint) -> Self {
        Self { inner, hasher: Some(Hasher::new()), size, expected }
    }

    /// Reads what is left and says whether all of it was as expected.
    ///
    /// # Errors
    /// `Mismatch` with both values, or the reader's own.
    pub fn finish(mut self) -> Result<Fingerprint> {
        let mut buffer = vec![0; 64 << 10];
        while self.read(&mut buffer)? > 0 {}
        Ok(self.expected)
    }

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
            self.hasher = None;
            return Err(Error::mismatch("the size in bytes", size.to_string(), format!("more than {size}")).into());
        }
        Ok(count)
    }
}
