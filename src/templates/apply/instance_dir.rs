//! [`InstanceDir`]: the directory of an unpacked image as handles on `rootfs/`, `templates/` and
//! `metadata.yaml`.
//!
//! The directories are opened once, without following a link. Later calls go through the handles,
//! so replacing a directory by a link afterwards has no effect.

use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{self, FileType};
use rustix::io::Errno;

use crate::error::{Error, ErrorKind, Result};
use crate::limits::Limits;
use crate::metadata::Metadata;
use crate::rooted::{Dir, is, reopen};

/// An unpacked image, or an instance made from one: the directories that [`apply`](super::apply)
/// works on.
///
/// ```no_run
/// use lxd_image::Limits;
/// use lxd_image::templates::InstanceDir;
///
/// let dir = InstanceDir::open("/srv/containers/c1")?;
/// for name in dir.template_names(&Limits::default())? {
///     let source = dir.template(&name, &Limits::default())?;
///     println!("{}: {} bytes", String::from_utf8_lossy(&name), source.len());
/// }
/// # Ok::<(), lxd_image::Error>(())
/// ```
#[derive(Debug)]
pub struct InstanceDir {
    /// For errors only. `None` if the caller opened the directories.
    path: Option<PathBuf>,
    /// The directory that holds `metadata.yaml`, if it was opened by path.
    top: Option<Dir>,
    /// `None` for a virtual machine.
    rootfs: Option<Dir>,
    templates: Option<Dir>,
}

impl InstanceDir {
    /// Opens a directory that [`unpack_verified`](crate::format::Image::unpack_verified) made: `metadata.yaml`, `templates/`,
    /// and `rootfs/` unless the image is a virtual machine's. Each of the three may be missing.
    ///
    /// # Errors
    /// `NotFound` if there is no such directory, `UnsafePath` if `rootfs` or `templates` is a link
    /// or a file.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let top = Dir::open(path).map_err(|error| {
            let kind = if is(&error, Errno::NOENT) { ErrorKind::NotFound } else { ErrorKind::Io };
            Error::new(kind, "the directory of an unpacked image can't be opened").with_source(error).in_file(path)
        })?;
        let part = |name: &str| match top.child(name.as_bytes()) {
            Ok(dir) => Ok(Some(dir)),
            Err(error) if is(&error, Errno::NOENT) => Ok(None),
            Err(error) if is(&error, Errno::LOOP) || is(&error, Errno::NOTDIR) => {
                Err(Error::unsafe_path(format!("`{name}` is not a directory")).in_file(path))
            }
            Err(error) => Err(Error::io(format!("`{name}` can't be opened"), error).in_file(path)),
        };
        let (rootfs, templates) = (part("rootfs")?, part("templates")?);
        Ok(Self { path: Some(path.to_owned()), top: Some(top), rootfs, templates })
    }

    /// Takes directories that the caller opened: an instance's root, and its image's templates.
    /// There is no `metadata.yaml` then; the caller passes the rules to [`apply`](super::apply).
    ///
    /// # Errors
    /// `InvalidInput` if either descriptor is not a directory.
    pub fn new(rootfs: OwnedFd, templates: OwnedFd) -> Result<Self> {
        let dir = |fd| Dir::from_fd(fd).map(Some).map_err(|error| Error::invalid("no directory").with_source(error));
        Ok(Self { path: None, top: None, rootfs: dir(rootfs)?, templates: dir(templates)? })
    }

    /// Reads `metadata.yaml`, whose rules [`apply`](super::apply) takes.
    ///
    /// # Errors
    /// `NotFound` if it does not exist, `UnsafePath` if it is not a regular file, and those of
    /// [`Metadata::parse`].
    pub fn metadata(&self, limits: &Limits) -> Result<Metadata> {
        let name = |error: Error| match &self.path {
            Some(path) => error.in_file(path.join("metadata.yaml")),
            None => error,
        };
        let bytes = self.metadata_bytes(limits).map_err(name)?;
        let bytes = bytes.ok_or_else(|| name(Error::new(ErrorKind::NotFound, "there is no metadata")))?;
        Metadata::parse(&bytes, limits).map_err(name)
    }

    /// The bytes of `metadata.yaml`; `None` if it does not exist or the directory is unknown.
    pub(super) fn metadata_bytes(&self, limits: &Limits) -> Result<Option<Vec<u8>>> {
        let Some(top) = &self.top else { return Ok(None) };
        read(top, b"metadata.yaml", "metadata", limits.metadata)
    }

    /// The names in `templates/`, sorted by their bytes; empty if the directory does not exist.
    ///
    /// # Errors
    /// `LimitExceeded` if there are more than `Limits::templates`, and `Io`.
    pub fn template_names(&self, limits: &Limits) -> Result<Vec<Vec<u8>>> {
        let Some(templates) = &self.templates else { return Ok(Vec::new()) };
        let names = templates.names().map_err(|error| Error::io("`templates` can't be read", error))?;
        if names.len() as u64 > limits.templates {
            return Err(Error::limit("templates", limits.templates, format_args!("{} templates", names.len())));
        }
        Ok(names)
    }

    /// The source of a template.
    ///
    /// # Errors
    /// `UnsafePath` unless the name is a plain one of a regular file, `NotFound` if it does not
    /// exist, `LimitExceeded` if it is larger than `Limits::template_file`.
    pub fn template(&self, name: &[u8], limits: &Limits) -> Result<Vec<u8>> {
        check_template_name(name)?;
        let missing = || {
            let name = String::from_utf8_lossy(name);
            Error::new(ErrorKind::NotFound, format!("there is no template `{name}` in `templates`"))
        };
        let templates = self.templates.as_ref().ok_or_else(missing)?;
        read(templates, name, "template_file", limits.template_file)?.ok_or_else(missing)
    }

    /// The root to write into. A virtual machine has none, and the error says what to do.
    pub(super) fn rootfs(&self) -> Result<&Dir> {
        self.rootfs.as_ref().ok_or_else(|| {
            let error = Error::new(ErrorKind::NotFound, "there is no `rootfs` to write into")
                .with_hint("the templates of a virtual machine go to a directory for its agent");
            match &self.path {
                Some(path) => error.in_file(path),
                None => error,
            }
        })
    }
}

/// Refuses a name with a slash, a NUL, or that is `.` or `..`. LXD accepts subdirectories of
/// `templates/`; Incus, and this library, do not.
pub(super) fn check_template_name(name: &[u8]) -> Result<()> {
    if name.is_empty() || name == b"." || name == b".." || name.contains(&b'/') || name.contains(&0) {
        let name = String::from_utf8_lossy(name);
        return Err(Error::unsafe_path(format!("the template's name `{name}` is no plain name of a file")));
    }
    Ok(())
}

/// Reads a regular file. It is looked at through an `O_PATH` handle first: opening a fifo would
/// block, opening a device may act.
fn read(dir: &Dir, name: &[u8], limit_name: &'static str, limit: u64) -> Result<Option<Vec<u8>>> {
    let shown = String::from_utf8_lossy(name);
    let cant = |error| Error::io(format!("`{shown}` can't be read"), error);
    let handle = match dir.handle(name) {
        Err(error) if is(&error, Errno::NOENT) => return Ok(None),
        handle => handle.map_err(cant)?,
    };
    let stat = fs::fstat(&handle).map_err(|error| cant(error.into()))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Error::unsafe_path(format!("`{shown}` is not a regular file")));
    }
    let mut content = Vec::new();
    reopen(handle.as_fd())
        // One byte more than allowed tells a file at the limit from a larger one.
        .and_then(|file| file.take(limit.saturating_add(1)).read_to_end(&mut content))
        .map_err(cant)?;
    if content.len() as u64 > limit {
        return Err(Error::limit(limit_name, limit, format_args!("the size of `{shown}`")));
    }
    Ok(Some(content))
}
