//! Importing: brings an image from files or streams into the store, with its aliases and properties, in one step.
//!
//! An image that is in the store already is an error, unless it is a cached one or the caller only
//! wants to add to it ([`ImportOptions::add_aliases_to_existing`]).

use serde_json::{Map, Value};

use super::adopt::report_replaced;
use super::catalog::{ImageQuery, Transaction};
use super::image::{Alias, AliasTarget, StoredImage, UpdateSource};
use super::open::Store;
use super::reconcile::bump_revision;
use super::stage::{StagedImage, plain_name};
use super::upload::Decision;
use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::Fingerprint;
use crate::format::{ImageSource, ImageType, Input, fingerprint_of};
use crate::io::ReadAt;
use crate::metadata::Properties;
use crate::omissions::Omitted;
use crate::progress::Monitor;

/// How an image is imported, and what is set on it.
///
/// The same options go to [`Store::import`], [`Store::import_written`], [`Store::publish`] and
/// [`Store::adopt`]. Options that do not concern a call are named there.
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
    /// Whether nothing is told of an image with the expected fingerprint before the bytes have proved to be it.
    unproven: bool,
    expires_at: Option<i64>,
    max_bytes: Option<u64>,
    file_name: Option<String>,
    source_file_name: Option<String>,
    source: Option<UpdateSource>,
    source_fields: Map<String, Value>,
    /// The client of a server that stores it.
    pub(super) owner: Option<String>,
    image_type: Option<ImageType>,
    #[cfg(feature = "trust")]
    evidence: crate::trust::Evidence,
    #[cfg(feature = "trust")]
    signer: Option<Signer>,
}

/// What makes a statement about an image whose fingerprint is known.
#[cfg(feature = "trust")]
#[derive(Clone)]
struct Signer(std::sync::Arc<State>);

#[cfg(feature = "trust")]
type State = dyn Fn(&Fingerprint) -> Result<crate::trust::Envelope> + Send + Sync;

#[cfg(feature = "trust")]
impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Signer")
    }
}

impl ImportOptions {
    /// A private, permanent image without aliases, with the properties of its own metadata.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an alias. Call it once for each.
    #[must_use]
    pub fn alias(mut self, alias: Alias) -> Self {
        self.aliases.push(alias);
        self
    }

    /// Whether aliases that point to other images move to this one. Otherwise the import fails with `AlreadyExists`.
    #[must_use]
    pub fn reuse_aliases(mut self, yes: bool) -> Self {
        self.reuse_aliases = yes;
        self
    }

    /// Whether to remove images that lose their last alias to this one through
    /// [`reuse_aliases`](Self::reuse_aliases): an image that is imported under the same alias every
    /// night then leaves one image.
    ///
    /// Images whose property `keep` is `true` stay ([`StoredImage::is_kept`]). Each removed image
    /// is recorded as an omission in the monitor.
    #[must_use]
    pub fn replace_images(mut self, yes: bool) -> Self {
        self.replace_images = yes;
        self
    }

    /// Whether anonymous clients of a server may read it.
    #[must_use]
    pub fn public(mut self, yes: bool) -> Self {
        self.public = yes;
        self
    }

    /// Whether [`Store::refresh`] replaces it by newer images of its [`source`](Self::source), which must be set.
    #[must_use]
    pub fn auto_update(mut self, yes: bool) -> Self {
        self.auto_update = yes;
        self
    }

    /// Whether it is a cached image: downloaded because it was used, and removed by
    /// [`Store::prune`] when it is no longer used.
    #[must_use]
    pub fn cached(mut self, yes: bool) -> Self {
        self.cached = yes;
        self
    }

    /// Whether these options are applied to the image if it is in the store already
    /// ([`Store::adopt`]). Otherwise the import fails with `AlreadyExists`.
    #[must_use]
    pub fn add_aliases_to_existing(mut self, yes: bool) -> Self {
        self.add_aliases = yes;
        self
    }

    /// Sets a property. It overrides the image's own and its source's, and survives a refresh.
    ///
    /// # Errors
    /// `InvalidInput` for a NUL byte in either string.
    pub fn property(mut self, key: impl Into<String>, value: impl Into<String>) -> Result<Self> {
        self.properties.set(key, value)?;
        Ok(self)
    }

    /// Sets the properties that the source of the image has for it. They override the image's own;
    /// a refresh replaces them.
    #[must_use]
    pub fn source_properties(mut self, properties: Properties) -> Self {
        self.source_properties = properties;
        self
    }

    /// Whether [`source_properties`](Self::source_properties) are complete: properties of the image
    /// itself that are not among them are dropped. So it is between two LXD servers, where a
    /// property can be removed.
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

    /// For clients that are not trusted: an expected fingerprint is only compared. That the store has the image is told
    /// to a client that sent its bytes, and not to one that guessed its fingerprint.
    #[cfg(feature = "server")]
    #[must_use]
    pub(crate) fn unproven_fingerprint(mut self) -> Self {
        self.unproven = true;
        self
    }

    /// Sets the expiry date, in seconds since 1970. It overrides the date in the image's own metadata.
    #[must_use]
    pub fn expires_at(mut self, seconds: i64) -> Self {
        self.expires_at = Some(seconds);
        self
    }

    /// Sets how many bytes the image may have: a longer one fails while it arrives (`LimitExceeded`), and nothing of it is kept.
    /// One that is in the store already is not measured.
    #[must_use]
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = Some(bytes);
        self
    }

    /// Sets the name under which its file is exported.
    ///
    /// It must be a plain name: no slash or backslash, no control character, no dot or dash in
    /// front, 200 bytes at most. Otherwise the import fails with `InvalidInput`.
    #[must_use]
    pub fn file_name(mut self, name: impl Into<String>) -> Self {
        self.file_name = Some(name.into());
        self
    }

    /// Sets the name that the file has at its source; [`file_name`](Self::file_name) overrides it.
    /// A name that is not plain is dropped, which is recorded as an omission.
    #[must_use]
    pub fn source_file_name(mut self, name: impl Into<String>) -> Self {
        self.source_file_name = Some(name.into());
        self
    }

    /// Sets the type of the image if it is known in advance. Then an alias that is taken is
    /// detected before anything is downloaded.
    #[must_use]
    pub fn image_type(mut self, image_type: ImageType) -> Self {
        self.image_type = Some(image_type);
        self
    }

    /// Sets where the image comes from, and where a refresh finds newer ones.
    #[must_use]
    pub fn source(mut self, source: UpdateSource) -> Self {
        self.source = Some(source);
        self
    }

    /// Sets fields of its description at the [`source`](Self::source) that this version does not know
    /// ([`StoredImage::other`]). They are kept only together with a source.
    #[must_use]
    pub fn source_fields(mut self, fields: Map<String, Value>) -> Self {
        self.source_fields = fields;
        self
    }

    /// Sets what vouches for the image. It is kept beside the image, and the policy of the store may demand it.
    #[cfg(feature = "trust")]
    #[must_use]
    pub fn evidence(mut self, evidence: crate::trust::Evidence) -> Self {
        self.evidence = evidence;
        self
    }

    /// Adds to what vouches for the image.
    #[cfg(feature = "remote")]
    pub(crate) fn more_evidence(mut self, evidence: crate::trust::Evidence) -> Self {
        self.evidence.statements.extend(evidence.statements);
        self.evidence.list = evidence.list.or(self.evidence.list);
        self
    }

    /// Whether something vouches for the image.
    #[cfg(all(feature = "remote", feature = "trust"))]
    pub(crate) fn is_vouched(&self) -> bool {
        !self.evidence.is_empty()
    }

    /// Sets what makes statements about the image once its fingerprint is known, before it becomes visible: for images
    /// that are packed on their way into the store.
    #[cfg(feature = "trust")]
    #[must_use]
    pub fn stated_by(
        mut self,
        state: impl Fn(&Fingerprint) -> Result<crate::trust::Envelope> + Send + Sync + 'static,
    ) -> Self {
        self.signer = Some(Signer(std::sync::Arc::new(state)));
        self
    }

    /// The same options, with the statements that are made once the fingerprint is known.
    #[cfg(feature = "trust")]
    fn stated(&self, fingerprint: &Fingerprint) -> Result<std::borrow::Cow<'_, Self>> {
        let Some(signer) = &self.signer else { return Ok(std::borrow::Cow::Borrowed(self)) };
        let mut options = self.clone();
        options.evidence.statements.push((signer.0)(fingerprint)?);
        Ok(std::borrow::Cow::Owned(options))
    }

    #[cfg(not(feature = "trust"))]
    fn stated(&self, _: &Fingerprint) -> Result<std::borrow::Cow<'_, Self>> {
        Ok(std::borrow::Cow::Borrowed(self))
    }

    pub(crate) fn expected(&self) -> Option<&Fingerprint> {
        self.expected.as_ref()
    }

    /// The expiry date that was set, in seconds since 1970.
    #[cfg(feature = "remote")]
    pub(crate) fn expiry(&self) -> Option<i64> {
        self.expires_at
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

    /// Keeps what vouches for the image beside it, in the caller's transaction. Returns whether there was anything new.
    #[cfg(feature = "trust")]
    pub(crate) fn keep_evidence(
        &self,
        store: &Store,
        catalog: &mut dyn Transaction,
        fingerprint: &Fingerprint,
    ) -> Result<bool> {
        store.keep_evidence(catalog, fingerprint, &self.evidence)
    }

    #[cfg(not(feature = "trust"))]
    pub(crate) fn keep_evidence(&self, _: &Store, _: &mut dyn Transaction, _: &Fingerprint) -> Result<bool> {
        Ok(false)
    }

    /// Fails with `Mismatch` if another fingerprint than `found` is expected.
    pub(crate) fn check_expected(&self, found: &Fingerprint) -> Result<()> {
        match self.expected {
            Some(expected) if expected != *found => {
                Err(Error::mismatch("the fingerprint", expected.to_string(), found.to_string()))
            }
            _ => Ok(()),
        }
    }

    /// Applies the options to an image that is in the store. Options that are not set change nothing.
    pub(crate) fn extend(&self, image: &mut StoredImage) -> Result<()> {
        let becomes_kept = image.cached && !self.cached;
        image.cached &= self.cached;
        image.public |= self.public;
        if (self.auto_update || becomes_kept || image.source.is_none())
            && let Some(source) = &self.source
        {
            image.source = Some(source.clone());
            image.other.clone_from(&self.source_fields);
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

    /// Fails with `InvalidInput` if the options contradict each other or contain an invalid name.
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
    /// Imports an image: copies its bytes into scratch, hashes and verifies them, and makes the
    /// image visible with all that `options` say, in one step.
    ///
    /// The source may be files or streams. An image that was cached and is imported explicitly becomes permanent.
    ///
    /// ```no_run
    /// use lxd_image::Monitor;
    /// use lxd_image::format::ImageSource;
    /// use lxd_image::store::{Alias, ImportOptions, Store};
    ///
    /// # fn main() -> lxd_image::Result<()> {
    /// let store = Store::open("/var/lib/lxd-image")?;
    /// // A split image: metadata and root file system.
    /// let source = ImageSource::open("meta.tar.xz", Some("rootfs.squashfs".as_ref()))?;
    /// let options = ImportOptions::new().alias(Alias::new("debian/12")?).reuse_aliases(true).replace_images(true);
    /// let image = store.import(source, &options, &Monitor::none())?;
    /// println!("{} replaced the image of last night", image.fingerprint);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `AlreadyExists` for an image that is in the store, or an alias that is taken; `Mismatch` for
    /// another fingerprint than the expected one; all errors of verification
    /// ([`Image::verify`](crate::format::Image::verify)); `InvalidInput` for an invalid alias or an
    /// unknown architecture; `Busy`; `Cancelled`; `StorageFull`, after the layers that the store keeps of container images
    /// were dropped, and files were read once more; `Io`. The store's images are unchanged then.
    pub fn import(&self, source: ImageSource, options: &ImportOptions, monitor: &Monitor) -> Result<StoredImage> {
        self.preflight(options)?;
        if options.add_aliases
            && let Some(there) = self.known(&source, monitor)?
        {
            match self.adopt(&there, options, monitor) {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                done => return done,
            }
        }
        let again = once_more(&source);
        let import = |source: ImageSource| {
            let staged = self.stage(source, options.expected.as_ref(), options.max_bytes, monitor)?;
            self.publish_import(staged, options, monitor)
        };
        match import(source) {
            Err(error) => match (self.make_room(error), again) {
                ((_, true), Some(source)) => import(source),
                ((error, _), _) => Err(error),
            },
            done => done,
        }
    }

    /// Drops the layers that the store keeps where an import failed for want of space. Returns the import's error, and
    /// whether there is more room now.
    pub(super) fn make_room(&self, error: Error) -> (Error, bool) {
        let dropped = self.drop_layers_for_room(&error);
        if dropped.layers == 0 {
            return (error, false);
        }
        let bytes = dropped.bytes;
        let error = error.with_hint(format!(
            "layers of {bytes} bytes that the store kept of container images were removed to make room: try again"
        ));
        // A copy from a remote tries again by itself.
        #[cfg(feature = "remote")]
        let error = error.needs_restart();
        (error, true)
    }

    /// The bytes that one upload may fill; `None` where that is not known.
    #[cfg(feature = "server")]
    pub(crate) fn staging_space(&self) -> Result<Option<u64>> {
        self.scratch.space()
    }

    /// The image of the store that has the same bytes as `source`, found by hashing without writing anything.
    ///
    /// Only files are hashed (a stream can be read once), and only if the store has an image of the same size.
    fn known(&self, source: &ImageSource, monitor: &Monitor) -> Result<Option<Fingerprint>> {
        let inputs: Vec<_> = std::iter::once(&source.first).chain(&source.second).collect();
        let lengths: Option<Vec<u64>> = inputs.iter().map(|input| input.as_blob().map(ReadAt::len)).collect();
        let Some(lengths) = lengths else { return Ok(None) };
        let size = lengths.iter().fold(0_u64, |size, length| size.saturating_add(*length));
        if self.catalog.fingerprints(&ImageQuery::new().size(size).limit(1))?.0.is_empty() {
            return Ok(None);
        }
        // The metadata may be either of two files.
        let orders = [inputs.clone(), inputs.into_iter().rev().collect()];
        let orders = if source.second.is_some() { &orders[..] } else { &orders[..1] };
        for order in orders {
            let fingerprint = fingerprint_of(order.iter().copied(), Some(size), monitor)?;
            if self.catalog.image(&fingerprint)?.is_some_and(|there| there.size == size) {
                return Ok(Some(fingerprint));
            }
        }
        Ok(None)
    }

    /// Fails early if an import cannot succeed: before a long download, and before anything is written.
    ///
    /// The transaction that inserts the row checks all of this again.
    pub(crate) fn preflight(&self, options: &ImportOptions) -> Result<()> {
        options.check()?;
        self.blobs.check_identity()?;
        if !options.reuse_aliases {
            for alias in &options.aliases {
                // The image itself may have the alias, which is known only once its fingerprint is.
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
                // An alias is unique per type: if the type is not known yet, it must be taken for all of them.
                let asked = if options.image_type.is_some() { 1 } else { ImageType::ALL.len() };
                if let (Some(target), true) = (taken.first(), taken.len() == asked) {
                    return Err(alias_taken(&alias.name, &target.fingerprint));
                }
            }
        }
        if let Some(expected) = &options.expected.filter(|_| !options.unproven)
            && let Some(there) = self.catalog.image(expected)?
            && !(options.add_aliases || there.cached && !options.cached)
        {
            return Err(image_exists(expected));
        }
        Ok(())
    }

    /// Uploads a staged image and inserts its row, or applies the options to the row that is there.
    pub(crate) fn publish_import(
        &self,
        staged: StagedImage,
        options: &ImportOptions,
        monitor: &Monitor,
    ) -> Result<StoredImage> {
        let options = &*options.stated(&staged.fingerprint)?;
        let image = self.described(&staged, options, monitor)?;
        monitor.check()?;
        let mut replaced = Vec::new();
        let published = self.upload(staged, monitor, &mut |catalog, objects| {
            replaced.clear();
            let Some(there) = catalog.image(&image.fingerprint)? else {
                let mut image = image.clone();
                image.objects = objects.clone();
                catalog.insert(&image)?;
                options.keep_evidence(self, catalog, &image.fingerprint)?;
                options.keep_owner(self, catalog, &image.fingerprint)?;
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
        report_replaced(&replaced, monitor);
        Ok(published)
    }

    /// The row of a staged image, with what the options set.
    fn described(&self, staged: &StagedImage, options: &ImportOptions, monitor: &Monitor) -> Result<StoredImage> {
        let told = (&options.source_properties, options.exact_properties);
        let mut image = staged.stored(told, options.expires_at, self.now(), monitor)?;
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
            monitor.omit(staged.fingerprint.to_string(), what);
        }
        image.file_name = options.file_name.clone().or(plain).or(image.file_name);
        (image.public, image.auto_update, image.cached) = (options.public, options.auto_update, options.cached);
        image.source.clone_from(&options.source);
        if options.source.is_some() {
            image.other.clone_from(&options.source_fields);
        }
        image.revision = 1;
        Ok(image)
    }
}

/// Points `aliases` to `image` in the caller's transaction. Images that lose an alias get a new
/// revision, and so a new sidecar.
///
/// Returns all aliases that the image has then, sorted. Fails with `AlreadyExists` for an alias of
/// another image, unless `reuse` is set.
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

/// The same source to be read again, if its bytes are at rest.
fn once_more(source: &ImageSource) -> Option<ImageSource> {
    let again = |input: &Input| {
        let again = Input::blob(input.as_blob()?.clone());
        Some(match input.name() {
            Some(name) => again.named(name),
            None => again,
        })
    };
    let second = match &source.second {
        Some(second) => Some(again(second)?),
        None => None,
    };
    Some(ImageSource { first: again(&source.first)?, second })
}

/// The error for an alias that points to another image.
pub(crate) fn alias_taken(name: &str, target: &Fingerprint) -> Error {
    Error::new(ErrorKind::AlreadyExists, format!("the alias `{name}` is taken: it points to {}", target.short()))
        .with_hint("`--reuse` moves it, as does `ImportOptions::reuse_aliases` in a program")
}

fn image_exists(fingerprint: &Fingerprint) -> Error {
    Error::new(ErrorKind::AlreadyExists, format!("the image {fingerprint} is in the store already"))
        .with_hint("`lxd-image alias create` gives it another alias")
}
