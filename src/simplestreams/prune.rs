//! Prune: old versions out of the list, and files that no list names out of the tree, once nobody may look for them.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use super::document::{Retired, paths};
use super::tree::{IMAGES, TreeWriter, fail};
use crate::atomic;
use crate::error::Result;
use crate::protocol::simplestreams::{Products, by_number};

/// What goes, and when.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PruneOptions {
    keep: Option<usize>,
    after: Duration,
    dry_run: bool,
}

impl Default for PruneOptions {
    fn default() -> Self {
        // As long as clients keep a list without asking again.
        Self { keep: None, after: Duration::from_secs(3600), dry_run: false }
    }
}

impl PruneOptions {
    /// All versions stay; files that were listed an hour ago stay.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many versions of each product stay in the list, at least one: the newest.
    #[must_use]
    pub fn keep(mut self, versions: usize) -> Self {
        self.keep = Some(versions.max(1));
        self
    }

    /// How long files stay after they were taken out of the list, instead of an hour.
    #[must_use]
    pub fn after(mut self, time: Duration) -> Self {
        self.after = time;
        self
    }

    /// Whether nothing changes, and what would is returned.
    #[must_use]
    pub fn dry_run(mut self, yes: bool) -> Self {
        self.dry_run = yes;
        self
    }
}

/// What was removed.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct PrunedTree {
    /// Versions that left the list, as `PRODUCT VERSION`.
    pub versions: Vec<String>,
    /// Files that were removed, by their paths in the tree.
    pub files: Vec<String>,
    /// Bytes in them.
    pub bytes: u64,
    /// Files that no list names and that stay for now.
    pub waiting: usize,
}

impl TreeWriter {
    /// Takes old versions out of the list, if that is wanted, and removes files in `images/` that are named by their
    /// digests, that the list does not name, and that were taken out of it an hour ago or longer. One that was never
    /// seen in the list is noted first, and removed an hour after that.
    ///
    /// # Errors
    /// `Io`; `Malformed` when the list can't be read.
    pub fn prune(&mut self, options: &PruneOptions) -> Result<PrunedTree> {
        let mut done = PrunedTree::default();
        let mut products = self.tree.products()?;
        done.versions = drop_versions(&mut products, options.keep);
        if !options.dry_run && !done.versions.is_empty() {
            self.commit(|products| {
                done.versions = drop_versions(products, options.keep);
                Ok(())
            })?;
            products = self.tree.products()?;
        }
        let listed = paths(&products);
        let now = self.tree.options.now();
        let wait = i64::try_from(options.after.as_secs()).unwrap_or(i64::MAX);
        let old = self.retired();
        let mut left = Retired::new();
        for (path, size) in self.stored()? {
            if listed.contains(path.as_str()) {
                continue;
            }
            match old.get(&path) {
                // A clock that was put back makes it wait once more.
                Some(since) if *since <= now && now.saturating_sub(*since) >= wait => {
                    if !options.dry_run {
                        let whole = self.tree.root.join(&path);
                        fs::remove_file(&whole).map_err(fail(&whole))?;
                    }
                    done.bytes = done.bytes.saturating_add(size);
                    done.files.push(path);
                }
                since => {
                    done.waiting += 1;
                    left.insert(path, since.copied().filter(|since| *since <= now).unwrap_or(now));
                }
            }
        }
        if !options.dry_run {
            if !done.files.is_empty() {
                let directory = self.tree.root.join(IMAGES);
                atomic::sync_parent(&directory.join("x")).map_err(fail(&directory))?;
            }
            if left != old {
                self.write_retired(&left)?;
            }
        }
        Ok(done)
    }

    /// The files that are named as those of images are.
    fn stored(&self) -> Result<BTreeSet<(String, u64)>> {
        let directory = self.tree.root.join(IMAGES);
        let mut found = BTreeSet::new();
        for entry in fs::read_dir(&directory).map_err(fail(&directory))? {
            let entry = entry.map_err(fail(&directory))?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            let digest = name.split_once('.').is_some_and(|(digest, _)| {
                digest.len() == 64 && digest.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
            });
            let about = entry.metadata().map_err(fail(&directory))?;
            if digest && about.is_file() {
                found.insert((format!("{IMAGES}/{name}"), about.len()));
            }
        }
        Ok(found)
    }
}

fn drop_versions(products: &mut Products, keep: Option<usize>) -> Vec<String> {
    let Some(keep) = keep else { return Vec::new() };
    let mut gone = Vec::new();
    for (key, product) in &mut products.products {
        let old = product.versions.len().saturating_sub(keep);
        // Keys are dates: their order is that of time.
        let mut keys: Vec<String> = product.versions.keys().cloned().collect();
        keys.sort_by(|a, b| by_number(a, b));
        for version in keys.into_iter().take(old) {
            product.versions.remove(&version);
            gone.push(format!("{key} {version}"));
        }
    }
    gone
}
