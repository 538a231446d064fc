//! From images of a store to products of a list: which product an image is in, and which aliases
//! the product has.
//!
//! In the store an alias is one image. In a list an alias is a product, and means its newest
//! version. This module keeps the two in agreement: a client that resolves an alias in the list
//! gets the image that the alias has in the store.
//!
//! - An image with aliases that is the newest of its product gives them to the product.
//! - An image with aliases that is not the newest gets a product of its own.
//! - An image without aliases is a version of its product, and is found by `os/release/variant` if
//!   no image has that name.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};

use super::digests::{Parts, Split};
use super::names::{METADATA, UNIFIED, rootfs_ending};
use crate::error::{Error, Result};
use crate::fingerprint::Fingerprint;
use crate::metadata::{Architecture, ImageType};
use crate::protocol::simplestreams::{ItemPath, Product, Products, Publication, PublishedFile, product_key, serial};
use crate::store::StoredImage;

/// Seconds of a day. Clients know only the day of a version, so that two versions of one day have
/// no order that every client agrees on.
const DAY: i64 = 86_400;

/// The part of an image that decides where it is in the list, and which names it has there: little
/// enough to be kept of all images at once.
#[derive(Debug)]
pub(super) struct Listed {
    pub(super) fingerprint: Fingerprint,
    image_type: ImageType,
    architecture: Architecture,
    /// When it was made, in seconds since 1970; the day of it is its version.
    created: i64,
    /// When it was uploaded, in seconds since 1970.
    uploaded_at: i64,
    /// Bytes of all its files.
    size: u64,
    /// Whether it is in two files.
    is_split: bool,
    /// The key of its product.
    key: String,
    /// Its aliases in the store.
    aliases: Vec<String>,
}

impl Listed {
    pub(super) fn of(image: &StoredImage) -> Self {
        Self {
            fingerprint: image.fingerprint,
            image_type: image.image_type,
            architecture: image.architecture,
            created: created(image),
            uploaded_at: image.uploaded_at,
            size: image.size,
            is_split: image.rootfs_size.is_some(),
            key: product_key(&image.properties, image.architecture),
            aliases: image.aliases.iter().map(|alias| alias.name.clone()).collect(),
        }
    }

    /// The image as one whose files must be read, if it is split.
    pub(super) fn split(&self) -> Option<Split> {
        self.is_split.then_some(Split { fingerprint: self.fingerprint, size: self.size })
    }

    /// Whether the image still belongs where it was put. It may have changed since it was listed.
    fn is(&self, image: &StoredImage) -> bool {
        image.public
            && image.image_type == self.image_type
            && image.rootfs_size.is_some() == self.is_split
            && product_key(&image.properties, image.architecture) == self.key
    }
}

/// Where a list gets from what it tells of images.
pub(super) struct Sources<'s, 'a> {
    /// The digests of the files of split images; those without are not listed.
    pub(super) parts: &'s HashMap<Fingerprint, Parts>,
    /// Reads an image as it is now.
    pub(super) image: &'s mut dyn FnMut(&Fingerprint) -> Result<Option<Cow<'a, StoredImage>>>,
    /// The file with the statements about an image, if there are some.
    pub(super) statements: &'s mut dyn FnMut(&StoredImage) -> Result<Option<PublishedFile>>,
}

/// Passes the products of these images to `write`, in the order of their keys.
///
/// Each image is read when its product is written. One that is gone or changed since it
/// was `listed` is left out: the catalog has another version then, and the list is made again. One
/// that no list can hold is passed to `skipped`, and hides no other.
///
/// # Errors
/// Those of the sources and `write`.
pub(super) fn products(
    listed: &[Listed],
    sources: &mut Sources<'_, '_>,
    skipped: &mut dyn FnMut(&Fingerprint, &Error),
    write: &mut dyn FnMut(String, &Product) -> Result<()>,
) -> Result<()> {
    let parts = sources.parts;
    let mut listed: Vec<&Listed> =
        listed.iter().filter(|image| !image.is_split || parts.contains_key(&image.fingerprint)).collect();
    // What describes a product last describes it, and a new image must not give others another version.
    listed.sort_by_key(|image| (image.created, image.uploaded_at, image.fingerprint));
    let newest = Newest::of(&listed);
    let mut names = names(&listed);
    let mut members: BTreeMap<String, Vec<Member<'_>>> = BTreeMap::new();
    for image in listed {
        let own = names.explicit.remove(&image.fingerprint).unwrap_or_default();
        // The aliases of an older image would mean another image of the product.
        let apart = !own.is_empty() && !newest.is(image);
        let key = if apart { format!("{}:{}", image.key, image.fingerprint) } else { image.key.clone() };
        members.entry(key).or_default().push(Member { image, own, apart });
    }
    for (key, members) in members {
        let mut product = Products::new(0);
        let mut versions: HashMap<String, u32> = HashMap::new();
        for member in members {
            let fingerprint = member.image.fingerprint;
            let found = (sources.image)(&fingerprint)?;
            let Some(image) = found.filter(|image| member.image.is(image)) else { continue };
            let statements = (sources.statements)(&image)?;
            let published = publication(&image, parts.get(&fingerprint)).and_then(|mut publication| {
                key.clone_into(&mut publication.product);
                publication.aliases = member.own;
                publication.statements = statements;
                if !member.apart {
                    let default = default_alias(&image);
                    publication.aliases.extend(default.filter(|name| !names.is_taken(name, image.architecture)));
                }
                // A version for each image, so that none is in the way of another.
                let count = versions.entry(publication.version.clone()).or_default();
                if *count > 0 {
                    publication.version = format!("{}_{count}", publication.version);
                }
                *count += 1;
                product.publish(&publication)
            });
            if let Err(error) = published {
                skipped(&fingerprint, &error);
            }
        }
        for (key, product) in &product.products {
            write(key.clone(), product)?;
        }
    }
    Ok(())
}

/// An image in its product.
struct Member<'a> {
    image: &'a Listed,
    /// The aliases that it has in the store, as products have them.
    own: Vec<String>,
    /// Whether it has a product of its own, for the sake of its aliases.
    apart: bool,
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

/// The newest image of each product and type, which the product's aliases mean.
struct Newest<'a>(HashMap<(&'a str, ImageType), (i64, Option<Fingerprint>)>);

impl<'a> Newest<'a> {
    /// Determines them. Where two images of one day are the newest, no image is: clients disagree
    /// on it.
    fn of(images: &[&'a Listed]) -> Self {
        let mut newest: HashMap<_, (i64, Option<Fingerprint>)> = HashMap::new();
        for image in images {
            let day = image.created / DAY;
            let there = newest.entry((image.key.as_str(), image.image_type)).or_insert((day, Some(image.fingerprint)));
            if day > there.0 {
                *there = (day, Some(image.fingerprint));
            } else if day == there.0 && there.1 != Some(image.fingerprint) {
                // Of two of one day, each reader takes another.
                there.1 = None;
            }
        }
        Self(newest)
    }

    /// Whether this image is the newest of its product.
    fn is(&self, image: &Listed) -> bool {
        let newest = self.0.get(&(image.key.as_str(), image.image_type));
        newest.is_some_and(|(_, fingerprint)| *fingerprint == Some(image.fingerprint))
    }
}

/// The names in a list.
struct Names<'a> {
    /// For each image, the aliases that it has in the store, as the list has them.
    explicit: HashMap<Fingerprint, Vec<String>>,
    /// All names with the architecture and the type that they are for, whatever image they mean.
    taken: HashSet<(&'a str, Architecture, ImageType)>,
}

impl Names<'_> {
    /// Whether some image of this architecture has this name, of either type: a product's aliases
    /// are for both.
    fn is_taken(&self, name: &str, architecture: Architecture) -> bool {
        ImageType::ALL.iter().any(|image_type| self.taken.contains(&(name, architecture, *image_type)))
    }
}

/// Distributes the aliases of the store. An alias that ends with the image's architecture loses
/// that part: clients append it again, and leave it out on machines of that architecture.
fn names<'a>(images: &[&'a Listed]) -> Names<'a> {
    // A container's and a virtual machine's image may share a name, and keep it: readers look for one of the two.
    let mut aliases: BTreeMap<(&str, ImageType), &Listed> = BTreeMap::new();
    for image in images {
        aliases.extend(image.aliases.iter().map(|name| ((name.as_str(), image.image_type), *image)));
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

/// The name of a product that has an operating system and a release: `os/release/variant`, as
/// `incus-simplestreams` writes it.
fn default_alias(image: &StoredImage) -> Option<String> {
    let part = |key: &str| {
        image.properties.get(key).filter(|value| !value.trim().is_empty()).map(|value| value.replace([',', ':'], "_"))
    };
    Some(format!("{}/{}/{}", part("os")?, part("release")?, part("variant").unwrap_or_else(|| "default".to_owned())))
}
