//! Deltas of simplestreams servers: what is fetched, what comes out of it, and what a bad delta can't do.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use lxd_image::delta::{self, DeltaOptions};
use lxd_image::io::Blob;
use lxd_image::remote::{ClientOptions, CopyOptions, RemoteRefresh, RetryPolicy, Simplestreams, copy, open_source};
use lxd_image::store::{RefreshOptions, Refreshed, Store, StoredImage};
use lxd_image::{Architecture, Cancel, ErrorKind, Fingerprint, Limits, Monitor, Result};
use serde_json::{Value, json};

use super::failed;
use super::server::{Server, answer};
use super::simplestreams::{Files, item, list, product, put};
use crate::store::{Scratch, alias, assert_clean, split_with};

/// Bytes without a pattern, the same in every run.
fn noise(seed: u64, count: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    })
    .take(count)
    .collect()
}

/// What a delta makes `new` out of `old`.
fn made(old: &[u8], new: &[u8]) -> Vec<u8> {
    let (old, new) = (Blob::from(old.to_vec()), Blob::from(new.to_vec()));
    let mut out = Vec::new();
    delta::make(&old, &new, &mut out, &DeltaOptions::new().level(0).threads(1), &Monitor::none()).unwrap();
    out
}

struct Version {
    items: Value,
    fingerprint: Fingerprint,
    rootfs: Vec<u8>,
}

/// A server with versions of one image: the next one differs from the one before in a few bytes.
struct Origin {
    files: Files,
    server: Server,
    versions: Vec<Version>,
    /// Cancelled when the first delta is asked for.
    cancel: Arc<Mutex<Option<Cancel>>>,
}

fn key(version: usize) -> String {
    format!("202401{:02}", version + 1)
}

impl Origin {
    fn new(versions: usize) -> Self {
        let files = Files::default();
        let cancel = Arc::new(Mutex::new(None::<Cancel>));
        let server = Server::tls({
            let (files, cancel) = (Arc::clone(&files), Arc::clone(&cancel));
            move |asked, line| {
                if asked.path.ends_with(".vcdiff")
                    && let Some(cancel) = &*cancel.lock().unwrap()
                {
                    cancel.cancel();
                }
                match files.lock().unwrap().get(&asked.path).cloned() {
                    Some(bytes) => answer(line, 200, &[], &bytes),
                    None => answer(line, 404, &[], b""),
                }
            }
        });
        let mut content = noise(1, 200_000);
        let versions = (0..versions).map(|number| {
            content[1000 * number..1000 * number + 300].fill(7);
            let name = format!("v{number}");
            let (meta, rootfs) = split_with(&name, &content);
            let fingerprint = Fingerprint::of(&[&*meta, &*rootfs].concat());
            let mut first = item(&files, "lxd.tar.xz", &format!("{name}.tar.xz"), &meta);
            first["combined_squashfs_sha256"] = json!(fingerprint.to_string());
            let second = item(&files, "squashfs", &format!("{name}.squashfs"), &rootfs);
            Version { items: json!({"lxd.tar.xz": first, "squashfs": second}), fingerprint, rootfs }
        });
        let versions = versions.collect();
        Self { files, server, versions, cancel }
    }

    /// Publishes the first versions only.
    fn publish(&self, count: usize) {
        let all = self.versions[..count].iter().enumerate();
        let all: Value = all.map(|(number, version)| (key(number), json!({"items": version.items}))).collect();
        list(&self.files, &json!({"box:1:default:amd64": product(&all)}));
    }

    /// Adds a delta with these bytes, whatever they are.
    fn put_delta(&mut self, from: usize, to: usize, bytes: &[u8]) {
        let mut delta = item(&self.files, "squashfs.vcdiff", &format!("{from}-{to}.vcdiff"), bytes);
        delta["delta_base"] = json!(key(from));
        self.versions[to].items[format!("squashfs.{}.vcdiff", key(from))] = delta;
    }

    fn delta(&mut self, from: usize, to: usize) {
        let bytes = made(&self.versions[from].rootfs, &self.versions[to].rootfs);
        self.put_delta(from, to, &bytes);
    }

    fn remote(&self) -> Simplestreams {
        self.remote_with(|options| options)
    }

    fn remote_with(&self, change: impl Fn(ClientOptions) -> ClientOptions) -> Simplestreams {
        let options = change(self.server.options().retry(RetryPolicy::new().sleep(|_| {})));
        Simplestreams::new(options, &self.server.url("")).unwrap().certificate(self.server.pem())
    }

    /// Copies a version, and returns what was left out.
    fn copy(&self, version: usize, store: &Store) -> Vec<String> {
        let monitor = Monitor::none();
        let image = self.copy_from(&self.remote(), version, store, &monitor).unwrap();
        assert_eq!(image.fingerprint, self.versions[version].fingerprint);
        monitor.omissions().iter().map(ToString::to_string).collect()
    }

    fn copy_from(
        &self,
        remote: &Simplestreams,
        version: usize,
        store: &Store,
        monitor: &Monitor,
    ) -> Result<StoredImage> {
        let options = CopyOptions::new().architectures([Architecture::X86_64]);
        copy(remote, &self.versions[version].fingerprint.to_string(), store, &options, monitor)
    }

    /// The names of image files that were asked for since the last call, without metadata.
    fn asked(&self) -> Vec<String> {
        let asked = self.server.asked();
        self.server.forget();
        let names = asked.iter().filter_map(|asked| asked.path.strip_prefix("/images/"));
        names.filter(|name| !name.ends_with(".tar.xz")).map(str::to_owned).collect()
    }
}

fn store(scratch: &Scratch) -> Store {
    Store::open(scratch.join("store")).unwrap()
}

#[test]
fn delta_is_fetched_instead_of_the_file_that_it_makes() {
    let scratch = Scratch::new();
    let store = store(&scratch);
    let mut origin = Origin::new(2);
    origin.delta(0, 1);
    origin.publish(2);
    origin.copy(0, &store);
    assert_eq!(origin.asked(), ["v0.squashfs"]);
    assert_eq!(origin.copy(1, &store), [""; 0]);
    assert_eq!(origin.asked(), ["0-1.vcdiff"]);
    assert_clean(&store);
}

#[test]
fn deltas_are_applied_one_after_the_other() {
    let scratch = Scratch::new();
    let store = store(&scratch);
    let mut origin = Origin::new(4);
    (0..3).for_each(|from| origin.delta(from, from + 1));
    origin.publish(4);
    origin.copy(0, &store);
    origin.asked();
    assert_eq!(origin.copy(3, &store), [""; 0]);
    assert_eq!(origin.asked(), ["0-1.vcdiff", "1-2.vcdiff", "2-3.vcdiff"]);
    assert_clean(&store);
}

#[test]
fn chain_with_the_fewest_bytes_is_taken() {
    let scratch = Scratch::new();
    let store = store(&scratch);
    let mut origin = Origin::new(4);
    for (from, to) in [(0, 1), (1, 2), (2, 3), (0, 3)] {
        origin.delta(from, to);
    }
    origin.publish(4);
    origin.copy(0, &store);
    origin.asked();
    origin.copy(3, &store);
    assert_eq!(origin.asked(), ["0-3.vcdiff"]);
}

#[test]
fn whole_file_is_fetched_where_the_store_has_no_base() {
    let scratch = Scratch::new();
    let store = store(&scratch);
    let mut origin = Origin::new(3);
    origin.delta(1, 2);
    origin.publish(3);
    origin.copy(0, &store);
    origin.asked();
    assert_eq!(origin.copy(2, &store), [""; 0]);
    assert_eq!(origin.asked(), ["v2.squashfs"]);
}

#[test]
fn delta_that_is_larger_than_the_file_is_not_fetched() {
    let scratch = Scratch::new();
    let store = store(&scratch);
    let mut origin = Origin::new(2);
    origin.put_delta(0, 1, &noise(2, 300_000));
    origin.publish(2);
    origin.copy(0, &store);
    origin.asked();
    assert_eq!(origin.copy(1, &store), [""; 0]);
    assert_eq!(origin.asked(), ["v1.squashfs"]);
}

#[test]
fn bad_delta_leads_to_the_whole_file_and_a_note() {
    type Change = fn(&mut Origin);
    let delta_item = |origin: &mut Origin, field: &str, value: Value| {
        origin.versions[1].items["squashfs.20240101.vcdiff"][field] = value;
    };
    let table: [(&str, Change, &str); 9] = [
        ("another digest in the list", |_| {}, "sha256"),
        ("not there", |origin| _ = origin.files.lock().unwrap().remove("/images/0-1.vcdiff"), "404"),
        (
            "truncated on the server",
            |origin| origin.files.lock().unwrap().get_mut("/images/0-1.vcdiff").unwrap().truncate(20),
            "",
        ),
        (
            "truncated, as the list says",
            |origin| {
                let bytes = made(&origin.versions[0].rootfs, &origin.versions[1].rootfs);
                origin.put_delta(0, 1, &bytes[..bytes.len() / 2]);
            },
            "",
        ),
        (
            "of other bytes",
            |origin| {
                let mut other = origin.versions[1].rootfs.clone();
                other[150_000] ^= 1;
                let bytes = made(&origin.versions[0].rootfs, &other);
                origin.put_delta(0, 1, &bytes);
            },
            "the sha256 of images/v1.squashfs out of a delta",
        ),
        (
            "of a larger file",
            |origin| {
                let larger = [&*origin.versions[1].rootfs, b"more"].concat();
                let bytes = made(&origin.versions[0].rootfs, &larger);
                origin.put_delta(0, 1, &bytes);
            },
            "limit",
        ),
        (
            "of another base",
            |origin| {
                let bytes = made(&noise(3, 300_000), &origin.versions[1].rootfs[..1000]);
                origin.put_delta(0, 1, &bytes);
            },
            "",
        ),
        ("no delta at all", |origin| origin.put_delta(0, 1, b"<html>"), "delta"),
        ("empty", |origin| origin.put_delta(0, 1, b""), ""),
    ];
    for (name, change, told) in table {
        let scratch = Scratch::new();
        let store = store(&scratch);
        let mut origin = Origin::new(2);
        origin.delta(0, 1);
        change(&mut origin);
        if name == "another digest in the list" {
            delta_item(&mut origin, "sha256", json!("0".repeat(64)));
        }
        origin.publish(2);
        origin.copy(0, &store);
        origin.asked();
        let notes = origin.copy(1, &store);
        if name != "empty" {
            let [note] = &*notes else { panic!("{name}: {notes:?}") };
            assert!(note.contains("the delta from version `20240101` has no effect: "), "{name}: {note}");
            assert!(note.contains(told) && note.ends_with("the whole file is downloaded"), "{name}: {note}");
        }
        let asked = origin.asked();
        assert_eq!(asked.last().map(String::as_str), Some("v1.squashfs"), "{name}: {asked:?}");
        assert_clean(&store);
    }
}

#[test]
fn entries_of_a_list_that_are_no_delta_are_not_asked_for() {
    let changes: [(&str, Value); 6] = [
        ("delta_base", json!("20230101")),
        ("delta_base", json!("20240102")),
        ("delta_base", json!("")),
        ("path", json!("../../etc/passwd")),
        ("sha256", json!("")),
        ("size", json!(0)),
    ];
    for (field, value) in changes {
        let scratch = Scratch::new();
        let store = store(&scratch);
        let mut origin = Origin::new(2);
        origin.delta(0, 1);
        origin.versions[1].items["squashfs.20240101.vcdiff"][field] = value.clone();
        origin.publish(2);
        origin.copy(0, &store);
        origin.asked();
        assert_eq!(origin.copy(1, &store), [""; 0], "{field} {value}");
        assert_eq!(origin.asked(), ["v1.squashfs"], "{field} {value}");
    }
}

#[test]
fn deltas_that_go_in_circles_end() {
    let scratch = Scratch::new();
    let store = store(&scratch);
    let mut origin = Origin::new(4);
    for (from, to) in [(1, 2), (2, 3), (3, 2), (2, 1), (3, 1), (1, 3)] {
        origin.delta(from, to);
    }
    origin.publish(4);
    origin.copy(0, &store);
    origin.asked();
    assert_eq!(origin.copy(3, &store), [""; 0]);
    assert_eq!(origin.asked(), ["v3.squashfs"]);
}

/// The file of a store with these bytes.
fn file_with(directory: &Path, bytes: &[u8]) -> Option<std::path::PathBuf> {
    fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).find_map(|path| {
        if path.is_dir() { file_with(&path, bytes) } else { (fs::read(&path).unwrap() == bytes).then_some(path) }
    })
}

#[test]
fn damaged_base_leads_to_the_whole_file() {
    let damages: [fn(&mut Vec<u8>); 3] = [|bytes| bytes[100_000] ^= 1, |bytes| bytes.truncate(1000), Vec::clear];
    for damage in damages {
        let scratch = Scratch::new();
        let store = store(&scratch);
        let mut origin = Origin::new(2);
        origin.delta(0, 1);
        origin.publish(2);
        origin.copy(0, &store);
        let mut bytes = origin.versions[0].rootfs.clone();
        let path = file_with(&scratch.join("store"), &bytes).unwrap();
        damage(&mut bytes);
        let _ = fs::remove_file(&path);
        fs::write(&path, bytes).unwrap();
        origin.asked();
        origin.copy(1, &store);
        assert_eq!(origin.asked().last().map(String::as_str), Some("v1.squashfs"));
        let opened = store.open_image(&origin.versions[1].fingerprint).unwrap();
        let mut found = Vec::new();
        std::io::Read::read_to_end(&mut opened.files().1.unwrap().reader(), &mut found).unwrap();
        assert!(found == origin.versions[1].rootfs);
    }
}

#[test]
fn limits_bound_deltas_too() {
    let changes: [fn(&mut Limits); 2] = [|limits| limits.vcdiff_window = 1000, |limits| limits.vcdiff_instructions = 1];
    for change in changes {
        let scratch = Scratch::new();
        let store = store(&scratch);
        let mut origin = Origin::new(2);
        origin.delta(0, 1);
        origin.publish(2);
        origin.copy(0, &store);
        origin.asked();
        let mut limits = Limits::default();
        change(&mut limits);
        let monitor = Monitor::none();
        let remote = origin.remote_with(|options| options.limits(limits.clone()));
        origin.copy_from(&remote, 1, &store, &monitor).unwrap();
        let notes: Vec<_> = monitor.omissions().iter().map(ToString::to_string).collect();
        assert!(notes.len() == 1 && notes[0].contains("vcdiff_"), "{notes:?}");
        assert_eq!(origin.asked(), ["0-1.vcdiff", "v1.squashfs"]);
    }
}

#[test]
fn cancelled_delta_ends_the_copy() {
    let scratch = Scratch::new();
    let store = store(&scratch);
    let mut origin = Origin::new(2);
    origin.delta(0, 1);
    origin.publish(2);
    origin.copy(0, &store);
    origin.asked();
    let cancel = Cancel::new();
    *origin.cancel.lock().unwrap() = Some(cancel.clone());
    let monitor = Monitor::none().with_cancel(cancel);
    failed(origin.copy_from(&origin.remote(), 1, &store, &monitor), ErrorKind::Cancelled);
    assert!(!origin.asked().contains(&"v1.squashfs".to_owned()));
    assert!(monitor.omissions().is_empty());
    assert_clean(&store);
}

#[test]
fn refresh_and_cache_use_deltas() {
    let scratch = Scratch::new();
    let store = store(&scratch);
    let mut origin = Origin::new(3);
    origin.delta(0, 1);
    origin.delta(1, 2);
    origin.publish(1);
    let options = CopyOptions::new().architectures([Architecture::X86_64]);
    let followed = options.clone().alias(alias("mine")).auto_update(true);
    let image = copy(&origin.remote(), "box", &store, &followed, &Monitor::none()).unwrap();
    origin.publish(2);
    let client = origin.server.options();
    let sources = RemoteRefresh::new(move |source| open_source(source, client.clone())).deltas_from(&store);
    origin.asked();
    let done = store.refresh(&image.fingerprint, &sources, &RefreshOptions::new(), &Monitor::none()).unwrap();
    assert_eq!(done, Refreshed::Replaced { fingerprint: origin.versions[1].fingerprint });
    assert_eq!(origin.asked(), ["0-1.vcdiff"]);
    origin.publish(3);
    let cached = store.get_or_fetch(&origin.remote(), "box", &options, &Monitor::none()).unwrap();
    assert_eq!(cached.fingerprint, origin.versions[2].fingerprint);
    assert_eq!(origin.asked(), ["1-2.vcdiff"]);
    assert_clean(&store);
}

#[test]
fn deltas_of_virtual_machines_start_from_their_own_disk() {
    let scratch = Scratch::new();
    let store = store(&scratch);
    let files = Files::default();
    let server = super::simplestreams::serve(&files);
    let disk = |number: u8| {
        let mut bytes = crate::format::forge::Disk::default().bytes();
        bytes.extend_from_slice(&noise(4, 100_000));
        bytes.push(number);
        bytes.resize(bytes.len().next_multiple_of(1 << 16), 0);
        bytes
    };
    let mut versions = serde_json::Map::new();
    let mut fingerprints = Vec::new();
    for number in 0..2_u8 {
        let name = format!("vm{number}");
        let (meta, _) = split_with(&name, b"");
        let (container, disk_image) = (split_with(&name, &noise(5 + u64::from(number), 50_000)).1, disk(number));
        let mut first = item(&files, "lxd.tar.xz", &format!("{name}.tar.xz"), &meta);
        let fingerprint = Fingerprint::of(&[&*meta, &*disk_image].concat());
        first["combined_disk-kvm-img_sha256"] = json!(fingerprint.to_string());
        first["combined_squashfs_sha256"] = json!(Fingerprint::of(&[&*meta, &*container].concat()).to_string());
        fingerprints.push(fingerprint);
        let mut items = json!({
            "lxd.tar.xz": first,
            "squashfs": item(&files, "squashfs", &format!("{name}.squashfs"), &container),
            "disk-kvm.img": item(&files, "disk-kvm.img", &format!("{name}.qcow2"), &disk_image),
        });
        if number == 1 {
            let mut delta = item(&files, "disk-kvm.img.vcdiff", "vm.vcdiff", &made(&disk(0), &disk_image));
            delta["delta_base"] = json!("20240101");
            items["disk-kvm.img.vcdiff"] = delta;
        }
        versions.insert(key(number.into()), json!({"items": items}));
    }
    list(&files, &json!({"box:1:default:amd64": product(&Value::Object(versions))}));
    put(&files, "/images/vm1.qcow2", "nobody asks for it");
    let remote = Simplestreams::new(server.options(), &server.url("")).unwrap();
    let options = CopyOptions::new().architectures([Architecture::X86_64]);
    for fingerprint in fingerprints {
        let image = copy(&remote, &fingerprint.to_string(), &store, &options, &Monitor::none()).unwrap();
        assert_eq!(image.fingerprint, fingerprint);
    }
    assert_clean(&store);
}
