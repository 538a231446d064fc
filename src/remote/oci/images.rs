//! A registry as a [`Remote`]: finds images by tag and digest, and opens their bytes.
//!
//! A manifest holds an image of LXD or Incus as it is (an artifact), or a container image that has to be converted. The
//! first has a fingerprint of its own; that of the second is known only after the conversion, but each of its bytes is
//! checked against the digest of the manifest ([`UnverifiedImage::content_digest`]).

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::attached;
use super::container::{ContainerConfig, open_converted};
use super::repository::OciRepository;
use super::{OciReference, OciRegistry};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{ImageSource, ImageType, Input};
use crate::limits::Limits;
use crate::metadata::Architecture;
use crate::oci::{
    BlobSource, Descriptor, Digest, Document, Image, ImageArtifact, Index, Platform, RawDocument, Reference, STATEMENT,
    Tag, read_statements, type_of_entry,
};
use crate::omissions::Omitted;
use crate::progress::Monitor;
use crate::remote::{Remote, Resolution, UnverifiedImage, Wanted};
use crate::store::{Alias, Store, StoredImage, UpdateSource};
use crate::trust::Evidence;

/// Threads that read manifests for a list.
const LIST_THREADS: usize = 6;

/// What a manifest holds.
pub(super) enum Held {
    /// An image of LXD or Incus.
    Artifact(ImageArtifact),
    /// Metadata of an image of Incus, attached to its rootfs.
    Metadata,
    /// A container image.
    Container,
}

impl Held {
    /// Looks at a manifest.
    ///
    /// # Errors
    /// `Unsupported` for an artifact that holds no image.
    pub(super) fn of(image: &Image) -> Result<Self> {
        // Before the artifacts: its layer alone would pass for a part of one.
        if attached::is_metadata(image) {
            return Ok(Self::Metadata);
        }
        if let Some(artifact) = ImageArtifact::of(image.manifest())? {
            return Ok(Self::Artifact(artifact));
        }
        if image.is_container() {
            return Ok(Self::Container);
        }
        let kind = image.manifest().artifact_type().unwrap_or(&image.manifest().config.media_type);
        let shown: String = kind.chars().take(100).collect();
        Err(Error::unsupported(format!("the artifact of the type `{shown}` holds no image")))
    }
}

/// The image of a document that is a manifest.
///
/// # Errors
/// `Unsupported` for an index.
pub(super) fn image_of(raw: RawDocument, limits: &Limits) -> Result<Image> {
    let manifest = raw.document(limits)?.into_manifest()?;
    Ok(Image::of(raw.descriptor, manifest))
}

/// A manifest that was found, and where.
pub(super) struct Located {
    pub(super) repository: OciRepository,
    pub(super) image: Image,
    /// The architecture that an index says it is for.
    pub(super) architecture: Option<Architecture>,
}

impl OciRegistry {
    /// This registry with a list: the images in one repository, for [`Remote::list`] and mirrors.
    ///
    /// # Errors
    /// `InvalidInput` for a name that can't be a repository.
    pub fn within(mut self, repository: &str) -> Result<Self> {
        self.listed = Some(self.full_name(repository.trim_end_matches('/'))?);
        Ok(self)
    }

    /// The repository and the reference in it that a text names.
    pub(super) fn named(&self, text: &str) -> Result<(OciRepository, OciReference)> {
        let reference: OciReference = text.parse()?;
        Ok((self.repository(reference.repository())?, reference))
    }

    /// Finds the manifest that is wanted: through indexes, by type and architecture.
    ///
    /// # Errors
    /// `NotFound`, also where there is none for the architecture; `Ambiguous`; `LimitExceeded` for `oci_index_depth`.
    pub(super) fn find(&self, wanted: &Wanted, monitor: &Monitor) -> Result<Located> {
        let (repository, reference) = self.named(&wanted.reference)?;
        let limits = self.client().limits().clone();
        let mut next = reference.reference().clone();
        let mut architecture = None;
        for _ in 0..=limits.oci_index_depth {
            let raw = repository.document(&next, &limits, monitor)?;
            match raw.document(&limits).map_err(|error| error.context(&reference))? {
                Document::Manifest(manifest) => {
                    return Ok(Located { repository, image: Image::of(raw.descriptor, manifest), architecture });
                }
                Document::Index(index) => {
                    let chosen = choose(index, wanted).map_err(|error| error.context(&reference))?;
                    architecture = chosen.platform.as_ref().and_then(Platform::architecture).or(architecture);
                    next = Reference::Digest(chosen.digest);
                }
            }
        }
        Err(Error::limit("oci_index_depth", limits.oci_index_depth, format_args!("the indexes of {reference}")))
    }

    /// The description of an artifact.
    pub(super) fn described(&self, found: &Located, artifact: &ImageArtifact) -> Resolution {
        let architecture = artifact.architecture.or(found.architecture).or_else(Architecture::of_this_machine);
        let architecture = architecture.unwrap_or(Architecture::X86_64);
        let locator = format!("{}@{}", found.repository.name(), found.image.digest());
        let Some(fingerprint) = artifact.fingerprint else {
            let mut image = UnverifiedImage::new(locator, artifact.image_type, architecture)
                .properties(artifact.properties.clone())
                .content_digest(found.image.digest().to_string());
            image.size = artifact.size();
            image.created_at = artifact.created_at;
            image.expires_at = artifact.expires_at;
            return Resolution::after_download(image);
        };
        let mut image = StoredImage::new(fingerprint, artifact.image_type, architecture);
        image.size = artifact.size();
        image.rootfs_size = artifact.files.get(1).map(|(_, file)| file.size);
        image.created_at = artifact.created_at.unwrap_or(0);
        image.expires_at = artifact.expires_at;
        image.properties = artifact.properties.clone();
        image.original_properties = artifact.properties.clone();
        image.file_name = artifact.file_name().map(str::to_owned);
        // Whoever asks as nobody in particular sees what everybody sees.
        image.public = self.is_anonymous();
        // What `open` needs to find it again, whatever the tag means by then.
        let mut source = self.update_source().image_type(artifact.image_type);
        source.alias = locator;
        image.source = Some(source);
        Resolution::named(image)
    }

    /// Opens the files of an artifact.
    fn open_artifact(&self, found: &Located, artifact: &ImageArtifact, monitor: &Monitor) -> Result<ImageSource> {
        let input = |descriptor: &Descriptor| -> Result<Input> {
            Ok(found.repository.download(descriptor, monitor)?.open().announced(descriptor.size))
        };
        // Each on a thread of its own, so that both files of a split image arrive at once; the downloads resume.
        Ok(match &artifact.files[..] {
            [(_, only)] => ImageSource::unified(input(only)?),
            [(_, first), (_, second)] => ImageSource::split(input(first)?, input(second)?),
            _ => return Err(Error::malformed("an image is one file or two")),
        })
    }

    /// Opens the bytes of an image that was located, whatever its manifest holds.
    fn open_found(&self, found: Located, image: &UnverifiedImage, monitor: &Monitor) -> Result<ImageSource> {
        match Held::of(&found.image)? {
            Held::Artifact(artifact) => self.open_artifact(&found, &artifact, monitor),
            Held::Metadata => attached::open(&found, monitor),
            Held::Container => Ok(open_converted(found, image, monitor)),
        }
    }

    /// The manifest of an image that was located or listed here, by its digest.
    fn again(&self, locator: &str, monitor: &Monitor) -> Result<Located> {
        let reference: OciReference = locator.parse()?;
        let limits = self.client().limits().clone();
        // A locator has the whole name of its repository.
        let repository = OciRepository::new(self.clone(), reference.repository().to_owned())?;
        let raw = repository.document(reference.reference(), &limits, monitor)?;
        let image = image_of(raw, &limits)?;
        Ok(Located { repository, image, architecture: None })
    }

    /// The images behind a tag, whatever their architecture.
    fn behind(&self, repository: &OciRepository, tag: &Tag, monitor: &Monitor) -> Result<Vec<StoredImage>> {
        let limits = self.client().limits().clone();
        let raw = repository.document(&Reference::Tag(tag.clone()), &limits, monitor)?;
        let located = |image, architecture| Located { repository: repository.clone(), image, architecture };
        let all = match raw.document(&limits)? {
            Document::Manifest(manifest) => vec![located(Image::of(raw.descriptor, manifest), None)],
            Document::Index(index) => {
                let mut all = Vec::new();
                for entry in index.manifests.iter().filter(|entry| entry.artifact_type.is_some()) {
                    let raw = repository.document(&Reference::Digest(entry.digest), &limits, monitor)?;
                    let platform = entry.platform.as_ref().and_then(Platform::architecture);
                    all.push(located(image_of(raw, &limits)?, platform));
                }
                all
            }
        };
        let mut images = Vec::new();
        for found in &all {
            let Held::Artifact(artifact) = Held::of(&found.image)? else { continue };
            if let Resolution::Named { mut image } = self.described(found, &artifact) {
                image.aliases = vec![Alias::told(tag.as_str().to_owned())];
                images.push(*image);
            }
        }
        if images.is_empty() {
            return Err(Error::unsupported(
                "it is a container image, whose fingerprint is known only after its conversion",
            ));
        }
        Ok(images)
    }
}

/// The reference that a locator is, and its digest.
fn pinned(locator: &str) -> Option<(OciReference, Digest)> {
    let reference: OciReference = locator.parse().ok()?;
    let digest = *reference.digest()?;
    Some((reference, digest))
}

/// The entry of an index that is wanted: of the type, and for the first architecture that there is one for.
fn choose(mut index: Index, wanted: &Wanted) -> Result<Descriptor> {
    let types: Vec<Option<ImageType>> = index.manifests.iter().map(type_of_entry).collect();
    if types.contains(&Some(wanted.image_type)) {
        let mut types = types.into_iter();
        index.manifests.retain(|_| types.next().flatten().is_none_or(|image_type| image_type == wanted.image_type));
    }
    let native = Architecture::of_this_machine();
    let all: Vec<Architecture> = match &wanted.architectures[..] {
        // Any will do, this machine's first.
        [] => native.into_iter().chain(Architecture::ALL.iter().copied()).collect(),
        some => some.to_vec(),
    };
    let mut failed = None;
    for architecture in all {
        match index.for_architecture(architecture) {
            Ok(entry) => return Ok(entry.clone()),
            Err(error) if error.kind() == ErrorKind::NotFound => failed = failed.or(Some(error)),
            Err(error) => return Err(error),
        }
    }
    Err(failed.unwrap_or_else(|| Error::new(ErrorKind::NotFound, "the index is empty")))
}

impl Remote for OciRegistry {
    fn source(&self) -> UpdateSource {
        let mut source = self.update_source();
        if let Some(repository) = &self.listed {
            // A mirror of one repository must not take the images of another one for its own.
            source.server = format!("{}/{repository}", source.server);
        }
        source
    }

    /// The images of LXD and Incus in the repository of [`within`](OciRegistry::within), each with its tags as aliases.
    /// Container images are left out and recorded, since their fingerprints are not known.
    fn list(&self, monitor: &Monitor) -> Result<Vec<StoredImage>> {
        let Some(name) = &self.listed else {
            return Err(Error::unsupported(format!("{} has no list of images", self.inner.url))
                .with_hint("name a repository: `NAME:repository/`"));
        };
        let repository = OciRepository::new(self.clone(), name.clone())?;
        let tags = repository.tags(monitor)?;
        let tags: Vec<&Tag> = tags.iter().filter(|tag| !tag.is_about_manifest()).collect();
        let next = AtomicUsize::new(0);
        let found: Mutex<Vec<(usize, Result<Vec<StoredImage>>)>> = Mutex::default();
        std::thread::scope(|scope| {
            for _ in 0..LIST_THREADS.min(tags.len()) {
                scope.spawn(|| {
                    loop {
                        let at = next.fetch_add(1, Ordering::Relaxed);
                        let Some(tag) = tags.get(at) else { return };
                        let result = self.behind(&repository, tag, monitor);
                        let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                        // Nothing else would end any better.
                        let is_over = result.as_ref().is_err_and(|error| error.kind() == ErrorKind::Cancelled);
                        found.push((at, result));
                        if is_over {
                            return;
                        }
                    }
                });
            }
        });
        let mut found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
        found.sort_by_key(|(at, _)| *at);
        let mut images: Vec<StoredImage> = Vec::new();
        for (at, result) in found {
            match result {
                Ok(more) => {
                    for image in more {
                        match images.iter_mut().find(|there| there.fingerprint == image.fingerprint) {
                            Some(there) => there.aliases.extend(image.aliases),
                            None => images.push(image),
                        }
                    }
                }
                Err(error) if matches!(error.kind(), ErrorKind::Cancelled) || error.is_transient() => {
                    return Err(error);
                }
                Err(error) => {
                    let tag = tags.get(at).map(|tag| tag.as_str().to_owned()).unwrap_or_default();
                    monitor.omit(tag, Omitted::Skipped { reason: error.message().to_owned().into() });
                }
            }
        }
        Ok(images)
    }

    fn locate(&self, wanted: &Wanted, monitor: &Monitor) -> Result<Resolution> {
        let found = self.find(wanted, monitor)?;
        match Held::of(&found.image)? {
            Held::Artifact(artifact) => Ok(self.described(&found, &artifact)),
            Held::Container => {
                let config = ContainerConfig::read(&found, wanted, monitor)?;
                Ok(Resolution::after_download(match attached::find(&found, monitor)? {
                    Some(metadata) => attached::describe(&found, &metadata, &config, wanted),
                    None => config.describe(&found, wanted),
                }))
            }
            Held::Metadata => Err(Error::unsupported(format!("`{}` is the metadata of an image", wanted.reference))
                .with_hint("name the image that they are attached to")),
        }
    }

    /// The statements among the referrers of the image's manifest. A registry that can't list them has none; that is
    /// recorded, and a policy that needs one refuses the image.
    fn evidence(&self, image: &StoredImage, monitor: &Monitor) -> Result<Evidence> {
        let locator = image.source.as_ref().map(|source| source.alias.as_str()).unwrap_or_default();
        let Some((reference, digest)) = pinned(locator) else { return Ok(Evidence::new()) };
        let limits = self.client().limits();
        // A locator has the whole name of its repository.
        let repository = OciRepository::new(self.clone(), reference.repository().to_owned())?;
        let all = match repository.referrers(&digest, Some(STATEMENT), monitor) {
            Err(error)
                if !error.is_transient()
                    && matches!(
                        error.kind(),
                        ErrorKind::Remote | ErrorKind::Unsupported | ErrorKind::Malformed | ErrorKind::LimitExceeded
                    ) =>
            {
                let reason = format!("the registry can't list them: {}", error.message());
                let what = Omitted::Dropped { part: "statements of the registry".into(), reason: reason.into() };
                monitor.omit(image.fingerprint.to_string(), what);
                return Ok(Evidence::new());
            }
            all => all?,
        };
        let statements = read_statements(&repository, &digest, &all, &image.fingerprint, limits, monitor)?;
        Ok(Evidence::new().statements(statements))
    }

    fn open(&self, image: &StoredImage, monitor: &Monitor) -> Result<ImageSource> {
        let locator = image.source.as_ref().map(|source| source.alias.as_str()).unwrap_or_default();
        let found = self.again(locator, monitor)?;
        match Held::of(&found.image)? {
            Held::Artifact(artifact) => self.open_artifact(&found, &artifact, monitor),
            _ => Err(Error::unsupported("a container image has no fingerprint before its conversion")),
        }
    }

    fn open_unverified(&self, image: &UnverifiedImage, monitor: &Monitor) -> Result<ImageSource> {
        self.open_found(self.again(&image.locator, monitor)?, image, monitor)
    }

    fn open_unverified_from(&self, image: &UnverifiedImage, store: &Store, monitor: &Monitor) -> Result<ImageSource> {
        let mut found = self.again(&image.locator, monitor)?;
        found.repository = found.repository.keeping_layers_in(store);
        self.open_found(found, image, monitor)
    }
}
