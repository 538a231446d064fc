//! Check and repair: every blob hashed, catalog and files compared, leftovers named or put right.
//! Nothing is deleted that was not the store's own rubbish: what is damaged goes to quarantine.

use std::collections::BTreeSet;
use std::fmt;

use super::blobs::Area;
use super::image::StoredImage;
use super::layout;
use super::open::Store;
use super::settle::blob_error;
use super::sidecar::{MOST_BYTES, Sidecar};
use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::{Fingerprint, Hasher};
use crate::progress::{Monitor, Phase};

/// How a store is checked.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct CheckOptions {
    pub(crate) repair: bool,
    pub(crate) monitor: Monitor,
}

impl CheckOptions {
    /// Looks, and changes nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether what is found is put right.
    #[must_use]
    pub fn repair(mut self, yes: bool) -> Self {
        self.repair = yes;
        self
    }

    /// Reports progress and listens for cancellation.
    #[must_use]
    pub fn monitor(mut self, monitor: Monitor) -> Self {
        self.monitor = monitor;
        self
    }
}

/// Something that is not as it must be.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Finding {
    /// The catalog is damaged. [`Store::repair`] makes it anew.
    Catalog(String),
    /// An image's file is not there. Repairing removes the image, with these aliases.
    Missing(Fingerprint, Vec<String>),
    /// An image's bytes are not those of its fingerprint, for this reason. Repairing puts the
    /// files aside and removes the image, with these aliases.
    Damaged(Fingerprint, String, Vec<String>),
    /// An image's files can't be opened or read, for this reason. That may pass (too many open files)
    /// or not (a dying disk): repairing leaves the image where it is.
    Unreadable(Fingerprint, String),
    /// Files of an image that the catalog does not know. Repairing takes the image in again, or
    /// puts the files aside when they are no image.
    Unlisted(Fingerprint),
    /// An image's sidecar is missing or says something else than the catalog. Repairing writes it.
    Sidecar(Fingerprint),
    /// A file that no store makes. Repairing puts it aside.
    Stray(String),
    /// What could not be brought back when the catalog was made anew.
    Lost(String),
}

impl Finding {
    /// Whether bytes differ from what they must be.
    #[must_use]
    pub fn is_mismatch(&self) -> bool {
        !matches!(self, Self::Lost(_))
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = |aliases: &[String]| match aliases {
            [] => String::new(),
            aliases => format!(" ({})", aliases.join(", ")),
        };
        match self {
            Self::Catalog(what) => write!(f, "the catalog is damaged: {what}"),
            Self::Missing(fingerprint, aliases) => {
                write!(f, "the image {fingerprint}{}: a file is missing", named(aliases))
            }
            Self::Unreadable(fingerprint, why) => write!(f, "the image {fingerprint} can't be read: {why}"),
            Self::Damaged(fingerprint, why, aliases) => write!(f, "the image {fingerprint}{}: {why}", named(aliases)),
            Self::Unlisted(fingerprint) => {
                write!(f, "the image {fingerprint}: there are files, and the catalog does not know it")
            }
            Self::Sidecar(fingerprint) => write!(f, "the image {fingerprint}: its sidecar file is not up to date"),
            Self::Stray(name) => write!(f, "`{name}` is no file of a store"),
            Self::Lost(what) => f.write_str(what),
        }
    }
}

/// What a check found.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct CheckReport {
    /// Images in the catalog.
    pub images: u64,
    /// Bytes that were hashed.
    pub bytes: u64,
    /// Leftovers of processes that are gone, swept on the way.
    pub swept: usize,
    /// What was not as it must be; put right, where repair was asked for.
    pub findings: Vec<Finding>,
}

impl CheckReport {
    /// Whether all is as it must be.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }
}

impl Store {
    /// Hashes every image, compares catalog and files, and sweeps leftovers. With repair, puts right
    /// what it finds, but for a damaged catalog: that is [`Store::repair`]'s.
    ///
    /// # Errors
    /// `Malformed` when the blobs are not those of this store, `Cancelled`, `Busy`, `Io`.
    pub fn check(&self, options: &CheckOptions) -> Result<CheckReport> {
        self.blobs.present()?;
        let mut report = CheckReport::default();
        report.findings.extend(self.catalog.check()?.into_iter().map(Finding::Catalog));
        if !report.findings.is_empty() {
            // What a damaged catalog says of images is nothing to act on.
            return Ok(report);
        }
        if options.repair {
            report.swept = self.sweep()?;
        }
        let images = self.catalog.images()?;
        report.images = images.len() as u64;
        let total = images.iter().map(|image| image.size).sum();
        let mut findings = Vec::new();
        for image in &images {
            options.monitor.report(Phase::Verify, report.bytes, Some(total))?;
            match self.check_image(image, total, &mut report.bytes, &options.monitor)? {
                Some(finding) if self.is_still_so(image)? => findings.push(finding),
                Some(_) => {}
                None if !self.sidecar_agrees(image)? => findings.push(Finding::Sidecar(image.fingerprint)),
                None => {}
            }
        }
        let known: BTreeSet<Fingerprint> = images.iter().map(|image| image.fingerprint).collect();
        let mut unlisted = BTreeSet::new();
        for name in self.blobs.names(Area::Blobs).map_err(blob_error)? {
            match layout::named_image(&name).filter(|found| is_ours(&name, found)) {
                Some(found) if known.contains(&found) => {}
                Some(found) => {
                    if unlisted.insert(found) && self.is_unlisted(&found)? {
                        findings.push(Finding::Unlisted(found));
                    }
                }
                None => findings.push(Finding::Stray(name)),
            }
        }
        if options.repair {
            for finding in &findings {
                self.put_right(finding, options)?;
            }
            let _ = self.settle();
        }
        report.findings.extend(findings);
        Ok(report)
    }

    /// Whether an image that was found damaged is, now: one that was deleted, or made anew meanwhile, is not.
    fn is_still_so(&self, image: &StoredImage) -> Result<bool> {
        Ok(match self.catalog.image(&image.fingerprint)? {
            Some(now) => self.check_image(&now, now.size, &mut 0, &Monitor::none())?.is_some(),
            None => false,
        })
    }

    /// Looks at one image's files; nothing when they are well.
    fn check_image(
        &self,
        image: &StoredImage,
        total: u64,
        done: &mut u64,
        monitor: &Monitor,
    ) -> Result<Option<Finding>> {
        let aliases = || image.aliases.iter().map(|alias| alias.name.clone()).collect();
        let opened = match self.open_files(image.clone()) {
            Ok(Some(opened)) => opened,
            Ok(None) => return Ok(Some(Finding::Missing(image.fingerprint, aliases()))),
            Err(error) if error.kind() == ErrorKind::Mismatch => {
                return Ok(Some(Finding::Damaged(image.fingerprint, error.to_string(), aliases())));
            }
            Err(error) => return Ok(Some(Finding::Unreadable(image.fingerprint, error.to_string()))),
        };
        let mut hasher = Hasher::new();
        let (first, rootfs) = opened.files();
        for file in std::iter::once(first).chain(rootfs) {
            let read = hash(file, &mut hasher, &mut |hashed| {
                monitor.report(Phase::Verify, done.saturating_add(hashed), Some(total))
            });
            match read {
                Err(error) if error.kind() == ErrorKind::Io => {
                    return Ok(Some(Finding::Unreadable(image.fingerprint, error.to_string())));
                }
                done => done?,
            }
        }
        *done = done.saturating_add(hasher.bytes());
        let found = hasher.finish();
        if found == image.fingerprint {
            return Ok(None);
        }
        let why = Error::mismatch("the fingerprint", image.fingerprint.to_string(), found.to_string());
        Ok(Some(Finding::Damaged(image.fingerprint, why.to_string(), aliases())))
    }

    fn sidecar_agrees(&self, image: &StoredImage) -> Result<bool> {
        if self.read_sidecar(&image.fingerprint).is_ok_and(|sidecar| sidecar == Sidecar::of(image)) {
            return Ok(true);
        }
        // Somebody may have changed it since the list was made, and be writing the sidecar now.
        Ok(match self.catalog.image(&image.fingerprint)? {
            None => true,
            Some(now) => {
                now.revision != image.revision
                    || self.catalog.unsettled()?.contains(&image.fingerprint)
                    || self.read_sidecar(&image.fingerprint).is_ok_and(|sidecar| sidecar == Sidecar::of(&now))
            }
        })
    }

    pub(crate) fn read_sidecar(&self, fingerprint: &Fingerprint) -> Result<Sidecar> {
        use std::io::Read;
        let file = self.blobs.open(Area::Blobs, &layout::sidecar(fingerprint)).map_err(blob_error)?;
        let mut text = Vec::new();
        file.take(MOST_BYTES).read_to_end(&mut text).map_err(blob_error)?;
        Sidecar::parse(&text)
    }

    /// Whether files without a row are there to stay. An import or a removal that is going on has
    /// the write lock, or is noted in the catalog.
    fn is_unlisted(&self, fingerprint: &Fingerprint) -> Result<bool> {
        let here = || -> Result<bool> {
            let names = self.blobs.names(Area::Blobs).map_err(blob_error)?;
            Ok(names.iter().any(|name| layout::named_image(name) == Some(*fingerprint)))
        };
        let mut unlisted = false;
        let looked = self.catalog.write(&mut |catalog| {
            unlisted = catalog.image(fingerprint)?.is_none() && !catalog.unsettled()?.contains(fingerprint) && here()?;
            Ok(())
        });
        if looked.is_err() {
            // A store that can only be read has nobody who writes either.
            unlisted = self.catalog.image(fingerprint)?.is_none();
        }
        Ok(unlisted)
    }

    fn put_right(&self, finding: &Finding, options: &CheckOptions) -> Result<()> {
        match finding {
            Finding::Missing(fingerprint, _) | Finding::Damaged(fingerprint, ..) => {
                // Under the lock, for it may have been deleted and imported again since it was looked
                // at. The row goes first: a row without its files is the worse half.
                let mut removed = false;
                self.catalog.write_to_free(&mut |catalog| {
                    removed = match catalog.image(fingerprint)? {
                        // Nobody is told of progress while others wait for the lock.
                        Some(now) => self.check_image(&now, now.size, &mut 0, &Monitor::none())?.is_some(),
                        None => false,
                    };
                    if removed { catalog.remove(fingerprint) } else { Ok(()) }
                })?;
                if removed { self.quarantine_image(fingerprint) } else { Ok(()) }
            }
            Finding::Unlisted(fingerprint) => {
                let Ok(image) = self.read_again(fingerprint, &options.monitor) else {
                    return self.quarantine_image(fingerprint);
                };
                self.change(&mut |catalog| {
                    catalog.put(&image)?;
                    for alias in &image.aliases {
                        if catalog.alias(&alias.name)?.is_none() {
                            catalog.set_alias(alias, fingerprint)?;
                        }
                    }
                    catalog.set_unsettled(fingerprint, true)
                })
            }
            Finding::Sidecar(fingerprint) => self.change(&mut |catalog| catalog.set_unsettled(fingerprint, true)),
            Finding::Stray(name) => self.quarantine(name),
            Finding::Unreadable(..) | Finding::Catalog(_) | Finding::Lost(_) => Ok(()),
        }
    }

    /// Puts the files aside that have an image's name, unless the catalog has come to know it.
    pub(crate) fn quarantine_image(&self, fingerprint: &Fingerprint) -> Result<()> {
        self.catalog.write(&mut |catalog| {
            if catalog.image(fingerprint)?.is_some() {
                return Ok(());
            }
            for name in [layout::blob(fingerprint), layout::rootfs(fingerprint), layout::sidecar(fingerprint)] {
                self.quarantine(&name)?;
            }
            Ok(())
        })
    }

    fn quarantine(&self, name: &str) -> Result<()> {
        match self.blobs.rename((Area::Blobs, name), (Area::Quarantine, name)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(blob_error(error)),
            _ => self.blobs.sync(Area::Quarantine).and_then(|()| self.blobs.sync(Area::Blobs)).map_err(blob_error),
        }
    }
}

fn is_ours(name: &str, fingerprint: &Fingerprint) -> bool {
    [layout::blob(fingerprint), layout::rootfs(fingerprint), layout::sidecar(fingerprint)]
        .iter()
        .any(|ours| ours == name)
}

/// Hashes a file from its start, whatever its position is.
fn hash(file: &std::fs::File, hasher: &mut Hasher, report: &mut dyn FnMut(u64) -> Result<()>) -> Result<()> {
    use std::os::unix::fs::FileExt;
    let mut buffer = vec![0; 256 << 10];
    let mut offset = 0;
    loop {
        match file.read_at(&mut buffer, offset) {
            Ok(0) => return Ok(()),
            Ok(count) => {
                hasher.update(&buffer[..count]);
                offset += count as u64;
                report(hasher.bytes())?;
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::io("the file can't be read", error)),
        }
    }
}
