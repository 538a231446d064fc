//! OpenPGP: who signed a list, with which key, and when (RFC 9580, and RFC 4880 for what others still write).
//!
//! The packets and the cryptography are the crate `pgp`'s. What it leaves to its callers is here: strict framing
//! (`armor.rs`, `cleartext.rs`), which keys of a certificate may sign now (`usable.rs`), and what several signatures
//! mean together (`verify.rs`). `secret.rs` signs.
//!
//! Rules that are stricter than those of `gpgv`, which takes all of the following:
//!
//! - A message is the signed text and nothing else; no carriage returns; no armor headers but `Version` and `Comment`.
//! - Signatures use SHA-256, SHA-384, SHA-512 or SHA-3. Self-signatures of a pinned key may use SHA-1, since the bytes of
//!   the key come from the caller and not from the network.
//! - RSA keys have 2048 bits at least; DSA is refused.
//! - A key that is revoked or has expired does not vouch for older signatures either: lists are signed again and again.
//! - A signature that claims to be by a pinned key and is wrong refuses the document, whatever other signatures there are.

mod armor;
mod cleartext;
mod keyring;
mod secret;
mod usable;
mod verify;

pub use keyring::Keyring;
pub use secret::SecretKey;
pub use verify::GoodSignature;

use crate::error::{Error, ErrorKind};

/// An error of the crate, short and without characters that change how it is shown.
fn shown(error: &pgp::errors::Error) -> String {
    error.to_string().chars().filter(|character| !character.is_control()).take(200).collect()
}

/// The error for a document that no pinned key vouches for.
fn refused(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::Untrusted, what.into())
}
