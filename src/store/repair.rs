//! Repairs what a check found.
//!
//! Each finding is repaired in a transaction of its own, which reads, hashes and moves nothing, and
//! which acts only if the row still names the objects that were examined. Objects are archived
//! after the row that named them is gone. So a repair may run while others use the store, and may
//! be cancelled between any two findings.

use super::blobs::BlobKey;
use super::catalog::Attachment;
use super::check::{CheckReport, Finding, Problem, Subject, Unrepaired};
use super::examine::Evidence;
use super::image::{Alias, ImageObjects, StoredImage};
use super::objects::Upload;
use super::open::Store;
use super::reconcile::note_sidecar;
use super::reread::{Reread, is_useless};
use crate::error::{ErrorKind, Result};
use crate::progress::Monitor;

/// The reason for leaving a finding that may no longer be true.
const CHANGED: &str = "it changed while it was looked at: check again";

/// The result of repairing one finding.
enum Outcome {
    /// The problem is solved.
    Repaired,
    /// The problem remains, for this reason.
    Unrepaired(String),
}

impl Store {
    /// Repairs each problem and adds all findings to the report. An error with one of them becomes
    /// its reason, and the others are repaired all the same.
    ///
    /// # Errors
    /// `Cancelled`. Repairs that were made before remain.
    pub(super) fn repair_all(&self, problems: Vec<Problem>, report: &mut CheckReport, monitor: &Monitor) -> Result<()> {
        for mut problem in problems {
            monitor.check()?;
            let outcome = match self.repair_problem(&mut problem, report, monitor) {
                Err(error) if error.kind() == ErrorKind::Cancelled => return Err(error),
                Err(error) => Outcome::Unrepaired(error.to_string()),
                Ok(outcome) => outcome,
            };
            if let Outcome::Unrepaired(reason) = outcome {
                report.unrepaired.push(Unrepaired { finding: problem.finding.clone(), reason });
            }
            report.findings.push(problem.finding);
        }
        if let Err(error) = self.reconcile() {
            let mut left = Vec::new();
            for finding in &report.findings {
                let Finding::Sidecar { fingerprint } = finding else { continue };
                let pending = self.catalog.image(fingerprint).ok().flatten().is_some_and(|image| {
                    let key = image.objects.image.sidecar(image.revision);
                    self.catalog.object(&key).is_ok_and(|note| note.is_some())
                });
                if pending {
                    left.push(Unrepaired { finding: finding.clone(), reason: error.to_string() });
                }
            }
            report.unrepaired.extend(left);
        }
        Ok(())
    }

    /// Repairs one problem. May replace the finding if the repair found out more, for example that
    /// unlisted files are damaged.
    fn repair_problem(&self, problem: &mut Problem, report: &mut CheckReport, monitor: &Monitor) -> Result<Outcome> {
        let Problem { finding, evidence, subject } = problem;
        match (&*finding, &*subject) {
            (Finding::Missing { .. } | Finding::Damaged { .. }, Subject::Image(image)) => {
                let Some(evidence) = evidence else { return Ok(changed()) };
                if !self.evidence(&image.objects)?.is_same(evidence) {
                    return Ok(changed());
                }
                // The check may have taken hours: the file system of the blobs may have been unmounted meanwhile.
                self.blobs.check_identity()?;
                let mut removed = None;
                // The row first: a row without objects is worse than objects without a row.
                self.catalog.write(&mut |catalog| {
                    removed = catalog.image(&image.fingerprint)?.filter(|there| there.objects == image.objects);
                    if removed.is_some() { catalog.remove(&image.fingerprint) } else { Ok(()) }
                })?;
                match removed {
                    Some(row) => self.archive(&row.objects.keys().cloned().collect::<Vec<_>>()),
                    None => Ok(changed()),
                }
            }
            (Finding::Row { .. }, Subject::Image(image)) => {
                match self.reread(&image.fingerprint, &image.objects, monitor)? {
                    Reread::Unreadable(why) => {
                        *finding = Finding::Unreadable { fingerprint: image.fingerprint, reason: why.clone() };
                        Ok(Outcome::Unrepaired(why))
                    }
                    Reread::Damaged(why, _) => Ok(Outcome::Unrepaired(why)),
                    Reread::Image(found, ..) => self.correct_sizes(image, &found),
                }
            }
            (Finding::Sidecar { .. }, Subject::Image(image)) => self.renew_sidecar(image),
            (Finding::Unlisted { .. }, Subject::Upload(upload)) => {
                let objects = if upload.has_image { upload.objects() } else { ImageObjects::default() };
                let reread = if upload.has_image {
                    self.reread(&upload.fingerprint, &objects, monitor)?
                } else {
                    Reread::Damaged("its file is missing".to_owned(), Evidence::default())
                };
                match reread {
                    Reread::Unreadable(why) => {
                        *finding = Finding::Unreadable { fingerprint: upload.fingerprint, reason: why.clone() };
                        Ok(Outcome::Unrepaired(why))
                    }
                    Reread::Damaged(why, evidence) => {
                        if upload.has_image && !self.evidence(&objects)?.is_same(&evidence) {
                            return Ok(changed());
                        }
                        if self.are_named(&upload.keys())? {
                            return Ok(changed());
                        }
                        let fingerprint = upload.fingerprint;
                        *finding = Finding::Damaged { fingerprint, reason: why, aliases: Vec::new() };
                        self.archive(&upload.keys())
                    }
                    Reread::Image(image, attachments, lost) => {
                        self.insert_row((&image, &attachments), lost.is_some(), upload, report)
                    }
                }
            }
            (Finding::Stray { .. }, Subject::Strays(keys)) => {
                // Another repair may have added the row of their image meanwhile.
                if self.are_named(keys)? { Ok(changed()) } else { self.archive(keys) }
            }
            (Finding::Unreadable { reason, .. }, _) => Ok(Outcome::Unrepaired(reason.clone())),
            (Finding::Lost { .. }, _) => Ok(Outcome::Unrepaired("it can't be recovered".to_owned())),
            (finding, _) => Ok(Outcome::Unrepaired(finding.to_string())),
        }
    }

    /// Writes the sizes that were read into the row of an image whose files are intact.
    fn correct_sizes(&self, image: &StoredImage, found: &StoredImage) -> Result<Outcome> {
        let mut done = false;
        self.catalog.write(&mut |catalog| {
            done = false;
            let Some(mut there) = catalog.image(&image.fingerprint)? else { return Ok(()) };
            done = there.objects.image == image.objects.image;
            if !done {
                return Ok(());
            }
            // Sidecars do not have sizes, so there is no new one to write: the revision stays.
            (there.size, there.rootfs_size) = (found.size, found.rootfs_size);
            catalog.update(&there, there.revision)
        })?;
        Ok(if done { Outcome::Repaired } else { changed() })
    }

    /// Notes that the sidecar must be written again. A sidecar that cannot be parsed is archived
    /// first, for people to look at.
    fn renew_sidecar(&self, image: &StoredImage) -> Result<Outcome> {
        if let Some(key) = &image.objects.sidecar
            && self.read_sidecar(key).is_err_and(|error| is_useless(&error) && error.kind() != ErrorKind::NotFound)
        {
            // A newer version may be able to read it.
            self.blobs.archive(std::slice::from_ref(key))?;
        }
        self.catalog.write(&mut |catalog| match catalog.image(&image.fingerprint)? {
            Some(row) => note_sidecar(catalog, &row),
            None => Ok(()),
        })?;
        Ok(Outcome::Repaired)
    }

    /// Adds the row of an unlisted image that was verified, with those of its aliases that no other image has.
    ///
    /// `lost` says that its sidecar was of no use.
    fn insert_row(
        &self,
        (image, attachments): (&StoredImage, &[Attachment]),
        lost: bool,
        upload: &Upload,
        report: &mut CheckReport,
    ) -> Result<Outcome> {
        let newest = upload.sidecars.last();
        if let Some((_, key)) = newest.filter(|_| image.objects.sidecar.is_none()) {
            // A newer version may be able to read it.
            self.blobs.archive(std::slice::from_ref(key))?;
        }
        let older = || upload.sidecars.iter().rev().skip(1).map(|(_, key)| key);
        let mut listed = false;
        let mut taken: Vec<Alias> = Vec::new();
        self.catalog.write(&mut |catalog| {
            (listed, taken) = (false, Vec::new());
            if catalog.image(&image.fingerprint)?.is_some() || catalog.object(&image.objects.image)?.is_some() {
                return Ok(());
            }
            let mut free = Vec::new();
            for alias in &image.aliases {
                let found = catalog.alias(&alias.name, image.image_type)?;
                if found.is_some() { taken.push(alias.clone()) } else { free.push(alias) }
            }
            let row = image;
            catalog.insert(row)?;
            free.into_iter().try_for_each(|alias| catalog.set_alias(alias, &row.target()))?;
            attachments.iter().try_for_each(|attachment| catalog.attach(&row.fingerprint, attachment))?;
            older().try_for_each(|key| catalog.put_object(&self.dead(key, &row.fingerprint)))?;
            listed = true;
            let renewed = row.objects.sidecar.is_none() || !taken.is_empty();
            if renewed { note_sidecar(catalog, row) } else { Ok(()) }
        })?;
        if !listed {
            return Ok(changed());
        }
        // Another repair may have listed the image earlier, and somebody may have deleted it since:
        // then its objects are gone.
        if self.present_files(&image.objects)?.iter().flatten().count() != image.objects.files() {
            self.catalog.write(&mut |catalog| match catalog.image(&image.fingerprint)? {
                Some(row) if row.objects == image.objects => catalog.remove(&image.fingerprint),
                _ => Ok(()),
            })?;
            return Ok(changed());
        }
        for alias in taken {
            report.add_lost(super::check::lost_alias(&alias.name, &image.fingerprint));
        }
        if lost {
            report.add_lost(super::check::lost_sidecar(&image.fingerprint));
        }
        Ok(Outcome::Repaired)
    }

    /// Whether a row or a note names one of these objects.
    fn are_named(&self, keys: &[BlobKey]) -> Result<bool> {
        for key in keys {
            // A foreign key cannot be in a catalog.
            if let Some((fingerprint, _)) = key.parse()
                && self.is_named(&fingerprint, key)?
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Archives objects that no row names any more.
    fn archive(&self, keys: &[BlobKey]) -> Result<Outcome> {
        self.blobs.archive(keys)?;
        Ok(Outcome::Repaired)
    }
}

/// The outcome for a finding that may no longer be true.
fn changed() -> Outcome {
    Outcome::Unrepaired(CHANGED.to_owned())
}
