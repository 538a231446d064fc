//! Reads the files that `template` commands are given: a context in JSON, or the source of a template.
//! The keys of a context are those of [`Context::from_json`].

use std::path::Path;

use lxd_image::templates::Context;
use lxd_image::{Error, ErrorKind, Result};

use crate::signals::{self, or_cancelled};

/// Reads a context from a JSON file, or from standard input for `-`.
pub(super) fn read(path: &Path) -> Result<Context> {
    let bytes = bytes(path, Context::MAX_JSON_BYTES)?;
    Context::from_json(&bytes).map_err(|error| error.in_file(path))
}

/// Reads all of a file, or of standard input for `-`; at most `limit` bytes.
pub(super) fn bytes(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let cannot_read = |error: std::io::Error| {
        let kind = if error.kind() == std::io::ErrorKind::NotFound { ErrorKind::NotFound } else { ErrorKind::Io };
        Error::new(kind, "the file can't be read").with_source(error).in_file(path)
    };
    let bytes = signals::read(path, limit + 1).map_err(|error| or_cancelled(error, cannot_read))?;
    if bytes.len() as u64 > limit {
        return Err(Error::new(ErrorKind::LimitExceeded, format!("it has more than {limit} bytes")).in_file(path));
    }
    Ok(bytes)
}
