//! Checks a store: hashes every image, compares rows with objects, and reports what is damaged, missing or left over.
//!
//! `repair.rs` acts on the findings. Nothing that could be somebody's image is ever deleted:
//! damaged files are archived (moved to the directory `quarantine`, in a directory store).

use std::fmt;

use super::blobs::BlobKey;
use super::catalog::ImageQuery;
use super::examine::Evidence;
use super::image::StoredImage;
use super::objects::{Listed, Upload};
use super::open::Store;
use super::reconcile::dead_at_once;
use crate::error::Result;
use crate::fingerprint::Fingerprint;
use crate::progress::{Monitor, Phase};

/// How often a row is read again that changes while it is compared with its sidecar.
const MAX_ATTEMPTS: usize = 3;

/// How [`Store::check`] and [`Store::repair`] work.
///
/// ```
/// use lxd_image::Monitor;
/// use lxd_image::store::{CheckOptions, Store};
///
/// let store = Store::in_memory()?;
/// let report = store.check(&CheckOptions::new(), &Monitor::none())?;
/// assert!(report.is_clean());
/// for finding in &report.findings {
///     println!("{finding}");
/// }
/// # Ok::<(), lxd_image::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct CheckOptions {
    pub(crate) repair: bool,
}

impl CheckOptions {
    /// Only looks, and changes nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether findings are repaired. Each is described at its variant of [`Finding`].
    #[must_use]
    pub fn repair(mut self, yes: bool) -> Self {
        self.repair = yes;
        self
    }
}

/// A problem that a check found. `Display` gives it as one sentence; the aliases help people to recognise the image.
///
/// Each variant says what a repair does about it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Finding {
    /// The catalog is damaged. [`Store::repair`] rebuilds it from the images and their sidecars.
    Catalog {
        /// What is wrong, in one sentence.
        message: String,
    },
    /// A file of an image is missing. A repair removes the image and its aliases.
    Missing {
        /// The image.
        fingerprint: Fingerprint,
        /// The names of its aliases.
        aliases: Vec<String>,
    },
    /// The bytes of an image do not match its fingerprint, or are no image. A repair archives the
    /// files and removes the image and its aliases.
    Damaged {
        /// The image.
        fingerprint: Fingerprint,
        /// What differs, as a clause.
        reason: String,
        /// The names of its aliases.
        aliases: Vec<String>,
    },
    /// The files of an image cannot be opened or read, and it is not known that their bytes are wrong.
    ///
    /// The cause may be temporary (too many open files, a limit, a codec that is compiled out) or
    /// not (a failing disk). A repair leaves the files where they are; if the image has no row, a
    /// later repair can list it.
    Unreadable {
        /// The image.
        fingerprint: Fingerprint,
        /// The error of opening or reading the files.
        reason: String,
    },
    /// The files of an image are intact, but the catalog has other sizes. A repair corrects the catalog.
    Row {
        /// The image.
        fingerprint: Fingerprint,
    },
    /// There are files of an image that has no row. A repair verifies them and adds the row; if
    /// they are not that image, they become [`Damaged`](Self::Damaged).
    Unlisted {
        /// The image that the files are named after.
        fingerprint: Fingerprint,
    },
    /// The sidecar of an image is missing or differs from its row. A repair writes it again.
    Sidecar {
        /// The image.
        fingerprint: Fingerprint,
    },
    /// A file among the blobs that the store did not create. A repair archives it.
    Stray {
        /// The name of the file.
        name: String,
    },
    /// Something that could not be recovered when the catalog was rebuilt, such as an alias that two images claim.
    Lost {
        /// What was lost, in one sentence.
        message: String,
    },
}

impl Finding {
    /// The image that the finding is about; `None` for findings that are about no single image.
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

    /// Whether it is a problem of the store as it is. `false` only for [`Lost`](Self::Lost), which
    /// tells what a repair could not recover.
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

/// A finding that a repair left as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unrepaired {
    /// The problem that remains.
    pub finding: Finding,
    /// Why it remains, as a sentence.
    pub reason: String,
}

/// The result of [`Store::check`] and [`Store::repair`].
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct CheckReport {
    /// How many images the catalog has.
    pub images: u64,
    /// How many bytes were hashed.
    pub bytes: u64,
    /// How many staged files of dead processes were removed on the way. Only a repair sweeps.
    pub swept: usize,
    /// All problems, also those that a repair solved.
    pub findings: Vec<Finding>,
    /// The findings that a repair did not solve, each with the reason. Empty without a repair.
    pub unrepaired: Vec<Unrepaired>,
}

impl CheckReport {
    /// Whether nothing was found.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }
}

impl CheckReport {
    /// Marks all findings as unrepaired, if a repair was requested, because the catalog must be rebuilt first.
    ///
    /// What a damaged catalog says is no basis for deleting or moving anything.
    fn leave_to_rebuild(&mut self, repair: bool) {
        let reason = "only `lxd-image check --repair` rebuilds the catalog";
        let left = self.findings.iter().filter(|_| repair).cloned();
        self.unrepaired = left.map(|finding| Unrepaired { finding, reason: reason.to_owned() }).collect();
    }

    /// Adds a finding that cannot be repaired.
    pub(super) fn add_lost(&mut self, finding: Finding) {
        self.unrepaired.push(Unrepaired { finding: finding.clone(), reason: "it can't be recovered".to_owned() });
        self.findings.push(finding);
    }
}

/// The finding that the sidecar of a listed image was missing or unusable.
pub(super) fn lost_sidecar(fingerprint: &Fingerprint) -> Finding {
    Finding::Lost {
        message: format!(
            "the image {fingerprint}: its aliases, its visibility and edits of its properties could not be recovered"
        ),
    }
}

/// The finding that an alias in a sidecar points to another image now.
pub(super) fn lost_alias(alias: &str, fingerprint: &Fingerprint) -> Finding {
    Finding::Lost { message: format!("the image {fingerprint}: its alias `{alias}` is another image's now") }
}

impl Store {
    /// Hashes every image, compares rows with objects, and, with [`CheckOptions::repair`], repairs
    /// what it finds and sweeps leftovers.
    ///
    /// Takes as long as reading all images. Other processes may use the store meanwhile; they never
    /// wait longer than for one small transaction. A damaged catalog is reported and not repaired
    /// here: [`Store::repair`] does that, since it needs the store exclusively.
    ///
    /// # Errors
    /// `Malformed` if the blobs are not those of this store (for example because their file system
    /// is not mounted); `Cancelled`; `Busy`; `Io`. What is wrong with an image is a finding and not
    /// an error.
    pub fn check(&self, options: &CheckOptions, monitor: &Monitor) -> Result<CheckReport> {
        monitor.check()?;
        self.blobs.check_identity()?;
        let mut report = CheckReport::default();
        report.findings.extend(self.catalog.check(monitor)?.into_iter().map(|message| Finding::Catalog { message }));
        if !report.findings.is_empty() {
            // Rows of a damaged catalog are no basis for any repair.
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
            // Such a row may name any object, so it is unknown which objects are unlisted.
            report.findings = unreadable;
            report.findings.extend(problems.into_iter().map(|problem| problem.finding));
            report.leave_to_rebuild(options.repair);
            return Ok(report);
        }
        let mut lost_parts = 0;
        self.for_each_upload(monitor, &mut |listed| {
            match listed {
                // Without its note the upload can't go on: nothing of value is in the part.
                Listed::UploadPart(id, key) if options.repair => {
                    lost_parts += usize::from(self.forget(&dead_at_once(&key, &id))?);
                }
                listed => problems.extend(self.unlisted(listed, options.repair)?),
            }
            Ok(())
        })?;
        if lost_parts > 0 {
            report.swept += lost_parts;
            self.reconcile()?;
        }
        if options.repair {
            self.repair_all(problems, &mut report, monitor)?;
        } else {
            report.findings.extend(problems.into_iter().map(|problem| problem.finding));
        }
        Ok(report)
    }

    /// Whether the sidecar of an image says what its row says, or is about to be written.
    fn sidecar_agrees(&self, image: &StoredImage) -> Result<bool> {
        let agrees = |image: &StoredImage| -> Result<bool> {
            let Some(Ok(sidecar)) = image.objects.sidecar.as_ref().map(|key| self.read_sidecar(key)) else {
                return Ok(false);
            };
            Ok(sidecar.agrees_with(image, &self.catalog.attachments(&image.fingerprint)?))
        };
        if agrees(image)? {
            return Ok(true);
        }
        // Somebody may have changed it since it was listed, and be writing the sidecar now: the
        // note about it goes as the row names it. So a row that stays at its revision agrees at the
        // second look.
        let mut before = None;
        for _ in 0..MAX_ATTEMPTS {
            let Some(now) = self.catalog.image(&image.fingerprint)? else { return Ok(true) };
            let is_noted = self.catalog.object(&now.objects.image.sidecar(now.revision))?.is_some();
            if is_noted || agrees(&now)? {
                return Ok(true);
            }
            if before.replace(now.revision) == Some(now.revision) {
                return Ok(false);
            }
        }
        // It changes continuously, and each change writes a sidecar.
        Ok(true)
    }

    /// What is wrong with objects that no row names. Uploads and deletions in progress have notes,
    /// and are not reported. With `repair`, layers without a note are marked as dead.
    fn unlisted(&self, listed: Listed, repair: bool) -> Result<Vec<Problem>> {
        let upload = match listed {
            Listed::Stray(key) => return Ok(vec![Problem::of_strays(&key.to_string(), vec![key])]),
            Listed::UploadPart(id, key) => {
                let is_named = self.is_named(&id, &key)?;
                return Ok(if is_named { Vec::new() } else { vec![Problem::of_strays(&key.to_string(), vec![key])] });
            }
            // It is no damage: losing one costs a download, so nothing is lost with its note.
            Listed::Layer { digest, key } => {
                if repair {
                    self.forget(&self.dead(&key, &digest))?;
                }
                return Ok(Vec::new());
            }
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
        // The image has other objects: these are left over from an older catalog, or were copied by hand.
        Ok(unnamed.into_iter().map(|key| Problem::of_strays(&key.to_string(), vec![key])).collect())
    }
}

/// A finding with what a repair needs to act on it.
pub(super) struct Problem {
    pub(super) finding: Finding,
    /// The versions of the files that were examined. Without them, findings about bytes are not acted on.
    pub(super) evidence: Option<Evidence>,
    pub(super) subject: Subject,
}

/// The object of a finding.
pub(super) enum Subject {
    /// An image, with its row at the time of the check.
    Image(Box<StoredImage>),
    /// Objects of an image that has no row.
    Upload(Upload),
    /// Objects that belong to no image.
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
