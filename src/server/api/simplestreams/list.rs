//! From images of a store to products: which product an image is in, and which aliases that has, so that an alias means
//! in the list what it means in the store. There an alias is one image; in a list it is the newest of a product.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::digests::Parts;
use super::{METADATA, UNIFIED, rootfs_ending};
use crate::error::{Error, Result};
use crate::fingerprint::Fingerprint;
use crate::metadata::{Architecture, ImageType};
use crate::protocol::simplestreams::{ItemPath, Products, Publication, PublishedFile, product_key, serial};
use crate::store::StoredImage;

/// Seconds of a day. Readers know of a version's date only the day.
const DAY: i64 = 86_400;

/// The list of these images; those in two files are in it whose `parts` are known. One that no list can hold is given to
/// `skipped`, and hides no other.
pub(super) fn products(
    images: &[StoredImage],
    parts: &HashMap<Fingerprint, Parts>,
    skipped: &mut dyn FnMut(&StoredImage, &Error),
) -> Products {
    let mut images: Vec<&StoredImage> =
        images.iter().filter(|image| image.rootfs_size.is_none() || parts.contains_key(&image.fingerprint)).collect();
    // What describes a product last describes it, and a new image must not give others another version.
    images.sort_by_key(|image| (created(image), image.uploaded_at, image.fingerprint));
    let keys: Vec<String> = images.iter().map(|image| product_key(&image.properties, image.architecture)).collect();
    let newest = Newest::of(images.iter().copied().zip(keys.iter().map(String::as_str)));
    let names = names(&images);

    let mut products = Products::new(0);
    products.updated = String::new();
    let mut versions: HashMap<(String, String), u32> = HashMap::new();
    for (image, key) in images.iter().zip(&keys) {
        let mut publication = match publication(image, parts.get(&image.fingerprint)) {
            Ok(publication) => publication,
            Err(error) => {
                skipped(image, &error);
                continue;
            }
        };
        let own = names.explicit.get(&image.fingerprint).cloned().unwrap_or_default();
        if newest.is(image, key) || own.is_empty() {
            publication.aliases.extend(own);
            publication.aliases.extend(default_alias(image).filter(|name| !names.is_taken(name, image.architecture)));
        } else {
            // Its aliases would mean another image of the product.
            publication.product = format!("{key}:{}", image.fingerprint);
            publication.aliases = own;
        }
        // A version for each image, so that none is in the way of another.
        let count = versions.entry((publication.product.clone(), publication.version.clone())).or_default();
        if *count > 0 {
            publication.version = format!("{}_{count}", publication.version);
        }
        *count += 1;
        if let Err(error) = products.publish(&publication) {
            skipped(image, &error);
        }
    }
    products
}

fn created(image: &StoredImage) -> i64 {
    // No version has a date before that.
    image.created_at.max(0)
}

fn publication(image: &StoredImage, parts: Option<&Parts>) -> Result<Publication> {
    let path = |ending: &str| -> Result<ItemPath> { format!("images/{}.{ending}", image.fingerprint).parse() };
    let (first, rootfs) = match parts {
        None => (PublishedFile::new(path(UNIFIED)?, image.size, image.fingerprint), None),
        Some(parts) => {
            let rootfs = path(rootfs_ending(parts.kind))?;
            (
                PublishedFile::new(path(METADATA)?, image.first_size(), parts.first),
                Some((parts.kind, PublishedFile::new(rootfs, image.rootfs_size.unwrap_or(0), parts.rootfs))),
            )
        }
    };
    let mut publication = Publication::new(
        image.fingerprint,
        image.image_type,
        image.architecture,
        image.created_at,
        image.properties.clone(),
        first,
        rootfs,
    );
    publication.version = serial(created(image));
    Ok(publication)
}

/// Which image an alias of a product means, for each type.
struct Newest<'a>(HashMap<(&'a str, ImageType), (i64, Option<Fingerprint>)>);

impl<'a> Newest<'a> {
    fn of(images: impl Iterator<Item = (&'a StoredImage, &'a str)>) -> Self {
        let mut newest: HashMap<_, (i64, Option<Fingerprint>)> = HashMap::new();
        for (image, key) in images {
            let day = created(image) / DAY;
            let there = newest.entry((key, image.image_type)).or_insert((day, Some(image.fingerprint)));
            if day > there.0 {
                *there = (day, Some(image.fingerprint));
            } else if day == there.0 && there.1 != Some(image.fingerprint) {
                // Of two of one day, each reader takes another.
                there.1 = None;
            }
        }
        Self(newest)
    }

    fn is(&self, image: &StoredImage, key: &str) -> bool {
        self.0.get(&(key, image.image_type)).is_some_and(|(_, fingerprint)| *fingerprint == Some(image.fingerprint))
    }
}

struct Names<'a> {
    /// The aliases that images have in the store, as products have them.
    explicit: HashMap<Fingerprint, Vec<String>>,
    /// Those of each architecture and type, whatever image they mean.
    taken: HashSet<(&'a str, Architecture, ImageType)>,
}

impl Names<'_> {
    /// Whether somebody gave this name to an image of this architecture, of whatever type: a product's aliases are of both.
    fn is_taken(&self, name: &str, architecture: Architecture) -> bool {
        ImageType::ALL.iter().any(|image_type| self.taken.contains(&(name, architecture, *image_type)))
    }
}

/// An alias that ends with the image's architecture is its product's without that: readers put it behind again, and
/// leave it out on machines of that architecture.
fn names<'a>(images: &[&'a StoredImage]) -> Names<'a> {
    // A container's and a virtual machine's image may share a name, and keep it: readers look for one of the two.
    let mut aliases: BTreeMap<(&str, ImageType), &StoredImage> = BTreeMap::new();
    for image in images {
        aliases.extend(image.aliases.iter().map(|alias| ((alias.name.as_str(), image.image_type), *image)));
    }
    let mut taken: HashSet<_> =
        aliases.iter().map(|((name, image_type), image)| (*name, image.architecture, *image_type)).collect();
    let mut explicit: HashMap<Fingerprint, Vec<String>> = HashMap::new();
    for ((name, image_type), image) in aliases {
        let short = name
            .rsplit_once('/')
            .filter(|(short, machine)| !short.is_empty() && machine.parse().ok() == Some(image.architecture));
        let own =
            short.map(|(short, _)| short).filter(|short| !taken.contains(&(*short, image.architecture, image_type)));
        if let Some(short) = own {
            taken.insert((short, image.architecture, image_type));
        }
        let name = own.unwrap_or(name);
        explicit.entry(image.fingerprint).or_default().push(name.to_owned());
    }
    Names { explicit, taken }
}

/// What a product is called that has a system and a release: `os/release/variant`, as `incus-simplestreams` calls it.
fn default_alias(image: &StoredImage) -> Option<String> {
    let part = |key: &str| {
        image.properties.get(key).filter(|value| !value.trim().is_empty()).map(|value| value.replace([',', ':'], "_"))
    };
    Some(format!("{}/{}/{}", part("os")?, part("release")?, part("variant").unwrap_or_else(|| "default".to_owned())))
}
