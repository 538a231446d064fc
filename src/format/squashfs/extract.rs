//! Extracts the whole tree into a sink: names in order on the caller's thread, content on worker
//! threads.
//!
//! A producer walks the tree, asks the sink for a target for each file, and makes batches of blocks
//! to be decoded. Workers decode them and write to the targets, from several threads and in any
//! order. Files that share a fragment block go into one batch, so that the block is decoded once.
//!
//! What is in flight is bounded by the number of batches, not by the image: some descriptors, and a
//! few buffers per thread.

use std::mem;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::data::{BlockDecoder, FileData, FilePiece, FilePieces, StoredBlock, TotalSize};
use super::fragments;
use super::queue::WorkQueue;
use super::reader::{Node, SquashFsReader};
use crate::error::{Error, Result};
use crate::format::entry::Entry;
use crate::io::ReadAt;
use crate::progress::{Monitor, Phase};

/// Plain bytes after which a batch is handed over.
const BATCH_BYTES: u64 = 1 << 20;
/// Files in one batch. With [`MAX_QUEUED_BATCHES`] it bounds how many files are open.
const MAX_BATCH_FILES: usize = 16;
/// Batches that wait for a worker.
const MAX_QUEUED_BATCHES: usize = 16;

/// Receives the members of an image.
pub(crate) trait ExtractSink {
    /// What a regular file's content goes into.
    type Target: FileTarget;

    /// Takes the next member, parents before children, on the thread that called [`extract`].
    /// For a regular file it returns where the content goes, or None to pass over it.
    fn entry(&mut self, entry: &Entry) -> Result<Option<Self::Target>>;
}

/// Receives one file's content, from several threads at once and in any order.
pub(crate) trait FileTarget: Send + Sync {
    /// Writes bytes at an offset of the file. Offsets that are never written are holes.
    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<()>;

    /// Called once after all content was written, on the thread that wrote the last of it. Not
    /// called after a failure.
    fn finish(self) -> Result<()>;
}

/// Numbers about what was extracted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ExtractStats {
    /// Members, the top included.
    pub(crate) entries: u64,
    /// Regular files with content of their own.
    pub(crate) files: u64,
    /// Bytes given to targets.
    pub(crate) written: u64,
    /// Bytes that were holes.
    pub(crate) holes: u64,
}

/// Gives all members to `sink` and their content to its targets, on `threads` threads beside the
/// caller's; with one or none, all on the caller's.
pub(crate) fn extract<S: ReadAt, K: ExtractSink>(
    reader: &SquashFsReader<S>,
    sink: &mut K,
    threads: usize,
    monitor: &Monitor,
) -> Result<ExtractStats> {
    let state = ExtractState {
        reader,
        monitor,
        queue: WorkQueue::new(MAX_QUEUED_BATCHES),
        failure: Mutex::new(None),
        stopped: AtomicBool::new(false),
        consumed: AtomicU64::new(0),
    };
    if threads <= 1 {
        let mut scratch = BlockDecoder::new(reader)?;
        return Producer::new(&state, |batch| {
            state.run(&mut scratch, batch);
            state.failed()
        })
        .run(sink);
    }
    std::thread::scope(|scope| {
        let mut started = 0;
        for _ in 0..threads {
            let spawned = std::thread::Builder::new().name("squashfs".into()).spawn_scoped(scope, || state.work());
            match spawned {
                Ok(_) => started += 1,
                Err(source) if started == 0 => return Err(Error::io("no thread can be started", source)),
                // Fewer threads are slower, and that is all.
                Err(_) => break,
            }
        }
        let result = Producer::new(&state, |batch| {
            state.queue.push(batch);
            state.failed()
        })
        .run(sink);
        if result.is_err() {
            state.stop();
        }
        state.queue.close();
        result
    })
    .and_then(|stats| state.failed().map(|()| stats))
}

/// A file that is being filled. The last owner of the `Arc` around it finishes it.
struct FileJob<T> {
    target: T,
    path: Vec<u8>,
}

/// Parts of one file to be decoded and written.
struct FileWork<T> {
    job: Arc<FileJob<T>>,
    parts: Vec<BlockPart>,
}

/// A part of a file that is in some block.
enum BlockPart {
    Block { block: StoredBlock, offset: u64, length: u32 },
    Tail { block: StoredBlock, within: u32, offset: u64, length: u32 },
}

/// What the producer and the workers share.
struct ExtractState<'a, S, T> {
    reader: &'a SquashFsReader<S>,
    monitor: &'a Monitor,
    queue: WorkQueue<Vec<FileWork<T>>>,
    /// The first failure of any worker, until it is taken.
    failure: Mutex<Option<Error>>,
    /// Set with the first failure.
    stopped: AtomicBool,
    /// Stored bytes that were decoded, for progress.
    consumed: AtomicU64,
}

impl<S: ReadAt, T: FileTarget> ExtractState<'_, S, T> {
    /// The loop of a worker thread: takes batches until the queue is closed and empty.
    fn work(&self) {
        match BlockDecoder::new(self.reader) {
            Ok(mut scratch) => {
                while let Some(batch) = self.queue.pop() {
                    self.run(&mut scratch, batch);
                }
            }
            Err(error) => self.fail(error),
        }
    }

    /// Processes one batch and reports progress. The first failure is recorded and stops all
    /// workers.
    fn run(&self, scratch: &mut BlockDecoder, batch: Vec<FileWork<T>>) {
        for work in batch {
            if self.stopped.load(Ordering::Relaxed) {
                return;
            }
            if let Err(error) = self.fill(scratch, work) {
                return self.fail(error);
            }
        }
        let consumed = self.consumed.load(Ordering::Relaxed);
        if let Err(error) = self.monitor.report(Phase::Unpack, consumed, Some(self.reader.bytes_used())) {
            self.fail(error);
        }
    }

    /// Decodes and writes parts of a file, and finishes the file if they were the last.
    fn fill(&self, scratch: &mut BlockDecoder, work: FileWork<T>) -> Result<()> {
        let FileWork { job, parts } = work;
        let filled = parts.iter().try_for_each(|part| self.part(scratch, &job.target, part));
        filled.map_err(|error| error.in_entry(&job.path))?;
        match Arc::into_inner(job) {
            Some(job) if !self.stopped.load(Ordering::Relaxed) => {
                job.target.finish().map_err(|error| error.in_entry(&job.path))
            }
            _ => Ok(()),
        }
    }

    /// Decodes and writes one part.
    fn part(&self, scratch: &mut BlockDecoder, target: &T, part: &BlockPart) -> Result<()> {
        match *part {
            BlockPart::Block { block, offset, length } => {
                target.write_at(scratch.block(&self.reader.source, &block, length)?, offset)?;
                self.consumed.fetch_add(u64::from(block.stored), Ordering::Relaxed);
                Ok(())
            }
            BlockPart::Tail { block, within, offset, length } => {
                self.reader.tail(scratch, block, within, length, |bytes| target.write_at(bytes, offset))
            }
        }
    }

    /// Records a failure, unless there is an earlier one, and stops everything.
    fn fail(&self, error: Error) {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        self.stop();
    }

    /// Stops the workers after the part they are at, and drops what waits.
    fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
        self.queue.stop();
    }

    /// The first failure of any worker.
    fn failed(&self) -> Result<()> {
        if !self.stopped.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).take().map_or(Ok(()), Err)
    }
}

/// Walks the tree and makes batches of the blocks that the workers are to decode.
struct Producer<'a, S, T, F> {
    state: &'a ExtractState<'a, S, T>,
    /// Queues a batch, or processes it where there are no workers.
    hand_over: F,
    batch: Vec<FileWork<T>>,
    batch_bytes: u64,
    /// The fragment block of the batch: files with the same one are best done together.
    fragment: Option<u32>,
    /// The last fragment block that was looked up.
    found: Option<(u32, StoredBlock)>,
    sizes: TotalSize,
    stats: ExtractStats,
}

impl<'a, S: ReadAt, T: FileTarget, F: FnMut(Vec<FileWork<T>>) -> Result<()>> Producer<'a, S, T, F> {
    fn new(state: &'a ExtractState<'a, S, T>, hand_over: F) -> Self {
        let stats = ExtractStats::default();
        Self {
            state,
            hand_over,
            batch: Vec::new(),
            batch_bytes: 0,
            fragment: None,
            found: None,
            sizes: TotalSize::default(),
            stats,
        }
    }

    /// Walks the tree to its end.
    fn run<K: ExtractSink<Target = T>>(mut self, sink: &mut K) -> Result<ExtractStats> {
        for node in self.state.reader.walk() {
            let Node { entry, data, .. } = node?;
            self.state.monitor.check()?;
            self.stats.entries += 1;
            let counted = self.sizes.add(data.as_ref(), &self.state.reader.limits);
            counted.map_err(|error| error.in_entry(&entry.path))?;
            let target = sink.entry(&entry).map_err(|error| error.in_entry(&entry.path))?;
            if let (Some(target), Some(data)) = (target, data) {
                self.stats.files += 1;
                let job = Arc::new(FileJob { target, path: entry.path });
                let queued = self.queue_file(&job, &data);
                queued.map_err(|error| error.in_entry(&job.path))?;
                self.finish(job)?;
            }
        }
        self.flush()?;
        Ok(self.stats)
    }

    /// Drops the producer's share of a job. The workers may be done with all parts of a large file
    /// before its last batch is split off; then the producer is the last owner and finishes the
    /// file.
    fn finish(&mut self, job: Arc<FileJob<T>>) -> Result<()> {
        match Arc::into_inner(job) {
            Some(job) => job.target.finish().map_err(|error| error.in_entry(&job.path)),
            None => Ok(()),
        }
    }

    /// Adds the blocks of one file to batches. Counts written bytes against the limit `output`.
    fn queue_file(&mut self, job: &Arc<FileJob<T>>, data: &FileData) -> Result<()> {
        let reader = self.state.reader;
        let mut pieces = FilePieces::new(reader, data);
        let mut parts = Vec::new();
        while let Some(piece) = pieces.next(reader)? {
            let (part, length) = match piece {
                FilePiece::Hole { length, .. } => {
                    self.stats.holes += u64::from(length);
                    // A hole costs no I/O, so nothing else in this loop would notice a cancellation
                    // in a file of exabytes.
                    if self.stats.holes.is_multiple_of(1 << 30) {
                        self.state.monitor.check()?;
                    }
                    continue;
                }
                FilePiece::Block { block, offset, length } => (BlockPart::Block { block, offset, length }, length),
                FilePiece::Tail { fragment, within, offset, length } => {
                    // One fragment block per batch, so that no two threads wait for each other to
                    // decode it.
                    if self.fragment.is_some_and(|of_batch| of_batch != fragment) {
                        self.flush()?;
                    }
                    self.fragment = Some(fragment);
                    (BlockPart::Tail { block: self.fragment_block(fragment)?, within, offset, length }, length)
                }
            };
            self.stats.written += u64::from(length);
            if self.stats.written > reader.limits.output {
                return Err(Error::limit("output", reader.limits.output, "what the image unpacks to"));
            }
            self.batch_bytes += u64::from(length);
            parts.push(part);
            if self.batch_bytes >= BATCH_BYTES {
                self.batch.push(FileWork { job: Arc::clone(job), parts: mem::take(&mut parts) });
                self.flush()?;
            }
        }
        if !parts.is_empty() {
            self.batch.push(FileWork { job: Arc::clone(job), parts });
            if self.batch.len() >= MAX_BATCH_FILES {
                self.flush()?;
            }
        }
        Ok(())
    }

    /// The fragment block of this number, from the last look-up if it is the same.
    fn fragment_block(&mut self, number: u32) -> Result<StoredBlock> {
        match self.found {
            Some((found, block)) if found == number => Ok(block),
            _ => {
                let block = fragments::find(self.state.reader, number)?;
                self.found = Some((number, block));
                Ok(block)
            }
        }
    }

    /// Hands the batch over, if there is anything in it.
    fn flush(&mut self) -> Result<()> {
        self.batch_bytes = 0;
        self.fragment = None;
        if self.batch.is_empty() {
            return Ok(());
        }
        (self.hand_over)(mem::take(&mut self.batch))
    }
}
