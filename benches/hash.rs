//! The fingerprint's digest over 64 MiB, beside the programs that compute the same one.
//! Absolute times say little; the ratio of two in one run does.

use std::hint::black_box;
use std::process::{Command, Stdio};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use lxd_image::Hasher;

/// What the library's own readers give to a hasher at a time.
const PIECE: usize = 256 << 10;
const LENGTH: usize = 64 << 20;

fn hash(criterion: &mut Criterion) {
    let data: Vec<u8> =
        (0..LENGTH as u64 / 8).flat_map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes()).collect();
    let file = std::env::temp_dir().join(format!("lxd-image-bench-hash-{}", std::process::id()));
    std::fs::write(&file, &data).expect("the temporary directory takes 64 MiB");

    let mut group = criterion.benchmark_group("hash");
    group.throughput(Throughput::Bytes(data.len() as u64)).sample_size(10);
    group.bench_function("lxd-image, in memory", |bencher| {
        bencher.iter(|| {
            let mut hasher = Hasher::new();
            data.chunks(PIECE).for_each(|piece| hasher.update(piece));
            black_box(hasher.finish())
        });
    });
    // As the programs do it: the file is opened and read, too.
    group.bench_function("lxd-image, of a file", |bencher| {
        bencher.iter(|| {
            let mut hasher = Hasher::new();
            hasher.read_all(std::fs::File::open(&file).expect("the file is there")).expect("it can be read");
            black_box(hasher.finish())
        });
    });
    for (program, arguments) in [("openssl", &["dgst", "-sha256"][..]), ("sha256sum", &[])] {
        let run =
            || Command::new(program).args(arguments).arg(&file).stdout(Stdio::null()).stderr(Stdio::null()).status();
        if !run().is_ok_and(|status| status.success()) {
            println!("{program} is not installed; left out");
            continue;
        }
        group.bench_function(program, |bencher| bencher.iter(run));
    }
    group.finish();
    let _ = std::fs::remove_file(file);
}

criterion_group!(benches, hash);
criterion_main!(benches);
