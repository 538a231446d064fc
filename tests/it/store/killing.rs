//! Four processes at mixed work, killed at a random moment, again and again: what they acknowledged is
//! there, what they had begun is there or not, and nothing else. `LXD_IMAGE_KILL_ROUNDS` sets how often.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use lxd_image::store::{Edit, ImportOptions, PruneOptions, Store, StoreOptions};
use lxd_image::{ErrorKind, Monitor};

use super::*;

const PROCESSES: u64 = 4;
const TAGS: u64 = 4;

/// One process's images, each with its edited property, and where its alias points.
#[derive(Debug, Clone, Default, PartialEq)]
struct Model {
    images: BTreeMap<u64, u64>,
    alias: Option<u64>,
}

#[derive(Debug, Clone, Copy)]
enum Op {
    Import(u64, u64),
    Edit(u64, u64),
    Delete(u64),
    Alias(u64),
}

impl Model {
    fn apply(&mut self, op: Op) {
        match op {
            Op::Import(tag, value) => {
                self.images.insert(tag, value);
                self.alias = Some(tag);
            }
            Op::Edit(tag, value) => drop(self.images.insert(tag, value)),
            Op::Delete(tag) => {
                self.images.remove(&tag);
                self.alias = self.alias.filter(|target| *target != tag);
            }
            Op::Alias(tag) => self.alias = Some(tag),
        }
    }

    fn of(store: &Store, process: u64) -> Self {
        let mut model = Self::default();
        for tag in 0..TAGS {
            if let Ok(image) = store.image(&fingerprint(&own(process, tag))) {
                model.images.insert(tag, image.properties.get("value").unwrap().parse().unwrap());
                if image.aliases.iter().any(|alias| alias.name == format!("process-{process}")) {
                    model.alias = Some(tag);
                }
            }
        }
        model
    }
}

fn own(process: u64, tag: u64) -> String {
    format!("process-{process}-{tag}")
}

/// Good enough to choose by, and the same everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

fn work(path: &Path, process: u64, seed: u64, log: &Path) {
    let store = StoreOptions::new().busy_timeout(Duration::from_secs(60)).open(path).unwrap();
    let mut log = fs::OpenOptions::new().append(true).create(true).open(log).unwrap();
    let mut random = Random(seed | 1);
    let mut model = Model::of(&store, process);
    let alias = alias(&format!("process-{process}"));
    loop {
        let (tag, value) = (random.below(TAGS), random.below(1_000_000));
        let op = match (model.images.contains_key(&tag), random.below(3)) {
            (false, _) => Op::Import(tag, value),
            (true, 0) => Op::Edit(tag, value),
            (true, 1) => Op::Delete(tag),
            (true, _) => Op::Alias(tag),
        };
        let image = fingerprint(&own(process, tag));
        // One write each: it is there or not, whenever the process dies.
        log.write_all(format!("begin {op:?}\n").as_bytes()).unwrap();
        match op {
            Op::Import(tag, value) => {
                let options = ImportOptions::new().alias(alias.clone()).reuse_aliases(true);
                let options = options.property("value", value.to_string()).unwrap();
                store.import(stream(unified(&own(process, tag))), &options, &Monitor::none()).map(drop).unwrap();
            }
            Op::Edit(_, value) => {
                let edit = Edit::new().property("value", value.to_string()).unwrap();
                store.edit(&image, &edit, None).map(drop).unwrap();
            }
            Op::Delete(_) => store.delete(&image).map(drop).unwrap(),
            Op::Alias(_) => store.move_alias(&alias, &image).unwrap(),
        }
        log.write_all(format!("done {op:?}\n").as_bytes()).unwrap();
        model.apply(op);
        // What all of them quarrel about: one image that comes, is read and is pruned.
        let allowed = |error: lxd_image::Error| {
            assert!(matches!(error.kind(), ErrorKind::AlreadyExists | ErrorKind::NotFound), "{error}");
        };
        let shared = ImportOptions::new().cached(true).expires_at(1);
        store.import(split_stream("shared"), &shared, &Monitor::none()).map_or_else(allowed, drop);
        store.export_to(&fingerprint(&own(process, tag)), &mut Vec::new(), &Monitor::none()).map_or_else(allowed, drop);
        store.prune(&PruneOptions::default(), &Monitor::none()).unwrap();
    }
}

fn parse(text: &str) -> Op {
    let digits = |text: &str| text.chars().filter(char::is_ascii_digit).collect::<String>().parse().unwrap();
    let numbers: Vec<u64> = text.split(',').map(digits).collect();
    match text.split('(').next().unwrap() {
        "Import" => Op::Import(numbers[0], numbers[1]),
        "Edit" => Op::Edit(numbers[0], numbers[1]),
        "Delete" => Op::Delete(numbers[0]),
        _ => Op::Alias(numbers[0]),
    }
}

/// What may be there after a log: all that was done, and perhaps what had begun.
fn allowed(before: &Model, log: &str) -> (Vec<Model>, usize) {
    let (mut model, mut begun, mut acknowledged) = (before.clone(), None, 0);
    for line in log.lines() {
        match line.split_once(' ').unwrap() {
            ("begin", op) => begun = Some(parse(op)),
            (_, op) => {
                model.apply(parse(op));
                begun = None;
                acknowledged += 1;
            }
        }
    }
    let mut models = vec![model.clone()];
    if let Some(op) = begun {
        model.apply(op);
        models.push(model);
    }
    (models, acknowledged)
}

const PLACE: &str = "LXD_IMAGE_KILL_PLACE";

/// Does nothing, but in a process that the next test starts.
#[test]
fn process_that_is_killed() {
    let Ok(place) = std::env::var(PLACE) else { return };
    let number = |name: &str| std::env::var(name).unwrap().parse().unwrap();
    let process = number("LXD_IMAGE_KILL_PROCESS");
    let place = PathBuf::from(place);
    work(&place.join("store"), process, number("LXD_IMAGE_KILL_SEED"), &place.join(format!("log-{process}")));
}

#[test]
fn nothing_acknowledged_is_lost_and_nothing_half_done_is_visible_after_kills() {
    let rounds: u64 = std::env::var("LXD_IMAGE_KILL_ROUNDS").map_or(10, |text| text.parse().unwrap());
    let scratch = Scratch::new();
    let path = scratch.join("store");
    let mut before = vec![Model::default(); PROCESSES as usize];
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let (mut acknowledged, mut interrupted) = (0, 0);
    for round in 0..rounds {
        let mut children: Vec<_> = (0..PROCESSES)
            .map(|process| {
                let _ = fs::remove_file(scratch.join(&format!("log-{process}")));
                Command::new(std::env::current_exe().unwrap())
                    .args(["--exact", "store::killing::process_that_is_killed", "--nocapture", "--test-threads=1"])
                    .env(PLACE, scratch.path())
                    .env("LXD_IMAGE_KILL_PROCESS", process.to_string())
                    .env("LXD_IMAGE_KILL_SEED", random.below(u64::MAX).to_string())
                    .stdout(Stdio::null())
                    .stderr(Stdio::piped())
                    .spawn()
                    .unwrap()
            })
            .collect();
        let until = Instant::now() + Duration::from_micros(20_000 + random.below(150_000));
        while Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
        for child in &mut children {
            assert!(child.try_wait().unwrap().is_none(), "round {round}: a process ended by itself: {:?}", {
                use std::io::Read;
                let mut text = String::new();
                child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
                text
            });
            child.kill().unwrap();
        }
        for mut child in children {
            child.wait().unwrap();
        }
        let store = Store::open(&path).unwrap();
        assert_clean(&store);
        for process in 0..PROCESSES {
            let log = fs::read_to_string(scratch.join(&format!("log-{process}"))).unwrap_or_default();
            let (models, done) = allowed(&before[process as usize], &log);
            let found = Model::of(&store, process);
            assert!(models.contains(&found), "round {round}: {found:?} is none of {models:?}");
            acknowledged += done;
            interrupted += models.len() - 1;
            before[process as usize] = found;
        }
        let images = store.images().unwrap();
        let split = images.iter().filter(|image| image.rootfs_size.is_some()).count();
        assert_eq!(files(&path).len(), images.len() * 2 + split, "round {round}: leftovers: {:?}", files(&path));
    }
    println!("{rounds} rounds: {acknowledged} calls acknowledged, {interrupted} interrupted");
}
