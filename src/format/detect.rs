//! What a file is, by its first bytes and never by its name; and which of two files is the
//! metadata.
//!
//! Looks at 1 KiB, through the decoder where the file is compressed; at 66 KiB where that fits
//! nothing, to name the format in the error (`foreign`). Telling which of two tar archives is the
//! metadata takes reading the smaller one.

use std::io::Read;

use super::cancellable::CancelReader;
use super::chunk::ReadChunks;
use super::codec::{self, Codec};
use super::entry::EntryKind;
use super::foreign;
use super::input::Input;
use super::qcow2;
use super::tar::{BLOCK, Header, TarReader};
use crate::error::{Error, Result};
use crate::limits::Limits;

/// The first bytes of every SquashFS.
pub(crate) const SQUASHFS_MAGIC: &[u8] = b"hsqs";

/// The container format of one file of an image.
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

impl Container {
    /// What the name of such a file ends in, with the dot.
    ///
    /// ```
    /// use lxd_image::format::{Codec, Container};
    ///
    /// assert_eq!(Container::Tar(Codec::Xz).ending(), ".tar.xz");
    /// assert_eq!(Container::SquashFs.ending(), ".squashfs");
    /// ```
    #[must_use]
    pub const fn ending(self) -> &'static str {
        match self {
            Self::Tar(codec) => codec.tar_ending(),
            Self::SquashFs => ".squashfs",
            Self::Qcow2 => ".qcow2",
        }
    }
}

/// Bytes that decide what a file is: two tar blocks.
const HEAD_BYTES: usize = 2 * BLOCK;

/// Says what a file's bytes are.
///
/// # Errors
/// `Malformed` when it is empty or cut, `Unsupported` when it is something else, `FeatureDisabled`
/// when its codec is compiled out.
pub(crate) fn container(input: &Input, limits: &Limits) -> Result<Container> {
    let head = input.peek(|reader| read_up_to(reader, HEAD_BYTES))?;
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
        if !is_tar(&head)? {
            let head = input.peek(|reader| read_up_to(reader, foreign::HEAD_BYTES))?;
            return Err(foreign::refusal(input, &head));
        }
        return Ok(Container::Tar(Codec::None));
    }
    let decoded =
        |most| input.peek(|reader| read_up_to(&mut codec::decoder(codec, reader, limits, 1, input.cancel())?, most));
    let head = decoded(HEAD_BYTES)?;
    if head.is_empty() {
        return Err(Error::malformed(format!("there is nothing in this {codec} file")));
    }
    if !is_tar(&head)? {
        // What is cut or damaged further on is named by its start as well.
        let head = decoded(foreign::HEAD_BYTES).unwrap_or(head);
        return Err(foreign::compressed_refusal(input, codec, &head));
    }
    Ok(Container::Tar(codec))
}

/// Whether a file that begins with `head` is a tar archive.
///
/// # Errors
/// `Malformed` for one that is empty, cut or damaged.
fn is_tar(head: &[u8]) -> Result<bool> {
    if Header::looks_like_one(head) {
        return Ok(true);
    }
    if head.get(257..262) == Some(b"ustar") {
        return Err(Error::malformed("the file's first bytes are those of a damaged tar archive"));
    }
    if head.len() < BLOCK && !foreign::is_known(head) {
        return Err(Error::malformed("the file is too short for an image, or was cut"));
    }
    Ok(false)
}

/// Reads at most `most` bytes, fewer only at the end.
pub(super) fn read_up_to(reader: &mut (impl Read + ?Sized), most: usize) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take(most as u64).read_to_end(&mut bytes).map_err(|error| Error::io("the image can't be read", error))?;
    Ok(bytes)
}

/// What the top of a tar holds, as far as needed to tell metadata from a root file system.
#[derive(Debug, Clone, Copy, Default)]
struct TopNames {
    metadata: bool,
    /// A directory `rootfs`, or a disk.
    rootfs: bool,
    /// A directory or link that belongs to no image's top: `etc`, `bin`.
    directory: bool,
    /// A file that belongs to no image's top.
    file: bool,
}

impl TopNames {
    /// Whether the archive is an image by itself.
    fn is_unified(self) -> bool {
        self.metadata && self.rootfs && !self.directory
    }

    /// Whether the archive holds metadata and templates and nothing else.
    fn is_metadata_only(self) -> bool {
        self.metadata && !self.rootfs && !self.directory && !self.file
    }
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
    // The length of a stream is not known before it is read; as the metadata is small, it counts as large.
    let length = |input: &Input| input.len().unwrap_or(u64::MAX);
    let first_is_smaller = length(first) <= length(second);
    let one = top(first, first_codec, first_is_smaller, limits).map_err(|error| first.name_error(error))?;
    let other = top(second, second_codec, !first_is_smaller, limits).map_err(|error| second.name_error(error))?;
    if one.is_unified() || other.is_unified() {
        return Err(Error::invalid(
            "one of the two files brings metadata and a root file system, so it is an image by itself",
        )
        .with_hint("give a unified image alone"));
    }
    match (one.metadata, other.metadata) {
        (true, false) => Ok(true),
        (false, true) => Ok(false),
        (false, false) => Err(Error::malformed("neither of the two files has `metadata.yaml` at its top")),
        // A root directory may hold a file of that name.
        (true, true) => match (one.is_metadata_only(), other.is_metadata_only()) {
            (true, true) => {
                Err(Error::new(crate::ErrorKind::Ambiguous, "both files are the metadata of a split image"))
            }
            (false, false) => Ok(first_is_smaller),
            (one_only, _) => Ok(one_only),
        },
    }
}

/// Looks at a tar's top: at all of the smaller file, at the larger until it is seen to be a rootfs.
fn top(input: &Input, codec: Codec, smaller: bool, limits: &Limits) -> Result<TopNames> {
    input.peek(|reader| {
        let reader = CancelReader {
            reader: codec::decoder(codec, reader, limits, 1, input.cancel())?,
            cancel: input.cancel().clone(),
        };
        let mut tar = TarReader::new(ReadChunks::new(reader), limits);
        let mut top = TopNames::default();
        while let Some(member) = tar.next()? {
            let path = member.entry.path;
            let kind = member.entry.kind;
            let first = path.split(|&byte| byte == b'/').next().unwrap_or_default();
            let at_top = first.len() == path.len();
            match first {
                b"" | b"templates" => {}
                b"metadata.yaml" => top.metadata = true,
                // A link of that name makes no root; whoever reads the archive refuses it.
                b"rootfs" if at_top && !matches!(kind, EntryKind::Directory) => {}
                b"rootfs" | b"rootfs.img" => top.rootfs = true,
                _ if at_top && matches!(kind, EntryKind::File { .. }) => top.file = true,
                _ => top.directory = true,
            }
            if top.directory && (top.metadata || !smaller) {
                break;
            }
        }
        Ok(top)
    })
}
