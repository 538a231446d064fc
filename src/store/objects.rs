//! Finds objects that no row names by listing the blobs: for check and repair, which do not trust the catalog.
//!
//! Keys are listed in the order of their bytes. All keys of an image begin with its fingerprint, so
//! they are adjacent, and only the keys of one image are in memory at a time.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::blobs::{BlobKey, ObjectPart, SplitKey};
use super::image::ImageObjects;
use super::open::Store;
use crate::error::{ErrorKind, Result};
use crate::fingerprint::Fingerprint;
use crate::progress::Monitor;

/// How many keys one call of [`BlobStore::list`](super::BlobStore::list) returns.
const PAGE: usize = 4_096;

/// The objects that one upload of an image created, as far as they are present, whether or not a row names them.
pub(super) struct Upload {
    pub(super) fingerprint: Fingerprint,
    /// The key of its image file, whether or not that is there.
    pub(super) image: BlobKey,
    pub(super) has_image: bool,
    pub(super) rootfs: Option<BlobKey>,
    /// Its sidecars, that of the newest revision last.
    pub(super) sidecars: Vec<(u64, BlobKey)>,
}

/// What [`Store::for_each_upload`] finds.
pub(super) enum Listed {
    /// The objects of one upload.
    Upload(Upload),
    /// A part of an upload that is no image yet, by the ID of the upload.
    UploadPart(Fingerprint, BlobKey),
    /// A layer of container images.
    Layer { digest: Fingerprint, key: BlobKey },
    /// A key that this library does not create, for example of a file that was copied into the directory by hand.
    Stray(BlobKey),
}

impl Upload {
    /// An upload of which nothing was found yet.
    fn new(of: &SplitKey) -> Self {
        Self {
            fingerprint: of.fingerprint,
            image: of.image.clone(),
            has_image: false,
            rootfs: None,
            sidecars: Vec::new(),
        }
    }

    /// Adds an object that was found.
    fn add(&mut self, key: BlobKey, of: &SplitKey) {
        match of.part {
            ObjectPart::Image => self.has_image = true,
            ObjectPart::Rootfs => self.rootfs = Some(key),
            // It is no part of an image.
            ObjectPart::Layer => {}
            ObjectPart::Sidecar => {
                self.sidecars.push((of.revision, key));
                self.sidecars.sort_unstable();
            }
            // Passed on alone, before this.
            ObjectPart::UploadPart => {}
        }
    }

    /// All keys that are present.
    pub(super) fn keys(&self) -> Vec<BlobKey> {
        let image = self.has_image.then_some(&self.image);
        let sidecars = self.sidecars.iter().map(|(_, key)| key);
        image.into_iter().chain(&self.rootfs).chain(sidecars).cloned().collect()
    }

    /// The objects as the row of the image would name them: with the sidecar of the newest revision.
    pub(super) fn objects(&self) -> ImageObjects {
        let sidecar = self.sidecars.last().map(|(_, key)| key.clone());
        ImageObjects { image: self.image.clone(), rootfs: self.rootfs.clone(), sidecar }
    }
}

impl Store {
    /// Passes every upload and every foreign key among the blobs to `work`, in the order of keys;
    /// of one image the upload with the newest sidecar comes first.
    ///
    /// # Errors
    /// Those of `work` and of listing; `Cancelled`.
    pub(super) fn for_each_upload(&self, monitor: &Monitor, work: &mut dyn FnMut(Listed) -> Result<()>) -> Result<()> {
        let mut after: Option<BlobKey> = None;
        let mut image: Option<Fingerprint> = None;
        // All uploads of one image, by the key of its image file: keys of several uploads may alternate.
        let mut uploads: BTreeMap<BlobKey, Upload> = BTreeMap::new();
        let flush = |uploads: &mut BTreeMap<BlobKey, Upload>, work: &mut dyn FnMut(Listed) -> Result<()>| {
            // A committed upload has a sidecar; the one with the newest revision was visible last.
            let mut all: Vec<Upload> = std::mem::take(uploads).into_values().collect();
            all.sort_by_key(|upload| Reverse(upload.sidecars.last().map(|(revision, _)| *revision)));
            all.into_iter().try_for_each(|upload| work(Listed::Upload(upload)))
        };
        loop {
            monitor.check()?;
            let keys = self.blobs.list(after.as_ref(), PAGE)?;
            let Some(last) = keys.last() else { break };
            after = Some(last.clone());
            for key in keys {
                let Some(of) = key.split() else {
                    work(Listed::Stray(key))?;
                    continue;
                };
                if of.part == ObjectPart::UploadPart {
                    work(Listed::UploadPart(of.fingerprint, key))?;
                    continue;
                }
                if of.part == ObjectPart::Layer {
                    work(Listed::Layer { digest: of.fingerprint, key })?;
                    continue;
                }
                if image.replace(of.fingerprint) != Some(of.fingerprint) {
                    flush(&mut uploads, work)?;
                }
                uploads.entry(of.image.clone()).or_insert_with(|| Upload::new(&of)).add(key, &of);
            }
        }
        flush(&mut uploads, work)
    }

    /// Whether a row or a note names an object.
    ///
    /// The order of the three reads matters: a note disappears in the transaction that inserts a
    /// row, and a row in the transaction that adds notes. An object that is named all the time is
    /// found by one of `note, row, note`, whatever commits in between.
    pub(super) fn is_named(&self, fingerprint: &Fingerprint, key: &BlobKey) -> Result<bool> {
        Ok(self.catalog.object(key)?.is_some()
            || self.catalog.image(fingerprint)?.is_some_and(|image| image.objects.names(key))
            || self.catalog.object(key)?.is_some())
    }

    /// Those of an upload's keys that neither a row nor a note names, and that are still present.
    pub(super) fn unnamed(&self, upload: &Upload) -> Result<Vec<BlobKey>> {
        let mut unnamed = Vec::new();
        for key in upload.keys() {
            if self.is_named(&upload.fingerprint, &key)? {
                continue;
            }
            match self.blobs.open(&key) {
                // Deleted after it was listed.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                _ => unnamed.push(key),
            }
        }
        Ok(unnamed)
    }
}
