//! `Address`: the path of a request as its parts, unescaped, and its query. A part is a text and never a path of files;
//! what could be taken for another path by somebody else (dots, empty parts, NUL) is refused.

use http::Uri;

use crate::error::{Error, Result};
use crate::protocol::escape;

/// The longest address that is looked at, in bytes: 8 KiB, as web servers have it.
const MAX_URI_BYTES: usize = 8 << 10;

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    /// The parts of the path, unescaped; `debian%2F12` is one part. None for `/`.
    pub(crate) parts: Vec<String>,
    /// The pairs of the query, in its order.
    query: Vec<(String, String)>,
}

impl Address {
    /// Reads the address of a request.
    ///
    /// # Errors
    /// `Malformed` for escapes that are none, for empty parts, parts of dots and control characters; `InvalidInput` when it is too long.
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
                // A store may have aliases of dots, from before they were refused: they are read and removed under their own address.
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

    /// The parts, to match on.
    pub(crate) fn parts(&self) -> Vec<&str> {
        self.parts.iter().map(String::as_str).collect()
    }

    /// The first value of a key in the query; nothing for an empty one.
    pub(crate) fn query(&self, key: &str) -> Option<&str> {
        self.query
            .iter()
            .find(|(name, _)| name == key)
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }
}
