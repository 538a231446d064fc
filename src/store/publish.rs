//! Publish: bytes that a program makes on the spot become an image, without a file of their own before.
//! Packing a tree writes straight into the store's staging.

use std::io::Write;

use super::image::StoredImage;
use super::import::ImportOptions;
use super::open::Store;
use super::stage::Incoming;
use crate::error::Result;

impl Store {
    /// Imports a unified image that `write` writes. It is verified as any other.
    ///
    /// # Errors
    /// Those of `write` and of [`import`](Self::import); the store is as it was then.
    pub fn import_written(
        &self,
        options: &ImportOptions,
        write: impl FnOnce(&mut (dyn Write + Send)) -> Result<()>,
    ) -> Result<StoredImage> {
        self.may_import(options)?;
        let mut incoming = Incoming::create(&self.blobs)?;
        write(&mut incoming)?;
        let arrived = self.verify_staged(vec![incoming], &[None], options.expected(), None, options.watch())?;
        self.admit_import(arrived, options)
    }
}
