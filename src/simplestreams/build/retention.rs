//! Retention: which versions leave the list, and when their directories are removed.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::scan::{FoundProduct, directory_of};
use super::{BuildOptions, skip};
use crate::atomic;
use crate::error::Result;
use crate::progress::Monitor;
use crate::simplestreams::document::Retired;
use crate::simplestreams::tree::{TreeWriter, fail};

/// Where withdrawn versions are recorded, below the private directory.
const RETIRED_VERSIONS: &str = "retired-versions.json";
/// For how long the directory of a version stays after it left the list, in seconds: clients keep a list for an hour.
const GRACE: i64 = 3_600;
/// For how long nothing must have changed in a directory that is not listed before it may be removed, in seconds. As
/// `simplestream-maintainer` waits.
const DANGLING: i64 = 6 * 3_600;
const DAY: i64 = 86_400;

/// The versions of a product that are over what is retained.
pub(super) fn out(product: &FoundProduct, builds: Option<usize>, days: Option<u64>, now: i64) -> Vec<String> {
    let newest = product.versions.iter().rev().enumerate();
    let old = |modified: i64| {
        let most = days.and_then(|days| i64::try_from(days).ok()).map(|days| days.saturating_mul(DAY));
        most.is_some_and(|most| now.saturating_sub(modified) > most)
    };
    newest
        .filter(|(place, version)| builds.is_some_and(|builds| *place >= builds) || old(version.modified))
        .map(|(_, version)| version.name.clone())
        .collect()
}

impl TreeWriter {
    /// Removes the directories of versions that left the list an hour ago or longer, and if asked those that were never
    /// listed and have not changed for long. Returns their paths.
    pub(super) fn remove_versions(
        &mut self,
        found: &[FoundProduct],
        options: &BuildOptions,
        now: i64,
        monitor: &Monitor,
    ) -> Result<Vec<String>> {
        let root = self.tree.root.clone();
        let products = self.tree.products()?;
        let versions = products.products.values().flat_map(|product| product.versions.values());
        let listed: BTreeSet<String> =
            versions.filter_map(|version| directory_of(version, self.tree.stream())).collect();
        let old = self.noted(RETIRED_VERSIONS);
        let (mut left, mut removed) = (Retired::new(), Vec::new());
        for product in found {
            let out = out(product, options.retain_builds, options.retain_days, now);
            for version in product.versions.iter().filter(|version| !listed.contains(&version.path)) {
                if out.contains(&version.name) {
                    match old.get(&version.path) {
                        // A time in the future means that the clock was set back: it waits once more.
                        Some(since) if *since <= now && now.saturating_sub(*since) >= GRACE => {
                            removed.push(version.path.clone());
                        }
                        since => {
                            let since = since.copied().filter(|since| *since <= now).unwrap_or(now);
                            left.insert(version.path.clone(), since);
                        }
                    }
                } else if options.dangling && is_idle(&root.join(&version.path), now)? {
                    removed.push(version.path.clone());
                }
            }
            for path in product.incomplete.iter().filter(|_| options.dangling) {
                // An empty list may mean that it was lost: nothing is removed by it.
                if listed.is_empty() {
                    skip(monitor, path, "nothing is listed, so that nothing is removed as not listed");
                } else if is_idle(&root.join(path), now)? {
                    removed.push(path.clone());
                }
            }
        }
        for path in &removed {
            remove(&root, self.tree.stream(), path)?;
        }
        if left != old {
            self.note(RETIRED_VERSIONS, &left)?;
        }
        Ok(removed)
    }
}

/// Whether neither a directory nor a file in it changed for long.
fn is_idle(path: &Path, now: i64) -> Result<bool> {
    let mut newest = fs::symlink_metadata(path).map_err(fail(path))?.mtime();
    for entry in fs::read_dir(path).map_err(fail(path))? {
        let about = entry.and_then(|entry| entry.metadata()).map_err(fail(path))?;
        newest = newest.max(about.mtime());
    }
    Ok(now.saturating_sub(newest) > DANGLING)
}

/// Removes the directory of a version, and the directories above it that are empty then.
fn remove(root: &Path, stream: &str, path: &str) -> Result<()> {
    let whole = root.join(path);
    // Links in it are removed and not followed.
    fs::remove_dir_all(&whole).map_err(fail(&whole))?;
    let mut above = whole.parent();
    while let Some(directory) = above.filter(|directory| *directory != root.join(stream)) {
        // Fails for one that is not empty, which is what is wanted.
        if fs::remove_dir(directory).is_err() {
            break;
        }
        above = directory.parent();
    }
    match above {
        Some(directory) => atomic::sync_parent(&directory.join("x")).map_err(fail(directory)),
        None => Ok(()),
    }
}
