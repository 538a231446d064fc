//! Fingerprints: the SHA-256 of an image's bytes as stored, which is the image's name everywhere.
//!
//! LXD and Incus identify an image by this digest, not by a file name or a tag. It covers the bytes
//! that are stored and sent, so two archives with equal content but different compression have
//! different fingerprints. For a split image it is the digest of the metadata file's bytes followed
//! by the rootfs file's.
//!
//! - [`Fingerprint`] is the whole digest: parse it, print it, compare it.
//! - [`FingerprintPrefix`] is the leading part that people type, as `lxc image info e3b0c442`.
//! - [`Hasher`] computes a fingerprint of bytes as they pass by.
//! - [`VerifyingReader`] wraps a reader and fails at its end unless the bytes have the expected
//!   digest.
//!
//! The module does no file access and knows no archive format. Text from outside (a URL, a file
//! name, a request) becomes one of the two value types or an error, so a fingerprint can be used in
//! a path without another check.

mod hasher;
mod value;

#[cfg(feature = "simplestreams")]
pub(crate) use hasher::HashingWriter;
pub use hasher::{Hasher, VerifyingReader};
#[cfg(any(feature = "server", feature = "object-store", feature = "oci"))]
pub(crate) use value::hex;
pub use value::{Fingerprint, FingerprintPrefix};
