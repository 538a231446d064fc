//! Registries of container images (OCI distribution 1.1, Docker's registry version 2), as remotes.
//!
//! ```text
//! OciRegistry ──repository──▶ OciRepository ──document, blob──▶ container image or image artifact
//!  (address, login)            (BlobSource, BlobSink)
//! ```
//!
//! A tag names a manifest by the manifest's digest, and the manifest names everything else by digest. So the transport
//! vouches only for what a tag means; every byte after that is checked against a digest, whoever sent it.
//!
//! - Requests go through [`Client`], with its limits, redirects and retries. Only `token.rs` adds to them: who asks.
//! - A registry's answer never leads an upload to another host, and a list of tags ends ([`Limits::registry_tags`]).
//! - Downloads resume by `Range`; uploads resume at the offset that the registry states.
//!
//! | file | holds |
//! |---|---|
//! | `credentials.rs`, `token.rs` | who asks |
//! | `repository.rs` | documents and blobs of one repository |
//! | `upload.rs` | blobs on their way to a registry |
//! | `images.rs`, `attached.rs`, `container.rs` | images: the remote itself, and the forms it reads |
//! | `push.rs` | images on their way to a registry |
//! | `tags.rs`, `referrers.rs` | lists |
//! | `prefetch.rs` | layers that are fetched before they are read |
//! | `pipe.rs` | a conversion that is read while it is written |
//! | `errors.rs` | refusals |
//!
//! [`Limits::registry_tags`]: crate::Limits::registry_tags

mod attached;
mod container;
mod credentials;
mod errors;
mod images;
mod pipe;
mod prefetch;
mod push;
mod referrers;
mod repository;
mod tags;
mod token;
mod upload;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use self::credentials::Found;
use self::token::{Authenticator, Scope};
use super::Protocol;
use super::http::{Client, ClientOptions, Request, Url};
use crate::error::{Error, Result};
use crate::oci::check_repository;
use crate::progress::Monitor;
use crate::store::UpdateSource;

pub use self::credentials::OciCredentials;
pub use self::push::{OciPushOptions, artifact_of};
pub use self::repository::OciRepository;
pub use crate::oci::OciReference;

/// Docker's registry, as people name it.
const DOCKER: &str = "docker.io";
/// The hosts by which people mean it.
const DOCKER_HOSTS: &[&str] = &[DOCKER, "www.docker.io", "index.docker.io", "registry-1.docker.io", "hub.docker.com"];
/// The base URL of its API.
const DOCKER_API: &str = "https://registry-1.docker.io/";
/// The namespace of repositories of Docker's registry without a slash.
const DOCKER_LIBRARY: &str = "library";

/// How to authenticate to a registry.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum OciLogin {
    /// Anonymously.
    #[default]
    Anonymous,
    /// With these credentials.
    Credentials(OciCredentials),
    /// As a file of docker or podman says, which must be there.
    File(PathBuf),
    /// As this user's files of podman, skopeo and docker say: `REGISTRY_AUTH_FILE`, `containers/auth.json`,
    /// `~/.docker/config.json`. Helper programs are not run.
    UserFiles,
}

/// A registry: a remote whose images are named `REPOSITORY[:TAG][@DIGEST]`. Cheap to clone.
///
/// ```no_run
/// use lxd_image::Monitor;
/// use lxd_image::remote::{ClientOptions, OciLogin, OciRegistry};
///
/// let registry = OciRegistry::new(ClientOptions::new(), &"https://docker.io".parse()?, &OciLogin::UserFiles)?;
/// for tag in registry.repository("alpine")?.tags(&Monitor::none())? {
///     println!("{tag}");
/// }
/// # Ok::<(), lxd_image::Error>(())
/// ```
#[derive(Clone)]
pub struct OciRegistry {
    inner: Arc<Inner>,
    /// In PEM, to be recorded with images; empty for none.
    certificate: String,
    /// The whole name of the repository whose images are listed.
    listed: Option<String>,
}

struct Inner {
    client: Client,
    /// As the user wrote it; recorded with images.
    url: Url,
    /// Where the interface is: scheme, host, port.
    base: Url,
    /// Whether this is Docker's registry, which has names of its own.
    is_docker: bool,
    /// The path of the URL, which stands before every repository.
    prefix: String,
    auth: Authenticator,
}

impl fmt::Debug for OciRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OciRegistry")
            .field("url", &self.inner.url)
            .field("auth", &self.inner.auth)
            .finish_non_exhaustive()
    }
}

impl OciRegistry {
    /// A client of the registry at this URL. Nothing is sent yet.
    ///
    /// A path in the URL stands before every repository: `https://registry.example/team`. `docker.io` is Docker's
    /// registry, where a repository without a slash is one of `library/`.
    ///
    /// # Errors
    /// Those of [`Client::new`]; `InvalidInput` for a file and for a path that is no repository; `NotFound`, `Io` and
    /// `Malformed` for the file of [`OciLogin::File`].
    pub fn new(options: ClientOptions, url: &Url, login: &OciLogin) -> Result<Self> {
        if url.host().is_empty() {
            return Err(Error::invalid(format!("{url} names a file, and a registry needs an http or https URL")));
        }
        let is_docker = DOCKER_HOSTS.contains(&url.host());
        let base = base_of(url)?;
        let prefix = url.path().trim_matches('/');
        let prefix =
            prefix.strip_prefix("v2").filter(|rest| rest.is_empty() || rest.starts_with('/')).unwrap_or(prefix);
        let prefix = prefix.trim_start_matches('/').to_owned();
        if !prefix.is_empty() {
            check_repository(&prefix)?;
        }
        let name = if is_docker { DOCKER } else { url.authority() };
        let (credentials, hint) = match login {
            OciLogin::Anonymous => (None, None),
            OciLogin::Credentials(credentials) => (Some(credentials.clone()), None),
            OciLogin::File(path) => found(credentials::in_file(path, name, &prefix)?),
            OciLogin::UserFiles => found(credentials::in_user_files(name, &prefix)?),
        };
        let hint = hint.unwrap_or_else(|| {
            format!("log in with `podman login {name}` or its like, or name a user with `remote add … --username`")
        });
        let auth = Authenticator::new(credentials, hint);
        let inner = Inner { client: Client::new(options)?, url: url.clone(), base, is_docker, prefix, auth };
        Ok(Self { inner: Arc::new(inner), certificate: String::new(), listed: None })
    }

    /// The registry's certificate in PEM, to be recorded with images that come from here.
    #[must_use]
    pub fn certificate(mut self, pem: impl Into<String>) -> Self {
        self.certificate = pem.into();
        self
    }

    /// Where the interface of the registry at a URL begins.
    pub(super) fn root(url: &Url) -> Result<Url> {
        base_of(url)?.join("/v2/")
    }

    /// Checks that a registry answers, and that it takes the credentials, if there are any.
    ///
    /// # Errors
    /// `Unsupported` where the server is no registry; `Remote` where it refuses the credentials; those of
    /// [`Client::send`].
    pub fn check(&self, monitor: &Monitor) -> Result<()> {
        let inner = &self.inner;
        let url = inner.base.join("/v2/")?;
        let answer = inner.client.options().retry.run(monitor, || {
            let request = Request::get(&url).monitor(monitor);
            if self.is_anonymous() {
                inner.client.send(request)
            } else {
                inner.auth.send(&inner.client, request, &Scope::none())
            }
        })?;
        // A request without credentials gets a 401 challenge, which names a realm for tokens or asks for a password.
        let is_registry = match answer.status() {
            200..=299 => true,
            401 => self.is_anonymous() && answer.header_values("www-authenticate").next().is_some(),
            _ => false,
        };
        if is_registry {
            return Ok(());
        }
        if answer.status() == 404 {
            let sentence = format!("{} is no registry: it has no `/v2/`", inner.base.authority());
            return Err(Error::unsupported(sentence).with_hint("is the address right, and the port?"));
        }
        Err(errors::failure(answer, "its interface"))
    }

    /// A repository of it, by the name that people write.
    ///
    /// # Errors
    /// `InvalidInput` for a name that can't be one.
    pub fn repository(&self, name: &str) -> Result<OciRepository> {
        check_repository(name)?;
        OciRepository::new(self.clone(), self.full_name(name)?)
    }

    /// The whole name of a repository in this registry.
    pub(super) fn full_name(&self, name: &str) -> Result<String> {
        let inner = &self.inner;
        let full = match (&*inner.prefix, name) {
            ("", name) if inner.is_docker && !name.contains('/') => format!("{DOCKER_LIBRARY}/{name}"),
            ("", name) => name.to_owned(),
            (prefix, name) => format!("{prefix}/{name}"),
        };
        check_repository(&full)?;
        Ok(full)
    }

    /// Whether requests are anonymous.
    #[must_use]
    pub fn is_anonymous(&self) -> bool {
        self.inner.auth.is_anonymous()
    }

    /// The source of images from here, without an alias.
    pub(super) fn update_source(&self) -> UpdateSource {
        let server = self.inner.url.to_wire();
        UpdateSource::new(server.trim_end_matches('/'), Protocol::Oci, "").certificate(&*self.certificate)
    }

    /// The registry as people name it.
    pub(super) fn host_name(&self) -> &str {
        if self.inner.is_docker { DOCKER } else { self.inner.url.authority() }
    }

    /// Whether this is Docker's registry.
    pub(super) fn is_docker(&self) -> bool {
        self.inner.is_docker
    }

    /// The transport.
    pub(super) fn client(&self) -> &Client {
        &self.inner.client
    }

    /// Resolves the path of an address of the interface.
    fn endpoint(&self, path: &str) -> Result<Url> {
        self.inner.base.join(&format!("/v2/{path}"))
    }
}

/// Scheme, host and port of the interface of the registry that a URL means.
fn base_of(url: &Url) -> Result<Url> {
    if DOCKER_HOSTS.contains(&url.host()) { DOCKER_API.parse() } else { url.join("/") }
}

/// What was found in files, and what to say where it is not enough.
fn found(found: Found) -> (Option<OciCredentials>, Option<String>) {
    match found {
        Found::Credentials(credentials) => (Some(credentials), None),
        Found::Helper(path) => {
            let path = path.display();
            (None, Some(format!("{path} leaves the password to a helper program, which is not run: use `--username`")))
        }
        Found::Nothing => (None, None),
    }
}
