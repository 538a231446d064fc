//! Looking at one image's files: whether they are the image that their name says, and if not, why.
//! Nothing is locked while bytes are read. What was seen is kept, so that whoever acts on it can tell under the lock that it is still so.

use super::check::Finding;
use super::image::{ImageObjects, StoredImage};
use super::open::Store;
use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::Hasher;
use crate::io::{self as bytes, Blob, ReadAt, Version};
use crate::progress::{Monitor, Phase};

/// The files that a verdict was reached on: the image's, or its metadata's, and the rootfs's. `None` is one that is not there.
#[derive(Debug, Clone, Default)]
pub(super) struct Evidence([Option<Option<Version>>; 2]);

impl Evidence {
    pub(super) fn of(files: &[Option<Blob>; 2]) -> Result<Self> {
        let version = |file: &Option<Blob>| {
            let version = file.as_ref().map(Blob::version).transpose();
            version.map_err(|error| Error::io("its file can't be read", error))
        };
        let [first, rootfs] = files;
        Ok(Self([version(first)?, version(rootfs)?]))
    }

    /// Whether the files are surely the same. Without versions nobody knows, and nothing must be done to them.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let unknown = |file: &Option<Option<Version>>| matches!(file, Some(None));
        self.0 == other.0 && !self.0.iter().any(unknown)
    }
}

/// A finding, and the files that it was made of; without them it can't be acted on.
pub(super) type ExamineResult = (Finding, Option<Evidence>);

impl Store {
    /// Opens an image's objects, those that are there.
    pub(crate) fn present_files(&self, objects: &ImageObjects) -> Result<[Option<Blob>; 2]> {
        let open = |key| match self.blobs.open(key) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        };
        Ok([open(&objects.image)?, objects.rootfs.as_ref().map(open).transpose()?.flatten()])
    }

    /// The state of an image's files now.
    pub(super) fn evidence(&self, objects: &ImageObjects) -> Result<Evidence> {
        self.present_files(objects).and_then(|files| Evidence::of(&files))
    }

    /// Hashes one image's files; nothing when they are well.
    ///
    /// # Errors
    /// `Cancelled`. That the files can't be read is a finding.
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
                // A file beside an image that is whole without it is none of its business.
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

    /// As [`examine`](Self::examine), of what the catalog and the files are when it is done: an image that is deleted or
    /// brought back meanwhile is looked at again.
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

/// An error as one sentence, with what can be done about it.
pub(super) fn describe(error: &Error) -> String {
    match error.hint() {
        Some(hint) => format!("{error} ({hint})"),
        None => error.to_string(),
    }
}

/// Hashes a file from its start. `report` is given the hasher's bytes, and may stop it.
pub(super) fn hash(file: &Blob, hasher: &mut Hasher, report: &mut dyn FnMut(u64) -> Result<()>) -> Result<()> {
    let before = hasher.bytes();
    let mut report = |read: u64| report(before.saturating_add(read));
    bytes::read_all(file, "its file can't be read", &mut report, &mut |bytes| {
        hasher.update(bytes);
        Ok(())
    })
}
