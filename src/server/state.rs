//! [`ServerState`]: what the functions of the routes share.

use crate::server::api::simplestreams::kept::Streams;
use crate::server::core::services::Services;

/// The services, and what an interface keeps between requests.
#[derive(Debug)]
pub(crate) struct ServerState {
    /// The store with all that the server knows beside it.
    pub(crate) services: Services,
    /// The documents of the simplestreams tree, as they were last made.
    pub(crate) streams: Streams,
}
