//! Writes the tree of layers as an image: to files, to a stream, or unpacked.

use std::io::Write;
use std::path::{Path, PathBuf};

use super::{Layer, LayerTree};
use crate::error::{Error, Result};
use crate::format::codec::Compression;
use crate::format::entry::{Entry, EntryKind, Timestamp};
use crate::format::extract::UnpackReport;
use crate::format::image::ImageForm;
use crate::format::pipeline::ReadPass;
use crate::format::unpack::{UnpackOptions, unpack_from};
use crate::format::visitor::MemberVisitor;
use crate::format::write::{DEFAULT_CODEC, ImageWriter, RootfsFormat, Written, extension, root_target};

/// An image whose root file system is in layers.
pub(crate) struct LayerImage<'a> {
    pub(crate) tree: &'a LayerTree,
    pub(crate) layers: &'a [&'a dyn Layer],
    /// The content of `metadata.yaml`.
    pub(crate) metadata: Vec<u8>,
    /// The content of `config.json`.
    pub(crate) runtime_config: Option<Vec<u8>>,
    /// Names and contents of `templates/`.
    pub(crate) templates: Vec<(Vec<u8>, Vec<u8>)>,
    /// The time of `metadata.yaml` and what is beside it.
    pub(crate) time: Timestamp,
}

/// How the image is written.
#[derive(Debug, Clone)]
pub(crate) struct LayerWriteOptions {
    pub(crate) form: ImageForm,
    pub(crate) rootfs_format: RootfsFormat,
    pub(crate) compression: Option<Compression>,
    pub(crate) threads: usize,
}

impl LayerImage<'_> {
    /// Writes the image to `out`, and a split image's rootfs to `out` with `.root` behind it.
    ///
    /// # Errors
    /// `AlreadyExists` for the output; those of the layers and of writing. Whatever the error, nothing is left.
    pub(crate) fn write(
        &self,
        out: &Path,
        options: &LayerWriteOptions,
        pass: &ReadPass<'_>,
        done: &mut u64,
    ) -> Result<Written> {
        let usual = Compression::new(DEFAULT_CODEC);
        let compression = extension::compression(out, options.compression, usual, pass.monitor)?;
        let squashfs = extension::squashfs_compression(out, options.compression, usual);
        let target = root_target(options.rootfs_format, options.form, squashfs, options.threads, None)?;
        ImageWriter::to_file(out, options.form, target, compression, options.threads, pass.limits, pass.monitor)
            .and_then(|writer| self.write_into(writer, pass, done))
            .map_err(|error| error.on_disk_of(out.parent().unwrap_or(Path::new(""))))
    }

    /// Writes a unified image to a stream.
    ///
    /// # Errors
    /// As [`write`](Self::write); `InvalidInput` where the options ask for a split image or a SquashFS.
    pub(crate) fn write_to(
        &self,
        out: impl Write + Send + 'static,
        options: &LayerWriteOptions,
        pass: &ReadPass<'_>,
        done: &mut u64,
    ) -> Result<Written> {
        if options.form == ImageForm::Split || options.rootfs_format == RootfsFormat::SquashFs {
            return Err(Error::invalid("a stream takes a unified image, whose rootfs is a tar"));
        }
        let compression = options.compression.unwrap_or(Compression::new(DEFAULT_CODEC));
        let writer = ImageWriter::to_stream(out, compression, options.threads, pass.limits, pass.monitor)?;
        self.write_into(writer, pass, done)
    }

    /// Unpacks the image to a new directory.
    ///
    /// # Errors
    /// `AlreadyExists` or `UnsafePath` for the destination; those of the layers and of writing. Whatever the error,
    /// nothing is left.
    pub(crate) fn unpack(
        &self,
        destination: &Path,
        options: &UnpackOptions,
        pass: &ReadPass<'_>,
        done: &mut u64,
    ) -> Result<(PathBuf, UnpackReport)> {
        unpack_from(destination, pass.limits, options, pass.monitor, |writer| self.show(writer, pass, done))
    }

    fn write_into(&self, mut writer: ImageWriter, pass: &ReadPass<'_>, done: &mut u64) -> Result<Written> {
        self.show(&mut writer, pass, done)?;
        writer.finish()
    }

    /// Shows everything to a visitor, metadata first.
    fn show(&self, visitor: &mut impl MemberVisitor, pass: &ReadPass<'_>, done: &mut u64) -> Result<()> {
        let mut about = Entry::new(Vec::new(), EntryKind::Directory, 0o755);
        about.mtime = self.time;
        visitor.metadata(&about, &self.metadata)?;
        if let Some(config) = &self.runtime_config {
            visitor.config(&about, config)?;
        }
        for (name, content) in &self.templates {
            visitor.template(&about, name, content)?;
        }
        self.tree.visit(self.layers, pass, done, visitor)
    }
}
