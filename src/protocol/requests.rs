//! What clients of the REST API send to change something, as leniently read as the peers do, but never guessed at:
//! a key that is there twice is refused, and what was not sent is told from what is empty.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};

use super::json::nullable;
use super::rest::AliasEntry;
use crate::error::{Error, Result};
use crate::time;

/// Texts by keys, each of which is there once.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Pairs(pub(crate) BTreeMap<String, String>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Once;
        impl<'de> Visitor<'de> for Once {
            type Value = Pairs;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of texts")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Pairs, A::Error> {
                let mut pairs = BTreeMap::new();
                while let Some((key, value)) = map.next_entry::<String, String>()? {
                    if pairs.contains_key(&key) {
                        return Err(A::Error::custom(format!("the key `{key}` is there twice")));
                    }
                    pairs.insert(key, value);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(Once)
    }
}

/// The body of `PUT` and `PATCH /1.0/images/FINGERPRINT`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ImageChange {
    pub(crate) auto_update: Option<bool>,
    pub(crate) public: Option<bool>,
    pub(crate) properties: Option<Pairs>,
    pub(crate) expires_at: Option<String>,
}

/// The body of `POST /1.0/images` where an image is to be brought from somewhere.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct ImagePost {
    #[serde(deserialize_with = "nullable")]
    pub(crate) filename: String,
    #[serde(deserialize_with = "nullable")]
    pub(crate) public: bool,
    #[serde(deserialize_with = "nullable")]
    pub(crate) auto_update: bool,
    #[serde(deserialize_with = "nullable")]
    pub(crate) properties: Pairs,
    #[serde(deserialize_with = "nullable")]
    pub(crate) aliases: Vec<AliasEntry>,
    pub(crate) expires_at: Option<String>,
    #[serde(deserialize_with = "nullable")]
    pub(crate) compression_algorithm: String,
    pub(crate) source: Option<ImageSource>,
}

/// Where it is to be brought from.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct ImageSource {
    #[serde(rename = "type", deserialize_with = "nullable")]
    pub(crate) kind: String,
    #[serde(deserialize_with = "nullable")]
    pub(crate) mode: String,
    #[serde(deserialize_with = "nullable")]
    pub(crate) server: String,
    #[serde(deserialize_with = "nullable")]
    pub(crate) protocol: String,
    #[serde(deserialize_with = "nullable")]
    pub(crate) certificate: String,
    #[serde(deserialize_with = "nullable")]
    pub(crate) secret: String,
    #[serde(deserialize_with = "nullable")]
    pub(crate) alias: String,
    #[serde(deserialize_with = "nullable")]
    pub(crate) fingerprint: String,
    #[serde(deserialize_with = "nullable")]
    pub(crate) url: String,
    #[serde(deserialize_with = "nullable")]
    pub(crate) image_type: String,
}

/// The body of `POST /1.0/images/FINGERPRINT/export`: where the image is to be sent.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct ExportPost {
    #[serde(deserialize_with = "nullable")]
    pub(crate) target: String,
    #[serde(deserialize_with = "nullable")]
    pub(crate) secret: String,
    #[serde(deserialize_with = "nullable")]
    pub(crate) certificate: String,
}

/// The body of requests about aliases.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct AliasChange {
    pub(crate) name: Option<String>,
    pub(crate) description: Option<String>,
    pub(crate) target: Option<String>,
}

/// A time of a request: `None` where none was given, for which programs in Go write the year 1; `Some(None)` for never.
///
/// # Errors
/// `InvalidInput` for what is no time.
pub(crate) fn moment(text: Option<&str>) -> Result<Option<Option<i64>>> {
    match text.map(str::trim) {
        None | Some("") => Ok(None),
        Some(text) if text.starts_with("0001-01-01") => Ok(None),
        Some(text) if time::parse(text).is_some() => Ok(Some(time::from_rfc3339(text))),
        Some(_) => Err(Error::invalid("`expires_at` is no time as RFC 3339 writes it")),
    }
}
