//! Threads that write files' contents and attributes, through descriptors that were opened for
//! them. They never see a name, so nothing that happens to names meanwhile can mislead them.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Scope, ScopedJoinHandle};

use crossbeam_channel::Sender;

use super::WriteBudget;
use super::attributes::{Applier, Attributes};
use crate::error::{Error, Result};
use crate::format::chunk::Chunk;
use crate::format::holes;

/// A file that is being written, perhaps by several threads at once. `pending` counts jobs that are
/// not done, and one for the caller; whoever brings it to zero completes the file.
pub(crate) struct OpenFile {
    file: File,
    attributes: Attributes,
    /// The logical size, holes included.
    size: u64,
    /// The path in the image, for errors and omissions.
    path: Vec<u8>,
    /// Whether zeros become holes.
    is_disk: bool,
    /// Bytes that came for it, and those of them that are in the file: zeros of a disk became holes.
    given: AtomicU64,
    stored: AtomicU64,
    /// Jobs that are not done, and one for the side that still hands bytes over.
    pending: AtomicUsize,
}

impl OpenFile {
    /// Writes bytes at their offset. Zeros of a disk become holes, which is safe since the file is
    /// new and each offset is written once. Other files have the holes that the image states, and
    /// only those: a swap file may have none.
    fn write(&self, bytes: &[u8], offset: u64) -> Result<()> {
        let stored = if self.is_disk {
            holes::write(&self.file, bytes, offset)
        } else {
            self.file.write_all_at(bytes, offset).map(|()| bytes.len() as u64)
        };
        let stored = stored.map_err(|error| Error::io("a file can't be written", error).in_entry(&self.path))?;
        self.given.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        self.stored.fetch_add(stored, Ordering::Relaxed);
        Ok(())
    }
}

/// Pieces of one file to be written.
struct WriteJob {
    file: Arc<OpenFile>,
    pieces: Vec<(u64, Chunk)>,
}

/// What the threads share: the budget, and the first failure.
struct WriterState {
    applier: Arc<Applier>,
    /// What the image may still write, and what it could at first: bytes.
    left: AtomicU64,
    budget: WriteBudget,
    /// Set with the first error; checked without a lock.
    failed: AtomicBool,
    /// The first error, until a caller takes it.
    error: Mutex<Option<Error>>,
}

/// The pool of writing threads.
pub(crate) struct Writers<'scope> {
    /// None once all jobs were handed over.
    jobs: Option<Sender<WriteJob>>,
    state: Arc<WriterState>,
    threads: Vec<ScopedJoinHandle<'scope, ()>>,
}

/// Jobs that may wait; as many descriptors are open for them.
const MAX_QUEUED_JOBS: usize = 64;

impl<'scope> Writers<'scope> {
    /// Starts the threads, at least one.
    pub(crate) fn start<'env>(
        scope: &'scope Scope<'scope, 'env>,
        applier: Arc<Applier>,
        budget: WriteBudget,
        threads: usize,
    ) -> Result<Self> {
        let (jobs, queue) = crossbeam_channel::bounded::<WriteJob>(MAX_QUEUED_JOBS);
        let state = Arc::new(WriterState {
            applier,
            left: AtomicU64::new(budget.bytes()),
            budget,
            failed: AtomicBool::new(false),
            error: Mutex::new(None),
        });
        let threads = (0..threads.max(1))
            .map(|_| {
                let (queue, state) = (queue.clone(), Arc::clone(&state));
                std::thread::Builder::new()
                    .name("lxd-image-write".to_owned())
                    .spawn_scoped(scope, move || {
                        for job in queue {
                            // After a failure the queue is only emptied.
                            if !state.failed.load(Ordering::Relaxed) {
                                state.run(&job);
                            }
                        }
                    })
                    .map_err(|error| Error::io("a thread can't be started", error))
            })
            .collect::<Result<_>>()?;
        Ok(Self { jobs: Some(jobs), state, threads })
    }

    /// Takes over a new file of `size` logical bytes.
    pub(crate) fn file(&self, file: File, attributes: Attributes, size: u64, path: &[u8]) -> Arc<OpenFile> {
        Arc::new(Self::new_file(file, attributes, size, path))
    }

    /// Takes over the new file of a disk.
    pub(crate) fn disk(&self, file: File, attributes: Attributes, size: u64, path: &[u8]) -> Arc<OpenFile> {
        Arc::new(OpenFile { is_disk: true, ..Self::new_file(file, attributes, size, path) })
    }

    fn new_file(file: File, attributes: Attributes, size: u64, path: &[u8]) -> OpenFile {
        OpenFile {
            file,
            attributes,
            size,
            path: path.to_vec(),
            is_disk: false,
            given: AtomicU64::new(0),
            stored: AtomicU64::new(0),
            pending: AtomicUsize::new(1),
        }
    }

    /// Takes `bytes` off what the image may still write.
    pub(crate) fn charge(&self, bytes: u64) -> Result<()> {
        self.state.charge(bytes)
    }

    /// A way to write a file on the caller's own threads.
    pub(crate) fn direct(&self, file: Arc<OpenFile>) -> DirectFile {
        DirectFile { file, state: Arc::clone(&self.state) }
    }

    /// Queues pieces of a file. Waits while the queue is full.
    ///
    /// # Errors
    /// The first error of any writer.
    pub(crate) fn write(&self, file: &Arc<OpenFile>, pieces: Vec<(u64, Chunk)>) -> Result<()> {
        // Counted before it is sent: a thread might finish the job before this one goes on, and
        // must not see zero.
        file.pending.fetch_add(1, Ordering::AcqRel);
        self.send(WriteJob { file: Arc::clone(file), pieces })
    }

    /// The last bytes of a file: whoever is done last gives the file its attributes.
    pub(crate) fn close(&self, file: Arc<OpenFile>, pieces: Vec<(u64, Chunk)>) -> Result<()> {
        // This job stands for the caller's own part, which `pending` counts from the start.
        self.send(WriteJob { file, pieces })
    }

    /// Queues a job, and returns an error of an earlier one.
    fn send(&self, job: WriteJob) -> Result<()> {
        if self.jobs.as_ref().is_none_or(|jobs| jobs.send(job).is_err()) {
            return Err(Error::new(crate::ErrorKind::Io, "the writing threads have ended"));
        }
        self.check()
    }

    /// Fails with the first error of any writer.
    pub(crate) fn check(&self) -> Result<()> {
        if !self.state.failed.load(Ordering::Relaxed) {
            return Ok(());
        }
        let error = self.state.error.lock().unwrap_or_else(PoisonError::into_inner).take();
        Err(error.unwrap_or_else(Error::cancelled))
    }

    /// Waits until everything is written, and returns the first error.
    pub(crate) fn finish(mut self) -> Result<()> {
        self.jobs = None;
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                return Err(Error::new(crate::ErrorKind::Io, "a writing thread ended unexpectedly"));
            }
        }
        let error = self.state.error.lock().unwrap_or_else(PoisonError::into_inner).take();
        error.map_or(Ok(()), Err)
    }
}

impl Drop for Writers<'_> {
    fn drop(&mut self) {
        if self.jobs.is_some() {
            // The call has failed or was cancelled: what waits in the queue need not be written.
            self.state.failed.store(true, Ordering::Relaxed);
        }
    }
}

/// A file that other threads than the writers fill, such as SquashFS workers. Charged to the same
/// budget.
pub(crate) struct DirectFile {
    file: Arc<OpenFile>,
    state: Arc<WriterState>,
}

impl DirectFile {
    /// Writes bytes at an offset, within the budget.
    pub(crate) fn write_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        self.state.charge(bytes.len() as u64)?;
        self.file.write(bytes, offset)
    }

    /// All bytes are there: gives the file its size and its attributes.
    pub(crate) fn finish(self) -> Result<()> {
        self.state.complete(&self.file)
    }
}

impl WriterState {
    /// Takes bytes off the budget. Atomic, so that threads together can't exceed it.
    fn charge(&self, bytes: u64) -> Result<()> {
        self.left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(bytes))
            .map(drop)
            .map_err(|_| self.budget.exceeded())
    }

    /// Writes the pieces of a job.
    fn run(&self, job: &WriteJob) {
        for (offset, piece) in &job.pieces {
            if let Err(error) = job.file.write(piece, *offset) {
                self.fail(error);
                return;
            }
        }
        self.done(&job.file);
    }

    /// One part of a file is done; with the last one it gets its size and its attributes.
    fn done(&self, file: &OpenFile) {
        // Acquire and release: the last thread must see the writes of all others before it sets
        // times and attributes.
        if file.pending.fetch_sub(1, Ordering::AcqRel) != 1 {
            return;
        }
        if let Err(error) = self.complete(file) {
            self.fail(error);
        }
    }

    /// Gives a complete file its size, where a hole at its end was never written, and its
    /// attributes.
    fn complete(&self, file: &OpenFile) -> Result<()> {
        // A hole at the end was never written.
        let sized = if file.stored.load(Ordering::Relaxed) < file.size { file.file.set_len(file.size) } else { Ok(()) };
        sized
            .map_err(|error| Error::io("a file's size can't be set", error))
            .and_then(|()| self.applier.apply(file.file.as_fd(), &file.attributes, &file.path))
            .map_err(|error| error.in_entry(&file.path))?;
        self.applier.count(file.given.load(Ordering::Relaxed));
        Ok(())
    }

    /// Records an error, unless there is an earlier one. The threads then only empty the queue.
    fn fail(&self, error: Error) {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        self.failed.store(true, Ordering::Relaxed);
    }
}
