//! Prune: takes old versions out of the list, and removes files that no list has named for long enough.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use super::document::{Retired, paths};
use super::tree::{TreeWriter, fail};
use crate::atomic;
use crate::error::Result;
use crate::progress::Monitor;
use crate::protocol::simplestreams::{ItemPath, Products, by_number};

/// The record of files at paths of other owners' lists, and when they were noted: these are removed, and no others that are not
/// named by a digest.
pub(super) const MIRRORED: &str = "mirrored.json";

/// Options of [`TreeWriter::prune`]: how many versions stay, and how long withdrawn files do.
///
/// ```
/// use lxd_image::simplestreams::PruneOptions;
/// use std::time::Duration;
///
/// let options = PruneOptions::new().keep(3).after(Duration::from_secs(24 * 3600)).dry_run(true);
/// # let _ = options;
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PruneOptions {
    /// Versions of each product; `None` for all.
    keep: Option<usize>,
    after: Duration,
    dry_run: bool,
}

impl Default for PruneOptions {
    fn default() -> Self {
        // LXD and this library use a cached list for up to an hour without asking whether it changed.
        Self { keep: None, after: Duration::from_secs(3600), dry_run: false }
    }
}

impl PruneOptions {
    /// Keeps all versions, and withdrawn files for an hour.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many versions of each product stay in the list, the newest ones; at least 1.
    #[must_use]
    pub fn keep(mut self, versions: usize) -> Self {
        self.keep = Some(versions.max(1));
        self
    }

    /// How long files stay after they were withdrawn, instead of an hour. Readers may hold an older list for that long.
    #[must_use]
    pub fn after(mut self, time: Duration) -> Self {
        self.after = time;
        self
    }

    /// Whether nothing is changed and the result says what would be.
    #[must_use]
    pub fn dry_run(mut self, yes: bool) -> Self {
        self.dry_run = yes;
        self
    }
}

/// The result of [`TreeWriter::prune`].
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct PrunedTree {
    /// Versions that were taken out of the list, as `PRODUCT VERSION`.
    pub versions: Vec<String>,
    /// Files that were removed, by their paths in the tree.
    pub files: Vec<String>,
    /// The size of these files in bytes.
    pub bytes: u64,
    /// Number of files that no list names and that stay for now.
    pub waiting: usize,
}

impl TreeWriter {
    /// Takes old versions, and deltas from them, out of the list, if [`keep`](PruneOptions::keep) is set, and removes files in
    /// `images/` that are named by a digest, and files that a mirror put at the paths of a foreign list, that are not in the list
    /// and were withdrawn long enough ago. A file that was never seen
    /// in the list (a crash, another tool) is recorded as withdrawn now, and removed by a later run.
    ///
    /// # Errors
    /// `Io`; `Malformed` when the list can't be read; `Cancelled`. Files that were removed before the error stay removed, and
    /// a later run removes the others.
    pub fn prune(&mut self, options: &PruneOptions, monitor: &Monitor) -> Result<PrunedTree> {
        monitor.check()?;
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
        let (mut mirrored, foreign) = self.mirrored();
        let mut stored = self.stored()?;
        stored.extend(foreign);
        for (path, size) in stored {
            monitor.check()?;
            if listed.contains(path.as_str()) {
                continue;
            }
            match old.get(&path) {
                // A time in the future means that the clock was set back: the file waits once more.
                Some(since) if *since <= now && now.saturating_sub(*since) >= wait => {
                    if !options.dry_run {
                        let whole = self.tree.root.join(&path);
                        fs::remove_file(&whole).map_err(fail(&whole))?;
                        mirrored.remove(&path);
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
                let directory = self.tree.root.join(self.tree.stream());
                atomic::sync_parent(&directory.join("x")).map_err(fail(&directory))?;
            }
            if left != old {
                self.write_retired(&left)?;
            }
            if mirrored != self.noted(MIRRORED) {
                self.note(MIRRORED, &mirrored)?;
            }
        }
        Ok(done)
    }

    /// Files at paths of other owners that are there, with their sizes.
    fn mirrored(&self) -> (Retired, BTreeSet<(String, u64)>) {
        let noted = self.noted(MIRRORED);
        let there = noted.keys().filter_map(|name| {
            // The record is a file of the tree, which others may write.
            let path: ItemPath = name.parse().ok()?;
            let about = fs::symlink_metadata(self.tree.root.join(path.to_file())).ok()?;
            about.is_file().then(|| (name.clone(), about.len()))
        });
        let there = there.collect();
        (noted, there)
    }

    /// Files in the stream's directory whose names begin with a digest. Others are not this library's, and stay.
    fn stored(&self) -> Result<BTreeSet<(String, u64)>> {
        let directory = self.tree.root.join(self.tree.stream());
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
                found.insert((format!("{}/{name}", self.tree.stream()), about.len()));
            }
        }
        Ok(found)
    }
}

/// Removes all but the newest `keep` versions of each product, and returns what was removed.
fn drop_versions(products: &mut Products, keep: Option<usize>) -> Vec<String> {
    let Some(keep) = keep else { return Vec::new() };
    let mut gone = Vec::new();
    for (key, product) in &mut products.products {
        let old = product.versions.len().saturating_sub(keep);
        // Version keys are dates, compared with numbers by value, so that `20240101_2` is before `20240101_10`.
        let mut keys: Vec<String> = product.versions.keys().cloned().collect();
        keys.sort_by(|a, b| by_number(a, b));
        for version in keys.into_iter().take(old) {
            product.versions.remove(&version);
            gone.push(format!("{key} {version}"));
        }
        if old > 0 {
            product.drop_orphaned_deltas();
        }
    }
    gone
}
