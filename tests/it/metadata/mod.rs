//! What `metadata.yaml` may hold, what is refused, and what writing it gives.
//! The peers' answers, where they are mentioned, were measured with LXD 5.0.2.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod architecture;
mod dates;
mod editing;
mod hostile;
mod properties;
mod round_trip;
mod syntax;
mod templates;

use lxd_image::{Error, ErrorKind, Limits, Metadata};

/// The two keys that must be there.
pub(crate) const HEAD: &str = "architecture: x86_64\ncreation_date: 1700000000\n";

pub(crate) fn parse(text: impl AsRef<[u8]>) -> Result<Metadata, Error> {
    Metadata::parse(text.as_ref(), &Limits::default())
}

/// What stands after [`HEAD`].
pub(crate) fn with_head(rest: &str) -> Result<Metadata, Error> {
    parse(format!("{HEAD}{rest}"))
}

/// The value of the property `v` when its YAML is `yaml`.
pub(crate) fn property(yaml: &str) -> Result<String, Error> {
    let metadata = with_head(&format!("properties:\n  v: {yaml}\n"))?;
    Ok(metadata.properties().get("v").unwrap().to_owned())
}

#[track_caller]
pub(crate) fn assert_malformed(result: Result<Metadata, Error>, place: &str) {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Malformed, "{error}");
    assert!(error.to_string().starts_with(place), "{error} does not begin with {place}");
}
