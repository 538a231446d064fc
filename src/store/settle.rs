//! Bringing files in line with the catalog: sidecars written, removed images' files removed, leftovers swept.
//! Files change on account of a row only under the catalog's write lock, so no two processes disagree.

use super::blobs::Area;
use super::catalog::Transaction;
use super::image::StoredImage;
use super::layout;
use super::open::Store;
use super::sidecar::Sidecar;
use crate::error::{Error, Result};
use crate::fingerprint::Fingerprint;

/// How many images are settled under one lock: others wait that long at most.
const AT_ONCE: usize = 64;

impl Store {
    /// Sweeps when the store is opened. Leftovers are in nobody's way: when they can't be swept now, the next one will.
    pub(crate) fn sweep_at_open(&self) {
        let any = self.blobs.names(Area::Staging).is_ok_and(|names| !names.is_empty())
            || self.catalog.unsettled().is_ok_and(|unsettled| !unsettled.is_empty());
        // What a damaged catalog does not know of may be images all the same.
        if any && self.catalog.check().is_ok_and(|damage| damage.is_empty()) {
            let _ = self.sweep();
        }
    }

    /// Removes what processes that are gone left behind. Returns how many files that were.
    pub(crate) fn sweep(&self) -> Result<usize> {
        let mut swept = 0;
        for name in self.blobs.names(Area::Staging).map_err(staging_error)? {
            let Some(lock) = self.blobs.seize(&name).map_err(staging_error)? else { continue };
            if let Some(fingerprint) = layout::named_image(&name) {
                self.disown(&fingerprint)?;
            }
            match self.blobs.remove(Area::Staging, &name) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(staging_error(error)),
                _ => swept += 1,
            }
            drop(lock);
        }
        self.settle()?;
        Ok(swept)
    }

    /// Makes sure that the blobs of an import that did not come to its end are not there. The row
    /// decides: where the import did come to its end, they stay.
    pub(crate) fn disown(&self, fingerprint: &Fingerprint) -> Result<()> {
        if self.catalog.image(fingerprint)?.is_some() {
            return Ok(());
        }
        // Noted first: after this commit, nothing of an unfinished one before it can come back.
        self.catalog.write_to_free(&mut |catalog| {
            if catalog.image(fingerprint)?.is_none() {
                catalog.set_unsettled(fingerprint, true)?;
            }
            Ok(())
        })?;
        self.settle()
    }

    /// Brings the files of all unsettled images in line.
    pub(crate) fn settle(&self) -> Result<()> {
        while !self.catalog.unsettled()?.is_empty() {
            self.catalog.write_to_free(&mut |catalog| {
                for fingerprint in catalog.unsettled()?.into_iter().take(AT_ONCE) {
                    match catalog.image(&fingerprint)? {
                        Some(image) => self.write_sidecar(&image)?,
                        None => self.remove_files(&fingerprint)?,
                    }
                    catalog.set_unsettled(&fingerprint, false)?;
                }
                self.blobs.sync(Area::Blobs).map_err(blob_error)
            })?;
        }
        Ok(())
    }

    /// Runs a change, and settles what it left unsettled. The change counts once it is committed:
    /// what could not be settled is noted in the catalog, and the next one does it.
    pub(crate) fn change(&self, work: &mut dyn FnMut(&mut dyn Transaction) -> Result<()>) -> Result<()> {
        self.catalog.write(work)?;
        let _ = self.settle();
        Ok(())
    }

    /// As [`change`](Self::change), for changes that give space back.
    pub(crate) fn change_to_free(&self, work: &mut dyn FnMut(&mut dyn Transaction) -> Result<()>) -> Result<()> {
        self.catalog.write_to_free(work)?;
        let _ = self.settle();
        Ok(())
    }

    /// Removes an image's files, those that are there. The names are not synced.
    pub(crate) fn remove_files(&self, fingerprint: &Fingerprint) -> Result<()> {
        for name in [layout::blob(fingerprint), layout::rootfs(fingerprint), layout::sidecar(fingerprint)] {
            match self.blobs.remove(Area::Blobs, &name) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(blob_error(error)),
                _ => {}
            }
        }
        Ok(())
    }

    /// Writes what the catalog knows of an image beside its blob. The name is not synced.
    pub(crate) fn write_sidecar(&self, image: &StoredImage) -> Result<()> {
        let text = Sidecar::of(image).to_json()?;
        let mut file = self.blobs.create().map_err(staging_error)?;
        let name = file.name().to_owned();
        let written = super::stage::write_all(&mut file, text.as_bytes()).and_then(|()| file.sync()).and_then(|()| {
            self.blobs.rename((Area::Staging, &name), (Area::Blobs, &layout::sidecar(&image.fingerprint)))
        });
        if let Err(error) = written {
            let _ = self.blobs.remove(Area::Staging, &name);
            return Err(Error::io("an image's sidecar file can't be written", error));
        }
        Ok(())
    }
}

pub(crate) fn staging_error(error: std::io::Error) -> Error {
    Error::io("the store's staging directory can't be used", error)
}

pub(crate) fn blob_error(error: std::io::Error) -> Error {
    Error::io("the store's directory of blobs can't be used", error)
}
