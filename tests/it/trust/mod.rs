//! Who vouches for an image: keys and signatures, checked against `minisign` and `openssl`.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod keys;
