//! Making a catalog anew from images and their sidecars, when the old one is damaged or gone.
//! The old files are kept aside, and what could not be brought back is said.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::blobs::{Area, DirectoryBlobs};
use super::catalog::SqliteCatalog;
use super::check::{CheckOptions, CheckReport, Finding};
use super::image::StoredImage;
use super::layout::{self, Marker};
use super::open::{Store, StoreOptions};
use super::settle::blob_error;
use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::Fingerprint;
use crate::format::{Image, ImageType, Input, Source};
use crate::metadata::Properties;
use crate::progress::Monitor;

impl Store {
    /// Checks the store at `path` and puts right what is wrong, the catalog included: one that is
    /// damaged or missing is made anew from the images. No other process may use the store
    /// meanwhile.
    ///
    /// # Errors
    /// `NotFound` without a store, `Malformed` when the blobs are not those of this store,
    /// `Unsupported` for a newer layout, `Cancelled`, `Io`.
    pub fn repair(path: impl AsRef<Path>, options: &StoreOptions, how: &CheckOptions) -> Result<CheckReport> {
        let path = path.as_ref();
        let how = how.clone().repair(true);
        let looked = options.clone().create(false).open(path).and_then(|store| store.check(&how));
        let damage = match looked {
            Ok(report) => {
                if !report.findings.iter().any(|finding| matches!(finding, Finding::Catalog(_))) {
                    return Ok(report);
                }
                report.findings
            }
            Err(error) if error.kind() == ErrorKind::Malformed => vec![Finding::Catalog(error.to_string())],
            Err(error) => return Err(error),
        };
        let marker = Marker::read(path)?
            .ok_or_else(|| Error::new(ErrorKind::NotFound, "there is no image store").in_file(path))?;
        let blobs = Arc::new(DirectoryBlobs::open(path, &marker.id)?);
        let catalog = layout::catalog(path);
        let fresh = path.join("catalog.sqlite.rebuilt");
        SqliteCatalog::create(&fresh, &marker.id)?;
        let mut lost = Vec::new();
        {
            let rows = SqliteCatalog::open(&fresh, &marker.id, Duration::ZERO, false)?;
            // Nothing is swept before the rows are there: without them all images are leftovers.
            let store = Store { blobs, catalog: Arc::new(rows), options: options.clone() };
            store.fill(&how.monitor, &mut lost)?;
        }
        put_aside(&catalog, options)?;
        for suffix in ["-wal", "-shm", "-reserve"] {
            // Closed, a database is one file.
            let _ = std::fs::remove_file(layout::beside(&fresh, suffix));
        }
        std::fs::rename(&fresh, &catalog)
            .and_then(|()| std::fs::File::open(path)?.sync_all())
            .map_err(|error| Error::io("the new catalog can't be put in place", error).in_file(&catalog))?;
        let mut report = options.clone().create(false).open(path)?.check(&how)?;
        report.findings.splice(0..0, damage.into_iter().chain(lost));
        Ok(report)
    }

    /// Adds a row for every image among the blobs.
    fn fill(&self, monitor: &Monitor, lost: &mut Vec<Finding>) -> Result<()> {
        let mut taken: BTreeMap<String, (u64, Fingerprint)> = BTreeMap::new();
        let mut images = Vec::new();
        for name in self.blobs.names(Area::Blobs).map_err(blob_error)? {
            let Ok(fingerprint) = name.parse::<Fingerprint>() else { continue };
            let image = match self.read_again(&fingerprint, monitor) {
                Ok(image) => image,
                Err(error) if error.kind() == ErrorKind::Cancelled => return Err(error),
                Err(error) => {
                    // Without a row the check that follows would find it and not know why.
                    self.quarantine_image(&fingerprint)?;
                    lost.push(Finding::Damaged(fingerprint, error.to_string(), Vec::new()));
                    continue;
                }
            };
            if self.read_sidecar(&fingerprint).is_err() {
                lost.push(Finding::Lost(format!(
                    "the image {fingerprint}: its aliases, its visibility and edits of its properties could not be recovered"
                )));
            }
            for alias in &image.aliases {
                // Of two that claim an alias, the one that changed more often had it last, most likely.
                let claim = (image.revision, fingerprint);
                let holder = taken.entry(alias.name.clone()).or_insert(claim);
                *holder = claim.max(*holder);
            }
            images.push(image);
        }
        self.catalog.write(&mut |catalog| {
            for image in &images {
                catalog.put(image)?;
                for alias in &image.aliases {
                    if taken.get(&alias.name).is_some_and(|(_, holder)| *holder == image.fingerprint) {
                        catalog.set_alias(alias, &image.fingerprint)?;
                    }
                }
                catalog.set_unsettled(&image.fingerprint, true)?;
            }
            Ok(())
        })?;
        self.settle()
    }

    /// An image as its files tell it, and its sidecar where there is one.
    ///
    /// # Errors
    /// `Mismatch` when the files are not that image, and those of verifying an image.
    pub(crate) fn read_again(&self, fingerprint: &Fingerprint, monitor: &Monitor) -> Result<StoredImage> {
        let open = |name: &str| self.blobs.open(Area::Blobs, name);
        let first = Input::file(open(&layout::blob(fingerprint)).map_err(blob_error)?)?;
        let rootfs = match open(&layout::rootfs(fingerprint)) {
            Ok(file) => Some(Input::file(file)?),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(blob_error(error)),
        };
        let rootfs_size = rootfs.as_ref().and_then(Input::len);
        let source = match rootfs {
            None => Source::unified(first),
            Some(rootfs) => Source::split(first, rootfs),
        };
        let verified = Image::open_with(source, &self.options.limits)?.verify(&self.options.verifying(monitor))?;
        if verified.fingerprint != *fingerprint {
            return Err(Error::mismatch("the fingerprint", fingerprint.to_string(), verified.fingerprint.to_string()));
        }
        let metadata = verified.metadata.ok_or_else(|| Error::malformed("the image has no metadata"))?;
        let mut image = StoredImage {
            fingerprint: *fingerprint,
            image_type: if verified.disk.is_some() { ImageType::VirtualMachine } else { ImageType::Container },
            architecture: metadata.architecture().parse()?,
            size: verified.size,
            rootfs_size,
            created_at: metadata.creation_date(),
            expires_at: metadata.expiry_date(),
            uploaded_at: self.now(),
            last_used_at: None,
            public: false,
            auto_update: false,
            cached: false,
            file_name: None,
            rootfs_name: None,
            source: None,
            properties: metadata.properties().clone(),
            original_properties: Properties::clone(metadata.properties()),
            revision: 1,
            aliases: Vec::new(),
        };
        if let Ok(sidecar) = self.read_sidecar(fingerprint) {
            let as_read = image.clone();
            if sidecar.restore(&mut image).is_err() {
                image = as_read;
            }
        }
        Ok(image)
    }
}

/// Renames the damaged catalog's files, so that whoever knows more can look at them.
fn put_aside(catalog: &Path, options: &StoreOptions) -> Result<()> {
    let stamp = options.now();
    for suffix in ["", "-wal", "-shm"] {
        let from = layout::beside(catalog, suffix);
        match std::fs::rename(&from, layout::beside(catalog, &format!(".damaged-{stamp}{suffix}"))) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io("the damaged catalog can't be put aside", error).in_file(from));
            }
            _ => {}
        }
    }
    Ok(())
}
