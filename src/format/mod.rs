//! Reading, checking, unpacking, packing and converting image files.
//! Everything that knows an archive's or a disk's layout is below here; `FORMAT.md` tells the facts.

mod absent;
mod chunk;
mod codec;
mod content;
mod detect;
mod diff;
mod drive;
mod entry;
mod extract;
mod foreign;
mod holes;
mod image;
mod input;
mod layout;
mod namespace;
mod path;
mod pipeline;
mod qcow2;
mod sorted;
mod spool;
mod squashed;
mod squashfs;
mod staged;
mod tar;
mod templates;
mod unpack;
mod verify;
mod waiting;
mod write;

pub use crate::metadata::ImageType;
pub use codec::{Codec, Compression, Encoder, decode, encode};
pub use detect::Container;
pub use diff::{Difference, differences, for_each_difference};
pub use entry::{DeviceNumber, Entry, EntryKind, Timestamp, Xattr};
pub use extract::{IdMap, IdRange, Report};
pub use image::{Form, Image, fingerprint_of};
pub use input::{Input, Source};
pub use qcow2::{HEAD_BYTES as QCOW2_HEAD_BYTES, Qcow2};
pub use squashfs::{SquashFs, SquashFsCompression, SquashFsEntries};
pub use staged::{CommitFailed, Staged, Unverified, Verified};
pub use unpack::{UnpackOptions, Unpacked};
pub use verify::{Counts, Verification, VerifyOptions};
pub use write::{ConvertOptions, PackOptions, Rootfs, RootfsFormat, Written, pack, pack_metadata, pack_to};
