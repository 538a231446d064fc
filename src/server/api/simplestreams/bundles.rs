//! [`Bundles`]: the statements about images as files of the list, `images/FINGERPRINT.intoto.jsonl`: JSON lines, one envelope
//! on each. LXD, Incus and other readers ignore items of that type.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};

use crate::error::Result;
use crate::fingerprint::Fingerprint;
use crate::protocol::simplestreams::{ItemPath, PublishedFile, STATEMENTS_TYPE};
use crate::store::{BlobKey, Store, StoredImage};

/// Sizes and digests of bundles, which a list needs, with the revision of the image's row that they are right for.
/// An image that is deleted and uploaded again begins with the first revision, but has another object.
#[derive(Debug, Default)]
pub(super) struct Bundles(Mutex<HashMap<Fingerprint, Known>>);

/// A bundle, and the state of the row that it belongs to.
#[derive(Debug)]
struct Known {
    revision: u64,
    object: BlobKey,
    file: PublishedFile,
}

impl Bundles {
    /// The bundle of an image as a file of the list.
    ///
    /// # Errors
    /// `Malformed` for a damaged statement; those of the catalog.
    pub(super) fn file(&self, store: &Store, image: &StoredImage) -> Result<PublishedFile> {
        if let Some(known) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&image.fingerprint)
            && known.revision == image.revision
            && known.object == image.objects.image
        {
            return Ok(known.file.clone());
        }
        let text = store.bundle(&image.fingerprint)?;
        let path: ItemPath = format!("images/{}.{STATEMENTS_TYPE}", image.fingerprint).parse()?;
        let file = PublishedFile::new(path, text.len() as u64, Fingerprint::of(text.as_bytes()));
        let known = Known { revision: image.revision, object: image.objects.image.clone(), file: file.clone() };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(image.fingerprint, known);
        Ok(file)
    }

    /// Forgets all other images.
    pub(super) fn keep(&self, stated: &BTreeSet<Fingerprint>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|fingerprint, _| stated.contains(fingerprint));
    }
}
