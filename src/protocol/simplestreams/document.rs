//! The documents: `index.json` and `images.json`.
//!
//! Unknown fields are kept, so that a tree that other tools write, too, loses nothing when it is read and written here. Invalid
//! entries are set apart ([`Entries::odd`]), so that they hide no others, and are written back as they were.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::entries::Entries;
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::protocol::from_json;
use crate::protocol::json::nullable;

/// `streams/v1/index.json`: which lists of products there are.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[non_exhaustive]
pub struct Index {
    /// `index:1.0`.
    #[serde(default, deserialize_with = "nullable")]
    pub format: String,
    /// The lists, by name. Required: without it any JSON object, like the error of another server, would be an empty index.
    #[serde(deserialize_with = "nullable")]
    pub index: Entries<IndexEntry>,
    /// Unknown fields, kept as they are.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// One list in an index.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize)]
#[non_exhaustive]
pub struct IndexEntry {
    /// `image-downloads` for lists of images.
    #[serde(default, deserialize_with = "nullable")]
    pub datatype: String,
    /// The path of the list, relative to the base of the server.
    #[serde(default, deserialize_with = "nullable")]
    pub path: String,
    /// When it last changed, in the format of RFC 2822.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub updated: String,
    /// The keys of its products.
    #[serde(default, deserialize_with = "nullable")]
    pub products: Vec<String>,
    /// `products:1.0`.
    #[serde(default, deserialize_with = "nullable")]
    pub format: String,
    /// Unknown fields, kept as they are.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl IndexEntry {
    /// Whether it is a list of images that names no products, so that readers skip it.
    #[must_use]
    pub fn names_no_products(&self) -> bool {
        self.datatype == "image-downloads" && !self.path.is_empty() && self.products.is_empty()
    }
}

impl Index {
    /// An index of one list of images at `streams/v1/images.json`. `updated` is seconds since 1970.
    #[must_use]
    pub fn of(products: &Products, updated: i64) -> Self {
        Self::naming(products.products.keys().cloned().collect(), updated)
    }

    /// As [`of`](Self::of), where only the keys of the products are known.
    pub(crate) fn naming(products: Vec<String>, updated: i64) -> Self {
        let entry = IndexEntry {
            datatype: "image-downloads".into(),
            path: "streams/v1/images.json".into(),
            updated: crate::time::to_rfc2822(updated),
            products,
            format: "products:1.0".into(),
            other: Map::new(),
        };
        Self { format: "index:1.0".into(), index: BTreeMap::from([("images".into(), entry)]).into(), other: Map::new() }
    }

    /// Reads an index.
    ///
    /// # Errors
    /// `LimitExceeded`, `Malformed`.
    pub fn from_json(text: &[u8], limits: &Limits) -> Result<Self> {
        from_json(text, "the simplestreams index", limits)
    }

    /// The document, indented, with a newline at the end.
    #[must_use]
    pub fn to_json(&self) -> String {
        pretty(self)
    }

    /// The lists of images in it: those of the right type that have products.
    pub fn image_lists(&self) -> impl Iterator<Item = &IndexEntry> {
        self.index.values().filter(|entry| entry.datatype == "image-downloads" && !entry.products.is_empty())
    }
}

/// `images.json`: products, their versions and the files of each.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize)]
#[non_exhaustive]
pub struct Products {
    /// The list's name.
    #[serde(default, deserialize_with = "nullable")]
    pub content_id: String,
    /// `image-downloads`.
    #[serde(default, deserialize_with = "nullable")]
    pub datatype: String,
    /// `products:1.0`.
    #[serde(default, deserialize_with = "nullable")]
    pub format: String,
    /// When it last changed, in the format of RFC 2822.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub updated: String,
    /// The products, by key. Required, as [`Index::index`] is.
    #[serde(deserialize_with = "nullable")]
    pub products: Entries<Product>,
    /// Unknown fields, kept as they are.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// A product: one release of a system in one variant for one architecture, of which new versions are published.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize)]
#[non_exhaustive]
pub struct Product {
    /// Its aliases in one text, separated by commas.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub aliases: String,
    /// The architecture, by the distribution's name.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub arch: String,
    /// The system's name.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub os: String,
    /// The release.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub release: String,
    /// The code name of the release, like `noble`.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub release_codename: String,
    /// The title of the release, like `24.04 LTS`.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub release_title: String,
    /// Requirements that LXD reads instead of [`requirements`](Self::requirements), also where they are empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lxd_requirements: Option<BTreeMap<String, String>>,
    /// Requirements of its instances, which become properties `requirements.NAME`.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "BTreeMap::is_empty")]
    pub requirements: BTreeMap<String, String>,
    /// The last day of support, `YYYY-MM-DD`.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub support_eol: String,
    /// Whether it is supported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub supported: Option<bool>,
    /// The variant, `default` or another.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub variant: String,
    /// The version of the system.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// Its versions, by serial: a date, with a suffix for several on one day.
    #[serde(default, deserialize_with = "nullable")]
    pub versions: Entries<Version>,
    /// Unknown fields, kept as they are.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// One version of a product.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize)]
#[non_exhaustive]
pub struct Version {
    /// Its files, by name.
    #[serde(default, deserialize_with = "nullable")]
    pub items: Entries<Item>,
    /// `release`, `daily`, …
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub label: String,
    /// Unknown fields, kept as they are.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// One file of a version.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize)]
#[non_exhaustive]
pub struct Item {
    /// Its type: `lxd.tar.xz`, `squashfs`, …
    #[serde(default, deserialize_with = "nullable")]
    pub ftype: String,
    /// Its path, relative to the base of the server. See [`ItemPath`](super::ItemPath).
    #[serde(default, deserialize_with = "nullable")]
    pub path: String,
    /// Its size in bytes, if the list has it. Anything but a non-negative integer makes the item an odd entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Its digest, as 64 hexadecimal digits.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub sha256: String,
    /// On metadata: the fingerprint of the image that it makes with a tar whose name is not told apart.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub combined_sha256: String,
    /// On metadata: the fingerprint of the image that it makes with `root.tar.xz`.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub combined_rootxz_sha256: String,
    /// On metadata: the fingerprint of the image that it makes with `squashfs`.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub combined_squashfs_sha256: String,
    /// On metadata: the fingerprint of the image that it makes with `disk1.img`.
    #[serde(
        default,
        rename = "combined_disk1-img_sha256",
        deserialize_with = "nullable",
        skip_serializing_if = "String::is_empty"
    )]
    pub combined_disk1_sha256: String,
    /// On metadata: the fingerprint of the image that it makes with `disk-kvm.img`.
    #[serde(
        default,
        rename = "combined_disk-kvm-img_sha256",
        deserialize_with = "nullable",
        skip_serializing_if = "String::is_empty"
    )]
    pub combined_disk_kvm_sha256: String,
    /// On metadata: the fingerprint of the image that it makes with `uefi1.img`.
    #[serde(
        default,
        rename = "combined_uefi1-img_sha256",
        deserialize_with = "nullable",
        skip_serializing_if = "String::is_empty"
    )]
    pub combined_uefi1_sha256: String,
    /// On a unified image: `virtual-machine` when it is for one.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub combined_type: String,
    /// On a delta: the serial of the version that it starts from.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub delta_base: String,
    /// Unknown fields, kept as they are.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl Product {
    /// The requirements of its instances: those for LXD where the list has some of its own.
    #[must_use]
    pub fn effective_requirements(&self) -> &BTreeMap<String, String> {
        self.lxd_requirements.as_ref().unwrap_or(&self.requirements)
    }
}

impl Products {
    /// A list of images without products. `updated` is seconds since 1970.
    #[must_use]
    pub fn new(updated: i64) -> Self {
        Self {
            content_id: "images".into(),
            datatype: "image-downloads".into(),
            format: "products:1.0".into(),
            updated: crate::time::to_rfc2822(updated),
            ..Self::default()
        }
    }

    /// Reads a list of products. One that is wrong is an odd entry and hides no others.
    ///
    /// # Errors
    /// `LimitExceeded`; `Malformed` for what is no JSON object with products, and for another format than `products:1.0`.
    pub fn from_json(text: &[u8], limits: &Limits) -> Result<Self> {
        let products: Self = from_json(text, "the list of images", limits)?;
        if !products.format.is_empty() && products.format != "products:1.0" {
            let shown: String = products.format.chars().take(64).collect();
            return Err(Error::malformed(format!("the list of images has the format `{shown}`, not `products:1.0`")));
        }
        Ok(products)
    }

    /// The document, indented, with a newline at the end.
    #[must_use]
    pub fn to_json(&self) -> String {
        pretty(self)
    }
}

/// Indented JSON with a newline at its end, as the tools of simplestreams write it.
fn pretty<T: Serialize>(document: &T) -> String {
    let mut text = serde_json::to_string_pretty(document)
        .unwrap_or_else(|error| unreachable!("texts, numbers and maps with texts as keys are always JSON: {error}"));
    text.push('\n');
    text
}
