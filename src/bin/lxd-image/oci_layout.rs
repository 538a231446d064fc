//! OCI layouts as input: `import` takes an image of one, in a directory or a tar, as it takes files.
//!
//! A container image becomes an instance image on the way; an image of LXD or Incus that is kept in the layout is taken
//! as it is.

use std::path::Path;

use clap::Args;
use lxd_image::format::ImageForm;
use lxd_image::oci::{
    ContainerImage, ContainerOptions, Descriptor, Digest, Image, ImageArtifact, Layout, STATEMENT, read_statements,
};
use lxd_image::store::{ImportOptions, StoredImage};
use lxd_image::trust::Evidence;
use lxd_image::{Architecture, Error, ErrorKind, Monitor, Omitted, Result};

use crate::options::Session;

/// Which image of an OCI layout, and what it becomes.
#[derive(Args)]
pub(crate) struct LayoutArguments {
    /// The image of an OCI layout, by its name there (default: the only one)
    #[arg(long, value_name = "NAME")]
    image: Option<String>,
    /// The architecture of an OCI image that is there for several (default: this machine's)
    #[arg(long, value_name = "ARCH")]
    architecture: Option<String>,
    /// Make an image for system containers of an OCI image: it boots its init, instead of running its entry point
    #[arg(long)]
    system: bool,
}

impl LayoutArguments {
    /// Refuses the options where the input is no OCI layout.
    ///
    /// # Errors
    /// `InvalidInput`.
    pub(crate) fn refuse(&self) -> Result<()> {
        let given = [
            ("--image", self.image.is_some()),
            ("--architecture", self.architecture.is_some()),
            ("--system", self.system),
        ];
        match given.iter().find(|(_, given)| *given) {
            Some((option, _)) => {
                Err(Error::new(ErrorKind::InvalidInput, format!("`{option}` is for OCI layouts, and this is none")))
            }
            None => Ok(()),
        }
    }

    /// The architecture that is wanted.
    ///
    /// # Errors
    /// `InvalidInput` for an unknown name, and on a machine that images have no name for.
    pub(crate) fn architecture(&self) -> Result<Architecture> {
        match &self.architecture {
            Some(name) => name.parse(),
            None => Architecture::of_this_machine().ok_or_else(|| {
                Error::new(ErrorKind::InvalidInput, "this machine's architecture is not known")
                    .with_hint("say which one is wanted with `--architecture`")
            }),
        }
    }
}

/// The statements about an image that a layout has beside it. Those that can't be used are recorded in the monitor.
///
/// # Errors
/// Those of the layout, above all `Mismatch` where it is damaged.
pub(crate) fn evidence(
    layout: &Layout,
    image: &Image,
    artifact: &ImageArtifact,
    session: &Session,
    monitor: &Monitor,
) -> Result<Evidence> {
    let (digest, limits) = (image.digest(), &session.limits);
    let found = layout.referrers(&digest, Some(STATEMENT), limits, monitor)?;
    omit_referrers(layout, &digest, &found, "only statements are kept beside an image", session, monitor)?;
    if found.is_empty() {
        return Ok(Evidence::new());
    }
    let Some(fingerprint) = &artifact.fingerprint else {
        let part = "statements about it".into();
        let reason = "its fingerprint is not known before it is imported".into();
        monitor.omit(digest.to_string(), Omitted::Dropped { part, reason });
        return Ok(Evidence::new());
    };
    Ok(Evidence::new().statements(read_statements(layout, &digest, &found, fingerprint, limits, monitor)?))
}

/// Records what refers to a manifest, but for those that are `taken`, as left out.
///
/// # Errors
/// Those of the layout.
pub(crate) fn omit_referrers(
    layout: &Layout,
    digest: &Digest,
    taken: &[Descriptor],
    reason: &'static str,
    session: &Session,
    monitor: &Monitor,
) -> Result<()> {
    for other in layout.referrers(digest, None, &session.limits, monitor)? {
        if taken.iter().all(|one| one.digest != other.digest) {
            let kind: String = other.artifact_type.as_deref().unwrap_or("unknown").chars().take(100).collect();
            let part = format!("{} of the type `{kind}`", other.digest).into();
            monitor.omit(digest.to_string(), Omitted::Dropped { part, reason: reason.into() });
        }
    }
    Ok(())
}

/// Imports an image of a layout into the store. `is_expected` says that the options have a fingerprint already.
///
/// # Errors
/// Those of the layout, of its image, and of importing.
pub(crate) fn import(
    path: &Path,
    arguments: &LayoutArguments,
    options: &ImportOptions,
    is_expected: bool,
    session: &Session,
) -> Result<StoredImage> {
    let (monitor, shown) = session.monitor();
    let import = || {
        let layout = Layout::open(path, &session.limits, &monitor)?;
        let entry = layout.find(arguments.image.as_deref())?;
        let image = Image::resolve(&layout, entry, arguments.architecture()?, &session.limits, &monitor)?;
        if let Some(artifact) = ImageArtifact::of(image.manifest())? {
            if arguments.system {
                let sentence = "`--system` is for container images, and this is an image of LXD or Incus already";
                return Err(Error::new(ErrorKind::InvalidInput, sentence));
            }
            let mut options = options
                .clone()
                .source_properties(artifact.properties.clone())
                .image_type(artifact.image_type)
                .evidence(evidence(&layout, &image, &artifact, session, &monitor)?);
            if let Some(fingerprint) = artifact.fingerprint.filter(|_| !is_expected) {
                options = options.expected_fingerprint(fingerprint);
            }
            return session.store()?.import(artifact.open(&layout, &monitor)?, &options, &monitor);
        }
        let mut converting =
            ContainerOptions::new().system(arguments.system).form(ImageForm::Unified).limits(session.limits.clone());
        if let Some(name) = Layout::name_of(entry).or(arguments.image.as_deref()) {
            converting = converting.name(name);
        }
        if let Some(threads) = session.threads {
            converting = converting.threads(threads);
        }
        let container = ContainerImage::read(&layout, &image, &converting, &monitor)?;
        let store = session.store()?;
        let (stored, _) =
            store.import_encoded(&options.clone(), &monitor, |sink| container.write_to(sink, &monitor))?;
        session.note(|| format!("note: Incus would give this image the fingerprint {}", container.incus_fingerprint()));
        Ok(stored)
    };
    let imported = import();
    drop(shown);
    imported
}
