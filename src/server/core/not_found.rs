//! The error for everything that a client can't see.

use crate::error::{Error, ErrorKind};

/// The error for everything that a client can't see.
///
/// The message has no detail on purpose: whatever it named would differ between a private image and
/// a missing one.
pub(crate) fn not_found() -> Error {
    Error::new(ErrorKind::NotFound, "not found")
}
