//! The objects of the REST API for images that LXD and Incus share (`/1.0`, `/1.0/images`, `/1.0/operations`).
//!
//! They are read as leniently as LXD's clients do: `null` is empty, and unknown keys are skipped, but for those of images, which
//! are kept. Only a fingerprint must be valid,
//! since everything else depends on it. Every response is wrapped in an [`Envelope`].
//!
//! ```
//! use lxd_image::Limits;
//! use lxd_image::protocol::rest::{Envelope, Server};
//!
//! let body = br#"{"type": "sync", "status_code": 200, "metadata": {"auth": "untrusted", "api_version": "1.0"}}"#;
//! let server: Server = Envelope::from_json(body, &Limits::default())?.object("server")?;
//! assert_eq!(server.auth, "untrusted");
//! # Ok::<(), lxd_image::Error>(())
//! ```

use serde::de::{DeserializeOwned, Deserializer, Error as _};
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

use super::from_json;
use super::json::nullable;
use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::Fingerprint;
use crate::limits::Limits;
use crate::time;

/// The headers of an upload that describe the image. `header` gives both spellings.
pub mod upload {
    /// The fingerprint that the upload must have, as 64 hexadecimal digits.
    pub const FINGERPRINT: &str = "fingerprint";
    /// The file's name.
    pub const FILE_NAME: &str = "filename";
    /// `true` or `1` if untrusted clients may read the image.
    pub const PUBLIC: &str = "public";
    /// Properties, as a URL's query.
    pub const PROPERTIES: &str = "properties";
    /// Aliases, as the keys of a query, or separated by commas.
    pub const ALIASES: &str = "aliases";
    /// The secret that was issued for this upload.
    pub const SECRET: &str = "secret";
    /// The name of an upload in parts that is the body. Only servers with [`PARTS_EXTENSION`] know it.
    pub const PARTS: &str = "parts";
    /// The API extension of servers that take uploads in parts: lxd-image's own.
    pub const PARTS_EXTENSION: &str = "lxd_image_upload_parts";
    /// The name of an upload in parts that is a bundle of signed statements about the image. Only servers with
    /// [`STATEMENTS_EXTENSION`] know it.
    pub const STATEMENTS: &str = "statements";
    /// The API extension of servers that take statements with an upload, and for an image that they have
    /// (`POST /1.0/images/FINGERPRINT/statements`): lxd-image's own.
    pub const STATEMENTS_EXTENSION: &str = "lxd_image_upload_statements";
    /// The type of the image. Optional.
    pub const TYPE: &str = "type";

    /// The name of a header as LXD and as Incus spell it.
    #[must_use]
    pub fn header(field: &str) -> [String; 2] {
        [format!("X-LXD-{field}"), format!("X-Incus-{field}")]
    }
}

/// The description of a server: `GET /1.0`.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Server {
    /// The API extensions that it supports.
    #[serde(deserialize_with = "nullable")]
    pub api_extensions: Vec<String>,
    /// `stable`.
    #[serde(deserialize_with = "nullable")]
    pub api_status: String,
    /// `1.0`.
    #[serde(deserialize_with = "nullable")]
    pub api_version: String,
    /// `trusted` or `untrusted`: whether it trusts the client that asks.
    #[serde(deserialize_with = "nullable")]
    pub auth: String,
    /// How a client may authenticate.
    #[serde(deserialize_with = "nullable")]
    pub auth_methods: Vec<String>,
    /// Whether it is a public image server without instances.
    #[serde(deserialize_with = "nullable")]
    pub public: bool,
    /// Details of the host, for trusted clients only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment: Option<BTreeMap<String, Value>>,
}

/// An alias in the description of an image.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct AliasEntry {
    /// Its name.
    #[serde(deserialize_with = "nullable")]
    pub name: String,
    /// What it is for.
    #[serde(deserialize_with = "nullable")]
    pub description: String,
}

/// An alias: `GET /1.0/images/aliases/NAME`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Alias {
    /// Its name.
    #[serde(deserialize_with = "nullable")]
    pub name: String,
    /// What it is for.
    #[serde(deserialize_with = "nullable")]
    pub description: String,
    /// The fingerprint that it points to. Text, since a request may have a prefix.
    #[serde(deserialize_with = "nullable")]
    pub target: String,
    /// `container` or `virtual-machine`.
    #[serde(rename = "type", deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub image_type: String,
}

/// The source that an image is refreshed from.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Source {
    /// The alias that was asked for.
    #[serde(deserialize_with = "nullable")]
    pub alias: String,
    /// The server's certificate in PEM.
    #[serde(deserialize_with = "nullable")]
    pub certificate: String,
    /// `lxd`, `incus`, `simplestreams` or `direct`.
    #[serde(deserialize_with = "nullable")]
    pub protocol: String,
    /// The server's address.
    #[serde(deserialize_with = "nullable")]
    pub server: String,
    /// `container` or `virtual-machine`.
    #[serde(deserialize_with = "nullable")]
    pub image_type: String,
}

/// An image: `GET /1.0/images/FINGERPRINT`. Times are seconds since 1970, `None` for never.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[non_exhaustive]
pub struct Image {
    /// Whether it follows its source.
    #[serde(default, deserialize_with = "nullable")]
    pub auto_update: bool,
    /// Its properties.
    #[serde(default, deserialize_with = "nullable")]
    pub properties: BTreeMap<String, String>,
    /// Whether untrusted clients may read it.
    #[serde(default, deserialize_with = "nullable")]
    pub public: bool,
    /// When it may be deleted.
    #[serde(default, deserialize_with = "time_in", serialize_with = "time_out")]
    pub expires_at: Option<i64>,
    /// The profiles that instances of it get.
    #[serde(default, deserialize_with = "nullable")]
    pub profiles: Vec<String>,
    /// The names that point to it.
    #[serde(default, deserialize_with = "nullable")]
    pub aliases: Vec<AliasEntry>,
    /// The architecture, by the name of the kernel. Text, since a server may know more architectures than this library.
    #[serde(default, deserialize_with = "nullable")]
    pub architecture: String,
    /// Whether it was downloaded as a side effect of being used.
    #[serde(default, deserialize_with = "nullable")]
    pub cached: bool,
    /// The name of its first file. Untrusted: check it before it becomes a path.
    #[serde(default, deserialize_with = "nullable")]
    pub filename: String,
    /// The sha256 of its files, one after the other.
    pub fingerprint: Fingerprint,
    /// The size of all its files in bytes, as the server reports it; a negative number is `Malformed`.
    #[serde(default, deserialize_with = "nullable")]
    pub size: u64,
    /// The source that it is refreshed from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update_source: Option<Source>,
    /// `container` or `virtual-machine`; empty on servers that know only containers.
    #[serde(default, rename = "type", deserialize_with = "nullable")]
    pub image_type: String,
    /// When it was built.
    #[serde(default, deserialize_with = "time_in", serialize_with = "time_out")]
    pub created_at: Option<i64>,
    /// When it was last used on the server.
    #[serde(default, deserialize_with = "time_in", serialize_with = "time_out")]
    pub last_used_at: Option<i64>,
    /// When it was added to the server.
    #[serde(default, deserialize_with = "time_in", serialize_with = "time_out")]
    pub uploaded_at: Option<i64>,
    /// The code name of the release, like `noble`; LXD since 6.8 (`image_extended_metadata`).
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub release_codename: String,
    /// The title of the release, like `24.04 LTS`; LXD since 6.8.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub release_title: String,
    /// The members of a cluster that have a copy; Incus (`image_locations`).
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub locations: Vec<String>,
    /// Fields of newer servers that are not known here, kept as they are.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// The fields of an image that `PUT` and `PATCH` change. `None` means that the request does not have the field.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(default)]
#[non_exhaustive]
pub struct ImageEdit {
    /// Whether it follows its source.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auto_update: Option<bool>,
    /// All properties.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub properties: Option<BTreeMap<String, String>>,
    /// Whether untrusted clients may read it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub public: Option<bool>,
    /// When it may be deleted, as RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
    /// The profiles that instances of it get.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profiles: Option<Vec<String>>,
    /// Fields of newer peers that are not known here, kept as they are.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// A background operation of a server: `GET /1.0/operations/UUID`.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Operation {
    /// Its UUID.
    #[serde(deserialize_with = "nullable")]
    pub id: String,
    /// `task`, `token` or `websocket`.
    #[serde(deserialize_with = "nullable")]
    pub class: String,
    /// A description for people.
    #[serde(deserialize_with = "nullable")]
    pub description: String,
    /// When it began, as RFC 3339.
    #[serde(deserialize_with = "nullable")]
    pub created_at: String,
    /// When it last changed, as RFC 3339.
    #[serde(deserialize_with = "nullable")]
    pub updated_at: String,
    /// Its state for people, like `Success`.
    #[serde(deserialize_with = "nullable")]
    pub status: String,
    /// Its state: 100 to 112 while it runs, 200 done, 400 failed, 401 cancelled.
    #[serde(deserialize_with = "nullable")]
    pub status_code: u16,
    /// The URLs of the objects that it works on, by kind.
    #[serde(deserialize_with = "nullable")]
    pub resources: BTreeMap<String, Vec<String>>,
    /// Its results: `fingerprint` and `size` of an import, `secret` of a token, progress.
    #[serde(deserialize_with = "nullable")]
    pub metadata: BTreeMap<String, Value>,
    /// Whether it can be cancelled.
    #[serde(deserialize_with = "nullable")]
    pub may_cancel: bool,
    /// Why it failed.
    #[serde(deserialize_with = "nullable")]
    pub err: String,
    /// The member of a cluster that it runs on.
    #[serde(deserialize_with = "nullable")]
    pub location: String,
}

impl Operation {
    /// Whether the operation is done, or the error that it failed with.
    ///
    /// # Errors
    /// `Remote` with the message of the server; `AlreadyExists` if that says that the image exists.
    pub fn outcome(&self) -> Result<bool> {
        match self.status_code {
            200 => Ok(true),
            401 => Err(Error::new(ErrorKind::Remote, "the server cancelled the operation")),
            code if code >= 400 => {
                let kind =
                    if self.err.contains("already exists") { ErrorKind::AlreadyExists } else { ErrorKind::Remote };
                Err(Error::new(kind, format!("the server's operation failed: {}", clipped(&self.err))))
            }
            _ => Ok(false),
        }
    }
}

/// The envelope of every response.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Envelope {
    /// `sync`, `async` or `error`.
    #[serde(rename = "type", deserialize_with = "nullable")]
    pub kind: String,
    /// For people, like `Success`.
    #[serde(deserialize_with = "nullable")]
    pub status: String,
    /// The status as a number: 200, 100 for an operation that began.
    #[serde(deserialize_with = "nullable")]
    pub status_code: u16,
    /// The path of the operation of an `async` response.
    #[serde(deserialize_with = "nullable")]
    pub operation: String,
    /// The HTTP status of an error.
    #[serde(deserialize_with = "nullable")]
    pub error_code: u16,
    /// The error message.
    #[serde(deserialize_with = "nullable")]
    pub error: String,
    /// The requested object.
    pub metadata: Value,
}

impl Envelope {
    /// Parses the body of a response.
    ///
    /// # Errors
    /// `Malformed`, `LimitExceeded`.
    pub fn from_json(body: &[u8], limits: &Limits) -> Result<Self> {
        from_json(body, "the server's answer", limits)
    }

    /// A response with an object.
    #[must_use]
    pub fn success(metadata: Value) -> Self {
        Self { kind: "sync".into(), status: "Success".into(), status_code: 200, metadata, ..Self::default() }
    }

    /// A response that an operation started, with its path.
    #[must_use]
    pub fn began(operation: impl Into<String>, metadata: Value) -> Self {
        let (status, operation) = ("Operation created".into(), operation.into());
        Self { kind: "async".into(), status, status_code: 100, operation, metadata, ..Self::default() }
    }

    /// A response for an error, with its HTTP status.
    #[must_use]
    pub fn failure(status: u16, sentence: impl Into<String>) -> Self {
        Self { kind: "error".into(), error_code: status, error: sentence.into(), ..Self::default() }
    }

    /// The object of a response, or the error that the response is. `what` names the object in errors.
    ///
    /// # Errors
    /// Those of [`into_error`](Self::into_error) when it is an error; `Malformed` when the object is another.
    pub fn object<T: DeserializeOwned>(self, what: &str) -> Result<T> {
        if self.kind == "error" {
            return Err(self.into_error(what));
        }
        serde_json::from_value(self.metadata)
            .map_err(|error| Error::malformed(format!("the server's answer holds no {what}: {error}")))
    }

    /// The error that a server answered with to a request for `what`.
    #[must_use]
    pub fn into_error(self, what: &str) -> Error {
        let said = clipped(&self.error);
        match self.error_code {
            404 => Error::new(ErrorKind::NotFound, format!("the server has no such {what}: {said}")),
            409 => Error::new(ErrorKind::AlreadyExists, format!("the server has this {what} already: {said}")),
            400 if said.contains("already exists") => {
                Error::new(ErrorKind::AlreadyExists, format!("the server has this {what} already: {said}"))
            }
            401 | 403 => Error::new(ErrorKind::Remote, format!("the server does not let us have the {what}: {said}"))
                .with_hint("it may want a client certificate that it trusts"),
            412 => Error::mismatch(&format!("the {what} was changed meanwhile"), "the state it was read in", "another"),
            code => {
                Error::new(ErrorKind::Remote, format!("the server answers {code} when asked for the {what}: {said}"))
            }
        }
    }
}

/// Untrusted text, short enough for an error.
fn clipped(text: &str) -> String {
    if text.is_empty() { "it does not say why".to_owned() } else { text.chars().take(500).collect() }
}

/// Reads a time. Zero times of Go (year 1) and of Unix mean that it is not set, as does an empty text.
fn time_in<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Option<i64>, D::Error> {
    let Some(text) = Option::<String>::deserialize(deserializer)?.filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    match time::from_rfc3339(&text) {
        Some(seconds) => Ok(Some(seconds)),
        None if text.starts_with("0001-") || text.starts_with("1970-01-01T00:00:00") || text.starts_with('-') => {
            Ok(None)
        }
        // A valid time before 1970 means "not set"; an invalid one is an error.
        None if time::parse(&text).is_some() => Ok(None),
        None => Err(D::Error::custom("a time that is not RFC 3339")),
    }
}

/// Writes a time as RFC 3339; the zero time of Go if it is not set.
fn time_out<S: Serializer>(seconds: &Option<i64>, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    serializer.serialize_str(&time::rfc3339(*seconds))
}
