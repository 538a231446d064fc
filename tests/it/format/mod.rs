//! Images through the doors of the library: opened, verified, unpacked, packed, converted.
//! What hostile archives must lead to is here row by row, made by code.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod extended;
pub(crate) mod forge;
mod links;
mod names;
mod place;
mod special;
mod structure;
mod verdict;

pub(crate) use place::{Place, is_root, tree};

use lxd_image::ErrorKind;

const MALFORMED: &[ErrorKind] = &[ErrorKind::Malformed];
const UNSAFE: &[ErrorKind] = &[ErrorKind::UnsafePath];
const UNSUPPORTED: &[ErrorKind] = &[ErrorKind::Unsupported];
const LIMIT: &[ErrorKind] = &[ErrorKind::LimitExceeded];
