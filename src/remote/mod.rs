//! Clients of image servers: LXD and Incus, simplestreams, registries, and direct-import URLs, behind one trait.
//!
//! ```text
//! Wanted ──Remote::locate──▶ Resolution ──Remote::open──▶ ImageSource ──Store::import──▶ StoredImage
//! (alias, type, machines)    (fingerprint, description)   (bytes)   (bytes checked)
//! ```
//!
//! A [`Remote`] describes and delivers images; it decides nothing. [`copy()`] brings one image into a
//! [`Store`](crate::store::Store), [`mirror()`] keeps a store or a static tree equal to a remote,
//! `Store::get_or_fetch` uses a store as a cache, and [`RemoteRefresh`] answers what
//! [`Store::refresh`](crate::store::Store::refresh) asks of the source of an image. [`Settings`] has the remotes that a user
//! knows by name. [`RemoteAddress`] turns a protocol and a URL into a client.
//!
//! Invariants:
//!
//! - Nothing that a server says is believed. An image is stored under the digest of the bytes that arrived, and refused if that
//!   is not the fingerprint that was asked for. Where a protocol has no fingerprint to ask for, the caller says so explicitly
//!   ([`Resolution`]).
//! - Each document is bounded before it is parsed, each wait is bounded in time and can be cancelled
//!   ([`Limits`](crate::Limits)), and no answer leads to a file or, from another host, to this machine.
//! - Every request that changes nothing is retried after transient errors ([`RetryPolicy`]); a download resumes where it broke
//!   ([`Download`]). An image is started again from its beginning in one place, `copy.rs`, when the server replaced the file
//!   meanwhile.
//! - Secrets in URLs and requests are never part of an error or of a `Debug` text.
//!
//! | file | holds |
//! |---|---|
//! | `remote.rs`, `resolution.rs`, `wanted.rs` | the contract |
//! | `rest/`, `simplestreams.rs`, `direct.rs`, `oci/` | one client for each protocol |
//! | `download.rs`, `read_ahead.rs`, `thread_reader.rs`, `retry.rs` | bytes: resumed, read ahead, handed over by a thread, retried |
//! | `static_tree.rs` | documents and files below one URL, cached |
//! | `documents.rs`, `list_record.rs` | lists that must be signed, and which ones were accepted last |
//! | `http/` | transport: TLS, proxies, redirects, time limits |
//! | `copy.rs`, `mirror.rs`, `refresh.rs` | what is done with remotes |
//! | `patching.rs` | files out of deltas and what the store has |
//! | `settings/` | remotes by name, the client's certificate |
//!
//! ```no_run
//! use lxd_image::Monitor;
//! use lxd_image::remote::{ClientOptions, CopyOptions, Direct, copy};
//! use lxd_image::store::{Alias, Store};
//!
//! let server = Direct::new(ClientOptions::new(), "https://images.example/lxd".parse()?)?;
//! let options = CopyOptions::new().alias(Alias::new("busybox")?);
//! let image = copy(&server, "", &Store::open("/var/lib/lxd-image")?, &options, &Monitor::none())?;
//! println!("{}", image.fingerprint);
//! # Ok::<(), lxd_image::Error>(())
//! ```

mod address;
mod copy;
mod direct;
mod documents;
mod download;
mod http;
mod list_record;
mod mirror;
mod mirror_signed;
mod oci;
mod patching;
mod read_ahead;
mod refresh;
#[expect(clippy::module_inception, reason = "the file of the trait is named after the trait")]
mod remote;
mod resolution;
mod rest;
mod retry;
mod settings;
mod similar;
mod simplestreams;
mod static_tree;
mod thread_reader;
mod wanted;

pub use crate::source_protocol::Protocol;
pub use address::RemoteAddress;
#[cfg(feature = "trust")]
pub use copy::vouched;
pub use copy::{CopyOptions, copy, fetch};
pub use direct::Direct;
pub use documents::SignedDocuments;
pub use download::Download;
pub use http::{
    Body, Certificate, Client, ClientOptions, Identity, Method, Proxy, Request, Response, Scheme, Trust, Url,
};
pub use list_record::{AcceptedList, ListRecord};
pub use mirror::{MirrorOptions, MirrorTarget, Mirrored, mirror};
pub use oci::{OciCredentials, OciLogin, OciPushOptions, OciReference, OciRegistry, OciRepository, artifact_of};
pub use refresh::{RemoteRefresh, open_source};
pub use remote::Remote;
pub use resolution::{Resolution, UnverifiedImage};
pub use rest::{Lxd, UploadOptions};
pub use retry::RetryPolicy;
pub use settings::{FirstUse, KnownRemote, Settings};
pub use simplestreams::Simplestreams;
pub use wanted::Wanted;
