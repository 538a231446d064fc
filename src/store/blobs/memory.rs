//! [`MemoryBlobs`] and [`MemoryFiles`]: blobs and scratch in memory, freed when they are dropped.
//! For tests and short-lived tools.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::ops::Bound;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use rustix::fs::MemfdFlags;

use super::{Area, BlobKey, BlobStore, Files, NewFile};
use crate::error::{Error, ErrorKind, Result};
use crate::io::Blob;
use crate::progress::Monitor;
use crate::store::scratch::StagedFile;

/// The blobs of a store in memory.
///
/// Archived objects stay in memory as well, under [`archived`](Self::archived).
#[derive(Debug, Default)]
pub struct MemoryBlobs {
    objects: RwLock<BTreeMap<BlobKey, Blob>>,
    archived: Mutex<Vec<(BlobKey, Blob)>>,
}

impl MemoryBlobs {
    /// An empty blob store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The keys of all archived objects, in the order in which they were archived.
    #[must_use]
    pub fn archived(&self) -> Vec<BlobKey> {
        self.archived.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|(key, _)| key.clone()).collect()
    }
}

impl BlobStore for MemoryBlobs {
    fn engine(&self) -> &'static str {
        "memory"
    }

    fn put(&self, key: &BlobKey, staged: &mut StagedFile, monitor: &Monitor) -> Result<()> {
        monitor.check()?;
        let bytes = staged.reader()?;
        let mut objects = self.objects.write().unwrap_or_else(PoisonError::into_inner);
        if objects.contains_key(key) {
            return Err(Error::new(ErrorKind::AlreadyExists, format!("the object `{key}` is there already")));
        }
        objects.insert(key.clone(), bytes);
        Ok(())
    }

    fn open(&self, key: &BlobKey) -> Result<Blob> {
        let objects = self.objects.read().unwrap_or_else(PoisonError::into_inner);
        let object = objects
            .get(key)
            .ok_or_else(|| Error::new(ErrorKind::NotFound, format!("the object `{key}` is not in the store")))?;
        Ok(object.clone())
    }

    fn delete(&self, keys: &[BlobKey]) -> Result<()> {
        let mut objects = self.objects.write().unwrap_or_else(PoisonError::into_inner);
        for key in keys {
            objects.remove(key);
        }
        Ok(())
    }

    fn list(&self, after: Option<&BlobKey>, limit: usize) -> Result<Vec<BlobKey>> {
        let objects = self.objects.read().unwrap_or_else(PoisonError::into_inner);
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        Ok(objects.range((start, Bound::Unbounded)).take(limit).map(|(key, _)| key.clone()).collect())
    }

    fn archive(&self, keys: &[BlobKey]) -> Result<()> {
        let mut objects = self.objects.write().unwrap_or_else(PoisonError::into_inner);
        let mut archived = self.archived.lock().unwrap_or_else(PoisonError::into_inner);
        archived.extend(keys.iter().filter_map(|key| objects.remove_entry(key)));
        Ok(())
    }
}

/// Files in memory, without a directory: scratch for a store that leaves nothing behind.
#[derive(Debug, Default)]
pub struct MemoryFiles {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    files: BTreeMap<(Area, String), Arc<File>>,
    /// Staged files whose makers have them, by the addresses of the files.
    locked: Vec<usize>,
    next: u64,
}

impl MemoryFiles {
    /// No files.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn find(&self, area: Area, name: &str) -> io::Result<Arc<File>> {
        self.files.get(&(area, name.to_owned())).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

fn identity(file: &Arc<File>) -> usize {
    Arc::as_ptr(file).addr()
}

impl Files for MemoryFiles {
    fn create(&self) -> io::Result<Box<dyn NewFile>> {
        let file = Arc::new(File::from(rustix::fs::memfd_create("lxd-image", MemfdFlags::CLOEXEC)?));
        let mut state = self.lock();
        state.next += 1;
        let name = format!("new-{}", state.next);
        state.locked.push(identity(&file));
        state.files.insert((Area::Staging, name.clone()), Arc::clone(&file));
        Ok(Box::new(MemoryFile { state: Arc::clone(&self.state), name, file, offset: 0 }))
    }

    fn open(&self, area: Area, name: &str) -> io::Result<Blob> {
        self.lock().find(area, name)?.try_clone().and_then(Blob::file)
    }

    fn link(&self, staged: &str, blob: &str) -> io::Result<()> {
        let mut state = self.lock();
        let file = state.find(Area::Staging, staged)?;
        let key = (Area::Blobs, blob.to_owned());
        if state.files.contains_key(&key) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        state.files.insert(key, file);
        Ok(())
    }

    fn rename(&self, from: (Area, &str), to: (Area, &str)) -> io::Result<()> {
        let mut state = self.lock();
        let file = state.find(from.0, from.1)?;
        state.files.remove(&(from.0, from.1.to_owned()));
        state.files.insert((to.0, to.1.to_owned()), file);
        Ok(())
    }

    fn remove(&self, area: Area, name: &str) -> io::Result<()> {
        let mut state = self.lock();
        state.files.remove(&(area, name.to_owned())).map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn names(&self, area: Area) -> io::Result<Vec<String>> {
        Ok(self.lock().files.keys().filter(|(of, _)| *of == area).map(|(_, name)| name.clone()).collect())
    }

    fn sync(&self, _: Area) -> io::Result<()> {
        Ok(())
    }

    fn try_lock_orphan(&self, staged: &str) -> io::Result<Option<Box<dyn Send>>> {
        let mut state = self.lock();
        let Ok(file) = state.find(Area::Staging, staged) else { return Ok(None) };
        if state.locked.contains(&identity(&file)) {
            return Ok(None);
        }
        state.locked.push(identity(&file));
        Ok(Some(Box::new(Lock { state: Arc::clone(&self.state), file })))
    }
}

struct Lock {
    state: Arc<Mutex<State>>,
    file: Arc<File>,
}

impl Drop for Lock {
    fn drop(&mut self) {
        unlock(&self.state, &self.file);
    }
}

fn unlock(state: &Mutex<State>, file: &Arc<File>) {
    state.lock().unwrap_or_else(PoisonError::into_inner).locked.retain(|locked| *locked != identity(file));
}

struct MemoryFile {
    state: Arc<Mutex<State>>,
    name: String,
    file: Arc<File>,
    offset: u64,
}

impl Drop for MemoryFile {
    fn drop(&mut self) {
        unlock(&self.state, &self.file);
    }
}

impl Write for MemoryFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write_at(bytes, self.offset)?;
        self.offset += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl NewFile for MemoryFile {
    fn name(&self) -> &str {
        &self.name
    }

    fn reflink(&mut self, _: &Blob) -> io::Result<bool> {
        Ok(false)
    }

    fn skip(&mut self, bytes: u64) -> io::Result<()> {
        self.offset = self.offset.checked_add(bytes).ok_or(io::ErrorKind::FileTooLarge)?;
        self.file.set_len(self.offset)
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn reader(&self) -> io::Result<Blob> {
        self.file.try_clone().and_then(Blob::file)
    }
}
