//! The blobs of a store on object storage, against real servers: Ceph's gateway and moto, with and
//! without a proxy of ours in between that breaks requests. `tests/peers/install.sh` brings both.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[cfg(feature = "cli")]
mod command_line;
mod conforming;
#[cfg(feature = "remote")]
mod deltas;
mod faults;
mod proxy;
mod refused;
mod servers;
mod whole_store;
