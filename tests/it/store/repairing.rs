//! What a repair must never do: take a healthy image for a damaged one, write over what was put aside, hold others up.

use std::fs;
use std::ops::ControlFlow;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use lxd_image::store::{Area, CheckOptions, CheckReport, Finding, ImportOptions, Store, StoreOptions};
use lxd_image::{Cancel, ErrorKind, Limits, Monitor};
use rustix::io::Errno;

use super::Mounted;
use super::simulation::{Fault, Machine};
use super::*;

fn repair(store: &Store) -> CheckReport {
    store.check(&CheckOptions::new().repair(true), &Monitor::none()).unwrap()
}

/// A store with these images, of which the catalog knows none.
fn forgotten(path: &Path, tags: &[&str]) {
    drop(Store::open(path).unwrap());
    let backup = fs::read(path.join("catalog.sqlite")).unwrap();
    let store = Store::open(path).unwrap();
    for tag in tags {
        import(&store, tag, &[tag]);
    }
    drop(store);
    fs::write(path.join("catalog.sqlite"), backup).unwrap();
}

fn image_sidecar(store: &Store, image: &StoredImage) -> String {
    store.image(&image.fingerprint).unwrap().objects.sidecar.unwrap().to_string()
}

fn quarantine(path: &Path) -> Vec<String> {
    files(path).into_iter().filter(|name| name.starts_with("quarantine/")).collect()
}

/// A monitor that cancels at its `at`-th report.
fn cancelling(at: u64) -> Monitor {
    let count = std::sync::atomic::AtomicU64::new(0);
    Monitor::none().with_progress(Arc::new(move |_: &lxd_image::Update| {
        if count.fetch_add(1, Ordering::Relaxed) + 1 >= at { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }))
}

#[test]
fn cancelled_repair_leaves_every_image_in_place() {
    let scratch = Scratch::new();
    let path = scratch.join("store");
    forgotten(&path, &["one", "two", "three"]);
    let before = files(&path);
    for at in 1.. {
        let how = CheckOptions::new();
        match Store::repair(&path, &StoreOptions::new(), &how, &cancelling(at)) {
            Ok(_) => break,
            Err(error) => assert_eq!(error.kind(), ErrorKind::Cancelled, "{error}"),
        }
        assert_eq!(files(&path), before, "cancelled at report {at}");
        assert!(at < 1000);
    }
    assert_eq!(Store::open(&path).unwrap().images().unwrap().len(), 3);
}

#[test]
fn cancelled_rebuild_leaves_the_damaged_catalog_in_place() {
    let scratch = Scratch::new();
    let path = scratch.join("store");
    forgotten(&path, &["one", "two"]);
    let (before, catalog) = (files(&path), path.join("catalog.sqlite"));
    for at in 1.. {
        fs::write(&catalog, b"no catalog").unwrap();
        let how = CheckOptions::new();
        let done = Store::repair(&path, &StoreOptions::new(), &how, &cancelling(at));
        assert_eq!(files(&path), before, "cancelled at report {at}");
        match done {
            Ok(_) => break,
            Err(error) => assert_eq!(error.kind(), ErrorKind::Cancelled, "{error}"),
        }
        assert!(!path.join("catalog.sqlite.rebuilt").exists(), "cancelled at report {at}");
        let kept = fs::read(&catalog).unwrap();
        assert!(kept == b"no catalog" || Store::open(&path).unwrap().images().unwrap().len() == 2, "report {at}");
        assert!(at < 1000);
    }
}

#[test]
fn image_over_a_limit_is_listed_by_a_later_repair() {
    for rebuilt in [false, true] {
        let scratch = Scratch::new();
        let path = scratch.join("store");
        forgotten(&path, &["one"]);
        if rebuilt {
            fs::remove_file(path.join("catalog.sqlite")).unwrap();
        }
        let before = files(&path);
        let mut limits = Limits::default();
        limits.set("entries", 1).unwrap();
        let report =
            Store::repair(&path, &StoreOptions::new().limits(limits), &CheckOptions::new(), &Monitor::none()).unwrap();
        assert!(
            report.findings.iter().any(
                |finding| matches!(finding, Finding::Unreadable { fingerprint: which, reason: why } if *which == fingerprint("one") && why.contains("entries"))
            ),
            "{report:?}"
        );
        assert!(report.unrepaired.iter().any(|left| matches!(left.finding, Finding::Unreadable { .. })), "{report:?}");
        assert_eq!(files(&path), before);
        let report = Store::repair(&path, &StoreOptions::new(), &CheckOptions::new(), &Monitor::none()).unwrap();
        assert_eq!(
            (&report.findings[..], report.unrepaired.len()),
            (&[Finding::Unlisted { fingerprint: fingerprint("one") }][..], 0)
        );
        assert_eq!(Store::open(&path).unwrap().resolve("one").unwrap().fingerprint, fingerprint("one"));
    }
}

#[test]
fn system_error_archives_no_healthy_image() {
    let listed = |machine: &Machine| machine.open(&StoreOptions::new());
    for errno in [Errno::IO, Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::ACCESS] {
        for at in 1.. {
            let machine = Machine::new();
            let store = listed(&machine);
            import(&store, "known", &[]);
            store.import(split_stream("lost"), &ImportOptions::new().alias(alias("lost")), &Monitor::none()).unwrap();
            let lost = store.resolve("lost").unwrap().fingerprint;
            machine.catalog().write(&mut |rows| rows.remove(&lost)).unwrap();
            let before = machine.names(Area::Blobs);
            machine.plan(at, Fault::Error(errno.raw_os_error()));
            let _ = store.check(&CheckOptions::new().repair(true), &Monitor::none());
            let hit = machine.was_hit();
            assert_eq!(machine.names(Area::Quarantine), Vec::<String>::new(), "{errno:?} at operation {at}");
            assert_eq!(machine.names(Area::Blobs), before, "{errno:?} at operation {at}");
            machine.restart();
            let store = listed(&machine);
            repair(&store);
            assert_eq!(store.resolve("lost").unwrap().fingerprint, lost, "{errno:?} at operation {at}");
            if !hit {
                break;
            }
        }
    }
}

#[test]
fn operations_of_a_check_grow_with_the_number_of_files_that_no_row_knows() {
    let operations = |count: usize| {
        let machine = Machine::new();
        let store = machine.open(&StoreOptions::new());
        for number in 0..count {
            let image = import(&store, &format!("image-{number}"), &[]);
            machine.catalog().write(&mut |rows| rows.remove(&image.fingerprint)).unwrap();
        }
        machine.plan(u64::MAX, Fault::Short);
        let report = store.check(&CheckOptions::new(), &Monitor::none()).unwrap();
        assert_eq!(report.findings.len(), count);
        machine.operations()
    };
    let (few, many) = (operations(10), operations(100));
    assert!(many <= few * 10, "{few} operations for 10, {many} for 100");
}

#[test]
fn repair_does_not_block_writers_while_it_hashes() {
    let scratch = Scratch::new();
    let path = scratch.join("store");
    let store = Store::open(&path).unwrap();
    let (good, bad) = (import(&store, "good", &[]), import(&store, "bad", &[]));
    let file = blob(&path, &bad);
    let mut bytes = fs::read(&file).unwrap();
    bytes[20] ^= 4;
    fs::write(&file, bytes).unwrap();
    let other = StoreOptions::new().busy_timeout(Duration::ZERO).open(&path).unwrap();
    let writes = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&writes);
    let monitor = Monitor::none().with_progress(Arc::new(move |_: &lxd_image::Update| {
        other.mark_used(&good.fingerprint).unwrap();
        count.fetch_add(1, Ordering::Relaxed);
        ControlFlow::Continue(())
    }));
    let report = store.check(&CheckOptions::new().repair(true), &monitor).unwrap();
    assert!(matches!(report.findings[..], [Finding::Damaged { .. }]), "{report:?}");
    assert!(writes.load(Ordering::Relaxed) > 4);
}

#[test]
fn cancelled_check_does_nothing() {
    let scratch = Scratch::new();
    let store = Store::open(scratch.join("store")).unwrap();
    let cancel = Cancel::new();
    cancel.cancel();
    let start = Instant::now();
    let how = CheckOptions::new();
    assert_kind(store.check(&how, &Monitor::none().with_cancel(cancel)), ErrorKind::Cancelled);
    assert!(start.elapsed() < Duration::from_secs(1));
}

#[test]
fn archived_files_are_never_overwritten() {
    let scratch = Scratch::new();
    let path = scratch.join("store");
    let store = Store::open(&path).unwrap();
    for text in ["first", "second", "third"] {
        fs::write(path.join("blobs/stray"), text).unwrap();
        repair(&store);
    }
    let read = |suffix: &str| fs::read_to_string(path.join(format!("quarantine/stray{suffix}"))).unwrap();
    assert_eq!((read(""), read(".1"), read(".2")), ("first".into(), "second".into(), "third".into()));
}

#[test]
fn damaged_catalogs_of_one_second_are_all_kept() {
    let scratch = Scratch::new();
    let path = scratch.join("store");
    import(&Store::open(&path).unwrap(), "one", &["a"]);
    let options = Clock::new().options();
    for text in ["damaged one", "damaged two", "damaged three"] {
        fs::write(path.join("catalog.sqlite"), text).unwrap();
        Store::repair(&path, &options, &CheckOptions::new(), &Monitor::none()).unwrap();
    }
    let mut kept: Vec<String> = fs::read_dir(&path)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_string_lossy().contains(".damaged-"))
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    kept.sort();
    assert_eq!(kept, ["damaged one", "damaged three", "damaged two"]);
}

#[test]
fn row_with_wrong_sizes_is_corrected() {
    let scratch = Scratch::new();
    let path = scratch.join("store");
    let image = import(&Store::open(&path).unwrap(), "one", &["a"]);
    let rows = rusqlite::Connection::open(path.join("catalog.sqlite")).unwrap();
    rows.execute("UPDATE image SET size = size + 1", []).unwrap();
    drop(rows);
    let store = Store::open(&path).unwrap();
    assert_eq!(repair(&store).findings, [Finding::Row { fingerprint: image.fingerprint }]);
    assert_eq!(store.resolve("a").unwrap().size, image.size);
    assert_eq!(quarantine(&path), Vec::<String>::new());
    assert_clean(&store);
}

#[test]
fn unparsable_sidecar_is_archived_before_it_is_rewritten() {
    let scratch = Scratch::new();
    let path = scratch.join("store");
    let store = Store::open(&path).unwrap();
    let image = import(&store, "one", &["a"]);
    let name = image_sidecar(&store, &image);
    fs::write(path.join("blobs").join(&name), "{ half").unwrap();
    assert_eq!(repair(&store).findings, [Finding::Sidecar { fingerprint: image.fingerprint }]);
    assert_eq!(fs::read_to_string(path.join("quarantine").join(name)).unwrap(), "{ half");
    assert_clean(&store);
}

#[test]
fn read_only_store_can_be_checked() {
    let scratch = Scratch::new();
    let path = scratch.join("store");
    forgotten(&path, &["one"]);
    let store = StoreOptions::new().read_only(true).open(&path).unwrap();
    assert_eq!(
        store.check(&CheckOptions::new(), &Monitor::none()).unwrap().findings,
        [Finding::Unlisted { fingerprint: fingerprint("one") }]
    );
}

#[test]
fn rebuild_on_a_full_disk_leaves_the_old_catalog() {
    let scratch = Scratch::new();
    let Some(mounted) = Mounted::new(&scratch, "6m") else { return };
    let path = mounted.path().join("store");
    for tag in ["one", "two"] {
        import(&Store::open(&path).unwrap(), tag, &[tag]);
    }
    let catalog = path.join("catalog.sqlite");
    fs::write(&catalog, "damaged").unwrap();
    let filler = mounted.path().join("filler");
    let mut file = fs::File::create(&filler).unwrap();
    while std::io::Write::write_all(&mut file, &[0; 4096]).is_ok() {}
    drop(file);
    assert_kind(
        Store::repair(&path, &StoreOptions::new(), &CheckOptions::new(), &Monitor::none()),
        ErrorKind::StorageFull,
    );
    assert_eq!(fs::read_to_string(&catalog).unwrap(), "damaged");
    assert!(!path.join("catalog.sqlite.rebuilt").exists());
    fs::remove_file(filler).unwrap();
    Store::repair(&path, &StoreOptions::new(), &CheckOptions::new(), &Monitor::none()).unwrap();
    assert_eq!(Store::open(&path).unwrap().aliases().unwrap().len(), 2);
}

#[test]
fn zeros_take_no_space_in_store_and_export() {
    const ZEROS: usize = 8 << 20;
    let scratch = Scratch::new();
    let store = Store::open(scratch.join("store")).unwrap();
    let bytes = unified_with(&metadata("one", ""), &vec![0; ZEROS]);
    let image = store.import(stream(bytes.clone()), &ImportOptions::new(), &Monitor::none()).unwrap();
    let exported = store.export(&image.fingerprint, scratch.join("out"), &Monitor::none()).unwrap();
    let blob = blob(&scratch.join("store"), &image);
    for path in [&blob, &exported.files[0]] {
        assert_eq!(fs::read(path).unwrap(), bytes);
        assert!(fs::metadata(path).unwrap().blocks() * 512 < ZEROS as u64 / 4, "{} is filled", path.display());
    }
}
