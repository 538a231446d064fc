//! [`PublicImages`]: an index of the public images, by which they are found by name, by source and
//! by product without a scan of the catalog.
//!
//! It is made once for each change of the catalog ([`ByVersion`]), page by page, and shared by all
//! requests until the next change. Up to 20,000 public images are kept whole; of more, only the
//! index is kept, some 200 bytes for each, and rows are read when they are needed.
//!
//! | who uses it | for what |
//! |---|---|
//! | lists of the REST API | images and aliases, where they fit on one page |
//! | pages and search | counts, choices, order |
//! | simplestreams | the digest that tells whether the list must be made again |
//! | direct import | the image of the same product for another architecture |
//! | upstream cache | what an alias of the upstream meant when it was last fetched |
//! | errors | similar names |
//!
//! Private images are not in it, so nothing that is computed from it can reveal one. An exception
//! is `skipped`, the number of damaged rows: whether such a row is public can't be read.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher as _};

use super::by_version::ByVersion;
use super::notes::Notes;
use crate::error::Result;
use crate::fingerprint::{Fingerprint, Hasher};
use crate::metadata::{Architecture, ImageType};
use crate::protocol::simplestreams::product_key;
use crate::store::{Alias, AliasTarget, ImageQuery, Store, StoredImage};

/// The number of images that are kept whole, so that lists and pages need not read them again: some
/// 20 MiB. Of more, only what finds them is kept.
const KEPT_WHOLE: usize = 20_000;
/// The number of names that an error suggests.
const SUGGESTED: usize = 3;
/// The longest name that is suggested for a mistyped one, in bytes. A name has an index entry for
/// each of its characters, so a long one would be expensive.
const LONGEST_NAME: usize = 64;

/// The unified images of one product, each with its architecture, the newest first.
type Unified = Vec<(Architecture, Fingerprint)>;

/// What a public image is chosen and sorted by.
#[derive(Debug)]
pub(crate) struct Entry {
    /// The image.
    pub(crate) fingerprint: Fingerprint,
    pub(crate) architecture: Architecture,
    pub(crate) image_type: ImageType,
    /// When the image was made, in seconds since 1970.
    pub(crate) created_at: i64,
    /// Bytes of all its files.
    pub(crate) size: u64,
    /// Its position in the order of first names, without regard to case; images without a name are
    /// last.
    pub(crate) rank: usize,
    /// Its property `os`, as an index into the systems.
    system: Option<usize>,
}

/// The public images of one state of the catalog.
#[derive(Debug, Default)]
pub(crate) struct PublicImages {
    /// All of them in the order of their fingerprints; `None` if they are more than [`KEPT_WHOLE`].
    whole: Option<Vec<StoredImage>>,
    /// What each is chosen and sorted by, in the order of the fingerprints.
    entries: Vec<Entry>,
    /// The values of their property `os`, sorted.
    systems: Vec<String>,
    /// How many rows of the catalog could not be read, private ones among them.
    pub(crate) skipped: u64,
    /// The digest of all that lists say about them; `None` in an empty index that was never read.
    digest: Option<Fingerprint>,
    /// For an alias of the upstream and a type, the newest cached image that was fetched by it.
    brought: HashMap<(String, ImageType), Fingerprint>,
    /// For a product without its architecture and a type, its unified images.
    products: HashMap<(String, ImageType), Unified>,
    /// Their aliases, sorted by name and type.
    aliases: Vec<(Alias, AliasTarget)>,
    /// Names in lower case, sorted, with the alias that each is of.
    names: Vec<(String, usize)>,
    /// For the hash of each name, and of each name with one character left out, the names that have
    /// it.
    slips: HashMap<u64, Vec<usize>>,
}

/// The index that was made last.
pub(crate) type Kept = ByVersion<PublicImages>;

/// An image of a product: when it was made and uploaded, its fingerprint and its architecture.
type OfProduct = (i64, i64, Fingerprint, Architecture);

/// A digest that changes with all that a list of products tells of images, which are added in the
/// order of their fingerprints.
///
/// Two lists with the same digest are the same list, so the documents need not be made again. Each
/// text is preceded by its length; without that, two different sequences could hash to the same
/// bytes.
#[derive(Default)]
pub(crate) struct ListedDigest(Hasher);

impl ListedDigest {
    /// Adds the next image.
    pub(crate) fn add(&mut self, image: &StoredImage) {
        self.text(&image.fingerprint.to_string());
        // The revision stands for what is beside the row: statements are added with it.
        let counts = [image.properties.len() as u64, image.aliases.len() as u64, image.revision];
        self.text(&format!("{counts:?} {}", image.uploaded_at));
        for (key, value) in image.properties.iter() {
            self.text(key);
            self.text(value);
        }
        for alias in &image.aliases {
            self.text(&alias.name);
        }
    }

    /// Adds a text with its length.
    fn text(&mut self, text: &str) {
        self.0.update(&text.len().to_le_bytes());
        self.0.update(text.as_bytes());
    }

    /// The digest of all images that were added.
    pub(crate) fn finish(self) -> Fingerprint {
        self.0.finish()
    }
}

/// The index while it is made, one image after the other. Orders and positions are known at the end
/// only.
#[derive(Default)]
struct Gathered {
    /// The digest of the images so far.
    digest: ListedDigest,
    /// The parts of the index that can be filled as images come.
    found: PublicImages,
    /// The images as long as they are few enough to be kept.
    whole: Vec<StoredImage>,
    /// For each entry of `brought`, the times by which a newer image replaces it.
    newest: HashMap<(String, ImageType), (i64, i64, Option<i64>)>,
    /// The unified images of each product, in the order in which they came.
    products: HashMap<(String, ImageType), Vec<OfProduct>>,
    /// The systems so far, with the number that entries have of them for now.
    systems: BTreeMap<String, usize>,
    /// The first name of each image, in lower case.
    first: Vec<Option<String>>,
}

impl Gathered {
    /// Takes the next image, in the order of the fingerprints.
    fn add(&mut self, mut image: StoredImage) {
        self.digest.add(&image);
        if let Some(source) = image.source.as_ref().filter(|source| image.cached && !source.alias.is_empty()) {
            let key = (source.alias.clone(), image.image_type);
            let age = (image.uploaded_at, image.created_at, image.last_used_at);
            if self.newest.get(&key).is_none_or(|other| *other <= age) {
                self.newest.insert(key.clone(), age);
                self.found.brought.insert(key, image.fingerprint);
            }
        }
        if image.rootfs_size.is_none() {
            let of_product = (image.created_at, image.uploaded_at, image.fingerprint, image.architecture);
            self.products.entry((product(&image), image.image_type)).or_default().push(of_product);
        }
        let system = image.properties.get("os").map(|system| match self.systems.get(system) {
            Some(index) => *index,
            None => {
                let index = self.systems.len();
                self.systems.insert(system.to_owned(), index);
                index
            }
        });
        self.first.push(image.aliases.first().map(|alias| alias.name.to_lowercase()));
        self.found.entries.push(Entry {
            fingerprint: image.fingerprint,
            architecture: image.architecture,
            image_type: image.image_type,
            created_at: image.created_at,
            size: image.size,
            rank: 0,
            system,
        });
        // Freed at once: a store of a million images must not hold them even while the index is
        // made.
        if self.found.entries.len() > KEPT_WHOLE {
            self.whole = Vec::new();
            let target = image.target();
            self.found.aliases.extend(std::mem::take(&mut image.aliases).into_iter().map(|alias| (alias, target)));
        } else {
            self.found.aliases.extend(image.aliases.iter().map(|alias| (alias.clone(), image.target())));
            self.whole.push(image);
        }
    }

    /// The index of the images that were added.
    fn finish(self) -> PublicImages {
        let Self { digest, mut found, whole, products, systems, first, .. } = self;
        found.digest = Some(digest.finish());
        for (key, mut of_product) in products {
            of_product.sort_unstable_by_key(|(created, uploaded, fingerprint, _)| {
                Reverse((*created, *uploaded, *fingerprint))
            });
            let of_product = of_product.iter().map(|(_, _, fingerprint, architecture)| (*architecture, *fingerprint));
            found.products.insert(key, of_product.collect());
        }
        // Numbered as they came; now by their order.
        let mut places = vec![0; systems.len()];
        for (place, (system, index)) in systems.into_iter().enumerate() {
            if let Some(of) = places.get_mut(index) {
                *of = place;
            }
            found.systems.push(system);
        }
        let mut by_name: Vec<usize> = (0..found.entries.len()).collect();
        by_name.sort_by_cached_key(|index| {
            let name = first.get(*index).cloned().flatten();
            (name.is_none(), name)
        });
        for (rank, index) in by_name.into_iter().enumerate() {
            if let Some(entry) = found.entries.get_mut(index) {
                entry.rank = rank;
                entry.system = entry.system.and_then(|system| places.get(system).copied());
            }
        }
        found.aliases.sort_by(|(one, of_one), (other, of_other)| {
            (&one.name, of_one.image_type).cmp(&(&other.name, of_other.image_type))
        });
        found.names =
            found.aliases.iter().enumerate().map(|(index, (alias, _))| (alias.name.to_lowercase(), index)).collect();
        found.names.sort_unstable();
        for (index, (name, _)) in found.names.iter().enumerate().filter(|(_, (name, _))| name.len() <= LONGEST_NAME) {
            for slip in slips(name) {
                found.slips.entry(slip).or_default().push(index);
            }
        }
        found.whole = (found.entries.len() <= KEPT_WHOLE).then_some(whole);
        found
    }
}

impl PublicImages {
    /// Reads the catalog page by page. A damaged row is written to the log and counted; it hides no
    /// other.
    pub(crate) fn read(store: &Store, notes: &Notes) -> Result<Self> {
        let mut gathered = Gathered::default();
        let mut skipped = 0;
        let mut add = |image: StoredImage| {
            if image.public {
                gathered.add(image);
            }
            Ok(())
        };
        store.for_each(&ImageQuery::new(), &mut add, &mut |name, error| {
            skipped += 1;
            notes.skipped(name, error);
        })?;
        let mut found = gathered.finish();
        found.skipped = skipped;
        Ok(found)
    }

    /// A digest that changes with all that a list of products tells of them.
    pub(crate) fn digest(&self) -> Fingerprint {
        self.digest.unwrap_or_else(|| ListedDigest::default().finish())
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// All of them in the order of their fingerprints, where they are kept.
    pub(crate) fn whole(&self) -> Option<&[StoredImage]> {
        self.whole.as_deref()
    }

    /// What is known of each, in the order of their fingerprints.
    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Their aliases with what they point to, sorted by name and type.
    pub(crate) fn aliases(&self) -> &[(Alias, AliasTarget)] {
        &self.aliases
    }

    /// The systems that they have, sorted.
    pub(crate) fn systems(&self) -> impl Iterator<Item = &str> {
        self.systems.iter().map(String::as_str)
    }

    /// The system of an image, if it has the property `os`.
    pub(crate) fn system(&self, entry: &Entry) -> Option<&str> {
        self.systems.get(entry.system?).map(String::as_str)
    }

    /// The image that was fetched last by this alias of the upstream.
    pub(crate) fn brought(&self, alias: &str, image_type: ImageType) -> Option<Fingerprint> {
        self.brought.get(&(alias.to_owned(), image_type)).copied()
    }

    /// The newest image in one file of the same product, of the same type, for this architecture.
    ///
    /// Split images are not considered: direct import can't serve them.
    pub(crate) fn same_product(&self, image: &StoredImage, architecture: Architecture) -> Option<Fingerprint> {
        let of_product = self.products.get(&(product(image), image.image_type))?;
        of_product.iter().find(|(of, _)| *of == architecture).map(|(_, fingerprint)| *fingerprint)
    }

    /// Public names that are similar to `name`: the same in another case, with one slip (a
    /// character too many, too few or wrong, or two exchanged), or longer ones that begin with it.
    /// Three at most.
    ///
    /// # How it is found
    ///
    /// Two texts that differ by one slip become equal when one character is left out of one or
    /// both. So the hash of each name without each of its characters is in an index, and the search
    /// looks up the hashes of the wanted text in the same way: some dozens of look-ups, however
    /// many names there are. A look-up that hits is compared in full.
    pub(crate) fn suggestions(&self, name: &str) -> Vec<&str> {
        let wanted = name.to_lowercase();
        if wanted.is_empty() || wanted.len() > LONGEST_NAME {
            return Vec::new();
        }
        let mut found: Vec<usize> = Vec::new();
        let begins = self.names.partition_point(|(other, _)| *other < wanted);
        let same = |index: &usize| self.names.get(*index).is_some_and(|(other, _)| *other == wanted);
        found.extend((begins..).take_while(same).take(SUGGESTED));
        for slip in slips(&wanted) {
            let near = self.slips.get(&slip).into_iter().flatten().copied().take(SUGGESTED);
            // Two texts may leave the same behind, but for the place where the letter was.
            found.extend(near.filter(|index| self.names.get(*index).is_some_and(|(other, _)| is_slip(other, &wanted))));
        }
        let longer = |index: &usize| self.names.get(*index).is_some_and(|(other, _)| other.starts_with(&wanted));
        found.extend((begins..).take_while(longer).take(SUGGESTED));
        let mut names: Vec<&str> = Vec::new();
        let aliases =
            found.into_iter().filter_map(|index| self.names.get(index)).filter_map(|(_, of)| self.aliases.get(*of));
        for name in aliases.map(|(alias, _)| alias.name.as_str()) {
            if !names.contains(&name) && names.len() < SUGGESTED {
                names.push(name);
            }
        }
        names
    }
}

/// The product of an image without its architecture; empty if it has none.
fn product(image: &StoredImage) -> String {
    let key = product_key(&image.properties, image.architecture);
    key.rsplit_once(':').map_or_else(String::new, |(product, _)| product.to_owned())
}

/// The hashes of a text and of all texts that it becomes with one character left out.
fn slips(name: &str) -> impl Iterator<Item = u64> {
    let whole = std::iter::once(hash(name, ""));
    whole.chain(name.char_indices().map(|(at, letter)| {
        hash(name.get(..at).unwrap_or_default(), name.get(at + letter.len_utf8()..).unwrap_or_default())
    }))
}

/// The hash of two parts as of one text, without joining them.
fn hash(front: &str, back: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    front.bytes().chain(back.bytes()).for_each(|byte| byte.hash(&mut hasher));
    hasher.finish()
}

/// Whether two texts differ by one slip: a character too many, too few or changed, or two
/// neighbours exchanged.
fn is_slip(one: &str, other: &str) -> bool {
    let (one, other): (Vec<char>, Vec<char>) = (one.chars().collect(), other.chars().collect());
    // What remains after the common front and back is the difference.
    let front = one.iter().zip(&other).take_while(|(a, b)| a == b).count();
    let (one, other) = (one.get(front..).unwrap_or_default(), other.get(front..).unwrap_or_default());
    let back = one.iter().rev().zip(other.iter().rev()).take_while(|(a, b)| a == b).count();
    let (one, other) = (&one[..one.len() - back], &other[..other.len() - back]);
    one.len() <= 1 && other.len() <= 1 || matches!((one, other), ([a, b], [c, d]) if a == d && b == c)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn images(names: &[&str]) -> PublicImages {
        let mut image = StoredImage::new(Fingerprint::of(b"x"), ImageType::Container, Architecture::X86_64);
        image.aliases = names.iter().map(|name| Alias::told((*name).to_owned())).collect();
        let mut gathered = Gathered::default();
        gathered.add(image);
        gathered.finish()
    }

    #[test]
    fn slip_of_the_pen_finds_the_name() {
        let found = images(&["web", "debian/12", "debian/12/arm64", "Ubuntu"]);
        for (wanted, names) in [
            ("wbe", vec!["web"]),
            ("wb", vec!["web"]),
            ("webs", vec!["web"]),
            ("Web", vec!["web"]),
            ("debian/13", vec!["debian/12"]),
            ("debian", vec!["debian/12", "debian/12/arm64"]),
            ("ubuntu", vec!["Ubuntu"]),
            ("bew", vec![]),
            ("nope", vec![]),
            ("", vec![]),
        ] {
            assert_eq!(found.suggestions(wanted), names, "{wanted}");
        }
    }
}
