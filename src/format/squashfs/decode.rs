//! One compressed block into a buffer whose size is known before, whatever the codec.
//! A decoder is kept by each thread, so that contexts are allocated once.

use super::superblock::SquashFsCompression;
use crate::error::{Error, ErrorKind, Result};

/// Decodes blocks, one after the other.
pub(super) struct Decoder {
    codec: Codec,
}

enum Codec {
    #[cfg(feature = "gzip")]
    Gzip(Box<flate2::Decompress>),
    #[cfg(feature = "xz")]
    Xz { memory: u64 },
    #[cfg(feature = "zstd")]
    Zstd(zstd::bulk::Decompressor<'static>),
    #[cfg(feature = "lz4")]
    Lz4,
    #[cfg(not(any(feature = "gzip", feature = "xz", feature = "zstd", feature = "lz4")))]
    #[allow(dead_code, reason = "without codecs there is no decoder, but its type")]
    None,
}

impl Decoder {
    /// A decoder that allocates at most `memory` bytes for a dictionary, where the codec has one.
    #[allow(unused_variables, reason = "what is needed depends on the codecs that are compiled in")]
    pub(super) fn new(compression: SquashFsCompression, memory: u64) -> Result<Self> {
        let codec = match compression {
            #[cfg(feature = "gzip")]
            SquashFsCompression::Gzip => Ok(Codec::Gzip(Box::new(flate2::Decompress::new(true)))),
            #[cfg(feature = "xz")]
            SquashFsCompression::Xz => Ok(Codec::Xz { memory }),
            #[cfg(feature = "zstd")]
            SquashFsCompression::Zstd => zstd::bulk::Decompressor::new()
                .map(Codec::Zstd)
                .map_err(|source| Error::io("the zstd decoder can't be made", source)),
            #[cfg(feature = "lz4")]
            SquashFsCompression::Lz4 => Ok(Codec::Lz4),
            SquashFsCompression::Lzma | SquashFsCompression::Lzo => {
                Err(Error::unsupported(format!("SquashFS compressed with {} is not read", compression.name())))
            }
            #[cfg(not(all(feature = "gzip", feature = "xz", feature = "zstd", feature = "lz4")))]
            other => Err(disabled(other)),
        };
        codec.map(|codec| Self { codec })
    }

    /// Decodes all of `input` into `output` and returns how many bytes that gave. More than
    /// `output` holds, less than a whole stream, and anything that does not decode is `Malformed`.
    #[allow(unused_variables, reason = "what is needed depends on the codecs that are compiled in")]
    pub(super) fn decode(&mut self, input: &[u8], output: &mut [u8]) -> Result<usize> {
        match self.codec {
            #[cfg(feature = "gzip")]
            Codec::Gzip(ref mut stream) => {
                stream.reset(true);
                match stream.decompress(input, output, flate2::FlushDecompress::Finish) {
                    Ok(flate2::Status::StreamEnd) => Ok(usize::try_from(stream.total_out()).unwrap_or(output.len())),
                    Ok(_) => Err(too_long_or_cut("gzip")),
                    Err(source) => Err(broken("gzip").with_source(source)),
                }
            }
            #[cfg(feature = "xz")]
            Codec::Xz { memory } => xz(memory, input, output),
            #[cfg(feature = "zstd")]
            Codec::Zstd(ref mut context) => {
                context.decompress_to_buffer(input, output).map_err(|source| broken("zstd").with_source(source))
            }
            #[cfg(feature = "lz4")]
            Codec::Lz4 => {
                lz4_flex::block::decompress_into(input, output).map_err(|source| broken("lz4").with_source(source))
            }
            #[cfg(not(any(feature = "gzip", feature = "xz", feature = "zstd", feature = "lz4")))]
            Codec::None => Err(Error::unsupported("no codec is compiled in")),
        }
    }
}

#[cfg(feature = "xz")]
fn xz(memory: u64, input: &[u8], output: &mut [u8]) -> Result<usize> {
    use liblzma::stream::{Action, Error as XzError, Status, Stream};

    let fail = |source| match source {
        XzError::MemLimit => Error::limit("codec_memory", memory, "the dictionary of an xz block"),
        source => broken("xz").with_source(source),
    };
    let mut stream = Stream::new_stream_decoder(memory, 0).map_err(fail)?;
    loop {
        let (taken, given) = (stream.total_in(), stream.total_out());
        let rest_in = usize::try_from(taken).ok().and_then(|at| input.get(at..)).unwrap_or_default();
        let rest_out = usize::try_from(given).ok().and_then(|at| output.get_mut(at..)).unwrap_or_default();
        match stream.process(rest_in, rest_out, Action::Finish).map_err(fail)? {
            Status::StreamEnd => return Ok(usize::try_from(stream.total_out()).unwrap_or(output.len())),
            _ if (stream.total_in(), stream.total_out()) == (taken, given) => return Err(too_long_or_cut("xz")),
            _ => {}
        }
    }
}

#[cfg(any(feature = "gzip", feature = "xz", feature = "zstd", feature = "lz4"))]
fn broken(codec: &str) -> Error {
    Error::malformed(format!("a block does not decode as {codec}"))
}

#[cfg(any(feature = "gzip", feature = "xz"))]
fn too_long_or_cut(codec: &str) -> Error {
    Error::malformed(format!("a block of {codec} is cut, or decodes to more than a block may hold"))
}

/// The refusal of a codec that was compiled out.
#[cfg_attr(
    all(feature = "gzip", feature = "xz", feature = "zstd", feature = "lz4"),
    allow(dead_code, reason = "every codec is there")
)]
pub(super) fn disabled(compression: SquashFsCompression) -> Error {
    let name = compression.name();
    Error::new(ErrorKind::FeatureDisabled, format!("SquashFS with {name} needs the feature `{name}`"))
}
