//! Any bytes as a SquashFS that is looked into: its tree, its directories, its files.
//! Whichever way a member is come by, it is the same one.
#![no_main]

use libfuzzer_sys::{Corpus, fuzz_target};
use lxd_image::format::{EntryKind, SquashFs};
use lxd_image_fuzz::Mode;

/// Bytes of files that are read in one run, and members that are looked up again.
const MOST_READ: u64 = 4 << 20;
const MOST_FOUND: usize = 32;

fuzz_target!(|data: &[u8]| -> Corpus {
    let Some((mode, data)) = Mode::take(data) else { return Corpus::Reject };
    let mut bytes = data.to_vec();
    if mode.repaired() {
        lxd_image_fuzz::fix_superblock(&mut bytes);
    }
    let Ok(image) = SquashFs::open(bytes, &lxd_image_fuzz::limits()) else { return Corpus::Keep };
    let mut left = MOST_READ;
    for (number, entry) in image.entries().enumerate() {
        let Ok(entry) = entry else { break };
        let path = entry.path.as_slice();
        assert_eq!(path.is_empty(), number == 0, "the top comes first, and once");
        let names = || path.split(|&byte| byte == b'/');
        assert!(
            number == 0 || !names().any(|name| name.is_empty() || name == b"." || name == b".."),
            "a path that climbs or stands"
        );
        assert!(!path.contains(&0), "a path that can't be");
        assert!(entry.mode <= 0o7777, "a mode of more bits than there are");
        if let EntryKind::File { size } = entry.kind
            && size <= left
        {
            left -= size;
            if let Ok(content) = image.read_small_file(path, size) {
                assert_eq!(content.len() as u64, size, "a file is as long as it says");
            }
        }
        if number < MOST_FOUND {
            let found = image.entry(path).expect("what the walk shows can be found");
            assert_eq!((found.uid, found.gid, found.mode), (entry.uid, entry.gid, entry.mode));
            if !matches!(entry.kind, EntryKind::HardLink { .. }) {
                assert_eq!(found.kind, entry.kind, "one member is two things");
            }
            let listed = image.list(path);
            assert_eq!(
                listed.is_ok(),
                entry.kind == EntryKind::Directory,
                "directories can be listed, and nothing else"
            );
            for member in listed.into_iter().flatten().take(lxd_image_fuzz::limits().entries as usize) {
                let Ok(member) = member else { break };
                let parent =
                    member.path.iter().rposition(|&byte| byte == b'/').map_or(&b""[..], |at| &member.path[..at]);
                assert_eq!(parent, path, "a member of another directory");
            }
        }
    }
    Corpus::Keep
});
