//! Compresses blocks on several threads and returns them in the order of submission.
//!
//! A fixed number of blocks is in flight, so that memory does not depend on the image.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;

use super::super::queue::WorkQueue;
use super::WriteOptions;
use super::encode::Encoder;
use crate::error::{Error, Result};
use crate::progress::{CANCEL_POLL, Cancel};

/// Blocks in flight per thread: one being compressed, one waiting, two finished whose turn has not
/// come.
const BLOCKS_PER_THREAD: usize = 4;

/// A block as it will be stored.
pub(super) struct EncodedBlock {
    /// The bytes to store.
    pub(super) bytes: Vec<u8>,
    /// Whether they are the plain bytes, because compression did not make them shorter.
    pub(super) raw: bool,
}

/// A block to be compressed, and the channel for the result.
struct EncodeTask {
    /// The bytes to compress.
    plain: Vec<u8>,
    /// Receives the result. It has room for one, so that a worker never waits.
    answer: SyncSender<Result<EncodedBlock>>,
}

/// The threads and the blocks in flight. `P` says what a block is for and is returned with it.
pub(super) struct EncodePipeline<P> {
    /// Blocks that wait for a worker. Not bounded here, as `under_way` is.
    queue: Arc<WorkQueue<EncodeTask>>,
    /// The threads; none where the caller compresses by itself.
    workers: Vec<JoinHandle<()>>,
    /// Blocks in flight, in the order of submission.
    under_way: VecDeque<(P, Receiver<Result<EncodedBlock>>)>,
    /// In place of workers, where there is one thread.
    own: Option<Encoder>,
    /// Blocks that were compressed on the caller's thread.
    finished: VecDeque<(P, EncodedBlock)>,
    /// Ends waits for blocks.
    cancel: Cancel,
}

impl<P> EncodePipeline<P> {
    /// # Errors
    /// Those of making an encoder; `Io` where not even one thread can be started.
    pub(super) fn new(options: &WriteOptions) -> Result<Self> {
        let encoder = || -> Result<Encoder> {
            let encoder = Encoder::new(options.compression, options.level, options.block_size)?;
            Ok(encoder.unless(options.stored).until(options.monitor.cancel()))
        };
        let mut this = Self {
            queue: Arc::new(WorkQueue::new(usize::MAX)),
            workers: Vec::new(),
            under_way: VecDeque::new(),
            own: None,
            finished: VecDeque::new(),
            cancel: options.monitor.cancel().clone(),
        };
        if options.threads <= 1 {
            this.own = Some(encoder()?);
            return Ok(this);
        }
        for _ in 0..options.threads {
            let (queue, encoder) = (Arc::clone(&this.queue), encoder()?);
            match std::thread::Builder::new().name("squashfs".into()).spawn(move || work(&queue, encoder)) {
                Ok(worker) => this.workers.push(worker),
                Err(source) if this.workers.is_empty() => return Err(Error::io("no thread can be started", source)),
                // Fewer threads are slower, and give the same bytes.
                Err(_) => break,
            }
        }
        Ok(this)
    }

    /// Sends a block on its way.
    ///
    /// # Errors
    /// Those of compressing, where there is one thread.
    pub(super) fn submit(&mut self, purpose: P, plain: Vec<u8>) -> Result<()> {
        if let Some(encoder) = &mut self.own {
            self.finished.push_back((purpose, pack(encoder, plain)?));
            return Ok(());
        }
        let (answer, result) = sync_channel(1);
        self.queue.push(EncodeTask { plain, answer });
        self.under_way.push_back((purpose, result));
        Ok(())
    }

    /// The first block under way, once it is done; none while there is room for more, unless `all`
    /// are wanted.
    ///
    /// The order of results is that of submission, whichever thread is done first: the bytes of an
    /// image do not depend on the number of threads.
    ///
    /// # Errors
    /// `Cancelled`; those of compressing; `Io` where a thread ended without a result.
    pub(super) fn next(&mut self, all: bool) -> Result<Option<(P, EncodedBlock)>> {
        if let Some(finished) = self.finished.pop_front() {
            return Ok(Some(finished));
        }
        if !all && self.under_way.len() < self.workers.len() * BLOCKS_PER_THREAD {
            return Ok(None);
        }
        let Some((purpose, result)) = self.under_way.pop_front() else { return Ok(None) };
        let lost = || Error::io("a compressing thread ended", std::io::Error::other("it gave no answer"));
        loop {
            self.cancel.check()?;
            match result.recv_timeout(CANCEL_POLL) {
                Ok(packed) => return Ok(Some((purpose, packed?))),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(lost()),
            }
        }
    }
}

impl<P> Drop for EncodePipeline<P> {
    fn drop(&mut self) {
        self.queue.stop();
        for worker in self.workers.drain(..) {
            // A worker that panicked has said so itself.
            let _ = worker.join();
        }
    }
}

/// The loop of a worker thread.
fn work(queue: &WorkQueue<EncodeTask>, mut encoder: Encoder) {
    while let Some(EncodeTask { plain, answer }) = queue.pop() {
        // Nobody waits any more when the writer was dropped.
        let _ = answer.send(pack(&mut encoder, plain));
    }
}

/// Compresses a block, or keeps it as it is where that is not shorter.
fn pack(encoder: &mut Encoder, plain: Vec<u8>) -> Result<EncodedBlock> {
    let packed = encoder.encode(&plain)?.map(<[u8]>::to_vec);
    Ok(match packed {
        Some(bytes) => EncodedBlock { bytes, raw: false },
        None => EncodedBlock { bytes: plain, raw: true },
    })
}
