//! Conformance suites for implementations of [`BlobStore`](super::BlobStore) and
//! [`Catalog`](super::Catalog) and its [`SharedRecords`](super::SharedRecords), one for each trait.
//!
//! Run them in the tests of an implementation. A suite returns an error with a sentence that says
//! which part of the contract is violated.
//!
//! ```
//! use lxd_image::store::{MemoryBlobs, MemoryCatalog, Scratch, conformance};
//!
//! conformance::catalog(&MemoryCatalog::new())?;
//! conformance::blobs(&MemoryBlobs::new(), &Scratch::in_memory())?;
//! # Ok::<(), lxd_image::Error>(())
//! ```

mod blobs;
mod catalog;
mod records;

pub use blobs::blobs;
pub use catalog::catalog;
pub use records::shared_records;

use crate::error::{Error, Result};

/// Fails with `what` unless it holds.
fn owed(holds: bool, what: &str) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::invalid(format!("not as owed: {what}"))) }
}
