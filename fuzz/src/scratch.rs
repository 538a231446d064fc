//! A file without a name for bytes that must be in a file, since SquashFS is read at positions.
//! One for the whole process: a fuzzer never ends by returning, so nobody could remove them.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// A file in memory whose content is replaced from run to run.
#[derive(Debug)]
pub struct Scratch(File);

impl Scratch {
    /// Makes one.
    ///
    /// # Panics
    /// When it can't be made: then nothing can be tested.
    #[must_use]
    pub fn new() -> Self {
        let fast = if Path::new("/dev/shm").is_dir() { Path::new("/dev/shm") } else { Path::new("/tmp") };
        let path = fast.join(format!("lxs-{:06x}", std::process::id()));
        // A process of the same number may have been killed between the next two steps.
        let _ = fs::remove_file(&path);
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path).expect("a file");
        fs::remove_file(&path).expect("its name can be removed");
        Self(file)
    }

    /// The file, with these bytes in it until the next call.
    ///
    /// # Panics
    /// When memory is full.
    #[must_use]
    pub fn file(&self, bytes: &[u8]) -> File {
        self.0.set_len(0).expect("the file can be emptied");
        self.0.write_all_at(bytes, 0).expect("the file can be written");
        self.0.try_clone().expect("the file can be opened again")
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}
