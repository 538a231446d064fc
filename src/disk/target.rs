//! [`DiskTarget`]: what a disk is written to, at positions and by several threads.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// What a disk is written to: a file, a block device, or whatever a caller implements it for.
///
/// A [`File`] must be new and empty: what is not written to it is a hole, and reads as zeros. Writes
/// come from several threads, to places that don't overlap.
///
/// ```
/// use lxd_image::disk::DiskTarget;
///
/// # let path = std::env::temp_dir().join(format!("lxd-image-doc-target-{}", std::process::id()));
/// let file = std::fs::File::create_new(&path)?;
/// file.write_bytes(b"boot", 510)?;
/// file.write_zeros(514, 1 << 20)?; // costs nothing
/// file.set_size(1 << 20)?;
/// assert_eq!(std::fs::metadata(&path)?.len(), 1 << 20);
/// # std::fs::remove_file(&path)?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub trait DiskTarget: Send + Sync {
    /// Writes bytes at a position.
    ///
    /// # Errors
    /// Those of the target.
    fn write_bytes(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Makes a range read as zeros. A target that was empty has nothing to do.
    ///
    /// # Errors
    /// Those of the target.
    fn write_zeros(&self, offset: u64, length: u64) -> io::Result<()>;

    /// Sets the size, before anything is written. A target of a fixed size refuses one that it has no room for.
    ///
    /// # Errors
    /// Those of the target.
    fn set_size(&self, size: u64) -> io::Result<()>;
}

impl DiskTarget for File {
    fn write_bytes(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        FileExt::write_all_at(self, bytes, offset)
    }

    fn write_zeros(&self, _: u64, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        self.set_len(size)
    }
}
