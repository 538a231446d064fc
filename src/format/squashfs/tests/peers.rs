//! The reader against `mksquashfs`, `unsquashfs` and `tar2sqfs`, tree by tree.
//! Without the programs these tests say that they skip, unless they are required.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use rustix::fs::XattrFlags;

use super::super::extract::extract;
use super::super::reader::SquashFsReader;
use super::trees::{DirectorySink, Scratchpad, facts, is_root};
use crate::io::Blob;
use crate::limits::Limits;
use crate::progress::Monitor;

/// Whether the programs are there; says so if not, and fails if they are required.
pub(super) fn have(programs: &[&str]) -> bool {
    for program in programs {
        let found = Command::new(program).arg("-version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        if found.is_err() {
            assert!(
                std::env::var_os("LXD_IMAGE_REQUIRE_PEERS").is_none_or(|value| value != "1"),
                "{program} is required"
            );
            eprintln!("skipped: there is no {program}");
            return false;
        }
    }
    true
}

pub(super) fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Bytes that compress somewhat, always the same for one seed.
pub(super) fn text(seed: u32, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(12345);
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state = state.wrapping_mul(1_103_515_245).wrapping_add(12345);
        let word = [b"alpha ", b"beta  ", b"gamma ", b"delta "][(state >> 20) as usize % 4];
        bytes.extend(word);
        bytes.push((state >> 16) as u8);
    }
    bytes.truncate(length);
    bytes
}

/// A tree with some of everything that the caller may make.
pub(super) fn make_tree(top: &Path) {
    fs::create_dir_all(top.join("etc/deep/er")).unwrap();
    fs::create_dir_all(top.join("empty")).unwrap();
    fs::create_dir_all(top.join("many")).unwrap();
    fs::write(top.join("etc/hostname"), "box\n").unwrap();
    fs::write(top.join("etc/nothing"), "").unwrap();
    fs::write(top.join("etc/deep/er/file"), text(1, 5000)).unwrap();
    fs::write(top.join("big"), text(2, 3_000_123)).unwrap();
    fs::write(top.join("whole"), text(3, 1 << 20)).unwrap();
    fs::write(top.join("copy-of-big"), text(2, 3_000_123)).unwrap();
    let noise: Vec<u8> = (0..300_000u64).map(|at| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33) as u8).collect();
    fs::write(top.join("noise"), noise).unwrap();
    fs::hard_link(top.join("big"), top.join("etc/big-again")).unwrap();
    fs::hard_link(top.join("big"), top.join("a-big")).unwrap();
    for number in 0..600u32 {
        fs::write(top.join(format!("many/{number:04}")), text(number, number as usize * 7 % 3000)).unwrap();
    }
    std::os::unix::fs::symlink("etc/hostname", top.join("link")).unwrap();
    std::os::unix::fs::symlink("../../../outside", top.join("etc/climbing")).unwrap();
    let sparse = File::create(top.join("sparse")).unwrap();
    sparse.set_len(9 << 20).unwrap();
    sparse.write_all_at(&text(4, 10_000), 5 << 20).unwrap();
    let hole = File::create(top.join("hole")).unwrap();
    hole.set_len((2 << 20) + 17).unwrap();
    let large: Vec<u8> = text(9, 3000);
    for (path, name, value) in [
        ("etc/hostname", "user.one", b"1".as_slice()),
        ("etc/nothing", "user.one", b"1"),
        ("etc/deep", "user.large", &large),
        ("etc/deep/er/file", "user.large", &large),
        ("big", "user.empty", b""),
    ] {
        rustix::fs::lsetxattr(top.join(path), name, value, XattrFlags::empty()).unwrap();
    }
    if is_root() {
        let capability: &[u8] = b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
        rustix::fs::lsetxattr(top.join("etc/hostname"), "security.capability", capability, XattrFlags::empty())
            .unwrap();
        rustix::fs::lsetxattr(top.join("link"), "trusted.note", b"of a link", XattrFlags::empty()).unwrap();
        let kinds = [("char", 'c', "5 1"), ("block", 'b', "259 70000"), ("fifo", 'p', "")];
        for (name, kind, number) in kinds {
            run(Command::new("mknod").arg(top.join(name)).arg(kind.to_string()).args(number.split_whitespace()));
        }
        rustix::fs::mknodat(rustix::fs::CWD, top.join("socket"), rustix::fs::FileType::Socket, 0o640.into(), 0)
            .unwrap();
        run(Command::new("chown").arg("1000:100").arg(top.join("etc/deep")));
        run(Command::new("chown").arg("4000000000:65534").arg(top.join("noise")));
        run(Command::new("chmod").arg("4755").arg(top.join("noise")));
        run(Command::new("chmod").arg("1777").arg(top.join("empty")));
    }
    run(Command::new("touch").args(["-d", "1999-12-31T23:59:59Z"]).arg(top.join("etc")));
    run(Command::new("touch").args(["-h", "-d", "2030-01-01T00:00:00Z"]).arg(top.join("link")));
}

pub(super) fn unsquash(image: &Path, to: &Path) {
    run(Command::new("unsquashfs").args(["-n", "-d"]).arg(to).arg(image));
}

pub(super) fn unpack(image: &Path, to: &Path, threads: usize) {
    let reader = SquashFsReader::open(Blob::file(File::open(image).unwrap()).unwrap(), &Limits::default()).unwrap();
    let mut sink = DirectorySink::new(to);
    extract(&reader, &mut sink, threads, &Monitor::none()).unwrap();
    sink.finish();
}

/// Fails unless both trees have the same entries, naming the first that differs.
pub(super) fn same(ours: &Path, theirs: &Path) {
    let (ours, theirs) = (facts(ours), facts(theirs));
    for (path, fact) in &theirs {
        assert_eq!(ours.get(path), Some(fact), "{}", path.display());
    }
    assert_eq!(ours.len(), theirs.len());
}

fn agrees(pad: &Scratchpad, source: &Path, name: &str, options: &[&str]) {
    let image = pad.join(&format!("{name}.squashfs"));
    run(Command::new("mksquashfs").arg(source).arg(&image).args(["-noappend", "-quiet", "-no-progress"]).args(options));
    let theirs = pad.join(&format!("{name}.theirs"));
    unsquash(&image, &theirs);
    for threads in [1, 3] {
        let ours = pad.join(&format!("{name}.ours.{threads}"));
        unpack(&image, &ours, threads);
        same(&ours, &theirs);
        fs::remove_dir_all(ours).unwrap();
    }
    fs::remove_dir_all(theirs).unwrap();
}

fn options(line: &'static str) -> Vec<&'static str> {
    line.split_whitespace().collect()
}

fn with_tree(name: &str, lines: &[&'static str]) {
    if !have(&["mksquashfs", "unsquashfs"]) {
        return;
    }
    let pad = Scratchpad::new(name);
    let source: PathBuf = pad.join("source");
    make_tree(&source);
    for (number, line) in lines.iter().enumerate() {
        agrees(&pad, &source, &number.to_string(), &options(line));
    }
}

#[test]
#[cfg_attr(not(feature = "gzip"), ignore = "needs the feature gzip")]
fn every_way_to_lay_out_an_image_unpacks_as_unsquashfs_does() {
    with_tree(
        "layouts",
        &[
            "-comp gzip",
            "-comp gzip -no-fragments",
            "-comp gzip -no-xattrs",
            "-comp gzip -always-use-fragments",
            "-comp gzip -b 4096",
            "-comp gzip -b 1M",
            "-comp gzip -noI -noD -noF -noX",
            "-comp gzip -noI",
            "-comp gzip -noD",
            "-comp gzip -no-exports",
            "-comp gzip -no-duplicates -no-sparse",
            "-comp gzip -nopad",
            "-comp gzip -Xcompression-level 1 -Xwindow-size 8",
        ],
    );
}

#[test]
#[cfg_attr(not(feature = "xz"), ignore = "needs the feature xz")]
fn xz_images_unpack_as_unsquashfs_does_with_and_without_branch_filters() {
    with_tree(
        "xz",
        &["-comp xz", "-comp xz -Xbcj x86", "-comp xz -Xdict-size 100% -b 1M", "-comp xz -b 4096 -Xbcj arm,x86"],
    );
}

#[test]
#[cfg_attr(not(feature = "zstd"), ignore = "needs the feature zstd")]
fn zstd_images_unpack_as_unsquashfs_does() {
    with_tree("zstd", &["-comp zstd", "-comp zstd -Xcompression-level 1 -b 1M"]);
}

#[test]
#[cfg_attr(not(feature = "lz4"), ignore = "needs the feature lz4")]
fn lz4_images_unpack_as_unsquashfs_does() {
    with_tree("lz4", &["-comp lz4", "-comp lz4 -Xhc -b 4096"]);
}

#[test]
#[cfg_attr(not(feature = "lzo"), ignore = "needs the feature lzo")]
fn lzo_images_unpack_as_unsquashfs_does_whatever_the_algorithm() {
    with_tree(
        "lzo",
        &[
            "-comp lzo",
            "-comp lzo -Xcompression-level 1 -b 1M",
            "-comp lzo -Xalgorithm lzo1x_1 -b 4096",
            "-comp lzo -Xalgorithm lzo1x_1_15",
        ],
    );
}

#[test]
#[cfg_attr(not(feature = "xz"), ignore = "needs the feature xz")]
fn lzma_images_unpack_as_unsquashfs_does() {
    with_tree("lzma", &["-comp lzma", "-comp lzma -b 1M", "-comp lzma -b 4096 -no-fragments"]);
}

#[test]
#[cfg_attr(not(feature = "gzip"), ignore = "needs the feature gzip")]
fn image_of_squashfs_tools_ng_unpacks_as_unsquashfs_does() {
    if !have(&["tar2sqfs", "unsquashfs", "tar"]) {
        return;
    }
    let pad = Scratchpad::new("ng");
    make_tree(&pad.join("source"));
    run(Command::new("tar")
        .args(["--xattrs", "--xattrs-include=*", "--exclude=./socket", "-cf"])
        .arg(pad.join("tar"))
        .arg("-C")
        .arg(pad.join("source"))
        .arg("."));
    for more in [&["-c", "gzip"][..], &["-c", "gzip", "-b", "4096", "-e"]] {
        let _ = fs::remove_file(pad.join("image"));
        run(Command::new("tar2sqfs")
            .args(["-q", "-f"])
            .args(more)
            .arg(pad.join("image"))
            .stdin(File::open(pad.join("tar")).unwrap()));
        unsquash(&pad.join("image"), &pad.join("theirs"));
        unpack(&pad.join("image"), &pad.join("ours"), 2);
        same(&pad.join("ours"), &pad.join("theirs"));
        fs::remove_dir_all(pad.join("ours")).unwrap();
        fs::remove_dir_all(pad.join("theirs")).unwrap();
    }
}

/// Measures on a real image, when one is named: `LXD_IMAGE_SQUASHFS=file`, and a tree's place in
/// `LXD_IMAGE_SQUASHFS_TO`.
#[test]
fn real_image_unpacks_as_unsquashfs_does() {
    let Some(image) = std::env::var_os("LXD_IMAGE_SQUASHFS").map(PathBuf::from) else {
        eprintln!("skipped: no image named in LXD_IMAGE_SQUASHFS");
        return;
    };
    let to = std::env::var_os("LXD_IMAGE_SQUASHFS_TO").map_or_else(std::env::temp_dir, PathBuf::from);
    let (ours, theirs) = (to.join("ours"), to.join("theirs"));
    for threads in [1, 2] {
        let _ = fs::remove_dir_all(&ours);
        let start = Instant::now();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut file = File::open(&image).unwrap();
                let mut hash = crate::fingerprint::Hasher::new();
                let mut buffer = vec![0; 1 << 20];
                while let Ok(count @ 1..) = std::io::Read::read(&mut file, &mut buffer) {
                    hash.update(&buffer[..count]);
                }
                eprintln!("hashed after {:?}", start.elapsed());
            });
            unpack(&image, &ours, threads);
        });
        eprintln!("{} with {threads} threads: {:?}", image.display(), start.elapsed());
    }
    if have(&["unsquashfs"]) {
        let _ = fs::remove_dir_all(&theirs);
        let start = Instant::now();
        run(Command::new("sha256sum").arg(&image));
        eprintln!("sha256sum: {:?}", start.elapsed());
        unsquash(&image, &theirs);
        eprintln!("sha256sum, unsquashfs: {:?}", start.elapsed());
        same(&ours, &theirs);
        let _ = fs::remove_dir_all(&theirs);
    }
    let _ = fs::remove_dir_all(&ours);
}
