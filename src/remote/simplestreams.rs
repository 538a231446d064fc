//! `Simplestreams`: a server, or a directory, of static files in simplestreams layout.
//!
//! `streams/v1/index.json` names lists of products, and a list names the files of images with their sizes and digests. The lists
//! are parsed by [`protocol::simplestreams`](crate::protocol::simplestreams); here they are fetched, cached and kept in memory
//! as long as their digests don't change. Every file is checked against its own digest while it is read, and the pair of files
//! against the fingerprint of the image when it is imported.
//!
//! Lists are made by people and scripts. An entry, a product or a whole list that can't be used is left out and recorded, and
//! hides nothing else; only if all lists are unreadable is that the error.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::documents::{Documents, INDEX, SignedDocuments, SignedLists};
use super::http::{ClientOptions, Url};
use super::patching::Patching;
use super::similar::is_similar;
use super::static_tree::StaticTree;
use super::{Protocol, Remote, Resolution, Wanted};
use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::Fingerprint;
use crate::format::{ImageSource, Input};
use crate::limits::Limits;
use crate::omissions::{Omission, Omitted};
use crate::progress::Monitor;
use crate::protocol::simplestreams::{
    File, Listing, Products, StreamDelta, StreamImage, UnusableEntries, UnusableEntry, by_number,
};
use crate::store::{Alias, Store, StoredImage, UpdateSource};
use crate::trust::{Envelope, Evidence, ListKeys, ListSignature, SignedList};

/// How many names the hint of an error lists.
const MAX_SUGGESTIONS: usize = 10;

/// A simplestreams server, or a static tree on disk.
///
/// ```no_run
/// use lxd_image::Monitor;
/// use lxd_image::remote::{ClientOptions, Remote, Simplestreams};
///
/// let remote = Simplestreams::new(ClientOptions::new(), &"https://images.example".parse()?)?.cache_dir("/var/cache/lists");
/// for image in remote.list(&Monitor::none())? {
///     println!("{} {}", image.fingerprint, image.architecture);
/// }
/// # Ok::<(), lxd_image::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Simplestreams {
    tree: StaticTree,
    /// For the parsing of documents.
    limits: Limits,
    /// In PEM, to be recorded with images; empty for none.
    certificate: String,
    /// Who must sign the lists, if anybody.
    signed: SignedLists,
    /// The listing that was parsed last, shared by clones.
    last_listing: Arc<Mutex<Option<LastListing>>>,
}

/// A parsed listing, and the documents that it was parsed from.
#[derive(Debug)]
struct LastListing {
    /// The sha256 of the index and of each list, in order.
    digests: Vec<Fingerprint>,
    listing: Arc<Listing>,
}

impl Simplestreams {
    /// The server, or the directory (`file:///DIR`), that has `streams/v1/index.json` below this URL. Nothing is read yet.
    ///
    /// # Errors
    /// Those of [`Client::new`](super::Client::new).
    pub fn new(options: ClientOptions, base: &Url) -> Result<Self> {
        let limits = options.limits.clone();
        Ok(Self {
            tree: StaticTree::new(options, base)?,
            limits,
            certificate: String::new(),
            signed: SignedLists::default(),
            last_listing: Arc::default(),
        })
    }

    /// Caches index and lists in a directory, which is created when needed. A cached list is used for an hour without a
    /// request ([`max_age`](Self::max_age)), then revalidated. Files of images are not cached.
    #[must_use]
    pub fn cache_dir(mut self, directory: impl Into<PathBuf>) -> Self {
        self.tree.set_cache_dir(directory.into());
        self
    }

    /// How long cached lists are used without a request, instead of an hour. Zero revalidates them each time.
    #[must_use]
    pub fn max_age(mut self, time: Duration) -> Self {
        self.tree.set_max_age(time);
        self
    }

    /// The server's certificate in PEM, to be recorded with images that come from here.
    #[must_use]
    pub fn certificate(mut self, pem: impl Into<String>) -> Self {
        self.certificate = pem.into();
        self
    }

    /// Reads only lists that one of these keys signed: `index.sjson` and the `.sjson` lists that it names, else `.json` with
    /// `.json.gpg` or `.json.minisig` beside it. Lists that are older than those that were accepted last are refused; without
    /// [`record_file`](Self::record_file) that is known for the life of this value and its clones. No keys: any list is read.
    #[must_use]
    pub fn keys(mut self, keys: ListKeys) -> Self {
        self.signed.keys = keys;
        self
    }

    /// Records in a file which signed lists were accepted last. Processes may share it; its directory is created when needed,
    /// and a file `lock` in it is held while it is written.
    #[must_use]
    pub fn record_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.signed.record_in(file.into());
        self
    }

    /// Whether signed lists are accepted that are older than those that were accepted last: when their owner went back on
    /// purpose. They become what later ones are compared with.
    #[must_use]
    pub fn accept_older(mut self, yes: bool) -> Self {
        self.signed.accept_older = yes;
        self
    }

    /// Reads the lists as they are now. Entries that can't be used are left out, see [`Listing::omissions`]; a list that can't be
    /// read does not hide the others.
    ///
    /// # Errors
    /// As [`Remote::list`]; also when none of the lists that the index names can be read. With [`keys`](Self::keys)
    /// `Untrusted` for a list that none of them signed, and for one that is older than what was accepted before.
    pub fn listing(&self, monitor: &Monitor) -> Result<Arc<Listing>> {
        let mut reading = Documents::new(&self.tree, &self.limits, &self.signed, monitor);
        let (document, index) = reading.index()?;
        let last = self.cached_listing();
        let is_known = |digest: &Fingerprint| last.as_ref().is_some_and(|(digests, _)| digests.contains(digest));
        let mut unusable = UnusableEntries::default();
        for (name, odd) in index.index.odd() {
            unusable.add_list(&format!("{INDEX}/{name}"), odd.reason.clone());
        }
        for (name, _) in index.index.iter().filter(|(_, entry)| entry.datatype.is_empty() && !entry.path.is_empty()) {
            let reason = "it has no `datatype`, so that no reader takes it for a list of images".into();
            unusable.note(Omission::new(format!("{INDEX}/{name}"), Omitted::Skipped { reason }));
        }
        // Most indexes have such entries beside usable ones. If there are no others, they explain the empty listing.
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
            let list = reading.read(&entry.path, &mut |bytes| {
                let known = is_known(&Fingerprint::of(bytes));
                products = if known { None } else { Some(Products::from_json(bytes, &self.limits)?) };
                Ok(())
            });
            match list {
                Ok(bytes) => {
                    digests.push(Fingerprint::of(&bytes));
                    documents.push((bytes, products));
                }
                Err(error) if is_list_error(&error) => {
                    unusable.add_list(&entry.path, error.message().to_owned());
                    first_error.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        if let Some(error) = first_error.filter(|_| documents.is_empty()) {
            return Err(error);
        }
        reading.accept()?;
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
        let listing = Arc::new(Listing::with(&lists, unusable, &self.limits));
        *self.last_listing.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(LastListing { digests, listing: Arc::clone(&listing) });
        Ok(listing)
    }

    /// The listing that was parsed last, with the digests of its documents.
    fn cached_listing(&self) -> Option<(Vec<Fingerprint>, Arc<Listing>)> {
        let seen = self.last_listing.lock().unwrap_or_else(PoisonError::into_inner);
        seen.as_ref().map(|seen| (seen.digests.clone(), Arc::clone(&seen.listing)))
    }

    /// The entry of an image: from the listing that was parsed last, else from the lists as they are now. So opening an image that
    /// was just resolved needs no request for lists, and sees the same entry.
    fn known(&self, fingerprint: &Fingerprint, monitor: &Monitor) -> Result<StreamImage> {
        let find = |listing: &Listing| listing.images().iter().find(|there| there.fingerprint == *fingerprint).cloned();
        if let Some(image) = self.cached_listing().and_then(|(_, listing)| find(&listing)) {
            return Ok(image);
        }
        find(&*self.listing(monitor)?).ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("{} no longer has the image {fingerprint}", self.tree.base()))
        })
    }

    /// Opens one file of an image.
    fn file(&self, file: &File, monitor: &Monitor) -> Result<Input> {
        self.tree.open(&file.checked_path()?, file.size, file.sha256, monitor)
    }

    /// Reads a bundle of statements.
    fn statements(&self, file: &File, monitor: &Monitor) -> Result<Vec<Envelope>> {
        use std::io::Read;
        let most = self.limits.statements;
        if file.size.is_some_and(|size| size > most) {
            return Err(Error::limit("statements", most, "a bundle of statements"));
        }
        let input = self.file(file, monitor)?;
        let mut bundle = Vec::new();
        let reader = input.reader(monitor.cancel())?;
        let read = reader.take(most.saturating_add(1)).read_to_end(&mut bundle);
        read.map_err(|error| Error::io("the statements can't be read", error))?;
        let found = Fingerprint::of(&bundle);
        if let Some(expected) = file.sha256.filter(|expected| *expected != found) {
            return Err(Error::mismatch("the sha256 of the statements", expected.to_string(), found.to_string()));
        }
        Envelope::parse_bundle(&bundle, &self.limits)
    }

    /// Who signed the lists that were read last, if one key signed all of them: index and lists are read as one listing, in
    /// which an image is as trustworthy as the least of them.
    fn signed_list(&self) -> Evidence {
        let signatures = self.signed.signatures();
        match signatures.split_first() {
            Some((first, others)) if others.iter().all(|other| other.key == first.key) => {
                let signed_at = signatures.iter().filter_map(|signature| signature.signed_at).max();
                Evidence::new().list(SignedList::new(&*first.key, signed_at))
            }
            _ => Evidence::new(),
        }
    }

    /// The image that an alias, a fingerprint or a prefix of one means in the lists as they are now.
    fn find_image(&self, wanted: &Wanted, monitor: &Monitor) -> Result<StoredImage> {
        let listing = self.listing(monitor)?;
        let by_alias = wanted
            .architectures
            .iter()
            .find_map(|architecture| listing.resolve(&wanted.reference, wanted.image_type, *architecture));
        if let Some(image) = by_alias {
            // The newest version may be unusable. The caller gets an older one and must be able to see that.
            let newer = |entry: &&UnusableEntry| {
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
                let names: Vec<_> =
                    found.iter().take(MAX_SUGGESTIONS).map(|image| image.fingerprint.to_string()).collect();
                let sentence = format!("`{prefix}` is the beginning of several images: {}", names.join(", "));
                Err(Error::new(ErrorKind::Ambiguous, sentence).with_hint("give more digits"))
            }
        }
    }

    /// The error for a reference that means nothing, with the best hint: other architectures, an unusable entry, similar aliases.
    fn not_found(&self, listing: &Listing, wanted: &Wanted) -> Error {
        let shown: String = wanted.reference.chars().take(64).collect();
        let kind = wanted.image_type.name();
        let base = self.tree.base();
        // The same alias for another architecture or type.
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
            return Error::new(lost.kind, sentence).with_hint("report it to the server's operator");
        }
        let error = Error::new(ErrorKind::NotFound, format!("{base} has no image `{shown}`"));
        if !wanted.suggest {
            return error;
        }
        let mut near: Vec<&String> = listing
            .images()
            .iter()
            .flat_map(|image| &image.aliases)
            .filter(|name| is_similar(name, &wanted.reference))
            .collect();
        near.sort();
        near.dedup();
        near.truncate(MAX_SUGGESTIONS);
        if near.is_empty() {
            return error;
        }
        let near: Vec<_> = near.into_iter().map(|name| name.chars().take(64).collect::<String>()).collect();
        error.with_hint(format!("similar names: {}", near.join(", ")))
    }
}

impl Remote for Simplestreams {
    fn source(&self) -> UpdateSource {
        UpdateSource::new(self.tree.base().to_wire(), Protocol::Simplestreams, "").certificate(&*self.certificate)
    }

    fn list(&self, monitor: &Monitor) -> Result<Vec<StoredImage>> {
        let listing = self.listing(monitor)?;
        monitor.omit_all(listing.omissions());
        Ok(listing.images().iter().map(|image| stored(&listing, image)).collect())
    }

    fn locate(&self, wanted: &Wanted, monitor: &Monitor) -> Result<Resolution> {
        self.find_image(wanted, monitor).map(Resolution::named)
    }

    fn open(&self, image: &StoredImage, monitor: &Monitor) -> Result<ImageSource> {
        let found = self.known(&image.fingerprint, monitor)?;
        // Both downloads start now: the metadata is small, and the rootfs need not wait for it.
        let first = self.file(&found.first, monitor)?;
        Ok(match &found.rootfs {
            None => ImageSource::unified(first),
            Some(rootfs) => ImageSource::split(first, self.file(rootfs, monitor)?),
        })
    }

    fn open_from(&self, image: &StoredImage, store: &Store, monitor: &Monitor) -> Result<ImageSource> {
        // In a directory of this machine the whole file is as near as the delta.
        if self.tree.is_on_disk() {
            return self.open(image, monitor);
        }
        let found = self.known(&image.fingerprint, monitor)?;
        // The cached listing has the image; its deltas lead to others.
        let Some((_, listing)) = self.cached_listing() else { return self.open(image, monitor) };
        let rootfs = Patching { listing: &listing, store, limits: &self.limits, monitor }
            .rootfs(&found, &|file| self.file(file, monitor))?;
        match rootfs {
            Some(rootfs) => Ok(ImageSource::split(self.file(&found.first, monitor)?, rootfs)),
            None => self.open(image, monitor),
        }
    }

    fn open_delta(&self, delta: &StreamDelta, monitor: &Monitor) -> Result<Input> {
        self.file(&delta.file, monitor)
    }

    fn evidence(&self, image: &StoredImage, monitor: &Monitor) -> Result<Evidence> {
        let found = self.known(&image.fingerprint, monitor)?;
        let evidence = self.signed_list();
        let Some(file) = found.statements else { return Ok(evidence) };
        let statements = match self.statements(&file, monitor) {
            // A server adds statements to its list: then the list names other bytes by now.
            Err(error) if error.kind() == ErrorKind::Mismatch || error.is_to_restart() => {
                let listing = self.listing(monitor)?;
                let now = listing.images().iter().find(|there| there.fingerprint == image.fingerprint);
                match now.and_then(|now| now.statements.as_ref()).filter(|now| **now != file) {
                    Some(now) => self.statements(now, monitor)?,
                    None => return Err(error),
                }
            }
            statements => statements?,
        };
        Ok(evidence.statements(statements))
    }

    fn open_file(&self, file: &File, monitor: &Monitor) -> Result<Input> {
        self.file(file, monitor)
    }

    fn signed_documents(&self, monitor: &Monitor) -> Result<Option<SignedDocuments>> {
        if self.signed.keys.is_empty() {
            return Ok(None);
        }
        Documents::new(&self.tree, &self.limits, &self.signed, monitor).signed().map(Some)
    }

    fn withheld(&self, monitor: &Monitor) -> Result<BTreeSet<Fingerprint>> {
        let listing = self.listing(monitor)?;
        if listing.unusable().is_incomplete() {
            return Err(Error::remote(format!("not all lists of {} can be read", self.tree.base())));
        }
        Ok(listing.unusable().digests().clone())
    }

    fn listed(&self, image: &StoredImage, monitor: &Monitor) -> Result<Option<StreamImage>> {
        self.known(&image.fingerprint, monitor).map(Some)
    }

    fn list_signatures(&self) -> Vec<ListSignature> {
        self.signed.signatures()
    }
}

/// Whether an error is about the list itself, so that others may still be read: not a transport error or a cancelled call.
fn is_list_error(error: &Error) -> bool {
    use ErrorKind::{LimitExceeded, Malformed, NotFound, UnsafePath, Unsupported};
    matches!(error.kind(), LimitExceeded | Malformed | NotFound | UnsafePath | Unsupported)
}

/// Describes an image of a list as a store describes its own.
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
