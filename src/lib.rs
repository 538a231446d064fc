//! Read, verify, unpack, template and pack LXD and Incus images: no daemon, no helper programs.
//!
//! An *image* is a root file system with `metadata.yaml` and optional templates, in one archive
//! (*unified*) or two files (*split*), named by the sha256 of its bytes as stored: its *fingerprint*.
//!
//! ```
//! use lxd_image::Monitor;
//! use lxd_image::format::{Image, PackOptions, Rootfs, ImageSource, UnpackOptions, VerifyOptions, pack};
//! use lxd_image::Metadata;
//!
//! # let dir = std::env::temp_dir().join(format!("lxd-image-doc-{}", std::process::id()));
//! # std::fs::create_dir_all(dir.join("root/etc"))?;
//! # std::fs::write(dir.join("root/etc/hostname"), "box\n")?;
//! // A tree becomes an image. The same tree gives the same bytes.
//! let metadata = Metadata::new("x86_64", 1_700_000_000)?;
//! let (root, packing) = (Rootfs::open(dir.join("root"))?, PackOptions::new(metadata));
//! let written = pack(&root, dir.join("box.tar.zst"), &packing, &Monitor::none())?;
//!
//! // Opening looks at a few KiB; the metadata is read without unpacking anything.
//! let image = Image::open(ImageSource::open(dir.join("box.tar.zst"), None)?)?;
//! assert_eq!(image.metadata()?.architecture(), "x86_64");
//!
//! // One pass: hashed, decoded, checked and written. Nothing is visible unless the fingerprint matches.
//! let options = UnpackOptions::new();
//! let unpacked = image.unpack_verified(dir.join("c1"), &written.fingerprint, &options, &Monitor::none())?;
//! assert_eq!(std::fs::read_to_string(unpacked.path.join("rootfs/etc/hostname"))?, "box\n");
//!
//! // Or only look: what it holds, and every rule that it breaks.
//! assert!(image.verify(&VerifyOptions::new(), &Monitor::none())?.findings.is_empty());
//! # std::fs::remove_dir_all(&dir)?;
//! # Ok::<(), lxd_image::Error>(())
//! ```
//!
//! Input is hostile by definition: anyone can publish an image, and most hosts unpack them as root.
//! `SECURITY.md` says what is promised; [`Limits`] has every bound.
//!
//! # Modules
//!
//! | module | feature | purpose |
//! |---|---|---|
//! | [`mod@format`] | | images as files: open, verify, unpack, pack, convert, compare |
//! | [`disk`] | | disk images: read qcow2, VMDK, OVA, VHD, VHDX and raw; write raw and qcow2 |
//! | [`io`] | | bytes at rest, in whatever backend: the trait that a storage backend implements |
//! | [`delta`] | | differences between two versions of a file, as `xdelta3` reads and writes them |
//! | [`metadata`] | | `metadata.yaml`: parse, edit, write |
//! | [`templates`] | | the template language in both dialects; [`templates::apply`] renders what an image generates for each instance |
//! | `trust` | `trust`, `signatures` for OpenPGP | keys and signatures, statements about images, and the policy that demands them |
//! | `store` | `store` | images on disk, in memory or in an object store, with aliases and properties |
//! | `protocol` | `protocol` | the types of the wire: LXD's REST API, simplestreams, direct import; no sockets |
//! | `simplestreams` | `simplestreams` | trees of static files that any web server turns into an image server |
//! | `oci` | `oci` | container images become instance images; images in OCI layouts and registries |
//! | `remote` | `remote` | images on servers and in registries: list, resolve aliases, download, upload, mirror |
//! | `bundle` | `remote` | images of a store in an OCI layout, to be carried; container images of a layout into a store |
//! | `server` | `server` | a store served to LXD, Incus, other tools and people |
//! | `transfer` | `remote` and `server` | what a server fetches from its upstream and from other servers, by the clients of `remote` |
//!
//! At the top level are the types that all of them share: [`Error`] and [`Result`],
//! [`Fingerprint`], [`Limits`], [`Monitor`] (progress, cancellation and a record of what was left
//! out), and times as people write them (`parse_time`).
//!
//! # How they compose
//!
//! Each module uses only those above it in the table, so a program takes what it needs:
//!
//! - **A file** is enough for verification and unpacking: `format` and `templates`.
//! - **A store** keeps images: it takes any [`format::ImageSource`] in, verifies it, and gives it out as one again.
//! - **A server** is a function from request to response over a store, with a listener around it.
//! - **A remote** finds an image on a server. Copying it into a store verifies it; a refresh of the
//!   store asks the remote that the image came from for a newer one.
//!
//! Store to server: an image that was imported is served to LXD, Incus and browsers.
//!
//! ```no_run
//! # #[cfg(feature = "server")]
//! # fn main() -> lxd_image::Result<()> {
//! use std::sync::Arc;
//!
//! use lxd_image::Monitor;
//! use lxd_image::Cancel;
//! use lxd_image::format::{ImageSource, Input};
//! use lxd_image::server::{Handler, Listener, ListenerOptions, ServerOptions};
//! use lxd_image::store::{Alias, ImportOptions, Store};
//!
//! let store = Store::open("/var/lib/lxd-image")?;
//! let options = ImportOptions::new().alias(Alias::new("box")?).public(true);
//! store.import(ImageSource::unified(Input::open("box.tar.zst")?), &options, &Monitor::none())?;
//!
//! let handler = Handler::new(store, ServerOptions::new());
//! // Without a certificate it speaks HTTP, for a proxy in front of it.
//! let mut listener = Listener::new(Arc::new(handler), ListenerOptions::new())?;
//! listener.bind("127.0.0.1:8080".parse().unwrap())?;
//! listener.run(&Cancel::new())?;
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "server"))]
//! # fn main() {}
//! ```
//!
//! Remote to store to refresh: an image is copied from a server, follows it, and is replaced when
//! the server has a newer one.
//!
//! ```no_run
//! # #[cfg(feature = "remote")]
//! # fn main() -> lxd_image::Result<()> {
//! use lxd_image::Monitor;
//! use lxd_image::remote::{ClientOptions, CopyOptions, Simplestreams, RemoteRefresh, copy, open_source};
//! use lxd_image::store::{RefreshOptions, Store};
//!
//! let store = Store::open("/var/lib/lxd-image")?;
//! let remote = Simplestreams::new(ClientOptions::new(), &"https://images.example".parse()?)?;
//! copy(&remote, "debian/12", &store, &CopyOptions::new().auto_update(true), &Monitor::none())?;
//!
//! // Once a day: replaces what has a newer version, and keeps aliases and edited properties.
//! let remotes = RemoteRefresh::new(|source| open_source(source, ClientOptions::new()));
//! for (image, outcome) in store.refresh_all(&remotes, &RefreshOptions::new(), &Monitor::none())? {
//!     println!("{}: {outcome:?}", image.fingerprint);
//! }
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "remote"))]
//! # fn main() {}
//! ```
//!
//! A tree of static files needs no server of ours at all: a web server that serves the directory is an image server.
//!
//! ```no_run
//! # #[cfg(feature = "simplestreams")]
//! # fn main() -> lxd_image::Result<()> {
//! use lxd_image::simplestreams::Tree;
//!
//! let tree = Tree::create("/srv/www/images")?;
//! for image in tree.listing()?.images() {
//!     println!("{}", image.fingerprint);
//! }
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "simplestreams"))]
//! # fn main() {}
//! ```
//!
//! Templates are rendered without an image, too:
//!
//! ```
//! use lxd_image::Limits;
//! use lxd_image::templates::{Context, Dialect, Template};
//!
//! let template = Template::parse(b"{{ container.name }}\n", Dialect::Lxd, &Limits::default())?;
//! let context = Context::new().instance([("name", "c1")]);
//! assert_eq!(template.render(&context, &Limits::default())?, b"c1\n");
//! # Ok::<(), lxd_image::Error>(())
//! ```
//!
//! # Long calls
//!
//! A call that reads or writes a whole image takes a [`Monitor`]. It reports progress, ends the
//! call within a second when it is cancelled, and records what was left out ([`Omissions`]):
//! nothing of an image is dropped silently.
//!
//! # Features
//!
//! Codecs are features (`gzip`, `xz`, `zstd` by default; `bzip2`, `lz4`, `lzo`). A codec that is
//! compiled out fails with [`ErrorKind::FeatureDisabled`], and the calls stay the same. The default
//! features are the three codecs and `store`; there is no network and no async runtime in them.
#![forbid(unsafe_code)]

mod atomic;
#[cfg(feature = "remote")]
pub mod bundle;
pub mod delta;
pub mod disk;
mod error;
mod fingerprint;
pub mod format;
pub mod io;
mod leftovers;
mod limits;
pub mod metadata;
#[cfg(feature = "oci")]
pub mod oci;
mod omissions;
mod progress;
#[cfg(feature = "protocol")]
pub mod protocol;
mod redact;
#[cfg(feature = "remote")]
pub mod remote;
mod rooted;
#[cfg(any(feature = "remote", feature = "server"))]
mod self_signed;
#[cfg(feature = "server")]
pub mod server;
#[cfg(feature = "simplestreams")]
pub mod simplestreams;
#[cfg(any(feature = "store", feature = "protocol"))]
mod source_protocol;
mod sparse;
#[cfg(feature = "store")]
pub mod store;
pub mod templates;
#[cfg(any(feature = "store", feature = "protocol"))]
mod time;
#[cfg(all(feature = "remote", feature = "server"))]
pub mod transfer;
#[cfg(feature = "trust")]
pub mod trust;

pub use error::{Error, ErrorKind, Escaped, Result, TemplatePlace, TemplateStage};
pub use fingerprint::{Fingerprint, FingerprintPrefix, Hasher, VerifyingReader};
pub use limits::Limits;
pub use metadata::{Architecture, ImageType, Metadata, Properties, TemplateRule};
pub use omissions::{Omission, Omissions, Omitted};
pub use progress::{Cancel, Monitor, Phase, Progress, Update};
#[cfg(any(feature = "store", feature = "protocol"))]
pub use time::{parse_duration, parse_time};
