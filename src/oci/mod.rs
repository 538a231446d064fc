//! OCI: container images, registries' documents and layouts, and LXD and Incus images kept in them.

mod config;
mod container;
mod digest;
mod document;
mod image;
mod layout;
pub mod media_type;
mod platform;
mod runtime;
mod source;
mod users;

pub use self::config::{History, ImageConfig, RootfsLayers, RunConfig};
pub use self::container::{ContainerImage, ContainerOptions};
pub use self::digest::{Digest, DigestHasher, DigestReader};
pub use self::document::{Annotations, Descriptor, Document, Index, Manifest, to_json};
pub use self::image::Image;
pub use self::layout::{Layout, LayoutWriter, REF_NAME};
pub use self::platform::Platform;
pub use self::source::{BlobSink, BlobSource, RawDocument, Reference, Tag, open_blob, read_blob};
