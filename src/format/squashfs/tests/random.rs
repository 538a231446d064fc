//! Properties: every small tree survives the way through an image, and no bytes make the reader
//! panic or hang.

use std::collections::BTreeMap;
use std::io::Cursor;

use proptest::prelude::*;

use super::super::reader::SquashFsReader;
use super::super::write::{Tails, WriteOptions, Writer};
use super::hostile::unpack_all;
use super::peers::text;
use super::writing::{compressions, read};
use crate::format::entry::{DeviceNumber, Entry, EntryKind, Timestamp};
use crate::limits::Limits;

#[derive(Debug, Clone)]
enum Member {
    File { seed: u32, length: usize, hole: usize },
    Directory,
    Other(EntryKind),
    Link,
}

fn member() -> impl Strategy<Value = Member> {
    let number = (0..4096u32, 0..0x10_0000u32).prop_map(|(major, minor)| DeviceNumber { major, minor });
    prop_oneof![
        6 => (0..4u32, 0..30_000usize, prop_oneof![3 => Just(0), 1 => 0..20_000usize])
            .prop_map(|(seed, length, hole)| Member::File { seed, length, hole }),
        3 => Just(Member::Directory),
        1 => prop::collection::vec(1..=255u8, 1..200).prop_map(|target| Member::Other(EntryKind::Symlink { target })),
        1 => number.clone().prop_map(|number| Member::Other(EntryKind::CharDevice(number))),
        1 => number.prop_map(|number| Member::Other(EntryKind::BlockDevice(number))),
        1 => Just(Member::Other(EntryKind::Fifo)),
        1 => Just(Member::Other(EntryKind::Socket)),
        1 => Just(Member::Link),
    ]
}

/// Mode, owner, group, time and extended attributes.
type Attributes = (u32, u32, u32, u32, Vec<(Vec<u8>, Vec<u8>)>);

fn attributes() -> impl Strategy<Value = Attributes> {
    let name = (prop::sample::select(&["user.", "trusted.", "security."][..]), "[a-z]{1,20}");
    let pair = (name.prop_map(|(space, name)| format!("{space}{name}").into_bytes()), any::<Vec<u8>>());
    let xattrs = prop::collection::btree_map(pair.0, pair.1, 0..3).prop_map(|map| map.into_iter().collect());
    (0..=0o7777u32, 0..u32::MAX, 0..3u32, any::<u32>(), xattrs)
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => "[a-c]{1,3}".prop_map(String::into_bytes),
        1 => prop::collection::vec(any::<u8>(), 1..12).prop_filter("is a name", |name| {
            !name.contains(&b'/') && !name.contains(&0) && name != b"." && name != b".."
        }),
    ]
}

fn content(seed: u32, length: usize, hole: usize) -> Vec<u8> {
    let mut bytes = vec![0; hole];
    bytes.extend(text(seed, length));
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn tree_comes_back_as_it_was_written(
        members in prop::collection::vec((prop::collection::vec(name(), 1..4), member(), attributes()), 0..40),
        tails in prop::sample::select(&[Tails::Never, Tails::SmallFiles, Tails::All][..]),
        which in 0..8usize,
        threads in 1..3usize,
        stored in any::<bool>(),
    ) {
        let compressions = compressions();
        if compressions.is_empty() {
            return Ok(());
        }
        let compression = compressions[which % compressions.len()];
        let options = WriteOptions { block_size: 4096, tails, threads, stored, ..WriteOptions::new(compression) };
        let mut writer = Writer::new(Cursor::new(Vec::new()), options).unwrap();
        let mut expected = BTreeMap::new();
        for (path, member, (mode, uid, gid, time, xattrs)) in members {
            let path = path.join(&b'/');
            let mut entry = Entry::new(path.clone(), EntryKind::Directory, mode);
            (entry.uid, entry.gid, entry.xattrs) = (uid, gid, xattrs);
            entry.mtime = Timestamp::from_seconds(i64::from(time));
            let mut bytes = Vec::new();
            let pushed = match member {
                Member::File { seed, length, hole } => {
                    bytes = content(seed, length, hole);
                    entry.kind = EntryKind::File { size: bytes.len() as u64 };
                    writer.push_file(&entry, &mut bytes.as_slice())
                }
                Member::Directory => writer.push(&entry),
                Member::Other(kind) => {
                    entry.kind = kind;
                    writer.push(&entry)
                }
                Member::Link => {
                    let Some((target, (first, content))) = expected.iter().find(|(_, (entry, _)): &(&Vec<u8>, &(Entry, Vec<u8>))| !entry.is_directory()) else { continue };
                    let link = Entry::new(path.clone(), EntryKind::HardLink { target: target.clone() }, 0);
                    (entry, bytes) = (first.clone(), content.clone());
                    entry.path.clone_from(&path);
                    writer.push(&link)
                }
            };
            // A member below a file, or a directory in a file's place, is refused and changes nothing.
            if pushed.is_ok() {
                expected.insert(path, (entry, bytes));
            }
        }
        let image = writer.finish().unwrap().0.into_inner();
        unpack_all(image.clone(), &Limits::default()).unwrap();
        let reader = SquashFsReader::open(image, &Limits::default()).unwrap();
        let mut found = 0;
        for node in reader.walk() {
            let entry = node.unwrap().entry;
            let Some((wanted, bytes)) = expected.get(&entry.path) else {
                // Made because something below it was given.
                prop_assert!(entry.is_directory());
                continue;
            };
            found += 1;
            // As a member of its own, whatever came before it.
            let entry = reader.find(&entry.path).unwrap().entry;
            prop_assert_eq!(&entry, wanted);
            if let (EntryKind::File { .. }, Ok(path)) = (&entry.kind, std::str::from_utf8(&entry.path)) {
                prop_assert!(read(&reader, path) == *bytes);
            }
        }
        prop_assert_eq!(found, expected.len());
    }
}

fn small_image(which: usize, stored: bool) -> Option<Vec<u8>> {
    let compressions = compressions();
    let compression = *compressions.get(which % compressions.len().max(1))?;
    let options = WriteOptions { block_size: 4096, tails: Tails::All, stored, ..WriteOptions::new(compression) };
    let mut writer = Writer::new(Cursor::new(Vec::new()), options).unwrap();
    for number in 0..6usize {
        let mut entry = Entry::new(format!("d{}/f{number}", number % 3), EntryKind::File { size: 3000 }, 0o644);
        entry.xattrs = vec![(b"user.name".to_vec(), vec![1; number])];
        writer.push_file(&entry, &mut text(number as u32, 3000).as_slice()).unwrap();
    }
    writer.push_file(&Entry::new("big", EntryKind::File { size: 20_000 }, 0), &mut text(9, 20_000).as_slice()).unwrap();
    writer.push(&Entry::new("link", EntryKind::HardLink { target: b"big".to_vec() }, 0)).unwrap();
    writer.push(&Entry::new("sym", EntryKind::Symlink { target: b"d0/f0".to_vec() }, 0)).unwrap();
    Some(writer.finish().unwrap().0.into_inner())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn changed_bytes_make_no_panic(
        which in 0..8usize,
        stored in any::<bool>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), any::<bool>()), 1..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let Some(mut image) = small_image(which, stored) else { return Ok(()) };
        // Data is most of the image and the least interesting: half of the changes go to the rest.
        let data = usize::try_from(u64::from_le_bytes(image[64..72].try_into().unwrap())).unwrap();
        for (index, value, in_tables) in changes {
            let at = if in_tables {
                let at = index.index(image.len().min(data + 1600) - data + 96);
                if at < 96 { at } else { data + at - 96 }
            } else {
                index.index(image.len())
            };
            image[at] = value;
        }
        if let Some(cut) = cut {
            image.truncate(cut.index(image.len()));
        }
        let mut limits = Limits::default();
        limits.set("file_size", 64 << 20).unwrap();
        limits.set("entries", 10_000).unwrap();
        let _ = unpack_all(image, &limits);
    }
}
