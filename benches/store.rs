//! The store among 100 and among 20,000 images: opening, resolving, listing, importing one more, pruning.
//! What must not grow with the number of images is measured at both.
#![allow(missing_docs, clippy::unwrap_used, reason = "a bench may panic")]

use std::hint::black_box;
use std::io::Cursor;
use std::path::PathBuf;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use lxd_image::Fingerprint;
use lxd_image::format::{Input, Source};
use lxd_image::store::{Alias, Catalog, Filter, ImportOptions, PrunePolicy, SqliteCatalog, Store, StoredImage};

fn member(out: &mut Vec<u8>, name: &str, kind: u8, content: &[u8]) {
    let mut header = [0_u8; 512];
    let mut put = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, name);
    put(100, "0000755\0");
    put(124, &format!("{:011o}\0", content.len()));
    put(257, "ustar\x0000");
    header[156] = kind;
    header[148..156].copy_from_slice(b"        ");
    let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    out.extend_from_slice(&header);
    out.extend_from_slice(content);
    out.resize(out.len().next_multiple_of(512), 0);
}

fn image(number: usize) -> Source {
    let mut out = Vec::new();
    let yaml = format!(
        "architecture: amd64\ncreation_date: 1700000000\nproperties: {{os: Debian, serial: '{number}', release: '12', description: a small image}}\n"
    );
    member(&mut out, "metadata.yaml", b'0', yaml.as_bytes());
    member(&mut out, "rootfs/", b'5', b"");
    out.resize(out.len() + 1024, 0);
    Source::unified(Input::stream(Cursor::new(out)))
}

/// A store with `count` images. Their rows are real; of their files only the first one's are, for
/// making 20,000 files durable one by one takes longer than all measurements.
fn filled(count: usize) -> (PathBuf, Store, StoredImage) {
    let path = std::env::temp_dir().join(format!("lxd-image-bench-{}-{count}", std::process::id()));
    let _ = std::fs::remove_dir_all(&path);
    let store = Store::open(&path).unwrap();
    let first = store.import(image(usize::MAX), &ImportOptions::new().alias(Alias::new("first").unwrap())).unwrap();
    let rows: Arc<dyn Catalog> = Arc::new(SqliteCatalog::of_store(&path).unwrap());
    rows.write(&mut |catalog| {
        for number in 0..count {
            let mut row = first.clone();
            row.fingerprint = Fingerprint::of(&number.to_le_bytes());
            row.properties.set("serial", number.to_string())?;
            catalog.put(&row)?;
            catalog.set_alias(&Alias::new(format!("debian/{number}/amd64"))?, &row.fingerprint)?;
        }
        Ok(())
    })
    .unwrap();
    (path, store, first)
}

fn store(criterion: &mut Criterion) {
    for count in [100, 20_000] {
        let (path, store, first) = filled(count);
        let mut group = criterion.benchmark_group(format!("store of {count}"));
        group.sample_size(20);
        group.bench_function("open", |bench| bench.iter(|| Store::open(black_box(&path)).unwrap()));
        let digits = first.fingerprint.to_string();
        group.bench_function("resolve a prefix", |bench| {
            bench.iter(|| store.resolve(black_box(&digits[..12])).unwrap());
        });
        group.bench_function("resolve an alias", |bench| {
            bench.iter(|| store.resolve(black_box("debian/50/amd64")).unwrap());
        });
        let filters: [Filter; 2] = ["serial=77".parse().unwrap(), "architecture=amd64".parse().unwrap()];
        group.bench_function("list with a filter", |bench| {
            bench.iter(|| assert_eq!(store.list(black_box(&filters)).unwrap().len(), 1));
        });
        group.bench_function("list all", |bench| bench.iter(|| assert_eq!(store.list(&[]).unwrap().len(), count + 1)));
        let mut number = 1_000_000;
        group.bench_function("import one more and delete it", |bench| {
            bench.iter_batched(
                || {
                    number += 1;
                    image(number)
                },
                |source| {
                    let done = store.import(source, &ImportOptions::new()).unwrap();
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
                    store.import(image(number), &options).unwrap();
                },
                |()| assert_eq!(store.prune(&PrunePolicy::default()).unwrap().images.len(), 1),
                BatchSize::PerIteration,
            );
        });
        group.finish();
        drop(store);
        std::fs::remove_dir_all(path).unwrap();
    }
}

criterion_group!(benches, store);
criterion_main!(benches);
