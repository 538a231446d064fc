//! What a file is, by its first bytes and never by its name; which of two files is the metadata.
//! Looks at a few KiB, and through a stream's decoder where it is compressed.

use std::io::Read;

use super::chunk::ReadChunks;
use super::codec::{self, Codec};
use super::entry::EntryKind;
use super::input::Input;
use super::qcow2;
use super::tar::{BLOCK, Header, TarReader};
use crate::error::{Error, Result};
use crate::limits::Limits;

/// The first bytes of every SquashFS.
pub(crate) const SQUASHFS_MAGIC: &[u8] = b"hsqs";

/// What holds an image's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Container {
    /// A tar archive, perhaps compressed as a whole.
    Tar(Codec),
    /// A SquashFS, which has its own compression.
    SquashFs,
    /// A qcow2 disk.
    Qcow2,
}

/// How many bytes say what a file is.
const LOOK: usize = 2 * BLOCK;

/// Says what a file's bytes are.
///
/// # Errors
/// `Malformed` when it is empty or cut, `Unsupported` when it is something else, `FeatureDisabled`
/// when its codec is compiled out.
pub(crate) fn container(input: &Input, limits: &Limits) -> Result<Container> {
    let head = input.peek(|reader| read_up_to(reader, LOOK))?;
    if head.is_empty() {
        return Err(Error::malformed("the file is empty"));
    }
    if head.starts_with(SQUASHFS_MAGIC) {
        return Ok(Container::SquashFs);
    }
    if head.starts_with(qcow2::MAGIC) {
        return Ok(Container::Qcow2);
    }
    let codec = Codec::detect(&head).unwrap_or(Codec::None);
    if codec == Codec::None {
        check_tar(&head)?;
        return Ok(Container::Tar(Codec::None));
    }
    let decoded = input.peek(|reader| read_up_to(&mut codec::decoder(codec, reader, limits, 1)?, LOOK))?;
    if decoded.is_empty() {
        return Err(Error::malformed(format!("there is nothing in this {codec} file")));
    }
    if let Some(inner) = Codec::detect(&decoded).filter(|_| !Header::looks_like_one(&decoded)) {
        return Err(Error::unsupported(format!("the file is compressed twice, with {codec} over {inner}")));
    }
    check_tar(&decoded)?;
    Ok(Container::Tar(codec))
}

fn check_tar(head: &[u8]) -> Result<()> {
    if Header::looks_like_one(head) {
        return Ok(());
    }
    if head.len() >= BLOCK && head.iter().all(|&byte| byte == 0) {
        return Err(Error::malformed("the archive has no members, only zeros"));
    }
    let what = [
        (&b"PK\x03\x04"[..], "a zip archive"),
        (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
        (b"Rar!", "a rar archive"),
        (b"KDMV", "a VMDK disk"),
        (b"# Disk DescriptorFile", "a VMDK descriptor"),
    ];
    if let Some((_, what)) = what.iter().find(|(magic, _)| head.starts_with(magic)) {
        return Err(Error::unsupported(format!("this is {what}, which is no image format")));
    }
    if head.get(257..262) == Some(b"ustar") || head.len() < BLOCK {
        return Err(Error::malformed("the file's first bytes are those of a damaged tar archive"));
    }
    Err(Error::unsupported("the file is neither a tar archive, nor a SquashFS, nor a qcow2 disk")
        .with_hint("a raw disk is never guessed: convert it with `qemu-img convert -O qcow2`"))
}

fn read_up_to(reader: &mut (impl Read + ?Sized), most: usize) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take(most as u64).read_to_end(&mut bytes).map_err(|error| Error::io("the image can't be read", error))?;
    Ok(bytes)
}

/// What the top of a tar holds, as far as it takes to tell metadata from a rootfs.
#[derive(Debug, Clone, Copy, Default)]
struct Top {
    metadata: bool,
    rootfs: bool,
    /// A directory or link that belongs to no image's top: `etc`, `bin`.
    other: bool,
}

/// Which part of a split image a tar can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Metadata,
    Unified,
    Rootfs,
}

/// Says whether `first` is the metadata of the image that the two make (else `second` is).
///
/// # Errors
/// `Ambiguous`, `InvalidInput` or `Malformed` when they don't make one image.
pub(crate) fn first_is_metadata(
    (first, first_is): (&Input, Container),
    (second, second_is): (&Input, Container),
    limits: &Limits,
) -> Result<bool> {
    let (Container::Tar(first_codec), Container::Tar(second_codec)) = (first_is, second_is) else {
        return match (first_is, second_is) {
            (Container::Tar(_), _) => Ok(true),
            (_, Container::Tar(_)) => Ok(false),
            _ => Err(Error::malformed("neither of the two files is a tar archive with `metadata.yaml`")),
        };
    };
    let parts = [
        part(first, first_codec, limits).map_err(|error| first.name_error(error))?,
        part(second, second_codec, limits).map_err(|error| second.name_error(error))?,
    ];
    match parts {
        [Part::Metadata, Part::Rootfs] => Ok(true),
        [Part::Rootfs, Part::Metadata] => Ok(false),
        [Part::Metadata, Part::Metadata] => {
            Err(Error::new(crate::ErrorKind::Ambiguous, "both files are the metadata of a split image"))
        }
        [Part::Unified, _] | [_, Part::Unified] => Err(Error::invalid(
            "one of the two files brings metadata and a root file system: it is an image by itself, or not half of one",
        )
        .with_hint("give a unified image alone")),
        [Part::Rootfs, Part::Rootfs] => {
            Err(Error::malformed("neither of the two files has `metadata.yaml` at its top"))
        }
    }
}

fn part(input: &Input, codec: Codec, limits: &Limits) -> Result<Part> {
    let top = input.peek(|reader| {
        let mut tar = TarReader::new(ReadChunks::new(codec::decoder(codec, reader, limits, 1)?), limits);
        let mut top = Top::default();
        while let Some(member) = tar.next()? {
            let path = member.entry.path;
            let first = path.split(|&byte| byte == b'/').next().unwrap_or_default();
            let at_top = first.len() == path.len();
            match first {
                b"" | b"templates" => {}
                b"metadata.yaml" => top.metadata = true,
                b"rootfs"
                    if at_top
                        && matches!(member.entry.kind, EntryKind::Symlink { .. } | EntryKind::HardLink { .. }) =>
                {
                    return Err(Error::unsafe_path("`rootfs` is a link").in_entry(&path));
                }
                b"rootfs" | b"rootfs.img" => top.rootfs = true,
                // A stray file at the top of a metadata archive is nothing; what a root directory has is.
                _ if at_top && matches!(member.entry.kind, EntryKind::File { .. }) => {}
                _ => top.other = true,
            }
            if top.other {
                break;
            }
        }
        Ok(top)
    })?;
    Ok(match top {
        Top { other: true, .. } => Part::Rootfs,
        Top { metadata: true, rootfs: true, .. } => Part::Unified,
        Top { metadata: true, .. } => Part::Metadata,
        _ => Part::Rootfs,
    })
}
