//! Reading, checking, unpacking, packing and converting image files.
//! Everything that knows an archive's or a disk's layout is below here; `FORMAT.md` tells the facts.

mod codec;
mod entry;

pub use codec::{Codec, Compression, Encoder, decode, encode};
pub use entry::{DeviceNumber, Entry, EntryKind, Timestamp};
