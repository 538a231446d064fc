//! Writing images: packing a tree or a disk, and converting one image into another form.
//!
//! `archive` has the one writer, a visitor like all consumers of images. `tree` feeds it from a
//! directory, `convert` from another image. Bytes pass through an encoder on a thread of its own
//! (`encode_thread`), are hashed behind it, and go to files that get their names only when they are
//! complete (`staged_file`).

mod archive;
mod convert;
mod disk;
mod disk_rewrite;
mod disk_source;
mod encode_thread;
pub(in crate::format) mod extension;
mod pack;
mod record;
mod staged_file;
mod tree;

pub use archive::Written;
#[cfg(feature = "oci")]
pub(in crate::format) use archive::{DEFAULT_CODEC, ImageWriter};
pub use convert::ConvertOptions;
pub(super) use disk_rewrite::container_has_no_disk;
pub use disk_source::{is_disk, open_disk};
#[cfg(feature = "store")]
pub(crate) use pack::pack_into;
#[cfg(feature = "oci")]
pub(in crate::format) use pack::root_target;
pub use pack::{PackOptions, Rootfs, RootfsFormat, pack, pack_metadata, pack_to};
pub(crate) use staged_file::StagedFile;
