//! A disk and a catalog in memory whose every operation can fail, fall short or be the last one.
//! The disk remembers what was synced, so that a power cut can take the rest.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, MutexGuard};

use lxd_image::io::Blob;
use lxd_image::metadata::ImageType;
use lxd_image::store::{
    Alias, AliasPage, AliasQuery, AliasTarget, Area, Attachment, BlobKey, Catalog, DirectoryBlobs, Files, ImagePage,
    ImageQuery, NewFile, Object, Position, Scratch, SqliteCatalog, Store, StoreOptions, StoredImage, Totals,
    Transaction,
};
use lxd_image::{Error, ErrorKind, Fingerprint, FingerprintPrefix, Monitor, Result};
use rustix::fs::MemfdFlags;

/// What happens to one operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It fails with this error of the operating system, and the next ones work.
    Error(i32),
    /// It, and all writing after it, fails: the disk is full.
    Full,
    /// A write takes one byte; anything else is interrupted once.
    Short,
    /// The process is killed before it; what was done stays.
    Kill,
    /// The power goes before it; what was not synced goes as well.
    PowerCut,
    /// The power goes before it; of what was not synced, some stays and some does not.
    TornPowerCut,
}

const CRASH: &str = "the machine stopped here";

struct Inode {
    content: File,
    synced: Vec<u8>,
    /// The life of the process that holds its lock.
    owner: Option<u64>,
}

#[derive(Default)]
struct Disk {
    inodes: BTreeMap<u64, Inode>,
    names: BTreeMap<(Area, String), u64>,
    synced_names: BTreeMap<(Area, String), u64>,
    next: u64,
    life: u64,
    count: u64,
    plan: Option<(u64, Fault)>,
    hit: bool,
    full: bool,
    crashed: bool,
}

/// The disk and the catalog of one simulated machine.
#[derive(Clone)]
pub(crate) struct Machine {
    disk: Arc<Mutex<Disk>>,
    rows: Arc<SqliteCatalog>,
}

impl Machine {
    pub(crate) fn new() -> Self {
        Self { disk: Arc::default(), rows: Arc::new(SqliteCatalog::in_memory().unwrap()) }
    }

    /// Another machine in the same state, on which nothing is going on.
    pub(crate) fn copy(&self) -> Self {
        let copy = Self::new();
        let from = self.disk();
        {
            let mut to = copy.disk();
            (to.names, to.synced_names, to.next) = (from.names.clone(), from.synced_names.clone(), from.next);
            for (number, inode) in &from.inodes {
                let content = File::from(rustix::fs::memfd_create("blob", MemfdFlags::CLOEXEC).unwrap());
                content.write_all_at(&inode.synced, 0).unwrap();
                to.inodes.insert(*number, Inode { content, synced: inode.synced.clone(), owner: None });
            }
        }
        let images = self.rows.images(&ImageQuery::new()).unwrap().images;
        let notes = self.rows.objects(None, 100).unwrap();
        let put = |catalog: &mut dyn Transaction| {
            for image in &images {
                catalog.insert(image)?;
                image.aliases.iter().try_for_each(|alias| catalog.set_alias(alias, &image.target()))?;
            }
            notes.iter().try_for_each(|note| catalog.put_object(note))
        };
        copy.rows.write(&mut { put }).unwrap();
        copy
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap()
    }

    /// Counts operations anew, and lets the `at`-th go wrong.
    pub(crate) fn plan(&self, at: u64, fault: Fault) {
        let mut disk = self.disk();
        (disk.count, disk.plan, disk.hit, disk.full) = (0, Some((at, fault)), false, false);
    }

    /// How many operations there were since the plan was made.
    pub(crate) fn operations(&self) -> u64 {
        self.disk().count
    }

    /// Whether the planned fault came to pass.
    pub(crate) fn was_hit(&self) -> bool {
        self.disk().hit
    }

    pub(crate) fn crashed(&self) -> bool {
        self.disk().crashed
    }

    /// Starts the machine, or its only process, again. Nothing goes wrong any more.
    pub(crate) fn restart(&self) {
        let mut disk = self.disk();
        let fault = disk.plan.take().map(|(_, fault)| fault);
        if disk.crashed && matches!(fault, Some(Fault::PowerCut | Fault::TornPowerCut)) {
            disk.lose_unsynced(fault == Some(Fault::TornPowerCut));
        }
        disk.life += 1;
        (disk.crashed, disk.full, disk.hit) = (false, false, false);
        let Disk { names, inodes, .. } = &mut *disk;
        inodes.retain(|number, _| names.values().any(|other| other == number));
    }

    /// A store on this machine.
    pub(crate) fn open(&self, options: &StoreOptions) -> Store {
        let files = self.files();
        let blobs = Arc::new(DirectoryBlobs::new(Arc::clone(&files)));
        options.open_parts(blobs, self.catalog(), Scratch::new(files, "machine"))
    }

    pub(crate) fn files(&self) -> Arc<dyn Files> {
        Arc::new(SimFiles { disk: Arc::clone(&self.disk), life: self.disk().life })
    }

    pub(crate) fn catalog(&self) -> Arc<dyn Catalog> {
        Arc::new(SimCatalog { disk: Arc::clone(&self.disk), rows: Arc::clone(&self.rows) })
    }

    pub(crate) fn names(&self, area: Area) -> Vec<String> {
        self.disk().names.keys().filter(|(place, _)| *place == area).map(|(_, name)| name.clone()).collect()
    }
}

impl Disk {
    /// One operation: may be the one that goes wrong.
    fn step(&mut self, writes: bool) -> io::Result<bool> {
        if self.crashed {
            return Err(io::Error::other(CRASH));
        }
        if self.full && writes {
            return Err(io::Error::from_raw_os_error(rustix::io::Errno::NOSPC.raw_os_error()));
        }
        self.count += 1;
        let Some((_, fault)) = self.plan.filter(|(at, _)| *at == self.count) else { return Ok(false) };
        self.hit = true;
        match fault {
            Fault::Error(errno) => Err(io::Error::from_raw_os_error(errno)),
            Fault::Full if writes => {
                self.full = true;
                Err(io::Error::from_raw_os_error(rustix::io::Errno::NOSPC.raw_os_error()))
            }
            Fault::Full => Ok(false),
            Fault::Short => Ok(true),
            Fault::Kill | Fault::PowerCut | Fault::TornPowerCut => {
                self.crashed = true;
                Err(io::Error::other(CRASH))
            }
        }
    }

    fn lose_unsynced(&mut self, torn: bool) {
        // Any rule will do that mixes what stays and what goes; this one depends on the names.
        let stays = |key: &(Area, String)| torn && key.1.bytes().fold(0_u8, u8::wrapping_add) % 2 == 0;
        let keys: Vec<_> = self.names.keys().chain(self.synced_names.keys()).cloned().collect();
        for key in keys {
            let (now, synced) = (self.names.get(&key).copied(), self.synced_names.get(&key).copied());
            if now != synced && !stays(&key) {
                match synced {
                    Some(inode) => self.names.insert(key, inode),
                    None => self.names.remove(&key),
                };
            }
        }
        self.synced_names = self.names.clone();
        for inode in self.inodes.values_mut() {
            let length = usize::try_from(inode.content.metadata().unwrap().len()).unwrap();
            let mut content = vec![0; length];
            inode.content.read_exact_at(&mut content, 0).unwrap();
            if content != inode.synced {
                // Torn: the length got there, and every other sector of what was not synced.
                let mut left = inode.synced.clone();
                if torn {
                    left.resize(length, 0);
                    for (index, sector) in content.chunks(512).enumerate().filter(|(index, _)| index % 2 == 0) {
                        left[index * 512..index * 512 + sector.len()].copy_from_slice(sector);
                    }
                }
                inode.content.set_len(0).unwrap();
                inode.content.write_all_at(&left, 0).unwrap();
                inode.synced = left;
            }
        }
    }

    fn find(&self, area: Area, name: &str) -> io::Result<u64> {
        let found = self.names.get(&(area, name.to_owned())).copied();
        found.ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

struct SimFiles {
    disk: Arc<Mutex<Disk>>,
    life: u64,
}

impl SimFiles {
    fn step(&self, writes: bool) -> io::Result<MutexGuard<'_, Disk>> {
        let mut disk = self.disk.lock().unwrap();
        if disk.life != self.life {
            return Err(io::Error::other(CRASH));
        }
        disk.step(writes)?;
        Ok(disk)
    }
}

impl Files for SimFiles {
    fn create(&self) -> io::Result<Box<dyn NewFile>> {
        let mut disk = self.step(true)?;
        disk.next += 1;
        let number = disk.next;
        let name = format!(".new.{number}");
        let content = File::from(rustix::fs::memfd_create("blob", MemfdFlags::CLOEXEC)?);
        disk.inodes.insert(number, Inode { content, synced: Vec::new(), owner: Some(self.life) });
        disk.names.insert((Area::Staging, name.clone()), number);
        Ok(Box::new(SimFile { disk: Arc::clone(&self.disk), life: self.life, number, name, offset: 0 }))
    }

    fn open(&self, area: Area, name: &str) -> io::Result<Blob> {
        let disk = self.step(false)?;
        let number = disk.find(area, name)?;
        // A description of its own, so that its position is its own.
        let path = {
            use std::os::fd::AsRawFd;
            format!("/proc/self/fd/{}", disk.inodes[&number].content.as_raw_fd())
        };
        File::open(path).and_then(Blob::file)
    }

    fn link(&self, staged: &str, blob: &str) -> io::Result<()> {
        let mut disk = self.step(true)?;
        let number = disk.find(Area::Staging, staged)?;
        if disk.find(Area::Blobs, blob).is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        disk.names.insert((Area::Blobs, blob.to_owned()), number);
        Ok(())
    }

    fn rename(&self, from: (Area, &str), to: (Area, &str)) -> io::Result<()> {
        let mut disk = self.step(true)?;
        let number = disk.find(from.0, from.1)?;
        disk.names.remove(&(from.0, from.1.to_owned()));
        disk.names.insert((to.0, to.1.to_owned()), number);
        Ok(())
    }

    fn remove(&self, area: Area, name: &str) -> io::Result<()> {
        let mut disk = self.step(false)?;
        disk.find(area, name)?;
        disk.names.remove(&(area, name.to_owned()));
        Ok(())
    }

    fn names(&self, area: Area) -> io::Result<Vec<String>> {
        let disk = self.step(false)?;
        Ok(disk.names.keys().filter(|(place, _)| *place == area).map(|(_, name)| name.clone()).collect())
    }

    fn sync(&self, area: Area) -> io::Result<()> {
        let mut disk = self.step(false)?;
        disk.synced_names.retain(|(place, _), _| *place != area);
        let now: Vec<_> = disk
            .names
            .iter()
            .filter(|((place, _), _)| *place == area)
            .map(|(key, number)| (key.clone(), *number))
            .collect();
        disk.synced_names.extend(now);
        Ok(())
    }

    fn try_lock_orphan(&self, staged: &str) -> io::Result<Option<Box<dyn Send>>> {
        let disk = self.step(false)?;
        let Ok(number) = disk.find(Area::Staging, staged) else { return Ok(None) };
        let held = disk.inodes[&number].owner == Some(disk.life);
        Ok(if held { None } else { Some(Box::new(())) })
    }
}

struct SimFile {
    disk: Arc<Mutex<Disk>>,
    life: u64,
    number: u64,
    name: String,
    offset: u64,
}

impl SimFile {
    fn step(&self, writes: bool) -> io::Result<(MutexGuard<'_, Disk>, bool)> {
        let mut disk = self.disk.lock().unwrap();
        if disk.life != self.life {
            return Err(io::Error::other(CRASH));
        }
        let short = disk.step(writes)?;
        Ok((disk, short))
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        let mut disk = self.disk.lock().unwrap();
        if disk.life == self.life
            && let Some(inode) = disk.inodes.get_mut(&self.number)
        {
            inode.owner = None;
        }
    }
}

impl Write for SimFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = {
            let (disk, short) = self.step(true)?;
            let most = if short { bytes.len().min(1) } else { bytes.len() };
            disk.inodes[&self.number].content.write_at(&bytes[..most], self.offset)?
        };
        self.offset += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl NewFile for SimFile {
    fn name(&self) -> &str {
        &self.name
    }

    fn reflink(&mut self, _: &Blob) -> io::Result<bool> {
        Ok(false)
    }

    fn sync(&mut self) -> io::Result<()> {
        let (mut disk, _) = self.step(false)?;
        let inode = disk.inodes.get_mut(&self.number).unwrap();
        let mut content = vec![0; usize::try_from(inode.content.metadata()?.len()).unwrap()];
        inode.content.read_exact_at(&mut content, 0)?;
        inode.synced = content;
        Ok(())
    }

    fn reader(&self) -> io::Result<Blob> {
        let (disk, _) = self.step(false)?;
        disk.inodes[&self.number].content.try_clone().and_then(Blob::file)
    }
}

/// A catalog that is durable at its commits, and may stop before or after each.
struct SimCatalog {
    disk: Arc<Mutex<Disk>>,
    rows: Arc<SqliteCatalog>,
}

impl SimCatalog {
    fn step(&self, writes: bool) -> Result<()> {
        let stepped = self.disk.lock().unwrap().step(writes);
        stepped.map(drop).map_err(|error| Error::new(ErrorKind::Io, "the catalog").with_source(error))
    }

    fn read<T>(&self, read: impl FnOnce(&SqliteCatalog) -> Result<T>) -> Result<T> {
        self.step(false)?;
        read(&self.rows)
    }
}

impl Catalog for SimCatalog {
    fn image(&self, fingerprint: &Fingerprint) -> Result<Option<StoredImage>> {
        self.read(|rows| rows.image(fingerprint))
    }

    fn alias(&self, name: &str, image_type: ImageType) -> Result<Option<(Alias, AliasTarget)>> {
        self.read(|rows| rows.alias(name, image_type))
    }

    fn aliases(&self, query: &AliasQuery) -> Result<AliasPage> {
        self.read(|rows| rows.aliases(query))
    }

    fn with_prefix(&self, prefix: &FingerprintPrefix, limit: usize) -> Result<Vec<Fingerprint>> {
        self.read(|rows| rows.with_prefix(prefix, limit))
    }

    fn images(&self, query: &ImageQuery) -> Result<ImagePage> {
        self.read(|rows| rows.images(query))
    }

    fn fingerprints(&self, query: &ImageQuery) -> Result<(Vec<Fingerprint>, Option<Position>)> {
        self.read(|rows| rows.fingerprints(query))
    }

    fn totals(&self, query: &ImageQuery) -> Result<Totals> {
        self.read(|rows| rows.totals(query))
    }

    fn object(&self, key: &BlobKey) -> Result<Option<Object>> {
        self.read(|rows| rows.object(key))
    }

    fn objects(&self, after: Option<&BlobKey>, limit: usize) -> Result<Vec<Object>> {
        self.read(|rows| rows.objects(after, limit))
    }

    fn attachments(&self, fingerprint: &Fingerprint) -> Result<Vec<Attachment>> {
        self.read(|rows| rows.attachments(fingerprint))
    }

    fn attached(&self, prefix: &str) -> Result<BTreeSet<Fingerprint>> {
        self.read(|rows| rows.attached(prefix))
    }

    fn check(&self, monitor: &Monitor) -> Result<Vec<String>> {
        self.read(|rows| rows.check(monitor))
    }

    fn write(&self, work: &mut dyn FnMut(&mut dyn Transaction) -> Result<()>) -> Result<()> {
        // A full disk keeps rows from being added; what removes rows has a reserve.
        let mut grows = true;
        self.step(false)?;
        self.rows.write(&mut |catalog| {
            let mut watched = Watched { catalog, removes: false };
            work(&mut watched)?;
            grows = !watched.removes;
            self.step(grows)
        })?;
        // Committed, and perhaps nobody hears of it.
        self.step(false)
    }
}

/// A transaction that tells whether it gives space back.
struct Watched<'a> {
    catalog: &'a mut dyn Transaction,
    removes: bool,
}

impl Transaction for Watched<'_> {
    fn image(&mut self, fingerprint: &Fingerprint) -> Result<Option<StoredImage>> {
        self.catalog.image(fingerprint)
    }

    fn alias(&mut self, name: &str, image_type: ImageType) -> Result<Option<(Alias, AliasTarget)>> {
        self.catalog.alias(name, image_type)
    }

    fn insert(&mut self, image: &StoredImage) -> Result<()> {
        self.catalog.insert(image)
    }

    fn update(&mut self, image: &StoredImage, expected: u64) -> Result<()> {
        self.catalog.update(image, expected)
    }

    fn set_last_used(&mut self, fingerprint: &Fingerprint, seconds: i64) -> Result<()> {
        self.catalog.set_last_used(fingerprint, seconds)
    }

    fn set_sidecar(&mut self, fingerprint: &Fingerprint, revision: u64, key: &BlobKey) -> Result<bool> {
        self.catalog.set_sidecar(fingerprint, revision, key)
    }

    fn remove(&mut self, fingerprint: &Fingerprint) -> Result<()> {
        self.removes = true;
        self.catalog.remove(fingerprint)
    }

    fn set_alias(&mut self, alias: &Alias, target: &AliasTarget) -> Result<()> {
        self.catalog.set_alias(alias, target)
    }

    fn remove_alias(&mut self, name: &str, image_type: ImageType) -> Result<()> {
        self.removes = true;
        self.catalog.remove_alias(name, image_type)
    }

    fn attachments(&mut self, fingerprint: &Fingerprint) -> Result<Vec<Attachment>> {
        self.catalog.attachments(fingerprint)
    }

    fn attach(&mut self, fingerprint: &Fingerprint, attachment: &Attachment) -> Result<()> {
        self.catalog.attach(fingerprint, attachment)
    }

    fn object(&mut self, key: &BlobKey) -> Result<Option<Object>> {
        self.catalog.object(key)
    }

    fn put_object(&mut self, object: &Object) -> Result<()> {
        self.removes |= matches!(object.state, lxd_image::store::ObjectState::Dead { .. });
        self.catalog.put_object(object)
    }

    fn remove_object(&mut self, key: &BlobKey) -> Result<()> {
        self.removes = true;
        self.catalog.remove_object(key)
    }
}
