//! Makes the qcow2 disk of an image out of whatever disk is given.

use std::ffi::OsStr;
use std::fs::File;
use std::path::Path;

use crate::disk::{self, DiskFormat, DiskImage, DiskOptions, Qcow2WriteOptions};
use crate::error::{Error, Result};
use crate::format::cancellable::CancelReader;
use crate::format::codec::{self, Codec};
use crate::format::detect::read_up_to;
use crate::format::input::Input;
use crate::format::{foreign, holes, qcow2, spool};
use crate::io::{Blob, ReadAt};
use crate::limits::Limits;
use crate::progress::{Monitor, Phase};

/// How a disk becomes the one of an image.
pub(super) struct DiskSource<'a> {
    /// The format that the caller says it has.
    pub(super) format: Option<DiskFormat>,
    /// Where temporary files go.
    pub(super) directory: &'a Path,
    pub(super) threads: usize,
    pub(super) limits: &'a Limits,
    pub(super) monitor: &'a Monitor,
}

impl DiskSource<'_> {
    /// The disk as a qcow2 file: itself, when it is one; otherwise a temporary file without a name.
    ///
    /// # Errors
    /// `Unsupported` for what is no disk of a known format, and a raw disk that the caller did not call so; those of
    /// reading and converting it.
    pub(super) fn qcow2(&self, input: &Input) -> Result<Option<Input>> {
        let head = input.peek(|reader| read_up_to(reader, foreign::HEAD_BYTES))?;
        if head.starts_with(qcow2::MAGIC) && matches!(self.format, None | Some(DiskFormat::Qcow2)) {
            return Ok(None);
        }
        let Some(stored) = input.as_blob() else {
            return Err(Error::invalid("a disk can't be packed from a stream"));
        };
        let blob = match self.codec(input, &head) {
            Some(_) if foreign::is_compressed_tar(input, &head) && self.format != Some(DiskFormat::Ova) => {
                return Err(foreign::input_disk_refusal(input, &head));
            }
            Some(codec) => self.decompress(input, codec)?,
            None => stored.clone(),
        };
        let recognised = DiskFormat::detect(&blob)?;
        // Every tar archive looks like an appliance at its beginning: one without a descriptor is named for what it is.
        let is_plain_tar = recognised == Some(DiskFormat::Ova) && !disk::is_appliance(&blob);
        if self.format.is_none() && (recognised.is_none() || is_plain_tar) {
            return Err(foreign::input_disk_refusal(input, &head));
        }
        if recognised == Some(DiskFormat::Qcow2) && self.format != Some(DiskFormat::Raw) {
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

    /// Writes a disk as qcow2 to a temporary file.
    pub(super) fn convert(&self, disk: &DiskImage) -> Result<Blob> {
        let file = self.temporary()?;
        let options = Qcow2WriteOptions::new().threads(self.threads);
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
