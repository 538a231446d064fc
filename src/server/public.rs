//! `PublicImages`: what anybody may see of the store, as it is found by name, by source and by product without a look at all images.
//! Made once for each change of the catalog.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;

use super::by_version::ByVersion;
use super::handler::Handler;
use crate::error::Result;
use crate::fingerprint::Fingerprint;
use crate::metadata::{Architecture, ImageType};
use crate::protocol::simplestreams::product_key;
use crate::store::StoredImage;

/// How many images are kept whole, so that lists and pages need not read them again. Of more only what finds them is kept.
const KEPT_WHOLE: usize = 20_000;
/// How many names an error suggests.
const SUGGESTED: usize = 3;
/// The longest name that is suggested for a slip of the pen, in bytes: each letter is an entry.
const LONGEST_NAME: usize = 64;

/// Of images of one product those for each architecture, the newest first.
type Unified = Vec<(Architecture, Fingerprint)>;

/// The public images of one state of the catalog.
#[derive(Debug, Default)]
pub(crate) struct PublicImages {
    /// All of them in the order of their fingerprints, where they are not too many.
    whole: Option<Vec<StoredImage>>,
    /// How many rows of the catalog could not be read, private ones among them.
    pub(crate) skipped: u64,
    /// The newest cached image that came from an alias of the upstream.
    brought: HashMap<(String, ImageType), Fingerprint>,
    products: HashMap<(String, ImageType), Unified>,
    /// Names in lower case, sorted, with how they are written.
    names: Vec<(String, String)>,
    /// The names that a text with one letter left out may be a slip of.
    slips: HashMap<u64, Vec<usize>>,
}

/// What was made of the catalog last.
pub(crate) type Kept = ByVersion<PublicImages>;

/// The public images as they are now.
pub(crate) fn now(handler: &Handler) -> Result<Arc<PublicImages>> {
    handler.public.get(&handler.store, || PublicImages::read(handler))
}

impl PublicImages {
    fn read(handler: &Handler) -> Result<Self> {
        let mut found = Self::default();
        let mut images = readable(handler, &mut found.skipped)?;
        images.retain(|image| image.public);
        found.index(&images);
        if images.len() <= KEPT_WHOLE {
            found.whole = Some(images);
        }
        Ok(found)
    }

    fn index(&mut self, images: &[StoredImage]) {
        let mut newest: HashMap<(String, ImageType), (i64, i64, Option<i64>)> = HashMap::new();
        let mut products: HashMap<(String, ImageType), Vec<&StoredImage>> = HashMap::new();
        for image in images {
            if let Some(source) = image.source.as_ref().filter(|source| image.cached && !source.alias.is_empty()) {
                let key = (source.alias.clone(), image.image_type);
                let age = (image.uploaded_at, image.created_at, image.last_used_at);
                if newest.get(&key).is_none_or(|other| *other <= age) {
                    newest.insert(key.clone(), age);
                    self.brought.insert(key, image.fingerprint);
                }
            }
            if image.rootfs_size.is_none() {
                products.entry((product(image), image.image_type)).or_default().push(image);
            }
            self.names.extend(image.aliases.iter().map(|alias| (alias.name.to_lowercase(), alias.name.clone())));
        }
        for (key, mut of_product) in products {
            of_product.sort_by_key(|image| std::cmp::Reverse((image.created_at, image.uploaded_at, image.fingerprint)));
            let of_product = of_product.iter().map(|image| (image.architecture, image.fingerprint)).collect();
            self.products.insert(key, of_product);
        }
        self.names.sort_unstable();
        for (index, (name, _)) in self.names.iter().enumerate().filter(|(_, (name, _))| name.len() <= LONGEST_NAME) {
            for slip in slips(name) {
                self.slips.entry(slip).or_default().push(index);
            }
        }
    }

    /// The image that came from this alias of the upstream last, as its name then meant.
    pub(crate) fn brought(&self, alias: &str, image_type: ImageType) -> Option<Fingerprint> {
        self.brought.get(&(alias.to_owned(), image_type)).copied()
    }

    /// The newest image in one file of the same product, of the same type, for this architecture.
    pub(crate) fn same_product(&self, image: &StoredImage, architecture: Architecture) -> Option<Fingerprint> {
        let of_product = self.products.get(&(product(image), image.image_type))?;
        of_product.iter().find(|(of, _)| *of == architecture).map(|(_, fingerprint)| *fingerprint)
    }

    /// Names that somebody may have meant by this one: written otherwise, with one slip, or its beginning. Found by looking up,
    /// so that it costs the same however many names there are.
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
        for name in found.into_iter().filter_map(|index| self.names.get(index)).map(|(_, name)| name.as_str()) {
            if !names.contains(&name) && names.len() < SUGGESTED {
                names.push(name);
            }
        }
        names
    }
}

/// Images that a client may see, in the order of their fingerprints: those that are kept for everybody, or read for this request.
#[derive(Debug)]
pub(crate) enum Listed {
    /// Kept for everybody.
    Kept(Arc<PublicImages>),
    /// Read for this request.
    Read(Vec<StoredImage>),
}

impl Deref for Listed {
    type Target = [StoredImage];

    fn deref(&self) -> &[StoredImage] {
        match self {
            Self::Kept(kept) => kept.whole.as_deref().unwrap_or_default(),
            Self::Read(images) => images,
        }
    }
}

/// All images that anybody may see.
pub(crate) fn all(handler: &Handler) -> Result<Listed> {
    let kept = now(handler)?;
    if kept.whole.is_some() {
        return Ok(Listed::Kept(kept));
    }
    let mut images = readable(handler, &mut 0)?;
    images.retain(|image| image.public);
    Ok(Listed::Read(images))
}

/// All images that can be read. One bad row is told to the log, and hides no other.
pub(crate) fn readable(handler: &Handler, skipped: &mut u64) -> Result<Vec<StoredImage>> {
    handler.store.readable_images(&mut |name, error| {
        *skipped += 1;
        handler.notes.skipped(name, error);
    })
}

/// What an image is of, whatever machine it is for.
fn product(image: &StoredImage) -> String {
    let key = product_key(&image.properties, image.architecture);
    key.rsplit_once(':').map_or_else(String::new, |(product, _)| product.to_owned())
}

/// The text itself and all that it is with one letter left out.
fn slips(name: &str) -> impl Iterator<Item = u64> {
    let whole = std::iter::once(hash(name, ""));
    whole.chain(name.char_indices().map(|(at, letter)| {
        hash(name.get(..at).unwrap_or_default(), name.get(at + letter.len_utf8()..).unwrap_or_default())
    }))
}

fn hash(front: &str, back: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    front.bytes().chain(back.bytes()).for_each(|byte| byte.hash(&mut hasher));
    hasher.finish()
}

/// Whether one text is the other with a letter too many, too few, changed, or two that changed places.
fn is_slip(one: &str, other: &str) -> bool {
    let (one, other): (Vec<char>, Vec<char>) = (one.chars().collect(), other.chars().collect());
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
        let mut image = StoredImage::told(Fingerprint::of(b"x"), ImageType::Container, Architecture::X86_64);
        image.aliases = names.iter().map(|name| crate::store::Alias::told((*name).to_owned())).collect();
        let mut found = PublicImages::default();
        found.index(&[image]);
        found
    }

    #[test]
    fn a_slip_of_the_pen_finds_the_name() {
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
