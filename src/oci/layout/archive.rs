//! The tar of a layout: where each blob lies in it, found without reading the blobs.

use std::collections::HashMap;

use super::super::digest::Digest;
use super::is_within;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{Codec, EntryKind, TarReadChunks, TarReader};
use crate::io::{Blob, ReadAt};
use crate::limits::Limits;
use crate::progress::Monitor;

/// Where a file lies in the tar.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) offset: u64,
    pub(super) size: u64,
}

/// What a tar has of a layout.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) marker: Option<Place>,
    pub(super) index: Option<Place>,
    pub(super) blobs: HashMap<Digest, Place>,
    /// Whether there is a `manifest.json`, as `docker save` writes it.
    pub(super) docker: bool,
}

/// Bytes that an entry of the table of blobs takes, roughly.
const PLACE_BYTES: u64 = 128;
/// Members after which a tar without a marker is no layout. `skopeo` writes it among the first or the last ones.
const FIRST_MEMBERS: u64 = 10_000;

/// Finds the files of a layout.
///
/// # Errors
/// `Unsupported` for a compressed tar; `Malformed` and `LimitExceeded`.
pub(super) fn scan(file: &Blob, limits: &Limits, monitor: &Monitor) -> Result<Found> {
    let mut head = vec![0; Codec::PREFIX];
    let filled = fill(file, &mut head)?;
    if let Some(codec) = Codec::detect(&head[..filled]).filter(|codec| *codec != Codec::None) {
        return Err(Error::unsupported(format!("the layout is a tar that is compressed with {codec}"))
            .with_hint("decompress it first: its layers are compressed anyway"));
    }
    let mut found = Found::default();
    walk(file, limits, &mut |path, place| {
        monitor.check()?;
        let once = |there: &mut Option<Place>| match there.replace(place) {
            Some(_) => Err(Error::malformed("it is there twice").in_entry(path)),
            None => Ok(()),
        };
        match path {
            b"oci-layout" => once(&mut found.marker)?,
            b"index.json" => once(&mut found.index)?,
            b"manifest.json" => found.docker = true,
            path => {
                if let Some(digest) = digest_of(path) {
                    found.blobs.insert(digest, place);
                }
                if found.blobs.len() as u64 > limits.oci_tree / PLACE_BYTES {
                    return Err(Error::limit("oci_tree", limits.oci_tree, "the memory for the blobs of a layout"));
                }
            }
        }
        Ok(true)
    })?;
    Ok(found)
}

/// Whether a tar has a file `oci-layout` among its members.
pub(super) fn looks_like_layout(file: &Blob) -> bool {
    let mut members = 0;
    let mut found = false;
    let walked = walk(file, &Limits::default(), &mut |path, _| {
        members += 1;
        found |= path == b"oci-layout";
        // The members of an image at the top are never beside it.
        Ok(!found && members < FIRST_MEMBERS && path != b"metadata.yaml")
    });
    walked.is_ok() && found
}

/// Shows each regular file with its place, until `take` returns false. Contents are skipped, not read.
fn walk(file: &Blob, limits: &Limits, take: &mut dyn FnMut(&[u8], Place) -> Result<bool>) -> Result<()> {
    let mut at = 0_u64;
    let mut members = 0_u64;
    loop {
        // A reader of its own for each member: it reads headers only, and begins where the last content ends.
        let mut tar = TarReader::new(TarReadChunks::new(file.reader_from(at, u64::MAX)), limits);
        let Some(member) = tar.next().map_err(|error| rebase(error, at))? else { return Ok(()) };
        members += 1;
        if members > limits.entries {
            return Err(Error::limit("entries", limits.entries, "the number of members"));
        }
        let offset = at.saturating_add(tar.offset());
        let size = match member.entry.kind {
            EntryKind::File { .. } if member.sparse.is_some() => {
                return Err(Error::unsupported("a layout holds no sparse files").in_entry(&member.entry.path));
            }
            EntryKind::File { size } => size,
            _ => 0,
        };
        let place = Place { offset, size };
        if !is_within(file, &place) {
            return Err(Error::malformed("the tar ends within a file").in_entry(&member.entry.path));
        }
        if matches!(member.entry.kind, EntryKind::File { .. }) && !take(&member.entry.path, place)? {
            return Ok(());
        }
        at = size.checked_next_multiple_of(512).and_then(|size| offset.checked_add(size)).ok_or_else(|| {
            Error::new(ErrorKind::Malformed, "a file of the tar is too large").in_entry(&member.entry.path)
        })?;
    }
}

/// The error of a reader that began at `at`.
fn rebase(error: Error, at: u64) -> Error {
    match error.offset() {
        Some(_) => error,
        None => error.at_offset(at),
    }
}

/// The digest that a path below `blobs` says.
fn digest_of(path: &[u8]) -> Option<Digest> {
    let text = std::str::from_utf8(path).ok()?;
    let (algorithm, hex) = text.strip_prefix("blobs/")?.split_once('/')?;
    format!("{algorithm}:{hex}").parse().ok()
}

/// Fills a buffer from the beginning, as far as the file goes.
fn fill(file: &Blob, buffer: &mut [u8]) -> Result<usize> {
    let length = usize::try_from(file.len()).unwrap_or(usize::MAX).min(buffer.len());
    file.read_exact_at(&mut buffer[..length], 0)?;
    Ok(length)
}
