//! The bridge between the synchronous API and the asynchronous driver: one small runtime for the
//! process, and [`wait`], which drives a future on the calling thread.
//!
//! `Runtime::block_on` panics on a thread of another runtime. [`wait`] parks the thread, and so
//! works on any.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

use crate::error::Result;
use crate::progress::{CANCEL_POLL, Cancel};
use crate::store::shared_runtime::SharedRuntime;

/// Threads for the lookup of hosts.
const BLOCKING: usize = 2;

static RUNTIME: SharedRuntime = SharedRuntime::new("lxd-image-postgres", BLOCKING);

/// The runtime on which connections live. It is started with the first catalog, and stays.
pub(super) fn handle() -> Result<Handle> {
    RUNTIME.handle()
}

/// Why [`wait`] gave up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GaveUp {
    TimedOut,
    Cancelled,
}

/// When [`wait`] gives up.
#[derive(Clone)]
pub(super) struct Patience {
    pub(super) deadline: Instant,
    pub(super) cancel: Cancel,
}

impl Patience {
    pub(super) fn new(wait: Duration, cancel: &Cancel) -> Self {
        // A wait beyond what the clock can express is one without end.
        let now = Instant::now();
        let deadline = now.checked_add(wait).or_else(|| now.checked_add(Duration::from_secs(1 << 30))).unwrap_or(now);
        Self { deadline, cancel: cancel.clone() }
    }

    /// The time that is left.
    pub(super) fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Sleeps, but not beyond the end.
    pub(super) fn sleep(&self, wait: Duration) -> Result<(), GaveUp> {
        let until = Patience::new(wait.min(self.left()), &self.cancel);
        loop {
            if self.cancel.is_cancelled() {
                return Err(GaveUp::Cancelled);
            }
            let left = until.left();
            if left.is_zero() {
                return if self.left().is_zero() { Err(GaveUp::TimedOut) } else { Ok(()) };
            }
            std::thread::sleep(left.min(CANCEL_POLL));
        }
    }
}

/// Unparks the thread that waits.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}

/// Drives a future to its end on this thread.
pub(super) fn wait<F: Future>(future: F, patience: &Patience) -> std::result::Result<F::Output, GaveUp> {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return Ok(output);
        }
        if patience.cancel.is_cancelled() {
            return Err(GaveUp::Cancelled);
        }
        let left = patience.left();
        if left.is_zero() {
            return Err(GaveUp::TimedOut);
        }
        std::thread::park_timeout(left.min(CANCEL_POLL));
    }
}
