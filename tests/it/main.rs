//! The behaviour of the library, seen from outside: one binary, one module for each part.
//! Test names are sentences; the rows of the hostile corpus are named where they are covered.

#[cfg(all(feature = "bzip2", feature = "lz4", feature = "remote", feature = "server"))]
mod cases;
#[cfg(feature = "cli")]
mod cli;
mod fingerprint;
mod format;
mod layers;
#[cfg(feature = "cli")]
mod losses;
#[cfg(feature = "cli")]
mod manual;
mod metadata;
#[cfg(any(feature = "remote", feature = "server"))]
mod multipart;
#[cfg(feature = "cli")]
mod newest;
#[cfg(all(feature = "oci", feature = "gzip", feature = "zstd"))]
mod oci;
mod peers;
#[cfg(feature = "remote")]
mod remote;
#[cfg(feature = "server")]
mod server;
#[cfg(feature = "cli")]
mod signed_lists;
#[cfg(feature = "cli")]
mod simplestreams;
#[cfg(feature = "store")]
mod store;
mod templates;
#[cfg(all(feature = "store", feature = "trust"))]
mod trust;
