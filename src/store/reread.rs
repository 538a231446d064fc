//! An image read anew from its files and its sidecar, for a catalog that does not know it.
//! Tells damage, which lies in the bytes, from all else that keeps them from being read here and now.

use super::blobs::Area;
use super::examine::{Evidence, hash, told};
use super::image::StoredImage;
use super::layout;
use super::open::Store;
use super::sidecar::{MOST_BYTES, Sidecar};
use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::{Fingerprint, Hasher};
use crate::format::{Image, ImageType, Input, Source};
use crate::io::Blob;
use crate::metadata::Properties;
use crate::progress::{Monitor, Phase};

/// What the files under an image's name are.
pub(super) enum Reread {
    /// That image, why its sidecar is of no use, if so, and the files that were read.
    Image(Box<StoredImage>, Option<String>, Evidence),
    /// Not that image, or none: for this reason, which lies in their bytes.
    Damaged(String, Evidence),
    /// Perhaps that image: reading it failed for this reason.
    Unreadable(String),
}

impl Store {
    /// Reads the files that have an image's name.
    ///
    /// # Errors
    /// `Cancelled`.
    pub(super) fn reread(&self, fingerprint: &Fingerprint, monitor: &Monitor) -> Result<Reread> {
        let opened = self.present_files(fingerprint).and_then(|files| Ok((Evidence::of(&files)?, files)));
        let (evidence, [first, rootfs]) = match opened {
            Ok(opened) => opened,
            Err(error) => return Ok(Reread::Unreadable(told(&Error::io("its file can't be opened", error)))),
        };
        let Some(first) = first else { return Ok(Reread::Damaged("its file is missing".to_owned(), evidence)) };
        let failed = match self.verify_files(fingerprint, &first, rootfs.as_ref(), monitor) {
            Ok(image) => return self.with_sidecar(image, evidence),
            Err(error) if error.kind() == ErrorKind::Cancelled => return Err(error),
            Err(error) => error,
        };
        // The bytes decide: what could not be made of them may be due to a limit, a codec or a tired machine.
        let mut hasher = Hasher::new();
        let hashed = std::iter::once(&first)
            .chain(&rootfs)
            .try_for_each(|file| hash(file, &mut hasher, &mut |done| monitor.report(Phase::Verify, done, None)));
        match hashed {
            Err(error) if error.kind() == ErrorKind::Cancelled => return Err(error),
            Err(error) => return Ok(Reread::Unreadable(told(&error))),
            Ok(()) => {}
        }
        let found = hasher.finish();
        if found != *fingerprint {
            let why = Error::mismatch("the fingerprint", fingerprint.to_string(), found.to_string());
            return Ok(Reread::Damaged(why.to_string(), evidence));
        }
        if !lies_in_the_bytes(&failed) {
            return Ok(Reread::Unreadable(told(&failed)));
        }
        // The same bytes say the same again; what a failing machine made of them does not come twice.
        match self.verify_files(fingerprint, &first, rootfs.as_ref(), monitor) {
            Ok(image) => self.with_sidecar(image, evidence),
            Err(error) if error.kind() == ErrorKind::Cancelled => Err(error),
            Err(error) if lies_in_the_bytes(&error) => Ok(Reread::Damaged(error.to_string(), evidence)),
            Err(error) => Ok(Reread::Unreadable(told(&error))),
        }
    }

    /// The image that files hold, as they tell it.
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
            None => Source::unified(first),
            Some(rootfs) => Source::split(first, rootfs),
        };
        let verified = Image::open_with(source, &self.options.limits)?.verify(&self.options.verifying(monitor))?;
        if verified.fingerprint != *fingerprint {
            return Err(Error::mismatch("the fingerprint", fingerprint.to_string(), verified.fingerprint.to_string()));
        }
        let metadata = verified.metadata.ok_or_else(|| Error::malformed("the image has no metadata"))?;
        Ok(StoredImage {
            fingerprint: *fingerprint,
            image_type: if verified.disk.is_some() { ImageType::VirtualMachine } else { ImageType::Container },
            architecture: metadata.architecture().parse()?,
            size: verified.size,
            rootfs_size,
            created_at: crate::time::within_range(metadata.creation_date()),
            expires_at: metadata.expiry_date().map(crate::time::within_range),
            uploaded_at: self.now(),
            last_used_at: None,
            public: false,
            auto_update: false,
            cached: false,
            file_name: None,
            rootfs_name: None,
            source: None,
            properties: metadata.properties().clone(),
            original_properties: Properties::clone(metadata.properties()),
            revision: 1,
            aliases: Vec::new(),
        })
    }

    /// Adds what the sidecar knows. One that can't be read now must not be taken for none: what it knows would be lost.
    fn with_sidecar(&self, image: StoredImage, evidence: Evidence) -> Result<Reread> {
        let mut restored = image.clone();
        let read = self.read_sidecar(&image.fingerprint).and_then(|sidecar| sidecar.restore(&mut restored));
        Ok(match read {
            Ok(()) => Reread::Image(Box::new(restored), None, evidence),
            Err(error) if error.kind() == ErrorKind::Io => Reread::Unreadable(format!("its sidecar: {}", told(&error))),
            Err(error) => Reread::Image(Box::new(image), Some(told(&error)), evidence),
        })
    }

    /// # Errors
    /// `NotFound` when there is none, `Malformed` or `Unsupported` for one that is of no use, `Io`.
    pub(crate) fn read_sidecar(&self, fingerprint: &Fingerprint) -> Result<Sidecar> {
        use std::io::Read;
        let failed = |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::NotFound => Error::new(ErrorKind::NotFound, "there is no sidecar file"),
            _ => Error::io("a sidecar file can't be read", error),
        };
        let file = self.blobs.open(Area::Blobs, &layout::sidecar(fingerprint)).map_err(failed)?;
        let mut text = Vec::new();
        file.reader_from(0, MOST_BYTES).read_to_end(&mut text).map_err(failed)?;
        Sidecar::parse(&text)
    }
}

/// Whether reading the same bytes fails so on every machine, with any limits, and with whatever is compiled in.
fn lies_in_the_bytes(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Malformed | ErrorKind::Mismatch | ErrorKind::UnsafePath)
}
