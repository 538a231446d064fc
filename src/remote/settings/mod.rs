//! `Settings`: the remotes that a user knows by name, and the user's client certificate, in one directory.
//!
//! | file | holds |
//! |---|---|
//! | `remotes.yaml` | the remotes (`file.rs`) |
//! | `client.crt`, `client.key` | the client certificate, created on first use (`identity.rs`) |
//! | `lists/` | cached lists of simplestreams servers |
//! | `signed/` | which signed lists of each remote were accepted last (`signed.rs`) |
//! | `lock` | held while either of the first two is written |
//!
//! Any number of processes may use a directory: files are replaced atomically, and changes are made under the lock.

mod file;
mod first_use;
mod identity;
mod signed;

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::http::{Certificate, ClientOptions, Trust, Url};
use super::similar::is_similar;
use super::{Direct, Lxd, OciCredentials, OciLogin, OciRegistry, Protocol, Remote, Simplestreams, open_source};
use crate::error::{Error, ErrorKind, Result};
use crate::store::UpdateSource;
use crate::trust::{ListKeys, Policy};

pub use first_use::FirstUse;

/// A remote that has a name in the settings.
///
/// ```
/// use lxd_image::remote::{KnownRemote, Protocol};
///
/// let url = KnownRemote::address("lxd.example", Protocol::Lxd)?;
/// assert_eq!(url.to_string(), "https://lxd.example:8443/");
/// let remote = KnownRemote::new(url, Protocol::Lxd).public(true);
/// # let _ = remote;
/// # Ok::<(), lxd_image::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct KnownRemote {
    /// Its URL; for simplestreams also a directory, as `file:///DIR`.
    pub url: Url,
    /// How the server is spoken to; never direct import, which has no list.
    pub protocol: Protocol,
    /// Whether only public images are used: the client certificate is not shown.
    pub public: bool,
    /// The certificate that it must show, if no authority vouches for it.
    pub certificate: Option<Certificate>,
    /// Whether plain http may be spoken with it, although it is another host.
    pub allow_http: bool,
    /// Who must sign its lists (simplestreams only); empty for nobody.
    pub keys: ListKeys,
    /// The user name for a registry, with [`password_file`](Self::password_file).
    pub username: Option<String>,
    /// The file that holds the password of that user. It is read at each use; the password itself is not kept here.
    pub password_file: Option<PathBuf>,
    /// The file of docker or podman that holds the credentials for a registry, instead of this user's own ones.
    pub auth_file: Option<PathBuf>,
}

impl KnownRemote {
    /// A server that authorities vouch for. A simplestreams server is public.
    #[must_use]
    pub fn new(url: Url, protocol: Protocol) -> Self {
        let public = protocol == Protocol::Simplestreams;
        Self {
            url,
            protocol,
            public,
            certificate: None,
            allow_http: false,
            keys: ListKeys::default(),
            username: None,
            password_file: None,
            auth_file: None,
        }
    }

    /// Sets whether only public images are used.
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

    /// Reads only lists that one of these keys signed, for a simplestreams server.
    #[must_use]
    pub fn keys(mut self, keys: ListKeys) -> Self {
        self.keys = keys;
        self
    }

    /// Sets whether plain http may be spoken with it.
    #[must_use]
    pub fn allow_http(mut self, yes: bool) -> Self {
        self.allow_http = yes;
        self
    }

    /// Sets the user and the file with the password for a registry.
    #[must_use]
    pub fn user(mut self, name: impl Into<String>, password_file: impl Into<PathBuf>) -> Self {
        self.username = Some(name.into());
        self.password_file = Some(password_file.into());
        self
    }

    /// Sets the file of docker or podman that holds the credentials for a registry.
    #[must_use]
    pub fn auth_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.auth_file = Some(path.into());
        self
    }

    /// As whom a registry is asked: the user of these settings, as the file says, or as this user's own files say; if it is public,
    /// as nobody in particular.
    ///
    /// # Errors
    /// Those of [`OciCredentials::password_file`].
    pub fn login(&self) -> Result<OciLogin> {
        match (&self.username, &self.password_file, &self.auth_file) {
            _ if self.public => Ok(OciLogin::Anonymous),
            (Some(user), Some(file), _) => Ok(OciLogin::Credentials(OciCredentials::password_file(user, file)?)),
            (_, _, Some(file)) => Ok(OciLogin::File(file.clone())),
            _ => Ok(OciLogin::UserFiles),
        }
    }

    /// Parses an address as a user writes it: `https` if it has no scheme, and then LXD's port, 8443, if it has no port.
    ///
    /// # Errors
    /// `InvalidInput` for an invalid URL.
    pub fn address(text: &str, protocol: Protocol) -> Result<Url> {
        if text.contains("://") {
            return text.parse();
        }
        let url: Url = format!("https://{text}").parse()?;
        let (host, path) = text.split_once('/').unwrap_or((text, ""));
        let has_port = host.rsplit_once(':').is_some_and(|(_, port)| !port.contains(']'));
        if has_port || matches!(protocol, Protocol::Simplestreams | Protocol::Oci) {
            return Ok(url);
        }
        format!("https://{host}:8443/{path}").parse()
    }
}

/// The settings of a user: remotes by name, and a client certificate. Any number of processes may use and change one directory.
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

/// Names that a remote can't have: `local` is the store.
const RESERVED: &[&str] = &["local"];

impl Settings {
    /// The settings in a directory, which is created when something is written. Nothing is read yet.
    #[must_use]
    pub fn open(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into() }
    }

    /// The settings directory of this user: `LXD_IMAGE_CONFIG`, else `lxd-image` in the XDG configuration directory.
    ///
    /// # Errors
    /// `InvalidInput` when the environment names neither, and no home directory.
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

    /// All remotes, sorted by name. Without a file these are the well-known public servers; the first change writes them into it.
    ///
    /// # Errors
    /// `Malformed` when the file can't be parsed, `Io`.
    pub fn remotes(&self) -> Result<Vec<(String, KnownRemote)>> {
        Ok(self.read()?.into_iter().collect())
    }

    /// The remote with this name.
    ///
    /// # Errors
    /// `NotFound`, with similar names as a hint; those of [`remotes`](Self::remotes).
    pub fn get(&self, name: &str) -> Result<KnownRemote> {
        let mut all = self.read()?;
        all.remove(name).ok_or_else(|| unknown(name, all.keys()))
    }

    /// The policy with addresses in place of names of remotes in its rules, which is how they are recorded with images.
    ///
    /// # Errors
    /// `InvalidInput` for a rule about a remote that is not there; those of [`remotes`](Self::remotes).
    pub fn resolve_policy(&self, policy: Policy) -> Result<Policy> {
        let all = self.read()?;
        policy.with_remotes(|name| all.get(name).map(|remote| remote.url.to_wire()))
    }

    /// Adds a remote.
    ///
    /// # Errors
    /// `AlreadyExists`; `InvalidInput` for keys of a remote of another protocol than simplestreams, for a name with a colon, a slash, a blank or a control
    /// character, an empty one, and `local`; those of [`remotes`](Self::remotes).
    pub fn add(&self, name: &str, remote: KnownRemote) -> Result<()> {
        check_name(name)?;
        // The file is read by older versions, too, and a remote without a list could not be used by its name.
        Protocol::of_server(remote.protocol.name())?;
        if !remote.keys.is_empty() && remote.protocol != Protocol::Simplestreams {
            return Err(keys_need_lists());
        }
        self.change(|all| {
            if all.contains_key(name) {
                return Err(taken(name));
            }
            // Of another remote that had this name, if its removal was interrupted.
            self.forget_record(name)?;
            all.insert(name.to_owned(), remote);
            Ok(())
        })
    }

    /// Removes a remote. Images that came from there stay, and keep their source.
    ///
    /// # Errors
    /// `NotFound`; those of [`remotes`](Self::remotes).
    pub fn remove(&self, name: &str) -> Result<()> {
        self.change(|all| match all.remove(name) {
            Some(_) => Ok(()),
            None => Err(unknown(name, all.keys())),
        })?;
        self.forget_record(name)
    }

    /// Renames a remote.
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
            if name != new {
                // Before the name changes, so that the record is there under both, whatever interrupts this.
                self.copy_record(name, new)?;
            }
            all.insert(new.to_owned(), remote);
            Ok(())
        })?;
        if name == new { Ok(()) } else { self.forget_record(name) }
    }

    /// Changes the URL of a remote. A pinned certificate and pinned keys stay pinned, and lists that are older than those of
    /// the former URL are refused.
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

    /// Changes who may sign the lists of a simplestreams server, in place of the keys that were pinned before, if any. Lists that
    /// are older than those that were accepted last are refused as before. Nothing is asked of the server.
    ///
    /// # Errors
    /// `NotFound`; `InvalidInput` for a remote of another protocol, and without a key: that would take the signatures off; those of
    /// [`remotes`](Self::remotes).
    pub fn set_keys(&self, name: &str, keys: ListKeys) -> Result<()> {
        if keys.is_empty() {
            return Err(Error::invalid("a remote keeps at least one key: without one its lists need no signature")
                .with_hint("`lxd-image remote remove` and `remote add` without `--key` do that on purpose"));
        }
        self.change(|all| match all.get_mut(name) {
            Some(remote) if remote.protocol != Protocol::Simplestreams => Err(keys_need_lists()),
            Some(remote) => {
                remote.keys = keys;
                Ok(())
            }
            None => Err(unknown(name, all.keys())),
        })
    }

    /// Connects to the remote with this name. Nothing is sent yet.
    ///
    /// # Errors
    /// Those of [`get`](Self::get), of [`identity`](Self::identity), and of making the remote.
    pub fn connect(&self, name: &str, options: ClientOptions) -> Result<Box<dyn Remote>> {
        let known = self.get(name)?;
        match known.protocol {
            Protocol::Simplestreams => Ok(Box::new(self.simplestreams(name, &known, options)?)),
            Protocol::Oci => Ok(Box::new(self.registry(&known, options)?)),
            _ => Ok(Box::new(self.lxd(&known, options)?)),
        }
    }

    /// Connects to the LXD or Incus server with this name, for uploads and changes.
    ///
    /// # Errors
    /// `Unsupported` for a remote of another protocol; those of [`connect`](Self::connect).
    pub fn connect_lxd(&self, name: &str, options: ClientOptions) -> Result<Lxd> {
        let known = self.get(name)?;
        if known.protocol == Protocol::Simplestreams {
            return Err(Error::unsupported(format!(
                "the remote `{name}` is a tree of files that others serve, and no LXD or Incus server"
            )));
        }
        if known.protocol == Protocol::Oci {
            return Err(Error::unsupported(format!("the remote `{name}` is a registry, and no LXD or Incus server")));
        }
        self.lxd(&known, options)
    }

    /// Connects to the registry with this name, for pushes and lists.
    ///
    /// # Errors
    /// `Unsupported` for a remote of another protocol; those of [`connect`](Self::connect).
    pub fn connect_registry(&self, name: &str, options: ClientOptions) -> Result<OciRegistry> {
        let known = self.get(name)?;
        if known.protocol != Protocol::Oci {
            return Err(Error::unsupported(format!("the remote `{name}` is no registry")));
        }
        self.registry(&known, options)
    }

    /// Connects to a registry as if it had a name here: with its credentials unless it is public, and pinned.
    ///
    /// # Errors
    /// Those of [`KnownRemote::login`] and [`OciRegistry::new`].
    pub fn registry(&self, known: &KnownRemote, options: ClientOptions) -> Result<OciRegistry> {
        let registry = OciRegistry::new(client_options_for(known, options), &known.url, &known.login()?)?;
        Ok(registry.certificate(pem(known)))
    }

    /// Connects to an LXD or Incus server as if it had a name here: with the client certificate unless it is public, and pinned.
    ///
    /// # Errors
    /// Those of [`identity`](Self::identity) and [`Lxd::new`].
    pub fn lxd(&self, known: &KnownRemote, options: ClientOptions) -> Result<Lxd> {
        let mut options = client_options_for(known, options);
        if !known.public {
            options = options.identity(self.identity()?);
        }
        Ok(Lxd::new(options, &known.url)?.protocol(known.protocol).certificate(pem(known)))
    }

    /// Connects to a simplestreams server, with its lists cached in the settings directory.
    fn simplestreams(&self, name: &str, known: &KnownRemote, options: ClientOptions) -> Result<Simplestreams> {
        let mut remote = Simplestreams::new(client_options_for(known, options), &known.url)?.certificate(pem(known));
        if !known.keys.is_empty() {
            remote = remote.keys(known.keys.clone()).record_file(self.record_of(name));
        }
        // Revalidated each time: the cache saves the transfer, and users never see an outdated list.
        Ok(remote.cache_dir(self.directory.join("lists")).max_age(Duration::ZERO))
    }

    /// Connects to the remote that an image follows. If it has a name here, its settings (client certificate, pin, plain http) are
    /// used; otherwise only what the source says. Of several names for one server one with keys wins, so that no other name
    /// of it takes the signatures off.
    ///
    /// # Errors
    /// Those of [`connect`](Self::connect) and of [`open_source`].
    pub fn open_source(&self, source: &UpdateSource, options: ClientOptions) -> Result<Box<dyn Remote>> {
        let address = source.server.trim_end_matches('/');
        let mut remotes = self.read()?;
        remotes.retain(|_, known| {
            known.protocol.name() == source.protocol && known.url.to_wire().trim_end_matches('/') == address
        });
        let pinned = |known: &KnownRemote| source.certificate.is_empty() || pem(known) == source.certificate;
        let signed = remotes.iter().find(|(_, known)| !known.keys.is_empty());
        match signed.or_else(|| remotes.iter().find(|(_, known)| pinned(known))) {
            Some((name, _)) => self.connect(name, options),
            None => open_source(source, options),
        }
    }
}

impl Settings {
    /// Connects to a direct-import URL. If its server has a name and a pinned certificate here, that pin is used.
    ///
    /// # Errors
    /// Those of [`Direct::new`].
    pub fn direct(&self, url: Url, options: ClientOptions) -> Result<Direct> {
        let mut known = self.read()?.into_iter();
        match known.find(|(_, known)| known.certificate.is_some() && known.url.same_server(&url)) {
            Some((_, known)) => Ok(Direct::new(client_options_for(&known, options), url)?.certificate(pem(&known))),
            None => Direct::new(options, url),
        }
    }
}

/// The pinned certificate as it is recorded in a source; empty without one.
fn pem(known: &KnownRemote) -> String {
    known.certificate.as_ref().map(Certificate::to_pem).unwrap_or_default()
}

/// The client options for a remote: its pin and whether plain http is allowed.
fn client_options_for(known: &KnownRemote, mut options: ClientOptions) -> ClientOptions {
    if let Some(certificate) = &known.certificate {
        options = options.trust(Trust::Pinned(certificate.fingerprint()));
    }
    if known.allow_http { options.allow_http(true) } else { options }
}

/// Refuses names that could not be written as `NAME:IMAGE` on the command line.
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

/// The error for keys of a remote of another protocol than simplestreams.
fn keys_need_lists() -> Error {
    Error::invalid("keys are for simplestreams servers: the others have no lists that are signed")
}

/// The error for a name that is in use.
fn taken(name: &str) -> Error {
    Error::new(ErrorKind::AlreadyExists, format!("there is a remote `{name}` already"))
        .with_hint("`lxd-image remote set-url` moves it, `remote remove` forgets it")
}

/// The error for a name that is not in use, with similar names or all names as a hint.
fn unknown<'a>(name: &str, known: impl Iterator<Item = &'a String>) -> Error {
    let shown: String = name.chars().take(64).collect();
    let known: Vec<&str> = known.map(String::as_str).collect();
    let error = Error::new(ErrorKind::NotFound, format!("there is no remote `{shown}`"));
    let near: Vec<&str> = known.iter().copied().filter(|other| is_similar(other, name)).collect();
    if near.is_empty() {
        return error.with_hint(format!("the remotes are {}; `remote add` adds one", known.join(", ")));
    }
    error.with_hint(format!("similar names: {}", near.join(", ")))
}
