//! Remotes: connected, searched, and sent to.

use lxd_image::remote::{
    ClientOptions, Identity, KnownRemote, Lxd, OciCredentials, OciLogin, OciRegistry, Protocol, Proxy, Remote,
    RemoteAddress, Trust, UploadOptions, Wanted,
};
use lxd_image::{Architecture, Error, ErrorKind, Result};

use crate::args::{self, invalid, versioned};
use crate::cursor::{Cursor, filters, lxi_image_cursor};
use crate::error::{call, free, lxi_error};
use crate::handle::{self, handles};
use crate::import::{self, lxi_alias};
use crate::limits::{limits_or_default, lxi_limits};
use crate::monitor::{lxi_monitor, monitor_from};
use crate::settings::{known_remote, lxi_known_remote, lxi_settings};
use crate::store::lxi_store;
use crate::stored::{lxi_stored_image, stored};
use crate::types::*;

/// A server of images, or a static tree. Nothing that it says is believed: images are checked when they arrive. Any
/// number of threads may use one handle; connections are kept and shared.
pub struct lxi_remote {
    _opaque: (),
}

/// How a server is spoken to. NULL, or all but `size` zero: TLS only, the proxy of the environment, the authorities of
/// the system.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct lxi_client_options {
    /// The size of this structure in bytes.
    pub size: usize,
    /// LXI_CLIENT_….
    pub flags: u32,
    /// Padding; must be 0.
    pub reserved: u32,
    /// The limits on answers, or NULL: `redirects`, `headers`, `idle`, `total`, `remote_index`, `download`.
    pub limits: *const lxi_limits,
    /// The proxy for all hosts but this one, such as `socks5://host:1080`; empty for that of the environment.
    pub proxy: lxi_str,
    /// The `User-Agent`; empty for this library's.
    pub user_agent: lxi_str,
    /// A client certificate in PEM, or empty. Settings have one of their own.
    pub certificate: lxi_str,
    /// Its key in PEM.
    pub key: lxi_str,
    /// The secret of a private image on an LXD or Incus server, or empty. Elsewhere it is LXI_INVALID_INPUT.
    pub secret: lxi_str,
    /// The user of a registry, with `password`; empty for what the remote says. Elsewhere both are LXI_INVALID_INPUT.
    pub username: lxi_str,
    /// The password of that user. It is never part of an error.
    pub password: lxi_str,
}

/// Plain HTTP may be spoken with other machines.
pub const LXI_CLIENT_ALLOW_HTTP: u32 = 1;
/// Redirects of another host may lead to this machine and its local network.
pub const LXI_CLIENT_ALLOW_LOCAL: u32 = 2;
/// No proxy, whatever the environment says.
pub const LXI_CLIENT_NO_PROXY: u32 = 4;

/// Which image a reference means. NULL, or all but `size` zero: a container's, for this machine.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct lxi_wanted {
    /// The size of this structure in bytes.
    pub size: usize,
    /// LXI_WANTED_….
    pub flags: u32,
    /// The type that an alias must have: LXI_TYPE_…, or 0 for containers.
    pub image_type: lxi_image_type,
    /// The machines that an alias may mean, best first, by any of their names; none for this one.
    pub architectures: *const lxi_str,
    /// How many.
    pub architectures_len: usize,
}

/// An alias for any machine will do.
pub const LXI_WANTED_ANY_ARCHITECTURE: u32 = 1;
/// The hint of LXI_NOT_FOUND names no similar aliases, which may cost a request for the whole list.
pub const LXI_WANTED_NO_SUGGESTIONS: u32 = 2;

/// How an image is sent to a server. NULL, or all but `size` zero: private, without an alias.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct lxi_upload_options {
    /// The size of this structure in bytes.
    pub size: usize,
    /// LXI_UPLOAD_….
    pub flags: u32,
    /// Padding; must be 0.
    pub reserved: u32,
    /// Aliases that it gets on the server.
    pub aliases: *const lxi_alias,
    /// How many.
    pub aliases_len: usize,
    /// Properties that win over those of the store.
    pub properties: *const lxi_pair,
    /// How many.
    pub properties_len: usize,
    /// Progress, cancellation and omissions of the call, or NULL.
    pub monitor: *const lxi_monitor,
}

/// It also gets the aliases that it has in the store.
pub const LXI_UPLOAD_COPY_ALIASES: u32 = 1;
/// Aliases that are taken on the server move to it, instead of being an error.
pub const LXI_UPLOAD_REUSE_ALIASES: u32 = 2;
/// An image that loses its last alias to it is deleted on the server.
pub const LXI_UPLOAD_REPLACE_IMAGES: u32 = 4;
/// Clients that have not authenticated may read it there.
pub const LXI_UPLOAD_PUBLIC: u32 = 8;

/// A remote, and whether it takes uploads.
pub enum Connected {
    /// A server with LXD's REST API.
    Rest(Box<Lxd>),
    /// A registry of OCI.
    Registry(Box<OciRegistry>),
    /// A tree or a URL, which are read from.
    ReadOnly(Box<dyn Remote>),
}

versioned!(lxi_client_options since username);
versioned!(lxi_wanted, lxi_upload_options);
handles! { lxi_remote(33) = Connected; }

impl Connected {
    /// The remote, to be read from.
    pub(crate) fn source(&self) -> &dyn Remote {
        match self {
            Self::Rest(lxd) => &**lxd,
            Self::Registry(registry) => &**registry,
            Self::ReadOnly(remote) => &**remote,
        }
    }
}

/// The options of a client.
pub(crate) unsafe fn client_options(pointer: *const lxi_client_options) -> Result<ClientOptions> {
    let given = args::options(pointer)?;
    let flags = args::flags(given.flags, 7, "flags of a client")?;
    args::flags(given.reserved, 0, "reserved bits of a client")?;
    let mut options = ClientOptions::new()
        .limits(limits_or_default(given.limits)?)
        .allow_http(flags & LXI_CLIENT_ALLOW_HTTP != 0)
        .allow_local(flags & LXI_CLIENT_ALLOW_LOCAL != 0);
    if let Some(url) = args::optional_text(given.proxy, "proxy")? {
        options = options.proxy(Proxy::Url(url.to_owned()));
    } else if flags & LXI_CLIENT_NO_PROXY != 0 {
        options = options.proxy(Proxy::Direct);
    }
    if let Some(text) = args::optional_text(given.user_agent, "user agent")? {
        options = options.user_agent(text);
    }
    if let Some(pem) = args::optional_text(given.certificate, "client's certificate")? {
        options = options.identity(Identity::from_pem(pem, args::text(given.key, "client's key")?)?);
    }
    Ok(options)
}

/// Architectures by any of their names.
pub(crate) unsafe fn architectures(data: *const lxi_str, len: usize) -> Result<Vec<Architecture>> {
    args::texts(data, len, "architectures")?.iter().map(|name| name.parse()).collect()
}

/// As whom a registry is asked: the user of the options, or what the remote says.
unsafe fn login(pointer: *const lxi_client_options, known: &KnownRemote) -> Result<OciLogin> {
    let given = args::options(pointer)?;
    match args::optional_text(given.username, "user of a registry")? {
        None => known.login(),
        Some(user) => Ok(OciLogin::Credentials(OciCredentials::password(
            user,
            args::text(given.password, "password of a registry")?,
        ))),
    }
}

/// Refuses what would have no effect: a user of a registry elsewhere, a secret of an image where no server takes one.
unsafe fn check_credentials(pointer: *const lxi_client_options, protocol: Option<Protocol>) -> Result<()> {
    let given = args::options(pointer)?;
    let user = args::optional_text(given.username, "user of a registry")?.is_some();
    let password = args::optional_text(given.password, "password of a registry")?.is_some();
    let secret = args::optional_text(given.secret, "secret")?.is_some();
    if (user || password) && protocol != Some(Protocol::Oci) {
        return Err(invalid("`username` and `password` are those of a registry, which is not asked here"));
    }
    if password && !user {
        return Err(invalid("`password` needs `username`"));
    }
    if secret && !protocol.is_some_and(Protocol::is_rest) {
        return Err(invalid("`secret` opens an image of an LXD or Incus server, which is not asked here"));
    }
    Ok(())
}

/// The client of whatever is connected to by the addresses of images: nobody's credentials go to all of them.
///
/// # Errors
/// `InvalidInput`, also for credentials.
pub(crate) unsafe fn client_of_many(pointer: *const lxi_client_options) -> Result<ClientOptions> {
    check_credentials(pointer, None)?;
    client_options(pointer)
}

/// The client of a registry. A pinned certificate takes the place of the trust in the options.
unsafe fn connect_registry(known: &KnownRemote, pointer: *const lxi_client_options) -> Result<Connected> {
    let mut options = client_options(pointer)?
        .allow_http(known.allow_http || args::options(pointer)?.flags & LXI_CLIENT_ALLOW_HTTP != 0);
    let mut pem = String::new();
    if let Some(certificate) = &known.certificate {
        options = options.trust(Trust::Pinned(certificate.fingerprint()));
        pem = certificate.to_pem();
    }
    let registry = OciRegistry::new(options, &known.url, &login(pointer, known)?)?;
    Ok(Connected::Registry(Box::new(registry.certificate(pem))))
}

unsafe fn wanted(reference: lxi_str, pointer: *const lxi_wanted) -> Result<Wanted> {
    let given = args::options(pointer)?;
    let flags = args::flags(given.flags, 3, "flags of a wanted image")?;
    let mut wanted = Wanted::new(args::text(reference, "reference")?).suggest(flags & LXI_WANTED_NO_SUGGESTIONS == 0);
    if let Some(image_type) = optional_image_type(given.image_type)? {
        wanted = wanted.image_type(image_type);
    }
    let named = architectures(given.architectures, given.architectures_len)?;
    Ok(if !named.is_empty() || flags & LXI_WANTED_ANY_ARCHITECTURE != 0 { wanted.architectures(named) } else { wanted })
}

/// Connects to a server by its address. Nothing is sent yet. `options` may be NULL.
///
/// Owner: the caller, who frees it with `lxi_remote_free`. Threads: any. Errors: LXI_INVALID_INPUT for an invalid URL,
/// and for plain HTTP that is not allowed; LXI_UNSUPPORTED for an unknown protocol; LXI_MALFORMED for a certificate
/// that is not PEM.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_remote_connect(
    address: *const lxi_known_remote,
    options: *const lxi_client_options,
    remote: *mut *mut lxi_remote,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let place = args::out_handle(remote, "remote")?;
        let known = known_remote(address)?;
        check_credentials(options, Some(known.protocol))?;
        if known.protocol == Protocol::Oci {
            place.set(handle::make(connect_registry(&known, options)?));
            return Ok(());
        }
        let secret = args::optional_text(args::options(options)?.secret, "secret")?;
        let mut options = client_options(options)?;
        if known.allow_http {
            options = options.allow_http(true);
        }
        let connected = if known.protocol.is_rest() {
            let pem = known.certificate.as_ref().map(lxd_image::remote::Certificate::to_pem).unwrap_or_default();
            if let Some(certificate) = &known.certificate {
                options = options.trust(Trust::Pinned(certificate.fingerprint()));
            }
            let mut lxd = Lxd::new(options, &known.url)?.protocol(known.protocol).certificate(pem);
            if let Some(secret) = secret {
                lxd = lxd.secret(secret);
            }
            Connected::Rest(Box::new(lxd))
        } else {
            let mut address = RemoteAddress::new(known.protocol, known.url);
            if let Some(certificate) = known.certificate {
                address = address.pinned(certificate);
            }
            Connected::ReadOnly(address.connect(options)?)
        };
        place.set(handle::make(connected));
        Ok(())
    })
}

/// Connects to the remote with this name in the settings, with the client certificate of the settings unless it is
/// public. Nothing is sent yet. `options` may be NULL.
///
/// Owner: the caller, who frees it with `lxi_remote_free`; it may outlive the settings. Threads: any. Errors:
/// LXI_NOT_FOUND, whose hint names what is near; LXI_MALFORMED; LXI_IO.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_settings_connect(
    settings: *const lxi_settings,
    name: lxi_str,
    options: *const lxi_client_options,
    remote: *mut *mut lxi_remote,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let place = args::out_handle(remote, "remote")?;
        let (settings, name) = (handle::get(settings)?, args::text(name, "name of a remote")?);
        let secret = args::optional_text(args::options(options)?.secret, "secret")?;
        let known = settings.get(name)?;
        check_credentials(options, Some(known.protocol))?;
        if known.protocol == Protocol::Oci {
            place.set(handle::make(connect_registry(&known, options)?));
            return Ok(());
        }
        let options = client_options(options)?;
        let connected = if known.protocol == Protocol::Simplestreams {
            Connected::ReadOnly(settings.connect(name, options)?)
        } else {
            let lxd = settings.connect_lxd(name, options)?;
            Connected::Rest(Box::new(match secret {
                Some(secret) => lxd.secret(secret),
                None => lxd,
            }))
        };
        place.set(handle::make(connected));
        Ok(())
    })
}

/// Frees a remote; NULL is allowed.
///
/// Threads: any, the remote being no longer used. Errors: LXI_INVALID_INPUT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_remote_free(remote: *mut lxi_remote) -> lxi_status {
    free(remote)
}

/// The image that `reference` names there now: an alias, a fingerprint, or the first digits of one. What the server
/// does not say stays empty. `wanted` and `monitor` may be NULL.
///
/// Owner: the caller, who frees it with `lxi_stored_image_free`. Threads: any. Errors: LXI_NOT_FOUND, whose hint names
/// other machines or similar aliases; LXI_AMBIGUOUS; LXI_UNSUPPORTED for an image whose fingerprint is known only after
/// its download; LXI_UNTRUSTED for a list that no key of the remote signed, or an older one; LXI_REMOTE; LXI_MALFORMED;
/// LXI_LIMIT_EXCEEDED; LXI_CANCELLED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_remote_resolve(
    remote: *const lxi_remote,
    reference: lxi_str,
    wanted: *const lxi_wanted,
    monitor: *const lxi_monitor,
    image: *mut *mut lxi_stored_image,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let place = args::out_handle(image, "image")?;
        let remote = handle::get(remote)?.source();
        place.set(stored(remote.resolve(&self::wanted(reference, wanted)?, &monitor_from(monitor)?)?));
        Ok(())
    })
}

/// The images there that this client may see and that meet all filters. Entries that can't be used are omissions of
/// `monitor`, which may be NULL.
///
/// Owner: the caller, who frees the cursor with `lxi_image_cursor_free`; it may outlive the remote. Threads: any.
/// Errors: LXI_INVALID_INPUT for a filter that is none; LXI_UNSUPPORTED where there is no list; LXI_UNTRUSTED as for
/// `lxi_remote_resolve`; LXI_REMOTE; LXI_MALFORMED; LXI_LIMIT_EXCEEDED; LXI_CANCELLED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_remote_images(
    remote: *const lxi_remote,
    filters: *const lxi_str,
    filters_len: usize,
    monitor: *const lxi_monitor,
    cursor: *mut *mut lxi_image_cursor,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let place = args::out_handle(cursor, "cursor")?;
        let filters = self::filters(filters, filters_len)?;
        let images = handle::get(remote)?.source().list(&monitor_from(monitor)?)?;
        place.set(Cursor::over(images, filters));
        Ok(())
    })
}

/// Sends an image of a store, with its properties, to an LXD or Incus server, which must trust this client. An image
/// that the server has already gets what `options` say, and its bytes are not sent. Statements about it go along to a
/// server of this library; elsewhere that they stay behind is an omission of the monitor. `options` may be NULL.
///
/// Threads: any. Errors: LXI_UNSUPPORTED for a remote that is no such server; LXI_NOT_FOUND for an image that is not in
/// the store; LXI_ALREADY_EXISTS for an alias that is taken; LXI_MISMATCH when other bytes arrived; LXI_REMOTE, also
/// when it does not trust this client; LXI_CANCELLED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_remote_upload(
    remote: *const lxi_remote,
    store: *const lxi_store,
    fingerprint: *const lxi_fingerprint,
    options: *const lxi_upload_options,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let Connected::Rest(server) = handle::get(remote)? else {
            return Err(Error::new(ErrorKind::Unsupported, "this remote is read from, and takes no images")
                .with_hint("send it to an LXD or Incus server, push it to a registry, or add it to a static tree"));
        };
        let given = args::options(options)?;
        let flags = args::flags(given.flags, 15, "flags of an upload")?;
        args::flags(given.reserved, 0, "reserved bits of an upload")?;
        let mut options = UploadOptions::new()
            .copy_aliases(flags & LXI_UPLOAD_COPY_ALIASES != 0)
            .reuse_aliases(flags & LXI_UPLOAD_REUSE_ALIASES != 0)
            .replace_images(flags & LXI_UPLOAD_REPLACE_IMAGES != 0)
            .public(flags & LXI_UPLOAD_PUBLIC != 0);
        for given in args::items(given.aliases, given.aliases_len, "aliases")? {
            options = options.alias(import::alias(*given)?);
        }
        for (key, value) in args::pairs(given.properties, given.properties_len, "properties")? {
            options = options.property(key, value)?;
        }
        let (store, fingerprint) = (handle::get(store)?, args::fingerprint(fingerprint)?);
        let options = options.statements(store.statements(&fingerprint)?);
        server.upload(&store.open_image(&fingerprint)?, &options, &monitor_from(given.monitor)?)
    })
}
