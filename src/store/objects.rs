//! Objects without a row: found among the blobs by their keys, one upload at a time. Keys are listed in order, so that those of
//! one upload stand together, and no set of all keys is ever in memory.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::blobs::{BlobKey, ObjectPart, SplitKey};
use super::image::ImageObjects;
use super::open::Store;
use crate::error::{ErrorKind, Result};
use crate::fingerprint::Fingerprint;
use crate::progress::Monitor;

/// How many keys are listed at once.
const PAGE: usize = 4_096;

/// The objects of one upload that are there, whether or not a row names them.
pub(super) struct Upload {
    pub(super) fingerprint: Fingerprint,
    /// The key of its image file, whether or not that is there.
    pub(super) image: BlobKey,
    pub(super) has_image: bool,
    pub(super) rootfs: Option<BlobKey>,
    /// Its sidecars, that of the newest revision last.
    pub(super) sidecars: Vec<(u64, BlobKey)>,
}

/// Something among the blobs.
pub(super) enum Listed {
    Upload(Upload),
    /// A key that no store makes.
    Stray(BlobKey),
}

impl Upload {
    fn new(of: &SplitKey) -> Self {
        Self {
            fingerprint: of.fingerprint,
            image: of.image.clone(),
            has_image: false,
            rootfs: None,
            sidecars: Vec::new(),
        }
    }

    fn add(&mut self, key: BlobKey, of: &SplitKey) {
        match of.part {
            ObjectPart::Image => self.has_image = true,
            ObjectPart::Rootfs => self.rootfs = Some(key),
            ObjectPart::Sidecar => {
                self.sidecars.push((of.revision, key));
                self.sidecars.sort_unstable();
            }
        }
    }

    /// All keys that are there.
    pub(super) fn keys(&self) -> Vec<BlobKey> {
        let image = self.has_image.then_some(&self.image);
        let sidecars = self.sidecars.iter().map(|(_, key)| key);
        image.into_iter().chain(&self.rootfs).chain(sidecars).cloned().collect()
    }

    /// What a row of it would name.
    pub(super) fn objects(&self) -> ImageObjects {
        let sidecar = self.sidecars.last().map(|(_, key)| key.clone());
        ImageObjects { image: self.image.clone(), rootfs: self.rootfs.clone(), sidecar }
    }
}

impl Store {
    /// Gives all that is among the blobs to `work`, in the order of keys.
    pub(super) fn for_each_upload(&self, monitor: &Monitor, work: &mut dyn FnMut(Listed) -> Result<()>) -> Result<()> {
        let mut after: Option<BlobKey> = None;
        let mut image: Option<Fingerprint> = None;
        // All uploads of one image: their keys stand together, and those of two uploads may be mixed.
        let mut uploads: BTreeMap<BlobKey, Upload> = BTreeMap::new();
        let flush = |uploads: &mut BTreeMap<BlobKey, Upload>, work: &mut dyn FnMut(Listed) -> Result<()>| {
            // One that was committed has a sidecar, and the newest revision was the last one.
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
    /// An upload's note goes as its row comes, and a row goes as notes of its objects come: asked in this order, one of the three
    /// answers names an object that is named all the time.
    pub(super) fn is_named(&self, fingerprint: &Fingerprint, key: &BlobKey) -> Result<bool> {
        Ok(self.catalog.object(key)?.is_some()
            || self.catalog.image(fingerprint)?.is_some_and(|image| image.objects.names(key))
            || self.catalog.object(key)?.is_some())
    }

    /// Those of an upload's keys that neither a row nor a note names, and that are there to stay.
    pub(super) fn unnamed(&self, upload: &Upload) -> Result<Vec<BlobKey>> {
        let mut unnamed = Vec::new();
        for key in upload.keys() {
            if self.is_named(&upload.fingerprint, &key)? {
                continue;
            }
            match self.blobs.open(&key) {
                // Deleted since it was listed.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                _ => unnamed.push(key),
            }
        }
        Ok(unnamed)
    }
}
