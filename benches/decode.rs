//! Decoding speed, codec by codec, beside the command-line program of the same format.
//! Absolute times say little; the ratio of two in one run does.

use std::hint::black_box;
use std::io::{Read, Write};
use std::process::{Command, Stdio};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use lxd_image::Limits;
use lxd_image::format::{Codec, Compression, decode, encode};

/// Words, numbers and holes: compresses about three to one, as a root file system does.
fn input(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut data = Vec::with_capacity(length + 1024);
    while data.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        match state % 9 {
            0..=2 => data.extend_from_slice(&state.to_le_bytes()),
            3 => data.resize(data.len() + (state >> 8) as usize % 200, 0),
            n => data.extend_from_slice(format!("/usr/share/doc/package-{}/{n} ", state >> 48).as_bytes()),
        }
    }
    data
}

fn drain(packed: &[u8], threads: usize) {
    let (_, mut reader) = decode(packed, &Limits::default(), threads).expect("a known format");
    let mut buffer = vec![0; 256 << 10];
    while reader.read(&mut buffer).expect("a whole stream") > 0 {
        black_box(&buffer);
    }
}

/// Whether `program` could be run on `packed`.
fn run(program: &str, packed: &[u8]) -> bool {
    let child = Command::new(program).arg("-dc").stdin(Stdio::piped()).stdout(Stdio::null()).spawn();
    let Ok(mut child) = child else { return false };
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(packed).expect("the program reads");
    }
    child.wait().is_ok_and(|status| status.success())
}

fn decoding(criterion: &mut Criterion) {
    let data = input(48 << 20);
    for codec in Codec::ALL.iter().copied().filter(|codec| codec.is_enabled() && *codec != Codec::None) {
        let mut packed = Vec::new();
        let level = if matches!(codec, Codec::Xz | Codec::Lzma) { Some(1) } else { None };
        let compression = level.map_or(Compression::new(codec), |level| {
            Compression::with_level(codec, level).expect("a level of the codec")
        });
        let mut encoder = encode(compression, &mut packed, 2).expect("an encoder");
        encoder.write_all(&data).expect("memory takes all");
        encoder.finish().expect("memory takes all");

        let mut group = criterion.benchmark_group(format!("decode/{codec}"));
        group.throughput(Throughput::Bytes(data.len() as u64)).sample_size(10);
        for threads in [1, 2] {
            group.bench_with_input(BenchmarkId::new("lxd-image", threads), &threads, |bencher, &threads| {
                bencher.iter(|| drain(&packed, threads));
            });
        }
        let programs: &[&str] = match codec {
            Codec::Gzip => &["gzip", "pigz"],
            Codec::Bzip2 => &["bzip2", "lbzip2"],
            Codec::Xz | Codec::Lzma => &["xz"],
            Codec::Zstd => &["zstd"],
            _ => &["lz4"],
        };
        for program in programs {
            if !run(program, &packed) {
                println!("{program} is not installed; left out");
                continue;
            }
            group.bench_function(*program, |bencher| bencher.iter(|| run(program, &packed)));
        }
        group.finish();
    }
}

criterion_group!(benches, decoding);
criterion_main!(benches);
