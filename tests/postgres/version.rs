//! The number that changes with each change.

use std::io::{BufRead, BufReader, Write};
use std::process::Child;

use lxd_image::store::{Alias, Catalog, Object, ObjectState, PostgresOptions};

use super::cluster::{Cluster, shared};
use super::sample;

/// A transaction of another program that is open for a while.
struct Other {
    child: Child,
    answers: BufReader<std::process::ChildStdout>,
}

impl Other {
    fn begin(cluster: &Cluster, database: &str, sql: &str) -> Self {
        let mut child = cluster.psql(database);
        let answers = BufReader::new(child.stdout.take().unwrap());
        let mut other = Self { child, answers };
        other.run(&format!("BEGIN; {sql}"));
        other
    }

    /// Runs SQL, and returns when it is done.
    fn run(&mut self, sql: &str) {
        let input = self.child.stdin.as_mut().unwrap();
        writeln!(input, "{sql}; SELECT 'done';").unwrap();
        let mut line = String::new();
        while line.trim_end() != "done" {
            line.clear();
            assert_ne!(self.answers.read_line(&mut line).unwrap(), 0, "{sql} failed");
        }
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

const USE_ONE: &str = "UPDATE lxd_image.image SET last_used_at = coalesce(last_used_at, 0) + 1 WHERE public = false";
const INSERT: &str = "INSERT INTO lxd_image.image SELECT (f).* FROM (SELECT jsonb_populate_record(image, \
                      jsonb_build_object('fingerprint', repeat('a', 63) || 'DIGIT')) AS f FROM lxd_image.image LIMIT 1) AS x";

#[test]
fn version_changes_only_once_a_commit_is_visible() {
    let Some(cluster) = shared() else { return };
    let (catalog, database) = cluster.catalog_with(&PostgresOptions::new());
    catalog.write(&mut |rows| rows.insert(&sample("one"))).unwrap();
    let before = catalog.version().unwrap();
    let mut other = Other::begin(cluster, &database, USE_ONE);
    assert_eq!(catalog.version().unwrap(), before, "the change is not visible yet");
    other.run("COMMIT");
    let after = catalog.version().unwrap();
    assert_ne!(after, before);
    assert_eq!(catalog.version().unwrap(), after);
}

#[test]
fn version_sees_commits_out_of_the_order_of_their_numbers() {
    let Some(cluster) = shared() else { return };
    let (catalog, database) = cluster.catalog_with(&PostgresOptions::new());
    catalog.write(&mut |rows| rows.insert(&sample("one"))).unwrap();
    let mut early = Other::begin(cluster, &database, &INSERT.replace("DIGIT", "1"));
    let mut late = Other::begin(cluster, &database, &INSERT.replace("DIGIT", "2"));
    let mut seen = vec![catalog.version().unwrap()];
    late.run("COMMIT");
    seen.push(catalog.version().unwrap());
    early.run("COMMIT");
    seen.push(catalog.version().unwrap());
    let unique: std::collections::BTreeSet<_> = seen.iter().collect();
    assert_eq!(unique.len(), 3, "{seen:?}");
    assert_eq!(catalog.version().unwrap(), seen[2]);
}

#[test]
fn version_stays_when_a_change_is_rolled_back() {
    let Some(cluster) = shared() else { return };
    let (catalog, database) = cluster.catalog_with(&PostgresOptions::new());
    catalog.write(&mut |rows| rows.insert(&sample("one"))).unwrap();
    let before = catalog.version().unwrap();
    let mut other = Other::begin(cluster, &database, USE_ONE);
    other.run("ROLLBACK");
    assert_eq!(catalog.version().unwrap(), before);
}

#[test]
fn version_stays_when_other_databases_of_the_server_change() {
    let Some(cluster) = shared() else { return };
    let (catalog, other) = (cluster.catalog(), cluster.catalog());
    let before = catalog.version().unwrap();
    for number in 0..10 {
        other.write(&mut |rows| rows.insert(&sample(format!("{number}")))).unwrap();
        assert_eq!(catalog.version().unwrap(), before);
    }
}

#[test]
fn notes_and_sidecars_do_not_change_the_version() {
    let Some(cluster) = shared() else { return };
    let catalog = cluster.catalog();
    let one = sample("one");
    catalog.write(&mut |rows| rows.insert(&one)).unwrap();
    let before = catalog.version().unwrap();
    let note = Object::new(one.objects.image.clone(), one.fingerprint, ObjectState::Dead { delete_after: 0 });
    catalog
        .write(&mut |rows| {
            rows.put_object(&note)?;
            rows.set_sidecar(&one.fingerprint, 0, &note.key)?;
            rows.remove_object(&note.key)
        })
        .unwrap();
    assert_eq!(catalog.version().unwrap(), before);
}

#[test]
fn truncation_changes_the_version() {
    let Some(cluster) = shared() else { return };
    let (catalog, database) = cluster.catalog_with(&PostgresOptions::new());
    catalog.write(&mut |rows| rows.insert(&sample("one"))).unwrap();
    let before = catalog.version().unwrap();
    cluster.sql(&database, "TRUNCATE lxd_image.image CASCADE");
    assert_ne!(catalog.version().unwrap(), before);
}

#[test]
fn version_changes_when_the_number_of_a_transaction_comes_again() {
    let Some(cluster) = shared() else { return };
    let (catalog, database) = cluster.catalog_with(&PostgresOptions::new());
    catalog.write(&mut |rows| rows.insert(&sample("one"))).unwrap();
    // Rows of a database that was restored from another server, with higher numbers.
    cluster.sql(
        &database,
        "INSERT INTO lxd_image.change SELECT (pg_current_xact_id()::text::bigint + n)::text::xid8, n, now() \
         FROM generate_series(1, 50) AS n",
    );
    let mut seen = std::collections::BTreeSet::from([catalog.version().unwrap()]);
    for seconds in 1..10 {
        catalog.write(&mut |rows| rows.set_last_used(&sample("one").fingerprint, seconds)).unwrap();
        assert!(seen.insert(catalog.version().unwrap()), "{seconds}");
    }
}

#[test]
fn concurrent_readers_see_one_version_while_nothing_changes() {
    let Some(cluster) = shared() else { return };
    let catalog = cluster.catalog();
    let alias = Alias::new("a").unwrap();
    catalog
        .write(&mut |rows| {
            rows.insert(&sample("one"))?;
            rows.set_alias(&alias, &sample("one").target())
        })
        .unwrap();
    let first = catalog.version().unwrap();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| (0..20).for_each(|_| assert_eq!(catalog.version().unwrap(), first)));
        }
    });
}

#[test]
fn list_kept_by_its_version_is_never_older_than_an_acknowledged_write() {
    let Some(cluster) = shared() else { return };
    let catalog = cluster.catalog();
    let one = sample("one");
    catalog.write(&mut |rows| rows.insert(&one)).unwrap();
    let acknowledged = std::sync::atomic::AtomicI64::new(0);
    let order = std::sync::atomic::Ordering::SeqCst;
    std::thread::scope(|scope| {
        let writers = scope.spawn(|| {
            for seconds in 1..=300 {
                catalog.write(&mut |rows| rows.set_last_used(&one.fingerprint, seconds)).unwrap();
                acknowledged.store(seconds, order);
            }
        });
        for _ in 0..3 {
            scope.spawn(|| {
                let mut kept: Option<(u64, i64)> = None;
                while acknowledged.load(order) < 300 {
                    let least = acknowledged.load(order);
                    // As a cache does it: the number first, then the rows.
                    let version = catalog.version().unwrap().unwrap();
                    let seen = match kept.filter(|(of, _)| *of == version) {
                        Some((_, seen)) => seen,
                        None => catalog.image(&one.fingerprint).unwrap().unwrap().last_used_at.unwrap_or(0),
                    };
                    kept = Some((version, seen));
                    assert!(seen >= least, "{seen} after {least} was acknowledged");
                }
            });
        }
        writers.join().unwrap();
    });
}
