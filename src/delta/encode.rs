//! Writes the sections of a window from its matches.

use super::adler32::adler32;
use super::instructions::{AddressCache, Spelling};
use super::matches::{From, Match};
use super::varint;
use super::window::{Segment, Window};

/// The largest segment of the base. xdelta3 counts addresses of segment and window in 32 bits.
const MAX_SEGMENT: u64 = 2 << 30;
/// Opcode of a run; the size follows.
const RUN: u8 = 0;
/// Opcode of an addition; the size follows.
const ADD: u8 = 1;
/// Opcode of a copy in the first mode; the size follows.
const COPY: u8 = 19;
/// Opcodes of copies in one mode.
const COPIES: u8 = 16;

/// A window with its sections, not compressed.
pub(super) fn sections(window: &[u8], mut matches: Vec<Match>) -> (Window<Vec<u8>>, u64) {
    let segment = segment(&mut matches);
    let (start, segment_length) = match segment {
        Segment::Base { offset, length } => (offset, length),
        _ => (0, 0),
    };
    let (mut data, mut instructions, mut addresses) = (Vec::new(), Vec::new(), Vec::new());
    let mut cache = AddressCache::new();
    let mut copied: u64 = 0;
    let mut at: usize = 0;
    let add = |instructions: &mut Vec<u8>, data: &mut Vec<u8>, bytes: &[u8]| {
        match bytes.len() {
            0 => return,
            short @ 1..=17 => instructions.push(ADD + short as u8),
            long => {
                instructions.push(ADD);
                varint::push(instructions, long as u64);
            }
        }
        data.extend_from_slice(bytes);
    };
    for found in &matches {
        add(&mut instructions, &mut data, window.get(at..found.at).unwrap_or_default());
        at = found.end();
        let address = match found.from {
            From::Run => {
                instructions.push(RUN);
                varint::push(&mut instructions, found.length as u64);
                data.extend(window.get(found.at));
                continue;
            }
            From::Base(offset) => {
                copied += found.length as u64;
                offset.saturating_sub(start)
            }
            From::Window(place) => segment_length.saturating_add(place as u64),
        };
        let (mode, spelling) = cache.spell(address, segment_length.saturating_add(found.at as u64));
        let opcode = COPY + COPIES * mode;
        match found.length {
            short @ 4..=18 => instructions.push(opcode + short as u8 - 3),
            long => {
                instructions.push(opcode);
                varint::push(&mut instructions, long as u64);
            }
        }
        match spelling {
            Spelling::Byte(byte) => addresses.push(byte),
            Spelling::Number(number) => varint::push(&mut addresses, number),
        }
    }
    add(&mut instructions, &mut data, window.get(at..).unwrap_or_default());
    let checksum = Some(adler32(window));
    (Window { segment, length: window.len(), checksum, sections: [data, instructions, addresses] }, copied)
}

/// The part of the base that all copies lie in. Copies that would make it too large are taken out.
fn segment(matches: &mut Vec<Match>) -> Segment {
    let in_base = |found: &Match| match found.from {
        From::Base(offset) => Some((offset, offset.saturating_add(found.length as u64))),
        _ => None,
    };
    let mut ranges: Vec<_> = matches.iter().filter_map(in_base).collect();
    ranges.sort_unstable();
    // The range that saves most: the sum of a sliding window.
    let (mut best, mut sum, mut first) = ((0, 0), 0, 0);
    for (start, end) in &ranges {
        sum += end - start;
        while let Some((from, to)) = ranges.get(first)
            && end.saturating_sub(*from) > MAX_SEGMENT
        {
            sum -= to - from;
            first += 1;
        }
        if sum > best.0 {
            best = (sum, ranges.get(first).map_or(*start, |(from, _)| *from));
        }
    }
    let (_, start) = best;
    let limit = start.saturating_add(MAX_SEGMENT);
    matches.retain(|found| in_base(found).is_none_or(|(from, to)| from >= start && to <= limit));
    let end = matches.iter().filter_map(in_base).map(|(_, end)| end).max();
    match end {
        Some(end) => Segment::Base { offset: start, length: end - start },
        None => Segment::None,
    }
}
