//! ASCII armor, strictly: one block that fills its text.
//!
//! The crate's reader skips text before a block, takes any header and ignores what follows. Here a block is the whole text, so
//! that nothing that no signature covers can stand in a document.

use std::io::Read;

use pgp::armor::{BlockType, Dearmor, DearmorOptions};

use crate::error::{Error, Result};

/// Headers that may stand in an armored block. Nothing reads them.
const HEADERS: &[&str] = &["Version: ", "Comment: "];
/// The longest line that RFC 9580, section 6.2, lets a writer make.
const LINE: usize = 76;

/// Decodes an armored block. The text begins with its first line and ends with its last one.
///
/// # Errors
/// `Malformed` for any other text, and for another type of block.
pub(super) fn decode(text: &[u8], block: BlockType) -> Result<Vec<u8>> {
    let wrong = |what: &str| Error::malformed(format!("the armored {block} {what}"));
    let text = std::str::from_utf8(text).map_err(|_| wrong("is not UTF-8"))?;
    let mut lines = text.strip_suffix('\n').unwrap_or(text).split('\n');
    if lines.next() != Some(&*format!("-----BEGIN {block}-----")) {
        return Err(wrong("has no first line"));
    }
    loop {
        match lines.next() {
            Some("") => break,
            Some(line) if HEADERS.iter().any(|header| line.starts_with(header)) && is_printable(line) => {}
            Some(_) => return Err(wrong("has a header that is neither Version nor Comment")),
            None => return Err(wrong("ends in its headers")),
        }
    }
    let end = format!("-----END {block}-----");
    // After padding only the checksum may follow, and after that only the last line.
    let mut ended = false;
    loop {
        let Some(line) = lines.next() else { return Err(wrong("has no last line")) };
        if line == end {
            break;
        }
        let is_checksum = line.len() == 5 && line.starts_with('=');
        let data = line.trim_end_matches('=');
        let padding = line.len() - data.len();
        let valid = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
        let checksum_valid = is_checksum && line.bytes().skip(1).all(valid);
        let data_valid = !ended && !data.is_empty() && padding <= 2 && line.len() <= LINE && data.bytes().all(valid);
        match () {
            () if checksum_valid => ended = true,
            () if data_valid => ended = padding > 0 || line.len() % 4 != 0,
            () => return Err(wrong("holds a line that is not base64")),
        }
    }
    if lines.next().is_some() {
        return Err(wrong("is followed by something else"));
    }
    let limit = DearmorOptions::new().set_limit(text.len().saturating_add(1));
    let mut decoder = Dearmor::with_options(text.as_bytes(), limit);
    let mut bytes = Vec::new();
    decoder.read_header().map_err(|error| wrong(&format!("can't be read: {error}")))?;
    decoder.read_to_end(&mut bytes).map_err(|error| wrong(&format!("can't be read: {error}")))?;
    Ok(bytes)
}

/// Whether a line has no control characters.
fn is_printable(line: &str) -> bool {
    !line.chars().any(char::is_control)
}
