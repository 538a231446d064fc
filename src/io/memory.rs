//! [`ReadAt`] for buffers, and for pointers to other implementations. A buffer has no version:
//! nothing distinguishes it from another one.

use std::io;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use super::{ReadAt, Version};

impl ReadAt for [u8] {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let rest = usize::try_from(offset).ok().and_then(|start| self.get(start..)).unwrap_or_default();
        io::Read::read(&mut &*rest, buffer)
    }

    fn len(&self) -> u64 {
        <[u8]>::len(self) as u64
    }
}

impl ReadAt for Vec<u8> {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.as_slice().read_at(buffer, offset)
    }

    fn len(&self) -> u64 {
        ReadAt::len(self.as_slice())
    }
}

/// Forwards every method, so that the fast paths of the target are not lost.
macro_rules! hand_on {
    ($($pointer:ty),*) => {$(
        impl<T: ReadAt + ?Sized> ReadAt for $pointer {
            fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
                (**self).read_at(buffer, offset)
            }

            fn len(&self) -> u64 {
                ReadAt::len(&**self)
            }

            fn version(&self) -> io::Result<Option<Version>> {
                (**self).version()
            }

            fn reflink_to(&self, target: BorrowedFd<'_>) -> bool {
                (**self).reflink_to(target)
            }

            fn data_ranges(&self, min_hole: u64) -> io::Result<Option<Vec<Range<u64>>>> {
                (**self).data_ranges(min_hole)
            }
        }
    )*};
}

hand_on!(&T, Arc<T>, Box<T>);
