//! The media types of OCI and Docker that are read, and those that are written.

use crate::error::{Error, Result};
use crate::format::Codec;

/// An OCI image manifest.
pub const IMAGE_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// An OCI image index.
pub const IMAGE_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// An OCI image configuration.
pub const IMAGE_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// The empty object `{}`, which stands for a configuration where there is none.
pub const EMPTY: &str = "application/vnd.oci.empty.v1+json";
/// A Docker manifest, schema 2.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// A Docker manifest list: an index.
pub const DOCKER_MANIFEST_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// The configuration of a Docker image.
pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";

/// All types of documents that a registry may answer with, for an `Accept` header.
pub const DOCUMENTS: &[&str] = &[IMAGE_MANIFEST, IMAGE_INDEX, DOCKER_MANIFEST, DOCKER_MANIFEST_LIST];

/// How the layer of a container image is compressed.
///
/// # Errors
/// `Unsupported` for layers that may not be distributed, encrypted layers, and all other types.
pub fn layer_codec(media_type: &str) -> Result<Codec> {
    match media_type {
        "application/vnd.oci.image.layer.v1.tar" | "application/vnd.docker.image.rootfs.diff.tar" => Ok(Codec::None),
        "application/vnd.oci.image.layer.v1.tar+gzip" | "application/vnd.docker.image.rootfs.diff.tar.gzip" => {
            Ok(Codec::Gzip)
        }
        "application/vnd.oci.image.layer.v1.tar+zstd" | "application/vnd.docker.image.rootfs.diff.tar.zstd" => {
            Ok(Codec::Zstd)
        }
        other if other.contains(".nondistributable.") || other.contains(".foreign.") => {
            Err(Error::unsupported(format!("a layer of the type `{other}` may not be distributed"))
                .with_hint("such layers hold Windows, or lie on the servers of their maker"))
        }
        other if other.ends_with("+encrypted") => {
            Err(Error::unsupported(format!("a layer of the type `{other}` is encrypted")))
        }
        other => Err(Error::unsupported(format!("a layer of the type `{other}` is not known here"))
            .with_hint("a layer is a tar, uncompressed or compressed with gzip or zstd")),
    }
}
