//! Verify: reads every file that the list names, computes the fingerprint of every image from its files, and applies every
//! delta to its base.

use std::collections::{BTreeMap, BTreeSet};

use super::document::indexed;
use super::files::read_whole;
use super::tree::{INDEX, Tree};
use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::{Fingerprint, Hasher};
use crate::omissions::{Omissions, Omitted};
use crate::progress::{Monitor, Phase};
use crate::protocol::simplestreams::{Item, ItemPath, Listing, Products, StreamImage};
use crate::trust::{ListKeys, ListSignature};

/// Options of [`Tree::verify`].
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct TreeVerifyOptions {
    keys: ListKeys,
}

impl TreeVerifyOptions {
    /// Without progress or cancellation.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Verifies the signatures of index and list, too: each must be by one of these keys, over what the plain documents say.
    #[must_use]
    pub fn keys(mut self, keys: ListKeys) -> Self {
        self.keys = keys;
        self
    }
}

/// The report of [`Tree::verify`].
///
/// ```no_run
/// use lxd_image::Monitor;
/// use lxd_image::simplestreams::Tree;
///
/// let report = Tree::open("/srv/www")?.verify(&Default::default(), &Monitor::none())?;
/// for finding in &report.findings {
///     eprintln!("{finding}");
/// }
/// println!("{} of {} images, {} bytes", if report.is_clean() { "all" } else { "not all" }, report.images, report.bytes);
/// # Ok::<(), lxd_image::Error>(())
/// ```
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct TreeReport {
    /// Number of images in the list.
    pub images: usize,
    /// Number of files that the list names.
    pub files: usize,
    /// The size of the files that were read, in bytes.
    pub bytes: u64,
    /// What is wrong: `Untrusted` for a signature, `Mismatch` for a wrong size or digest, `NotFound` for a missing file, `UnsafePath` and `Malformed` for
    /// entries of the list.
    pub findings: Vec<Error>,
    /// Entries that readers leave out, and files without a digest: they are not verified.
    pub omissions: Omissions,
    /// Who signed index and list, if keys were given.
    pub signatures: Vec<ListSignature>,
}

impl TreeReport {
    /// Whether there are no findings.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }
}

impl Tree {
    /// Reads all files that the list names, and applies every delta. A tree can be verified while another process changes it.
    ///
    /// # Errors
    /// `Malformed` when index or list can't be read; `Cancelled`; `Io`. Whatever is wrong with a file is a finding.
    pub fn verify(&self, options: &TreeVerifyOptions, monitor: &Monitor) -> Result<TreeReport> {
        // The index first: a writer adds products to it before the list has them, so this order can't report one as missing.
        let index = self.index()?;
        let products = self.products()?;
        let mut report = TreeReport::default();
        let mut findings = self.check_index(&indexed(&index, self).unwrap_or_default(), &products);
        if !options.keys.is_empty() {
            let (signatures, wrong) = self.check_signatures(&options.keys)?;
            report.signatures = signatures;
            findings.extend(wrong);
        }
        let items =
            products.products.values().flat_map(|product| product.versions.values()).flat_map(|v| v.items.values());
        let mut wanted: BTreeMap<String, &Item> = BTreeMap::new();
        for item in items {
            // Several entries may name one file, also in different spellings; it is read once.
            let path = item.path.parse::<ItemPath>().map_or_else(|_| item.path.clone(), |path| path.to_file());
            match wanted.get(&path) {
                Some(other) if other.sha256 != item.sha256 || other.size != item.size => {
                    let shown: String = item.path.chars().take(200).collect();
                    findings.push(Error::malformed(format!("the list says two things of the file `{shown}`")));
                }
                _ => _ = wanted.insert(path, item),
            }
        }
        let total = wanted.values().map(|item| item.size.unwrap_or(0)).fold(0_u64, u64::saturating_add);
        let listing = Listing::within(&products, &self.options.limits);
        let own = monitor.nested();
        own.omit_all(listing.omissions());
        let of_images = listing.images().iter().flat_map(|image| std::iter::once(&image.first).chain(&image.rootfs));
        let of_images: BTreeSet<&str> = of_images.map(|file| file.path.as_str()).collect();
        let mut bad: BTreeSet<&str> = BTreeSet::new();
        for (path, item) in &wanted {
            monitor.report(Phase::Hash, report.bytes, Some(total))?;
            if item.sha256.is_empty() && !of_images.contains(item.path.as_str()) {
                let reason = "the list tells no digest of it, so that its bytes can't be compared".into();
                own.omit(path.as_bytes(), Omitted::Skipped { reason });
                continue;
            }
            report.bytes = report.bytes.saturating_add(item.size.unwrap_or(0));
            match self.check_file(item, &own) {
                Ok(()) => {}
                Err(error) if matches!(error.kind(), ErrorKind::Cancelled | ErrorKind::Io | ErrorKind::StorageFull) => {
                    return Err(error);
                }
                Err(error) => {
                    bad.insert(item.path.as_str());
                    findings.push(error);
                }
            }
        }
        for image in listing.images().iter().filter(|image| image.rootfs.is_some()) {
            // A wrong file makes the image wrong; that is one fault and one finding.
            let paths = [Some(&image.first), image.rootfs.as_ref()];
            if paths.into_iter().flatten().any(|file| bad.contains(file.path.as_str())) {
                continue;
            }
            findings.extend(self.check_image(image, monitor)?);
        }
        // Two images with one rootfs, for LXD and for Incus, have the same deltas.
        let mut checked: BTreeSet<[&str; 3]> = BTreeSet::new();
        for image in listing.images() {
            let Some(rootfs) = &image.rootfs else { continue };
            for delta in image.deltas.iter() {
                let paths = [&delta.file, &delta.base, rootfs].map(|file| file.path.as_str());
                if !paths.iter().any(|path| bad.contains(path)) && checked.insert(paths) {
                    findings.extend(self.check_delta(image, delta, monitor)?);
                }
            }
        }
        let applied: BTreeSet<&str> = checked.iter().map(|[delta, ..]| *delta).collect();
        for item in wanted.values().filter(|item| item.ftype.ends_with(".vcdiff")) {
            if !applied.contains(item.path.as_str()) && !bad.contains(item.path.as_str()) {
                let reason =
                    "the delta was not applied: an image that it starts from or makes is not listed, or is damaged";
                own.omit(item.path.as_bytes(), Omitted::Skipped { reason: reason.into() });
            }
        }
        report.images = listing.images().len();
        report.files = wanted.len();
        report.omissions = own.omissions();
        report.findings = findings;
        Ok(report)
    }

    /// A finding for products of the list that the index does not name, which readers would not see.
    fn check_index(&self, named: &BTreeSet<&str>, products: &Products) -> Vec<Error> {
        let keys = products.products.keys().chain(products.products.odd().keys());
        let missing: Vec<_> = keys.filter(|key| !named.contains(key.as_str())).collect();
        let Some(first) = missing.first() else { return Vec::new() };
        let shown: String = first.chars().take(128).collect();
        let what = format!("the index names {} of the list's products not, among them `{shown}`", missing.len());
        vec![Error::malformed(what).with_hint("any change of the tree makes it right").in_file(self.root.join(INDEX))]
    }

    /// Checks presence, size and digest of one file.
    fn check_file(&self, item: &Item, monitor: &Monitor) -> Result<()> {
        let path: ItemPath = item.path.parse()?;
        let whole = self.root.join(path.to_file());
        // Without a digest of its own, the fingerprint of the image decides.
        let expected = match item.sha256.as_str() {
            "" => None,
            text => Some(
                text.parse::<Fingerprint>()
                    .map_err(|_| Error::malformed(format!("the list tells of `{path}` what is no digest")))?,
            ),
        };
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
        if let Some(size) = item.size.filter(|size| *size != found && *size > 0) {
            return Err(Error::mismatch("the size in bytes", size.to_string(), found.to_string()).in_file(whole));
        }
        let Some(expected) = expected else { return Ok(()) };
        let mut own = Hasher::new();
        read_whole(&whole, &mut [&mut own], monitor)?;
        let found = own.finish();
        if found != expected {
            return Err(Error::mismatch("the digest", expected.to_string(), found.to_string()).in_file(whole));
        }
        Ok(())
    }

    /// Computes the fingerprint of a split image. Both files may be right and the pair still wrong (hostile corpus, row 157).
    fn check_image(&self, image: &StreamImage, monitor: &Monitor) -> Result<Option<Error>> {
        let mut whole = Hasher::new();
        for file in std::iter::once(&image.first).chain(&image.rootfs) {
            let path = file.checked_path()?;
            read_whole(&self.root.join(path.to_file()), &mut [&mut whole], monitor)?;
        }
        let found = whole.finish();
        if found == image.fingerprint {
            return Ok(None);
        }
        let what = format!("the fingerprint of an image of `{}`, version `{}`", image.product, image.version);
        Ok(Some(Error::mismatch(&what, image.fingerprint.to_string(), found.to_string())))
    }
}
