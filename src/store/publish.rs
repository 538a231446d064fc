//! Publishing: imports a tree on disk, or bytes that a program generates, without a file in between.
//!
//! The bytes are written straight into scratch and verified as those of any other import.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use super::image::StoredImage;
use super::import::ImportOptions;
use super::open::Store;
use super::scratch::StagedFile;
use crate::error::{Error, Result};
use crate::format::{ImageSource, Input, PackOptions, Rootfs, Written, nameless, pack_into, pack_to};
use crate::io::Blob;
use crate::progress::Monitor;

impl ImportOptions {
    /// The recorded options of an image that [`Store::publish`] packs with these options: with the properties that go
    /// into its metadata.
    ///
    /// # Errors
    /// `InvalidInput` for a property that metadata cannot have.
    pub fn recorded(&self, packing: &PackOptions) -> Result<serde_json::Value> {
        Ok(self.packing(packing)?.recorded(None))
    }

    /// What is packed with these options: their properties go into its metadata.
    fn packing(&self, packing: &PackOptions) -> Result<PackOptions> {
        self.given_properties().iter().try_fold(packing.clone(), |packing, (key, value)| packing.property(key, value))
    }
}

impl Store {
    /// Imports a unified image that `write` writes. It is verified as any other.
    ///
    /// # Errors
    /// Those of `write` and of [`import`](Self::import); the store is as it was then.
    pub fn import_written(
        &self,
        options: &ImportOptions,
        monitor: &Monitor,
        write: impl FnOnce(&mut (dyn Write + Send)) -> Result<()>,
    ) -> Result<StoredImage> {
        self.preflight(options)?;
        let mut file = self.scratch.create()?;
        write(&mut file)?;
        let staged = self.verify_staged(vec![file], &[None], options.expected(), None, monitor)?;
        self.publish_import(staged, options, monitor)
    }

    /// Packs a root file system and imports the image: what a container manager does with a stopped
    /// instance. Properties that `options` give go into the image's own metadata, so that they are
    /// with it wherever it goes. Returns also what was packed and what was left out.
    ///
    /// With [`PackOptions::form`] it may be a split image, as `incus publish --format split` makes it.
    ///
    /// ```no_run
    /// use lxd_image::Monitor;
    /// use lxd_image::Metadata;
    /// use lxd_image::format::{PackOptions, Rootfs};
    /// use lxd_image::store::{Alias, ImportOptions, Store};
    ///
    /// # fn main() -> lxd_image::Result<()> {
    /// let store = Store::open("/var/lib/lxd-image")?;
    /// let packing = PackOptions::new(Metadata::new("x86_64", 1_700_000_000)?);
    /// let options = ImportOptions::new().alias(Alias::new("c1-snapshot")?);
    /// let (image, written) = store.publish(&Rootfs::open("/srv/c1/rootfs")?, &packing, &options, &Monitor::none())?;
    /// assert_eq!(image.fingerprint, written.fingerprint);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of [`pack_to`] and of [`import`](Self::import); the store is as it was then.
    pub fn publish(
        &self,
        rootfs: &Rootfs,
        packing: &PackOptions,
        options: &ImportOptions,
        monitor: &Monitor,
    ) -> Result<(StoredImage, Written)> {
        let packing = options.packing(packing)?;
        if packing.is_split() {
            self.preflight(options)?;
            return self.publish_split(rootfs, &packing, options, monitor).map_err(|error| self.make_room(error).0);
        }
        self.import_encoded(options, monitor, |sink| pack_to(rootfs, sink, &packing, monitor))
    }

    /// Publishes a split image.
    ///
    /// The writers of its second file need to seek in it, which staged files can't. So both are packed into files without a name
    /// beside them, whose blocks are shared where the file system can do that, and copied where it can't.
    fn publish_split(
        &self,
        rootfs: &Rootfs,
        packing: &PackOptions,
        options: &ImportOptions,
        monitor: &Monitor,
    ) -> Result<(StoredImage, Written)> {
        let directory = self.scratch.nameless_in();
        let unmade = |error| Error::io("a file to pack into can't be made", error).in_file(&directory);
        let files = [nameless(&directory).map_err(unmade)?, nameless(&directory).map_err(unmade)?];
        let [first, second] = &files;
        let handles = [first.try_clone().map_err(unmade)?, second.try_clone().map_err(unmade)?];
        let written = pack_into(rootfs, handles, &directory, packing, monitor)?;
        let [first, second] = files.map(|file| Blob::file(file).map(Input::blob));
        let source = ImageSource::split(first.map_err(unmade)?, second.map_err(unmade)?);
        let staged = self.stage(source, options.expected(), None, monitor)?;
        if staged.fingerprint != written.fingerprint {
            let (packed, there) = (written.fingerprint.to_string(), staged.fingerprint.to_string());
            return Err(Error::mismatch("the fingerprint of the image on the disk", packed, there));
        }
        Ok((self.publish_import(staged, options, monitor)?, written))
    }

    /// Imports a unified image that an encoder writes on threads of its own: one of [`pack_to`] or of an OCI image.
    /// It is verified as any other.
    ///
    /// # Errors
    /// Those of `write` and of [`import`](Self::import); the store is as it was then.
    pub fn import_encoded(
        &self,
        options: &ImportOptions,
        monitor: &Monitor,
        write: impl FnOnce(ImportSink) -> Result<Written>,
    ) -> Result<(StoredImage, Written)> {
        self.preflight(options)?;
        // What writes can do that only once, so that the caller has to try again.
        self.stage_encoded(options, monitor, write).map_err(|error| self.make_room(error).0)
    }

    fn stage_encoded(
        &self,
        options: &ImportOptions,
        monitor: &Monitor,
        write: impl FnOnce(ImportSink) -> Result<Written>,
    ) -> Result<(StoredImage, Written)> {
        let staging = ImportSink(Arc::new(Mutex::new(Some(self.scratch.create()?))));
        let written = write(ImportSink(Arc::clone(&staging.0)))?;
        let file = staging.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let file = file.ok_or_else(|| Error::invalid("nothing was packed"))?;
        let staged = self.verify_staged(vec![file], &[None], options.expected(), Some(written.fingerprint), monitor)?;
        Ok((self.publish_import(staged, options, monitor)?, written))
    }
}

/// The file in scratch that an image is written to. The encoder owns it by value and drops it, while the store keeps
/// access.
pub struct ImportSink(Arc<Mutex<Option<StagedFile>>>);

impl std::fmt::Debug for ImportSink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ImportSink").finish_non_exhaustive()
    }
}

impl Write for ImportSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(file) => file.write(bytes),
            None => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(file) => file.flush(),
            None => Ok(()),
        }
    }
}
