//! `Documents`: index and list as they were last made, served as long as the public images are the same.
//! A list that changes has a later date than the one before, also within one second. The list is written product by product
//! ([`ListWriter`]) and kept in chunks, so that one of 100,000 images is in memory once, as text, and never as values.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::digests::LOOK_AGAIN;
use crate::error::{Error, Result};
use crate::fingerprint::{Fingerprint, Hasher};
use crate::protocol::simplestreams::{Index, Product, Products};

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
    /// `images.json`, in chunks.
    pub(super) images: Vec<Arc<[u8]>>,
}

/// How long the chunks of a list are, in bytes: small beside a list, large beside what the network takes at once.
const CHUNK_BYTES: usize = 256 * 1024;

/// The products of a list as text, written one by one in the order of their keys.
#[derive(Debug, Default)]
pub(super) struct ListWriter {
    chunks: Vec<Arc<[u8]>>,
    chunk: Vec<u8>,
    keys: Vec<String>,
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
            self.digest.update(bytes);
            self.chunk.extend_from_slice(bytes);
        }
        self.keys.push(key);
        if self.chunk.len() >= CHUNK_BYTES {
            self.chunks.push(std::mem::take(&mut self.chunk).into());
        }
        Ok(())
    }

    /// Index and list with this date.
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

/// The documents that were made last.
#[derive(Debug, Default)]
pub(super) struct Newest(Mutex<Option<Arc<Documents>>>);

impl Newest {
    /// The documents, if they were made of these images and need not be made again; for `version` of the catalog, too, from now on.
    pub(super) fn get(&self, state: &Fingerprint, version: Option<u64>) -> Option<Arc<Documents>> {
        let mut newest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = newest.as_ref().filter(|documents| documents.state == *state && documents.whole)?;
        let made = (version, Instant::now());
        let (index, images) = (Arc::clone(&before.index), before.images.clone());
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
        mut list: ListWriter,
        now: i64,
    ) -> Arc<Documents> {
        let tag = std::mem::take(&mut list.digest).finish();
        // Held to the end: of two that are made at once, the later one has the later date.
        let mut newest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let updated = match &*newest {
            Some(before) if before.tag == tag => before.updated,
            Some(before) => now.max(before.updated.saturating_add(1)),
            None => now,
        };
        let (index, images) = list.finish(updated);
        let made = (version, Instant::now());
        let made = Arc::new(Documents { state, made, whole, tag, updated, index, images });
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
