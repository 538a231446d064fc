//! Container images of a registry: what is known of one before its layers are fetched, and its conversion on the way.
//!
//! The layers are fetched into temporary files, several at once, or taken from the store that keeps them, and become a unified image that is written as it is
//! read: there is no tree, and no second copy.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::images::Located;
use super::pipe::piped;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{Codec, Compression, ImageForm, ImageSource, ImageType, Input};
use crate::metadata::{Architecture, Properties};
use crate::oci::{ContainerImage, ContainerOptions, ImageConfig, read_blob};
use crate::progress::{Cancel, Monitor, Update};
use crate::remote::{UnverifiedImage, Wanted};

/// A container image: its configuration, and the machine that it is for.
pub(super) struct ContainerConfig {
    config: ImageConfig,
    architecture: Architecture,
}

impl ContainerConfig {
    /// Fetches the configuration of an image.
    ///
    /// # Errors
    /// `NotFound` where it is for another machine; `Unsupported` for another system than Linux, and for a virtual
    /// machine that is asked for; `Malformed`; those of the registry.
    pub(super) fn read(found: &Located, wanted: &Wanted, monitor: &Monitor) -> Result<Self> {
        let limits = found.repository.registry().client().limits().clone();
        if wanted.image_type == ImageType::VirtualMachine {
            let sentence = format!("`{}` is a container image, and none for virtual machines", wanted.reference);
            return Err(Error::new(ErrorKind::NotFound, sentence).with_hint("leave `--vm` out"));
        }
        let manifest = found.image.manifest();
        let bytes = read_blob(&found.repository, &manifest.config, &limits, monitor)?;
        let config = ImageConfig::parse(&bytes, manifest, &limits)?;
        let platform = config.platform();
        if platform.os != "linux" {
            let shown: String = platform.os.chars().take(40).collect();
            return Err(Error::unsupported(format!("`{}` is an image for `{shown}`, not for Linux", wanted.reference)));
        }
        let architecture = found.architecture.or_else(|| platform.architecture()).ok_or_else(|| {
            let shown: String = platform.architecture.chars().take(40).collect();
            Error::unsupported(format!("`{}` is an image for an unknown machine, `{shown}`", wanted.reference))
        })?;
        let is_fixed = wanted.reference.contains('@');
        if !is_fixed && !wanted.architectures.is_empty() && !wanted.architectures.contains(&architecture) {
            let machines: Vec<_> = wanted.architectures.iter().map(ToString::to_string).collect();
            let sentence = format!("`{}` is not there for {}", wanted.reference, machines.join(" or "));
            return Err(Error::new(ErrorKind::NotFound, sentence).with_hint(format!("it is there for {architecture}")));
        }
        Ok(Self { config, architecture })
    }

    /// What is known of the image, as Incus describes it; `system` for one that becomes an image for system containers.
    pub(super) fn describe(&self, found: &Located, wanted: &Wanted) -> UnverifiedImage {
        let name = full_name(found);
        let mut properties = Properties::new();
        // None of them can hold a NUL.
        let mut set = |key: &str, value: &str| _ = properties.set(key, value);
        set("architecture", self.architecture.kernel_name());
        if wanted.system {
            set("description", &format!("{name} (OCI, system)"));
        } else {
            set("type", "oci");
            set("description", &format!("{name} (OCI)"));
        }
        set("id", &wanted.reference);
        let locator = format!("{}@{}", found.repository.name(), found.image.digest());
        let mut image = UnverifiedImage::new(locator, ImageType::Container, self.architecture)
            .properties(properties)
            .content_digest(found.image.digest().to_string());
        image.size = found.image.size();
        image.created_at = self.config.created_seconds();
        image.system = wanted.system;
        image.incus_fingerprint = Some(found.image.incus_fingerprint());
        image
    }
}

/// The name of the repository with its registry, as people write it.
fn full_name(found: &Located) -> String {
    format!("{}/{}", found.repository.registry().host_name(), found.repository.name())
}

/// Opens the instance image that a container image becomes: unified, compressed with zstd where that is compiled in.
pub(super) fn open_converted(found: Located, image: &UnverifiedImage, monitor: &Monitor) -> ImageSource {
    let stop = Cancel::new();
    let started = Arc::new(AtomicBool::new(false));
    let shown = {
        let (outer, started) = (monitor.clone(), Arc::clone(&started));
        move |update: &Update| {
            // Once bytes come out, whoever takes them reports.
            let quiet = started.load(Ordering::Relaxed);
            match if quiet { outer.check() } else { outer.report(update.phase, update.done, update.total) } {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            }
        }
    };
    let inner = monitor.clone().with_cancel(stop.clone()).with_progress(Arc::new(shown));
    let codec = if cfg!(feature = "zstd") { Codec::Zstd } else { Codec::None };
    let mut options = ContainerOptions::new()
        .name(full_name(&found))
        .system(image.system)
        .form(ImageForm::Unified)
        .compression(Compression::new(codec))
        .limits(found.repository.registry().client().limits().clone());
    if let Some(id) = image.properties.get("id") {
        options = options.id(id);
    }
    let name = found.repository.shown(&found.image.digest().into());
    let reader = piped(stop, monitor.clone(), move |pipe| {
        let container = ContainerImage::read(&found.repository, &found.image, &options, &inner)?;
        started.store(true, Ordering::Relaxed);
        container.write_to(pipe, &inner)?;
        found.repository.finish_prefetch(&inner)
    });
    ImageSource::unified(Input::attached_stream(reader).named(name))
}
