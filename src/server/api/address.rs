//! [`Address`]: the path of a request as unescaped segments, and its query. Segments that a proxy or file system could
//! take for another path (dots, empty segments, control characters) are refused.
//!
//! # Why so strict
//!
//! A proxy in front of the server may decide by the path who may call what. If proxy and server
//! read one path as two, the decision is about another path than the one that is served. So
//! whatever can be normalised in more than one way is refused instead of normalised: `//`, `/./`,
//! `/../`, and the same in escapes. A slash at the end is allowed, as LXD allows it.

use http::Uri;

use crate::error::{Error, Result};
use crate::protocol::escape;

/// The longest path and query that is parsed, in bytes: 8 KiB, as in common web servers.
const MAX_URI_BYTES: usize = 8 << 10;

/// The parsed target of a request.
///
/// Borrowed from nothing, so that a request's body can be consumed while its address is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    /// The segments of the path, unescaped; `debian%2F12` is one segment. Empty for `/`.
    pub(crate) parts: Vec<String>,
    /// The pairs of the query, in order.
    query: Vec<(String, String)>,
}

impl Address {
    /// Parses the target of a request.
    ///
    /// Escapes are decoded once: `%2525` is `%25`. Bytes that are no UTF-8 are invalid.
    ///
    /// # Errors
    /// `Malformed` for invalid escapes, empty segments, segments of dots and control characters;
    /// `InvalidInput` when it is too long.
    pub(crate) fn of(uri: &Uri) -> Result<Self> {
        let path = uri.path();
        let query = uri.query().unwrap_or_default();
        if path.len() + query.len() > MAX_URI_BYTES {
            return Err(Error::invalid(format!("the address is longer than {MAX_URI_BYTES} bytes")));
        }
        let Some(rest) = path.strip_prefix('/') else {
            return Err(Error::malformed("the address is no path"));
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let mut parts = Vec::new();
        if !rest.is_empty() {
            for part in rest.split('/') {
                let part = escape::unescape(part)?;
                // Old stores may have aliases with segments of dots, which must be readable and removable.
                let alias = parts == ["1.0", "images", "aliases"] && !part.is_empty();
                if !alias && matches!(&*part, "" | "." | "..") {
                    return Err(Error::malformed("the address has a part that is empty or made of dots"));
                }
                if part.chars().any(char::is_control) {
                    return Err(Error::malformed("the address has a control character"));
                }
                parts.push(part.into_owned());
            }
        }
        Ok(Self { parts, query: escape::query_pairs(query) })
    }

    /// The segments, to match on.
    pub(crate) fn parts(&self) -> Vec<&str> {
        self.parts.iter().map(String::as_str).collect()
    }

    /// The first value of a key in the query; `None` for an empty value.
    ///
    /// LXD's clients send empty values for options that are not set.
    pub(crate) fn query(&self, key: &str) -> Option<&str> {
        self.query
            .iter()
            .find(|(name, _)| name == key)
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }
}
