//! Packing and unpacking a tree of 2,000 small files, beside `tar` and the compressors' programs.
//! Ours verify the fingerprint too. Absolute times say little; the ratio of two in one run does.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use lxd_image::format::{Codec, Compression, Image, ImageSource, PackOptions, Rootfs, UnpackOptions, pack};
use lxd_image::{Metadata, Monitor};

/// A directory that goes away with the run; in memory where there is such a place, so that a slow
/// disk hides nothing.
struct Place(PathBuf);

impl Place {
    fn new() -> Self {
        let shm = Path::new("/dev/shm");
        let base = if shm.is_dir() { shm.to_path_buf() } else { std::env::temp_dir() };
        let path = base.join(format!("lxd-image-bench-unpack-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).expect("a directory");
        Self(path)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn without(&self, name: &str) -> PathBuf {
        let path = self.at(name);
        let _ = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        path
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// Words and numbers that compress about three to one, as a root file system does.
fn content(length: usize, state: &mut u64) -> Vec<u8> {
    let mut data = Vec::with_capacity(length + 64);
    while data.len() < length {
        match next(state) {
            number if number % 3 == 0 => data.extend_from_slice(&number.to_le_bytes()),
            number => data.extend_from_slice(format!("/usr/share/doc/package-{}/ ", number >> 48).as_bytes()),
        }
    }
    data.truncate(length);
    data
}

/// Forty directories of fifty members: files of up to 128 KiB, links of both kinds, holes.
fn make_tree(root: &Path) {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for directory in 0..40 {
        let directory = root.join(format!("usr/share/package-{directory}"));
        fs::create_dir_all(&directory).expect("a directory");
        for number in 0..50 {
            let path = directory.join(format!("member-{number}"));
            let done = match number {
                7 => symlink("member-6", &path),
                8 => fs::hard_link(directory.join("member-6"), &path),
                9 => fs::File::create(&path).and_then(|file| file.set_len(1 << 20)),
                // Most files of a system are small, and some are empty.
                10 => fs::write(&path, b""),
                _ => {
                    let most = 256_usize << (next(&mut state) % 10);
                    let length = most - (next(&mut state) % 128) as usize;
                    fs::write(&path, content(length, &mut state))
                }
            };
            done.expect("a member");
        }
    }
}

fn options(codec: Codec) -> PackOptions {
    let metadata = Metadata::new("x86_64", 1_700_000_000).expect("metadata");
    // Unpacking costs the same whatever the level, and making the image does not.
    let fast = Compression::with_level(codec, 1).ok().filter(|_| codec == Codec::Xz);
    PackOptions::new(metadata).compression(fast.unwrap_or(Compression::new(codec)))
}

/// Whether a line of shell went well. A program that is missing makes it fail.
fn shell(line: &str, place: &Place) -> bool {
    let mut shell = Command::new("bash");
    shell.args(["-ec", &format!("set -o pipefail; {line}")]).current_dir(&place.0);
    shell.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// Measures a line of shell after `before`, unless what it needs is not installed.
fn beside<M: criterion::measurement::Measurement>(
    group: &mut criterion::BenchmarkGroup<'_, M>,
    place: &Place,
    name: &str,
    before: impl Fn(),
    line: &str,
) {
    before();
    if !shell(line, place) {
        println!("`{name}` can't be run here; left out");
        return;
    }
    group.bench_function(name, |bencher| {
        bencher.iter_batched(&before, |()| assert!(shell(line, place), "it went well before"), BatchSize::PerIteration);
    });
}

fn unpacking(criterion: &mut Criterion) {
    let place = Place::new();
    make_tree(&place.at("tree"));
    let rootfs = Rootfs::open(place.at("tree")).expect("the tree");
    for (codec, program) in [(Codec::None, "cat"), (Codec::Gzip, "gzip"), (Codec::Zstd, "zstd"), (Codec::Xz, "xz")] {
        if !codec.is_enabled() {
            continue;
        }
        let image = place.at(&format!("image-{codec}"));
        let written = pack(&rootfs, &image, &options(codec), &Monitor::none()).expect("an image");
        let mut group = criterion.benchmark_group(format!("unpack/{codec}"));
        group.sample_size(10);
        group.bench_function("lxd-image", |bencher| {
            bencher.iter_batched(
                || place.without("out"),
                |out| {
                    let image = Image::open(ImageSource::open(&image, None).expect("the image")).expect("an image");
                    image
                        .unpack_verified(out, &written.fingerprint, &UnpackOptions::new(), &Monitor::none())
                        .expect("a tree")
                },
                BatchSize::PerIteration,
            );
        });
        let decode = if program == "cat" { "cat".to_owned() } else { format!("{program} -dc") };
        let fresh = || fs::create_dir(place.without("out")).expect("a directory");
        let line = format!("sha256sum image-{codec}; {decode} <image-{codec} | tar -C out --numeric-owner -xf -");
        beside(&mut group, &place, &format!("sha256sum, then {program} into tar"), fresh, &line);
        let line =
            format!("sha256sum image-{codec} & {decode} <image-{codec} | tar -C out --numeric-owner -xf -; wait");
        beside(&mut group, &place, &format!("sha256sum beside {program} into tar"), fresh, &line);
        group.finish();
    }
}

fn packing(criterion: &mut Criterion) {
    let place = Place::new();
    make_tree(&place.at("tree"));
    let rootfs = Rootfs::open(place.at("tree")).expect("the tree");
    for (codec, program) in [(Codec::None, "cat"), (Codec::Zstd, "zstd -q -3 -T0 -c")] {
        if !codec.is_enabled() {
            continue;
        }
        let mut group = criterion.benchmark_group(format!("pack/{codec}"));
        group.sample_size(10);
        group.bench_function("lxd-image", |bencher| {
            bencher.iter_batched(
                || place.without("packed"),
                |out| pack(&rootfs, out, &options(codec), &Monitor::none()).expect("an image"),
                BatchSize::PerIteration,
            );
        });
        let line =
            format!("tar -C tree --numeric-owner --sparse --sort=name -cf - . | {program} >packed; sha256sum packed");
        let before = || drop(place.without("packed"));
        beside(&mut group, &place, &format!("tar into {program}, then sha256sum"), before, &line);
        group.finish();
    }
}

criterion_group!(benches, unpacking, packing);
criterion_main!(benches);
