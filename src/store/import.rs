//! Import: from files or streams into the store, with aliases and all else in one step.
//! An image that is there already is an error, unless it is a cached one or only aliases are wanted.

use super::adopt::report_replaced;
use super::catalog::{ImageQuery, Transaction};
use super::image::{Alias, AliasTarget, StoredImage, UpdateSource};
use super::open::Store;
use super::reconcile::bump_revision;
use super::stage::{StagedImage, plain_name};
use super::upload::Decision;
use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::Fingerprint;
use crate::format::{ImageSource, ImageType, fingerprint_of};
use crate::io::ReadAt;
use crate::metadata::Properties;
use crate::omissions::Omitted;
use crate::progress::Monitor;

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
    image_type: Option<ImageType>,
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

    /// The fingerprint that the image must have: any other one is refused with `Mismatch` before anything is visible.
    #[must_use]
    pub fn expected_fingerprint(mut self, fingerprint: Fingerprint) -> Self {
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

    /// What it will turn out to be, where that is known before its bytes are there: an alias that is taken is found out before
    /// anything is fetched.
    #[must_use]
    pub fn image_type(mut self, image_type: ImageType) -> Self {
        self.image_type = Some(image_type);
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
    pub fn import(&self, source: ImageSource, options: &ImportOptions) -> Result<StoredImage> {
        self.preflight(options)?;
        if options.add_aliases
            && let Some(there) = self.known(&source, options)?
        {
            match self.adopt(&there, options) {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                done => return done,
            }
        }
        let staged = self.stage(source, options.expected.as_ref(), &options.monitor)?;
        self.publish_import(staged, options)
    }

    /// The image of the store that these files are, found out without writing anything. Only files are read for it, and only
    /// where an image of their size is there.
    fn known(&self, source: &ImageSource, options: &ImportOptions) -> Result<Option<Fingerprint>> {
        let inputs: Vec<_> = std::iter::once(&source.first).chain(&source.second).collect();
        let lengths: Option<Vec<u64>> = inputs.iter().map(|input| input.as_blob().map(ReadAt::len)).collect();
        let Some(lengths) = lengths else { return Ok(None) };
        let size = lengths.iter().fold(0_u64, |size, length| size.saturating_add(*length));
        if self.catalog.fingerprints(&ImageQuery::new().size(size).limit(1))?.0.is_empty() {
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
    pub(crate) fn preflight(&self, options: &ImportOptions) -> Result<()> {
        options.check()?;
        self.blobs.check_identity()?;
        if !options.reuse_aliases {
            for alias in &options.aliases {
                // Whether it is the image itself that has it turns out when its fingerprint is known.
                let may_be_own = |target: &AliasTarget| {
                    options.add_aliases && options.expected.is_none_or(|own| own == target.fingerprint)
                };
                let mut taken = Vec::new();
                for image_type in
                    ImageType::ALL.into_iter().filter(|of| options.image_type.is_none_or(|wanted| wanted == *of))
                {
                    let found = self.catalog.alias(&alias.name, image_type)?;
                    taken.extend(found.map(|(_, target)| target).filter(|target| !may_be_own(target)));
                }
                // Where the image's type is not known yet, one that is free may be the right one.
                let asked = if options.image_type.is_some() { 1 } else { ImageType::ALL.len() };
                if let (Some(target), true) = (taken.first(), taken.len() == asked) {
                    return Err(alias_taken(&alias.name, &target.fingerprint));
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

    pub(crate) fn publish_import(&self, staged: StagedImage, options: &ImportOptions) -> Result<StoredImage> {
        let image = self.described(&staged, options)?;
        options.monitor.check()?;
        let mut replaced = Vec::new();
        let published = self.upload(staged, &options.monitor, &mut |catalog, objects| {
            replaced.clear();
            let Some(there) = catalog.image(&image.fingerprint)? else {
                let mut image = image.clone();
                image.objects = objects.clone();
                catalog.insert(&image)?;
                (image.aliases, replaced) = self.take_aliases(catalog, &image, options)?;
                return Ok(Decision::New(image));
            };
            if !options.add_aliases && (!there.cached || options.cached) {
                return Err(image_exists(&image.fingerprint));
            }
            let extended;
            (extended, replaced) = self.extend(catalog, &there, options)?;
            Ok(Decision::Known(extended))
        })?;
        report_replaced(&replaced, &options.monitor);
        Ok(published)
    }

    fn described(&self, staged: &StagedImage, options: &ImportOptions) -> Result<StoredImage> {
        let told = (&options.source_properties, options.exact_properties);
        let mut image = staged.stored(told, options.expires_at, self.now(), &options.monitor)?;
        image.properties = image.original_properties.clone();
        for (key, value) in options.properties.iter() {
            image.properties.set(key, value)?;
        }
        let told = options.source_file_name.as_ref().filter(|_| options.file_name.is_none());
        let plain = told.and_then(|name| plain_name(name));
        if let Some(name) = told.filter(|_| plain.is_none()) {
            let shown: String = name.chars().take(64).collect();
            let part = format!("file name `{shown}`").into();
            let what = Omitted::Dropped { part, reason: "it is not a plain name".into() };
            options.monitor.omit(staged.fingerprint.to_string(), what);
        }
        image.file_name = options.file_name.clone().or(plain).or(image.file_name);
        (image.public, image.auto_update, image.cached) = (options.public, options.auto_update, options.cached);
        image.source.clone_from(&options.source);
        image.revision = 1;
        Ok(image)
    }
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
        if let Some((_, target)) = catalog.alias(&alias.name, image.image_type)?
            && target.fingerprint != image.fingerprint
        {
            if !reuse {
                return Err(alias_taken(&alias.name, &target.fingerprint));
            }
            bump_revision(catalog, &target.fingerprint)?;
        }
        catalog.set_alias(alias, &image.target())?;
        all.retain(|other| other.name != alias.name);
        all.push(alias.clone());
    }
    all.sort();
    Ok(all)
}

pub(crate) fn alias_taken(name: &str, target: &Fingerprint) -> Error {
    Error::new(ErrorKind::AlreadyExists, format!("the alias `{name}` is taken: it points to {}", target.short()))
        .with_hint("`--reuse` moves it, as does `ImportOptions::reuse_aliases` in a program")
}

fn image_exists(fingerprint: &Fingerprint) -> Error {
    Error::new(ErrorKind::AlreadyExists, format!("the image {fingerprint} is in the store already"))
        .with_hint("`lxd-image alias create` gives it another alias")
}
