//! The settings of a user: remotes by name, and the client certificate.

use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use lxd_image::remote::{Certificate, FirstUse, KnownRemote, Protocol, Settings};
use lxd_image::{Error, Result};

use crate::about::index_out_of_range;
use crate::args::{self, versioned};
use crate::buffer::{buffer, lxi_buffer};
use crate::error::{call, free, lxi_error};
use crate::handle::{self, handles};
use crate::monitor::{lxi_monitor, monitor_from};
use crate::remote::{client_of_many, lxi_client_options};
use crate::types::*;

/// The settings of a user: remotes by name and a client certificate, in one directory that any number of processes may
/// use and change, and any number of threads by one handle.
pub struct lxi_settings {
    _opaque: (),
}

/// Remotes with their names. Read-only, so it may be shared between threads.
pub struct lxi_remote_list {
    _opaque: (),
}

/// A server of images: how it is spoken to. Set `size` to `sizeof(lxi_known_remote)`, also before it is filled.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct lxi_known_remote {
    /// The size of this structure in bytes.
    pub size: usize,
    /// LXI_REMOTE_….
    pub flags: u32,
    /// Padding; must be 0.
    pub reserved: u32,
    /// Its URL, such as `https://host:8443`; without a scheme it is https, and has LXD's port. A simplestreams server
    /// may be a directory: `file:///DIR`. Filled without secrets.
    pub url: lxi_str,
    /// `lxd`, `incus`, `simplestreams` or `oci`, a registry; for `lxi_remote_connect` also `direct`, the URL of one
    /// image. Empty for `lxd`.
    pub protocol: lxi_str,
    /// The certificate that it must show, in PEM, where no known authority signed it; or empty.
    pub certificate: lxi_str,
    /// The user of a registry, with `password_file`; or empty.
    pub username: lxi_str,
    /// The file that holds the password of that user, and is read when it is needed; or empty.
    pub password_file: lxi_str,
    /// The file of docker or podman that holds the credentials for a registry; empty for those of this user.
    pub auth_file: lxi_str,
}

/// Only public images are used: the client certificate is not shown, and a registry is asked anonymously. Simplestreams
/// servers always are.
pub const LXI_REMOTE_PUBLIC: u32 = 1;
/// Plain HTTP may be spoken with it, although it is another machine.
pub const LXI_REMOTE_ALLOW_HTTP: u32 = 2;

/// What is known of a server before it is trusted: LXI_TRUST_….
pub type lxi_trust = u32;
/// It is spoken to without TLS, because it is this machine or because that was allowed.
pub const LXI_TRUST_PLAIN: lxi_trust = 1;
/// A known authority signed its certificate, or it is the pinned one.
pub const LXI_TRUST_VOUCHED: lxi_trust = 2;
/// No authority signed its certificate. A person must compare its fingerprint with what the server's owner says.
pub const LXI_TRUST_UNKNOWN: lxi_trust = 3;

/// A remote with the texts that C may look at.
pub struct KnownView {
    name: String,
    url: String,
    protocol: &'static str,
    certificate: String,
    flags: u32,
    username: String,
    password_file: PathBuf,
    auth_file: PathBuf,
}

impl KnownView {
    fn new(name: String, remote: &KnownRemote) -> Self {
        let public = if remote.public { LXI_REMOTE_PUBLIC } else { 0 };
        let http = if remote.allow_http { LXI_REMOTE_ALLOW_HTTP } else { 0 };
        Self {
            name,
            url: remote.url.to_string(),
            protocol: remote.protocol.name(),
            certificate: remote.certificate.as_ref().map(Certificate::to_pem).unwrap_or_default(),
            flags: public | http,
            username: remote.username.clone().unwrap_or_default(),
            password_file: remote.password_file.clone().unwrap_or_default(),
            auth_file: remote.auth_file.clone().unwrap_or_default(),
        }
    }
}

versioned!(lxi_known_remote since username);
handles! {
    lxi_settings(31) = Settings;
    lxi_remote_list(32) = Vec<KnownView>;
}

/// A remote as a caller describes it.
pub(crate) unsafe fn known_remote(pointer: *const lxi_known_remote) -> Result<KnownRemote> {
    let given = args::required(pointer)?;
    let flags = args::flags(given.flags, 3, "flags of a remote")?;
    args::flags(given.reserved, 0, "reserved bits of a remote")?;
    let protocol = match args::optional_text(given.protocol, "protocol")? {
        Some(name) => name.parse::<Protocol>()?,
        None => Protocol::Lxd,
    };
    let url = KnownRemote::address(args::text(given.url, "remote's URL")?, protocol)?;
    let mut remote = KnownRemote::new(url, protocol).allow_http(flags & LXI_REMOTE_ALLOW_HTTP != 0);
    if flags & LXI_REMOTE_PUBLIC != 0 {
        remote = remote.public(true);
    }
    let username = args::optional_text(given.username, "user of a registry")?;
    let password_file = args::optional_path(given.password_file, "file with a password")?;
    let auth_file = args::optional_path(given.auth_file, "file with credentials")?;
    if protocol != Protocol::Oci && (username.is_some() || password_file.is_some() || auth_file.is_some()) {
        return Err(args::invalid("users and files with credentials are for registries, with the protocol `oci`"));
    }
    match (username, password_file) {
        (Some(user), Some(file)) => remote = remote.user(user, file),
        (None, None) => {}
        _ => return Err(args::invalid("a user of a registry and the file with the password are given together")),
    }
    if let Some(file) = auth_file {
        remote = remote.auth_file(file);
    }
    Ok(match args::optional_text(given.certificate, "certificate")? {
        Some(pem) => remote.certificate(Certificate::from_pem(pem)?),
        None => remote,
    })
}

/// Opens the settings in a directory, which is made when something is written. Empty is the directory of this user:
/// `LXD_IMAGE_CONFIG`, else `lxd-image` in the XDG configuration directory. Nothing is read yet.
///
/// Owner: the caller, who frees them with `lxi_settings_free`. Threads: any. Errors: LXI_INVALID_INPUT, also where the
/// environment names no directory.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_settings_open(
    directory: lxi_str,
    settings: *mut *mut lxi_settings,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let place = args::out_handle(settings, "settings")?;
        let directory = match args::optional_path(directory, "directory of the settings")? {
            Some(directory) => directory.to_owned(),
            None => Settings::user_directory()?,
        };
        place.set(handle::make(Settings::open(directory)));
        Ok(())
    })
}

/// Frees settings; NULL is allowed. The files stay.
///
/// Threads: any, the handle being no longer used. Errors: LXI_INVALID_INPUT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_settings_free(settings: *mut lxi_settings) -> lxi_status {
    free(settings)
}

/// All remotes, sorted by name. Without a file these are the well-known public servers.
///
/// Owner: the caller, who frees the list with `lxi_remote_list_free`. Threads: any. Errors: LXI_MALFORMED when the file
/// can't be parsed, LXI_IO.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_settings_remotes(
    settings: *const lxi_settings,
    remotes: *mut *mut lxi_remote_list,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let place = args::out_handle(remotes, "remotes")?;
        let all = handle::get(settings)?.remotes()?;
        place
            .set(handle::make(all.into_iter().map(|(name, remote)| KnownView::new(name, &remote)).collect::<Vec<_>>()));
        Ok(())
    })
}

/// How many remotes there are.
///
/// Threads: any. Errors: LXI_INVALID_INPUT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_remote_list_len(
    remotes: *const lxi_remote_list,
    len: *mut usize,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        args::out(len, 0, "len")?.set(handle::get(remotes)?.len());
        Ok(())
    })
}

/// Fills `remote` with the remote with an index from 0, and `name` with its name.
///
/// Owner: the texts belong to the list. Threads: any. Errors: LXI_NOT_FOUND for an index past the end.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_remote_list_at(
    remotes: *const lxi_remote_list,
    index: usize,
    name: *mut lxi_str,
    remote: *mut lxi_known_remote,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let name = args::out_str(name, "name")?;
        let found = handle::get(remotes)?.get(index).ok_or_else(|| index_out_of_range(index, "remote"))?;
        args::fill(
            remote,
            &lxi_known_remote {
                size: 0,
                flags: found.flags,
                reserved: 0,
                url: lxi_str::of(&found.url),
                protocol: lxi_str::of(found.protocol),
                certificate: lxi_str::of(&found.certificate),
                username: lxi_str::of(&found.username),
                password_file: lxi_str::of_bytes(found.password_file.as_os_str().as_bytes()),
                auth_file: lxi_str::of_bytes(found.auth_file.as_os_str().as_bytes()),
            },
        )?;
        name.set(lxi_str::of(&found.name));
        Ok(())
    })
}

/// Frees a list; NULL is allowed.
///
/// Threads: any, the list being no longer used. Errors: LXI_INVALID_INPUT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_remote_list_free(remotes: *mut lxi_remote_list) -> lxi_status {
    free(remotes)
}

/// Adds a remote. Nothing is asked of the server: `lxi_remote_first_use` says whether it can be trusted.
///
/// Threads: any. Errors: LXI_ALREADY_EXISTS; LXI_INVALID_INPUT for a name with a colon, a slash or a blank, for
/// `local`, and for an invalid URL; LXI_UNSUPPORTED for an unknown protocol; LXI_MALFORMED for a certificate that is
/// not PEM; LXI_IO.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_settings_add(
    settings: *const lxi_settings,
    name: lxi_str,
    remote: *const lxi_known_remote,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || handle::get(settings)?.add(args::text(name, "name of a remote")?, known_remote(remote)?))
}

/// Removes a remote. Images that came from there stay, and keep their source.
///
/// Threads: any. Errors: LXI_NOT_FOUND, LXI_MALFORMED, LXI_IO.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_settings_remove(
    settings: *const lxi_settings,
    name: lxi_str,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || handle::get(settings)?.remove(args::text(name, "name of a remote")?))
}

/// Gives a remote another name.
///
/// Threads: any. Errors: LXI_NOT_FOUND, LXI_ALREADY_EXISTS, LXI_INVALID_INPUT, LXI_MALFORMED, LXI_IO.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_settings_rename(
    settings: *const lxi_settings,
    name: lxi_str,
    new_name: lxi_str,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let (name, new_name) = (args::text(name, "name of a remote")?, args::text(new_name, "name of a remote")?);
        handle::get(settings)?.rename(name, new_name)
    })
}

/// Changes the URL of a remote. A pinned certificate stays pinned.
///
/// Threads: any. Errors: LXI_NOT_FOUND, LXI_INVALID_INPUT for an invalid URL, LXI_MALFORMED, LXI_IO.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_settings_set_url(
    settings: *const lxi_settings,
    name: lxi_str,
    url: lxi_str,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let (settings, name) = (handle::get(settings)?, args::text(name, "name of a remote")?);
        let protocol = settings.get(name)?.protocol;
        settings.set_url(name, KnownRemote::address(args::text(url, "remote's URL")?, protocol)?)
    })
}

/// The client certificate of these settings in PEM, which the owner of a server adds to the trusted ones. Made, with
/// its key, if there is none yet; the key never leaves the directory.
///
/// Owner: the caller, who frees the buffer with `lxi_buffer_free`. Threads: any. Errors: LXI_MALFORMED when the files
/// can't be parsed, LXI_IO.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_settings_certificate(
    settings: *const lxi_settings,
    pem: *mut *mut lxi_buffer,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let place = args::out_handle(pem, "pem")?;
        place.set(buffer(handle::get(settings)?.identity()?.certificate().to_pem()));
        Ok(())
    })
}

/// Asks a server for its certificate, and says whether it can be trusted: trust on first use, as `lxc remote add` has
/// it. With LXI_TRUST_UNKNOWN, `pem` gets the certificate, to be shown (`fingerprint`, which may be NULL) and pinned if
/// its owner confirms it; else it stays NULL. `options` and `monitor` may be NULL.
///
/// Owner: the caller, who frees the buffer with `lxi_buffer_free`. Threads: any. Errors: LXI_REMOTE when it can't be
/// reached, or shows another certificate than the pinned one; LXI_INVALID_INPUT for plain HTTP that is not allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_remote_first_use(
    remote: *const lxi_known_remote,
    options: *const lxi_client_options,
    monitor: *const lxi_monitor,
    trust: *mut lxi_trust,
    pem: *mut *mut lxi_buffer,
    fingerprint: *mut lxi_fingerprint,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let trust = args::out(trust, 0, "trust")?;
        let pem = args::out_handle(pem, "pem")?;
        let print = args::optional_out(fingerprint, lxi_fingerprint::NONE, "fingerprint")?;
        let found = known_remote(remote)?.first_use(&client_of_many(options)?, &monitor_from(monitor)?)?;
        match found {
            FirstUse::Plain => trust.set(LXI_TRUST_PLAIN),
            FirstUse::Vouched => trust.set(LXI_TRUST_VOUCHED),
            FirstUse::Unknown(certificate) => {
                trust.set(LXI_TRUST_UNKNOWN);
                if let Some(print) = print {
                    print.set(certificate.fingerprint().into());
                }
                pem.set(buffer(certificate.to_pem()));
            }
            _ => return Err(Error::new(lxd_image::ErrorKind::Unsupported, "the server is trusted in an unknown way")),
        }
        Ok(())
    })
}
