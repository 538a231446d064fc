//! Counts what a qcow2 disk has allocated while its file passes as a stream, so that a disk inside of
//! an archive can be described without keeping it.

use super::{COMPRESSED, HEAD_BYTES, Header, OFFSET_MASK, ZERO};
use crate::limits::Limits;

/// The bytes of the disk that are not known to be zeros, found in one pass over the file.
///
/// The tables have to come in their usual order: the L1 table before the L2 tables that it names.
#[derive(Debug)]
pub(crate) struct AllocationTally {
    state: State,
}

#[derive(Debug)]
enum State {
    /// The header, as far as it came.
    Header {
        head: Vec<u8>,
        limits: Box<Limits>,
        length: u64,
    },
    /// The L1 table, as far as it came.
    L1 {
        header: Header,
        table: Vec<u8>,
    },
    L2(L2Tables),
    /// The tables are in an order that one pass can't read, or damaged.
    Unknown,
}

/// The L2 tables that are still to come.
#[derive(Debug)]
struct L2Tables {
    header: Header,
    /// The offset of each in the file and its index in the L1 table, the next one last.
    ahead: Vec<(u64, u64)>,
    /// Bytes of an entry whose rest is to come.
    partial: Vec<u8>,
    allocated: u64,
}

impl AllocationTally {
    /// A tally of a file of `length` bytes.
    pub(crate) fn new(length: u64, limits: &Limits) -> Self {
        Self { state: State::Header { head: Vec::new(), limits: Box::new(limits.clone()), length } }
    }

    /// Takes bytes of the file. They have to come in order; what is left out is zeros.
    pub(crate) fn take(&mut self, offset: u64, bytes: &[u8]) {
        let mut state = std::mem::replace(&mut self.state, State::Unknown);
        loop {
            let next = match &mut state {
                State::Header { head, limits, length } => {
                    collect(head, 0, offset, bytes, HEAD_BYTES);
                    let is_whole = head.len() >= HEAD_BYTES.min(usize::try_from(*length).unwrap_or(usize::MAX));
                    // A hole ends it, too.
                    let is_passed = offset.saturating_add(bytes.len() as u64) >= HEAD_BYTES as u64;
                    (is_whole || is_passed).then(|| match Header::parse(head, *length, limits) {
                        Ok(header) => State::L1 { header, table: Vec::new() },
                        Err(_) => State::Unknown,
                    })
                }
                State::L1 { header, table } => {
                    let length = usize::try_from(u64::from(header.l1_entries) * 8).unwrap_or(usize::MAX);
                    collect(table, header.l1_offset, offset, bytes, length);
                    let end = header.l1_offset.saturating_add(length as u64);
                    (offset.saturating_add(bytes.len() as u64) >= end).then(|| {
                        table.resize(length, 0);
                        L2Tables::new(header.clone(), table, offset).map_or(State::Unknown, State::L2)
                    })
                }
                State::L2(tables) => {
                    tables.take(offset, bytes);
                    None
                }
                State::Unknown => None,
            };
            match next {
                // The same bytes may hold what comes next.
                Some(next) => state = next,
                None => break,
            }
        }
        self.state = state;
    }

    /// The allocated bytes; `None` when the tables did not come in order.
    pub(crate) fn finish(mut self) -> Option<u64> {
        // A file may end with holes.
        if let State::Header { length, .. } | State::L1 { header: Header { l1_offset: length, .. }, .. } = &self.state {
            let end = length.saturating_add(HEAD_BYTES as u64);
            self.take(end.saturating_add(u64::from(u32::MAX) * 8), &[]);
        }
        match self.state {
            State::L2(tables) => Some(tables.allocated.min(tables.header.virtual_size)),
            _ => None,
        }
    }
}

/// Adds to `buffer`, which begins at `start` of the file and has up to `length` bytes, what `bytes` at
/// `offset` have of it.
fn collect(buffer: &mut Vec<u8>, start: u64, offset: u64, bytes: &[u8], length: usize) {
    let end = start.saturating_add(length as u64);
    let from = offset.max(start);
    let to = offset.saturating_add(bytes.len() as u64).min(end);
    if from >= to {
        return;
    }
    let place = |at: u64, base: u64| usize::try_from(at.saturating_sub(base)).unwrap_or(usize::MAX);
    // What is left out before it.
    buffer.resize(place(from, start), 0);
    buffer.extend_from_slice(bytes.get(place(from, offset)..place(to, offset)).unwrap_or_default());
}

impl L2Tables {
    /// The tables that an L1 table names; `None` when one of them was passed before byte `offset`.
    fn new(header: Header, l1: &[u8], offset: u64) -> Option<Self> {
        let entries = l1.as_chunks().0.iter().map(|entry| u64::from_be_bytes(*entry) & OFFSET_MASK);
        let mut ahead: Vec<(u64, u64)> = entries.zip(0..).filter(|(table, _)| *table != 0).collect();
        ahead.sort_unstable_by(|a, b| b.cmp(a));
        let is_passed = ahead.last().is_some_and(|(first, _)| *first < offset);
        (!is_passed).then_some(Self { header, ahead, partial: Vec::new(), allocated: 0 })
    }

    fn take(&mut self, offset: u64, bytes: &[u8]) {
        let size = self.header.cluster_size();
        let end = offset.saturating_add(bytes.len() as u64);
        while let Some(&(table, index)) = self.ahead.last() {
            if table >= end {
                return;
            }
            let behind = table.saturating_add(size);
            let (from, to) = (offset.max(table), end.min(behind));
            if from < to {
                let place = |at: u64| usize::try_from(at - offset).unwrap_or(usize::MAX);
                self.count(index, from - table, bytes.get(place(from)..place(to)).unwrap_or_default());
            }
            if behind > end {
                return;
            }
            self.ahead.pop();
            self.partial.clear();
        }
    }

    /// Counts the entries in `bytes`, which are at `within` of the table with this index.
    fn count(&mut self, index: u64, within: u64, bytes: &[u8]) {
        let (size, width) = (self.header.cluster_size(), if self.header.extended_l2 { 16 } else { 8 });
        let odd = usize::try_from(within % width).unwrap_or(0);
        // A hole before this may have swallowed the beginning of an entry.
        self.partial.resize(odd, 0);
        let mut number = within / width;
        for &byte in bytes {
            self.partial.push(byte);
            if self.partial.len() as u64 == width {
                let at = (index * (size / width) + number).saturating_mul(size);
                let room = self.header.virtual_size.saturating_sub(at).min(size);
                self.allocated = self.allocated.saturating_add(self.entry().min(room));
                self.partial.clear();
                number += 1;
            }
        }
    }

    /// The bytes that the collected entry has allocated.
    fn entry(&self) -> u64 {
        let number = |at: usize| {
            self.partial.get(at..).and_then(|bytes| bytes.first_chunk()).map_or(0, |bytes| u64::from_be_bytes(*bytes))
        };
        let (entry, size) = (number(0), self.header.cluster_size());
        if entry & COMPRESSED != 0 {
            return size;
        }
        if entry & OFFSET_MASK == 0 {
            return 0;
        }
        if self.header.extended_l2 {
            return u64::from((number(8) & u64::from(u32::MAX)).count_ones()) * (size / 32);
        }
        if entry & ZERO != 0 { 0 } else { size }
    }
}
