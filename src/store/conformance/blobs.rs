//! The conformance suite of [`BlobStore`].

use std::io::{Read, Write};

use super::owed;
use crate::error::{ErrorKind, Result};
use crate::fingerprint::Fingerprint;
use crate::progress::{Cancel, Monitor};
use crate::store::blobs::{BlobKey, BlobStore};
use crate::store::scratch::{Scratch, StagedFile};

/// A staged file with this content.
fn staged(scratch: &Scratch, content: &[u8]) -> Result<StagedFile> {
    let mut file = scratch.create()?;
    file.write_all(content)?;
    Ok(file)
}

/// The bytes of an object.
fn content(blobs: &dyn BlobStore, key: &BlobKey) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    blobs.open(key)?.reader().read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The kind of an error, if it is one.
fn kind<T>(result: Result<T>) -> Option<ErrorKind> {
    result.err().map(|error| error.kind())
}

/// Runs the suite on an empty blob store, with scratch of the same machine, and leaves it empty but
/// for archived objects.
///
/// # Errors
/// `InvalidInput` with a sentence about the violated part of the contract; errors of the
/// implementation where the contract allows none.
pub fn blobs(blobs: &dyn BlobStore, scratch: &Scratch) -> Result<()> {
    let none = Monitor::none();
    blobs.check_identity()?;
    let (key, rootfs) = BlobKey::pair(&Fingerprint::of(b"x"));
    owed(blobs.list(None, 10)?.is_empty(), "the suite begins with nothing")?;
    owed(kind(blobs.open(&key)) == Some(ErrorKind::NotFound), "an object that is not there can't be opened")?;
    blobs.delete(std::slice::from_ref(&key))?;

    let mut file = staged(scratch, b"one")?;
    owed(kind(blobs.open(&key)) == Some(ErrorKind::NotFound), "what is staged is no object")?;
    blobs.put(&key, &mut file, &none)?;
    owed(content(blobs, &key)? == b"one", "an object has its bytes")?;
    drop(file);
    owed(content(blobs, &key)? == b"one", "an object outlives what it was staged as")?;
    let again = blobs.put(&key, &mut staged(scratch, b"two")?, &none);
    owed(matches!(kind(again), Some(ErrorKind::AlreadyExists) | None), "a second put is refused or not noticed")?;

    blobs.put(&rootfs, &mut staged(scratch, b"")?, &none)?;
    owed(content(blobs, &rootfs)?.is_empty(), "an object may be empty")?;
    let mut sparse = vec![0; 100_000];
    sparse.extend_from_slice(b"end");
    let sparse_key = key.sidecar(1);
    blobs.put(&sparse_key, &mut staged(scratch, &sparse)?, &none)?;
    owed(content(blobs, &sparse_key)? == sparse, "blocks of zeros come back")?;

    listing(blobs, &[key.clone(), rootfs.clone(), sparse_key.clone()])?;

    let stopped = Cancel::new();
    stopped.cancel();
    let (cancelled, _) = BlobKey::pair(&Fingerprint::of(b"cancelled"));
    let monitor = Monitor::none().with_cancel(stopped);
    let put = blobs.put(&cancelled, &mut staged(scratch, b"x")?, &monitor);
    owed(kind(put) == Some(ErrorKind::Cancelled), "a put that is cancelled says so")?;
    blobs.delete(std::slice::from_ref(&cancelled))?;
    owed(kind(blobs.open(&cancelled)) == Some(ErrorKind::NotFound), "nothing is left of a put that was cancelled")?;

    let open = blobs.open(&sparse_key)?;
    blobs.delete(&[sparse_key.clone(), cancelled])?;
    owed(kind(blobs.open(&sparse_key)) == Some(ErrorKind::NotFound), "a deleted object can't be opened")?;
    if blobs.grace().is_zero() {
        let mut bytes = Vec::new();
        open.reader().read_to_end(&mut bytes)?;
        owed(bytes == sparse, "who has an object open reads to the end where there is no grace")?;
    }
    blobs.archive(&[key.clone(), rootfs.clone(), sparse_key])?;
    owed(kind(blobs.open(&key)) == Some(ErrorKind::NotFound), "an archived object can't be opened")?;
    owed(blobs.list(None, 10)?.is_empty(), "an archived object is not listed")?;
    blobs.put(&rootfs, &mut staged(scratch, b"again")?, &none)?;
    blobs.archive(std::slice::from_ref(&rootfs))?;
    owed(blobs.list(None, 10)?.is_empty(), "what is archived under the same key is archived as well")?;
    Ok(())
}

/// Listing returns all keys in order, page by page, whatever the size of a page.
fn listing(blobs: &dyn BlobStore, keys: &[BlobKey]) -> Result<()> {
    let mut expected = keys.to_vec();
    expected.sort();
    for limit in [1, 2, 10] {
        let mut found: Vec<BlobKey> = Vec::new();
        loop {
            let page = blobs.list(found.last(), limit)?;
            owed(page.len() <= limit, "a page has no more keys than asked for")?;
            if page.is_empty() {
                break;
            }
            found.extend(page);
        }
        owed(found == expected, "pages of a list have every key once, in order")?;
    }
    Ok(())
}
