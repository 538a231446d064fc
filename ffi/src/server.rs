//! A server of a store in this process: started, asked for its addresses, stopped.

use std::ffi::c_void;
use std::io::{self, Write};
use std::net::{TcpListener, ToSocketAddrs};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use lxd_image::server::{Handler, Listener, ListenerOptions, ServerCertificate, ServerOptions, TrustedClients};
use lxd_image::transfer::RemoteTransfer;
use lxd_image::{Cancel, Error, ErrorKind, Fingerprint, Result};

use crate::about::index_out_of_range;
use crate::args::{self, invalid, versioned};
use crate::error::{call, free, lxi_error};
use crate::handle::{self, handles};
use crate::limits::{limits_or_default, lxi_limits};
use crate::remote::{client_of_many, lxi_client_options};
use crate::settings::lxi_settings;
use crate::store::lxi_store;
use crate::types::*;

/// The longest line of the log that is handed over at once; a client can't make a longer one.
const MAX_LINE_BYTES: usize = 64 << 10;

/// A server that runs on threads of its own until it is stopped.
pub struct lxi_server {
    _opaque: (),
}

/// Takes one line of the server's log, without its end: a request that was answered, or a note. Called from one thread
/// at a time, which is not the caller's, until the server is stopped. A call that takes long loses later lines, and
/// delays no request. Must not unwind or jump out, and must not stop or free the server.
pub type lxi_log_fn = Option<unsafe extern "C" fn(user: *mut c_void, line: lxi_str)>;

/// How a store is served. Set `size` to `sizeof(lxi_server_options)` and say where to listen; the rest may be zero.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct lxi_server_options {
    /// The size of this structure in bytes.
    pub size: usize,
    /// LXI_SERVER_….
    pub flags: u32,
    /// Threads for connections; 0 for one a core. Requests are answered on others.
    pub threads: u32,
    /// Where to listen: `ADDRESS:PORT` for TLS, `http://ADDRESS:PORT` for plain HTTP; port 0 takes a free one.
    pub listen: *const lxi_str,
    /// How many.
    pub listen_len: usize,
    /// The server's certificate in PEM, or empty. TLS needs it or `directory`.
    pub certificate: lxi_str,
    /// Its key in PEM.
    pub key: lxi_str,
    /// Where a certificate is kept that is made at the first start; used where `certificate` is empty. Or empty.
    pub directory: lxi_str,
    /// Certificates of clients that may see and change everything: a file, or a directory with `*.crt` and `*.pem`,
    /// read again when it changes. Empty for none.
    pub trusted: lxi_str,
    /// The name of the server on its pages, or empty.
    pub name: lxi_str,
    /// The URL of the server for clients, if it differs from the host that they ask; or empty.
    pub base_url: lxi_str,
    /// The limits on what clients send, or NULL.
    pub limits: *const lxi_limits,
    /// With LXI_SERVER_GRACE: how long running requests may go on when the server is stopped; else 30 seconds.
    pub grace_milliseconds: u64,
    /// Takes the log, or NULL.
    pub log: lxi_log_fn,
    /// Handed to `log`; must live until the server is stopped.
    pub log_user: *mut c_void,
    /// The remotes that trusted clients may name as the source of an image, by the settings of a user; NULL: the server
    /// fetches nothing, and sends nothing to other servers.
    pub settings: *const lxi_settings,
    /// A remote of `settings` whose public images are offered to all clients, and cached when one asks for them; or
    /// empty. An image that is larger than the limit `cache` is not fetched, and the least recently used ones go when
    /// all are; eight downloads run at once.
    pub upstream: lxi_str,
    /// How other servers are spoken to, or NULL.
    pub client: *const lxi_client_options,
}

/// Plain HTTP may be offered to other machines.
pub const LXI_SERVER_ALLOW_HTTP: u32 = 1;
/// `grace_milliseconds` is said.
pub const LXI_SERVER_GRACE: u32 = 2;

/// A server that runs.
pub struct Running {
    stop: Cancel,
    thread: Mutex<Option<JoinHandle<Result<()>>>>,
    urls: Vec<String>,
    fingerprint: Option<Fingerprint>,
}

versioned!(lxi_server_options since settings);
handles! { lxi_server(39) = Running; }

impl Running {
    /// Stops it and waits; works once, and does nothing after that.
    fn stop(&self) -> Result<()> {
        self.stop.cancel();
        // Held while the thread ends, so that a second caller returns when the server has ended.
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        match thread.take().map(JoinHandle::join) {
            None => Ok(()),
            Some(Ok(served)) => served,
            Some(Err(panic)) => std::panic::resume_unwind(panic),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Whoever wants to know how it ended stops it before.
        let _ = self.stop();
    }
}

/// The log of a server, cut into lines.
struct Log {
    log: unsafe extern "C" fn(user: *mut c_void, line: lxi_str),
    user: *mut c_void,
    begun: Vec<u8>,
}

// SAFETY: the header says that the callback is called from a thread of the library, from one at a time.
unsafe impl Send for Log {}

impl Log {
    fn line(&self, line: &[u8]) {
        // SAFETY: a function of this type, by the caller's promise, with what belongs to it.
        unsafe { (self.log)(self.user, lxi_str::of_bytes(line)) }
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.begun.extend_from_slice(piece);
            if self.begun.ends_with(b"\n") || self.begun.len() > MAX_LINE_BYTES {
                let line = std::mem::take(&mut self.begun);
                self.line(line.strip_suffix(b"\n").unwrap_or(&line));
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Binds every address. Sockets are there before the certificate is made, as in the program.
unsafe fn sockets(given: &lxi_server_options, allow_http: bool) -> Result<Vec<(TcpListener, bool)>> {
    let mut sockets = Vec::new();
    for text in args::texts(given.listen, given.listen_len, "addresses to listen on")? {
        let (address, tls) = text.strip_prefix("http://").map_or((text, true), |rest| (rest, false));
        let found = address.trim_end_matches('/').to_socket_addrs().map_err(|error| {
            Error::new(ErrorKind::InvalidInput, format!("`{address}` is not an address to listen on"))
                .with_hint("write ADDRESS:PORT, such as [::]:8443")
                .with_source(error)
        })?;
        for address in found {
            if !tls && !address.ip().is_loopback() && !allow_http {
                return Err(invalid(format!(
                    "{address} can be reached by other machines, and plain HTTP is open to all"
                ))
                .with_hint("the flag LXI_SERVER_ALLOW_HTTP allows it"));
            }
            let socket = TcpListener::bind(address)
                .map_err(|error| Error::new(ErrorKind::Io, format!("cannot listen on {address}")).with_source(error))?;
            sockets.push((socket, tls));
        }
    }
    if sockets.is_empty() {
        return Err(invalid("the server listens nowhere").with_hint("name an address in `listen`"));
    }
    Ok(sockets)
}

unsafe fn certificate(given: &lxi_server_options) -> Result<Option<ServerCertificate>> {
    if let Some(pem) = args::optional_text(given.certificate, "server's certificate")? {
        let key = args::text(given.key, "server's key")?;
        return ServerCertificate::from_pem(pem.as_bytes(), key.as_bytes()).map(Some);
    }
    let Some(directory) = args::optional_path(given.directory, "directory of the certificate")? else {
        return Ok(None);
    };
    let host = args::optional_text(given.base_url, "server's URL")?.and_then(|url| {
        let (_, rest) = url.split_once("://")?;
        let authority = rest.split('/').next()?;
        let host = match authority.strip_prefix('[') {
            Some(address) => address.split(']').next()?,
            None => authority.rsplit_once(':').map_or(authority, |(host, _)| host),
        };
        Some(host.to_owned())
    });
    ServerCertificate::kept_in(directory, &Vec::from_iter(host)).map(Some)
}

/// Starts a server of the store, on threads of its own: to LXD and Incus, to tools of simplestreams, for import by URL,
/// and as pages for people. It answers when this call returns, and goes on when the store is freed.
///
/// Owner: the caller, who frees it with `lxi_server_free`. Threads: any. Errors: LXI_INVALID_INPUT for an address that
/// is none, for TLS without a certificate, and for plain HTTP to other machines without the flag; LXI_MALFORMED for a
/// certificate, a key or trusted certificates that can't be read; LXI_IO when an address can't be bound.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_server_start(
    store: *const lxi_store,
    options: *const lxi_server_options,
    server: *mut *mut lxi_server,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let place = args::out_handle(server, "server")?;
        let store = handle::get(store)?.clone();
        let given = args::required(options)?;
        let flags = args::flags(given.flags, 3, "flags of a server")?;
        let limits = limits_or_default(given.limits)?;
        let sockets = sockets(&given, flags & LXI_SERVER_ALLOW_HTTP != 0)?;
        let mut serving = ServerOptions::new().limits(limits.clone());
        if let Some(name) = args::optional_text(given.name, "server's name")? {
            serving = serving.name(name);
        }
        if let Some(url) = args::optional_text(given.base_url, "server's URL")? {
            serving = serving.base_url(url);
        }
        let upstream = args::optional_text(given.upstream, "upstream")?;
        if let Some(settings) = handle::get_optional(given.settings)? {
            let client = client_of_many(given.client)?;
            let transfer = RemoteTransfer::new(settings.clone(), upstream, client, limits.clone())?;
            serving = serving.image_transfer(transfer);
        } else if upstream.is_some() {
            return Err(invalid("an upstream is a remote of settings, which are not given"));
        } else if !given.client.is_null() {
            return Err(invalid("the client asks remotes of settings, which are not given"));
        }
        let mut listening = ListenerOptions::new().limits(limits);
        if let Some(certificate) = certificate(&given)? {
            listening = listening.certificate(certificate);
        }
        if let Some(path) = args::optional_path(given.trusted, "path of trusted certificates")? {
            listening = listening.trusted(TrustedClients::at(path)?);
        }
        if let Some(threads) = NonZeroUsize::new(given.threads as usize) {
            listening = listening.threads(threads);
        }
        if flags & LXI_SERVER_GRACE != 0 {
            listening = listening.grace(Duration::from_millis(given.grace_milliseconds));
        }
        if let Some(log) = given.log {
            listening = listening.log(Log { log, user: given.log_user, begun: Vec::new() });
        }
        let mut listener = Listener::new(Arc::new(Handler::new(store, serving)), listening)?;
        for (socket, tls) in sockets {
            if tls { listener.listen(socket)? } else { listener.listen_plain(socket)? }
        }
        let url = |(address, tls)| format!("{}://{address}", if tls { "https" } else { "http" });
        let urls = listener.local_addresses().into_iter().map(url).collect();
        let fingerprint = listener.fingerprint();
        let stop = Cancel::new();
        let until = stop.clone();
        let thread = std::thread::Builder::new()
            .name("lxd-image server".into())
            .spawn(move || listener.run(&until))
            .map_err(|error| Error::new(ErrorKind::Io, "a thread can't be started").with_source(error))?;
        place.set(handle::make(Running { stop, thread: Mutex::new(Some(thread)), urls, fingerprint }));
        Ok(())
    })
}

/// A URL that the server listens at, with an index from 0, in the order of `listen`; port 0 is replaced by the chosen
/// one.
///
/// Owner: the text belongs to the server. Threads: any. Errors: LXI_NOT_FOUND for an index past the end.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_server_url_at(
    server: *const lxi_server,
    index: usize,
    url: *mut lxi_str,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let place = args::out_str(url, "url")?;
        let found = handle::get(server)?.urls.get(index).ok_or_else(|| index_out_of_range(index, "address"))?;
        place.set(lxi_str::of(found));
        Ok(())
    })
}

/// The sha256 of the server's certificate, which clients compare when they add it as a remote.
///
/// Threads: any. Errors: LXI_NOT_FOUND without a certificate.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_server_fingerprint(
    server: *const lxi_server,
    fingerprint: *mut lxi_fingerprint,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let place = args::out(fingerprint, lxi_fingerprint::NONE, "fingerprint")?;
        let found = handle::get(server)?.fingerprint;
        place.set(found.ok_or_else(|| Error::new(ErrorKind::NotFound, "the server has no certificate"))?.into());
        Ok(())
    })
}

/// Stops the server: it takes no more connections, lets running requests end for the grace time, cuts those that go on,
/// and this call returns, in some seconds more at most. After it `log` is not called any more. A second call does
/// nothing.
///
/// Threads: any, but not from `log`. Errors: why the server ended before, if it did: LXI_IO.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_server_stop(server: *const lxi_server, error: *mut *mut lxi_error) -> lxi_status {
    call(error, || handle::get(server)?.stop())
}

/// Stops the server as `lxi_server_stop` does, if it runs, and frees it; NULL is allowed.
///
/// Threads: any but one of `log`, the server being no longer used. Errors: LXI_INVALID_INPUT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_server_free(server: *mut lxi_server) -> lxi_status {
    free(server)
}
