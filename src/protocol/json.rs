//! Untrusted JSON: bounded in size and depth before it is parsed.
//!
//! `serde_json` recurses, and its own depth limit can't be set, so the depth is counted over the bytes first.

use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer};

use crate::error::{Error, Result};
use crate::limits::Limits;

/// Parses a document of a server. `what` names it in errors.
///
/// # Errors
/// `LimitExceeded` for `remote_index` or `json_depth`; `Malformed`.
pub(crate) fn from_json<T: DeserializeOwned>(text: &[u8], what: &str, limits: &Limits) -> Result<T> {
    if u64::try_from(text.len()).is_ok_and(|length| length > limits.remote_index) {
        return Err(Error::limit("remote_index", limits.remote_index, format_args!("the size of {what} in bytes")));
    }
    let depth = depth(text);
    if depth > limits.json_depth {
        return Err(Error::limit("json_depth", limits.json_depth, format_args!("the nesting of {what}")));
    }
    serde_json::from_slice(text).map_err(|error| {
        Error::malformed(format!("{what} is not the JSON that it should be: {error}"))
            .with_hint("this may be no image server, or an address within one that is for people")
    })
}

/// Parses the JSON body of a request to the server. Its size was bounded when it was read.
///
/// # Errors
/// `Malformed` for too deep nesting, anything but an object, invalid JSON, and duplicate keys.
#[cfg(feature = "server")]
pub(crate) fn from_request<T: DeserializeOwned>(text: &[u8], limits: &Limits) -> Result<T> {
    if depth(text) > limits.json_depth {
        return Err(Error::malformed(format!("the request's JSON is nested more than {} deep", limits.json_depth)));
    }
    // `serde` accepts an array for a struct, field by field; LXD does not.
    if text.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
        return Err(Error::malformed("the request holds no JSON object"));
    }
    serde_json::from_slice(text)
        .map_err(|error| Error::malformed(format!("the request is not the JSON that it should be: {error}")))
}

/// The nesting depth of arrays and objects, counted without recursion. Exact for valid JSON; anything else fails to parse later.
pub(crate) fn depth(text: &[u8]) -> u64 {
    let (mut depth, mut deepest) = (0_u64, 0);
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'[' | b'{' => {
                depth = depth.saturating_add(1);
                deepest = deepest.max(depth);
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            b'"' => {
                while let Some(byte) = bytes.next() {
                    match byte {
                        b'\\' => _ = bytes.next(),
                        b'"' => break,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    deepest
}

/// Reads `null` as the default value: Go programs write it for empty slices and maps.
pub(crate) fn nullable<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> std::result::Result<T, D::Error> {
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn nesting_is_counted_outside_of_strings_only() {
        for (text, expected) in
            [("1", 0), ("[]", 1), (r#"{"a":[{}]}"#, 3), (r#"["[[[", "\"[["]"#, 1), ("[[", 2), ("]][", 1)]
        {
            assert_eq!(depth(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn json_a_hundred_thousand_deep_is_refused_before_it_is_parsed_161() {
        let deep = "[".repeat(100_000);
        let error = from_json::<serde_json::Value>(deep.as_bytes(), "a list", &Limits::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LimitExceeded);
        assert!(error.to_string().contains("json_depth"), "{error}");
    }
}
