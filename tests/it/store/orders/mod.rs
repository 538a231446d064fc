//! All orders: small programs on machines of their own share a store, and every interleaving of their
//! calls of the backends is run, with few preemptions, and with faults: a call fails, its answer is
//! lost, the process is killed. After each run the promises of a store are checked:
//!
//! 1. what was acknowledged is there, whole: some order of the calls explains all answers and the end;
//! 2. no row names an object that is gone (after every step) or that is not its fingerprint's;
//! 3. once graces and leases have passed and a store was opened, nothing is left that no row names.
//!
//! `LXD_IMAGE_ORDERS_PREEMPTIONS` (2) bounds the preemptions of runs without faults; those with `LXD_IMAGE_ORDERS_FAULTS`
//! (1) faults have two fewer. 4 preemptions take minutes.

mod engines;
mod model;
#[cfg(feature = "server")]
mod parts;
mod schedule;

use std::io::Read;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lxd_image::store::{
    BlobStore, Catalog, CheckOptions, Edit, ImageQuery, ImportOptions, PruneOptions, Scratch, Store, StoreOptions,
};
use lxd_image::{Error, ErrorKind, Fingerprint, Monitor, Result};

use self::engines::{Shared, SteppedBlobs, SteppedCatalog};
use self::model::{Answer, Call, Model, Record};
use self::schedule::{Bounds, Explored, Scheduler, explore};
use super::{DAY, NOW, alias, fingerprint, split, split_stream, stream, unified};

/// For how long deleted objects of the bucket stay.
const GRACE: Duration = Duration::from_secs(3_600);
/// Longer than the lease of an upload, an upload in parts, and any grace.
const LONG: i64 = 8 * DAY;
/// The image `split` has two files.
const TAGS: [&str; 4] = ["a", "b", "cached", "split"];

/// What a program does.
#[derive(Debug, Clone, Copy)]
enum Op {
    Call(Call),
    /// The time goes on.
    Pass(i64),
    /// Another machine opens the store, which sweeps.
    Sweep,
    /// Another process of the first program's machine does.
    SweepThere,
}

fn import(tag: &'static str) -> Op {
    Op::Call(Call::Import(tag, None))
}

fn delete(tag: &'static str) -> Op {
    Op::Call(Call::Delete(tag))
}

/// A store of several machines, in which every call of a backend is a step.
#[derive(Clone)]
struct World {
    scheduler: Arc<Scheduler>,
    shared: Shared,
    clock: Arc<AtomicI64>,
    grace: Duration,
    /// The scratch of the first program's machine.
    there: Scratch,
    records: Arc<Mutex<Vec<Record>>>,
}

impl World {
    fn new(scheduler: &Arc<Scheduler>, grace: Duration) -> Self {
        Self {
            scheduler: Arc::clone(scheduler),
            shared: Shared::default(),
            clock: Arc::new(AtomicI64::new(NOW)),
            grace,
            there: Scratch::in_memory(),
            records: Arc::default(),
        }
    }

    /// Opens the store on a machine of its own.
    fn machine(&self) -> Store {
        self.machine_with(Scratch::in_memory())
    }

    fn machine_with(&self, scratch: Scratch) -> Store {
        let blobs =
            SteppedBlobs { scheduler: Arc::clone(&self.scheduler), shared: self.shared.clone(), grace: self.grace };
        let catalog = SteppedCatalog { scheduler: Arc::clone(&self.scheduler), shared: self.shared.clone() };
        let clock = Arc::clone(&self.clock);
        let options = StoreOptions::new().threads(1).clock(move || clock.load(Ordering::Relaxed));
        options.open_parts(Arc::new(blobs), Arc::new(catalog), scratch)
    }

    /// Runs a program on a machine; a killed process does not go on.
    fn run(&self, store: &Store, program: &[Op]) {
        for op in program {
            if self.scheduler.was_killed() {
                return;
            }
            match *op {
                Op::Call(call) => self.call(store, call),
                Op::Pass(seconds) => _ = self.clock.fetch_add(seconds, Ordering::Relaxed),
                Op::Sweep => drop(self.machine()),
                Op::SweepThere => drop(self.machine_with(self.there.clone())),
            }
        }
    }

    fn call(&self, store: &Store, call: Call) {
        let (begin, since) = (self.scheduler.steps(), self.clock.load(Ordering::Relaxed));
        let done = perform(store, call);
        let answer = match done {
            Ok(true) => Answer::Done,
            Ok(false) => Answer::Absent,
            Err(error) => match (error.kind(), call) {
                (ErrorKind::AlreadyExists, Call::Import(..) | Call::Keep(_)) => Answer::Exists,
                (ErrorKind::NotFound, Call::Delete(_) | Call::Edit(..) | Call::Move(..) | Call::Read(_)) => {
                    Answer::Absent
                }
                _ => {
                    // Without a fault of its own, and with its leases in time, a program never fails.
                    if !self.scheduler.had_fault() && since == self.clock.load(Ordering::Relaxed) {
                        self.scheduler.violated(&format!("{call:?} failed by itself: {error}"));
                    }
                    Answer::Failed(error.to_string())
                }
            },
        };
        self.records.lock().unwrap().push(Record { call, answer, begin, end: self.scheduler.steps() });
    }

    /// The images and aliases that the catalog shows.
    fn model(&self) -> Model {
        let mut model = Model::default();
        for image in self.shared.catalog.images(&ImageQuery::new()).unwrap().images {
            let tag = TAGS.into_iter().find(|tag| of(tag) == image.fingerprint).unwrap();
            model.images.insert(tag, image.cached);
            let edits = ["k", "l"].into_iter().filter(|key| image.properties.get(key).is_some());
            model.properties.extend(edits.map(|key| (tag, key)));
            model.aliases.extend(image.aliases.iter().map(|alias| (if alias.name == "x" { "x" } else { "y" }, tag)));
        }
        model
    }

    /// Promises 2 and 3, once everything has passed that lets leftovers stay.
    ///
    /// One leftover is found by a repair only, which lists the objects: that of a process which slept beyond its lease,
    /// was swept, woke up in the middle of its upload, and was killed before it could see that.
    fn settled(&self, is_repaired: bool) -> std::result::Result<(), String> {
        if is_repaired {
            let report = self.machine().check(&CheckOptions::new().repair(true), &Monitor::none()).unwrap();
            if report.unrepaired.iter().any(|left| left.finding.is_mismatch()) {
                return Err(format!("not repaired: {:?}", report.unrepaired));
            }
        }
        // An abandoned upload is dead at the first opening, and gone at the second one.
        for _ in 0..3 {
            self.clock.fetch_add(LONG, Ordering::Relaxed);
            drop(self.machine());
        }
        let notes = self.shared.catalog.objects(None, 100).unwrap();
        let images = self.shared.catalog.images(&ImageQuery::new()).unwrap().images;
        let mut named: Vec<_> = images.iter().flat_map(|image| image.objects.keys().cloned()).collect();
        named.sort();
        let found = self.shared.blobs.list(None, 100).unwrap();
        if !notes.is_empty() || named != found {
            return Err(format!("left over: {notes:?}, {found:?}; named by rows: {named:?}"));
        }
        let report = self.machine().check(&CheckOptions::new(), &Monitor::none()).unwrap();
        if report.is_clean() { Ok(()) } else { Err(format!("not clean: {:?}", report.findings)) }
    }
}

fn of(tag: &str) -> Fingerprint {
    if tag == "split" { Fingerprint::of(&whole(tag)) } else { fingerprint(tag) }
}

/// The bytes of an image, one file after the other.
fn whole(tag: &str) -> Vec<u8> {
    let (metadata, rootfs) = split(tag);
    if tag == "split" { [metadata, rootfs].concat() } else { unified(tag) }
}

/// Makes a call. `false` if the image was not there.
fn perform(store: &Store, call: Call) -> Result<bool> {
    match call {
        Call::Import(tag, name) => {
            let options = ImportOptions::new().reuse_aliases(true);
            let options = if tag == "cached" { options.cached(true).expires_at(NOW - 1) } else { options };
            let options = name.into_iter().fold(options, |options, name| options.alias(alias(name)));
            let source = if tag == "split" { split_stream(tag) } else { stream(unified(tag)) };
            store.import(source, &options, &Monitor::none())?;
        }
        Call::Keep(tag) => _ = store.import(stream(unified(tag)), &ImportOptions::new(), &Monitor::none())?,
        Call::Edit(tag, key) => _ = store.edit(&of(tag), &Edit::new().property(key, "set")?, None)?,
        Call::Delete(tag) => _ = store.delete(&of(tag))?,
        Call::Move(name, tag) => store.move_alias(&alias(name), &of(tag))?,
        Call::Prune(_) => return Ok(!store.prune(&PruneOptions::default(), &Monitor::none())?.images.is_empty()),
        Call::Read(tag) => {
            let opened = store.open_image(&of(tag))?;
            let mut bytes = Vec::new();
            let (first, rootfs) = opened.files();
            first.reader().read_to_end(&mut bytes)?;
            rootfs.map(|rootfs| rootfs.reader().read_to_end(&mut bytes)).transpose()?;
            if bytes != whole(tag) {
                return Err(Error::new(ErrorKind::Malformed, "other bytes"));
            }
        }
    }
    Ok(true)
}

/// The bounds of the explorations: many preemptions without faults, at least `least`, and fewer with some.
fn bounds(least: u32) -> [Bounds; 2] {
    let number = |name: &str, default| std::env::var(name).map_or(default, |text| text.parse().unwrap());
    let preemptions: u32 = number("LXD_IMAGE_ORDERS_PREEMPTIONS", 2);
    let faults = number("LXD_IMAGE_ORDERS_FAULTS", 1);
    let with_faults = Bounds { preemptions: preemptions.saturating_sub(2), faults };
    [Bounds { preemptions: preemptions.max(least), faults: 0 }, with_faults]
}

/// Runs all orders of some programs, after `before` was done: without faults, and with one.
fn all_orders(name: &str, grace: Duration, before: &[Op], programs: &[&[Op]]) {
    let mut sum = Explored::default();
    let sleeps = programs.iter().any(|program| program.iter().any(|op| matches!(op, Op::Pass(LEASE..))));
    // Who sleeps beyond a lease meets sweepers at more than one point.
    for bounds in bounds(if sleeps && programs.len() == 2 { 3 } else { 2 }) {
        let explored = explore(programs.len(), bounds, |scheduler| {
            let world = World::new(scheduler, grace);
            world.run(&world.machine(), before);
            let first = world.model();
            world.records.lock().unwrap().clear();
            let runs = programs.iter().enumerate().map(|(number, program)| {
                let scratch = if number == 0 { world.there.clone() } else { Scratch::in_memory() };
                let (world, store, program) = (world.clone(), world.machine_with(scratch), program.to_vec());
                Box::new(move || world.run(&store, &program)) as Box<dyn FnOnce() + Send>
            });
            let runs = runs.collect();
            let check = move || {
                let (last, records) = (world.model(), world.records.lock().unwrap().clone());
                if !first.leads_to(&last, &records) {
                    return Err(format!("{first:?} and {records:?} do not lead to {last:?}"));
                }
                world.settled(bounds.faults > 0 && sleeps)
            };
            (runs, check)
        });
        sum.add(explored);
    }
    println!("{name}: {sum}");
}

const LEASE: i64 = DAY + 1;

fn moves(name: &'static str, tag: &'static str) -> Op {
    Op::Call(Call::Move(name, tag))
}

fn read(tag: &'static str) -> Op {
    Op::Call(Call::Read(tag))
}

#[test]
fn two_importers_of_one_image_leave_one_image() {
    all_orders("two importers", Duration::ZERO, &[], &[&[import("a")], &[import("a")]]);
}

#[test]
fn two_importers_of_one_image_in_a_bucket_leave_one_image() {
    all_orders("two importers, bucket", GRACE, &[], &[&[import("a")], &[import("a")]]);
}

#[test]
fn importers_of_two_images_under_one_alias_leave_both() {
    let one = [Op::Call(Call::Import("a", Some("x")))];
    let other = [Op::Call(Call::Import("b", Some("x")))];
    all_orders("two importers, one alias", Duration::ZERO, &[], &[&one, &other]);
}

#[test]
fn importer_and_delete_agree() {
    all_orders("importer and delete", Duration::ZERO, &[import("a")], &[&[delete("a")], &[import("a"), read("a")]]);
}

#[test]
fn importer_and_delete_agree_in_a_bucket() {
    all_orders("importer and delete, bucket", GRACE, &[import("a")], &[&[delete("a")], &[import("a"), read("a")]]);
}

#[test]
fn reader_reads_whole_what_is_deleted() {
    all_orders("delete and reader", Duration::ZERO, &[import("a")], &[&[delete("a")], &[read("a")]]);
}

#[test]
fn reader_reads_whole_what_is_deleted_from_a_bucket() {
    let sweeping = [delete("a"), Op::Pass(1), Op::Sweep];
    all_orders("delete and reader, bucket", GRACE, &[import("a")], &[&sweeping, &[read("a")]]);
}

#[test]
fn alias_never_points_to_a_deleted_image() {
    let before = [Op::Call(Call::Import("a", Some("x"))), import("b")];
    all_orders("alias move and delete", Duration::ZERO, &before, &[&[moves("x", "b")], &[delete("b")]]);
}

#[test]
fn moves_of_one_alias_leave_one_target() {
    let before = [Op::Call(Call::Import("a", Some("x"))), import("b")];
    all_orders("two alias moves", GRACE, &before, &[&[moves("x", "b")], &[moves("x", "a"), moves("y", "b")]]);
}

#[test]
fn sweep_on_another_machine_leaves_a_running_import() {
    all_orders("import and sweep", GRACE, &[], &[&[import("a")], &[Op::Sweep, Op::Pass(60), Op::Sweep]]);
}

#[test]
fn importer_that_sleeps_beyond_its_lease_shows_nothing_half() {
    let sweep = [Op::Pass(LEASE), Op::Sweep, Op::Pass(LEASE), Op::Sweep];
    all_orders("import and sweep after the lease", Duration::ZERO, &[], &[&[import("a")], &sweep]);
}

#[test]
fn importer_that_sleeps_beyond_its_lease_shows_nothing_half_in_a_bucket() {
    let sweep = [Op::Pass(LEASE), Op::Sweep, Op::Pass(LEASE), Op::Sweep];
    all_orders("import and sweep after the lease, bucket", GRACE, &[], &[&[import("a")], &sweep]);
}

#[test]
fn prune_and_importer_agree() {
    let prune = [Op::Call(Call::Prune("cached"))];
    all_orders("prune and importer", Duration::ZERO, &[import("cached")], &[&prune, &[import("cached")]]);
}

#[test]
fn prune_and_reader_agree_in_a_bucket() {
    let prune = [Op::Call(Call::Prune("cached")), Op::Sweep];
    all_orders("prune and reader, bucket", GRACE, &[import("cached")], &[&prune, &[read("cached")]]);
}

#[test]
fn importer_delete_and_sweep_agree() {
    let programs: [&[Op]; 3] = [&[import("a")], &[delete("a")], &[Op::Sweep]];
    all_orders("importer, delete and sweep", Duration::ZERO, &[import("a")], &programs);
}

#[test]
fn late_delete_never_hits_a_newer_upload_of_the_image() {
    let deleting = [delete("a"), Op::Pass(4_000), Op::Sweep];
    all_orders("delete, sweep and importer, bucket", GRACE, &[import("a")], &[&deleting, &[import("a"), read("a")]]);
}

#[test]
fn split_image_is_swept_whole_or_not_at_all() {
    all_orders("split importer and sweep", GRACE, &[], &[&[import("split")], &[Op::Pass(LEASE), Op::Sweep]]);
}

#[test]
fn sweep_on_the_same_machine_leaves_a_running_import() {
    let programs: [&[Op]; 2] = [&[import("split"), delete("split")], &[Op::SweepThere]];
    all_orders("import, delete and sweep, same machine", Duration::ZERO, &[], &programs);
}

#[test]
fn two_sweepers_and_a_late_importer_agree() {
    let programs: [&[Op]; 3] = [&[import("a")], &[Op::Pass(LEASE), Op::Sweep], &[Op::Sweep]];
    all_orders("two sweepers and a late importer", Duration::ZERO, &[], &programs);
}

#[test]
fn image_that_is_kept_is_not_pruned() {
    let programs: [&[Op]; 2] = [&[Op::Call(Call::Prune("cached"))], &[Op::Call(Call::Keep("cached")), read("cached")]];
    all_orders("prune and keeper", Duration::ZERO, &[import("cached")], &programs);
}

#[test]
fn edits_of_one_image_are_both_there() {
    let edit = |key| [Op::Call(Call::Edit("a", key))];
    all_orders("two edits", Duration::ZERO, &[import("a")], &[&edit("k"), &edit("l")]);
}

#[test]
fn edit_alias_move_and_delete_agree() {
    let programs: [&[Op]; 3] = [&[Op::Call(Call::Edit("a", "k"))], &[moves("x", "a")], &[delete("a")]];
    all_orders("edit, alias move and delete", GRACE, &[import("a")], &programs);
}
