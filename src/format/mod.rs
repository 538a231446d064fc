//! Reading, checking, unpacking, packing and converting image files.
//! Everything that knows an archive's or a disk's layout is below here; `FORMAT.md` tells the facts.

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
pub use write::{ConvertOptions, PackOptions, Rootfs, RootfsFormat, Written, pack, pack_metadata, pack_to};
