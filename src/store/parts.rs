//! Uploads that arrive in parts: what a client sent before its connection broke is kept, and any server of the store
//! goes on with it.
//!
//! Each part is an object, and the notes about the objects are the whole state: a catalog needs no table for it, and
//! what nobody finishes is swept as any abandoned upload, once its lease has expired.
//!
//! | note | key | holder |
//! |---|---|---|
//! | the upload | `ID` | `parts/BYTES/COUNT`: what has arrived |
//! | a part that arrives | `ID.RANDOM` | the staged file, as for every upload |
//! | a part that is there | `ID.RANDOM` | `part/OFFSET/BYTES` |
//!
//! An `ID` is a digest, so that nothing a client says becomes a path. The bytes of the parts are of no image yet: what
//! is made of them is verified as every import.

use std::io::{self, Read, Write};

use super::blobs::BlobKey;
use super::catalog::{Object, ObjectState};
use super::open::Store;
use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::Fingerprint;
use crate::io::{Blob, BlobReader, ReadAt};
use crate::progress::{Cancel, Monitor};

/// How long an upload in parts may take from its first byte, in seconds. Its bytes take up space until then.
const LIFETIME_SECONDS: i64 = 3 * 24 * 60 * 60;
/// Notes of one page, and of one transaction.
const PAGE: usize = 64;
/// Bytes of one read of a body.
const BUFFER_BYTES: usize = 256 << 10;

/// An upload of which some bytes have arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PartialUpload {
    /// The bytes that are there, from the first one.
    pub(crate) offset: u64,
    /// When they are removed, in seconds since 1970.
    pub(crate) expires_at: i64,
    /// The number of parts.
    count: u64,
}

/// What became of a part.
#[derive(Debug)]
pub(crate) enum Appended {
    /// It is kept.
    Kept(PartialUpload),
    /// It does not begin where the last one ended: the client goes on from this offset.
    Elsewhere(u64),
}

/// A part that is there.
#[derive(Debug)]
struct Part {
    offset: u64,
    length: u64,
    key: BlobKey,
}

impl PartialUpload {
    /// The state that a note describes; `None` for another kind of note.
    fn of(note: &Object) -> Option<Self> {
        let ObjectState::Uploading { holder, lease_until } = &note.state else { return None };
        let (offset, count) = two_numbers(holder.strip_prefix("parts/")?)?;
        Some(Self { offset, expires_at: *lease_until, count })
    }

    fn note(self, id: &Fingerprint) -> Object {
        let holder = format!("parts/{}/{}", self.offset, self.count);
        Object::new(head(id), *id, ObjectState::Uploading { holder, lease_until: self.expires_at })
    }
}

impl Part {
    /// The part that a note describes; `None` for another kind of note.
    fn of(note: Object) -> Option<Self> {
        let ObjectState::Uploading { holder, .. } = &note.state else { return None };
        let (offset, length) = two_numbers(holder.strip_prefix("part/")?)?;
        Some(Self { offset, length, key: note.key })
    }

    fn note(self, id: &Fingerprint, expires_at: i64) -> Object {
        let holder = format!("part/{}/{}", self.offset, self.length);
        Object::new(self.key, *id, ObjectState::Uploading { holder, lease_until: expires_at })
    }
}

/// `A/B` as two numbers.
fn two_numbers(text: &str) -> Option<(u64, u64)> {
    let (first, second) = text.split_once('/')?;
    Some((first.parse().ok()?, second.parse().ok()?))
}

/// The key of the note about an upload. No object has it.
fn head(id: &Fingerprint) -> BlobKey {
    let [key, ..] = BlobKey::legacy(id);
    key
}

impl Store {
    /// The state of an upload in parts; `None` where nothing of it is there, or nothing any more.
    ///
    /// # Errors
    /// Those of the catalog.
    pub(crate) fn partial_upload(&self, id: &Fingerprint) -> Result<Option<PartialUpload>> {
        let now = self.now();
        let found = self.catalog.object(&head(id))?;
        Ok(found.as_ref().and_then(PartialUpload::of).filter(|upload| upload.expires_at > now))
    }

    /// Appends bytes to an upload of at most `most` parts, which begins with a part at offset 0. What arrived before
    /// `body` failed is kept as well, and the error is returned.
    ///
    /// # Errors
    /// Those of `body`; `LimitExceeded` for too many parts; those of scratch, the blob store and the catalog.
    pub(crate) fn append_part(
        &self,
        id: &Fingerprint,
        offset: u64,
        body: &mut dyn Read,
        most: u64,
        monitor: &Monitor,
    ) -> Result<Appended> {
        let here = self.partial_upload(id)?;
        match here.map_or(0, |upload| upload.offset) {
            here if here != offset => return Ok(Appended::Elsewhere(here)),
            // They would be taken for parts of this one.
            0 => self.remove_stale_parts(id)?,
            _ => {}
        }
        let mut staged = self.scratch.create()?;
        let arrived = copy(body, &mut staged);
        if staged.is_empty() {
            arrived?;
            let expires_at = self.now().saturating_add(LIFETIME_SECONDS);
            let empty = PartialUpload { offset, expires_at, count: 0 };
            return Ok(Appended::Kept(self.partial_upload(id)?.unwrap_or(empty)));
        }
        let (key, _) = BlobKey::pair(id);
        let note = self.uploading(key.clone(), id, staged.holder());
        self.catalog.write(&mut |catalog| catalog.put_object(&note))?;
        let part = Part { offset, length: staged.len(), key: key.clone() };
        let kept = self.blobs.put(&key, &mut staged, monitor).and_then(|()| self.keep_part(id, &note, &part, most));
        if !matches!(kept, Ok(Appended::Kept(_))) {
            // Where even this fails, a later sweep finds the note.
            let _ = self.abandon_part(id, &key);
        }
        let kept = kept?;
        arrived.map(|()| kept)
    }

    /// Marks the object of a part that was not kept as dead, and deletes it.
    ///
    /// Only the catalog knows whether it was kept: the answer of that transaction may be lost. Then the part stays, and the
    /// client learns of it when it asks for the offset.
    fn abandon_part(&self, id: &Fingerprint, key: &BlobKey) -> Result<()> {
        self.catalog.write(&mut |catalog| {
            let is_kept = catalog.object(key)?.and_then(Part::of).is_some();
            if is_kept { Ok(()) } else { catalog.put_object(&self.dead(key, id)) }
        })?;
        self.reconcile()
    }

    /// Makes an object that was created the next part, in one transaction.
    fn keep_part(&self, id: &Fingerprint, note: &Object, part: &Part, most: u64) -> Result<Appended> {
        let now = self.now();
        let mut done = None;
        self.catalog.write(&mut |catalog| {
            let upload = catalog.object(&head(id))?.as_ref().and_then(PartialUpload::of);
            let expires_at = now.saturating_add(LIFETIME_SECONDS);
            let upload = upload.filter(|upload| upload.expires_at > now).unwrap_or(PartialUpload {
                offset: 0,
                expires_at,
                count: 0,
            });
            if upload.offset != part.offset {
                done = Some(Appended::Elsewhere(upload.offset));
                return Ok(());
            }
            if upload.count >= most {
                return Err(Error::limit("upload_parts", most, "the number of parts of an upload"));
            }
            if catalog.object(&note.key)?.as_ref() != Some(note) {
                return Err(Error::new(ErrorKind::Transient, "the part took longer than its lease, and was swept"));
            }
            let (offset, count) = (upload.offset.saturating_add(part.length), upload.count + 1);
            let upload = PartialUpload { offset, count, ..upload };
            let part = Part { key: part.key.clone(), ..*part };
            catalog.put_object(&part.note(id, upload.expires_at))?;
            catalog.put_object(&upload.note(id))?;
            done = Some(Appended::Kept(upload));
            Ok(())
        })?;
        done.ok_or_else(|| Error::invalid("nothing was decided about the part"))
    }

    /// Opens the bytes of an upload in parts, from the first one, and tells their number; `None` where there is no such
    /// upload.
    ///
    /// # Errors
    /// `Transient` where a part was removed meanwhile; those of the catalog and the blob store.
    pub(crate) fn open_parts(&self, id: &Fingerprint, cancel: &Cancel) -> Result<Option<(PartsReader, u64)>> {
        let Some(upload) = self.partial_upload(id)? else { return Ok(None) };
        let mut parts: Vec<Part> = Vec::new();
        self.for_each_of_upload(id, &mut |note| {
            parts.extend(Part::of(note));
            Ok(())
        })?;
        parts.sort_unstable_by_key(|part| part.offset);
        let mut next = 0;
        let mut blobs = Vec::new();
        // A part that was appended after the state was read lies behind its end.
        for part in parts.into_iter().take_while(|part| part.offset < upload.offset) {
            if part.offset != next {
                break;
            }
            let blob = self.blobs.open(&part.key)?;
            if blob.len() != part.length {
                return Err(Error::mismatch("the size of a part", part.length.to_string(), blob.len().to_string()));
            }
            next = next.saturating_add(part.length);
            blobs.push(blob);
        }
        if next != upload.offset {
            return Err(Error::new(ErrorKind::Transient, "a part of the upload was removed meanwhile"));
        }
        blobs.reverse();
        Ok(Some((PartsReader { blobs, current: None, cancel: cancel.clone() }, next)))
    }

    /// Removes an upload with its parts. Returns whether there was one.
    ///
    /// # Errors
    /// Those of the catalog.
    pub(crate) fn remove_parts(&self, id: &Fingerprint) -> Result<bool> {
        let mut keys = vec![head(id)];
        let mut is_there = false;
        self.for_each_of_upload(id, &mut |note| {
            is_there |= note.key == head(id);
            if let Some(part) = Part::of(note) {
                is_there = true;
                keys.push(part.key);
            }
            Ok(())
        })?;
        // In the first transaction goes the note of the upload, also one that was written meanwhile: without it the parts
        // are of no upload, whatever fails behind it.
        for batch in keys.chunks(PAGE) {
            self.catalog.write(&mut |catalog| {
                batch.iter().try_for_each(|key| {
                    if *key == head(id) { catalog.remove_object(key) } else { catalog.put_object(&self.dead(key, id)) }
                })
            })?;
        }
        // The notes of what can't be deleted now remain for a later sweep.
        let _ = self.reconcile();
        Ok(is_there)
    }

    /// Marks parts as dead that are of no upload any more: of one whose time is over, or whose removal was interrupted.
    ///
    /// Another server may have kept the first part of this upload since the caller saw none. So each transaction looks at
    /// the note of the upload again: while that is in force, the parts are its own.
    fn remove_stale_parts(&self, id: &Fingerprint) -> Result<()> {
        let now = self.now();
        let mut keys = Vec::new();
        self.for_each_of_upload(id, &mut |note| {
            keys.extend(Part::of(note).map(|part| part.key));
            Ok(())
        })?;
        for batch in keys.chunks(PAGE) {
            self.catalog.write(&mut |catalog| {
                let upload = catalog.object(&head(id))?.as_ref().and_then(PartialUpload::of);
                if upload.is_some_and(|upload| upload.expires_at > now) {
                    return Ok(());
                }
                batch.iter().try_for_each(|key| catalog.put_object(&self.dead(key, id)))
            })?;
        }
        Ok(())
    }

    /// Passes every note of an upload to `work`, that of the upload itself first.
    fn for_each_of_upload(&self, id: &Fingerprint, work: &mut dyn FnMut(Object) -> Result<()>) -> Result<()> {
        let first = head(id);
        self.catalog.object(&first)?.map_or(Ok(()), &mut *work)?;
        let mut after = first.clone();
        loop {
            let notes = self.catalog.objects(Some(&after), PAGE)?;
            let is_last = notes.len() < PAGE;
            for note in notes {
                if !note.key.as_str().starts_with(first.as_str()) {
                    return Ok(());
                }
                after = note.key.clone();
                work(note)?;
            }
            if is_last {
                return Ok(());
            }
        }
    }
}

/// Copies a body into a staged file. An error leaves in the file what came before it.
fn copy(body: &mut dyn Read, staged: &mut super::scratch::StagedFile) -> Result<()> {
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

/// The bytes of an upload, part after part.
pub(crate) struct PartsReader {
    /// The parts that are not begun, the next one last.
    blobs: Vec<Blob>,
    current: Option<BlobReader>,
    cancel: Cancel,
}

impl Read for PartsReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() {
            return Ok(0);
        }
        loop {
            self.cancel.check()?;
            if let Some(current) = &mut self.current {
                let count = current.read(out)?;
                if count > 0 {
                    return Ok(count);
                }
            }
            match self.blobs.pop() {
                Some(blob) => self.current = Some(blob.reader()),
                None => return Ok(0),
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
        store.open_parts(id, &Cancel::new()).unwrap().unwrap().0.read_to_end(&mut all).unwrap();
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
                matches!(append(&store, &id, offset, bytes), Appended::Kept(upload) if upload.offset == offset + 3)
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
            assert!(matches!(append(&store, &id, offset, b"xyz"), Appended::Elsewhere(3)), "{offset}");
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
                            Appended::Kept(upload) => usize::try_from(upload.offset).unwrap(),
                            Appended::Elsewhere(next) => usize::try_from(next).unwrap(),
                        };
                    }
                });
            }
        });
        assert_eq!(bytes_of(&store, &id), whole);
    }
}
