//! The name of an image: the sha256 of its bytes as stored, and the leading parts people type.
//! Pure values and a streaming hasher; no files, no archives.

mod hasher;
mod value;

pub use hasher::{Hasher, VerifyingReader};
pub use value::{Fingerprint, FingerprintPrefix};
