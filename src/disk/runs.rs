//! [`Run`]: where the bytes of a part of a disk come from. Every format's tables become runs, so
//! that reading and converting know no format.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use super::claims::Claims;
use super::codec::PackedCodec;
use crate::error::Result;
use crate::io::{Blob, ReadAt};

/// A part of the disk with one source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    /// Where it begins on the disk.
    pub(super) offset: u64,
    /// Bytes on the disk, at least one.
    pub(super) length: u64,
    pub(super) source: Source,
}

/// Where the bytes of a run come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// Nowhere: it was never written, and reads as zeros.
    Hole,
    /// Nowhere: it was written with zeros.
    Zero,
    /// The file, from this offset on. What lies behind the end of the file reads as zeros.
    Stored(u64),
    /// A compressed cluster.
    Packed(Packed),
}

/// A compressed cluster, and which part of it the run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Packed {
    /// Where it begins in the file.
    pub(super) host: u64,
    /// Bytes in the file at most: a cluster that ends in the middle of a sector says the whole sector.
    pub(super) bytes: u64,
    /// Bytes that it decodes to.
    pub(super) unit: usize,
    /// Bytes of it before the run.
    pub(super) skip: usize,
    pub(super) codec: PackedCodec,
}

impl Run {
    /// Whether it has bytes in the file.
    pub(super) fn is_data(&self) -> bool {
        matches!(self.source, Source::Stored(_) | Source::Packed(_))
    }

    /// The part from `from` to `to` on the disk, which must lie in the run.
    pub(super) fn cut(&self, from: u64, to: u64) -> Self {
        let ahead = from.saturating_sub(self.offset);
        let source = match self.source {
            Source::Stored(host) => Source::Stored(host.saturating_add(ahead)),
            Source::Packed(packed) => Source::Packed(Packed {
                skip: packed.skip.saturating_add(usize::try_from(ahead).unwrap_or(usize::MAX)),
                ..packed
            }),
            source => source,
        };
        Self { offset: from, length: to.saturating_sub(from), source }
    }
}

/// The tables of a format: which run is at an offset.
pub(super) trait RunMap: Send + Sync {
    /// The run that begins at `offset`, which lies on the disk. It may end after the disk does.
    ///
    /// With `claims`, everything in the file that the run uses is claimed; then the offsets of
    /// successive calls must be the ends of the runs before.
    ///
    /// # Errors
    /// `Malformed` for a table that does not hold together, and those of reading it.
    fn run_at(&self, blob: &Blob, offset: u64, claims: Option<&mut Claims>) -> Result<Run>;

    /// What the tables themselves use of the file. Claims start from it.
    ///
    /// # Errors
    /// `Malformed` for tables that overlap, `LimitExceeded`.
    fn claims(&self, blob: &Blob) -> Result<Claims>;

    /// Bytes that a table entry stands for, where the format has such.
    fn cluster_size(&self) -> Option<u64>;
}

/// Tables read lately. Disks are read mostly in order, so few are enough.
#[derive(Debug, Default)]
pub(super) struct TableCache(Mutex<VecDeque<(u64, Arc<Vec<u8>>)>>);

/// How many tables are kept. A table has up to 2 MiB.
const KEPT_TABLES: usize = 4;

impl TableCache {
    /// The `length` bytes at `offset`.
    ///
    /// # Errors
    /// Those of reading.
    pub(super) fn get(&self, blob: &Blob, offset: u64, length: usize) -> Result<Arc<Vec<u8>>> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, table)) = kept.iter().find(|(at, _)| *at == offset) {
            return Ok(Arc::clone(table));
        }
        // Reading may be slow, and other threads may want tables that are there.
        drop(kept);
        let mut table = vec![0; length];
        blob.read_exact_at(&mut table, offset)?;
        let table = Arc::new(table);
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= KEPT_TABLES {
            kept.pop_front();
        }
        kept.push_back((offset, Arc::clone(&table)));
        Ok(table)
    }
}

/// A disk whose bytes lie in the file as they are, from `start` on: a raw disk, a fixed VHD.
#[derive(Debug)]
pub(super) struct FlatMap {
    pub(super) start: u64,
    pub(super) length: u64,
    /// Where the file system has data, when it knows of holes.
    pub(super) data: Option<Vec<std::ops::Range<u64>>>,
}

impl RunMap for FlatMap {
    fn run_at(&self, _: &Blob, offset: u64, _: Option<&mut Claims>) -> Result<Run> {
        let host = self.start.saturating_add(offset);
        let end = self.start.saturating_add(self.length);
        let Some(data) = &self.data else {
            return Ok(Run { offset, length: end.saturating_sub(host), source: Source::Stored(host) });
        };
        let next = data.partition_point(|range| range.end <= host);
        let (until, source) = match data.get(next) {
            None => (end, Source::Hole),
            Some(range) if range.start <= host => (range.end, Source::Stored(host)),
            Some(range) => (range.start, Source::Hole),
        };
        Ok(Run { offset, length: until.min(end).saturating_sub(host), source })
    }

    fn claims(&self, _: &Blob) -> Result<Claims> {
        // There is no table that could refer to anything twice.
        Claims::new(0, 512, &crate::limits::Limits::default())
    }

    fn cluster_size(&self) -> Option<u64> {
        None
    }
}
