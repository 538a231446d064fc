//! Deltas: what differs between two versions of a file, in the VCDIFF format (RFC 3284) as `xdelta3` reads and writes it.
//!
//! Image servers offer them beside whole files (`squashfs.vcdiff`, `disk-kvm.img.vcdiff`): a client that has the version
//! before fetches a few megabytes instead of hundreds. [`apply`] makes the new file from the old one and a delta.
//!
//! Nothing but memory and the given reader, base and writer is used: no helper program, no temporary file.

mod adler32;
mod apply;
mod compress;
mod djw;
mod encode;
mod files;
mod index;
mod instructions;
mod make;
mod matches;
mod pages;
mod secondary;
mod varint;
mod window;

pub use self::apply::{AppliedDelta, apply};
pub use self::files::{apply_file, make_file};
pub use self::make::{DeltaOptions, DeltaReport, make};
pub use self::secondary::Secondary;
use crate::error::{Error, ErrorKind};

/// The error for a thread that ended without an answer.
fn lost() -> Error {
    Error::new(ErrorKind::Io, "a thread that works on the delta ended early")
}
