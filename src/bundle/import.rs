//! [`Bundle`]: all images of an OCI layout into a store.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::path::PathBuf;

use super::evidence::{ABOUT_CONTAINER, evidence, omit_referrers};
use super::image::{container_options, described, import_container, this_machine};
use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::Fingerprint;
use crate::limits::Limits;
use crate::oci::{BlobSource, ContainerImage, Descriptor, Digest, Document, Image, ImageArtifact, Layout, Reference};
use crate::omissions::Omitted;
use crate::progress::Monitor;
use crate::store::{Alias, ImportOptions, Store};

/// How the images of a bundle are imported.
///
/// ```
/// use lxd_image::bundle::BundleImportOptions;
///
/// let options = BundleImportOptions::new().public(true).reuse_aliases(true);
/// # let _ = options;
/// ```
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct BundleImportOptions {
    public: bool,
    reuse_aliases: bool,
    threads: Option<usize>,
}

impl BundleImportOptions {
    /// Private images, whose aliases must be free, on all cores.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether clients that have not authenticated may read the images.
    #[must_use]
    pub fn public(mut self, yes: bool) -> Self {
        self.public = yes;
        self
    }

    /// Whether aliases that are taken move; an image that thereby loses its last one is deleted, unless it is to be
    /// kept.
    #[must_use]
    pub fn reuse_aliases(mut self, yes: bool) -> Self {
        self.reuse_aliases = yes;
        self
    }

    /// How many threads convert a container image, at most.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = Some(threads);
        self
    }
}

/// A bundle, or any OCI layout, whose images are to be imported.
pub struct Bundle {
    path: PathBuf,
    layout: Layout,
    entries: Vec<Entry>,
    limits: Limits,
}

/// What a layout has under one digest, and its names.
struct Entry {
    descriptor: Descriptor,
    names: BTreeSet<String>,
}

impl Bundle {
    /// Opens a bundle, a tar or a directory, and finds its images: of an index of container images the one for this
    /// machine, of an index of LXD or Incus images all.
    ///
    /// # Errors
    /// Those of [`Layout::open`]; `NotFound` for a layout without an image.
    pub fn open(path: impl AsRef<Path>, limits: &Limits, monitor: &Monitor) -> Result<Self> {
        let path = path.as_ref();
        let open = || {
            let layout = Layout::open(path, limits, monitor)?;
            let entries = entries(&layout, limits, monitor)?;
            if entries.is_empty() {
                return Err(
                    Error::new(ErrorKind::NotFound, "the bundle has no image").with_hint("it is an empty layout")
                );
            }
            Ok(Self { path: path.to_owned(), layout, entries, limits: limits.clone() })
        };
        open().map_err(|error: Error| error.in_file(path))
    }

    /// How many images it has, under however many names.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it has none, which [`open`](Self::open) refuses.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Imports all images with their names as aliases and the statements about them. An image that is in the store
    /// already gets the aliases. What can't be taken is an omission of the monitor: artifacts that are no images, names
    /// that are no aliases, and what else refers to an image.
    ///
    /// # Errors
    /// Those of the layout and of [`Store::import`]. Images that were imported before stay.
    pub fn import(&self, store: &Store, options: &BundleImportOptions, monitor: &Monitor) -> Result<Vec<Fingerprint>> {
        self.import_all(store, options, monitor).map_err(|error| error.in_file(&self.path))
    }

    fn import_all(&self, store: &Store, options: &BundleImportOptions, monitor: &Monitor) -> Result<Vec<Fingerprint>> {
        let mut imported = Vec::new();
        for entry in &self.entries {
            imported.extend(self.import_entry(entry, store, options, monitor)?);
        }
        let images: Vec<Digest> = self.entries.iter().map(|entry| entry.descriptor.digest).collect();
        for tag in self.layout.referrers_of_others(&images, &self.limits, monitor)? {
            let reason = "the image that they are about was not imported from the bundle";
            monitor.omit(tag, Omitted::Skipped { reason: reason.into() });
        }
        Ok(imported)
    }

    /// Imports one manifest; `None` for an artifact that is no image, which is reported.
    fn import_entry(
        &self,
        entry: &Entry,
        store: &Store,
        importing: &BundleImportOptions,
        monitor: &Monitor,
    ) -> Result<Option<Fingerprint>> {
        let (layout, limits) = (&self.layout, &self.limits);
        let image = Image::resolve(layout, &entry.descriptor, this_machine()?, limits, monitor)?;
        let name = entry.names.iter().next();
        let mut options = ImportOptions::new()
            .add_aliases_to_existing(true)
            .public(importing.public)
            .reuse_aliases(importing.reuse_aliases)
            .replace_images(importing.reuse_aliases);
        let artifact = ImageArtifact::of(image.manifest())?;
        // An image without aliases has its fingerprint as the name.
        let own = artifact.as_ref().and_then(|artifact| artifact.fingerprint).map(|of| of.to_string());
        for name in entry.names.iter().filter(|name| Some(*name) != own.as_ref()) {
            match Alias::new(&**name) {
                Ok(alias) => options = options.alias(alias),
                Err(error) => {
                    let reason = error.message().to_owned().into();
                    monitor.omit(name.as_bytes(), Omitted::Dropped { part: "name in the bundle".into(), reason });
                }
            }
        }
        if let Some(artifact) = artifact {
            let options = options.evidence(evidence(layout, &image, &artifact, limits, monitor)?);
            if let Some(fingerprint) = artifact.fingerprint
                && store.image(&fingerprint).is_ok()
            {
                // The bundle only claims the fingerprint: it need not hold the bytes, and must not publish what is private here.
                let options = options.expected_fingerprint(fingerprint).public(false);
                return Ok(Some(store.adopt(&fingerprint, &options, monitor)?.fingerprint));
            }
            let source = artifact.open(layout, monitor)?;
            return Ok(Some(store.import(source, &described(options, &artifact), monitor)?.fingerprint));
        }
        if !image.is_container() {
            let shown = name.cloned().unwrap_or_else(|| image.digest().to_string());
            let kind: String = image.manifest().artifact_type().unwrap_or("unknown").chars().take(100).collect();
            monitor.omit(shown, Omitted::Skipped { reason: format!("it is an artifact of the type `{kind}`").into() });
            return Ok(None);
        }
        omit_referrers(layout, &image.digest(), &[], ABOUT_CONTAINER, limits, monitor)?;
        let converting = container_options(name.map(String::as_str), importing.threads, limits);
        let container = ContainerImage::read(layout, &image, &converting, monitor)?;
        Ok(Some(import_container(&container, store, &options, monitor)?.fingerprint))
    }
}

/// All manifests of a layout that are to be imported: each once, with all of its names. Small documents can name many of them
/// many times, so the pairs of both are bounded as the manifests of one document are.
///
/// # Errors
/// `LimitExceeded`; those of the layout.
fn entries(layout: &Layout, limits: &Limits, monitor: &Monitor) -> Result<Vec<Entry>> {
    let mut found: Vec<Entry> = Vec::new();
    let mut places: BTreeMap<Digest, usize> = BTreeMap::new();
    let mut pairs = 0_u64;
    let mut add = |descriptor: &Descriptor, name: Option<&str>| -> Result<()> {
        pairs = pairs.saturating_add(1);
        if pairs > limits.oci_manifests {
            return Err(Error::limit("oci_manifests", limits.oci_manifests, "the number of names in a bundle"));
        }
        let at = *places.entry(descriptor.digest).or_insert_with(|| {
            found.push(Entry { descriptor: descriptor.clone(), names: BTreeSet::new() });
            found.len() - 1
        });
        if let Some(entry) = found.get_mut(at) {
            entry.names.extend(name.map(str::to_owned));
        }
        Ok(())
    };
    for entry in layout.entries().iter().filter(|entry| !Layout::lists_referrers(entry)) {
        let name = Layout::name_of(entry);
        let raw = layout.document(&Reference::Digest(entry.digest), limits, monitor)?;
        match Document::parse(&raw.bytes, Some(&entry.media_type), limits)? {
            // It comes with its subject, or is reported with all that have none here.
            Document::Manifest(manifest) if name.is_none() && manifest.subject.is_some() => {}
            Document::Manifest(_) => add(entry, name)?,
            Document::Index(index) if index.manifests.iter().all(|inner| inner.artifact_type.is_some()) => {
                index.manifests.iter().try_for_each(|inner| add(inner, name))?;
            }
            Document::Index(_) => {
                let image = Image::resolve(layout, entry, this_machine()?, limits, monitor)?;
                add(image.descriptor(), name)?;
            }
        }
    }
    Ok(found)
}
