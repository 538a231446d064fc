//! The headers of an upload, in the spelling of LXD (`X-LXD-`) or of Incus (`X-Incus-`). Values are
//! validated; an upload whose fingerprint differs from the header is refused.
//!
//! A client may send a header in both spellings, if the values are equal. Text in a header may be
//! UTF-8, which HTTP leaves open.

use http::HeaderMap;

use crate::error::{Error, Escaped, Result};
use crate::protocol::escape;
use crate::protocol::rest::upload;
use crate::server::core::upload_spec::UploadSpec;
use crate::store::Alias;

/// Parses the headers of an upload.
///
/// # Errors
/// `InvalidInput` for invalid values, and for two spellings of a header with different values.
pub(super) fn read(headers: &HeaderMap) -> Result<UploadSpec> {
    Ok(UploadSpec {
        image_type: field(headers, upload::TYPE)?.map(|name| name.parse()).transpose()?,
        refused: Vec::new(),
        fingerprint: field(headers, upload::FINGERPRINT)?.map(|text| text.parse()).transpose()?,
        file_name: field(headers, upload::FILE_NAME)?,
        public: field(headers, upload::PUBLIC)?.map_or(Ok(false), |text| boolean(&text))?,
        properties: field(headers, upload::PROPERTIES)?.map(|text| escape::query_pairs(&text)).unwrap_or_default(),
        aliases: field(headers, upload::ALIASES)?.map_or(Ok(Vec::new()), |text| aliases(&text))?,
        expires_at: None,
        form: None,
    })
}

/// The value of an upload header, in either spelling.
///
/// # Errors
/// `InvalidInput` for a value that is not UTF-8, and for two different values.
pub(super) fn field(headers: &HeaderMap, name: &str) -> Result<Option<String>> {
    let mut found: Option<&str> = None;
    for header in upload::header(name) {
        for value in headers.get_all(&header) {
            let text = std::str::from_utf8(value.as_bytes())
                .map_err(|_| Error::invalid(format!("the header `{header}` is not UTF-8")))?;
            // Two values mean that two programs added a header; neither is known to be right.
            if found.is_some_and(|found| found != text) {
                return Err(Error::invalid(format!("the header `{header}` is there twice, with two values")));
            }
            found = Some(text);
        }
    }
    Ok(found.map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned))
}

/// A boolean as the peers parse it.
fn boolean(text: &str) -> Result<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => {
            let shown: String = text.chars().take(20).collect();
            Err(Error::invalid(format!("`{}` is neither true nor false", Escaped(shown.as_bytes()))))
        }
    }
}

/// Parses aliases: names separated by commas, or a query in the form of LXD (`NAME=DESCRIPTION`) or
/// of Incus (`alias=NAME`).
fn aliases(text: &str) -> Result<Vec<Alias>> {
    if !text.contains('=') {
        return text.split(',').map(str::trim).filter(|name| !name.is_empty()).map(Alias::new).collect();
    }
    let pairs = escape::query_pairs(text).into_iter();
    pairs
        .map(|(name, value)| match &*name {
            "alias" if !value.is_empty() => Alias::new(value),
            _ => Ok(Alias::new(name)?.described(value)),
        })
        .collect()
}
