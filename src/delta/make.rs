//! [`make`]: two files make a delta.
//!
//! First the base is indexed. Then the new file is cut into groups of windows. A group is a job of its own: its windows are
//! read, matched against the whole base, and compressed with encoders that no other group uses. The calling thread hands
//! out jobs and writes their results in order. So all cores work, and the bytes don't depend on their number.

use std::collections::VecDeque;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use super::compress::Compressor;
use super::encode;
use super::index::Index;
use super::matches::Finder;
use super::varint;
use super::window::{COMPRESSED, FROM_BASE, HAS_CHECKSUM, HAS_SECONDARY, MAGIC, Segment, Window};
use crate::error::{Error, Result};
use crate::format::default_threads;
use crate::io::{Blob, ReadAt};
use crate::progress::{Monitor, Phase};

/// The output of one window, as in `xdelta3`, which refuses more than 16 MiB.
const WINDOW_BYTES: usize = 8 << 20;
/// Windows of a group. Encoders begin with an empty dictionary, so a group must not be small.
const GROUP_WINDOWS: u64 = 8;
/// The number of LZMA among the secondary compressors.
const LZMA: u8 = 2;
/// The largest dictionary for data, as a power of two: xz's preset 9 has the same. Applying the delta needs as much memory.
const DATA_DICTIONARY_BITS: u32 = 26;
/// The largest dictionary for instructions and addresses.
const OTHER_DICTIONARY_BITS: u32 = 22;
/// Sections below this size are stored.
const MIN_COMPRESSED: usize = 32;
/// Bits of entropy per byte above which data is not compressed: LZMA takes long to find out that it can't be.
const DENSE_BITS: f64 = 7.95;
/// Data that is smaller than this is not measured.
const MIN_MEASURED: usize = 64 << 10;

/// Options of [`make`].
///
/// ```
/// use lxd_image::delta::DeltaOptions;
///
/// let options = DeltaOptions::new().level(6).threads(2);
/// # let _ = options;
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct DeltaOptions {
    level: u32,
    threads: Option<usize>,
    index_memory: u64,
}

impl Default for DeltaOptions {
    fn default() -> Self {
        Self { level: 9, threads: None, index_memory: 256 << 20 }
    }
}

impl DeltaOptions {
    /// The smallest delta, made with all cores.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The preset of LZMA from 1 (fast) to 9 (small, the default), or 0 for a delta that is not compressed. Higher values count as 9.
    #[must_use]
    pub fn level(mut self, level: u32) -> Self {
        self.level = level.min(9);
        self
    }

    /// How many threads work; as many as there are cores by default. The delta is the same for every number. Each needs up to
    /// 700 MiB at the highest level, most of it for new data.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = Some(threads.max(1));
        self
    }

    /// How many bytes the index of the base may take, 256 MiB by default. Up to half of that, every match of some hundred
    /// bytes is found wherever it is in the base; in a base that is 16 times larger, every match of some thousand. The delta
    /// depends on it.
    #[must_use]
    pub fn index_memory(mut self, bytes: u64) -> Self {
        self.index_memory = bytes;
        self
    }
}

/// The result of [`make`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeltaReport {
    /// The size of the base in bytes.
    pub base_bytes: u64,
    /// The size of the new file in bytes.
    pub new_bytes: u64,
    /// The size of the delta in bytes.
    pub delta_bytes: u64,
    /// How many bytes of the new file are copied from the base.
    pub copied_bytes: u64,
    /// The number of windows.
    pub windows: u64,
}

/// Writes the delta that makes `new` out of `old`.
///
/// The delta is VCDIFF as `xdelta3 -d` takes it, with a checksum for each window and without an application header. The same
/// two files give the same bytes with every number of threads. The whole base is looked at for every part of the new file,
/// where `xdelta3` looks at 64 MiB of it.
///
/// ```
/// use lxd_image::delta::{self, DeltaOptions};
/// use lxd_image::io::Blob;
/// use lxd_image::{Limits, Monitor};
///
/// let old: Vec<u8> = (0..50_000_u32).flat_map(|number| (number * number).to_be_bytes()).collect();
/// let mut new = b"moved".to_vec();
/// new.extend_from_slice(&old);
///
/// let (old, new) = (Blob::from(old), Blob::from(new));
/// let mut bytes = Vec::new();
/// # let level = if cfg!(feature = "xz") { 9 } else { 0 };
/// # let options = DeltaOptions::new().level(level);
/// # /*
/// let options = DeltaOptions::new();
/// # */
/// let report = delta::make(&old, &new, &mut bytes, &options, &Monitor::none())?;
/// assert_eq!(report.copied_bytes, 200_000);
/// assert!(bytes.len() < 100);
///
/// let mut again = Vec::new();
/// delta::apply(&old, &bytes[..], &mut again, &Limits::default(), &Monitor::none())?;
/// assert_eq!(again.len(), 200_005);
/// # Ok::<(), lxd_image::Error>(())
/// ```
///
/// # Errors
/// `FeatureDisabled` without the feature `xz`, unless the level is 0; `Cancelled`; those of both files and of the writer.
pub fn make(
    old: &Blob,
    new: &Blob,
    mut output: impl Write,
    options: &DeltaOptions,
    monitor: &Monitor,
) -> Result<DeltaReport> {
    let threads = options.threads.unwrap_or_else(default_threads);
    let compressors = match options.level {
        0 => None,
        level => {
            let most = new.len().min(GROUP_WINDOWS * WINDOW_BYTES as u64);
            let data = Compressor::new(level, most, DATA_DICTIONARY_BITS)?;
            let other = Compressor::new(level, most, OTHER_DICTIONARY_BITS)?;
            Some([data, other, other])
        }
    };
    let index = Index::new(old, options.index_memory, threads, monitor)?;
    let mut writer = DeltaWriter {
        output: &mut output,
        compressors,
        begun: [false; 3],
        report: DeltaReport {
            base_bytes: old.len(),
            new_bytes: new.len(),
            delta_bytes: 0,
            copied_bytes: 0,
            windows: 0,
        },
    };
    writer.header()?;
    let group_bytes = GROUP_WINDOWS * WINDOW_BYTES as u64;
    let groups = new.len().div_ceil(group_bytes);
    if groups == 0 {
        // xdelta3 makes no file at all of a delta without windows.
        writer.window(&Encoded::empty())?;
    }
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| -> Result<()> {
        let _stop = StopOnDrop(&stop);
        let (jobs, queue) = crossbeam_channel::unbounded::<(u64, SyncSender<Result<Encoded>>)>();
        for _ in 0..threads.min(usize::try_from(groups).unwrap_or(usize::MAX)) {
            let (queue, index, stop) = (queue.clone(), &index, &stop);
            let work = move || {
                let finder = Finder::new(index, old, monitor);
                let mut group = Group { new, finder, compressors, monitor, stop };
                while let Ok((start, answers)) = queue.recv() {
                    group.run(start, start.saturating_add(group_bytes).min(new.len()), &answers);
                }
            };
            std::thread::Builder::new()
                .name("lxd-image delta".into())
                .spawn_scoped(scope, work)
                .map_err(|error| Error::io("a thread can't be started", error))?;
        }
        drop(queue);
        // One more than threads, so that none waits for the writer.
        let mut running: VecDeque<Receiver<Result<Encoded>>> = VecDeque::new();
        let mut next: u64 = 0;
        loop {
            while running.len() <= threads && next < new.len() {
                let (answers, results) = sync_channel(GROUP_WINDOWS as usize);
                jobs.send((next, answers)).map_err(|_| super::lost())?;
                running.push_back(results);
                next = next.saturating_add(group_bytes);
            }
            let Some(results) = running.pop_front() else { return Ok(()) };
            let last = results.into_iter().try_fold(false, |_, window| {
                let window = window?;
                writer.window(&window)?;
                monitor.report(Phase::Delta, window.end, Some(new.len()))?;
                Ok::<bool, Error>(window.is_last)
            })?;
            if !last {
                return Err(super::lost());
            }
        }
    })?;
    writer.output.flush().map_err(|error| Error::io("the delta can't be written", error))?;
    Ok(writer.report)
}

/// Stops the threads when the calling one is done, also after an error: jobs that are still queued are of no use then.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// An encoded window, without the parts that depend on earlier windows.
struct Encoded {
    segment: Segment,
    length: usize,
    checksum: Option<u32>,
    sections: [EncodedSection; 3],
    copied: u64,
    /// Where it ends in the new file.
    end: u64,
    /// Whether it is the last of its group.
    is_last: bool,
}

impl Encoded {
    /// A window without output.
    fn empty() -> Self {
        let (window, _) = encode::sections(&[], Vec::new());
        let Window { segment, length, checksum, .. } = window;
        Self { segment, length, checksum, sections: Default::default(), copied: 0, end: 0, is_last: true }
    }
}

#[derive(Default)]
struct EncodedSection {
    /// The size before compression, if it is compressed.
    plain: Option<u64>,
    bytes: Vec<u8>,
}

/// What one thread needs for its groups.
struct Group<'a> {
    new: &'a Blob,
    finder: Finder<'a>,
    compressors: Option<[Compressor; 3]>,
    monitor: &'a Monitor,
    stop: &'a AtomicBool,
}

impl Group<'_> {
    /// Encodes the windows from `start` to `end` and sends them in order; an error is the last that is sent.
    fn run(&mut self, start: u64, end: u64, answers: &SyncSender<Result<Encoded>>) {
        let all = self.windows(start, end).and_then(|windows| {
            let sizes = [0, 1, 2].map(|kind| {
                let size = |window: &(Window<Vec<u8>>, u64)| window.0.sections.get(kind).map_or(0, Vec::len) as u64;
                windows.iter().map(size).sum::<u64>()
            });
            let mut encoders = match self.compressors {
                None => None,
                Some([data, instructions, addresses]) => {
                    Some([data.encoder(sizes[0])?, instructions.encoder(sizes[1])?, addresses.encoder(sizes[2])?])
                }
            };
            let count = windows.len();
            let mut at = start;
            for (number, (window, copied)) in windows.into_iter().enumerate() {
                let Window { segment, length, checksum, sections: plain } = window;
                let mut sections: [EncodedSection; 3] = Default::default();
                for (kind, (plain, place)) in plain.into_iter().zip(&mut sections).enumerate() {
                    let encoder = encoders.as_mut().and_then(|encoders| encoders.get_mut(kind));
                    let stored = plain.len() < MIN_COMPRESSED || kind == 0 && is_dense(&plain);
                    *place = match encoder.filter(|_| !stored) {
                        Some(encoder) => {
                            let bytes = encoder.encode(&plain, self.monitor)?;
                            EncodedSection { plain: Some(plain.len() as u64), bytes }
                        }
                        None => EncodedSection { plain: None, bytes: plain },
                    };
                }
                at = at.saturating_add(length as u64);
                let is_last = number + 1 == count;
                let encoded = Encoded { segment, length, checksum, sections, copied, end: at, is_last };
                if answers.send(Ok(encoded)).is_err() {
                    break;
                }
            }
            Ok(())
        });
        if let Err(error) = all {
            // As above.
            let _ = answers.send(Err(error));
        }
    }

    /// The windows of a group with plain sections, and how much of each is copied from the base.
    fn windows(&mut self, start: u64, end: u64) -> Result<Vec<(Window<Vec<u8>>, u64)>> {
        let mut windows = Vec::new();
        let mut buffer = Vec::new();
        let mut at = start;
        while at < end {
            if self.stop.load(Ordering::Relaxed) {
                return Err(super::lost());
            }
            let length = (end - at).min(WINDOW_BYTES as u64);
            buffer.resize(length as usize, 0);
            self.new.read_exact_at(&mut buffer, at)?;
            let matches = self.finder.find(&buffer)?;
            windows.push(encode::sections(&buffer, matches));
            at += length;
        }
        Ok(windows)
    }
}

/// Writes the delta, window by window.
struct DeltaWriter<'a, W> {
    output: &'a mut W,
    compressors: Option<[Compressor; 3]>,
    /// Whether a section of each kind was compressed: the first one begins with the headers of the stream.
    begun: [bool; 3],
    report: DeltaReport,
}

impl<W: Write> DeltaWriter<'_, W> {
    fn header(&mut self) -> Result<()> {
        let mut header = MAGIC.to_vec();
        match self.compressors {
            Some(_) => header.extend([HAS_SECONDARY, LZMA]),
            None => header.push(0),
        }
        self.write(&header)
    }

    fn window(&mut self, window: &Encoded) -> Result<()> {
        let mut heads: [Vec<u8>; 3] = Default::default();
        let mut compressed = 0;
        let mut lengths = Vec::new();
        let places = heads.iter_mut().zip(&window.sections).zip(&mut self.begun).zip(COMPRESSED);
        for (kind, (((head, section), begun), bit)) in places.enumerate() {
            if let (Some(plain), Some(compressors)) = (section.plain, &self.compressors) {
                compressed |= bit;
                varint::push(head, plain);
                if let Some(compressor) = compressors.get(kind).filter(|_| !*begun) {
                    head.extend(compressor.header());
                    *begun = true;
                }
            }
            varint::push(&mut lengths, (head.len() + section.bytes.len()) as u64);
        }
        let mut encoding = Vec::new();
        varint::push(&mut encoding, window.length as u64);
        encoding.push(compressed);
        encoding.extend(lengths);
        encoding.extend(window.checksum.map(u32::to_be_bytes).into_iter().flatten());

        let mut indicator = 0;
        if window.checksum.is_some() {
            indicator |= HAS_CHECKSUM;
        }
        let mut bytes = Vec::new();
        if let Segment::Base { offset, length } = window.segment {
            indicator |= FROM_BASE;
            varint::push(&mut bytes, length);
            varint::push(&mut bytes, offset);
        }
        bytes.insert(0, indicator);
        let sections = heads.iter().zip(&window.sections).map(|(head, section)| head.len() + section.bytes.len());
        varint::push(&mut bytes, (encoding.len() + sections.sum::<usize>()) as u64);
        bytes.extend(encoding);
        self.write(&bytes)?;
        for (head, section) in heads.iter().zip(&window.sections) {
            self.write(head)?;
            self.write(&section.bytes)?;
        }
        self.report.windows += 1;
        self.report.copied_bytes = self.report.copied_bytes.saturating_add(window.copied);
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.report.delta_bytes = self.report.delta_bytes.saturating_add(bytes.len() as u64);
        self.output.write_all(bytes).map_err(|error| Error::io("the delta can't be written", error))
    }
}

/// Whether data looks as if it were compressed already, by how often each byte occurs.
fn is_dense(data: &[u8]) -> bool {
    if data.len() < MIN_MEASURED {
        return false;
    }
    let mut counts = [0_u32; 256];
    for byte in data {
        counts[usize::from(*byte)] += 1;
    }
    let all = data.len() as f64;
    let bits: f64 = counts
        .iter()
        .filter(|count| **count > 0)
        .map(|count| {
            let share = f64::from(*count) / all;
            -share * share.log2()
        })
        .sum();
    bits > DENSE_BITS
}
