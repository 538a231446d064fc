//! [`Stage`]: how far a shutdown is, and the wait for it beside other work.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

/// The stages of shutdown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Connections are accepted and requests answered.
    Serve,
    /// Running requests are finished, and new ones refused.
    Finish,
    /// Running requests are cut.
    Cut,
}

impl Stage {
    /// Whether the shutdown has begun.
    pub(super) fn is_ending(&self) -> bool {
        *self != Self::Serve
    }
}

/// Waits for the first of two futures and drops the other. The first one is polled first.
///
/// A small replacement for a macro of the runtime; both futures are on the caller's stack.
pub(super) async fn either<T>(one: impl Future<Output = T>, other: impl Future<Output = T>) -> T {
    let (mut one, mut other) = (pin!(one), pin!(other));
    poll_fn(|cx| match one.as_mut().poll(cx) {
        Poll::Ready(first) => Poll::Ready(first),
        Poll::Pending => other.as_mut().poll(cx),
    })
    .await
}
