//! Reading, checking, unpacking, packing and converting image files.
//! Everything that knows an archive's or a disk's layout is below here; `FORMAT.md` tells the facts.

mod entry;
mod squashfs;

pub use entry::{DeviceNumber, Entry, EntryKind, Timestamp};
pub use squashfs::{SquashFs, SquashFsCompression, SquashFsEntries};
