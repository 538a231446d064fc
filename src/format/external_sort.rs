//! Sorts records by their keys in bounded memory: what is over the bound goes to a temporary file
//! without a name, in sorted runs that are merged at the end.
//!
//! Used to compare two images: their members come in the order of the archives, millions of them,
//! with paths of kilobytes if an attacker wants. Keys in a run share long prefixes, so only the
//! difference to the key before is written.
//!
//! # The file
//!
//! A run is a sequence of records: three lengths of 32 bits (bytes shared with the key before, the
//! rest of the key, the value), the rest of the key, the value. There are no checksums and no
//! version: the file has no name, so that no other process can change it, and it ends with this
//! one.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use rustix::fs::{self, Mode, OFlags};

use crate::error::{Error, Result};

/// Runs that are merged at once. Each has a buffer. When there are more, they are first merged into
/// one.
const MAX_RUNS: usize = 64;
/// Bytes of a run's buffer while it is merged.
const BUFFER: usize = 32 << 10;
/// Bytes that a record costs in memory beside its content: two vectors, and what the allocator
/// keeps for each.
const RECORD_OVERHEAD: usize = 96;

/// A key and the value that belongs to it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// What records are sorted by, as bytes.
    pub(super) key: Vec<u8>,
    /// Carried along, and never looked at.
    pub(super) value: Vec<u8>,
}

/// Takes records in any order. Of several with the same key the last one wins, as the last member
/// of an archive does.
pub(super) struct ExternalSorter {
    /// Bytes in memory above which records are spilled.
    bound: usize,
    /// Bytes that the held records take.
    bytes: usize,
    /// Records in memory, in the order in which they came.
    held: Vec<Record>,
    /// The temporary file, once there was too much for memory.
    spilled: Option<SpillFile>,
}

/// Sorted runs in an unnamed file (`O_TMPFILE`), the oldest first. The kernel removes it with the
/// last descriptor.
struct SpillFile {
    /// The file. Readers of runs share it and read at positions.
    file: Arc<File>,
    /// Where the next run begins.
    end: u64,
    /// The runs in it, the oldest first.
    runs: Vec<SortedRun>,
}

/// A run's first byte, and the one after its last.
#[derive(Clone, Copy)]
struct SortedRun {
    /// Where the run begins in the file, in bytes.
    start: u64,
    /// Where it ends.
    end: u64,
}

impl ExternalSorter {
    /// Keeps about `bound` bytes in memory.
    pub(super) fn new(bound: u64) -> Self {
        Self { bound: usize::try_from(bound).unwrap_or(usize::MAX), bytes: 0, held: Vec::new(), spilled: None }
    }

    /// Adds a record; writes all held ones to the file when they are over the bound.
    ///
    /// # Errors
    /// `Io` where the file can't be made or written; `InvalidInput` for a record of more than 4
    /// GiB.
    pub(super) fn push(&mut self, key: Vec<u8>, value: Vec<u8>) -> Result<()> {
        self.bytes = self.bytes.saturating_add(key.len() + value.len() + RECORD_OVERHEAD);
        self.held.push(Record { key, value });
        if self.bytes > self.bound { self.spill() } else { Ok(()) }
    }

    /// Returns all records sorted by key, each key once. Without a file nothing is read or written.
    ///
    /// # Errors
    /// `Io` where the file can't be written or read.
    pub(super) fn finish(mut self) -> Result<SortedRecords> {
        if self.spilled.is_none() {
            return Ok(SortedRecords(RecordSource::Held(sorted(self.held))));
        }
        if !self.held.is_empty() {
            self.spill()?;
        }
        match self.spilled {
            Some(spilled) => spilled.merge().map(|merge| SortedRecords(RecordSource::Merged(merge))),
            None => Ok(SortedRecords(RecordSource::Held(Vec::new().into_iter()))),
        }
    }

    /// Writes the held records to the file as one sorted run.
    fn spill(&mut self) -> Result<()> {
        let spilled = match &mut self.spilled {
            Some(spilled) => spilled,
            none => none.insert(SpillFile::new()?),
        };
        spilled.add(sorted(std::mem::take(&mut self.held)).map(Ok))?;
        self.bytes = 0;
        // All runs become one, so that the number of buffers while merging stays bounded. Each
        // record is rewritten once per 64 spills.
        if spilled.runs.len() >= MAX_RUNS {
            let mut joined = SpillFile::new()?;
            joined.add(spilled.merge()?)?;
            *spilled = joined;
        }
        Ok(())
    }
}

/// Sorts records in memory and keeps the last of each key. The sort is stable, which makes "last"
/// well defined.
fn sorted(mut records: Vec<Record>) -> std::vec::IntoIter<Record> {
    records.sort_by(|one, other| one.key.cmp(&other.key));
    records.dedup_by(|later, earlier| {
        let same = later.key == earlier.key;
        if same {
            std::mem::swap(&mut later.value, &mut earlier.value);
        }
        same
    });
    records.into_iter()
}

impl SpillFile {
    /// A file without a name in the directory for temporary files.
    ///
    /// # Errors
    /// `Io`, also where the file system of that directory has no `O_TMPFILE`.
    fn new() -> Result<Self> {
        let failed = |error| Error::io("there is no place for a temporary file", error);
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let file = fs::open(std::env::temp_dir(), flags, Mode::from_raw_mode(0o600)).map_err(failed)?;
        Ok(Self { file: Arc::new(File::from(file)), end: 0, runs: Vec::new() })
    }

    /// Appends a run. Neighbours have most of their keys in common, so only the difference is written.
    fn add(&mut self, records: impl Iterator<Item = Result<Record>>) -> Result<()> {
        let unwritable = |error| Error::io("the temporary file can't be written", error);
        let mut out = self.file.try_clone().map_err(unwritable)?;
        out.seek(SeekFrom::Start(self.end)).map_err(unwritable)?;
        let mut out = BufWriter::with_capacity(256 << 10, out);
        let (start, mut before) = (self.end, Vec::new());
        for record in records {
            let Record { key, value } = record?;
            let shared = shared(&key, &before);
            let rest = key.get(shared..).unwrap_or_default();
            let mut head = Vec::with_capacity(12);
            for length in [shared, rest.len(), value.len()] {
                let length = u32::try_from(length).map_err(|_| Error::invalid("a record has more than 4 GiB"))?;
                head.extend(length.to_le_bytes());
            }
            for part in [head.as_slice(), rest, &value] {
                out.write_all(part).map_err(unwritable)?;
                self.end = self.end.saturating_add(part.len() as u64);
            }
            before = key;
        }
        out.flush().map_err(unwritable)?;
        self.runs.push(SortedRun { start, end: self.end });
        Ok(())
    }

    /// Starts a merge of all runs.
    fn merge(&self) -> Result<RunMerge> {
        let mut merge = RunMerge { readers: Vec::new(), heads: BinaryHeap::new() };
        for (number, run) in self.runs.iter().enumerate() {
            let file = Arc::clone(&self.file);
            let mut reader =
                RunReader { file, at: run.start, end: run.end, buffer: Vec::new(), given: 0, key: Vec::new() };
            if let Some(record) = reader.next()? {
                merge.heads.push(Reverse(RunHead { record, run: number }));
            }
            merge.readers.push(reader);
        }
        Ok(merge)
    }
}

/// How many bytes two keys have in common at their start; compares 256 at a time first, as most of
/// a long path is equal.
fn shared(one: &[u8], other: &[u8]) -> usize {
    const STEP: usize = 256;
    let steps = one.chunks_exact(STEP).zip(other.chunks_exact(STEP)).take_while(|(one, other)| one == other).count();
    let at = steps * STEP;
    let rest = one.iter().skip(at).zip(other.iter().skip(at));
    at + rest.take_while(|(one, other)| one == other).count()
}

/// The sorted records, from memory or from the merged runs.
pub(super) struct SortedRecords(RecordSource);

/// Where the sorted records come from.
enum RecordSource {
    /// All of them were in memory.
    Held(std::vec::IntoIter<Record>),
    /// They are read from the runs of a file.
    Merged(RunMerge),
}

impl Iterator for SortedRecords {
    type Item = Result<Record>;

    fn next(&mut self) -> Option<Self::Item> {
        match &mut self.0 {
            RecordSource::Held(records) => records.next().map(Ok),
            RecordSource::Merged(merge) => merge.next(),
        }
    }
}

/// A k-way merge: the next record of each run in a heap.
struct RunMerge {
    /// One for each run, by its number.
    readers: Vec<RunReader>,
    /// The next record of each run that has one, the least first.
    heads: BinaryHeap<Reverse<RunHead>>,
}

/// The next record of a run, ordered by key and then by age.
struct RunHead {
    /// The record.
    record: Record,
    /// The run's number; a larger one is younger.
    run: usize,
}

impl Ord for RunHead {
    fn cmp(&self, other: &Self) -> Ordering {
        // Of one key, the record of the latest run is wanted first.
        self.record.key.cmp(&other.record.key).then(other.run.cmp(&self.run))
    }
}

impl PartialOrd for RunHead {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for RunHead {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for RunHead {}

impl RunMerge {
    /// The least record, with the next of its run put in its place.
    fn pop(&mut self) -> Result<Option<Record>> {
        let Some(Reverse(RunHead { record, run })) = self.heads.pop() else { return Ok(None) };
        if let Some(next) = self.readers.get_mut(run).map(RunReader::next).transpose()?.flatten() {
            self.heads.push(Reverse(RunHead { record: next, run }));
        }
        Ok(Some(record))
    }

    /// The next record. Of several with its key, the others are dropped: they are from older runs.
    fn step(&mut self) -> Result<Option<Record>> {
        let Some(record) = self.pop()? else { return Ok(None) };
        while self.heads.peek().is_some_and(|Reverse(head)| head.record.key == record.key) {
            self.pop()?;
        }
        Ok(Some(record))
    }
}

impl Iterator for RunMerge {
    type Item = Result<Record>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step().transpose()
    }
}

/// Reads one run record by record through a buffer, rebuilding keys from the one before.
struct RunReader {
    file: Arc<File>,
    /// Where the next part of the run is read.
    at: u64,
    /// Where the run ends in the file.
    end: u64,
    /// The part of the run that was read last.
    buffer: Vec<u8>,
    /// Bytes of the buffer that were used.
    given: usize,
    /// The last key, whose beginning the next may share.
    key: Vec<u8>,
}

impl RunReader {
    /// The next record; `None` at the end of the run.
    fn next(&mut self) -> Result<Option<Record>> {
        if self.given == self.buffer.len() && self.at == self.end {
            return Ok(None);
        }
        let mut lengths = [0; 3];
        for length in &mut lengths {
            *length = u32::from_le_bytes(self.array()?) as usize;
        }
        let [shared, rest, value] = lengths;
        self.key.truncate(shared);
        let rest = self.take(rest)?;
        self.key.extend(rest);
        Ok(Some(Record { key: self.key.clone(), value: self.take(value)? }))
    }

    /// Four bytes, for a length.
    fn array(&mut self) -> Result<[u8; 4]> {
        let bytes = self.take(4)?;
        bytes.first_chunk().copied().ok_or_else(|| Error::malformed("the temporary file was cut"))
    }

    /// The next `length` bytes of the run.
    fn take(&mut self, length: usize) -> Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(length);
        while bytes.len() < length {
            if self.given == self.buffer.len() {
                self.fill()?;
            }
            let ready = self.buffer.get(self.given..).unwrap_or_default();
            let count = ready.len().min(length - bytes.len());
            bytes.extend_from_slice(ready.get(..count).unwrap_or_default());
            self.given += count;
        }
        Ok(bytes)
    }

    /// Reads the next part of the run into the buffer.
    fn fill(&mut self) -> Result<()> {
        let count = usize::try_from(self.end - self.at).unwrap_or(BUFFER).min(BUFFER);
        if count == 0 {
            return Err(Error::malformed("the temporary file was cut"));
        }
        self.buffer.resize(count, 0);
        self.file
            .read_exact_at(&mut self.buffer, self.at)
            .map_err(|error| Error::io("the temporary file can't be read", error))?;
        self.at += count as u64;
        self.given = 0;
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed test tells by panicking")]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn all(sorter: ExternalSorter) -> Vec<(Vec<u8>, Vec<u8>)> {
        sorter.finish().unwrap().map(|record| record.map(|record| (record.key, record.value)).unwrap()).collect()
    }

    #[test]
    fn records_come_sorted_and_the_last_of_a_key_counts_whatever_the_bound() {
        for bound in [u64::MAX, 5_000, 1] {
            let (mut sorter, mut owed) = (ExternalSorter::new(bound), BTreeMap::new());
            let mut state = 7_u64;
            for number in 0..700_u32 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let key = format!("some/long/common/path/{}", state >> 56).into_bytes();
                let value = vec![number as u8; (state >> 40) as usize % 300];
                owed.insert(key.clone(), value.clone());
                sorter.push(key, value).unwrap();
            }
            assert_eq!(all(sorter), owed.into_iter().collect::<Vec<_>>(), "{bound}");
        }
    }

    #[test]
    fn no_records_give_no_records() {
        assert_eq!(all(ExternalSorter::new(1)), []);
    }
}
