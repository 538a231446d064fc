//! `OciRepository`: the documents and blobs of one repository of a registry.

use std::fmt;
use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError};

use super::prefetch::Prefetch;
use super::token::Scope;
use super::{OciRegistry, errors};
use crate::error::{Error, ErrorKind, Result};
use crate::limits::Limits;
use crate::oci::{BlobSource, Descriptor, Digest, RawDocument, Reference, media_type};
use crate::progress::Monitor;
use crate::remote::Download;
use crate::remote::download::Sender;
use crate::remote::http::{Method, Request, Response, Url};
use crate::store::Store;

/// The header with the digest of what an answer holds.
pub(super) const CONTENT_DIGEST: &str = "docker-content-digest";

/// One repository of a registry. Cheap to clone.
///
/// ```no_run
/// use lxd_image::oci::BlobSource;
/// use lxd_image::remote::{ClientOptions, OciLogin, OciRegistry};
/// use lxd_image::{Limits, Monitor};
///
/// let registry = OciRegistry::new(ClientOptions::new(), &"https://docker.io".parse()?, &OciLogin::Anonymous)?;
/// let alpine = registry.repository("library/alpine")?;
/// let manifest = alpine.document(&"3.20".parse()?, &Limits::default(), &Monitor::none())?;
/// println!("{}", manifest.descriptor.digest);
/// # Ok::<(), lxd_image::Error>(())
/// ```
#[derive(Clone)]
pub struct OciRepository(Arc<Inner>);

struct Inner {
    registry: OciRegistry,
    name: String,
    /// Blobs that are fetched ahead.
    prefetch: Mutex<Option<Prefetch>>,
    /// Where these are kept for other images.
    store: Option<Store>,
}

impl fmt::Debug for OciRepository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OciRepository").field("registry", self.registry()).field("name", &self.0.name).finish()
    }
}

impl OciRepository {
    /// The repository with this whole name.
    pub(super) fn new(registry: OciRegistry, name: String) -> Result<Self> {
        crate::oci::check_repository(&name)?;
        Ok(Self(Arc::new(Inner { registry, name, prefetch: Mutex::default(), store: None })))
    }

    /// The same repository, whose layers are taken from a store and kept there.
    pub(super) fn keeping_layers_in(&self, store: &Store) -> Self {
        let (registry, name) = (self.registry().clone(), self.name().to_owned());
        Self(Arc::new(Inner { registry, name, prefetch: Mutex::default(), store: Some(store.clone()) }))
    }

    /// Waits until everything that is fetched ahead was fetched and kept, or until the monitor is cancelled.
    ///
    /// # Errors
    /// `Cancelled`; what was not kept by then is gone.
    pub(super) fn finish_prefetch(&self, monitor: &Monitor) -> Result<()> {
        let running = self.0.prefetch.lock().unwrap_or_else(PoisonError::into_inner).take();
        running.map_or(Ok(()), |running| running.finish(monitor))
    }

    /// Its whole name in the registry.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The registry.
    #[must_use]
    pub fn registry(&self) -> &OciRegistry {
        &self.0.registry
    }

    /// The URL of something in this repository, like `tags/list`.
    pub(super) fn endpoint(&self, path: &str) -> Result<Url> {
        self.registry().endpoint(&format!("{}/{path}", self.name()))
    }

    /// Sends a request once, as who asks.
    pub(super) fn send(&self, request: Request<'_>, scope: &Scope) -> Result<Response> {
        let inner = &self.registry().inner;
        inner.auth.send(&inner.client, request, scope)
    }

    /// Sends a request that changes nothing, with retries, and returns the answer if it is a success.
    ///
    /// # Errors
    /// `NotFound` naming `what`; those of [`send`](Self::send).
    pub(super) fn ask(&self, request: &Request<'_>, what: &str, monitor: &Monitor) -> Result<Response> {
        let scope = Scope::pull(self.name());
        self.registry().client().options().retry.run(monitor, || {
            let request = request.again().ok_or_else(|| Error::invalid("a stream can't be sent again"))?;
            let answer = self.send(request, &scope)?;
            if (200..300).contains(&answer.status()) { Ok(answer) } else { Err(errors::failure(answer, what)) }
        })
    }

    /// What this repository calls a reference, for errors.
    pub(super) fn shown(&self, reference: &Reference) -> String {
        let separator = if matches!(reference, Reference::Digest(_)) { '@' } else { ':' };
        format!("{}{separator}{reference}", self.name())
    }

    /// The digest of the manifest that a reference names now, by a request for its head alone where the registry
    /// answers that.
    ///
    /// The digest is the registry's claim. Whoever fetches the manifest by it has it checked.
    ///
    /// # Errors
    /// `NotFound`; those of [`Client::send`](crate::remote::Client::send).
    pub fn digest_of(&self, reference: &Reference, monitor: &Monitor) -> Result<Digest> {
        if let Reference::Digest(digest) = reference {
            return Ok(*digest);
        }
        let url = self.endpoint(&format!("manifests/{reference}"))?;
        let request = Request::head(&url).header("accept", media_type::DOCUMENTS.join(", ")).monitor(monitor);
        let told = match self.ask(&request, &self.shown(reference), monitor) {
            Ok(answer) => answer.header(CONTENT_DIGEST).and_then(|text| text.parse().ok()),
            // Some registries have no HEAD for manifests.
            Err(error) if error.kind() == ErrorKind::Unsupported => None,
            Err(error) => return Err(error),
        };
        match told {
            Some(digest) => Ok(digest),
            None => {
                let limits = self.registry().client().limits().clone();
                Ok(self.document(reference, &limits, monitor)?.descriptor.digest)
            }
        }
    }

    /// Whether the registry has a blob of this digest and size here.
    ///
    /// # Errors
    /// `Mismatch` where the registry states another size; those of [`Client::send`](crate::remote::Client::send).
    pub(super) fn has(&self, descriptor: &Descriptor, scope: &Scope, monitor: &Monitor) -> Result<bool> {
        let url = self.endpoint(&format!("blobs/{}", descriptor.digest))?;
        let answer = self.registry().client().options().retry.run(monitor, || {
            let answer =
                self.send(Request::head(&url).header("accept-encoding", "identity").monitor(monitor), scope)?;
            match answer.status() {
                200..=299 | 404 => Ok(answer),
                _ => Err(errors::failure(answer, "a blob")),
            }
        })?;
        if answer.status() == 404 {
            return Ok(false);
        }
        match answer.length().filter(|length| *length != descriptor.size) {
            Some(length) => {
                let what = format!("the size of the blob {} on {}", descriptor.digest, url.authority());
                Err(Error::mismatch(&what, descriptor.size.to_string(), length.to_string()))
            }
            None => Ok(true),
        }
    }

    /// The download of a blob, which resumes, and whose end is checked where its digest is a SHA-256.
    pub(super) fn download(&self, descriptor: &Descriptor, monitor: &Monitor) -> Result<Download> {
        let url = self.endpoint(&format!("blobs/{}", descriptor.digest))?;
        let sender = Arc::new(BlobSender { repository: self.clone() });
        let download = Download::new(self.registry().client(), &url);
        let download = download.size(descriptor.size).sender(sender).immutable().monitor(monitor);
        Ok(match descriptor.digest.as_fingerprint() {
            Some(digest) => download.digest(digest),
            None => download,
        })
    }
}

/// Sends the requests of a download with a token, a new one where the first has expired.
struct BlobSender {
    repository: OciRepository,
}

impl fmt::Debug for BlobSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlobSender({})", self.repository.name())
    }
}

impl Sender for BlobSender {
    fn send(&self, request: Request<'_>) -> Result<Response> {
        let answer = self.repository.send(request, &Scope::pull(self.repository.name()))?;
        match answer.status() {
            200..=299 | 416 => Ok(answer),
            _ => Err(errors::failure(answer, "a blob")),
        }
    }
}

impl BlobSource for OciRepository {
    /// # Errors
    /// `NotFound`; `Mismatch` where the registry states another digest than the bytes have; `LimitExceeded` for
    /// `oci_document`; those of [`Client::send`](crate::remote::Client::send).
    fn document(&self, reference: &Reference, limits: &Limits, monitor: &Monitor) -> Result<RawDocument> {
        let url = self.endpoint(&format!("manifests/{reference}"))?;
        let request = Request::new(Method::Get, &url)
            .header("accept", media_type::DOCUMENTS.join(", "))
            .header("accept-encoding", "identity")
            .monitor(monitor);
        let answer = self.ask(&request, &self.shown(reference), monitor)?;
        let stated = answer.header("content-type").map(essence).filter(|text| text != "application/json");
        let told = answer.header(CONTENT_DIGEST).map(str::to_owned);
        let bytes = answer.contents("oci_document", limits.oci_document)?;
        let document = RawDocument::verified(bytes, reference, stated.as_deref(), limits)
            .map_err(|error| error.context(self.shown(reference)))?;
        // For a tag this is the only other thing that the registry says of the bytes. Text that is no digest says
        // nothing.
        if let Some(Ok(told)) = told.map(|text| text.parse::<Digest>())
            && told != document.descriptor.digest
        {
            RawDocument::verified(document.bytes.clone(), &told.into(), None, limits)
                .map_err(|error| error.context(self.shown(reference)))?;
        }
        Ok(document)
    }

    fn blob(&self, descriptor: &Descriptor, monitor: &Monitor) -> Result<Box<dyn Read + Send>> {
        let waiting = self.0.prefetch.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(ahead) = waiting.as_ref().and_then(|prefetch| prefetch.take(descriptor, monitor)) {
            return Ok(Box::new(ahead));
        }
        drop(waiting);
        Ok(Box::new(self.download(descriptor, monitor)?.ahead()))
    }

    /// Fetches the blobs into temporary files, several at once.
    fn prefetch(&self, descriptors: &[Descriptor], monitor: &Monitor) -> Result<()> {
        let started = Prefetch::start(self, descriptors, self.0.store.as_ref(), monitor)?;
        *self.0.prefetch.lock().unwrap_or_else(PoisonError::into_inner) = Some(started);
        Ok(())
    }
}

/// A media type without its parameters, in lower case.
pub(super) fn essence(header: &str) -> String {
    header.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}
