//! Secondary compression: what the sections of a window are compressed with. The three kinds of section (data,
//! instructions, addresses) are decompressed apart from each other.
//!
//! A compressed section is its decompressed size as a number, and the compressed bytes. With DJW each section stands for
//! itself. With LZMA the sections of one kind are one `.xz` stream that goes on through all windows of the delta, and is
//! never finished.

#[cfg(feature = "xz")]
use liblzma::stream::{Action, Error as LzmaError, Status, Stream};

use super::{djw, varint};
use crate::error::{Error, ErrorKind, Result};
use crate::limits::Limits;

/// What liblzma counts beside the dictionary. Added to `codec_memory`, so that the limit means bytes of dictionary.
#[cfg(feature = "xz")]
const DECODER_OVERHEAD: u64 = 1 << 20;

/// A secondary compressor, by the number that it has in the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Secondary {
    /// DJW, a Huffman coding: 1.
    Djw,
    /// LZMA, in an `.xz` stream: 2.
    Lzma,
}

impl Secondary {
    /// The compressor with this number.
    ///
    /// # Errors
    /// `Unsupported` for FGK and for unknown numbers; `FeatureDisabled` for LZMA without the feature `xz`.
    pub(super) fn from_number(number: u8) -> Result<Self> {
        match number {
            1 => Ok(Self::Djw),
            2 if cfg!(feature = "xz") => Ok(Self::Lzma),
            2 => Err(Error::new(
                ErrorKind::FeatureDisabled,
                "the delta is compressed with LZMA: build with the feature `xz`",
            )),
            16 => Err(Error::unsupported("the delta is compressed with FGK, which only old versions of xdelta3 write")
                .with_hint("make it again with `-S lzma`")),
            other => Err(Error::unsupported(format!(
                "the delta is compressed with the unknown secondary compressor {other}"
            ))),
        }
    }

    /// The compressor's name as `xdelta3 -S` takes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Djw => "djw",
            Self::Lzma => "lzma",
        }
    }
}

/// The decompressor of one kind of section.
pub(super) struct SectionDecoder {
    secondary: Secondary,
    /// What the sections hold, for errors.
    kind: &'static str,
    max_bytes: u64,
    codec_memory: u64,
    /// The `.xz` stream, from the first compressed section on.
    #[cfg(feature = "xz")]
    stream: Option<Stream>,
}

impl SectionDecoder {
    pub(super) fn new(secondary: Secondary, kind: &'static str, limits: &Limits) -> Self {
        Self {
            secondary,
            kind,
            max_bytes: limits.vcdiff_window,
            codec_memory: limits.codec_memory,
            #[cfg(feature = "xz")]
            stream: None,
        }
    }

    /// Decompresses the next section of this kind.
    ///
    /// # Errors
    /// `Malformed`; `LimitExceeded` for its size, and for the dictionary that it needs.
    pub(super) fn decode(&mut self, mut bytes: &[u8]) -> Result<Vec<u8>> {
        let kind = self.kind;
        let length = varint::take("decompressed size of a section", &mut bytes)?;
        if length == 0 {
            return Err(Error::malformed(format!("the {kind} section of the delta is compressed and empty")));
        }
        if length > self.max_bytes {
            let what = format!("the {kind} section of a window of the delta, decompressed,");
            return Err(Error::limit("vcdiff_window", self.max_bytes, what));
        }
        let length = usize::try_from(length).map_err(|_| Error::limit("vcdiff_window", self.max_bytes, "a section"))?;
        match self.secondary {
            Secondary::Djw => djw::decode(bytes, length),
            Secondary::Lzma => self.lzma(bytes, length),
        }
    }

    #[cfg(feature = "xz")]
    fn lzma(&mut self, mut bytes: &[u8], length: usize) -> Result<Vec<u8>> {
        let (kind, codec_memory) = (self.kind, self.codec_memory);
        let failure = |error: LzmaError| match error {
            LzmaError::MemLimit => {
                Error::limit("codec_memory", codec_memory, format!("the LZMA dictionary of the {kind} sections"))
            }
            LzmaError::Options => {
                Error::unsupported(format!("the {kind} sections of the delta use a filter that is not known"))
            }
            LzmaError::Mem => Error::io("memory for decoding", std::io::Error::from(std::io::ErrorKind::OutOfMemory)),
            _ => Error::malformed(format!("the LZMA data in the {kind} section of the delta is corrupt")),
        };
        let stream = match &mut self.stream {
            Some(stream) => stream,
            empty => {
                let memory = codec_memory.saturating_add(DECODER_OVERHEAD);
                empty.insert(Stream::new_stream_decoder(memory, 0).map_err(failure)?)
            }
        };
        // Grown as bytes arrive: the size is only what the delta says.
        let mut out = Vec::new();
        loop {
            let filled = out.len();
            if filled < length {
                out.resize(filled.saturating_mul(2).clamp(64 << 10, 1 << 20).saturating_add(filled).min(length), 0);
            }
            let room = out.get_mut(filled..).unwrap_or_default();
            let (taken, made) = (stream.total_in(), stream.total_out());
            let status = stream.process(bytes, room, Action::Run);
            let taken = (stream.total_in() - taken) as usize;
            let made = (stream.total_out() - made) as usize;
            bytes = bytes.get(taken..).unwrap_or_default();
            out.truncate(filled.saturating_add(made));
            let done = out.len() == length && bytes.is_empty();
            match status {
                Ok(_) if done => return Ok(out),
                // liblzma may hold back output until it is called again.
                Ok(Status::Ok) if taken > 0 || made > 0 => {}
                Ok(Status::Ok | Status::MemNeeded) if out.len() < length => {
                    return Err(Error::malformed(format!("the {kind} section of the delta ends early")));
                }
                Ok(_) => {
                    return Err(Error::malformed(format!("the {kind} section of the delta is longer than it says")));
                }
                Err(error) => return Err(failure(error)),
            }
        }
    }

    #[cfg(not(feature = "xz"))]
    fn lzma(&mut self, _: &[u8], _: usize) -> Result<Vec<u8>> {
        let _ = self.codec_memory;
        Err(Error::new(ErrorKind::FeatureDisabled, "the delta is compressed with LZMA: build with the feature `xz`"))
    }
}
