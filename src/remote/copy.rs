//! `copy`: brings an image of a remote into a store; `Store::get_or_fetch`: uses a store as a cache of a remote.
//!
//! Order: resolve, compare with the expected fingerprint, adopt the image if the store has it ([`Store::adopt`]), and only then
//! download. Each step may find that another process changed the store meanwhile; the store's own calls are atomic, so the
//! answer is to repeat the step, a bounded number of times.
//!
//! [`restarting`] is the only loop that starts an image again from its beginning. Below it, a download resumes and a request is
//! retried by [`RetryPolicy`](super::RetryPolicy); nothing else repeats, so that tries don't multiply.

use super::resolution::reports_all_properties;
use super::{Remote, Resolution, UnverifiedImage, Wanted};
use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::{Fingerprint, FingerprintPrefix};
use crate::format::ImageType;
use crate::metadata::{Architecture, Properties};
use crate::oci::Digest;
use crate::omissions::Omitted;
use crate::progress::Monitor;
use crate::store::{Alias, ImageQuery, ImportOptions, Store, StoredImage, UpdateSource};

/// How often an image is started in all, when the file is replaced on the server or the image is deleted here meanwhile.
const MAX_STARTS: u32 = 3;

/// Options of [`copy`] and of [`Store::get_or_fetch`].
///
/// ```
/// use lxd_image::remote::CopyOptions;
/// use lxd_image::store::Alias;
///
/// // Kept up to date under a name of its own.
/// let options = CopyOptions::new().alias(Alias::new("web/base")?).auto_update(true).property("team", "web")?;
/// # let _ = options;
/// # Ok::<(), lxd_image::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct CopyOptions {
    aliases: Vec<Alias>,
    copy_aliases: bool,
    reuse_aliases: bool,
    replace_images: bool,
    auto_update: bool,
    public: bool,
    properties: Properties,
    expected: Option<Fingerprint>,
    image_type: Option<ImageType>,
    architectures: Vec<Architecture>,
    trust_transport: bool,
    system: bool,
}

impl CopyOptions {
    /// A private copy of a container image for this machine, without an alias, that is not refreshed.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an alias.
    #[must_use]
    pub fn alias(mut self, alias: Alias) -> Self {
        self.aliases.push(alias);
        self
    }

    /// Whether the copy also gets the aliases that the image has on the remote. Those that a store refuses, because they hold a
    /// colon or a control character, are left out and recorded in the monitor.
    #[must_use]
    pub fn copy_aliases(mut self, yes: bool) -> Self {
        self.copy_aliases = yes;
        self
    }

    /// Whether aliases that are taken move to the copy, instead of failing as `AlreadyExists`.
    #[must_use]
    pub fn reuse_aliases(mut self, yes: bool) -> Self {
        self.reuse_aliases = yes;
        self
    }

    /// Whether an image that loses its last alias to the copy is deleted; see [`ImportOptions::replace_images`].
    #[must_use]
    pub fn replace_images(mut self, yes: bool) -> Self {
        self.replace_images = yes;
        self
    }

    /// Whether the copy follows its source on refresh. The image must be named by an alias then.
    #[must_use]
    pub fn auto_update(mut self, yes: bool) -> Self {
        self.auto_update = yes;
        self
    }

    /// Whether clients that have not authenticated may read it.
    #[must_use]
    pub fn public(mut self, yes: bool) -> Self {
        self.public = yes;
        self
    }

    /// Sets a property, which takes precedence over those of the image and of the remote.
    ///
    /// # Errors
    /// `InvalidInput` for a NUL in either text.
    pub fn property(mut self, key: impl Into<String>, value: impl Into<String>) -> Result<Self> {
        self.properties.set(key, value)?;
        Ok(self)
    }

    /// The fingerprint that it must have, whatever the server says.
    #[must_use]
    pub fn expected_fingerprint(mut self, fingerprint: Fingerprint) -> Self {
        self.expected = Some(fingerprint);
        self
    }

    /// Whether an image may be copied although neither the remote nor
    /// [`expected_fingerprint`](Self::expected_fingerprint) names its fingerprint before the download
    /// ([`Resolution::AfterDownload`]). It is stored under the fingerprint of the bytes that arrived, so that a server, or
    /// whoever stands in for it, decides what they are. Off unless it is set; has no effect on remotes that name fingerprints.
    #[must_use]
    pub fn trust_transport(mut self, yes: bool) -> Self {
        self.trust_transport = yes;
        self
    }

    /// Whether a container image of a registry becomes an image for system containers; see [`Wanted::system`].
    #[must_use]
    pub fn system(mut self, yes: bool) -> Self {
        self.system = yes;
        self
    }

    /// The type that an alias must have; containers by default.
    #[must_use]
    pub fn image_type(mut self, image_type: ImageType) -> Self {
        self.image_type = Some(image_type);
        self
    }

    /// The architectures that an alias may mean, best first; those of this machine if there are none.
    #[must_use]
    pub fn architectures(mut self, architectures: impl IntoIterator<Item = Architecture>) -> Self {
        self.architectures = architectures.into_iter().collect();
        self
    }

    /// Fails where the image that `reference` names is not the expected one.
    fn check_fingerprint(&self, reference: &str, found: &Fingerprint) -> Result<()> {
        match self.expected.filter(|expected| expected != found) {
            Some(expected) => {
                let what = format!("the fingerprint of `{reference}`");
                Err(Error::mismatch(&what, expected.to_string(), found.to_string()))
            }
            None => Ok(()),
        }
    }

    /// Fails if these options are about aliases. A cached image has none: a name says that the image is to stay.
    fn refuse_aliases(&self) -> Result<()> {
        let option = match self {
            _ if !self.aliases.is_empty() => "alias",
            _ if self.copy_aliases => "copy_aliases",
            _ if self.reuse_aliases => "reuse_aliases",
            _ => return Ok(()),
        };
        Err(Error::invalid(format!("the option `{option}` has no effect: a cached image gets no aliases"))
            .with_hint("copy the image, so that it stays and has names"))
    }

    /// The request for a reference with these options.
    #[must_use]
    pub fn wanted(&self, reference: &str) -> Wanted {
        let wanted =
            Wanted::new(reference).image_type(self.image_type.unwrap_or(ImageType::Container)).system(self.system);
        if self.architectures.is_empty() { wanted } else { wanted.architectures(self.architectures.iter().copied()) }
    }

    /// The import of an image that the remote names by its fingerprint, with the aliases of these options.
    pub(super) fn importing(
        &self,
        found: &StoredImage,
        source: UpdateSource,
        monitor: &Monitor,
    ) -> Result<ImportOptions> {
        let import = self.import(found, source)?;
        Ok(self.all_aliases(found, monitor).into_iter().fold(import, ImportOptions::alias))
    }

    /// How an image is imported that the remote names by its fingerprint, without aliases.
    fn import(&self, found: &StoredImage, source: UpdateSource) -> Result<ImportOptions> {
        let mut options = self
            .import_from(source)?
            .expected_fingerprint(found.fingerprint)
            .image_type(found.image_type)
            .source_fields(found.other.clone())
            .source_properties(found.properties.clone());
        if let Some(seconds) = found.expires_at {
            options = options.expires_at(seconds);
        }
        if let Some(name) = &found.file_name {
            options = options.source_file_name(name);
        }
        Ok(options)
    }

    /// How an image is imported whose fingerprint is known only after its download, with the aliases of these options.
    fn import_unverified(&self, found: &UnverifiedImage, source: UpdateSource) -> Result<ImportOptions> {
        let mut options =
            self.import_from(source)?.image_type(found.image_type).source_properties(found.properties.clone());
        if let Some(fingerprint) = self.expected {
            options = options.expected_fingerprint(fingerprint);
        }
        if let Some(seconds) = found.expires_at {
            options = options.expires_at(seconds);
        }
        if let Some(name) = &found.file_name {
            options = options.source_file_name(name);
        }
        Ok(self.aliases.iter().cloned().fold(options, ImportOptions::alias))
    }

    /// What does not depend on the image.
    fn import_from(&self, source: UpdateSource) -> Result<ImportOptions> {
        let mut options = ImportOptions::new()
            .exact_source_properties(reports_all_properties(&source.protocol))
            .reuse_aliases(self.reuse_aliases)
            .replace_images(self.replace_images)
            .auto_update(self.auto_update)
            .public(self.public)
            .source(source);
        for (key, value) in self.properties.iter() {
            options = options.property(key, value)?;
        }
        Ok(options)
    }

    /// The aliases of the copy: those of the options, and with `copy_aliases` those of the remote that a store accepts.
    fn all_aliases(&self, found: &StoredImage, monitor: &Monitor) -> Vec<Alias> {
        let mut all = self.aliases.clone();
        for alias in found.aliases.iter().filter(|_| self.copy_aliases) {
            match Alias::new(&*alias.name) {
                Ok(taken) if all.iter().any(|there| there.name == taken.name) => {}
                Ok(taken) => all.push(taken.described(&*alias.description)),
                Err(error) => report_alias(monitor, &found.fingerprint, &alias.name, error.message()),
            }
        }
        all
    }
}

/// Copies the image that `reference` names on `remote` into a store.
///
/// If the store has the image already, it gets what the options ask for and nothing is downloaded ([`Store::adopt`]); a cached
/// image becomes one that stays.
///
/// # Errors
/// Those of [`Remote::locate`] and [`Remote::open`]; `Unsupported` for an image whose fingerprint is known only after its
/// download, without a digest of its content, [`CopyOptions::trust_transport`] or an expected one; those of [`Store::import`], above all
/// `Mismatch` when the bytes are not those of the fingerprint that the server named;
/// `AlreadyExists` for an alias that is taken; `InvalidInput` for an image that is to follow its source and is named by a
/// fingerprint. The store is as it was.
pub fn copy(
    remote: &dyn Remote,
    reference: &str,
    store: &Store,
    options: &CopyOptions,
    monitor: &Monitor,
) -> Result<StoredImage> {
    let found = match remote.locate(&options.wanted(reference), monitor)? {
        Resolution::Named { image } => *image,
        Resolution::AfterDownload { image } => {
            return copy_unverified(remote, reference, &image, store, options, monitor);
        }
    };
    options.check_fingerprint(reference, &found.fingerprint)?;
    let source = source_of(remote, reference, &found);
    if options.auto_update && !source.is_followed() {
        return Err(always_the_same(reference));
    }
    let mut import = options.import(&found, source)?;
    for alias in options.all_aliases(&found, monitor) {
        import = import.alias(alias);
    }
    // Deleted between the two calls, the image is downloaded: the import publishes it in one transaction.
    let import = vouched(remote, &found, import.add_aliases_to_existing(true), monitor)?;
    match store.adopt(&found.fingerprint, &import, monitor) {
        Err(error) if error.kind() == ErrorKind::NotFound => fetch(remote, &found, store, &import, monitor),
        done => done,
    }
}

/// Copies an image whose fingerprint is known only after its download: against the expected fingerprint where the caller has
/// one, against the digest that the remote checks its bytes by, else only with [`CopyOptions::trust_transport`].
///
/// # Errors
/// As [`copy`]; `Unsupported` without any of them, and for an image that is to be kept up to date from a remote without such
/// digests: a refresh compares before it fetches anything.
fn copy_unverified(
    remote: &dyn Remote,
    reference: &str,
    found: &UnverifiedImage,
    store: &Store,
    options: &CopyOptions,
    monitor: &Monitor,
) -> Result<StoredImage> {
    if options.auto_update && found.content_digest.is_none() {
        return Err(found.refused("it can't be kept up to date from there").with_hint("copy it without auto-update"));
    }
    if options.auto_update && names_digest(reference) {
        return Err(always_the_same(reference));
    }
    if options.expected.is_none() && found.content_digest.is_none() && !options.trust_transport {
        return Err(found.refused("nothing would vouch for its bytes but the connection").with_hint(
            "give the fingerprint that it must have, or set `trust_transport` to take whatever the server sends",
        ));
    }
    let source = unverified_source(remote, reference, found);
    let import = options.import_unverified(found, source)?.add_aliases_to_existing(true);
    // An image that is expected, or was made of the same content before, is not downloaded again.
    let here = match options.expected {
        Some(expected) => Some(expected),
        None => store.with_content(remote, found)?.map(|image| image.fingerprint),
    };
    if let Some(here) = here {
        match store.adopt(&here, &import, monitor) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            adopted => return adopted,
        }
    }
    restarting(monitor, || {
        remote.open_unverified_from(found, store, monitor).and_then(|bytes| store.import(bytes, &import, monitor))
    })
}

/// The source that is recorded with an image whose fingerprint was not known: with the digest of its content, by which it is
/// recognised later.
fn unverified_source(remote: &dyn Remote, reference: &str, found: &UnverifiedImage) -> UpdateSource {
    let mut source = remote.source().image_type(found.image_type);
    source.alias = match &found.content_digest {
        Some(digest) => pinned(reference, digest),
        None => reference.to_owned(),
    };
    source
}

/// A reference with the digest of what it means now: `NAME:TAG@DIGEST`.
pub(super) fn pinned(reference: &str, digest: &str) -> String {
    format!("{}@{digest}", followed(reference))
}

/// A reference without the digest of what it meant once.
pub(super) fn followed(reference: &str) -> &str {
    match reference.rsplit_once('@') {
        Some((front, digest)) if digest.parse::<Digest>().is_ok() => front,
        _ => reference,
    }
}

/// Whether a reference names content, so that it always means the same image.
fn names_digest(reference: &str) -> bool {
    followed(reference).len() < reference.len()
}

/// Whether an image runs the entry point of a container image, as Incus recognises it.
pub(super) fn is_for_applications(properties: &Properties) -> bool {
    properties.get("type") == Some("oci")
}

/// The error for a reference that can't be followed.
fn always_the_same(reference: &str) -> Error {
    Error::invalid(format!("`{reference}` always names the same image, so that it can't be kept up to date"))
        .with_hint("name it by an alias")
}

/// Records in the monitor that an image does not get an alias that it has elsewhere.
pub(super) fn report_alias(monitor: &Monitor, image: &Fingerprint, name: &str, reason: &str) {
    let shown: String = name.chars().take(128).collect();
    let what = Omitted::Dropped { part: format!("alias `{shown}`").into(), reason: reason.to_owned().into() };
    monitor.omit(image.to_string(), what);
}

/// The source that is recorded with a copy, with the reference as its alias unless that is a fingerprint.
fn source_of(remote: &dyn Remote, reference: &str, found: &StoredImage) -> UpdateSource {
    let mut source = remote.source().image_type(found.image_type);
    // A fingerprint names the same image for ever, so that there is nothing to follow.
    let fixed = reference.parse::<FingerprintPrefix>().is_ok_and(|prefix| prefix.matches(&found.fingerprint));
    if !fixed && !names_digest(reference) {
        reference.clone_into(&mut source.alias);
    }
    source
}

/// Downloads and imports an image that [`Remote::resolve`] found. Starts again, at most three times in all, when the file is
/// replaced on the server meanwhile. For callers that build their own [`ImportOptions`]; others use [`copy`].
///
/// # Errors
/// Those of [`Remote::open`] and of [`Store::import`]. The store is as it was.
pub fn fetch(
    remote: &dyn Remote,
    found: &StoredImage,
    store: &Store,
    import: &ImportOptions,
    monitor: &Monitor,
) -> Result<StoredImage> {
    let import = &vouched(remote, found, import.clone(), monitor)?;
    // The download itself resumes and retries; only a replaced file comes up here.
    restarting(monitor, || {
        remote.open_from(found, store, monitor).and_then(|source| store.import(source, import, monitor))
    })
}

/// Adds what vouches for an image on the remote to the options of its import, unless they have that already. Statements
/// about other images are left out and recorded in the monitor.
///
/// # Errors
/// Those of [`Remote::evidence`].
#[cfg(feature = "trust")]
pub fn vouched(
    remote: &dyn Remote,
    found: &StoredImage,
    import: ImportOptions,
    monitor: &Monitor,
) -> Result<ImportOptions> {
    if import.is_vouched() {
        return Ok(import);
    }
    let mut evidence = remote.evidence(found, monitor)?;
    evidence.statements.retain(|envelope| {
        let is_about = envelope.statement().is_about(&found.fingerprint);
        if !is_about {
            let reason = "it is about another image".into();
            let what = Omitted::Dropped { part: "statement of the server".into(), reason };
            monitor.omit(found.fingerprint.to_string(), what);
        }
        is_about
    });
    Ok(import.evidence(evidence))
}

/// Without the feature `trust` nobody vouches.
#[cfg(not(feature = "trust"))]
pub(super) fn vouched(_: &dyn Remote, _: &StoredImage, import: ImportOptions, _: &Monitor) -> Result<ImportOptions> {
    Ok(import)
}

/// Runs `run`, which brings one image, and starts it again from the beginning when the file was replaced on the server meanwhile:
/// at most [`MAX_STARTS`] times in all, without a pause. The only restart loop of the remotes.
pub(super) fn restarting<T>(monitor: &Monitor, mut run: impl FnMut() -> Result<T>) -> Result<T> {
    let mut starts = 1;
    loop {
        match run() {
            Err(error) if error.is_to_restart() && starts < MAX_STARTS => {
                monitor.check()?;
                starts += 1;
            }
            done => return done,
        }
    }
}

impl Store {
    /// Returns the image that `reference` names on `remote`: from this store if it is here, else downloaded and cached until it
    /// is unused for long enough ([`prune`](Self::prune)). Marks it as used.
    ///
    /// The fingerprint, or a prefix, of an image that is here needs no request. An alias is always asked for, since it may mean
    /// another image by now; if the server can't be reached, the image that it meant last is returned, if that is here.
    ///
    /// ```no_run
    /// use lxd_image::Monitor;
    /// use lxd_image::format::UnpackOptions;
    /// use lxd_image::remote::{ClientOptions, CopyOptions, Simplestreams};
    /// use lxd_image::store::StoreOptions;
    ///
    /// # fn main() -> lxd_image::Result<()> {
    /// let store = StoreOptions::new().open("/var/lib/boxes/images")?;
    /// let server = Simplestreams::new(ClientOptions::new(), &"https://images.example.org".parse()?)?;
    /// // Fetched once; from then on the server only says what the alias means.
    /// let image = store.get_or_fetch(&server, "debian/12", &CopyOptions::new(), &Monitor::none())?;
    /// let opened = store.open_image(&image.fingerprint)?;
    /// let (files, options) = (opened.open(&Default::default())?, UnpackOptions::new());
    /// files.unpack_verified("/srv/c1", &image.fingerprint, &options, &Monitor::none())?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`copy`]; `InvalidInput` for options about aliases, which a cached image does not get; `Unsupported` for a remote
    /// that names neither a fingerprint nor a digest before a download ([`Resolution::AfterDownload`]): whether such an image is
    /// cached already can't be told.
    pub fn get_or_fetch(
        &self,
        remote: &dyn Remote,
        reference: &str,
        options: &CopyOptions,
        monitor: &Monitor,
    ) -> Result<StoredImage> {
        options.refuse_aliases()?;
        if let Some(here) = self.named_by_fingerprint(reference)? {
            options.check_fingerprint(reference, &here)?;
            return self.mark_used(&here);
        }
        let wanted = options.wanted(reference);
        let found = match remote.locate(&wanted, monitor) {
            Ok(Resolution::Named { image }) => *image,
            Ok(Resolution::AfterDownload { image }) if image.content_digest.is_some() => {
                return self.get_or_convert(remote, reference, &image, options, monitor);
            }
            Ok(unverified) => unverified.into_named()?,
            Err(error) if error.is_transient() => {
                return match self.last_known(remote, &wanted)? {
                    Some(here) => {
                        options.check_fingerprint(reference, &here)?;
                        self.mark_used(&here)
                    }
                    None => Err(error),
                };
            }
            Err(error) => return Err(error),
        };
        options.check_fingerprint(reference, &found.fingerprint)?;
        let source = source_of(remote, reference, &found);
        let follow = options.auto_update && source.is_followed();
        if options.auto_update && !follow {
            let reason = format!("`{reference}` always names the same image").into();
            let what = Omitted::NotHonoured { option: "`auto_update`".into(), reason };
            monitor.omit(found.fingerprint.to_string(), what);
        }
        let import = options.import(&found, source)?.cached(true).auto_update(follow);
        // Another process may cache or prune the image between the two calls. Three rounds end that unless it goes on for ever.
        for _ in 0..3 {
            match self.mark_used(&found.fingerprint) {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                done => return done,
            }
            match fetch(remote, &found, self, &import, monitor) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Ok(_) => {}
                Err(error) => return Err(error),
            }
        }
        self.mark_used(&found.fingerprint)
    }

    /// [`get_or_fetch`](Self::get_or_fetch) for an image whose content has a digest, and whose fingerprint is known only after
    /// its download.
    fn get_or_convert(
        &self,
        remote: &dyn Remote,
        reference: &str,
        found: &UnverifiedImage,
        options: &CopyOptions,
        monitor: &Monitor,
    ) -> Result<StoredImage> {
        if let Some(here) = self.with_content(remote, found)? {
            options.check_fingerprint(reference, &here.fingerprint)?;
            return self.mark_used(&here.fingerprint);
        }
        let source = unverified_source(remote, reference, found);
        let follow = options.auto_update && !names_digest(reference);
        let import = options.import_unverified(found, source)?.cached(true).auto_update(follow);
        // It may be here from elsewhere, with the same bytes.
        let import = import.add_aliases_to_existing(true);
        let image = restarting(monitor, || {
            remote.open_unverified_from(found, self, monitor).and_then(|bytes| self.import(bytes, &import, monitor))
        })?;
        self.mark_used(&image.fingerprint)
    }

    /// The newest image here that was made of the same content. Only the source says so, which a store writes itself: an image
    /// could claim anything in its own properties.
    fn with_content(&self, remote: &dyn Remote, found: &UnverifiedImage) -> Result<Option<StoredImage>> {
        let Some(digest) = &found.content_digest else { return Ok(None) };
        let protocol = remote.source().protocol;
        let suffix = format!("@{digest}");
        let mut newest = None;
        let mut look = |image: StoredImage| {
            // An image for system containers and one for applications may be made of the same content.
            let is_made_of_it = image.image_type == found.image_type
                && is_for_applications(&image.original_properties) == is_for_applications(&found.properties)
                && image
                    .source
                    .as_ref()
                    .is_some_and(|source| source.protocol == protocol && source.alias.ends_with(&suffix));
            if is_made_of_it {
                newest = StoredImage::newest(newest.take().into_iter().chain([image]));
            }
            Ok(())
        };
        self.for_each(&ImageQuery::new(), &mut look, &mut |_, _| {})?;
        Ok(newest)
    }

    /// The only image here whose fingerprint begins with the reference.
    fn named_by_fingerprint(&self, reference: &str) -> Result<Option<Fingerprint>> {
        let Ok(prefix) = reference.parse::<FingerprintPrefix>() else { return Ok(None) };
        let found = self.with_prefix(&prefix, 2)?;
        Ok(if let [only] = *found { Some(only) } else { None })
    }

    /// The newest image here that came from this alias of this server, for when the server can't be reached.
    fn last_known(&self, remote: &dyn Remote, wanted: &Wanted) -> Result<Option<Fingerprint>> {
        let mut source = remote.source().image_type(wanted.image_type);
        wanted.reference.clone_into(&mut source.alias);
        let mut newest = None;
        let mut look = |image: StoredImage| {
            // A source may also hold the digest of what the reference meant then.
            let same = |mut known: UpdateSource| {
                known.alias.truncate(followed(&known.alias).len());
                known == source
            };
            let fits = image.source.clone().is_some_and(same)
                && (wanted.architectures.is_empty() || wanted.architectures.contains(&image.architecture));
            if fits {
                newest = StoredImage::newest(newest.take().into_iter().chain([image]));
            }
            Ok(())
        };
        // An image whose row can't be read can't be returned either, so it is skipped.
        self.for_each(&ImageQuery::new(), &mut look, &mut |_, _| {})?;
        Ok(newest.map(|image| image.fingerprint))
    }
}
