//! [`ContainerImage`]: a container image that was read and checked, ready to be written as an instance image.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::config::ImageConfig;
use super::document::{Descriptor, to_json};
use super::image::Image;
use super::media_type;
use super::runtime::runtime_config;
use super::source::{BlobSource, open_blob, read_blob};
use super::users;
use crate::error::{Error, Result};
use crate::fingerprint::Fingerprint;
use crate::format::{
    Codec, Compression, ImageForm, Layer, LayerImage, LayerTree, LayerWriteOptions, ReadPass, RootfsFormat, Timestamp,
    UnpackOptions, UnpackReport, Written, default_threads,
};
use crate::limits::Limits;
use crate::omissions::Omitted;
use crate::progress::{Monitor, Phase};

/// Where a container image has its users.
const PASSWD: &[u8] = b"etc/passwd";
/// Where a container image has its groups.
const GROUP: &[u8] = b"etc/group";

/// How a container image becomes an instance image.
///
/// ```
/// use lxd_image::format::{ImageForm, RootfsFormat};
/// use lxd_image::oci::ContainerOptions;
///
/// let options = ContainerOptions::new()
///     .id("library/alpine:3.20")
///     .name("docker.io/library/alpine")
///     .form(ImageForm::Split)
///     .rootfs_format(RootfsFormat::SquashFs);
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ContainerOptions {
    name: Option<String>,
    id: Option<String>,
    system: bool,
    properties: Vec<(String, String)>,
    form: ImageForm,
    rootfs_format: RootfsFormat,
    compression: Option<Compression>,
    threads: usize,
    limits: Limits,
}

impl Default for ContainerOptions {
    fn default() -> Self {
        Self {
            name: None,
            id: None,
            system: false,
            properties: Vec::new(),
            form: ImageForm::Split,
            rootfs_format: RootfsFormat::Tar,
            compression: None,
            threads: default_threads(),
            limits: Limits::default(),
        }
    }
}

impl ContainerOptions {
    /// A split image with two tars, as Incus has it, on all cores.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The repository's name, for the description.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// How the user named the image: the property `id`.
    #[must_use]
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// Makes an image for system containers: it boots its own init, and gets its name by templates. It has no
    /// `config.json` and not the property `type=oci`, by which Incus runs the image's entry point instead.
    #[must_use]
    pub fn system(mut self, yes: bool) -> Self {
        self.system = yes;
        self
    }

    /// Adds a property, or overrides one.
    #[must_use]
    pub fn property(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.properties.push((key.into(), value.into()));
        self
    }

    /// One file, or two.
    #[must_use]
    pub fn form(mut self, form: ImageForm) -> Self {
        self.form = form;
        self
    }

    /// What the rootfs of a split image becomes.
    #[must_use]
    pub fn rootfs_format(mut self, format: RootfsFormat) -> Self {
        self.rootfs_format = format;
        self
    }

    /// The codec and its level (default: what the output's name ends with, else zstd).
    #[must_use]
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = Some(compression);
        self
    }

    /// How many threads work, at most. The bytes don't depend on it.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads.max(1);
        self
    }

    /// The limits that documents and layers are held to.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }
}

/// A container image whose layers were all read and checked: digests, DiffIDs, and the tree that they make.
///
/// Writing it reads again the layers of which something is left. Those whose decoding is slow are kept decoded in unnamed
/// files of the directory for temporary files, within the limit `spool`; the digests of the others are checked again.
///
/// ```no_run
/// use lxd_image::oci::{ContainerImage, ContainerOptions, Image, Layout};
/// use lxd_image::{Architecture, Limits, Monitor};
///
/// let layout = Layout::open("alpine", &Limits::default(), &Monitor::none())?;
/// let image =
///     Image::resolve(&layout, layout.find(None)?, Architecture::X86_64, &Limits::default(), &Monitor::none())?;
/// let container = ContainerImage::read(&layout, &image, &ContainerOptions::new(), &Monitor::none())?;
/// let written = container.write("alpine.tar.zst", &Monitor::none())?;
/// println!("{} (Incus: {})", written.fingerprint, image.incus_fingerprint());
/// # Ok::<(), lxd_image::Error>(())
/// ```
pub struct ContainerImage<'s> {
    layers: Vec<SourceLayer<'s>>,
    tree: LayerTree,
    metadata: Vec<u8>,
    runtime_config: Option<Vec<u8>>,
    templates: Vec<(Vec<u8>, Vec<u8>)>,
    properties: Vec<(String, String)>,
    time: Timestamp,
    incus_fingerprint: Fingerprint,
    options: ContainerOptions,
    /// Bytes of layers read so far, and to be read in all when it is written.
    done: u64,
    total: u64,
}

impl<'s> ContainerImage<'s> {
    /// Reads all layers.
    ///
    /// # Errors
    /// `Unsupported` for an artifact, for other systems than Linux and for layers of unknown types; `Mismatch` for digests,
    /// sizes and DiffIDs that differ; `UnsafePath`, `Malformed` and `LimitExceeded` for what layers may not hold;
    /// `NotFound` for a user that the image does not have; those of the source.
    pub fn read(
        source: &'s dyn BlobSource,
        image: &Image,
        options: &ContainerOptions,
        monitor: &Monitor,
    ) -> Result<Self> {
        let limits = &options.limits;
        let manifest = image.manifest();
        if !image.is_container() {
            let kind = manifest.artifact_type().unwrap_or(manifest.config.media_type.as_str());
            let kind = super::document::shorten(kind);
            return Err(Error::unsupported(format!(
                "this is an artifact of the type `{kind}`, and no container image"
            )));
        }
        let config = ImageConfig::parse(&read_blob(source, &manifest.config, limits, monitor)?, manifest, limits)?;
        if config.os != "linux" {
            let os = super::document::shorten(&config.os);
            return Err(Error::unsupported(format!("the image is for the operating system `{os}`, and not for Linux")));
        }
        let layers = manifest
            .layers
            .iter()
            .zip(&config.rootfs.diff_ids)
            .map(|(descriptor, diff_id)| SourceLayer::new(source, descriptor, *diff_id))
            .collect::<Result<Vec<_>>>()?;
        source.prefetch(&manifest.layers, monitor)?;

        let created = config.created_seconds().unwrap_or(0);
        let time = Timestamp::from_seconds(created.max(0));
        let pass = ReadPass {
            limits,
            monitor,
            phase: Phase::Convert,
            threads: options.threads,
            // As much again is read by writing, if nothing of any layer is hidden.
            total: Some(image.size().saturating_mul(2)),
        };
        let mut done = 0;
        let dynamic: Vec<&dyn Layer> = layers.iter().map(|layer| layer as &dyn Layer).collect();
        let keep: &[&[u8]] = if options.system { &[] } else { &[PASSWD, GROUP] };
        let mut tree = LayerTree::read(&dynamic, time, keep, &pass, &mut done)?;
        let runtime_config = if options.system {
            require_init(&mut tree)?;
            None
        } else {
            let passwd = tree.small_file(PASSWD, &dynamic, &pass)?.unwrap_or_default();
            let group = tree.small_file(GROUP, &dynamic, &pass)?.unwrap_or_default();
            let user = users::look_up(&config.config.user, &passwd, &group)?;
            Some(runtime_config(&config, &user, monitor)?)
        };
        if !config.config.volumes.is_empty() {
            let part = format!("volumes of the image's configuration ({})", config.config.volumes.len());
            let reason = "as with Incus, their directories stay on the instance's root disk";
            monitor.omit(*b"config.json", Omitted::Dropped { part: part.into(), reason: reason.into() });
        }
        let properties = properties(&config, image, options)?;
        let metadata = metadata(&config, &properties, options.system)?;
        let templates = if options.system { system_templates() } else { Vec::new() };
        let total = done.saturating_add(tree.bytes_to_visit(manifest.layers.iter().map(|layer| layer.size)));
        Ok(Self {
            incus_fingerprint: image.incus_fingerprint(),
            layers,
            tree,
            metadata,
            runtime_config,
            templates,
            properties,
            time,
            options: options.clone(),
            done,
            total,
        })
    }

    /// The properties of the image, which are in its metadata as well: `architecture`, `type`, `description`, `id`, and
    /// those of the options.
    #[must_use]
    pub fn properties(&self) -> &[(String, String)] {
        &self.properties
    }

    /// The fingerprint that Incus gives the image; that of the bytes written is in [`Written`].
    #[must_use]
    pub fn incus_fingerprint(&self) -> Fingerprint {
        self.incus_fingerprint
    }

    /// Writes the image to `out`, and a split image's rootfs to `out` with `.root` behind it.
    ///
    /// # Errors
    /// `AlreadyExists` for the output; those of the source and of writing. Whatever the error, nothing is left.
    pub fn write(&self, out: impl AsRef<Path>, monitor: &Monitor) -> Result<Written> {
        self.with(monitor, |image, options, pass, done| image.write(out.as_ref(), options, pass, done))
    }

    /// Writes the image to a stream, as a unified one.
    ///
    /// # Errors
    /// As [`write`](Self::write); `InvalidInput` when the options ask for a split image or a SquashFS.
    pub fn write_to(&self, out: impl Write + Send + 'static, monitor: &Monitor) -> Result<Written> {
        self.with(monitor, |image, options, pass, done| image.write_to(out, options, pass, done))
    }

    /// Unpacks the image to a new directory: `metadata.yaml`, `config.json`, `templates/` and `rootfs/`. What the options
    /// of the container say of form and codec does not matter.
    ///
    /// # Errors
    /// `AlreadyExists` or `UnsafePath` for the destination; those of the source and of writing. Whatever the error, nothing
    /// is left.
    pub fn unpack(
        &self,
        destination: impl AsRef<Path>,
        options: &UnpackOptions,
        monitor: &Monitor,
    ) -> Result<(PathBuf, UnpackReport)> {
        self.with(monitor, |image, _, pass, done| {
            let pass = ReadPass { threads: options.thread_count(), ..*pass };
            image.unpack(destination.as_ref(), options, &pass, done)
        })
    }

    fn with<T>(
        &self,
        monitor: &Monitor,
        write: impl FnOnce(&LayerImage<'_>, &LayerWriteOptions, &ReadPass<'_>, &mut u64) -> Result<T>,
    ) -> Result<T> {
        let layers: Vec<&dyn Layer> = self.layers.iter().map(|layer| layer as &dyn Layer).collect();
        let image = LayerImage {
            tree: &self.tree,
            layers: &layers,
            metadata: self.metadata.clone(),
            runtime_config: self.runtime_config.clone(),
            templates: self.templates.clone(),
            time: self.time,
        };
        let write_options = LayerWriteOptions {
            form: self.options.form,
            rootfs_format: self.options.rootfs_format,
            compression: self.options.compression,
            threads: self.options.threads,
        };
        let pass = ReadPass {
            limits: &self.options.limits,
            monitor,
            phase: Phase::Convert,
            threads: self.options.threads,
            total: Some(self.total),
        };
        let mut done = self.done;
        let written = write(&image, &write_options, &pass, &mut done)?;
        // It is done: whoever wants to stop now comes too late.
        let _ = pass.monitor.report(Phase::Convert, self.total, Some(self.total));
        Ok(written)
    }
}

impl std::fmt::Debug for ContainerImage<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ContainerImage").field("layers", &self.layers.len()).finish_non_exhaustive()
    }
}

/// A layer of an image in a source.
struct SourceLayer<'s> {
    source: &'s dyn BlobSource,
    descriptor: Descriptor,
    codec: Codec,
    diff_id: super::digest::Digest,
}

impl<'s> SourceLayer<'s> {
    fn new(source: &'s dyn BlobSource, descriptor: &Descriptor, diff_id: super::digest::Digest) -> Result<Self> {
        let codec = media_type::layer_codec(&descriptor.media_type)
            .map_err(|error| error.context(format_args!("the layer {}", descriptor.digest)))?;
        if !codec.is_enabled() {
            return Err(codec.disabled());
        }
        Ok(Self { source, descriptor: descriptor.clone(), codec, diff_id })
    }
}

impl Layer for SourceLayer<'_> {
    fn codec(&self) -> Codec {
        self.codec
    }

    fn size(&self) -> u64 {
        self.descriptor.size
    }

    fn name(&self) -> String {
        format!("the layer {}", self.descriptor.digest)
    }

    fn open(&self, monitor: &Monitor) -> Result<Box<dyn Read + Send>> {
        Ok(Box::new(open_blob(self.source, &self.descriptor, monitor)?))
    }

    fn decoded_digest(&self) -> (&'static str, String) {
        (self.diff_id.algorithm(), self.diff_id.hex())
    }
}

/// What Incus says of the image, and what the caller adds.
fn properties(config: &ImageConfig, image: &Image, options: &ContainerOptions) -> Result<Vec<(String, String)>> {
    let architecture = architecture(config);
    let name = options.name.clone().unwrap_or_else(|| image.digest().to_string());
    let mut all = vec![("architecture".to_owned(), architecture)];
    if options.system {
        all.push(("description".to_owned(), format!("{name} (OCI, system)")));
    } else {
        all.push(("type".to_owned(), "oci".to_owned()));
        all.push(("description".to_owned(), format!("{name} (OCI)")));
    }
    all.push(("id".to_owned(), options.id.clone().unwrap_or(name)));
    for (key, value) in &options.properties {
        if key.contains('\0') || value.contains('\0') {
            return Err(Error::invalid("a property contains a NUL"));
        }
        match all.iter_mut().find(|(known, _)| known == key) {
            Some((_, known)) => known.clone_from(value),
            None => all.push((key.clone(), value.clone())),
        }
    }
    Ok(all)
}

/// The kernel's name of the architecture, where it is known.
fn architecture(config: &ImageConfig) -> String {
    let known = config.platform().architecture().map(|known| known.kernel_name().to_owned());
    known.unwrap_or_else(|| super::document::shorten(&config.architecture))
}

/// `metadata.yaml`, which is JSON as Incus makes it.
fn metadata(config: &ImageConfig, properties: &[(String, String)], system: bool) -> Result<Vec<u8>> {
    let architecture = architecture(config);
    if architecture.is_empty() {
        return Err(Error::malformed("the image's configuration does not say its architecture"));
    }
    let properties: Map<String, Value> =
        properties.iter().map(|(key, value)| (key.clone(), Value::String(value.clone()))).collect();
    let rule = |template: &str| json!({"when": ["create", "copy"], "create_only": false, "template": template, "properties": null});
    let templates = if system {
        json!({"/etc/hostname": rule("hostname.tpl"), "/etc/hosts": rule("hosts.tpl")})
    } else {
        Value::Null
    };
    to_json(&json!({
        "architecture": architecture,
        // LXD and Incus take 0 for a missing date, which is what reproducible builds write.
        "creation_date": config.created_seconds().unwrap_or(0).max(1),
        "expiry_date": 0,
        "properties": properties,
        "templates": templates,
    }))
}

/// The templates that give a system container its name.
fn system_templates() -> Vec<(Vec<u8>, Vec<u8>)> {
    let hosts = "127.0.0.1\tlocalhost\n127.0.1.1\t{{ container.name }}\n\n\
                 ::1\tip6-localhost ip6-loopback\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n";
    vec![
        (b"hostname.tpl".to_vec(), b"{{ container.name }}\n".to_vec()),
        (b"hosts.tpl".to_vec(), hosts.as_bytes().to_vec()),
    ]
}

/// Fails unless the tree has an init, which a system container boots.
fn require_init(tree: &mut LayerTree) -> Result<()> {
    let places: [&[u8]; 4] = [b"sbin/init", b"usr/sbin/init", b"init", b"usr/lib/systemd/systemd"];
    if places.iter().any(|place| tree.has_file(place)) {
        return Ok(());
    }
    Err(Error::unsupported("the image has no `/sbin/init`, which a system container boots")
        .with_hint("without `--system` its entry point runs, as in an application container"))
}
