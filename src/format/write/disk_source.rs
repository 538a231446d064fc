//! Makes the qcow2 disk of an image out of whatever disk is given, and opens disks that are compressed as a whole.

use std::ffi::OsStr;
use std::fs::File;
use std::path::Path;

use crate::disk::{self, ClusterCompression, DiskFormat, DiskImage, DiskOptions, Qcow2WriteOptions};
use crate::error::{Error, Result};
use crate::format::cancellable::CancelReader;
use crate::format::codec::{self, Codec};
use crate::format::detect::read_up_to;
use crate::format::input::Input;
use crate::format::{foreign, holes, qcow2, spool};
use crate::io::{Blob, ReadAt};
use crate::limits::Limits;
use crate::progress::{Monitor, Phase};

/// Opens a disk, also one that is compressed as a whole (`disk.qcow2.xz`, `disk.img.gz`).
///
/// A compressed one is decoded to a file without a name in the directory `temporary`, with holes for zeros and under the
/// limit `spool`. Its format is recognised, or that of the options; a raw disk is never guessed. Where the options say
/// raw, the name of a compressed file has to say its codec as well: the bytes of a raw disk may begin like any other.
/// `threads` bounds the threads that decode at once.
///
/// ```no_run
/// use lxd_image::disk::{DiskOptions, RawWriteOptions};
/// use lxd_image::format::{self, Input};
/// use lxd_image::Monitor;
///
/// let input = Input::open("disk.qcow2.xz")?;
/// let disk = format::open_disk(&input, std::env::temp_dir(), &DiskOptions::new(), 2, &Monitor::none())?;
/// disk.write_raw(&std::fs::File::create_new("disk.img")?, &RawWriteOptions::new(), &Monitor::none())?;
/// # Ok::<(), lxd_image::Error>(())
/// ```
///
/// # Errors
/// Those of [`DiskImage::open`]; `InvalidInput` for a stream; `LimitExceeded`; `FeatureDisabled` for a codec that is
/// compiled out; `Cancelled`; `StorageFull`; `Io`.
pub fn open_disk(
    input: &Input,
    temporary: impl AsRef<Path>,
    options: &DiskOptions,
    threads: usize,
    monitor: &Monitor,
) -> Result<DiskImage> {
    let source = DiskSource {
        format: options.format,
        compression: None,
        directory: temporary.as_ref(),
        threads: threads.max(1),
        limits: &options.limits,
        monitor,
    };
    let opened = || {
        let head = input.peek(|reader| read_up_to(reader, foreign::HEAD_BYTES))?;
        DiskImage::open(source.blob(input, &head)?, options)
    };
    opened().map_err(|error| input.name_error(error))
}

/// Whether a file is recognised as a disk, also inside of a compressed file. A tar archive is an image, or an OVA if its
/// user says so.
///
/// # Errors
/// `Io`.
pub fn is_disk(input: &Input, limits: &Limits) -> Result<bool> {
    let Some(blob) = input.as_blob() else { return Ok(false) };
    let found = match DiskFormat::detect(blob)? {
        Some(found) => Some(found),
        None => {
            let head = input.peek(|reader| read_up_to(reader, Codec::PREFIX))?;
            let Some(codec) = Codec::detect(&head) else { return Ok(false) };
            let decoded = input.peek(|reader| {
                let mut decoder = codec::decoder(codec, reader, limits, 1, input.cancel())?;
                read_up_to(&mut decoder, foreign::HEAD_BYTES)
            });
            // What can't be decoded is not a disk; opening it as an image tells what is wrong.
            decoded.ok().map(|head| DiskFormat::detect(&Blob::from(head))).transpose()?.flatten()
        }
    };
    Ok(found.is_some_and(|found| found != DiskFormat::Ova))
}

/// How a disk becomes the one of an image.
pub(super) struct DiskSource<'a> {
    /// The format that the caller says it has.
    pub(super) format: Option<DiskFormat>,
    /// How clusters are compressed: then a qcow2 disk is written anew, too.
    pub(super) compression: Option<ClusterCompression>,
    /// Where temporary files go.
    pub(super) directory: &'a Path,
    pub(super) threads: usize,
    pub(super) limits: &'a Limits,
    pub(super) monitor: &'a Monitor,
}

impl DiskSource<'_> {
    /// The disk as a qcow2 file: itself, when it is one and no compression was asked for; otherwise a temporary file without
    /// a name.
    ///
    /// # Errors
    /// `Unsupported` for what is no disk of a known format, and a raw disk that the caller did not call so; those of
    /// reading and converting it.
    pub(super) fn qcow2(&self, input: &Input) -> Result<Option<Input>> {
        let head = input.peek(|reader| read_up_to(reader, foreign::HEAD_BYTES))?;
        let keeps = self.compression.is_none();
        if keeps && head.starts_with(qcow2::MAGIC) && matches!(self.format, None | Some(DiskFormat::Qcow2)) {
            return Ok(None);
        }
        let blob = self.blob(input, &head)?;
        if keeps && self.format != Some(DiskFormat::Raw) && DiskFormat::detect(&blob)? == Some(DiskFormat::Qcow2) {
            return Ok(Some(Input::blob(blob)));
        }
        let options = DiskOptions::new().limits(self.limits.clone());
        let options = match self.format {
            Some(format) => options.format(format),
            None => options,
        };
        let disk = DiskImage::open(blob, &options)?;
        self.convert(&disk).map(|blob| Some(Input::blob(blob)))
    }

    /// The bytes of the disk, decoded if it is compressed as a whole. `head` are the first ones of the input.
    ///
    /// # Errors
    /// `Unsupported` for what is no disk of a known format, unless its format was said; those of decoding.
    fn blob(&self, input: &Input, head: &[u8]) -> Result<Blob> {
        let Some(stored) = input.as_blob() else {
            return Err(Error::invalid("a disk can't be read from a stream").with_hint("save it to a file"));
        };
        let codec = self.codec(input, head);
        let blob = match codec {
            Some(_) if foreign::is_compressed_tar(input, head) && self.format != Some(DiskFormat::Ova) => {
                return Err(foreign::input_disk_refusal(input, head));
            }
            Some(codec) => self.decompress(input, codec)?,
            None => stored.clone(),
        };
        if self.format.is_none() {
            let recognised = DiskFormat::detect(&blob)?;
            // Every tar archive looks like an appliance at its beginning: one without a descriptor is named for what it is.
            let is_plain_tar = recognised == Some(DiskFormat::Ova) && !disk::is_appliance(&blob);
            match codec {
                _ if recognised.is_some() && !is_plain_tar => {}
                None => return Err(foreign::input_disk_refusal(input, head)),
                Some(codec) => {
                    let head = read_up_to(&mut Input::blob(blob).reader(self.monitor.cancel())?, foreign::HEAD_BYTES)?;
                    return Err(foreign::decoded_disk_refusal(input, codec, &head));
                }
            }
        }
        Ok(blob)
    }

    /// Writes a disk as qcow2 to a temporary file.
    pub(super) fn convert(&self, disk: &DiskImage) -> Result<Blob> {
        let file = self.temporary()?;
        let options = Qcow2WriteOptions::new().threads(self.threads).compression(self.compression.unwrap_or_default());
        disk.write_qcow2(&file, &options, self.monitor).map_err(|error| error.on_disk_of(self.directory))?;
        Blob::file(file).map_err(|error| Error::io("the converted disk can't be read", error))
    }

    /// A file without a name.
    pub(super) fn temporary(&self) -> Result<File> {
        spool::nameless(self.directory)
            .map_err(|error| Error::io("a temporary file can't be made", error).in_file(self.directory))
    }

    /// The codec around the disk. The first bytes of a raw disk may be anything, so that the name has to say it as well.
    fn codec(&self, input: &Input, head: &[u8]) -> Option<Codec> {
        let codec = Codec::detect(head)?;
        let is_named = || {
            let ending = input.name().and_then(Path::extension);
            ending.is_some_and(|ending| ending == OsStr::new(codec.extension()))
        };
        (self.format != Some(DiskFormat::Raw) || is_named()).then_some(codec)
    }

    /// Decodes the whole file to a temporary one, with holes in place of zeros.
    fn decompress(&self, input: &Input, codec: Codec) -> Result<Blob> {
        let file = self.temporary()?;
        let cancel = self.monitor.cancel();
        let reader = CancelReader { reader: input.reader(cancel)?, cancel: cancel.clone() };
        let mut decoder = codec::decoder(codec, reader, self.limits, self.threads, cancel)?;
        let limit = self.limits.spool;
        let mut buffer = vec![0; 1 << 20];
        let mut at = 0_u64;
        loop {
            // Whole buffers, so that holes are where zeros are and not where a read ended.
            let count = fill(&mut decoder, &mut buffer)?;
            let bytes = buffer.get(..count).unwrap_or_default();
            let end = at.saturating_add(count as u64);
            if end > limit {
                return Err(Error::limit("spool", limit, format_args!("a disk that is compressed with {codec}")));
            }
            holes::write(&file, bytes, at)
                .map_err(|error| Error::io("the disk can't be decompressed here", error).on_disk_of(self.directory))?;
            at = end;
            self.monitor.report(Phase::Convert, at, None)?;
            if count < buffer.len() {
                break;
            }
        }
        file.set_len(at).map_err(|error| Error::io("the disk can't be decompressed here", error))?;
        let blob = Blob::file(file).map_err(|error| Error::io("the decompressed disk can't be read", error))?;
        if blob.is_empty() {
            return Err(Error::malformed(format!("there is nothing in this {codec} file")));
        }
        Ok(blob)
    }
}

/// Reads until the buffer is full or the stream ends.
fn fill(reader: &mut dyn std::io::Read, buffer: &mut [u8]) -> Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match reader.read(rest) {
            Ok(0) => break,
            Ok(count) => filled = filled.saturating_add(count),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::io("the disk can't be read", error)),
        }
    }
    Ok(filled)
}
