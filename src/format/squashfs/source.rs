//! Where the bytes of an image come from: anything that can be read at a position.
//! Shared between threads, so there is no cursor; every read names its place.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use crate::error::{Error, Result};

/// Bytes that can be read at any position, by several threads at once.
pub(crate) trait ReadAt: Send + Sync {
    /// Fills `buffer` with what stands at `offset`; fewer bytes are an error.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> Result<()>;

    /// How many bytes there are.
    fn len(&self) -> Result<u64>;
}

impl ReadAt for File {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        FileExt::read_exact_at(self, buffer, offset).map_err(|source| {
            if source.kind() == std::io::ErrorKind::UnexpectedEof {
                cut(offset)
            } else {
                Error::io("the image can't be read", source).at_offset(offset)
            }
        })
    }

    fn len(&self) -> Result<u64> {
        Ok(self.metadata().map_err(|source| Error::io("the image's size can't be read", source))?.len())
    }
}

impl ReadAt for [u8] {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        let bytes = usize::try_from(offset)
            .ok()
            .and_then(|start| self.get(start..start.checked_add(buffer.len())?))
            .ok_or_else(|| cut(offset))?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }

    fn len(&self) -> Result<u64> {
        Ok(<[u8]>::len(self) as u64)
    }
}

impl ReadAt for Vec<u8> {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        self.as_slice().read_exact_at(buffer, offset)
    }

    fn len(&self) -> Result<u64> {
        ReadAt::len(self.as_slice())
    }
}

impl<T: ReadAt + ?Sized> ReadAt for &T {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        (**self).read_exact_at(buffer, offset)
    }

    fn len(&self) -> Result<u64> {
        ReadAt::len(&**self)
    }
}

impl<T: ReadAt + ?Sized> ReadAt for Arc<T> {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        (**self).read_exact_at(buffer, offset)
    }

    fn len(&self) -> Result<u64> {
        ReadAt::len(&**self)
    }
}

fn cut(offset: u64) -> Error {
    Error::malformed("the image ends early").at_offset(offset)
}
