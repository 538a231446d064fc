//! Reconstructs the row of an image from its files and its sidecar, for a catalog that has lost it.
//!
//! Distinguishes damage, which lies in the bytes and is the same on every machine, from other
//! reasons why they cannot be read here and now (a limit, a missing codec, a failing disk). Only
//! damaged files are ever archived.

use super::blobs::BlobKey;
use super::catalog::Attachment;
use super::examine::{Evidence, describe, hash};
use super::image::{ImageObjects, StoredImage};
use super::open::Store;
use super::sidecar::{MAX_BYTES, Sidecar};
use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::{Fingerprint, Hasher};
use crate::format::{Image, ImageSource, ImageType, Input};
use crate::io::Blob;
use crate::progress::{Monitor, Phase};

/// What the files of an image turned out to be.
pub(super) enum Reread {
    /// The image, with the texts beside it, and the reason why its sidecar could not be used, if it could not.
    Image(Box<StoredImage>, Vec<Attachment>, Option<String>),
    /// Not this image, or no image at all, for this reason, which lies in the bytes.
    Damaged(String, Evidence),
    /// Unknown: reading them failed for this reason.
    Unreadable(String),
}

impl Store {
    /// Reads the objects that should hold an image, verifies them, and restores what the sidecar says.
    ///
    /// # Errors
    /// `Cancelled`. All other errors become a variant of [`Reread`].
    pub(super) fn reread(
        &self,
        fingerprint: &Fingerprint,
        objects: &ImageObjects,
        monitor: &Monitor,
    ) -> Result<Reread> {
        let opened = self.present_files(objects).and_then(|files| Ok((Evidence::of(&files)?, files)));
        let (evidence, [first, rootfs]) = match opened {
            Ok(opened) => opened,
            Err(error) => return Ok(Reread::Unreadable(describe(&error))),
        };
        let Some(first) = first else { return Ok(Reread::Damaged("its file is missing".to_owned(), evidence)) };
        let failed = match self.verify_files(fingerprint, &first, rootfs.as_ref(), monitor) {
            Ok(image) => return self.with_sidecar(image, objects),
            Err(error) if error.kind() == ErrorKind::Cancelled => return Err(error),
            Err(error) => error,
        };
        // Verification failed. Only the digest tells whether the bytes are wrong, or whether a
        // limit, a codec or the machine is.
        let mut hasher = Hasher::new();
        let hashed = std::iter::once(&first)
            .chain(&rootfs)
            .try_for_each(|file| hash(file, &mut hasher, &mut |done| monitor.report(Phase::Verify, done, None)));
        match hashed {
            Err(error) if error.kind() == ErrorKind::Cancelled => return Err(error),
            Err(error) => return Ok(Reread::Unreadable(describe(&error))),
            Ok(()) => {}
        }
        let found = hasher.finish();
        if found != *fingerprint {
            let why = Error::mismatch("the fingerprint", fingerprint.to_string(), found.to_string());
            return Ok(Reread::Damaged(why.to_string(), evidence));
        }
        if !lies_in_the_bytes(&failed) {
            return Ok(Reread::Unreadable(describe(&failed)));
        }
        // The digest matches, and yet the format is invalid. Verify twice: faulty memory does not
        // give the same error again.
        match self.verify_files(fingerprint, &first, rootfs.as_ref(), monitor) {
            Ok(image) => self.with_sidecar(image, objects),
            Err(error) if error.kind() == ErrorKind::Cancelled => Err(error),
            Err(error) if lies_in_the_bytes(&error) => Ok(Reread::Damaged(error.to_string(), evidence)),
            Err(error) => Ok(Reread::Unreadable(describe(&error))),
        }
    }

    /// The row of an image as its files describe it, with default values for what only a sidecar knows.
    fn verify_files(
        &self,
        fingerprint: &Fingerprint,
        first: &Blob,
        rootfs: Option<&Blob>,
        monitor: &Monitor,
    ) -> Result<StoredImage> {
        let first = Input::blob(first.clone());
        let rootfs = rootfs.cloned().map(Input::blob);
        let rootfs_size = rootfs.as_ref().and_then(Input::len);
        let source = match rootfs {
            None => ImageSource::unified(first),
            Some(rootfs) => ImageSource::split(first, rootfs),
        };
        let verified = Image::open_with(source, &self.options.limits)?.verify(&self.options.verifying(), monitor)?;
        if verified.fingerprint != *fingerprint {
            return Err(Error::mismatch("the fingerprint", fingerprint.to_string(), verified.fingerprint.to_string()));
        }
        let metadata = verified.metadata.ok_or_else(|| Error::malformed("the image has no metadata"))?;
        let image_type = if verified.disk.is_some() { ImageType::VirtualMachine } else { ImageType::Container };
        let mut image = StoredImage::new(*fingerprint, image_type, metadata.architecture().parse()?);
        (image.size, image.rootfs_size) = (verified.size, rootfs_size);
        image.created_at = crate::time::within_range(metadata.creation_date());
        image.expires_at = metadata.expiry_date().map(crate::time::within_range);
        image.uploaded_at = self.now();
        image.properties = metadata.properties().clone();
        image.original_properties = metadata.properties().clone();
        image.revision = 1;
        Ok(image)
    }

    /// Adds what the sidecar says. A sidecar that cannot be read now is not treated as missing: its
    /// aliases and edits would be lost.
    fn with_sidecar(&self, mut image: StoredImage, objects: &ImageObjects) -> Result<Reread> {
        image.objects = objects.clone();
        let mut restored = image.clone();
        let read = match &objects.sidecar {
            Some(key) => self.read_sidecar(key).and_then(|sidecar| {
                sidecar.restore(&mut restored)?;
                Ok(sidecar.into_attachments())
            }),
            None => Err(no_sidecar()),
        };
        Ok(match read {
            Ok(attachments) => Reread::Image(Box::new(restored), attachments, None),
            Err(error) if is_useless(&error) => {
                image.objects.sidecar = None;
                Reread::Image(Box::new(image), Vec::new(), Some(describe(&error)))
            }
            Err(error) => Reread::Unreadable(format!("its sidecar: {}", describe(&error))),
        })
    }

    /// Reads and parses a sidecar.
    ///
    /// # Errors
    /// `NotFound`; `Malformed` or `Unsupported` for content that cannot be used; `Io`.
    pub(crate) fn read_sidecar(&self, key: &BlobKey) -> Result<Sidecar> {
        use std::io::Read;
        let file = self.blobs.open(key)?;
        let mut text = Vec::new();
        let read = file.reader_from(0, MAX_BYTES).read_to_end(&mut text);
        read.map_err(|error| Error::io("a sidecar file can't be read", error))?;
        Sidecar::parse(&text)
    }
}

fn no_sidecar() -> Error {
    Error::new(ErrorKind::NotFound, "there is no sidecar file")
}

/// Whether a sidecar with this error can never be used by this version.
pub(super) fn is_useless(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::NotFound
            | ErrorKind::Malformed
            | ErrorKind::Unsupported
            | ErrorKind::Mismatch
            | ErrorKind::InvalidInput
    )
}

/// Whether the same bytes give this error on every machine, with any limits and with any codecs.
fn lies_in_the_bytes(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Malformed | ErrorKind::Mismatch | ErrorKind::UnsafePath)
}
