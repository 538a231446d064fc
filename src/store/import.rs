//! Import: from files or streams into the store, with aliases and all else in one step.
//! An image that is there already is an error, unless it is a cached one or only aliases are wanted.

use super::adopt::{extend, report_replaced, take_aliases};
use super::catalog::Transaction;
use super::image::{Alias, StoredImage, UpdateSource};
use super::open::Store;
use super::stage::{Admission, Arrived, plain_name};
use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::Fingerprint;
use crate::format::{Source, fingerprint_of};
use crate::io::ReadAt;
use crate::metadata::Properties;
use crate::omissions::Omitted;
use crate::progress::Monitor;
use crate::time;

/// How an image is imported.
///
/// ```
/// use lxd_image::store::{Alias, ImportOptions};
///
/// let options = ImportOptions::new()
///     .alias(Alias::new("debian/12")?.described("the stable one"))
///     .public(true)
///     .property("variant", "minimal")?;
/// # let _ = options;
/// # Ok::<(), lxd_image::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct ImportOptions {
    aliases: Vec<Alias>,
    reuse_aliases: bool,
    replace_images: bool,
    public: bool,
    auto_update: bool,
    cached: bool,
    add_aliases: bool,
    properties: Properties,
    source_properties: Properties,
    exact_properties: bool,
    expected: Option<Fingerprint>,
    expires_at: Option<i64>,
    file_name: Option<String>,
    source_file_name: Option<String>,
    source: Option<UpdateSource>,
    monitor: Monitor,
}

impl ImportOptions {
    /// A private image without an alias, described by its own metadata.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives it one more alias.
    #[must_use]
    pub fn alias(mut self, alias: Alias) -> Self {
        self.aliases.push(alias);
        self
    }

    /// Whether aliases that are taken move to the new image, instead of being an error.
    #[must_use]
    pub fn reuse_aliases(mut self, yes: bool) -> Self {
        self.reuse_aliases = yes;
        self
    }

    /// Whether an image goes that loses its last alias to this one, by [`reuse_aliases`](Self::reuse_aliases): what is imported
    /// under one name each night leaves one image. An image whose property `keep` is `true` stays. Which ones went is recorded
    /// in the monitor.
    #[must_use]
    pub fn replace_images(mut self, yes: bool) -> Self {
        self.replace_images = yes;
        self
    }

    /// Whether clients that have not authenticated may read it.
    #[must_use]
    pub fn public(mut self, yes: bool) -> Self {
        self.public = yes;
        self
    }

    /// Whether it follows its source, which must be given.
    #[must_use]
    pub fn auto_update(mut self, yes: bool) -> Self {
        self.auto_update = yes;
        self
    }

    /// Whether it comes as a side effect of being used, and goes when it is no longer used.
    #[must_use]
    pub fn cached(mut self, yes: bool) -> Self {
        self.cached = yes;
        self
    }

    /// Whether an image that is there already gets all of this ([`Store::adopt`]), instead of being an error.
    #[must_use]
    pub fn add_aliases_to_existing(mut self, yes: bool) -> Self {
        self.add_aliases = yes;
        self
    }

    /// Sets a property; it wins over the image's own, and survives a refresh.
    ///
    /// # Errors
    /// `InvalidInput` for a NUL in either text.
    pub fn property(mut self, key: impl Into<String>, value: impl Into<String>) -> Result<Self> {
        self.properties.set(key, value)?;
        Ok(self)
    }

    /// Properties that the image's source tells. They win over the image's own, and a refresh
    /// brings newer ones.
    #[must_use]
    pub fn source_properties(mut self, properties: Properties) -> Self {
        self.source_properties = properties;
        self
    }

    /// Whether [`source_properties`](Self::source_properties) are all that it has: those of the image itself that its source
    /// does not tell were taken away there. So it is between two LXDs.
    #[must_use]
    pub fn exact_source_properties(mut self, yes: bool) -> Self {
        self.exact_properties = yes;
        self
    }

    /// The fingerprint that it must have.
    #[must_use]
    pub fn expect(mut self, fingerprint: Fingerprint) -> Self {
        self.expected = Some(fingerprint);
        self
    }

    /// When it may be removed, in seconds since 1970; wins over the image's own date.
    #[must_use]
    pub fn expires_at(mut self, seconds: i64) -> Self {
        self.expires_at = Some(seconds);
        self
    }

    /// The name that its file is exported under. Importing fails with `InvalidInput` unless it is a plain name: no slash or
    /// backslash, no control character, no dot or dash in front, 200 bytes at most.
    #[must_use]
    pub fn file_name(mut self, name: impl Into<String>) -> Self {
        self.file_name = Some(name.into());
        self
    }

    /// The name that its file has at its source, which [`file_name`](Self::file_name) wins over. One that is not plain is
    /// left out, and that is recorded in the monitor.
    #[must_use]
    pub fn source_file_name(mut self, name: impl Into<String>) -> Self {
        self.source_file_name = Some(name.into());
        self
    }

    /// Where it comes from.
    #[must_use]
    pub fn source(mut self, source: UpdateSource) -> Self {
        self.source = Some(source);
        self
    }

    /// Reports progress and listens for cancellation.
    #[must_use]
    pub fn monitor(mut self, monitor: Monitor) -> Self {
        self.monitor = monitor;
        self
    }

    /// What it reports to and what cancels it, for whoever fetches the bytes.
    #[must_use]
    pub fn monitored(&self) -> Monitor {
        self.monitor.clone()
    }

    pub(crate) fn watch(&self) -> &Monitor {
        &self.monitor
    }

    pub(crate) fn expected(&self) -> Option<&Fingerprint> {
        self.expected.as_ref()
    }

    pub(crate) fn aliases(&self) -> &[Alias] {
        &self.aliases
    }

    pub(crate) fn reuses_aliases(&self) -> bool {
        self.reuse_aliases
    }

    pub(crate) fn replaces_images(&self) -> bool {
        self.replace_images
    }

    /// The properties that the caller gave.
    pub(crate) fn given_properties(&self) -> &Properties {
        &self.properties
    }

    pub(crate) fn check_expected(&self, found: &Fingerprint) -> Result<()> {
        match self.expected {
            Some(expected) if expected != *found => {
                Err(Error::mismatch("the fingerprint", expected.to_string(), found.to_string()))
            }
            _ => Ok(()),
        }
    }

    /// Adds to what is known of an image that is there. What is not asked for stays.
    pub(crate) fn extend(&self, image: &mut StoredImage) -> Result<()> {
        let becomes_kept = image.cached && !self.cached;
        image.cached &= self.cached;
        image.public |= self.public;
        if self.auto_update || becomes_kept || image.source.is_none() {
            image.source = self.source.clone().or(image.source.take());
        }
        image.auto_update |= self.auto_update;
        if becomes_kept {
            image.expires_at = self.expires_at.or(image.expires_at);
        }
        for (key, value) in self.properties.iter() {
            image.properties.set(key, value)?;
        }
        Ok(())
    }

    pub(crate) fn check(&self) -> Result<()> {
        for (index, alias) in self.aliases.iter().enumerate() {
            Alias::new(&*alias.name)?;
            if self.aliases.iter().take(index).any(|earlier| earlier.name == alias.name) {
                return Err(Error::invalid(format!("the alias `{}` is given twice", alias.name)));
            }
        }
        if let Some(name) = self.file_name.as_ref().filter(|name| plain_name(name).is_none()) {
            let shown: String = name.chars().take(64).collect();
            return Err(Error::invalid(format!("the file name `{shown}` cannot be kept")).with_hint(
                "a plain name has no slash or backslash, no control character, no dot or dash in front, and 200 bytes at most",
            ));
        }
        if self.auto_update && !self.source.as_ref().is_some_and(UpdateSource::is_followed) {
            return Err(Error::invalid("an image without a source and its alias can't be updated from there"));
        }
        Ok(())
    }
}

impl Store {
    /// Brings an image in: its bytes are copied into the store's own file system, hashed and
    /// verified, and become visible with all that `options` say in one step.
    ///
    /// A cached image that is imported on purpose becomes a published one.
    ///
    /// # Errors
    /// `AlreadyExists` for an image that is there, or an alias that is taken; `Mismatch` for another
    /// fingerprint than the expected one; those of verifying an image; `InvalidInput` for an alias
    /// that is none or an architecture that is not known; `Busy`; `Cancelled`; `Io`. The store is as
    /// it was.
    pub fn import(&self, source: Source, options: &ImportOptions) -> Result<StoredImage> {
        self.may_import(options)?;
        if options.add_aliases
            && let Some(there) = self.known(&source, options)?
        {
            match self.adopt(&there, options) {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                done => return done,
            }
        }
        let arrived = self.stage(source, options.expected.as_ref(), &options.monitor)?;
        self.admit_import(arrived, options)
    }

    /// The image of the store that these files are, found out without writing anything. Only files are read for it, and only
    /// where an image of their size is there.
    fn known(&self, source: &Source, options: &ImportOptions) -> Result<Option<Fingerprint>> {
        let inputs: Vec<_> = std::iter::once(&source.first).chain(&source.second).collect();
        let lengths: Option<Vec<u64>> = inputs.iter().map(|input| input.as_blob().map(ReadAt::len)).collect();
        let Some(lengths) = lengths else { return Ok(None) };
        let size = lengths.iter().fold(0_u64, |size, length| size.saturating_add(*length));
        if !self.catalog.images()?.iter().any(|image| image.size == size) {
            return Ok(None);
        }
        // Of two files either may be the metadata.
        let orders = [inputs.clone(), inputs.into_iter().rev().collect()];
        let orders = if source.second.is_some() { &orders[..] } else { &orders[..1] };
        for order in orders {
            let fingerprint = fingerprint_of(order.iter().copied(), Some(size), &options.monitor)?;
            if self.catalog.image(&fingerprint)?.is_some_and(|there| there.size == size) {
                return Ok(Some(fingerprint));
            }
        }
        Ok(None)
    }

    /// Fails early where an import can't end well.
    pub(crate) fn may_import(&self, options: &ImportOptions) -> Result<()> {
        options.check()?;
        self.blobs.present()?;
        if !options.reuse_aliases {
            for alias in &options.aliases {
                // Whether it is the image itself that has it turns out when its fingerprint is known.
                let may_be_own = |target| options.add_aliases && options.expected.is_none_or(|own| own == target);
                if let Some((_, target)) = self.catalog.alias(&alias.name)?
                    && !may_be_own(target)
                {
                    return Err(alias_taken(&alias.name, &target));
                }
            }
        }
        if let Some(expected) = &options.expected
            && let Some(there) = self.catalog.image(expected)?
            && !(options.add_aliases || there.cached && !options.cached)
        {
            return Err(image_exists(expected));
        }
        Ok(())
    }

    pub(crate) fn admit_import(&self, arrived: Arrived, options: &ImportOptions) -> Result<StoredImage> {
        let image = self.described(&arrived, options)?;
        options.monitor.check()?;
        let mut replaced = Vec::new();
        let admitted = self.admit(arrived, &options.monitor, &mut |catalog| {
            let Some(there) = catalog.image(&image.fingerprint)? else {
                catalog.put(&image)?;
                let mut image = image.clone();
                (image.aliases, replaced) = take_aliases(catalog, &image, options)?;
                return Ok(Admission::New(image));
            };
            if !options.add_aliases && (!there.cached || options.cached) {
                return Err(image_exists(&image.fingerprint));
            }
            let extended;
            (extended, replaced) = extend(catalog, &there, options)?;
            Ok(Admission::Known(extended))
        })?;
        report_replaced(&replaced, &options.monitor);
        Ok(admitted)
    }

    fn described(&self, arrived: &Arrived, options: &ImportOptions) -> Result<StoredImage> {
        let facts = &arrived.facts;
        let mut original =
            if options.exact_properties { Properties::new() } else { facts.metadata.properties().clone() };
        for (key, value) in options.source_properties.iter() {
            original.set(key, value)?;
        }
        let mut properties = original.clone();
        for (key, value) in options.properties.iter() {
            properties.set(key, value)?;
        }
        let came_as = |index: usize| arrived.files.get(index).and_then(|file| file.came_as.clone());
        let name = arrived.fingerprint.to_string();
        let time = |field, seconds| within_range(&options.monitor, &name, field, seconds);
        let expires_at = options.expires_at.or(facts.metadata.expiry_date());
        let told = options.source_file_name.as_ref().filter(|_| options.file_name.is_none());
        let plain = told.and_then(|name| plain_name(name));
        if let Some(name) = told.filter(|_| plain.is_none()) {
            let shown: String = name.chars().take(64).collect();
            let part = format!("file name `{shown}`").into();
            let what = Omitted::Dropped { part, reason: "it is not a plain name".into() };
            options.monitor.omit(arrived.fingerprint.to_string(), what);
        }
        Ok(StoredImage {
            fingerprint: arrived.fingerprint,
            image_type: facts.image_type,
            architecture: facts.architecture,
            size: facts.size,
            rootfs_size: facts.rootfs_size,
            created_at: time("creation date", facts.metadata.creation_date()),
            expires_at: expires_at.map(|seconds| time("expiry date", seconds)),
            uploaded_at: self.now(),
            last_used_at: None,
            public: options.public,
            auto_update: options.auto_update,
            cached: options.cached,
            file_name: options.file_name.clone().or(plain).or_else(|| came_as(0)),
            rootfs_name: came_as(1),
            source: options.source.clone(),
            properties,
            original_properties: original,
            revision: 1,
            aliases: Vec::new(),
        })
    }
}

/// A time as a store keeps it. One that no client could be told is brought to the end of what can, and that is recorded.
pub(crate) fn within_range(monitor: &Monitor, image: &str, field: &'static str, seconds: i64) -> i64 {
    let kept = time::within_range(seconds);
    if kept != seconds {
        let to = time::rfc3339(Some(kept));
        monitor.omit(image, Omitted::Clamped { field: field.into(), from: seconds.to_string(), to });
    }
    kept
}

/// Points aliases to an image. Images that lose one get new sidecars.
///
/// Returns all aliases that the image has then, sorted.
pub(crate) fn give_aliases(
    catalog: &mut dyn Transaction,
    image: &StoredImage,
    aliases: &[Alias],
    reuse: bool,
) -> Result<Vec<Alias>> {
    let mut all = image.aliases.clone();
    for alias in aliases {
        if let Some((_, target)) = catalog.alias(&alias.name)?
            && target != image.fingerprint
        {
            if !reuse {
                return Err(alias_taken(&alias.name, &target));
            }
            touch(catalog, &target)?;
        }
        catalog.set_alias(alias, &image.fingerprint)?;
        all.retain(|other| other.name != alias.name);
        all.push(alias.clone());
    }
    all.sort();
    Ok(all)
}

/// Counts a change to an image, and has its sidecar written.
pub(crate) fn touch(catalog: &mut dyn Transaction, fingerprint: &Fingerprint) -> Result<()> {
    if let Some(mut image) = catalog.image(fingerprint)? {
        image.revision += 1;
        catalog.put(&image)?;
        catalog.set_unsettled(fingerprint, true)?;
    }
    Ok(())
}

pub(crate) fn alias_taken(name: &str, target: &Fingerprint) -> Error {
    Error::new(ErrorKind::AlreadyExists, format!("the alias `{name}` is taken: it points to {}", target.short()))
        .with_hint("`--reuse` moves it, as does `ImportOptions::reuse_aliases` in a program")
}

fn image_exists(fingerprint: &Fingerprint) -> Error {
    Error::new(ErrorKind::AlreadyExists, format!("the image {fingerprint} is in the store already"))
        .with_hint("`lxd-image alias create` gives it another alias")
}
