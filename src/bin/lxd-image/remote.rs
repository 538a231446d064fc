//! `remote add|list|show|remove|rename|set-url|set-key|accept-older`: named remotes in the user's settings.
//!
//! `add` connects once and decides trust on first use: a certificate that a system authority signed is accepted; any
//! other is shown to the user, or pinned at once with `--accept-certificate`, and refused where nobody can be asked.
//! From then on only the pinned certificate is accepted. With `--password` this client's certificate is added to the
//! server's trusted clients (LXD's trust password, or a token as LXD 5 and Incus create them).

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use lxd_image::remote::{Certificate, FirstUse, KnownRemote, Protocol};
use lxd_image::{Error, ErrorKind, Monitor, Result};
use serde_json::{Map, Value};

use crate::failure::Failure;
use crate::options::Session;
use crate::output::{self, Records};
use crate::remote_keys;
use crate::signals::{self, or_cancelled};

/// Manage remotes: image servers by name
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Add a remote
    Add(Add),
    /// List remotes
    #[command(visible_alias = "ls")]
    List,
    /// Show a remote: its keys, who signed its last list and how old that is
    Show {
        /// The remote
        name: String,
    },
    /// Accept the signed lists of a remote as they are now, even if newer ones were accepted before
    AcceptOlder {
        /// The remote
        name: String,
    },
    /// Remove a remote; images that came from it stay
    #[command(visible_alias = "rm")]
    Remove {
        /// The remote
        name: String,
    },
    /// Rename a remote
    #[command(visible_alias = "mv")]
    Rename {
        /// The remote
        name: String,
        /// Its new name
        new: String,
    },
    /// Change the URL of a remote
    SetUrl {
        /// The remote
        name: String,
        /// Its new address
        url: String,
    },
    /// Change the keys that sign the lists of a remote; which lists were accepted last stays known
    SetKey {
        /// The remote
        name: String,
        /// Files with public keys (OpenPGP or minisign), in place of the present ones
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Keep the present keys, too
        #[arg(long)]
        add: bool,
    },
}

#[derive(Args)]
struct Add {
    /// The name
    name: String,
    /// The address, like https://host:8443
    url: String,
    /// The protocol: lxd, incus, simplestreams or oci (a registry)
    #[arg(long, default_value = "lxd", value_parser = Protocol::of_server)]
    protocol: Protocol,
    /// Use only public images, and send no client certificate
    #[arg(long)]
    public: bool,
    /// Trust and pin the certificate that the server presents now
    #[arg(long, conflicts_with = "certificate")]
    accept_certificate: bool,
    /// A PEM file with the certificate that the server must present
    #[arg(long, value_name = "FILE")]
    certificate: Option<PathBuf>,
    /// A file with public keys (OpenPGP or minisign): only lists that one of them signed are read, by every verb
    /// (repeatable; simplestreams only)
    #[arg(long, value_name = "FILE")]
    key: Vec<PathBuf>,
    /// The server's trust password, or a trust token of its owner, to add this client to its trusted clients
    #[arg(long, value_name = "TEXT", conflicts_with = "public")]
    password: Option<String>,
    /// The user name for a registry
    #[arg(long, value_name = "NAME", requires = "password_file", conflicts_with = "public")]
    username: Option<String>,
    /// The file with the password of that user, which is read at each use
    #[arg(long, value_name = "FILE", requires = "username")]
    password_file: Option<PathBuf>,
    /// The file of docker or podman with the credentials for a registry (default: those of this user, where podman,
    /// skopeo and docker look)
    #[arg(long, value_name = "FILE", conflicts_with_all = ["username", "public"])]
    auth_file: Option<PathBuf>,
    /// Allow plain HTTP to this remote, although it is another machine
    #[arg(long)]
    allow_http: bool,
}

/// Runs the selected verb. Changes of the settings are atomic and durable.
///
/// # Errors
/// `AlreadyExists` and `NotFound` for names; those of connecting to a server that is added.
pub(crate) fn run(arguments: &Arguments, session: &Session) -> Result<(), Failure> {
    let settings = session.settings()?;
    match &arguments.verb {
        Verb::Add(add) => Ok(add.run(session)?),
        Verb::List => Ok(list(session)?),
        Verb::Show { name } => Ok(remote_keys::show(name, session)?),
        Verb::AcceptOlder { name } => Ok(remote_keys::accept_older(name, session)?),
        Verb::SetKey { name, files, add } => Ok(remote_keys::set(name, files, *add, session)?),
        Verb::Remove { name } => Ok(remove(name, session)?),
        Verb::Rename { name, new } => Ok(settings.rename(name, new)?),
        Verb::SetUrl { name, url } => {
            let known = settings.get(name)?;
            Ok(settings.set_url(name, KnownRemote::address(url, known.protocol)?)?)
        }
    }
}

/// Removes a remote.
///
/// Images that follow a remote with keys are refreshed by its URL from now on, and nothing demands signatures then: the
/// user is told.
fn remove(name: &str, session: &Session) -> Result<()> {
    let settings = session.settings()?;
    let signed = settings.get(name).is_ok_and(|known| !known.keys.is_empty());
    settings.remove(name)?;
    if signed {
        session.note(|| {
            format!(
                "Its keys are gone, too: images that came from `{name}` are refreshed from lists without signatures."
            )
        });
    }
    Ok(())
}

/// Prints the remotes of the settings. The fingerprint of a pinned certificate is only in formats for programs,
/// because it makes the table too wide.
fn list(session: &Session) -> Result<()> {
    let rows = session
        .settings()?
        .remotes()?
        .into_iter()
        .map(|(name, remote)| {
            let pin = remote.certificate.map(|certificate| Value::String(certificate.fingerprint().to_string()));
            let mut row = Map::new();
            row.insert("name".to_owned(), Value::String(name));
            row.insert("url".to_owned(), Value::String(remote.url.to_string()));
            row.insert("protocol".to_owned(), Value::String(remote.protocol.to_string()));
            row.insert("public".to_owned(), Value::Bool(remote.public));
            row.insert("certificate".to_owned(), pin.unwrap_or(Value::Null));
            row.insert("signed".to_owned(), Value::Bool(!remote.keys.is_empty()));
            // Only a registry has them; the password itself is nowhere in the settings.
            if remote.protocol == Protocol::Oci {
                let path = |path: Option<PathBuf>| path.map(|path| path.display().to_string());
                row.insert("username".to_owned(), Value::from(remote.username));
                row.insert("password_file".to_owned(), Value::from(path(remote.password_file)));
                row.insert("auth_file".to_owned(), Value::from(path(remote.auth_file)));
            }
            row
        })
        .collect();
    output::show(Records::Many(&["name", "url", "protocol", "public"], rows), &session.format)
}

/// A path that means the same file wherever this program runs from. The settings are text.
fn absolute(path: &Path) -> Result<PathBuf> {
    let failed = |error| Error::new(ErrorKind::Io, "the path of the file can't be made out").with_source(error);
    let path = std::path::absolute(path).map_err(failed)?;
    if path.to_str().is_none() {
        return Err(Error::new(ErrorKind::InvalidInput, "the name of the file is not UTF-8, so that it can't be kept"));
    }
    Ok(path)
}

impl Add {
    /// Connects to the server, decides on its certificate, and stores the remote.
    ///
    /// A name that is taken is refused before any connection, by the same call that would add it.
    fn run(&self, session: &Session) -> Result<()> {
        if self.password.is_some() && self.protocol == Protocol::Simplestreams {
            let sentence = "`--password` is for LXD and Incus: a simplestreams server has no list of trusted clients";
            return Err(Error::new(ErrorKind::InvalidInput, sentence));
        }
        if !self.key.is_empty() && self.protocol != Protocol::Simplestreams {
            let sentence = "`--key` is for simplestreams: other servers have no lists that are signed";
            return Err(Error::new(ErrorKind::InvalidInput, sentence));
        }
        if self.password.is_some() && self.protocol == Protocol::Oci {
            let sentence = "`--password` is for LXD and Incus";
            return Err(Error::new(ErrorKind::InvalidInput, sentence)
                .with_hint("a registry takes `--username` with `--password-file`, or `--auth-file`"));
        }
        if self.protocol != Protocol::Oci && (self.username.is_some() || self.auth_file.is_some()) {
            let sentence = "`--username` and `--auth-file` are for registries";
            return Err(Error::new(ErrorKind::InvalidInput, sentence).with_hint("give `--protocol oci`"));
        }
        let settings = session.settings()?;
        if settings.remotes()?.iter().any(|(name, _)| *name == self.name) {
            return settings.add(&self.name, KnownRemote::new(self.address()?, self.protocol));
        }
        let mut known = KnownRemote::new(self.address()?, self.protocol).allow_http(self.allow_http);
        if self.public {
            known = known.public(true);
        }
        if let (Some(user), Some(file)) = (&self.username, &self.password_file) {
            known = known.user(&**user, absolute(file)?);
        }
        if let Some(file) = &self.auth_file {
            known = known.auth_file(absolute(file)?);
        }
        if let Some(file) = &self.certificate {
            let pem = signals::read_text(file).map_err(|error| {
                let missing = error.kind() == std::io::ErrorKind::NotFound;
                let kind = if missing { ErrorKind::NotFound } else { ErrorKind::Io };
                or_cancelled(error, |error| {
                    Error::new(kind, "the certificate can't be read").with_source(error).in_file(file)
                })
            })?;
            known = known.certificate(Certificate::from_pem(&pem).map_err(|error| error.in_file(file))?);
        }
        known = known.keys(remote_keys::read(&self.key, &session.limits)?);
        let (monitor, shown) = session.monitor();
        let seen = known.first_use(&session.client_options(), &monitor);
        drop(shown);
        if let FirstUse::Unknown(certificate) = seen? {
            self.accept(&certificate, session)?;
            known = known.certificate(certificate);
            // Connect again with the pinned certificate: a remote that does not work must not be stored.
            known.first_use(&session.client_options(), &monitor)?;
        }
        if !known.keys.is_empty() {
            // A remote whose lists these keys did not sign could not be used.
            settings.check_lists(&known, session.client_options(), &monitor)?;
        }
        if self.protocol == Protocol::Oci {
            let (monitor, shown) = session.monitor();
            let checked = settings.registry(&known, session.client_options()).and_then(|it| it.check(&monitor));
            drop(shown);
            checked?;
        } else if self.protocol != Protocol::Simplestreams {
            known = self.greet(known, session, &monitor)?;
        }
        settings.add(&self.name, known)
    }

    /// The URL, completed for the protocol (scheme and port).
    fn address(&self) -> Result<lxd_image::remote::Url> {
        KnownRemote::address(&self.url, self.protocol)
    }

    /// Decides on a certificate that no authority signed: pins it with `--accept-certificate`, else asks the user.
    ///
    /// # Errors
    /// `Remote` with the fingerprint if it is refused, or if standard input is not a terminal; `Cancelled`.
    fn accept(&self, certificate: &Certificate, session: &Session) -> Result<()> {
        let fingerprint = certificate.fingerprint();
        if self.accept_certificate {
            session.note(|| format!("The server's certificate {fingerprint} is pinned."));
            return Ok(());
        }
        let refused = || {
            let sentence = format!("the server's certificate {fingerprint} is not signed by a trusted authority");
            Error::new(ErrorKind::Remote, sentence)
                .with_hint("if that is what the server's owner says it is, give `--accept-certificate`")
        };
        if !std::io::stdin().is_terminal() {
            return Err(refused());
        }
        eprint!("Certificate fingerprint: {fingerprint}\nTrust this certificate? (y/n) ");
        let _ = std::io::stderr().flush();
        let answer = signals::answer().map_err(|error| {
            or_cancelled(error, |error| Error::new(ErrorKind::Io, "the answer can't be read").with_source(error))
        })?;
        let answer = answer.unwrap_or_default();
        if matches!(answer.trim().to_lowercase().as_str(), "y" | "yes") { Ok(()) } else { Err(refused()) }
    }

    /// Checks that an LXD or Incus server answers, and whether it trusts this client; adds this client with
    /// `--password`.
    ///
    /// A server that does not trust the client but serves public images is stored as a public remote.
    fn greet(&self, known: KnownRemote, session: &Session, monitor: &Monitor) -> Result<KnownRemote> {
        let settings = session.settings()?;
        let server = settings.lxd(&known, session.client_options())?;
        let mut about = server.server(monitor)?;
        if let Some(password) = self.password.as_deref().filter(|_| about.auth != "trusted") {
            let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
            server.ask_for_trust(password, &name, monitor)?;
            about = server.server(monitor)?;
        }
        if known.public || about.auth == "trusted" {
            return Ok(known);
        }
        if about.public {
            return Ok(known.public(true));
        }
        session.note(|| {
            format!(
                "The server does not trust this client: only public images are seen. Its owner can trust {}",
                settings.certificate_file().display()
            )
        });
        Ok(known)
    }
}
