//! `Listing`: which items of a version make an image, its properties, and which image an alias means, all as LXD and Incus
//! choose (LXD: `shared/simplestreams/simplestreams.go`, `products.go`).
//!
//! An item that is incomplete, of an unknown type or without a valid fingerprint makes no image, as there; but here the omission is
//! recorded with its reason.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use serde_json::{Map, Value};

use super::entries::Entries;
use super::item::{ItemPath, METADATA_NAMES, RootKind, STATEMENTS_TYPE, UNIFIED_NAMES, statements_key};
use super::unusable::{ProductOmissions, UnusableEntries, alias_names, aliases_in, digests_of};
use super::{Item, Product, Products, Version};
use crate::error::{ErrorKind, Result};
use crate::fingerprint::Fingerprint;
use crate::limits::Limits;
use crate::metadata::{Architecture, ImageType, Properties};
use crate::omissions::Omissions;
use crate::time;

/// One file of an image on a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Its path, relative to the base of the server, as the list has it. Use [`checked_path`](Self::checked_path).
    pub path: String,
    /// Its size in bytes, if the list has it. Otherwise the digest decides whether it is complete.
    pub size: Option<u64>,
    /// Its digest, if the list has one. Otherwise the fingerprint of the image decides.
    pub sha256: Option<Fingerprint>,
    /// Fields of its item that are not known here, kept as they are, if they are within the limit `metadata`. All images and deltas
    /// that name the item share them.
    pub other: Arc<Map<String, Value>>,
}

impl File {
    /// The path, if it stays below the base of the server.
    ///
    /// # Errors
    /// `UnsafePath` for a path to another server or above the base, in any encoding.
    pub fn checked_path(&self) -> Result<ItemPath> {
        self.path.parse()
    }
}

/// A delta that makes the rootfs of an image out of that of another version of its product.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StreamDelta {
    /// The key of the version that it starts from.
    pub base_version: String,
    /// The images of that version that have the rootfs from which it starts: one for each metadata file.
    pub bases: Arc<[Fingerprint]>,
    /// That rootfs, which all deltas from it share.
    pub base: Arc<File>,
    /// The delta itself, in VCDIFF.
    pub file: File,
}

/// An image that a list offers.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct StreamImage {
    /// The sha256 of its files, one after the other.
    pub fingerprint: Fingerprint,
    /// Whether it is for a container or a virtual machine.
    pub image_type: ImageType,
    /// The machine that it is for.
    pub architecture: Architecture,
    /// The aliases of its product, which all images of the product share.
    pub aliases: Vec<String>,
    /// Its properties, derived from product and version as LXD derives them.
    pub properties: Properties,
    /// The date of its version, in seconds since 1970.
    pub created_at: i64,
    /// When its support ends.
    pub expires_at: Option<i64>,
    /// The key of its product.
    pub product: String,
    /// The key of its version.
    pub version: String,
    /// The image, or the metadata of a split one.
    pub first: File,
    /// The type of that item, one of [`UNIFIED_NAMES`] or [`METADATA_NAMES`]: it says whether LXD or Incus sees the image.
    pub first_name: &'static str,
    /// The rootfs of a split image.
    pub rootfs: Option<File>,
    /// The kind of rootfs.
    pub root_kind: Option<RootKind>,
    /// Deltas that make the rootfs out of that of other versions which the list has. One without such a base is left out.
    /// Images of a version with the same rootfs share them.
    pub deltas: Arc<[StreamDelta]>,
    /// The signed statements about it, if the list has some.
    pub statements: Option<File>,
    /// Its product without the versions, shared by all images of the product.
    pub about: Arc<Product>,
    /// Its version without the items, shared by all images of the version.
    pub about_version: Arc<Version>,
}

impl StreamImage {
    /// Its fingerprint with the digest of each of its deltas.
    #[cfg(feature = "remote")]
    pub(crate) fn delta_digests(&self) -> impl Iterator<Item = (Fingerprint, Fingerprint)> + '_ {
        self.deltas.iter().filter_map(|delta| Some((self.fingerprint, delta.file.sha256?)))
    }

    /// The size of all its files in bytes; a file of unknown size counts as 0.
    #[must_use]
    pub fn size(&self) -> u64 {
        let rootfs = self.rootfs.as_ref().and_then(|rootfs| rootfs.size);
        self.first.size.unwrap_or(0).saturating_add(rootfs.unwrap_or(0))
    }

    /// The file name of its first file.
    #[must_use]
    pub fn file_name(&self) -> &str {
        self.first.path.rsplit('/').next().unwrap_or_default()
    }
}

/// The images of a list, newest first.
#[derive(Debug, Clone, Default)]
pub struct Listing {
    images: Vec<StreamImage>,
    unusable: UnusableEntries,
}

impl Listing {
    /// The images of one list, within the default [`Limits`].
    #[must_use]
    pub fn new(products: &Products) -> Self {
        Self::of([products])
    }

    /// The images of one list. Unknown fields of an item over the limit `metadata` are left out, and so are images that say more, all
    /// together, than four times the limit `remote_index`: many images may name one large entry.
    #[must_use]
    pub fn within(products: &Products, limits: &Limits) -> Self {
        Self::with([products], UnusableEntries::default(), limits)
    }

    /// The images of several lists, within the default [`Limits`]. An image that occurs several times is listed once, with all its
    /// aliases.
    #[must_use]
    pub fn of<'a>(lists: impl IntoIterator<Item = &'a Products>) -> Self {
        Self::with(lists, UnusableEntries::default(), &Limits::default())
    }

    /// As [`of`](Self::of), within these limits, and with what was left out before: entries of the index, whole lists.
    pub(crate) fn with<'a>(
        lists: impl IntoIterator<Item = &'a Products>,
        mut unusable: UnusableEntries,
        limits: &Limits,
    ) -> Self {
        let mut room = Room { left: limits.remote_index.saturating_mul(4), metadata: limits.metadata };
        let mut images: Vec<StreamImage> = Vec::new();
        let mut places: HashMap<Fingerprint, usize> = HashMap::new();
        for list in lists {
            for (key, odd) in list.products.odd() {
                let mut of = ProductOmissions { all: &mut unusable, key, aliases: aliases_in(&odd.value) };
                of.skip_odd(&[], odd);
            }
            for (key, product) in &list.products {
                let mut of =
                    ProductOmissions { all: &mut unusable, key, aliases: alias_names(&product.aliases).into() };
                for image in product_images(key, product, &mut room, &mut of) {
                    let Some(there) = places.get(&image.fingerprint).and_then(|place| images.get_mut(*place)) else {
                        places.insert(image.fingerprint, images.len());
                        images.push(image);
                        continue;
                    };
                    if (there.architecture, there.image_type) != (image.architecture, image.image_type) {
                        let reason = "the same image stands elsewhere for another machine or of another type";
                        of.skip(&[&image.version], ErrorKind::Malformed, reason.to_owned(), Vec::new());
                        continue;
                    }
                    let new = image.aliases.into_iter().filter(|alias| !there.aliases.contains(alias));
                    let new: Vec<String> = new.collect();
                    there.aliases.extend(new);
                }
            }
        }
        // The sort is stable: of one version, images stay in the order in which they are preferred.
        images.sort_by(|a, b| b.created_at.cmp(&a.created_at).then_with(|| by_number(&b.version, &a.version)));
        Self { images, unusable }
    }

    /// All images, newest first.
    #[must_use]
    pub fn images(&self) -> &[StreamImage] {
        &self.images
    }

    /// What is left out of the lists, and why. Each omission is named by its path, `PRODUCT/VERSION/ITEM`.
    #[must_use]
    pub fn omissions(&self) -> &Omissions {
        self.unusable.omissions()
    }

    /// The entries that are left out, for errors and mirrors.
    #[cfg(feature = "remote")]
    pub(crate) fn unusable(&self) -> &UnusableEntries {
        &self.unusable
    }

    /// The image that an alias means: the newest with this type and architecture. An alias may name the architecture itself:
    /// `debian/12/arm64`.
    #[must_use]
    pub fn resolve(&self, alias: &str, image_type: ImageType, architecture: Architecture) -> Option<&StreamImage> {
        let plain =
            |image: &&StreamImage| image.architecture == architecture && image.aliases.iter().any(|name| name == alias);
        let of_type = || self.images.iter().filter(|image| image.image_type == image_type);
        of_type().find(plain).or_else(|| {
            let (name, machine) = alias.rsplit_once('/')?;
            let machine: Architecture = machine.parse().ok()?;
            of_type().find(|image| image.architecture == machine && image.aliases.iter().any(|there| there == name))
        })
    }

    /// The aliases that mean this image: those of its product unless a newer image of its type and architecture has them, each
    /// also with the architecture appended.
    #[must_use]
    pub fn names(&self, image: &StreamImage) -> Vec<String> {
        let machine = image.architecture.debian_name();
        let means = |name: &&String| {
            let newest = self.resolve(name, image.image_type, image.architecture);
            newest.is_some_and(|newest| newest.fingerprint == image.fingerprint)
        };
        image.aliases.iter().filter(means).flat_map(|name| [name.clone(), format!("{name}/{machine}")]).collect()
    }
}

/// The order of versions: digits are compared by value, so that `20240101.10` comes after `20240101.9`.
pub(crate) fn by_number(one: &str, other: &str) -> Ordering {
    let (mut one, mut other) = (one, other);
    while !one.is_empty() && !other.is_empty() {
        let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
        let order = match (digits(one), digits(other)) {
            (0, _) | (_, 0) => {
                let (first, second) = (one.chars().next(), other.chars().next());
                one = one.get(first.map_or(0, char::len_utf8)..).unwrap_or_default();
                other = other.get(second.map_or(0, char::len_utf8)..).unwrap_or_default();
                first.cmp(&second)
            }
            (a, b) => {
                let (first, second) = (one[..a].trim_start_matches('0'), other[..b].trim_start_matches('0'));
                (one, other) = (&one[a..], &other[b..]);
                first.len().cmp(&second.len()).then_with(|| first.cmp(second))
            }
        };
        if order.is_ne() {
            return order;
        }
    }
    one.len().cmp(&other.len())
}

/// The images of a product, newest version first. Records everything that makes none.
fn product_images(key: &str, product: &Product, room: &mut Room, of: &mut ProductOmissions<'_>) -> Vec<StreamImage> {
    let all_digests = |version: &Version| version.items.values().flat_map(digests_of).collect::<Vec<_>>();
    let Ok(architecture) = product.arch.parse::<Architecture>() else {
        let shown: String = product.arch.chars().take(64).collect();
        let digests = product.versions.values().flat_map(all_digests).collect();
        of.skip(&[], ErrorKind::Unsupported, format!("it is for an unknown architecture, `{shown}`"), digests);
        return Vec::new();
    };
    if product.versions.is_empty() {
        of.skip(&[], ErrorKind::NotFound, "it has no versions".to_owned(), Vec::new());
    }
    for (serial, odd) in product.versions.odd() {
        of.skip_odd(&[serial], odd);
    }
    let expires_at = time::from_date(&product.support_eol);
    if expires_at.is_none() && !product.support_eol.is_empty() {
        of.drop_part(&[], "`support_eol`".to_owned(), "it is no date (YYYY-MM-DD)".to_owned());
    }
    let about = Arc::new(Product { versions: Entries::default(), ..product.clone() });
    let mut shared = Shared {
        product,
        metadata: room.metadata,
        none: Arc::default(),
        fields: HashMap::new(),
        bases: HashMap::new(),
    };
    let mut images = Vec::new();
    let mut versions: Vec<_> = product.versions.iter().collect();
    // Newest first, so that an image that occurs in several versions belongs to the newest.
    versions.sort_by(|(a, _), (b, _)| by_number(b, a));
    for (serial, version) in versions {
        let told_before = of.all.omissions().total();
        for (name, odd) in version.items.odd() {
            of.skip_odd(&[serial, name], odd);
        }
        let Some(created_at) = time::from_serial(serial) else {
            let reason = "it begins with no date (YYYYMMDD)".to_owned();
            of.skip(&[serial], ErrorKind::Malformed, reason, all_digests(version));
            continue;
        };
        let about_version = Arc::new(Version { items: Entries::default(), ..version.clone() });
        let found = choices(&version.items.values());
        let mut told = report_rest(serial, version, &found, of);
        let mut deltas: BTreeMap<RootKind, Arc<[StreamDelta]>> = BTreeMap::new();
        for found in found {
            let files = std::iter::once(found.first).chain(found.rootfs.map(|(_, item)| item));
            if let Some(error) = files.clone().find_map(|item| item.path.parse::<ItemPath>().err()) {
                told = true;
                of.skip(&[serial], ErrorKind::UnsafePath, error.message().to_owned(), vec![found.fingerprint]);
                continue;
            }
            for item in
                files.clone().filter(|item| !item.sha256.is_empty() && item.sha256.parse::<Fingerprint>().is_err())
            {
                let reason = "it is no digest; that of the whole image is checked".to_owned();
                of.drop_part(&[serial, &item.ftype], "`sha256`".to_owned(), reason);
            }
            if room.left == 0 {
                told = true;
                let reason = "what the list says of its images is over four times the limit `remote_index`".to_owned();
                of.skip(&[serial], ErrorKind::LimitExceeded, reason, vec![found.fingerprint]);
                continue;
            }
            let (properties, left_out) = properties(product, serial, &version.label, &found);
            room.take(key, serial, &of.aliases, &properties, files.clone());
            for key in left_out {
                of.drop_part(&[serial], format!("property `{key}`"), "it holds a NUL".to_owned());
            }
            images.push(StreamImage {
                fingerprint: found.fingerprint,
                image_type: found.image_type,
                architecture,
                aliases: of.aliases.to_vec(),
                properties,
                created_at,
                expires_at,
                product: key.to_owned(),
                version: serial.clone(),
                first: shared.file(serial, found.first, of),
                first_name: found.name,
                rootfs: found.rootfs.map(|(_, item)| shared.file(serial, item, of)),
                root_kind: found.rootfs.map(|(kind, _)| kind),
                deltas: found.rootfs.map_or_else(Arc::default, |(kind, _)| {
                    let made = deltas.entry(kind).or_insert_with(|| shared.deltas(serial, version, kind, of));
                    Arc::clone(made)
                }),
                statements: version
                    .items
                    .get(&statements_key(&found.fingerprint))
                    .filter(|item| item.ftype == STATEMENTS_TYPE)
                    .map(|item| shared.file(serial, item, of)),
                about: Arc::clone(&about),
                about_version: Arc::clone(&about_version),
            });
            told = true;
        }
        if !told {
            let (reason, kind) = if version.items.is_empty() {
                ("it has no items", ErrorKind::NotFound)
            } else {
                ("none of its items makes an image", ErrorKind::Unsupported)
            };
            of.skip(&[serial], kind, reason.to_owned(), all_digests(version));
        }
        if of.all.omissions().total() > told_before {
            // The rest of this version names the image that could not be made, so a mirror must not delete it.
            of.all.withhold(all_digests(version));
        }
    }
    images
}

/// Records items that look like files of an image and make none. Returns whether there were any.
fn report_rest(serial: &str, version: &Version, found: &[Found<'_>], of: &mut ProductOmissions<'_>) -> bool {
    let mut told = !version.items.odd().is_empty();
    let mut kinds = Vec::new();
    for (name, item) in &version.items {
        let ftype = item.ftype.as_str();
        let mut skip = |reason: String| {
            told = true;
            of.skip(&[serial, name], ErrorKind::Malformed, reason, digests_of(item));
        };
        if let Some(kind) = RootKind::ALL.into_iter().find(|kind| kind.name() == ftype) {
            if kinds.contains(&kind) {
                skip(format!("another item of the type `{ftype}` stands before it"));
            }
            kinds.push(kind);
        } else if UNIFIED_NAMES.contains(&ftype) && item.sha256.parse::<Fingerprint>().is_err() {
            skip("it has no `sha256`, by which it is named".to_owned());
        }
    }
    kinds.retain(|kind| !found.iter().any(|found| found.rootfs.is_some_and(|(used, _)| used == *kind)));
    for (name, item) in version.items.iter().filter(|(_, item)| METADATA_NAMES.contains(&item.ftype.as_str())) {
        for kind in kinds.iter().copied() {
            told = true;
            let key = kind.combined_name();
            let reason = if kind.combined(item).is_empty() {
                format!("it has no `{key}`, the digest of the image that it makes with `{}`", kind.name())
            } else {
                format!("its `{key}` is no digest")
            };
            of.skip(&[serial, name], ErrorKind::Malformed, reason, digests_of(item));
        }
    }
    told
}

/// How much of a list may become images: many of them may name one product, version or file, so a list within the limit
/// `remote_index` could otherwise become any number of times as large.
struct Room {
    /// How many bytes of keys, aliases, properties and paths images may still have.
    left: u64,
    /// The limit on the unknown fields of an item.
    metadata: u64,
}

impl Room {
    /// Counts what an image says.
    fn take<'a>(
        &mut self,
        product: &str,
        version: &str,
        aliases: &[String],
        properties: &Properties,
        files: impl Iterator<Item = &'a Item>,
    ) {
        let aliases = aliases.iter().map(String::len);
        let properties = properties.iter().map(|(key, value)| key.len() + value.len());
        let paths = files.map(|item| item.path.len());
        let all = aliases.chain(properties).chain(paths).chain([product.len(), version.len()]);
        self.left = all.fold(self.left, |left, bytes| left.saturating_sub(bytes as u64));
    }
}

/// The base of deltas: its rootfs, and the images that have it.
type Base = (Arc<File>, Arc<[Fingerprint]>);

/// What images and deltas of a product share: of an item that many of them name there is one copy.
struct Shared<'a> {
    product: &'a Product,
    /// The limit on the unknown fields of an item.
    metadata: u64,
    /// The unknown fields of items without any.
    none: Arc<Map<String, Value>>,
    /// Those of the others, by the addresses of the items.
    fields: HashMap<*const Item, Arc<Map<String, Value>>>,
    /// What deltas start from, by version and kind of rootfs; `None` for what is not there.
    bases: HashMap<(&'a str, RootKind), Option<Base>>,
}

impl<'a> Shared<'a> {
    /// The file that an item describes.
    fn file(&mut self, version: &str, item: &'a Item, of: &mut ProductOmissions<'_>) -> File {
        // A file of an image is never empty; some tools write 0 for an unknown size.
        File {
            path: item.path.clone(),
            size: item.size.filter(|size| *size > 0),
            sha256: item.sha256.parse().ok(),
            other: self.other(version, item, of),
        }
    }

    /// The fields of an item that are not known here. Too many of them are recorded and left out.
    fn other(&mut self, version: &str, item: &'a Item, of: &mut ProductOmissions<'_>) -> Arc<Map<String, Value>> {
        if item.other.is_empty() {
            return Arc::clone(&self.none);
        }
        if let Some(fields) = self.fields.get(&std::ptr::from_ref(item)) {
            return Arc::clone(fields);
        }
        let size = serde_json::to_vec(&item.other).map_or(u64::MAX, |text| text.len() as u64);
        let fields = if size <= self.metadata {
            Arc::new(item.other.clone())
        } else {
            let reason = format!("they have more than the {} bytes of the limit `metadata`", self.metadata);
            of.drop_part(&[version, &item.ftype], "fields that are not known here".to_owned(), reason);
            Arc::clone(&self.none)
        };
        self.fields.insert(std::ptr::from_ref(item), Arc::clone(&fields));
        fields
    }

    /// The deltas of a version for one kind of rootfs whose base the product has.
    fn deltas(
        &mut self,
        version: &str,
        about: &'a Version,
        kind: RootKind,
        of: &mut ProductOmissions<'_>,
    ) -> Arc<[StreamDelta]> {
        let Some(ftype) = kind.delta_name() else { return Arc::default() };
        let mut found = Vec::new();
        for item in about.items.values().filter(|item| item.ftype == ftype && item.path.parse::<ItemPath>().is_ok()) {
            let Some((base, bases)) = self.base(&item.delta_base, kind, of) else { continue };
            let file = self.file(version, item, of);
            found.push(StreamDelta { base_version: item.delta_base.clone(), bases, base, file });
        }
        found.into()
    }

    /// What the deltas from a version start from. Looked for once for all of them.
    fn base(&mut self, version: &'a str, kind: RootKind, of: &mut ProductOmissions<'_>) -> Option<Base> {
        if let Some(there) = self.bases.get(&(version, kind)) {
            return there.clone();
        }
        let found =
            self.product.versions.get(version).map(|before| choices(&before.items.values())).unwrap_or_default();
        let mut of_kind = found.iter().filter(|found| found.rootfs.is_some_and(|(there, _)| there == kind)).peekable();
        let rootfs = of_kind.peek().and_then(|found| found.rootfs).map(|(_, item)| item);
        let rootfs = rootfs.filter(|item| item.path.parse::<ItemPath>().is_ok());
        let base = rootfs.map(|item| {
            let bases = of_kind.map(|found| found.fingerprint).collect();
            (Arc::new(self.file(version, item, of)), bases)
        });
        self.bases.insert((version, kind), base.clone());
        base
    }
}

/// Items that make an image together.
struct Found<'a> {
    /// From the metadata item, or the digest of a unified image.
    fingerprint: Fingerprint,
    image_type: ImageType,
    /// The metadata, or the unified image.
    first: &'a Item,
    /// The type of that item.
    name: &'static str,
    /// The rootfs of a split image.
    rootfs: Option<(RootKind, &'a Item)>,
}

/// The images of a version, in the order in which the peers prefer them: SquashFS before tar.
fn choices<'a>(items: &(impl Iterator<Item = &'a Item> + Clone)) -> Vec<Found<'a>> {
    let mut found: Vec<Found<'a>> = Vec::new();
    let mut seen = HashSet::new();
    let named = |names: [&'static str; 2]| {
        let items = items.clone();
        items.filter_map(move |item| Some((names.into_iter().find(|name| *name == item.ftype)?, item)))
    };
    let mut add = |new: Found<'a>| {
        if seen.insert(new.fingerprint) {
            found.push(new);
        }
    };
    for kind in RootKind::ALL {
        let Some(rootfs) = items.clone().find(|item| item.ftype == kind.name()) else { continue };
        for (name, first) in named(METADATA_NAMES) {
            if let Ok(fingerprint) = kind.combined(first).parse() {
                add(Found { fingerprint, image_type: kind.image_type(), first, name, rootfs: Some((kind, rootfs)) });
            }
        }
    }
    for (name, first) in named(UNIFIED_NAMES) {
        let machine = first.combined_type == ImageType::VirtualMachine.name();
        let image_type = if machine { ImageType::VirtualMachine } else { ImageType::Container };
        if let Ok(fingerprint) = first.sha256.parse() {
            add(Found { fingerprint, image_type, first, name, rootfs: None });
        }
    }
    found
}

/// The properties of an image, and the keys of those that no store takes.
fn properties(product: &Product, serial: &str, label: &str, found: &Found<'_>) -> (Properties, Vec<String>) {
    let kind = found.rootfs.map_or("tar.gz", |(kind, _)| kind.name());
    let title = if product.release_title.is_empty() { &product.release } else { &product.release_title };
    let mut description = format!("{} {title} {}", product.os, product.arch);
    if !product.variant.is_empty() && product.variant != "default" {
        description.push_str(&format!(" {}", product.variant));
    }
    if !label.is_empty() {
        description.push_str(&format!(" ({label})"));
    }
    description.push_str(&format!(" ({serial})"));
    let (mut all, mut left_out) = (Properties::new(), Vec::new());
    let mut set = |key: &str, value: &str| {
        if !value.is_empty() && all.set(key, value).is_err() {
            left_out.push(key.to_owned());
        }
    };
    for (key, value) in [
        ("architecture", &*product.arch),
        ("description", &*description),
        ("label", label),
        ("os", &*product.os),
        ("release", &*product.release),
        ("release_codename", &*product.release_codename),
        ("serial", serial),
        ("type", kind),
        ("variant", &*product.variant),
        ("version", &*product.version),
    ] {
        set(key, value);
    }
    // Where it says more than the release itself: a store that serves the image on would lose it otherwise.
    if product.release_title != product.release {
        set("release_title", &product.release_title);
    }
    for (name, value) in product.effective_requirements() {
        set(&format!("requirements.{name}"), value);
    }
    (all, left_out)
}
