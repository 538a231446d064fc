//! The directory of an unpacked image, as handles: `rootfs/`, `templates/` and `metadata.yaml`.
//! Opened once, without following a link, so that nothing put in their place later is looked at.

use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{self, FileType};
use rustix::io::Errno;

use crate::error::{Error, ErrorKind, Result};
use crate::limits::Limits;
use crate::metadata::Metadata;
use crate::rooted::{Dir, is, reopen};

/// An unpacked image, or an instance that was made of one.
#[derive(Debug)]
pub struct InstanceDir {
    path: Option<PathBuf>,
    top: Option<Dir>,
    rootfs: Option<Dir>,
    templates: Option<Dir>,
}

impl InstanceDir {
    /// Opens what unpacking made: a directory with `metadata.yaml`, `templates/`, and `rootfs/` unless it
    /// is a virtual machine's.
    ///
    /// # Errors
    /// `NotFound` when there is no such directory, `UnsafePath` when a link or a file stands where
    /// `rootfs/` or `templates/` belongs.
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
    ///
    /// # Errors
    /// `InvalidInput` when either is no directory.
    pub fn new(rootfs: OwnedFd, templates: OwnedFd) -> Result<Self> {
        let dir = |fd| Dir::from_fd(fd).map(Some).map_err(|error| Error::invalid("no directory").with_source(error));
        Ok(Self { path: None, top: None, rootfs: dir(rootfs)?, templates: dir(templates)? })
    }

    /// Reads `metadata.yaml`, whose rules say what is report.
    ///
    /// # Errors
    /// `NotFound` when there is none, `UnsafePath` when it is no regular file, and those of
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

    pub(super) fn metadata_bytes(&self, limits: &Limits) -> Result<Option<Vec<u8>>> {
        let Some(top) = &self.top else { return Ok(None) };
        read(top, b"metadata.yaml", "metadata", limits.metadata)
    }

    /// The names in `templates/`, sorted by their bytes.
    ///
    /// # Errors
    /// `LimitExceeded` when there are too many, and `Io`.
    pub fn template_names(&self, limits: &Limits) -> Result<Vec<Vec<u8>>> {
        let Some(templates) = &self.templates else { return Ok(Vec::new()) };
        let names = templates.names().map_err(|error| Error::io("`templates` can't be read", error))?;
        if names.len() as u64 > limits.templates {
            return Err(Error::limit("templates", limits.templates, format_args!("{} templates", names.len())));
        }
        Ok(names)
    }

    /// The bytes of a template.
    ///
    /// # Errors
    /// `UnsafePath` unless the name is a plain one of a regular file, `NotFound` when there is none of
    /// that name, `LimitExceeded` when it is too large.
    pub fn template(&self, name: &[u8], limits: &Limits) -> Result<Vec<u8>> {
        check_template_name(name)?;
        let missing = || {
            let name = String::from_utf8_lossy(name);
            Error::new(ErrorKind::NotFound, format!("there is no template `{name}` in `templates`"))
        };
        let templates = self.templates.as_ref().ok_or_else(missing)?;
        read(templates, name, "template_file", limits.template_file)?.ok_or_else(missing)
    }

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

/// Refuses what is no plain name of a file.
pub(super) fn check_template_name(name: &[u8]) -> Result<()> {
    if name.is_empty() || name == b"." || name == b".." || name.contains(&b'/') || name.contains(&0) {
        let name = String::from_utf8_lossy(name);
        return Err(Error::unsafe_path(format!("the template's name `{name}` is no plain name of a file")));
    }
    Ok(())
}

/// A regular file, opened only once it is known to be one.
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
        .and_then(|file| file.take(limit.saturating_add(1)).read_to_end(&mut content))
        .map_err(cant)?;
    if content.len() as u64 > limit {
        return Err(Error::limit(limit_name, limit, format_args!("the size of `{shown}`")));
    }
    Ok(Some(content))
}
