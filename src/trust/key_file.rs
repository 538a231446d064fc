//! The outer forms of key files: comment lines with base64 (`minisign`), and PEM.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::error::{Error, Result};
use crate::limits::Limits;

/// What starts the first line of each file that `minisign` writes.
const COMMENT: &str = "untrusted comment:";

/// Reads a whole key file of at most [`Limits::key_file`] bytes.
pub(super) fn read(path: &Path, limits: &Limits) -> Result<Vec<u8>> {
    let file = File::open(path).map_err(|error| Error::io("cannot open the key file", error).in_file(path))?;
    let mut content = Vec::new();
    file.take(limits.key_file.saturating_add(1))
        .read_to_end(&mut content)
        .map_err(|error| Error::io("cannot read the key file", error).in_file(path))?;
    if content.len() as u64 > limits.key_file {
        return Err(Error::limit("key_file", limits.key_file, "a key file").in_file(path));
    }
    Ok(content)
}

/// The text of a file that must be UTF-8. The error does not quote it, since it may be a secret.
pub(super) fn text<'a>(content: &'a [u8], what: &str) -> Result<&'a str> {
    std::str::from_utf8(content).map_err(|_| Error::malformed(format!("{what} is not text")))
}

/// The base64 line of a file in the form of `minisign`: a comment line and one line of base64, or that line alone.
pub(super) fn encoded_line<'a>(text: &'a str, what: &str) -> Result<&'a str> {
    let mut lines = text.lines();
    let first = lines.next().unwrap_or_default();
    let line = if first.starts_with(COMMENT) { lines.next().unwrap_or_default() } else { first };
    if lines.any(|line| !line.trim().is_empty()) {
        return Err(Error::malformed(format!("{what} has more than one key in it")));
    }
    Ok(line.trim_end())
}

/// Decodes base64 of exactly `N` bytes, with padding and without anything between.
pub(super) fn decode<const N: usize>(line: &str, what: &str) -> Result<[u8; N]> {
    let bytes = STANDARD.decode(line).map_err(|_| Error::malformed(format!("{what} is not valid base64")))?;
    let found = bytes.len();
    bytes.try_into().map_err(|_| Error::malformed(format!("{what} has {found} bytes instead of {N}")))
}

/// Encodes bytes as base64 on one line.
pub(super) fn encode(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// The content of the one PEM block named `label` in `text`; `None` if the text is not PEM at all.
///
/// # Errors
/// `Malformed` for PEM that is cut off, has several blocks, or is not base64; `Unsupported` for another label.
pub(super) fn pem(text: &str, label: &str) -> Result<Option<Vec<u8>>> {
    let text = text.trim();
    let Some(rest) = text.strip_prefix("-----BEGIN ") else { return Ok(None) };
    let (found, rest) =
        rest.split_once("-----").ok_or_else(|| Error::malformed("the PEM header of the key is cut off"))?;
    if found != label {
        let found: String = found.chars().take(40).collect();
        return Err(Error::unsupported(format!("the key file is PEM of `{found}`, not of `{label}`"))
            .with_hint("Ed25519 keys are read as PKCS#8 without a passphrase and as SubjectPublicKeyInfo"));
    }
    let (body, after) = rest
        .split_once(&format!("-----END {label}-----"))
        .ok_or_else(|| Error::malformed("the PEM block of the key has no end"))?;
    if !after.trim().is_empty() {
        return Err(Error::malformed("the key file has something after its PEM block"));
    }
    let body: String = body.split_ascii_whitespace().collect();
    let der = STANDARD.decode(body).map_err(|_| Error::malformed("the PEM block of the key is not valid base64"))?;
    Ok(Some(der))
}

/// The part of a fixed size that begins at `at`. The caller's constants are within the array.
pub(super) fn part<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N]> {
    let found = at.checked_add(N).and_then(|end| bytes.get(at..end)).and_then(|part| part.try_into().ok());
    found.ok_or_else(|| Error::malformed("a key or signature is cut off"))
}
