//! The catalog on PostgreSQL with few and many images: how a call's time grows.
//!
//! `LXD_IMAGE_POSTGRES_URL` names an empty database that the user owns; `LXD_IMAGE_POSTGRES_ROWS` the numbers of images,
//! separated by commas (100,100000). Each number has a schema of its own, which is filled once and stays. Criterion tells the
//! typical time of one caller; what follows it tells the median and the 99th percentile, also of 32 callers at once.
#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark may panic")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use lxd_image::format::{ImageForm, ImageType};
use lxd_image::metadata::Architecture;
use lxd_image::store::{
    Alias, Catalog, ImageObjects, ImageQuery, Order, PostgresCatalog, PostgresOptions, StoredImage,
};
use lxd_image::{Fingerprint, FingerprintPrefix};

fn image(number: u64) -> StoredImage {
    let fingerprint = Fingerprint::of(&number.to_le_bytes());
    let mut image = StoredImage::new(fingerprint, ImageType::Container, Architecture::X86_64);
    image.objects = ImageObjects::new(&fingerprint, ImageForm::Unified);
    image.size = number;
    image.public = number.is_multiple_of(2);
    image.properties.set("os", if number.is_multiple_of(4) { "Debian" } else { "Alpine" }).unwrap();
    image.properties.set("serial", number.to_string()).unwrap();
    image
}

/// Inserts what is missing, many at a time.
fn fill(catalog: &PostgresCatalog, count: u64) {
    let there = catalog.totals(&ImageQuery::new()).unwrap().images;
    let numbers: Vec<u64> = (there..count).collect();
    for batch in numbers.chunks(2_000) {
        catalog
            .write(&mut |rows| {
                batch.iter().try_for_each(|&number| {
                    let image = image(number);
                    rows.insert(&image)?;
                    rows.set_alias(&Alias::new(format!("os/{number}"))?, &image.target())
                })
            })
            .unwrap();
    }
}

fn calls(criterion: &mut Criterion) {
    let Ok(url) = std::env::var("LXD_IMAGE_POSTGRES_URL") else {
        eprintln!("postgres: LXD_IMAGE_POSTGRES_URL names no database");
        return;
    };
    let counts = std::env::var("LXD_IMAGE_POSTGRES_ROWS").unwrap_or_else(|_| "100,100000".to_owned());
    let mut group = criterion.benchmark_group("postgres");
    for count in counts.split(',').map(|text| text.trim().parse::<u64>().unwrap()) {
        let options = PostgresOptions::new().schema(format!("bench_{count}"));
        let catalog = PostgresCatalog::init(&url, "bench", &options).unwrap();
        fill(&catalog, count);
        let known = image(count / 2);
        let prefix: FingerprintPrefix = known.fingerprint.to_string()[..12].parse().unwrap();
        let name = format!("os/{}", count / 2);
        group.bench_function(BenchmarkId::new("alias", count), |bench| {
            bench.iter(|| black_box(catalog.alias(&name, ImageType::Container).unwrap()));
        });
        group.bench_function(BenchmarkId::new("prefix", count), |bench| {
            bench.iter(|| black_box(catalog.with_prefix(&prefix, 2).unwrap()));
        });
        group.bench_function(BenchmarkId::new("fingerprint", count), |bench| {
            bench.iter(|| black_box(catalog.image(&known.fingerprint).unwrap()));
        });
        let page = ImageQuery::new().public(true).property("os", "Debian").order(Order::Alias).limit(100);
        group.bench_function(BenchmarkId::new("page", count), |bench| {
            bench.iter(|| black_box(catalog.images(&page).unwrap()));
        });
        group.bench_function(BenchmarkId::new("version", count), |bench| {
            bench.iter(|| black_box(catalog.version().unwrap()));
        });
        let new = image(u64::MAX / 2);
        let alias = Alias::new("one-more").unwrap();
        // With its removal, so that the number of images stays.
        group.bench_function(BenchmarkId::new("import-and-remove", count), |bench| {
            bench.iter(|| {
                catalog
                    .write(&mut |rows| {
                        rows.insert(&new)?;
                        rows.set_alias(&alias, &new.target())
                    })
                    .unwrap();
                catalog.write(&mut |rows| rows.remove(&new.fingerprint)).unwrap();
            });
        });
        group.bench_function(BenchmarkId::new("open", count), |bench| {
            bench.iter(|| black_box(PostgresCatalog::connect(&url, &options).unwrap()));
        });
        for callers in [1, 32] {
            percentiles(&format!("alias/{count}"), callers, &|_| {
                catalog.alias(&name, ImageType::Container).unwrap();
            });
            percentiles(&format!("page/{count}"), callers, &|_| {
                catalog.images(&page).unwrap();
            });
            percentiles(&format!("import-and-remove/{count}"), callers, &|caller| {
                let new = image(u64::MAX / 2 + 1 + caller);
                let alias = Alias::new(format!("one-more-{caller}")).unwrap();
                let insert = catalog.write(&mut |rows| {
                    rows.insert(&new)?;
                    rows.set_alias(&alias, &new.target())
                });
                insert.unwrap();
                catalog.write(&mut |rows| rows.remove(&new.fingerprint)).unwrap();
            });
        }
    }
    group.finish();
}

/// Calls for three seconds from some threads at once, and prints how many calls ended and how long they took.
fn percentiles(name: &str, callers: u64, call: &(dyn Fn(u64) + Sync)) {
    const LENGTH: Duration = Duration::from_secs(3);
    let mut times: Vec<Duration> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..callers)
            .map(|caller| {
                scope.spawn(move || {
                    let (begun, mut times) = (Instant::now(), Vec::new());
                    while begun.elapsed() < LENGTH {
                        let call_begun = Instant::now();
                        call(caller);
                        times.push(call_begun.elapsed());
                    }
                    times
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    times.sort_unstable();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100].as_secs_f64() * 1e3;
    println!(
        "{name}, {callers} callers: {:.0} calls/s, p50 {:.2} ms, p99 {:.2} ms",
        times.len() as f64 / LENGTH.as_secs_f64(),
        at(50),
        at(99)
    );
}

criterion_group!(benches, calls);
criterion_main!(benches);
