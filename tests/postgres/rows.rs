//! Rows that cannot be read, damage, order, and the indexes that queries use.

use std::collections::BTreeSet;

use lxd_image::Monitor;
use lxd_image::format::ImageType;
use lxd_image::metadata::Architecture;
use lxd_image::store::{
    Alias, AliasQuery, Catalog, ImageQuery, MemoryCatalog, Object, ObjectState, Order, PostgresCatalog, PostgresOptions,
};

use super::cluster::{Cluster, shared};
use super::sample;

#[test]
fn rows_that_cannot_be_read_are_named_and_hide_no_other() {
    let Some(cluster) = shared() else { return };
    let (catalog, database) = cluster.catalog_with(&PostgresOptions::new());
    let mut images: Vec<_> = (0_u32..10).map(|number| sample(number.to_le_bytes())).collect();
    images.sort_by_key(|image| image.fingerprint);
    catalog.write(&mut |rows| images.iter().try_for_each(|image| rows.insert(image))).unwrap();
    let damage = [
        (1, "properties = '{\"a\": 1}'"),
        (4, "architecture = 'toaster'"),
        (5, "object = '../../etc/passwd'"),
        (9, "source = '{'"),
    ];
    let mut bad = BTreeSet::new();
    for (index, change) in damage {
        let fingerprint = images[index].fingerprint.to_string();
        let sql = format!("UPDATE lxd_image.image SET {change} WHERE fingerprint = '{fingerprint}'");
        cluster.sql(&database, &sql);
        bad.insert(fingerprint);
    }
    let good: Vec<_> = [0, 2, 3, 6, 7, 8].map(|index: usize| images[index].fingerprint).to_vec();
    for order in [Order::Fingerprint, Order::Alias] {
        for limit in [1, 2, 3, 100] {
            let mut query = ImageQuery::new().order(order).limit(limit);
            let (mut found, mut skipped) = (Vec::new(), BTreeSet::new());
            loop {
                let page = catalog.images(&query).unwrap();
                found.extend(page.images.iter().map(|image| image.fingerprint));
                skipped.extend(page.skipped.into_iter().map(|(name, _)| name));
                if page.next.is_none() {
                    break;
                }
                query = query.after(page.next);
            }
            assert_eq!((&found, &skipped), (&good, &bad), "{order:?}, {limit}");
        }
    }
}

#[test]
fn check_finds_what_contradicts() {
    let Some(cluster) = shared() else { return };
    let cases = [
        "DELETE FROM property",
        "INSERT INTO property VALUES ('a', 'b')",
        "UPDATE image SET first_alias = 'z'",
        "ALTER TABLE alias DROP CONSTRAINT alias_target_type_fkey; UPDATE alias SET target = repeat('a', 64)",
        "ALTER TABLE alias DROP CONSTRAINT alias_target_type_fkey; UPDATE alias SET type = 'virtual-machine'",
        "INSERT INTO object VALUES ('k', 'no fingerprint', 'dead', NULL, NULL, 0)",
        "DROP TRIGGER change_alias ON alias",
        "ALTER TABLE image DISABLE TRIGGER image_properties",
    ];
    for sql in cases {
        let (catalog, database) = cluster.catalog_with(&PostgresOptions::new());
        let mut image = sample("one");
        image.properties.set("a", "b").unwrap();
        catalog
            .write(&mut |rows| {
                rows.insert(&image)?;
                rows.set_alias(&Alias::new("a").unwrap(), &image.target())
            })
            .unwrap();
        assert_eq!(catalog.check(&Monitor::none()).unwrap(), [""; 0], "before {sql}");
        cluster.sql(&database, &format!("SET search_path = lxd_image; {sql}"));
        assert_eq!(catalog.check(&Monitor::none()).unwrap().len(), 1, "{sql}");
    }
}

#[test]
fn values_that_no_row_may_have_are_refused_by_the_database() {
    let Some(cluster) = shared() else { return };
    let (catalog, database) = cluster.catalog_with(&PostgresOptions::new());
    catalog.write(&mut |rows| rows.insert(&sample("one"))).unwrap();
    for change in ["type = 'toaster'", "size = -1", "fingerprint = 'x'", "properties = '[]'", "revision = -1"] {
        let sql = format!(
            "DO $$ BEGIN UPDATE lxd_image.image SET {change}; RAISE 'accepted'; \
             EXCEPTION WHEN check_violation THEN NULL; END $$"
        );
        cluster.sql(&database, &sql);
    }
}

#[test]
fn order_is_that_of_bytes_in_a_database_with_another_order() {
    let Some(cluster) = shared() else { return };
    let (catalog, memory) = (cluster.catalog(), MemoryCatalog::new());
    for names in [["a", "B"], ["ä", "z"], ["a/b", "a-b"], ["Z", "_"], ["\u{1f600}", "\u{ffff}"], ["e\u{301}", "é"]] {
        for (number, name) in names.iter().enumerate() {
            let image = sample(format!("{names:?} {number}"));
            let alias = Alias::new(*name).unwrap();
            for of in [&catalog as &dyn Catalog, &memory] {
                of.write(&mut |rows| {
                    rows.insert(&image)?;
                    rows.set_alias(&alias, &image.target())
                })
                .unwrap();
            }
        }
    }
    for limit in [1, 3, 100] {
        let query = ImageQuery::new().order(Order::Alias).limit(limit);
        assert_eq!(catalog.images(&query).unwrap().images, memory.images(&query).unwrap().images);
        let all = |of: &dyn Catalog| {
            let (mut query, mut found) = (AliasQuery::new().limit(limit), Vec::new());
            loop {
                let page = of.aliases(&query).unwrap();
                found.extend(page.aliases);
                if page.next.is_none() {
                    return found;
                }
                query = query.after(page.next);
            }
        };
        assert_eq!(all(&catalog), all(&memory));
    }
}

#[test]
fn property_that_is_longer_than_an_entry_of_an_index_is_found() {
    let Some(cluster) = shared() else { return };
    let catalog = cluster.catalog();
    let mut image = sample("one");
    let text: String = (0..40_000_u32).map(|number| char::from_u32(97 + number * number % 26).unwrap()).collect();
    image.properties.set("long", text.clone()).unwrap();
    catalog.write(&mut |rows| rows.insert(&image)).unwrap();
    let found = catalog.fingerprints(&ImageQuery::new().property("long", text)).unwrap().0;
    assert_eq!(found, [image.fingerprint]);
}

#[test]
fn sums_of_sizes_never_wrap() {
    let Some(cluster) = shared() else { return };
    let catalog = cluster.catalog();
    for number in 0..3_u32 {
        let mut image = sample(number.to_le_bytes());
        image.size = u64::MAX;
        catalog.write(&mut |rows| rows.insert(&image)).unwrap();
    }
    assert_eq!(catalog.totals(&ImageQuery::new()).unwrap().bytes, u64::MAX);
}

#[test]
fn stores_in_different_schemas_of_one_database_are_apart() {
    let Some(cluster) = shared() else { return };
    let database = cluster.database();
    let open = |schema: &str, id: &str| {
        PostgresCatalog::init(&cluster.socket_url(&database), id, &PostgresOptions::new().schema(schema)).unwrap()
    };
    let (one, two) = (open("one", "id-1"), open("two", "id-2"));
    one.write(&mut |rows| rows.insert(&sample("one"))).unwrap();
    assert_eq!(
        (one.totals(&ImageQuery::new()).unwrap().images, two.totals(&ImageQuery::new()).unwrap().images),
        (1, 0)
    );
    assert_eq!((one.store_id(), two.store_id()), ("id-1", "id-2"));
    let before = two.version().unwrap();
    one.write(&mut |rows| rows.insert(&sample("two"))).unwrap();
    assert_eq!(two.version().unwrap(), before);
}

/// How many rows the plans are made for: 20,000, or as many as the environment says.
fn many() -> u32 {
    std::env::var("LXD_IMAGE_POSTGRES_ROWS").ok().and_then(|text| text.parse().ok()).unwrap_or(20_000)
}

/// Fills the tables in the database itself, as that is faster.
fn fill(cluster: &Cluster, database: &str, count: u32) {
    let sql = format!(
        "SET search_path = lxd_image; SET synchronous_commit = off;
         CREATE TEMP TABLE number AS SELECT n, encode(sha256(n::text::bytea), 'hex') AS f FROM generate_series(1, {count}) AS n;
         INSERT INTO image SELECT f, CASE WHEN n % 50 = 0 THEN 'virtual-machine' ELSE 'container' END,
             CASE WHEN n % 1000 = 0 THEN 's390x' WHEN n % 3 = 0 THEN 'aarch64' ELSE 'x86_64' END, n * 1000, NULL, n, NULL, n, NULL,
             n % 2 = 0, n % 100 = 0, n % 7 = 0, NULL, NULL, NULL,
             json_build_object('os', CASE WHEN n % 4 = 0 THEN 'Debian' ELSE 'Alpine' END, 'serial', n::text, 'release',
             'r' || n % 500), '{{}}', 1, f || '.0000000000000000', NULL, NULL, NULL FROM number;
         INSERT INTO alias SELECT 'os/' || n, CASE WHEN n % 50 = 0 THEN 'virtual-machine' ELSE 'container' END, f, '' FROM number
             WHERE n % 5 > 0;
         INSERT INTO object SELECT f || '.note', f, 'dead', NULL, NULL, 0 FROM number WHERE n % 10 = 0;
         ANALYZE"
    );
    cluster.sql(database, &sql);
    cluster.sql(database, "VACUUM");
}

/// All calls that read, in many forms.
fn read_everything(catalog: &dyn Catalog) {
    let known = catalog.alias("os/51", ImageType::Container).unwrap().unwrap().1.fingerprint;
    assert!(catalog.image(&known).unwrap().is_some());
    let prefix: lxd_image::FingerprintPrefix = known.to_string()[..6].parse().unwrap();
    assert!(catalog.with_prefix(&prefix, 10).unwrap().contains(&known));
    let page = catalog.aliases(&AliasQuery::new().prefix("os/1").limit(50)).unwrap();
    catalog.aliases(&AliasQuery::new().image_type(ImageType::VirtualMachine).after(page.next).limit(50)).unwrap();
    let note = catalog.objects(None, 50).unwrap().pop().unwrap();
    catalog.objects(Some(&note.key), 50).unwrap();
    catalog.object(&note.key).unwrap();
    catalog.version().unwrap();
    for query in queries(&prefix) {
        for order in [Order::Fingerprint, Order::Alias] {
            let query = query.clone().order(order).limit(50);
            let page = catalog.images(&query).unwrap();
            catalog.fingerprints(&query.clone().after(page.next)).unwrap();
        }
        catalog.totals(&query).unwrap();
    }
}

/// Filters with many matches, few and none, alone and together.
fn queries(prefix: &lxd_image::FingerprintPrefix) -> Vec<ImageQuery> {
    let new = ImageQuery::new;
    vec![
        new().public(true),
        new().cached(true),
        new().auto_update(true),
        new().image_type(ImageType::VirtualMachine),
        new().architecture(Architecture::S390x),
        new().architecture(Architecture::X86_64),
        new().architecture(Architecture::Riscv64),
        new().size(5_000_000),
        new().prefix(prefix.clone()),
        new().property("os", "Debian"),
        new().property("serial", "77"),
        new().property("serial", "none"),
        new().property("release", "r7"),
        new().public(true).property("os", "Debian"),
        new().public(false).property("serial", "77"),
        new().public(true).architecture(Architecture::Aarch64).image_type(ImageType::Container),
        new().public(true).property("os", "Debian").property("release", "r8"),
        new().cached(true).prefix(prefix.clone()),
        new(),
    ]
}

#[test]
fn every_read_follows_an_index() {
    let Some(cluster) = Cluster::start("session_preload_libraries = 'auto_explain'") else { return };
    let (catalog, database) = cluster.catalog_with(&PostgresOptions::new());
    fill(&cluster, &database, many());
    // From here on the server logs the plan of every statement, and what it really read.
    cluster.sql(
        &database,
        &format!(
            "ALTER DATABASE {database} SET auto_explain.log_min_duration = 0; \
             ALTER DATABASE {database} SET auto_explain.log_analyze = on; \
             ALTER DATABASE {database} SET auto_explain.log_timing = off; \
             ALTER DATABASE {database} SET auto_explain.log_nested_statements = on; \
             ALTER ROLE images SUPERUSER"
        ),
    );
    drop(catalog);
    let catalog = PostgresCatalog::connect(&cluster.socket_url(&database), &PostgresOptions::new()).unwrap();
    let start = cluster.log().len();
    read_everything(&catalog);
    write_something(&catalog);
    let log = cluster.log();
    let plans: Vec<&str> =
        log[start..].split("LOG:  duration: ").skip(1).filter(|plan| plan.contains("lxd_image")).collect();
    assert!(plans.len() > 100, "{} plans", plans.len());
    for plan in &plans {
        for table in ["image", "alias", "property", "object", "commit_log"] {
            assert!(!plan.contains(&format!("Seq Scan on {table} ")), "{plan}");
            assert!(!plan.contains(&format!("Seq Scan on lxd_image.{table} ")), "{plan}");
        }
        // Totals read all matches; everything else reads at most what it counts, with its filters.
        if !plan.contains("sum(") {
            let read = plan.split("(actual rows=").skip(1).filter_map(|rest| {
                let mut numbers = rest.split(|other: char| !other.is_ascii_digit()).filter(|text| !text.is_empty());
                let rows: u64 = numbers.next()?.parse().ok()?;
                let loops: u64 = numbers.next()?.parse().ok()?;
                rows.checked_mul(loops)
            });
            let filtered = plan
                .split("Rows Removed by ")
                .skip(1)
                .filter_map(|rest| rest.split(": ").nth(1)?.split_whitespace().next()?.parse::<u64>().ok());
            assert!(read.max().unwrap_or(0) <= 1_001, "{plan}");
            assert!(filtered.max().unwrap_or(0) <= 2_000, "{plan}");
        }
    }
}

/// An image comes, changes and goes.
fn write_something(catalog: &dyn Catalog) {
    let mut image = sample("new");
    image.properties.set("os", "Debian").unwrap();
    let note = Object::new(image.objects.image.clone(), image.fingerprint, ObjectState::Dead { delete_after: 0 });
    let alias = Alias::new("os/1").unwrap();
    catalog
        .write(&mut |rows| {
            rows.image(&image.fingerprint)?;
            rows.put_object(&note)?;
            rows.insert(&image)?;
            rows.set_alias(&alias, &image.target())?;
            rows.object(&note.key)?;
            rows.remove_object(&note.key)?;
            rows.set_sidecar(&image.fingerprint, 0, &note.key)?;
            rows.set_last_used(&image.fingerprint, 1)?;
            let mut changed = image.clone();
            changed.revision = 1;
            rows.update(&changed, 0)
        })
        .unwrap();
    catalog.write(&mut |rows| rows.remove(&image.fingerprint)).unwrap();
}
