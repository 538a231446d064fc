//! Decodes one compressed block into a buffer whose size is known before, whatever the codec.
//!
//! Blocks are small and complete, so the codecs' one-shot interfaces serve. Each thread keeps a
//! decoder, so that contexts are allocated once.

use super::superblock::SquashFsCompression;
use crate::error::{Error, ErrorKind, Result};

/// Decodes blocks of one image, one after the other.
pub(super) struct SquashFsDecoder {
    /// The codec of the image; all blocks have the same.
    codec: BlockCodec,
}

/// The codec with its context. xz and lzma contexts are made per block, since liblzma can't reset
/// them; `memory` bounds them.
enum BlockCodec {
    #[cfg(feature = "gzip")]
    Gzip(Box<flate2::Decompress>),
    #[cfg(feature = "xz")]
    Xz { memory: u64 },
    #[cfg(feature = "zstd")]
    Zstd(zstd::bulk::Decompressor<'static>),
    #[cfg(feature = "lz4")]
    Lz4,
    #[cfg(feature = "xz")]
    Lzma { memory: u64 },
    #[cfg(feature = "lzo")]
    Lzo,
    #[cfg(not(any(feature = "gzip", feature = "xz", feature = "zstd", feature = "lz4", feature = "lzo")))]
    #[allow(dead_code, reason = "without codecs there is no decoder, but its type")]
    None,
}

impl SquashFsDecoder {
    /// A decoder that allocates at most `memory` bytes for a dictionary, where the codec has one.
    ///
    /// # Errors
    /// `FeatureDisabled` for a codec that was compiled out; `Io` where its context can't be
    /// allocated.
    #[allow(unused_variables, reason = "what is needed depends on the codecs that are compiled in")]
    pub(super) fn new(compression: SquashFsCompression, memory: u64) -> Result<Self> {
        let codec = match compression {
            #[cfg(feature = "gzip")]
            SquashFsCompression::Gzip => Ok(BlockCodec::Gzip(Box::new(flate2::Decompress::new(true)))),
            #[cfg(feature = "xz")]
            SquashFsCompression::Xz => Ok(BlockCodec::Xz { memory }),
            #[cfg(feature = "zstd")]
            SquashFsCompression::Zstd => zstd::bulk::Decompressor::new()
                .map(BlockCodec::Zstd)
                .map_err(|source| Error::io("the zstd decoder can't be made", source)),
            #[cfg(feature = "lz4")]
            SquashFsCompression::Lz4 => Ok(BlockCodec::Lz4),
            #[cfg(feature = "xz")]
            SquashFsCompression::Lzma => Ok(BlockCodec::Lzma { memory }),
            #[cfg(feature = "lzo")]
            SquashFsCompression::Lzo => Ok(BlockCodec::Lzo),
            #[cfg(not(all(feature = "gzip", feature = "xz", feature = "zstd", feature = "lz4", feature = "lzo")))]
            other => Err(disabled(other)),
        };
        codec.map(|codec| Self { codec })
    }

    /// Decodes all of `input` into `output` and returns how many bytes that gave. More than
    /// `output` holds, less than a whole stream, and anything that does not decode is `Malformed`.
    ///
    /// The caller knows how long the result may be: 8 KiB for metadata, a block for data. So a
    /// hostile block can't make the decoder allocate.
    #[allow(unused_variables, reason = "what is needed depends on the codecs that are compiled in")]
    pub(super) fn decode(&mut self, input: &[u8], output: &mut [u8]) -> Result<usize> {
        match self.codec {
            #[cfg(feature = "gzip")]
            BlockCodec::Gzip(ref mut stream) => {
                stream.reset(true);
                match stream.decompress(input, output, flate2::FlushDecompress::Finish) {
                    Ok(flate2::Status::StreamEnd) => Ok(usize::try_from(stream.total_out()).unwrap_or(output.len())),
                    Ok(_) => Err(too_long_or_cut("gzip")),
                    Err(source) => Err(broken("gzip").with_source(source)),
                }
            }
            #[cfg(feature = "xz")]
            BlockCodec::Xz { memory } => xz(memory, input, output),
            #[cfg(feature = "zstd")]
            BlockCodec::Zstd(ref mut context) => {
                context.decompress_to_buffer(input, output).map_err(|source| broken("zstd").with_source(source))
            }
            #[cfg(feature = "lz4")]
            BlockCodec::Lz4 => {
                lz4_flex::block::decompress_into(input, output).map_err(|source| broken("lz4").with_source(source))
            }
            #[cfg(feature = "xz")]
            BlockCodec::Lzma { memory } => lzma(memory, input, output),
            #[cfg(feature = "lzo")]
            BlockCodec::Lzo => super::lzo::decode(input, output),
            #[cfg(not(any(feature = "gzip", feature = "xz", feature = "zstd", feature = "lz4", feature = "lzo")))]
            BlockCodec::None => Err(Error::unsupported("no codec is compiled in")),
        }
    }
}

/// Decodes a block that is a complete xz stream.
#[cfg(feature = "xz")]
fn xz(memory: u64, input: &[u8], output: &mut [u8]) -> Result<usize> {
    let mut stream =
        liblzma::stream::Stream::new_stream_decoder(memory, 0).map_err(|source| xz_failure("xz", memory, source))?;
    match run(&mut stream, "xz", memory, input, output)? {
        true => Ok(usize::try_from(stream.total_out()).unwrap_or(output.len())),
        false => Err(too_long_or_cut("xz")),
    }
}

/// The `.lzma` container, whose header tells the size. Some writers also end the stream with a marker and some do not,
/// which only a decoder that is not told the size takes both of.
#[cfg(feature = "xz")]
fn lzma(memory: u64, input: &[u8], output: &mut [u8]) -> Result<usize> {
    const PROPERTIES: usize = 5;
    const HEADER: usize = PROPERTIES + 8;
    let cut = || too_long_or_cut("lzma");
    let (header, body) = input.split_first_chunk::<HEADER>().ok_or_else(cut)?;
    let size = header.last_chunk().map_or(u64::MAX, |size| u64::from_le_bytes(*size));
    let size = usize::try_from(size).ok().filter(|size| *size <= output.len()).ok_or_else(cut)?;
    let mut unsized_header = [0xff; HEADER];
    unsized_header[..PROPERTIES].copy_from_slice(&header[..PROPERTIES]);
    // Headers ask for a dictionary of 8 MiB, of which a block can use no more than its own size.
    let dictionary = u32::try_from(size.max(4096)).unwrap_or(u32::MAX);
    unsized_header[1..PROPERTIES].copy_from_slice(&dictionary.to_le_bytes());
    let output = output.split_at_mut(size).0;
    let failed = |source| xz_failure("lzma", memory, source);
    let mut stream = liblzma::stream::Stream::new_lzma_decoder(memory).map_err(failed)?;
    // Without room nothing would be taken; a header gives no bytes yet.
    stream.process(&unsized_header, output, liblzma::stream::Action::Run).map_err(failed)?;
    let ended = run(&mut stream, "lzma", memory, body, output)?;
    let consumed = usize::try_from(stream.total_in()).unwrap_or(usize::MAX) == input.len();
    if stream.total_out() == size as u64 && (ended || consumed) { Ok(size) } else { Err(cut()) }
}

/// Runs a decoder over one block; whether the stream ended by itself.
#[cfg(feature = "xz")]
fn run(
    stream: &mut liblzma::stream::Stream,
    codec: &str,
    memory: u64,
    input: &[u8],
    output: &mut [u8],
) -> Result<bool> {
    use liblzma::stream::{Action, Status};

    let (first_in, first_out) = (stream.total_in(), stream.total_out());
    loop {
        let (taken, given) = (stream.total_in(), stream.total_out());
        let rest_in = usize::try_from(taken - first_in).ok().and_then(|at| input.get(at..)).unwrap_or_default();
        let rest_out = usize::try_from(given - first_out).ok().and_then(|at| output.get_mut(at..)).unwrap_or_default();
        match stream.process(rest_in, rest_out, Action::Finish) {
            Ok(Status::StreamEnd) => return Ok(true),
            // Room or bytes are at their end.
            Ok(_) if (stream.total_in(), stream.total_out()) == (taken, given) => return Ok(false),
            Ok(_) => {}
            Err(source) => return Err(xz_failure(codec, memory, source)),
        }
    }
}

/// liblzma's error as one of ours.
#[cfg(feature = "xz")]
fn xz_failure(codec: &str, memory: u64, source: liblzma::stream::Error) -> Error {
    match source {
        liblzma::stream::Error::MemLimit => {
            Error::limit("codec_memory", memory, format_args!("the dictionary of a block of {codec}"))
        }
        source => broken(codec).with_source(source),
    }
}

/// The error for a block that is damaged.
#[cfg(any(feature = "gzip", feature = "xz", feature = "zstd", feature = "lz4"))]
fn broken(codec: &str) -> Error {
    Error::malformed(format!("a block does not decode as {codec}"))
}

/// The error for a block that ends early or holds more than its buffer.
#[cfg(any(feature = "gzip", feature = "xz"))]
fn too_long_or_cut(codec: &str) -> Error {
    Error::malformed(format!("a block of {codec} is cut, or decodes to more than a block may hold"))
}

/// The refusal of a codec that was compiled out.
#[cfg_attr(
    all(feature = "gzip", feature = "xz", feature = "zstd", feature = "lz4", feature = "lzo"),
    allow(dead_code, reason = "every codec is there")
)]
pub(super) fn disabled(compression: SquashFsCompression) -> Error {
    let name = compression.name();
    let feature = if compression == SquashFsCompression::Lzma { "xz" } else { name };
    Error::new(ErrorKind::FeatureDisabled, format!("SquashFS with {name} needs the feature `{feature}`"))
}
