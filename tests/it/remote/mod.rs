//! Clients of image servers, against a server on loopback that misbehaves on purpose, and against real ones.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod changes;
mod cli;
mod deltas;
mod direct;
mod downloads;
pub(crate) mod lxd;
mod mirrored_types;
mod oci;
mod odd_lists;
mod parts;
mod peers;
mod proxies;
pub(crate) mod server;
mod settings;
pub(crate) mod simplestreams;
mod transport;
mod unverified;
mod urls;

use lxd_image::{Error, ErrorKind};

pub(crate) fn failed<T>(result: Result<T, Error>, kind: ErrorKind) -> Error {
    let error = result.err().expect("this must fail");
    assert_eq!(error.kind(), kind, "{error}");
    error
}
