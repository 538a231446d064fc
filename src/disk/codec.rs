//! Compressed clusters: decoded and encoded one by one, each into a buffer of a known size.

use super::runs::{Packed, Run, Source};
use crate::error::{Error, Result};
use crate::io::{Blob, ReadAt};

/// How the clusters of a qcow2 disk are compressed.
///
/// ```
/// use lxd_image::disk::ClusterCompression;
///
/// assert_eq!("zstd:9".parse::<ClusterCompression>()?, ClusterCompression::Zstd(9));
/// assert_eq!("none".parse::<ClusterCompression>()?, ClusterCompression::None);
/// # Ok::<(), lxd_image::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClusterCompression {
    /// Clusters are stored as they are: the largest file, and the fastest to read and to run from.
    None,
    /// Deflate with this level (1 to 9), which every program that reads qcow2 knows.
    Zlib(u8),
    /// Zstandard with this level (1 to 19). QEMU reads it since 5.1.
    Zstd(u8),
}

impl Default for ClusterCompression {
    /// Deflate with the level that gives the size of QEMU's own.
    fn default() -> Self {
        Self::Zlib(ZLIB_LEVEL)
    }
}

/// The default level of deflate: the one that gives what zlib makes of level 6, which QEMU uses. zlib-rs finds matches of three
/// bytes at no lower one, and the window of 4 KiB leaves few longer ones: a disk of programs would be 3 % larger.
const ZLIB_LEVEL: u8 = 9;
/// The default level of Zstandard, as in QEMU.
const ZSTD_LEVEL: u8 = 3;

impl std::fmt::Display for ClusterCompression {
    /// As it is parsed: `zlib:9`, `zstd:3`, `none`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Zlib(level) => write!(f, "zlib:{level}"),
            Self::Zstd(level) => write!(f, "zstd:{level}"),
        }
    }
}

impl std::str::FromStr for ClusterCompression {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (name, level) = text.split_once(':').map_or((text, None), |(name, level)| (name, Some(level)));
        let level = |default: u8, most: u8| match level {
            None => Ok(default),
            Some(level) => level.parse().ok().filter(|level| (1..=most).contains(level)).ok_or_else(|| {
                Error::invalid(format!("the level `{level}` of {name} is not a number from 1 to {most}"))
            }),
        };
        match name {
            "none" if !text.contains(':') => Ok(Self::None),
            "zlib" => Ok(Self::Zlib(level(ZLIB_LEVEL, 9)?)),
            "zstd" => Ok(Self::Zstd(level(ZSTD_LEVEL, 19)?)),
            _ => Err(Error::invalid(format!("the compression `{text}` of clusters is not known"))
                .with_hint("clusters are compressed with zlib, zstd or none, optionally `:LEVEL`")),
        }
    }
}

/// How a compressed cluster is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PackedCodec {
    /// Deflate without header and checksum.
    Deflate,
    /// Deflate with zlib's header and checksum.
    Zlib,
    /// Zstandard frames.
    Zstd,
}

/// Loads runs; keeps the decoders' state and buffers from one to the next.
#[derive(Default)]
pub(super) struct Loader {
    #[cfg(feature = "gzip")]
    deflate: Option<flate2::Decompress>,
    #[cfg(feature = "gzip")]
    zlib: Option<flate2::Decompress>,
    #[cfg(feature = "zstd")]
    zstd: Option<zstd::zstd_safe::DCtx<'static>>,
    /// The bytes of a compressed cluster.
    packed: Vec<u8>,
    /// A whole decoded cluster, where only a part of it is asked for.
    unit: Vec<u8>,
}

impl Loader {
    /// Fills `out` with the start of a run. Returns how many bytes of compressed clusters it took.
    ///
    /// # Errors
    /// `Malformed` for a cluster that does not decode, `FeatureDisabled`, `Io`.
    pub(super) fn load(&mut self, blob: &Blob, run: &Run, out: &mut [u8]) -> Result<u64> {
        match run.source {
            Source::Hole | Source::Zero => {
                out.fill(0);
                Ok(0)
            }
            Source::Stored(host) => {
                // The last cluster of a file may be cut: the rest of it is zeros.
                let have = usize::try_from(blob.len().saturating_sub(host)).unwrap_or(usize::MAX).min(out.len());
                let (stored, rest) = out.split_at_mut(have);
                blob.read_exact_at(stored, host)?;
                rest.fill(0);
                Ok(0)
            }
            Source::Packed(packed) => self.unpack(blob, &packed, out),
        }
    }

    fn unpack(&mut self, blob: &Blob, packed: &Packed, out: &mut [u8]) -> Result<u64> {
        let have = packed.bytes.min(blob.len().saturating_sub(packed.host));
        let have = usize::try_from(have).map_err(|_| Error::malformed("a compressed cluster is too large"))?;
        let mut source = std::mem::take(&mut self.packed);
        source.resize(have, 0);
        let unpacked = blob.read_exact_at(&mut source, packed.host).and_then(|()| {
            let end = packed.skip.saturating_add(out.len());
            if packed.skip == 0 && end == packed.unit {
                return self.decode(packed.codec, &source, out, end);
            }
            let mut unit = std::mem::take(&mut self.unit);
            unit.resize(packed.unit, 0);
            let used = self.decode(packed.codec, &source, &mut unit, end);
            if let Some(part) = unit.get(packed.skip..end) {
                out.copy_from_slice(part);
            }
            self.unit = unit;
            used
        });
        self.packed = source;
        unpacked.map_err(|error| error.at_offset(packed.host))
    }

    /// Decodes one cluster. Returns the bytes of `source` that it took. A cluster of qcow2 must fill
    /// `out`, a grain of VMDK only the first `needed` bytes: QEMU cuts the last one.
    #[cfg_attr(
        not(all(feature = "gzip", feature = "zstd")),
        allow(unused_variables, unused_mut, clippy::needless_pass_by_ref_mut, reason = "the codec is compiled out")
    )]
    fn decode(&mut self, codec: PackedCodec, source: &[u8], out: &mut [u8], needed: usize) -> Result<u64> {
        match codec {
            #[cfg(feature = "gzip")]
            PackedCodec::Deflate => {
                let state = self.deflate.get_or_insert_with(|| flate2::Decompress::new(false));
                state.reset(false);
                inflate(state, source, out)?;
                // Some writers don't end the stream of a full cluster, and QEMU takes that, too.
                if state.total_out() == out.len() as u64 { Ok(state.total_in()) } else { Err(damaged()) }
            }
            #[cfg(feature = "gzip")]
            PackedCodec::Zlib => {
                let state = self.zlib.get_or_insert_with(|| flate2::Decompress::new(true));
                state.reset(true);
                // The checksum is behind the data, so the stream has to end.
                let ended = inflate(state, source, out)? == flate2::Status::StreamEnd;
                if ended && state.total_out() >= needed as u64 { Ok(state.total_in()) } else { Err(damaged()) }
            }
            #[cfg(feature = "zstd")]
            PackedCodec::Zstd => unzstd(self.zstd.get_or_insert_with(zstd::zstd_safe::DCtx::create), source, out),
            #[cfg(not(feature = "gzip"))]
            PackedCodec::Deflate | PackedCodec::Zlib => Err(disabled("deflate", "gzip")),
            #[cfg(not(feature = "zstd"))]
            PackedCodec::Zstd => Err(disabled("zstd", "zstd")),
        }
    }
}

#[cfg(not(all(feature = "gzip", feature = "zstd")))]
fn disabled(codec: &str, feature: &str) -> Error {
    Error::new(
        crate::error::ErrorKind::FeatureDisabled,
        format!("the disk's clusters are compressed with {codec}: the Cargo feature `{feature}` is off"),
    )
}

/// The error for a compressed cluster that does not decode to a whole one.
#[cfg(any(feature = "gzip", feature = "zstd"))]
fn damaged() -> Error {
    Error::malformed("a compressed cluster of the disk is damaged")
}

#[cfg(feature = "gzip")]
fn inflate(state: &mut flate2::Decompress, source: &[u8], out: &mut [u8]) -> Result<flate2::Status> {
    state.decompress(source, out, flate2::FlushDecompress::Finish).map_err(|_| damaged())
}

/// Decodes frames until `out` is full. Frame by frame, since what follows belongs to another cluster.
#[cfg(feature = "zstd")]
fn unzstd(state: &mut zstd::zstd_safe::DCtx<'_>, source: &[u8], out: &mut [u8]) -> Result<u64> {
    let (mut taken, mut filled) = (0_usize, 0_usize);
    while filled < out.len() {
        let rest = source.get(taken..).filter(|rest| !rest.is_empty()).ok_or_else(damaged)?;
        let length = zstd::zstd_safe::find_frame_compressed_size(rest).map_err(|_| damaged())?;
        let frame = rest.get(..length).filter(|frame| !frame.is_empty()).ok_or_else(damaged)?;
        let room = out.get_mut(filled..).unwrap_or_default();
        let count = state.decompress(room, frame).map_err(|_| damaged())?;
        taken = taken.saturating_add(length);
        filled = filled.saturating_add(count);
    }
    Ok(taken as u64)
}

/// Compresses clusters; keeps the encoder's state from one to the next.
pub(super) struct Packer {
    state: PackerState,
    /// What the last cluster became.
    room: Vec<u8>,
}

enum PackerState {
    None,
    #[cfg(feature = "gzip")]
    Deflate(Box<flate2::Compress>),
    #[cfg(feature = "zstd")]
    Zstd(zstd::bulk::Compressor<'static>),
}

/// The window of deflate in qcow2: QEMU reads with one of 4 KiB.
#[cfg(feature = "gzip")]
const WINDOW_BITS: u8 = 12;

impl Packer {
    /// # Errors
    /// `FeatureDisabled` when the codec is compiled out, `InvalidInput` for a level that is none.
    pub(super) fn new(compression: ClusterCompression) -> Result<Self> {
        let state = match compression {
            ClusterCompression::None => PackerState::None,
            #[cfg(feature = "gzip")]
            ClusterCompression::Zlib(level) => {
                check_level(level, 9)?;
                let level = flate2::Compression::new(u32::from(level));
                PackerState::Deflate(Box::new(flate2::Compress::new_with_window_bits(level, false, WINDOW_BITS)))
            }
            #[cfg(feature = "zstd")]
            ClusterCompression::Zstd(level) => {
                check_level(level, 19)?;
                let state = zstd::bulk::Compressor::new(i32::from(level));
                PackerState::Zstd(state.map_err(|error| Error::io("the zstd encoder can't be made", error))?)
            }
            #[cfg(not(feature = "gzip"))]
            ClusterCompression::Zlib(_) => return Err(disabled("deflate", "gzip")),
            #[cfg(not(feature = "zstd"))]
            ClusterCompression::Zstd(_) => return Err(disabled("zstd", "zstd")),
        };
        Ok(Self { state, room: Vec::new() })
    }

    /// Compresses one cluster. `None` when that does not make it shorter: it is stored as it is then.
    #[cfg_attr(
        not(any(feature = "gzip", feature = "zstd")),
        allow(unused_variables, unused_mut, clippy::needless_pass_by_ref_mut, reason = "the codecs are compiled out")
    )]
    pub(super) fn pack(&mut self, cluster: &[u8]) -> Option<&[u8]> {
        // There is room for whatever comes of it: a stream that was stopped in its middle would leave its rest in the
        // encoder, which a reset does not remove.
        let room = cluster.len().saturating_add(cluster.len() / 8).saturating_add(1 << 10);
        self.room.resize(room, 0);
        let count = match &mut self.state {
            PackerState::None => None,
            #[cfg(feature = "gzip")]
            PackerState::Deflate(state) => {
                state.reset();
                match state.compress(cluster, &mut self.room, flate2::FlushCompress::Finish) {
                    Ok(flate2::Status::StreamEnd) => usize::try_from(state.total_out()).ok(),
                    _ => None,
                }
            }
            #[cfg(feature = "zstd")]
            PackerState::Zstd(state) => state.compress_to_buffer(cluster, &mut self.room).ok(),
        };
        self.room.get(..count.filter(|count| *count < cluster.len())?)
    }
}

#[cfg(any(feature = "gzip", feature = "zstd"))]
fn check_level(level: u8, most: u8) -> Result<()> {
    if (1..=most).contains(&level) {
        return Ok(());
    }
    Err(Error::invalid(format!("the level {level} of the clusters' compression is out of range: 1 to {most}")))
}
