//! Temporary.
use std::io::{BufReader, Read};
use crate::error::{Error, Result};
use crate::limits::Limits;
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
/// c
pub enum Codec { /// n
 None, /// n
 Gzip, /// n
 Bzip2, /// n
 Xz, /// n
 Lzma, /// n
 Zstd, /// n
 Lz4 }
impl std::fmt::Display for Codec { fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { write!(f, "{self:?}") } }
impl Codec {
 /// d
 pub fn detect(p: &[u8]) -> Option<Self> {
  if p.starts_with(b"\x1f\x8b") { Some(Self::Gzip) } else if p.starts_with(b"BZh") { Some(Self::Bzip2) } else if p.starts_with(b"\xfd7zXZ\0") { Some(Self::Xz) } else if p.starts_with(b"\x5d\0\0") { Some(Self::Lzma) } else if p.starts_with(b"\x28\xb5\x2f\xfd") { Some(Self::Zstd) } else if p.starts_with(b"\x04\x22\x4d\x18") { Some(Self::Lz4) } else { None }
 }
}
pub(crate) fn decoder<'a, R: Read + Send + 'a>(c: Codec, r: R, _l: &Limits, t: usize) -> Result<Box<dyn Read + Send + 'a>> {
 let r = BufReader::with_capacity(1<<18, r);
 Ok(match c { Codec::None => Box::new(r), Codec::Gzip => Box::new(flate2::read::MultiGzDecoder::new(r)), Codec::Xz => { let s = liblzma::stream::MtStreamBuilder::new().threads(t as u32).memlimit_threading(1<<30).memlimit_stop(1<<30).decoder().map_err(|e| Error::io("x", std::io::Error::from(e)))?; Box::new(liblzma::bufread::XzDecoder::new_stream(r, s)) }, Codec::Zstd => Box::new(zstd::Decoder::with_buffer(r).map_err(|e| Error::io("x", e))?), Codec::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(r)), Codec::Lz4 => Box::new(lz4_flex::frame::FrameDecoder::new(r)), Codec::Lzma => Box::new(liblzma::bufread::XzDecoder::new_stream(r, liblzma::stream::Stream::new_lzma_decoder(1<<28).map_err(|e| Error::io("x", std::io::Error::from(e)))?)) })
}
