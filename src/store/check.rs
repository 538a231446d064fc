//! Check: every blob hashed, catalog and files compared, leftovers named. `repair.rs` puts right what is found.
//! Nothing is deleted that was not the store's own rubbish: what is damaged goes to quarantine.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::blobs::Area;
use super::examine::Examined;
use super::image::StoredImage;
use super::layout;
use super::open::Store;
use super::settle::blob_error;
use super::sidecar::Sidecar;
use crate::error::Result;
use crate::fingerprint::Fingerprint;
use crate::progress::{Monitor, Phase};

/// How many files without a row are looked up under one lock: others wait that long at most.
const AT_ONCE: usize = 64;

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
    /// An image's files can't be opened or read, for this reason, which is not known to lie in their bytes. It may pass (too
    /// many open files, a limit, a codec that is compiled out) or not (a dying disk): repairing leaves the files where they
    /// are, and where the catalog does not know the image, a later repair can take it in.
    Unreadable(Fingerprint, String),
    /// An image's files are whole, and the catalog has other sizes. Repairing corrects the catalog.
    Row(Fingerprint),
    /// Files of an image that the catalog does not know. Repairing takes the image in again; when they turn out not to be
    /// that image they are [`Damaged`](Self::Damaged), and put aside.
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
            Self::Row(fingerprint) => {
                write!(f, "the image {fingerprint}: the catalog has other sizes than its files, which are whole")
            }
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

/// A finding that a repair did not put right.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unrepaired {
    /// What is still not as it must be.
    pub finding: Finding,
    /// Why.
    pub reason: String,
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
    /// What was not as it must be. Where repair was asked for it is put right, but for what [`unrepaired`](Self::unrepaired) names.
    pub findings: Vec<Finding>,
    /// Those of the findings that a repair left as they are.
    pub unrepaired: Vec<Unrepaired>,
}

impl CheckReport {
    /// Whether all is as it must be.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }
}

impl CheckReport {
    /// Adds what can't be brought back.
    pub(super) fn lose(&mut self, finding: Finding) {
        self.unrepaired.push(Unrepaired { finding: finding.clone(), reason: "it can't be recovered".to_owned() });
        self.findings.push(finding);
    }
}

pub(super) fn lost_sidecar(fingerprint: &Fingerprint) -> Finding {
    Finding::Lost(format!(
        "the image {fingerprint}: its aliases, its visibility and edits of its properties could not be recovered"
    ))
}

pub(super) fn lost_alias(alias: &str, fingerprint: &Fingerprint) -> Finding {
    Finding::Lost(format!("the image {fingerprint}: its alias `{alias}` is another image's now"))
}

impl Store {
    /// Hashes every image, compares catalog and files, and sweeps leftovers. With repair, puts right
    /// what it finds, but for a damaged catalog: that is [`Store::repair`]'s. Others may use the store meanwhile, and wait
    /// for nothing that takes long.
    ///
    /// # Errors
    /// `Malformed` when the blobs are not those of this store, `Cancelled`, `Busy`, `Io`.
    pub fn check(&self, options: &CheckOptions) -> Result<CheckReport> {
        let monitor = &options.monitor;
        monitor.check()?;
        self.blobs.present()?;
        let mut report = CheckReport::default();
        report.findings.extend(self.catalog.check()?.into_iter().map(Finding::Catalog));
        if !report.findings.is_empty() {
            // What a damaged catalog says of images is nothing to act on.
            let reason = "only `lxd-image check --repair` makes the catalog anew";
            let left = report.findings.iter().filter(|_| options.repair).cloned();
            report.unrepaired = left.map(|finding| Unrepaired { finding, reason: reason.to_owned() }).collect();
            return Ok(report);
        }
        if options.repair {
            report.swept = self.sweep()?;
        }
        let images = self.catalog.images()?;
        report.images = images.len() as u64;
        let total = images.iter().map(|image| image.size).fold(0, u64::saturating_add);
        let mut found: Vec<Examined> = Vec::new();
        for image in &images {
            monitor.report(Phase::Verify, report.bytes, Some(total))?;
            match self.examine_settled(image, total, &mut report.bytes, monitor)? {
                Some(examined) => found.push(examined),
                None if !self.sidecar_agrees(image)? => found.push((Finding::Sidecar(image.fingerprint), None)),
                None => {}
            }
        }
        let known: BTreeSet<Fingerprint> = images.iter().map(|image| image.fingerprint).collect();
        let mut candidates: BTreeMap<Fingerprint, Vec<String>> = BTreeMap::new();
        for name in self.blobs.names(Area::Blobs).map_err(blob_error)? {
            match layout::named_image(&name).filter(|found| is_ours(&name, found)) {
                Some(found) if known.contains(&found) => {}
                Some(found) => candidates.entry(found).or_default().push(name),
                None => found.push((Finding::Stray(name), None)),
            }
        }
        let unlisted = self.unlisted(candidates, monitor)?;
        found.extend(unlisted.into_iter().map(|fingerprint| (Finding::Unlisted(fingerprint), None)));
        if options.repair {
            self.repair_all(found, options, &mut report)?;
        } else {
            report.findings.extend(found.into_iter().map(|(finding, _)| finding));
        }
        Ok(report)
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

    /// Those of the images, of which files were seen and no row, whose files are there to stay. An import or a removal that
    /// is going on has the write lock, or is noted in the catalog.
    fn unlisted(&self, candidates: BTreeMap<Fingerprint, Vec<String>>, monitor: &Monitor) -> Result<Vec<Fingerprint>> {
        let candidates: Vec<_> = candidates.into_iter().collect();
        let mut unlisted = Vec::new();
        if self.options.is_read_only() {
            // Who can only read has no lock to take, and nobody who writes, as a rule.
            for (fingerprint, _) in candidates {
                monitor.check()?;
                if self.catalog.image(&fingerprint)?.is_none() {
                    unlisted.push(fingerprint);
                }
            }
            return Ok(unlisted);
        }
        let here = |name: &String| match self.blobs.open(Area::Blobs, name) {
            Err(error) => error.kind() != std::io::ErrorKind::NotFound,
            Ok(_) => true,
        };
        for some in candidates.chunks(AT_ONCE) {
            monitor.check()?;
            let mut found = Vec::new();
            self.catalog.write(&mut |catalog| {
                found.clear();
                let unsettled: BTreeSet<Fingerprint> = catalog.unsettled()?.into_iter().collect();
                for (fingerprint, names) in some {
                    if catalog.image(fingerprint)?.is_none()
                        && !unsettled.contains(fingerprint)
                        && names.iter().any(here)
                    {
                        found.push(*fingerprint);
                    }
                }
                Ok(())
            })?;
            unlisted.append(&mut found);
        }
        Ok(unlisted)
    }
}

fn is_ours(name: &str, fingerprint: &Fingerprint) -> bool {
    [layout::blob(fingerprint), layout::rootfs(fingerprint), layout::sidecar(fingerprint)]
        .iter()
        .any(|ours| ours == name)
}
