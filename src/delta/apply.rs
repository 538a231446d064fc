//! [`apply`]: base and delta make the new file.
//!
//! Two threads: one decompresses sections, the calling one reads the delta, carries out instructions and writes. The output
//! is written window by window, and each window is checked against its checksum before it is written.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use super::adler32::adler32;
use super::instructions::{Action, AddressCache, CODE_TABLE};
use super::pages::Pages;
use super::secondary::{Secondary, SectionDecoder};
use super::varint;
use super::window::{DeltaReader, KINDS, Section, Segment, Window};
use crate::error::{Error, Result};
use crate::io::Blob;
use crate::limits::Limits;
use crate::progress::{Monitor, Phase};

/// Windows that are decompressed while another one is carried out.
const AHEAD: usize = 2;
/// Output that is kept for windows that copy from it. No encoder in use makes such windows.
const HISTORY_BYTES: usize = 16 << 20;
/// Output between two looks at the monitor.
const CHECK_BYTES: usize = 1 << 20;

/// The result of [`apply`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AppliedDelta {
    /// The size of the delta in bytes.
    pub delta_bytes: u64,
    /// The size of the output in bytes.
    pub output_bytes: u64,
    /// How many bytes of the output were copied from the base.
    pub copied_bytes: u64,
    /// The number of windows.
    pub windows: u64,
    /// Whether each window had a checksum. Without them only a digest of the output can show that the base was the right one.
    pub checksums: bool,
    /// What the delta is compressed with, if anything.
    pub secondary: Option<Secondary>,
}

/// Applies a delta to its base and writes the result, in order and as a stream.
///
/// Reads VCDIFF (RFC 3284) as `xdelta3` writes it. The base is read at random places. Memory is a few times the largest
/// window ([`Limits::vcdiff_window`]), and the dictionaries of LZMA ([`Limits::codec_memory`] bounds each of the three).
///
/// A delta is as hostile as any input, and says nothing trustworthy about its output: compare the digest of what was written
/// with the expected one, also where [`AppliedDelta::checksums`] is true. After an error a part of the output may be written.
///
/// ```
/// use lxd_image::delta;
/// use lxd_image::io::Blob;
/// use lxd_image::{Limits, Monitor};
///
/// let base = Blob::from(b"the old text".to_vec());
/// // As `xdelta3 -e -S none -A -s old new` has it, by hand: copies 4 bytes, adds 8.
/// let delta = b"\xd6\xc3\xc4\0\0\x01\x04\x00\x10\x0c\0\x08\x02\x01new text\x14\x09\0";
/// let mut output = Vec::new();
/// let report = delta::apply(&base, &delta[..], &mut output, &Limits::default(), &Monitor::none())?;
/// assert_eq!(output, b"the new text");
/// assert_eq!((report.output_bytes, report.copied_bytes), (12, 4));
/// # Ok::<(), lxd_image::Error>(())
/// ```
///
/// # Errors
/// `Malformed` for a delta that breaks its format; `Mismatch` where the base is not the one that it was made from, as far as
/// checksums and sizes tell; `Unsupported` for a code table of its own, the compressor FGK, and copies from output more than
/// 16 MiB back; `FeatureDisabled` for LZMA without the feature `xz`; `LimitExceeded` (`vcdiff_window`, `vcdiff_header`,
/// `vcdiff_instructions`, `codec_memory`, `output`); `Cancelled`; those of the reader, the base and the writer.
pub fn apply(
    base: &Blob,
    delta: impl Read,
    mut output: impl Write,
    limits: &Limits,
    monitor: &Monitor,
) -> Result<AppliedDelta> {
    let mut reader = DeltaReader::new(delta, limits);
    let header = reader.header()?;
    let mut executor = Executor::new(base, limits, monitor);
    let mut checksums = true;
    let mut windows: u64 = 0;
    // Sizes of windows that were read: a window may copy from output that is still to be written when it is read.
    let mut announced: u64 = 0;
    let mut each = |window: Window<Vec<u8>>, executor: &mut Executor<'_>| {
        checksums &= window.checksum.is_some();
        windows += 1;
        executor.window(&window, &mut output)
    };
    match header.secondary {
        None => {
            while let Some(window) = reader.window(announced, None)? {
                announced = announced.saturating_add(window.length as u64);
                executor.delta_bytes = reader.offset();
                let Window { segment, length, checksum, sections } = window;
                let sections = sections.map(|section| section.bytes);
                each(Window { segment, length, checksum, sections }, &mut executor)?;
            }
        }
        Some(secondary) => std::thread::scope(|scope| -> Result<()> {
            let (jobs, queue) = sync_channel(AHEAD);
            let (answers, results) = sync_channel(AHEAD);
            std::thread::Builder::new()
                .name("lxd-image delta".into())
                .spawn_scoped(scope, move || decompress_all(secondary, limits, &queue, &answers))
                .map_err(|error| Error::io("a thread can't be started", error))?;
            let mut waiting: usize = 0;
            // How reading ended. An error counts behind those of the windows before it, so that one delta always fails
            // at the same window, whichever thread is faster.
            let mut ended: Option<Result<()>> = None;
            loop {
                // Filled up first, so that the other thread has work while this one has.
                while ended.is_none() && waiting < AHEAD {
                    match reader.window(announced, Some(secondary)) {
                        Ok(Some(window)) => {
                            announced = announced.saturating_add(window.length as u64);
                            match jobs.send(window) {
                                Ok(()) => waiting += 1,
                                // The thread has ended with an error, which is among its answers.
                                Err(_) => ended = Some(Err(super::lost())),
                            }
                        }
                        Ok(None) => ended = Some(Ok(())),
                        Err(error) => ended = Some(Err(error)),
                    }
                }
                if waiting == 0 {
                    return ended.unwrap_or(Ok(()));
                }
                executor.delta_bytes = reader.offset();
                let window = results.recv().map_err(|_| super::lost())??;
                waiting -= 1;
                each(window, &mut executor)?;
            }
            // `jobs` and `results` are dropped here, which ends the thread.
        })?,
    }
    output.flush().map_err(|error| Error::io("the output can't be written", error))?;
    let report = AppliedDelta {
        delta_bytes: reader.offset(),
        output_bytes: executor.written,
        copied_bytes: executor.copied,
        windows,
        checksums: checksums && windows > 0,
        secondary: header.secondary,
    };
    Ok(report)
}

/// Decompresses windows until there are no more, or nobody wants them.
fn decompress_all(
    secondary: Secondary,
    limits: &Limits,
    queue: &Receiver<Window<Section>>,
    answers: &SyncSender<Result<Window<Vec<u8>>>>,
) {
    let mut decoders = KINDS.map(|kind| SectionDecoder::new(secondary, kind, limits));
    while let Ok(window) = queue.recv() {
        let answer = decompress(&mut decoders, window);
        let failed = answer.is_err();
        // After an error the state of the decoders means nothing.
        if answers.send(answer).is_err() || failed {
            return;
        }
    }
}

fn decompress(decoders: &mut [SectionDecoder; 3], window: Window<Section>) -> Result<Window<Vec<u8>>> {
    let Window { segment, length, checksum, sections } = window;
    let mut plain = [Vec::new(), Vec::new(), Vec::new()];
    for ((section, decoder), place) in sections.into_iter().zip(decoders).zip(&mut plain) {
        *place = if section.compressed { decoder.decode(&section.bytes)? } else { section.bytes };
    }
    Ok(Window { segment, length, checksum, sections: plain })
}

/// Carries out the instructions of windows, one after the other.
struct Executor<'a> {
    base: Pages,
    limits: &'a Limits,
    monitor: &'a Monitor,
    cache: AddressCache,
    /// The last windows, oldest first.
    history: VecDeque<Vec<u8>>,
    written: u64,
    copied: u64,
    /// Bytes of the delta that were read, for progress.
    delta_bytes: u64,
}

impl<'a> Executor<'a> {
    fn new(base: &Blob, limits: &'a Limits, monitor: &'a Monitor) -> Self {
        Self {
            base: Pages::new(base),
            limits,
            monitor,
            cache: AddressCache::new(),
            history: VecDeque::new(),
            written: 0,
            copied: 0,
            delta_bytes: 0,
        }
    }

    /// Makes the output of one window, checks and writes it.
    fn window(&mut self, window: &Window<Vec<u8>>, output: &mut impl Write) -> Result<()> {
        self.monitor.report(Phase::Delta, self.delta_bytes, None)?;
        let end = self.written.saturating_add(window.length as u64);
        if end > self.limits.output {
            return Err(Error::limit("output", self.limits.output, "what the delta makes, in bytes,"));
        }
        let mut buffer = self.free_buffer();
        if buffer.len() < window.length {
            // All zeros from the operating system: a window that claims much and makes little costs nothing.
            buffer = vec![0; window.length];
        }
        buffer.truncate(window.length);
        self.instructions(window, &mut buffer).map_err(|error| error.at_offset(self.written))?;
        if let Some(expected) = window.checksum {
            let found = adler32(&buffer);
            if found != expected {
                let what = format!("the checksum of the delta's output from byte {} on", self.written);
                return Err(Error::mismatch(&what, format!("{expected:08x}"), format!("{found:08x}"))
                    .with_hint("the delta was made from another base, or is damaged"));
            }
        }
        for part in buffer.chunks(CHECK_BYTES) {
            self.monitor.check()?;
            output.write_all(part).map_err(|error| Error::io("the output can't be written", error))?;
        }
        self.written = end;
        if !buffer.is_empty() {
            self.history.push_back(buffer);
        }
        Ok(())
    }

    /// A buffer of an older window whose contents are no longer needed.
    fn free_buffer(&mut self) -> Vec<u8> {
        let mut free = Vec::new();
        let mut kept: usize = self.history.iter().map(Vec::len).sum();
        while let Some(oldest) = self.history.front()
            && kept - oldest.len() >= HISTORY_BYTES
        {
            kept -= oldest.len();
            free = self.history.pop_front().unwrap_or_default();
        }
        free
    }

    /// Carries out all instructions of a window: `buffer` must be filled exactly, and all sections used up.
    fn instructions(&mut self, window: &Window<Vec<u8>>, buffer: &mut [u8]) -> Result<()> {
        let [data, instructions, addresses] = &window.sections;
        let (mut data, mut instructions, mut addresses) = (&**data, &**instructions, &**addresses);
        let segment = window.segment.length();
        self.cache.reset();
        let mut at: usize = 0;
        let (mut count, mut next_check): (u64, usize) = (0, CHECK_BYTES);
        while let Some((opcode, rest)) = instructions.split_first() {
            instructions = rest;
            for half in CODE_TABLE[usize::from(*opcode)] {
                if half.action == Action::Nothing {
                    continue;
                }
                let size = match half.size {
                    0 => varint::take("instruction size", &mut instructions)?,
                    size => u64::from(size),
                };
                // Each instruction makes at least one byte, so that their number is bounded by the size of the window.
                if size == 0 {
                    return Err(Error::malformed("an instruction of the delta makes nothing"));
                }
                count += 1;
                if count > self.limits.vcdiff_instructions {
                    let max = self.limits.vcdiff_instructions;
                    return Err(Error::limit("vcdiff_instructions", max, "instructions of a window of the delta"));
                }
                let target = usize::try_from(size).ok().and_then(|size| buffer.get_mut(at..at.checked_add(size)?));
                let Some(target) = target else {
                    return Err(Error::malformed("the instructions of a window of the delta make more than it holds"));
                };
                let length = target.len();
                match half.action {
                    Action::Nothing => {}
                    Action::Add => {
                        let (part, rest) = data.split_at_checked(length).ok_or_else(no_data)?;
                        target.copy_from_slice(part);
                        data = rest;
                    }
                    Action::Run => {
                        let (byte, rest) = data.split_first().ok_or_else(no_data)?;
                        target.fill(*byte);
                        data = rest;
                    }
                    Action::Copy(mode) => {
                        let here = segment.saturating_add(at as u64);
                        let address = if AddressCache::is_byte(mode) {
                            let (byte, rest) = addresses.split_first().ok_or_else(no_address)?;
                            addresses = rest;
                            Some(self.cache.same(mode, *byte))
                        } else {
                            let number = varint::take("address", &mut addresses)?;
                            self.cache.address(mode, number, here)
                        };
                        let address = address.filter(|address| *address < here).ok_or_else(|| {
                            Error::malformed("a copy of the delta begins outside of what is there so far")
                        })?;
                        self.cache.remember(address);
                        self.copy(window.segment, address, at, length, buffer)?;
                    }
                }
                at += length;
                if at >= next_check {
                    self.monitor.check()?;
                    next_check = at.saturating_add(CHECK_BYTES);
                }
            }
        }
        let complaint = match () {
            () if at != buffer.len() => "the instructions of a window of the delta make less than it holds",
            () if !data.is_empty() => "a window of the delta has data that no instruction uses",
            () if !addresses.is_empty() => "a window of the delta has addresses that no instruction uses",
            () => return Ok(()),
        };
        Err(Error::malformed(complaint))
    }

    /// Copies `length` bytes to `at` in the window's output, from an address in the segment followed by that output.
    fn copy(&mut self, segment: Segment, address: u64, at: usize, length: usize, buffer: &mut [u8]) -> Result<()> {
        // The part in the segment; a copy may go on from its end into the output.
        let before = segment.length().saturating_sub(address).min(length as u64) as usize;
        if before > 0 {
            let target = buffer.get_mut(at..at.saturating_add(before)).unwrap_or_default();
            match segment {
                Segment::None => {}
                Segment::Base { offset, .. } => {
                    let start = offset.saturating_add(address);
                    let end = start.saturating_add(before as u64);
                    if end > self.base.length() {
                        let found = format!("{} bytes", self.base.length());
                        return Err(Error::mismatch("the base of the delta", format!("at least {end} bytes"), found));
                    }
                    self.base.read(target, start)?;
                    self.copied = self.copied.saturating_add(before as u64);
                }
                Segment::Target { offset, .. } => copy_history(&self.history, self.written, offset + address, target)?,
            }
        }
        let from = usize::try_from(address.saturating_sub(segment.length())).unwrap_or(usize::MAX);
        copy_within(buffer, from, at.saturating_add(before), length - before);
        Ok(())
    }
}

/// Copies inside of the output of a window, byte by byte in meaning: a copy may read what it has just written.
fn copy_within(buffer: &mut [u8], from: usize, at: usize, length: usize) {
    // What is written so far repeats with this period, so that each round may copy all of it.
    let (mut done, period) = (0, at.saturating_sub(from));
    while done < length && period > 0 {
        let part = (period + done).min(length - done);
        buffer.copy_within(from..from + part, at + done);
        done += part;
    }
}

/// Copies from output of earlier windows, which end at `written`.
fn copy_history(history: &VecDeque<Vec<u8>>, written: u64, mut offset: u64, mut target: &mut [u8]) -> Result<()> {
    let mut start = written.saturating_sub(history.iter().map(|window| window.len() as u64).sum());
    if offset < start {
        return Err(Error::unsupported("the delta copies from a part of its output that is too far back"));
    }
    for window in history {
        let skipped = usize::try_from(offset.saturating_sub(start)).unwrap_or(usize::MAX);
        start = start.saturating_add(window.len() as u64);
        let Some(part) = window.get(skipped..).filter(|part| !part.is_empty()) else { continue };
        let count = part.len().min(target.len());
        let (now, rest) = target.split_at_mut(count);
        now.copy_from_slice(part.get(..count).unwrap_or_default());
        target = rest;
        offset = offset.saturating_add(count as u64);
        if target.is_empty() {
            break;
        }
    }
    Ok(())
}

fn no_data() -> Error {
    Error::malformed("a window of the delta has less data than its instructions use")
}

fn no_address() -> Error {
    Error::malformed("a window of the delta has fewer addresses than copies")
}
