//! [`LayoutImage`]: one image of an OCI layout, which a store imports or a file takes.

use std::path::Path;

use super::evidence::{ABOUT_CONTAINER, evidence, omit_referrers};
use crate::error::{Error, Result};
use crate::fingerprint::Fingerprint;
use crate::format::{Compression, ImageForm, Written};
use crate::limits::Limits;
use crate::metadata::Architecture;
use crate::oci::{ContainerImage, ContainerOptions, Image, ImageArtifact, Layout};
use crate::omissions::Omitted;
use crate::progress::Monitor;
use crate::store::{ImportOptions, Store, StoredImage};

/// Which image of a layout is meant, and what a container image becomes.
///
/// ```
/// use lxd_image::bundle::LayoutOptions;
///
/// let options = LayoutOptions::new().image("alpine:3.20").system(true);
/// # let _ = options;
/// ```
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct LayoutOptions {
    image: Option<String>,
    architecture: Option<Architecture>,
    system: bool,
    compression: Option<Compression>,
    threads: Option<usize>,
    limits: Limits,
}

impl LayoutOptions {
    /// The only image, for this machine, on all cores.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The image's name in the layout.
    #[must_use]
    pub fn image(mut self, name: impl Into<String>) -> Self {
        self.image = Some(name.into());
        self
    }

    /// The machine, of an image that is there for several (default: this one).
    #[must_use]
    pub fn architecture(mut self, architecture: Architecture) -> Self {
        self.architecture = Some(architecture);
        self
    }

    /// Whether a container image boots its init, instead of running its entry point.
    #[must_use]
    pub fn system(mut self, yes: bool) -> Self {
        self.system = yes;
        self
    }

    /// How a container image is compressed. An image of LXD or Incus keeps its bytes, which is an
    /// omission.
    #[must_use]
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = Some(compression);
        self
    }

    /// How many threads work, at most.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = Some(threads);
        self
    }

    /// The limits that the layout and its image are held to.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }
}

/// An image of an OCI layout: one of LXD or Incus, which is taken as it is, or a container image, which becomes an
/// instance image on the way.
pub struct LayoutImage {
    layout: Layout,
    image: Image,
    name: Option<String>,
    artifact: Option<ImageArtifact>,
    options: LayoutOptions,
}

impl LayoutImage {
    /// Finds the image in a layout, a directory or a tar that is not compressed. Its bytes are not read yet.
    ///
    /// # Errors
    /// Those of [`Layout::open`], [`Layout::find`] and [`Image::resolve`]; `InvalidInput` for `system` with an image of
    /// LXD or Incus, and on a machine that images have no name for.
    pub fn open(path: impl AsRef<Path>, options: &LayoutOptions, monitor: &Monitor) -> Result<Self> {
        let layout = Layout::open(path, &options.limits, monitor)?;
        let entry = layout.find(options.image.as_deref())?;
        let architecture = match options.architecture {
            Some(architecture) => architecture,
            None => this_machine()?,
        };
        let image = Image::resolve(&layout, entry, architecture, &options.limits, monitor)?;
        let artifact = ImageArtifact::of(image.manifest())?;
        if artifact.is_some() && options.system {
            return Err(Error::invalid(
                "`system` is for container images, and this is an image of LXD or Incus already",
            ));
        }
        let name = Layout::name_of(entry).map(str::to_owned).or_else(|| options.image.clone());
        Ok(Self { layout, image, name, artifact, options: options.clone() })
    }

    /// The fingerprint, if it is an image of LXD or Incus whose manifest says it. It is checked when the image is
    /// imported.
    #[must_use]
    pub fn fingerprint(&self) -> Option<Fingerprint> {
        self.artifact.as_ref().and_then(|artifact| artifact.fingerprint)
    }

    /// Whether it is a container image, which is converted.
    #[must_use]
    pub fn is_container(&self) -> bool {
        self.artifact.is_none()
    }

    /// Imports the image, with the statements that the layout has beside it. Also returns the fingerprint that Incus
    /// would give a container image.
    ///
    /// # Errors
    /// Those of the layout, of its image, and of [`Store::import`].
    pub fn import(
        &self,
        store: &Store,
        options: &ImportOptions,
        monitor: &Monitor,
    ) -> Result<(StoredImage, Option<Fingerprint>)> {
        let limits = &self.options.limits;
        if let Some(artifact) = &self.artifact {
            if self.options.compression.is_some() {
                let reason = "an image of LXD or Incus is taken as it is".into();
                let what = Omitted::NotHonoured { option: "`compression`".into(), reason };
                monitor.omit(self.image.digest().to_string(), what);
            }
            let evidence = evidence(&self.layout, &self.image, artifact, limits, monitor)?;
            let options = described(options.clone().more_evidence(evidence), artifact);
            let imported = store.import(artifact.open(&self.layout, monitor)?, &options, monitor)?;
            return Ok((imported, None));
        }
        omit_referrers(&self.layout, &self.image.digest(), &[], ABOUT_CONTAINER, limits, monitor)?;
        let container = ContainerImage::read(&self.layout, &self.image, &self.converting(), monitor)?;
        Ok((import_container(&container, store, options, monitor)?, Some(container.incus_fingerprint())))
    }

    /// Writes a container image as an instance image to a new file.
    ///
    /// # Errors
    /// `Unsupported` for an image of LXD or Incus, which a store imports and exports; those of
    /// [`ContainerImage::write`].
    pub fn write(&self, out: impl AsRef<Path>, monitor: &Monitor) -> Result<Written> {
        if self.artifact.is_some() {
            return Err(Error::unsupported("the layout has an image of LXD or Incus, which needs no conversion")
                .with_hint("import it into a store, and export it from there"));
        }
        ContainerImage::read(&self.layout, &self.image, &self.converting(), monitor)?.write(out, monitor)
    }

    fn converting(&self) -> ContainerOptions {
        let options = &self.options;
        let converting =
            container_options(self.name.as_deref(), options.threads, &options.limits).system(options.system);
        match options.compression {
            Some(compression) => converting.compression(compression),
            None => converting,
        }
    }
}

/// How an image of LXD or Incus is imported: with what its manifest says of it, unless the options say otherwise.
pub(super) fn described(options: ImportOptions, artifact: &ImageArtifact) -> ImportOptions {
    let mut options = options.source_properties(artifact.properties.clone()).image_type(artifact.image_type);
    if let Some(seconds) = artifact.expires_at
        && options.expiry().is_none()
    {
        options = options.expires_at(seconds);
    }
    if let Some(fingerprint) = artifact.fingerprint
        && options.expected().is_none()
    {
        options = options.expected_fingerprint(fingerprint);
    }
    options
}

/// How a container image of a layout is converted: to a unified image, whose name in the layout is the last resort.
pub(super) fn container_options(name: Option<&str>, threads: Option<usize>, limits: &Limits) -> ContainerOptions {
    let mut converting = ContainerOptions::new().form(ImageForm::Unified).limits(limits.clone());
    if let Some(name) = name {
        converting = converting.name(name);
    }
    if let Some(threads) = threads {
        converting = converting.threads(threads);
    }
    converting
}

/// Converts a container image into a store.
///
/// # Errors
/// Those of [`Store::import_encoded`].
pub(super) fn import_container(
    container: &ContainerImage<'_>,
    store: &Store,
    options: &ImportOptions,
    monitor: &Monitor,
) -> Result<StoredImage> {
    store.import_encoded(options, monitor, |sink| container.write_to(sink, monitor)).map(|(imported, _)| imported)
}

/// This machine's architecture.
///
/// # Errors
/// `InvalidInput` where images have no name for it.
pub(super) fn this_machine() -> Result<Architecture> {
    Architecture::of_this_machine()
        .ok_or_else(|| Error::invalid("this machine's architecture is not known").with_hint("say which one is wanted"))
}
