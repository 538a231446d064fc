//! Values of columns: how databases store the fields of images and notes. Every SQL catalog has the
//! same columns, and this file is what they share.

use serde_json::{Map, Value};

use crate::error::Error;
use crate::fingerprint::Fingerprint;
use crate::format::ImageType;
use crate::metadata::Properties;
use crate::store::blobs::BlobKey;
use crate::store::catalog::object::{Object, ObjectState};
use crate::store::image::{ImageObjects, StoredImage, UpdateSource};

/// A column with a value that this library never writes: a sentence about it.
#[derive(Debug)]
pub(super) struct BadValue(pub(super) String);

pub(super) type Decoded<T> = std::result::Result<T, BadValue>;

/// The error for a value that this library never writes.
pub(super) fn bad(column: &str, value: &dyn std::fmt::Display) -> BadValue {
    BadValue(format!("the catalog's {column} holds `{value}`"))
}

/// The columns of an image row, without its aliases.
pub(super) struct ImageColumns<'a> {
    pub(super) fingerprint: &'a str,
    pub(super) image_type: &'a str,
    pub(super) architecture: &'a str,
    pub(super) size: i64,
    pub(super) rootfs_size: Option<i64>,
    pub(super) created_at: i64,
    pub(super) expires_at: Option<i64>,
    pub(super) uploaded_at: i64,
    pub(super) last_used_at: Option<i64>,
    pub(super) public: bool,
    pub(super) auto_update: bool,
    pub(super) cached: bool,
    pub(super) file_name: Option<String>,
    pub(super) rootfs_name: Option<String>,
    pub(super) source: Option<&'a str>,
    pub(super) properties: &'a str,
    pub(super) original_properties: &'a str,
    pub(super) revision: i64,
    pub(super) object: &'a str,
    pub(super) rootfs_object: Option<&'a str>,
    pub(super) sidecar_object: Option<&'a str>,
}

impl ImageColumns<'_> {
    /// The image in the row.
    pub(super) fn decode(self) -> Decoded<StoredImage> {
        let optional_key = |column, text: Option<&str>| text.map(|text| key(column, text)).transpose();
        Ok(StoredImage {
            fingerprint: fingerprint(self.fingerprint)?,
            image_type: image_type(self.image_type)?,
            architecture: self.architecture.parse().map_err(|_| bad("architecture", &self.architecture))?,
            size: size(self.size)?,
            rootfs_size: self.rootfs_size.map(size).transpose()?,
            created_at: self.created_at,
            expires_at: self.expires_at,
            uploaded_at: self.uploaded_at,
            last_used_at: self.last_used_at,
            public: self.public,
            auto_update: self.auto_update,
            cached: self.cached,
            file_name: self.file_name,
            rootfs_name: self.rootfs_name,
            source: match self.source {
                None => None,
                Some(text) => Some(serde_json::from_str(text).map_err(|error| bad("source", &error))?),
            },
            other: match self.source {
                // Few rows have any, and a list parses thousands of rows.
                Some(text) if text.contains(FIELDS) => {
                    let column: SourceFields = serde_json::from_str(text).map_err(|error| bad("source", &error))?;
                    column.fields
                }
                _ => Map::new(),
            },
            properties: properties(self.properties)?,
            original_properties: properties(self.original_properties)?,
            revision: size(self.revision)?,
            aliases: Vec::new(),
            objects: ImageObjects {
                image: key("object", self.object)?,
                rootfs: optional_key("rootfs_object", self.rootfs_object)?,
                sidecar: optional_key("sidecar_object", self.sidecar_object)?,
            },
        })
    }
}

/// The key of unknown fields of an image in the column `source`. Earlier versions skip it.
const FIELDS: &str = "\"fields\"";

/// The unknown fields in the column `source`.
#[derive(serde::Deserialize)]
struct SourceFields {
    #[serde(default)]
    fields: Map<String, Value>,
}

/// The column `source` of an image that has unknown fields.
#[derive(serde::Serialize)]
struct SourceColumn<'a> {
    #[serde(flatten)]
    source: &'a UpdateSource,
    fields: &'a Map<String, Value>,
}

/// The column `source` of an image: its source, and the fields that the source has for it and that are not known here.
pub(super) fn source(image: &StoredImage) -> Decoded<Option<String>> {
    let Some(source) = &image.source else { return Ok(None) };
    if image.other.is_empty() {
        return json(source).map(Some);
    }
    json(&SourceColumn { source, fields: &image.other }).map(Some)
}

/// Parses a fingerprint as this library writes it. Upper case is refused: such a row would sort
/// differently as a text than as a value.
pub(super) fn fingerprint(text: &str) -> Decoded<Fingerprint> {
    let value: Fingerprint = text.parse().map_err(|_| bad("fingerprint", &text))?;
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) { Err(bad("fingerprint", &text)) } else { Ok(value) }
}

/// A size or revision from a signed integer of the database.
pub(super) fn size(number: i64) -> Decoded<u64> {
    u64::try_from(number).map_err(|_| bad("size", &number))
}

/// A size as the database stores it. Real sizes never reach the bound.
pub(super) fn stored(size: u64) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

/// The type of an image from its name.
pub(super) fn image_type(text: &str) -> Decoded<ImageType> {
    match text {
        "container" => Ok(ImageType::Container),
        "virtual-machine" => Ok(ImageType::VirtualMachine),
        other => Err(bad("type", &other)),
    }
}

/// A key of an object.
pub(super) fn key(column: &str, text: &str) -> Decoded<BlobKey> {
    BlobKey::new(text).map_err(|_| bad(column, &text))
}

/// Properties from the JSON object in which they are stored.
fn properties(text: &str) -> Decoded<Properties> {
    let map: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(text).map_err(|error| bad("properties", &error))?;
    let mut properties = Properties::new();
    for (key, value) in map {
        let value = value.as_str().ok_or_else(|| bad("properties", &value))?;
        properties.set(key, value).map_err(|error: Error| bad("properties", &error))?;
    }
    Ok(properties)
}

/// Values of this library as JSON.
pub(super) fn json(value: &impl serde::Serialize) -> Decoded<String> {
    serde_json::to_string(value).map_err(|error| BadValue(error.to_string()))
}

const UPLOADING: &str = "uploading";
const SIDECAR: &str = "sidecar";
const DEAD: &str = "dead";

/// The columns of a note about an object.
pub(super) struct ObjectColumns<'a> {
    pub(super) key: &'a str,
    pub(super) fingerprint: &'a str,
    pub(super) state: &'a str,
    pub(super) holder: Option<&'a str>,
    pub(super) revision: Option<i64>,
    pub(super) time: Option<i64>,
}

impl ObjectColumns<'_> {
    /// The note in the row.
    pub(super) fn decode(self) -> Decoded<Object> {
        let missing = |column: &str| bad(column, &"nothing");
        let time = || self.time.ok_or_else(|| missing("time of an object"));
        let state = match self.state {
            UPLOADING => {
                let holder = self.holder.ok_or_else(|| missing("holder of an object"))?.to_owned();
                ObjectState::Uploading { holder, lease_until: time()? }
            }
            SIDECAR => {
                let revision = self.revision.ok_or_else(|| missing("revision of an object"))?;
                ObjectState::Sidecar { revision: size(revision)? }
            }
            DEAD => ObjectState::Dead { delete_after: time()? },
            other => return Err(bad("state of an object", &other)),
        };
        Ok(Object { key: key("object", self.key)?, fingerprint: fingerprint(self.fingerprint)?, state })
    }
}

/// The columns `state`, `holder`, `revision` and `time` of a note.
pub(super) fn state_columns(state: &ObjectState) -> (&'static str, Option<&str>, Option<i64>, Option<i64>) {
    match state {
        ObjectState::Uploading { holder, lease_until } => (UPLOADING, Some(holder.as_str()), None, Some(*lease_until)),
        ObjectState::Sidecar { revision } => (SIDECAR, None, Some(stored(*revision)), None),
        ObjectState::Dead { delete_after } => (DEAD, None, None, Some(*delete_after)),
    }
}

/// The first text that sorts after all texts with this prefix; `None` if there is none.
pub(super) fn end_of_prefix(prefix: &str) -> Option<String> {
    let mut text = prefix.to_owned();
    while let Some(last) = text.pop() {
        // Skips the surrogates, U+D800 to U+DFFF, which are no characters.
        let next = if last == '\u{d7ff}' { Some('\u{e000}') } else { char::from_u32(u32::from(last) + 1) };
        if let Some(next) = next {
            text.push(next);
            return Some(text);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::end_of_prefix;

    #[test]
    fn end_of_a_prefix_is_behind_all_that_begin_so() {
        let cases = [
            ("", None),
            ("a", Some("b")),
            ("a\u{10ffff}", Some("b")),
            ("\u{10ffff}", None),
            ("\u{d7ff}", Some("\u{e000}")),
            ("\u{7f}", Some("\u{80}")),
        ];
        for (prefix, end) in cases {
            assert_eq!(end_of_prefix(prefix).as_deref(), end, "{prefix:?}");
        }
    }
}
