//! [`Pages`]: reads of a base at random places, through a small cache of its own: a delta copies from it in pieces of a few
//! bytes, and each would cost a call of the operating system, or a request to an object store.

use crate::error::Result;
use crate::io::{Blob, ReadAt};

/// Bytes of a page.
pub(super) const PAGE_BYTES: usize = 32 << 10;
/// Reads that are at least this long go past the cache.
const LARGE: usize = 8 << 10;
/// Pages that are kept, each at the place that its number gives.
const PAGES: usize = 256;

/// A reader of a base with a cache of 8 MiB.
pub(super) struct Pages {
    blob: Blob,
    length: u64,
    pages: Vec<Page>,
}

#[derive(Default)]
struct Page {
    number: u64,
    /// Empty until the page is first read.
    bytes: Vec<u8>,
}

impl Pages {
    pub(super) fn new(blob: &Blob) -> Self {
        let pages = std::iter::repeat_with(Page::default).take(PAGES).collect();
        Self { blob: blob.clone(), length: blob.len(), pages }
    }

    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Fills `buffer` with what stands at `offset`.
    ///
    /// # Errors
    /// As [`ReadAt::read_exact_at`].
    pub(super) fn read(&mut self, mut buffer: &mut [u8], mut offset: u64) -> Result<()> {
        if buffer.len() >= LARGE {
            return self.blob.read_exact_at(buffer, offset);
        }
        while !buffer.is_empty() {
            let page = self.at(offset)?;
            let count = page.len().min(buffer.len());
            let (part, rest) = buffer.split_at_mut(count);
            part.copy_from_slice(page.get(..count).unwrap_or_default());
            if count == 0 {
                // Past the end: the error of the blob says so.
                return self.blob.read_exact_at(rest, offset);
            }
            buffer = rest;
            offset = offset.saturating_add(count as u64);
        }
        Ok(())
    }

    /// What stands from `offset` to the end of its page; empty at the end of the base.
    ///
    /// # Errors
    /// As [`ReadAt::read_exact_at`].
    pub(super) fn at(&mut self, offset: u64) -> Result<&[u8]> {
        self.page(offset).map(|(bytes, at)| bytes.get(at..).unwrap_or_default())
    }

    /// The page that holds `offset`, and the place of `offset` in it.
    ///
    /// # Errors
    /// As [`ReadAt::read_exact_at`].
    pub(super) fn page(&mut self, offset: u64) -> Result<(&[u8], usize)> {
        if offset >= self.length {
            return Ok((&[], 0));
        }
        let number = offset / PAGE_BYTES as u64;
        let start = number * PAGE_BYTES as u64;
        let Some(page) = self.pages.get_mut((number % PAGES as u64) as usize) else { return Ok((&[], 0)) };
        if page.number != number || page.bytes.is_empty() {
            let length = (self.length - start).min(PAGE_BYTES as u64) as usize;
            page.number = number;
            page.bytes.resize(length, 0);
            if let Err(error) = self.blob.read_exact_at(&mut page.bytes, start) {
                page.bytes.clear();
                return Err(error);
            }
        }
        Ok((&page.bytes, (offset - start) as usize))
    }
}
