//! Compression and decompression of whole streams, one file a codec behind two functions.
//! What comes out of a decoder has been checked to its last trailer; what an encoder writes
//! is the same whatever the number of threads.

#[cfg(feature = "bzip2")]
mod bzip2;
#[cfg(any(feature = "gzip", feature = "xz", feature = "zstd", feature = "bzip2", feature = "lz4"))]
mod checked;
mod compression;
#[cfg(feature = "gzip")]
mod gzip;
#[cfg(feature = "lz4")]
mod lz4;
#[cfg(any(feature = "gzip", feature = "xz", feature = "zstd", feature = "bzip2", feature = "lz4"))]
mod peek_reader;
mod table;
#[cfg(test)]
mod tests;
#[cfg(any(feature = "gzip", feature = "bzip2", feature = "lz4"))]
mod workers;
#[cfg(feature = "xz")]
mod xz;
#[cfg(feature = "zstd")]
mod zstd;

use std::io::{self, Read, Write};

pub use compression::Compression;
pub use table::Codec;

use crate::error::Result;
use crate::limits::Limits;
use crate::progress::Cancel;

/// A writer of compressed bytes. Dropping it unfinished leaves a stream without an end, which
/// every decoder refuses.
pub trait Encoder: Write + Send {
    /// Writes what is pending and the stream's end, and flushes the sink.
    ///
    /// # Errors
    /// What the sink fails with.
    fn finish(self: Box<Self>) -> Result<()>;
}

/// Opens any compressed stream by its content: the codec, and a reader of what it holds.
///
/// A stream that no codec claims is taken as uncompressed. The reader decodes every member,
/// stream or frame there is and returns end of file only when the last one was complete and
/// its checksum right.
/// `threads` bounds the threads that may work at once, where the stream allows more than one.
///
/// ```
/// use std::io::Read;
/// use lxd_image::{Limits, format};
///
/// let (codec, mut reader) = format::decode(&b"plain text"[..], &Limits::default(), 2)?;
/// let mut text = String::new();
/// reader.read_to_string(&mut text)?;
/// assert_eq!((codec, text.as_str()), (format::Codec::None, "plain text"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// `Io` where the first bytes can't be read, `FeatureDisabled` for a codec that was compiled
/// out. The reader itself fails with `Malformed`, `LimitExceeded` and `Unsupported`, which
/// [`Error::from`](crate::Error) takes out of the [`io::Error`].
pub fn decode<'a, R: Read + Send + 'a>(
    mut reader: R,
    limits: &Limits,
    threads: usize,
) -> Result<(Codec, Box<dyn Read + Send + 'a>)> {
    let mut prefix = Vec::with_capacity(Codec::PREFIX);
    reader.by_ref().take(Codec::PREFIX as u64).read_to_end(&mut prefix)?;
    let codec = Codec::detect(&prefix).unwrap_or(Codec::None);
    let source = io::Cursor::new(prefix).chain(reader);
    Ok((codec, decoder(codec, source, limits, threads, &Cancel::new())?))
}

/// Compresses what is written to it into `sink`, with up to `threads` threads. The bytes are
/// the same for every number of threads; [`finish`](Encoder::finish) completes them.
///
/// ```
/// use std::io::Write;
/// use lxd_image::format::{self, Compression};
///
/// let mut out = Vec::new();
/// let mut encoder = format::encode("none".parse()?, &mut out, 1)?;
/// encoder.write_all(b"text")?;
/// encoder.finish()?;
/// assert_eq!(out, b"text");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// `FeatureDisabled` for a codec that was compiled out.
pub fn encode<'a, W: Write + Send + 'a>(
    compression: Compression,
    sink: W,
    threads: usize,
) -> Result<Box<dyn Encoder + 'a>> {
    encoder(compression, sink, threads, &Cancel::new())
}

/// A reader of what `source` holds, compressed with `codec`. See [`decode`] for what it checks.
pub(crate) fn decoder<'a, R: Read + Send + 'a>(
    codec: Codec,
    source: R,
    limits: &Limits,
    threads: usize,
    cancel: &Cancel,
) -> Result<Box<dyn Read + Send + 'a>> {
    let threads = threads.max(1);
    // Each is used by some codecs only.
    let _ = (limits, threads, cancel);
    match codec {
        Codec::None => Ok(Box::new(source)),
        #[cfg(feature = "gzip")]
        Codec::Gzip => Ok(Box::new(checked::CheckedReader::new(gzip::GzipDecoder::new(source)))),
        #[cfg(feature = "bzip2")]
        Codec::Bzip2 if threads > 1 => {
            Ok(Box::new(checked::CheckedReader::new(bzip2::ParallelDecoder::new(source, threads, cancel.clone())?)))
        }
        #[cfg(feature = "bzip2")]
        Codec::Bzip2 => Ok(Box::new(checked::CheckedReader::new(bzip2::SerialDecoder::new(source)))),
        #[cfg(feature = "xz")]
        Codec::Xz | Codec::Lzma => {
            Ok(Box::new(checked::CheckedReader::new(xz::XzDecoder::new(codec, source, limits, threads))))
        }
        #[cfg(feature = "zstd")]
        Codec::Zstd => Ok(Box::new(checked::CheckedReader::new(zstd::ZstdDecoder::new(source, limits)?))),
        #[cfg(feature = "lz4")]
        Codec::Lz4 => Ok(Box::new(checked::CheckedReader::new(lz4::Lz4Decoder::new(source, limits)))),
        #[allow(unreachable_patterns, reason = "reached where a codec is compiled out")]
        _ => Err(codec.disabled()),
    }
}

/// A writer that compresses into `sink`, and gives up soon after `cancel` is switched on. See [`encode`].
pub(crate) fn encoder<'a, W: Write + Send + 'a>(
    compression: Compression,
    sink: W,
    threads: usize,
    cancel: &Cancel,
) -> Result<Box<dyn Encoder + 'a>> {
    let threads = threads.max(1);
    // Each is used by some codecs only.
    let _ = (threads, cancel);
    match compression.codec() {
        Codec::None => Ok(Box::new(StoredEncoder(sink))),
        #[cfg(feature = "gzip")]
        Codec::Gzip => Ok(Box::new(gzip::GzipEncoder::new(compression, sink, threads)?)),
        #[cfg(feature = "bzip2")]
        Codec::Bzip2 => Ok(Box::new(bzip2::Bzip2Encoder::new(compression, sink, threads)?)),
        #[cfg(feature = "xz")]
        Codec::Xz | Codec::Lzma => Ok(Box::new(xz::XzEncoder::new(compression, sink, threads, cancel)?)),
        #[cfg(feature = "zstd")]
        Codec::Zstd => Ok(Box::new(zstd::ZstdEncoder::new(compression, sink, threads, cancel)?)),
        #[cfg(feature = "lz4")]
        Codec::Lz4 => Ok(Box::new(lz4::Lz4Encoder::new(compression, sink, threads)?)),
        #[allow(unreachable_patterns, reason = "reached where a codec is compiled out")]
        codec => Err(codec.disabled()),
    }
}

/// What writes bytes as they are.
struct StoredEncoder<W>(W);

impl<W: Write> Write for StoredEncoder<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl<W: Write + Send> Encoder for StoredEncoder<W> {
    fn finish(mut self: Box<Self>) -> Result<()> {
        Ok(self.0.flush()?)
    }
}
