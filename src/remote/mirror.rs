//! `mirror`: what a remote has that a tree or a store has not. An image is listed when all of it is there, and leaves the list
//! before any of it goes, so that the copy is whole at every moment; a run that was cut short is gone on with.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::Remote;
use super::copy::{CopyOptions, fetch, report_alias, restarting};
use super::simplestreams::stored;
use super::wanted::native;
use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::Fingerprint;
use crate::format::ImageType;
use crate::omissions::{Omissions, Omitted};
use crate::progress::Monitor;
use crate::simplestreams::{AddOptions, Tree, TreeWriter};
use crate::store::{Alias, Filter, ImageQuery, Store, StoredImage, UpdateSource};

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
    /// What was left out of images and lists: entries that nobody can use, aliases that the target can't hold.
    pub omissions: Omissions,
}

/// Brings a tree or a store up to date with a remote. An image that can't be had does not stop the others.
///
/// In a tree images of a simplestreams server have the products, versions and aliases that they have there, under both
/// peers' names; deltas are not mirrored. In a store an alias that several images of one type have there means the one for this
/// machine; a container's and a virtual machine's image may share it. An image that loses an alias by that, and every other thing
/// that is left out, is in [`Mirrored::omissions`].
///
/// # Errors
/// Those of [`Remote::list`]; `Busy` while another process writes into the tree; `Remote` when the server can't be
/// reached any more, or lists nothing while what is gone is to be removed; `Cancelled`; `Io`. What was copied before stays.
pub fn mirror(remote: &dyn Remote, target: MirrorTarget<'_>, options: &MirrorOptions) -> Result<Mirrored> {
    let monitor = options.monitor.nested();
    let run = |writer: &mut dyn Target| -> Result<Mirrored> {
        let all = remote.list(&monitor)?;
        if all.is_empty() && options.delete {
            return Err(Error::remote("the remote lists no images at all: nothing is removed for that")
                .with_hint("leave `--delete` out, or remove the images by hand"));
        }
        let mut there: BTreeSet<Fingerprint> = all.iter().map(|image| image.fingerprint).collect();
        if options.delete {
            // What is named there and can't be used at the moment is not gone.
            there.extend(remote.withheld(&monitor)?);
            for left_out in &monitor.omissions() {
                let named = std::str::from_utf8(&left_out.path).ok().and_then(|name| name.parse::<Fingerprint>().ok());
                there.extend(named);
            }
        }
        let mut wanted: Vec<StoredImage> = all.into_iter().filter(|image| options.selects(image)).collect();
        // The newest first: as soon as an alias is there, it means the right one.
        wanted.sort_by_key(|image| (std::cmp::Reverse(image.created_at), image.fingerprint));
        let mut done = Mirrored::default();
        writer.begin(&wanted)?;
        for image in wanted {
            monitor.check()?;
            match writer.take(remote, &image, &monitor) {
                Ok(true) => done.copied.push(image),
                Ok(false) => done.kept += 1,
                Err(error) if is_its_own(&error) => done.failed.push((image.fingerprint, error)),
                Err(error) => return Err(error),
            }
        }
        writer.finish()?;
        if options.delete {
            done.removed = writer.delete(remote, &there, options, &monitor)?;
        }
        done.omissions = monitor.omissions();
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
    ) || error.kind() == ErrorKind::Remote && !error.is_transient()
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
        monitor: &Monitor,
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
            Some(listed) => {
                restarting(monitor, || self.writer.adopt(&listed, monitor, || remote.open(image, monitor)))?;
            }
            None => {
                let options = added_as(image, monitor)?;
                restarting(monitor, || self.writer.add(remote.open(image, monitor)?, &options))?;
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
        _: &Monitor,
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

/// How an image of a server without lists is put into one.
fn added_as(image: &StoredImage, monitor: &Monitor) -> Result<AddOptions> {
    let mut options =
        AddOptions::new().expect(image.fingerprint).default_alias(image.aliases.is_empty()).monitor(monitor.clone());
    for (key, value) in image.properties.iter() {
        options = options.property(key, value)?;
    }
    // Lists sort images by these. The stand-in for a release is the image's own: images of one product share their aliases.
    for (key, missing) in [("os", "unknown".to_owned()), ("release", image.fingerprint.short())] {
        if image.properties.get(key).is_none_or(|value| value.trim().is_empty()) {
            let what = Omitted::Defaulted { field: format!("property `{key}`").into(), value: missing.clone() };
            monitor.omit(image.fingerprint.to_string(), what);
            options = options.property(key, missing)?;
        }
    }
    if let Some(seconds) = image.expires_at {
        let part = format!("expiry date {}", crate::time::rfc3339(Some(seconds)));
        let reason = "a list of products has none of single images";
        monitor.omit(image.fingerprint.to_string(), Omitted::Dropped { part: part.into(), reason: reason.into() });
    }
    for alias in &image.aliases {
        if !alias.description.is_empty() {
            let part = format!("description of the alias `{}`", alias.name);
            let reason = "a list of products has none of aliases";
            monitor.omit(image.fingerprint.to_string(), Omitted::Dropped { part: part.into(), reason: reason.into() });
        }
        match options.clone().alias(&*alias.name) {
            Ok(named) => options = named,
            Err(error) => report_alias(monitor, &image.fingerprint, &alias.name, error.message()),
        }
    }
    Ok(options)
}

struct IntoStore<'a> {
    store: &'a Store,
    /// Which image a name means here, for each type.
    names: HashMap<(String, ImageType), Fingerprint>,
}

impl IntoStore<'_> {
    /// Whether a mirror of this remote brought an image. A copy that somebody named by an alias is theirs; a mirror names by
    /// fingerprint.
    fn is_mirrored(image: &StoredImage, remote: &UpdateSource) -> bool {
        image.source.as_ref().is_some_and(|source| {
            source.server == remote.server && source.protocol == remote.protocol && source.alias.is_empty()
        })
    }

    /// Says which images that are not this mirror's lose an alias to one of its.
    fn report_moved(&self, remote: &dyn Remote, image: &StoredImage, names: &BTreeSet<String>, monitor: &Monitor) {
        let source = remote.source();
        for name in names {
            let Ok((_, target)) = self.store.alias_of(name, image.image_type) else { continue };
            let Ok(loser) = self.store.image(&target.fingerprint) else { continue };
            if loser.fingerprint != image.fingerprint && !Self::is_mirrored(&loser, &source) {
                let reason = format!("it means {} of the mirrored server now", image.fingerprint.short());
                report_alias(monitor, &loser.fingerprint, name, &reason);
            }
        }
    }
}

impl Target for IntoStore<'_> {
    fn begin(&mut self, wanted: &[StoredImage]) -> Result<()> {
        let native = native();
        let mut order: Vec<&StoredImage> = wanted.iter().collect();
        // Stable: of several that are as good, the newest.
        order.sort_by_key(|image| native.iter().position(|own| *own == image.architecture).unwrap_or(usize::MAX));
        for image in order {
            for alias in &image.aliases {
                self.names.entry((alias.name.clone(), image.image_type)).or_insert(image.fingerprint);
            }
        }
        Ok(())
    }

    fn take(&mut self, remote: &dyn Remote, image: &StoredImage, monitor: &Monitor) -> Result<bool> {
        let mut options = CopyOptions::new().reuse_aliases(true).public(image.public).monitor(monitor.clone());
        let mut names = BTreeSet::new();
        for alias in &image.aliases {
            let name = (alias.name.clone(), image.image_type);
            if let Some(other) = self.names.get(&name).filter(|other| **other != image.fingerprint) {
                let reason = format!("here it means another image with that alias, {}", other.short());
                report_alias(monitor, &image.fingerprint, &alias.name, &reason);
                continue;
            }
            match Alias::new(&*alias.name) {
                Ok(taken) => {
                    names.insert(taken.name.clone());
                    options = options.alias(taken.described(&*alias.description));
                }
                Err(error) => report_alias(monitor, &image.fingerprint, &alias.name, error.message()),
            }
        }
        self.report_moved(remote, image, &names, monitor);
        let import = options.importing(image, remote.source().image_type(image.image_type))?;
        match self.store.image(&image.fingerprint) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                fetch(remote, image, self.store, &import).map(|_| true)
            }
            Err(error) => Err(error),
            Ok(there) => {
                names.retain(|name| !there.aliases.iter().any(|alias| alias.name == *name));
                if !there.cached && names.is_empty() {
                    return Ok(false);
                }
                match self.store.adopt(&there.fingerprint, &import) {
                    // It was deleted since it was seen.
                    Err(error) if error.kind() == ErrorKind::NotFound => {
                        fetch(remote, image, self.store, &import).map(|_| true)
                    }
                    adopted => adopted.map(|_| false),
                }
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
        monitor: &Monitor,
    ) -> Result<Vec<Fingerprint>> {
        let own = remote.source();
        let mut gone = Vec::new();
        let mut look = |image: StoredImage| {
            monitor.check()?;
            if Self::is_mirrored(&image, &own) && !there.contains(&image.fingerprint) && options.selects(&image) {
                match self.store.delete(&image.fingerprint) {
                    Err(error) if error.kind() == ErrorKind::NotFound => {}
                    done => {
                        done?;
                        gone.push(image.fingerprint);
                    }
                }
            }
            Ok(())
        };
        // Whether one that can't be read came from there is not known: it stays.
        let mut unreadable = |name: &str, error: &Error| {
            let reason = format!("it can't be told whether it is to go: {error}");
            monitor.omit(name.to_owned(), Omitted::NotHonoured { option: "`delete`".into(), reason: reason.into() });
        };
        self.store.for_each(&ImageQuery::new(), &mut look, &mut unreadable)?;
        Ok(gone)
    }
}
