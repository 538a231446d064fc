//! The documents of a tree: read within limits, and replaced in an order in which every reader finds all that is named (see the
//! module front).

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde_json::{Map, Value};

use super::tree::{INDEX, STAGING, Tree, TreeWriter, fail};
use crate::atomic;
use crate::error::{Error, ErrorKind, Result};
use crate::limits::Limits;
use crate::protocol::simplestreams::{Index, IndexEntry, ItemPath, Products};

/// Files that were withdrawn: their paths, and when, in seconds since 1970.
pub(super) type Retired = BTreeMap<String, i64>;

/// Where they are recorded, below the private directory.
const RETIRED: &str = "retired.json";

/// Reads a document of at most `remote_index` bytes.
pub(super) fn read(path: &Path, limits: &Limits) -> Result<Vec<u8>> {
    let most = limits.remote_index;
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(most.saturating_add(1)).read_to_end(&mut bytes)).map_err(|error| {
        let kind = if error.kind() == std::io::ErrorKind::NotFound { ErrorKind::NotFound } else { ErrorKind::Io };
        Error::new(kind, "the list can't be read").with_source(error).in_file(path)
    })?;
    if bytes.len() as u64 > most {
        return Err(Error::limit("remote_index", most, "the size of the list in bytes").in_file(path));
    }
    Ok(bytes)
}

/// An index without lists.
pub(super) fn empty_index() -> Index {
    let mut index = Index::of(&Products::new(0), 0);
    index.index.clear();
    index
}

/// The paths of all files that a list names, including those of entries that can't be read here: another tool may read them, so
/// prune must not remove their files.
pub(super) fn paths(products: &Products) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    let mut add = |path: &str| match path.parse::<ItemPath>() {
        Ok(path) => all.insert(path.to_file()),
        Err(_) => all.insert(path.to_owned()),
    };
    for product in products.products.values() {
        for version in product.versions.values() {
            version.items.values().for_each(|item| _ = add(&item.path));
            version.items.odd().values().for_each(|odd| odd_paths(&odd.value, &mut add));
        }
        product.versions.odd().values().for_each(|odd| odd_paths(&odd.value, &mut add));
    }
    products.products.odd().values().for_each(|odd| odd_paths(&odd.value, &mut add));
    all
}

/// Adds every text with the key `path` in an unreadable entry. The recursion is bounded: parsing checked `json_depth`.
fn odd_paths(value: &Value, add: &mut impl FnMut(&str) -> bool) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                match value {
                    Value::String(path) if key == "path" => _ = add(path),
                    _ => odd_paths(value, add),
                }
            }
        }
        Value::Array(all) => all.iter().for_each(|value| odd_paths(value, add)),
        _ => {}
    }
}

/// The entry of the tree's own list in an index: the one with its path, else a new one under a free key.
fn own_entry<'a>(index: &'a mut Index, tree: &Tree) -> &'a mut IndexEntry {
    let list = tree.list();
    let key = index.index.iter().find(|(_, entry)| entry.path == list).map(|(key, _)| key.clone());
    let is_taken = |key: &str| index.index.contains_key(key);
    let key = key.unwrap_or_else(|| if is_taken(tree.stream()) { list.clone() } else { tree.stream().to_owned() });
    index.index.entry(key).or_insert_with(|| IndexEntry { path: list, other: Map::new(), ..IndexEntry::default() })
}

/// The products that an index names for the tree's own list; `None` if it does not name the list.
pub(super) fn indexed<'a>(index: &'a Index, tree: &Tree) -> Option<BTreeSet<&'a str>> {
    let list = tree.list();
    let entry = index.image_lists().find(|entry| entry.path == list)?;
    Some(entry.products.iter().map(String::as_str).collect())
}

impl TreeWriter {
    /// Applies `change` to the list and publishes the result: steps 2 to 4 of the module front. If `change` fails, nothing is
    /// written. An unchanged list is not written again, but its index is repaired if it names the wrong products.
    pub(super) fn commit<T>(&mut self, change: impl FnOnce(&mut Products) -> Result<T>) -> Result<T> {
        let now = self.tree.options.now();
        // Read again for each change, since other tools may write here, too; the lock only keeps out this one.
        let old = match self.tree.products() {
            Ok(products) => Some(products),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let mut new =
            old.clone().unwrap_or_else(|| Products { content_id: self.tree.stream().to_owned(), ..Products::new(now) });
        let done = change(&mut new)?;
        let changed = old.as_ref() != Some(&new);
        let mut text = String::new();
        if changed {
            let frame = Products::new(now);
            new.updated = frame.updated;
            for (field, value) in [
                (&mut new.content_id, self.tree.stream().to_owned()),
                (&mut new.datatype, frame.datatype),
                (&mut new.format, frame.format),
            ] {
                if field.is_empty() {
                    *field = value;
                }
            }
            text = new.to_json();
            // Otherwise no verb could read it any more, not even the one that removes images from it.
            self.fits(&text, &self.tree.list())?;
            self.remove_stale()?;
            if old.is_some() && self.tree.root.join(INDEX).exists() {
                // What was there is signed first, if it is not: so readers find a whole signed state before the new one.
                self.seal()?;
            }
            if let Some(old) = &old {
                let kept = paths(&new);
                let gone = paths(old).into_iter().filter(|path| !kept.contains(path));
                self.retire(gone.map(|path| (path, now)).collect())?;
            }
        }
        let keys = |products: &Products| -> BTreeSet<String> {
            products.products.keys().chain(products.products.odd().keys()).cloned().collect()
        };
        let exact = keys(&new);
        if changed {
            let both = exact.union(&old.as_ref().map(keys).unwrap_or_default()).cloned().collect();
            self.write_index(&both, now)?;
            self.publish(&self.tree.list(), text.as_bytes())?;
        }
        self.write_index(&exact, now)?;
        self.seal()?;
        Ok(done)
    }

    /// Writes the index for these products, unless it is right already.
    fn write_index(&self, products: &BTreeSet<String>, now: i64) -> Result<()> {
        let old = self.tree.index()?;
        let mut new = old.clone();
        let fresh = Index::of(&Products::new(now), now);
        let entry = own_entry(&mut new, &self.tree);
        entry.products = products.iter().cloned().collect();
        if let Some(model) = fresh.index.values().next().cloned() {
            entry.datatype = model.datatype;
            entry.format = model.format;
            if old != new {
                own_entry(&mut new, &self.tree).updated = model.updated;
            }
        }
        // Not rewritten if it is right, so that caches of HTTP clients stay valid.
        if old == new && self.tree.root.join(INDEX).exists() {
            return Ok(());
        }
        let text = new.to_json();
        self.fits(&text, INDEX)?;
        self.publish(INDEX, text.as_bytes())
    }

    /// Fails for a document that is too large to be read again.
    fn fits(&self, text: &str, name: &str) -> Result<()> {
        let most = self.tree.options.limits.remote_index;
        if text.len() as u64 <= most {
            return Ok(());
        }
        let error = Error::limit("remote_index", most, "the size of the list in bytes");
        Err(error.in_file(self.tree.root.join(name)))
    }

    /// The withdrawn files. Best effort: if the record is lost, prune finds the files again and waits once more.
    pub(super) fn retired(&self) -> Retired {
        self.noted(RETIRED)
    }

    /// Replaces the record of withdrawn files.
    pub(super) fn write_retired(&self, retired: &Retired) -> Result<()> {
        self.note(RETIRED, retired)
    }

    /// What was withdrawn, and when, by the record `name` of the private directory. Best effort: without a record, all of
    /// it counts as withdrawn just now.
    pub(super) fn noted(&self, name: &str) -> Retired {
        let path = self.tree.root.join(self.tree.record(name));
        read(&path, &self.tree.options.limits)
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok())
            .unwrap_or_default()
    }

    /// Records files as withdrawn. Before the list is replaced, so that a crash in between does not forget them.
    pub(super) fn retire(&self, gone: Retired) -> Result<()> {
        if gone.is_empty() {
            return Ok(());
        }
        let mut retired = self.retired();
        retired.extend(gone);
        self.write_retired(&retired)
    }

    /// Replaces the record `name` of what was withdrawn.
    pub(super) fn note(&self, name: &str, retired: &Retired) -> Result<()> {
        let text = serde_json::to_vec(retired)
            .map_err(|error| Error::new(ErrorKind::Io, "what was withdrawn can't be noted").with_source(error))?;
        self.replace(&self.tree.record(name), &text)
    }

    /// Replaces a document atomically and durably, and its packed form after it, if the tree has packed ones.
    pub(super) fn replace(&self, name: &str, text: &[u8]) -> Result<()> {
        self.replace_one(name, text)?;
        self.replace_packed(name, text)
    }

    /// Replaces one file atomically and durably.
    pub(super) fn replace_one(&self, name: &str, text: &[u8]) -> Result<()> {
        let path = self.tree.root.join(name);
        let staged = self.tree.root.join(STAGING).join("document");
        let written = || -> std::io::Result<()> {
            // Readable by the web server, as far as the umask allows.
            let mut file = File::options().write(true).create(true).truncate(true).mode(0o644).open(&staged)?;
            file.write_all(text)?;
            atomic::rename(&file, &staged, &path)
        };
        written().map_err(|error| {
            let _ = fs::remove_file(&staged);
            fail(&path)(error)
        })
    }
}
