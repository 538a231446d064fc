//! Expiry: what goes by itself, what never does, and what a clock that is wrong must not do.

use std::time::Duration;

use lxd_image::store::{Edit, ImportOptions, PruneOptions, Removed, Store};

use super::*;
use lxd_image::Monitor;

fn cached(store: &Store, tag: &str) -> StoredImage {
    store.import(stream(unified(tag)), &ImportOptions::new().cached(true), &Monitor::none()).unwrap()
}

fn pruned(store: &Store, policy: &PruneOptions) -> Vec<(Fingerprint, Removed)> {
    store
        .prune(policy, &Monitor::none())
        .unwrap()
        .images
        .into_iter()
        .map(|(image, why)| (image.fingerprint, why))
        .collect()
}

#[test]
fn cached_images_unused_for_ten_days_are_pruned() {
    let scratch = Scratch::new();
    let clock = Clock::new();
    let store = clock.options().open(scratch.join("store")).unwrap();
    let (used, unused) = (cached(&store, "used"), cached(&store, "unused"));
    clock.set(NOW + 5 * DAY);
    store.mark_used(&used.fingerprint).unwrap();
    clock.set(NOW + 10 * DAY - 1);
    assert_eq!(pruned(&store, &PruneOptions::default()), []);
    clock.set(NOW + 10 * DAY);
    let done = store.prune(&PruneOptions::default(), &Monitor::none()).unwrap();
    assert_eq!(done.bytes, unused.size);
    assert_eq!(done.images, [(unused, Removed::Unused)]);
    assert_eq!(store.images().unwrap().len(), 1);
    assert_eq!(files(&scratch.join("store")).len(), 2);
    assert_clean(&store);
}

#[test]
fn unused_time_is_adjustable_and_zero_is_never() {
    let scratch = Scratch::new();
    let clock = Clock::new();
    let store = clock.options().open(scratch.join("store")).unwrap();
    let image = cached(&store, "one");
    clock.set(NOW + 1000 * DAY);
    assert_eq!(pruned(&store, &PruneOptions::unused_for(Duration::ZERO)), []);
    clock.set(NOW + DAY);
    let policy = PruneOptions::unused_for(Duration::from_secs(86_400));
    assert_eq!(pruned(&store, &policy.clone().dry_run(true)), [(image.fingerprint, Removed::Unused)]);
    assert_eq!(store.images().unwrap().len(), 1, "a dry run removes nothing");
    assert_eq!(pruned(&store, &policy), [(image.fingerprint, Removed::Unused)]);
}

#[test]
fn expired_cached_images_are_pruned() {
    let scratch = Scratch::new();
    let clock = Clock::new();
    let store = clock.options().open(scratch.join("store")).unwrap();
    let options = ImportOptions::new().cached(true).expires_at(NOW + 10);
    let image = store.import(stream(unified("one")), &options, &Monitor::none()).unwrap();
    clock.set(NOW + 9);
    assert_eq!(pruned(&store, &PruneOptions::default()), []);
    clock.set(NOW + 10);
    assert_eq!(pruned(&store, &PruneOptions::unused_for(Duration::ZERO)), [(image.fingerprint, Removed::Expired)]);
}

#[test]
fn expired_permanent_images_are_not_pruned() {
    let scratch = Scratch::new();
    let clock = Clock::new();
    let store = clock.options().open(scratch.join("store")).unwrap();
    let image = import(&store, "one", &[]);
    store.edit(&image.fingerprint, &Edit::new().expires_at(Some(NOW + 1)), None).unwrap();
    clock.set(NOW + 10_000 * DAY);
    assert_eq!(pruned(&store, &PruneOptions::default()), []);
}

#[test]
fn clock_set_back_prunes_nothing_early() {
    let scratch = Scratch::new();
    let clock = Clock::new();
    let store = clock.options().open(scratch.join("store")).unwrap();
    let image = cached(&store, "one");
    for time in [0, 1, NOW - 1000 * DAY, i64::MIN, -1] {
        clock.set(time);
        assert_eq!(pruned(&store, &PruneOptions::default()), []);
    }
    clock.set(i64::MAX);
    assert_eq!(pruned(&store, &PruneOptions::default()), [(image.fingerprint, Removed::Unused)]);
}

#[test]
fn least_recently_used_images_over_the_quota_are_evicted() {
    let scratch = Scratch::new();
    let clock = Clock::new();
    let store = clock.options().open(scratch.join("store")).unwrap();
    let one = cached(&store, "one");
    clock.set(NOW + 1);
    let two = cached(&store, "two");
    clock.set(NOW + 2);
    let three = cached(&store, "three");
    clock.set(NOW + 3);
    store.mark_used(&one.fingerprint).unwrap();
    let published = import(&store, "published", &["published"]);
    let policy = PruneOptions::default().max_bytes(one.size + three.size);
    assert_eq!(pruned(&store, &policy.clone().dry_run(true)), [(two.fingerprint, Removed::Evicted)]);
    assert_eq!(pruned(&store, &policy), [(two.fingerprint, Removed::Evicted)]);
    assert_eq!(pruned(&store, &policy), []);
    assert_eq!(pruned(&store, &PruneOptions::default().max_bytes(0)), [(three.fingerprint, Removed::Evicted)]);
    assert_eq!(pruned(&store, &PruneOptions::default().max_bytes(0)), []);
    assert!(store.image(&published.fingerprint).is_ok());
    assert_clean(&store);
}
