//! Uploads that arrive in parts: what a client sent before its connection broke is kept, and any server of the store
//! goes on with it.
//!
//! Each part is an object, and the notes about the objects are the whole state: a catalog needs no table for it, and an
//! upload that is never finished is swept as any abandoned one, once its lease has expired.
//!
//! | note | key | holder |
//! |---|---|---|
//! | the upload | `ID` | `parts/GENERATION/BYTES/COUNT`: how much has arrived |
//! | a part that arrives | `ID.RANDOM.part` | the staged file, as for every upload |
//! | a part that is there | `ID.RANDOM.part` | `part/GENERATION/OFFSET/BYTES` |
//!
//! An `ID` is a digest, so that nothing a client says becomes a path. It may be used again: the generation, a random
//! number, tells the parts of one upload from those of an earlier one. The note of the upload is the only key that is
//! used again, and no object has it.
//!
//! The bytes of the parts are of no image yet. An import of them verifies what it imports, like every import.

use std::io::{self, Read, Write};

use super::blobs::BlobKey;
use super::catalog::{Object, ObjectState};
use super::open::Store;
use super::random::random_number;
use super::reconcile::dead_at_once;
use super::scratch::StagedFile;
use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::Fingerprint;
use crate::io::{BlobReader, ReadAt};
use crate::progress::Monitor;

/// How long an upload in parts may take from its first byte, in seconds. Its bytes take up space until then.
const LIFETIME_SECONDS: i64 = 3 * 24 * 60 * 60;
/// Notes of one transaction.
const BATCH: usize = 64;
/// Bytes of one read of a body.
const BUFFER_BYTES: usize = 256 << 10;

/// An upload of which some bytes have arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PartialUpload {
    /// The bytes that are there, from the first one.
    pub(crate) offset: u64,
    /// When they are removed, in seconds since 1970.
    pub(crate) expires_at: i64,
    generation: u64,
    /// The number of parts.
    count: u64,
}

/// The result of [`Store::append_part`].
#[derive(Debug)]
pub(crate) enum Appended {
    /// The part was added.
    Added(PartialUpload),
    /// It does not begin at the end of the upload, which is at this offset.
    WrongOffset(u64),
}

/// A part that is there.
#[derive(Debug, Clone)]
struct UploadPart {
    generation: u64,
    offset: u64,
    length: u64,
    key: BlobKey,
}

impl PartialUpload {
    /// The upload that a note describes; `None` for another kind of note.
    fn of(note: &Object) -> Option<Self> {
        let ObjectState::Uploading { holder, lease_until } = &note.state else { return None };
        let [generation, offset, count] = numbers(holder.strip_prefix("parts/")?)?;
        Some(Self { offset, expires_at: *lease_until, generation, count })
    }

    fn note(self, id: &Fingerprint) -> Object {
        let holder = format!("parts/{}/{}/{}", self.generation, self.offset, self.count);
        Object::new(head(id), *id, ObjectState::Uploading { holder, lease_until: self.expires_at })
    }
}

impl UploadPart {
    /// The part that a note describes; `None` for another kind of note.
    fn of(note: &Object) -> Option<Self> {
        let ObjectState::Uploading { holder, .. } = &note.state else { return None };
        let [generation, offset, length] = numbers(holder.strip_prefix("part/")?)?;
        Some(Self { generation, offset, length, key: note.key.clone() })
    }

    fn note(&self, id: &Fingerprint, expires_at: i64) -> Object {
        let holder = format!("part/{}/{}/{}", self.generation, self.offset, self.length);
        Object::new(self.key.clone(), *id, ObjectState::Uploading { holder, lease_until: expires_at })
    }
}

/// `A/B/C` as three numbers.
fn numbers(text: &str) -> Option<[u64; 3]> {
    let mut fields = text.split('/').map(|field| field.parse().ok());
    let found = [fields.next()??, fields.next()??, fields.next()??];
    fields.next().is_none().then_some(found)
}

/// The key of the note about an upload. No object has it.
fn head(id: &Fingerprint) -> BlobKey {
    let [key, ..] = BlobKey::legacy(id);
    key
}

impl Store {
    /// The state of an upload in parts; `None` if it has no byte yet, or is finished, removed or too old.
    ///
    /// # Errors
    /// Those of the catalog.
    pub(crate) fn partial_upload(&self, id: &Fingerprint) -> Result<Option<PartialUpload>> {
        let now = self.now();
        let found = self.catalog.object(&head(id))?;
        Ok(found.as_ref().and_then(PartialUpload::of).filter(|upload| upload.expires_at > now))
    }

    /// Appends a part to an upload of at most `max_parts` parts; the first part is at offset 0. If `body` fails, the
    /// bytes before that are added all the same, and the error is returned.
    ///
    /// # Errors
    /// Those of `body`; `LimitExceeded` for too many parts; those of scratch, the blob store and the catalog. After an
    /// error [`partial_upload`](Self::partial_upload) tells what is there.
    pub(crate) fn append_part(
        &self,
        id: &Fingerprint,
        offset: u64,
        body: &mut dyn Read,
        max_parts: u64,
        monitor: &Monitor,
    ) -> Result<Appended> {
        let upload = self.partial_upload(id)?;
        let end = upload.map_or(0, |upload| upload.offset);
        if end != offset {
            return Ok(Appended::WrongOffset(end));
        }
        let mut staged = self.scratch.create()?;
        let arrived = copy(body, &mut staged);
        if staged.is_empty() {
            arrived?;
            return Err(Error::invalid("a part of an upload has at least one byte"));
        }
        let key = BlobKey::part(id);
        let note = self.uploading(key.clone(), id, staged.holder());
        self.catalog.write(&mut |catalog| catalog.put_object(&note))?;
        let generation = upload.map_or_else(random_number, |upload| upload.generation);
        let part = UploadPart { generation, offset, length: staged.len(), key };
        let put = self.blobs.put(&part.key, &mut staged, monitor);
        let added = put.and_then(|()| self.add_part(id, &note, &part, max_parts));
        if !matches!(added, Ok(Appended::Added(_))) {
            // Where even this fails, a later sweep finds the note.
            let _ = self.abandon_part(id, &part.key);
        }
        let added = added?;
        arrived.map(|()| added)
    }

    /// Adds a part whose object was created to its upload, in one transaction.
    fn add_part(&self, id: &Fingerprint, note: &Object, part: &UploadPart, max_parts: u64) -> Result<Appended> {
        let now = self.now();
        let mut done = None;
        self.catalog.write(&mut |catalog| {
            let upload = catalog.object(&head(id))?.as_ref().and_then(PartialUpload::of);
            let upload = upload.filter(|upload| upload.expires_at > now).unwrap_or(PartialUpload {
                offset: 0,
                expires_at: now.saturating_add(LIFETIME_SECONDS),
                generation: part.generation,
                count: 0,
            });
            if upload.offset != part.offset || upload.generation != part.generation {
                done = Some(Appended::WrongOffset(upload.offset));
                return Ok(());
            }
            if upload.count >= max_parts {
                return Err(Error::limit("upload_parts", max_parts, "the number of parts of an upload"));
            }
            if catalog.object(&note.key)?.as_ref() != Some(note) {
                return Err(Error::new(ErrorKind::Transient, "the part took longer than its lease, and was swept"));
            }
            let (offset, count) = (upload.offset.saturating_add(part.length), upload.count + 1);
            let upload = PartialUpload { offset, count, ..upload };
            catalog.put_object(&part.note(id, upload.expires_at))?;
            catalog.put_object(&upload.note(id))?;
            done = Some(Appended::Added(upload));
            Ok(())
        })?;
        done.ok_or_else(|| Error::invalid("nothing was decided about the part"))
    }

    /// Marks the object of a part as dead that was not added. Only the catalog knows whether it was: the answer of that
    /// transaction may be lost. Then the part stays, and the client learns of it when it asks for the offset.
    fn abandon_part(&self, id: &Fingerprint, key: &BlobKey) -> Result<()> {
        self.catalog.write(&mut |catalog| {
            let is_added = catalog.object(key)?.as_ref().and_then(UploadPart::of).is_some();
            // Whatever else there is: the object may have been created behind a sweep that deleted it.
            if is_added { Ok(()) } else { catalog.put_object(&dead_at_once(key, id)) }
        })?;
        self.reconcile()
    }

    /// Opens the bytes of an upload in parts, from the first one, and tells their number; `None` if there is no such
    /// upload. One that lacks a part can never be finished: it is removed.
    ///
    /// # Errors
    /// Those of the catalog.
    pub(crate) fn open_parts(&self, id: &Fingerprint) -> Result<Option<(PartsReader, u64)>> {
        let Some(upload) = self.partial_upload(id)? else { return Ok(None) };
        let mut parts: Vec<UploadPart> = Vec::new();
        self.for_each_part(id, &mut |part| parts.push(part))?;
        parts.retain(|part| part.generation == upload.generation);
        parts.sort_unstable_by_key(|part| part.offset);
        let mut next = 0;
        // Parts behind the end were added after the state was read.
        parts.retain(|part| {
            let follows = part.offset == next && next < upload.offset;
            if follows {
                next = next.saturating_add(part.length);
            }
            follows
        });
        if next != upload.offset {
            // All parts of the state were committed before it was read.
            if self.partial_upload(id)?.is_some_and(|now| now.generation == upload.generation) {
                self.remove_parts(id)?;
            }
            return Ok(None);
        }
        parts.reverse();
        Ok(Some((PartsReader { store: self.clone(), parts, current: None }, next)))
    }

    /// Removes an upload with its parts. Returns whether there was one.
    ///
    /// # Errors
    /// Those of the catalog.
    pub(crate) fn remove_parts(&self, id: &Fingerprint) -> Result<bool> {
        let Some(upload) = self.catalog.object(&head(id))?.as_ref().and_then(PartialUpload::of) else {
            return Ok(false);
        };
        // First the note of the upload: from then on no part is added to this generation.
        self.catalog.write(&mut |catalog| {
            let now = catalog.object(&head(id))?.as_ref().and_then(PartialUpload::of);
            match now.filter(|now| now.generation == upload.generation) {
                Some(_) => catalog.remove_object(&head(id)),
                None => Ok(()),
            }
        })?;
        // Without a grace: nobody but an import of this upload reads them.
        let mut keys = Vec::new();
        self.for_each_part(id, &mut |part| {
            if part.generation == upload.generation {
                keys.push(part.key);
            }
        })?;
        for batch in keys.chunks(BATCH) {
            self.catalog
                .write(&mut |catalog| batch.iter().try_for_each(|key| catalog.put_object(&dead_at_once(key, id))))?;
        }
        // The notes of what can't be deleted now remain for a later sweep.
        let _ = self.reconcile();
        Ok(true)
    }

    /// Passes every part with this ID to `work`, whatever its generation.
    fn for_each_part(&self, id: &Fingerprint, work: &mut dyn FnMut(UploadPart)) -> Result<()> {
        self.for_each_note_of(id, &mut |note| {
            UploadPart::of(&note).into_iter().for_each(&mut *work);
            Ok(())
        })
    }
}

/// Copies a body into a staged file. An error leaves in the file what came before it.
fn copy(body: &mut dyn Read, staged: &mut StagedFile) -> Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let count = match body.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Error::io("the part can't be read to its end", error)),
        };
        let bytes = buffer.get(..count).unwrap_or_default();
        staged.write_all(bytes).map_err(|error| Error::io("the part can't be staged", error))?;
    }
}

/// The bytes of an upload, part after part. Each part is opened when it is reached.
pub(crate) struct PartsReader {
    store: Store,
    /// The parts that are not begun, the next one last.
    parts: Vec<UploadPart>,
    current: Option<BlobReader>,
}

impl PartsReader {
    /// Opens the next part; `None` behind the last one.
    ///
    /// # Errors
    /// `Malformed` if it is missing or has another length: the upload can't be finished then.
    fn open_next(&mut self) -> Result<Option<BlobReader>> {
        let Some(part) = self.parts.pop() else { return Ok(None) };
        let blob = match self.store.blobs.open(&part.key) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(Error::malformed("a part of the upload is missing").with_hint("send the upload again"));
            }
            opened => opened?,
        };
        if blob.len() != part.length {
            let sentence = format!("a part of the upload has {} bytes instead of {}", blob.len(), part.length);
            return Err(Error::malformed(sentence).with_hint("send the upload again"));
        }
        Ok(Some(blob.reader()))
    }
}

impl Read for PartsReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() {
            return Ok(0);
        }
        loop {
            if let Some(current) = &mut self.current {
                let count = current.read(out)?;
                if count > 0 {
                    return Ok(count);
                }
            }
            self.current = self.open_next()?;
            if self.current.is_none() {
                return Ok(0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

    use super::*;

    fn bytes_of(store: &Store, id: &Fingerprint) -> Vec<u8> {
        let mut all = Vec::new();
        store.open_parts(id).unwrap().unwrap().0.read_to_end(&mut all).unwrap();
        all
    }

    fn append(store: &Store, id: &Fingerprint, offset: u64, bytes: &[u8]) -> Appended {
        store.append_part(id, offset, &mut &*bytes, 10_000, &Monitor::none()).unwrap()
    }

    #[test]
    fn parts_are_read_in_the_order_of_their_offsets() {
        let store = Store::in_memory().unwrap();
        let id = Fingerprint::of(b"an upload");
        for (offset, bytes) in [(0, b"abc"), (3, b"def"), (6, b"ghi")] {
            assert!(
                matches!(append(&store, &id, offset, bytes), Appended::Added(upload) if upload.offset == offset + 3)
            );
        }
        assert_eq!(bytes_of(&store, &id), b"abcdefghi");
    }

    #[test]
    fn part_that_begins_elsewhere_is_not_kept() {
        let store = Store::in_memory().unwrap();
        let id = Fingerprint::of(b"an upload");
        append(&store, &id, 0, b"abc");
        for offset in [0, 2, 4] {
            assert!(matches!(append(&store, &id, offset, b"xyz"), Appended::WrongOffset(3)), "{offset}");
        }
        assert_eq!(bytes_of(&store, &id), b"abc");
    }

    #[test]
    fn bytes_before_an_error_are_kept() {
        struct Broken(bool);
        impl Read for Broken {
            fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
                if std::mem::replace(&mut self.0, true) {
                    return Err(io::Error::new(io::ErrorKind::ConnectionReset, "the line is cut"));
                }
                out[..4].copy_from_slice(b"half");
                Ok(4)
            }
        }
        let store = Store::in_memory().unwrap();
        let id = Fingerprint::of(b"an upload");
        store.append_part(&id, 0, &mut Broken(false), 1, &Monitor::none()).unwrap_err();
        assert_eq!(store.partial_upload(&id).unwrap().unwrap().offset, 4);
        assert_eq!(bytes_of(&store, &id), b"half");
    }

    #[test]
    fn upload_with_a_missing_part_begins_again() {
        let store = Store::in_memory().unwrap();
        let id = Fingerprint::of(b"an upload");
        append(&store, &id, 0, b"abc");
        append(&store, &id, 3, b"def");
        let mut keys = Vec::new();
        store.for_each_part(&id, &mut |part| keys.push((part.offset, part.key))).unwrap();
        keys.sort();
        let gone = dead_at_once(&keys[0].1, &id);
        store.catalog.write(&mut |catalog| catalog.put_object(&gone)).unwrap();
        assert!(store.open_parts(&id).unwrap().is_none());
        assert_eq!(store.partial_upload(&id).unwrap(), None);
        append(&store, &id, 0, b"xyz");
        assert_eq!(bytes_of(&store, &id), b"xyz");
    }

    #[test]
    fn parts_of_an_earlier_upload_are_not_mixed_in() {
        let store = Store::in_memory().unwrap();
        let id = Fingerprint::of(b"an upload");
        append(&store, &id, 0, b"abc");
        // The note of the upload goes alone, as when a removal is cut off.
        store.catalog.write(&mut |catalog| catalog.remove_object(&head(&id))).unwrap();
        append(&store, &id, 0, b"xyz");
        assert_eq!(bytes_of(&store, &id), b"xyz");
    }

    #[test]
    fn part_whose_commit_is_in_doubt_stays_if_it_was_committed() {
        let store = Store::in_memory().unwrap();
        let id = Fingerprint::of(b"an upload");
        append(&store, &id, 0, b"abc");
        let mut parts = Vec::new();
        store.for_each_part(&id, &mut |part| parts.push(part)).unwrap();
        store.abandon_part(&id, &parts[0].key).unwrap();
        assert_eq!(bytes_of(&store, &id), b"abc");
    }

    #[test]
    fn removed_upload_leaves_no_object() {
        let store = Store::in_memory().unwrap();
        let id = Fingerprint::of(b"an upload");
        (0..200).for_each(|part| _ = append(&store, &id, part, b"x"));
        assert!(store.remove_parts(&id).unwrap());
        assert_eq!(store.partial_upload(&id).unwrap(), None);
        assert_eq!(store.blobs.list(None, 10).unwrap(), []);
        assert_eq!(store.catalog.objects(None, 10).unwrap(), []);
        assert!(!store.remove_parts(&id).unwrap());
    }

    #[test]
    fn upload_of_several_writers_has_each_byte_once() {
        let store = Store::in_memory().unwrap();
        let id = Fingerprint::of(b"an upload");
        let whole: Vec<u8> = (0..2_000_u32).flat_map(u32::to_be_bytes).collect();
        std::thread::scope(|threads| {
            for step in [7, 64, 333] {
                let (store, whole) = (&store, &whole);
                threads.spawn(move || {
                    let mut offset = 0;
                    while offset < whole.len() {
                        let end = (offset + step).min(whole.len());
                        offset = match append(store, &id, offset as u64, &whole[offset..end]) {
                            Appended::Added(upload) => usize::try_from(upload.offset).unwrap(),
                            Appended::WrongOffset(next) => usize::try_from(next).unwrap(),
                        };
                    }
                });
            }
        });
        assert_eq!(bytes_of(&store, &id), whole);
    }
}
