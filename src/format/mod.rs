//! Image files: reading, verifying, unpacking, packing, converting and comparing them.
//!
//! An image of LXD or Incus is one file (unified: `metadata.yaml`, `templates/` and `rootfs/` or
//! `rootfs.img` in one archive) or two (split: a metadata archive, and a tar, SquashFS or qcow2
//! file as the root). Everything that knows the layout of an archive or a disk is in this module;
//! `FORMAT.md` in the repository has the facts.
//!
//! # Where to start
//!
//! * [`Image`] opens one or two files ([`ImageSource`] of [`Input`]s) and looks at a few KiB. Its
//!   methods do the rest: `metadata`, `fingerprint`, [`verify`](Image::verify),
//!   [`unpack_verified`](Image::unpack_verified), `convert`.
//! * [`pack`] makes an image of a directory or a disk.
//! * [`differences`] compares two images.
//! * [`SquashFs`] looks into a SquashFS file without an image around it; [`decode`] and [`encode`]
//!   are the codecs.
//!
//! # Data flow
//!
//! ```text
//! Input ── hash ──▶ codec ──▶ tar reader ──▶ layout ──▶ MemberVisitor
//!   │  (pipeline)                              ▲          ├─ unpack: extract (writes below one directory)
//!   └─ positions ──▶ squashfs reader ──────────┘          ├─ verify: namespace (checks, writes nothing)
//!                                                         └─ write: tar or SquashFS writer, codec, hash, file
//! ```
//!
//! A pass reads each byte once: what is hashed for the fingerprint is the same buffer that is
//! decoded, so nobody can swap content between the check and the use. `layout` decides where a
//! member belongs, for every consumer alike.
//!
//! # Invariants against hostile images
//!
//! * Nothing is written outside of the destination: names are normalised, no link is followed, and
//!   every file is created through a handle of its directory.
//! * Every size, count and length that an image states is compared with [`Limits`](crate::Limits)
//!   before it is used.
//! * Memory does not grow with the image, apart from a few bytes per member.
//! * Whatever fails or is cancelled leaves nothing behind; an unpacked image appears in one step
//!   ([`StagedUnpack`]).

mod cancellable;
mod chunk;
mod codec;
mod content_digest;
mod detect;
mod diff;
mod entry;
mod external_sort;
mod extract;
mod foreign;
mod holes;
mod image;
mod input;
#[cfg(feature = "oci")]
mod layers;
mod layout;
mod namespace;
mod omitted_members;
mod path;
mod pipeline;
mod qcow2;
mod spool;
mod squashfs;
mod squashfs_image;
mod staged;
mod tar;
mod templates;
mod unpack;
mod verify;
mod visitor;
mod write;

#[cfg(feature = "oci")]
pub(crate) use self::chunk::ReadChunks as TarReadChunks;
pub(crate) use self::foreign::{HEAD_BYTES as FOREIGN_HEAD_BYTES, unknown_disk};
pub(crate) use self::holes::is_zero;
#[cfg(feature = "oci")]
pub(crate) use self::layers::{Layer, LayerImage, LayerTree, LayerWriteOptions};
#[cfg(feature = "oci")]
pub(crate) use self::pipeline::ReadPass;
pub(crate) use self::pipeline::default_threads;
#[cfg(any(feature = "oci", feature = "store"))]
pub(crate) use self::spool::nameless;
#[cfg(feature = "oci")]
pub(crate) use self::staged::StagingDir;
pub(crate) use self::tar::{Header as TarHeader, SIZE as TAR_SIZE};
#[cfg(feature = "oci")]
pub(crate) use self::tar::{TarReader, TarWriter};
pub use crate::metadata::ImageType;
pub use codec::{Codec, Compression, Encoder, decode, encode};
pub use detect::Container;
pub use diff::{Difference, differences, for_each_difference};
pub use entry::{DeviceNumber, Entry, EntryKind, Timestamp, Xattr};
pub use extract::{IdMap, IdRange, UnpackReport};
pub use image::{Image, ImageForm, fingerprint_of};
pub use input::{ImageSource, Input};
pub use qcow2::{HEAD_BYTES as QCOW2_HEAD_BYTES, Qcow2};
pub use squashfs::{SquashFs, SquashFsCompression, SquashFsEntries};
pub use staged::{CommitFailed, StagedUnpack, Unverified, Verified};
pub use unpack::{UnpackOptions, Unpacked};
pub use verify::{MemberCounts, VerifyOptions, VerifyReport};
pub(crate) use write::StagedFile;
#[cfg(feature = "store")]
pub(crate) use write::pack_into;
pub use write::{ConvertOptions, PackOptions, Rootfs, RootfsFormat, Written};
pub use write::{is_disk, open_disk, pack, pack_metadata, pack_to};
