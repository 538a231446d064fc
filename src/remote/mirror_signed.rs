//! Mirrors that keep the signatures of the lists' owner: the tree gets the documents of the remote byte for byte.
//!
//! A signature covers a whole list, so it is all or nothing: a tree that keeps it has every file that the list names, at the path
//! that it names, and nothing else. All files are copied first; then the documents are published, and the old list stays right until
//! then, with its signatures. Where a part can't be had, a tree that was signed so before stays as it is.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Remote;
use super::copy::restarting;
use super::documents::SignedDocuments;
use super::mirror::{MirrorOptions, Mirrored, is_image_error};
use super::simplestreams::stored;
use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::Fingerprint;
use crate::omissions::Omitted;
use crate::progress::Monitor;
use crate::protocol::simplestreams::{File, Listing};
use crate::simplestreams::{ForeignFile, TreeWriter, foreign_files};

/// Mirrors the lists of a remote as they are, if they are signed; `None` if the tree gets a list of its own.
///
/// # Errors
/// As [`mirror`](super::mirror); `InvalidInput` for a tree whose present signatures are the owner's and can't be kept.
pub(super) fn mirror_signed(
    remote: &dyn Remote,
    writer: &mut TreeWriter,
    options: &MirrorOptions,
    monitor: &Monitor,
) -> Result<Option<Mirrored>> {
    // With a key of its own the tree is signed by that one.
    if writer.tree().has_signers() {
        return Ok(None);
    }
    let documents = match remote.signed_documents(monitor) {
        Ok(Some(documents)) => documents,
        Ok(None) => return Ok(None),
        Err(error) if error.kind() == ErrorKind::Unsupported => {
            return own_list(remote, writer, error.message(), monitor);
        }
        Err(error) => return Err(error),
    };
    match keep(remote, writer, &documents, options, monitor) {
        Err(error) if matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::UnsafePath) => {
            own_list(remote, writer, error.message(), monitor)
        }
        Ok(done) if !done.failed.is_empty() && !writer.tree().is_signed() => {
            own_list(remote, writer, "a file that it names could not be copied", monitor)
        }
        done => done.map(|mut done| {
            done.omissions = monitor.omissions();
            Some(done)
        }),
    }
}

/// The signatures can't be kept: the tree gets a list of its own, unless that would take signatures off which readers demand.
fn own_list(remote: &dyn Remote, writer: &TreeWriter, reason: &str, monitor: &Monitor) -> Result<Option<Mirrored>> {
    writer.check_renewable().map_err(|error| {
        let hint = "make that possible, or sign the mirror's own list: `--sign KEYFILE`; or remove the signatures: \
                    `--drop-signatures`";
        Error::invalid(format!("the tree can't keep the signatures of the list's owner: {reason}"))
            .with_hint(hint)
            .with_source(error)
    })?;
    let signatures = remote.list_signatures();
    let by = signatures.first().map_or("its owner", |signature| &signature.key);
    let reason = format!("the mirror has a list of its own, which `--sign KEYFILE` signs: {reason}");
    monitor.omit(
        "streams/v1/index.json",
        Omitted::Dropped { part: format!("signature by {by}").into(), reason: reason.into() },
    );
    Ok(None)
}

/// Copies all files, and publishes the documents if all are there.
///
/// # Errors
/// `Unsupported`, with the reason, where the tree can't be what the list says.
fn keep(
    remote: &dyn Remote,
    writer: &mut TreeWriter,
    documents: &SignedDocuments,
    options: &MirrorOptions,
    monitor: &Monitor,
) -> Result<Mirrored> {
    if !options.filters.is_empty() {
        return Err(Error::unsupported("a list with fewer images is another one"));
    }
    writer.tree().takes_foreign()?;
    let listing = Listing::within(&documents.products, writer.tree().limits());
    let here = writer.tree().products()?;
    let before = Listing::within(&here, writer.tree().limits());
    let is_in = |listing: &Listing, fingerprint: &Fingerprint| {
        listing.images().iter().any(|image| image.fingerprint == *fingerprint)
    };
    let gone: Vec<Fingerprint> =
        before.images().iter().map(|image| image.fingerprint).filter(|image| !is_in(&listing, image)).collect();
    if !gone.is_empty() && !options.delete {
        return Err(Error::unsupported(
            "the tree has images that the remote no longer has, which only `--delete` removes",
        ));
    }
    if listing.images().is_empty() && !gone.is_empty() {
        return Err(Error::remote("the remote lists no images at all: nothing is removed for that")
            .with_hint("leave `--delete` out, or remove the images by hand"));
    }
    let files = foreign_files(&documents.products)?;
    // Entries of another tool that can't be read here are no files that are known.
    let listed = foreign_files(&here).unwrap_or_default();
    writer.claim_foreign(&files, &listed, monitor)?;
    let mut done = Mirrored::default();
    for file in files.values() {
        monitor.check()?;
        match copy_file(remote, writer, file, &listed, monitor) {
            Ok(()) => {}
            Err(error) if is_image_error(&error) => done.failed.push((image_of(&listing, file), error)),
            Err(error) => return Err(error),
        }
    }
    if !done.failed.is_empty() {
        return Ok(done);
    }
    writer.publish_foreign(&documents.files, &documents.products)?;
    monitor.omit_all(listing.omissions());
    for image in listing.images() {
        if is_in(&before, &image.fingerprint) {
            done.kept += 1;
        } else {
            done.copied.push(stored(&listing, image));
        }
    }
    done.removed = gone;
    Ok(done)
}

/// Copies one file, unless it is there.
fn copy_file(
    remote: &dyn Remote,
    writer: &TreeWriter,
    file: &ForeignFile,
    listed: &BTreeMap<String, ForeignFile>,
    monitor: &Monitor,
) -> Result<()> {
    let wanted =
        File { path: file.path.to_string(), size: file.size, sha256: Some(file.sha256), other: Arc::default() };
    restarting(monitor, || writer.copy_foreign(file, listed, monitor, || remote.open_file(&wanted, monitor))).map(drop)
}

/// The image that a file belongs to, for the report: its fingerprint, or the digest of the file where it is of none.
fn image_of(listing: &Listing, file: &ForeignFile) -> Fingerprint {
    let of = listing.images().iter().find(|image| {
        let parts = std::iter::once(&image.first).chain(&image.rootfs).chain(&image.statements);
        parts.into_iter().any(|part| part.sha256 == Some(file.sha256))
    });
    of.map_or(file.sha256, |image| image.fingerprint)
}
