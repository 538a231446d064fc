//! `mirror`: what a remote has that a tree or a store has not. An image is listed when all of it is there, and leaves the list
//! before any of it goes, so that the copy is whole at every moment; a run that was cut short is gone on with.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::Remote;
use super::copy::{ANEW, CopyOptions, fetch};
use super::simplestreams::stored;
use super::wanted::native;
use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::Fingerprint;
use crate::format::ImageType;
use crate::progress::Monitor;
use crate::store::{Alias, Filter, Store, StoredImage};
use crate::streams::{AddOptions, Tree, TreeWriter};

/// Where a mirror is.
#[derive(Debug, Clone, Copy)]
pub enum MirrorTarget<'a> {
    /// A tree of static files.
    Tree(&'a Tree),
    /// A store.
    Store(&'a Store),
}

/// What is mirrored, and what becomes of the rest.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct MirrorOptions {
    filters: Vec<Filter>,
    delete: bool,
    monitor: Monitor,
}

impl MirrorOptions {
    /// All images; nothing is removed.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Only images that meet one more condition.
    #[must_use]
    pub fn filter(mut self, filter: Filter) -> Self {
        self.filters.push(filter);
        self
    }

    /// Whether images go that meet the filters and are gone on the remote. In a store only those that a mirror
    /// brought from there.
    #[must_use]
    pub fn delete(mut self, yes: bool) -> Self {
        self.delete = yes;
        self
    }

    /// Reports progress and listens for cancellation.
    #[must_use]
    pub fn monitor(mut self, monitor: Monitor) -> Self {
        self.monitor = monitor;
        self
    }

    fn selects(&self, image: &StoredImage) -> bool {
        self.filters.iter().all(|filter| filter.matches(image))
    }
}

/// What a run did.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Mirrored {
    /// Images that came, newest first.
    pub copied: Vec<StoredImage>,
    /// How many were there already.
    pub kept: usize,
    /// Images that went.
    pub removed: Vec<Fingerprint>,
    /// Images that could not be copied, for reasons of their own; the next run tries them again.
    pub failed: Vec<(Fingerprint, Error)>,
}

/// Brings a tree or a store up to date with a remote. An image that can't be had does not stop the others.
///
/// In a tree images of a simplestreams server have the products, versions and aliases that they have there, under both
/// peers' names; deltas are not mirrored. In a store an alias that several images have there means the one for this
/// machine, and a container's before a virtual machine's.
///
/// # Errors
/// Those of [`Remote::list`]; `Busy` while another process writes into the tree; `Remote` when the server can't be
/// reached any more, or lists nothing while what is gone is to be removed; `Cancelled`; `Io`. What was copied before stays.
pub fn mirror(remote: &dyn Remote, target: MirrorTarget<'_>, options: &MirrorOptions) -> Result<Mirrored> {
    let run = |writer: &mut dyn Target| -> Result<Mirrored> {
        let all = remote.list(&options.monitor)?;
        if all.is_empty() && options.delete {
            return Err(Error::remote("the remote lists no images at all: nothing is removed for that")
                .with_hint("leave `--delete` out, or remove the images by hand"));
        }
        let there: BTreeSet<Fingerprint> = all.iter().map(|image| image.fingerprint).collect();
        let mut wanted: Vec<StoredImage> = all.into_iter().filter(|image| options.selects(image)).collect();
        // The newest first: as soon as an alias is there, it means the right one.
        wanted.sort_by_key(|image| (std::cmp::Reverse(image.created_at), image.fingerprint));
        let mut done = Mirrored::default();
        writer.begin(&wanted)?;
        for image in wanted {
            options.monitor.check()?;
            match anew(&options.monitor, || writer.take(remote, &image, &options.monitor)) {
                Ok(true) => done.copied.push(image),
                Ok(false) => done.kept += 1,
                Err(error) if is_its_own(&error) => done.failed.push((image.fingerprint, error)),
                Err(error) => return Err(error),
            }
        }
        writer.finish()?;
        if options.delete {
            done.removed = writer.delete(remote, &there, options)?;
        }
        Ok(done)
    };
    match target {
        MirrorTarget::Tree(tree) => {
            let writer = tree.lock()?;
            let here = tree.listing()?.images().iter().map(|image| image.fingerprint).collect();
            run(&mut IntoTree { writer, here, about: BTreeMap::new() })
        }
        MirrorTarget::Store(store) => run(&mut IntoStore { store, names: HashMap::new() }),
    }
}

/// Whether an error is one image's own, so that others may fare better.
fn is_its_own(error: &Error) -> bool {
    use ErrorKind::{
        AlreadyExists, FeatureDisabled, InvalidInput, LimitExceeded, Malformed, Mismatch, NotFound, UnsafePath,
        Unsupported,
    };
    matches!(
        error.kind(),
        AlreadyExists
            | FeatureDisabled
            | InvalidInput
            | LimitExceeded
            | Malformed
            | Mismatch
            | NotFound
            | UnsafePath
            | Unsupported
    ) || error.kind() == ErrorKind::Remote && !error.is_temporary()
}

/// Tries again where a file was replaced on the server meanwhile.
fn anew<T>(monitor: &Monitor, mut run: impl FnMut() -> Result<T>) -> Result<T> {
    let mut times = 0;
    loop {
        match run() {
            Err(error) if error.is_to_begin_anew() && times + 1 < ANEW => {
                monitor.check()?;
                times += 1;
            }
            done => return done,
        }
    }
}

/// What is written into.
trait Target {
    fn begin(&mut self, wanted: &[StoredImage]) -> Result<()>;
    /// Takes one image; whether it was not there.
    fn take(&mut self, remote: &dyn Remote, image: &StoredImage, monitor: &Monitor) -> Result<bool>;
    fn finish(&mut self) -> Result<()>;
    /// Removes what is not `there` any more.
    fn delete(
        &mut self,
        remote: &dyn Remote,
        there: &BTreeSet<Fingerprint>,
        options: &MirrorOptions,
    ) -> Result<Vec<Fingerprint>>;
}

struct IntoTree {
    writer: TreeWriter,
    here: BTreeSet<Fingerprint>,
    /// What the remote says of the products that were seen.
    about: BTreeMap<String, std::sync::Arc<crate::protocol::simplestreams::Product>>,
}

impl Target for IntoTree {
    fn begin(&mut self, _: &[StoredImage]) -> Result<()> {
        Ok(())
    }

    fn take(&mut self, remote: &dyn Remote, image: &StoredImage, monitor: &Monitor) -> Result<bool> {
        let listed = remote.listed(image, monitor)?;
        if let Some(listed) = &listed {
            self.about.insert(listed.product.clone(), std::sync::Arc::clone(&listed.about));
        }
        if self.here.contains(&image.fingerprint) {
            return Ok(false);
        }
        match listed {
            Some(listed) => self.writer.adopt(&listed, monitor, || remote.open(image, monitor))?,
            None => {
                let mut options = AddOptions::new()
                    .expect(image.fingerprint)
                    .default_alias(image.aliases.is_empty())
                    .monitor(monitor.clone());
                for (key, value) in image.properties.iter() {
                    options = options.property(key, value)?;
                }
                // Names that no list can hold are left out.
                for alias in &image.aliases {
                    options = options.clone().alias(&*alias.name).unwrap_or(options);
                }
                self.writer.add(remote.open(image, monitor)?, &options)?;
            }
        }
        self.here.insert(image.fingerprint);
        Ok(true)
    }

    fn finish(&mut self) -> Result<()> {
        self.writer.describe(self.about.iter().map(|(key, about)| (key.as_str(), &**about)))
    }

    fn delete(
        &mut self,
        _: &dyn Remote,
        there: &BTreeSet<Fingerprint>,
        options: &MirrorOptions,
    ) -> Result<Vec<Fingerprint>> {
        let listing = self.writer.tree().listing()?;
        let gone: Vec<_> = listing
            .images()
            .iter()
            .filter(|image| !there.contains(&image.fingerprint) && options.selects(&stored(&listing, image)))
            .map(|image| image.fingerprint)
            .collect();
        if !gone.is_empty() {
            self.writer.remove(&gone)?;
        }
        Ok(gone)
    }
}

struct IntoStore<'a> {
    store: &'a Store,
    /// Which image a name means here.
    names: HashMap<String, Fingerprint>,
}

impl Target for IntoStore<'_> {
    fn begin(&mut self, wanted: &[StoredImage]) -> Result<()> {
        let native = native();
        let mut order: Vec<&StoredImage> = wanted.iter().collect();
        // Stable: of several that are as good, the newest.
        order.sort_by_key(|image| {
            let place = native.iter().position(|own| *own == image.architecture).unwrap_or(usize::MAX);
            (image.image_type != ImageType::Container, place)
        });
        for image in order {
            for alias in &image.aliases {
                self.names.entry(alias.name.clone()).or_insert(image.fingerprint);
            }
        }
        Ok(())
    }

    fn take(&mut self, remote: &dyn Remote, image: &StoredImage, monitor: &Monitor) -> Result<bool> {
        let mut options = CopyOptions::new().reuse_aliases(true).public(image.public).monitor(monitor.clone());
        let mut names = BTreeSet::new();
        for alias in image.aliases.iter().filter(|alias| self.names.get(&alias.name) == Some(&image.fingerprint)) {
            // Names that no store takes are left out.
            if let Ok(taken) = Alias::new(&*alias.name) {
                names.insert(taken.name.clone());
                options = options.alias(taken.described(&*alias.description));
            }
        }
        let import = options.importing(image, remote.source().image_type(image.image_type))?;
        match self.store.image(&image.fingerprint) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                fetch(remote, image, self.store, &import).map(|_| true)
            }
            Err(error) => Err(error),
            Ok(there) => {
                names.retain(|name| !there.aliases.iter().any(|alias| alias.name == *name));
                if there.cached || !names.is_empty() {
                    let source = self.store.open_image(&there.fingerprint)?.source()?;
                    self.store.import(source, &import.add_aliases_to_existing(true))?;
                }
                Ok(false)
            }
        }
    }

    fn finish(&mut self) -> Result<()> {
        Ok(())
    }

    fn delete(
        &mut self,
        remote: &dyn Remote,
        there: &BTreeSet<Fingerprint>,
        options: &MirrorOptions,
    ) -> Result<Vec<Fingerprint>> {
        let own = remote.source();
        let mut gone = Vec::new();
        for image in self.store.images()? {
            // A copy that somebody named by an alias is theirs; a mirror names by fingerprint.
            let mirrored = image.source.as_ref().is_some_and(|source| {
                source.server == own.server && source.protocol == own.protocol && source.alias.is_empty()
            });
            if mirrored && !there.contains(&image.fingerprint) && options.selects(&image) {
                match self.store.delete(&image.fingerprint) {
                    Err(error) if error.kind() == ErrorKind::NotFound => {}
                    done => {
                        done?;
                        gone.push(image.fingerprint);
                    }
                }
            }
        }
        Ok(gone)
    }
}
