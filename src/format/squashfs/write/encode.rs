//! Compresses one block, kept only if that made it smaller; and the compressor options that an
//! image records.

use super::super::superblock::{METADATA_BLOCK, SquashFsCompression};
use crate::error::{Error, Result};
use crate::progress::Cancel;

/// Compresses blocks, one after the other. Each thread has its own.
pub(super) struct Encoder {
    /// The codec, with a context that is used again for each block.
    codec: BlockCodec,
    /// Takes the compressed form.
    buffer: Vec<u8>,
    /// Refuses further blocks once it is switched on.
    cancel: Cancel,
}

/// The codec with its context.
enum BlockCodec {
    /// Keeps every block as it is.
    Store,
    #[cfg(feature = "gzip")]
    Gzip(Box<flate2::Compress>),
    #[cfg(feature = "xz")]
    Xz { level: u32, dictionary: u32 },
    #[cfg(feature = "zstd")]
    Zstd(zstd::bulk::Compressor<'static>),
    #[cfg(feature = "lz4")]
    Lz4,
}

impl Encoder {
    /// An encoder for blocks of at most `block` bytes.
    ///
    /// # Errors
    /// `InvalidInput` for a level that the codec does not have; `Unsupported` for codecs that are
    /// only read; `FeatureDisabled`.
    #[allow(unused_variables, reason = "what is needed depends on the codecs that are compiled in")]
    pub(super) fn new(compression: SquashFsCompression, level: Option<u32>, block: u32) -> Result<Self> {
        let level = checked_level(compression, level)?;
        let codec = match compression {
            #[cfg(feature = "gzip")]
            SquashFsCompression::Gzip => {
                Ok(BlockCodec::Gzip(Box::new(flate2::Compress::new(flate2::Compression::new(level), true))))
            }
            #[cfg(feature = "xz")]
            SquashFsCompression::Xz => Ok(BlockCodec::Xz { level, dictionary: block }),
            #[cfg(feature = "zstd")]
            // At most 22.
            SquashFsCompression::Zstd => zstd::bulk::Compressor::new(level as i32)
                .map(BlockCodec::Zstd)
                .map_err(|source| Error::io("the zstd encoder can't be made", source)),
            #[cfg(feature = "lz4")]
            SquashFsCompression::Lz4 => Ok(BlockCodec::Lz4),
            SquashFsCompression::Lzma | SquashFsCompression::Lzo => {
                Err(Error::unsupported(format!("SquashFS is not written with {}", compression.name())))
            }
            #[cfg(not(all(feature = "gzip", feature = "xz", feature = "zstd", feature = "lz4")))]
            other => Err(super::super::decode::disabled(other)),
        };
        codec.map(|codec| Self { codec, buffer: Vec::new(), cancel: Cancel::new() })
    }

    /// This encoder, or in its place one that keeps every block as it is.
    pub(super) fn unless(self, stored: bool) -> Self {
        if stored { Self { codec: BlockCodec::Store, ..self } } else { self }
    }

    /// This encoder, which refuses further blocks once `cancel` is switched on.
    pub(super) fn until(self, cancel: &Cancel) -> Self {
        Self { cancel: cancel.clone(), ..self }
    }

    /// An encoder for metadata blocks.
    pub(super) fn for_metadata(compression: SquashFsCompression, level: Option<u32>) -> Result<Self> {
        Self::new(compression, level, METADATA_BLOCK as u32)
    }

    /// The settings that stand behind the superblock; none where they are the usual ones, except
    /// for lz4, which kernels refuse without.
    pub(super) fn describe(compression: SquashFsCompression, level: Option<u32>) -> Result<Option<Vec<u8>>> {
        let usual = checked_level(compression, None)?;
        let level = checked_level(compression, level)?;
        let words: &[u32] = match compression {
            // The second word is a window of 2^15 and no strategies.
            SquashFsCompression::Gzip if level != usual => &[level, 15],
            SquashFsCompression::Zstd if level != usual => &[level],
            // The legacy block format, without high compression.
            SquashFsCompression::Lz4 => &[1, 0],
            _ => return Ok(None),
        };
        Ok(Some(words.iter().flat_map(|word| word.to_le_bytes()).collect()))
    }

    /// The compressed form of `plain`, or none if that is not shorter.
    ///
    /// # Errors
    /// `Cancelled`; `Io` where the codec fails, which it does not for any input.
    #[allow(unused_variables, reason = "what is needed depends on the codecs that are compiled in")]
    pub(super) fn encode(&mut self, plain: &[u8]) -> Result<Option<&[u8]>> {
        self.cancel.check()?;
        // One byte less than the plain block: what does not fit is not shorter.
        let most = plain.len().saturating_sub(1);
        let length: usize = match self.codec {
            // Never shorter.
            BlockCodec::Store => usize::MAX,
            #[cfg(feature = "gzip")]
            BlockCodec::Gzip(ref mut stream) => {
                self.buffer.resize(most, 0);
                stream.reset();
                let status = stream.compress(plain, &mut self.buffer, flate2::FlushCompress::Finish);
                match status.map_err(|source| Error::io("gzip failed", std::io::Error::other(source)))? {
                    flate2::Status::StreamEnd => usize::try_from(stream.total_out()).unwrap_or(usize::MAX),
                    _ => usize::MAX,
                }
            }
            #[cfg(feature = "xz")]
            BlockCodec::Xz { level, dictionary } => {
                self.buffer.resize(most, 0);
                xz(level, dictionary, plain, &mut self.buffer)?
            }
            #[cfg(feature = "zstd")]
            BlockCodec::Zstd(ref mut context) => {
                self.buffer.resize(zstd::zstd_safe::compress_bound(plain.len()), 0);
                context
                    .compress_to_buffer(plain, self.buffer.as_mut_slice())
                    .map_err(|source| Error::io("zstd failed", source))?
            }
            #[cfg(feature = "lz4")]
            BlockCodec::Lz4 => {
                self.buffer.resize(lz4_flex::block::get_maximum_output_size(plain.len()), 0);
                lz4_flex::block::compress_into(plain, &mut self.buffer)
                    .map_err(|source| Error::io("lz4 failed", std::io::Error::other(source)))?
            }
        };
        Ok(self.buffer.get(..length).filter(|_| length <= most))
    }
}

/// Compresses a block into a complete xz stream; `usize::MAX` when it does not fit.
///
/// The dictionary is as large as a block, so that it can refer to all of it.
#[cfg(feature = "xz")]
fn xz(level: u32, dictionary: u32, plain: &[u8], output: &mut [u8]) -> Result<usize> {
    use liblzma::stream::{Action, Check, Filters, LzmaOptions, Status, Stream};

    let failed = |source| Error::io("xz failed", std::io::Error::other(source));
    let mut options = LzmaOptions::new_preset(level).map_err(failed)?;
    options.dict_size(dictionary.max(4096));
    // Kernels are built to check CRC32 only.
    let mut filters = Filters::new();
    filters.lzma2(&options);
    let mut stream = Stream::new_stream_encoder(&filters, Check::Crc32).map_err(failed)?;
    match stream.process(plain, output, Action::Finish).map_err(failed)? {
        Status::StreamEnd => Ok(usize::try_from(stream.total_out()).unwrap_or(usize::MAX)),
        _ => Ok(usize::MAX),
    }
}

/// The level to use: the one asked for, or what `mksquashfs` uses.
///
/// # Errors
/// `InvalidInput` for a level outside of the codec's, or for a codec without levels.
fn checked_level(compression: SquashFsCompression, level: Option<u32>) -> Result<u32> {
    let (range, usual) = match compression {
        SquashFsCompression::Gzip => (1..=9, 9),
        SquashFsCompression::Xz => (0..=9, 6),
        SquashFsCompression::Zstd => (1..=22, 15),
        _ if level.is_some() => {
            return Err(Error::invalid(format!("{} has no levels in SquashFS", compression.name())));
        }
        _ => return Ok(0),
    };
    let level = level.unwrap_or(usual);
    if !range.contains(&level) {
        return Err(Error::invalid(format!(
            "{} has levels {} to {}, not {level}",
            compression.name(),
            range.start(),
            range.end()
        )));
    }
    Ok(level)
}
