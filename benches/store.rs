//! The store among 100, 20,000 and 100,000 images: opening, resolving, pages of lists, importing one more, pruning.
//! What must not grow with the number of images is measured at each. `LXD_IMAGE_BENCH_STORE=100,1000` measures at other sizes.
#![allow(missing_docs, clippy::unwrap_used, reason = "a bench may panic")]

use std::hint::black_box;
use std::io::Cursor;
use std::path::PathBuf;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use lxd_image::format::{ImageSource, Input};
use lxd_image::store::{
    Alias, Catalog, ImageQuery, ImportOptions, Order, PruneOptions, SqliteCatalog, Store, StoredImage,
};
use lxd_image::{Fingerprint, Monitor};

#[path = "../tests/it/store/tar.rs"]
mod tar;

use self::tar::member;

fn image(number: usize) -> ImageSource {
    let mut out = Vec::new();
    let yaml = format!(
        "architecture: amd64\ncreation_date: 1700000000\nproperties: {{os: Debian, serial: '{number}', release: '12', description: a small image}}\n"
    );
    member(&mut out, "metadata.yaml", b'0', yaml.as_bytes());
    member(&mut out, "rootfs/", b'5', b"");
    out.resize(out.len() + 1024, 0);
    ImageSource::unified(Input::stream(Cursor::new(out)))
}

/// The numbers of images to measure at.
fn sizes() -> Vec<usize> {
    match std::env::var("LXD_IMAGE_BENCH_STORE") {
        Ok(text) => text.split(',').map(|size| size.trim().parse().unwrap()).collect(),
        Err(_) => vec![100, 20_000, 100_000],
    }
}

/// A store with `count` images. Their rows are real; of their files only the first one's are, for
/// making 100,000 files durable one by one takes longer than all measurements.
fn filled(count: usize) -> (PathBuf, Store, SqliteCatalog, StoredImage) {
    let path = std::env::temp_dir().join(format!("lxd-image-bench-{}-{count}", std::process::id()));
    let _ = std::fs::remove_dir_all(&path);
    let store = Store::open(&path).unwrap();
    let first = store
        .import(image(usize::MAX), &ImportOptions::new().alias(Alias::new("first").unwrap()), &Monitor::none())
        .unwrap();
    let rows = SqliteCatalog::of_store(&path).unwrap();
    rows.write(&mut |catalog| {
        for number in 0..count {
            let mut row = first.clone();
            row.fingerprint = Fingerprint::of(&number.to_le_bytes());
            row.public = number % 2 == 0;
            row.properties.set("serial", number.to_string())?;
            catalog.insert(&row)?;
            catalog.set_alias(&Alias::new(format!("debian/{number}/amd64"))?, &row.target())?;
        }
        Ok(())
    })
    .unwrap();
    (path, store, rows, first)
}

fn store(criterion: &mut Criterion) {
    for count in sizes() {
        let (path, store, rows, first) = filled(count);
        let mut group = criterion.benchmark_group(format!("store of {count}"));
        group.sample_size(20);
        group.bench_function("open", |bench| bench.iter(|| Store::open(black_box(&path)).unwrap()));
        let digits = first.fingerprint.to_string();
        for (name, reference) in
            [("an alias", "debian/50/amd64"), ("a prefix", &digits[..12]), ("a fingerprint", digits.as_str())]
        {
            group.bench_function(format!("resolve {name}"), |bench| {
                bench.iter(|| store.resolve(black_box(reference)).unwrap());
            });
        }
        let middle = rows.alias("debian/50/amd64", first.image_type).unwrap().unwrap().1.fingerprint;
        let after = rows.image(&middle).unwrap().as_ref().map(lxd_image::store::Position::after);
        let all = || ImageQuery::new().limit(100);
        let queries = [
            ("all", all()),
            ("all, from the middle", all().after(after.clone())),
            ("all by alias", all().order(Order::Alias)),
            ("all by alias, from the middle", all().order(Order::Alias).after(after)),
            ("public ones", all().public(true)),
            ("public ones by alias", all().public(true).order(Order::Alias)),
            ("those with a property that all have", all().property("os", "Debian")),
            ("those with a property that all have, by alias", all().property("os", "Debian").order(Order::Alias)),
            ("those with a property that one has", all().property("serial", "77")),
            ("those with two properties", all().property("os", "Debian").property("serial", "77").public(false)),
        ];
        for (name, query) in &queries {
            group.bench_function(format!("page of 100: {name}"), |bench| {
                bench.iter(|| assert!(!rows.images(black_box(query)).unwrap().images.is_empty()));
            });
        }
        group.bench_function("page of 100: fingerprints", |bench| {
            bench.iter(|| rows.fingerprints(black_box(&all())).unwrap());
        });
        // This one grows: it counts.
        group.bench_function("totals", |bench| bench.iter(|| rows.totals(black_box(&all())).unwrap()));
        let mut number = 1_000_000;
        group.bench_function("import one more and delete it", |bench| {
            bench.iter_batched(
                || {
                    number += 1;
                    image(number)
                },
                |source| {
                    let done = store.import(source, &ImportOptions::new(), &Monitor::none()).unwrap();
                    store.delete(&done.fingerprint).unwrap();
                },
                BatchSize::PerIteration,
            );
        });
        group.bench_function("import a cached one and prune it", |bench| {
            bench.iter_batched(
                || {
                    number += 1;
                    let options = ImportOptions::new().cached(true).expires_at(1);
                    store.import(image(number), &options, &Monitor::none()).unwrap();
                },
                |()| assert_eq!(store.prune(&PruneOptions::default(), &Monitor::none()).unwrap().images.len(), 1),
                BatchSize::PerIteration,
            );
        });
        group.finish();
        drop(rows);
        drop(store);
        std::fs::remove_dir_all(path).unwrap();
    }
}

criterion_group!(benches, store);
criterion_main!(benches);
