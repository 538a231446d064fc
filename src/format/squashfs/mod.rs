//! SquashFS 4.0 in process: a reader and a writer that need no helper programs and no mount.
//!
//! Format facts: the kernel's `Documentation/filesystems/squashfs.rst` and
//! `fs/squashfs/squashfs_fs.h`, and the description at dr-emann/squashfs; `FORMAT.md` beside this
//! file has the layout with its sources.
//!
//! The reader, from the outside in: `superblock` (first 96 bytes), `tables` (look-up tables of ids,
//! fragments, xattrs), `metadata_blocks` (compressed blocks of 8 KiB and a cursor over them),
//! `inode`, `directory`, `tree_walk` (all members in order), `data` and `fragments` (content of
//! files), `extract` (everything into a sink, on all cores). The writer is in `write`.
//!
//! Invariants against hostile images, which a mounted SquashFS would leave to the kernel:
//!
//! * Every position is compared with the region it must lie in, every count with the bytes that are
//!   there, before it is used. No allocation has a size from the image, except of bounded ones (a
//!   block of at most 1 MiB, a name, a target).
//! * Each directory is entered once, so the walk ends. Each name is one component, without slash,
//!   NUL, `.` or `..`; names in a directory ascend, so no name comes twice.
//! * The sizes of all files together are limited, since holes and shared blocks make a small image
//!   claim exabytes.

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

pub(crate) use data::{FileData, TotalSize};
pub(crate) use extract::{ExtractSink, FileTarget, extract};
pub(crate) use reader::{FileBytes, SquashFsReader};
pub(crate) use superblock::{SUPERBLOCK, bytes_used};
pub(crate) use write::{PendingFile, WriteOptions, Writer};
pub(crate) use xattr::holds as holds_xattr;

pub use image::{SquashFs, SquashFsEntries};
pub use superblock::SquashFsCompression;
