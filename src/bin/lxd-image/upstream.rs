//! What a server brings from others: from its upstream for whoever asks, and from anywhere for trusted clients.
//! The library's server knows no clients; here the two meet.

use std::sync::Arc;

use lxd_image::remote::{
    Certificate, ClientOptions, Lxd, Protocol, Remote, RemoteRefresh, Settings, Trust, Wanted, fetch,
};
use lxd_image::server::{ImageTransfer, Pull, Push};
use lxd_image::store::{ImportOptions, RefreshOptions, Refreshed, Store, StoredImage, UpdateSource};
use lxd_image::{Architecture, Error, ErrorKind, Fingerprint, ImageType, Limits, Monitor, Prefix, Result};

/// Remotes as a server uses them.
pub(crate) struct Upstream {
    /// What clients' questions go to.
    remote: Option<Box<dyn Remote>>,
    settings: Settings,
    client: ClientOptions,
    limits: Limits,
}

impl Upstream {
    /// Brings what trusted clients name, and what anybody asks for from the remote of this name, where there is one.
    ///
    /// # Errors
    /// Those of [`Settings::connect`].
    pub(crate) fn new(
        settings: Settings,
        remote: Option<&str>,
        client: ClientOptions,
        limits: Limits,
    ) -> Result<Arc<Self>> {
        let remote = match remote {
            Some(name) => Some(settings.connect(name.strip_suffix(':').unwrap_or(name), client.clone())?),
            None => None,
        };
        Ok(Arc::new(Self { remote, settings, client, limits }))
    }

    /// A server that takes whoever has a secret of it for a friend.
    fn with_secret(&self, url: &str, certificate: &str, secret: &str) -> Result<Lxd> {
        let mut options = self.client.clone();
        if !certificate.is_empty() {
            options = options.trust(Trust::Pinned(Certificate::from_pem(certificate)?.fingerprint()));
        }
        Ok(Lxd::new(options, &url.parse()?)?.certificate(certificate).secret(secret))
    }

    fn upstream(&self) -> Result<&dyn Remote> {
        self.remote.as_deref().ok_or_else(|| Error::new(ErrorKind::NotFound, "this server has no upstream"))
    }
}

impl ImageTransfer for Upstream {
    fn has_upstream(&self) -> bool {
        self.remote.is_some()
    }

    fn resolve(&self, alias: &str, image_type: ImageType, architecture: Architecture) -> Result<Option<Fingerprint>> {
        // Nobody is told what the upstream has beside it, and anybody may ask for names.
        let wanted = Wanted::new(alias).image_type(image_type).architectures([architecture]).suggest(false);
        match self.upstream()?.resolve(&wanted, &Monitor::none()) {
            // Whatever a server shows to us is public only where everybody sees it.
            Ok(found) => Ok(Some(found.fingerprint).filter(|_| found.public)),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Ambiguous) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn fetch(
        &self,
        fingerprint: &Fingerprint,
        alias: Option<&str>,
        store: &Store,
        monitor: &Monitor,
    ) -> Result<StoredImage> {
        let upstream = self.upstream()?;
        let found =
            upstream.resolve(&Wanted::new(fingerprint.to_string()).architectures([]).suggest(false), monitor)?;
        if !found.public {
            return Err(Error::new(ErrorKind::NotFound, "the upstream shows this image to nobody else"));
        }
        // Anybody may ask: one image must not fill more than all of them may.
        if found.size > self.limits.cache {
            let sentence = format!("the image {} is larger than the limit `cache`", found.fingerprint.short());
            return Err(Error::new(ErrorKind::LimitExceeded, sentence).with_hint("raise it with `--limit cache=BYTES`"));
        }
        let mut source = upstream.source().image_type(found.image_type);
        alias.unwrap_or_default().clone_into(&mut source.alias);
        let mut options = ImportOptions::new().public(true).cached(true).monitor(monitor.clone());
        // Its end comes along, unless it is over: what is served now must not go with the next tidying.
        if let Some(seconds) = found.expires_at.filter(|seconds| *seconds > jiff::Timestamp::now().as_second()) {
            options = options.expires_at(seconds);
        }
        // One that is here stays as it is, above all private.
        match store.image(&found.fingerprint) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                fetch(upstream, &found, store, &described(&found, source, options))
            }
            here => here,
        }
    }

    fn pull(&self, pull: &Pull, store: &Store, options: ImportOptions) -> Result<StoredImage> {
        self.pull_from(pull, store, options).map_err(|error| match &pull.secret {
            Some(secret) => error.without_secret(secret),
            None => error,
        })
    }

    fn refresh(&self, fingerprint: &Fingerprint, store: &Store, monitor: &Monitor) -> Result<Refreshed> {
        let (settings, client) = (self.settings.clone(), self.client.clone());
        let sources =
            RemoteRefresh::new(move |source| settings.open_source(source, client.clone())).monitor(monitor.clone());
        store.refresh(fingerprint, &sources, &RefreshOptions::new().monitor(monitor.clone()))
    }

    fn push(&self, target: &Push, fingerprint: &Fingerprint, store: &Store, monitor: &Monitor) -> Result<()> {
        let send = || {
            let server =
                self.with_secret(&target.url, target.certificate.as_deref().unwrap_or_default(), &target.secret)?;
            server.push(&store.open_image(fingerprint)?, monitor)
        };
        send().map_err(|error: Error| error.without_secret(&target.secret))
    }
}

impl Upstream {
    fn pull_from(&self, pull: &Pull, store: &Store, mut options: ImportOptions) -> Result<StoredImage> {
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
        let found = remote.resolve(&wanted, &options.monitored())?;
        // Clients of the peers write an alias also where a fingerprint belongs.
        if source.alias.is_empty()
            && !reference.parse::<Prefix>().is_ok_and(|prefix| prefix.matches(&found.fingerprint))
        {
            reference.clone_into(&mut source.alias);
        }
        // As between two LXDs: its end comes along, unless the client names another.
        if let Some(seconds) = found.expires_at.filter(|_| pull.expires_at.is_none()) {
            options = options.expires_at(seconds);
        }
        let options = described(&found, source.image_type(found.image_type), options.auto_update(pull.auto_update));
        // One that is here gets what was asked for, and nothing of it is read.
        match store.adopt(&found.fingerprint, &options) {
            Err(error) if error.kind() == ErrorKind::NotFound => fetch(&*remote, &found, store, &options),
            adopted => adopted,
        }
    }
}

/// The options of bringing an image that a remote has, with what the remote tells of it.
fn described(found: &StoredImage, source: UpdateSource, options: ImportOptions) -> ImportOptions {
    // A server of one of the peers tells all properties, those that were taken away left out.
    let exact = source.protocol.parse().is_ok_and(Protocol::is_rest);
    let mut options = options
        .expect(found.fingerprint)
        .image_type(found.image_type)
        .source(source)
        .source_properties(found.properties.clone())
        .exact_source_properties(exact);
    if let Some(name) = &found.file_name {
        options = options.source_file_name(&**name);
    }
    options
}
