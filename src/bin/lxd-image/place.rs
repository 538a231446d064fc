//! Where a word on the command line points: into the local store, or to a remote by its name.
//! And the remotes behind such names.

use lxd_image::Result;
use lxd_image::remote::{Lxd, Remote, Settings, Simplestreams, Url};

use crate::options::Session;

/// What `[REMOTE:]REST` names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place<'a> {
    Local(&'a str),
    Remote(&'a str, &'a str),
}

impl<'a> Place<'a> {
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

    pub(crate) fn remote(&self, name: &str) -> Result<Box<dyn Remote>> {
        self.settings()?.connect(name, self.client_options())
    }

    /// A remote by its name with a colon, or a simplestreams server by its address.
    pub(crate) fn remote_or_address(&self, text: &str, allow_http: bool) -> Result<Box<dyn Remote>> {
        if !["https://", "http://", "file://"].iter().any(|scheme| text.starts_with(scheme)) {
            return self.remote(text.strip_suffix(':').unwrap_or(text));
        }
        let url: Url = text.parse()?;
        Ok(Box::new(Simplestreams::new(self.client_options().allow_http(allow_http), &url)?))
    }

    pub(crate) fn lxd(&self, name: &str) -> Result<Lxd> {
        self.settings()?.connect_lxd(name, self.client_options())
    }
}
