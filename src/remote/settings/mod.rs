//! `Settings`: the remotes that a person knows by name, and who that person is to servers, in one directory.
//! The file is in `file`, the client's certificate in `identity`; connecting to what is named is here.

mod file;
mod first_use;
mod identity;

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use super::http::{Certificate, ClientOptions, Trust, Url};
use super::near::is_near;
use super::{Direct, Lxd, Remote, Simplestreams, open_source};
use crate::error::{Error, ErrorKind, Result};
use crate::store::UpdateSource;

pub use first_use::FirstUse;

/// How a remote is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Protocol {
    /// LXD's REST API.
    #[default]
    Lxd,
    /// Incus's, which is nearly the same.
    Incus,
    /// A tree of files with lists of what there is.
    Simplestreams,
}

impl Protocol {
    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Lxd => "lxd",
            Self::Incus => "incus",
            Self::Simplestreams => "simplestreams",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Protocol {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "lxd" => Ok(Self::Lxd),
            "incus" => Ok(Self::Incus),
            "simplestreams" => Ok(Self::Simplestreams),
            other => {
                let shown: String = other.chars().take(64).collect();
                Err(Error::invalid(format!("`{shown}` is no protocol of image servers"))
                    .with_hint("the protocols are lxd, incus and simplestreams"))
            }
        }
    }
}

/// A server that has a name here.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct KnownRemote {
    /// Its address; for simplestreams also a directory, as `file:///DIR`.
    pub url: Url,
    /// How it is spoken to.
    pub protocol: Protocol,
    /// Whether it is only asked for what anyone may see: it is not shown who asks.
    pub public: bool,
    /// The certificate that it must show, where no authority vouches for it.
    pub certificate: Option<Certificate>,
    /// Whether it is spoken to without TLS, though it is another machine.
    pub allow_http: bool,
}

impl KnownRemote {
    /// A server that authorities vouch for. One of simplestreams is public.
    #[must_use]
    pub fn new(url: Url, protocol: Protocol) -> Self {
        let public = protocol == Protocol::Simplestreams;
        Self { url, protocol, public, certificate: None, allow_http: false }
    }

    /// Whether it is only asked for what anyone may see.
    #[must_use]
    pub fn public(mut self, yes: bool) -> Self {
        self.public = yes;
        self
    }

    /// Pins the certificate that it must show from now on.
    #[must_use]
    pub fn certificate(mut self, certificate: Certificate) -> Self {
        self.certificate = Some(certificate);
        self
    }

    /// Whether it is spoken to without TLS, though it is another machine.
    #[must_use]
    pub fn allow_http(mut self, yes: bool) -> Self {
        self.allow_http = yes;
        self
    }

    /// The address that a person means: `https` where no scheme is given, and then LXD's port where
    /// no port is.
    ///
    /// # Errors
    /// `InvalidInput` for what is no address.
    pub fn address(text: &str, protocol: Protocol) -> Result<Url> {
        if text.contains("://") {
            return text.parse();
        }
        let url: Url = format!("https://{text}").parse()?;
        let (host, path) = text.split_once('/').unwrap_or((text, ""));
        let has_port = host.rsplit_once(':').is_some_and(|(_, port)| !port.contains(']'));
        if has_port || protocol == Protocol::Simplestreams {
            return Ok(url);
        }
        format!("https://{host}:8443/{path}").parse()
    }
}

/// A person's settings: remotes by name, and a certificate. Any number of processes may use and
/// change one directory.
///
/// ```no_run
/// use lxd_image::Monitor;
/// use lxd_image::remote::{ClientOptions, Settings, Wanted};
///
/// let settings = Settings::open(Settings::user_directory()?);
/// let ubuntu = settings.connect("ubuntu", ClientOptions::new())?;
/// println!("{}", ubuntu.resolve(&Wanted::new("24.04"), &Monitor::none())?.fingerprint);
/// # Ok::<(), lxd_image::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Settings {
    directory: PathBuf,
}

/// Names that stand for something else.
const RESERVED: &[&str] = &["local"];

impl Settings {
    /// The settings in a directory, which is made when something is written. Nothing is read yet.
    #[must_use]
    pub fn open(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into() }
    }

    /// Where the settings of this user are: `LXD_IMAGE_CONFIG`, else `lxd-image` in the XDG
    /// configuration directory.
    ///
    /// # Errors
    /// `InvalidInput` when the environment names neither, nor a home.
    pub fn user_directory() -> Result<PathBuf> {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        if let Some(own) = variable("LXD_IMAGE_CONFIG") {
            return Ok(own);
        }
        let absolute = |name| variable(name).filter(|path| path.is_absolute());
        let base = absolute("XDG_CONFIG_HOME").or_else(|| absolute("HOME").map(|home| home.join(".config")));
        base.map(|base| base.join("lxd-image")).ok_or_else(|| {
            Error::invalid("it is not known where the settings are").with_hint("name a directory in LXD_IMAGE_CONFIG")
        })
    }

    /// The directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// All remotes, sorted by name: the well-known public ones until they are changed, and those
    /// that were added.
    ///
    /// # Errors
    /// `Malformed` when the file can't be understood, `Io`.
    pub fn remotes(&self) -> Result<Vec<(String, KnownRemote)>> {
        Ok(self.read()?.into_iter().collect())
    }

    /// One remote by its name.
    ///
    /// # Errors
    /// `NotFound`, saying which there are; those of [`remotes`](Self::remotes).
    pub fn get(&self, name: &str) -> Result<KnownRemote> {
        let mut all = self.read()?;
        all.remove(name).ok_or_else(|| unknown(name, all.keys()))
    }

    /// Adds a remote.
    ///
    /// # Errors
    /// `AlreadyExists`; `InvalidInput` for a name with a colon, a slash, a blank or a control
    /// character, an empty one, and `local`; those of [`remotes`](Self::remotes).
    pub fn add(&self, name: &str, remote: KnownRemote) -> Result<()> {
        check_name(name)?;
        self.change(|all| {
            if all.contains_key(name) {
                return Err(taken(name));
            }
            all.insert(name.to_owned(), remote);
            Ok(())
        })
    }

    /// Forgets a remote. Images that came from there stay and know where they came from.
    ///
    /// # Errors
    /// `NotFound`; those of [`remotes`](Self::remotes).
    pub fn remove(&self, name: &str) -> Result<()> {
        self.change(|all| match all.remove(name) {
            Some(_) => Ok(()),
            None => Err(unknown(name, all.keys())),
        })
    }

    /// Gives a remote another name.
    ///
    /// # Errors
    /// `NotFound`, `AlreadyExists`; `InvalidInput` as for [`add`](Self::add); those of [`remotes`](Self::remotes).
    pub fn rename(&self, name: &str, new: &str) -> Result<()> {
        check_name(new)?;
        self.change(|all| {
            if name != new && all.contains_key(new) {
                return Err(taken(new));
            }
            let Some(remote) = all.remove(name) else { return Err(unknown(name, all.keys())) };
            all.insert(new.to_owned(), remote);
            Ok(())
        })
    }

    /// Says that a remote has moved. A certificate that was pinned still must be shown.
    ///
    /// # Errors
    /// `NotFound`; those of [`remotes`](Self::remotes).
    pub fn set_url(&self, name: &str, url: Url) -> Result<()> {
        self.change(|all| match all.get_mut(name) {
            Some(remote) => {
                remote.url = url;
                Ok(())
            }
            None => Err(unknown(name, all.keys())),
        })
    }

    /// The remote of this name, ready to be asked.
    ///
    /// # Errors
    /// Those of [`get`](Self::get), of [`identity`](Self::identity), and of making the remote.
    pub fn connect(&self, name: &str, options: ClientOptions) -> Result<Box<dyn Remote>> {
        let known = self.get(name)?;
        if known.protocol == Protocol::Simplestreams {
            return Ok(Box::new(self.simplestreams(&known, options)?));
        }
        Ok(Box::new(self.lxd(&known, options)?))
    }

    /// The LXD or Incus server of this name: for what only those can do.
    ///
    /// # Errors
    /// `Unsupported` for one of another kind; those of [`connect`](Self::connect).
    pub fn connect_lxd(&self, name: &str, options: ClientOptions) -> Result<Lxd> {
        let known = self.get(name)?;
        if known.protocol == Protocol::Simplestreams {
            return Err(Error::unsupported(format!(
                "the remote `{name}` is a tree of files that others serve, and no LXD or Incus server"
            )));
        }
        self.lxd(&known, options)
    }

    /// The LXD or Incus server that is described, as it would be connected to by name.
    ///
    /// # Errors
    /// Those of [`identity`](Self::identity) and [`Lxd::new`].
    pub fn lxd(&self, known: &KnownRemote, options: ClientOptions) -> Result<Lxd> {
        let mut options = believing(known, options);
        if !known.public {
            options = options.identity(self.identity()?);
        }
        Ok(Lxd::new(options, &known.url)?.protocol(known.protocol.name()).certificate(pem(known)))
    }

    fn simplestreams(&self, known: &KnownRemote, options: ClientOptions) -> Result<Simplestreams> {
        let remote = Simplestreams::new(believing(known, options), &known.url)?.certificate(pem(known));
        // Lists are kept only to be asked whether they changed: what people see is never old.
        Ok(remote.cache(self.directory.join("lists")).fresh_for(Duration::ZERO))
    }

    /// The remote that an image follows: as it is known here by a name, or else as the source says.
    ///
    /// # Errors
    /// Those of [`connect`](Self::connect) and of [`open_source`].
    pub fn open_source(&self, source: &UpdateSource, options: ClientOptions) -> Result<Box<dyn Remote>> {
        let address = source.server.trim_end_matches('/');
        let found = self.read()?.into_iter().find(|(_, known)| {
            known.protocol.name() == source.protocol
                && known.url.to_wire().trim_end_matches('/') == address
                && (source.certificate.is_empty() || pem(known) == source.certificate)
        });
        match found {
            Some((name, _)) => self.connect(&name, options),
            None => open_source(source, options),
        }
    }
}

impl Settings {
    /// What stands behind a URL for direct import. Where its server has a name here, it is believed by the certificate that was
    /// agreed on.
    ///
    /// # Errors
    /// Those of [`Direct::new`].
    pub fn direct(&self, url: Url, options: ClientOptions) -> Result<Direct> {
        let mut known = self.read()?.into_iter();
        match known.find(|(_, known)| known.certificate.is_some() && known.url.same_server(&url)) {
            Some((_, known)) => Ok(Direct::new(believing(&known, options), url)?.certificate(pem(&known))),
            None => Direct::new(options, url),
        }
    }
}

fn pem(known: &KnownRemote) -> String {
    known.certificate.as_ref().map(Certificate::to_pem).unwrap_or_default()
}

fn believing(known: &KnownRemote, mut options: ClientOptions) -> ClientOptions {
    if let Some(certificate) = &known.certificate {
        options = options.trust(Trust::Pinned(certificate.fingerprint()));
    }
    if known.allow_http { options.allow_http(true) } else { options }
}

fn check_name(name: &str) -> Result<()> {
    let wrong = name.is_empty()
        || name.len() > 100
        || RESERVED.contains(&name)
        || name.starts_with('-')
        || name.contains([':', '/'])
        || name.chars().any(|character| character.is_control() || character.is_whitespace());
    if !wrong {
        return Ok(());
    }
    let shown: String = name.chars().take(64).collect();
    Err(Error::invalid(format!("`{shown}` can't be the name of a remote"))
        .with_hint("it holds no colon, slash or blank, begins with no dash, and is not `local`"))
}

fn taken(name: &str) -> Error {
    Error::new(ErrorKind::AlreadyExists, format!("there is a remote `{name}` already"))
        .with_hint("`lxd-image remote set-url` moves it, `remote remove` forgets it")
}

fn unknown<'a>(name: &str, known: impl Iterator<Item = &'a String>) -> Error {
    let shown: String = name.chars().take(64).collect();
    let known: Vec<&str> = known.map(String::as_str).collect();
    let error = Error::new(ErrorKind::NotFound, format!("there is no remote `{shown}`"));
    let near: Vec<&str> = known.iter().copied().filter(|other| is_near(other, name)).collect();
    if near.is_empty() {
        return error.with_hint(format!("the remotes are {}; `remote add` adds one", known.join(", ")));
    }
    error.with_hint(format!("near it are: {}", near.join(", ")))
}
