//! Runtimes for the asynchronous clients of engines, under the synchronous API of the store.
//!
//! Each engine has one of its own, so that none waits for the threads of another. Callers do not
//! enter it: `Runtime::block_on` panics on a thread of another runtime, and a server may call the
//! store from one.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};

use super::random::random_number;
use crate::error::{Error, Result};

/// Threads of a runtime. They copy between sockets and memory, hash requests and sleep; callers do the rest.
const WORKERS: usize = 2;

/// A runtime that is started when it is first needed, and lives as long as the process: dropping a
/// runtime blocks, and panics on threads of another one.
pub(crate) struct SharedRuntime {
    name: &'static str,
    /// Threads for calls that block, such as the lookup of a host.
    blocking: usize,
    runtime: Mutex<Option<Runtime>>,
}

impl SharedRuntime {
    /// A runtime that is not started yet. `name` names its threads.
    pub(crate) const fn new(name: &'static str, blocking: usize) -> Self {
        Self { name, blocking, runtime: Mutex::new(None) }
    }

    /// The handle of the runtime, which the first call starts.
    ///
    /// # Errors
    /// `Io` if the system refuses threads or descriptors.
    pub(crate) fn handle(&self) -> Result<Handle> {
        let mut runtime = self.runtime.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(runtime) = &*runtime {
            return Ok(runtime.handle().clone());
        }
        let started = Builder::new_multi_thread()
            .worker_threads(WORKERS)
            .max_blocking_threads(self.blocking)
            .thread_name(self.name)
            .enable_all()
            .build()
            .map_err(|error| Error::io(format!("the threads of `{}` cannot be started", self.name), error))?;
        let handle = started.handle().clone();
        *runtime = Some(started);
        Ok(handle)
    }
}

/// How long to sleep before attempt number `attempt` + 1: from `first`, twice as long each time, at
/// most `longest`. A random half of it, so that clients which failed together do not come back together.
pub(crate) fn backoff(first: Duration, longest: Duration, attempt: u32) -> Duration {
    let pause = first.saturating_mul(1 << attempt.min(16)).min(longest);
    let half = u64::try_from(pause.as_micros() / 2).unwrap_or(u64::MAX - 1);
    Duration::from_micros(half + random_number() % (half + 1))
}
