//! `remote add|list|remove|rename|set-url`: the servers that have names here.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;

use clap::{Args, Subcommand};
use lxd_image::remote::{Certificate, FirstUse, KnownRemote, Protocol};
use lxd_image::{Error, ErrorKind, Monitor, Result};
use serde_json::{Map, Value};

use crate::failure::Failure;
use crate::options::Session;
use crate::output::{self, Facts};
use crate::signals::{self, or_cancelled};

/// Manage remotes: image servers by name
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Give a server a name
    Add(Add),
    /// List remotes
    #[command(visible_alias = "ls")]
    List,
    /// Forget a remote; images that came from there stay
    #[command(visible_alias = "rm")]
    Remove {
        /// The remote
        name: String,
    },
    /// Give a remote another name
    #[command(visible_alias = "mv")]
    Rename {
        /// The remote
        name: String,
        /// Its new name
        new: String,
    },
    /// Say that a remote has moved
    SetUrl {
        /// The remote
        name: String,
        /// Its new address
        url: String,
    },
}

#[derive(Args)]
struct Add {
    /// The name
    name: String,
    /// The address, like https://host:8443
    url: String,
    /// How it is spoken to: lxd, incus or simplestreams
    #[arg(long, default_value = "lxd", value_parser = Protocol::of_server)]
    protocol: Protocol,
    /// Ask only for what anyone may see, and don't show who asks
    #[arg(long)]
    public: bool,
    /// Trust the certificate that it shows now, and pin it
    #[arg(long, conflicts_with = "certificate")]
    accept_certificate: bool,
    /// A file with the certificate that it must show, in PEM
    #[arg(long, value_name = "FILE")]
    certificate: Option<PathBuf>,
    /// The server's trust password, or a token that its owner made, to be trusted by it
    #[arg(long, value_name = "TEXT", conflicts_with = "public")]
    password: Option<String>,
    /// Speak plain http with it, though it is another machine
    #[arg(long)]
    allow_http: bool,
}

pub(crate) fn run(arguments: &Arguments, session: &Session) -> Result<(), Failure> {
    let settings = session.settings()?;
    match &arguments.verb {
        Verb::Add(add) => Ok(add.run(session)?),
        Verb::List => Ok(list(session)?),
        Verb::Remove { name } => Ok(settings.remove(name)?),
        Verb::Rename { name, new } => Ok(settings.rename(name, new)?),
        Verb::SetUrl { name, url } => {
            let known = settings.get(name)?;
            Ok(settings.set_url(name, KnownRemote::address(url, known.protocol)?)?)
        }
    }
}

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
            row
        })
        .collect();
    output::show(Facts::Many(&["name", "url", "protocol", "public"], rows), &session.format)
}

impl Add {
    fn run(&self, session: &Session) -> Result<()> {
        if self.password.is_some() && self.protocol == Protocol::Simplestreams {
            let sentence = "`--password` is for LXD and Incus: a simplestreams server trusts nobody in particular";
            return Err(Error::new(ErrorKind::InvalidInput, sentence));
        }
        let settings = session.settings()?;
        if settings.remotes()?.iter().any(|(name, _)| *name == self.name) {
            return settings.add(&self.name, KnownRemote::new(self.address()?, self.protocol));
        }
        let mut known = KnownRemote::new(self.address()?, self.protocol).allow_http(self.allow_http);
        if self.public {
            known = known.public(true);
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
        let (monitor, shown) = session.monitor();
        let seen = known.first_use(&session.client_options(), &monitor);
        drop(shown);
        if let FirstUse::Unknown(certificate) = seen? {
            self.accept(&certificate, session)?;
            known = known.certificate(certificate);
            // What is accepted now must work from now on.
            known.first_use(&session.client_options(), &monitor)?;
        }
        if self.protocol != Protocol::Simplestreams {
            known = self.greet(known, session, &monitor)?;
        }
        settings.add(&self.name, known)
    }

    fn address(&self) -> Result<lxd_image::remote::Url> {
        KnownRemote::address(&self.url, self.protocol)
    }

    /// Whether a person believes a certificate that no authority vouches for.
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

    /// Looks whether an LXD or Incus is there, and whether it trusts this client.
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
