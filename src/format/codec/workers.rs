//! Threads that take jobs in order and answer each through a channel of its own.
//! Whoever waits for the answers in the order of the jobs gets them in order.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};

use crate::error::{Error, ErrorKind, Result};

/// Dropping it stops the threads and waits for them. Drop the receivers first: a thread may be
/// waiting for room in one.
pub(super) struct Workers<T, U> {
    jobs: Option<Sender<(T, SyncSender<U>)>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl<T: Send + 'static, U: Send + 'static> Workers<T, U> {
    /// `make` gives each thread its own state.
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

    /// How many jobs should be under way to keep all threads busy while the oldest is waited for.
    pub(super) fn depth(&self) -> usize {
        self.threads.len() * 2
    }

    /// Queues a job; `room` answers of it may wait to be received.
    pub(super) fn submit(&self, job: T, room: usize) -> Result<Receiver<U>> {
        let (answers, receiver) = sync_channel(room);
        self.jobs.as_ref().and_then(|jobs| jobs.send((job, answers)).ok()).ok_or_else(lost)?;
        Ok(receiver)
    }
}

fn next<J>(queue: &Mutex<Receiver<J>>) -> Option<J> {
    queue.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
}

/// A thread ended without its answer.
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
