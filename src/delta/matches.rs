//! [`Finder`]: finds what of a window of the new file stands in the base, or earlier in the window.
//!
//! Long matches come from the [`Index`], at any distance. Between them small ones are looked for where they are likely: at
//! the place where the base goes on after the last match, for bytes that were changed in place.

use std::ops::Range;

use super::index::{HASHED_BYTES, Index, hash, roll, spread};
use super::pages::{PAGE_BYTES, Pages};
use crate::error::Result;
use crate::io::Blob;
use crate::progress::Monitor;

/// The shortest run that becomes an instruction of its own.
const MIN_RUN: usize = 64;
/// The shortest match where the base goes on after the last one.
const MIN_ALIGNED: usize = 12;
/// How far behind the last match the base may go on.
const MAX_ALIGNED_GAP: usize = 64 << 10;
/// The shortest match with an earlier part of the window: shorter ones are left to LZMA.
const MIN_OWN: usize = 32;
/// The shortest gap that is searched for small matches.
const MIN_GAP: usize = 16;
/// The shortest small match.
const MIN_SMALL: usize = 10;
/// Bytes that the table of small matches is made of.
const SMALL_HASHED: usize = 8;
/// How far around the expected place small matches are looked for, beyond the size of the gap.
const NEARBY_BYTES: u64 = 1 << 10;
/// The largest part of the base that is searched for small matches at a time.
const MAX_REGION: u64 = 1 << 20;
/// Places with one hash that are looked at.
const MAX_CHAIN: usize = 8;
/// Positions between two looks at the monitor.
const CHECK_BYTES: usize = 1 << 20;
/// Bits of the table of places in the window.
const OWN_BITS: u32 = 18;

/// Where the bytes of a match come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum From {
    /// An offset in the base.
    Base(u64),
    /// An offset in the window, before the match.
    Window(usize),
    /// One byte, repeated.
    Run,
}

/// Bytes of the window that need not be in the delta.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Match {
    pub(super) at: usize,
    pub(super) length: usize,
    pub(super) from: From,
}

impl Match {
    pub(super) fn end(&self) -> usize {
        self.at.saturating_add(self.length)
    }

    /// Where it begins in the base.
    fn base_start(&self) -> Option<u64> {
        match self.from {
            From::Base(offset) => Some(offset),
            _ => None,
        }
    }

    /// Where it ends in the base.
    fn base_end(&self) -> Option<u64> {
        self.base_start().map(|offset| offset.saturating_add(self.length as u64))
    }
}

/// Finds the matches of windows. One for each thread.
pub(super) struct Finder<'a> {
    index: &'a Index,
    base: Pages,
    /// Places in the window plus one, by hash.
    own: Vec<u32>,
    /// A part of the base that is searched for small matches, and the places of its bytes by hash.
    region: Vec<u8>,
    heads: Vec<u32>,
    chain: Vec<u32>,
    monitor: &'a Monitor,
}

impl<'a> Finder<'a> {
    pub(super) fn new(index: &'a Index, base: &Blob, monitor: &'a Monitor) -> Self {
        Self {
            index,
            base: Pages::new(base),
            own: vec![0; 1 << OWN_BITS],
            region: Vec::new(),
            heads: Vec::new(),
            chain: Vec::new(),
            monitor,
        }
    }

    /// The matches of a window, in order and apart from each other.
    ///
    /// # Errors
    /// `Cancelled`; those of the base.
    pub(super) fn find(&mut self, window: &[u8]) -> Result<Vec<Match>> {
        self.own.fill(0);
        let mut found: Vec<Match> = Vec::new();
        // Everything before `free` is covered by a match, or was given up.
        let (mut at, mut free) = (0, 0);
        let mut value = None;
        let mut next_check = 0;
        while at < window.len() {
            if at >= next_check {
                self.monitor.check()?;
                next_check = at + CHECK_BYTES;
            }
            if let Some(next) = self.at_place(window, at, free, &mut value, found.last())? {
                at = next.end();
                free = at;
                value = None;
                found.push(next);
                continue;
            }
            value = match (value, window.get(at), window.get(at + HASHED_BYTES)) {
                (Some(value), Some(old), Some(new)) => Some(roll(value, *old, *new)),
                _ => None,
            };
            at += 1;
        }
        self.fill_gaps(window, &found)
    }

    /// Looks for small matches in what is left between the matches, where the base goes on or comes from.
    fn fill_gaps(&mut self, window: &[u8], found: &[Match]) -> Result<Vec<Match>> {
        let mut all = Vec::with_capacity(found.len());
        let mut before: Option<Match> = None;
        for next in found.iter().copied().map(Some).chain([None]) {
            let start = before.map_or(0, |before| before.end());
            let end = next.map_or(window.len(), |next| next.at);
            if end - start >= MIN_GAP {
                let gap = (end - start) as u64;
                let reach = gap + gap / 4 + NEARBY_BYTES;
                let from = before.and_then(|before| before.base_end());
                let to = next.and_then(|next| next.base_start());
                match (from, to) {
                    (Some(from), Some(to)) if to >= from && to - from <= reach => {
                        let region = from.saturating_sub(NEARBY_BYTES)..to.saturating_add(NEARBY_BYTES);
                        self.fill_gap(window, start..end, region, &mut all)?;
                    }
                    (Some(from), _) => {
                        let region = from.saturating_sub(NEARBY_BYTES)..from.saturating_add(reach);
                        self.fill_gap(window, start..end, region, &mut all)?;
                    }
                    (None, Some(to)) => {
                        let region = to.saturating_sub(reach)..to.saturating_add(NEARBY_BYTES);
                        self.fill_gap(window, start..end, region, &mut all)?;
                    }
                    (None, None) => {}
                }
            }
            all.extend(next);
            before = next;
        }
        Ok(all)
    }

    /// Matches of a gap with one region of the base.
    fn fill_gap(&mut self, window: &[u8], gap: Range<usize>, region: Range<u64>, all: &mut Vec<Match>) -> Result<()> {
        self.monitor.check()?;
        let end = region.end.min(self.base.length()).min(region.start.saturating_add(MAX_REGION));
        let length = usize::try_from(end.saturating_sub(region.start)).unwrap_or_default();
        if length < MIN_SMALL {
            return Ok(());
        }
        self.region.resize(length, 0);
        self.base.read(&mut self.region, region.start)?;
        let there = &*self.region;
        let bits = length.next_power_of_two().trailing_zeros() + 1;
        self.heads.clear();
        self.heads.resize(1 << bits, 0);
        self.chain.clear();
        self.chain.resize(length, 0);
        let slot = |bytes: &[u8; SMALL_HASHED]| (spread(u64::from_le_bytes(*bytes)) >> (64 - bits)) as usize;
        // From the end, so that a chain begins with the first place.
        for place in (0..=length - SMALL_HASHED).rev() {
            let Some(bytes) = there.get(place..).and_then(<[u8]>::first_chunk) else { continue };
            if let (Some(head), Some(next)) = (self.heads.get_mut(slot(bytes)), self.chain.get_mut(place)) {
                // A region has less than 2^32 bytes.
                (*next, *head) = (*head, place as u32 + 1);
            }
        }
        let (mut at, mut free) = (gap.start, gap.start);
        let mut expected: usize = 0;
        while let Some(bytes) = window.get(at..gap.end).and_then(<[u8]>::first_chunk) {
            let here = window.get(at..gap.end).unwrap_or_default();
            let mut best: (usize, usize) = (0, 0);
            let mut place = self.heads.get(slot(bytes)).copied().unwrap_or_default() as usize;
            for _ in 0..MAX_CHAIN {
                let Some(from) = place.checked_sub(1) else { break };
                let length = equal(there.get(from..).unwrap_or_default(), here);
                // Of equal ones the nearest to the place where the base goes on: its address is short.
                let better = length > best.0 || length == best.0 && from.abs_diff(expected) < best.1.abs_diff(expected);
                if better {
                    best = (length, from);
                }
                place = self.chain.get(from).copied().unwrap_or_default() as usize;
            }
            let (mut length, mut from) = best;
            let extra = at - free;
            let back = window.get(free..at).unwrap_or_default().iter().rev();
            let back = back.zip(there.get(..from).unwrap_or_default().iter().rev()).take(extra);
            let back = back.take_while(|(here, there)| here == there).count();
            length += back;
            if length < MIN_SMALL {
                at += 1;
                continue;
            }
            from -= back;
            let start = at - back;
            all.push(Match { at: start, length, from: From::Base(region.start + from as u64) });
            at = start + length;
            free = at;
            expected = from + length;
        }
        Ok(())
    }

    /// The best match that covers `at` and begins at `free` or later.
    fn at_place(
        &mut self,
        window: &[u8],
        at: usize,
        free: usize,
        value: &mut Option<u64>,
        last: Option<&Match>,
    ) -> Result<Option<Match>> {
        // Where the base goes on.
        if let Some(&Match { at: start, length, from: From::Base(offset) }) = last
            && at - (start + length) <= MAX_ALIGNED_GAP
        {
            let offset = offset.saturating_add((at - start) as u64);
            if self.begins(window, at, offset)? {
                let length = self.forward(window, at, offset)?;
                if length >= MIN_ALIGNED {
                    return self.back(window, at, free, offset, length).map(Some);
                }
            }
        }
        let length = run(window.get(at..).unwrap_or_default());
        if length >= MIN_RUN {
            return Ok(Some(Match { at, length, from: From::Run }));
        }
        let Some(bytes) = window.get(at..).and_then(<[u8]>::first_chunk) else { return Ok(None) };
        let value = *value.get_or_insert_with(|| hash(bytes));
        if !self.index.is_entered(value) {
            return Ok(None);
        }
        let mut best: Option<Match> = None;
        for offset in self.index.find(value).offsets() {
            let length = self.forward(window, at, *offset)?;
            if length >= HASHED_BYTES && best.is_none_or(|best| best.end() < at + length) {
                best = Some(self.back(window, at, free, *offset, length)?);
            }
        }
        let slot = (spread(value) >> (64 - OWN_BITS)) as usize;
        let own = self.own.get_mut(slot).map_or(0, |place| {
            // A window has less than 2^32 bytes.
            std::mem::replace(place, at as u32 + 1)
        });
        if let Some(from) = (own as usize).checked_sub(1) {
            let length = equal(window.get(from..).unwrap_or_default(), window.get(at..).unwrap_or_default());
            if length >= MIN_OWN && best.is_none_or(|best| best.length < length) {
                best = Some(Match { at, length, from: From::Window(from) });
            }
        }
        Ok(best)
    }

    /// Whether the next bytes are those of the base at `offset`, by a look at the first four.
    fn begins(&mut self, window: &[u8], at: usize, offset: u64) -> Result<bool> {
        let (bytes, place) = self.base.page(offset)?;
        let there = bytes.get(place..).unwrap_or_default();
        let here = window.get(at..).unwrap_or_default();
        Ok(match (there.first_chunk::<4>(), here.first_chunk::<4>()) {
            (Some(there), Some(here)) => there == here,
            // At the end of a page.
            _ => there.first().is_some_and(|there| here.first() == Some(there)),
        })
    }

    /// How many bytes from `at` on are those of the base from `offset` on.
    fn forward(&mut self, window: &[u8], at: usize, mut offset: u64) -> Result<usize> {
        let mut rest = window.get(at..).unwrap_or_default();
        let mut length = 0;
        while !rest.is_empty() {
            let there = self.base.at(offset)?;
            let count = equal(there, rest);
            length += count;
            if count == 0 || count < there.len() {
                break;
            }
            offset += count as u64;
            rest = rest.get(count..).unwrap_or_default();
        }
        Ok(length)
    }

    /// Extends a match to the left, at most to `free`.
    fn back(&mut self, window: &[u8], at: usize, free: usize, offset: u64, length: usize) -> Result<Match> {
        let mut extra = 0;
        let limit = (at - free).min(usize::try_from(offset).unwrap_or(usize::MAX));
        while extra < limit {
            let (bytes, place) = self.base.page(offset - extra as u64 - 1)?;
            let there = bytes.get(..=place).unwrap_or_default();
            let here = window.get(at - limit..at - extra).unwrap_or_default();
            let count = there.iter().rev().zip(here.iter().rev()).take_while(|(there, here)| there == here).count();
            extra += count;
            if count < there.len() {
                break;
            }
        }
        Ok(Match { at: at - extra, length: length + extra, from: From::Base(offset - extra as u64) })
    }
}

/// How many bytes are equal from the start on.
fn equal(one: &[u8], other: &[u8]) -> usize {
    let chunks = one.as_chunks::<16>().0.iter().zip(other.as_chunks::<16>().0);
    let whole = chunks.take_while(|(one, other)| one == other).count() * 16;
    let rest = one.get(whole..).unwrap_or_default().iter().zip(other.get(whole..).unwrap_or_default());
    whole + rest.take_while(|(one, other)| one == other).count()
}

/// How many bytes are equal to the first one.
fn run(bytes: &[u8]) -> usize {
    let Some(first) = bytes.first_chunk::<8>() else { return 0 };
    let byte = first[0];
    if *first != [byte; 8] {
        return 0;
    }
    let whole = bytes.as_chunks::<16>().0.iter().take_while(|chunk| **chunk == [byte; 16]).count() * 16;
    whole + bytes.get(whole..).unwrap_or_default().iter().take_while(|there| **there == byte).count()
}

const _: () = assert!(PAGE_BYTES >= 1 << 12, "a match is extended page by page");
