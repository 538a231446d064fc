//! Deltas in a tree: made when an image is added, taken over by mirrors, and checked.
//!
//! A delta belongs to the version whose rootfs it makes, and names the version that it starts from. It is listed in the same change
//! as its image, and leaves the list with its image or its base, whichever goes first.

use std::fs::File;
use std::path::Path;

use super::add::AddOptions;
use super::files::{Counted, Part};
use super::tree::{Tree, TreeWriter, fail};
use crate::delta::{self, DeltaOptions};
use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::{Fingerprint, Hasher, HashingWriter};
use crate::format::Input;
use crate::io::Blob;
use crate::omissions::Omitted;
use crate::progress::Monitor;
use crate::protocol::simplestreams::{ItemPath, Publication, PublishedFile, StreamDelta, StreamImage, by_number};

/// A delta that [`TreeWriter::add`] made.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AddedDelta {
    /// The version that it starts from.
    pub base_version: String,
    /// Its size in bytes.
    pub size: u64,
}

impl TreeWriter {
    /// Makes the deltas of an image that is about to be published. One that would be no smaller than the rootfs is left out and
    /// recorded.
    pub(super) fn make_deltas(
        &self,
        image: &Publication,
        options: &AddOptions,
        monitor: &Monitor,
    ) -> Result<Vec<(String, PublishedFile)>> {
        let wanted = options.delta_versions();
        if wanted == 0 {
            return Ok(Vec::new());
        }
        let dropped = |reason: String| {
            let what = Omitted::NotHonoured { option: "`delta_from`".into(), reason: reason.into() };
            monitor.omit(image.fingerprint.to_string(), what);
        };
        let Some((kind, rootfs)) = image.rootfs.as_ref().filter(|(kind, _)| kind.delta_name().is_some()) else {
            dropped("only images with a SquashFS or a qcow2 disk in a file of its own have deltas".to_owned());
            return Ok(Vec::new());
        };
        let listing = match self.tree.listing() {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            listing => listing?,
        };
        // A version of the same minute is older: the new image gets a key that sorts after it.
        let is_older = |key: &str| {
            let same = key.strip_prefix(&*image.version).is_some_and(|rest| rest.is_empty() || rest.starts_with('_'));
            same || by_number(key, &image.version).is_lt()
        };
        let mut bases: Vec<&StreamImage> = listing
            .images()
            .iter()
            .filter(|other| other.product == image.product && other.root_kind == Some(*kind))
            .filter(|other| is_older(&other.version))
            .collect();
        bases.sort_by(|one, other| by_number(&other.version, &one.version));
        // Several images of a version share their rootfs.
        bases.dedup_by(|one, other| one.version == other.version);
        let mut how = DeltaOptions::new();
        if let Some(threads) = self.tree.options.threads {
            how = how.threads(threads);
        }
        let mut made = Vec::new();
        for base in bases.into_iter().take(wanted) {
            let old = match self.sound_base(base, monitor) {
                Ok(old) => old,
                Err(error) if error.kind() == ErrorKind::Cancelled => return Err(error),
                Err(error) => {
                    dropped(format!("the rootfs of version `{}` is damaged: {error}", base.version));
                    continue;
                }
            };
            let new = open(&self.tree.root.join(rootfs.path.to_file()))?;
            let (staged, _) = self.stage_written("delta", |out| delta::make(&old, &new, out, &how, monitor))?;
            if staged.size >= rootfs.size {
                dropped(format!("the delta from version `{}` is no smaller than the rootfs", base.version));
                continue;
            }
            made.push((base.version.clone(), self.place(staged, Part::Delta(*kind), monitor)?));
        }
        Ok(made)
    }

    /// Opens the rootfs of an image whose bytes are those of the list: a delta from others would fail on every client.
    fn sound_base(&self, image: &StreamImage, monitor: &Monitor) -> Result<Blob> {
        let rootfs = image.rootfs.as_ref().ok_or_else(|| Error::malformed("the image has no rootfs"))?;
        let path = self.tree.root.join(rootfs.checked_path()?.to_file());
        if let Some(expected) = rootfs.sha256 {
            let mut hasher = Hasher::new();
            super::files::read_whole(&path, &mut [&mut hasher], monitor)?;
            let found = hasher.finish();
            if found != expected {
                return Err(Error::mismatch("the digest", expected.to_string(), found.to_string()).in_file(path));
            }
        }
        open(&path)
    }

    /// Adds a delta of another list, if image and base are here and the delta is not. `open` is called only if its file is missing
    /// here. Returns whether it was added. The delta is not applied, so that a mirror costs no more than the transfer.
    ///
    /// # Errors
    /// `Mismatch` when the bytes are not those that the list describes; those of `open`; `Cancelled`; `Io`.
    pub fn adopt_delta(
        &mut self,
        image: &StreamImage,
        delta: &StreamDelta,
        monitor: &Monitor,
        open: impl FnOnce() -> Result<Input>,
    ) -> Result<bool> {
        let listing = self.tree.listing()?;
        let find = |fingerprint: &Fingerprint| listing.images().iter().find(|here| here.fingerprint == *fingerprint);
        let Some((here, kind)) = find(&image.fingerprint).and_then(|here| Some((here, here.root_kind?))) else {
            return Ok(false);
        };
        // The version may have another key here.
        let base = delta.bases.iter().filter_map(find).find(|base| base.product == here.product);
        let Some(base) = base else { return Ok(false) };
        let Some(sha256) = delta.file.sha256 else {
            return Err(Error::malformed("the list has no digest of a delta"));
        };
        let is_here = |there: &StreamDelta| there.base_version == base.version && there.file.sha256 == Some(sha256);
        if here.deltas.iter().any(is_here) {
            return Ok(false);
        }
        let path = Part::Delta(kind).path(&self.tree, &sha256)?;
        let left_behind = delta.file.size.map(|size| PublishedFile::new(path, size, sha256));
        let mut file = match left_behind {
            Some(file) if self.has(&file, monitor)? => file,
            _ => {
                let input = open()?;
                let mut counted = Counted { whole: Hasher::new(), total: delta.file.size, monitor };
                let staged = self.stage("delta", &input, &mut counted)?;
                if staged.sha256 != sha256 {
                    let what = "the digest of a delta";
                    return Err(Error::mismatch(what, sha256.to_string(), staged.sha256.to_string()));
                }
                self.place(staged, Part::Delta(kind), monitor)?
            }
        };
        file.other = (*delta.file.other).clone();
        let (product, version) = (here.product.clone(), base.version.clone());
        self.commit(|products| Ok(products.publish_delta(&product, &image.fingerprint, &version, &file)))
    }
}

impl Tree {
    /// Applies a delta to its base, and compares the result with the rootfs of the image.
    pub(super) fn check_delta(
        &self,
        image: &StreamImage,
        delta: &StreamDelta,
        monitor: &Monitor,
    ) -> Result<Option<Error>> {
        let Some(rootfs) = &image.rootfs else { return Ok(None) };
        let at = |path: ItemPath| self.root.join(path.to_file());
        let path = at(delta.file.checked_path()?);
        let expected = match rootfs.sha256 {
            Some(sha256) => sha256,
            None => {
                let mut hasher = Hasher::new();
                super::files::read_whole(&at(rootfs.checked_path()?), &mut [&mut hasher], monitor)?;
                hasher.finish()
            }
        };
        let base = open(&at(delta.base.checked_path()?))?;
        let mut limits = self.options.limits.clone();
        limits.output = limits.output.min(rootfs.size.unwrap_or(u64::MAX).max(1));
        let mut out = HashingWriter::new(std::io::sink());
        let reader = File::open(&path).map_err(fail(&path))?;
        match delta::apply(&base, reader, &mut out, &limits, monitor) {
            Err(error) if matches!(error.kind(), ErrorKind::Cancelled | ErrorKind::Io) => Err(error),
            Err(error) => Ok(Some(error.in_file(path))),
            Ok(_) => {
                let found = out.hasher.finish();
                let what = format!("the digest of what the delta from version `{}` makes", delta.base_version);
                let differs = || Error::mismatch(&what, expected.to_string(), found.to_string()).in_file(path);
                Ok((found != expected).then(differs))
            }
        }
    }
}

/// Opens a file of the tree to be read at random places.
fn open(path: &Path) -> Result<Blob> {
    File::open(path).and_then(Blob::file).map_err(fail(path))
}
