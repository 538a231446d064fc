//! References on the command line: `NAME` for the local store, `REMOTE:NAME` for a remote, and how remotes are
//! connected.
//!
//! The colon decides, as in `lxc`: `debian/12` is an alias of the store, `images:debian/12` one of the remote
//! `images`, and `local:` is the store again. Remotes are read from the user's settings at each use; nothing is cached
//! in between.

use lxd_image::remote::{Lxd, Remote, Settings, Simplestreams, Url, Wanted};
use lxd_image::store::StoredImage;
use lxd_image::{ImageType, Monitor, Result};

use crate::options::Session;

/// What `[REMOTE:]REST` names. The parts borrow from the argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Location<'a> {
    /// An image or alias of the local store.
    Local(&'a str),
    /// A remote's name, and what is named there; empty for the remote itself.
    Remote(&'a str, &'a str),
}

impl<'a> Location<'a> {
    /// Splits a reference at its first colon. Aliases with a colon must therefore be written as `local:NAME`.
    pub(crate) fn of(text: &'a str) -> Self {
        match text.split_once(':') {
            None => Self::Local(text),
            Some(("local", rest)) => Self::Local(rest),
            Some((remote, rest)) => Self::Remote(remote, rest),
        }
    }
}

impl Session {
    /// The user's remotes.
    pub(crate) fn settings(&self) -> Result<Settings> {
        Ok(Settings::open(Settings::user_directory()?))
    }

    /// Connects to a remote of the settings, whatever its protocol.
    ///
    /// # Errors
    /// `NotFound` for an unknown name; those of reading the settings and the client certificate.
    pub(crate) fn remote(&self, name: &str) -> Result<Box<dyn Remote>> {
        self.settings()?.connect(name, self.client_options())
    }

    /// Connects to a remote by its name with a colon, to one repository of a registry (`NAME:REPOSITORY/`), or to a
    /// simplestreams server by its URL.
    ///
    /// A URL needs no entry in the settings; its certificate must then be signed by a system authority.
    ///
    /// # Errors
    /// `NotFound` for an unknown name; `InvalidInput` for a malformed URL, or plain HTTP that is not allowed.
    pub(crate) fn remote_or_address(&self, text: &str, allow_http: bool) -> Result<Box<dyn Remote>> {
        if !["https://", "http://", "file://"].iter().any(|scheme| text.starts_with(scheme)) {
            // Of a registry, one repository has a list of images.
            if let Some((name, repository)) = text.split_once(':').filter(|(_, repository)| !repository.is_empty())
                && let Some(registry) = self.registry(name)?
            {
                return Ok(Box::new(registry.within(repository)?));
            }
            return self.remote(text.strip_suffix(':').unwrap_or(text));
        }
        let url: Url = text.parse()?;
        let options = self.client_options().allow_http(allow_http);
        match self.settings() {
            Ok(settings) => settings.simplestreams_at(&url, options),
            // A service user without a home directory has no settings, so no keys either.
            Err(_) => Ok(Box::new(Simplestreams::new(options, &url)?)),
        }
    }

    /// Resolves a reference on a remote. Without an image type or architecture any image matches.
    ///
    /// Verbs that change or delete an image use this: they mean the image with this name, not the one that this
    /// machine could run. A server has only one image per name, so if there is no container the virtual machine is
    /// meant.
    ///
    /// # Errors
    /// `NotFound`, `Ambiguous`; those of the connection.
    pub(crate) fn find_on(
        &self,
        remote: &dyn Remote,
        reference: &str,
        image_type: Option<ImageType>,
        monitor: &Monitor,
    ) -> Result<StoredImage> {
        let other = |error: lxd_image::Error, wanted: Wanted| match image_type {
            // The user did not select a type, and the server has only one image with this name.
            None if error.kind() == lxd_image::ErrorKind::NotFound => {
                remote.resolve(&wanted.image_type(ImageType::VirtualMachine), monitor).map_err(|_| error)
            }
            _ => Err(error),
        };
        let wanted = Wanted::new(reference).architectures([]).image_type(image_type.unwrap_or(ImageType::Container));
        remote.resolve(&wanted, monitor).or_else(|error| other(error, wanted))
    }

    /// Connects to a remote that must be an LXD or Incus server, for operations that only these have.
    ///
    /// # Errors
    /// `Unsupported` for another protocol; otherwise those of [`remote`](Self::remote).
    pub(crate) fn lxd(&self, name: &str) -> Result<Lxd> {
        self.settings()?.connect_lxd(name, self.client_options())
    }
}
