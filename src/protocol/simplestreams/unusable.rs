//! Entries of a list that no image is made of, and why. Recorded while images are chosen, so that nothing is left out silently,
//! a request for such an image gets the reason, and a mirror does not delete its copy.

#![cfg_attr(not(feature = "remote"), allow(dead_code, reason = "only a client tells what cannot be used and why"))]

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::Value;

use super::document::Item;
use super::entries::OddEntry;
use super::item::RootKind;
use crate::error::ErrorKind;
use crate::fingerprint::Fingerprint;
use crate::metadata::Architecture;
use crate::omissions::{Omission, Omissions, Omitted};

/// An entry that is left out. A reference that means it gets `kind` and the omission as its error.
#[derive(Debug, Clone)]
pub(crate) struct UnusableEntry {
    /// Its path (`PRODUCT/VERSION/ITEM`, or a part of it), and why it is left out.
    pub(crate) omission: Omission,
    /// The kind of error that a request for it gets.
    pub(crate) kind: ErrorKind,
    /// The key of its product.
    pub(crate) product: String,
    /// The aliases of its product.
    pub(crate) aliases: Arc<[String]>,
    /// Its version, if not the whole product is left out.
    pub(crate) version: Option<String>,
    /// The digests in it.
    pub(crate) digests: Vec<Fingerprint>,
}

impl UnusableEntry {
    /// Whether a reference means this entry: by an alias of its product, or by at least 12 digits of a digest in it.
    pub(crate) fn is_meant_by(&self, reference: &str) -> bool {
        let named = |name: &String| {
            // An alias may say the architecture itself.
            let rest = reference.strip_prefix(name.as_str()).and_then(|rest| rest.strip_prefix('/'));
            name == reference || rest.is_some_and(|machine| machine.parse::<Architecture>().is_ok())
        };
        self.aliases.iter().any(named)
            || reference.len() >= 12 && self.digests.iter().any(|digest| digest.to_string().starts_with(reference))
    }
}

/// All entries that are left out. The entries themselves are bounded; omissions and digests are complete.
#[derive(Debug, Clone, Default)]
pub(crate) struct UnusableEntries {
    /// The first of them, for errors.
    entries: Vec<UnusableEntry>,
    /// All of them, bounded in text.
    omissions: Omissions,
    /// All digests in them, for mirrors.
    digests: BTreeSet<Fingerprint>,
    /// Whether a whole list is missing.
    is_incomplete: bool,
}

impl UnusableEntries {
    /// Records an entry.
    pub(crate) fn add(&mut self, entry: UnusableEntry) {
        self.digests.extend(entry.digests.iter().copied());
        self.omissions.add(entry.omission.clone());
        if self.entries.len() < Omissions::MAX_LISTED {
            self.entries.push(entry);
        }
    }

    /// Records digests that are named next to an entry that is left out: images with them are not gone.
    pub(crate) fn withhold(&mut self, digests: Vec<Fingerprint>) {
        self.digests.extend(digests);
    }

    /// Records an omission that leaves the image usable.
    pub(crate) fn note(&mut self, omission: Omission) {
        self.omissions.add(omission);
    }

    /// Records that a whole list could not be read, so that it is unknown what it names.
    pub(crate) fn add_list(&mut self, place: &str, reason: String) {
        self.is_incomplete = true;
        self.omissions.add(Omission::new(place, Omitted::Skipped { reason: reason.into() }));
    }

    /// The first thousand entries.
    pub(crate) fn entries(&self) -> &[UnusableEntry] {
        &self.entries
    }

    /// All omissions, for the monitor.
    pub(crate) fn omissions(&self) -> &Omissions {
        &self.omissions
    }

    /// All digests in entries that are left out, those of images among them.
    pub(crate) fn digests(&self) -> &BTreeSet<Fingerprint> {
        &self.digests
    }

    /// Whether a whole list could not be read.
    pub(crate) fn is_incomplete(&self) -> bool {
        self.is_incomplete
    }
}

/// Records what is left out of one product.
pub(super) struct ProductOmissions<'a> {
    /// Where they are recorded.
    pub(super) all: &'a mut UnusableEntries,
    /// The key of the product.
    pub(super) key: &'a str,
    /// The aliases of the product.
    pub(super) aliases: Arc<[String]>,
}

impl ProductOmissions<'_> {
    /// The path of an entry of this product, bounded.
    fn place(&self, below: &[&str]) -> String {
        let parts = std::iter::once(self.key).chain(below.iter().copied());
        parts.map(|part| part.chars().take(128).collect::<String>()).collect::<Vec<_>>().join("/")
    }

    /// Leaves out the entry at `below`: empty for the product itself, a version, or a version and an item.
    pub(super) fn skip(&mut self, below: &[&str], kind: ErrorKind, reason: String, digests: Vec<Fingerprint>) {
        let omission = Omission::new(self.place(below), Omitted::Skipped { reason: reason.into() });
        let version = below.first().map(|version| (*version).to_owned());
        let (product, aliases) = (self.key.to_owned(), Arc::clone(&self.aliases));
        self.all.add(UnusableEntry { omission, kind, product, aliases, version, digests });
    }

    /// Leaves out an entry that could not be parsed.
    pub(super) fn skip_odd(&mut self, below: &[&str], entry: &OddEntry) {
        self.skip(below, ErrorKind::Malformed, entry.reason.clone(), digests_in(&entry.value));
    }

    /// Leaves out a part of an image that is used all the same.
    pub(super) fn drop_part(&mut self, below: &[&str], part: String, reason: String) {
        let what = Omitted::Dropped { part: part.into(), reason: reason.into() };
        self.all.note(Omission::new(self.place(below), what));
    }
}

/// Splits the aliases of a product, which are one text with commas.
pub(super) fn alias_names(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// The aliases of a product that could not be parsed, if it has any.
pub(super) fn aliases_in(value: &Value) -> Arc<[String]> {
    alias_names(value.get("aliases").and_then(Value::as_str).unwrap_or_default()).into()
}

/// All digests in an entry that could not be parsed. The recursion is bounded: parsing checked `json_depth`.
pub(super) fn digests_in(value: &Value) -> Vec<Fingerprint> {
    match value {
        Value::String(text) => text.parse().into_iter().collect(),
        Value::Array(all) => all.iter().flat_map(digests_in).collect(),
        Value::Object(all) => all.values().flat_map(digests_in).collect(),
        _ => Vec::new(),
    }
}

/// All digests in an item, under known and unknown keys.
pub(super) fn digests_of(item: &Item) -> Vec<Fingerprint> {
    let known = RootKind::ALL.into_iter().map(|kind| kind.combined(item)).chain([item.sha256.as_str()]);
    let mut all: Vec<Fingerprint> = known.filter_map(|text| text.parse().ok()).collect();
    all.extend(item.other.values().flat_map(digests_in));
    all
}
