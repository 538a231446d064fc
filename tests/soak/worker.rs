//! One process of the soak: four threads that import, move aliases, delete, read, prune and sweep, and log each
//! call before it begins and after it has ended.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use lxd_image::format::{ImageSource, Input};
use lxd_image::store::{
    Alias, ImportOptions, ObjectBlobs, ObjectOptions, PostgresCatalog, PostgresOptions, PruneOptions, Scratch, Store,
    StoreOptions,
};
use lxd_image::{Error, ErrorKind, Fingerprint, Hasher, Monitor, Result};

use crate::tar::member;

/// Writers of one process.
pub(crate) const THREADS: usize = 4;
/// Images of each thread, which no other one touches.
const OWN: usize = 4;
/// Images that all threads quarrel about, and aliases of these.
const SHARED: usize = 6;
const SHARED_ALIASES: usize = 3;
/// Images of the cache.
const CACHED: usize = 2;
/// For how long deleted objects stay.
pub(crate) const GRACE: Duration = Duration::from_secs(2);
/// A read that takes longer may find its object gone: the clock has seconds, and may lag by one.
const READ_BOUND: u64 = 1_000_000_000;
/// The id of the store.
pub(crate) const ID: &str = "soak-store";

/// Where the store is.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) directory: PathBuf,
    pub(crate) catalog: String,
    pub(crate) blobs: String,
    pub(crate) options: ObjectOptions,
}

/// Nanoseconds of a clock that is the same for all processes of this machine.
pub(crate) fn now() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    u64::try_from(time.tv_sec).unwrap() * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap()
}

impl Place {
    pub(crate) fn catalog(&self) -> Result<Arc<PostgresCatalog>> {
        let options = PostgresOptions::new().store_id(ID).pool_size(THREADS);
        PostgresCatalog::connect(&self.catalog, &options).map(Arc::new)
    }

    pub(crate) fn blobs(&self) -> Result<Arc<ObjectBlobs>> {
        let blobs = ObjectBlobs::connect(&self.blobs, &self.options.clone().grace(GRACE).probe(false))?;
        blobs.bind(ID)?;
        Ok(Arc::new(blobs))
    }

    /// Opens the store on one of the machines, which sweeps what a dead process of that machine left.
    pub(crate) fn open(&self, machine: usize) -> Result<Store> {
        let scratch = Scratch::directory(self.directory.join(format!("scratch-{machine}")))?;
        Ok(StoreOptions::new().threads(1).open_parts(self.blobs()?, self.catalog()?, scratch))
    }

    pub(crate) fn log(&self, process: usize, thread: usize) -> PathBuf {
        self.directory.join(format!("log-{process}-{thread}"))
    }

    pub(crate) fn stop(&self) -> PathBuf {
        self.directory.join("stop")
    }
}

pub(crate) fn own(process: usize, thread: usize) -> Vec<String> {
    (0..OWN).map(|number| format!("own-{process}-{thread}-{number}")).collect()
}

pub(crate) fn own_alias(process: usize, thread: usize) -> String {
    format!("alias-{process}-{thread}")
}

pub(crate) fn shared() -> Vec<String> {
    (0..SHARED).map(|number| format!("shared-{number}")).collect()
}

pub(crate) fn cached() -> Vec<String> {
    (0..CACHED).map(|number| format!("cached-{number}")).collect()
}

pub(crate) fn shared_aliases() -> Vec<String> {
    (0..SHARED_ALIASES).map(|number| format!("shared-alias-{number}")).collect()
}

/// A few images are larger than a part of an upload in several parts.
fn is_large(tag: &str) -> bool {
    tag == "shared-5" || tag.starts_with("own-") && tag.ends_with("-0-3")
}

/// The bytes of an image.
pub(crate) fn image(tag: &str) -> Vec<u8> {
    let metadata = format!("architecture: amd64\ncreation_date: 1700000000\nproperties:\n  tag: {tag}\n");
    let mut out = Vec::new();
    member(&mut out, "metadata.yaml", b'0', metadata.as_bytes());
    member(&mut out, "rootfs/", b'5', b"");
    member(
        &mut out,
        "rootfs/tag",
        b'0',
        &crate::servers::pattern(if is_large(tag) { 6 << 20 } else { 2_000 }, tag.len() as u64),
    );
    out.resize(out.len() + 1024, 0);
    out
}

/// A call, as it stands in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Call {
    Import(String, Option<String>),
    Delete(String),
    Move(String, String),
    Read(String),
    Resolve(String),
    Prune,
    Sweep,
}

impl Call {
    fn text(&self) -> String {
        match self {
            Self::Import(tag, alias) => format!("import {tag} {}", alias.as_deref().unwrap_or("-")),
            Self::Delete(tag) => format!("delete {tag}"),
            Self::Move(alias, tag) => format!("move {alias} {tag}"),
            Self::Read(tag) => format!("read {tag}"),
            Self::Resolve(alias) => format!("resolve {alias}"),
            Self::Prune => "prune".to_owned(),
            Self::Sweep => "sweep".to_owned(),
        }
    }

    pub(crate) fn parse(text: &str) -> Self {
        let words: Vec<&str> = text.split(' ').collect();
        match *words {
            ["import", tag, alias] => Self::Import(tag.to_owned(), (alias != "-").then(|| alias.to_owned())),
            ["delete", tag] => Self::Delete(tag.to_owned()),
            ["move", alias, tag] => Self::Move(alias.to_owned(), tag.to_owned()),
            ["read", tag] => Self::Read(tag.to_owned()),
            ["resolve", alias] => Self::Resolve(alias.to_owned()),
            ["prune"] => Self::Prune,
            ["sweep"] => Self::Sweep,
            _ => panic!("`{text}` is no call"),
        }
    }
}

/// Good enough to choose by.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound as u64).unwrap()
    }

    fn of<'a>(&mut self, all: &'a [String]) -> &'a String {
        &all[self.below(all.len())]
    }
}

struct Worker {
    store: Store,
    place: Place,
    process: usize,
    log: File,
    random: Random,
    own: Vec<String>,
    own_aliases: Vec<String>,
    shared: Vec<String>,
    shared_aliases: Vec<String>,
    cached: Vec<String>,
    tags: BTreeMap<Fingerprint, String>,
    fingerprints: BTreeMap<String, Fingerprint>,
}

/// Works until the file that stops it is there, or this process is killed.
pub(crate) fn work(place: &Place, process: usize, seed: u64) {
    let store = place.open(process).unwrap();
    std::thread::scope(|threads| {
        for thread in 0..THREADS {
            let (store, place) = (store.clone(), place.clone());
            threads.spawn(move || {
                let log = OpenOptions::new().append(true).create(true).open(place.log(process, thread)).unwrap();
                let mut worker = Worker {
                    log,
                    random: Random((seed ^ (thread as u64 + 1) << 32) | 1),
                    own: own(process, thread),
                    own_aliases: vec![own_alias(process, thread)],
                    shared: shared(),
                    shared_aliases: shared_aliases(),
                    cached: cached(),
                    tags: BTreeMap::new(),
                    fingerprints: BTreeMap::new(),
                    store,
                    place,
                    process,
                };
                for tag in worker.own.iter().chain(&worker.shared).chain(&worker.cached) {
                    let fingerprint = Fingerprint::of(&image(tag));
                    worker.tags.insert(fingerprint, tag.clone());
                    worker.fingerprints.insert(tag.clone(), fingerprint);
                }
                while !worker.place.stop().exists() {
                    let call = worker.choose();
                    worker.run(&call);
                }
            });
        }
    });
}

impl Worker {
    fn choose(&mut self) -> Call {
        let random = &mut self.random;
        let kind = random.below(100);
        let is_own = random.below(2) == 0;
        let tags = if is_own { &self.own } else { &self.shared };
        let (tag, aliases) = (random.of(tags).clone(), if is_own { &self.own_aliases } else { &self.shared_aliases });
        let alias = random.of(aliases).clone();
        match kind {
            // Seldom, for the servers of the tests keep all objects in memory, also deleted ones for some time.
            0..30 if is_large(&tag) && random.below(4) > 0 => Call::Read(tag),
            0..30 => Call::Import(tag, (random.below(3) == 0).then_some(alias)),
            30..45 => Call::Delete(tag),
            45..60 => Call::Move(alias, tag),
            60..75 => Call::Read(tag),
            75..90 => Call::Resolve(alias),
            90..94 => Call::Import(random.of(&self.cached).clone(), None),
            94..98 => Call::Prune,
            _ => Call::Sweep,
        }
    }

    fn write(&mut self, line: &str) {
        // One write: the kernel has the line, or none of it, whenever this process is killed.
        self.log.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    fn run(&mut self, call: &Call) {
        let begin = now();
        self.write(&format!("B {begin} {}", call.text()));
        let answer = match self.perform(call) {
            Ok(answer) => answer,
            Err(error) if error.kind() == ErrorKind::AlreadyExists && matches!(call, Call::Import(..)) => {
                "exists".to_owned()
            }
            Err(error) if error.kind() == ErrorKind::NotFound && !matches!(call, Call::Import(..)) => {
                "absent".to_owned()
            }
            Err(error) if matches!(call, Call::Read(_)) && now() - begin > READ_BOUND => {
                format!("failed late {:?} {error}", error.kind())
            }
            Err(error) => format!("failed {:?} {error}", error.kind()),
        };
        self.write(&format!("E {} {}", now(), answer.replace('\n', " ")));
    }

    fn perform(&self, call: &Call) -> Result<String> {
        match call {
            Call::Import(tag, alias) => {
                let mut options = ImportOptions::new().reuse_aliases(true);
                if tag.starts_with("cached") {
                    options = options.cached(true).expires_at(1);
                }
                if let Some(alias) = alias {
                    options = options.alias(Alias::new(alias)?);
                }
                let bytes = std::io::Cursor::new(image(tag));
                self.store.import(ImageSource::unified(Input::stream(bytes)), &options, &Monitor::none())?;
            }
            Call::Delete(tag) => _ = self.store.delete(&self.fingerprints[tag])?,
            Call::Move(alias, tag) => self.store.move_alias(&Alias::new(alias)?, &self.fingerprints[tag])?,
            Call::Read(tag) => {
                let fingerprint = self.fingerprints[tag];
                let found = hash(&self.store, &fingerprint)?;
                if found != fingerprint {
                    return Err(Error::new(ErrorKind::Mismatch, "other bytes than those of the fingerprint"));
                }
            }
            Call::Resolve(alias) => {
                let (_, target) = self.store.alias(alias)?;
                return Ok(format!("ok {}", self.tags[&target.fingerprint]));
            }
            Call::Prune => {
                let pruned = self.store.prune(&PruneOptions::default(), &Monitor::none())?.images;
                let tags = pruned.iter().map(|(image, _)| format!(" {}", self.tags[&image.fingerprint]));
                return Ok(format!("ok{}", tags.collect::<String>()));
            }
            Call::Sweep => drop(self.place.open(self.process)?),
        }
        Ok("ok".to_owned())
    }
}

/// Reads all bytes of a unified image.
pub(crate) fn hash(store: &Store, fingerprint: &Fingerprint) -> Result<Fingerprint> {
    let opened = store.open_image(fingerprint)?;
    let mut hasher = Hasher::new();
    let mut reader = opened.files().0.reader();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match reader.read(&mut buffer)? {
            0 => return Ok(hasher.finish()),
            count => hasher.update(&buffer[..count]),
        }
    }
}

/// Ends this process when the one that started it is gone.
pub(crate) fn end_with_the_parent() {
    std::thread::spawn(|| {
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(3);
    });
}

/// The path of a file of credentials for the server of the tests, which takes any.
pub(crate) fn options(endpoint: &str, credentials: &Path) -> ObjectOptions {
    ObjectOptions::new()
        .endpoint(endpoint)
        .allow_http(true)
        .credentials_file(credentials)
        .part_bytes(5 << 20)
        .idle_timeout(Duration::from_secs(20))
}
