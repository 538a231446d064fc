//! The writer against the reader, and against `unsquashfs` where that is there.
//! Trees are taken from disk, so that the two sides are judged by what the system shows.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Cursor;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::super::reader::SquashFsReader;
use super::super::superblock::SquashFsCompression;
use super::super::write::{Summary, Tails, WriteOptions, Writer};
use super::peers::{have, make_tree, run, same, text, unpack, unsquash};
use super::trees::{Scratchpad, xattrs};
use crate::error::ErrorKind;
use crate::format::entry::{DeviceNumber, Entry, EntryKind, Timestamp};
use crate::limits::Limits;

/// The compressors that are compiled in.
pub(super) fn compressions() -> Vec<SquashFsCompression> {
    [
        (cfg!(feature = "gzip"), SquashFsCompression::Gzip),
        (cfg!(feature = "xz"), SquashFsCompression::Xz),
        (cfg!(feature = "zstd"), SquashFsCompression::Zstd),
        (cfg!(feature = "lz4"), SquashFsCompression::Lz4),
    ]
    .into_iter()
    .filter_map(|(there, compression)| there.then_some(compression))
    .collect()
}

/// Packs a tree from disk.
pub(super) fn pack(top: &Path, options: WriteOptions) -> (Vec<u8>, Summary) {
    let mut writer = Writer::new(Cursor::new(Vec::new()), options).unwrap();
    let mut seen = HashMap::new();
    add(&mut writer, top, Path::new(""), &mut seen);
    let (image, summary) = writer.finish().unwrap();
    (image.into_inner(), summary)
}

fn add(writer: &mut Writer<Cursor<Vec<u8>>>, top: &Path, below: &Path, seen: &mut HashMap<u64, PathBuf>) {
    let path = top.join(below);
    let meta = fs::symlink_metadata(&path).unwrap();
    let kind = meta.file_type();
    let name = below.as_os_str().as_bytes().to_vec();
    let number = DeviceNumber { major: rustix::fs::major(meta.rdev()), minor: rustix::fs::minor(meta.rdev()) };
    let mut entry = Entry::new(name.clone(), EntryKind::Directory, meta.permissions().mode());
    (entry.uid, entry.gid) = (meta.uid(), meta.gid());
    entry.mtime = Timestamp::from_seconds(meta.mtime());
    entry.xattrs = xattrs(&path).into_iter().collect();
    if !kind.is_dir() && meta.nlink() > 1 {
        if let Some(first) = seen.get(&meta.ino()) {
            entry.kind = EntryKind::HardLink { target: first.as_os_str().as_bytes().to_vec() };
            writer.push(&entry).unwrap();
            return;
        }
        seen.insert(meta.ino(), below.to_path_buf());
    }
    if kind.is_file() {
        entry.kind = EntryKind::File { size: meta.len() };
        return add_file(writer, &entry, &File::open(&path).unwrap(), meta.len());
    }
    entry.kind = if kind.is_dir() {
        EntryKind::Directory
    } else if kind.is_symlink() {
        EntryKind::Symlink { target: fs::read_link(&path).unwrap().as_os_str().as_bytes().to_vec() }
    } else if kind.is_block_device() {
        EntryKind::BlockDevice(number)
    } else if kind.is_char_device() {
        EntryKind::CharDevice(number)
    } else if kind.is_fifo() {
        EntryKind::Fifo
    } else {
        EntryKind::Socket
    };
    writer.push(&entry).unwrap();
    if kind.is_dir() {
        let mut names: Vec<_> = fs::read_dir(&path).unwrap().map(|name| name.unwrap().file_name()).collect();
        names.sort();
        for name in names {
            add(writer, top, &below.join(name), seen);
        }
    }
}

/// Small files as a stream, large ones in pieces with the holes they have.
fn add_file(writer: &mut Writer<Cursor<Vec<u8>>>, entry: &Entry, file: &File, size: u64) {
    if size < 1 << 20 {
        return writer.push_file(entry, &mut { file }).unwrap();
    }
    let mut out = writer.begin_file(entry).unwrap();
    let mut at = 0;
    while at < size {
        let data = rustix::fs::seek(file, rustix::fs::SeekFrom::Data(at)).unwrap_or(size);
        out.hole(data - at).unwrap();
        at = data;
        if at == size {
            break;
        }
        let hole = rustix::fs::seek(file, rustix::fs::SeekFrom::Hole(at)).unwrap_or(size);
        let mut bytes = vec![0; usize::try_from((hole - at).min(300_000)).unwrap()];
        file.read_exact_at(&mut bytes, at).unwrap();
        out.write(&bytes).unwrap();
        at += bytes.len() as u64;
    }
    out.finish().unwrap();
}

fn options(compression: SquashFsCompression) -> WriteOptions {
    WriteOptions::new(compression)
}

#[test]
fn what_is_written_is_read_back_by_us_and_by_unsquashfs() {
    let pad = Scratchpad::new("writing");
    let source = pad.join("source");
    make_tree(&source);
    for compression in compressions() {
        let mut cases = vec![options(compression)];
        cases.push(WriteOptions { tails: Tails::All, block_size: 1 << 20, ..options(compression) });
        cases.push(WriteOptions { tails: Tails::Never, block_size: 4096, export: false, ..options(compression) });
        cases.push(WriteOptions { stored: true, ..options(compression) });
        cases.push(WriteOptions { duplicates: false, threads: 3, ..options(compression) });
        if compression != SquashFsCompression::Lz4 {
            cases.push(WriteOptions { level: Some(1), ..options(compression) });
        }
        for (number, case) in cases.into_iter().enumerate() {
            let name = format!("{}.{number}", compression.name());
            let image = pad.join(&name);
            let (bytes, summary) = pack(&source, case.clone());
            assert_eq!(summary.duplicates > 0, case.duplicates, "{name}");
            fs::write(&image, bytes).unwrap();
            let ours = pad.join(&format!("{name}.ours"));
            unpack(&image, &ours, 2);
            same(&ours, &source);
            fs::remove_dir_all(ours).unwrap();
            if have(&["unsquashfs"]) {
                let theirs = pad.join(&format!("{name}.theirs"));
                unsquash(&image, &theirs);
                same(&theirs, &source);
                fs::remove_dir_all(theirs).unwrap();
            }
        }
    }
}

/// Mounts an image while it lives, where the kernel and the caller's rights allow it.
struct Mounted(PathBuf);

impl Mounted {
    fn new(image: &Path, at: PathBuf) -> Option<Self> {
        fs::create_dir(&at).unwrap();
        let mount =
            std::process::Command::new("mount").args(["-t", "squashfs", "-o", "loop,ro"]).arg(image).arg(&at).output();
        mount.is_ok_and(|output| output.status.success()).then(|| Self(at))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn kernel_reads_what_is_written_where_it_can_mount_it() {
    let pad = Scratchpad::new("kernel");
    let source = pad.join("source");
    make_tree(&source);
    fs::create_dir(source.join("large")).unwrap();
    for number in 0..3000 {
        std::os::unix::fs::symlink("x", source.join(format!("large/{number:020}"))).unwrap();
    }
    for compression in compressions() {
        for tails in [Tails::Never, Tails::All] {
            let name = format!("{}.{tails:?}", compression.name());
            let (bytes, _) = pack(&source, WriteOptions { tails, ..options(compression) });
            fs::write(pad.join(&name), bytes).unwrap();
            let Some(mounted) = Mounted::new(&pad.join(&name), pad.join(&format!("{name}.mounted"))) else {
                eprintln!("skipped: this kernel, or this user, does not mount SquashFS with {}", compression.name());
                break;
            };
            same(&mounted.0, &source);
            // By name, through the directory's index.
            for number in [0, 1234, 2999] {
                assert!(fs::symlink_metadata(mounted.0.join(format!("large/{number:020}"))).is_ok());
            }
        }
    }
}

#[test]
fn number_of_threads_changes_no_byte() {
    let pad = Scratchpad::new("threads");
    let source = pad.join("source");
    make_tree(&source);
    for compression in compressions() {
        let case = WriteOptions { block_size: 16 << 10, tails: Tails::All, ..options(compression) };
        let (one, _) = pack(&source, case.clone());
        for threads in [2, 5] {
            let (more, _) = pack(&source, WriteOptions { threads, ..case.clone() });
            assert!(one == more, "{} with {threads} threads", compression.name());
        }
    }
}

#[test]
fn file_that_begins_like_another_keeps_its_own_end() {
    for compression in compressions().into_iter().take(1) {
        for (end, threads) in [(40_000, 1), (40_001, 1), (45_000, 3), (4096, 1)] {
            let first = text(1, 50_000);
            let mut second = first.clone();
            second[end - 1] ^= 1;
            let case = WriteOptions { block_size: 4096, threads, ..options(compression) };
            let mut writer = Writer::new(Cursor::new(Vec::new()), case).unwrap();
            let kind = EntryKind::File { size: 50_000 };
            for (name, content) in [("a", &first), ("b", &second), ("c", &first), ("d", &second)] {
                writer.push_file(&Entry::new(name, kind.clone(), 0o644), &mut content.as_slice()).unwrap();
            }
            let (image, summary) = writer.finish().unwrap();
            assert_eq!(summary.duplicates, 2);
            let reader = SquashFsReader::open(image.into_inner(), &Limits::default()).unwrap();
            for (name, content) in [("a", &first), ("b", &second), ("c", &first), ("d", &second)] {
                assert!(read(&reader, name) == *content, "{name} of {end}");
            }
        }
    }
}

/// The content of a file.
pub(super) fn read(reader: &SquashFsReader<Vec<u8>>, path: &str) -> Vec<u8> {
    use super::super::reader::FileBytes;
    let node = reader.find(path.as_bytes()).unwrap();
    let mut content = Vec::new();
    let mut take = |offset, data: FileBytes<'_>| {
        assert_eq!(offset, content.len() as u64);
        match data {
            FileBytes::Bytes(bytes) => content.extend(bytes),
            FileBytes::Hole(length) => content.resize(content.len() + usize::try_from(length).unwrap(), 0),
        }
        Ok(())
    };
    reader.read_file(&node.data.unwrap(), &mut take).unwrap();
    content
}

#[test]
fn directory_of_seventy_thousand_entries_is_written_read_and_searched() {
    let Some(compression) = compressions().pop() else { return };
    let mut writer = Writer::new(Cursor::new(Vec::new()), options(compression)).unwrap();
    for number in (0..70_000u32).rev() {
        let entry = Entry::new(format!("large/{number:05}"), EntryKind::File { size: 5 }, 0o600);
        writer.push_file(&entry, &mut format!("{number:05}").as_bytes()).unwrap();
    }
    let (image, summary) = writer.finish().unwrap();
    assert_eq!(summary.inodes, 70_002);
    let image = image.into_inner();
    let reader = SquashFsReader::open(image.clone(), &Limits::default()).unwrap();
    assert_eq!(reader.walk().map(Result::unwrap).count(), 70_002);
    assert_eq!(read(&reader, "large/69999"), b"69999");
    assert_eq!(reader.find(b"large/70000").err().unwrap().kind(), ErrorKind::NotFound);
    if have(&["unsquashfs"]) {
        let pad = Scratchpad::new("large");
        fs::write(pad.join("image"), &image).unwrap();
        unsquash(&pad.join("image"), &pad.join("theirs"));
        assert_eq!(fs::read_dir(pad.join("theirs/large")).unwrap().count(), 70_000);
        assert_eq!(fs::read(pad.join("theirs/large/12345")).unwrap(), b"12345");
        // One file by its path: this is what uses the directory's index.
        let cat =
            std::process::Command::new("unsquashfs").arg("-cat").arg(pad.join("image")).arg("large/54321").output();
        assert_eq!(cat.unwrap().stdout, b"54321");
    }
}

#[test]
fn sparse_file_of_five_gibibytes_costs_neither_space_nor_time() {
    let pad = Scratchpad::new("sparse");
    fs::create_dir(pad.join("source")).unwrap();
    let file = File::create(pad.join("source/disk")).unwrap();
    file.set_len(5 << 30).unwrap();
    for at in [0u64, (1 << 32) + 12345, (5 << 30) - 5] {
        file.write_all_at(b"12345", at).unwrap();
    }
    for compression in compressions().into_iter().take(1) {
        let (image, _) = pack(&pad.join("source"), options(compression));
        assert!(image.len() < 64 << 10, "{}", image.len());
        fs::write(pad.join("image"), image).unwrap();
        unpack(&pad.join("image"), &pad.join("ours"), 2);
        same(&pad.join("ours"), &pad.join("source"));
        assert!(fs::metadata(pad.join("ours/disk")).unwrap().blocks() < 4096);
        if have(&["mksquashfs", "unsquashfs"]) {
            unsquash(&pad.join("image"), &pad.join("theirs"));
            same(&pad.join("theirs"), &pad.join("source"));
            let theirs = pad.join("image-of-theirs");
            run(std::process::Command::new("mksquashfs").arg(pad.join("source")).arg(&theirs).args([
                "-comp",
                compression.name(),
                "-quiet",
                "-no-progress",
            ]));
            fs::remove_dir_all(pad.join("ours")).unwrap();
            unpack(&theirs, &pad.join("ours"), 2);
            same(&pad.join("ours"), &pad.join("source"));
        }
    }
}

#[test]
fn what_squashfs_can_not_hold_is_refused_or_reported_before_anything_is_lost() {
    let Some(compression) = compressions().pop() else { return };
    let monitor = crate::progress::Monitor::none();
    let options = WriteOptions { monitor: monitor.clone(), ..options(compression) };
    let mut writer = Writer::new(Cursor::new(Vec::new()), options).unwrap();
    let refused = |writer: &mut Writer<_>, entry: &Entry| writer.push(entry).unwrap_err().kind();
    let fifo = |path: &str| Entry::new(path, EntryKind::Fifo, 0o600);
    for path in ["../up", "a//b", "/a", "a/", "a/./b", "nul\0"] {
        assert_eq!(refused(&mut writer, &fifo(path)), ErrorKind::UnsafePath, "{path}");
    }
    assert_eq!(refused(&mut writer, &fifo(&"n".repeat(256))), ErrorKind::InvalidInput);
    assert_eq!(refused(&mut writer, &fifo(&"n/".repeat(2049))), ErrorKind::InvalidInput);
    let mut nobody = fifo("nobody");
    nobody.uid = u32::MAX;
    assert_eq!(refused(&mut writer, &nobody), ErrorKind::InvalidInput);
    let device = EntryKind::CharDevice(DeviceNumber { major: 4096, minor: 0 });
    assert_eq!(refused(&mut writer, &Entry::new("device", device, 0)), ErrorKind::Unsupported);
    let link = EntryKind::HardLink { target: b"absent".to_vec() };
    assert_eq!(refused(&mut writer, &Entry::new("link", link, 0)), ErrorKind::InvalidInput);
    writer.push(&Entry::new("dir", EntryKind::Directory, 0o700)).unwrap();
    assert_eq!(refused(&mut writer, &fifo("dir")), ErrorKind::InvalidInput);
    let file = Entry::new("short", EntryKind::File { size: 3 }, 0o600);
    assert_eq!(writer.push_file(&file, &mut &b"12"[..]).unwrap_err().kind(), ErrorKind::Mismatch);
    assert_eq!(writer.push_file(&file, &mut &b"1234"[..]).unwrap_err().kind(), ErrorKind::Mismatch);

    let mut early = fifo("early");
    early.mtime = Timestamp::from_seconds(-5);
    writer.push(&early).unwrap();
    let mut late = fifo("late");
    late.mtime = Timestamp::from_seconds(1 << 40);
    late.xattrs = vec![(b"system.posix_acl_access".to_vec(), vec![1])];
    writer.push(&late).unwrap();
    let (image, _) = writer.finish().unwrap();
    let told: Vec<String> = monitor.omissions().iter().map(ToString::to_string).collect();
    let owed = [
        "early: modification time -5 is out of range, 0 is used",
        "late: modification time 1099511627776 is out of range, 4294967295 is used",
        "late: attribute system.posix_acl_access left out: SquashFS has no place for it",
    ];
    assert_eq!(told, owed);
    let reader = SquashFsReader::open(image.into_inner(), &Limits::default()).unwrap();
    let found: Vec<_> = reader.walk().map(|node| String::from_utf8(node.unwrap().entry.path).unwrap()).collect();
    assert_eq!(found, ["", "dir", "early", "late"]);
    assert_eq!(reader.find(b"early").unwrap().entry.mtime.seconds, 0);
    assert_eq!(reader.find(b"late").unwrap().entry.mtime.seconds, i64::from(u32::MAX));
}

#[test]
fn more_owners_than_the_format_counts_are_refused() {
    let Some(compression) = compressions().pop() else { return };
    let mut writer = Writer::new(Cursor::new(Vec::new()), options(compression)).unwrap();
    let mut refused = None;
    for number in 1..=65_535u32 {
        let mut entry = Entry::new(format!("{number}"), EntryKind::Fifo, 0);
        entry.uid = number;
        refused = refused.or(writer.push(&entry).err().map(|error| (number, error.kind())));
    }
    assert_eq!(refused, Some((65_535, ErrorKind::Unsupported)));
    let (image, _) = writer.finish().unwrap();
    let reader = SquashFsReader::open(image.into_inner(), &Limits::default()).unwrap();
    assert_eq!(reader.find(b"65534").unwrap().entry.uid, 65_534);
}

#[test]
fn members_come_in_any_order_and_the_last_of_a_name_wins() {
    let Some(compression) = compressions().pop() else { return };
    let mut writer = Writer::new(Cursor::new(Vec::new()), options(compression)).unwrap();
    let file = |path: &str| Entry::new(path, EntryKind::File { size: 3 }, 0o600);
    writer.push_file(&file("deep/down/file"), &mut &b"old"[..]).unwrap();
    let link = EntryKind::HardLink { target: b"deep/down/file".to_vec() };
    writer.push(&Entry::new("again", link.clone(), 0)).unwrap();
    writer.push(&Entry::new("deep/down/file", link, 0)).unwrap();
    writer.push_file(&file("deep/down/file"), &mut &b"new"[..]).unwrap();
    let mut directory = Entry::new("deep", EntryKind::Directory, 0o711);
    directory.uid = 7;
    writer.push(&directory).unwrap();
    let (image, _) = writer.finish().unwrap();
    let reader = SquashFsReader::open(image.into_inner(), &Limits::default()).unwrap();
    assert_eq!(read(&reader, "again"), b"old");
    assert_eq!(read(&reader, "deep/down/file"), b"new");
    let entries: Vec<_> = reader.walk().map(|node| node.unwrap().entry).collect();
    assert_eq!(entries.len(), 5);
    assert!(entries.iter().all(|entry| !matches!(entry.kind, EntryKind::HardLink { .. })));
    let deep = &reader.find(b"deep").unwrap().entry;
    assert_eq!((deep.mode, deep.uid), (0o711, 7));
    assert_eq!(reader.find(b"deep/down").unwrap().entry.mode, 0o755);
}

/// Measures against `mksquashfs` on a real tree, when one is named in `LXD_IMAGE_SQUASHFS_TREE`.
#[test]
fn real_tree_is_packed_as_well_as_mksquashfs_does() {
    let Some(source) = std::env::var_os("LXD_IMAGE_SQUASHFS_TREE").map(PathBuf::from) else {
        eprintln!("skipped: no tree named in LXD_IMAGE_SQUASHFS_TREE");
        return;
    };
    if !have(&["mksquashfs", "unsquashfs"]) {
        return;
    }
    let wanted = std::env::var("LXD_IMAGE_SQUASHFS_COMPRESSION").unwrap_or_default();
    let pad = Scratchpad::new("real");
    for compression in compressions().into_iter().filter(|one| wanted.is_empty() || one.name() == wanted) {
        let start = std::time::Instant::now();
        let (image, _) = pack(&source, WriteOptions { threads: 2, ..options(compression) });
        let ours = (image.len(), start.elapsed());
        let start = std::time::Instant::now();
        run(std::process::Command::new("mksquashfs").arg(&source).arg(pad.join("theirs")).args([
            "-noappend",
            "-quiet",
            "-no-progress",
            "-comp",
            compression.name(),
        ]));
        let theirs = (fs::metadata(pad.join("theirs")).unwrap().len(), start.elapsed());
        eprintln!("{}: ours {ours:?}, mksquashfs {theirs:?}", compression.name());
        fs::write(pad.join("ours"), image).unwrap();
        // Against their image and not the source, which may have attributes that no SquashFS holds.
        unsquash(&pad.join("ours"), &pad.join("ours.tree"));
        unsquash(&pad.join("theirs"), &pad.join("theirs.tree"));
        same(&pad.join("ours.tree"), &pad.join("theirs.tree"));
        fs::remove_dir_all(pad.join("ours.tree")).unwrap();
        fs::remove_dir_all(pad.join("theirs.tree")).unwrap();
    }
}
