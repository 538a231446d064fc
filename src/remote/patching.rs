//! `Patching`: makes the rootfs of an image out of one that the store has, with the deltas that a list offers.
//!
//! Of all chains of deltas that begin at an image of the store, the one with the fewest bytes is taken, if these are fewer than
//! those of the whole file. Each step is applied to a file at rest and written to scratch, where its size and digest are compared
//! with those of the list before it is used. So whatever a delta does, what comes out is the file that would have been
//! downloaded, and everything else leads to that download.

use std::collections::{BTreeMap, BTreeSet};

use crate::delta;
use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::{Fingerprint, HashingWriter};
use crate::format::Input;
use crate::io::{Blob, ReadAt};
use crate::limits::Limits;
use crate::omissions::Omitted;
use crate::progress::Monitor;
use crate::protocol::simplestreams::{File, Listing, StreamDelta, StreamImage};
use crate::store::Store;

/// Versions that are looked at on the way to one that the store has.
const MAX_VERSIONS: usize = 64;
/// Deltas in a row.
const MAX_STEPS: usize = 16;

/// What is needed to make a rootfs.
pub(super) struct Patching<'a> {
    pub(super) listing: &'a Listing,
    pub(super) store: &'a Store,
    pub(super) limits: &'a Limits,
    pub(super) monitor: &'a Monitor,
}

/// A chain of deltas, the first one to be applied first.
struct Chain<'a> {
    base: Blob,
    /// Each delta, and the image whose rootfs it makes.
    steps: Vec<(&'a StreamDelta, &'a StreamImage)>,
}

/// A version on the way back from the wanted one, and how it was reached.
struct Reached<'a> {
    image: &'a StreamImage,
    /// From here to the wanted version.
    steps: Vec<(&'a StreamDelta, &'a StreamImage)>,
}

impl Patching<'_> {
    /// The rootfs of an image; `None` where deltas would not help, or have failed, which is recorded.
    ///
    /// # Errors
    /// `Cancelled`.
    pub(super) fn rootfs(&self, image: &StreamImage, open: &dyn Fn(&File) -> Result<Input>) -> Result<Option<Input>> {
        let Some(chain) = self.chain(image) else { return Ok(None) };
        let version = chain.steps.first().map(|(delta, _)| delta.base_version.clone()).unwrap_or_default();
        match self.apply_all(chain, open) {
            Ok(rootfs) => {
                let name = image.rootfs.as_ref().map_or("", |rootfs| rootfs.path.as_str());
                Ok(Some(Input::blob(rootfs).named(name)))
            }
            Err(error) if error.kind() == ErrorKind::Cancelled => Err(error),
            Err(error) => {
                let shown: String = version.chars().take(64).collect();
                let option = format!("the delta from version `{shown}`").into();
                let reason = format!("{error}; the whole file is downloaded").into();
                self.monitor.omit(image.fingerprint.to_string(), Omitted::NotHonoured { option, reason });
                Ok(None)
            }
        }
    }

    /// The chain with the fewest bytes from an image of the store, if it has fewer than the rootfs.
    fn chain(&self, wanted: &StreamImage) -> Option<Chain<'_>> {
        let rootfs = wanted.rootfs.as_ref()?;
        // Without a digest a wrong result would be found only when the whole image is imported, too late for the download.
        rootfs.sha256?;
        let most = rootfs.size?;
        let wanted = self.find(&wanted.fingerprint)?;
        // By bytes, so that the first one that the store has is the best.
        let mut open: BTreeMap<(u64, usize), Reached<'_>> = BTreeMap::new();
        let mut number = 0;
        open.insert((0, number), Reached { image: wanted, steps: Vec::new() });
        let mut seen: BTreeSet<Fingerprint> = BTreeSet::new();
        while let Some(((bytes, _), reached)) = open.pop_first() {
            let Reached { image, steps } = reached;
            if !seen.insert(image.fingerprint) || seen.len() > MAX_VERSIONS {
                continue;
            }
            if let Some(base) = steps.first().and_then(|(delta, _)| self.stored(delta)) {
                return Some(Chain { base, steps });
            }
            if steps.len() == MAX_STEPS {
                continue;
            }
            for delta in image.deltas.iter() {
                let Some(size) = delta.file.size.filter(|_| delta.file.sha256.is_some()) else { continue };
                let all = bytes.saturating_add(size);
                if all >= most {
                    continue;
                }
                let mut steps = steps.clone();
                steps.insert(0, (delta, image));
                if let Some(image) = delta.bases.iter().find_map(|base| self.find(base)) {
                    number += 1;
                    open.insert((all, number), Reached { image, steps });
                }
            }
        }
        None
    }

    fn find(&self, fingerprint: &Fingerprint) -> Option<&StreamImage> {
        self.listing.images().iter().find(|image| image.fingerprint == *fingerprint)
    }

    /// The rootfs that a delta starts from, if the store has one of its images.
    fn stored(&self, delta: &StreamDelta) -> Option<Blob> {
        // An image that can't be opened is no base; the whole file makes up for it.
        let opened = delta.bases.iter().find_map(|base| self.store.open_image(base).ok())?;
        let rootfs = opened.files().1?.clone();
        delta.base.size.is_none_or(|size| size == rootfs.len()).then_some(rootfs)
    }

    fn apply_all(&self, chain: Chain<'_>, open: &dyn Fn(&File) -> Result<Input>) -> Result<Blob> {
        let mut base = chain.base;
        for (delta, image) in chain.steps {
            let made = image.rootfs.as_ref().ok_or_else(|| Error::malformed("the image has no rootfs"))?;
            let input = open(&delta.file)?;
            let mut limits = self.limits.clone();
            // More than the list says is wrong in any case: it must not fill the disk.
            limits.output = limits.output.min(made.size.unwrap_or(u64::MAX).max(1));
            let mut output = HashingWriter::new(self.store.stage_file()?);
            let reader = input.reader(self.monitor.cancel())?;
            delta::apply(&base, reader, &mut output, &limits, self.monitor)?;
            let found = output.hasher.finish();
            if let Some(expected) = made.sha256.filter(|expected| *expected != found) {
                let what = format!("the sha256 of {} out of a delta", made.path);
                return Err(Error::mismatch(&what, expected.to_string(), found.to_string()));
            }
            base = output.inner.reader()?;
        }
        Ok(base)
    }
}
