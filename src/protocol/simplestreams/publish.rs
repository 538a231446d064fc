//! `Publication`: an image that is added to a list of products, under the names that LXD and Incus look for.
//!
//! Used for static trees and for the lists that a server makes of its store. One version holds one image of each kind; a second
//! one gets a version of its own with a suffix, since an entry must never be overwritten by another image.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::choice::{File, StreamImage};
use super::document::{Item, Product, Products, Version};
use super::entries::Entries;
use super::item::{ItemPath, METADATA_NAMES, RootKind, STATEMENTS_TYPE, UNIFIED_NAMES, statements_key};
use crate::error::{Error, Result};
use crate::fingerprint::Fingerprint;
use crate::metadata::{Architecture, ImageType, Properties};
use crate::time;

/// A file of an image, with path, size and digest.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PublishedFile {
    /// Its path below the base of the server.
    pub path: ItemPath,
    /// Its size in bytes.
    pub size: u64,
    /// Its own digest.
    pub sha256: Fingerprint,
    /// Further fields of its item, from another list.
    pub other: Map<String, Value>,
}

/// An image that is to be published, with its place in the list.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Publication {
    /// The key of its product, for example from [`product_key`].
    pub product: String,
    /// The key of its version; begins with `YYYYMMDD`. For example from [`serial`].
    pub version: String,
    /// Its fingerprint: the digest of its files, one after the other.
    pub fingerprint: Fingerprint,
    /// Whether it is for containers or virtual machines.
    pub image_type: ImageType,
    /// The architecture that it is for.
    pub architecture: Architecture,
    /// Its properties: `os`, `release`, `variant`, … become the product's, `requirements.X` its requirements.
    pub properties: Properties,
    /// Aliases that are added to the product. Those with a comma are left out.
    pub aliases: Vec<String>,
    /// The unified image, or the metadata.
    pub first: PublishedFile,
    /// The rootfs of a split image.
    pub rootfs: Option<(RootKind, PublishedFile)>,
    /// The signed statements about it.
    pub statements: Option<PublishedFile>,
    /// The description of the product in another list, to be copied with its aliases; its versions are ignored.
    pub about: Option<Arc<Product>>,
    /// The description of the version in another list; its items are ignored.
    pub about_version: Option<Arc<Version>>,
    /// The type of its first item in another list. Here it gets the names of both LXD and Incus, unless another image has the
    /// other one.
    pub name: Option<&'static str>,
}

/// The key of a product: `os:release:variant:arch`, as `incus-simplestreams` makes it. What is missing is
/// `unknown`, a missing variant `default`.
#[must_use]
pub fn product_key(properties: &Properties, architecture: Architecture) -> String {
    let part = |key: &str, missing: &str| {
        let value = properties.get(key).filter(|value| !value.is_empty()).unwrap_or(missing);
        // A colon would add a field to the key.
        value.replace(':', "_")
    };
    let arch = properties.get("architecture").filter(|name| name.parse().ok() == Some(architecture));
    format!(
        "{}:{}:{}:{}",
        part("os", "unknown"),
        part("release", "unknown"),
        part("variant", "default"),
        arch.unwrap_or(architecture.debian_name())
    )
}

/// The key of a version: `YYYYMMDDHHMM` of a time in seconds since 1970.
#[must_use]
pub fn serial(created_at: i64) -> String {
    time::to_serial(created_at)
}

impl Publication {
    /// An image in its product of [`product_key`] and its version of [`serial`], without aliases.
    #[must_use]
    pub fn new(
        fingerprint: Fingerprint,
        image_type: ImageType,
        architecture: Architecture,
        created_at: i64,
        properties: Properties,
        first: PublishedFile,
        rootfs: Option<(RootKind, PublishedFile)>,
    ) -> Self {
        Self {
            product: product_key(&properties, architecture),
            version: serial(created_at),
            fingerprint,
            image_type,
            architecture,
            properties,
            aliases: Vec::new(),
            first,
            rootfs,
            statements: None,
            about: None,
            about_version: None,
            name: None,
        }
    }

    /// An image of another list, under the keys that it has there, with the paths of its files here.
    #[must_use]
    pub fn like(image: &StreamImage, mut first: PublishedFile, mut rootfs: Option<(RootKind, PublishedFile)>) -> Self {
        first.other = (*image.first.other).clone();
        if let (Some((_, rootfs)), Some(there)) = (&mut rootfs, &image.rootfs) {
            rootfs.other = (*there.other).clone();
        }
        Self {
            product: image.product.clone(),
            version: image.version.clone(),
            fingerprint: image.fingerprint,
            image_type: image.image_type,
            architecture: image.architecture,
            properties: image.properties.clone(),
            aliases: Vec::new(),
            first,
            rootfs,
            statements: None,
            about: Some(Arc::clone(&image.about)),
            about_version: Some(Arc::clone(&image.about_version)),
            name: Some(image.first_name),
        }
    }
}

impl PublishedFile {
    /// A file with its path, its size in bytes and its digest.
    #[must_use]
    pub fn new(path: ItemPath, size: u64, sha256: Fingerprint) -> Self {
        Self { path, size, sha256, other: Map::new() }
    }

    /// The item of this file.
    fn item(&self, ftype: &str) -> Item {
        Item {
            ftype: ftype.to_owned(),
            path: self.path.to_string(),
            size: Some(self.size),
            sha256: self.sha256.to_string(),
            other: self.other.clone(),
            ..Item::default()
        }
    }
}

impl Products {
    /// Adds an image, under the names of LXD and Incus with the same paths. If its version has another image of the same kind
    /// already, it gets a version of its own, whose key sorts after that.
    ///
    /// # Errors
    /// `InvalidInput` for a version that does not begin with a date, which every reader would skip.
    pub fn publish(&mut self, image: &Publication) -> Result<()> {
        if time::from_serial(&image.version).is_none() {
            let shown: String = image.version.chars().take(64).collect();
            return Err(Error::invalid(format!("the version `{shown}` does not begin with a date (YYYYMMDD)")));
        }
        let product = self.products.entry(image.product.clone()).or_default();
        describe(product, image);
        let key = (0_u32..)
            .map(|count| if count == 0 { image.version.clone() } else { format!("{}_{count}", image.version) })
            .find(|key| product.versions.get(key).is_none_or(|version| has_room(version, image)))
            .unwrap_or_else(|| image.version.clone());
        let version = product.versions.entry(key).or_default();
        if let Some(label) = image.properties.get("label") {
            label.clone_into(&mut version.label);
        }
        if let Some(about) = &image.about_version {
            version.other.extend(about.other.clone());
        }
        add_items(version, image);
        Ok(())
    }

    /// Adds a delta to the image `fingerprint` of a product: it makes the image's rootfs out of that of the version
    /// `base_version`. Returns whether both are there.
    pub fn publish_delta(
        &mut self,
        product: &str,
        fingerprint: &Fingerprint,
        base_version: &str,
        file: &PublishedFile,
    ) -> bool {
        let Some(product) = self.products.get_mut(product) else { return false };
        let text = fingerprint.to_string();
        let makes = |version: &Version, kind: RootKind| {
            let mut metadata = version.items.values().filter(|item| METADATA_NAMES.contains(&item.ftype.as_str()));
            metadata.any(|item| kind.combined(item).eq_ignore_ascii_case(&text))
        };
        let kinds = RootKind::ALL.into_iter().filter_map(|kind| Some((kind, kind.delta_name()?)));
        for (kind, ftype) in kinds {
            let has_kind = |version: &Version| version.items.values().any(|item| item.ftype == kind.name());
            if !product.versions.get(base_version).is_some_and(has_kind) {
                continue;
            }
            let found = product.versions.iter_mut().find(|(key, version)| *key != base_version && makes(version, kind));
            if let Some((_, version)) = found {
                let item = Item { delta_base: base_version.to_owned(), ..file.item(ftype) };
                // Several deltas of a version differ in their bases.
                version.items.insert(format!("{}.{base_version}.vcdiff", kind.name()), item);
                return true;
            }
        }
        false
    }

    /// Adds the signed statements about the image `fingerprint` of a product. Returns whether the image is there.
    pub fn publish_statements(&mut self, product: &str, fingerprint: &Fingerprint, file: &PublishedFile) -> bool {
        let Some(product) = self.products.get_mut(product) else { return false };
        let text = fingerprint.to_string();
        let is_of = |item: &Item| {
            UNIFIED_NAMES.contains(&item.ftype.as_str()) && item.sha256.eq_ignore_ascii_case(&text)
                || METADATA_NAMES.contains(&item.ftype.as_str())
                    && RootKind::ALL.iter().any(|kind| kind.combined(item).eq_ignore_ascii_case(&text))
        };
        let Some(version) = product.versions.values_mut().find(|version| version.items.values().any(is_of)) else {
            return false;
        };
        version.items.insert(statements_key(fingerprint), file.item(STATEMENTS_TYPE));
        true
    }

    /// Replaces the description of a product by that of another list, aliases included; its versions stay. Returns whether that
    /// changed anything.
    pub fn describe(&mut self, key: &str, about: &Product) -> bool {
        let Some(product) = self.products.get_mut(key) else { return false };
        let new = Product { versions: std::mem::take(&mut product.versions), ..for_both(about) };
        let same = Product { versions: Entries::default(), ..new.clone() } == *product;
        *product = new;
        !same
    }

    /// Replaces what another list says of the version and the files of an image, beyond their paths, sizes and digests. Returns
    /// whether that changed anything.
    pub fn describe_image(&mut self, image: &StreamImage) -> bool {
        let Some(product) = self.products.get_mut(&image.product) else { return false };
        let Some(version) = product.versions.get_mut(&image.version) else { return false };
        let files: Vec<&File> = std::iter::once(&image.first).chain(&image.rootfs).collect();
        let is_of = |item: &Item, file: &File| file.sha256.is_some_and(|sha256| item.sha256 == sha256.to_string());
        if !files.iter().all(|file| version.items.values().any(|item| is_of(item, file))) {
            return false;
        }
        let before = version.clone();
        version.label.clone_from(&image.about_version.label);
        version.other.clone_from(&image.about_version.other);
        for item in version.items.values_mut() {
            if let Some(file) = files.iter().find(|file| is_of(item, file)) {
                item.other = (*file.other).clone();
            }
        }
        *version != before
    }

    /// Removes an image, and versions and products that are empty then. Returns whether it was there.
    ///
    /// Items that only this image needs are removed; metadata that other images of the version need stays.
    pub fn withdraw(&mut self, fingerprint: &Fingerprint) -> bool {
        let text = fingerprint.to_string();
        let mut found = false;
        for product in self.products.values_mut() {
            for version in product.versions.values_mut() {
                found |= withdraw_from(version, &text);
            }
            product.versions.retain(|_, version| !version.items.is_empty());
            if found {
                product.drop_orphaned_deltas();
            }
        }
        self.products.retain(|_, product| !product.versions.is_empty());
        found
    }
}

impl Product {
    /// Removes deltas whose base the product does not have any more: nobody can apply them.
    pub(crate) fn drop_orphaned_deltas(&mut self) {
        let base_of =
            |item: &Item| item.ftype.strip_suffix(".vcdiff").map(|kind| (kind.to_owned(), item.delta_base.clone()));
        let all: Vec<_> =
            self.versions.values().flat_map(|version| version.items.values().filter_map(base_of)).collect();
        let orphaned: Vec<_> = all
            .into_iter()
            .filter(|(kind, base)| {
                // An entry that can't be read here may be a version that others can read.
                let has_kind = |version: &Version| version.items.values().any(|item| item.ftype == *kind);
                !self.versions.odd().contains_key(base) && !self.versions.get(base).is_some_and(has_kind)
            })
            .collect();
        for version in self.versions.values_mut() {
            version.items.retain(|_, item| base_of(item).is_none_or(|delta| !orphaned.contains(&delta)));
        }
    }
}

/// The types of the first item, for LXD and for Incus.
fn names(image: &Publication) -> [&'static str; 2] {
    if image.rootfs.is_some() { METADATA_NAMES } else { UNIFIED_NAMES }
}

/// Whether two items are the same file and make the same images.
fn are_twins(one: &Item, other: &Item) -> bool {
    let images = |item: &Item| RootKind::ALL.map(|kind| kind.combined(item).to_owned());
    one.sha256.eq_ignore_ascii_case(&other.sha256) && images(one) == images(other)
}

/// Whether the first item of an image may get this name in a version without replacing one that is needed.
fn may_have(version: &Version, image: &Publication, name: &str) -> bool {
    let Some(item) = version.items.get(name) else { return true };
    let kind = image.rootfs.as_ref().map(|(kind, _)| *kind);
    if item.sha256.eq_ignore_ascii_case(&image.first.sha256.to_string()) {
        let there = kind.map_or("", |kind| kind.combined(item));
        return there.is_empty() || there.eq_ignore_ascii_case(&image.fingerprint.to_string());
    }
    // An item that is only a copy for the other program gives way to an image that has this name in its own list.
    image.name == Some(name)
        && names(image)
            .iter()
            .any(|other| *other != name && version.items.get(*other).is_some_and(|other| are_twins(item, other)))
}

/// Whether a version has no other image under the names that this one needs.
fn has_room(version: &Version, image: &Publication) -> bool {
    let first = match image.name {
        Some(name) => may_have(version, image, name),
        None => names(image).into_iter().all(|name| may_have(version, image, name)),
    };
    first
        && image.rootfs.as_ref().is_none_or(|(kind, rootfs)| {
            let there = version.items.get(kind.name());
            there.is_none_or(|item| item.sha256.eq_ignore_ascii_case(&rootfs.sha256.to_string()))
        })
}

/// Whether LXD and Incus both know this name of an architecture: names of its levels are each of one of them only, and a
/// client skips a product whose architecture it does not know.
fn is_known_to_both(arch: &str) -> bool {
    !matches!(arch, "amd64v3" | "x86_64_v1" | "x86_64_v2" | "x86_64_v3" | "x86_64_v4")
}

/// Fills in the description of a product from another list or from properties.
fn describe(product: &mut Product, image: &Publication) {
    if let Some(about) = &image.about {
        *product = Product { versions: std::mem::take(&mut product.versions), ..for_both(about) };
        add_aliases(product, &image.aliases);
        return;
    }
    let property = |key: &str| image.properties.get(key).unwrap_or_default().to_owned();
    let arch = property("architecture");
    let fits = arch.parse().ok() == Some(image.architecture) && is_known_to_both(&arch);
    product.arch = if fits { arch } else { image.architecture.debian_name().to_owned() };
    product.os = property("os");
    product.release = property("release");
    let title = property("release_title");
    product.release_title = if title.is_empty() { product.release.clone() } else { title };
    product.release_codename = property("release_codename");
    product.variant = property("variant");
    product.version = property("version");
    let requirements: BTreeMap<_, _> = image
        .properties
        .iter()
        .filter_map(|(key, value)| Some((key.strip_prefix("requirements.")?.to_owned(), value.to_owned())))
        .collect();
    product.requirements = requirements;
    product.lxd_requirements = None;
    add_aliases(product, &image.aliases);
}

/// The description of a product for both peers: requirements that are told to LXD only are told to Incus too, which would
/// start an instance that can't run otherwise.
fn for_both(about: &Product) -> Product {
    let mut about = about.clone();
    if about.requirements.is_empty() {
        about.requirements = about.lxd_requirements.clone().unwrap_or_default();
    }
    about
}

/// Adds aliases that the product does not have yet.
fn add_aliases(product: &mut Product, new: &[String]) {
    let mut aliases: Vec<&str> = product.aliases.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
    for alias in new {
        // A comma would make two aliases of one.
        if !alias.contains(',') && !alias.trim().is_empty() && !aliases.contains(&alias.as_str()) {
            aliases.push(alias);
        }
    }
    product.aliases = aliases.join(",");
}

/// Adds the items of an image to a version.
fn add_items(version: &mut Version, image: &Publication) {
    let free: Vec<_> = names(image).into_iter().filter(|name| may_have(version, image, name)).collect();
    for name in free {
        let mut item = image.first.item(name);
        // The same metadata makes several images with several rootfs files.
        if let Some(old) = version.items.get(name).filter(|old| old.sha256.eq_ignore_ascii_case(&item.sha256)) {
            let mut other = old.other.clone();
            other.extend(item.other);
            item = Item { path: item.path, size: item.size, other, ..old.clone() };
        }
        match &image.rootfs {
            Some((kind, _)) => kind.set_combined(&mut item, image.fingerprint.to_string()),
            None if image.image_type == ImageType::VirtualMachine => {
                image.image_type.name().clone_into(&mut item.combined_type);
            }
            None => {}
        }
        version.items.insert(name.to_owned(), item);
    }
    if let Some((kind, rootfs)) = &image.rootfs {
        version.items.insert(kind.name().to_owned(), rootfs.item(kind.name()));
    }
    if let Some(statements) = &image.statements {
        version.items.insert(statements_key(&image.fingerprint), statements.item(STATEMENTS_TYPE));
    }
}

/// Removes the items that only this image needs from a version. Returns whether it was there.
fn withdraw_from(version: &mut Version, fingerprint: &str) -> bool {
    let unified: Vec<_> = version
        .items
        .iter()
        .filter(|(_, item)| {
            UNIFIED_NAMES.contains(&item.ftype.as_str()) && item.sha256.eq_ignore_ascii_case(fingerprint)
        })
        .map(|(name, _)| name.clone())
        .collect();
    let mut kinds = Vec::new();
    for item in version.items.values_mut().filter(|item| METADATA_NAMES.contains(&item.ftype.as_str())) {
        for kind in RootKind::ALL {
            if kind.combined(item).eq_ignore_ascii_case(fingerprint) {
                kind.set_combined(item, String::new());
                kinds.push(kind.name());
            }
        }
    }
    let found = !unified.is_empty() || !kinds.is_empty();
    version.items.retain(|name, item| {
        let gone = unified.contains(name) || kinds.contains(&item.ftype.as_str());
        let useless = METADATA_NAMES.contains(&item.ftype.as_str())
            && RootKind::ALL.iter().all(|kind| kind.combined(item).is_empty());
        !(found && (gone || useless))
    });
    // A delta from a file that is gone is of no use.
    if found {
        version.items.remove(&format!("{fingerprint}.{STATEMENTS_TYPE}"));
        let kept: Vec<_> = version.items.values().map(|item| item.ftype.clone()).collect();
        version.items.retain(|_, item| {
            item.ftype.strip_suffix(".vcdiff").is_none_or(|base| kept.iter().any(|ftype| ftype == base))
        });
    }
    found
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;
    use crate::limits::Limits;
    use crate::protocol::simplestreams::{Index, Listing};

    fn published(name: &str) -> PublishedFile {
        let sha256 = Fingerprint::of(name.as_bytes());
        PublishedFile::new(format!("images/{sha256}.{name}").parse().unwrap(), name.len() as u64, sha256)
    }

    fn split(tag: &str, kind: RootKind) -> Publication {
        let mut properties = Properties::new();
        for (key, value) in [
            ("os", "Box"),
            ("release", "1"),
            ("variant", "default"),
            ("label", "daily"),
            ("requirements.secureboot", "false"),
        ] {
            properties.set(key, value).unwrap();
        }
        let mut image = Publication::new(
            Fingerprint::of(format!("{tag} {}", kind.name()).as_bytes()),
            kind.image_type(),
            Architecture::X86_64,
            1_700_000_000,
            properties,
            published(&format!("{tag}.meta")),
            Some((kind, published(&format!("{tag}.{}", kind.name())))),
        );
        image.aliases = vec!["box/1".into(), "a,b".into(), " ".into(), "box".into()];
        image
    }

    fn fingerprints(products: &Products) -> Vec<Fingerprint> {
        Listing::new(products).images().iter().map(|image| image.fingerprint).collect()
    }

    #[test]
    fn what_is_published_is_listed_once_though_both_peers_find_it_under_their_own_names() {
        let mut products = Products::new(0);
        let image = split("one", RootKind::Squashfs);
        products.publish(&image).unwrap();
        products.publish(&image).unwrap();
        let items = &products.products["Box:1:default:amd64"].versions["202311142213"].items;
        assert_eq!(items.keys().collect::<Vec<_>>(), ["incus.tar.xz", "lxd.tar.xz", "squashfs"]);
        assert_eq!(items["lxd.tar.xz"].path, items["incus.tar.xz"].path);
        assert_eq!(products.products["Box:1:default:amd64"].aliases, "box/1,box");
        let again = Products::from_json(products.to_json().as_bytes(), &Limits::default()).unwrap();
        assert_eq!(again, products);
        let listing = Listing::new(&again);
        let [found] = listing.images() else { panic!("{:?}", listing.images()) };
        assert_eq!(found.fingerprint, image.fingerprint);
        assert_eq!(found.first.path, image.first.path.as_str());
        assert_eq!(found.properties.get("requirements.secureboot"), Some("false"));
        assert_eq!(found.properties.get("description"), Some("Box 1 amd64 (daily) (202311142213)"));
        assert_eq!(Index::of(&products, 0).image_lists().count(), 1);
    }

    #[test]
    fn one_version_holds_kinds_of_rootfs_but_never_loses_an_image_to_another() {
        let mut products = Products::new(0);
        let (first, disk) = (split("one", RootKind::Squashfs), split("one", RootKind::DiskKvm));
        let other = split("two", RootKind::Squashfs);
        for image in [&first, &disk, &other] {
            products.publish(image).unwrap();
        }
        let versions = &products.products["Box:1:default:amd64"].versions;
        assert_eq!(versions.keys().collect::<Vec<_>>(), ["202311142213", "202311142213_1"]);
        assert_eq!(fingerprints(&products).len(), 3);
        assert!(products.withdraw(&first.fingerprint));
        assert!(!products.withdraw(&first.fingerprint));
        let mut left = fingerprints(&products);
        left.sort();
        let mut expected = vec![disk.fingerprint, other.fingerprint];
        expected.sort();
        assert_eq!(left, expected);
        assert!(products.withdraw(&disk.fingerprint) && products.withdraw(&other.fingerprint));
        assert!(products.products.is_empty());
    }

    #[test]
    fn version_without_a_date_is_refused_and_what_another_list_says_of_a_product_is_said_here() {
        let mut products = Products::new(0);
        let mut image = split("one", RootKind::Tar);
        image.version = "soon".into();
        assert!(products.publish(&image).is_err());
        image.version = "20240101_05:24".into();
        let about =
            Product { aliases: "x".into(), arch: "amd64".into(), release_title: "One".into(), ..Product::default() };
        image.about = Some(Arc::new(about.clone()));
        image.aliases = Vec::new();
        products.publish(&image).unwrap();
        assert_eq!(products.products["Box:1:default:amd64"].release_title, "One");
        assert!(!products.describe("Box:1:default:amd64", &about));
        assert!(products.describe("Box:1:default:amd64", &Product { aliases: "y".into(), ..about }));
        assert_eq!(fingerprints(&products).len(), 1);
    }

    /// Lists that serve both peers have metadata for each, and one rootfs.
    #[test]
    fn image_for_each_peer_has_one_version_and_each_its_own_name() {
        let mut products = Products::new(0);
        let image = |peer: &'static str| {
            let mut image = split("one", RootKind::Squashfs);
            image.fingerprint = Fingerprint::of(peer.as_bytes());
            image.first = published(peer);
            image.name = Some(peer);
            image
        };
        let both = [image("incus.tar.xz"), image("lxd.tar.xz")];
        for _ in 0..2 {
            for image in &both {
                products.publish(image).unwrap();
            }
        }
        let versions = &products.products["Box:1:default:amd64"].versions;
        assert_eq!(versions.len(), 1, "{versions:?}");
        for image in &both {
            let name = image.name.unwrap();
            assert_eq!(versions["202311142213"].items[name].path, image.first.path.as_str());
        }
        assert_eq!(fingerprints(&products).len(), 2);
        // A third can't take the place of either.
        products
            .publish(&Publication { fingerprint: Fingerprint::of(b"3"), first: published("3"), ..both[0].clone() })
            .unwrap();
        assert_eq!(fingerprints(&products).len(), 3);
    }
}
