//! Work on a disk in pieces, on several threads, with a bound on what is in memory at once.
//!
//! One thread walks through the tables and makes jobs, workers load and encode, and the results come
//! to the caller in the order of the jobs. So what is written does not depend on the number of
//! threads, and a slow write slows the walk down.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use crossbeam_channel::bounded;

use crate::error::{Error, Result};

/// Bytes that all jobs together may hold, with their results.
const MEMORY_BYTES: usize = 32 << 20;

/// How many workers there are, and how many jobs are begun at once.
#[derive(Debug, Clone, Copy)]
pub(super) struct Crew {
    workers: usize,
    in_flight: usize,
}

impl Crew {
    /// As many as `threads`, or fewer where jobs of `job_bytes` would take too much memory.
    pub(super) fn new(threads: usize, job_bytes: usize) -> Self {
        // What is read and what is made of it.
        let room = (MEMORY_BYTES / job_bytes.saturating_mul(2).max(1)).max(2);
        let workers = threads.clamp(1, room);
        Self { workers, in_flight: workers.saturating_mul(2).min(room) }
    }

    /// Makes jobs with `produce` (until it returns `None`), turns each into a result with a worker,
    /// and passes the results to `take` in the order of the jobs.
    ///
    /// `worker` makes the state of one thread, and `work` does a job with it.
    ///
    /// # Errors
    /// The first error of any of them, after which all stop.
    pub(super) fn run<J: Send, R: Send, S>(
        self,
        mut produce: impl FnMut() -> Result<Option<J>> + Send,
        worker: impl Fn() -> Result<S> + Sync,
        work: impl Fn(&mut S, J) -> Result<R> + Sync,
        mut take: impl FnMut(R) -> Result<()>,
    ) -> Result<()> {
        let (job_sender, jobs) = bounded::<(u64, J)>(self.in_flight);
        let (result_sender, results) = bounded::<(u64, R)>(self.in_flight);
        // A job is begun only with a permit, which its result gives back once it was taken. Without it, results would
        // pile up behind a slow one.
        let (permit_sender, permits) = bounded::<()>(self.in_flight);
        for _ in 0..self.in_flight {
            let _ = permit_sender.send(());
        }
        let failure = Failure::default();
        thread::scope(|scope| {
            let failed = &failure;
            scope.spawn(move || {
                let mut number = 0;
                while permits.recv().is_ok() && !failed.is_set() {
                    match produce() {
                        Ok(Some(job)) => {
                            if job_sender.send((number, job)).is_err() {
                                break;
                            }
                            number += 1;
                        }
                        Ok(None) => break,
                        Err(error) => {
                            failed.set(error);
                            break;
                        }
                    }
                }
            });
            for _ in 0..self.workers {
                let (jobs, results, worker, work) = (jobs.clone(), result_sender.clone(), &worker, &work);
                scope.spawn(move || {
                    let done = worker().and_then(|mut state| {
                        while let Ok((number, job)) = jobs.recv() {
                            if failed.is_set() {
                                break;
                            }
                            let result = work(&mut state, job)?;
                            if results.send((number, result)).is_err() {
                                break;
                            }
                        }
                        Ok(())
                    });
                    if let Err(error) = done {
                        failed.set(error);
                    }
                });
            }
            drop((jobs, result_sender));
            let (mut waiting, mut next) = (BTreeMap::new(), 0_u64);
            while let Ok((number, result)) = results.recv() {
                waiting.insert(number, result);
                while let Some(result) = waiting.remove(&next) {
                    next += 1;
                    if let Err(error) = take(result) {
                        failed.set(error);
                    }
                    let _ = permit_sender.try_send(());
                }
                if failed.is_set() {
                    break;
                }
            }
            // Both let go of whoever waits for them.
            drop((results, permit_sender));
        });
        failure.into_result()
    }
}

/// The first error of several threads.
#[derive(Default)]
struct Failure {
    is_set: AtomicBool,
    error: Mutex<Option<Error>>,
}

impl Failure {
    fn set(&self, error: Error) {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        self.is_set.store(true, Ordering::Release);
    }

    fn is_set(&self) -> bool {
        self.is_set.load(Ordering::Acquire)
    }

    fn into_result(self) -> Result<()> {
        self.error.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    fn run(threads: usize, jobs: u32, fail_at: Option<u32>) -> Result<Vec<u32>> {
        let mut taken = Vec::new();
        let mut next = 0..jobs;
        Crew::new(threads, 1 << 20).run(
            || Ok(next.next()),
            || Ok(()),
            |(), job| if Some(job) == fail_at { Err(Error::invalid("no")) } else { Ok(job) },
            |result| {
                taken.push(result);
                Ok(())
            },
        )?;
        Ok(taken)
    }

    #[test]
    fn results_come_in_the_order_of_the_jobs() {
        for threads in [1, 2, 7, 64] {
            assert_eq!(run(threads, 500, None).unwrap(), (0..500).collect::<Vec<_>>());
        }
    }

    #[test]
    fn error_of_a_worker_ends_the_run() {
        for threads in [1, 2, 7] {
            assert!(run(threads, 500, Some(250)).is_err());
        }
    }

    #[test]
    fn no_more_jobs_are_in_memory_than_the_bound_allows() {
        assert_eq!(Crew::new(64, 2 << 20).in_flight, 8);
        assert_eq!(Crew::new(2, 1 << 20).in_flight, 4);
    }
}
