//! Makes a staged image visible: notes its objects, creates them, and inserts the row that names them.
//!
//! A crash at any point leaves either a note that the next sweep acts on, or a complete image;
//! never a row without its objects.

use super::blobs::BlobKey;
use super::catalog::{Object, Transaction};
use super::image::{ImageObjects, StoredImage};
use super::open::Store;
use super::reconcile::note_sidecar;
use super::stage::StagedImage;
use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::Fingerprint;
use crate::format::ImageForm;
use crate::progress::Monitor;

/// What the caller of [`Store::upload`] decided in the transaction that would insert the row.
pub(crate) enum Decision {
    /// The image is new, and this row names the new objects.
    New(StoredImage),
    /// The image was in the store already: only its row changed, and the new objects are marked as dead.
    Known(StoredImage),
}

impl Store {
    /// Creates the objects of a staged image and makes it visible.
    ///
    /// `decide` runs in the transaction that makes the image visible: it changes the catalog, and
    /// inserts the row of a new image with the objects that it is given. It may run more than once,
    /// as all work of a transaction, and nothing of it remains if anything fails.
    ///
    /// # Errors
    /// Those of `decide`, of the blob store and of the catalog. The objects that were created are abandoned then.
    pub(crate) fn upload(
        &self,
        mut staged: StagedImage,
        monitor: &Monitor,
        decide: &mut dyn FnMut(&mut dyn Transaction, &ImageObjects) -> Result<Decision>,
    ) -> Result<StoredImage> {
        let fingerprint = staged.fingerprint;
        let form = if staged.files.len() > 1 { ImageForm::Split } else { ImageForm::Unified };
        let objects = ImageObjects::new(&fingerprint, form);
        let keys: Vec<BlobKey> = objects.keys().cloned().collect();
        let holder = staged.files.first().map(|file| file.holder().to_owned()).unwrap_or_default();
        let notes: Vec<Object> = keys.iter().map(|key| self.uploading(key.clone(), &fingerprint, &holder)).collect();
        // If this fails, it may have been committed all the same. A sweep finds the notes once this
        // process no longer holds the lock of the staged file.
        self.catalog.write(&mut |catalog| {
            let row = catalog.image(&fingerprint)?;
            for note in &notes {
                if row.as_ref().is_some_and(|row| row.objects.names(&note.key)) || catalog.object(&note.key)?.is_some()
                {
                    return Err(Error::new(ErrorKind::Transient, "the key of a new object is in use already"));
                }
                catalog.put_object(note)?;
            }
            Ok(())
        })?;
        let mut create = || {
            // The rootfs first: it takes longest, and most failures happen before anything else was created.
            for (file, key) in staged.files.iter_mut().zip(&keys).rev() {
                self.blobs.put(key, file, monitor)?;
            }
            monitor.check()?;
            self.commit(&fingerprint, &objects, &notes, decide)
        };
        let done = create();
        if done.is_err() {
            // Only the catalog knows whether the row was committed. If abandoning fails, the notes
            // remain for a later sweep.
            let _ = self.abandon(&fingerprint, &keys);
        } else {
            let _ = self.reconcile();
        }
        done
    }

    /// The transaction that makes an image visible: checks that the upload still holds its notes,
    /// lets `decide` change the rows, and removes the notes or marks the objects as dead.
    fn commit(
        &self,
        fingerprint: &Fingerprint,
        objects: &ImageObjects,
        notes: &[Object],
        decide: &mut dyn FnMut(&mut dyn Transaction, &ImageObjects) -> Result<Decision>,
    ) -> Result<StoredImage> {
        let mut published = None;
        self.write_admitted(&mut |catalog| {
            published = None;
            for note in notes {
                // If this process slept beyond its lease, a sweep may have deleted the objects: a
                // row must not name them.
                if catalog.object(&note.key)?.as_ref() != Some(note) {
                    return Err(Error::new(
                        ErrorKind::Transient,
                        "the upload took longer than its lease, and was swept",
                    )
                    .with_hint("upload the image again"));
                }
            }
            let image = match decide(catalog, objects)? {
                Decision::New(image) => {
                    objects.keys().try_for_each(|key| catalog.remove_object(key))?;
                    note_sidecar(catalog, &image)?;
                    image
                }
                Decision::Known(image) => {
                    objects.keys().try_for_each(|key| catalog.put_object(&self.dead(key, fingerprint)))?;
                    image
                }
            };
            published = Some(image);
            Ok(())
        })?;
        published.ok_or_else(|| Error::invalid("nothing was decided about the image"))
    }
}
