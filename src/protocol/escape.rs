//! Percent-encoding: aliases as path segments, pairs as a query, and back (RFC 3986; `application/x-www-form-urlencoded`).
//!
//! An alias may hold a slash or any other character, and must never become two segments or a `..`.
#![cfg_attr(not(feature = "server"), allow(dead_code, reason = "only a server decodes addresses"))]

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::error::{Error, Result};

/// What is encoded in a segment: all but the unreserved characters of RFC 3986, section 2.3.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// What is encoded in a path: the same, but not the slash.
const PATH: &AsciiSet = &SEGMENT.remove(b'/');

/// Encodes a text as one path segment: `debian/12` becomes `debian%2F12`.
#[must_use]
pub(crate) fn segment(text: &str) -> String {
    // A segment of dots alone would be resolved by any client or proxy on the way (RFC 3986, section 5.2.4).
    if matches!(text, "." | "..") {
        return text.replace('.', "%2E");
    }
    utf8_percent_encode(text, SEGMENT).to_string()
}

/// Encodes a path, whose slashes separate segments.
#[must_use]
pub(crate) fn path(text: &str) -> String {
    utf8_percent_encode(text, PATH).to_string()
}

/// Decodes a path segment. A plus stays a plus: only in a query does it mean a space.
///
/// # Errors
/// `Malformed` for a `%` without two hexadecimal digits and for invalid UTF-8.
pub(crate) fn unescape(text: &str) -> Result<Cow<'_, str>> {
    let bytes = text.as_bytes();
    for (at, _) in bytes.iter().enumerate().filter(|(_, byte)| **byte == b'%') {
        let whole = bytes.get(at + 1..at + 3).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit));
        if !whole {
            return Err(Error::malformed("an address holds a `%` that is followed by no two hexadecimal digits"));
        }
    }
    percent_decode_str(text).decode_utf8().map_err(|_| Error::malformed("an address holds bytes that are no UTF-8"))
}

/// Encodes pairs as a query, which is also the form of the header `X-LXD-properties`.
#[must_use]
pub(crate) fn query<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}

/// Decodes the pairs of a query, in their order. Invalid UTF-8 becomes the replacement character.
#[must_use]
pub(crate) fn query_pairs(text: &str) -> Vec<(String, String)> {
    form_urlencoded::parse(text.as_bytes()).into_owned().collect()
}
