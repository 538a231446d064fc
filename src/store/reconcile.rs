//! Bringing objects in line with the catalog: sidecars written, dead objects deleted, uploads of processes that are gone
//! abandoned. Every step is a transaction, or an operation on an object that no row names; none is both, so that no lock is held
//! while bytes move, and each can be done again.

use std::io::Write;

use super::blobs::BlobKey;
use super::catalog::{Object, ObjectState, Transaction};
use super::image::StoredImage;
use super::open::Store;
use super::scratch::StagedFile;
use super::sidecar::Sidecar;
use crate::error::{Error, Result};
use crate::fingerprint::Fingerprint;
use crate::progress::Monitor;

/// How many notes are read, or cleared in one transaction, at once.
const BATCH: usize = 64;

/// How long an upload may take whose scratch nobody else can look into, in seconds. Longer than any machine sleeps over one.
const LEASE_SECONDS: i64 = 24 * 60 * 60;

/// How often the notes are gone through: others may add some all the time, and their own calls do those.
const MAX_PASSES: usize = 8;

impl Store {
    /// Sweeps when the store is opened. Leftovers are in nobody's way: when they cannot be swept now, the next one will.
    pub(crate) fn sweep_at_open(&self) {
        // What a damaged catalog does not know of may be images all the same. Looking for damage takes long in a large catalog, and
        // uploads of others that are going on are no reason for it.
        if self.has_leftovers() && self.catalog.check(&self.waiting()).is_ok_and(|damage| damage.is_empty()) {
            let _ = self.sweep();
        }
    }

    /// Whether there is anything that nobody is at work on.
    fn has_leftovers(&self) -> bool {
        let now = self.now();
        let mut found = self.scratch.has_orphans();
        let looked = self.for_each_note(&mut |note| {
            found |= match &note.state {
                ObjectState::Uploading { holder, lease_until } => self.is_orphan(holder, *lease_until, now)?,
                _ => true,
            };
            Ok(())
        });
        found || looked.is_err()
    }

    /// Removes what processes that are gone left behind. Returns how many staged files that were. What fails keeps nothing else from
    /// being done.
    pub(crate) fn sweep(&self) -> Result<usize> {
        let abandoned = self.abandon_orphans();
        let (staged, copies) = (self.scratch.sweep(), self.blobs.sweep());
        let reconciled = self.reconcile();
        abandoned.and(reconciled)?;
        Ok(staged? + copies?)
    }

    /// Notes as dead what was uploaded by processes that are gone.
    fn abandon_orphans(&self) -> Result<()> {
        let now = self.now();
        let mut orphans = Vec::new();
        let mut failed = Ok(());
        self.for_each_note(&mut |note| {
            if let ObjectState::Uploading { holder, lease_until } = &note.state {
                match self.is_orphan(holder, *lease_until, now) {
                    Ok(true) => orphans.push(note),
                    Ok(false) => {}
                    Err(error) => failed = Err(error),
                }
            }
            Ok(())
        })?;
        for batch in orphans.chunks(BATCH) {
            self.catalog.write(&mut |catalog| {
                for orphan in batch {
                    // Its upload may have ended well since the note was read.
                    if catalog.object(&orphan.key)?.as_ref() == Some(orphan) {
                        catalog.put_object(&self.dead(&orphan.key, &orphan.fingerprint))?;
                    }
                }
                Ok(())
            })?;
        }
        failed
    }

    fn is_orphan(&self, holder: &str, lease_until: i64, now: i64) -> Result<bool> {
        match self.scratch.own(holder) {
            // The lock is free once its process is gone, and the file goes when the upload has ended.
            Some(name) => Ok(self.scratch.try_lock_orphan(name)?.is_some() || !self.scratch.holds(name)?),
            None => Ok(lease_until <= now),
        }
    }

    fn for_each_note(&self, work: &mut dyn FnMut(Object) -> Result<()>) -> Result<()> {
        let mut after: Option<BlobKey> = None;
        loop {
            let notes = self.catalog.objects(after.as_ref(), BATCH)?;
            let Some(last) = notes.last() else { return Ok(()) };
            after = Some(last.key.clone());
            let is_last = notes.len() < BATCH;
            notes.into_iter().try_for_each(&mut *work)?;
            if is_last {
                return Ok(());
            }
        }
    }

    /// A note that no row will name this object again.
    pub(crate) fn dead(&self, key: &BlobKey, fingerprint: &Fingerprint) -> Object {
        let grace = i64::try_from(self.blobs.grace().as_secs()).unwrap_or(i64::MAX);
        // Without a grace no clock is asked, which may be wrong.
        let delete_after = if grace == 0 { i64::MIN } else { self.now().saturating_add(grace) };
        Object::new(key.clone(), *fingerprint, ObjectState::Dead { delete_after })
    }

    /// Removes an image's row, and notes its objects as dead.
    pub(crate) fn remove_image(&self, catalog: &mut dyn Transaction, image: &StoredImage) -> Result<()> {
        catalog.remove(&image.fingerprint)?;
        // A damaged catalog may name another image's objects, which must not go with this one.
        let own = |key: &&BlobKey| key.parse().is_some_and(|(of, _)| of == image.fingerprint);
        image.objects.keys().filter(own).try_for_each(|key| catalog.put_object(&self.dead(key, &image.fingerprint)))
    }

    /// A note that an object is being uploaded by whoever holds a staged file.
    pub(crate) fn uploading(&self, key: BlobKey, fingerprint: &Fingerprint, holder: &str) -> Object {
        let lease_until = self.now().saturating_add(LEASE_SECONDS);
        Object::new(key, *fingerprint, ObjectState::Uploading { holder: holder.to_owned(), lease_until })
    }

    /// Gives up an upload that did not come to its end, and deletes what it has created. The row decides: where the upload did
    /// come to its end, its objects stay.
    pub(crate) fn abandon(&self, fingerprint: &Fingerprint, keys: &[BlobKey]) -> Result<()> {
        self.note_abandoned(fingerprint, keys)?;
        self.reconcile()
    }

    fn note_abandoned(&self, fingerprint: &Fingerprint, keys: &[BlobKey]) -> Result<()> {
        self.catalog.write(&mut |catalog| {
            let row = catalog.image(fingerprint)?;
            let is_live = |key: &BlobKey| row.as_ref().is_some_and(|row| row.objects.names(key));
            // Also where no note is left: whoever slept beyond its lease may have created an object since it was swept.
            keys.iter().filter(|key| !is_live(key)).try_for_each(|key| catalog.put_object(&self.dead(key, fingerprint)))
        })
    }

    /// Deletes the dead objects whose grace is over, and writes the sidecars that are noted. What fails keeps nothing else from
    /// being done: on a full disk, deleting comes first.
    ///
    /// # Errors
    /// The first one, when all was tried.
    pub(crate) fn reconcile(&self) -> Result<()> {
        let mut failed = Ok(());
        for _ in 0..MAX_PASSES {
            let now = self.now();
            let (mut pending, mut dead) = (Vec::new(), Vec::new());
            self.for_each_note(&mut |note| {
                match note.state {
                    ObjectState::Sidecar { .. } => pending.push(note),
                    ObjectState::Dead { delete_after } if delete_after <= now => dead.push(note.key),
                    _ => {}
                }
                Ok(())
            })?;
            for batch in dead.chunks(BATCH) {
                failed = failed.and(self.delete_dead(batch));
            }
            for note in &pending {
                failed = failed.and(self.write_sidecar(note));
            }
            if pending.is_empty() || failed.is_err() {
                break;
            }
        }
        failed
    }

    fn delete_dead(&self, keys: &[BlobKey]) -> Result<()> {
        self.blobs.delete(keys)?;
        // A key is used once: nobody can have made it live meanwhile.
        self.catalog.write(&mut |catalog| keys.iter().try_for_each(|key| catalog.remove_object(key)))
    }

    /// Writes the sidecar of a noted revision, if its row still has that, as any other upload.
    fn write_sidecar(&self, note: &Object) -> Result<()> {
        let image = self.catalog.image(&note.fingerprint)?.filter(|image| is_noted(note, image));
        let mut job = image.map(|image| self.stage_sidecar(image)).transpose()?;
        let done = self.upload_sidecar(note, job.as_mut());
        if let (Err(_), Some(job)) = (&done, &job) {
            // What cannot be noted now is found by its note later.
            let _ = self.note_abandoned(&note.fingerprint, std::slice::from_ref(&job.upload.key));
        }
        done
    }

    fn stage_sidecar(&self, image: StoredImage) -> Result<SidecarJob> {
        let text = Sidecar::of(&image).to_json()?;
        let mut staged = self.scratch.create()?;
        let written = staged.write_all(text.as_bytes());
        written.map_err(|error| Error::io("an image's sidecar cannot be written", error))?;
        let key = image.objects.image.new_sidecar(image.revision);
        let upload = self.uploading(key, &image.fingerprint, staged.holder());
        Ok(SidecarJob { image, staged, upload })
    }

    fn upload_sidecar(&self, note: &Object, job: Option<&mut SidecarJob>) -> Result<()> {
        let job = match job {
            None => None,
            Some(job) => {
                self.catalog.write(&mut |catalog| catalog.put_object(&job.upload))?;
                self.blobs.put(&job.upload.key, &mut job.staged, &Monitor::none())?;
                Some(&*job)
            }
        };
        self.catalog.write(&mut |catalog| self.name_sidecar(catalog, note, job))
    }

    /// Names a sidecar that was written in the row of its image, if nobody was quicker or changed the image meanwhile.
    fn name_sidecar(&self, catalog: &mut dyn Transaction, note: &Object, job: Option<&SidecarJob>) -> Result<()> {
        let is_pending = catalog.object(&note.key)?.as_ref() == Some(note);
        let row = catalog.image(&note.fingerprint)?.filter(|row| is_pending && is_noted(note, row));
        if let Some(job) = job {
            let is_whole = catalog.object(&job.upload.key)?.as_ref() == Some(&job.upload);
            let dead = |key: &BlobKey| self.dead(key, &note.fingerprint);
            if row.is_none() || !is_whole {
                // Swept as abandoned, or of no use: whatever is there of it goes.
                catalog.put_object(&dead(&job.upload.key))?;
            } else if catalog.set_sidecar(&note.fingerprint, job.image.revision, &job.upload.key)? {
                catalog.remove_object(&job.upload.key)?;
                if let Some(old) = row.as_ref().and_then(|row| row.objects.sidecar.as_ref()) {
                    catalog.put_object(&dead(old))?;
                }
                return catalog.remove_object(&note.key);
            }
        }
        // The row is gone or at another revision, whose sidecar is noted by itself; or it is to be tried again.
        if is_pending && row.is_none() { catalog.remove_object(&note.key) } else { Ok(()) }
    }

    /// Runs a change, and brings the objects in line with it. The change counts once it is committed: what could not be done
    /// about objects is noted in the catalog, and the next change or opening does it.
    pub(crate) fn change(&self, work: &mut dyn FnMut(&mut dyn Transaction) -> Result<()>) -> Result<()> {
        self.catalog.write(work)?;
        let _ = self.reconcile();
        Ok(())
    }
}

/// A sidecar on its way.
struct SidecarJob {
    image: StoredImage,
    staged: StagedFile,
    /// The note about its upload.
    upload: Object,
}

/// Whether a note is about the sidecar of the revision that a row has.
fn is_noted(note: &Object, row: &StoredImage) -> bool {
    note.key == row.objects.image.sidecar(row.revision)
}

/// Has an image's sidecar written, as of the revision that its row has.
pub(crate) fn note_sidecar(catalog: &mut dyn Transaction, image: &StoredImage) -> Result<()> {
    let (key, revision) = (image.objects.image.sidecar(image.revision), image.revision);
    catalog.put_object(&Object::new(key, image.fingerprint, ObjectState::Sidecar { revision }))
}

/// Counts a change to an image's aliases, and has its sidecar written.
pub(crate) fn bump_revision(catalog: &mut dyn Transaction, fingerprint: &Fingerprint) -> Result<()> {
    let Some(mut image) = catalog.image(fingerprint)? else { return Ok(()) };
    let before = image.revision;
    image.revision = image.revision.saturating_add(1);
    catalog.update(&image, before)?;
    note_sidecar(catalog, &image)
}
