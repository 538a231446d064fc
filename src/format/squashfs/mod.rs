//! SquashFS 4.0 in process: a reader and a writer that need no helper programs.
//! `FORMAT.md` beside this file tells the layout, with its source.

mod data;
mod decode;
mod directory;
mod extract;
mod fields;
mod fragments;
mod image;
mod inode;
#[cfg(feature = "lzo")]
mod lzo;
mod metadata_blocks;
mod queue;
mod reader;
mod superblock;
mod tables;
mod tree_walk;
mod write;
mod xattr;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed test tells by panicking")]
mod tests;

pub(crate) use data::TotalSize;
pub(crate) use extract::{ExtractSink, FileTarget, extract};
pub(crate) use reader::{FileBytes, SquashFsReader};
pub(crate) use superblock::{SUPERBLOCK, bytes_used};
pub(crate) use write::{PendingFile, WriteOptions, Writer};
pub(crate) use xattr::holds as holds_xattr;

pub use image::{SquashFs, SquashFsEntries};
pub use superblock::SquashFsCompression;
