//! `Catalog`: what a store keeps of its images besides their bytes, and how it changes: in transactions.
//! A small trait, so that another database can stand in for SQLite; `conformance` says what it owes.

mod failure;
mod pool;
mod reserve;
mod schema;
mod sqlite;
mod waiting;
mod watch;

pub use sqlite::SqliteCatalog;

use super::image::{Alias, StoredImage};
use crate::error::{Error, Result};
use crate::fingerprint::{Fingerprint, Prefix};

/// The rows of a store: images, aliases, and which images' files are still to be brought in line.
///
/// Readers see the state after the last commit and never wait for a writer.
pub trait Catalog: Send + Sync {
    /// One image with its aliases.
    ///
    /// # Errors
    /// `Malformed` when the catalog is damaged, `Io`.
    fn image(&self, fingerprint: &Fingerprint) -> Result<Option<StoredImage>>;

    /// What an alias points to.
    ///
    /// # Errors
    /// As [`image`](Self::image).
    fn alias(&self, name: &str) -> Result<Option<(Alias, Fingerprint)>>;

    /// The first `most` fingerprints that begin so, in order.
    ///
    /// # Errors
    /// As [`image`](Self::image).
    fn with_prefix(&self, prefix: &Prefix, most: usize) -> Result<Vec<Fingerprint>>;

    /// All images, in the order of their fingerprints.
    ///
    /// # Errors
    /// As [`image`](Self::image).
    fn images(&self) -> Result<Vec<StoredImage>>;

    /// All images that can be read, in the order of their fingerprints. Each row that can't is given to `skipped`, with its
    /// fingerprint or what stands in its place: one bad row does not hide the others from those who list.
    ///
    /// # Errors
    /// `Malformed` when the catalog as a whole is damaged, `Io`.
    fn readable_images(&self, skipped: &mut dyn FnMut(&str, &Error)) -> Result<Vec<StoredImage>> {
        let _ = skipped;
        self.images()
    }

    /// A number that is another one after each change, by whatever process; `None` where there is no such thing. What was made
    /// of the catalog is as it would be made now as long as the number is the same.
    ///
    /// # Errors
    /// `Io`.
    fn version(&self) -> Result<Option<u64>> {
        Ok(None)
    }

    /// The images that are cached, in the order of their fingerprints: those that may expire.
    ///
    /// # Errors
    /// As [`image`](Self::image).
    fn cached_images(&self) -> Result<Vec<StoredImage>> {
        let mut images = self.images()?;
        images.retain(|image| image.cached);
        Ok(images)
    }

    /// The images whose files may differ from what the catalog says.
    ///
    /// # Errors
    /// As [`image`](Self::image).
    fn unsettled(&self) -> Result<Vec<Fingerprint>>;

    /// Looks for damage: one sentence for each.
    ///
    /// # Errors
    /// `Io`, when the catalog can't be read at all.
    fn check(&self) -> Result<Vec<String>>;

    /// Runs `work` in a transaction of its own, alone among all writers of all processes. When it
    /// fails, nothing has changed; when this returns, the change is on the disk. `work` may run
    /// more than once.
    ///
    /// # Errors
    /// `Busy` when other writers took longer than the wait that was set; `Io`, and those of `work`.
    fn write(&self, work: &mut dyn FnMut(&mut dyn Transaction) -> Result<()>) -> Result<()>;

    /// As [`write`](Self::write), for work that gives space back: may use what was kept for a full disk.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    fn write_to_free(&self, work: &mut dyn FnMut(&mut dyn Transaction) -> Result<()>) -> Result<()> {
        self.write(work)
    }
}

/// The catalog as one writer sees and changes it. Every call fails with `Malformed` or `Io`.
pub trait Transaction {
    /// One image with its aliases.
    ///
    /// # Errors
    /// `Malformed`, `Io`.
    fn image(&mut self, fingerprint: &Fingerprint) -> Result<Option<StoredImage>>;

    /// What an alias points to.
    ///
    /// # Errors
    /// `Malformed`, `Io`.
    fn alias(&mut self, name: &str) -> Result<Option<(Alias, Fingerprint)>>;

    /// Adds an image or replaces what is known of it. Its aliases stay as they are.
    ///
    /// # Errors
    /// `Malformed`, `Io`.
    fn put(&mut self, image: &StoredImage) -> Result<()>;

    /// Removes an image and its aliases.
    ///
    /// # Errors
    /// `Malformed`, `Io`.
    fn remove(&mut self, fingerprint: &Fingerprint) -> Result<()>;

    /// Makes an alias, or points it and its description elsewhere. The target must be there.
    ///
    /// # Errors
    /// `Malformed`, `Io`.
    fn set_alias(&mut self, alias: &Alias, target: &Fingerprint) -> Result<()>;

    /// Removes an alias.
    ///
    /// # Errors
    /// `Malformed`, `Io`.
    fn remove_alias(&mut self, name: &str) -> Result<()>;

    /// The images whose files may differ from what the catalog says.
    ///
    /// # Errors
    /// `Malformed`, `Io`.
    fn unsettled(&mut self) -> Result<Vec<Fingerprint>>;

    /// Notes that an image's files have to be brought in line, or that they are.
    ///
    /// # Errors
    /// `Malformed`, `Io`.
    fn set_unsettled(&mut self, fingerprint: &Fingerprint, unsettled: bool) -> Result<()>;
}
