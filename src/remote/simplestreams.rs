//! `Simplestreams`: a remote that is a tree of static files: an index, lists of products, the files of images.
//! Lists are read again only when they changed; every file is checked against its own digest and the pair against the image's.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::http::{ClientOptions, Url};
use super::near::is_near;
use super::site::Site;
use super::{Remote, Wanted};
use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::Fingerprint;
use crate::format::{ImageSource, Input};
use crate::limits::Limits;
use crate::omissions::{Omission, Omitted};
use crate::progress::Monitor;
use crate::protocol::simplestreams::{AllUnusable, File, Index, Listing, Products, StreamImage, Unusable, by_number};
use crate::store::{Alias, StoredImage, UpdateSource};

/// How many things an error names.
const NAMED: usize = 10;
/// Where every server has its index.
const INDEX: &str = "streams/v1/index.json";

/// A simplestreams server, or a tree for one on this machine's disk.
#[derive(Debug, Clone)]
pub struct Simplestreams {
    site: Site,
    limits: Limits,
    certificate: String,
    /// Which lists were read last, and what was made of them.
    seen: Arc<Mutex<Option<Seen>>>,
}

#[derive(Debug)]
struct Seen {
    digests: Vec<Fingerprint>,
    listing: Arc<Listing>,
}

impl Simplestreams {
    /// The server, or the directory (`file:///DIR`), whose `streams/v1/index.json` lists its images.
    /// Nothing is asked yet.
    ///
    /// # Errors
    /// Those of [`Client::new`](super::Client::new).
    pub fn new(options: ClientOptions, base: &Url) -> Result<Self> {
        let limits = options.limits.clone();
        Ok(Self { site: Site::new(options, base)?, limits, certificate: String::new(), seen: Arc::default() })
    }

    /// Keeps lists in a directory, which is made when it is needed, and does not ask for them again
    /// for an hour; after that, only whether they changed. Nothing of images is kept there.
    #[must_use]
    pub fn cache(mut self, directory: impl Into<PathBuf>) -> Self {
        self.site.keep_in(directory.into());
        self
    }

    /// How long kept lists are believed without a question, instead of an hour.
    #[must_use]
    pub fn fresh_for(mut self, time: Duration) -> Self {
        self.site.fresh_for(time);
        self
    }

    /// The server's certificate in PEM, to be recorded with images that come from here.
    #[must_use]
    pub fn certificate(mut self, pem: impl Into<String>) -> Self {
        self.certificate = pem.into();
        self
    }

    /// The lists as they are now. What in them can't be used is left out and hides nothing else; see [`Listing::omissions`]. Of
    /// several lists one that can't be read does not hide the others either.
    ///
    /// # Errors
    /// As [`Remote::list`]; also when none of the lists that the index names can be read.
    pub fn listing(&self, monitor: &Monitor) -> Result<Arc<Listing>> {
        let mut index = None;
        let document = self.site.document(INDEX, monitor, &mut |bytes| {
            index = Some(Index::from_json(bytes, &self.limits)?);
            Ok(())
        });
        let document = document.map_err(|error| {
            if error.kind() == ErrorKind::NotFound {
                error.with_hint("a simplestreams server has `streams/v1/index.json` below its address")
            } else {
                error
            }
        })?;
        let index = match index {
            Some(index) => index,
            None => Index::from_json(&document, &self.limits)?,
        };
        let last = self.last();
        let is_known = |digest: &Fingerprint| last.as_ref().is_some_and(|(digests, _)| digests.contains(digest));
        let mut unusable = AllUnusable::default();
        for (name, odd) in index.index.odd() {
            unusable.add_list(&format!("{INDEX}/{name}"), odd.reason.clone());
        }
        for (name, _) in index.index.iter().filter(|(_, entry)| entry.datatype.is_empty() && !entry.path.is_empty()) {
            let reason = "it has no `datatype`, so that no reader takes it for a list of images".into();
            unusable.note(Omission::new(format!("{INDEX}/{name}"), Omitted::Skipped { reason }));
        }
        // Beside lists that have some it is what every server has; alone it explains why nothing is listed.
        let none = index.image_lists().next().is_none();
        for (name, _) in index.index.iter().filter(|(_, entry)| none && entry.names_no_products()) {
            let reason = "it names no `products`, so that no reader looks into it".into();
            unusable.note(Omission::new(format!("{INDEX}/{name}"), Omitted::Skipped { reason }));
        }
        let mut digests = vec![Fingerprint::of(&document)];
        let mut documents = Vec::new();
        let mut first_error = None;
        for entry in index.image_lists() {
            let mut products = None;
            let list = self.site.document(&entry.path, monitor, &mut |bytes| {
                let known = is_known(&Fingerprint::of(bytes));
                products = if known { None } else { Some(Products::from_json(bytes, &self.limits)?) };
                Ok(())
            });
            match list {
                Ok(bytes) => {
                    digests.push(Fingerprint::of(&bytes));
                    documents.push((bytes, products));
                }
                Err(error) if is_of_the_list(&error) => {
                    unusable.add_list(&entry.path, error.message().to_owned());
                    first_error.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        if let Some(error) = first_error.filter(|_| documents.is_empty()) {
            return Err(error);
        }
        if let Some((_, listing)) = last.filter(|(last, _)| !unusable.is_incomplete() && *last == digests) {
            return Ok(listing);
        }
        let mut lists = Vec::new();
        for (bytes, products) in documents {
            lists.push(match products {
                Some(products) => products,
                None => Products::from_json(&bytes, &self.limits)?,
            });
        }
        let listing = Arc::new(Listing::with(&lists, unusable));
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(Seen { digests, listing: Arc::clone(&listing) });
        Ok(listing)
    }

    /// What was read last: the digests of index and lists, and what was made of them.
    fn last(&self) -> Option<(Vec<Fingerprint>, Arc<Listing>)> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.as_ref().map(|seen| (seen.digests.clone(), Arc::clone(&seen.listing)))
    }

    /// An image of the list that was read last; if it is not in that, of the list as it is now.
    fn known(&self, fingerprint: &Fingerprint, monitor: &Monitor) -> Result<StreamImage> {
        let find = |listing: &Listing| listing.images().iter().find(|there| there.fingerprint == *fingerprint).cloned();
        if let Some(image) = self.last().and_then(|(_, listing)| find(&listing)) {
            return Ok(image);
        }
        find(&*self.listing(monitor)?).ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("{} has the image {fingerprint} no more", self.site.base()))
        })
    }

    fn file(&self, file: &File, monitor: &Monitor) -> Result<Input> {
        self.site.open(&file.checked_path()?, file.size, file.sha256, monitor)
    }

    fn not_found(&self, listing: &Listing, wanted: &Wanted) -> Error {
        let shown: String = wanted.reference.chars().take(64).collect();
        let kind = wanted.image_type.name();
        let base = self.site.base();
        // The same name for another machine, or for the other type.
        let mut others: Vec<String> = listing
            .images()
            .iter()
            .filter(|image| image.aliases.contains(&wanted.reference))
            .map(|image| format!("{} ({})", image.architecture, image.image_type.name()))
            .collect();
        others.sort();
        others.dedup();
        if !others.is_empty() {
            let machines: Vec<_> = wanted.architectures.iter().map(ToString::to_string).collect();
            return Error::new(
                ErrorKind::NotFound,
                format!("{base} has no image `{shown}` for {} ({kind})", machines.join(" or ")),
            )
            .with_hint(format!("it is there for {}", others.join(", ")));
        }
        let lost = listing.unusable().entries().iter().find(|entry| entry.is_meant_by(&wanted.reference));
        if let Some(lost) = lost {
            let sentence = format!("{base} has no image `{shown}` that can be used: {}", lost.omission);
            return Error::new(lost.kind, sentence).with_hint("tell whoever keeps that server");
        }
        let error = Error::new(ErrorKind::NotFound, format!("{base} has no image `{shown}`"));
        if !wanted.suggest {
            return error;
        }
        let mut near: Vec<&String> = listing
            .images()
            .iter()
            .flat_map(|image| &image.aliases)
            .filter(|name| is_near(name, &wanted.reference))
            .collect();
        near.sort();
        near.dedup();
        near.truncate(NAMED);
        if near.is_empty() {
            return error;
        }
        let near: Vec<_> = near.into_iter().map(|name| name.chars().take(64).collect::<String>()).collect();
        error.with_hint(format!("near it are: {}", near.join(", ")))
    }
}

impl Remote for Simplestreams {
    fn source(&self) -> UpdateSource {
        UpdateSource::new(self.site.base().to_wire(), "simplestreams", "").certificate(&*self.certificate)
    }

    fn list(&self, monitor: &Monitor) -> Result<Vec<StoredImage>> {
        let listing = self.listing(monitor)?;
        monitor.omit_all(listing.omissions());
        Ok(listing.images().iter().map(|image| stored(&listing, image)).collect())
    }

    fn resolve(&self, wanted: &Wanted, monitor: &Monitor) -> Result<StoredImage> {
        let listing = self.listing(monitor)?;
        let by_alias = wanted
            .architectures
            .iter()
            .find_map(|architecture| listing.resolve(&wanted.reference, wanted.image_type, *architecture));
        if let Some(image) = by_alias {
            // Somebody who gets an older version than the alias means should know.
            let newer = |entry: &&Unusable| {
                let newer = |version: &String| by_number(version, &image.version).is_gt();
                entry.product == image.product && entry.version.as_ref().is_some_and(newer)
            };
            for entry in listing.unusable().entries().iter().filter(newer) {
                monitor.omit(entry.omission.path.clone(), entry.omission.what.clone());
            }
            return Ok(stored(&listing, image));
        }
        let Some(prefix) = wanted.prefix() else { return Err(self.not_found(&listing, wanted)) };
        let found: Vec<_> = listing.images().iter().filter(|image| prefix.matches(&image.fingerprint)).collect();
        match *found {
            [] => Err(self.not_found(&listing, wanted)),
            [image] => Ok(stored(&listing, image)),
            _ => {
                let names: Vec<_> = found.iter().take(NAMED).map(|image| image.fingerprint.to_string()).collect();
                let sentence = format!("`{prefix}` is the beginning of several images: {}", names.join(", "));
                Err(Error::new(ErrorKind::Ambiguous, sentence).with_hint("give more digits"))
            }
        }
    }

    fn open(&self, image: &StoredImage, monitor: &Monitor) -> Result<ImageSource> {
        let found = self.known(&image.fingerprint, monitor)?;
        // Both begin at once; the metadata is small.
        let first = self.file(&found.first, monitor)?;
        Ok(match &found.rootfs {
            None => ImageSource::unified(first),
            Some(rootfs) => ImageSource::split(first, self.file(rootfs, monitor)?),
        })
    }

    fn withheld(&self, monitor: &Monitor) -> Result<BTreeSet<Fingerprint>> {
        let listing = self.listing(monitor)?;
        if listing.unusable().is_incomplete() {
            return Err(Error::remote(format!("not all lists of {} can be read", self.site.base())));
        }
        Ok(listing.unusable().digests().clone())
    }

    fn listed(&self, image: &StoredImage, monitor: &Monitor) -> Result<Option<StreamImage>> {
        self.known(&image.fingerprint, monitor).map(Some)
    }
}

/// Whether a list itself is at fault, so that others may be read: not the way to the server, nor whoever cancelled.
fn is_of_the_list(error: &Error) -> bool {
    use ErrorKind::{LimitExceeded, Malformed, NotFound, UnsafePath, Unsupported};
    matches!(error.kind(), LimitExceeded | Malformed | NotFound | UnsafePath | Unsupported)
}

/// An image of a list as others describe theirs.
pub(super) fn stored(listing: &Listing, image: &StreamImage) -> StoredImage {
    let mut stored = StoredImage::new(image.fingerprint, image.image_type, image.architecture);
    stored.size = image.size();
    stored.rootfs_size = image.rootfs.as_ref().and_then(|rootfs| rootfs.size);
    stored.created_at = image.created_at;
    stored.uploaded_at = image.created_at;
    stored.expires_at = image.expires_at;
    stored.public = true;
    stored.file_name = Some(image.file_name().to_owned());
    stored.properties = image.properties.clone();
    stored.aliases = listing.names(image).into_iter().map(Alias::told).collect();
    stored
}
