//! [`BlobSource`] and [`BlobSink`]: what layouts and registries have in common.
//!
//! An implementation moves bytes. What they must be is checked here, once for all of them.

use std::fmt;
use std::io::Read;
use std::str::FromStr;

use super::digest::{Digest, DigestReader};
use super::document::{Descriptor, Document, shorten};
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::progress::Monitor;

/// What names a document in a repository: a tag, or a digest.
///
/// It parses strictly, so that it is safe in a URL.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Reference {
    /// A tag: up to 128 letters, digits, `_`, `.` and `-`, beginning with none of the last two.
    Tag(Tag),
    /// A digest.
    Digest(Digest),
}

/// A tag that was parsed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(String);

impl Tag {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it names no image, but what clients keep about one: an index of referrers (`sha256-HEX`), or a signature of
    /// cosign, which puts an ending behind.
    #[must_use]
    pub fn is_about_manifest(&self) -> bool {
        let hex = ["sha256-", "sha512-"].iter().find_map(|front| self.0.strip_prefix(front)?.as_bytes().get(..64));
        hex.is_some_and(|hex| hex.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')))
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Tag {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let is_tag = text.len() <= 128
            && text.bytes().next().is_some_and(word)
            && text.bytes().all(|byte| word(byte) || byte == b'.' || byte == b'-');
        if is_tag {
            return Ok(Self(text.to_owned()));
        }
        Err(Error::invalid(format!("`{}` is not a tag", shorten(text)))
            .with_hint("a tag has up to 128 letters, digits, `_`, `.` and `-`, and begins with none of the last two"))
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => tag.fmt(f),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

impl FromStr for Reference {
    type Err = Error;

    /// Takes a digest where there is a colon, a tag otherwise.
    fn from_str(text: &str) -> Result<Self> {
        if text.contains(':') { text.parse().map(Self::Digest) } else { text.parse().map(Self::Tag) }
    }
}

impl From<Digest> for Reference {
    fn from(digest: Digest) -> Self {
        Self::Digest(digest)
    }
}

/// A manifest or index as its source holds it: the bytes that have the digest.
#[derive(Debug, Clone)]
pub struct RawDocument {
    /// Type, digest and size. The type is the one that the source states, and may be empty.
    pub descriptor: Descriptor,
    /// The bytes.
    pub bytes: Vec<u8>,
}

impl RawDocument {
    /// Takes bytes that a source gave for a reference.
    ///
    /// # Errors
    /// `Mismatch` where the reference is a digest and the bytes have another; `LimitExceeded` for `oci_document`.
    pub fn verified(bytes: Vec<u8>, reference: &Reference, media_type: Option<&str>, limits: &Limits) -> Result<Self> {
        let size = bytes.len() as u64;
        if size > limits.oci_document {
            return Err(Error::limit("oci_document", limits.oci_document, format_args!("a manifest of {size} bytes")));
        }
        let expected = match reference {
            Reference::Digest(expected) => Some(*expected),
            Reference::Tag(_) => None,
        };
        let mut hasher = expected.map_or_else(Default::default, |expected| expected.hasher());
        hasher.update(&bytes);
        let found = hasher.finish();
        if let Some(expected) = expected.filter(|expected| *expected != found) {
            return Err(Error::mismatch("the digest of a manifest", expected.to_string(), found.to_string()));
        }
        Ok(Self { descriptor: Descriptor::new(media_type.unwrap_or_default(), found, size), bytes })
    }

    /// Parses the document.
    ///
    /// # Errors
    /// Those of [`Document::parse`].
    pub fn document(&self, limits: &Limits) -> Result<Document> {
        let stated = Some(self.descriptor.media_type.as_str()).filter(|stated| !stated.is_empty());
        Document::parse(&self.bytes, stated, limits)
    }
}

/// A repository to read from: a layout, or one repository of a registry.
///
/// An implementation is shared between threads, so that blobs may be read in parallel. It need not verify blobs: readers use
/// [`open_blob`].
pub trait BlobSource: Send + Sync {
    /// The document that a reference names, verified by [`RawDocument::verified`].
    ///
    /// # Errors
    /// `NotFound` when there is none; those of the source and of [`RawDocument::verified`].
    fn document(&self, reference: &Reference, limits: &Limits, monitor: &Monitor) -> Result<RawDocument>;

    /// The bytes of a blob, from its beginning, at least those; they are not verified yet.
    ///
    /// The reader looks for cancellation while it waits.
    ///
    /// # Errors
    /// `NotFound` when there is none; those of the source.
    fn blob(&self, descriptor: &Descriptor, monitor: &Monitor) -> Result<Box<dyn Read + Send>>;

    /// Says which blobs will be read next, in this order: a source that is far away may begin to fetch them.
    ///
    /// # Errors
    /// Those of the source.
    fn prefetch(&self, descriptors: &[Descriptor], monitor: &Monitor) -> Result<()> {
        let _ = (descriptors, monitor);
        Ok(())
    }
}

/// Opens a blob whose reader reaches its end only if digest and size are the right ones.
///
/// # Errors
/// Those of the source. The reader fails with `Mismatch`.
pub fn open_blob(
    source: &dyn BlobSource,
    descriptor: &Descriptor,
    monitor: &Monitor,
) -> Result<DigestReader<Box<dyn Read + Send>>> {
    let reader = source.blob(descriptor, monitor)?;
    Ok(DigestReader::new(reader, Some(descriptor.size), descriptor.digest))
}

/// Reads a small blob, such as a configuration, into memory and verifies it.
///
/// # Errors
/// `LimitExceeded` for `oci_document`; those of [`open_blob`].
pub fn read_blob(
    source: &dyn BlobSource,
    descriptor: &Descriptor,
    limits: &Limits,
    monitor: &Monitor,
) -> Result<Vec<u8>> {
    if descriptor.size > limits.oci_document {
        let size = descriptor.size;
        return Err(Error::limit("oci_document", limits.oci_document, format_args!("a document of {size} bytes")));
    }
    let mut bytes = Vec::new();
    open_blob(source, descriptor, monitor)?
        .read_to_end(&mut bytes)
        .map_err(|error| Error::io("a blob cannot be read", error))?;
    Ok(bytes)
}

/// A repository to write to: a layout, or one repository of a registry.
pub trait BlobSink {
    /// Whether the blob is there already, so that it need not be sent.
    ///
    /// # Errors
    /// Those of the sink.
    fn has_blob(&mut self, descriptor: &Descriptor, monitor: &Monitor) -> Result<bool>;

    /// Writes a blob. `open` gives its bytes from the beginning and may be called again, when a transfer has to be
    /// repeated; the sink, or the server behind it, verifies digest and size.
    ///
    /// # Errors
    /// `Mismatch` where the bytes are not those of the descriptor; those of the sink.
    fn put_blob(
        &mut self,
        descriptor: &Descriptor,
        open: &mut dyn FnMut() -> Result<Box<dyn Read + Send>>,
        monitor: &Monitor,
    ) -> Result<()>;

    /// Writes a manifest or index after everything that it names, under its digest and, if given, a tag.
    ///
    /// # Errors
    /// Those of the sink.
    fn put_document(
        &mut self,
        descriptor: &Descriptor,
        bytes: &[u8],
        tag: Option<&Tag>,
        monitor: &Monitor,
    ) -> Result<()>;
}
