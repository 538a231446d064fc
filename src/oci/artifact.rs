//! Images of LXD and Incus as artifacts: the form that is written here, and those that others write.
//!
//! | artifact type | layers | fingerprint |
//! |---|---|---|
//! | `application/vnd.lxd-image.v1` | the files in the order of the fingerprint | annotation, and of a unified image its layer's digest |
//! | `application/vnd.incus.image.v1` | one unified file | its layer's digest |
//! | any | `application/vnd.incus.metadata` and a disk or a rootfs | known after the download |

use std::io::Read;

use super::digest::Digest;
use super::document::{Annotations, Descriptor, Manifest, to_json};
use super::media_type;
use super::platform::Platform;
use super::source::{BlobSink, BlobSource, open_blob};
use crate::error::{Error, Result};
use crate::fingerprint::{Fingerprint, Hasher};
use crate::format::{Codec, Container, Image as ImageFiles, ImageForm, ImageSource, ImageType, Input};
use crate::io::{Blob, ReadAt, read_all};
use crate::metadata::{Architecture, Properties};
use crate::progress::{Monitor, Phase};

/// The artifact type of an image.
pub const ARTIFACT: &str = "application/vnd.lxd-image.v1";
/// What Ground-Control writes.
const INCUS_ARTIFACT: &str = "application/vnd.incus.image.v1";
/// Before the media types of its files.
const LAYER: &str = "application/vnd.lxd-image.";
/// The fingerprint.
const FINGERPRINT: &str = "vnd.lxd-image.fingerprint";
/// `container` or `virtual-machine`.
const TYPE: &str = "vnd.lxd-image.type";
/// The kernel's name of the machine.
const ARCHITECTURE: &str = "vnd.lxd-image.architecture";
/// When it expires, in RFC 3339.
const EXPIRES: &str = "vnd.lxd-image.expires";
/// Before the name of a property.
const PROPERTY: &str = "vnd.lxd-image.property.";
/// When it was made, in RFC 3339.
const CREATED: &str = "org.opencontainers.image.created";
/// What it is.
const DESCRIPTION: &str = "org.opencontainers.image.description";
/// The name of a file.
const TITLE: &str = "org.opencontainers.image.title";

/// What a file of an image is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FileRole {
    /// All of it.
    Unified,
    /// The metadata file, which comes first.
    Metadata,
    /// The root file system.
    Rootfs,
    /// The disk of a virtual machine.
    Disk,
}

/// An image of LXD or Incus in an artifact.
///
/// ```no_run
/// use lxd_image::oci::{Image, ImageArtifact, Layout};
/// use lxd_image::{Architecture, Limits, Monitor};
///
/// let (limits, monitor) = (Limits::default(), Monitor::none());
/// let layout = Layout::open("bundle.tar", &limits, &monitor)?;
/// let image = Image::resolve(&layout, layout.find(Some("debian/12"))?, Architecture::X86_64, &limits, &monitor)?;
/// if let Some(artifact) = ImageArtifact::of(image.manifest())? {
///     let source = artifact.open(&layout, &monitor)?; // verified while it is read
///     lxd_image::format::Image::open(source)?;
/// }
/// # Ok::<(), lxd_image::Error>(())
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ImageArtifact {
    /// Its files in the order of the fingerprint.
    pub files: Vec<(FileRole, Descriptor)>,
    /// The fingerprint, as far as the artifact says it.
    pub fingerprint: Option<Fingerprint>,
    /// Whether it is for containers or for virtual machines.
    pub image_type: ImageType,
    /// The architecture, if the artifact says it.
    pub architecture: Option<Architecture>,
    /// The properties.
    pub properties: Properties,
    /// When it was built, in seconds since 1970.
    pub created_at: Option<i64>,
    /// When it expires, in seconds since 1970.
    pub expires_at: Option<i64>,
}

impl ImageArtifact {
    /// The image that a manifest holds; `None` if it holds none.
    ///
    /// # Errors
    /// `Malformed` where it claims to and doesn't; `Mismatch` where it claims another fingerprint than its layer has.
    pub fn of(manifest: &Manifest) -> Result<Option<Self>> {
        let mut files: Vec<(FileRole, Descriptor)> =
            manifest.layers.iter().filter_map(|layer| Some((role(&layer.media_type)?, layer.clone()))).collect();
        let claims = matches!(manifest.artifact_type(), Some(ARTIFACT | INCUS_ARTIFACT));
        // A rootfs or a disk alone may be anything; metadata make it an image.
        if !claims && !files.iter().any(|(role, _)| matches!(role, FileRole::Unified | FileRole::Metadata)) {
            return Ok(None);
        }
        files.sort_by_key(|(role, _)| *role);
        let roles: Vec<FileRole> = files.iter().map(|(role, _)| *role).collect();
        if !matches!(&roles[..], [FileRole::Unified] | [FileRole::Metadata, FileRole::Rootfs | FileRole::Disk]) {
            return Err(Error::malformed("the artifact does not hold the one file or the two files of an image"));
        }
        let of_layer = match &files[..] {
            [(FileRole::Unified, only)] => only.digest.as_fingerprint(),
            _ => None,
        };
        let notes = &manifest.annotations;
        let claimed: Option<Fingerprint> =
            [FINGERPRINT, "incus.image.fingerprint"].iter().find_map(|key| notes.get(*key)?.parse().ok());
        if let (Some(claimed), Some(of_layer)) = (claimed, of_layer)
            && claimed != of_layer
        {
            return Err(Error::mismatch("the fingerprint of an artifact", claimed.to_string(), of_layer.to_string()));
        }
        let image_type = match notes.get(TYPE).map(String::as_str) {
            Some("virtual-machine") => ImageType::VirtualMachine,
            None if roles.contains(&FileRole::Disk) => ImageType::VirtualMachine,
            _ => ImageType::Container,
        };
        let seconds = |key: &str| notes.get(key).and_then(|text| crate::time::parse(text));
        Ok(Some(Self {
            fingerprint: of_layer.or(claimed),
            image_type,
            architecture: notes.get(ARCHITECTURE).and_then(|name| name.parse().ok()),
            properties: properties(notes),
            created_at: seconds(CREATED),
            expires_at: seconds(EXPIRES),
            files,
        }))
    }

    /// The size of all files in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.files.iter().fold(0, |sum, (_, file)| sum.saturating_add(file.size))
    }

    /// The name of the first file, if it has one that can be kept.
    #[must_use]
    pub fn file_name(&self) -> Option<&str> {
        self.files.first()?.1.annotation(TITLE).filter(|title| is_plain(title))
    }

    /// Opens the files as streams that end only if their digests are the right ones.
    ///
    /// # Errors
    /// Those of the source.
    pub fn open(&self, source: &dyn BlobSource, monitor: &Monitor) -> Result<ImageSource> {
        let input = |descriptor: &Descriptor| -> Result<Input> {
            let reader = open_blob(source, descriptor, monitor)?;
            let input = Input::attached_stream(reader).announced(descriptor.size);
            Ok(match descriptor.annotation(TITLE).filter(|title| is_plain(title)) {
                Some(title) => input.named(title),
                None => input,
            })
        };
        match &self.files[..] {
            [(_, only)] => Ok(ImageSource::unified(input(only)?)),
            [(_, first), (_, second)] => Ok(ImageSource::split(input(first)?, input(second)?)),
            _ => Err(Error::invalid("an image is one file or two")),
        }
    }
}

/// An image that becomes an artifact: what its manifest says of it, and its files.
///
/// ```no_run
/// use lxd_image::oci::{ImagePush, LayoutWriter};
/// use lxd_image::{Architecture, ImageType, Monitor};
///
/// # fn f(fingerprint: lxd_image::Fingerprint, file: lxd_image::io::Blob) -> lxd_image::Result<()> {
/// let mut push = ImagePush::new(fingerprint, ImageType::Container, Architecture::X86_64, file);
/// push.created_at = Some(1_700_000_000);
/// let mut layout = LayoutWriter::tar("bundle.tar", &Monitor::none())?;
/// let entry = push.write(&mut layout, &Monitor::none())?;
/// layout.add_entry(entry, Some("debian/12"));
/// layout.finish()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ImagePush {
    /// The fingerprint.
    pub fingerprint: Fingerprint,
    /// Whether it is for containers or for virtual machines.
    pub image_type: ImageType,
    /// The architecture.
    pub architecture: Architecture,
    /// The properties.
    pub properties: Properties,
    /// When it was built, in seconds since 1970.
    pub created_at: Option<i64>,
    /// When it expires, in seconds since 1970.
    pub expires_at: Option<i64>,
    /// The image's file, or the metadata file of a split one.
    pub first: Blob,
    /// The rootfs file of a split image.
    pub second: Option<Blob>,
}

impl ImagePush {
    /// A unified image without properties; set the other fields as needed.
    #[must_use]
    pub fn new(fingerprint: Fingerprint, image_type: ImageType, architecture: Architecture, file: Blob) -> Self {
        Self {
            fingerprint,
            image_type,
            architecture,
            properties: Properties::new(),
            created_at: None,
            expires_at: None,
            first: file,
            second: None,
        }
    }

    /// Writes the files and the manifest to a layout or a registry, and returns the entry that an index has for them.
    /// The same image gives the same bytes.
    ///
    /// # Errors
    /// `Mismatch` where the files don't have the fingerprint; those of the files and of the sink.
    pub fn write(&self, sink: &mut dyn BlobSink, monitor: &Monitor) -> Result<Descriptor> {
        let prepared = self.prepare(monitor)?;
        for (descriptor, blob) in &prepared.blobs {
            if !sink.has_blob(descriptor, monitor)? {
                let mut open = || -> Result<Box<dyn Read + Send>> { Ok(Box::new(blob.reader())) };
                sink.put_blob(descriptor, &mut open, monitor)?;
            }
        }
        sink.put_document(&prepared.descriptor(), &prepared.manifest, None, monitor)?;
        Ok(prepared.entry)
    }

    /// Makes the manifest, and names all blobs that have to be there before it.
    ///
    /// # Errors
    /// `Mismatch` where the files don't have the fingerprint; those of the files.
    pub(crate) fn prepare(&self, monitor: &Monitor) -> Result<PreparedPush> {
        let layers = self.layers(monitor)?;
        let empty = Descriptor::of(media_type::EMPTY, b"{}");
        let files = [Some(&self.first), self.second.as_ref()].into_iter().flatten().cloned();
        let blobs = std::iter::once((empty.clone(), Blob::from(b"{}".to_vec())))
            .chain(layers.iter().cloned().zip(files))
            .collect();
        let mut manifest = Manifest::new(empty, layers);
        manifest.artifact_type = Some(ARTIFACT.to_owned());
        manifest.annotations = self.annotations();
        let manifest = to_json(&manifest)?;
        let entry = Descriptor::of(media_type::IMAGE_MANIFEST, &manifest);
        let entry = index_entry(entry, ARTIFACT, Some(self.architecture), self.image_type, Some(self.fingerprint));
        Ok(PreparedPush { blobs, manifest, entry })
    }

    /// The descriptors of the files. Those of a split image are read for their digests, and compared with the fingerprint.
    fn layers(&self, monitor: &Monitor) -> Result<Vec<Descriptor>> {
        let input = |blob: &Blob| Input::blob(blob.clone());
        let source = match &self.second {
            None => ImageSource::unified(input(&self.first)),
            Some(second) => ImageSource::split(input(&self.first), input(second)),
        };
        let image = ImageFiles::open(source)?;
        let roles: &[&str] = match (image.form(), self.image_type) {
            (ImageForm::Unified, _) => &["unified"],
            (ImageForm::Split, ImageType::VirtualMachine) => &["metadata", "disk"],
            (ImageForm::Split, ImageType::Container) => &["metadata", "rootfs"],
        };
        let digests = self.digests(monitor)?;
        let files = [Some(&self.first), self.second.as_ref()].into_iter().flatten();
        let mut layers = Vec::new();
        for (((role, container), digest), file) in roles.iter().zip(image.containers()).zip(digests).zip(files) {
            let suffix = suffix(container);
            let mut layer = Descriptor::new(format!("{LAYER}{role}.v1.{suffix}"), digest, file.len());
            layer.annotations.insert(TITLE.to_owned(), format!("{role}{}", container.ending()));
            layers.push(layer);
        }
        Ok(layers)
    }

    fn digests(&self, monitor: &Monitor) -> Result<Vec<Digest>> {
        let Some(second) = &self.second else { return Ok(vec![Digest::from(self.fingerprint)]) };
        let mut whole = Hasher::new();
        let mut digests = Vec::new();
        let total = self.first.len().saturating_add(second.len());
        for file in [&self.first, second] {
            let mut part = Hasher::new();
            let before = whole.bytes();
            read_all(
                file,
                "the image can't be read",
                &mut |done| monitor.report(Phase::Hash, before.saturating_add(done), Some(total)),
                &mut |bytes| {
                    whole.update(bytes);
                    part.update(bytes);
                    Ok(())
                },
            )?;
            digests.push(Digest::from(part.finish()));
        }
        let found = whole.finish();
        if found != self.fingerprint {
            return Err(Error::mismatch(
                "the fingerprint of an image",
                self.fingerprint.to_string(),
                found.to_string(),
            ));
        }
        Ok(digests)
    }

    /// What the manifest says of the image.
    fn annotations(&self) -> Annotations {
        let mut notes = Annotations::new();
        let mut note = |key: &str, value: String| _ = notes.insert(key.to_owned(), value);
        note(FINGERPRINT, self.fingerprint.to_string());
        note(TYPE, self.image_type.name().to_owned());
        note(ARCHITECTURE, self.architecture.kernel_name().to_owned());
        if self.created_at.is_some() {
            note(CREATED, crate::time::rfc3339(self.created_at));
        }
        if self.expires_at.is_some() {
            note(EXPIRES, crate::time::rfc3339(self.expires_at));
        }
        for (key, value) in self.properties.iter() {
            note(&format!("{PROPERTY}{key}"), value.to_owned());
            if key == "description" {
                note(DESCRIPTION, value.to_owned());
            }
        }
        notes
    }
}

/// An image on its way to a layout or a registry.
pub(crate) struct PreparedPush {
    /// The configuration and the files, each with its bytes.
    pub(crate) blobs: Vec<(Descriptor, Blob)>,
    /// The bytes of the manifest.
    pub(crate) manifest: Vec<u8>,
    /// What an index says of it.
    pub(crate) entry: Descriptor,
}

impl PreparedPush {
    /// Type, digest and size of the manifest alone.
    pub(crate) fn descriptor(&self) -> Descriptor {
        Descriptor::new(&*self.entry.media_type, self.entry.digest, self.entry.size)
    }
}

/// What an index says of the manifest of an artifact that holds an image.
pub(crate) fn index_entry(
    mut entry: Descriptor,
    artifact_type: &str,
    architecture: Option<Architecture>,
    image_type: ImageType,
    fingerprint: Option<Fingerprint>,
) -> Descriptor {
    entry.artifact_type = Some(artifact_type.to_owned());
    entry.platform = architecture.map(Platform::linux);
    entry.annotations.insert(TYPE.to_owned(), image_type.name().to_owned());
    if let Some(fingerprint) = fingerprint {
        entry.annotations.insert(FINGERPRINT.to_owned(), fingerprint.to_string());
    }
    entry
}

/// The type of the image in an entry of an index, if the entry says so.
#[cfg(feature = "remote")]
pub(crate) fn type_of_entry(entry: &Descriptor) -> Option<ImageType> {
    let said = entry.annotation(TYPE)?;
    ImageType::ALL.into_iter().find(|image_type| image_type.name() == said)
}

/// Whether a name can be shown and kept as the name of a file.
fn is_plain(name: &str) -> bool {
    !name.is_empty() && name.len() <= 200 && !name.contains(['/', '\\', '\0']) && !name.starts_with(['.', '-'])
}

/// The properties among annotations. Those that can't be one are left out.
fn properties(notes: &Annotations) -> Properties {
    let mut properties = Properties::new();
    let described = notes.get(DESCRIPTION).map(|text| ("description", text));
    let named = notes.iter().filter_map(|(key, value)| Some((key.strip_prefix(PROPERTY)?, value)));
    for (key, value) in described.into_iter().chain(named) {
        // Annotations come from JSON, where text may hold a NUL that no property can.
        let _ = properties.set(key, value);
    }
    properties
}

/// What a layer is, by its media type.
fn role(media_type: &str) -> Option<FileRole> {
    if let Some(rest) = media_type.strip_prefix(LAYER) {
        return match rest.split('.').next() {
            Some("unified") => Some(FileRole::Unified),
            Some("metadata") => Some(FileRole::Metadata),
            Some("rootfs") => Some(FileRole::Rootfs),
            Some("disk") => Some(FileRole::Disk),
            _ => None,
        };
    }
    match media_type {
        "application/vnd.incus.metadata" => Some(FileRole::Metadata),
        "application/x-qcow2" => Some(FileRole::Disk),
        "application/vnd.squashfs" | "application/x-squashfs" => Some(FileRole::Rootfs),
        other if other.starts_with("application/vnd.incus.image.layer.v1.") => Some(FileRole::Unified),
        _ => None,
    }
}

/// The end of the media type of a file.
fn suffix(container: Container) -> String {
    match container {
        Container::SquashFs => "squashfs".to_owned(),
        Container::Qcow2 => "qcow2".to_owned(),
        Container::Tar(Codec::None) => "tar".to_owned(),
        Container::Tar(codec) => format!("tar+{codec}"),
    }
}
