//! [`Finder`]: finds what of a window of the new file stands in the base, or earlier in the window.
//!
//! Long matches come from the [`Index`], at any distance. Between them small ones are looked for where they are likely: at
//! the place where the base goes on after the last match, for bytes that were changed in place.

use super::index::{Index, Rolling, spread};
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
/// Positions between two looks at the monitor.
const CHECK_BYTES: usize = 1 << 20;
/// Bits of the table of the window's own blocks.
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
}

/// Finds the matches of windows. One for each thread.
pub(super) struct Finder<'a> {
    index: &'a Index,
    base: Pages,
    /// The window's own blocks: a position plus one, by hash.
    own: Vec<u32>,
    monitor: &'a Monitor,
}

impl<'a> Finder<'a> {
    pub(super) fn new(index: &'a Index, base: &Blob, monitor: &'a Monitor) -> Self {
        Self { index, base: Pages::new(base), own: vec![0; 1 << OWN_BITS], monitor }
    }

    /// The matches of a window, in order and apart from each other.
    ///
    /// # Errors
    /// `Cancelled`; those of the base.
    pub(super) fn find(&mut self, window: &[u8]) -> Result<Vec<Match>> {
        self.own.fill(0);
        let block = self.index.block();
        let rolling = Rolling::new(block);
        let mut found: Vec<Match> = Vec::new();
        // Everything before `free` is covered by a match, or was given up.
        let (mut at, mut free) = (0, 0);
        let mut hash = None;
        let mut next_check = 0;
        while at < window.len() {
            if at >= next_check {
                self.monitor.check()?;
                next_check = at + CHECK_BYTES;
            }
            if let Some(next) = self.at_place(window, at, free, block, &mut hash, found.last())? {
                at = next.end();
                free = at;
                hash = None;
                found.push(next);
                continue;
            }
            hash = match (hash, window.get(at), window.get(at + block)) {
                (Some(hash), Some(old), Some(new)) => Some(rolling.roll(hash, *old, *new)),
                _ => None,
            };
            at += 1;
        }
        Ok(found)
    }

    /// The best match that covers `at` and begins at `free` or later.
    fn at_place(
        &mut self,
        window: &[u8],
        at: usize,
        free: usize,
        block: usize,
        hash: &mut Option<u64>,
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
        let Some(bytes) = window.get(at..at + block) else { return Ok(None) };
        let hash = *hash.get_or_insert_with(|| Rolling::of(bytes));
        let mut best: Option<Match> = None;
        for offset in self.index.find(hash).offsets() {
            let length = self.forward(window, at, *offset)?;
            if length >= block && best.is_none_or(|best| best.end() < at + length) {
                best = Some(self.back(window, at, free, *offset, length)?);
            }
        }
        let slot = (spread(hash) >> (64 - OWN_BITS)) as usize;
        let own = self.own.get_mut(slot).map_or(0, |place| {
            let before = *place;
            if at % block == 0 {
                // A window has less than 2^32 bytes.
                *place = at as u32 + 1;
            }
            before
        });
        if let Some(from) = (own as usize).checked_sub(1) {
            let length = equal(window.get(from..).unwrap_or_default(), window.get(at..).unwrap_or_default());
            if length >= MIN_OWN.max(block) && best.is_none_or(|best| best.length < length) {
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
