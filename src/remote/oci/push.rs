//! Pushes an image of a store to a registry, as an artifact.
//!
//! Order: look what each tag means now, send the files, send the manifest by its digest, then move the tags. A tag that
//! means images for other machines becomes, or stays, an index of all of them.

use std::io::Read;

use super::artifact::{self, ImageArtifact};
use super::repository::OciRepository;
use super::{OciReference, OciRegistry};
use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::Hasher;
use crate::format::{Codec, Container, ImageType};
use crate::io::Blob;
use crate::limits::Limits;
use crate::metadata::Architecture;
use crate::oci::{
    Annotations, BlobSource, Descriptor, Digest, Document, Index, Manifest, Platform, RawDocument, Reference, Tag,
    media_type, to_json,
};
use crate::progress::{Monitor, Phase};
use crate::store::{OpenedImage, StoredImage};

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
    monitor: Monitor,
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

    /// Reports progress and listens for cancellation.
    #[must_use]
    pub fn monitor(mut self, monitor: Monitor) -> Self {
        self.monitor = monitor;
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
    pub fn push(&self, image: &OpenedImage, reference: &str, options: &OciPushOptions) -> Result<Digest> {
        let (repository, reference) = self.named(reference)?;
        let tag = tag_of(&reference)?;
        let mut tags = vec![tag];
        tags.extend(options.tags.iter().cloned());
        tags.dedup();
        let (limits, monitor) = (self.client().limits().clone(), &options.monitor);
        let pushed = Pushed::of(image, &limits, monitor)?;
        let mut documents = Vec::new();
        for tag in &tags {
            documents.push(pushed.under(&repository, tag, options.reuse_tags, &limits, monitor)?);
        }
        if documents.iter().all(Option::is_none) {
            return Ok(pushed.raw.descriptor.digest);
        }
        let from = options.mount_from.as_deref().map(|name| self.full_name(name)).transpose()?;
        let mut parts = vec![(Descriptor::of(media_type::EMPTY, b"{}"), Blob::from(b"{}".to_vec()))];
        let (first, second) = image.files();
        parts.extend(pushed.layers.iter().cloned().zip([Some(first), second].into_iter().flatten().cloned()));
        for (descriptor, blob) in parts {
            let mut open = || -> Result<Box<dyn Read + Send>> { Ok(Box::new(blob.reader())) };
            repository.upload(&descriptor, &mut open, from.as_deref(), monitor)?;
        }
        repository.send_document(&pushed.raw, &Reference::Digest(pushed.raw.descriptor.digest), monitor)?;
        for (tag, document) in tags.iter().zip(documents) {
            if let Some(raw) = document {
                repository.send_document(&raw, &Reference::Tag(tag.clone()), monitor)?;
            }
        }
        Ok(pushed.raw.descriptor.digest)
    }
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
    layers: Vec<Descriptor>,
    raw: RawDocument,
    image_type: ImageType,
    architecture: Architecture,
    /// What an index says of it.
    entry: Descriptor,
}

impl Pushed {
    /// Describes an image of a store. The files of a split image are read to get their digests.
    fn of(image: &OpenedImage, limits: &Limits, monitor: &Monitor) -> Result<Self> {
        let about = image.image();
        let containers: Vec<Container> = image.open(limits)?.containers().collect();
        let (first, second) = image.files();
        let files: Vec<&Blob> = [Some(first), second].into_iter().flatten().collect();
        let digests = digests(about, &files, monitor)?;
        let roles: &[&str] = match (files.len(), about.image_type) {
            (1, _) => &["unified"],
            (_, ImageType::VirtualMachine) => &["metadata", "disk"],
            _ => &["metadata", "rootfs"],
        };
        let names = [about.file_name.as_ref(), about.rootfs_name.as_ref()];
        let mut layers = Vec::new();
        for (index, (role, file)) in roles.iter().zip(&files).enumerate() {
            let digest = digests.get(index).copied().unwrap_or_else(|| Digest::from(about.fingerprint));
            let suffix = containers.get(index).copied().map_or("tar", suffix);
            let mut layer =
                Descriptor::new(format!("{}{role}.v1.{suffix}", artifact::LAYER), digest, file_length(file));
            let name =
                names.get(index).copied().flatten().cloned().unwrap_or_else(|| format!("{role}.{}", extension(suffix)));
            layer.annotations.insert(artifact::TITLE.to_owned(), name);
            layers.push(layer);
        }
        let mut manifest = Manifest::new(Descriptor::of(media_type::EMPTY, b"{}"), layers.clone());
        manifest.artifact_type = Some(artifact::ARTIFACT.to_owned());
        manifest.annotations = annotations(about);
        let bytes = to_json(&manifest)?;
        if bytes.len() as u64 > limits.oci_document {
            return Err(Error::limit(
                "oci_document",
                limits.oci_document,
                "the image's properties in a manifest, in bytes,",
            ));
        }
        let descriptor = Descriptor::of(media_type::IMAGE_MANIFEST, &bytes);
        let mut entry = descriptor.clone();
        entry.artifact_type = Some(artifact::ARTIFACT.to_owned());
        entry.platform = Some(Platform::linux(about.architecture));
        entry.annotations.insert(artifact::TYPE.to_owned(), about.image_type.name().to_owned());
        entry.annotations.insert(artifact::FINGERPRINT.to_owned(), about.fingerprint.to_string());
        let (image_type, architecture) = (about.image_type, about.architecture);
        Ok(Self { layers, raw: RawDocument { descriptor, bytes }, image_type, architecture, entry })
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
                    entry.artifact_type = manifest.artifact_type().map(str::to_owned);
                    entry.platform = other.architecture.map(Platform::linux);
                    entry.annotations.insert(artifact::TYPE.to_owned(), other.image_type.name().to_owned());
                    let claimed = other.fingerprint.map(|fingerprint| fingerprint.to_string());
                    entry.annotations.extend(claimed.map(|claimed| (artifact::FINGERPRINT.to_owned(), claimed)));
                    self.index(vec![entry, self.entry.clone()]).map(Some)
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
                    let of_type = artifact::type_of_entry(entry).unwrap_or(ImageType::Container);
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
                entries.push(self.entry.clone());
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
        index.artifact_type = Some(artifact::ARTIFACT.to_owned());
        let bytes = to_json(&index)?;
        Ok(RawDocument { descriptor: Descriptor::of(media_type::IMAGE_INDEX, &bytes), bytes })
    }
}

/// The digest of each file. That of a unified image is its fingerprint; the files of a split one are read, and compared
/// with it.
fn digests(about: &StoredImage, files: &[&Blob], monitor: &Monitor) -> Result<Vec<Digest>> {
    if files.len() == 1 {
        return Ok(vec![Digest::from(about.fingerprint)]);
    }
    let mut whole = Hasher::new();
    let mut digests = Vec::new();
    let mut buffer = vec![0; 1 << 20];
    for file in files {
        let mut part = Hasher::new();
        let mut reader = file.reader();
        loop {
            let count = reader.read(&mut buffer).map_err(|error| Error::io("the image can't be read", error))?;
            if count == 0 {
                break;
            }
            let bytes = buffer.get(..count).unwrap_or_default();
            whole.update(bytes);
            part.update(bytes);
            monitor.report(Phase::Hash, whole.bytes(), Some(about.size))?;
        }
        digests.push(Digest::from(part.finish()));
    }
    let found = whole.finish();
    if found != about.fingerprint {
        return Err(Error::mismatch("the image in the store", about.fingerprint.to_string(), found.to_string()));
    }
    Ok(digests)
}

/// What an image's manifest says of it.
fn annotations(about: &StoredImage) -> Annotations {
    let mut notes = Annotations::new();
    let mut note = |key: &str, value: String| _ = notes.insert(key.to_owned(), value);
    note(artifact::FINGERPRINT, about.fingerprint.to_string());
    note(artifact::TYPE, about.image_type.name().to_owned());
    note(artifact::ARCHITECTURE, about.architecture.kernel_name().to_owned());
    if about.created_at > 0 {
        note(artifact::CREATED, crate::time::rfc3339(Some(about.created_at)));
    }
    if about.expires_at.is_some() {
        note(artifact::EXPIRES, crate::time::rfc3339(about.expires_at));
    }
    for (key, value) in about.properties.iter() {
        note(&format!("{}{key}", artifact::PROPERTY), value.to_owned());
        if key == "description" {
            note(artifact::DESCRIPTION, value.to_owned());
        }
    }
    notes
}

/// The end of the media type of a file.
fn suffix(container: Container) -> &'static str {
    match container {
        Container::SquashFs => "squashfs",
        Container::Qcow2 => "qcow2",
        Container::Tar(Codec::Gzip) => "tar+gzip",
        Container::Tar(Codec::Xz) => "tar+xz",
        Container::Tar(Codec::Zstd) => "tar+zstd",
        Container::Tar(Codec::Bzip2) => "tar+bzip2",
        Container::Tar(Codec::Lz4) => "tar+lz4",
        Container::Tar(Codec::Lzma) => "tar+lzma",
        Container::Tar(Codec::None) => "tar",
    }
}

/// The end of a file's name.
fn extension(suffix: &str) -> String {
    suffix.replace("+gzip", ".gz").replace("+bzip2", ".bz2").replace("+zstd", ".zst").replace('+', ".")
}

/// The length of a file in bytes.
fn file_length(file: &Blob) -> u64 {
    use crate::io::ReadAt;
    file.len()
}
