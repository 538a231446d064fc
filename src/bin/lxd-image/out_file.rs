//! Output paths of `pack` and `convert`: a file, or a directory in which the image gets its usual name.
//!
//! A path that ends in a slash, or that is a directory, means a directory; it is created if it is missing, and removed
//! again if writing fails. The file name is the input's without its image endings, plus the ending of the codec.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use lxd_image::format::Codec;
use lxd_image::{Error, ErrorKind, Result};

/// A file to write, and the directory that was created for it.
pub(crate) struct OutFile {
    /// The file to write.
    file: PathBuf,
    /// The directory that was created, to be removed if writing fails.
    made: Option<PathBuf>,
}

impl OutFile {
    /// Decides which file `out` means. `input` gives the name inside a directory, `codec` (with or without a level)
    /// its ending.
    ///
    /// # Errors
    /// Those of creating the directory.
    pub(crate) fn of(out: &Path, input: &Path, codec: &str) -> Result<Self> {
        let slash = out.as_os_str().as_bytes().ends_with(b"/");
        let there = out.is_dir();
        if !slash && !there {
            return Ok(Self { file: out.to_path_buf(), made: None });
        }
        if !there {
            std::fs::create_dir(out).map_err(|error| {
                let kind = match error.kind() {
                    std::io::ErrorKind::NotFound => ErrorKind::NotFound,
                    std::io::ErrorKind::AlreadyExists => ErrorKind::AlreadyExists,
                    _ => ErrorKind::Io,
                };
                Error::new(kind, "the directory can't be made").with_source(error).in_file(out)
            })?;
        }
        let name = format!("{}{}", stem(input), ending(codec));
        Ok(Self { file: out.join(name), made: (!there).then(|| out.to_path_buf()) })
    }

    /// Calls `write` with the path. If it fails, a directory that was created for it is removed again.
    pub(crate) fn write<T>(self, write: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
        let done = write(&self.file);
        if let Some(made) = self.made.filter(|_| done.is_err()) {
            let _ = std::fs::remove_dir(made);
        }
        done
    }
}

/// The input's file name without the endings that image files have; `image` if nothing is left.
fn stem(input: &Path) -> String {
    let name = input.file_name().map_or_else(|| "image".to_owned(), |name| name.to_string_lossy().into_owned());
    let name = name.rsplit(':').next().unwrap_or(&name);
    let mut stem = name;
    let codecs =
        Codec::ALL.iter().filter(|codec| **codec != Codec::None).map(|codec| format!(".{}", codec.extension()));
    let others = [".tgz", ".txz", ".tzst", ".squashfs", ".qcow2", ".img", ".tar"].map(str::to_owned);
    for ending in codecs.chain(others) {
        stem = stem.strip_suffix(&*ending).filter(|rest| !rest.is_empty()).unwrap_or(stem);
    }
    if stem.is_empty() || stem.starts_with('-') { "image".to_owned() } else { stem.to_owned() }
}

/// The ending of a unified image's file with this codec, as `--compression` names it. Unknown ones are refused elsewhere.
fn ending(compression: &str) -> &'static str {
    let name = compression.split(':').next().unwrap_or_default();
    name.parse::<Codec>().unwrap_or(Codec::None).tar_ending()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn image_in_a_directory_keeps_its_name_and_gets_the_ending_of_its_codec() {
        for (input, codec, name) in [
            ("x/debian.tar.xz", "zstd:19", "debian.tar.zst"),
            ("rootfs", "none", "rootfs.tar"),
            ("rootfs/", "gzip", "rootfs.tar.gz"),
            ("disk.qcow2", "xz", "disk.tar.xz"),
            ("-", "xz", "image.tar.xz"),
            (".tar", "xz", ".tar.tar.xz"),
            ("images:debian/12", "lz4", "12.tar.lz4"),
        ] {
            assert_eq!(format!("{}{}", stem(Path::new(input)), ending(codec)), name);
        }
    }
}
