//! `serve`: serves the store over HTTPS to LXD, Incus, simplestreams tools, direct imports and browsers.
//!
//! The order of the start is deliberate. Sockets, certificate, key and settings may need rights that the service user
//! does not have, so they are opened first; then `--user` drops these rights; only then the store is opened, so that
//! every file in it belongs to the service user. systemd socket activation and readiness notification are supported:
//! with `Type=notify` the unit is ready once the sockets accept connections.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::num::NonZeroUsize;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixDatagram};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use lxd_image::server::{
    Handler, Listener, ListenerOptions, Redirect, ServerCertificate, ServerOptions, TrustedClients,
};
use lxd_image::store::Store;
use lxd_image::transfer::RemoteTransfer;
use lxd_image::{Error, ErrorKind, Result};
use nix::unistd::{User, setgid, setgroups, setuid};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::failure::Failure;
use crate::options::Session;
use crate::output;
use crate::policy::PolicyArgument;
use crate::signing::SigningKeys;
use crate::store::is_url;

/// Open files to ask for: one socket per connection and two files for each of its four requests, plus a reserve.
const WANTED_DESCRIPTORS: u64 = 16_384;

/// Serve the store's public images, and to trusted clients the whole store
#[derive(Args)]
pub(crate) struct Arguments {
    /// The address to listen on (default: [::]:8443, or the sockets from systemd); http://ADDR:PORT is plain HTTP
    #[arg(long, value_name = "[http://]ADDR:PORT")]
    listen: Vec<String>,
    /// The server certificate, PEM (default: one that is generated at the first start and kept)
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// Its key, PEM
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// The name of the server on its web pages
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// The URL of the server for clients, if it differs from the host that they request
    #[arg(long, value_name = "URL")]
    base_url: Option<String>,
    /// Certificates of clients that may see and change everything: a file, or a directory with *.crt and *.pem
    #[arg(long, value_name = "FILE|DIR")]
    trust: Option<PathBuf>,
    /// A remote from which images that clients request and the store lacks are fetched and cached; images unused for
    /// ten days are evicted, and the least recently used ones beyond --limit cache=BYTES. Of a registry, the alias
    /// `debian/12` is the tag `12` of the repository `debian`
    #[arg(long, value_name = "REMOTE:")]
    upstream: Option<String>,
    /// Redirect downloads to presigned addresses of the object storage, or to a CDN before it; clients that would not
    /// follow are served as without
    #[arg(long, value_name = "CDN-URL", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    redirect: Option<String>,
    #[command(flatten)]
    signing: SigningKeys,
    /// Allow plain HTTP to other machines, where --listen says http://
    #[arg(long)]
    allow_http: bool,
    /// Switch to this user as soon as sockets and key are open
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    #[command(flatten)]
    policy: PolicyArgument,
}

/// Serves until a signal; then stops accepting, lets running requests end, and returns.
///
/// # Errors
/// Those of the start: sockets, certificate, settings, user, store. Errors of single requests go to the log.
pub(crate) fn run(arguments: &Arguments, session: &Session) -> Result<(), Failure> {
    arguments.policy.apply(session);
    raise_descriptors();
    let sockets = sockets(arguments)?;
    let certificate = certificate(arguments, session)?;
    let signers = arguments.signing.signers(session)?;
    // Before the switch of the user: settings and key may be readable by the first one only.
    let upstream = match (session.settings(), arguments.upstream.as_deref()) {
        (Ok(settings), name) => {
            Some(RemoteTransfer::new(settings, name, session.client_options(), session.limits.clone())?)
        }
        (Err(error), Some(_)) => return Err(error.into()),
        // A service user without a home directory has no settings; it serves without transfers.
        (Err(_), None) => None,
    };
    if let Some(name) = &arguments.user {
        become_user(name)?;
    }
    let store = store(session).map_err(|error| match &arguments.user {
        Some(name) => error.with_hint(format!("the store must belong to the user `{name}`, who serves it")),
        None => error,
    })?;
    let mut options = ServerOptions::new().limits(session.limits.clone());
    if let Some(upstream) = upstream {
        options = options.image_transfer(upstream);
    }
    for signer in signers {
        options = options.sign_with(signer);
    }
    if let Some(name) = &arguments.name {
        options = options.name(name);
    }
    if let Some(url) = &arguments.base_url {
        options = options.base_url(url);
    }
    if let Some(url) = &arguments.redirect {
        options = options.redirect(redirect(url, &store)?);
    }
    let mut listening = ListenerOptions::new().certificate(certificate).limits(session.limits.clone());
    if let Some(path) = &arguments.trust {
        listening = listening.trusted(TrustedClients::at(path)?);
    }
    if let Some(threads) = session.threads.and_then(NonZeroUsize::new) {
        listening = listening.threads(threads);
    }
    if !session.quiet {
        listening = listening.log(io::stderr());
    }
    let mut listener = Listener::new(Arc::new(Handler::new(store, options)), listening)?;
    for (socket, tls) in sockets {
        if tls { listener.listen(socket)? } else { listener.listen_plain(socket)? }
    }
    announce(&listener)?;
    notify("READY=1");
    let served = listener.run(&session.cancel());
    notify("STOPPING=1");
    Ok(served?)
}

/// Where `--redirect` sends clients: to `url`, or to presigned addresses if that is empty.
///
/// # Errors
/// `InvalidInput` for anything but an http or https URL, and without one for a store that has no presigned addresses.
fn redirect(url: &str, store: &Store) -> Result<Redirect> {
    if url.is_empty() {
        if !store.has_presigned_links()? {
            return Err(Error::new(ErrorKind::InvalidInput, "`--redirect` needs a store in object storage")
                .with_hint("for a store in a directory, give the URL at which a web server offers its blobs"));
        }
        return Ok(Redirect::Presigned { lifetime: Redirect::LIFETIME });
    }
    if !is_url(Path::new(url)) || url.contains(['?', '#']) {
        return Err(Error::new(ErrorKind::InvalidInput, "`--redirect` takes the URL of a CDN, without a query")
            .with_hint("leave the value out for presigned addresses"));
    }
    Ok(Redirect::Base { url: url.trim_end_matches('/').to_owned() })
}

/// Opens the store for changes; on a read-only file system for reading, with a note, since images can be served all the
/// same.
fn store(session: &Session) -> Result<Store> {
    let path = session.store_path()?;
    match session.store() {
        Err(error) if error.kind() == ErrorKind::Io => {
            let opened = session.store_options().read_only(true).open(&path).map_err(|_| error)?;
            session.note(|| {
                let path = lxd_image::Escaped(path.as_os_str().as_bytes()).to_string();
                format!("note: {path} can only be read: images are served, and none can be uploaded, changed or cached")
            });
            Ok(opened)
        }
        opened => opened,
    }
}

/// Opens all sockets, each with whether it speaks TLS: those from systemd, those of `--listen`, or port 8443 on all
/// addresses.
///
/// # Errors
/// `InvalidInput` for plain HTTP on an address other machines can reach, without `--allow-http`; `Io`.
fn sockets(arguments: &Arguments) -> Result<Vec<(std::net::TcpListener, bool)>> {
    let mut found = Vec::new();
    let mut given = listenfd::ListenFd::from_env();
    for index in 0..given.len() {
        let socket = given.take_tcp_listener(index).map_err(|error| {
            Error::new(ErrorKind::InvalidInput, "a socket from systemd is not a TCP socket").with_source(error)
        })?;
        found.extend(socket.map(|socket| (socket, true)));
    }
    for text in &arguments.listen {
        let (text, tls) = text.strip_prefix("http://").map_or((text.as_str(), true), |rest| (rest, false));
        for address in addresses(text)? {
            if !tls && !address.ip().is_loopback() && !arguments.allow_http {
                let sentence =
                    format!("{address} is not this machine alone, and plain http is open to everybody between");
                return Err(Error::new(ErrorKind::InvalidInput, sentence).with_hint("--allow-http allows it"));
            }
            found.push((open(address)?, tls));
        }
    }
    if found.is_empty() {
        // [::] accepts IPv4 too; on a machine without IPv6 it fails, and 0.0.0.0 is the fallback.
        let both = open(SocketAddr::from(([0_u16; 8], 8443)));
        let socket = both.or_else(|error| open(SocketAddr::from(([0_u8; 4], 8443))).map_err(|_| error))?;
        found.push((socket, true));
    }
    Ok(found)
}

/// Resolves `ADDR:PORT`; a host name may give several addresses, and all are used.
fn addresses(text: &str) -> Result<Vec<SocketAddr>> {
    let wrong = |error| {
        // The part before an `@` is probably a password: keep it out of the message.
        let shown = text.rsplit_once('@').map_or(text, |(_, host)| host);
        let sentence = format!("`{shown}` is not an address to listen on");
        Error::new(ErrorKind::InvalidInput, sentence).with_hint("write ADDR:PORT, such as [::]:8443").with_source(error)
    };
    Ok(text.trim_end_matches('/').to_socket_addrs().map_err(wrong)?.collect())
}

/// Binds a socket.
fn open(address: SocketAddr) -> Result<std::net::TcpListener> {
    std::net::TcpListener::bind(address)
        .map_err(|error| Error::new(ErrorKind::Io, format!("cannot listen on {address}")).with_source(error))
}

/// The certificate of `--cert` and `--key`, or the self-signed one of the configuration directory, created at the
/// first start.
fn certificate(arguments: &Arguments, session: &Session) -> Result<ServerCertificate> {
    if let (Some(certificate), Some(key)) = (&arguments.cert, &arguments.key) {
        return ServerCertificate::read(certificate, key);
    }
    let names: Vec<String> = arguments.base_url.as_deref().and_then(host).into_iter().collect();
    ServerCertificate::kept_in(&session.settings()?.directory().join("server"), &names)
}

/// The host of a URL as certificates name it: IPv6 addresses without brackets.
fn host(url: &str) -> Option<String> {
    let url: http::Uri = url.parse().ok()?;
    Some(url.host()?.trim_matches(['[', ']']).to_owned())
}

/// Switches to the user for good: groups, group, user, in this order, because only root may change the first two.
///
/// # Errors
/// `NotFound` for an unknown user; `Io` if the kernel refuses, or if root could be regained, which is checked.
fn become_user(name: &str) -> Result<()> {
    let failed = |error: nix::Error| {
        let sentence = format!("cannot switch to user `{name}`");
        Error::new(ErrorKind::Io, sentence)
            .with_source(io::Error::from(error))
            .with_hint("only root can switch to another user")
    };
    let user = User::from_name(name).map_err(failed)?;
    let user = user.ok_or_else(|| Error::new(ErrorKind::NotFound, format!("there is no user `{name}`")))?;
    setgroups(&[user.gid]).map_err(failed)?;
    setgid(user.gid).map_err(failed)?;
    setuid(user.uid).map_err(failed)?;
    if !user.uid.is_root() && setuid(nix::unistd::Uid::from_raw(0)).is_ok() {
        return Err(Error::new(ErrorKind::Io, "root privileges could not be dropped"));
    }
    Ok(())
}

/// Raises the soft limit of open files as far as the hard limit allows: common defaults of 1024 are too low for a
/// server.
fn raise_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.map_or(WANTED_DESCRIPTORS, |maximum| maximum.min(WANTED_DESCRIPTORS));
    if limit.current.is_some_and(|current| current < wanted) {
        // A failure is ignored: with fewer descriptors connections wait, which is slower but works.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: limit.maximum });
    }
}

/// Prints the addresses, the certificate's fingerprint, and the command that adds this server as a remote.
fn announce(listener: &Listener) -> Result<()> {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let mut port = None;
    for (address, tls) in listener.local_addresses() {
        output::line(&format!("listening at {}://{address}", if tls { "https" } else { "http" }))?;
        if tls {
            port = port.or(Some(address.port()));
        }
    }
    if let (Some(port), Some(fingerprint)) = (port, listener.fingerprint()) {
        output::line(&format!("certificate {fingerprint}"))?;
        output::line(&format!("add it with `lxc remote add NAME https://{host}:{port} --public`"))?;
    }
    Ok(())
}

/// Tells systemd a state (sd_notify(3)), if it started this process. A failure is printed and does not stop the server.
fn notify(state: &str) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let send = || {
        let bytes = path.as_encoded_bytes();
        let address = match bytes.strip_prefix(b"@") {
            Some(name) => UnixAddress::from_abstract_name(name)?,
            None => UnixAddress::from_pathname(&path)?,
        };
        UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address)
    };
    if let Err(error) = send() {
        eprintln!("cannot notify systemd of `{state}`: {error}");
    }
}
