//! Who vouches for an image: keys and signatures, checked against `minisign` and `openssl`; statements in stores and on
//! the command line; the policy, which no way into a store leads around.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[cfg(feature = "cli")]
mod bundled;
#[cfg(feature = "cli")]
mod carrying;
#[cfg(feature = "cli")]
mod cli;
mod hostile;
#[cfg(feature = "cli")]
mod in_toto;
mod keys;
mod policy;
mod stores;
