//! Types of the wire: the REST objects of LXD and Incus, simplestreams documents, direct import. No sockets and no files: bytes in,
//! values out, and back. Clients (`remote`) and servers use the same types.
//!
//! | module | for |
//! |---|---|
//! | [`rest`] | objects and envelopes of LXD's and Incus's REST API |
//! | [`simplestreams`] | index, lists of products, and which images they offer |
//! | [`direct`] | the headers of direct import |
//!
//! All input is untrusted. Documents are bounded in size and depth before they are parsed
//! ([`Limits::remote_index`](crate::Limits::remote_index), [`Limits::json_depth`](crate::Limits::json_depth)), a fingerprint is
//! a [`Fingerprint`](crate::Fingerprint) or an error, and a path that leads out of a server's tree is refused. Apart from that,
//! reading is lenient, as LXD's clients are: unknown keys are skipped or kept, `null` is empty, and a bad entry hides no other.
//!
//! ```
//! use lxd_image::protocol::simplestreams::{Listing, Products};
//! use lxd_image::{Architecture, ImageType, Limits};
//!
//! let document = br#"{"content_id": "images", "datatype": "image-downloads", "format": "products:1.0", "products": {
//!     "debian:12:default:amd64": {"arch": "amd64", "os": "Debian", "release": "12", "aliases": "debian/12", "versions": {
//!         "20240601": {"items": {"lxd_combined.tar.gz": {"ftype": "lxd_combined.tar.gz", "path": "images/d.tar.gz",
//!             "size": 3, "sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"}}}}}}}"#;
//! let products = Products::from_json(document, &Limits::default())?;
//! let listing = Listing::new(&products);
//! let image = listing.resolve("debian/12", ImageType::Container, Architecture::X86_64).unwrap();
//! assert_eq!(image.properties.get("description"), Some("Debian 12 amd64 (20240601)"));
//! # Ok::<(), lxd_image::Error>(())
//! ```

pub mod direct;
#[cfg(any(feature = "remote", feature = "server"))]
pub(crate) mod escape;
mod json;
#[cfg(any(feature = "remote", feature = "server"))]
pub(crate) mod multipart;
#[cfg(feature = "server")]
pub(crate) mod requests;
pub mod rest;
pub mod simplestreams;
#[cfg(any(feature = "remote", feature = "server"))]
pub(crate) mod split_body;

#[cfg(feature = "oci")]
pub(crate) use self::json::{depth as json_depth, nullable};
pub use crate::source_protocol::Protocol;
pub(crate) use json::from_json;
#[cfg(feature = "server")]
pub(crate) use json::from_request;
