//! [`Codec`]: the compressions of an archive, and the table of everything that depends on which
//! codec it is.
//!
//! Names, file extensions, features and magic numbers stand here once, for every other
//! module: detection, the command line, default output names, hints in errors. To add a codec, add
//! a variant, a row, and the code (see the module above).

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use crate::error::{Error, ErrorKind, Result};

/// A compression of an archive.
///
/// Every variant exists in every build. Whether this build can handle it tells
/// [`is_enabled`](Self::is_enabled); using one that was left out fails with `FeatureDisabled`.
///
/// ```
/// use lxd_image::format::Codec;
///
/// assert_eq!(Codec::detect(b"\xfd7zXZ\0\0\x04"), Some(Codec::Xz));
/// assert_eq!("zstd".parse::<Codec>()?, Codec::Zstd);
/// assert_eq!(Codec::Bzip2.extension(), "bz2");
/// # Ok::<(), lxd_image::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Codec {
    /// Not compressed.
    None,
    /// gzip, also of several members.
    Gzip,
    /// bzip2, also of several streams.
    Bzip2,
    /// xz, also of several streams.
    Xz,
    /// The old `.lzma` container. It carries no checksum.
    Lzma,
    /// Zstandard frames.
    Zstd,
    /// lz4 frames.
    Lz4,
}

impl Codec {
    /// All codecs, `None` first.
    pub const ALL: &[Self] = &[Self::None, Self::Gzip, Self::Bzip2, Self::Xz, Self::Lzma, Self::Zstd, Self::Lz4];

    /// The longest prefix that [`detect`](Self::detect) makes use of, leading skippable frames aside.
    pub const PREFIX: usize = 512;

    /// The name, as on the command line and in `Display`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Bzip2 => "bzip2",
            Self::Xz => "xz",
            Self::Lzma => "lzma",
            Self::Zstd => "zstd",
            Self::Lz4 => "lz4",
        }
    }

    /// What a file name ends in, without the dot; empty for `None`.
    #[must_use]
    pub const fn extension(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Gzip => "gz",
            Self::Bzip2 => "bz2",
            Self::Xz => "xz",
            Self::Lzma => "lzma",
            Self::Zstd => "zst",
            Self::Lz4 => "lz4",
        }
    }

    /// The cargo feature that brings the codec; `None` for what is always there.
    #[must_use]
    pub const fn feature(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Gzip => Some("gzip"),
            Self::Bzip2 => Some("bzip2"),
            Self::Xz | Self::Lzma => Some("xz"),
            Self::Zstd => Some("zstd"),
            Self::Lz4 => Some("lz4"),
        }
    }

    /// Whether this build can handle it.
    ///
    /// Codecs are cargo features, so that a build without C code or with few dependencies is
    /// possible.
    #[must_use]
    pub const fn is_enabled(self) -> bool {
        match self {
            Self::None => true,
            Self::Gzip => cfg!(feature = "gzip"),
            Self::Bzip2 => cfg!(feature = "bzip2"),
            Self::Xz | Self::Lzma => cfg!(feature = "xz"),
            Self::Zstd => cfg!(feature = "zstd"),
            Self::Lz4 => cfg!(feature = "lz4"),
        }
    }

    /// The codec of a stream that begins with `prefix`, or `None` where it is not compressed, or
    /// not in a way known here. Give at least [`PREFIX`](Self::PREFIX) bytes if the stream has them.
    ///
    /// zstd and lz4 share their skippable frames: the first frame that is none decides, and
    /// zstd wins where the prefix ends before it.
    #[must_use]
    pub fn detect(prefix: &[u8]) -> Option<Self> {
        // A tar may begin with any file name at all.
        if prefix.get(257..262) == Some(b"ustar") {
            return None;
        }
        match prefix {
            [0x1f, 0x8b, ..] => Some(Self::Gzip),
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => Some(Self::Bzip2),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some(Self::Xz),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(Self::Zstd),
            // The second is the legacy format, which `lz4 -l` and kernels use.
            [0x04, 0x22, 0x4d, 0x18, ..] | [0x02, 0x21, 0x4c, 0x18, ..] => Some(Self::Lz4),
            [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Some(after_skippable_frames(prefix)),
            _ => lzma_header(prefix).then_some(Self::Lzma),
        }
    }

    /// The codec that a file's name promises by its ending, in any case: `None` (the variant) for `.tar`, no answer for other
    /// endings and none.
    ///
    /// ```
    /// use lxd_image::format::Codec;
    ///
    /// assert_eq!(Codec::from_path("box.tar.gz"), Some(Codec::Gzip));
    /// assert_eq!(Codec::from_path("box.TZST"), Some(Codec::Zstd));
    /// assert_eq!(Codec::from_path("box.tar"), Some(Codec::None));
    /// assert_eq!(Codec::from_path("box"), None);
    /// ```
    #[must_use]
    pub fn from_path(path: impl AsRef<Path>) -> Option<Self> {
        let ending = path.as_ref().extension()?.to_str()?.to_ascii_lowercase();
        Some(match ending.as_str() {
            "tar" => Self::None,
            "gz" | "tgz" | "taz" => Self::Gzip,
            "bz2" | "tbz" | "tbz2" | "tb2" | "tz2" => Self::Bzip2,
            "xz" | "txz" => Self::Xz,
            "lzma" | "tlz" => Self::Lzma,
            "zst" | "zstd" | "tzst" => Self::Zstd,
            "lz4" | "tlz4" => Self::Lz4,
            _ => return None,
        })
    }

    /// The refusal of a codec that was compiled out.
    pub(crate) fn disabled(self) -> Error {
        let feature = self.feature().unwrap_or_default();
        Error::new(
            ErrorKind::FeatureDisabled,
            format!(
                "this image is compressed with {self}, which this build leaves out; build with the feature `{feature}`"
            ),
        )
    }
}

/// The codec of a stream that begins with skippable frames, which zstd and lz4 share: by the first
/// other frame, or zstd where the prefix ends before one.
fn after_skippable_frames(mut rest: &[u8]) -> Codec {
    while let [0x50..=0x5f, 0x2a, 0x4d, 0x18, a, b, c, d, tail @ ..] = rest {
        let length = u32::from_le_bytes([*a, *b, *c, *d]);
        rest = usize::try_from(length).ok().and_then(|length| tail.get(length..)).unwrap_or_default();
    }
    match rest {
        [0x04, 0x22, 0x4d, 0x18, ..] | [0x02, 0x21, 0x4c, 0x18, ..] => Codec::Lz4,
        _ => Codec::Zstd,
    }
}

/// A `.lzma` file has no magic number, so every field of its header has to make sense, as the
/// decoders in the field demand too.
fn lzma_header(prefix: &[u8]) -> bool {
    let Some((header, rest)) = prefix.split_first_chunk::<13>() else { return false };
    let [properties, d0, d1, d2, d3, size @ ..] = *header;
    let (lc, lp) = (properties % 9, properties / 9 % 5);
    let dictionary = u32::from_le_bytes([d0, d1, d2, d3]);
    let size = u64::from_le_bytes(size);
    // 2^n, 2^n + 2^(n-1), or "any".
    let power = |n: u32| n.is_power_of_two();
    let plausible_dictionary = dictionary == u32::MAX
        || (dictionary >= 4096 && (power(dictionary) || (dictionary % 3 == 0 && power(dictionary / 3))));
    properties < 9 * 5 * 5
        && lc + lp <= 4
        && plausible_dictionary
        && (size == u64::MAX || size < 1 << 38)
        // The range coder's first byte is always zero.
        && rest.first().is_none_or(|&byte| byte == 0)
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Codec {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL.iter().copied().find(|codec| codec.name() == text).ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|codec| codec.name()).collect();
            Error::invalid(format!("there is no compression `{text}`"))
                .with_hint(format!("the compressions are {}", names.join(", ")))
        })
    }
}
