//! Staging: copies an image into scratch, hashes it on the way, and verifies it. Nothing of it is
//! visible before that.

use super::image::StoredImage;
use super::open::Store;
use super::scratch::StagedFile;
use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::{Fingerprint, Hasher};
use crate::format::{Image, ImageSource, ImageType, Input};
use crate::io as bytes;
use crate::metadata::{Architecture, Metadata, Properties};
use crate::omissions::Omitted;
use crate::progress::{Cancel, Monitor, Phase};
use crate::time;

/// A complete and verified image in scratch, ready to be uploaded.
pub(crate) struct StagedImage {
    /// One file, or the metadata and the rootfs of a split image, in this order.
    pub(crate) files: Vec<StagedFile>,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) info: ImageInfo,
}

impl StagedImage {
    /// The row of the image, without aliases and objects. `now` is the time of its upload in seconds since 1970.
    ///
    /// `told` are properties of its source: they override the image's own, or replace all of them
    /// if `exact` is set. Times outside of the years 0 to 9999 are clamped, which is recorded as an
    /// omission: no client could read them.
    ///
    /// # Errors
    /// `InvalidInput` for a property that cannot be stored.
    pub(crate) fn stored(
        &self,
        (told, exact): (&Properties, bool),
        expires_at: Option<i64>,
        now: i64,
        monitor: &Monitor,
    ) -> Result<StoredImage> {
        let metadata = &self.info.metadata;
        let name = self.fingerprint.to_string();
        let time = |field, seconds| within_range(monitor, &name, field, seconds);
        let original_name = |index: usize| self.files.get(index).and_then(|file| file.original_name.clone());
        let mut image = StoredImage::new(self.fingerprint, self.info.image_type, self.info.architecture);
        (image.size, image.rootfs_size) = (self.info.size, self.info.rootfs_size);
        image.created_at = time("creation date", metadata.creation_date());
        image.expires_at = expires_at.or(metadata.expiry_date()).map(|seconds| time("expiry date", seconds));
        image.uploaded_at = now;
        (image.file_name, image.rootfs_name) = (original_name(0), original_name(1));
        if !exact {
            image.original_properties = metadata.properties().clone();
        }
        for (key, value) in told.iter() {
            image.original_properties.set(key, value)?;
        }
        Ok(image)
    }
}

/// Clamps a time to the years 0 to 9999, and records that as an omission of `field`.
fn within_range(monitor: &Monitor, image: &str, field: &'static str, seconds: i64) -> i64 {
    let kept = time::within_range(seconds);
    if kept != seconds {
        let to = time::rfc3339(Some(kept));
        monitor.omit(image, Omitted::Clamped { field: field.into(), from: seconds.to_string(), to });
    }
    kept
}

/// What verification found out about an image.
pub(crate) struct ImageInfo {
    /// The size of all files in bytes.
    pub(crate) size: u64,
    /// The size of the rootfs file of a split image in bytes.
    pub(crate) rootfs_size: Option<u64>,
    pub(crate) image_type: ImageType,
    pub(crate) architecture: Architecture,
    pub(crate) metadata: Metadata,
}

impl Store {
    /// Copies an image into scratch and verifies it.
    ///
    /// The files are copied even if they are local: another process could change them between
    /// verification and use. Where the file system can share blocks (a reflink) the copy costs
    /// nothing.
    ///
    /// # Errors
    /// `Mismatch` for another fingerprint than `expected`; `LimitExceeded` for more bytes than `most`; those of verification;
    /// `Cancelled`, `StorageFull`, `Io`.
    pub(crate) fn stage(
        &self,
        source: ImageSource,
        expected: Option<&Fingerprint>,
        most: Option<u64>,
        monitor: &Monitor,
    ) -> Result<StagedImage> {
        let ImageSource { first, second } = source;
        let total = match &second {
            None => first.probable_len(),
            Some(second) => first.probable_len().zip(second.probable_len()).map(|(a, b)| a.saturating_add(b)),
        };
        let mut hasher = Some(Hasher::new());
        let mut incoming = Vec::new();
        let mut names = Vec::new();
        let mut done = 0;
        let bounded = |size: u64| match most {
            Some(most) if size > most => {
                let sentence = format!("the image has more than the {most} bytes that it may have here");
                Err(Error::new(ErrorKind::LimitExceeded, sentence))
            }
            _ => Ok(()),
        };
        bounded(total.unwrap_or(0))?;
        for input in std::iter::once(first).chain(second) {
            let mut file = self.scratch.create()?;
            // A stream has a name for error messages only; it is not the name of a file to keep.
            file.original_name =
                input.len().and(input.name()).and_then(|path| path.file_name()?.to_str()).and_then(plain_name);
            let mut report = |done: u64| bounded(done).and_then(|()| monitor.report(Phase::Hash, done, total));
            copy(&input, &mut file, &mut hasher, &mut done, monitor.cancel(), &mut report)
                .map_err(|error| input.name_error(error))?;
            names.push(input.name().map(std::path::Path::to_path_buf));
            incoming.push(file);
        }
        let arrived = hasher.map(Hasher::finish);
        if let (Some(expected), Some(found), 1) = (expected, &arrived, incoming.len())
            && expected != found
        {
            return Err(Error::mismatch("the fingerprint", expected.to_string(), found.to_string()));
        }
        self.verify_staged(incoming, &names, expected, arrived, monitor)
    }

    /// Verifies staged files as one image, whichever of two comes first. `arrived` is the
    /// fingerprint of the bytes that were written, in that order: the disk must return the same.
    ///
    /// # Errors
    /// As [`stage`](Self::stage).
    pub(crate) fn verify_staged(
        &self,
        mut incoming: Vec<StagedFile>,
        names: &[Option<std::path::PathBuf>],
        expected: Option<&Fingerprint>,
        arrived: Option<Fingerprint>,
        monitor: &Monitor,
    ) -> Result<StagedImage> {
        let mut inputs = Vec::new();
        for (file, name) in incoming.iter().zip(names) {
            let input = Input::blob(file.reader()?);
            inputs.push(match name {
                Some(name) => input.named(name),
                None => input,
            });
        }
        let mut inputs = inputs.into_iter();
        let source = match (inputs.next(), inputs.next()) {
            (Some(one), None) => ImageSource::unified(one),
            (Some(one), Some(other)) => ImageSource::split(one, other),
            _ => return Err(Error::invalid("an image is one file or two")),
        };
        let first = source.first.as_blob().cloned();
        let image = Image::open_with(source, &self.options.limits)?;
        let begins = image.parts.first().and_then(|part| part.input.as_blob());
        let in_order = first.as_ref().zip(begins).is_some_and(|(first, begins)| first.ptr_eq(begins));
        let verified = image.verify(&self.options.verifying(), monitor)?;
        if let Some(expected) = expected
            && *expected != verified.fingerprint
        {
            return Err(Error::mismatch("the fingerprint", expected.to_string(), verified.fingerprint.to_string()));
        }
        if let Some(arrived) = arrived.filter(|arrived| in_order && *arrived != verified.fingerprint) {
            return Err(Error::new(
                ErrorKind::Io,
                format!(
                    "the bytes changed on their way to the disk: {arrived} arrived, {} is there",
                    verified.fingerprint
                ),
            ));
        }
        // A rule whose template is missing matters only when an instance is created; LXD imports such images, too.
        if let Some(finding) = verified.findings.into_iter().find(|finding| finding.kind() != ErrorKind::NotFound) {
            return Err(finding);
        }
        let metadata = verified.metadata.ok_or_else(|| Error::malformed("the image has no metadata"))?;
        let architecture = metadata.architecture().parse()?;
        let rootfs_size = image.parts.get(1).and_then(|part| part.input.len());
        drop(image);
        if !in_order {
            incoming.reverse();
        }
        let info =
            ImageInfo { size: verified.size, rootfs_size, image_type: verified.image_type, architecture, metadata };
        Ok(StagedImage { files: incoming, fingerprint: verified.fingerprint, info })
    }
}

/// Copies one file of an image into scratch, and hashes it on the way. `done` counts the bytes of all files so far, and
/// `report` may end it by them.
///
/// Where the file system can share blocks nothing is copied; then `hasher` becomes `None`, since
/// the bytes are hashed when they are verified.
fn copy(
    input: &Input,
    file: &mut StagedFile,
    hasher: &mut Option<Hasher>,
    done: &mut u64,
    cancel: &Cancel,
    report: &mut dyn FnMut(u64) -> Result<()>,
) -> Result<()> {
    let before = *done;
    if let Some(original) = input.as_blob() {
        report(before)?;
        if file.reflink(original)? {
            *hasher = None;
            *done = before.saturating_add(input.len().unwrap_or(0));
            return Ok(());
        }
    }
    let mut reader = input.reader(cancel)?;
    let mut count = |read: u64| {
        *done = before.saturating_add(read);
        report(*done)
    };
    bytes::read_stream(&mut reader, "the image can't be read", &mut count, &mut |chunk| {
        file.write_sparse(chunk).map_err(|error| Error::io("the image can't be written into the store", error))?;
        if let Some(hasher) = hasher {
            hasher.update(chunk);
        }
        Ok(())
    })
}

/// Returns `name` if it is a plain file name that is safe to use elsewhere later: no path, not
/// hidden, not an option, no control character, 200 bytes at most (which leaves room for an ending
/// within the kernel's 255).
pub(crate) fn plain_name(name: &str) -> Option<String> {
    let plain = !name.is_empty()
        && name.len() <= 200
        && !name.starts_with(['.', '-'])
        && !name.contains(['/', '\\'])
        && !name.chars().any(char::is_control);
    plain.then(|| name.to_owned())
}
