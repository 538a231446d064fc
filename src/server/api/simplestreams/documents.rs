//! [`Documents`]: index and list as they were last made, served as long as the public images are
//! the same.
//!
//! The list is written product by product ([`ListWriter`]) and kept in chunks, so that a list of
//! 100,000 images is in memory once, as text, and never as values. Responses share the chunks.
//!
//! A list that changes has a later date than the one before it, also within one second: clients
//! with `If-Modified-Since` would miss the change otherwise. A list that is made again and turns
//! out the same keeps its date.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::digests::LOOK_AGAIN;
use super::signed::SignedForms;
use crate::error::{Error, Result};
use crate::fingerprint::{Fingerprint, Hasher};
use crate::protocol::simplestreams::{Index, Product, Products};

/// The two documents, and what they were made from. Immutable; a newer version replaces it.
#[derive(Debug)]
pub(super) struct Documents {
    /// The digest of the public images that they were made from.
    state: Fingerprint,
    /// The version of the catalog that they are right for, and when that was determined.
    made: (Option<u64>, Instant),
    /// Whether nothing was left out for a reason that may pass.
    whole: bool,
    /// The digest of the list without its date.
    pub(super) tag: Fingerprint,
    /// When the list became what it is, as far as this server knows; seconds since 1970.
    pub(super) updated: i64,
    /// `index.json`.
    pub(super) index: Arc<[u8]>,
    /// `images.json`, in chunks.
    pub(super) images: Vec<Arc<[u8]>>,
    /// Their signed forms, as far as they were asked for.
    pub(super) signed: Arc<SignedForms>,
}

/// The size of the chunks of a list in bytes: small beside a list, large beside what the network
/// takes at once.
const CHUNK_BYTES: usize = 256 * 1024;

/// Writes the products of a list as JSON, in the order of their keys, into chunks.
///
/// The text is byte for byte that of the whole document, as `Products::to_json` writes it, so that
/// a tree and a server have the same list.
#[derive(Debug, Default)]
pub(super) struct ListWriter {
    /// The chunks that are full.
    chunks: Vec<Arc<[u8]>>,
    /// The chunk that is being filled.
    chunk: Vec<u8>,
    /// The keys of the products so far, for the index.
    keys: Vec<String>,
    /// The digest of the text so far, without the date at its beginning.
    digest: Hasher,
}

impl ListWriter {
    /// Writes a product as it stands in the whole document, two levels deep.
    ///
    /// # Errors
    /// `Malformed` when it can't be written as JSON.
    pub(super) fn write(&mut self, key: String, product: &Product) -> Result<()> {
        let map = BTreeMap::from([(key.as_str(), product)]);
        let text = serde_json::to_string_pretty(&map)
            .map_err(|error| Error::malformed("a product can't be written as JSON").with_source(error))?;
        let entry = text.strip_prefix('{').and_then(|text| text.strip_suffix("\n}")).unwrap_or_default();
        // A newline is never inside of a JSON string, so this only indents.
        let entry = entry.replace('\n', "\n  ");
        let comma: &[u8] = if self.keys.is_empty() { b"" } else { b"," };
        for bytes in [comma, entry.as_bytes()] {
            // Without the date, which is what the digest decides about.
            self.digest.update(bytes);
            self.chunk.extend_from_slice(bytes);
        }
        self.keys.push(key);
        if self.chunk.len() >= CHUNK_BYTES {
            self.chunks.push(std::mem::take(&mut self.chunk).into());
        }
        Ok(())
    }

    /// The index, and the chunks of the list with its head and tail, both with this date.
    fn finish(mut self, updated: i64) -> (Arc<[u8]>, Vec<Arc<[u8]>>) {
        const NO_PRODUCTS: &str = "{}\n}\n";
        let empty = Products::new(updated).to_json();
        let index = Index::naming(std::mem::take(&mut self.keys), updated).to_json().into_bytes().into();
        let list = match empty.strip_suffix(NO_PRODUCTS) {
            Some(head) if !(self.chunks.is_empty() && self.chunk.is_empty()) => {
                self.chunk.extend_from_slice(b"\n  }\n}\n");
                let head = std::iter::once(format!("{head}{{").into_bytes().into());
                head.chain(self.chunks).chain(std::iter::once(self.chunk.into())).collect()
            }
            _ => vec![empty.into_bytes().into()],
        };
        (index, list)
    }
}

/// The documents that were made last; `None` before the first request. The lock is held for
/// comparisons, and while a new list gets its date.
#[derive(Debug, Default)]
pub(super) struct Newest(Mutex<Option<Arc<Documents>>>);

impl Newest {
    /// The documents, if they were made from these images and none was left out. They are then
    /// valid for this version of the catalog as well.
    pub(super) fn get(&self, state: &Fingerprint, version: Option<u64>) -> Option<Arc<Documents>> {
        let mut newest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = newest.as_ref().filter(|documents| documents.state == *state && documents.whole)?;
        let made = (version, Instant::now());
        let (index, images) = (Arc::clone(&before.index), before.images.clone());
        let signed = Arc::clone(&before.signed);
        let (state, tag, updated) = (before.state, before.tag, before.updated);
        let same = Arc::new(Documents { state, made, whole: true, tag, updated, index, images, signed });
        *newest = Some(Arc::clone(&same));
        Some(same)
    }

    /// The documents, if the catalog has not changed since. If some image was left out, they are
    /// valid for half a second only: its files may have been repaired, which does not change the
    /// catalog.
    pub(super) fn of_version(&self, version: Option<u64>) -> Option<Arc<Documents>> {
        let newest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = |documents: &&Arc<Documents>| {
            let (made_of, when) = documents.made;
            made_of.is_some() && made_of == version && (documents.whole || when.elapsed() < LOOK_AGAIN)
        };
        newest.as_ref().filter(fresh).map(Arc::clone)
    }

    /// Keeps new documents. They keep the date of those before if the list is the same.
    pub(super) fn set(
        &self,
        (state, version): (Fingerprint, Option<u64>),
        whole: bool,
        mut list: ListWriter,
        now: i64,
    ) -> Arc<Documents> {
        let tag = std::mem::take(&mut list.digest).finish();
        // Held to the end: of two that are made at once, the later one has the later date.
        let mut newest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let updated = match &*newest {
            Some(before) if before.tag == tag => before.updated,
            // The clock may have been set back, and still the date must grow.
            Some(before) => now.max(before.updated.saturating_add(1)),
            None => now,
        };
        let (index, images) = list.finish(updated);
        let made = (version, Instant::now());
        let made = Arc::new(Documents { state, made, whole, tag, updated, index, images, signed: Arc::default() });
        *newest = Some(Arc::clone(&made));
        made
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[test]
    fn list_written_by_product_is_the_document_byte_for_byte() {
        for count in [0, 1, 3, 2_000] {
            let mut products = Products::new(1_700_000_000);
            for number in 0..count {
                let mut product = Product { os: "a \"quoted\"\nname".repeat(20), ..Product::default() };
                product.requirements.insert("x".into(), "{}\n}\n".into());
                products.products.insert(format!("box:{number:05}"), product);
            }
            let mut list = ListWriter::default();
            for (key, product) in &products.products {
                list.write(key.clone(), product).unwrap();
            }
            let (index, chunks) = list.finish(1_700_000_000);
            assert_eq!(chunks.concat(), products.to_json().into_bytes());
            assert_eq!(*index, *Index::of(&products, 1_700_000_000).to_json().into_bytes());
        }
    }
}
