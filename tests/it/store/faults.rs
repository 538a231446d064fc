//! Every kind of fault at every single operation of every call: afterwards the store opens, is clean,
//! and holds either what was before or what was asked for, and all that was acknowledged.

use std::collections::BTreeMap;

use lxd_image::store::{Area, CheckOptions, Edit, ImportOptions, PruneOptions, RefreshOptions, Store, StoreOptions};
use lxd_image::{ErrorKind, Monitor, Result};
use rustix::io::Errno;

use super::refreshing::{Fake, following};
use super::simulation::{Fault, Machine};
use super::*;

/// All that a store shows: for each image its properties, flags and aliases.
type State = BTreeMap<String, String>;

fn state(store: &Store) -> State {
    let images = store.images().unwrap();
    images
        .into_iter()
        .map(|image| {
            let aliases: Vec<_> = image.aliases.iter().map(|alias| alias.name.as_str()).collect();
            let properties: Vec<_> = image.properties.iter().collect();
            let text = format!("{aliases:?} {properties:?} public={} cached={}", image.public, image.cached);
            (image.fingerprint.to_string(), text)
        })
        .collect()
}

struct Call {
    name: &'static str,
    run: fn(&Store) -> Result<()>,
}

const CALLS: &[Call] = &[
    Call {
        name: "import",
        run: |store| {
            store.import(stream(unified("new")), &ImportOptions::new().alias(alias("n")), &Monitor::none()).map(drop)
        },
    },
    Call {
        name: "import of a split image",
        run: |store| {
            let options = ImportOptions::new().alias(alias("a")).reuse_aliases(true);
            store.import(split_stream("new"), &options, &Monitor::none()).map(drop)
        },
    },
    Call {
        name: "import again, as a cached image that is now wanted",
        run: |store| {
            store.import(stream(unified("cached")), &ImportOptions::new().alias(alias("n")), &Monitor::none()).map(drop)
        },
    },
    Call {
        name: "import again, for an alias",
        run: |store| {
            let options = ImportOptions::new().alias(alias("n")).add_aliases_to_existing(true);
            store.import(stream(unified("one")), &options, &Monitor::none()).map(drop)
        },
    },
    Call {
        name: "publish",
        run: |store| {
            let write = |sink: &mut (dyn std::io::Write + Send)| Ok(sink.write_all(&unified("published"))?);
            store.import_written(&ImportOptions::new().alias(alias("p")), &Monitor::none(), write).map(drop)
        },
    },
    Call {
        name: "edit",
        run: |store| store.edit(&fingerprint("one"), &Edit::new().public(true).property("x", "y")?, None).map(drop),
    },
    Call { name: "alias create", run: |store| store.create_alias(&alias("n"), &fingerprint("one")) },
    Call { name: "alias rename", run: |store| store.rename_alias("a", "z", None) },
    Call { name: "alias move", run: |store| store.move_alias(&alias("a"), &fingerprint("two")) },
    Call { name: "alias delete", run: |store| store.delete_alias("a", None) },
    Call {
        name: "refresh",
        run: |store| {
            store.refresh(&fingerprint("old"), &Fake::new("new"), &RefreshOptions::new(), &Monitor::none()).map(drop)
        },
    },
    Call {
        name: "refresh to an image that is here",
        run: |store| {
            store.refresh(&fingerprint("old"), &Fake::new("two"), &RefreshOptions::new(), &Monitor::none()).map(drop)
        },
    },
    Call { name: "use", run: |store| store.mark_used(&fingerprint("cached")).map(drop) },
    Call { name: "delete", run: |store| store.delete(&fingerprint("one")).map(drop) },
    Call { name: "prune", run: |store| store.prune(&PruneOptions::default(), &Monitor::none()).map(drop) },
    Call {
        name: "export",
        run: |store| {
            let mut bytes = Vec::new();
            store.export_to(&fingerprint("one"), &mut bytes, &Monitor::none())?;
            assert_eq!(bytes, unified("one"));
            Ok(())
        },
    },
    Call {
        name: "check and repair",
        run: |store| store.check(&CheckOptions::new().repair(true), &Monitor::none()).map(drop),
    },
];

const FAULTS: &[Fault] = &[
    Fault::Error(Errno::IO.raw_os_error()),
    Fault::Error(Errno::MFILE.raw_os_error()),
    Fault::Error(Errno::XDEV.raw_os_error()),
    Fault::Full,
    Fault::Short,
    Fault::Kill,
    Fault::PowerCut,
    Fault::TornPowerCut,
];

fn options() -> StoreOptions {
    StoreOptions::new().clock(|| NOW)
}

fn open(machine: &Machine) -> Store {
    machine.open(&options())
}

/// A store with something of everything.
fn prepared() -> Machine {
    let machine = Machine::new();
    let store = open(&machine);
    import(&store, "one", &["a", "b"]);
    import(&store, "two", &["c"]);
    following(&store, "old", &["follow"]);
    store
        .import(stream(unified("cached")), &ImportOptions::new().cached(true).expires_at(1), &Monitor::none())
        .unwrap();
    machine.restart();
    machine
}

/// Opens the store anew and looks at everything; images that `known` has are hashed but not decoded.
fn check_whole(machine: &Machine, known: &State, what: &str) -> (Store, State) {
    let store = open(machine);
    let report = store.check(&CheckOptions::new(), &Monitor::none()).unwrap();
    assert!(report.is_clean(), "{what}: {:?}", report.findings);
    for image in store.images().unwrap().iter().filter(|image| !known.contains_key(&image.fingerprint.to_string())) {
        let opened = store.open_image(&image.fingerprint).unwrap().open(&lxd_image::Limits::default()).unwrap();
        let verified = opened.verify(&lxd_image::format::VerifyOptions::new().threads(1), &Monitor::none()).unwrap();
        assert_eq!(verified.fingerprint, image.fingerprint, "{what}");
    }
    assert_eq!(machine.names(Area::Staging), Vec::<String>::new(), "{what}: leftovers");
    let blobs = machine.names(Area::Blobs).len();
    let split = store.images().unwrap().iter().filter(|image| image.rootfs_size.is_some()).count();
    assert_eq!(blobs, store.images().unwrap().len() * 2 + split, "{what}: leftovers among the blobs");
    let state = state(&store);
    (store, state)
}

#[test]
fn every_fault_leaves_the_state_before_or_after() {
    let mut points = 0;
    let model = prepared();
    for call in CALLS {
        let (before, after) = {
            let machine = model.copy();
            let (store, before) = check_whole(&machine, &State::new(), call.name);
            (call.run)(&store).unwrap();
            (before, check_whole(&machine, &State::new(), call.name).1)
        };
        for &fault in FAULTS {
            for at in 1.. {
                let machine = model.copy();
                let store = open(&machine);
                machine.plan(at, fault);
                let done = (call.run)(&store);
                if !machine.was_hit() {
                    done.unwrap();
                    break;
                }
                points += 1;
                let what = format!("{}: {fault:?} at operation {at}: {done:?}", call.name);
                let crashed = machine.crashed();
                if fault == Fault::Short {
                    done.as_ref().unwrap();
                }
                drop(store);
                machine.restart();
                let (store, found) = check_whole(&machine, &before, &what);
                match done {
                    Ok(()) => assert_eq!(found, after, "{what}: acknowledged, and not there"),
                    Err(error) => {
                        assert!(crashed || matches!(error.kind(), ErrorKind::Io | ErrorKind::StorageFull), "{what}");
                        assert!(found == before || found == after, "{what}: something between");
                    }
                }
                // And it goes on working.
                import(&store, "afterwards", &["later"]);
                assert_eq!(store.resolve("later").unwrap().fingerprint, fingerprint("afterwards"), "{what}");
                assert!(at < 500, "{what}: no end");
            }
        }
    }
    println!("tried {points} fault points in {} calls with {} kinds of fault", CALLS.len(), FAULTS.len());
    assert!(points > 1000, "only {points} fault points");
}

#[test]
fn import_that_fills_the_disk_frees_its_space_at_once() {
    for at in 1.. {
        let machine = prepared();
        let store = open(&machine);
        let before = machine.names(Area::Blobs);
        machine.plan(at, Fault::Full);
        let done = store.import(split_stream("new"), &ImportOptions::new(), &Monitor::none());
        if !machine.was_hit() {
            break;
        }
        if done.is_err() {
            assert_eq!(machine.names(Area::Blobs), before, "at operation {at}");
            assert_eq!(machine.names(Area::Staging), Vec::<String>::new(), "at operation {at}");
            // The disk is still full, and deleting works, as does reading.
            assert_eq!(reads(&store, &fingerprint("one")), unified("one"));
            store.delete(&fingerprint("one")).unwrap();
            assert_eq!(machine.names(Area::Blobs).len(), before.len() - 2);
        }
    }
}

#[test]
fn store_opens_even_if_sweeping_fails() {
    for at in 1..30 {
        let machine = prepared();
        let store = open(&machine);
        machine.plan(12, Fault::Kill);
        let _ = store.import(split_stream("new"), &ImportOptions::new(), &Monitor::none());
        machine.restart();
        machine.plan(at, Fault::Error(Errno::IO.raw_os_error()));
        let store = open(&machine);
        machine.restart();
        drop(store);
        check_whole(&machine, &State::new(), &format!("sweep failed at {at}"));
    }
}
