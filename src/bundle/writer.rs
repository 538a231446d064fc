//! [`BundleWriter`]: images of stores with their aliases and statements, as an OCI layout.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::fingerprint::Fingerprint;
use crate::oci::{BlobSink, Descriptor, Index, LayoutWriter, Tag, media_type, put_statements, to_json};
use crate::omissions::Omitted;
use crate::progress::Monitor;
use crate::remote::artifact_of;
use crate::store::{Store, StoredImage};

/// Writes a bundle. It appears under its name when [`finish`](Self::finish) returns; dropping the writer leaves
/// nothing. The same images in the same order give the same bytes.
pub struct BundleWriter {
    layout: LayoutWriter,
    /// A container and a virtual machine may have one alias, and images for several machines one name.
    by_name: BTreeMap<String, Vec<Descriptor>>,
    /// Images that were added.
    added: BTreeSet<Fingerprint>,
    /// Whether an image could not be added, or a part of one was.
    failed: bool,
}

impl BundleWriter {
    /// Begins a bundle in a new tar.
    ///
    /// # Errors
    /// `AlreadyExists`; `Io`.
    pub fn tar(path: impl AsRef<Path>, monitor: &Monitor) -> Result<Self> {
        Ok(Self::new(LayoutWriter::tar(path, monitor)?))
    }

    /// Begins a bundle in a new directory.
    ///
    /// # Errors
    /// `AlreadyExists` for a directory that is not empty; `Io`.
    pub fn directory(path: impl AsRef<Path>, monitor: &Monitor) -> Result<Self> {
        Ok(Self::new(LayoutWriter::directory(path, monitor)?))
    }

    fn new(layout: LayoutWriter) -> Self {
        Self { layout, by_name: BTreeMap::new(), added: BTreeSet::new(), failed: false }
    }

    /// Adds an image of a store under the aliases that `image` has, or under its fingerprint where it has none, with
    /// the statements about it. One that was added before changes nothing.
    ///
    /// What a layout can't hold is an omission of the monitor: an alias that would name a list of referrers, and who
    /// signed the list of the image's server.
    ///
    /// # Errors
    /// `NotFound`; `Mismatch` where the bytes in the store are damaged; those of writing; `Cancelled`. The bundle can't be
    /// finished after an error.
    pub fn add(&mut self, store: &Store, image: &StoredImage, monitor: &Monitor) -> Result<()> {
        let fingerprint = &image.fingerprint;
        if self.failed {
            return Err(broken());
        }
        if !self.added.insert(*fingerprint) {
            return Ok(());
        }
        // Until all of it is written: a part of an image may be in the bundle already.
        self.failed = true;
        let entry = artifact_of(&store.open_image(fingerprint)?).write(&mut self.layout, monitor)?;
        put_statements(&mut self.layout, &entry, &store.statements(fingerprint)?, monitor)?;
        if store.vouched(fingerprint)?.list.is_some() {
            let part = "who signed the list that named it".into();
            let reason = "that can't be verified without the list".into();
            monitor.omit(fingerprint.to_string(), Omitted::Dropped { part, reason });
        }
        image.omit_other(monitor, "a layout has no place for it");
        let is_list = |name: &str| name.parse::<Tag>().is_ok_and(|tag| tag.is_about_manifest());
        let (lists, names): (Vec<String>, Vec<String>) =
            image.aliases.iter().map(|alias| alias.name.clone()).partition(|name| is_list(name));
        for name in lists {
            let part = format!("alias `{name}`").into();
            let reason = "a tag of this form lists what refers to another manifest".into();
            monitor.omit(fingerprint.to_string(), Omitted::Dropped { part, reason });
        }
        let names = if names.is_empty() { vec![fingerprint.to_string()] } else { names };
        for name in names {
            self.by_name.entry(name).or_default().push(entry.clone());
        }
        self.failed = false;
        Ok(())
    }

    /// Writes the index and gives the bundle its name.
    ///
    /// # Errors
    /// `InvalidInput` without an image, and after an image that could not be added; `AlreadyExists` where the name was taken meanwhile; those of writing. Nothing
    /// is left then.
    pub fn finish(mut self, monitor: &Monitor) -> Result<PathBuf> {
        if self.failed {
            return Err(broken());
        }
        if self.added.is_empty() {
            return Err(Error::invalid("a bundle has at least one image"));
        }
        for (name, mut entries) in std::mem::take(&mut self.by_name) {
            let entry = match (entries.len(), entries.pop()) {
                (1, Some(only)) => only,
                (_, last) => {
                    entries.extend(last);
                    let bytes = to_json(&Index::new(entries))?;
                    let index = Descriptor::of(media_type::IMAGE_INDEX, &bytes);
                    self.layout.put_document(&index, &bytes, None, monitor)?;
                    index
                }
            };
            self.layout.add_entry(entry, Some(&name));
        }
        self.layout.finish()
    }
}

/// The error of a bundle that lacks an image, or has a part of one.
fn broken() -> Error {
    Error::invalid("an image could not be added to the bundle").with_hint("begin another one")
}
