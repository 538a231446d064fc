//! What the fuzz targets share: tight limits, images made of a fuzzer's bytes, a canary to watch.
//! The targets themselves are in `fuzz_targets`, a few lines each.
#![forbid(unsafe_code)]

mod arena;
mod bytes;
mod program;
mod scratch;
mod verdict;

use std::io::Cursor;

use lxd_image::format::{Image, ImageSource, Input};
use lxd_image::{Limits, Result};

pub use arena::Arena;
pub use bytes::{fix_checksums, fix_superblock, point_at_canary, vhdx};
pub use program::{archive, layers};
pub use scratch::Scratch;
pub use verdict::compare;

/// A `metadata.yaml` with what every image must have.
pub const METADATA: (&str, &[u8]) = ("metadata.yaml", b"architecture: x86_64\ncreation_date: 1700000000\n");

/// Limits under which every run is short: a fuzzer learns nothing from the second mebibyte.
#[must_use]
pub fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.metadata = 64 << 10;
    limits.yaml_nodes = 10_000;
    limits.alias_expansions = 100;
    limits.templates = 16;
    limits.template_file = 64 << 10;
    limits.template_bytes = 128 << 10;
    limits.entries = 256;
    limits.path = 512;
    limits.extended_header = 64 << 10;
    limits.gnu_name = 8 << 10;
    limits.sparse_segments = 1_000;
    limits.file_size = 1 << 30;
    limits.output = 4 << 20;
    limits.ratio = 10;
    limits.trailing = 64 << 10;
    limits.codec_memory = 16 << 20;
    limits.codec_threads_memory = 32 << 20;
    limits.oci_document = 64 << 10;
    limits.oci_layers = 16;
    limits.oci_manifests = 64;
    limits.oci_tree = 8 << 20;
    limits
}

/// Limits for a template: a loop shows at its hundredth round what it does.
#[must_use]
pub fn template_limits() -> Limits {
    let mut limits = limits();
    limits.template_output = 64 << 10;
    limits.template_steps = 20_000;
    limits.template_depth = 16;
    limits
}

/// The metadata file of a split image, which a rootfs needs beside it.
#[must_use]
pub fn metadata_archive() -> Cursor<Vec<u8>> {
    Cursor::new(tar(&[METADATA]))
}

/// A small tar of files.
#[must_use]
pub fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = Vec::new();
    for (name, content) in files {
        let mut head = vec![0; 512];
        head[..name.len()].copy_from_slice(name.as_bytes());
        head[100..108].copy_from_slice(b"0000644\0");
        head[124..136].copy_from_slice(format!("{:011o}\0", content.len()).as_bytes());
        head[156] = b'0';
        head[257..265].copy_from_slice(b"ustar\x0000");
        fix_checksums(&mut head);
        archive.extend_from_slice(&head);
        archive.extend_from_slice(content);
        archive.resize(archive.len().next_multiple_of(512), 0);
    }
    archive.resize(archive.len() + 1024, 0);
    archive
}

/// How a run's bytes are to be taken, said by the first of them.
#[derive(Debug, Clone, Copy)]
pub struct Mode(u8);

impl Mode {
    /// Takes the first byte off.
    #[must_use]
    pub fn take(data: &[u8]) -> Option<(Self, &[u8])> {
        data.split_first().map(|(&mode, rest)| (Self(mode), rest))
    }

    /// The bytes of the image's one file or two.
    ///
    /// Bits 0 and 1 of the mode: 0 as they are; 1 with every tar header's checksum made right, so
    /// that a changed byte is not refused for its sum; 2 and 3 as a program that writes an archive
    /// whose members have names and targets of a few letters, so that they meet.
    /// Bit 2: a split image, cut after as many blocks as the next byte says.
    #[must_use]
    pub fn files(self, data: &[u8]) -> Vec<Vec<u8>> {
        if self.0 & 2 != 0 {
            return archive(data, self.0 & 4 != 0);
        }
        let mut files = match (self.0 & 4 != 0, data.split_first()) {
            (true, Some((&blocks, data))) => {
                let (one, other) = data.split_at(data.len().min(usize::from(blocks) * 512));
                vec![one.to_vec(), other.to_vec()]
            }
            _ => vec![data.to_vec()],
        };
        if self.0 & 1 != 0 {
            files.iter_mut().for_each(|file| fix_checksums(file));
        }
        files
    }

    /// Whether headers get the checksums that they need, and a superblock the places, whatever was changed in them.
    #[must_use]
    pub fn repaired(self) -> bool {
        self.0 & 3 != 0
    }

    /// Bit 2, for the targets whose bytes are one SquashFS: whether it is the rootfs of a split image.
    #[must_use]
    pub fn split(self) -> bool {
        self.0 & 4 != 0
    }

    /// Bit 3: whether the rootfs goes to the destination itself.
    #[must_use]
    pub fn rootfs_only(self) -> bool {
        self.0 & 8 != 0
    }

    /// Bit 4: whether devices are left out.
    #[must_use]
    pub fn skip_devices(self) -> bool {
        self.0 & 16 != 0
    }
}

/// Opens files that are in memory as an image.
///
/// # Errors
/// Those of [`Image::open_with`].
pub fn open(files: &[Vec<u8>]) -> Result<Image> {
    let input = |bytes: &Vec<u8>| Input::stream(Cursor::new(bytes.clone()));
    let source = match files {
        [one, other, ..] => ImageSource::split(input(one), input(other)),
        one => ImageSource::unified(one.first().map_or_else(|| Input::stream(std::io::empty()), input)),
    };
    Image::open_with(source, &limits())
}
