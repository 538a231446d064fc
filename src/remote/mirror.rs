//! `mirror`: makes a store or a static tree equal to a remote.
//!
//! An image is listed only when all of it has arrived, and leaves the list before its files are removed, so that the mirror is
//! consistent at every moment. There is no state of its own: an interrupted run is continued by the next one, which skips what
//! is there.
//!
//! Deleting is the dangerous part. An image is deleted only if the remote's list was read completely, is not empty, and names the
//! image neither in use nor as an entry that can't be used at the moment ([`Remote::withheld`]); and in a store only if a mirror
//! of the same remote brought it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::Remote;
use super::copy::{CopyOptions, fetch, report_alias, restarting, vouched};
use super::mirror_signed::mirror_signed;
use super::simplestreams::stored;
use super::wanted::native;
use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::Fingerprint;
use crate::format::ImageType;
use crate::omissions::{Omissions, Omitted};
use crate::progress::Monitor;
use crate::protocol::simplestreams::StreamImage;
use crate::simplestreams::{AddOptions, Tree, TreeWriter};
use crate::store::{Alias, Filter, ImageQuery, Store, StoredImage, UpdateSource};
use crate::trust::Envelope;

/// What is made equal to the remote.
#[derive(Debug, Clone, Copy)]
pub enum MirrorTarget<'a> {
    /// A tree of static files.
    Tree(&'a Tree),
    /// A store.
    Store(&'a Store),
}

/// Options of [`mirror`]: which images, and whether others are deleted.
///
/// ```no_run
/// use lxd_image::Monitor;
/// use lxd_image::remote::{ClientOptions, MirrorOptions, MirrorTarget, Simplestreams, mirror};
/// use lxd_image::simplestreams::Tree;
///
/// let remote = Simplestreams::new(ClientOptions::new(), &"https://images.example".parse()?)?;
/// let (tree, options) = (Tree::open("/srv/www")?, MirrorOptions::new().delete(true));
/// let report = mirror(&remote, MirrorTarget::Tree(&tree), &options, &Monitor::none())?;
/// println!("{} copied, {} deleted, {} failed", report.copied.len(), report.removed.len(), report.failed.len());
/// # Ok::<(), lxd_image::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct MirrorOptions {
    pub(super) filters: Vec<Filter>,
    pub(super) delete: bool,
}

impl MirrorOptions {
    /// All images; nothing is deleted.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a condition that an image must meet.
    #[must_use]
    pub fn filter(mut self, filter: Filter) -> Self {
        self.filters.push(filter);
        self
    }

    /// Whether images that meet the filters and are gone on the remote are deleted. In a store, only those that a mirror brought
    /// from there.
    #[must_use]
    pub fn delete(mut self, yes: bool) -> Self {
        self.delete = yes;
        self
    }

    /// Whether an image meets all conditions.
    fn selects(&self, image: &StoredImage) -> bool {
        self.filters.iter().all(|filter| filter.matches(image))
    }
}

/// The report of [`mirror`].
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Mirrored {
    /// Images that were copied, newest first.
    pub copied: Vec<StoredImage>,
    /// Number of images that were there already.
    pub kept: usize,
    /// Images that were deleted.
    pub removed: Vec<Fingerprint>,
    /// Images that could not be copied because of themselves, and why. The next run tries them again.
    pub failed: Vec<(Fingerprint, Error)>,
    /// What was left out: entries of the list that can't be used, aliases that the target can't hold.
    pub omissions: Omissions,
}

/// Makes a tree or a store equal to a remote. An image that can't be copied does not stop the others.
///
/// A tree that has no key of its own keeps the lists of a remote with keys as they are, with the signatures of their owner: then all
/// files have the paths that they have there, and no other image is in the tree. Where that can't be, the tree gets a list of its
/// own, and why the signatures are left out is in [`Mirrored::omissions`].
///
/// In a tree images of a simplestreams server have the products, versions and aliases that they have there, under both
/// peers' names, with their deltas. In a store an alias that several images of one type have there means the one for this
/// machine; a container's and a virtual machine's image may share it. An image that loses an alias by that, and every other thing
/// that is left out, is in [`Mirrored::omissions`].
///
/// # Errors
/// Those of [`Remote::list`]; `Busy` while another process writes into the tree; `InvalidInput` for a signed tree without a key; `Remote` when the server can't be
/// reached any more, or lists nothing while what is gone is to be removed; `Cancelled`; `Io`. What was copied before stays.
pub fn mirror(
    remote: &dyn Remote,
    target: MirrorTarget<'_>,
    options: &MirrorOptions,
    monitor: &Monitor,
) -> Result<Mirrored> {
    let monitor = monitor.nested();
    let run = |writer: &mut dyn MirrorWriter| -> Result<Mirrored> {
        let all = remote.list(&monitor)?;
        if all.is_empty() && options.delete {
            return Err(Error::remote("the remote lists no images at all: nothing is removed for that")
                .with_hint("leave `--delete` out, or remove the images by hand"));
        }
        let mut there: BTreeSet<Fingerprint> = all.iter().map(|image| image.fingerprint).collect();
        if options.delete {
            // An entry that can't be used at the moment is not gone: a broken list must not empty the mirror.
            there.extend(remote.withheld(&monitor)?);
            for left_out in &monitor.omissions() {
                let named = std::str::from_utf8(&left_out.path).ok().and_then(|name| name.parse::<Fingerprint>().ok());
                there.extend(named);
            }
        }
        let mut wanted: Vec<StoredImage> = all.into_iter().filter(|image| options.selects(image)).collect();
        // Newest first, so that an alias means the right image as soon as it is there.
        wanted.sort_by_key(|image| (std::cmp::Reverse(image.created_at), image.fingerprint));
        let mut done = Mirrored::default();
        writer.begin(&wanted)?;
        for image in wanted {
            monitor.check()?;
            match writer.take(remote, &image, &monitor) {
                Ok(true) => done.copied.push(image),
                Ok(false) => done.kept += 1,
                Err(error) if is_image_error(&error) => done.failed.push((image.fingerprint, error)),
                Err(error) => return Err(error),
            }
        }
        writer.finish(remote, &monitor)?;
        if options.delete {
            done.removed = writer.delete(remote, &there, options, &monitor)?;
        }
        done.omissions = monitor.omissions();
        Ok(done)
    };
    match target {
        MirrorTarget::Tree(tree) => {
            let mut writer = tree.lock()?;
            if let Some(done) = mirror_signed(remote, &mut writer, options, &monitor)? {
                return Ok(done);
            }
            // Before anything is fetched.
            writer.check_renewable()?;
            let here = tree.listing()?.images().iter().map(|image| image.fingerprint).collect();
            run(&mut TreeTarget {
                writer,
                here,
                about: BTreeMap::new(),
                listed: Vec::new(),
                with_deltas: Vec::new(),
                stated: Vec::new(),
            })
        }
        MirrorTarget::Store(store) => run(&mut StoreTarget { store, names: HashMap::new() }),
    }
}

/// Whether an error is about one image, so that the run goes on with the others: not a server that can't be reached, a full disk
/// or a cancelled call.
pub(super) fn is_image_error(error: &Error) -> bool {
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

/// The target of a run, as the loop in [`mirror`] sees it.
trait MirrorWriter {
    /// Called once, with all images that are to be there in the end, before the first is taken.
    fn begin(&mut self, wanted: &[StoredImage]) -> Result<()>;
    /// Copies one image if it is not there. Returns whether it was copied.
    fn take(&mut self, remote: &dyn Remote, image: &StoredImage, monitor: &Monitor) -> Result<bool>;
    /// Called once, after the last image was taken.
    fn finish(&mut self, remote: &dyn Remote, monitor: &Monitor) -> Result<()>;
    /// Deletes images that are not in `there`, the fingerprints that the remote still names. Returns what was deleted.
    fn delete(
        &mut self,
        remote: &dyn Remote,
        there: &BTreeSet<Fingerprint>,
        options: &MirrorOptions,
        monitor: &Monitor,
    ) -> Result<Vec<Fingerprint>>;
}

/// A static tree, locked for the whole run.
struct TreeTarget {
    writer: TreeWriter,
    /// What the tree lists.
    here: BTreeSet<Fingerprint>,
    /// The products of the remote's lists without their versions, to be written in the end.
    about: BTreeMap<String, std::sync::Arc<crate::protocol::simplestreams::Product>>,
    /// Images of the remote as its lists describe them.
    listed: Vec<StreamImage>,
    /// Images of the remote with deltas.
    with_deltas: Vec<StreamImage>,
    /// Images of the remote with statements.
    stated: Vec<StreamImage>,
}

impl MirrorWriter for TreeTarget {
    fn begin(&mut self, _: &[StoredImage]) -> Result<()> {
        Ok(())
    }

    fn take(&mut self, remote: &dyn Remote, image: &StoredImage, monitor: &Monitor) -> Result<bool> {
        let listed = remote.listed(image, monitor)?;
        if let Some(listed) = &listed {
            if !listed.deltas.is_empty() {
                self.with_deltas.push(listed.clone());
            }
            if listed.statements.is_some() {
                self.stated.push(listed.clone());
            }
            self.about.insert(listed.product.clone(), std::sync::Arc::clone(&listed.about));
            self.listed.push(listed.clone());
        }
        if self.here.contains(&image.fingerprint) {
            return Ok(false);
        }
        match listed {
            Some(listed) => {
                restarting(monitor, || self.writer.adopt(&listed, monitor, || remote.open(image, monitor)))?;
            }
            None => {
                let evidence = remote.evidence(image, monitor)?;
                let options = added_as(image, monitor)?.statements(Envelope::bundle(&evidence.statements));
                restarting(monitor, || self.writer.add(remote.open(image, monitor)?, &options, monitor))?;
            }
        }
        self.here.insert(image.fingerprint);
        Ok(true)
    }

    fn finish(&mut self, remote: &dyn Remote, monitor: &Monitor) -> Result<()> {
        self.writer.describe(self.about.iter().map(|(key, about)| (key.as_str(), &**about)))?;
        self.writer.describe_images(&self.listed)?;
        self.adopt_statements(remote, monitor)?;
        if self.with_deltas.is_empty() {
            return Ok(());
        }
        // Read once: a mirror that is up to date asks for thousands of deltas that are here.
        let listing = self.writer.tree().listing()?;
        let here: BTreeSet<_> = listing.images().iter().flat_map(StreamImage::delta_digests).collect();
        // Once all images are there, since a delta needs two of them.
        for image in &self.with_deltas {
            for delta in image.deltas.iter() {
                if delta.file.sha256.is_some_and(|sha256| here.contains(&(image.fingerprint, sha256))) {
                    continue;
                }
                monitor.check()?;
                let open = || remote.open_delta(delta, monitor);
                match restarting(monitor, || self.writer.adopt_delta(image, delta, monitor, open)) {
                    Ok(_) => {}
                    Err(error) if is_image_error(&error) => {
                        let part = format!("delta from version `{}`", delta.base_version).into();
                        let what = Omitted::Dropped { part, reason: error.to_string().into() };
                        monitor.omit(image.fingerprint.to_string(), what);
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
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

impl TreeTarget {
    /// Copies statements that are missing here: also those that were made about an image since it was copied.
    fn adopt_statements(&mut self, remote: &dyn Remote, monitor: &Monitor) -> Result<()> {
        for image in &self.stated {
            let Some(file) = &image.statements else { continue };
            monitor.check()?;
            match restarting(monitor, || {
                self.writer.adopt_statements(image, monitor, || remote.open_file(file, monitor))
            }) {
                Ok(_) => {}
                Err(error) if is_image_error(&error) => {
                    let what = Omitted::Dropped { part: "statements".into(), reason: error.to_string().into() };
                    monitor.omit(image.fingerprint.to_string(), what);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// The options for adding an image of a remote that is not simplestreams. A list of products lacks some fields of a store, which
/// are left out and recorded.
fn added_as(image: &StoredImage, monitor: &Monitor) -> Result<AddOptions> {
    let mut options = AddOptions::new().expected_fingerprint(image.fingerprint).default_alias(image.aliases.is_empty());
    for (key, value) in image.properties.iter() {
        options = options.property(key, value)?;
    }
    // Lists sort images by these. The default for a release is unique: images of one product share their aliases.
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
    image.omit_other(monitor, "a list of products has no place for it");
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

/// A store.
struct StoreTarget<'a> {
    store: &'a Store,
    /// Which image each pair of alias and type means in the end.
    names: HashMap<(String, ImageType), Fingerprint>,
}

impl StoreTarget<'_> {
    /// Whether a mirror of this remote brought an image. It records a source without an alias; an image with one was copied by a
    /// user and is never deleted by a mirror.
    fn is_mirrored(image: &StoredImage, remote: &UpdateSource) -> bool {
        image.source.as_ref().is_some_and(|source| {
            source.server == remote.server && source.protocol == remote.protocol && source.alias.is_empty()
        })
    }

    /// Records which images of others lose an alias to a mirrored one.
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

impl MirrorWriter for StoreTarget<'_> {
    fn begin(&mut self, wanted: &[StoredImage]) -> Result<()> {
        let native = native();
        let mut order: Vec<&StoredImage> = wanted.iter().collect();
        // The sort is stable and the list is newest first: of equally good images the newest gets the alias.
        order.sort_by_key(|image| native.iter().position(|own| *own == image.architecture).unwrap_or(usize::MAX));
        for image in order {
            for alias in &image.aliases {
                self.names.entry((alias.name.clone(), image.image_type)).or_insert(image.fingerprint);
            }
        }
        Ok(())
    }

    fn take(&mut self, remote: &dyn Remote, image: &StoredImage, monitor: &Monitor) -> Result<bool> {
        let mut options = CopyOptions::new().reuse_aliases(true).public(image.public);
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
        let import = options.importing(image, remote.source().image_type(image.image_type), monitor)?;
        match self.store.image(&image.fingerprint) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                fetch(remote, image, self.store, &import, monitor).map(|_| true)
            }
            Err(error) => Err(error),
            Ok(there) => {
                names.retain(|name| !there.aliases.iter().any(|alias| alias.name == *name));
                if !there.cached && names.is_empty() {
                    return Ok(false);
                }
                let import = vouched(remote, image, import, monitor)?;
                match self.store.adopt(&there.fingerprint, &import, monitor) {
                    // Deleted by another process since the lookup above.
                    Err(error) if error.kind() == ErrorKind::NotFound => {
                        fetch(remote, image, self.store, &import, monitor).map(|_| true)
                    }
                    adopted => adopted.map(|_| false),
                }
            }
        }
    }

    fn finish(&mut self, _: &dyn Remote, _: &Monitor) -> Result<()> {
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
        // Where an unreadable image came from is unknown, so it must stay.
        let mut unreadable = |name: &str, error: &Error| {
            let reason = format!("it can't be told whether it is to go: {error}");
            monitor.omit(name.to_owned(), Omitted::NotHonoured { option: "`delete`".into(), reason: reason.into() });
        };
        self.store.for_each(&ImageQuery::new(), &mut look, &mut unreadable)?;
        Ok(gone)
    }
}
