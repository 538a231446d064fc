//! Texts in addresses: an alias as a part of a path, pairs as a query, and back.
//! An alias may hold a slash or any other character, and must never become two parts.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::error::{Error, Result};

/// All but the unreserved characters of RFC 3986.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// The same, with the slash left alone.
const PATH: &AsciiSet = &SEGMENT.remove(b'/');

/// A text as one part of a path: `debian/12` is `debian%2F12`.
#[must_use]
pub fn segment(text: &str) -> String {
    // A part of dots alone would be resolved by whoever handles the address.
    if matches!(text, "." | "..") {
        return text.replace('.', "%2E");
    }
    utf8_percent_encode(text, SEGMENT).to_string()
}

/// A path with its slashes left as they are.
#[must_use]
pub fn path(text: &str) -> String {
    utf8_percent_encode(text, PATH).to_string()
}

/// The text that was escaped. A plus is a plus.
///
/// # Errors
/// `Malformed` for an escape that is cut or no hexadecimal number, and for what is not UTF-8.
pub fn unescape(text: &str) -> Result<Cow<'_, str>> {
    let bytes = text.as_bytes();
    for (at, _) in bytes.iter().enumerate().filter(|(_, byte)| **byte == b'%') {
        let whole = bytes.get(at + 1..at + 3).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit));
        if !whole {
            return Err(Error::malformed("an address holds a `%` that is followed by no two hexadecimal digits"));
        }
    }
    percent_decode_str(text).decode_utf8().map_err(|_| Error::malformed("an address holds bytes that are no UTF-8"))
}

/// Pairs as a query, or as the value of the header with an image's properties.
#[must_use]
pub fn query<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}

/// The pairs of a query, in its order; bytes that are no UTF-8 become the replacement character.
#[must_use]
pub fn query_pairs(text: &str) -> Vec<(String, String)> {
    form_urlencoded::parse(text.as_bytes()).into_owned().collect()
}
