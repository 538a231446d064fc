//! `Listener`: the handler on the network, over TLS 1.3 with HTTP/1.1 and 2, within bounds, until it is told to stop.
//! The only part of the library that has an async runtime.

use std::sync::Arc;

use super::handler::Handler;

/// How the server listens.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct ListenerOptions {}

/// A server that listens.
#[derive(Debug)]
pub struct Listener {
    /// What answers.
    pub handler: Arc<Handler>,
}
