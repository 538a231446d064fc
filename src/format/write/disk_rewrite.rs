//! Rewrites the disk of an image while the image is converted.

use std::fs::File;

use super::archive::ImageWriter;
use super::disk::DiskFile;
use super::disk_source::DiskSource;
use crate::disk::{DiskImage, DiskOptions};
use crate::error::{Error, Result};
use crate::format::chunk::{Chunk, ReadChunks};
use crate::format::entry::{Entry, EntryKind};
use crate::format::holes;
use crate::format::qcow2::Qcow2;
use crate::format::tar::SparseMap;
use crate::format::visitor::{MemberVisitor, drive_disk};
use crate::io::{Blob, ReadAt};
use crate::omissions::Omitted;

/// Passes an image to a writer, with its disk converted. A disk has to be whole before it can be read at positions, so it is
/// kept in a temporary file.
pub(super) struct DiskRewriter<'a> {
    pub(super) writer: &'a mut ImageWriter,
    pub(super) source: DiskSource<'a>,
    /// The disk whose bytes are coming.
    pub(super) disk: Option<(DiskFile, File)>,
    /// Whether there was one.
    pub(super) is_done: bool,
}

impl MemberVisitor for DiskRewriter<'_> {
    fn metadata(&mut self, entry: &Entry, content: &[u8]) -> Result<()> {
        self.writer.metadata(entry, content)
    }

    fn config(&mut self, entry: &Entry, content: &[u8]) -> Result<()> {
        self.writer.config(entry, content)
    }

    fn template(&mut self, entry: &Entry, name: &[u8], content: &[u8]) -> Result<()> {
        self.writer.template(entry, name, content)
    }

    fn rootfs(&mut self, _: &Entry, _: Option<&SparseMap>) -> Result<()> {
        Err(container_has_no_disk())
    }

    fn disk(&mut self, entry: &Entry, _: Option<&SparseMap>, _: &Qcow2) -> Result<()> {
        let EntryKind::File { size } = entry.kind else { return Ok(()) };
        let file = self.source.temporary()?;
        let kept = file.try_clone().map_err(|error| Error::io("a temporary file can't be opened", error))?;
        self.disk = Some((DiskFile::new(file, size), kept));
        Ok(())
    }

    fn data(&mut self, offset: u64, piece: Chunk) -> Result<()> {
        match &mut self.disk {
            Some((disk, _)) => disk.write(offset, &piece),
            None => Ok(()),
        }
    }

    fn end(&mut self) -> Result<()> {
        let Some((disk, file)) = self.disk.take() else { return Ok(()) };
        disk.finish()?;
        let unreadable = |error| Error::io("the disk can't be read again", error);
        let options = DiskOptions::new().limits(self.source.limits.clone());
        let disk = DiskImage::open(Blob::file(file).map_err(unreadable)?, &options)?;
        let blob = self.source.convert(&disk)?;
        let sparse = if self.writer.records_holes() {
            holes::of_content(&blob, blob.len(), self.source.monitor)?
        } else {
            holes::of_blob(&blob, blob.len())?
        };
        let mut chunks = ReadChunks::new(blob.reader());
        drive_disk(&mut chunks, blob.len(), sparse.as_ref(), self.source.limits, self.writer)?;
        self.is_done = true;
        Ok(())
    }

    fn stray(&mut self, entry: &Entry) -> Result<()> {
        self.writer.stray(entry)
    }

    fn omitted(&mut self, path: &[u8], what: &Omitted) {
        self.writer.omitted(path, what);
    }
}

/// The refusal of an option about the disk for a container.
pub(in crate::format) fn container_has_no_disk() -> Error {
    Error::invalid("the option `disk_format` has no effect: the image is a container's, which has no disk")
}
