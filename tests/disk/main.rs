//! Disk images: every format against `qemu-img`, what we write against it, forged files, random maps.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod forged;
mod peers;
mod random;
mod scratch;
mod writing;
