//! Verify: every file that the list names is read, and every image's fingerprint is computed from its files.

use std::collections::{BTreeMap, BTreeSet};

use super::document::indexed;
use super::files::read_whole;
use super::tree::{INDEX, Tree};
use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::{Fingerprint, Hasher};
use crate::progress::{Monitor, Phase};
use crate::protocol::simplestreams::{Item, ItemPath, Listing, Products, StreamImage};

/// How a tree is verified.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct TreeVerifyOptions {
    monitor: Monitor,
}

impl TreeVerifyOptions {
    /// Without progress.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Reports progress and listens for cancellation.
    #[must_use]
    pub fn monitor(mut self, monitor: Monitor) -> Self {
        self.monitor = monitor;
        self
    }
}

/// What was found.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct TreeReport {
    /// Images in the list.
    pub images: usize,
    /// Files that it names.
    pub files: usize,
    /// Bytes in those that are there.
    pub bytes: u64,
    /// What is wrong: `Mismatch` for bytes that are not what the list says, `NotFound` for a file that is missing,
    /// `UnsafePath`, `Malformed` for what the list says.
    pub findings: Vec<Error>,
    /// What every reader skips, and why: no fault of the tree.
    pub skipped: Vec<String>,
}

impl TreeReport {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }
}

impl Tree {
    /// Reads all that the list names. A tree can be verified while another process writes into it.
    ///
    /// # Errors
    /// `Malformed` when index or list can't be read; `Cancelled`; `Io`. What is wrong with files is a finding.
    pub fn verify(&self, options: &TreeVerifyOptions) -> Result<TreeReport> {
        // The index before the list: it names what a newer list has, too.
        let index = self.index()?;
        let products = self.products()?;
        let mut report = TreeReport::default();
        let mut findings = self.check_index(&indexed(&index).unwrap_or_default(), &products);
        let items =
            products.products.values().flat_map(|product| product.versions.values()).flat_map(|v| v.items.values());
        let mut wanted: BTreeMap<&str, &Item> = BTreeMap::new();
        for item in items {
            match wanted.get(item.path.as_str()) {
                Some(other) if other.sha256 != item.sha256 || other.size != item.size => {
                    let shown: String = item.path.chars().take(200).collect();
                    findings.push(Error::malformed(format!("the list says two things of the file `{shown}`")));
                }
                _ => _ = wanted.insert(&item.path, item),
            }
        }
        let total = wanted.values().map(|item| item.size).fold(0_u64, u64::saturating_add);
        let listing = Listing::new(&products);
        let mut bad: BTreeSet<&str> = BTreeSet::new();
        for (path, item) in &wanted {
            options.monitor.report(Phase::Hash, report.bytes, Some(total))?;
            report.bytes = report.bytes.saturating_add(item.size);
            match self.check_file(item, &options.monitor) {
                Ok(()) => {}
                Err(error) if matches!(error.kind(), ErrorKind::Cancelled | ErrorKind::Io | ErrorKind::StorageFull) => {
                    return Err(error);
                }
                Err(error) => {
                    bad.insert(path);
                    findings.push(error);
                }
            }
        }
        for image in listing.images().iter().filter(|image| image.rootfs.is_some()) {
            // One finding for one fault: a file that is wrong makes the image wrong.
            let paths = [Some(&image.first), image.rootfs.as_ref()];
            if paths.into_iter().flatten().any(|file| bad.contains(file.path.as_str())) {
                continue;
            }
            findings.extend(self.check_image(image, &options.monitor)?);
        }
        report.images = listing.images().len();
        report.files = wanted.len();
        report.skipped = listing.skipped().to_vec();
        report.findings = findings;
        Ok(report)
    }

    fn check_index(&self, named: &BTreeSet<&str>, products: &Products) -> Vec<Error> {
        let missing: Vec<_> = products.products.keys().filter(|key| !named.contains(key.as_str())).collect();
        let Some(first) = missing.first() else { return Vec::new() };
        let shown: String = first.chars().take(128).collect();
        let what = format!("the index names {} of the list's products not, among them `{shown}`", missing.len());
        vec![Error::malformed(what).with_hint("any change of the tree makes it right").in_file(self.root.join(INDEX))]
    }

    fn check_file(&self, item: &Item, monitor: &Monitor) -> Result<()> {
        let path: ItemPath = item.path.parse()?;
        let expected: Fingerprint =
            item.sha256.parse().map_err(|_| Error::malformed(format!("the list tells no digest of `{path}`")))?;
        let whole = self.root.join(path.as_str());
        let found = match std::fs::metadata(&whole) {
            Ok(about) if about.is_file() => about.len(),
            Ok(_) => return Err(Error::malformed("this is no file, and the list names it as one").in_file(whole)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(
                    Error::new(ErrorKind::NotFound, "the file is missing, and the list names it").in_file(whole)
                );
            }
            Err(error) => return Err(super::tree::fail(&whole)(error)),
        };
        if found != item.size {
            return Err(Error::mismatch("the size in bytes", item.size.to_string(), found.to_string()).in_file(whole));
        }
        let mut own = Hasher::new();
        read_whole(&whole, &mut [&mut own], monitor)?;
        let found = own.finish();
        if found != expected {
            return Err(Error::mismatch("the digest", expected.to_string(), found.to_string()).in_file(whole));
        }
        Ok(())
    }

    /// hostile.md 157: the digest of the whole, where each part's is right.
    fn check_image(&self, image: &StreamImage, monitor: &Monitor) -> Result<Option<Error>> {
        let mut whole = Hasher::new();
        for file in std::iter::once(&image.first).chain(&image.rootfs) {
            let path = file.checked_path()?;
            read_whole(&self.root.join(path.as_str()), &mut [&mut whole], monitor)?;
        }
        let found = whole.finish();
        if found == image.fingerprint {
            return Ok(None);
        }
        let what = format!("the fingerprint of an image of `{}`, version `{}`", image.product, image.version);
        Ok(Some(Error::mismatch(&what, image.fingerprint.to_string(), found.to_string())))
    }
}
