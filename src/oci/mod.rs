//! OCI: container images, registries' documents and layouts, and LXD and Incus images kept in them.
//!
//! * [`Layout`] reads an OCI layout, a directory or a tar; [`LayoutWriter`] writes one. Both are a [`BlobSource`] and a
//!   [`BlobSink`], as a repository of a registry is (`remote`).
//! * [`Image`] follows a reference, through indexes, to the manifest for a machine.
//! * [`ContainerImage`] makes an instance image of the layers of a container image: what Incus does with `skopeo`,
//!   `umoci` and `tar`, without root and without a tree on disk.
//! * [`ImageArtifact`] is an image of LXD or Incus that is kept as an artifact; [`ImagePush`] writes one.
//! * `put_statements` writes statements about an image beside it, as referrers of its manifest; `read_statements` reads them
//!   (feature `trust`).
//!
//! ```text
//! BlobSource ─ Image ─┬─ ContainerImage ─ layers applied to a tree of names ─ each file once ─ files, stream, directory
//!                     └─ ImageArtifact ─ the files as they are ─ format::ImageSource
//! ```
//!
//! Everything is hostile: documents are bounded before they are parsed, digests and sizes of all blobs are checked as
//! they are read, and no link or whiteout of a layer leads out of its root.

mod artifact;
mod challenge;
mod config;
mod container;
mod digest;
mod document;
mod image;
mod layout;
pub mod media_type;
mod platform;
mod reference;
mod referrers;
mod runtime;
mod source;
#[cfg(feature = "trust")]
mod statements;
mod users;

pub use self::artifact::{ARTIFACT, FileRole, ImageArtifact, ImagePush};
#[cfg(feature = "remote")]
pub(crate) use self::artifact::{PreparedPush, index_entry, type_of_entry};
pub use self::challenge::Challenge;
pub use self::config::{History, ImageConfig, RootfsLayers, RunConfig};
pub use self::container::{ContainerImage, ContainerOptions};
pub use self::digest::{Digest, DigestHasher, DigestReader};
pub use self::document::{Annotations, Descriptor, Document, Index, Manifest, to_json};
pub use self::image::Image;
pub use self::layout::{Layout, LayoutWriter, REF_NAME};
pub use self::platform::Platform;
pub use self::reference::OciReference;
#[cfg(feature = "remote")]
pub(crate) use self::reference::check_repository;
#[cfg(feature = "remote")]
pub(crate) use self::referrers::{fallback_tag, is_or_may_be, referrer_entry};
pub use self::source::{BlobSink, BlobSource, RawDocument, Reference, Tag, open_blob, read_blob};
#[cfg(feature = "trust")]
pub use self::statements::{STATEMENT, put_statements, read_statements};
