//! [`RemoteTransfer`]: what a server fetches from its upstream and from sources that trusted clients name, and pushes.
//!
//! The server and the clients do not import each other; this implementation of the server's trait joins
//! them. What is fetched for anonymous clients is bounded and public only: an image that the upstream does not publish
//! is never fetched, and a name here never gets another meaning. Errors shown to clients have the secrets of the
//! request removed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::{Fingerprint, FingerprintPrefix};
use crate::limits::Limits;
use crate::metadata::{Architecture, ImageType};
use crate::omissions::Omitted;
use crate::progress::Monitor;
use crate::remote::{
    Certificate, ClientOptions, Lxd, Protocol, Remote, RemoteRefresh, Settings, Trust, Wanted, fetch, vouched,
};
use crate::server::{ImageTransfer, Pull, Push, Registry};
use crate::store::{Alias, ImportOptions, RefreshOptions, Refreshed, Store, StoredImage, UpdateSource};

/// Images of a registry that are remembered with the request that found them. Anonymous clients can make them more.
const MAX_FOUND: usize = 4096;

/// Implements the server's transfer trait with the remotes of a user's settings.
///
/// ```no_run
/// use std::sync::Arc;
///
/// use lxd_image::Limits;
/// use lxd_image::remote::{ClientOptions, Settings};
/// use lxd_image::server::{Handler, ServerOptions};
/// use lxd_image::store::Store;
/// use lxd_image::transfer::RemoteTransfer;
///
/// let settings = Settings::open("/etc/lxd-image");
/// let upstream = RemoteTransfer::new(settings, Some("images"), ClientOptions::new(), Limits::default())?;
/// let options = ServerOptions::new().image_transfer(upstream);
/// let handler = Handler::new(Store::open("/var/lib/lxd-image")?, options);
/// # let _ = Arc::new(handler);
/// # Ok::<(), lxd_image::Error>(())
/// ```
pub struct RemoteTransfer {
    /// The upstream, if there is one.
    remote: Option<Box<dyn Remote>>,
    /// If the upstream is a registry, which finds nothing by fingerprint: the request by which each image was found.
    found_by_alias: Option<Mutex<HashMap<Fingerprint, Wanted>>>,
    /// The remotes that clients may name, with their certificates.
    settings: Settings,
    /// Options for every connection.
    client: ClientOptions,
    /// `cache` bounds what anonymous clients can make the server fetch.
    limits: Limits,
}

impl RemoteTransfer {
    /// Connects the upstream, a remote of the settings, if there is one; other sources are connected when a client names
    /// them. [`Limits::cache`] bounds one image of the upstream.
    ///
    /// # Errors
    /// Those of [`Settings::connect`].
    pub fn new(settings: Settings, remote: Option<&str>, client: ClientOptions, limits: Limits) -> Result<Arc<Self>> {
        let mut found_by_alias = None;
        let remote = match remote {
            Some(name) => {
                let name = name.strip_suffix(':').unwrap_or(name);
                let known = if settings.get(name)?.protocol == Protocol::Oci { Some(Mutex::default()) } else { None };
                found_by_alias = known;
                Some(settings.connect(name, client.clone())?)
            }
            None => None,
        };
        Ok(Arc::new(Self { remote, found_by_alias, settings, client, limits }))
    }

    /// A client of another server that authenticates with an image secret.
    ///
    /// A certificate that the request names is pinned; otherwise the server's certificate must be signed by a system
    /// authority.
    fn with_secret(&self, url: &str, certificate: &str, secret: &str) -> Result<Lxd> {
        let mut options = self.client.clone();
        if !certificate.is_empty() {
            options = options.trust(Trust::Pinned(Certificate::from_pem(certificate)?.fingerprint()));
        }
        Ok(Lxd::new(options, &url.parse()?)?.certificate(certificate).secret(secret))
    }

    /// What an alias of a client may mean at the upstream. In a registry `debian/12` is the tag `12` of `debian`, since
    /// no alias has a colon, or else the newest image of `debian/12`.
    fn references(&self, alias: &str) -> Vec<String> {
        match alias.rsplit_once('/') {
            Some((repository, tag)) if self.found_by_alias.is_some() => {
                vec![format!("{repository}:{tag}"), alias.to_owned()]
            }
            _ => vec![alias.to_owned()],
        }
    }

    /// Remembers how an image of a registry was found.
    fn remember(&self, fingerprint: Fingerprint, wanted: Wanted) {
        let Some(known) = &self.found_by_alias else { return };
        let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_FOUND {
            known.clear();
        }
        known.insert(fingerprint, wanted);
    }

    /// Whether an error means that the upstream has no such image. A registry also says so of a name that none can have,
    /// an artifact of another kind, and a container image, which has no fingerprint yet.
    fn is_absent(&self, kind: ErrorKind) -> bool {
        match kind {
            ErrorKind::NotFound | ErrorKind::Ambiguous => true,
            ErrorKind::InvalidInput | ErrorKind::Malformed | ErrorKind::Unsupported => self.found_by_alias.is_some(),
            _ => false,
        }
    }

    /// The upstream.
    ///
    /// # Errors
    /// `NotFound` without `--upstream`, which clients see as a missing image.
    fn upstream(&self) -> Result<&dyn Remote> {
        self.remote.as_deref().ok_or_else(|| Error::new(ErrorKind::NotFound, "this server has no upstream"))
    }
}

impl ImageTransfer for RemoteTransfer {
    fn has_upstream(&self) -> bool {
        self.remote.is_some()
    }

    fn resolve(
        &self,
        alias: &str,
        image_type: ImageType,
        architecture: Architecture,
        monitor: &Monitor,
    ) -> Result<Option<Fingerprint>> {
        let upstream = self.upstream()?;
        if let (Some(known), Ok(fingerprint)) = (&self.found_by_alias, alias.parse::<Fingerprint>()) {
            // The server asks so for an image whose alias it resolved before. A registry would not know.
            let is_known = known.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&fingerprint);
            return Ok(is_known.then_some(fingerprint));
        }
        for reference in self.references(alias) {
            // No suggestions: anonymous clients may probe names, and must not learn others of the upstream.
            let wanted = Wanted::new(reference).image_type(image_type).architectures([architecture]).suggest(false);
            match upstream.resolve(&wanted, monitor) {
                // The upstream may show us private images, because it trusts our certificate; clients get public ones
                // only.
                Ok(found) => {
                    if !found.public {
                        return Ok(None);
                    }
                    self.remember(found.fingerprint, wanted);
                    return Ok(Some(found.fingerprint));
                }
                Err(error) if self.is_absent(error.kind()) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    fn fetch(
        &self,
        fingerprint: &Fingerprint,
        alias: Option<&str>,
        store: &Store,
        monitor: &Monitor,
    ) -> Result<StoredImage> {
        let upstream = self.upstream()?;
        let wanted = match &self.found_by_alias {
            None => Wanted::new(fingerprint.to_string()).architectures([]).suggest(false),
            Some(known) => {
                let known = known.lock().unwrap_or_else(PoisonError::into_inner).get(fingerprint).cloned();
                known.ok_or_else(|| {
                    Error::new(
                        ErrorKind::NotFound,
                        "the upstream is a registry, which finds images by their names only",
                    )
                })?
            }
        };
        let found = upstream.resolve(&wanted, monitor)?;
        if found.fingerprint != *fingerprint {
            return Err(Error::new(ErrorKind::NotFound, "the upstream has another image under this name by now"));
        }
        if !found.public {
            return Err(Error::new(ErrorKind::NotFound, "the upstream shows this image to no other client"));
        }
        // Anonymous clients can trigger this: one image must not exceed the quota of all cached images.
        if found.size > self.limits.cache {
            let sentence = format!("the image {} is larger than the limit `cache`", found.fingerprint.short());
            return Err(Error::new(ErrorKind::LimitExceeded, sentence).with_hint("raise it with `--limit cache=BYTES`"));
        }
        let mut source = upstream.source().image_type(found.image_type);
        let alias = if self.found_by_alias.is_some() { Some(&*wanted.reference) } else { alias };
        alias.unwrap_or_default().clone_into(&mut source.alias);
        let mut options = ImportOptions::new().public(true).cached(true);
        // Keep the expiry date unless it has passed: an image that is requested now must survive the next pruning.
        if let Some(seconds) = found.expires_at.filter(|seconds| *seconds > jiff::Timestamp::now().as_second()) {
            options = options.expires_at(seconds);
        }
        // An image that is here already stays unchanged, in particular private.
        match store.image(&found.fingerprint) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                fetch(upstream, &found, store, &described(&found, source, options), monitor)
            }
            here => here,
        }
    }

    fn registries(&self) -> Result<Vec<Registry>> {
        let remotes = self.settings.remotes()?.into_iter();
        let listed = remotes.filter(|(_, known)| known.protocol.is_rest() || known.protocol == Protocol::Simplestreams);
        Ok(listed
            .map(|(name, known)| {
                let mut registry = Registry::new(&*name, known.url.to_string(), known.protocol);
                registry.public = known.public;
                registry.builtin = Settings::is_well_known(&name, &known.url);
                registry
            })
            .collect())
    }

    fn registry_images(&self, name: &str, monitor: &Monitor) -> Result<Vec<StoredImage>> {
        self.settings.connect(name, self.client.clone())?.list(monitor)
    }

    fn pull(&self, pull: &Pull, store: &Store, options: ImportOptions, monitor: &Monitor) -> Result<StoredImage> {
        self.pull_from(pull, store, options, monitor).map_err(|error| match &pull.secret {
            Some(secret) => error.without_secret(secret),
            None => error,
        })
    }

    fn refresh(
        &self,
        fingerprint: &Fingerprint,
        store: &Store,
        options: &RefreshOptions,
        monitor: &Monitor,
    ) -> Result<Refreshed> {
        let (settings, client) = (self.settings.clone(), self.client.clone());
        let sources = RemoteRefresh::new(move |source| settings.open_source(source, client.clone())).deltas_from(store);
        store.refresh(fingerprint, &sources, options, monitor)
    }

    fn push(&self, target: &Push, fingerprint: &Fingerprint, store: &Store, monitor: &Monitor) -> Result<()> {
        let send = || {
            let server =
                self.with_secret(&target.url, target.certificate.as_deref().unwrap_or_default(), &target.secret)?;
            let statements = store.statements(fingerprint)?.len();
            if statements > 0 {
                let part = format!("{statements} statements").into();
                let reason = "a server that was given a secret sends none".into();
                monitor.omit(fingerprint.to_string(), Omitted::Dropped { part, reason });
            }
            server.push(&store.open_image(fingerprint)?, monitor)
        };
        send().map_err(|error: Error| error.without_secret(&target.secret))
    }
}

impl RemoteTransfer {
    /// Fetches what a trusted client names.
    ///
    /// Separate from the trait's method so that every error passes through the removal of the secret there: errors are
    /// shown to clients, and URLs and headers may contain it.
    fn pull_from(
        &self,
        pull: &Pull,
        store: &Store,
        mut options: ImportOptions,
        monitor: &Monitor,
    ) -> Result<StoredImage> {
        let mut source = UpdateSource::new(&*pull.url, &*pull.protocol, pull.alias.as_deref().unwrap_or_default());
        if let Some(pem) = &pull.certificate {
            source = source.certificate(&**pem);
        }
        let protocol = pull.protocol.parse::<Protocol>();
        let remote: Box<dyn Remote> = match &pull.secret {
            Some(secret) if protocol.as_ref().is_ok_and(|protocol| protocol.is_rest()) => {
                Box::new(self.with_secret(&source.server, &source.certificate, secret)?.protocol(protocol?))
            }
            Some(_) => {
                let sentence = "a secret opens images of LXD and Incus servers only: the source has another protocol";
                return Err(Error::new(ErrorKind::InvalidInput, sentence));
            }
            None => self.settings.open_source(&source, self.client.clone())?,
        };
        let reference = pull.fingerprint.as_deref().or(pull.alias.as_deref()).unwrap_or_default();
        let mut wanted = Wanted::new(reference);
        if let Some(image_type) = pull.image_type {
            wanted = wanted.image_type(image_type);
        }
        let found = remote.resolve(&wanted, monitor)?;
        // Clients of LXD and Incus also send an alias in the field `fingerprint`.
        if source.alias.is_empty()
            && !reference.parse::<FingerprintPrefix>().is_ok_and(|prefix| prefix.matches(&found.fingerprint))
        {
            reference.clone_into(&mut source.alias);
        }
        // As between two LXD servers, the expiry date is copied unless the client sets another.
        if let Some(seconds) = found.expires_at.filter(|_| pull.expires_at.is_none()) {
            options = options.expires_at(seconds);
        }
        let mut options = described(&found, source.image_type(found.image_type), options.auto_update(pull.auto_update));
        for alias in found.aliases.iter().filter(|_| pull.copy_aliases) {
            match Alias::new(&*alias.name) {
                Ok(valid) => options = options.alias(valid.described(&*alias.description)),
                Err(error) => {
                    let part = format!("alias `{}`", alias.name.chars().take(64).collect::<String>());
                    let what = Omitted::Dropped { part: part.into(), reason: error.message().to_owned().into() };
                    monitor.omit(found.fingerprint.to_string(), what);
                }
            }
        }
        let options = vouched(&*remote, &found, options, monitor)?;
        // For an image that is here already only its catalog row changes; no bytes are read.
        match store.adopt(&found.fingerprint, &options, monitor) {
            Err(error) if error.kind() == ErrorKind::NotFound => fetch(&*remote, &found, store, &options, monitor),
            adopted => adopted,
        }
    }
}

/// Import options with what the remote says about the image: type, properties, file name.
///
/// LXD and Incus list all properties of an image, so a property that is missing there was removed on purpose
/// (`exact_source_properties`). Simplestreams lists only some of them.
fn described(found: &StoredImage, source: UpdateSource, options: ImportOptions) -> ImportOptions {
    // LXD and Incus list all properties, so a missing one was removed on purpose.
    let exact = source.protocol.parse().is_ok_and(Protocol::is_rest);
    let mut options = options
        .expected_fingerprint(found.fingerprint)
        .image_type(found.image_type)
        .source(source)
        .source_fields(found.other.clone())
        .source_properties(found.properties.clone())
        .exact_source_properties(exact);
    if let Some(name) = &found.file_name {
        options = options.source_file_name(&**name);
    }
    options
}
