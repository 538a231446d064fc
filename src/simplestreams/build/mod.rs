//! Build: makes the list of a tree from directories, laid out as `simplestream-maintainer` of `lxd-imagebuilder` wants them:
//!
//! ```text
//! STREAM/DISTRO/RELEASE/ARCH/VARIANT/VERSION/   lxd.tar.xz or incus.tar.xz, *.squashfs, *.qcow2, root.tar.xz, *.vcdiff,
//!                                               SHA256SUMS, image.yaml
//! STREAM/DISTRO/RELEASE/ARCH/VARIANT/.VERSION/  an upload that is not complete
//! ```
//!
//! Products, aliases, requirements and deltas are those that this tool makes. What is done in another way, and why:
//!
//! | that tool | here | why |
//! |---|---|---|
//! | replaces list, packed list, index | index for both lists, list, index | a reader finds all that is named at every moment |
//! | lists metadata of LXD only | lists the metadata of either peer for both | Incus reads the tree, too |
//! | `prune` removes directories with the list entries | an hour later | clients keep a list for an hour |
//! | `prune` does not pack the list again | packed documents follow each change | a web server would send an old list |
//! | keeps listed versions without files until `prune` | they leave the list | clients would get 404 |
//! | makes deltas always, by `xdelta3` | if asked, in process; none that saves nothing; their bases are compared with the list | a delta costs minutes; one from other bytes fails on every client |
//! | adds deltas to `SHA256SUMS` | does not change it | it is the builder's, who may have signed it |
//! | lists versions of any name | names begin with a date | LXD and Incus skip all others |
//! | needs a SquashFS or a qcow2 disk | `root.tar.xz` will do | LXD and Incus read it |
//! | lists any other `*.tar.xz` | does not | no reader knows what it is |
//! | `index.html` | none | `serve` has pages |
//!
//! Versions that are listed already are not read again.

mod deltas;
mod retention;
mod scan;

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use self::scan::{Found, FoundProduct};
use super::document;
use super::files::read_all;
use super::tree::{Tree, TreeWriter, fail};
use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::Hasher;
use crate::metadata::StreamConfig;
use crate::omissions::Omitted;
use crate::progress::Monitor;
use crate::protocol::simplestreams::{Item, METADATA_NAMES, Product, Products, RootKind, Version};

/// Options of [`TreeWriter::build`].
///
/// ```no_run
/// use lxd_image::Monitor;
/// use lxd_image::simplestreams::{BuildOptions, Tree};
///
/// let tree = Tree::create("/srv/www")?;
/// let built = tree.lock()?.build(&BuildOptions::new().retain_builds(10), &Monitor::none())?;
/// println!("{} new versions", built.added.len());
/// # Ok::<(), lxd_image::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct BuildOptions {
    retain_builds: Option<usize>,
    retain_days: Option<u64>,
    dangling: bool,
    deltas: bool,
}

impl BuildOptions {
    /// All versions stay.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many versions of each product stay, the newest ones; at least 1.
    #[must_use]
    pub fn retain_builds(mut self, versions: usize) -> Self {
        self.retain_builds = Some(versions.max(1));
        self
    }

    /// For how many days a version stays after its directory was last changed.
    #[must_use]
    pub fn retain_days(mut self, days: u64) -> Self {
        self.retain_days = Some(days);
        self
    }

    /// Whether directories of versions that are not listed, such as uploads that were given up, are removed once nothing
    /// in them has changed for six hours.
    #[must_use]
    pub fn remove_dangling(mut self, yes: bool) -> Self {
        self.dangling = yes;
        self
    }

    /// Whether each version gets the deltas from the one before it that are missing: `rootfs.BASE.vcdiff` and
    /// `disk.BASE.qcow2.vcdiff` in its directory. One that would be no smaller than what it makes is left out.
    #[must_use]
    pub fn deltas(mut self, yes: bool) -> Self {
        self.deltas = yes;
        self
    }
}

/// The result of [`TreeWriter::build`]. Versions are named by their paths in the tree.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct BuiltTree {
    /// Versions that are listed from now on.
    pub added: Vec<String>,
    /// Number of versions that were listed already.
    pub kept: usize,
    /// Versions that left the list: over what is retained, or without their files.
    pub withdrawn: Vec<String>,
    /// Paths of deltas that were made.
    pub deltas: Vec<String>,
    /// Directories of versions that were removed.
    pub removed: Vec<String>,
    /// Versions that can't be listed, and why: a wrong checksum, a wrong `image.yaml`. The others are listed all the same.
    pub failed: Vec<(String, Error)>,
}

/// A product as the list is to have it, without its versions, and the new versions.
struct Prepared {
    product: Product,
    /// New versions, and deltas that came to listed ones: items by name.
    versions: BTreeMap<String, Version>,
    /// Versions that are over what is retained.
    out: Vec<String>,
}

impl TreeWriter {
    /// Makes the list from the directories below that of the stream. What other verbs have listed stays as it is.
    ///
    /// New versions are hashed and compared with their `SHA256SUMS`, if they have one. `X.json.gz` is written beside each
    /// document.
    ///
    /// # Errors
    /// `Malformed` when the list can't be read; `Cancelled`; `Io`. What is wrong with a version is in
    /// [`BuiltTree::failed`].
    pub fn build(&mut self, options: &BuildOptions, monitor: &Monitor) -> Result<BuiltTree> {
        let mut built = BuiltTree::default();
        let listed = match self.tree.products() {
            Ok(products) => products,
            Err(error) if error.kind() == ErrorKind::NotFound => Products::new(0),
            Err(error) => return Err(error),
        };
        let root = self.tree.root.clone();
        let now = self.tree.options.now();
        let found = scan::products(&root, self.tree.stream(), monitor)?;
        let mut prepared = BTreeMap::new();
        for product in &found {
            let known = listed.products.get(&product.key);
            let out = retention::out(product, options.retain_builds, options.retain_days, now);
            let config = self.config(product, &mut built);
            // A delta whose base is not listed would be taken off the list again, and be read at each run.
            let has_base = |delta: &scan::File| {
                let Some((kind, base)) = delta.ftype.strip_suffix(".vcdiff").zip(delta.delta_base.as_deref()) else {
                    return false;
                };
                let has_kind = |version: &Version| version.items.values().any(|item| item.ftype == kind);
                let is_listed = known.is_some_and(|known| {
                    known.versions.get(base).is_some_and(has_kind) || known.versions.odd().contains_key(base)
                });
                let is_base = |version: &Found| {
                    version.name == base && version.roots.iter().any(|(_, there)| there.name() == kind)
                };
                (is_listed || product.versions.iter().any(is_base)) && !out.iter().any(|out| out == base)
            };
            let mut versions = BTreeMap::new();
            for version in product.versions.iter().filter(|version| !out.contains(&version.name)) {
                monitor.check()?;
                let there = known.and_then(|known| known.versions.get(&version.name));
                match self.version(version, there, &has_base, monitor) {
                    Ok(None) => built.kept += 1,
                    Ok(Some(new)) => {
                        if there.is_none() {
                            built.added.push(version.path.clone());
                        } else {
                            built.kept += 1;
                        }
                        versions.insert(version.name.clone(), new);
                    }
                    Err(error) if matches!(error.kind(), ErrorKind::Cancelled | ErrorKind::StorageFull) => {
                        return Err(error);
                    }
                    Err(error) => built.failed.push((version.path.clone(), error)),
                }
            }
            if options.deltas {
                self.build_deltas(product, known, &out, &mut versions, monitor, &mut built)?;
            }
            let described = describe(product, &config, known);
            prepared.insert(product.key.clone(), Prepared { product: described, versions, out });
        }
        let mut withdrawn = Vec::new();
        let tree = self.tree.clone();
        self.commit(|products| {
            withdrawn = apply(products, &prepared, &tree);
            Ok(())
        })?;
        built.withdrawn = withdrawn;
        self.write_packed()?;
        built.removed = self.remove_versions(&found, options, now, monitor)?;
        Ok(built)
    }

    /// The `image.yaml` of the newest version of a product; an empty one where it has none or a wrong one.
    fn config(&self, product: &FoundProduct, built: &mut BuiltTree) -> StreamConfig {
        let limits = &self.tree.options.limits;
        for version in product.versions.iter().rev().filter(|version| version.config) {
            let path = self.tree.root.join(&version.path).join(scan::CONFIG);
            match document::read(&path, limits).and_then(|bytes| StreamConfig::parse(&bytes, limits)) {
                Ok(config) => return config,
                Err(error) => built.failed.push((version.path.clone(), error.in_file(&path))),
            }
        }
        StreamConfig::default()
    }

    /// A version as it is to be listed; `None` where it is listed already and all its files are there. `has_base` says
    /// whether that of a delta is listed too.
    fn version(
        &self,
        found: &Found,
        there: Option<&Version>,
        has_base: &dyn Fn(&scan::File) -> bool,
        monitor: &Monitor,
    ) -> Result<Option<Version>> {
        let deltas = || found.deltas.iter().filter(|delta| has_base(delta));
        if let Some(there) = there.filter(|there| is_whole(there, &self.tree.root)) {
            let mut version = there.clone();
            for delta in deltas().filter(|delta| !there.items.contains_key(&delta.name)) {
                version.items.insert(delta.name.clone(), self.item(found, delta, &mut [], monitor)?);
            }
            add_twins(&mut version);
            return Ok((version != *there).then_some(version));
        }
        let sums = self.sums(found)?;
        let mut version = there.cloned().unwrap_or_default();
        version.items = BTreeMap::new().into();
        let mut metadata = Vec::new();
        for file in &found.metadata {
            let mut whole = Hasher::new();
            let item = self.item(found, file, &mut [&mut whole], monitor)?;
            metadata.push((file.name.clone(), item, whole));
        }
        for (file, kind) in &found.roots {
            // One pass over the rootfs gives its own digest and the fingerprint with each metadata.
            let mut wholes: Vec<Hasher> = metadata.iter().map(|(_, _, whole)| whole.clone()).collect();
            let item = self.item(found, file, &mut wholes.iter_mut().collect::<Vec<_>>(), monitor)?;
            for ((_, metadata, _), whole) in metadata.iter_mut().zip(wholes) {
                kind.set_fingerprint(metadata, &whole.finish());
            }
            version.items.insert(file.name.clone(), item);
        }
        for (name, item, _) in metadata {
            version.items.insert(name, item);
        }
        for delta in deltas() {
            version.items.insert(delta.name.clone(), self.item(found, delta, &mut [], monitor)?);
        }
        if let Some(sums) = sums {
            for (name, item) in &version.items {
                let is_delta = item.ftype.ends_with(".vcdiff");
                match sums.get(name) {
                    // Deltas are made after the sums.
                    None if is_delta => {}
                    None => {
                        let sentence = format!("`{}` does not name `{name}`", scan::SUMS);
                        return Err(Error::new(ErrorKind::NotFound, sentence));
                    }
                    Some(sum) if sum.eq_ignore_ascii_case(&item.sha256) => {}
                    Some(sum) => {
                        let sum: String = sum.chars().take(64).collect();
                        return Err(Error::mismatch(&format!("the digest of `{name}`"), sum, item.sha256.clone()));
                    }
                }
            }
        }
        add_twins(&mut version);
        Ok(Some(version))
    }

    /// The item of a file, whose bytes also go to `others`.
    fn item(&self, found: &Found, file: &scan::File, others: &mut [&mut Hasher], monitor: &Monitor) -> Result<Item> {
        let path = format!("{}/{}", found.path, file.name);
        let mut own = Hasher::new();
        let mut all: Vec<&mut Hasher> = others.iter_mut().map(|other| &mut **other).collect();
        all.push(&mut own);
        let place = self.tree.root.join(&path);
        let opened = self.version_directory(found)?.open_file(file.name.as_bytes()).map_err(fail(&place))?;
        read_all(&opened, &place, &mut all, monitor)?;
        drop(all);
        let size = own.bytes();
        let delta_base = file.delta_base.clone().unwrap_or_default();
        let sha256 = own.finish().to_string();
        Ok(Item { ftype: file.ftype.clone(), path, size: Some(size), sha256, delta_base, ..Item::default() })
    }

    /// The digests in the `SHA256SUMS` of a version, by file name; `None` where it has none.
    fn sums(&self, found: &Found) -> Result<Option<BTreeMap<String, String>>> {
        if !found.sums {
            return Ok(None);
        }
        let path = self.tree.root.join(&found.path).join(scan::SUMS);
        let text = document::read(&path, &self.tree.options.limits)?;
        let text = String::from_utf8(text).map_err(|_| Error::malformed("it is not UTF-8").in_file(&path))?;
        let lines = text.lines().filter_map(|line| line.trim().split_once(char::is_whitespace));
        // `sha256sum -b` writes an asterisk before the name.
        let pairs = lines.map(|(sum, name)| (name.trim().trim_start_matches('*').to_owned(), sum.to_owned()));
        Ok(Some(pairs.collect()))
    }
}

/// Whether every file that a listed version names is there with its size.
fn is_whole(version: &Version, root: &Path) -> bool {
    !version.items.is_empty()
        && version.items.odd().is_empty()
        && version.items.values().all(|item| {
            let about = std::fs::metadata(root.join(&item.path));
            about.is_ok_and(|about| about.is_file() && item.size.is_none_or(|size| size == about.len()))
        })
}

/// Lists the metadata of one peer for the other too, if that has none of its own: the same file, under both names.
fn add_twins(version: &mut Version) {
    let of = |name: &str| version.items.values().find(|item| item.ftype == name).cloned();
    let [lxd, incus] = METADATA_NAMES;
    let (from, to) = match (of(lxd), of(incus)) {
        (Some(item), None) => (item, incus),
        (None, Some(item)) => (item, lxd),
        _ => return,
    };
    version.items.insert(to.to_owned(), Item { ftype: to.to_owned(), ..from });
}

/// The description of a product, as the tool makes it; fields that it does not know stay.
fn describe(found: &FoundProduct, config: &StreamConfig, known: Option<&Product>) -> Product {
    let mut product =
        known.map(|known| Product { versions: BTreeMap::new().into(), ..known.clone() }).unwrap_or_default();
    let mut aliases = aliases(&found.distro, &found.release, &found.variant);
    for release in config.aliases_of(&found.release) {
        aliases.extend(self::aliases(&found.distro, &release, &found.variant));
    }
    product.aliases = aliases.join(",");
    product.arch.clone_from(&found.arch);
    product.os = if config.distro_name.is_empty() { title(&found.distro) } else { config.distro_name.clone() };
    product.release.clone_from(&found.release);
    product.release_title.clone_from(&found.release);
    product.variant.clone_from(&found.variant);
    product.requirements = config.requirements_of(&found.release, &found.arch, &found.variant).into_iter().collect();
    product.other.insert("distro".to_owned(), Value::from(&*found.distro));
    product
}

/// The aliases of a product: the variant `default` and the release `current` may be left out.
fn aliases(distro: &str, release: &str, variant: &str) -> Vec<String> {
    let mut all = vec![format!("{distro}/{release}/{variant}")];
    if release == "current" {
        all.push(format!("{distro}/{variant}"));
    }
    if variant == "default" {
        all.push(if release == "current" { distro.to_owned() } else { format!("{distro}/{release}") });
    }
    all
}

/// A word with a capital first letter.
fn title(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

/// Puts what was found into the list. Returns the versions that leave it.
fn apply(products: &mut Products, prepared: &BTreeMap<String, Prepared>, tree: &Tree) -> Vec<String> {
    let mut withdrawn = Vec::new();
    for (key, new) in prepared {
        // A product that was never listed needs a version to be one.
        if !products.products.contains_key(key) && new.versions.is_empty() {
            continue;
        }
        let product = products.products.entry(key.clone()).or_default();
        let versions = std::mem::take(&mut product.versions);
        *product = Product { versions, ..new.product.clone() };
        for (name, version) in &new.versions {
            product.versions.insert(name.clone(), version.clone());
        }
    }
    for (key, product) in &mut products.products {
        let out = prepared.get(key).map(|new| new.out.as_slice()).unwrap_or_default();
        product.versions.retain(|name, version| {
            let Some(path) = scan::directory_of(version, tree.stream()) else { return true };
            let stays = !out.contains(name) && is_whole(version, &tree.root);
            if !stays {
                withdrawn.push(path);
            }
            stays
        });
        // A delta leaves the list with its base, as everywhere.
        product.drop_orphaned_deltas();
    }
    products.products.retain(|_, product| !product.versions.is_empty());
    withdrawn
}

/// Records what is not listed of a directory.
fn skip(monitor: &Monitor, path: &str, reason: &'static str) {
    monitor.omit(path.as_bytes(), Omitted::Skipped { reason: reason.into() });
}

/// Which rootfs a file is, by its name.
fn kind_of(name: &str) -> Option<RootKind> {
    if name.ends_with(".squashfs") {
        Some(RootKind::Squashfs)
    } else if name.ends_with(".qcow2") {
        Some(RootKind::DiskKvm)
    } else if name == RootKind::Tar.name() {
        Some(RootKind::Tar)
    } else {
        None
    }
}
