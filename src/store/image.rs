//! `StoredImage`: all that the store knows of one image, as a value; its aliases and its source.
//! Serialized it is the image object of LXD's REST API, which is also what `--format json` shows.

use std::fmt;

use serde::ser::{Serialize, SerializeMap, Serializer};

use super::blobs::BlobKey;
use crate::error::{Error, Result};
use crate::fingerprint::Fingerprint;
use crate::format::{ImageForm, ImageType};
use crate::metadata::{Architecture, Properties};
use crate::redact;
use crate::source_protocol::Protocol;
use crate::time::rfc3339;

/// An image in a store, as it was when it was looked up.
///
/// Times are seconds since 1970. Serializes as the image object of LXD's REST API.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoredImage {
    /// The digest of its bytes, which names it.
    pub fingerprint: Fingerprint,
    /// Whether it is for a container or a virtual machine.
    pub image_type: ImageType,
    /// The machine that it is for. Never changes.
    pub architecture: Architecture,
    /// The size of all its files in bytes.
    pub size: u64,
    /// The size of the rootfs file of a split image in bytes; `None` for a unified one.
    pub rootfs_size: Option<u64>,
    /// When it was made, as its metadata says. Never changes.
    pub created_at: i64,
    /// When it may be removed, if ever.
    pub expires_at: Option<i64>,
    /// When it came into this store.
    pub uploaded_at: i64,
    /// When something was last made from it.
    pub last_used_at: Option<i64>,
    /// Whether clients that have not authenticated may read it.
    pub public: bool,
    /// Whether it follows its source.
    pub auto_update: bool,
    /// Whether it came as a side effect of using a remote image, and goes when it is not used.
    pub cached: bool,
    /// The name that its file came with: of a split image, the metadata's. Always a plain name.
    pub file_name: Option<String>,
    /// The name that the rootfs file of a split image came with. Always a plain name.
    pub rootfs_name: Option<String>,
    /// Where newer versions come from.
    pub source: Option<UpdateSource>,
    /// Its properties, as they are now.
    pub properties: Properties,
    /// Its properties as image and source gave them: what differs from these is somebody's edit.
    pub original_properties: Properties,
    /// Counts the changes made to it in this store.
    pub revision: u64,
    /// The names that point to it, sorted.
    pub aliases: Vec<Alias>,
    /// The objects that hold its bytes; empty for an image that is in no store.
    pub objects: ImageObjects,
}

/// The keys of an image's objects in the blobs of its store.
///
/// Two of them are equal when they hold the same bytes of the image: its sidecar is the store's own matter, and is written
/// after the change that it tells of was committed.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct ImageObjects {
    /// The image's file, or the metadata file of a split one.
    pub image: BlobKey,
    /// The rootfs file of a split image.
    pub rootfs: Option<BlobKey>,
    /// What the catalog knows of it, for when the catalog is lost; `None` until that is written.
    pub sidecar: Option<BlobKey>,
}

impl PartialEq for ImageObjects {
    fn eq(&self, other: &Self) -> bool {
        (&self.image, &self.rootfs) == (&other.image, &other.rootfs)
    }
}

impl Eq for ImageObjects {}

impl ImageObjects {
    /// New keys for an image's files.
    #[must_use]
    pub fn new(fingerprint: &Fingerprint, form: ImageForm) -> Self {
        let (image, rootfs) = BlobKey::pair(fingerprint);
        Self { image, rootfs: (form == ImageForm::Split).then_some(rootfs), sidecar: None }
    }

    /// How many files the image is in.
    pub(crate) fn files(&self) -> usize {
        1 + usize::from(self.rootfs.is_some())
    }

    /// Whether this is one of them.
    pub(crate) fn names(&self, key: &BlobKey) -> bool {
        self.keys().any(|named| named == key)
    }

    /// All of them.
    pub fn keys(&self) -> impl Iterator<Item = &BlobKey> {
        std::iter::once(&self.image).chain(&self.rootfs).chain(&self.sidecar)
    }
}

impl StoredImage {
    /// An image of which nothing else is known: private, without properties and times, in no store. Set the other fields.
    #[must_use]
    pub fn new(fingerprint: Fingerprint, image_type: ImageType, architecture: Architecture) -> Self {
        Self {
            fingerprint,
            image_type,
            architecture,
            size: 0,
            rootfs_size: None,
            created_at: 0,
            expires_at: None,
            uploaded_at: 0,
            last_used_at: None,
            public: false,
            auto_update: false,
            cached: false,
            file_name: None,
            rootfs_name: None,
            source: None,
            properties: Properties::new(),
            original_properties: Properties::new(),
            revision: 0,
            aliases: Vec::new(),
            objects: ImageObjects::default(),
        }
    }

    /// What its aliases point to.
    #[must_use]
    pub fn target(&self) -> AliasTarget {
        AliasTarget { fingerprint: self.fingerprint, image_type: self.image_type }
    }

    /// Of some images the one that came last; of those that came in one second, the one that was made last.
    #[cfg(feature = "remote")]
    pub(crate) fn newest(images: impl IntoIterator<Item = Self>) -> Option<Self> {
        images.into_iter().max_by_key(|image| (image.uploaded_at, image.created_at, image.last_used_at))
    }

    /// Whether it is one file or two.
    #[must_use]
    pub fn form(&self) -> ImageForm {
        if self.rootfs_size.is_some() { ImageForm::Split } else { ImageForm::Unified }
    }

    /// The size of its first file in bytes: the whole image, or the metadata of a split one.
    #[must_use]
    pub fn first_size(&self) -> u64 {
        self.size.saturating_sub(self.rootfs_size.unwrap_or(0))
    }

    /// What an edit may be based on: changes with `public`, `auto_update` and the properties, and
    /// is the one that LXD's REST API gives.
    #[must_use]
    pub fn etag(&self) -> ETag {
        let mut text = format!("[{},{},{{", self.public, self.auto_update);
        let mut pairs: Vec<_> = self.properties.iter().collect();
        pairs.sort_unstable();
        for (index, (key, value)) in pairs.into_iter().enumerate() {
            if index > 0 {
                text.push(',');
            }
            go_string(&mut text, key);
            text.push(':');
            go_string(&mut text, value);
        }
        text.push_str("}]\n");
        ETag(Fingerprint::of(text.as_bytes()).to_string())
    }
}

/// A string as Go's `encoding/json` writes it, which the peers hash.
fn go_string(out: &mut String, text: &str) {
    use fmt::Write;
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..='\u{1f}' => {
                let _ = write!(out, "\\u{:04x}", u32::from(character));
            }
            other => out.push(other),
        }
    }
    out.push('"');
}

/// The state that an edit was based on; see [`StoredImage::etag`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ETag(String);

impl ETag {
    /// The tag that a client sent.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, 64 hex digits for those that this library makes.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ETag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A name that points to an image.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct Alias {
    /// The name; it may hold `/`.
    pub name: String,
    /// What it is for, in words.
    pub description: String,
}

impl Alias {
    /// A name that a store takes.
    ///
    /// # Errors
    /// `InvalidInput` for an empty name, one over 255 bytes, one with a colon (which ends a
    /// remote's name), a control character or a blank at either end, one that reads as a
    /// whole fingerprint, and one that no address can hold: clients and proxies take parts between
    /// slashes that are empty, `.` or `..` out of an address.
    pub fn new(name: impl Into<String>) -> Result<Self> {
        let name = name.into();
        let wrong = if name.is_empty() {
            "is empty"
        } else if name.len() > 255 {
            "is longer than 255 bytes"
        } else if name.contains(':') {
            "holds a colon, which ends the name of a remote"
        } else if name.chars().any(char::is_control) {
            "holds a control character"
        } else if name.trim() != name {
            "begins or ends with a blank"
        } else if name.parse::<Fingerprint>().is_ok() {
            "reads as a fingerprint"
        } else if name.split('/').any(|part| matches!(part, "" | "." | "..")) {
            "has a part that is empty, `.` or `..`, which no address can hold"
        } else {
            return Ok(Self { name, description: String::new() });
        };
        // A stranger's text may be long; its beginning is enough to recognise it.
        let shown: String = name.chars().take(64).collect();
        Err(Error::invalid(format!("`{shown}` can't be an alias: it {wrong}")))
    }

    /// A name that a server told: any text.
    #[cfg(any(feature = "remote", all(test, feature = "server")))]
    pub(crate) fn told(name: String) -> Self {
        Self { name, description: String::new() }
    }

    /// Says what the name is for.
    #[must_use]
    pub fn described(mut self, description: impl Into<String>) -> Self {
        self.description = description.into();
        self
    }
}

/// What an alias points to. A container's image and a virtual machine's may share a name: an alias is unique for each type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub struct AliasTarget {
    /// The image.
    pub fingerprint: Fingerprint,
    /// The type of the image.
    pub image_type: ImageType,
}

impl AliasTarget {
    /// An image of this type.
    #[must_use]
    pub fn new(fingerprint: Fingerprint, image_type: ImageType) -> Self {
        Self { fingerprint, image_type }
    }
}

impl Serialize for Alias {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry("name", &self.name)?;
        map.serialize_entry("description", &self.description)?;
        map.end()
    }
}

/// Where an image came from and newer versions of it come from.
#[derive(Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct UpdateSource {
    /// The alias that was asked for; without one an image can't follow its source.
    pub alias: String,
    /// The server's certificate in PEM, where it is not signed by a known authority.
    pub certificate: String,
    /// How to talk to the server: `lxd`, `simplestreams` or `direct`.
    pub protocol: String,
    /// The server's address, with all that stands in its query: a token there is needed when the image is refreshed. Show
    /// [`redacted`](Self::redacted) to people.
    pub server: String,
    /// `container` or `virtual-machine`.
    pub image_type: String,
}

impl UpdateSource {
    /// A server, how to talk to it, and the alias that was asked for.
    #[must_use]
    pub fn new(server: impl Into<String>, protocol: impl Into<String>, alias: impl Into<String>) -> Self {
        Self { server: server.into(), protocol: protocol.into(), alias: alias.into(), ..Self::default() }
    }

    /// The same to be shown: without passwords and the values of the address's query that may be secrets.
    #[must_use]
    pub fn redacted(&self) -> Self {
        Self { server: redact::address(&self.server), ..self.clone() }
    }

    /// Whether an image can follow it: it is named by an alias, or its address stands for whatever
    /// is newest.
    #[must_use]
    pub fn is_followed(&self) -> bool {
        !self.alias.is_empty() || self.protocol.parse().is_ok_and(Protocol::follows_address)
    }

    /// The server's certificate in PEM.
    #[must_use]
    pub fn certificate(mut self, pem: impl Into<String>) -> Self {
        self.certificate = pem.into();
        self
    }

    /// Whether a container's or a virtual machine's image is meant by the alias.
    #[must_use]
    pub fn image_type(mut self, image_type: ImageType) -> Self {
        image_type.name().clone_into(&mut self.image_type);
        self
    }
}

impl fmt::Debug for UpdateSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpdateSource")
            .field("alias", &self.alias)
            .field("protocol", &self.protocol)
            .field("server", &redact::address(&self.server))
            .field("image_type", &self.image_type)
            .finish_non_exhaustive()
    }
}

impl Serialize for StoredImage {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("auto_update", &self.auto_update)?;
        map.serialize_entry("properties", &self.properties)?;
        map.serialize_entry("public", &self.public)?;
        map.serialize_entry("expires_at", &rfc3339(self.expires_at))?;
        map.serialize_entry("profiles", &[""; 0])?;
        map.serialize_entry("aliases", &self.aliases)?;
        map.serialize_entry("architecture", &self.architecture)?;
        map.serialize_entry("cached", &self.cached)?;
        map.serialize_entry("filename", self.file_name.as_deref().unwrap_or_default())?;
        map.serialize_entry("fingerprint", &self.fingerprint)?;
        map.serialize_entry("size", &self.size)?;
        if let Some(source) = &self.source {
            // Whoever reads the object need not learn what opens the source.
            map.serialize_entry("update_source", &source.redacted())?;
        }
        map.serialize_entry("type", self.image_type.name())?;
        map.serialize_entry("created_at", &rfc3339(Some(self.created_at)))?;
        map.serialize_entry("last_used_at", &rfc3339(self.last_used_at))?;
        map.serialize_entry("uploaded_at", &rfc3339(Some(self.uploaded_at)))?;
        map.end()
    }
}
