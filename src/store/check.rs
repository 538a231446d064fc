//! Check: every blob hashed, catalog and files compared, leftovers named. `repair.rs` puts right what is found.
//! Nothing is deleted that was not the store's own rubbish: what is damaged goes to quarantine.

use std::fmt;

use super::blobs::BlobKey;
use super::catalog::ImageQuery;
use super::examine::Evidence;
use super::image::StoredImage;
use super::objects::{Listed, Upload};
use super::open::Store;
use crate::error::Result;
use crate::fingerprint::Fingerprint;
use crate::progress::{Monitor, Phase};

/// How often a row is looked at that somebody changes meanwhile.
const MAX_ATTEMPTS: usize = 3;

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
    Catalog {
        /// What is wrong, in one sentence.
        message: String,
    },
    /// An image's file is not there. Repairing removes the image, with these aliases.
    Missing {
        /// The image.
        fingerprint: Fingerprint,
        /// The names of its aliases.
        aliases: Vec<String>,
    },
    /// An image's bytes are not those of its fingerprint, for this reason. Repairing puts the
    /// files aside and removes the image, with these aliases.
    Damaged {
        /// The image.
        fingerprint: Fingerprint,
        /// What differs, as a clause.
        reason: String,
        /// The names of its aliases.
        aliases: Vec<String>,
    },
    /// An image's files can't be opened or read, for this reason, which is not known to lie in their bytes. It may pass (too
    /// many open files, a limit, a codec that is compiled out) or not (a dying disk): repairing leaves the files where they
    /// are, and where the catalog does not know the image, a later repair can take it in.
    Unreadable {
        /// The image.
        fingerprint: Fingerprint,
        /// The error of opening or reading the files.
        reason: String,
    },
    /// An image's files are whole, and the catalog has other sizes. Repairing corrects the catalog.
    Row {
        /// The image.
        fingerprint: Fingerprint,
    },
    /// Files of an image that the catalog does not know. Repairing takes the image in again; when they turn out not to be
    /// that image they are [`Damaged`](Self::Damaged), and put aside.
    Unlisted {
        /// The image that the files are named after.
        fingerprint: Fingerprint,
    },
    /// An image's sidecar is missing or says something else than the catalog. Repairing writes it.
    Sidecar {
        /// The image.
        fingerprint: Fingerprint,
    },
    /// A file that no store makes. Repairing puts it aside.
    Stray {
        /// The name of the file.
        name: String,
    },
    /// What could not be brought back when the catalog was made anew.
    Lost {
        /// What was lost, in one sentence.
        message: String,
    },
}

impl Finding {
    /// The image that it is about, if it is about a single one.
    #[must_use]
    pub const fn fingerprint(&self) -> Option<&Fingerprint> {
        match self {
            Self::Missing { fingerprint, .. }
            | Self::Damaged { fingerprint, .. }
            | Self::Unreadable { fingerprint, .. }
            | Self::Row { fingerprint }
            | Self::Unlisted { fingerprint }
            | Self::Sidecar { fingerprint } => Some(fingerprint),
            Self::Catalog { .. } | Self::Stray { .. } | Self::Lost { .. } => None,
        }
    }

    /// Whether bytes differ from what they must be.
    #[must_use]
    pub fn is_mismatch(&self) -> bool {
        !matches!(self, Self::Lost { .. })
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = |aliases: &[String]| match aliases {
            [] => String::new(),
            aliases => format!(" ({})", aliases.join(", ")),
        };
        match self {
            Self::Catalog { message } => write!(f, "the catalog is damaged: {message}"),
            Self::Missing { fingerprint, aliases } => {
                write!(f, "the image {fingerprint}{}: a file is missing", named(aliases))
            }
            Self::Unreadable { fingerprint, reason } => write!(f, "the image {fingerprint} can't be read: {reason}"),
            Self::Row { fingerprint } => {
                write!(f, "the image {fingerprint}: the catalog has other sizes than its files, which are whole")
            }
            Self::Damaged { fingerprint, reason, aliases } => {
                write!(f, "the image {fingerprint}{}: {reason}", named(aliases))
            }
            Self::Unlisted { fingerprint } => {
                write!(f, "the image {fingerprint}: there are files, and the catalog does not know it")
            }
            Self::Sidecar { fingerprint } => write!(f, "the image {fingerprint}: its sidecar file is not up to date"),
            Self::Stray { name } => write!(f, "`{name}` is no file of a store"),
            Self::Lost { message } => f.write_str(message),
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
    /// Says of all findings that they wait for a new catalog, where a repair was asked for.
    fn leave_to_rebuild(&mut self, repair: bool) {
        let reason = "only `lxd-image check --repair` makes the catalog anew";
        let left = self.findings.iter().filter(|_| repair).cloned();
        self.unrepaired = left.map(|finding| Unrepaired { finding, reason: reason.to_owned() }).collect();
    }

    /// Adds what can't be brought back.
    pub(super) fn add_lost(&mut self, finding: Finding) {
        self.unrepaired.push(Unrepaired { finding: finding.clone(), reason: "it can't be recovered".to_owned() });
        self.findings.push(finding);
    }
}

pub(super) fn lost_sidecar(fingerprint: &Fingerprint) -> Finding {
    Finding::Lost {
        message: format!(
            "the image {fingerprint}: its aliases, its visibility and edits of its properties could not be recovered"
        ),
    }
}

pub(super) fn lost_alias(alias: &str, fingerprint: &Fingerprint) -> Finding {
    Finding::Lost { message: format!("the image {fingerprint}: its alias `{alias}` is another image's now") }
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
        self.blobs.check_identity()?;
        let mut report = CheckReport::default();
        report.findings.extend(self.catalog.check(monitor)?.into_iter().map(|message| Finding::Catalog { message }));
        if !report.findings.is_empty() {
            // What a damaged catalog says of images is nothing to act on.
            report.leave_to_rebuild(options.repair);
            return Ok(report);
        }
        if options.repair {
            report.swept = self.sweep()?;
        }
        let mut problems: Vec<Problem> = Vec::new();
        let total = self.catalog.totals(&ImageQuery::new())?.bytes;
        let mut unreadable = Vec::new();
        let mut examine = |image: StoredImage| {
            monitor.report(Phase::Verify, report.bytes, Some(total))?;
            report.images += 1;
            match self.examine_stable(&image, total, &mut report.bytes, monitor)? {
                Some((finding, evidence)) => problems.push(Problem::of_image(image, finding, evidence)),
                None if !self.sidecar_agrees(&image)? => {
                    let finding = Finding::Sidecar { fingerprint: image.fingerprint };
                    problems.push(Problem::of_image(image, finding, None));
                }
                None => {}
            }
            Ok(())
        };
        self.for_each(&ImageQuery::new(), &mut examine, &mut |name, error| {
            let message = format!("the row of {name} can't be read: {}", error.message());
            unreadable.push(Finding::Catalog { message });
        })?;
        if !unreadable.is_empty() {
            // What such a row says of objects nobody knows: nothing else can be repaired before.
            report.findings = unreadable;
            report.findings.extend(problems.into_iter().map(|problem| problem.finding));
            report.leave_to_rebuild(options.repair);
            return Ok(report);
        }
        self.for_each_upload(monitor, &mut |listed| {
            problems.extend(self.unlisted(listed)?);
            Ok(())
        })?;
        if options.repair {
            self.repair_all(problems, options, &mut report)?;
        } else {
            report.findings.extend(problems.into_iter().map(|problem| problem.finding));
        }
        Ok(report)
    }

    /// Whether an image's sidecar says what its row does, or is about to.
    fn sidecar_agrees(&self, image: &StoredImage) -> Result<bool> {
        let agrees = |image: &StoredImage| {
            let key = image.objects.sidecar.as_ref();
            key.is_some_and(|key| self.read_sidecar(key).is_ok_and(|sidecar| sidecar.agrees_with(image)))
        };
        if agrees(image) {
            return Ok(true);
        }
        // Somebody may have changed it since it was listed, and be writing the sidecar now: the note about it goes as the row
        // names it. So a row that stays at its revision agrees at the second look.
        let mut before = None;
        for _ in 0..MAX_ATTEMPTS {
            let Some(now) = self.catalog.image(&image.fingerprint)? else { return Ok(true) };
            let is_noted = self.catalog.object(&now.objects.image.sidecar(now.revision))?.is_some();
            if is_noted || agrees(&now) {
                return Ok(true);
            }
            if before.replace(now.revision) == Some(now.revision) {
                return Ok(false);
            }
        }
        // It changes all the time, and whoever changes it writes its sidecar.
        Ok(true)
    }

    /// What is wrong with objects that no row names. An upload or a deletion that is going on has its notes in the catalog.
    fn unlisted(&self, listed: Listed) -> Result<Vec<Problem>> {
        let upload = match listed {
            Listed::Stray(key) => return Ok(vec![Problem::of_strays(&key.to_string(), vec![key])]),
            Listed::Upload(upload) => upload,
        };
        let unnamed = self.unnamed(&upload)?;
        if unnamed.is_empty() {
            return Ok(Vec::new());
        }
        if self.catalog.image(&upload.fingerprint)?.is_none() {
            let finding = Finding::Unlisted { fingerprint: upload.fingerprint };
            return Ok(vec![Problem { finding, evidence: None, subject: Subject::Upload(upload) }]);
        }
        // The image is there with other objects: these are what an older catalog or a copy by hand left.
        Ok(unnamed.into_iter().map(|key| Problem::of_strays(&key.to_string(), vec![key])).collect())
    }
}

/// A finding, and what to act on.
pub(super) struct Problem {
    pub(super) finding: Finding,
    /// The files that it was made of; without them it cannot be acted on where that matters.
    pub(super) evidence: Option<Evidence>,
    pub(super) subject: Subject,
}

/// What a finding is about.
pub(super) enum Subject {
    /// An image as its row was.
    Image(Box<StoredImage>),
    /// Objects of an image that has no row.
    Upload(Upload),
    /// Objects that belong to nothing.
    Strays(Vec<BlobKey>),
}

impl Problem {
    fn of_image(image: StoredImage, finding: Finding, evidence: Option<Evidence>) -> Self {
        Self { finding, evidence, subject: Subject::Image(Box::new(image)) }
    }

    fn of_strays(name: &str, keys: Vec<BlobKey>) -> Self {
        Self { finding: Finding::Stray { name: name.to_owned() }, evidence: None, subject: Subject::Strays(keys) }
    }
}
