//! [`Codec`]: the compressions of an archive, and the table of everything that depends on which
//! codec it is.
//!
//! Names, file extensions, features, levels and magic numbers stand here once, for every other
//! module: detection, the command line, default output names, media types, hints in errors. To add a
//! codec, add a variant, its row, a line of `rows!`, and the code; the module above lists what else there is.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use crate::error::{Error, ErrorKind, Result};

/// What is known about one codec. Everything that depends on which codec it is, but for the code
/// itself, stands in these rows.
#[derive(Debug)]
pub(super) struct CodecFacts {
    name: &'static str,
    /// What names of compressed files end in, without the dot.
    extension: &'static str,
    /// What names of such archives end in, with the dot.
    tar_ending: &'static str,
    /// Whether decoding is slower than reading a disk, so that what is read twice is better kept decoded.
    is_slow: bool,
    /// All endings by which a name promises the codec, in lower case: the extension and the short forms for tar.
    endings: &'static [&'static str],
    /// The cargo feature.
    feature: Option<&'static str>,
    enabled: bool,
    /// The lowest and the highest level, and the one that is used unless another is asked for.
    pub(super) levels: Option<Levels>,
    /// The first bytes of a stream, any of which tell the codec. Empty for formats without a magic number.
    magics: &'static [&'static [u8]],
}

/// The levels of a codec, on the scale of its own program.
#[derive(Debug, Clone, Copy)]
pub(super) struct Levels {
    pub(super) lowest: u32,
    pub(super) highest: u32,
    #[cfg_attr(not(any(feature = "gzip", feature = "xz", feature = "zstd", feature = "bzip2")), allow(dead_code))]
    pub(super) default: u32,
}

impl CodecFacts {
    /// Whether a stream that begins with `prefix` carries one of the magic numbers.
    fn begins(&self, prefix: &[u8]) -> bool {
        self.magics.iter().any(|magic| prefix.starts_with(magic))
    }
}

/// Shorthand for the rows of the table.
const fn levels(lowest: u32, highest: u32, default: u32) -> Option<Levels> {
    Some(Levels { lowest, highest, default })
}

/// Not compressed. It is a codec as well, so that code which handles archives needs no exception.
const NONE: CodecFacts = CodecFacts {
    name: "none",
    extension: "",
    tar_ending: ".tar",
    is_slow: false,
    endings: &["tar"],
    feature: None,
    enabled: true,
    levels: None,
    magics: &[],
};
const GZIP: CodecFacts = CodecFacts {
    name: "gzip",
    extension: "gz",
    tar_ending: ".tar.gz",
    is_slow: true,
    endings: &["gz", "tgz", "taz"],
    feature: Some("gzip"),
    enabled: cfg!(feature = "gzip"),
    levels: levels(1, 9, 6),
    // RFC 1952 section 2.3.1.
    magics: &[&[0x1f, 0x8b]],
};
/// The magic number is followed by the level as a digit, which detection checks too.
const BZIP2: CodecFacts = CodecFacts {
    name: "bzip2",
    extension: "bz2",
    tar_ending: ".tar.bz2",
    is_slow: true,
    endings: &["bz2", "tbz", "tbz2", "tb2", "tz2"],
    feature: Some("bzip2"),
    enabled: cfg!(feature = "bzip2"),
    levels: levels(1, 9, 9),
    magics: &[b"BZh"],
};
const XZ: CodecFacts = CodecFacts {
    name: "xz",
    extension: "xz",
    tar_ending: ".tar.xz",
    is_slow: true,
    endings: &["xz", "txz"],
    feature: Some("xz"),
    enabled: cfg!(feature = "xz"),
    levels: levels(0, 9, 6),
    magics: &[b"\xfd7zXZ\0"],
};
/// The `.lzma` container has no magic number; its header is recognised by its plausibility, see
/// `lzma_header`.
const LZMA: CodecFacts = CodecFacts {
    name: "lzma",
    extension: "lzma",
    tar_ending: ".tar.lzma",
    is_slow: true,
    endings: &["lzma", "tlz"],
    feature: Some("xz"),
    enabled: cfg!(feature = "xz"),
    levels: levels(0, 9, 6),
    magics: &[],
};
const ZSTD: CodecFacts = CodecFacts {
    name: "zstd",
    extension: "zst",
    tar_ending: ".tar.zst",
    is_slow: false,
    endings: &["zst", "zstd", "tzst"],
    feature: Some("zstd"),
    enabled: cfg!(feature = "zstd"),
    levels: levels(1, 22, 3),
    // RFC 8878 section 3.1.1.
    magics: &[&[0x28, 0xb5, 0x2f, 0xfd]],
};
const LZ4: CodecFacts = CodecFacts {
    name: "lz4",
    extension: "lz4",
    tar_ending: ".tar.lz4",
    is_slow: false,
    endings: &["lz4", "tlz4"],
    feature: Some("lz4"),
    enabled: cfg!(feature = "lz4"),
    levels: None,
    // The second is the legacy format, which `lz4 -l` and kernels use.
    magics: &[&[0x04, 0x22, 0x4d, 0x18], &[0x02, 0x21, 0x4c, 0x18]],
};

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

/// Gives each codec its row. A variant without one can't be compiled, and so none is left out of `ALL`.
macro_rules! rows {
    ($($variant:ident => $row:ident,)*) => {
        impl Codec {
            /// All codecs, `None` first.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The codec's row of the table.
            pub(super) const fn facts(self) -> &'static CodecFacts {
                match self {
                    $(Self::$variant => &$row,)*
                }
            }
        }
    };
}

rows! {
    None => NONE,
    Gzip => GZIP,
    Bzip2 => BZIP2,
    Xz => XZ,
    Lzma => LZMA,
    Zstd => ZSTD,
    Lz4 => LZ4,
}

impl Codec {
    /// The longest prefix that [`detect`](Self::detect) makes use of, leading skippable frames aside.
    pub const PREFIX: usize = 512;

    /// The name, as on the command line and in `Display`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.facts().name
    }

    /// What a file name ends in, without the dot; empty for `None`.
    #[must_use]
    pub const fn extension(self) -> &'static str {
        self.facts().extension
    }

    /// What the name of such an archive ends in, with the dot: `.tar.gz`.
    #[must_use]
    pub const fn tar_ending(self) -> &'static str {
        self.facts().tar_ending
    }

    /// The cargo feature that enables the codec; `None` for what is always there.
    #[must_use]
    pub const fn feature(self) -> Option<&'static str> {
        self.facts().feature
    }

    /// Whether this build can handle it.
    ///
    /// Codecs are cargo features, so that a build without C code or with few dependencies is
    /// possible.
    #[must_use]
    pub const fn is_enabled(self) -> bool {
        self.facts().enabled
    }

    /// Whether decoding is slower than reading a disk, so that what is read twice is better kept decoded.
    #[must_use]
    pub const fn is_slow(self) -> bool {
        self.facts().is_slow
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
        if let Some(codec) = Self::ALL.iter().copied().find(|codec| codec.facts().begins(prefix)) {
            // The magic number of bzip2 is three letters; the level that follows makes it a header.
            let is_header = codec != Self::Bzip2 || matches!(prefix.get(3), Some(b'1'..=b'9'));
            return is_header.then_some(codec);
        }
        match prefix {
            [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Some(after_skippable_frames(prefix)),
            _ => lzma_header(prefix).then_some(Self::Lzma),
        }
    }

    /// The codec of a file by its extension, without regard to case: the variant `None` for `.tar`, and
    /// no codec for other extensions and for a name without one.
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
        Self::ALL.iter().copied().find(|codec| codec.facts().endings.contains(&ending.as_str()))
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
    if LZ4.begins(rest) { Codec::Lz4 } else { Codec::Zstd }
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
