//! Disk images of virtual machines: read qcow2, VMDK, OVA, VHD, VHDX and raw; write raw and qcow2.
//!
//! Everything happens in this process, on all cores, with memory that does not grow with the disk.
//! [`DiskImage`] opens bytes at rest (a [`Blob`](crate::io::Blob)) and is itself a
//! [`ReadAt`](crate::io::ReadAt) of what the virtual machine sees. [`write_raw`](DiskImage::write_raw)
//! and [`write_qcow2`](DiskImage::write_qcow2) convert.
//!
//! ```
//! use lxd_image::Monitor;
//! use lxd_image::disk::{DiskFormat, DiskImage, DiskOptions, Qcow2WriteOptions, ClusterCompression};
//! use lxd_image::io::{Blob, ReadAt};
//!
//! # let dir = std::env::temp_dir().join(format!("lxd-image-doc-disk-{}", std::process::id()));
//! # std::fs::create_dir_all(&dir)?;
//! // A raw disk has no magic number, so the caller must say that it is one.
//! let mut bytes = vec![0; 1 << 20];
//! bytes[..5].copy_from_slice(b"hello");
//! let raw = DiskImage::open(Blob::from(bytes), &DiskOptions::new().format(DiskFormat::Raw))?;
//!
//! let file = std::fs::File::create_new(dir.join("disk.qcow2"))?;
//! let options = Qcow2WriteOptions::new().compression(ClusterCompression::None);
//! raw.write_qcow2(&file, &options, &Monitor::none())?;
//!
//! let disk = DiskImage::open(Blob::file(std::fs::File::open(dir.join("disk.qcow2"))?)?, &DiskOptions::new())?;
//! assert_eq!((disk.format(), disk.virtual_size()), (DiskFormat::Qcow2, 1 << 20));
//! let mut start = [0; 5];
//! disk.read_exact_at(&mut start, 0)?;
//! assert_eq!(&start, b"hello");
//! # std::fs::remove_dir_all(&dir)?;
//! # Ok::<(), lxd_image::Error>(())
//! ```
//!
//! # Invariants against hostile disks
//!
//! * Nothing but the one file is ever opened: backing files, external data files, parents and disks
//!   in several files are refused by name.
//! * A format that has no magic number is never guessed: content is raw only if the caller says so.
//! * Every offset in a table lies in the file, every table is within [`Limits`](crate::Limits), and
//!   while converting no two entries may use the same bytes, so that a small file can't pretend to
//!   be a large disk.
//! * A compressed cluster is decoded into a buffer of its own size and no further.

mod claims;
mod codec;
mod device;
mod format;
mod image;
mod jobs;
mod opened;
mod output;
mod ova;
mod pieces;
mod qcow2;
mod raw;
mod runs;
mod target;
mod vhd;
mod vhdx;
mod vmdk;

pub use codec::ClusterCompression;
pub use device::BlockDevice;
pub use format::DiskFormat;
pub use image::{DiskImage, DiskOptions, Extent, ExtentKind, Extents};
pub use output::DiskOutput;
pub(crate) use ova::is_appliance;
pub(crate) use qcow2::{AllocationTally, HEAD_BYTES as QCOW2_HEAD_BYTES, Header as Qcow2Header, MAGIC as QCOW2_MAGIC};
pub use qcow2::{Qcow2WriteOptions, WrittenDisk};
pub use raw::RawWriteOptions;
pub use target::DiskTarget;
