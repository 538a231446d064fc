//! Compression and decompression of whole streams, one file per codec behind two functions.
//!
//! [`decode`] recognises a stream by its first bytes and returns a reader of what it holds;
//! [`encode`] returns a writer. Inside the crate, `decoder` and `encoder` take the codec and a
//! switch for cancellation as well. In the flow of data a codec stands between the bytes of a file
//! ([`Input`](super::Input)) and the tar reader. SquashFS compresses block by block and has
//! decoders of its own in `squashfs::decode`.
//!
//! Invariants, which hold for every codec and are tested for each:
//!
//! * A reader returns end of file only after the last member, stream or frame was complete and each
//!   of its checksums was right. Data that is cut or followed by garbage is an error, never a short
//!   result.
//! * Memory is bounded by [`Limits`] before it is allocated: the window or dictionary that a header
//!   asks for is compared with `codec_memory` first.
//! * The bytes that an encoder writes do not depend on the number of threads, so that an image's
//!   fingerprint does not depend on the machine that packed it.
//! * Errors are sticky: a reader that failed once fails again, see `checked`.
//!
//! The facts about each codec (name, extensions, magic numbers, levels, cargo feature) stand in
//! `table`. To add a codec:
//!
//! 1. A variant, its row and a line of `rows!` in `table`: parsing, detection, endings, media types and hints have it then.
//! 2. A file beside the others, and an arm of `decoder` and of `encoder`. An arm that is missing is an error at run time;
//!    the tests here go through `Codec::ALL`, and find it.
//! 3. A feature in `Cargo.toml`, also among those of `cli` and of the crate `ffi`.
//! 4. If SquashFS has it, too: `superblock`, `decode` and `write/encode` in `format/squashfs`, and `squashfs_compression` in
//!    `format/write/extension`. If it was refused before: `OTHERS` there.
//! 5. The texts that list all: the help of `--compression`, the README.

#[cfg(feature = "bzip2")]
mod bzip2;
#[cfg(any(feature = "gzip", feature = "xz", feature = "zstd", feature = "bzip2", feature = "lz4"))]
mod checked;
mod compression;
mod encoder;
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

pub use self::encoder::Encoder;

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
///
/// `threads` is a bound; gzip, zstd and lz4 decode on the calling thread whatever it is. `cancel`
/// ends waits inside the decoder, where a block can take long.
///
/// # Errors
/// `FeatureDisabled` for a codec that was compiled out; `Io` where a thread can't be started.
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
///
/// zstd, xz and lzma look at `cancel` between calls of their library; the others encode blocks
/// short enough that the caller's own check is soon enough.
///
/// # Errors
/// `FeatureDisabled` for a codec that was compiled out; `Io` where a thread can't be started or the
/// header can't be written.
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

/// The encoder of [`Codec::None`]: writes bytes as they are.
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
