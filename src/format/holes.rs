//! Holes in files: found where the file system knows them, and made in disks where only zeros would
//! be written.
//!
//! A disk of 100 GiB may hold 1 GiB; written out it would not fit. Files of a rootfs keep exactly
//! the holes that the image has, since a swap file must have none and a tree that is packed again
//! must give the same bytes.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use super::chunk::Chunk;
use super::tar::SparseMap;
use crate::error::{Error, ErrorKind, Result};
use crate::io::{self, Blob, ReadAt};
use crate::progress::Monitor;

/// Zeros are left out in pieces of this size, aligned by offset: a multiple of every file system's
/// block, and large enough that data which is nearly contiguous is not torn into many pieces.
const GRAIN_BYTES: usize = 16 << 10;

/// Where a file of `size` bytes has data, if it has holes that the file system knows of.
///
/// # Errors
/// `Io`.
pub(crate) fn of_file(file: &File, size: u64) -> Result<Option<SparseMap>> {
    map(io::data_ranges(file, size, GRAIN_BYTES as u64), size)
}

/// As [`of_file`], of bytes wherever they lie.
///
/// # Errors
/// `Io`.
pub(crate) fn of_blob(blob: &Blob, size: u64) -> Result<Option<SparseMap>> {
    map(blob.data_ranges(GRAIN_BYTES as u64), size)
}

/// Ranges as a map. Those of another engine may be anything: they are put in order and cut at `size`.
fn map(found: std::io::Result<Option<Vec<Range<u64>>>>, size: u64) -> Result<Option<SparseMap>> {
    let found = found.map_err(|error| Error::io("a file's holes can't be found", error))?;
    let Some(mut ranges) = found else { return Ok(None) };
    ranges.sort_unstable_by_key(|range| range.start);
    let mut segments: Vec<(u64, u64)> = Vec::new();
    for range in ranges {
        let (start, end) = (range.start.min(size), range.end.min(size));
        match segments.last_mut() {
            // Each segment costs a line in a map.
            Some((first, length)) if start.saturating_sub(first.saturating_add(*length)) < GRAIN_BYTES as u64 => {
                *length = (*length).max(end.saturating_sub(*first));
            }
            _ if start < end => segments.push((start, end - start)),
            _ => {}
        }
    }
    Ok((size > 0 && segments != [(0, size)]).then_some(SparseMap { segments, size }))
}

/// Where a file of `size` bytes holds anything but zeros, whatever the file system stores: the same
/// bytes give the same answer, and so the same archive.
///
/// # Errors
/// `Io`, `Cancelled`.
pub(crate) fn of_content(blob: &Blob, size: u64, monitor: &Monitor) -> Result<Option<SparseMap>> {
    let stored = of_blob(blob, size)?.map_or_else(|| vec![(0, size)], |map| map.segments);
    let mut found: Vec<(u64, u64)> = Vec::new();
    let mut buffer = vec![0; READ_BYTES];
    let mut at = 0;
    for (start, length) in stored {
        let end = start.saturating_add(length);
        // Whole grains, so that it does not matter where the file system's own blocks end.
        at = at.max(start - start % GRAIN_BYTES as u64);
        while at < end {
            monitor.check()?;
            let count = usize::try_from(size - at).unwrap_or(READ_BYTES).min(READ_BYTES);
            let bytes = buffer.split_at_mut(count).0;
            blob.read_exact_at(bytes, at)?;
            for grain in bytes.chunks(GRAIN_BYTES) {
                let next = at.saturating_add(grain.len() as u64);
                if at < end && !is_zero(grain) {
                    add(&mut found, at, next, MIN_HOLE_BYTES);
                }
                if at < end {
                    at = next;
                }
            }
        }
    }
    let mut gap = MIN_HOLE_BYTES;
    while found.len() > MAX_SEGMENTS {
        gap *= 2;
        let all = std::mem::take(&mut found);
        all.into_iter().for_each(|(start, length)| add(&mut found, start, start + length, gap));
    }
    Ok((found != [(0, size)]).then_some(SparseMap { segments: found, size }))
}

/// Bytes that are read at once.
const READ_BYTES: usize = 1 << 20;
/// Zeros that are stored rather than recorded as a hole, since each hole costs a line in the map.
const MIN_HOLE_BYTES: u64 = 64 << 10;
/// Segments of a map at most; readers limit them. Larger gaps are merged until it fits.
const MAX_SEGMENTS: usize = 200_000;

/// Adds data from `start` to `end`, to the last segment if no more than `gap` lies between.
fn add(segments: &mut Vec<(u64, u64)>, start: u64, end: u64, gap: u64) {
    match segments.last_mut() {
        Some((first, length)) if start - (*first + *length) < gap => *length = end - *first,
        _ => segments.push((start, end - start)),
    }
}

/// Writes `bytes` to a file that holds nothing there yet, and leaves a hole in place of zeros.
/// Returns how many were written; the caller sets the size at the end.
///
/// # Errors
/// What writing fails with.
pub(crate) fn write(file: &File, bytes: &[u8], offset: u64) -> std::io::Result<u64> {
    let mut written = 0;
    let mut put = |from: usize, to: usize| {
        if from < to {
            file.write_all_at(&bytes[from..to], offset.saturating_add(from as u64))?;
            written += (to - from) as u64;
        }
        Ok::<_, std::io::Error>(())
    };
    let (mut at, mut owed) = (0, 0);
    while at < bytes.len() {
        let within = (offset.wrapping_add(at as u64) % GRAIN_BYTES as u64) as usize;
        let end = bytes.len().min(at + GRAIN_BYTES - within);
        if is_zero(&bytes[at..end]) {
            put(owed, at)?;
            owed = end;
        }
        at = end;
    }
    put(owed, bytes.len())?;
    Ok(written)
}

/// Whether all bytes are zero.
pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    // A fold over words of a chunk becomes vector instructions; a chunk that is not zero ends it.
    bytes.chunks(1024).all(|chunk| chunk.iter().fold(0, |all, byte| all | byte) == 0)
}

/// Passes on the data of a sparse file and drops its holes, from a stream of all of its bytes.
pub(crate) struct SegmentFilter<'a> {
    left: std::iter::Peekable<std::slice::Iter<'a, (u64, u64)>>,
}

impl<'a> SegmentFilter<'a> {
    pub(crate) fn new(map: &'a SparseMap) -> Self {
        Self { left: map.segments.iter().peekable() }
    }

    /// Passes the parts of `chunk`, which stands at `offset`, that lie in segments. Chunks have to
    /// come in order.
    pub(crate) fn take(
        &mut self,
        offset: u64,
        chunk: &Chunk,
        take: &mut dyn FnMut(u64, Chunk) -> Result<()>,
    ) -> Result<()> {
        let mut at = 0;
        while at < chunk.len() {
            let place = offset.saturating_add(at as u64);
            let (until, is_data) = match self.left.peek() {
                None => (u64::MAX, false),
                Some((start, _)) if place < *start => (*start, false),
                Some((start, length)) if place < start.saturating_add(*length) => (start.saturating_add(*length), true),
                Some(_) => {
                    self.left.next();
                    continue;
                }
            };
            let count = usize::try_from(until - place).unwrap_or(usize::MAX).min(chunk.len() - at);
            let piece = chunk.slice(at..at + count);
            if is_data {
                take(place, piece)?;
            } else if !is_zero(&piece) {
                return Err(Error::new(ErrorKind::Io, "the file was changed while it was read"));
            }
            at += count;
        }
        Ok(())
    }
}
