//! The cleartext signature framework (RFC 9580, section 7), strictly: one message, nothing before or after it.
//!
//! ```text
//! -----BEGIN PGP SIGNED MESSAGE-----
//! Hash: SHA512
//!
//! text, with "- " before each line that begins with a dash
//! -----BEGIN PGP SIGNATURE-----
//! …
//! ```
//!
//! What is handed out is the text that the signature covers: without the escapes, and without blanks at the ends of lines,
//! which the framework does not sign.

use pgp::crypto::hash::HashAlgorithm;

use super::armor;
use crate::error::{Error, Result};

const FIRST: &[u8] = b"-----BEGIN PGP SIGNED MESSAGE-----";
const SIGNATURE: &[u8] = b"-----BEGIN PGP SIGNATURE-----";

/// A message that was taken apart; nothing of it is verified.
#[derive(Debug)]
pub(super) struct Cleartext {
    /// The signed text, lines ended by LF, without the line end before the signature.
    pub(super) text: Vec<u8>,
    /// The digests that the headers announce.
    pub(super) hashes: Vec<HashAlgorithm>,
    /// The signature packets.
    pub(super) signatures: Vec<u8>,
}

/// Takes a message apart.
///
/// # Errors
/// `Malformed` for anything but exactly one message. `max_signature` bounds the armored signatures in bytes.
pub(super) fn split(message: &[u8], max_signature: u64) -> Result<Cleartext> {
    let wrong = |what: &str| Error::malformed(format!("the signed message {what}"));
    if message.contains(&b'\r') {
        return Err(wrong("has carriage returns, which JSON lists never have"));
    }
    let mut rest = message;
    if next(&mut rest) != Some(FIRST) {
        return Err(wrong("does not begin with the line `-----BEGIN PGP SIGNED MESSAGE-----`"));
    }
    let mut hashes = Vec::new();
    loop {
        let line = next(&mut rest).ok_or_else(|| wrong("ends in its headers"))?;
        if line.is_empty() {
            break;
        }
        let names = line.strip_prefix(b"Hash: ").ok_or_else(|| wrong("has a header that is not `Hash`"))?;
        for name in names.split(|byte| *byte == b',') {
            // A blank after a comma is as old implementations wrote it.
            let name = name.strip_prefix(b" ").unwrap_or(name);
            hashes.push(hash(name).ok_or_else(|| wrong("names a digest that is not known"))?);
        }
    }
    if hashes.is_empty() {
        return Err(wrong("has no `Hash` header"));
    }
    let mut text = Vec::with_capacity(rest.len());
    let mut first = true;
    let signature = loop {
        let before = rest;
        let line = next(&mut rest).ok_or_else(|| wrong("has no signature"))?;
        if line == SIGNATURE {
            break before;
        }
        let line = match line {
            [b'-', b' ', line @ ..] => line,
            [b'-', ..] => return Err(wrong("has a line with a dash that is not escaped")),
            line => line,
        };
        if !first {
            text.push(b'\n');
        }
        first = false;
        let end = line.iter().rposition(|byte| !matches!(byte, b' ' | b'\t')).map_or(0, |last| last + 1);
        text.extend_from_slice(line.get(..end).unwrap_or_default());
    };
    if signature.len() as u64 > max_signature {
        return Err(Error::limit("signature", max_signature, "the size of the signatures in bytes"));
    }
    let signatures = armor::decode(signature, pgp::armor::BlockType::Signature)?;
    Ok(Cleartext { text, hashes, signatures })
}

/// Takes the next line, which must be ended by LF unless it is the last one.
fn next<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    if rest.is_empty() {
        return None;
    }
    let end = rest.iter().position(|byte| *byte == b'\n');
    let line = rest.get(..end.unwrap_or(rest.len()))?;
    *rest = end.and_then(|end| rest.get(end + 1..)).unwrap_or_default();
    Some(line)
}

/// The digest that a header names, weak ones too: what counts is the one that the signature uses.
fn hash(name: &[u8]) -> Option<HashAlgorithm> {
    std::str::from_utf8(name).ok()?.parse().ok()
}
