//! Soak: processes of several writers on one PostgreSQL and one bucket, killed at random and started again. At the
//! end nothing that was acknowledged is lost, every image is whole, every read agrees with the history of its
//! alias or image, and nothing is left that no row names.
//!
//! Takes about 20 seconds with two processes on moto. `LXD_IMAGE_SOAK_MINUTES` and `LXD_IMAGE_SOAK_PROCESSES` make it
//! longer and larger; then the bucket is one of Ceph's gateway, where that is installed.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[allow(dead_code, reason = "the tests of the catalog use all of it")]
#[path = "../postgres/cluster.rs"]
mod cluster;
#[cfg(feature = "cli")]
mod command_line;
mod history;
#[allow(dead_code, reason = "the tests of the blobs use all of it")]
#[path = "../object_store/servers.rs"]
mod servers;
#[path = "../it/store/tar.rs"]
mod tar;
mod worker;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use lxd_image::store::{
    BlobStore, Catalog, CheckOptions, ImageQuery, ObjectBlobs, PostgresCatalog, PostgresOptions, Store,
};
use lxd_image::{ErrorKind, Fingerprint, Monitor};

use self::history::{NEVER, Read, Register, Write};
use self::worker::{Call, GRACE, ID, Place, Random, THREADS, now};

/// How long a change of a killed process may take until it shows, in nanoseconds: what is on its way to a server
/// when its process dies may be done by the server.
const IN_FLIGHT: u64 = 15_000_000_000;
/// The name of the test that is a process of the soak.
const WORKER: &str = "process_of_the_soak";

fn variable(name: &str) -> String {
    std::env::var(format!("LXD_IMAGE_SOAK_{name}")).unwrap()
}

/// Does nothing, but in a process that the next test starts.
#[test]
fn process_of_the_soak() {
    let Ok(directory) = std::env::var("LXD_IMAGE_SOAK_DIRECTORY") else { return };
    worker::end_with_the_parent();
    let place = Place {
        directory: PathBuf::from(directory),
        catalog: variable("CATALOG"),
        blobs: variable("BLOBS"),
        options: worker::options(&variable("ENDPOINT"), Path::new(&variable("CREDENTIALS"))),
    };
    worker::work(&place, variable("PROCESS").parse().unwrap(), variable("SEED").parse().unwrap());
}

/// The processes, with the moments at which each was killed.
struct Fleet<'a> {
    place: &'a Place,
    endpoint: &'a str,
    credentials: PathBuf,
    children: Vec<Child>,
    kills: Vec<Vec<u64>>,
    random: Random,
}

impl Fleet<'_> {
    fn spawn(&mut self, process: usize) -> Child {
        let set =
            |command: &mut Command, name: &str, value: &str| _ = command.env(format!("LXD_IMAGE_SOAK_{name}"), value);
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", WORKER, "--nocapture", "--test-threads=1"]);
        set(&mut command, "DIRECTORY", self.place.directory.to_str().unwrap());
        set(&mut command, "CATALOG", &self.place.catalog);
        set(&mut command, "BLOBS", &self.place.blobs);
        set(&mut command, "ENDPOINT", self.endpoint);
        set(&mut command, "CREDENTIALS", self.credentials.to_str().unwrap());
        set(&mut command, "PROCESS", &process.to_string());
        set(&mut command, "SEED", &self.random.below(usize::MAX).to_string());
        let errors = fs::OpenOptions::new().append(true).create(true).open(self.errors(process)).unwrap();
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(errors).spawn().unwrap()
    }

    fn errors(&self, process: usize) -> PathBuf {
        self.place.directory.join(format!("errors-{process}"))
    }

    fn assert_running(&mut self) {
        for process in 0..self.children.len() {
            if let Some(status) = self.children[process].try_wait().unwrap() {
                panic!(
                    "process {process} ended by itself, {status}: {}",
                    fs::read_to_string(self.errors(process)).unwrap()
                );
            }
        }
    }

    /// Kills processes at random and starts them again, until the time is over, or somebody makes the file that stops
    /// them. Returns how long that was.
    fn run(&mut self, processes: usize, duration: Duration) -> Duration {
        for process in 0..processes {
            let child = self.spawn(process);
            self.children.push(child);
            self.kills.push(Vec::new());
        }
        let begin = Instant::now();
        while begin.elapsed() < duration && !self.place.stop().exists() {
            std::thread::sleep(Duration::from_millis(500 + self.random.below(3_000) as u64));
            self.assert_running();
            let victim = self.random.below(processes);
            self.children[victim].kill().unwrap();
            self.children[victim].wait().unwrap();
            self.kills[victim].push(now());
            std::thread::sleep(Duration::from_millis(self.random.below(500) as u64));
            self.children[victim] = self.spawn(victim);
        }
        let worked = begin.elapsed();
        fs::write(self.place.stop(), "").unwrap();
        let until = Instant::now() + Duration::from_secs(120);
        for (process, child) in self.children.iter_mut().enumerate() {
            while child.try_wait().unwrap().is_none() {
                assert!(Instant::now() < until, "process {process} does not end");
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        for process in 0..processes {
            let status = self.children[process].wait().unwrap();
            let errors = fs::read_to_string(self.errors(process)).unwrap();
            assert!(status.success(), "process {process}, {status}: {errors}");
        }
        worked
    }
}

impl Drop for Fleet<'_> {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// All that the logs say.
#[derive(Default)]
struct History {
    /// The presence of each image, and the target of each alias.
    images: BTreeMap<String, Register>,
    aliases: BTreeMap<String, Register>,
    calls: BTreeMap<&'static str, u64>,
    interrupted: u64,
    failures: BTreeMap<String, u64>,
    /// Failures that no order of calls excuses.
    broken: Vec<String>,
}

impl History {
    fn image(&mut self, tag: &str) -> &mut Register {
        self.images.entry(tag.to_owned()).or_default()
    }

    fn alias(&mut self, name: &str) -> &mut Register {
        self.aliases.entry(name.to_owned()).or_default()
    }

    /// Adds the log of a thread; `kills` are the moments at which its process was killed.
    fn add(&mut self, text: &str, kills: &[u64], all_aliases: &dyn Fn(&str) -> Vec<String>) {
        let mut begun: Option<(u64, Call)> = None;
        let killed = |begin: u64| kills.iter().find(|kill| **kill > begin).map_or(NEVER, |kill| kill + IN_FLIGHT);
        for line in text.lines().chain(["end"]) {
            let Some(rest) = line.strip_prefix("E ") else {
                if let Some((begin, call)) = begun.take() {
                    self.interrupted += 1;
                    self.answer(&call, "killed", (begin, killed(begin)), all_aliases);
                }
                if let Some((time, call)) = line.strip_prefix("B ").and_then(|rest| rest.split_once(' ')) {
                    begun = Some((time.parse().unwrap(), Call::parse(call)));
                }
                continue;
            };
            let (end, answer) = rest.split_once(' ').unwrap();
            let (begin, call) = begun.take().unwrap();
            self.answer(&call, answer, (begin, end.parse().unwrap()), all_aliases);
        }
    }

    fn answer(
        &mut self,
        call: &Call,
        answer: &str,
        (begin, end): (u64, u64),
        all_aliases: &dyn Fn(&str) -> Vec<String>,
    ) {
        let name = match call {
            Call::Import(..) => "import",
            Call::Delete(_) => "delete",
            Call::Move(..) => "move",
            Call::Read(_) => "read",
            Call::Resolve(_) => "resolve",
            Call::Prune => "prune",
            Call::Sweep => "sweep",
        };
        let known = !answer.starts_with("failed") && answer != "killed";
        if let Some(failure) = answer.strip_prefix("failed ") {
            let kind: Vec<&str> = failure.split(' ').take(1 + usize::from(failure.starts_with("late"))).collect();
            *self.failures.entry(format!("{name}: {}", kind.join(" "))).or_default() += 1;
            let excused = ["Transient", "Busy", "late"].iter().any(|kind| failure.starts_with(kind));
            if !excused {
                self.broken.push(format!("{call:?} failed: {failure}"));
            }
        } else if known {
            *self.calls.entry(name).or_default() += 1;
        }
        let there = Some("there".to_owned());
        // What failed has taken effect soon after, or never.
        let last = if known || answer == "killed" { end } else { end + IN_FLIGHT };
        let write = |value: Option<String>| Write { value, begin, end: last, acknowledged: known };
        let read = |value: Option<String>| Read { value, begin, end };
        match (call, answer) {
            (Call::Import(tag, _), "exists") => self.image(tag).reads.push(read(there)),
            (Call::Import(tag, alias), _) => {
                self.image(tag).writes.push(write(there));
                if let Some(alias) = alias {
                    self.alias(alias).writes.push(write(Some(tag.clone())));
                }
            }
            (Call::Delete(tag), "absent") => self.image(tag).reads.push(read(None)),
            (Call::Delete(tag), _) => {
                self.image(tag).writes.push(write(None));
                // An alias that points to it goes with it.
                for alias in all_aliases(tag) {
                    self.alias(&alias).writes.push(Write { acknowledged: false, ..write(None) });
                }
            }
            (Call::Move(_, tag) | Call::Read(tag), "absent") => self.image(tag).reads.push(read(None)),
            (Call::Move(alias, tag), _) => {
                if known {
                    self.image(tag).reads.push(read(there));
                }
                self.alias(alias).writes.push(write(Some(tag.clone())));
            }
            (Call::Read(tag), _) if known => self.image(tag).reads.push(read(there)),
            (Call::Resolve(alias), "absent") => self.alias(alias).reads.push(read(None)),
            (Call::Resolve(alias), _) if known => {
                let tag = answer.strip_prefix("ok ").unwrap();
                self.alias(alias).reads.push(read(Some(tag.to_owned())));
                self.image(tag).reads.push(read(there));
            }
            (Call::Prune, _) if known => {
                for tag in answer.split(' ').skip(1) {
                    self.image(tag).writes.push(write(None));
                }
            }
            (Call::Prune, _) => worker::cached().iter().for_each(|tag| self.image(tag).writes.push(write(None))),
            (Call::Read(_) | Call::Resolve(_) | Call::Sweep, _) => {}
        }
    }

    /// Adds what the store shows at the end.
    fn look(&mut self, store: &Store, tags: &[String], aliases: &[String]) {
        let by_fingerprint: BTreeMap<Fingerprint, &String> =
            tags.iter().map(|tag| (Fingerprint::of(&worker::image(tag)), tag)).collect();
        for (fingerprint, tag) in &by_fingerprint {
            let begin = now();
            let value = match worker::hash(store, fingerprint) {
                Ok(found) if found == *fingerprint => Some("there".to_owned()),
                Err(error) if error.kind() == ErrorKind::NotFound => None,
                wrong => return self.broken.push(format!("{tag} is not whole at the end: {wrong:?}")),
            };
            self.image(tag).reads.push(Read { value, begin, end: now() });
        }
        for alias in aliases {
            let begin = now();
            let value = match store.alias(alias) {
                Ok((_, target)) => Some(by_fingerprint[&target.fingerprint].clone()),
                Err(error) if error.kind() == ErrorKind::NotFound => None,
                Err(error) => return self.broken.push(format!("the alias {alias} can't be read: {error}")),
            };
            self.alias(alias).reads.push(Read { value, begin, end: now() });
        }
    }

    /// How many reads are wrong, of images and of aliases, and what they are.
    fn violations(&self) -> (usize, usize, String) {
        let mut text = String::new();
        let mut count = |registers: &BTreeMap<String, Register>| {
            let mut count = 0;
            for (name, register) in registers {
                for read in register.violations() {
                    let _ = writeln!(text, "{name}: {read:?}");
                    count += 1;
                }
            }
            count
        };
        (count(&self.images), count(&self.aliases), text)
    }

    fn operations(&self) -> u64 {
        self.calls.values().sum()
    }
}

/// What the bucket has that no row names, and what the catalog notes, once all processes have ended.
fn leftovers(blobs: &ObjectBlobs, catalog: &PostgresCatalog, server: &servers::Server, place: &Place) -> Vec<String> {
    let mut named = Vec::new();
    let mut query = ImageQuery::new();
    loop {
        let page = catalog.images(&query).unwrap();
        named.extend(page.images.iter().flat_map(|image| image.objects.keys().cloned().collect::<Vec<_>>()));
        match page.next {
            Some(next) => query = ImageQuery::new().after(Some(next)),
            None => break,
        }
    }
    named.sort();
    let found = blobs.list(None, 100_000).unwrap();
    let mut left: Vec<String> = Vec::new();
    left.extend(found.iter().filter(|key| named.binary_search(key).is_err()).map(|key| format!("object {key}")));
    left.extend(named.iter().filter(|key| found.binary_search(key).is_err()).map(|key| format!("missing {key}")));
    left.extend(catalog.objects(None, 1_000).unwrap().iter().map(|note| format!("note {note:?}")));
    let prefix = place.blobs.strip_prefix("s3://lxd-image/").unwrap();
    let uploads = server.request("GET", &format!("/lxd-image?prefix={prefix}&uploads="));
    assert!(uploads.contains("ListMultipartUploadsResult"), "{uploads}");
    left.extend((0..uploads.matches("<UploadId>").count()).map(|_| "unfinished upload".to_owned()));
    left
}

#[test]
fn nothing_acknowledged_is_lost_and_nothing_is_left_after_a_soak_with_kills() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<f64>().unwrap());
    let minutes = number("LXD_IMAGE_SOAK_MINUTES");
    let processes = number("LXD_IMAGE_SOAK_PROCESSES").unwrap_or(2.0) as usize;
    let duration = Duration::from_secs_f64(minutes.map_or(10.0, |minutes| minutes * 60.0));
    let Some(cluster) = cluster::Cluster::start("max_connections = 200") else { return };
    let server = if minutes.is_some() { servers::radosgw().or_else(servers::moto) } else { servers::moto() };
    let Some(server) = server else { return };
    let directory = std::env::temp_dir().join(format!("lxi-soak-{}", std::process::id()));
    fs::create_dir(&directory).unwrap();
    let credentials = servers::credentials("AK", "SK");
    let database = cluster.database();
    let place = Place {
        directory: directory.clone(),
        catalog: cluster.tcp_url(&database, cluster.port),
        blobs: servers::prefix(),
        options: worker::options(&server.endpoint, &credentials),
    };
    PostgresCatalog::init(&place.catalog, ID, &PostgresOptions::new()).unwrap();
    ObjectBlobs::connect(&place.blobs, &place.options).unwrap().init(ID).unwrap();

    let mut fleet = Fleet {
        place: &place,
        endpoint: &server.endpoint,
        credentials,
        children: Vec::new(),
        kills: Vec::new(),
        random: Random(now() | 1),
    };
    let duration = fleet.run(processes, duration);

    let mut history = History::default();
    let (mut tags, mut aliases) = ([worker::shared(), worker::cached()].concat(), worker::shared_aliases());
    for process in 0..processes {
        for thread in 0..THREADS {
            let log = fs::read_to_string(place.log(process, thread)).unwrap();
            history.add(&log, &fleet.kills[process], &|tag| match tag {
                _ if tag.starts_with("own") => vec![worker::own_alias(process, thread)],
                _ => worker::shared_aliases(),
            });
            tags.extend(worker::own(process, thread));
            aliases.push(worker::own_alias(process, thread));
        }
    }
    // Each machine sweeps what its last process left; what it found dead goes after the grace.
    for _ in 0..3 {
        for process in 0..processes {
            drop(place.open(process).unwrap());
        }
        std::thread::sleep(GRACE + Duration::from_secs(1));
    }
    let store = place.open(0).unwrap();
    history.look(&store, &tags, &aliases);
    let report = store.check(&CheckOptions::new(), &Monitor::none()).unwrap();
    let left = leftovers(&place.blobs().unwrap(), &place.catalog().unwrap(), server, &place);
    let (lost, stale, text) = history.violations();
    let kills: usize = fleet.kills.iter().map(Vec::len).sum();
    println!(
        "{:.1} minutes, {processes} processes with {THREADS} writers each, on {}: {} operations {:?}, {kills} kills, {} \
         operations interrupted, {} images at the end; {lost} wrong reads of images, {stale} of aliases, {} left over; \
         failures: {:?}",
        duration.as_secs_f64() / 60.0,
        server.name,
        history.operations(),
        history.calls,
        history.interrupted,
        report.images,
        left.len(),
        history.failures
    );
    assert!(history.broken.is_empty(), "{:?}", history.broken);
    assert_eq!((lost, stale), (0, 0), "{text}");
    assert!(report.is_clean(), "{:?}", report.findings);
    assert!(left.is_empty(), "left over: {left:?}");
    assert!(history.operations() > 0);
    fs::remove_dir_all(directory).unwrap();
}

#[test]
fn interrupted_call_of_a_log_may_have_happened() {
    let mut history = History::default();
    history.add("B 10 import a -\nB 100 read a\nE 200 absent", &[50], &|_| Vec::new());
    assert_eq!((history.interrupted, history.violations().0), (1, 0));
}

#[test]
fn lost_import_of_a_log_is_found() {
    let mut history = History::default();
    history.add("B 10 import a -\nE 20 ok\nB 100 read a\nE 200 absent", &[], &|_| Vec::new());
    assert_eq!(history.violations().0, 1);
}

#[test]
fn alias_of_a_deleted_image_in_a_log_is_found() {
    let mut history = History::default();
    let log = "B 10 import a x\nE 20 ok\nB 30 delete a\nE 40 ok\nB 50 resolve x\nE 60 ok a";
    history.add(log, &[], &|_| vec!["x".to_owned()]);
    assert_eq!(history.violations().0, 1);
}
