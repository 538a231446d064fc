//! [`Compression`]: a codec with a level, as people write it: `zstd:19`. A value of this type is
//! always one that its codec accepts, so nothing that takes one has to check it again.

use std::fmt;
use std::str::FromStr;

use super::Codec;
use crate::error::{Error, Result};

/// A codec with an optional level.
///
/// ```
/// use lxd_image::format::{Codec, Compression};
///
/// let compression: Compression = "zstd:19".parse()?;
/// assert_eq!((compression.codec(), compression.level()), (Codec::Zstd, Some(19)));
/// assert_eq!(compression.to_string(), "zstd:19");
/// assert!("gzip:10".parse::<Compression>().is_err());
/// # Ok::<(), lxd_image::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Compression {
    codec: Codec,
    /// `None` for the codec's default.
    level: Option<u32>,
}

impl Compression {
    /// No compression.
    pub const NONE: Self = Self::new(Codec::None);

    /// The codec at its usual level: gzip 6, bzip2 9, xz and lzma 6, zstd 3.
    ///
    /// These are the defaults of the codecs' own programs.
    #[must_use]
    pub const fn new(codec: Codec) -> Self {
        Self { codec, level: None }
    }

    /// The codec at `level`.
    ///
    /// # Errors
    /// `InvalidInput` for a level that the codec does not have.
    pub fn with_level(codec: Codec, level: u32) -> Result<Self> {
        let Some((least, most)) = Self::levels(codec) else {
            return Err(Error::invalid(format!("{codec} has no levels; leave `:{level}` away")));
        };
        if !(least..=most).contains(&level) {
            return Err(Error::invalid(format!("{codec} has levels {least} to {most}, not {level}")));
        }
        Ok(Self { codec, level: Some(level) })
    }

    /// The codec.
    #[must_use]
    pub const fn codec(self) -> Codec {
        self.codec
    }

    /// The level, unless it is the codec's usual one by omission.
    #[must_use]
    pub const fn level(self) -> Option<u32> {
        self.level
    }

    /// The least and the highest level of `codec`, if it has any.
    #[must_use]
    pub const fn levels(codec: Codec) -> Option<(u32, u32)> {
        match codec.facts().levels {
            Some(levels) => Some((levels.lowest, levels.highest)),
            None => None,
        }
    }

    /// The level to compress with: the one that was chosen, or else the codec's default. 0 for a codec without levels.
    #[cfg(any(feature = "gzip", feature = "xz", feature = "zstd", feature = "bzip2"))]
    pub(super) fn effective_level(self) -> u32 {
        self.level.or(self.codec.facts().levels.map(|levels| levels.default)).unwrap_or(0)
    }
}

impl From<Codec> for Compression {
    fn from(codec: Codec) -> Self {
        Self::new(codec)
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.level {
            Some(level) => write!(f, "{}:{level}", self.codec),
            None => self.codec.fmt(f),
        }
    }
}

impl FromStr for Compression {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let Some((codec, level)) = text.split_once(':') else {
            return Ok(Self::new(text.parse()?));
        };
        let codec = codec.parse()?;
        let level = level
            .parse()
            .map_err(|_| Error::invalid(format!("the level in `{text}` is no number; write `zstd:19`")))?;
        Self::with_level(codec, level)
    }
}
