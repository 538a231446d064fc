//! Disk images: every format against `qemu-img`, what we write against it, forged files, random maps.

mod forged;
mod peers;
mod random;
mod scratch;
mod writing;
