//! Which items of a version make an image, what is told of it, and which image an alias means: as the peers choose.
//! What is incomplete, unknown or no fingerprint is left out, as it is there.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::item::{ItemPath, METADATA_NAMES, RootKind, UNIFIED_NAMES};
use super::{Item, Product, Products};
use crate::error::Result;
use crate::fingerprint::Fingerprint;
use crate::metadata::{Architecture, ImageType, Properties};
use crate::time;

/// One file of an image on a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Where it lies, relative to the server's base, as the list says. See [`checked_path`](Self::checked_path).
    pub path: String,
    /// Its size in bytes, as the list says.
    pub size: u64,
    /// Its digest, as the list says.
    pub sha256: Option<Fingerprint>,
}

impl File {
    /// The path, if it stays below the server's base.
    ///
    /// # Errors
    /// `UnsafePath` for one that is absolute, names another server, or climbs, in whatever spelling.
    pub fn checked_path(&self) -> Result<ItemPath> {
        self.path.parse()
    }
}

/// An image that a list offers.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct StreamImage {
    /// What its bytes must hash to.
    pub fingerprint: Fingerprint,
    /// Whether it is for a container or a virtual machine.
    pub image_type: ImageType,
    /// The machine that it is for.
    pub architecture: Architecture,
    /// The aliases of its product; several images have the same ones.
    pub aliases: Vec<String>,
    /// What the list tells of it.
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
    /// The item's name of that, which tells the peers whose image it is.
    pub first_name: &'static str,
    /// The rootfs of a split image.
    pub rootfs: Option<File>,
    /// What that is.
    pub root_kind: Option<RootKind>,
    /// All that the list says of its product, but for the versions. The images of a product share it.
    pub about: Arc<Product>,
}

impl StreamImage {
    /// The size of all its files in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.first.size.saturating_add(self.rootfs.as_ref().map_or(0, |rootfs| rootfs.size))
    }

    /// The last part of its first file's path.
    #[must_use]
    pub fn file_name(&self) -> &str {
        self.first.path.rsplit('/').next().unwrap_or_default()
    }
}

/// The images of a list, newest first.
#[derive(Debug, Clone, Default)]
pub struct Listing {
    images: Vec<StreamImage>,
    skipped: Vec<String>,
}

/// How many reasons are kept; a list of another world has one for each product.
const REASONS: usize = 1_000;

impl Listing {
    /// The images of one list.
    #[must_use]
    pub fn new(products: &Products) -> Self {
        Self::of([products])
    }

    /// The images of several lists. One that stands in several places is there once, with all its aliases.
    #[must_use]
    pub fn of<'a>(lists: impl IntoIterator<Item = &'a Products>) -> Self {
        let mut images: Vec<StreamImage> = Vec::new();
        let mut places: HashMap<Fingerprint, usize> = HashMap::new();
        let mut skipped = Vec::new();
        for (key, product) in lists.into_iter().flat_map(|list| &list.products) {
            for image in product_images(key, product, &mut skipped) {
                match places.get(&image.fingerprint).and_then(|place| images.get_mut(*place)) {
                    Some(there) => {
                        let new = image.aliases.into_iter().filter(|alias| !there.aliases.contains(alias));
                        let new: Vec<String> = new.collect();
                        there.aliases.extend(new);
                    }
                    None => {
                        places.insert(image.fingerprint, images.len());
                        images.push(image);
                    }
                }
            }
        }
        // The sort is stable: of one version, images stay in the order in which they are preferred.
        images.sort_by_key(|image| Reverse((image.created_at, image.version.clone())));
        skipped.truncate(REASONS);
        Self { images, skipped }
    }

    /// All images, newest first.
    #[must_use]
    pub fn images(&self) -> &[StreamImage] {
        &self.images
    }

    /// What was left out although it looks like an image, and why; a sentence each, at most 1,000.
    #[must_use]
    pub fn skipped(&self) -> &[String] {
        &self.skipped
    }

    /// The image that an alias means: the newest of the type and architecture. An alias may say the
    /// architecture itself: `debian/12/arm64`.
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

    /// The names by which an image is meant: those of its aliases that don't mean a newer one of its
    /// type and architecture, each with the architecture behind it.
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

fn product_images(key: &str, product: &Product, skipped: &mut Vec<String>) -> Vec<StreamImage> {
    let mut skip = |why: std::fmt::Arguments<'_>| {
        if skipped.len() < REASONS {
            let shown: String = key.chars().take(128).collect();
            skipped.push(format!("the product `{shown}`{why}"));
        }
    };
    let Ok(architecture) = product.arch.parse::<Architecture>() else {
        let shown: String = product.arch.chars().take(64).collect();
        skip(format_args!(" is for an unknown architecture, `{shown}`"));
        return Vec::new();
    };
    let aliases: Vec<String> =
        product.aliases.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect();
    let about = Arc::new(Product { versions: BTreeMap::new(), ..product.clone() });
    let mut images = Vec::new();
    for (serial, version) in &product.versions {
        let shown = || serial.chars().take(64).collect::<String>();
        let Some(created_at) = time::from_serial(serial) else {
            skip(format_args!(" has a version that begins with no date, `{}`", shown()));
            continue;
        };
        let found = choices(&version.items.values());
        let has_metadata = version
            .items
            .values()
            .any(|item| METADATA_NAMES.contains(&item.ftype.as_str()) || UNIFIED_NAMES.contains(&item.ftype.as_str()));
        if found.is_empty() && has_metadata {
            skip(format_args!(", version `{}`, has metadata, but no rootfs with a digest of both", shown()));
        }
        for found in found {
            let properties = properties(product, serial, &version.label, &found);
            images.push(StreamImage {
                fingerprint: found.fingerprint,
                image_type: found.image_type,
                architecture,
                aliases: aliases.clone(),
                properties,
                created_at,
                expires_at: time::from_date(&product.support_eol),
                product: key.to_owned(),
                version: serial.clone(),
                first: file(found.first),
                first_name: found.name,
                rootfs: found.rootfs.map(|(_, item)| file(item)),
                root_kind: found.rootfs.map(|(kind, _)| kind),
                about: Arc::clone(&about),
            });
        }
    }
    images
}

fn file(item: &Item) -> File {
    File { path: item.path.clone(), size: item.size, sha256: item.sha256.parse().ok() }
}

/// Items that make an image together.
struct Found<'a> {
    fingerprint: Fingerprint,
    image_type: ImageType,
    first: &'a Item,
    name: &'static str,
    rootfs: Option<(RootKind, &'a Item)>,
}

/// The images of a version, in the order in which the peers prefer them: SquashFS before tar.
fn choices<'a>(items: &(impl Iterator<Item = &'a Item> + Clone)) -> Vec<Found<'a>> {
    let mut found: Vec<Found<'a>> = Vec::new();
    let named = |names: [&'static str; 2]| {
        let items = items.clone();
        items.filter_map(move |item| Some((names.into_iter().find(|name| *name == item.ftype)?, item)))
    };
    let mut add = |new: Found<'a>| {
        if !found.iter().any(|there| there.fingerprint == new.fingerprint) {
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

fn properties(product: &Product, serial: &str, label: &str, found: &Found<'_>) -> Properties {
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
    let mut all = Properties::new();
    let mut set = |key: &str, value: &str| {
        // A text that no store takes, for a NUL in it, is not told on.
        if !value.is_empty() {
            let _ = all.set(key, value);
        }
    };
    for (key, value) in [
        ("architecture", &*product.arch),
        ("description", &*description),
        ("label", label),
        ("os", &*product.os),
        ("release", &*product.release),
        ("serial", serial),
        ("type", kind),
        ("variant", &*product.variant),
        ("version", &*product.version),
    ] {
        set(key, value);
    }
    for (name, value) in &product.requirements {
        set(&format!("requirements.{name}"), value);
    }
    all
}
