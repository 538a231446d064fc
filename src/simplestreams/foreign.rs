//! Lists of another owner, with their signatures, byte for byte: for mirrors.
//!
//! A signature covers bytes. So a mirror that keeps it publishes the owner's documents as they are, with every file at the path that
//! they name, instead of a list of its own. All files are there before the first document is written; the documents follow in the
//! order of `signing.rs`, the list before the index. Files that the new list no longer names are withdrawn as in every tree.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use super::document::{paths, read};
use super::files::Counted;
use super::prune::MIRRORED;
use super::tree::{PRIVATE, STREAM, Tree, TreeWriter, fail, make_dir};
use crate::atomic;
use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::{Fingerprint, Hasher};
use crate::format::Input;
use crate::progress::Monitor;
use crate::protocol::simplestreams::{ItemPath, Products, PublishedFile};

/// A file of a list, as its owner describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ForeignFile {
    pub(crate) path: ItemPath,
    pub(crate) size: Option<u64>,
    pub(crate) sha256: Fingerprint,
}

/// All files that a list names, by their paths in the tree.
///
/// # Errors
/// `Unsupported` for a list that can't be published as it is: entries that can't be read, files without a sha256, paths in the
/// place of the lists.
pub(crate) fn files(products: &Products) -> Result<BTreeMap<String, ForeignFile>> {
    let odd = |what: &str| Error::unsupported(format!("{what} of the list can't be read"));
    let mut found = BTreeMap::new();
    if !products.products.odd().is_empty() {
        return Err(odd("a product"));
    }
    for product in products.products.values() {
        if !product.versions.odd().is_empty() {
            return Err(odd("a version"));
        }
        for version in product.versions.values() {
            if !version.items.odd().is_empty() {
                return Err(odd("an item"));
            }
            for item in version.items.values().filter(|item| !item.path.is_empty()) {
                let path: ItemPath = item.path.parse()?;
                let name = path.to_file();
                let top = name.split('/').next().unwrap_or_default();
                if top == "streams" || top == PRIVATE {
                    return Err(Error::unsupported("a file of the list is in the place of the lists"));
                }
                if let Some(why) = is_active(&name) {
                    return Err(Error::unsupported(format!(
                        "a file of the list {why}, and a mirror serves images only"
                    )));
                }
                let sha256 = item.sha256.parse();
                let sha256 = sha256.map_err(|_| Error::unsupported("a file of the list has no sha256"))?;
                let file = ForeignFile { path, size: item.size, sha256 };
                if found.get(&name).is_some_and(|other: &ForeignFile| other.sha256 != sha256) {
                    return Err(Error::unsupported("the list has two digests for one file"));
                }
                found.insert(name, file);
            }
        }
    }
    Ok(found)
}

/// Why a web server might give a file a meaning of its own: the owner of a list is trusted for images, and neither for what
/// the mirror's host proves about itself (`.well-known`) nor for scripts and pages on it.
fn is_active(name: &str) -> Option<&'static str> {
    const ENDINGS: [&str; 12] = ["html", "htm", "xhtml", "svg", "js", "mjs", "css", "php", "phtml", "cgi", "py", "pl"];
    if name.split('/').any(|segment| segment.starts_with('.')) {
        return Some("has a hidden name");
    }
    if name.split('/').any(|segment| segment.len() > 255) {
        return Some("has a name of more than 255 bytes");
    }
    let ending =
        name.rsplit('/').next().and_then(|file| file.rsplit_once('.')).map(|(_, ending)| ending.to_ascii_lowercase());
    ending.is_some_and(|ending| ENDINGS.contains(&&*ending)).then_some("is a page or a script by its name")
}

impl Tree {
    /// Whether the documents of an owner may take the place of the tree's own.
    ///
    /// # Errors
    /// `Unsupported` for another stream than `images`, which they would replace, and where the index names lists of others, which
    /// they would hide. `Malformed` or `Io` when the index can't be read.
    pub(crate) fn takes_foreign(&self) -> Result<()> {
        if self.stream() != STREAM {
            return Err(Error::unsupported(format!("the owner's list is that of the stream `{STREAM}`")));
        }
        if self.names_others(&self.index()?) {
            return Err(Error::unsupported("the index of the tree names other lists, too"));
        }
        Ok(())
    }
}

impl TreeWriter {
    /// Records the paths of an owner's files, so that a later `prune` may remove what is there.
    ///
    /// # Errors
    /// `Unsupported` where a path has a file with other bytes that came from no list: the owner of a list must not replace what the
    /// operator of the mirror put into its directory. `Cancelled`; `Io`.
    pub(crate) fn claim_foreign(
        &self,
        files: &BTreeMap<String, ForeignFile>,
        listed: &BTreeMap<String, ForeignFile>,
        monitor: &Monitor,
    ) -> Result<()> {
        let now = self.tree.options.now();
        let mut mirrored = self.noted(MIRRORED);
        let before = mirrored.len();
        for (name, file) in files {
            if mirrored.contains_key(name) {
                continue;
            }
            if let Ok(about) = fs::symlink_metadata(self.tree.root.join(name))
                && !listed.contains_key(name)
                && !self.has(&PublishedFile::new(file.path.clone(), about.len(), file.sha256), monitor)?
            {
                let shown: String = name.chars().take(128).collect();
                return Err(Error::unsupported(format!("the tree has a file of its own at `{shown}`")));
            }
            mirrored.insert(name.clone(), now);
        }
        if mirrored.len() == before { Ok(()) } else { self.note(MIRRORED, &mirrored) }
    }

    /// Copies a file to the path that its owner's list gives it, unless it is there; [`claim_foreign`](Self::claim_foreign) was asked
    /// before. `listed` are the files of the tree's present
    /// list: what it has there with this digest is not read again. Returns whether it was copied.
    ///
    /// # Errors
    /// `Mismatch` when the bytes are not those of the list; those of `open`; `Cancelled`; `Io`.
    pub(crate) fn copy_foreign(
        &self,
        file: &ForeignFile,
        listed: &BTreeMap<String, ForeignFile>,
        monitor: &Monitor,
        open: impl FnOnce() -> Result<Input>,
    ) -> Result<bool> {
        let name = file.path.to_file();
        let path = self.tree.root.join(&name);
        if let Ok(about) = fs::metadata(&path) {
            let size = file.size.unwrap_or(about.len());
            let is_listed = listed.get(&name).is_some_and(|there| there.sha256 == file.sha256);
            let published = PublishedFile::new(file.path.clone(), size, file.sha256);
            if is_listed && about.is_file() && about.len() == size || self.has(&published, monitor)? {
                return Ok(false);
            }
        }
        let mut counted = Counted { whole: Hasher::new(), total: file.size, monitor };
        let staged = self.stage("foreign", &open()?, &mut counted)?;
        if staged.sha256 != file.sha256 {
            let what = format!("the digest of {name}");
            return Err(Error::mismatch(&what, file.sha256.to_string(), staged.sha256.to_string()));
        }
        if let Some(parent) = path.parent() {
            make_dir(parent, 0o755)?;
        }
        self.move_to(staged, &path)?;
        Ok(true)
    }

    /// Replaces index and list by the documents of another owner, with their signatures: `documents` are paths and bytes in the
    /// order in which they are published. All files of `products` must be there. What is there with these bytes is not written.
    ///
    /// # Errors
    /// `Malformed` when the present list can't be read; `Io`.
    pub(crate) fn publish_foreign(&mut self, documents: &[(String, Vec<u8>)], products: &Products) -> Result<()> {
        let now = self.tree.options.now();
        let named = paths(products);
        match self.tree.products() {
            Ok(old) => self.retire(paths(&old).difference(&named).map(|path| (path.clone(), now)).collect())?,
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let kept: BTreeSet<&str> = documents.iter().map(|(path, _)| path.as_str()).collect();
        for path in self.tree.signature_files().iter().filter(|path| !kept.contains(path.as_str())) {
            let path = self.tree.root.join(path);
            fs::remove_file(&path).map_err(fail(&path))?;
            atomic::sync_parent(&path).map_err(fail(&path))?;
        }
        for (name, bytes) in documents {
            match read(&self.tree.root.join(name), &self.tree.options.limits) {
                Ok(there) if there == *bytes => {}
                _ => self.replace(name, bytes)?,
            }
        }
        Ok(())
    }
}
