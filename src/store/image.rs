//! [`StoredImage`]: the row of one image as a value, with its aliases, its source and the keys of its objects.
//!
//! Serialized it is the image object of LXD's REST API, which `--format json` prints, too. Times
//! are seconds since 1970.

use std::fmt;

use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Map, Value};

use super::blobs::BlobKey;
use crate::error::{Error, Result};
use crate::fingerprint::Fingerprint;
use crate::format::{ImageForm, ImageType};
use crate::metadata::{Architecture, Properties};
#[cfg(feature = "remote")]
use crate::omissions::Omitted;
#[cfg(feature = "remote")]
use crate::progress::Monitor;
use crate::redact;
use crate::source_protocol::Protocol;
use crate::time::rfc3339;

/// The row of an image in a store, as it was when it was read.
///
/// Times are seconds since 1970, sizes are bytes. It serializes as the image object of LXD's REST API.
///
/// ```
/// use lxd_image::store::StoredImage;
/// use lxd_image::{Architecture, Fingerprint, ImageType};
///
/// // What an implementation of a catalog or of a remote makes.
/// let mut image = StoredImage::new(Fingerprint::of(b"bytes"), ImageType::Container, Architecture::X86_64);
/// image.size = 5;
/// image.properties.set("os", "Debian")?;
/// assert_eq!((image.first_size(), image.public), (5, false));
/// # Ok::<(), lxd_image::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoredImage {
    /// The SHA-256 digest of its bytes, which identifies it.
    pub fingerprint: Fingerprint,
    /// Whether it is for containers or for virtual machines.
    pub image_type: ImageType,
    /// The architecture that it is for. Never changes.
    pub architecture: Architecture,
    /// The size of all its files in bytes.
    pub size: u64,
    /// The size of the rootfs file of a split image in bytes; `None` for a unified one.
    pub rootfs_size: Option<u64>,
    /// When it was built, according to its metadata. Never changes.
    pub created_at: i64,
    /// When it expires; `None` for never. An expired cached image is pruned, others stay.
    pub expires_at: Option<i64>,
    /// When it was imported into this store.
    pub uploaded_at: i64,
    /// When it was last used ([`Store::mark_used`](super::Store::mark_used)); `None` for never.
    pub last_used_at: Option<i64>,
    /// Whether anonymous clients of a server may read it.
    pub public: bool,
    /// Whether a refresh replaces it by newer images of its source.
    pub auto_update: bool,
    /// Whether it is cached: downloaded because it was used, and pruned when it is no longer used.
    pub cached: bool,
    /// The name that its file was imported with; for a split image that of the metadata file. Always a plain name.
    pub file_name: Option<String>,
    /// The name that the rootfs file of a split image was imported with. Always a plain name.
    pub rootfs_name: Option<String>,
    /// Where it came from, and where newer versions are.
    pub source: Option<UpdateSource>,
    /// Its properties now.
    pub properties: Properties,
    /// Its properties as the image and its source had them. What differs was edited in this store,
    /// and survives a refresh.
    pub original_properties: Properties,
    /// Fields of its description at its source that this version does not know, such as those of a newer server. They are
    /// kept with the [`source`](Self::source), and shown as they came.
    pub other: Map<String, Value>,
    /// The number of changes of this row and its aliases. Increases with each, except for `last_used_at`.
    pub revision: u64,
    /// The aliases that point to it, sorted.
    pub aliases: Vec<Alias>,
    /// The keys of the objects that hold its bytes; empty for an image that is in no store.
    pub objects: ImageObjects,
}

/// The keys of the objects of an image.
///
/// Two values are equal if they hold the same files. The sidecar is not compared: it is internal to
/// the store, and is written after the change that it describes.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct ImageObjects {
    /// The image's file, or the metadata file of a split one.
    pub image: BlobKey,
    /// The rootfs file of a split image.
    pub rootfs: Option<BlobKey>,
    /// The sidecar of the row; `None` until it is written after the first commit.
    pub sidecar: Option<BlobKey>,
}

impl PartialEq for ImageObjects {
    fn eq(&self, other: &Self) -> bool {
        (&self.image, &self.rootfs) == (&other.image, &other.rootfs)
    }
}

impl Eq for ImageObjects {}

impl ImageObjects {
    /// New keys for the files of an image.
    #[must_use]
    pub fn new(fingerprint: &Fingerprint, form: ImageForm) -> Self {
        let (image, rootfs) = BlobKey::pair(fingerprint);
        Self { image, rootfs: (form == ImageForm::Split).then_some(rootfs), sidecar: None }
    }

    /// The number of files of the image.
    pub(crate) fn files(&self) -> usize {
        1 + usize::from(self.rootfs.is_some())
    }

    /// Whether `key` is one of these keys.
    pub(crate) fn names(&self, key: &BlobKey) -> bool {
        self.keys().any(|named| named == key)
    }

    /// All keys, the sidecar last.
    pub fn keys(&self) -> impl Iterator<Item = &BlobKey> {
        std::iter::once(&self.image).chain(&self.rootfs).chain(&self.sidecar)
    }
}

impl StoredImage {
    /// Records that the fields which this version does not know stay behind, and why.
    #[cfg(feature = "remote")]
    pub(crate) fn omit_other(&self, monitor: &Monitor, reason: &'static str) {
        for key in self.other.keys() {
            let shown: String = key.chars().take(128).collect();
            let what = Omitted::Dropped { part: format!("field `{shown}`").into(), reason: reason.into() };
            monitor.omit(self.fingerprint.to_string(), what);
        }
    }

    /// An image about which nothing else is known: private, without properties and times, in no
    /// store. Set the other fields afterwards.
    ///
    /// For implementations of a [`Catalog`](super::Catalog) and of remotes.
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
            other: Map::new(),
            revision: 0,
            aliases: Vec::new(),
            objects: ImageObjects::default(),
        }
    }

    /// The target of aliases that point to this image.
    #[must_use]
    pub fn target(&self) -> AliasTarget {
        AliasTarget { fingerprint: self.fingerprint, image_type: self.image_type }
    }

    /// The most recently uploaded image; ties are broken by the creation time and the last use.
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

    /// The entity tag for conditional edits, the same as LXD computes. It covers `public`,
    /// `auto_update` and the properties; for all other fields compare the
    /// [`revision`](Self::revision).
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

/// Appends a JSON string as Go's `encoding/json` writes it: LXD and Incus hash that text for the tag.
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

/// The state that an edit is based on; see [`StoredImage::etag`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ETag(String);

impl ETag {
    /// The tag that a client sent.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text of the tag: 64 hex digits if it is one of [`StoredImage::etag`].
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
///
/// ```
/// use lxd_image::store::Alias;
///
/// let alias = Alias::new("debian/12")?.described("the stable release");
/// assert_eq!(alias.name, "debian/12");
/// assert!(Alias::new("images:debian").is_err(), "a colon ends the name of a remote");
/// # Ok::<(), lxd_image::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct Alias {
    /// The name. It may contain `/`.
    pub name: String,
    /// A description for people.
    pub description: String,
}

impl Alias {
    /// Makes an alias with a name that a store accepts.
    ///
    /// # Errors
    /// `InvalidInput` for a name that is empty, longer than 255 bytes, or a whole fingerprint; that
    /// contains a colon (it ends the name of a remote), a control character, or a blank at either
    /// end; and that no URL can contain, since clients and proxies remove path segments that are
    /// empty, `.` or `..`.
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
        // The name may come from an untrusted client and be long: its beginning is enough to recognise it.
        let shown: String = name.chars().take(64).collect();
        Err(Error::invalid(format!("`{shown}` can't be an alias: it {wrong}")))
    }

    /// An alias that a server listed, which may be any text.
    #[cfg(any(feature = "remote", all(test, feature = "server")))]
    pub(crate) fn told(name: String) -> Self {
        Self { name, description: String::new() }
    }

    /// Sets the description.
    #[must_use]
    pub fn described(mut self, description: impl Into<String>) -> Self {
        self.description = description.into();
        self
    }
}

/// The image that an alias points to. Aliases are unique per type, so a container's and a virtual
/// machine's image may share a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub struct AliasTarget {
    /// The image.
    pub fingerprint: Fingerprint,
    /// The type of the image.
    pub image_type: ImageType,
}

impl AliasTarget {
    /// The target for an image of this type.
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

/// Where an image came from, and where newer versions of it are found.
///
/// It is stored with its secrets, which a refresh needs: `Debug` and [`redacted`](Self::redacted) hide them.
///
/// ```
/// use lxd_image::store::UpdateSource;
///
/// let source = UpdateSource::new("https://user:word@images.example/", "simplestreams", "debian/12");
/// assert!(source.is_followed());
/// assert_eq!(source.redacted().server, "https://***@images.example/");
/// # Ok::<(), lxd_image::Error>(())
/// ```
#[derive(Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct UpdateSource {
    /// The alias that was requested. An image without one does not follow its source, unless the
    /// address itself stands for the newest image.
    pub alias: String,
    /// The server's certificate in PEM, if it is not signed by a known authority.
    pub certificate: String,
    /// The protocol of the server: `lxd`, `simplestreams` or `direct`.
    pub protocol: String,
    /// The address of the server, including its query: a token there is needed by a refresh. Show
    /// [`redacted`](Self::redacted) to people.
    pub server: String,
    /// `container` or `virtual-machine`.
    pub image_type: String,
}

impl UpdateSource {
    /// A source on a server, with the protocol and the alias that was requested.
    #[must_use]
    pub fn new(server: impl Into<String>, protocol: impl Into<String>, alias: impl Into<String>) -> Self {
        Self { server: server.into(), protocol: protocol.into(), alias: alias.into(), ..Self::default() }
    }

    /// A copy for display: without passwords and without values of the query that may be secret.
    #[must_use]
    pub fn redacted(&self) -> Self {
        Self { server: redact::address(&self.server), ..self.clone() }
    }

    /// Whether an image can follow it: it has an alias, or its address stands for the newest image.
    #[must_use]
    pub fn is_followed(&self) -> bool {
        !self.alias.is_empty() || self.protocol.parse().is_ok_and(Protocol::follows_address)
    }

    /// Sets the certificate of the server in PEM.
    #[must_use]
    pub fn certificate(mut self, pem: impl Into<String>) -> Self {
        self.certificate = pem.into();
        self
    }

    /// Sets which of two images is meant if both share the alias.
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

/// The fields of an image that are known here, whether it has them or not.
const FIELDS: [&str; 18] = [
    "auto_update",
    "properties",
    "public",
    "expires_at",
    "profiles",
    "aliases",
    "architecture",
    "cached",
    "filename",
    "fingerprint",
    "size",
    "update_source",
    "type",
    "created_at",
    "last_used_at",
    "uploaded_at",
    "release_codename",
    "release_title",
];

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
            // Anonymous clients read this object: secrets of the source must not be in it.
            map.serialize_entry("update_source", &source.redacted())?;
        }
        map.serialize_entry("type", self.image_type.name())?;
        map.serialize_entry("created_at", &rfc3339(Some(self.created_at)))?;
        map.serialize_entry("last_used_at", &rfc3339(self.last_used_at))?;
        map.serialize_entry("uploaded_at", &rfc3339(Some(self.uploaded_at)))?;
        // Fields of LXD since 6.8 (`image_extended_metadata`).
        for key in ["release_codename", "release_title"] {
            if let Some(value) = self.properties.get(key).filter(|value| !value.is_empty()) {
                map.serialize_entry(key, value)?;
            }
        }
        // A sidecar is a file, and a source is a server: what they have under these names would hide what is known here.
        for (key, value) in self.other.iter().filter(|(key, _)| !FIELDS.contains(&key.as_str())) {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}
