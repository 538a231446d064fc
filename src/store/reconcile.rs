//! Brings objects in line with the catalog: writes sidecars, deletes dead objects, and abandons
//! uploads of processes that are gone.
//!
//! The catalog has a *note* ([`Object`]) for each object that no row names: it is being uploaded,
//! it is a sidecar to be written, or it is dead. This file acts on notes. Every step is either a
//! transaction or an operation on an object that no row names, never both: no lock is held while
//! bytes move, and each step can be repeated after a crash.
//!
//! | note | written by | removed by |
//! |---|---|---|
//! | `Uploading` | an upload, before it creates the object | the commit of its row, or a sweep that turns it into `Dead` |
//! | `Uploading`, held by `parts` | an upload in parts, for itself and for each part | its end, or a sweep |
//! | `Sidecar` | every change of a row | [`Store::reconcile`], in the transaction that names the new sidecar in the row |
//! | `Dead` | a deletion, a failed upload, a replaced sidecar | [`Store::reconcile`], after the object was deleted |

use std::io::Write;

use super::blobs::BlobKey;
use super::catalog::{Object, ObjectState, Transaction};
use super::image::StoredImage;
use super::layers::CachedLayer;
use super::open::Store;
use super::random::random_number;
use super::scratch::StagedFile;
use super::sidecar::Sidecar;
use crate::error::{Error, Result};
use crate::fingerprint::Fingerprint;
use crate::progress::Monitor;

/// How many notes one transaction removes. Bounds how long other writers wait.
const BATCH: usize = 64;

/// How many notes one page reads. Large, since every change reads all of them, and uploads in parts have many.
const PAGE: usize = 1_000;

/// How long an upload may take whose staged file is on another machine, in seconds.
///
/// On this machine a lock tells whether the uploader is alive; elsewhere only time does. A day is
/// longer than any upload takes, including a laptop that sleeps in the middle; an uploader that is
/// slower notices it and fails with `Transient`.
const LEASE_SECONDS: i64 = 24 * 60 * 60;

/// How often one call reads all notes. Others may add notes all the time; their own calls act on
/// those, so this one may stop.
const MAX_PASSES: usize = 8;

impl Store {
    /// Sweeps leftovers, when the store is opened for writing and from time to time in a server. Best effort: leftovers take
    /// space and harm nobody, so an error here must not keep a store from being opened; the next call tries again.
    ///
    /// Returns the first finding in a damaged catalog, with which nothing is swept.
    pub(crate) fn sweep_leftovers(&self) -> Option<String> {
        // A damaged catalog may have lost the rows of images whose objects would be deleted here.
        // The check of the whole catalog is slow, so it runs only if there is something to sweep;
        // uploads in progress do not count.
        let (has_leftovers, layers) = self.look_for_leftovers();
        if !has_leftovers && layers.is_empty() {
            return None;
        }
        let damage = self.catalog.check(&self.waiting()).ok()?;
        if damage.is_empty() {
            let _ = self.sweep();
            let _ = self.drop_layers(&layers);
        }
        damage.into_iter().next()
    }

    /// Whether there is a staged file or a note that no living process takes care of, and that a sweep could act on now; and
    /// the layers that are too many.
    fn look_for_leftovers(&self) -> (bool, Vec<CachedLayer>) {
        let now = self.now();
        let mut found = self.scratch.has_orphans();
        let mut kept = Vec::new();
        let looked = self.for_each_note(&mut |note| {
            found |= match &note.state {
                ObjectState::Uploading { holder, lease_until } => self.is_orphan(holder, *lease_until, now)?,
                // Within its grace it can't be deleted yet. A bucket has such objects most of the time.
                ObjectState::Dead { delete_after } => *delete_after <= now,
                ObjectState::Sidecar { .. } => true,
            };
            if CachedLayer::is_one(&note) {
                kept.push(note);
            }
            Ok(())
        });
        // Without the free space the limit is not known: the next download trims them.
        (found || looked.is_err(), self.layers_over_limit(kept).unwrap_or_default())
    }

    /// Removes what dead processes left: abandons their uploads, removes their staged files, then reconciles.
    ///
    /// Returns the number of staged files that were removed. Each part is tried even if another one failed.
    ///
    /// # Errors
    /// The first one, once all parts were tried.
    pub(crate) fn sweep(&self) -> Result<usize> {
        let abandoned = self.abandon_orphans();
        let (staged, copies) = (self.scratch.sweep(), self.blobs.sweep());
        let reconciled = self.reconcile();
        abandoned.and(reconciled)?;
        Ok(staged? + copies?)
    }

    /// Marks the objects of uploads as dead whose uploader is gone.
    ///
    /// Orphans are collected first and marked in batches: asking for a lock or the time must not
    /// happen inside a transaction.
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
                    // The upload may have committed since the note was read; then its note is gone or another one.
                    if catalog.object(&orphan.key)?.as_ref() == Some(orphan) {
                        catalog.put_object(&self.dead(&orphan.key, &orphan.fingerprint))?;
                    }
                }
                Ok(())
            })?;
        }
        failed
    }

    /// Whether the uploader that `holder` names is gone: on this machine by the lock of its staged
    /// file, elsewhere by the lease.
    fn is_orphan(&self, holder: &str, lease_until: i64, now: i64) -> Result<bool> {
        match self.scratch.own(holder) {
            // The kernel frees the lock when the process ends; the file is removed when the upload ends.
            Some(name) => Ok(self.scratch.try_lock_orphan(name)?.is_some() || !self.scratch.holds(name)?),
            None => Ok(lease_until <= now),
        }
    }

    /// Passes every note to `work`, page by page: the number of notes is not bounded, and all of
    /// them need not fit into memory.
    pub(super) fn for_each_note(&self, work: &mut dyn FnMut(Object) -> Result<()>) -> Result<()> {
        self.for_each_note_behind(None, work)
    }

    /// Passes the notes to `work` whose keys begin with a digest, but for the bare digest, in the order of their keys.
    #[cfg(any(feature = "remote", feature = "server"))]
    pub(super) fn for_each_note_of(
        &self,
        digest: &Fingerprint,
        work: &mut dyn FnMut(Object) -> Result<()>,
    ) -> Result<()> {
        let [front, ..] = BlobKey::legacy(digest);
        self.for_each_note_behind(Some(&front), work)
    }

    /// Passes the notes behind a key to `work`, as long as their keys begin with it.
    fn for_each_note_behind(&self, front: Option<&BlobKey>, work: &mut dyn FnMut(Object) -> Result<()>) -> Result<()> {
        let is_behind = |note: &Object| front.is_none_or(|front| note.key.as_str().starts_with(front.as_str()));
        let mut after = front.cloned();
        loop {
            let notes = self.catalog.objects(after.as_ref(), PAGE)?;
            let Some(last) = notes.last() else { return Ok(()) };
            after = Some(last.key.clone());
            let is_last = notes.len() < PAGE || !is_behind(last);
            notes.into_iter().take_while(is_behind).try_for_each(&mut *work)?;
            if is_last {
                return Ok(());
            }
        }
    }

    /// Writes the note that an object is dead, unless there is a note about it. Returns whether there was none: the
    /// catalog that had one was lost.
    pub(super) fn forget(&self, dead: &Object) -> Result<bool> {
        // Most have one, and a read keeps no other writer waiting.
        if self.catalog.object(&dead.key)?.is_some() {
            return Ok(false);
        }
        let mut is_forgotten = false;
        self.catalog.write(&mut |catalog| {
            is_forgotten = catalog.object(&dead.key)?.is_none();
            if is_forgotten { catalog.put_object(dead) } else { Ok(()) }
        })?;
        Ok(is_forgotten)
    }

    /// The note that marks an object as dead: no row will name it again.
    ///
    /// The object is deleted once the grace of the blob store has passed, so that readers on other
    /// machines can finish. Two notes about one object differ, so that whoever acts on the first one sees that there is a
    /// second one.
    pub(crate) fn dead(&self, key: &BlobKey, fingerprint: &Fingerprint) -> Object {
        let grace = i64::try_from(self.blobs.grace().as_secs()).unwrap_or(i64::MAX);
        if grace == 0 {
            return dead_at_once(key, fingerprint);
        }
        // Later than the time of any note that is acted on now.
        let delete_after = self.now().saturating_add(grace);
        Object::new(key.clone(), *fingerprint, ObjectState::Dead { delete_after })
    }

    /// Removes an image's row and marks its objects as dead, in the caller's transaction.
    pub(crate) fn remove_image(&self, catalog: &mut dyn Transaction, image: &StoredImage) -> Result<()> {
        catalog.remove(&image.fingerprint)?;
        // A damaged row may name the objects of another image: those must survive.
        let own = |key: &&BlobKey| key.parse().is_some_and(|(of, _)| of == image.fingerprint);
        image.objects.keys().filter(own).try_for_each(|key| catalog.put_object(&self.dead(key, &image.fingerprint)))
    }

    /// The note that an object is being uploaded by the process that holds the staged file `holder`.
    pub(crate) fn uploading(&self, key: BlobKey, fingerprint: &Fingerprint, holder: &str) -> Object {
        let lease_until = self.now().saturating_add(LEASE_SECONDS);
        Object::new(key, *fingerprint, ObjectState::Uploading { holder: holder.to_owned(), lease_until })
    }

    /// Abandons a failed upload: marks the objects that it may have created as dead, and deletes them.
    ///
    /// It may have failed after its commit was durable (for example when the answer of a database
    /// was lost). Then the row names the objects, and they stay.
    pub(crate) fn abandon(&self, fingerprint: &Fingerprint, keys: &[BlobKey]) -> Result<()> {
        self.note_abandoned(fingerprint, keys)?;
        self.reconcile()
    }

    /// The transaction of [`abandon`](Self::abandon): marks those of `keys` as dead that the
    /// image's row does not name.
    fn note_abandoned(&self, fingerprint: &Fingerprint, keys: &[BlobKey]) -> Result<()> {
        self.catalog.write(&mut |catalog| {
            let row = catalog.image(fingerprint)?;
            let is_live = |key: &BlobKey| row.as_ref().is_some_and(|row| row.objects.names(key));
            // Even if the note is gone: an uploader that slept beyond its lease may have created
            // the object after the sweep.
            keys.iter().filter(|key| !is_live(key)).try_for_each(|key| catalog.put_object(&self.dead(key, fingerprint)))
        })
    }

    /// Deletes dead objects whose grace has passed, then writes the sidecars that are noted.
    ///
    /// Every object is tried even if another one failed. Deleting comes first, so that it frees the
    /// space that a sidecar needs on a full disk.
    ///
    /// # Errors
    /// The first one, once all objects were tried. The notes of what failed stay, and the next call tries again.
    pub(crate) fn reconcile(&self) -> Result<()> {
        let mut failed = Ok(());
        for _ in 0..MAX_PASSES {
            let now = self.now();
            let (mut pending, mut dead) = (Vec::new(), Vec::new());
            self.for_each_note(&mut |note| {
                match note.state {
                    ObjectState::Sidecar { .. } => pending.push(note),
                    ObjectState::Dead { delete_after } if delete_after <= now => dead.push(note),
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

    /// Deletes objects, then their notes. In this order: without its note, an object that is left
    /// would never be found.
    fn delete_dead(&self, notes: &[Object]) -> Result<()> {
        let keys: Vec<BlobKey> = notes.iter().map(|note| note.key.clone()).collect();
        self.blobs.delete(&keys)?;
        self.catalog.write(&mut |catalog| {
            for note in notes {
                // An uploader that slept beyond its lease may have created the object behind the deletion. It has noted it
                // again then, and only that note tells of the object.
                if catalog.object(&note.key)?.as_ref() == Some(note) {
                    catalog.remove_object(&note.key)?;
                }
            }
            Ok(())
        })
    }

    /// Writes the sidecar that `note` asks for, if its row is still at that revision; otherwise
    /// only removes the note.
    ///
    /// Writing follows the order of any upload: note the object, create it, name it in the row.
    fn write_sidecar(&self, note: &Object) -> Result<()> {
        let image = self.catalog.image(&note.fingerprint)?.filter(|image| is_noted(note, image));
        let mut job = image.map(|image| self.stage_sidecar(image)).transpose()?;
        let done = self.upload_sidecar(note, job.as_mut());
        if let (Err(_), Some(job)) = (&done, &job) {
            // If this fails as well, the note of the upload remains, and a later sweep finds it.
            let _ = self.note_abandoned(&note.fingerprint, std::slice::from_ref(&job.upload.key));
        }
        done
    }

    /// Writes the text of a sidecar into scratch, and chooses its key.
    fn stage_sidecar(&self, image: StoredImage) -> Result<SidecarJob> {
        // If they change before the sidecar is named, the row has another revision, with a sidecar of its own.
        let attachments = self.catalog.attachments(&image.fingerprint)?;
        let text = Sidecar::of(&image, &attachments).to_json()?;
        let mut staged = self.scratch.create()?;
        let written = staged.write_all(text.as_bytes());
        written.map_err(|error| Error::io("an image's sidecar cannot be written", error))?;
        let key = image.objects.image.new_sidecar(image.revision);
        let upload = self.uploading(key, &image.fingerprint, staged.holder());
        Ok(SidecarJob { image, staged, upload })
    }

    /// Notes and creates the object of a sidecar, then names it in the row. Without `job` the row
    /// is gone or has changed.
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

    /// Names a written sidecar in the row of its image and marks the previous one as dead, in one transaction.
    ///
    /// If another process was faster, or the image changed meanwhile, the new object is marked as dead instead.
    fn name_sidecar(&self, catalog: &mut dyn Transaction, note: &Object, job: Option<&SidecarJob>) -> Result<()> {
        let is_pending = catalog.object(&note.key)?.as_ref() == Some(note);
        let row = catalog.image(&note.fingerprint)?.filter(|row| is_pending && is_noted(note, row));
        if let Some(job) = job {
            let is_whole = catalog.object(&job.upload.key)?.as_ref() == Some(&job.upload);
            let dead = |key: &BlobKey| self.dead(key, &note.fingerprint);
            if row.is_none() || !is_whole {
                // Swept as abandoned, or out of date: nothing will ever name this object.
                catalog.put_object(&dead(&job.upload.key))?;
            } else if catalog.set_sidecar(&note.fingerprint, job.image.revision, &job.upload.key)? {
                catalog.remove_object(&job.upload.key)?;
                if let Some(old) = row.as_ref().and_then(|row| row.objects.sidecar.as_ref()) {
                    catalog.put_object(&dead(old))?;
                }
                return catalog.remove_object(&note.key);
            }
        }
        // If the row is gone or at another revision, that revision has a note of its own. Otherwise
        // the note stays, to be retried.
        if is_pending && row.is_none() { catalog.remove_object(&note.key) } else { Ok(()) }
    }

    /// Runs a change of the catalog, then reconciles the objects with it.
    ///
    /// The change has happened once it is committed, so an error of reconciling is not reported:
    /// the notes in the catalog remain, and the next change or opening acts on them.
    pub(crate) fn change(&self, work: &mut dyn FnMut(&mut dyn Transaction) -> Result<()>) -> Result<()> {
        self.write_admitted(work)?;
        let _ = self.reconcile();
        Ok(())
    }
}

/// A sidecar that is being written.
struct SidecarJob {
    /// The row that the sidecar describes.
    image: StoredImage,
    staged: StagedFile,
    /// The note about its upload.
    upload: Object,
}

/// The note that marks an object as dead which may be deleted at once, whatever the clock says.
pub(super) fn dead_at_once(key: &BlobKey, fingerprint: &Fingerprint) -> Object {
    // Far in the past, at a time that no other note has.
    let delete_after = i64::MIN.saturating_add(i64::from(random_number() as u32));
    Object::new(key.clone(), *fingerprint, ObjectState::Dead { delete_after })
}

/// Whether `note` asks for the sidecar of the revision that `row` has.
fn is_noted(note: &Object, row: &StoredImage) -> bool {
    note.key == row.objects.image.sidecar(row.revision)
}

/// Notes that the sidecar of the row's revision must be written. Every transaction that changes
/// what a sidecar says calls this.
pub(crate) fn note_sidecar(catalog: &mut dyn Transaction, image: &StoredImage) -> Result<()> {
    let (key, revision) = (image.objects.image.sidecar(image.revision), image.revision);
    catalog.put_object(&Object::new(key, image.fingerprint, ObjectState::Sidecar { revision }))
}

/// Increases an image's revision because its aliases changed, and notes that its sidecar must be
/// written. Nothing happens if the image is gone.
pub(crate) fn bump_revision(catalog: &mut dyn Transaction, fingerprint: &Fingerprint) -> Result<()> {
    let Some(mut image) = catalog.image(fingerprint)? else { return Ok(()) };
    let before = image.revision;
    image.revision = image.revision.saturating_add(1);
    catalog.update(&image, before)?;
    note_sidecar(catalog, &image)
}
