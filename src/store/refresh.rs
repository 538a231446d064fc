//! Refreshing: replaces an image that follows a source by the newest image of that source.
//!
//! The aliases move and the old image is removed in the transaction that makes the new one visible,
//! so that an alias always points to a complete image.

use serde_json::{Map, Value};

use super::catalog::{ImageQuery, Transaction};
use super::image::{ImageObjects, StoredImage, UpdateSource};
use super::import::give_aliases;
use super::open::{Store, missing};
use super::owner::inherit_owner;
use super::reconcile::note_sidecar;
use super::upload::Decision;
use crate::error::{Error, Result};
use crate::fingerprint::Fingerprint;
use crate::format::ImageSource;
use crate::metadata::Properties;
use crate::progress::Monitor;
use crate::time;

/// The image that a source has under an alias now: the answer of [`RefreshSource::newest`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Newest {
    /// The image's fingerprint.
    pub fingerprint: Fingerprint,
    /// Properties that the source has for it. They override those in the image itself.
    pub properties: Properties,
    /// Its expiry date at the source, in seconds since 1970.
    pub expires_at: Option<i64>,
    /// Whether `properties` are complete: properties of the image itself that are not among them are dropped.
    pub exact: bool,
    /// What vouches for it at the source.
    #[cfg(feature = "trust")]
    pub evidence: crate::trust::Evidence,
    /// The source to record with it instead of the old image's.
    pub source: Option<UpdateSource>,
    source_fields: Map<String, Value>,
}

impl Newest {
    /// An image about which the source says nothing else.
    #[must_use]
    pub fn new(fingerprint: Fingerprint) -> Self {
        Self {
            fingerprint,
            properties: Properties::new(),
            expires_at: None,
            exact: false,
            source: None,
            source_fields: Map::new(),
            #[cfg(feature = "trust")]
            evidence: crate::trust::Evidence::new(),
        }
    }

    /// Sets what vouches for it at the source.
    #[cfg(feature = "trust")]
    #[must_use]
    pub fn evidence(mut self, evidence: crate::trust::Evidence) -> Self {
        self.evidence = evidence;
        self
    }

    /// Sets the properties that the source has for it.
    #[must_use]
    pub fn properties(mut self, properties: Properties) -> Self {
        self.properties = properties;
        self
    }

    /// Sets whether these properties are complete, as between two LXD servers.
    #[must_use]
    pub fn exact(mut self, yes: bool) -> Self {
        self.exact = yes;
        self
    }

    /// Sets the expiry date, in seconds since 1970.
    #[must_use]
    pub fn expires_at(mut self, seconds: Option<i64>) -> Self {
        self.expires_at = seconds;
        self
    }

    /// Sets fields of its description at the source that this version does not know ([`StoredImage::other`]).
    #[must_use]
    pub fn source_fields(mut self, fields: Map<String, Value>) -> Self {
        self.source_fields = fields;
        self
    }

    /// Sets the source to record with it: where it also says which content the alias means now.
    #[must_use]
    pub fn source(mut self, source: UpdateSource) -> Self {
        self.source = Some(source);
        self
    }
}

/// Where a refresh gets newer images from.
///
/// With the feature `remote`, `remote::RemoteRefresh` implements it for all kinds of servers; a program
/// may implement its own.
///
/// ```
/// use lxd_image::format::{ImageSource, Input};
/// use lxd_image::store::{Newest, RefreshOptions, RefreshSource, Store, StoredImage, UpdateSource};
/// use lxd_image::{Error, ErrorKind, Monitor, Result};
///
/// /// A source that has no images.
/// struct Empty;
///
/// impl RefreshSource for Empty {
///     fn newest(&self, _: &StoredImage, source: &UpdateSource, _: &Monitor) -> Result<Newest> {
///         Err(Error::new(ErrorKind::NotFound, format!("there is no image `{}`", source.alias)))
///     }
///
///     fn fetch(&self, _: &StoredImage, _: &UpdateSource, newest: &Newest, _: &Monitor) -> Result<ImageSource> {
///         Ok(ImageSource::unified(Input::open(newest.fingerprint.to_string())?))
///     }
/// }
///
/// let store = Store::in_memory()?;
/// for (image, result) in store.refresh_all(&Empty, &RefreshOptions::new(), &Monitor::none())? {
///     println!("{}: {result:?}", image.fingerprint);
/// }
/// # Ok::<(), lxd_image::Error>(())
/// ```
pub trait RefreshSource {
    /// Finds the newest image of `source` for the architecture and type of `image`.
    ///
    /// # Errors
    /// `NotFound` if the alias is gone; `Remote` and any other error of the source.
    fn newest(&self, image: &StoredImage, source: &UpdateSource, monitor: &Monitor) -> Result<Newest>;

    /// Opens the bytes of the image that [`newest`](Self::newest) returned. The store verifies them
    /// against its fingerprint.
    ///
    /// # Errors
    /// `Remote` and any other error of the source.
    fn fetch(
        &self,
        image: &StoredImage,
        source: &UpdateSource,
        newest: &Newest,
        monitor: &Monitor,
    ) -> Result<ImageSource>;
}

/// How [`Store::refresh`] works.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct RefreshOptions {
    dry_run: bool,
    max_bytes: Option<u64>,
}

impl RefreshOptions {
    /// Fetches newer images, and replaces.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Reports what would be replaced, and changes nothing.
    #[must_use]
    pub fn dry_run(mut self, yes: bool) -> Self {
        self.dry_run = yes;
        self
    }

    /// How many bytes a newer image may have. One that has more is not stored, and the old one stays (`LimitExceeded`).
    #[must_use]
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = Some(bytes);
        self
    }
}

/// What [`Store::refresh`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refreshed {
    /// The image does not follow a source, and was not changed.
    NotFollowing,
    /// The image is the newest of its source.
    Current,
    /// A newer image took its place, or would in a dry run.
    Replaced {
        /// The newer image.
        fingerprint: Fingerprint,
    },
}

impl Store {
    /// Replaces an image by the newest of its source, if it follows one ([`StoredImage::auto_update`]).
    ///
    /// The new image inherits the aliases, the visibility, and what people changed in this store:
    /// edited properties and an expiry date that they set. If it is in the store already, what was
    /// set on it there stays.
    ///
    /// # Errors
    /// `NotFound`; those of `upstream`; those of [`import`](Self::import). The old image is unchanged then.
    pub fn refresh(
        &self,
        fingerprint: &Fingerprint,
        upstream: &dyn RefreshSource,
        options: &RefreshOptions,
        monitor: &Monitor,
    ) -> Result<Refreshed> {
        let old = self.image(fingerprint)?;
        let Some(source) = old.source.clone().filter(|source| old.auto_update && source.is_followed()) else {
            return Ok(Refreshed::NotFollowing);
        };
        let newest = upstream.newest(&old, &source, monitor)?;
        if newest.fingerprint == *fingerprint {
            return Ok(Refreshed::Current);
        }
        if options.dry_run {
            return Ok(Refreshed::Replaced { fingerprint: newest.fingerprint });
        }
        self.blobs.check_identity()?;
        let own_expiry = self.own_expiry(&old);
        if self.catalog.image(&newest.fingerprint)?.is_some() {
            let mut there = false;
            self.change(&mut |catalog| {
                there = catalog.image(&newest.fingerprint)?.is_some();
                if there { self.replace(catalog, fingerprint, &newest, None, own_expiry).map(drop) } else { Ok(()) }
            })?;
            if there {
                return Ok(Refreshed::Replaced { fingerprint: newest.fingerprint });
            }
        }
        let bytes = upstream.fetch(&old, &source, &newest, monitor)?;
        let staged = self.stage(bytes, Some(&newest.fingerprint), options.max_bytes, monitor)?;
        let told = (&newest.properties, newest.exact);
        let fresh = staged.stored(told, newest.expires_at, self.now(), monitor)?;
        monitor.check()?;
        self.upload(staged, monitor, &mut |catalog, objects| {
            self.replace(catalog, fingerprint, &newest, Some((&fresh, objects)), own_expiry)
        })?;
        Ok(Refreshed::Replaced { fingerprint: newest.fingerprint })
    }

    /// The expiry date in the image's own metadata. If the row has another date, a person or the source set it.
    fn own_expiry(&self, image: &StoredImage) -> Option<i64> {
        image.expires_at?;
        let opened = self.open_image(&image.fingerprint).and_then(|opened| opened.open(&self.options.limits));
        // An old image that cannot be read must not block its replacement.
        opened.and_then(|image| image.metadata()).ok()?.expiry_date().map(time::within_range)
    }

    /// Refreshes all images that follow a source. One that fails does not stop the others.
    ///
    /// # Errors
    /// `Malformed` when the catalog is damaged, `Io`, `Cancelled`; what goes wrong with a single
    /// image is its result.
    pub fn refresh_all(
        &self,
        upstream: &dyn RefreshSource,
        options: &RefreshOptions,
        monitor: &Monitor,
    ) -> Result<Vec<(StoredImage, Result<Refreshed>)>> {
        let mut following = Vec::new();
        let mut collect = |image| {
            following.push(image);
            Ok(())
        };
        self.for_all(&ImageQuery::new().auto_update(true), &mut collect)?;
        let mut done = Vec::new();
        for image in following {
            monitor.check()?;
            let result = self.refresh(&image.fingerprint, upstream, options, monitor);
            done.push((image, result));
        }
        Ok(done)
    }

    /// The old image's place goes to the new one: to `fresh`, whose objects are there, or to one
    /// that is in the store.
    fn replace(
        &self,
        catalog: &mut dyn Transaction,
        old: &Fingerprint,
        newest: &Newest,
        fresh: Option<(&StoredImage, &ImageObjects)>,
        own_expiry: Option<i64>,
    ) -> Result<Decision> {
        // Read again in the transaction: edits that came in while the new image was fetched go on too.
        let old = catalog.image(old)?.ok_or_else(|| missing(old))?;
        let there = catalog.image(&newest.fingerprint)?;
        let mut image = match (&there, fresh) {
            (Some(there), _) => {
                let mut image = there.clone();
                image.cached &= old.cached;
                image.public |= old.public;
                // It follows what the old one followed, unless it follows something of its own.
                if !image.auto_update || !image.source.as_ref().is_some_and(UpdateSource::is_followed) {
                    image.source = newest.source.clone().or_else(|| old.source.clone());
                    image.other.clone_from(&newest.source_fields);
                }
                image.auto_update |= old.auto_update;
                // What people changed there is newer than what they changed here.
                image.properties = edits_kept(&old, &image.original_properties, Some(&image.properties))?;
                image
            }
            (None, Some((fresh, objects))) => {
                let mut image = fresh.clone();
                image.objects = objects.clone();
                image.properties = edits_kept(&old, &fresh.original_properties, None)?;
                image.public = old.public;
                image.cached = old.cached;
                image.auto_update = old.auto_update;
                image.source = newest.source.clone().or_else(|| old.source.clone());
                image.other.clone_from(&newest.source_fields);
                image.last_used_at = old.last_used_at;
                image.revision = old.revision;
                image
            }
            (None, None) => return Err(missing(&newest.fingerprint)),
        };
        let set_by_people = !old.cached && old.expires_at != own_expiry && old.expires_at != newest.expires_at;
        if set_by_people && old.expires_at.is_some() {
            image.expires_at = old.expires_at;
        }
        image.revision = image.revision.saturating_add(1);
        match &there {
            Some(there) => {
                catalog.update(&image, there.revision)?;
                if there.cached && !image.cached {
                    // Nobody stored it before: it was kept for whoever asked next.
                    inherit_owner(catalog, &old.fingerprint, &image.fingerprint)?;
                }
                if let Some(used) = old.last_used_at {
                    catalog.set_last_used(&image.fingerprint, used)?;
                    image.last_used_at = image.last_used_at.max(Some(used));
                }
            }
            None => {
                catalog.insert(&image)?;
                inherit_owner(catalog, &old.fingerprint, &image.fingerprint)?;
            }
        }
        #[cfg(feature = "trust")]
        self.keep_evidence(catalog, &image.fingerprint, &newest.evidence)?;
        // Moved first: removing the old image takes the aliases that it still has.
        image.aliases = give_aliases(catalog, &image, &old.aliases, true)?;
        // Its row may have changed by that, and its objects are still the same.
        self.remove_image(catalog, &old)?;
        if there.is_some() {
            note_sidecar(catalog, &image)?;
            return Ok(Decision::Known(image));
        }
        Ok(Decision::New(image))
    }
}

/// The new image's properties, with what people changed of the old one's; but for those that they
/// changed of the new one, as it is `now`.
fn edits_kept(old: &StoredImage, original: &Properties, now: Option<&Properties>) -> Result<Properties, Error> {
    let mut properties = now.unwrap_or(original).clone();
    let edited = |key: &str| now.is_some_and(|now| now.get(key) != original.get(key));
    for (key, value) in old.properties.iter() {
        if old.original_properties.get(key) != Some(value) && !edited(key) {
            properties.set(key, value)?;
        }
    }
    for (key, _) in old.original_properties.iter() {
        if old.properties.get(key).is_none() && !edited(key) {
            properties.remove(key);
        }
    }
    Ok(properties)
}
