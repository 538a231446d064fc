//! [`Opened`]: what the reader of a format returns.

use super::runs::RunMap;

/// What a format's reader found.
pub(super) struct Opened {
    pub(super) map: Box<dyn RunMap>,
    pub(super) virtual_size: u64,
    /// The kind within the format, for people.
    pub(super) variant: String,
}
