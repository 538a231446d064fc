//! Keys of objects: made of a fingerprint and a random number, so that each is used only once and
//! tells what it belongs to.
//!
//! | object | key |
//! |---|---|
//! | image or metadata file | `FINGERPRINT.RANDOM` |
//! | rootfs file | `FINGERPRINT.RANDOM.rootfs` |
//! | sidecar of one revision | `FINGERPRINT.RANDOM.REVISION-RANDOM.json` |
//! | part of an upload that is no image yet | `ID.RANDOM.part` |
//! | layer of container images | `DIGEST.RANDOM.layer` |
//!
//! Numbers are hexadecimal. Since no key is used twice, a late deletion cannot destroy a newer
//! upload of the same image.

use std::fmt;

use crate::error::{Error, Result};
use crate::fingerprint::Fingerprint;
use crate::store::random::random_number;

/// The name of an object in a [`BlobStore`](super::BlobStore).
///
/// ```
/// use lxd_image::Fingerprint;
/// use lxd_image::store::{BlobKey, ObjectPart};
///
/// let fingerprint = Fingerprint::of(b"an image");
/// let (first, rootfs) = BlobKey::pair(&fingerprint);
/// assert_ne!(first, BlobKey::pair(&fingerprint).0, "no key is made twice");
/// assert_eq!(rootfs.parse(), Some((fingerprint, ObjectPart::Rootfs)));
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlobKey(String);

/// The part of an image that an object holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ObjectPart {
    /// A unified image, or the metadata file of a split one.
    Image,
    /// The rootfs file of a split image.
    Rootfs,
    /// The sidecar: what one revision of the row of the image said.
    Sidecar,
    /// A part of an upload that is no image yet. The digest in its key is the ID of the upload, and no fingerprint.
    UploadPart,
    /// A layer of container images, which belongs to no image: in the place of the fingerprint is its digest.
    Layer,
}

/// The components of a key.
pub(crate) struct SplitKey {
    pub(crate) fingerprint: Fingerprint,
    pub(crate) part: ObjectPart,
    /// For a sidecar the revision that it describes; 0 if the key does not have it.
    pub(crate) revision: u64,
    /// The key of the image file that it belongs to.
    pub(crate) image: BlobKey,
}

impl BlobKey {
    /// A key from its text, as a catalog or a listing has it.
    ///
    /// # Errors
    /// `InvalidInput` for an empty text, one over 255 bytes, and one that could be a path.
    pub fn new(text: impl Into<String>) -> Result<Self> {
        let text = text.into();
        let plain = !text.is_empty()
            && text.len() <= 255
            && !matches!(&*text, "." | "..")
            && !text.bytes().any(|byte| byte == b'/' || byte == 0);
        if plain { Ok(Self(text)) } else { Err(Error::invalid("this cannot be the key of an object")) }
    }

    /// New keys for the image file and the rootfs file of one upload.
    #[must_use]
    pub fn pair(fingerprint: &Fingerprint) -> (Self, Self) {
        let random = random_number();
        (Self(format!("{fingerprint}.{random:016x}")), Self(format!("{fingerprint}.{random:016x}.rootfs")))
    }

    /// A new key for a part of the upload `id`.
    #[cfg(feature = "server")]
    pub(crate) fn part(id: &Fingerprint) -> Self {
        let random = random_number();
        Self(format!("{id}.{random:016x}.part"))
    }

    /// A new key for a layer with this digest.
    #[cfg(feature = "remote")]
    pub(crate) fn layer(digest: &Fingerprint) -> Self {
        Self(format!("{digest}.{:016x}.layer", random_number()))
    }

    /// The key of the *note* that the sidecar of one revision must be written, for the image with
    /// this key. No object has this key: several processes may write the same sidecar at once, each
    /// under a key of its [own](Self::new_sidecar).
    pub(crate) fn sidecar(&self, revision: u64) -> Self {
        Self(format!("{}.{revision:x}.json", self.0))
    }

    /// A new key for the sidecar of one revision of the image with this key.
    pub(crate) fn new_sidecar(&self, revision: u64) -> Self {
        let random = random_number();
        Self(format!("{}.{revision:x}-{random:016x}.json", self.0))
    }

    /// The keys of layout 1: the bare fingerprint. Unlike later keys, they were used again when an image came back.
    pub(crate) fn legacy(fingerprint: &Fingerprint) -> [Self; 3] {
        [Self(fingerprint.to_string()), Self(format!("{fingerprint}.rootfs")), Self(format!("{fingerprint}.json"))]
    }

    /// The image and the part that the key belongs to; `None` for a key that no store creates.
    #[must_use]
    pub fn parse(&self) -> Option<(Fingerprint, ObjectPart)> {
        self.split().map(|found| (found.fingerprint, found.part))
    }

    /// The components of the key; `None` for a key that no store creates.
    pub(crate) fn split(&self) -> Option<SplitKey> {
        let fingerprint = self.0.get(..64)?.parse().ok()?;
        let mut rest = self.0.get(64..)?;
        if let Some(after) = rest.strip_prefix('.')
            && let Some(random) = after.get(..16)
            && random.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        {
            rest = after.get(16..)?;
        }
        let (part, revision) = match rest {
            "" => (ObjectPart::Image, 0),
            ".rootfs" => (ObjectPart::Rootfs, 0),
            ".layer" => (ObjectPart::Layer, 0),
            ".json" => (ObjectPart::Sidecar, 0),
            ".part" => (ObjectPart::UploadPart, 0),
            other => {
                let numbers = other.strip_prefix('.')?.strip_suffix(".json")?;
                let (revision, random) = numbers.split_once('-').unwrap_or((numbers, "0"));
                u64::from_str_radix(random, 16).ok()?;
                (ObjectPart::Sidecar, u64::from_str_radix(revision, 16).ok()?)
            }
        };
        let image = Self(self.0.strip_suffix(rest)?.to_owned());
        Some(SplitKey { fingerprint, part, revision, image })
    }

    /// The text of the key.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether there is no key, because the image is in no store.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for BlobKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[test]
    fn key_names_its_image_and_part() {
        let fingerprint = Fingerprint::of(b"x");
        let (first, rootfs) = BlobKey::pair(&fingerprint);
        let legacy = BlobKey::legacy(&fingerprint);
        let cases = [
            (first.clone(), ObjectPart::Image),
            (rootfs, ObjectPart::Rootfs),
            (first.sidecar(17), ObjectPart::Sidecar),
            (first.new_sidecar(17), ObjectPart::Sidecar),
            (legacy[0].clone(), ObjectPart::Image),
            (legacy[1].clone(), ObjectPart::Rootfs),
            (legacy[2].clone(), ObjectPart::Sidecar),
            (legacy[0].sidecar(17), ObjectPart::Sidecar),
        ];
        for (key, part) in cases {
            assert_eq!(key.parse(), Some((fingerprint, part)), "{key}");
        }
    }

    #[test]
    fn foreign_name_is_no_image_key() {
        let fingerprint = Fingerprint::of(b"x");
        for text in ["letter".to_owned(), format!("{fingerprint}x"), format!("{fingerprint}.json.json"), "a".repeat(64)]
        {
            let parsed = BlobKey::new(text.clone()).unwrap().parse();
            assert!(parsed.is_none() || text == "a".repeat(64), "{text}");
        }
    }

    #[test]
    fn path_is_refused_as_key() {
        for text in ["", ".", "..", "a/b", "/", "a\0"] {
            assert!(BlobKey::new(text).is_err(), "{text:?}");
        }
    }
}
