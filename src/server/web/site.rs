//! [`Site`]: what all pages show about the server.

use serde::Serialize;

use super::commands::Remote;

/// What all pages show about the server.
#[derive(Serialize, Default)]
pub(super) struct Site {
    /// Its title.
    pub(super) name: String,
    /// Its URL, as the commands contain it.
    pub(super) remote: Remote,
}
