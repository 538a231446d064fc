//! `bundle`: images with their names, and the statements about them, in one OCI layout, to be carried where no network leads.
//!
//! A bundle is a tar, or a directory if its name ends in a slash. The same images give the same bytes. Other tools read and
//! write it as well: `skopeo copy oci-archive:FILE:NAME docker://…` sends an image of it to a registry.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use lxd_image::format::ImageForm;
use lxd_image::oci::Tag;
use lxd_image::oci::{
    BlobSink, BlobSource, ContainerImage, ContainerOptions, Descriptor, Digest, Document, Image, ImageArtifact, Index,
    Layout, LayoutWriter, Reference, media_type, put_statements, to_json,
};
use lxd_image::remote::{CopyOptions, artifact_of};
use lxd_image::store::{Alias, ImportOptions, Store, StoredImage};
use lxd_image::{Architecture, Error, ErrorKind, Fingerprint, Monitor, Omitted, Result};

use crate::failure::Failure;
use crate::location::Location;
use crate::oci_layout::{evidence, omit_referrers};
use crate::options::Session;
use crate::policy::PolicyArgument;
use crate::registry;

/// Carry images in one file: an OCI layout
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Create(Create),
    Import(Import),
}

/// Write images with their aliases and the statements about them to a bundle
#[derive(Args)]
struct Create {
    /// The bundle: a new tar, or a new directory if it ends in a slash
    file: PathBuf,
    /// Images of the store or of a remote, by alias or fingerprint
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

/// Import all images of a bundle with their aliases and the statements about them
#[derive(Args)]
struct Import {
    /// The bundle, or any OCI layout: a tar or a directory
    file: PathBuf,
    /// Make the images public
    #[arg(long)]
    public: bool,
    /// Move aliases that exist already; an image that thereby loses its last alias is deleted, unless its property
    /// `keep` is `true`
    #[arg(long)]
    reuse: bool,
    #[command(flatten)]
    policy: PolicyArgument,
}

/// Runs the verb.
///
/// # Errors
/// Those of the verb.
pub(crate) fn run(arguments: &Arguments, session: &Session) -> Result<(), Failure> {
    match &arguments.verb {
        Verb::Create(create) => self::create(create, session),
        Verb::Import(import) => self::import(import, session),
    }
}

/// Writes a bundle, and prints the fingerprints of its images.
fn create(arguments: &Create, session: &Session) -> Result<(), Failure> {
    let (monitor, shown) = session.monitor();
    let write = || {
        let mut images: BTreeMap<Fingerprint, (Store, StoredImage)> = BTreeMap::new();
        for name in &arguments.images {
            let (store, image) = find(name, session, &monitor)?;
            images.insert(image.fingerprint, (store, image));
        }
        let mut layout = if arguments.file.as_os_str().as_bytes().ends_with(b"/") {
            LayoutWriter::directory(&arguments.file, &monitor)?
        } else {
            LayoutWriter::tar(&arguments.file, &monitor)?
        };
        // A container and a virtual machine may have one alias, and images for several machines one name.
        let mut by_name: BTreeMap<String, Vec<Descriptor>> = BTreeMap::new();
        for (fingerprint, (store, image)) in &images {
            let entry = artifact_of(&store.open_image(fingerprint)?).write(&mut layout, &monitor)?;
            put_statements(&mut layout, &entry, &store.statements(fingerprint)?, &monitor)?;
            if store.vouched(fingerprint)?.list.is_some() {
                let part = "who signed the list that named it".into();
                let reason = "that can't be verified without the list".into();
                monitor.omit(fingerprint.to_string(), Omitted::Dropped { part, reason });
            }
            let is_list = |name: &str| name.parse::<Tag>().is_ok_and(|tag| tag.is_about_manifest());
            let (lists, names): (Vec<String>, Vec<String>) =
                image.aliases.iter().map(|alias| alias.name.clone()).partition(|name| is_list(name));
            for name in lists {
                let part = format!("alias `{name}`").into();
                let reason = registry::ABOUT_MANIFEST.into();
                monitor.omit(fingerprint.to_string(), Omitted::Dropped { part, reason });
            }
            let names = if names.is_empty() { vec![fingerprint.to_string()] } else { names };
            for name in names {
                by_name.entry(name).or_default().push(entry.clone());
            }
        }
        for (name, mut entries) in by_name {
            let entry = match (entries.len(), entries.pop()) {
                (1, Some(only)) => only,
                (_, last) => {
                    entries.extend(last);
                    let bytes = to_json(&Index::new(entries))?;
                    let index = Descriptor::of(media_type::IMAGE_INDEX, &bytes);
                    layout.put_document(&index, &bytes, None, &monitor)?;
                    index
                }
            };
            layout.add_entry(entry, Some(&name));
        }
        layout.finish()?;
        Ok::<_, Error>(images.into_keys().collect::<Vec<_>>())
    };
    let written = write();
    drop(shown);
    print(&written?, session)
}

/// An image of the store, or of a remote from which it is fetched into the store as a cached image.
fn find(name: &str, session: &Session, monitor: &Monitor) -> Result<(Store, StoredImage)> {
    match Location::of(name) {
        Location::Local(reference) => {
            let store = session.store_to_read()?;
            let image = store.resolve(reference)?;
            Ok((store, image))
        }
        Location::Remote(remote, reference) => {
            let remote = session.remote(remote)?;
            let store = session.store()?;
            let mut image = store.get_or_fetch(&*remote, reference, &CopyOptions::new(), monitor)?;
            if image.aliases.is_empty() {
                // The name under which it was asked for; a cached image has none in the store.
                image.aliases.extend(Alias::new(reference).ok());
            }
            Ok((store, image))
        }
    }
}

/// Why what refers to a container image is left out.
const ABOUT_CONTAINER: &str = "the image that is made of a container image has another fingerprint";

/// What a layout has under one digest, and its names.
struct Entry {
    descriptor: Descriptor,
    names: BTreeSet<String>,
}

/// Imports a bundle, and prints the fingerprints of its images.
fn import(arguments: &Import, session: &Session) -> Result<(), Failure> {
    arguments.policy.apply(session);
    let (monitor, shown) = session.monitor();
    let read = || {
        let layout = Layout::open(&arguments.file, &session.limits, &monitor)?;
        let entries = entries(&layout, session, &monitor)?;
        if entries.is_empty() {
            return Err(Error::new(ErrorKind::NotFound, "the bundle has no image").with_hint("it is an empty layout"));
        }
        let store = session.store()?;
        let mut imported = Vec::new();
        for entry in &entries {
            imported.extend(import_entry(&layout, entry, arguments, &store, session, &monitor)?);
        }
        let images: Vec<Digest> = entries.iter().map(|entry| entry.descriptor.digest).collect();
        for tag in layout.referrers_of_others(&images, &session.limits, &monitor)? {
            let reason = "the image that they are about was not imported from the bundle";
            monitor.omit(tag, Omitted::Skipped { reason: reason.into() });
        }
        Ok(imported)
    };
    let imported = read().map_err(|error| error.in_file(&arguments.file));
    drop(shown);
    print(&imported?, session)
}

/// All manifests of a layout that are to be imported: each once, with all of its names. Of an index of container images
/// the one for this machine; of an index of LXD or Incus images all.
fn entries(layout: &Layout, session: &Session, monitor: &Monitor) -> Result<Vec<Entry>> {
    let mut found: Vec<Entry> = Vec::new();
    let mut add = |descriptor: &Descriptor, name: Option<&str>| {
        let at = found.iter().position(|entry| entry.descriptor.digest == descriptor.digest);
        let at = at.unwrap_or_else(|| {
            found.push(Entry { descriptor: descriptor.clone(), names: BTreeSet::new() });
            found.len() - 1
        });
        if let Some(entry) = found.get_mut(at) {
            entry.names.extend(name.map(str::to_owned));
        }
    };
    for entry in layout.entries().iter().filter(|entry| !Layout::lists_referrers(entry)) {
        let name = Layout::name_of(entry);
        let raw = layout.document(&Reference::Digest(entry.digest), &session.limits, monitor)?;
        match Document::parse(&raw.bytes, Some(&entry.media_type), &session.limits)? {
            // It comes with its subject, or is reported with all that have none here.
            Document::Manifest(manifest) if name.is_none() && manifest.subject.is_some() => {}
            Document::Manifest(_) => add(entry, name),
            Document::Index(index) if index.manifests.iter().all(|inner| inner.artifact_type.is_some()) => {
                index.manifests.iter().for_each(|inner| add(inner, name));
            }
            Document::Index(_) => {
                let architecture = this_machine()?;
                let image = Image::resolve(layout, entry, architecture, &session.limits, monitor)?;
                add(image.descriptor(), name);
            }
        }
    }
    Ok(found)
}

/// Imports one manifest; `None` for an artifact that is no image, which is reported.
fn import_entry(
    layout: &Layout,
    entry: &Entry,
    arguments: &Import,
    store: &Store,
    session: &Session,
    monitor: &Monitor,
) -> Result<Option<Fingerprint>> {
    let image = Image::resolve(layout, &entry.descriptor, this_machine()?, &session.limits, monitor)?;
    let name = entry.names.iter().next();
    let mut options = ImportOptions::new()
        .add_aliases_to_existing(true)
        .public(arguments.public)
        .reuse_aliases(arguments.reuse)
        .replace_images(arguments.reuse);
    let fingerprint_text = |artifact: &Option<ImageArtifact>| {
        artifact.as_ref().and_then(|artifact| artifact.fingerprint).map(|fingerprint| fingerprint.to_string())
    };
    let artifact = ImageArtifact::of(image.manifest())?;
    let own = fingerprint_text(&artifact);
    for name in entry.names.iter().filter(|name| Some(*name) != own.as_ref()) {
        match Alias::new(&**name) {
            Ok(alias) => options = options.alias(alias),
            Err(error) => {
                let reason = error.message().to_owned();
                monitor.omit(
                    name.as_bytes(),
                    Omitted::Dropped { part: "name in the bundle".into(), reason: reason.into() },
                );
            }
        }
    }
    if let Some(artifact) = artifact {
        options = options.evidence(evidence(layout, &image, &artifact, session, monitor)?);
        if let Some(fingerprint) = artifact.fingerprint {
            options = options.expected_fingerprint(fingerprint);
            if store.image(&fingerprint).is_ok() {
                return Ok(Some(store.adopt(&fingerprint, &options, monitor)?.fingerprint));
            }
        }
        let options = options.source_properties(artifact.properties.clone()).image_type(artifact.image_type);
        let imported = store.import(artifact.open(layout, monitor)?, &options, monitor)?;
        return Ok(Some(imported.fingerprint));
    }
    if !image.is_container() {
        let shown = name.cloned().unwrap_or_else(|| image.digest().to_string());
        let kind: String = image.manifest().artifact_type().unwrap_or("unknown").chars().take(100).collect();
        monitor.omit(shown, Omitted::Skipped { reason: format!("it is an artifact of the type `{kind}`").into() });
        return Ok(None);
    }
    omit_referrers(layout, &image.digest(), &[], ABOUT_CONTAINER, session, monitor)?;
    let mut converting = ContainerOptions::new().form(ImageForm::Unified).limits(session.limits.clone());
    if let Some(name) = name {
        converting = converting.name(name);
    }
    if let Some(threads) = session.threads {
        converting = converting.threads(threads);
    }
    let container = ContainerImage::read(layout, &image, &converting, monitor)?;
    let (stored, _) = store.import_encoded(&options, monitor, |sink| container.write_to(sink, monitor))?;
    Ok(Some(stored.fingerprint))
}

fn this_machine() -> Result<Architecture> {
    Architecture::of_this_machine()
        .ok_or_else(|| Error::new(ErrorKind::InvalidInput, "this machine's architecture is not known"))
}

/// Prints the fingerprints, one a line.
fn print(fingerprints: &[Fingerprint], session: &Session) -> Result<(), Failure> {
    for fingerprint in fingerprints {
        session.print_fingerprint(fingerprint)?;
    }
    Ok(())
}
