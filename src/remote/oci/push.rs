//! Pushes an image of a store to a registry, as an artifact.
//!
//! Order: look what each tag means now, send the files, send the manifest by its digest and the statements about it, then
//! move the tags: whoever finds an image by its tag finds what vouches for it. A tag that means images for other machines becomes, or stays, an index of all of them.

use std::io::Read;

use super::repository::OciRepository;
use super::{OciReference, OciRegistry};
use crate::error::{Error, ErrorKind, Result};
use crate::format::ImageType;
use crate::limits::Limits;
use crate::metadata::Architecture;
use crate::oci::{
    ARTIFACT, BlobSource, Descriptor, Digest, Document, ImageArtifact, ImagePush, Index, Platform, PreparedPush,
    RawDocument, Reference, Tag, index_entry, media_type, put_statements, to_json, type_of_entry,
};
use crate::omissions::Omitted;
use crate::progress::Monitor;
use crate::store::{OpenedImage, StoredImage};
use crate::trust::Envelope;

/// Options of [`OciRegistry::push`].
///
/// ```
/// use lxd_image::remote::OciPushOptions;
///
/// let options = OciPushOptions::new().tag("12".parse()?).reuse_tags(true);
/// # let _ = options;
/// # Ok::<(), lxd_image::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct OciPushOptions {
    tags: Vec<Tag>,
    reuse_tags: bool,
    mount_from: Option<String>,
    statements: Vec<Envelope>,
}

impl OciPushOptions {
    /// Only the tag of the reference, which must be free or mean the same image.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a tag.
    #[must_use]
    pub fn tag(mut self, tag: Tag) -> Self {
        self.tags.push(tag);
        self
    }

    /// Adds the aliases of an image as tags. One that registries don't take is an omission of the monitor.
    #[must_use]
    pub fn alias_tags(mut self, image: &StoredImage, monitor: &Monitor) -> Self {
        for alias in &image.aliases {
            match alias.name.parse::<Tag>() {
                Ok(tag) if !tag.is_about_manifest() => self = self.tag(tag),
                refused => {
                    let part = format!("alias `{}`", alias.name).into();
                    let reason = refused.err().map_or_else(
                        || "a tag of this form lists what refers to another manifest".to_owned(),
                        |error| error.message().to_owned(),
                    );
                    monitor.omit(image.fingerprint.to_string(), Omitted::Dropped { part, reason: reason.into() });
                }
            }
        }
        self
    }

    /// Whether tags that mean another image for the same machine move, instead of failing as `AlreadyExists`.
    #[must_use]
    pub fn reuse_tags(mut self, yes: bool) -> Self {
        self.reuse_tags = yes;
        self
    }

    /// A repository of the same registry that may have the files already, so that they need not be sent.
    #[must_use]
    pub fn mount_from(mut self, repository: impl Into<String>) -> Self {
        self.mount_from = Some(repository.into());
        self
    }

    /// Adds statements about the image, which are pushed beside it as referrers of its manifest, before any tag names that.
    #[must_use]
    pub fn statements(mut self, statements: impl IntoIterator<Item = Envelope>) -> Self {
        self.statements.extend(statements);
        self
    }
}

impl OciRegistry {
    /// Pushes an image as an artifact, and points the tag of the reference and those of the options to it. Files that
    /// the registry has are not sent again. The digest of the image's manifest is returned.
    ///
    /// # Errors
    /// `InvalidInput` for a reference by digest; `AlreadyExists` for a tag that means another image for the same
    /// machine; `Mismatch` where the bytes in the store, or those that arrived, are damaged; `Remote` where the
    /// registry refuses; `Cancelled`.
    pub fn push(
        &self,
        image: &OpenedImage,
        reference: &str,
        options: &OciPushOptions,
        monitor: &Monitor,
    ) -> Result<Digest> {
        let (repository, reference) = self.named(reference)?;
        let tag = tag_of(&reference)?;
        let mut tags = vec![tag];
        tags.extend(options.tags.iter().cloned());
        tags.dedup();
        let limits = self.client().limits().clone();
        let pushed = Pushed::of(image, &limits, monitor)?;
        let mut documents = Vec::new();
        for tag in &tags {
            documents.push(pushed.under(&repository, tag, options.reuse_tags, &limits, monitor)?);
        }
        for envelope in &options.statements {
            envelope.statement().check_subject(&image.image().fingerprint)?;
        }
        let state = || put_statements(&mut repository.clone(), &pushed.raw.descriptor, &options.statements, monitor);
        if documents.iter().all(Option::is_none) {
            state()?;
            return Ok(pushed.raw.descriptor.digest);
        }
        let from = options.mount_from.as_deref().map(|name| self.full_name(name)).transpose()?;
        for (descriptor, blob) in &pushed.prepared.blobs {
            let mut open = || -> Result<Box<dyn Read + Send>> { Ok(Box::new(blob.reader())) };
            repository.upload(descriptor, &mut open, from.as_deref(), monitor)?;
        }
        repository.send_document(&pushed.raw, &Reference::Digest(pushed.raw.descriptor.digest), monitor)?;
        state()?;
        for (tag, document) in tags.iter().zip(documents) {
            if let Some(raw) = document {
                repository.send_document(&raw, &Reference::Tag(tag.clone()), monitor)?;
            }
        }
        image.image().omit_other(monitor, "a registry has no place for it");
        Ok(pushed.raw.descriptor.digest)
    }
}

/// What an image of a store becomes in a layout or a registry: its files, with what its row says of them.
#[must_use]
pub fn artifact_of(image: &OpenedImage) -> ImagePush {
    let about = image.image();
    let (first, second) = image.files();
    let mut push = ImagePush::new(about.fingerprint, about.image_type, about.architecture, first.clone());
    push.second = second.cloned();
    push.properties = about.properties.clone();
    push.created_at = Some(about.created_at).filter(|seconds| *seconds > 0);
    push.expires_at = about.expires_at;
    push
}

/// The tag of a reference that something is pushed to.
fn tag_of(reference: &OciReference) -> Result<Tag> {
    match (reference.digest(), reference.tag()) {
        (None, Some(tag)) => Ok(tag.clone()),
        _ => Err(Error::invalid(format!("`{reference}` names a digest, which the registry computes itself"))
            .with_hint("write REPOSITORY:TAG")),
    }
}

/// An image on its way.
struct Pushed {
    prepared: PreparedPush,
    raw: RawDocument,
    image_type: ImageType,
    architecture: Architecture,
}

impl Pushed {
    /// Describes an image of a store. The files of a split image are read to get their digests.
    fn of(image: &OpenedImage, limits: &Limits, monitor: &Monitor) -> Result<Self> {
        let about = image.image();
        let prepared = artifact_of(image).prepare(monitor)?;
        let bytes = prepared.manifest.clone();
        if bytes.len() as u64 > limits.oci_document {
            let what = "the image's properties in a manifest, in bytes,";
            return Err(Error::limit("oci_document", limits.oci_document, what));
        }
        let raw = RawDocument { descriptor: prepared.descriptor(), bytes };
        Ok(Self { prepared, raw, image_type: about.image_type, architecture: about.architecture })
    }

    /// The document that a tag has to name from now on; `None` where it names the image already.
    ///
    /// # Errors
    /// `AlreadyExists` for a tag that means another image for this machine, unless it may move.
    fn under(
        &self,
        repository: &OciRepository,
        tag: &Tag,
        reuse: bool,
        limits: &Limits,
        monitor: &Monitor,
    ) -> Result<Option<RawDocument>> {
        let there = match repository.document(&Reference::Tag(tag.clone()), limits, monitor) {
            Ok(there) => there,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Some(self.raw.clone())),
            Err(error) => return Err(error),
        };
        if there.descriptor.digest == self.raw.descriptor.digest {
            return Ok(None);
        }
        let taken = |digest: &Digest| {
            let name = repository.shown(&Reference::Tag(tag.clone()));
            let short: String = digest.to_string().chars().take(19).collect();
            Error::new(ErrorKind::AlreadyExists, format!("the tag `{name}` is taken: it means {short}…"))
                .with_hint("`--reuse` moves it")
        };
        match there.document(limits)? {
            Document::Manifest(manifest) => match ImageArtifact::of(&manifest) {
                // The tag means an image for another machine, so that it gets an index of both.
                Ok(Some(other))
                    if other.architecture.is_some()
                        && (other.architecture, other.image_type) != (Some(self.architecture), self.image_type) =>
                {
                    let mut entry = there.descriptor.clone();
                    media_type::IMAGE_MANIFEST.clone_into(&mut entry.media_type);
                    let artifact_type = manifest.artifact_type().unwrap_or(ARTIFACT);
                    let entry =
                        index_entry(entry, artifact_type, other.architecture, other.image_type, other.fingerprint);
                    self.index(vec![entry, self.prepared.entry.clone()]).map(Some)
                }
                _ if reuse => Ok(Some(self.raw.clone())),
                _ => Err(taken(&there.descriptor.digest)),
            },
            Document::Index(index) => {
                let is_ours = index.manifests.iter().all(|entry| entry.artifact_type.is_some());
                if !is_ours {
                    return if reuse { Ok(Some(self.raw.clone())) } else { Err(taken(&there.descriptor.digest)) };
                }
                let same = |entry: &Descriptor| {
                    let of_type = type_of_entry(entry).unwrap_or(ImageType::Container);
                    let architecture = entry.platform.as_ref().and_then(Platform::architecture);
                    (architecture, of_type) == (Some(self.architecture), self.image_type)
                };
                if index.manifests.iter().any(|entry| entry.digest == self.raw.descriptor.digest) {
                    return Ok(None);
                }
                if let Some(other) = index.manifests.iter().find(|entry| same(entry)).filter(|_| !reuse) {
                    return Err(taken(&other.digest));
                }
                let mut entries: Vec<Descriptor> = index.manifests.into_iter().filter(|entry| !same(entry)).collect();
                entries.push(self.prepared.entry.clone());
                self.index(entries).map(Some)
            }
        }
    }

    /// An index of entries, sorted, so that the same images give the same bytes.
    fn index(&self, mut entries: Vec<Descriptor>) -> Result<RawDocument> {
        entries.sort_by_key(|entry| {
            let name = entry.platform.as_ref().map(|platform| platform.architecture.clone());
            (name, entry.digest)
        });
        let mut index = Index::new(entries);
        index.artifact_type = Some(ARTIFACT.to_owned());
        let bytes = to_json(&index)?;
        Ok(RawDocument { descriptor: Descriptor::of(media_type::IMAGE_INDEX, &bytes), bytes })
    }
}
