//! How an image becomes visible: its objects are noted, then created, then named by a row. A crash at any point leaves a note that
//! whoever sweeps next acts on, and never a row without its objects.

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

/// What to do about an image whose objects were created.
pub(crate) enum Decision {
    /// It is new: this row names the objects.
    New(StoredImage),
    /// It was there; only its row changed, and the objects are not needed.
    Known(StoredImage),
}

impl Store {
    /// Creates the objects of a staged image and makes it visible. `decide` changes the catalog, and inserts the row of a new
    /// image with the objects that it is given; nothing of it stays when anything fails.
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
        // When it is not known whether this was committed, the notes are found later: their holder's lock is free then.
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
            // The rootfs first, which takes longest.
            for (file, key) in staged.files.iter_mut().zip(&keys).rev() {
                self.blobs.put(key, file, monitor)?;
            }
            monitor.check()?;
            self.commit(&fingerprint, &objects, &notes, decide)
        };
        let done = create();
        if done.is_err() {
            // Whether the row is there is known to the catalog alone. What cannot be noted now is found by its note later,
            // since its holder's lock is free then.
            let _ = self.abandon(&fingerprint, &keys);
        } else {
            let _ = self.reconcile();
        }
        done
    }

    fn commit(
        &self,
        fingerprint: &Fingerprint,
        objects: &ImageObjects,
        notes: &[Object],
        decide: &mut dyn FnMut(&mut dyn Transaction, &ImageObjects) -> Result<Decision>,
    ) -> Result<StoredImage> {
        let mut published = None;
        self.catalog.write(&mut |catalog| {
            published = None;
            for note in notes {
                // A sweep may have taken an upload for abandoned that slept beyond its lease, and deleted its objects.
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
