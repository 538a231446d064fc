//! Commits whose answer is lost.

use std::time::Duration;

use lxd_image::store::{Catalog, ImageQuery, PostgresCatalog, PostgresOptions};

use super::cluster::{Bouncer, Cluster, shared};
use super::proxy::{Fault, Proxy};
use super::sample;

/// A catalog behind a proxy, with a row at revision 0.
fn counted(cluster: &Cluster, server: u16) -> (PostgresCatalog, Proxy) {
    let proxy = Proxy::start(server);
    let url = cluster.tcp_url(&cluster.database(), proxy.port);
    let options = PostgresOptions::new().busy_timeout(Duration::from_secs(20));
    let catalog = PostgresCatalog::init(&url, "store-1", &options).unwrap();
    catalog.write(&mut |rows| rows.insert(&sample("counted"))).unwrap();
    (catalog, proxy)
}

/// Increases the revision of the row by one.
fn count(catalog: &PostgresCatalog) -> lxd_image::Result<()> {
    let fingerprint = sample("counted").fingerprint;
    catalog.write(&mut |rows| {
        let mut image = rows.image(&fingerprint)?.unwrap();
        image.revision += 1;
        rows.update(&image, image.revision - 1)
    })
}

fn revision(catalog: &PostgresCatalog) -> u64 {
    catalog.image(&sample("counted").fingerprint).unwrap().unwrap().revision
}

/// Every commit takes effect once, whatever happens to it.
fn happens_once(fault: Fault) {
    let Some(cluster) = shared() else { return };
    let (catalog, proxy) = counted(cluster, cluster.port);
    for round in 1..=5 {
        proxy.plan.set(vec![fault]);
        count(&catalog).unwrap();
        assert_eq!(revision(&catalog), round, "{fault:?}");
    }
    assert_eq!(proxy.plan.done.load(std::sync::atomic::Ordering::Relaxed), 5, "every round met its fault");
}

#[test]
fn commit_that_does_not_reach_the_server_is_done_again() {
    happens_once(Fault::Before);
}

#[test]
fn commit_whose_connection_breaks_while_it_runs_happens_once() {
    happens_once(Fault::During);
}

#[test]
fn commit_whose_answer_is_lost_is_not_done_again() {
    happens_once(Fault::After);
}

/// Eight threads with broken commits among their own: nothing is lost, and nothing is done twice.
fn threads_count_exactly(cluster: &Cluster, server: u16) {
    let (catalog, proxy) = counted(cluster, server);
    let faults = [Fault::Before, Fault::After, Fault::During];
    proxy.plan.set((0..60).map(|number| faults[number % 3]).collect());
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| (0..25).for_each(|_| count(&catalog).unwrap()));
        }
    });
    assert_eq!(revision(&catalog), 200);
    assert_eq!(proxy.plan.done.load(std::sync::atomic::Ordering::Relaxed), 60);
}

#[test]
fn threads_with_broken_commits_count_exactly() {
    let Some(cluster) = shared() else { return };
    threads_count_exactly(cluster, cluster.port);
}

#[test]
fn threads_with_broken_commits_count_exactly_behind_pgbouncer() {
    let Some(cluster) = shared() else { return };
    let Some(bouncer) = Bouncer::start(cluster) else { return };
    threads_count_exactly(cluster, bouncer.port);
}

#[test]
fn image_whose_insertion_is_not_answered_is_there_once() {
    let Some(cluster) = shared() else { return };
    let (catalog, proxy) = counted(cluster, cluster.port);
    proxy.plan.set(vec![Fault::After]);
    let mut runs = 0;
    catalog
        .write(&mut |rows| {
            runs += 1;
            rows.insert(&sample("one"))
        })
        .unwrap();
    assert_eq!((runs, catalog.totals(&ImageQuery::new()).unwrap().images), (1, 2));
}

#[test]
fn old_numbers_of_commits_are_deleted() {
    let Some(cluster) = shared() else { return };
    let (catalog, database) = cluster.catalog_with(&PostgresOptions::new());
    cluster.sql(
        &database,
        "INSERT INTO lxd_image.commit_log SELECT n, now() - interval '2 hours' FROM generate_series(1, 100) AS n; \
         INSERT INTO lxd_image.change SELECT n::text::xid8, n, now() - interval '2 hours' FROM generate_series(1, 100) AS n",
    );
    // One in 256 commits deletes.
    let mut commits = 0;
    while cluster.sql(&database, "SELECT count(*) FROM lxd_image.commit_log WHERE id <= 100 AND id > 0") != "0" {
        for _ in 0..100 {
            catalog.write(&mut |rows| rows.set_last_used(&sample("none").fingerprint, 1)).unwrap();
        }
        commits += 100;
        assert!(commits < 10_000);
    }
    assert_eq!(cluster.sql(&database, "SELECT count(*) FROM lxd_image.change WHERE nonce <= 100 AND nonce > 0"), "0");
}
