//! `Documents`: index and list as they were last made, given out as long as the public images are the same.
//! A list that changes has a later date than the one before, also within one second.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::digests::LOOK_AGAIN;
use crate::fingerprint::{Fingerprint, Hasher};
use crate::protocol::simplestreams::{Index, Products};
use crate::store::StoredImage;
use crate::time;

/// The two documents.
#[derive(Debug)]
pub(super) struct Documents {
    /// The images that they were made of.
    state: Fingerprint,
    /// The state of the catalog that they were made of, and when.
    made: (Option<u64>, Instant),
    /// Whether nothing was left out for a reason that may pass.
    whole: bool,
    /// The digest of the list without its date.
    pub(super) tag: Fingerprint,
    /// When the list became what it is, as far as this server knows; seconds since 1970.
    pub(super) updated: i64,
    /// `index.json`.
    pub(super) index: Arc<[u8]>,
    /// `images.json`.
    pub(super) images: Arc<[u8]>,
}

/// The documents that were made last.
#[derive(Debug, Default)]
pub(super) struct Newest(Mutex<Option<Arc<Documents>>>);

impl Newest {
    /// The documents, if they were made of these images and need not be made again; for `version` of the catalog, too, from now on.
    pub(super) fn get(&self, state: &Fingerprint, version: Option<u64>) -> Option<Arc<Documents>> {
        let mut newest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = newest.as_ref().filter(|documents| documents.state == *state && documents.whole)?;
        let made = (version, Instant::now());
        let (index, images) = (Arc::clone(&before.index), Arc::clone(&before.images));
        let (state, tag, updated) = (before.state, before.tag, before.updated);
        let same = Arc::new(Documents { state, made, whole: true, tag, updated, index, images });
        *newest = Some(Arc::clone(&same));
        Some(same)
    }

    /// The documents, if the catalog is what they were made of, and nothing that was left out may be mended by now.
    pub(super) fn of_version(&self, version: Option<u64>) -> Option<Arc<Documents>> {
        let newest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = |documents: &&Arc<Documents>| {
            let (made_of, when) = documents.made;
            made_of.is_some() && made_of == version && (documents.whole || when.elapsed() < LOOK_AGAIN)
        };
        newest.as_ref().filter(fresh).map(Arc::clone)
    }

    /// Makes documents. Where nothing changed, they keep their date.
    pub(super) fn set(
        &self,
        (state, version): (Fingerprint, Option<u64>),
        whole: bool,
        products: &mut Products,
        now: i64,
    ) -> Arc<Documents> {
        let tag = Fingerprint::of(products.to_json().as_bytes());
        // Held to the end: of two that are made at once, the later one has the later date.
        let mut newest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let updated = match &*newest {
            Some(before) if before.tag == tag => before.updated,
            Some(before) => now.max(before.updated.saturating_add(1)),
            None => now,
        };
        products.updated = time::to_rfc2822(updated);
        let index = Index::of(products, updated).to_json().into_bytes().into();
        let images = products.to_json().into_bytes().into();
        let made = (version, Instant::now());
        let made = Arc::new(Documents { state, made, whole, tag, updated, index, images });
        *newest = Some(Arc::clone(&made));
        made
    }
}

/// Changes with all that a list tells of images.
pub(super) fn state(images: &[StoredImage]) -> Fingerprint {
    let mut hasher = Hasher::new();
    let mut text = |text: &str| {
        hasher.update(&text.len().to_le_bytes());
        hasher.update(text.as_bytes());
    };
    for image in images {
        text(&image.fingerprint.to_string());
        text(&format!("{} {} {}", image.properties.len(), image.aliases.len(), image.uploaded_at));
        for (key, value) in image.properties.iter() {
            text(key);
            text(value);
        }
        for alias in &image.aliases {
            text(&alias.name);
        }
    }
    hasher.finish()
}
