//! Bodies of requests that clients of the REST API send to a server to change something.
//!
//! Read as leniently as LXD reads them, with two exceptions that prevent ambiguity: a duplicate key is refused, and a missing field
//! is distinguished from an empty one (`Option`), since a `PATCH` changes only the fields that it has.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};

use super::json::nullable;
use super::rest::AliasEntry;
use crate::error::{Error, Result};
use crate::time;

/// A map of texts that refuses duplicate keys.
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
    /// Whether the image follows its source.
    pub(crate) auto_update: Option<bool>,
    /// Whether untrusted clients may read it.
    pub(crate) public: Option<bool>,
    /// All properties for `PUT`, changed ones for `PATCH`.
    pub(crate) properties: Option<Pairs>,
    /// When it may be deleted, see [`moment`].
    pub(crate) expires_at: Option<String>,
}

/// The JSON body of `POST /1.0/images`: an image that the server is to fetch, or an upload that is to be prepared.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct ImagePost {
    /// The file name that the image gets.
    #[serde(deserialize_with = "nullable")]
    pub(crate) filename: String,
    /// Whether untrusted clients may read it.
    #[serde(deserialize_with = "nullable")]
    pub(crate) public: bool,
    /// Whether it follows its source.
    #[serde(deserialize_with = "nullable")]
    pub(crate) auto_update: bool,
    /// Properties, which take precedence over those of the source.
    #[serde(deserialize_with = "nullable")]
    pub(crate) properties: Pairs,
    /// Aliases that it gets.
    #[serde(deserialize_with = "nullable")]
    pub(crate) aliases: Vec<AliasEntry>,
    /// When it may be deleted, see [`moment`].
    pub(crate) expires_at: Option<String>,
    /// Only empty or `none` is supported: an image is stored as it is.
    #[serde(deserialize_with = "nullable")]
    pub(crate) compression_algorithm: String,
    /// The form of an image that is made here: empty, `unified` or `split`.
    #[serde(deserialize_with = "nullable")]
    pub(crate) format: String,
    /// Where the image comes from.
    pub(crate) source: Option<ImageSource>,
}

/// The source of an image in [`ImagePost`]. Which fields are used depends on `kind` and `mode`.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct ImageSource {
    /// `image` or `url`; LXD also has kinds for instances.
    #[serde(rename = "type", deserialize_with = "nullable")]
    pub(crate) kind: String,
    /// `pull` (also if empty) or `push`.
    #[serde(deserialize_with = "nullable")]
    pub(crate) mode: String,
    /// The URL of the server.
    #[serde(deserialize_with = "nullable")]
    pub(crate) server: String,
    /// The protocol, see [`Protocol`](crate::protocol::Protocol); empty for `lxd`.
    #[serde(deserialize_with = "nullable")]
    pub(crate) protocol: String,
    /// The certificate that the server must show, in PEM.
    #[serde(deserialize_with = "nullable")]
    pub(crate) certificate: String,
    /// The secret of a private image.
    #[serde(deserialize_with = "nullable")]
    pub(crate) secret: String,
    /// The alias on the server.
    #[serde(deserialize_with = "nullable")]
    pub(crate) alias: String,
    /// The fingerprint, or a prefix of one.
    #[serde(deserialize_with = "nullable")]
    pub(crate) fingerprint: String,
    /// The URL of a direct import.
    #[serde(deserialize_with = "nullable")]
    pub(crate) url: String,
    /// `container` or `virtual-machine`; empty for either.
    #[serde(deserialize_with = "nullable")]
    pub(crate) image_type: String,
    /// The name of a registry, in place of server and protocol.
    #[serde(deserialize_with = "nullable")]
    pub(crate) image_registry: String,
    /// The project of the image there; empty for `default`.
    #[serde(deserialize_with = "nullable")]
    pub(crate) project: String,
    /// Whether the image also gets the aliases that it has there.
    #[serde(deserialize_with = "nullable")]
    pub(crate) copy_aliases: bool,
}

/// The body of `POST /1.0/images/FINGERPRINT/export`: the server that the image is to be sent to.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct ExportPost {
    /// The URL of the server.
    #[serde(deserialize_with = "nullable")]
    pub(crate) target: String,
    /// The secret that it issued for the upload.
    #[serde(deserialize_with = "nullable")]
    pub(crate) secret: String,
    /// The certificate that it must show, in PEM.
    #[serde(deserialize_with = "nullable")]
    pub(crate) certificate: String,
    /// Aliases that the image is to get there.
    #[serde(deserialize_with = "nullable")]
    pub(crate) aliases: Vec<AliasEntry>,
    /// The project there; empty for `default`.
    #[serde(deserialize_with = "nullable")]
    pub(crate) project: String,
}

/// The body of requests that create, change or rename an alias.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct AliasChange {
    pub(crate) name: Option<String>,
    pub(crate) description: Option<String>,
    pub(crate) target: Option<String>,
}

/// Parses a time of a request: `None` if there is none, for which Go programs write the year 1; `Some(None)` for never.
///
/// # Errors
/// `InvalidInput` for anything but RFC 3339.
pub(crate) fn moment(text: Option<&str>) -> Result<Option<Option<i64>>> {
    match text.map(str::trim) {
        None | Some("") => Ok(None),
        Some(text) if text.starts_with("0001-01-01") => Ok(None),
        Some(text) if time::parse(text).is_some() => Ok(Some(time::from_rfc3339(text))),
        Some(_) => Err(Error::invalid("`expires_at` is not an RFC 3339 time")),
    }
}
