//! Bytes on their way in: copied into the store's own file system, hashed as they arrive, verified,
//! and given their name together with their row, or gone.

use std::io::{self, Read, Write};
use std::sync::Arc;

use super::blobs::{Area, Blobs, StagedFile};
use super::catalog::Transaction;
use super::examine::hash;
use super::image::StoredImage;
use super::layout;
use super::open::Store;
use super::settle::{blob_error, staging_error};
use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::{Fingerprint, Hasher};
use crate::format::{Image, ImageType, Input, Source};
use crate::metadata::{Architecture, Metadata};
use crate::progress::{Monitor, Phase};
use crate::sparse::{self, Run};

/// One file that is not yet an image's. Its staging name goes when it is dropped.
pub(crate) struct Incoming {
    blobs: Arc<dyn Blobs>,
    file: Box<dyn StagedFile>,
    name: String,
    leave: bool,
    pub(crate) came_as: Option<String>,
    written: u64,
}

impl Incoming {
    pub(crate) fn create(blobs: &Arc<dyn Blobs>) -> Result<Self> {
        let file = blobs.create().map_err(staging_error)?;
        let name = file.name().to_owned();
        Ok(Self { blobs: Arc::clone(blobs), file, name, leave: false, came_as: None, written: 0 })
    }

    /// Writes all, and leaves holes for whole blocks of zeros: a disk image is mostly that.
    fn write_sparse(&mut self, bytes: &[u8]) -> io::Result<()> {
        for run in sparse::runs(self.written, bytes) {
            let count = match run {
                Run::Data(data) => {
                    write_all(&mut *self.file, data)?;
                    data.len()
                }
                Run::Hole(length) => {
                    self.file.skip(length as u64)?;
                    length
                }
            };
            self.written = self.written.saturating_add(count as u64);
        }
        Ok(())
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if !self.leave {
            let _ = self.blobs.remove(Area::Staging, &self.name);
        }
    }
}

impl Write for Incoming {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_sparse(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// An image that is complete and verified, in staging.
pub(crate) struct Arrived {
    /// The image, or metadata and rootfs.
    pub(crate) files: Vec<Incoming>,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) facts: Facts,
}

/// What the bytes of an image tell.
pub(crate) struct Facts {
    pub(crate) size: u64,
    pub(crate) rootfs_size: Option<u64>,
    pub(crate) image_type: ImageType,
    pub(crate) architecture: Architecture,
    pub(crate) metadata: Metadata,
}

/// What to do about an image that arrived.
pub(crate) enum Admission {
    /// It is new: its files get their names.
    New(StoredImage),
    /// It was there; only its row changed.
    Known(StoredImage),
}

impl Store {
    /// Copies an image into staging and verifies it.
    pub(crate) fn stage(&self, source: Source, expected: Option<&Fingerprint>, monitor: &Monitor) -> Result<Arrived> {
        let Source { first, second } = source;
        let total = match &second {
            None => first.probable_len(),
            Some(second) => first.probable_len().zip(second.probable_len()).map(|(a, b)| a.saturating_add(b)),
        };
        let mut hasher = Some(Hasher::new());
        let mut incoming = Vec::new();
        let mut names = Vec::new();
        let mut done = 0;
        for input in std::iter::once(first).chain(second) {
            let mut file = Incoming::create(&self.blobs)?;
            // A stream's name is only for errors.
            file.came_as =
                input.len().and(input.name()).and_then(|path| path.file_name()?.to_str()).and_then(plain_name);
            copy(&input, &mut file, &mut hasher, &mut done, total, monitor).map_err(|error| input.name_error(error))?;
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

    /// Verifies files in staging as one image.
    pub(crate) fn verify_staged(
        &self,
        mut incoming: Vec<Incoming>,
        names: &[Option<std::path::PathBuf>],
        expected: Option<&Fingerprint>,
        arrived: Option<Fingerprint>,
        monitor: &Monitor,
    ) -> Result<Arrived> {
        let mut inputs = Vec::new();
        for (file, name) in incoming.iter().zip(names) {
            let input = Input::blob(file.file.reader().map_err(staging_error)?);
            inputs.push(match name {
                Some(name) => input.named(name),
                None => input,
            });
        }
        let mut inputs = inputs.into_iter();
        let source = match (inputs.next(), inputs.next()) {
            (Some(one), None) => Source::unified(one),
            (Some(one), Some(other)) => Source::split(one, other),
            _ => return Err(Error::invalid("an image is one file or two")),
        };
        let first = source.first.as_blob().cloned();
        let image = Image::open_with(source, &self.options.limits)?;
        let begins = image.parts.first().and_then(|part| part.input.as_blob());
        let in_order = first.as_ref().zip(begins).is_some_and(|(first, begins)| first.ptr_eq(begins));
        let verified = image.verify(&self.options.verifying(monitor))?;
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
        // A rule without its template concerns whoever makes an instance; LXD takes such images too.
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
        let facts = Facts { size: verified.size, rootfs_size, image_type: verified.image_type, architecture, metadata };
        Ok(Arrived { files: incoming, fingerprint: verified.fingerprint, facts })
    }

    /// Makes an image visible: its files on the disk, then their names, then its row, in this order.
    /// `decide` changes the catalog; nothing of it stays when anything fails.
    pub(crate) fn admit(
        &self,
        mut arrived: Arrived,
        monitor: &Monitor,
        decide: &mut dyn FnMut(&mut dyn Transaction) -> Result<Admission>,
    ) -> Result<StoredImage> {
        let fingerprint = arrived.fingerprint;
        for incoming in &mut arrived.files {
            // After a failed sync nobody knows what is on the disk; the file goes.
            incoming.file.sync().map_err(|error| Error::io("the image can't be made durable", error))?;
        }
        for incoming in &mut arrived.files {
            let claim = layout::claim(&fingerprint, &incoming.name);
            let renamed = self.blobs.rename((Area::Staging, &incoming.name), (Area::Staging, &claim));
            renamed.map_err(staging_error)?;
            incoming.name = claim;
        }
        // From here on, whoever finds these names knows which blobs to look at.
        self.blobs.sync(Area::Staging).map_err(staging_error)?;
        let mut replace = false;
        loop {
            let mut placed = Vec::new();
            let mut occupied = false;
            let mut admitted = None;
            let done = self.catalog.write(&mut |catalog| {
                // A catalog may begin again.
                self.take_back(&placed)?;
                placed.clear();
                if catalog.unsettled()?.contains(&fingerprint) && catalog.image(&fingerprint)?.is_none() {
                    // Its removal did not come to its end yet.
                    self.remove_files(&fingerprint)?;
                    catalog.set_unsettled(&fingerprint, false)?;
                }
                let image = match decide(catalog)? {
                    Admission::Known(image) => image,
                    Admission::New(image) => {
                        let done = self.place(&arrived.files, &image, replace, &mut placed, &mut occupied);
                        if let Err(error) = done {
                            if self.take_back(&placed).is_ok() {
                                placed.clear();
                            }
                            return Err(error);
                        }
                        image
                    }
                };
                admitted = Some(image);
                Ok(())
            });
            match (done, admitted) {
                (Ok(()), Some(image)) => {
                    drop(arrived);
                    let _ = self.settle();
                    return Ok(image);
                }
                (Err(_), _) if occupied && !replace && placed.is_empty() => {
                    self.compare(&fingerprint, monitor)?;
                    replace = true;
                }
                (done, _) => {
                    // Whether the row is there is known to the catalog alone.
                    if !placed.is_empty() && self.disown(&fingerprint).is_err() {
                        arrived.files.iter_mut().for_each(|incoming| incoming.leave = true);
                    }
                    return Err(done.err().unwrap_or_else(|| Error::invalid("nothing was decided about the image")));
                }
            }
        }
    }

    fn place(
        &self,
        files: &[Incoming],
        image: &StoredImage,
        replace: bool,
        placed: &mut Vec<String>,
        occupied: &mut bool,
    ) -> Result<()> {
        let fingerprint = &image.fingerprint;
        // The rootfs first: where the metadata of a split image is, its rootfs is too.
        for (file, name) in files.iter().zip([layout::blob(fingerprint), layout::rootfs(fingerprint)]).rev() {
            if replace {
                match self.blobs.remove(Area::Blobs, &name) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(blob_error(error)),
                    _ => {}
                }
            }
            match self.blobs.link(&file.name, &name) {
                Err(error) => {
                    *occupied = error.kind() == io::ErrorKind::AlreadyExists;
                    return Err(Error::io("the image can't be given its name", error));
                }
                Ok(()) => placed.push(name),
            }
        }
        placed.push(layout::sidecar(fingerprint));
        self.write_sidecar(image)?;
        self.blobs.sync(Area::Blobs).map_err(blob_error)
    }

    fn take_back(&self, placed: &[String]) -> Result<()> {
        for name in placed {
            match self.blobs.remove(Area::Blobs, name) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(blob_error(error)),
                _ => {}
            }
        }
        if placed.is_empty() {
            return Ok(());
        }
        self.blobs.sync(Area::Blobs).map_err(blob_error)
    }

    /// Whether files under an image's name, which no row knows, are that image.
    fn compare(&self, fingerprint: &Fingerprint, monitor: &Monitor) -> Result<()> {
        let files = self.present_files(fingerprint).map_err(blob_error)?;
        let mut hasher = Hasher::new();
        for file in files.iter().flatten() {
            hash(file, &mut hasher, &mut |done| monitor.report(Phase::Verify, done, None))?;
        }
        let found = hasher.finish();
        if found == *fingerprint {
            return Ok(());
        }
        let what = "the file in the store under the image's name, which the catalog does not know";
        Err(Error::mismatch(what, fingerprint.to_string(), found.to_string())
            .with_hint("`lxd-image check --repair` puts it aside"))
    }
}

/// Copies one file and hashes it on the way; where blocks can be shared there is nothing to copy.
fn copy(
    input: &Input,
    file: &mut Incoming,
    hasher: &mut Option<Hasher>,
    done: &mut u64,
    total: Option<u64>,
    monitor: &Monitor,
) -> Result<()> {
    monitor.report(Phase::Hash, *done, total)?;
    if let Some(original) = input.as_blob()
        && file.file.reflink(original).map_err(staging_error)?
    {
        // The bytes are hashed when they are verified.
        *hasher = None;
        *done = done.saturating_add(input.len().unwrap_or(0));
        return Ok(());
    }
    let mut reader = input.reader(monitor.cancel())?;
    let mut buffer = vec![0; 256 << 10];
    loop {
        let count = match reader.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if again(&error) => continue,
            Err(error) => return Err(Error::io("the image can't be read", error)),
        };
        let bytes = &buffer[..count];
        file.write_sparse(bytes).map_err(|error| Error::io("the image can't be written into the store", error))?;
        if let Some(hasher) = hasher {
            hasher.update(bytes);
        }
        *done = done.saturating_add(count as u64);
        monitor.report(Phase::Hash, *done, total)?;
    }
}

fn again(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock)
}

/// Writes all, whatever small steps it takes.
pub(crate) fn write_all(file: &mut (impl Write + ?Sized), mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(error) if again(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// A file's name that may be given to a file of ours, later and elsewhere: no way to climb, nothing hidden.
pub(crate) fn plain_name(name: &str) -> Option<String> {
    let plain = !name.is_empty()
        && name.len() <= 200
        && !name.starts_with(['.', '-'])
        && !name.contains(['/', '\\'])
        && !name.chars().any(char::is_control);
    plain.then(|| name.to_owned())
}
