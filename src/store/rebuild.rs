//! Rebuilds a damaged or missing catalog from the images and their sidecars.
//!
//! The old catalog stays in place until the new one is complete and on the disk; then it is renamed
//! to `catalog.sqlite.damaged-SECONDS`. The store is locked exclusively only while the catalog is
//! replaced.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use super::blobs::BlobKey;
use super::catalog::{Attachment, Catalog, SqliteCatalog};
use super::check::{CheckOptions, CheckReport, Finding, lost_alias, lost_sidecar};
use super::description::StoreDescription;
use super::image::StoredImage;
use super::layout::{self, Marker};
use super::lock::StoreLock;
use super::objects::Listed;
use super::open::{Store, StoreOptions, directory_parts, upgrade};
use super::reconcile::note_sidecar;
use super::reread::Reread;
use crate::atomic;
use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::Fingerprint;
use crate::format::ImageType;
use crate::progress::Monitor;

impl Store {
    /// Checks the store at `path` and repairs all findings, including a damaged or missing catalog,
    /// which is rebuilt from the images.
    ///
    /// Only rebuilding the catalog needs the store exclusively. In all other cases others may use
    /// it meanwhile, as with [`check`](Self::check).
    ///
    /// ```no_run
    /// use lxd_image::Monitor;
    /// use lxd_image::store::{CheckOptions, Store, StoreOptions};
    ///
    /// # fn main() -> lxd_image::Result<()> {
    /// let report = Store::repair("/var/lib/lxd-image", &StoreOptions::new(), &CheckOptions::new(), &Monitor::none())?;
    /// for unrepaired in &report.unrepaired {
    ///     println!("{}: {}", unrepaired.finding, unrepaired.reason);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `NotFound` without a store; `Malformed` if the blobs are not those of this store;
    /// `Unsupported` for a newer layout; `Busy` if the catalog must be rebuilt and another program,
    /// or another handle of this one, has the store open; `Cancelled`; `Io`. The catalog is
    /// unchanged then.
    pub fn repair(
        path: impl AsRef<Path>,
        options: &StoreOptions,
        how: &CheckOptions,
        monitor: &Monitor,
    ) -> Result<CheckReport> {
        let path = path.as_ref();
        let how = how.clone().repair(true);
        let options = options.clone().create(false).read_only(false);
        if StoreDescription::is_at(path) {
            return repair_described(path, &options, &how, monitor);
        }
        let marker = || -> Result<Marker> {
            Marker::read(path)?.ok_or_else(|| Error::new(ErrorKind::NotFound, "there is no image store").in_file(path))
        };
        if let Ok(report) = check_in_place(path, &marker()?, &options, &how, monitor)? {
            return Ok(report);
        }
        let lock = StoreLock::exclusive(path, options.wait(), monitor)?;
        // Another repair may have rebuilt the catalog while this one waited for the lock.
        let marker = marker()?;
        let catalog = layout::catalog(path);
        let shared = StoreLock::unlocked(path)?;
        if marker.layout < layout::VERSION && catalog.exists() {
            match SqliteCatalog::upgrade(&catalog, &marker.id) {
                Err(error) if error.kind() != ErrorKind::Malformed => return Err(error),
                _ => {}
            }
        }
        let damage = match SqliteCatalog::open(&catalog, &marker.id, (options.wait(), monitor.cancel()), false, shared)
        {
            Err(error) => Err(error),
            // A file that is intact for SQLite may have rows that are not.
            Ok(rows) => rows.check(monitor).and_then(|damage| {
                if damage.is_empty() {
                    every_row(&rows)?;
                }
                Ok(damage)
            }),
        };
        let damage: Vec<Finding> = match damage {
            Ok(damage) => damage.into_iter().map(|message| Finding::Catalog { message }).collect(),
            Err(error) if error.kind() == ErrorKind::Malformed => vec![Finding::Catalog { message: error.to_string() }],
            Err(error) => return Err(error),
        };
        let mut lost = Vec::new();
        if !damage.is_empty() {
            lost = replace_catalog(path, &marker, &options, monitor)?;
        }
        if marker.layout < layout::VERSION {
            marker.write(path)?;
        }
        drop(lock);
        // The catalog is intact from here on: others may use the store during the long check.
        let mut report = options.open_unswept(path, &marker)?.check(&how, monitor)?;
        let found = std::mem::take(&mut report.findings);
        report.findings = damage;
        lost.into_iter().for_each(|finding| report.add_lost(finding));
        report.findings.extend(found);
        Ok(report)
    }
}

/// Checks and repairs a store that a description names.
///
/// A catalog that is empty is rebuilt from the blobs. A catalog that is damaged is not replaced: it may be a database
/// that others administer, with backups of its own.
fn repair_described(path: &Path, options: &StoreOptions, how: &CheckOptions, monitor: &Monitor) -> Result<CheckReport> {
    let (store, rebuild) = StoreDescription::read(path)?.open_to_repair(options)?;
    let lost = if rebuild { store.rebuild_rows(monitor)?.lost } else { Vec::new() };
    let mut report = store.check(how, monitor)?;
    lost.into_iter().for_each(|finding| report.add_lost(finding));
    Ok(report)
}

/// Checks and repairs a store without locking it exclusively. The inner `Err` says that the catalog must be rebuilt.
fn check_in_place(
    path: &Path,
    marker: &Marker,
    options: &StoreOptions,
    how: &CheckOptions,
    monitor: &Monitor,
) -> Result<std::result::Result<CheckReport, ()>> {
    let opened = if marker.layout < layout::VERSION { upgrade(path, marker, options) } else { Ok(()) };
    match opened.and_then(|()| options.open_unswept(path, marker)).and_then(|store| store.check(how, monitor)) {
        Ok(report) if report.findings.iter().any(|finding| matches!(finding, Finding::Catalog { .. })) => Ok(Err(())),
        Ok(report) => Ok(Ok(report)),
        Err(error) if error.kind() == ErrorKind::Malformed => Ok(Err(())),
        Err(error) => Err(error),
    }
}

/// Builds a catalog from the blobs beside the old one, and puts it in its place. Returns what could not be recovered.
fn replace_catalog(path: &Path, marker: &Marker, options: &StoreOptions, monitor: &Monitor) -> Result<Vec<Finding>> {
    let (blobs, scratch) = directory_parts(path, &marker.id)?;
    let (catalog, fresh) = (layout::catalog(path), layout::rebuilt_catalog(path));
    let made = || -> Result<Vec<Finding>> {
        SqliteCatalog::create(&fresh, &marker.id)?;
        let wait = (Duration::ZERO, monitor.cancel());
        let rows = Arc::new(SqliteCatalog::open(&fresh, &marker.id, wait, false, StoreLock::unlocked(path)?)?);
        let store = Store { blobs, catalog: Arc::clone(&rows) as Arc<dyn Catalog>, scratch, options: options.clone() };
        let rebuilt = store.rebuild_rows(monitor)?;
        drop(store);
        let rows = Arc::into_inner(rows).ok_or_else(|| Error::new(ErrorKind::Io, "the new catalog is still in use"))?;
        rows.finish(rebuilt.images, rebuilt.aliases)?;
        for suffix in ["-wal", "-shm", "-reserve"] {
            // `finish` verified that the closed database is one file; these are empty.
            let _ = std::fs::remove_file(layout::beside(&fresh, suffix));
        }
        monitor.check()?;
        let aside = archive_damaged(&catalog, options)?;
        let placed = std::fs::rename(&fresh, &catalog).and_then(|()| atomic::sync_parent(&catalog));
        if let Err(error) = placed {
            restore(&aside);
            return Err(Error::io("the new catalog can't be put in place", error).in_file(&catalog));
        }
        Ok(rebuilt.lost)
    };
    made().inspect_err(|_| {
        for suffix in layout::CATALOG_SUFFIXES {
            let _ = std::fs::remove_file(layout::beside(&fresh, suffix));
        }
    })
}

/// Fails if a single row cannot be read.
fn every_row(rows: &SqliteCatalog) -> Result<()> {
    let mut query = super::catalog::ImageQuery::new();
    loop {
        let page = rows.images(&query)?;
        if let Some((_, error)) = page.skipped.into_iter().next() {
            return Err(error);
        }
        let Some(next) = page.next else { return Ok(()) };
        query = query.after(Some(next));
    }
}

/// What a rebuilt catalog holds.
struct Rebuilt {
    images: usize,
    aliases: usize,
    lost: Vec<Finding>,
}

/// For each alias that sidecars name, the image whose row changed most often, with its revision:
/// most likely it had the alias last.
type Claims = BTreeMap<(String, ImageType), (u64, Fingerprint)>;

impl Store {
    /// Adds a row for every image among the blobs that can be verified. The others stay in place:
    /// the check that follows finds them without a row and reports the reason.
    fn rebuild_rows(&self, monitor: &Monitor) -> Result<Rebuilt> {
        let mut claims = Claims::new();
        let mut images: Vec<StoredImage> = Vec::new();
        let mut texts: Vec<(Fingerprint, Vec<Attachment>)> = Vec::new();
        let mut superseded: Vec<(Fingerprint, BlobKey)> = Vec::new();
        let mut known: BTreeSet<Fingerprint> = BTreeSet::new();
        let mut lost = Vec::new();
        self.for_each_upload(monitor, &mut |listed| {
            let Listed::Upload(upload) = listed else { return Ok(()) };
            if !upload.has_image || known.contains(&upload.fingerprint) {
                return Ok(());
            }
            let fingerprint = upload.fingerprint;
            let Reread::Image(image, attachments, useless) = self.reread(&fingerprint, &upload.objects(), monitor)?
            else {
                return Ok(());
            };
            if useless.is_some() {
                lost.push(lost_sidecar(&fingerprint));
            }
            for alias in &image.aliases {
                let claim = (image.revision, fingerprint);
                let holder = claims.entry((alias.name.clone(), image.image_type)).or_insert(claim);
                *holder = claim.max(*holder);
            }
            superseded.extend(upload.sidecars.iter().rev().skip(1).map(|(_, key)| (fingerprint, key.clone())));
            known.insert(fingerprint);
            if !attachments.is_empty() {
                texts.push((fingerprint, attachments));
            }
            images.push(*image);
            Ok(())
        })?;
        let holds = |image: &StoredImage, alias: &str| {
            let claim = claims.get(&(alias.to_owned(), image.image_type));
            claim.is_some_and(|(_, holder)| *holder == image.fingerprint)
        };
        self.catalog.write(&mut |catalog| {
            for image in &images {
                catalog.insert(image)?;
                for alias in image.aliases.iter().filter(|alias| holds(image, &alias.name)) {
                    catalog.set_alias(alias, &image.target())?;
                }
                if image.objects.sidecar.is_none() {
                    note_sidecar(catalog, image)?;
                }
            }
            for (fingerprint, attachments) in &texts {
                attachments.iter().try_for_each(|attachment| catalog.attach(fingerprint, attachment))?;
            }
            superseded.iter().try_for_each(|(fingerprint, key)| catalog.put_object(&self.dead(key, fingerprint)))
        })?;
        for image in &images {
            let others = image.aliases.iter().filter(|alias| !holds(image, &alias.name));
            lost.extend(others.map(|alias| lost_alias(&alias.name, &image.fingerprint)));
        }
        Ok(Rebuilt { images: images.len(), aliases: claims.len(), lost })
    }
}

/// Renames the files of the damaged catalog to names that are not in use, so that an expert can
/// examine them. Returns the old and the new names.
fn archive_damaged(catalog: &Path, options: &StoreOptions) -> Result<Vec<(PathBuf, PathBuf)>> {
    const SUFFIXES: [&str; 3] = ["", "-wal", "-shm"];
    let stamp = options.now();
    let place = |number: u32, suffix: &str| {
        let number = if number == 0 { String::new() } else { format!("-{number}") };
        layout::beside(catalog, &format!(".damaged-{stamp}{number}{suffix}"))
    };
    let is_free = |number: &u32| SUFFIXES.iter().all(|suffix| place(*number, suffix).symlink_metadata().is_err());
    let number = (0..u32::MAX).find(is_free).unwrap_or(u32::MAX);
    let mut done = Vec::new();
    // The database first: without its write-ahead log it would be an older catalog, which is worse than none.
    for suffix in SUFFIXES {
        let (from, to) = (layout::beside(catalog, suffix), place(number, suffix));
        let renamed = match renameat_with(CWD, &from, CWD, &to, RenameFlags::NOREPLACE) {
            // A file system without RENAME_NOREPLACE. The store is locked, so the check above is enough.
            Err(Errno::INVAL | Errno::NOSYS) => std::fs::rename(&from, &to),
            renamed => renamed.map_err(Into::into),
        };
        match renamed {
            Ok(()) => done.push((from, to)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                restore(&done);
                return Err(Error::io("the damaged catalog can't be put aside", error).in_file(from));
            }
        }
    }
    Ok(done)
}

/// Gives files their old names back, the log before the database.
fn restore(moved: &[(PathBuf, PathBuf)]) {
    for (from, to) in moved.iter().rev() {
        let _ = std::fs::rename(to, from);
    }
}
