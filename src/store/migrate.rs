//! Copying all images of one store into another: from a directory to a bucket, and back.

use super::catalog::{ImageQuery, Transaction};
use super::image::{Alias, StoredImage};
use super::open::Store;
use super::reconcile::bump_revision;
use super::upload::Decision;
use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::Fingerprint;
use crate::omissions::Omitted;
use crate::progress::Monitor;

/// What [`Store::migrate_from`] did.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct MigrateReport {
    /// Images that were copied.
    pub copied: u64,
    /// Images that were in the target already, from an earlier call or otherwise.
    pub present: u64,
    /// Bytes of the images that were copied.
    pub bytes: u64,
    /// Images that could not be copied, by fingerprint, with the reason. They are in the source as before.
    pub failed: Vec<(String, Error)>,
}

impl Store {
    /// Copies all images of `source` into this store, with their properties, times, aliases and sources. Each image is
    /// read, hashed and verified; one that is damaged is reported and does not stop the others.
    ///
    /// A call that was interrupted is continued by the next one: images that are in this store are not copied again,
    /// and only get the aliases of the source that are free here. Nothing in `source` changes. Programs that change
    /// `source` at the same time are not followed: stop them before the last call.
    ///
    /// ```no_run
    /// use lxd_image::Monitor;
    /// use lxd_image::store::Store;
    ///
    /// # fn main() -> lxd_image::Result<()> {
    /// let (old, new) = (Store::open("/var/lib/lxd-image")?, Store::open("/etc/lxd-image/store.toml")?);
    /// let report = new.migrate_from(&old, &Monitor::none())?;
    /// println!("{} images, {} bytes", report.copied, report.bytes);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Cancelled`; `StorageFull`; those of reading the catalog of `source` and of writing to this store. What was
    /// copied until then stays.
    pub fn migrate_from(&self, source: &Self, monitor: &Monitor) -> Result<MigrateReport> {
        let mut report = MigrateReport::default();
        let mut unreadable = Vec::new();
        source.for_each(
            &ImageQuery::new(),
            &mut |image| {
                monitor.check()?;
                match self.migrate_image(source, &image, monitor) {
                    Ok(true) => {
                        report.copied = report.copied.saturating_add(1);
                        report.bytes = report.bytes.saturating_add(image.size);
                    }
                    Ok(false) => report.present = report.present.saturating_add(1),
                    // Of this image alone. Anything else would fail for the next one as well.
                    Err(error) if is_of_image(&error) => report.failed.push((image.fingerprint.to_string(), error)),
                    Err(error) => return Err(error),
                }
                Ok(())
            },
            &mut |name, error| unreadable.push((name.to_owned(), error.message().to_owned())),
        )?;
        let rows = unreadable.into_iter().map(|(name, message)| (name, Error::malformed(message)));
        report.failed.extend(rows);
        Ok(report)
    }

    /// Copies one image. Returns `false` if it is here already.
    fn migrate_image(&self, source: &Self, image: &StoredImage, monitor: &Monitor) -> Result<bool> {
        if let Some(there) = self.catalog.image(&image.fingerprint)? {
            let has = |alias: &Alias| there.aliases.iter().any(|own| own.name == alias.name);
            if !image.aliases.iter().all(has) {
                self.add_free_aliases(image, monitor)?;
            }
            return Ok(false);
        }
        let opened = match source.open_image(&image.fingerprint) {
            // Deleted since it was listed.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            opened => opened?,
        };
        let staged = self.stage(opened.source(), Some(&image.fingerprint), None, monitor)?;
        let attachments = source.catalog.attachments(&image.fingerprint)?;
        let mut dropped = Vec::new();
        self.upload(staged, monitor, &mut |catalog, objects| {
            dropped.clear();
            if let Some(there) = catalog.image(&image.fingerprint)? {
                return Ok(Decision::Known(there));
            }
            let mut copy = image.clone();
            copy.objects = objects.clone();
            catalog.insert(&copy)?;
            attachments.iter().try_for_each(|attachment| catalog.attach(&image.fingerprint, attachment))?;
            (copy.aliases, dropped) = take_free_aliases(catalog, image)?;
            Ok(Decision::New(copy))
        })?;
        report_dropped(&dropped, &image.fingerprint, monitor);
        Ok(true)
    }

    /// Gives an image that is here the aliases that it has in the source, as far as no other image has them.
    fn add_free_aliases(&self, image: &StoredImage, monitor: &Monitor) -> Result<()> {
        let mut dropped = Vec::new();
        self.change(&mut |catalog| {
            let taken;
            (taken, dropped) = take_free_aliases(catalog, image)?;
            if taken.is_empty() { Ok(()) } else { bump_revision(catalog, &image.fingerprint) }
        })?;
        report_dropped(&dropped, &image.fingerprint, monitor);
        Ok(())
    }
}

/// Points those aliases of `image` to it that no image has. Returns them, and the names of those that another image has.
fn take_free_aliases(catalog: &mut dyn Transaction, image: &StoredImage) -> Result<(Vec<Alias>, Vec<String>)> {
    let (mut taken, mut dropped) = (Vec::new(), Vec::new());
    for alias in &image.aliases {
        match catalog.alias(&alias.name, image.image_type)? {
            None => {
                catalog.set_alias(alias, &image.target())?;
                taken.push(alias.clone());
            }
            Some((_, target)) if target.fingerprint == image.fingerprint => {}
            Some(_) => dropped.push(alias.name.clone()),
        }
    }
    Ok((taken, dropped))
}

fn report_dropped(aliases: &[String], fingerprint: &Fingerprint, monitor: &Monitor) {
    for alias in aliases {
        let part = format!("alias `{alias}`").into();
        let reason = "another image has it in the target".into();
        monitor.omit(fingerprint.to_string(), Omitted::Dropped { part, reason });
    }
}

/// Whether an error is about the bytes of one image, and says nothing about the others.
fn is_of_image(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Malformed | ErrorKind::Mismatch | ErrorKind::LimitExceeded | ErrorKind::Unsupported
    )
}
