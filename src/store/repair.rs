//! Putting right what a check found: each finding in a transaction of its own, which is short, since nothing is read in it,
//! and which acts only while rows and files are still those that the finding was made of.

use std::io;

use super::blobs::Area;
use super::check::{CheckOptions, CheckReport, Finding, Unrepaired};
use super::examine::{Evidence, Examined};
use super::layout;
use super::open::Store;
use super::reread::Reread;
use super::settle::blob_error;
use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::Fingerprint;

/// Why nothing was done about a finding that is no longer true.
const CHANGED: &str = "it changed while it was looked at: check again";

/// What became of a finding.
enum Outcome {
    Repaired,
    Left(String),
}

impl Store {
    /// Puts right what can be, and adds all findings to the report. One that can't be does not keep others from it.
    ///
    /// # Errors
    /// `Cancelled`; what was put right before stays so.
    pub(super) fn repair_all(
        &self,
        found: Vec<Examined>,
        options: &CheckOptions,
        report: &mut CheckReport,
    ) -> Result<()> {
        for (finding, evidence) in found {
            options.monitor.check()?;
            let mut finding = finding;
            let outcome = match self.repair_finding(&mut finding, evidence, options, report) {
                Err(error) if error.kind() == ErrorKind::Cancelled => return Err(error),
                Err(error) => Outcome::Left(error.to_string()),
                Ok(outcome) => outcome,
            };
            if let Outcome::Left(reason) = outcome {
                report.unrepaired.push(Unrepaired { finding: finding.clone(), reason });
            }
            report.findings.push(finding);
        }
        if let Err(error) = self.settle() {
            let unsettled = self.catalog.unsettled().unwrap_or_default();
            let left = report
                .findings
                .iter()
                .filter(|finding| matches!(finding, Finding::Sidecar(fingerprint) if unsettled.contains(fingerprint)));
            report.unrepaired.extend(
                left.map(|finding| Unrepaired { finding: finding.clone(), reason: error.to_string() })
                    .collect::<Vec<_>>(),
            );
        }
        Ok(())
    }

    fn repair_finding(
        &self,
        finding: &mut Finding,
        evidence: Option<Evidence>,
        options: &CheckOptions,
        report: &mut CheckReport,
    ) -> Result<Outcome> {
        match (&*finding, evidence) {
            (Finding::Missing(fingerprint, _) | Finding::Damaged(fingerprint, ..), Some(evidence)) => {
                let (fingerprint, mut removed) = (*fingerprint, false);
                // The row goes first: a row without its files is the worse half.
                self.catalog.write_to_free(&mut |catalog| {
                    removed = catalog.image(&fingerprint)?.is_some() && self.is_still(&fingerprint, &evidence)?;
                    if removed { catalog.remove(&fingerprint) } else { Ok(()) }
                })?;
                if removed { self.quarantine_image(&fingerprint, &evidence) } else { Ok(changed()) }
            }
            (Finding::Row(fingerprint), Some(_)) | (Finding::Unlisted(fingerprint), _) => {
                let fingerprint = *fingerprint;
                match self.reread(&fingerprint, &options.monitor)? {
                    Reread::Unreadable(why) => {
                        *finding = Finding::Unreadable(fingerprint, why.clone());
                        Ok(Outcome::Left(why))
                    }
                    Reread::Damaged(why, evidence) => {
                        *finding = Finding::Damaged(fingerprint, why, Vec::new());
                        self.quarantine_image(&fingerprint, &evidence)
                    }
                    Reread::Image(image, lost, evidence) => {
                        self.list_image(&image, lost.is_some(), &evidence, finding, report)
                    }
                }
            }
            (Finding::Sidecar(fingerprint), _) => {
                let fingerprint = *fingerprint;
                // What can't be understood is kept for whoever can.
                let useless = self.read_sidecar(&fingerprint).is_err_and(|error| is_useless(&error));
                if useless {
                    self.catalog.write(&mut |_| self.quarantine(&[layout::sidecar(&fingerprint)]))?;
                }
                self.catalog.write(&mut |catalog| match catalog.image(&fingerprint)? {
                    Some(_) => catalog.set_unsettled(&fingerprint, true),
                    None => Ok(()),
                })?;
                Ok(Outcome::Repaired)
            }
            (Finding::Stray(name), _) => {
                self.catalog.write(&mut |_| self.quarantine(std::slice::from_ref(name)))?;
                Ok(Outcome::Repaired)
            }
            (Finding::Unreadable(_, why), _) => Ok(Outcome::Left(why.clone())),
            (Finding::Lost(_), _) => Ok(Outcome::Left("it can't be recovered".to_owned())),
            (finding, _) => Ok(Outcome::Left(finding.to_string())),
        }
    }

    /// Adds the row of an image that was read anew, or mends the sizes in the one that is there.
    fn list_image(
        &self,
        image: &super::image::StoredImage,
        lost: bool,
        evidence: &Evidence,
        finding: &Finding,
        report: &mut CheckReport,
    ) -> Result<Outcome> {
        let fingerprint = image.fingerprint;
        let unlisted = matches!(finding, Finding::Unlisted(_));
        let useless = unlisted && self.read_sidecar(&fingerprint).is_err_and(|error| is_useless(&error));
        let mut listed = false;
        self.catalog.write(&mut |catalog| {
            listed = false;
            if !self.is_still(&fingerprint, evidence)? {
                return Ok(());
            }
            if let Some(mut there) = catalog.image(&fingerprint)? {
                if unlisted {
                    return Ok(());
                }
                (there.size, there.rootfs_size, there.image_type) = (image.size, image.rootfs_size, image.image_type);
                listed = true;
                return catalog.put(&there);
            }
            if !unlisted {
                return Ok(());
            }
            if useless {
                self.quarantine(&[layout::sidecar(&fingerprint)])?;
            }
            catalog.put(image)?;
            for alias in &image.aliases {
                if catalog.alias(&alias.name)?.is_none() {
                    catalog.set_alias(alias, &fingerprint)?;
                }
            }
            listed = true;
            catalog.set_unsettled(&fingerprint, true)
        })?;
        if !listed {
            return Ok(changed());
        }
        if unlisted {
            let taken = |alias: &&super::image::Alias| {
                self.catalog.alias(&alias.name).is_ok_and(|found| found.is_some_and(|(_, of)| of != fingerprint))
            };
            for alias in image.aliases.iter().filter(taken) {
                report.lose(super::check::lost_alias(&alias.name, &fingerprint));
            }
            if lost {
                report.lose(super::check::lost_sidecar(&fingerprint));
            }
        }
        Ok(Outcome::Repaired)
    }

    fn is_still(&self, fingerprint: &Fingerprint, evidence: &Evidence) -> Result<bool> {
        Ok(self.evidence(fingerprint).map_err(blob_error)?.is_same(evidence))
    }

    /// Puts the files aside that have an image's name, as long as they are those that were looked at and no row knows them.
    fn quarantine_image(&self, fingerprint: &Fingerprint, evidence: &Evidence) -> Result<Outcome> {
        let mut moved = false;
        self.catalog.write(&mut |catalog| {
            moved = catalog.image(fingerprint)?.is_none() && self.is_still(fingerprint, evidence)?;
            if !moved {
                return Ok(());
            }
            self.quarantine(&[layout::blob(fingerprint), layout::rootfs(fingerprint), layout::sidecar(fingerprint)])
        })?;
        Ok(if moved { Outcome::Repaired } else { changed() })
    }

    /// Puts files aside that belong together, under names that nothing in quarantine has: what was put aside is kept.
    fn quarantine(&self, names: &[String]) -> Result<()> {
        let aside = |name: &str, number: u32| if number == 0 { name.to_owned() } else { format!("{name}.{number}") };
        let is_free = |name: &str| match self.blobs.open(Area::Quarantine, name) {
            Err(error) => error.kind() == io::ErrorKind::NotFound,
            Ok(_) => false,
        };
        let number = (0..u32::MAX).find(|&number| names.iter().all(|name| is_free(&aside(name, number))));
        let number = number.ok_or_else(|| Error::new(ErrorKind::Io, "the quarantine has no free name left"))?;
        for name in names {
            match self.blobs.rename((Area::Blobs, name), (Area::Quarantine, &aside(name, number))) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(blob_error(error)),
                _ => {}
            }
        }
        // Where they are comes before where they are not.
        self.blobs.sync(Area::Quarantine).and_then(|()| self.blobs.sync(Area::Blobs)).map_err(blob_error)
    }
}

fn is_useless(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Malformed | ErrorKind::Unsupported | ErrorKind::Mismatch)
}

fn changed() -> Outcome {
    Outcome::Left(CHANGED.to_owned())
}
