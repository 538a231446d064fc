//! What every implementation of [`BlobStore`](super::BlobStore) and [`Catalog`](super::Catalog) owes: one suite for each trait,
//! to be run against each implementation. Fails with a sentence that says where one falls short.

mod blobs;
mod catalog;

pub use blobs::blobs;
pub use catalog::catalog;

use crate::error::{Error, Result};

fn owed(holds: bool, what: &str) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::invalid(format!("not as owed: {what}"))) }
}
