//! Images through the doors of the library: opened, verified, unpacked, packed, converted.
//! What hostile archives must lead to is here row by row, made by code.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod at_rest;
mod cancelling;
mod comparing;
mod dialects;
mod disks;
mod extended;
mod foreign;
pub(crate) mod forge;
mod holes;
mod limits;
mod links;
mod names;
mod owners;
pub(crate) mod peers;
mod place;
mod race;
mod reading;
mod round_trips;
mod special;
mod split;
mod streams;
mod structure;
mod tolerance;
mod unpacking;
mod verdict;

pub(crate) use place::{Place, is_root, tree};

use lxd_image::ErrorKind;

const MALFORMED: &[ErrorKind] = &[ErrorKind::Malformed];
const UNSAFE: &[ErrorKind] = &[ErrorKind::UnsafePath];
const UNSUPPORTED: &[ErrorKind] = &[ErrorKind::Unsupported];
const LIMIT: &[ErrorKind] = &[ErrorKind::LimitExceeded];
