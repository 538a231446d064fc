//! Writing images: one writer that takes members from a tree or from another image, in any form.
//! What it writes is hashed as it goes and visible only when it is whole.

mod archive;
mod convert;
mod disk;
mod encode_thread;
mod extension;
mod pack;
mod staged_file;
mod tree;

pub use archive::Written;
pub use convert::ConvertOptions;
pub use pack::{PackOptions, Rootfs, RootfsFormat, pack, pack_metadata, pack_to};
