//! Converting: writes an image in another form or with another codec, in one pass and never through
//! a tree on disk.
//!
//! The source is driven through the layout and the visitor like for every other use, with an
//! `ImageWriter` as the visitor. So owners, devices and attributes are kept without root
//! permissions, and nothing of the image is executed or mounted.

use std::io::Write;
use std::path::Path;

use super::archive::{DEFAULT_CODEC, ImageWriter, Written};
use super::disk_rewrite::{DiskRewriter, container_has_no_disk};
use super::disk_source::DiskSource;
use super::extension;
use super::pack::{RootfsFormat, beside, refuse_squashfs_in_stream, root_target};
use crate::disk::{ClusterCompression, DiskOutput};
use crate::error::{Error, Result};
use crate::fingerprint::{Fingerprint, Hasher};
use crate::format::codec::Compression;
use crate::format::detect::Container;
use crate::format::image::{Image, ImageForm};
use crate::format::pipeline::ReadPass;
use crate::format::pipeline::default_threads;
use crate::progress::{Monitor, Phase};

/// How an image is converted. Whatever is not set stays as it is in the source.
///
/// ```no_run
/// use lxd_image::Monitor;
/// use lxd_image::format::{ConvertOptions, Image, ImageForm, ImageSource, RootfsFormat};
///
/// let image = Image::open(ImageSource::open("debian.tar.xz", None)?)?;
/// let options = ConvertOptions::new().form(ImageForm::Split).rootfs_format(RootfsFormat::SquashFs);
/// let written = image.convert("debian.tar.zst", &options, &Monitor::none())?;
/// println!("{:?}", written.files);
/// # Ok::<(), lxd_image::Error>(())
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ConvertOptions {
    form: Option<ImageForm>,
    rootfs_format: Option<RootfsFormat>,
    compression: Option<Compression>,
    disk_format: DiskOutput,
    disk_compression: Option<ClusterCompression>,
    /// The fingerprint that the source must have.
    expected: Option<Fingerprint>,
    threads: usize,
}

impl Default for ConvertOptions {
    fn default() -> Self {
        Self {
            form: None,
            rootfs_format: None,
            compression: None,
            disk_format: DiskOutput::Keep,
            disk_compression: None,
            expected: None,
            threads: default_threads(),
        }
    }
}

impl ConvertOptions {
    /// Form and codec of the source, on all cores.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// One file, or two.
    #[must_use]
    pub fn form(mut self, form: ImageForm) -> Self {
        self.form = Some(form);
        self
    }

    /// What the rootfs of a split container image becomes.
    #[must_use]
    pub fn rootfs_format(mut self, format: RootfsFormat) -> Self {
        self.rootfs_format = Some(format);
        self
    }

    /// The codec and its level (default: what the output's name ends with, else that of the
    /// source). Where the name says something else, that is among the omissions.
    #[must_use]
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = Some(compression);
        self
    }

    /// Whether the disk of a virtual machine is rewritten: as qcow2 version 3, whatever it was. A raw disk is refused, since LXD and Incus import qcow2
    /// only. The disk is kept in temporary files meanwhile.
    #[must_use]
    pub fn disk_format(mut self, format: DiskOutput) -> Self {
        self.disk_format = format;
        self
    }

    /// How the clusters of a rewritten disk are compressed (default: zlib). Refused where the disk is kept.
    #[must_use]
    pub fn disk_compression(mut self, compression: ClusterCompression) -> Self {
        self.disk_compression = Some(compression);
        self
    }

    /// The fingerprint that the source must have.
    #[must_use]
    pub fn expected_fingerprint(mut self, fingerprint: Fingerprint) -> Self {
        self.expected = Some(fingerprint);
        self
    }

    /// How many threads work, at most. The bytes don't depend on it.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads.max(1);
        self
    }
}

impl Image {
    /// Writes the image to `out` in another form; a split image's rootfs goes to `out` with `.root` behind it.
    ///
    /// # Errors
    /// `AlreadyExists` for the output; those of [`verify`](Self::verify) for the source, and the
    /// first rule that it breaks; `Mismatch`. Whatever the error, nothing is left.
    pub fn convert(&self, out: impl AsRef<Path>, options: &ConvertOptions, monitor: &Monitor) -> Result<Written> {
        if options.rootfs_format.is_some() && self.parts.last().is_some_and(|part| part.container == Container::Qcow2) {
            return Err(Error::invalid(
                "the option `rootfs_format` has no effect: the disk of a virtual machine stays the qcow2 file that it is",
            ));
        }
        self.check_disk_format(options)?;
        let form = options.form.unwrap_or_else(|| self.form());
        let format = options.rootfs_format.unwrap_or_else(|| {
            let squashfs = self.parts.last().is_some_and(|part| part.container == Container::SquashFs);
            if squashfs && form == ImageForm::Split { RootfsFormat::SquashFs } else { RootfsFormat::Tar }
        });
        let (out, usual) = (out.as_ref(), self.compression(options));
        let compression = extension::compression(out, options.compression, usual, monitor)?;
        let squashfs = extension::squashfs_compression(out, options.compression, usual);
        let target = root_target(format, form, squashfs, options.threads, None)?;
        ImageWriter::to_file(out, form, target, compression, options.threads, &self.limits, monitor)
            .and_then(|writer| self.convert_into(writer, beside(out), options, monitor))
            .map_err(|error| error.on_disk_of(out.parent().unwrap_or(Path::new(""))))
    }

    /// Writes the image to a stream, as a unified one.
    ///
    /// # Errors
    /// As [`convert`](Self::convert); `InvalidInput` when the options ask for a split image or a SquashFS.
    pub fn convert_to(
        &self,
        out: impl Write + Send + 'static,
        options: &ConvertOptions,
        monitor: &Monitor,
    ) -> Result<Written> {
        if options.form == Some(ImageForm::Split) {
            return Err(Error::invalid("a split image is two files, and a stream is one"));
        }
        if options.rootfs_format == Some(RootfsFormat::SquashFs) {
            return refuse_squashfs_in_stream();
        }
        self.check_disk_format(options)?;
        let writer = ImageWriter::to_stream(out, self.compression(options), options.threads, &self.limits, monitor)?;
        self.convert_into(writer, &std::env::temp_dir(), options, monitor)
    }

    /// Refuses disk formats that no image has, and a choice for an image that has no disk, as far as its files tell.
    fn check_disk_format(&self, options: &ConvertOptions) -> Result<()> {
        match options.disk_format {
            DiskOutput::Keep if options.disk_compression.is_some() => {
                Err(Error::invalid("the option `disk_compression` has no effect: the disk is kept as it is")
                    .with_hint("ask for the disk format qcow2 as well"))
            }
            DiskOutput::Keep => Ok(()),
            DiskOutput::Raw => {
                Err(Error::invalid("an image with a raw disk can't be written: LXD and Incus import qcow2 only")
                    .with_hint("`unpack --disk-format raw` writes the disk as a raw one"))
            }
            _ if self.parts.iter().any(|part| part.container == Container::SquashFs) => Err(container_has_no_disk()),
            _ => Ok(()),
        }
    }

    /// The codec that was asked for, else the source's own.
    fn compression(&self, options: &ConvertOptions) -> Compression {
        options.compression.unwrap_or_else(|| {
            let codec = self.parts.iter().rev().find_map(|part| part.container.codec());
            // Old LZMA can be read but is not written; xz is its successor.
            match codec {
                Some(crate::format::Codec::Lzma) => Compression::new(crate::format::Codec::Xz),
                codec => Compression::new(codec.unwrap_or(DEFAULT_CODEC)),
            }
        })
    }

    /// Passes the image through a writer. Temporary files go to `directory`.
    fn convert_into(
        &self,
        mut writer: ImageWriter,
        directory: &Path,
        options: &ConvertOptions,
        monitor: &Monitor,
    ) -> Result<Written> {
        let pass = ReadPass {
            limits: &self.limits,
            monitor,
            phase: Phase::Convert,
            threads: options.threads,
            total: self.size(),
        };
        let mut hasher = Hasher::new();
        if options.disk_format == DiskOutput::Keep {
            for part in &self.parts {
                self.visit(part, &pass, &mut hasher, &mut writer).map_err(|error| part.name_error(error))?;
            }
        } else {
            let source = DiskSource {
                format: None,
                compression: options.disk_compression,
                directory,
                threads: options.threads,
                limits: &self.limits,
                monitor,
            };
            let mut rewriter = DiskRewriter { writer: &mut writer, source, disk: None, is_done: false };
            for part in &self.parts {
                self.visit(part, &pass, &mut hasher, &mut rewriter).map_err(|error| part.name_error(error))?;
            }
            if !rewriter.is_done {
                return Err(container_has_no_disk());
            }
        }
        let (bytes, found) = (hasher.bytes(), hasher.finish());
        if let Some(expected) = options.expected
            && expected != found
        {
            return Err(Error::mismatch("the fingerprint of the source", expected.to_string(), found.to_string()));
        }
        let written = writer.finish()?;
        // It is done: whoever wants to stop now comes too late.
        let _ = monitor.report(Phase::Convert, bytes, Some(bytes));
        Ok(written)
    }
}
