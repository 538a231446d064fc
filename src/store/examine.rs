//! Examines the files of one image: whether they are the bytes of its fingerprint, and if not, why.
//!
//! Nothing is locked while bytes are read. The versions of the files are kept as [`Evidence`], so
//! that a repair can verify that it acts on the files that were examined.

use super::check::Finding;
use super::image::{ImageObjects, StoredImage};
use super::open::Store;
use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::Hasher;
use crate::io::{self as bytes, Blob, ReadAt, Version};
use crate::progress::{Monitor, Phase};

/// The versions of the files that a finding is based on: of the image or metadata file, and of the
/// rootfs. The outer `None` is a file that is missing, the inner one a file whose backend has no
/// versions.
#[derive(Debug, Clone, Default)]
pub(super) struct Evidence([Option<Option<Version>>; 2]);

impl Evidence {
    /// The versions of open files.
    pub(super) fn of(files: &[Option<Blob>; 2]) -> Result<Self> {
        let version = |file: &Option<Blob>| {
            let version = file.as_ref().map(Blob::version).transpose();
            version.map_err(|error| Error::io("its file can't be read", error))
        };
        let [first, rootfs] = files;
        Ok(Self([version(first)?, version(rootfs)?]))
    }

    /// Whether both are certainly the same files. Without versions that cannot be known, and the answer is no.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let unknown = |file: &Option<Option<Version>>| matches!(file, Some(None));
        self.0 == other.0 && !self.0.iter().any(unknown)
    }
}

/// A finding and the evidence for it. Without evidence a repair does not act on it.
pub(super) type ExamineResult = (Finding, Option<Evidence>);

impl Store {
    /// Opens the objects of an image; `None` for those that are missing.
    pub(crate) fn present_files(&self, objects: &ImageObjects) -> Result<[Option<Blob>; 2]> {
        let open = |key| match self.blobs.open(key) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        };
        Ok([open(&objects.image)?, objects.rootfs.as_ref().map(open).transpose()?.flatten()])
    }

    /// The versions of the files of an image as they are now.
    pub(super) fn evidence(&self, objects: &ImageObjects) -> Result<Evidence> {
        self.present_files(objects).and_then(|files| Evidence::of(&files))
    }

    /// Hashes the files of one image; `None` if they match its row. `done` counts the bytes of all
    /// images, of `total`.
    ///
    /// # Errors
    /// `Cancelled`. A file that cannot be read is a finding.
    pub(super) fn examine(
        &self,
        image: &StoredImage,
        total: u64,
        done: &mut u64,
        monitor: &Monitor,
    ) -> Result<Option<ExamineResult>> {
        let fingerprint = image.fingerprint;
        let aliases = || image.aliases.iter().map(|alias| alias.name.clone()).collect();
        let unreadable = |error: &Error| Ok(Some((Finding::Unreadable { fingerprint, reason: describe(error) }, None)));
        let opened = self.present_files(&image.objects).and_then(|files| Ok((Evidence::of(&files)?, files)));
        let (evidence, [first, rootfs]) = match opened {
            Ok(opened) => opened,
            Err(error) => return unreadable(&error),
        };
        let Some(first) = first.filter(|_| image.rootfs_size.is_none() || rootfs.is_some()) else {
            return Ok(Some((Finding::Missing { fingerprint, aliases: aliases() }, Some(evidence))));
        };
        let mut hasher = Hasher::new();
        let read = |file: &Blob, hasher: &mut Hasher| {
            let before = *done;
            hash(file, hasher, &mut |hashed| monitor.report(Phase::Verify, before.saturating_add(hashed), Some(total)))
        };
        let hashed = read(&first, &mut hasher).and_then(|()| {
            let alone = hasher.clone().finish();
            match &rootfs {
                // If the first file alone is the image, a second file is not part of it.
                Some(rootfs) if image.rootfs_size.is_some() || alone != fingerprint => {
                    read(rootfs, &mut hasher)?;
                    Ok((hasher.clone().finish(), true))
                }
                _ => Ok((alone, false)),
            }
        });
        let (found, split) = match hashed {
            Ok(hashed) => hashed,
            Err(error) if error.kind() == ErrorKind::Cancelled => return Err(error),
            Err(error) => return unreadable(&error),
        };
        *done = done.saturating_add(hasher.bytes());
        let sizes = (Some(first.len()), rootfs.as_ref().filter(|_| split).map(ReadAt::len));
        let known = (Some(image.first_size()), image.rootfs_size);
        let finding = if found == fingerprint && sizes == known {
            return Ok(None);
        } else if found == fingerprint {
            Finding::Row { fingerprint }
        } else {
            let why = if sizes.0 == known.0 && (sizes.1 == known.1 || known.1.is_none()) {
                Error::mismatch("the fingerprint", fingerprint.to_string(), found.to_string())
            } else {
                Error::mismatch("the size of its files", image.size.to_string(), hasher.bytes().to_string())
            };
            Finding::Damaged { fingerprint, reason: why.to_string(), aliases: aliases() }
        };
        Ok(Some((finding, Some(evidence))))
    }

    /// As [`examine`](Self::examine), repeated while the row or the files change: the result is
    /// about the state at its end.
    pub(super) fn examine_stable(
        &self,
        image: &StoredImage,
        total: u64,
        done: &mut u64,
        monitor: &Monitor,
    ) -> Result<Option<ExamineResult>> {
        let fingerprint = image.fingerprint;
        let mut image = image.clone();
        let mut examined = self.examine(&image, total, done, monitor)?;
        for _ in 0..3 {
            let Some((_, evidence)) = &examined else { break };
            let Some(now) = self.catalog.image(&fingerprint)? else { return Ok(None) };
            let same = match (evidence, self.evidence(&now.objects)) {
                (Some(before), Ok(now)) => before.is_same(&now),
                (None, _) => true,
                (Some(_), Err(error)) => {
                    return Ok(Some((Finding::Unreadable { fingerprint, reason: describe(&error) }, None)));
                }
            };
            if same
                && now.objects.image == image.objects.image
                && (now.size, now.rootfs_size) == (image.size, image.rootfs_size)
            {
                break;
            }
            monitor.check()?;
            image = now;
            examined = self.examine(&image, total, &mut 0, monitor)?;
        }
        Ok(examined)
    }
}

/// An error as one sentence, with its hint in parentheses.
pub(super) fn describe(error: &Error) -> String {
    match error.hint() {
        Some(hint) => format!("{error} ({hint})"),
        None => error.to_string(),
    }
}

/// Hashes a file from its start. `report` gets the total number of bytes of the hasher before each
/// read, and its error stops the call.
pub(super) fn hash(file: &Blob, hasher: &mut Hasher, report: &mut dyn FnMut(u64) -> Result<()>) -> Result<()> {
    let before = hasher.bytes();
    let mut report = |read: u64| report(before.saturating_add(read));
    bytes::read_all(file, "its file can't be read", &mut report, &mut |bytes| {
        hasher.update(bytes);
        Ok(())
    })
}
