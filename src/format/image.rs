//! [`Image`]: one file or two that were recognised as an image, before anything else is known of
//! it.
//!
//! Opening looks at a few KiB. Methods that read more say how much. Each of them is a pass of its
//! own: an image that is a stream allows one of them.

use std::io::Read;

use super::cancellable::CancelReader;
use super::chunk::ReadChunks;
use super::codec::{self, Codec};
use super::detect::{self, Container};
use super::input::{ImageSource, Input, InputReader};
use super::layout::{ArchiveRole, Layout, MemberPlace, lone_rootfs};
use super::squashfs::SquashFsCompression;
use super::squashfs_image::find_in_squashfs;
use super::tar::TarReader;
use super::visitor::{MemberContent, TarContent};
use crate::error::{Error, Result};
use crate::fingerprint::{Fingerprint, Hasher};
use crate::limits::Limits;
use crate::metadata::Metadata;
use crate::progress::{Monitor, Phase};

/// Whether an image is one file or two.
///
/// The form changes the fingerprint: that of a split image is the digest of its two files one after
/// the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageForm {
    /// One archive with metadata and rootfs.
    Unified,
    /// A metadata archive and a rootfs file.
    Split,
}

impl ImageForm {
    /// The name, as in requests of the REST API and in records: `unified` or `split`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unified => "unified",
            Self::Split => "split",
        }
    }

    /// The form with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Unified, Self::Split].into_iter().find(|form| form.name() == name)
    }
}

/// Bytes of a SquashFS that tell how it is compressed: its superblock.
const SQUASHFS_HEAD_BYTES: usize = 96;

/// One file of an image, with its container and its role.
#[derive(Debug)]
pub(crate) struct ImageFile {
    pub(crate) input: Input,
    pub(crate) container: Container,
    /// Which file of the image it is.
    pub(crate) role: ArchiveRole,
    /// How the blocks of a SquashFS are compressed.
    pub(crate) squashfs: Option<SquashFsCompression>,
}

impl ImageFile {
    /// Takes a file that was recognised; looks at the superblock of a SquashFS.
    fn new(input: Input, container: Container, role: ArchiveRole) -> Self {
        let squashfs = (container == Container::SquashFs)
            .then(|| input.peek(|reader| detect::read_up_to(reader, SQUASHFS_HEAD_BYTES)).ok())
            .flatten()
            .and_then(|head| SquashFsCompression::of_head(&head));
        Self { input, container, role, squashfs }
    }

    /// Adds the file's name to an error.
    pub(crate) fn name_error(&self, error: Error) -> Error {
        self.input.name_error(error)
    }
}

/// An image: files that were recognised, in the order in which they make the fingerprint.
///
/// ```no_run
/// use lxd_image::format::{Image, ImageSource};
///
/// let image = Image::open(ImageSource::open("debian.tar.xz", None)?)?;
/// println!("{}", image.metadata()?.architecture());
/// # Ok::<(), lxd_image::Error>(())
/// ```
#[derive(Debug)]
pub struct Image {
    /// One file, or metadata and rootfs.
    pub(crate) parts: Vec<ImageFile>,
    pub(crate) limits: Limits,
}

impl Image {
    /// Recognises an image under the default [`Limits`].
    ///
    /// # Errors
    /// As [`open_with`](Self::open_with).
    pub fn open(source: ImageSource) -> Result<Self> {
        Self::open_with(source, &Limits::default())
    }

    /// Recognises an image. Looks at the first KiB of each file; of a split image whose files are
    /// both tars, at as much of each as tells which is the metadata.
    ///
    /// Use it where images come from strangers and the defaults are too generous, or where a
    /// trusted image exceeds them.
    ///
    /// # Errors
    /// `Malformed` and `Unsupported` for what is no image, `Ambiguous` and `InvalidInput` for two
    /// files that don't make one, `FeatureDisabled` when a codec is compiled out.
    pub fn open_with(source: ImageSource, limits: &Limits) -> Result<Self> {
        let ImageSource { first, second } = source;
        let named = |input: &Input| detect::container(input, limits).map_err(|error| input.name_error(error));
        let first_is = named(&first)?;
        let parts = match second {
            None => {
                if first_is == Container::Qcow2 {
                    let error = Error::invalid("this is a disk, which is the rootfs of a split image")
                        .with_hint("name the metadata file too");
                    return Err(first.name_error(error));
                }
                let part = ImageFile::new(first, first_is, ArchiveRole::Unified);
                // Only one whose top can be read and has no metadata is surely the other file; the
                // rest is told on reading.
                if part.container == Container::SquashFs
                    && part.input.as_blob().is_some()
                    && matches!(
                        find_in_squashfs(&part, b"metadata.yaml", limits.metadata, "metadata", limits),
                        Ok(None)
                    )
                {
                    return Err(part.name_error(lone_rootfs(crate::ErrorKind::InvalidInput)));
                }
                vec![part]
            }
            Some(second) => {
                let second_is = named(&second)?;
                let in_order = detect::first_is_metadata((&first, first_is), (&second, second_is), limits)?;
                let (metadata, rootfs) = if in_order {
                    ((first, first_is), (second, second_is))
                } else {
                    ((second, second_is), (first, first_is))
                };
                vec![
                    ImageFile::new(metadata.0, metadata.1, ArchiveRole::Metadata),
                    ImageFile::new(rootfs.0, rootfs.1, ArchiveRole::Rootfs),
                ]
            }
        };
        Ok(Self { parts, limits: limits.clone() })
    }

    /// Whether it is one file or two.
    #[must_use]
    pub fn form(&self) -> ImageForm {
        if self.parts.len() == 1 { ImageForm::Unified } else { ImageForm::Split }
    }

    /// What each file is: the image's one, or metadata and rootfs.
    ///
    /// For a split image the metadata comes first, whatever order the files were given in.
    pub fn containers(&self) -> impl ExactSizeIterator<Item = Container> + '_ {
        self.parts.iter().map(|part| part.container)
    }

    /// How each file is compressed: by the codec around a tar, or the one inside a SquashFS. `None`
    /// for a disk, whose clusters may be compressed one by one.
    pub fn compressions(&self) -> impl ExactSizeIterator<Item = Option<&'static str>> + '_ {
        self.parts.iter().map(|part| match part.container {
            Container::Tar(codec) => Some(codec.name()),
            Container::SquashFs => part.squashfs.map(SquashFsCompression::name),
            Container::Qcow2 => None,
        })
    }

    /// The size of all files in bytes, where it is known before reading.
    ///
    /// `None` for a stream.
    #[must_use]
    pub fn size(&self) -> Option<u64> {
        self.parts.iter().try_fold(0_u64, |sum, part| sum.checked_add(part.input.len()?))
    }

    /// The metadata, without unpacking anything: reads up to `metadata.yaml` and no further.
    ///
    /// A SquashFS and an archive at rest can be asked any number of times.
    ///
    /// # Errors
    /// `Malformed` when there is none or it breaks a rule, `LimitExceeded` when it is too large or
    /// too far behind.
    pub fn metadata(&self) -> Result<Metadata> {
        let bytes = self.metadata_bytes()?;
        Metadata::parse(&bytes, &self.limits)
            .map_err(|error| self.parts[0].name_error(error.in_entry(b"metadata.yaml")))
    }

    /// The bytes of `metadata.yaml`, as they stand in the archive.
    ///
    /// # Errors
    /// As [`metadata`](Self::metadata), but for the content.
    pub fn metadata_bytes(&self) -> Result<Vec<u8>> {
        // Metadata and templates are in the first file, whatever the form.
        let part = &self.parts[0];
        self.find_file(b"metadata.yaml", self.limits.metadata, "metadata")
            .and_then(|found| found.ok_or_else(|| Error::malformed("there is no `metadata.yaml` in the image")))
            .map_err(|error| part.name_error(error))
    }

    /// The bytes of `config.json`, the OCI runtime configuration that Incus keeps in images which it made of OCI images;
    /// `None` where the image has none. Reads the image, or the metadata file of a split one, up to it.
    ///
    /// # Errors
    /// Those of reading.
    pub fn config_json(&self) -> Result<Option<Vec<u8>>> {
        let part = &self.parts[0];
        self.find_file(b"config.json", self.limits.metadata, "metadata").map_err(|error| part.name_error(error))
    }

    /// The bytes of a template, by its name in `templates/`.
    ///
    /// Reads up to that template, and no further; [`templates`](Self::templates) returns all of
    /// them in one pass.
    ///
    /// # Errors
    /// `NotFound` when there is none of that name.
    pub fn template(&self, name: &str) -> Result<Vec<u8>> {
        let path = [b"templates/", name.as_bytes()].concat();
        self.find_file(&path, self.limits.template_file, "template_file")?
            .ok_or_else(|| Error::new(crate::ErrorKind::NotFound, format!("the image has no template `{name}`")))
    }

    /// The fingerprint, read from the files' bytes as stored.
    ///
    /// This is the image's identity in LXD and Incus: the SHA-256 of the file, or of metadata and
    /// rootfs one after the other. Reads all bytes; unpacking and verifying return the same value
    /// from the pass they make anyway.
    ///
    /// # Errors
    /// `Io` and `Cancelled`.
    pub fn fingerprint(&self, monitor: &Monitor) -> Result<Fingerprint> {
        fingerprint_of(self.parts.iter().map(|part| &part.input), self.size(), monitor)
    }

    /// The content of one file outside of the rootfs; `None` where the image has none of that name.
    /// Reads up to it.
    fn find_file(&self, path: &[u8], limit: u64, name: &'static str) -> Result<Option<Vec<u8>>> {
        let part = &self.parts[0];
        let Container::Tar(codec) = part.container else {
            return find_in_squashfs(part, path, limit, name, &self.limits);
        };
        part.input.peek(|reader| {
            let reader = CancelReader {
                reader: codec::decoder(codec, reader, &self.limits, 1, part.input.cancel())?,
                cancel: part.input.cancel().clone(),
            };
            let reader = RatioLimit::new(reader, part.input.len(), &self.limits);
            let mut tar = TarReader::new(ReadChunks::new(reader), &self.limits);
            let mut layout = Layout::new(part.role, &self.limits);
            while let Some(mut member) = tar.next()? {
                let member_path = member.entry.path.clone();
                let place = layout.place(&mut member.entry).map_err(|error| error.in_entry(&member_path))?;
                if member_path != path
                    || !matches!(place, MemberPlace::Metadata | MemberPlace::Template(_) | MemberPlace::Config)
                {
                    continue;
                }
                return TarContent::new(&mut tar)
                    .whole(&member.entry, limit, name)
                    .map(Some)
                    .map_err(|error| error.in_entry(&member_path));
            }
            if path == b"metadata.yaml" {
                // Tells what is there instead.
                layout.finish()?;
            }
            Ok(None)
        })
    }
}

/// The fingerprint of files that need not be an image: the digest of their bytes one after the other.
///
/// Reports progress in [`Phase::Hash`] against `total`.
///
/// # Errors
/// `Io` and `Cancelled`.
pub fn fingerprint_of<'a>(
    inputs: impl IntoIterator<Item = &'a Input>,
    total: Option<u64>,
    monitor: &Monitor,
) -> Result<Fingerprint> {
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; 256 << 10];
    for input in inputs {
        let mut reader = input.reader(monitor.cancel())?;
        loop {
            monitor.report(Phase::Hash, hasher.bytes(), total)?;
            match read(&mut reader, &mut buffer) {
                Ok(0) => break,
                Ok(count) => hasher.update(&buffer[..count]),
                Err(error) => return Err(input.name_error(Error::io("the image can't be read", error))),
            }
        }
    }
    monitor.report(Phase::Hash, hasher.bytes(), Some(hasher.bytes()))?;
    Ok(hasher.finish())
}

fn read(reader: &mut InputReader<'_>, buffer: &mut [u8]) -> std::io::Result<usize> {
    loop {
        match reader.read(buffer) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

/// Bounds how much a small file may make a search for metadata decode: a kilobyte can decode to
/// gigabytes.
struct RatioLimit<R> {
    inner: R,
    /// Bytes decoded so far.
    decoded: u64,
    /// Bytes that may be decoded.
    most: u64,
    ratio: u64,
}

impl<R: Read> RatioLimit<R> {
    /// Bounds the decoded bytes by the file's length times the limit `ratio`.
    fn new(inner: R, length: Option<u64>, limits: &Limits) -> Self {
        /// Decoded bytes below which the ratio is not checked.
        const UNMETERED_BYTES: u64 = 256 << 20;
        // The length of a stream is not known; what was read of it bounds it well enough at 64 KiB.
        let most = length.unwrap_or(64 << 10).saturating_mul(limits.ratio).max(UNMETERED_BYTES);
        Self { inner, decoded: 0, most, ratio: limits.ratio }
    }
}

impl<R: Read> Read for RatioLimit<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.decoded = self.decoded.saturating_add(count as u64);
        if self.decoded > self.most {
            return Err(Error::limit(
                "ratio",
                self.ratio,
                "what the image decodes to, while looking for its metadata,",
            )
            .into());
        }
        Ok(count)
    }
}

/// The codec of a container, where it is compressed as a whole.
impl Container {
    /// The codec around a tar; `None` for the formats that compress inside.
    #[must_use]
    pub fn codec(self) -> Option<Codec> {
        match self {
            Self::Tar(codec) => Some(codec),
            Self::SquashFs | Self::Qcow2 => None,
        }
    }

    /// The name that people know it by: `tar`, `squashfs` or `qcow2`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tar(_) => "tar",
            Self::SquashFs => "squashfs",
            Self::Qcow2 => "qcow2",
        }
    }
}
