//! A pool of threads for the codecs that work block by block: gzip, bzip2 and lz4.
//!
//! Jobs are taken from one queue in the order in which they were submitted, and each is answered
//! through a channel of its own. A caller that receives from these channels in the order of
//! submission gets the results in order, whichever thread was faster; this is what makes the output
//! independent of the number of threads.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};

use crate::error::{Error, ErrorKind, Result};

/// The pool. Dropping it stops the threads and waits for them, so that no thread outlives the
/// codec.
///
/// Drop the receivers first (declare them before the pool): a thread may be waiting for room in the
/// channel of an answer that nobody will receive, and would never see that it should stop.
pub(super) struct Workers<T, U> {
    /// `None` once the pool is being dropped, which ends the queue.
    jobs: Option<Sender<(T, SyncSender<U>)>>,
    /// Set when dropped: queued jobs are not done any more.
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl<T: Send + 'static, U: Send + 'static> Workers<T, U> {
    /// Starts `threads` threads, at least one. `make` is called once for each and gives it a state
    /// of its own, such as a compressor. The function gets the job and the channel for its answers;
    /// it may send several.
    ///
    /// # Errors
    /// `Io` where a thread can't be started. Those that were started are stopped.
    pub(super) fn new<F>(threads: usize, make: impl Fn() -> F) -> Result<Self>
    where
        F: FnMut(T, &SyncSender<U>) + Send + 'static,
    {
        let (jobs, queue) = channel::<(T, SyncSender<U>)>();
        let queue = Arc::new(Mutex::new(queue));
        let stop = Arc::new(AtomicBool::new(false));
        let mut workers = Self { jobs: Some(jobs), stop, threads: Vec::new() };
        for _ in 0..threads.max(1) {
            let (queue, stop, mut work) = (Arc::clone(&queue), Arc::clone(&workers.stop), make());
            let thread = Builder::new().name("lxd-image codec".into()).spawn(move || {
                while let Some((job, answers)) = next(&queue) {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    work(job, &answers);
                }
            });
            workers.threads.push(thread.map_err(|error| Error::io("a thread can't be started", error))?);
        }
        Ok(workers)
    }

    /// How many jobs should be in flight to keep all threads busy while the oldest is waited for.
    /// The bound on memory is this number times the size of a block.
    pub(super) fn depth(&self) -> usize {
        self.threads.len() * 2
    }

    /// Queues a job and returns the receiver of its answers. The thread waits when `room` answers
    /// have not been received.
    ///
    /// # Errors
    /// `Io` where all threads have ended, which means that each of them panicked.
    pub(super) fn submit(&self, job: T, room: usize) -> Result<Receiver<U>> {
        let (answers, receiver) = sync_channel(room);
        self.jobs.as_ref().and_then(|jobs| jobs.send((job, answers)).ok()).ok_or_else(lost)?;
        Ok(receiver)
    }
}

/// The next job; `None` once the pool was dropped and the queue is empty. Holding the lock while
/// waiting is intended: exactly one idle thread waits in `recv`, the others wait for the lock.
fn next<J>(queue: &Mutex<Receiver<J>>) -> Option<J> {
    queue.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
}

/// The error for a thread that ended without an answer.
pub(super) fn lost() -> Error {
    Error::new(ErrorKind::Io, "a compression thread ended early")
}

impl<T, U> Drop for Workers<T, U> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.jobs = None;
        for thread in self.threads.drain(..) {
            // A panic in it was seen as a missing answer already.
            let _ = thread.join();
        }
    }
}
