//! Owners and attributes of a tree that is packed: shifted back, forced, left out by name.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use lxd_image::format::{
    Codec, Compression, IdMap, Image, ImageSource, PackOptions, Rootfs, UnpackOptions, Written, pack,
};
use lxd_image::{Error, ErrorKind, Metadata, Monitor, Omitted};
use rustix::fs::{FileType, Mode, XattrFlags, getxattr, mknodat, setxattr};

use super::forge::Disk;
use super::{Place, is_root};

const CAPABILITY: &[u8] = b"\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00";

fn options() -> PackOptions {
    PackOptions::new(Metadata::new("x86_64", 1_700_000_000).unwrap()).compression(Compression::new(Codec::None))
}

fn packed(place: &Place, tree: &str, out: &str, options: &PackOptions) -> Result<Written, Error> {
    pack(&Rootfs::open(place.at(tree)).unwrap(), place.at(out), options, &Monitor::none())
}

fn unpacked(place: &Place, image: &str, dest: &str, options: &UnpackOptions) {
    let source = ImageSource::open(place.at(image), None).unwrap();
    Image::open(source).unwrap().unpack_unverified(place.at(dest), options, &Monitor::none()).unwrap();
}

fn owner(path: &Path) -> (u32, u32) {
    let stat = path.symlink_metadata().unwrap();
    (stat.uid(), stat.gid())
}

#[test]
fn shift_is_undone_by_packing() {
    if !is_root() {
        return println!("skipped: only root can give files away");
    }
    let place = Place::new();
    let tree = place.directory("tree");
    std::fs::write(tree.join("f"), "x").unwrap();
    std::os::unix::fs::symlink("f", tree.join("l")).unwrap();
    std::os::unix::fs::chown(tree.join("f"), Some(7), Some(9)).unwrap();
    setxattr(tree.join("f"), "security.capability", CAPABILITY, XattrFlags::empty()).unwrap();
    let first = packed(&place, "tree", "one", &options()).unwrap();
    let there: IdMap = "u:0:100000:65536,g:0:200000:65536".parse().unwrap();
    unpacked(&place, "one", "box", &UnpackOptions::new().map_ids(there));
    assert_eq!(owner(&place.at("box/rootfs/f")), (100_007, 200_009));
    let back: IdMap = "u:100000:0:65536,g:200000:0:65536".parse().unwrap();
    let again = packed(&place, "box/rootfs", "two", &options().map_ids(back)).unwrap();
    assert_eq!(first.fingerprint, again.fingerprint, "{:?}", again.omissions);
}

#[test]
fn owner_outside_of_the_map_is_refused_by_path() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    std::fs::write(place.directory("tree").join("f"), "x").unwrap();
    std::os::unix::fs::chown(place.at("tree"), Some(100_000), Some(100_000)).unwrap();
    let map: IdMap = "100000:0:65536".parse().unwrap();
    let error = packed(&place, "tree", "out", &options().map_ids(map)).unwrap_err();
    assert_eq!((error.kind(), error.entry()), (ErrorKind::InvalidInput, Some(&b"f"[..])));
    assert!(!place.at("out").exists());
}

#[test]
fn owner_is_forced_on_all_members() {
    let place = Place::new();
    std::fs::write(place.directory("tree").join("f"), "x").unwrap();
    std::os::unix::fs::symlink("f", place.at("tree/l")).unwrap();
    packed(&place, "tree", "out", &options().owner(12, 34)).unwrap();
    if is_root() {
        unpacked(&place, "out", "box", &UnpackOptions::new());
        for name in ["box/rootfs", "box/rootfs/f", "box/rootfs/l"] {
            assert_eq!(owner(&place.at(name)), (12, 34), "{name}");
        }
    }
}

#[test]
fn owners_that_cannot_be_chosen_are_refused() {
    let place = Place::new();
    place.directory("tree");
    place.write("disk", Disk::default().bytes());
    let map: IdMap = "0:1:1".parse().unwrap();
    for (tree, options) in [
        ("tree", options().owner(0, 0).map_ids(map.clone())),
        ("tree", options().owner(u32::MAX, 0)),
        ("disk", options().owner(0, 0)),
        ("disk", options().map_ids(map)),
    ] {
        let error = packed(&place, tree, "out", &options).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{tree}: {error}");
    }
    assert!(!place.at("out").exists());
}

#[test]
fn ranges_that_overlap_on_either_side_are_refused() {
    for text in ["0:10:5,4:100:5", "0:10:5,100:14:5", "u:0:10:5,0:10:5", "x:0:1:2", "u:0:1", "g:0:1:0"] {
        assert_eq!(text.parse::<IdMap>().unwrap_err().kind(), ErrorKind::InvalidInput, "{text}");
    }
    let map: IdMap = "u:0:10:5,g:0:20:5,b:5:50:1".parse().unwrap();
    assert_eq!((map.shift_uid(1).unwrap(), map.shift_gid(1).unwrap(), map.shift_gid(5).unwrap()), (11, 21, 50));
    assert_eq!(map.shift(1).unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[test]
fn omitted_attributes_are_reported_and_kept_on_request() {
    let place = Place::new();
    let tree = place.directory("tree");
    std::fs::write(tree.join("f"), "x").unwrap();
    std::os::unix::fs::symlink("f", tree.join("l")).unwrap();
    if setxattr(&tree, "trusted.overlay.opaque", b"y", XattrFlags::empty()).is_err() {
        return println!("skipped: no trusted attributes here");
    }
    let link = tree.join("l");
    rustix::fs::lsetxattr(&link, "trusted.of.link", b"z", XattrFlags::empty()).unwrap();
    let written = packed(&place, "tree", "out", &options()).unwrap();
    let found: Vec<_> = written.omissions.iter().map(|omission| (&omission.path[..], &omission.what)).collect();
    assert!(found.contains(&(&b""[..], &Omitted::Xattr(b"trusted.overlay.opaque".to_vec()))), "{found:?}");
    assert!(found.contains(&(&b"l"[..], &Omitted::Xattr(b"trusted.of.link".to_vec()))), "{found:?}");
    packed(&place, "tree", "all", &options().all_xattrs(true)).unwrap();
    unpacked(&place, "all", "box", &UnpackOptions::new().all_xattrs(true));
    let mut value = [0; 8];
    assert_eq!(getxattr(place.at("box/rootfs"), "trusted.overlay.opaque", &mut value).unwrap(), 1);
}

#[test]
fn socket_and_its_further_names_are_left_out_of_a_tar_by_path() {
    let place = Place::new();
    let tree = place.directory("tree");
    mknodat(rustix::fs::CWD, tree.join("a"), FileType::Socket, Mode::from_raw_mode(0o600), 0).unwrap();
    std::fs::hard_link(tree.join("a"), tree.join("b")).unwrap();
    let written = packed(&place, "tree", "out", &options()).unwrap();
    let paths: Vec<_> = written.omissions.iter().map(|omission| omission.path.clone()).collect();
    assert_eq!(paths, [b"a", b"b"]);
    unpacked(&place, "out", "box", &UnpackOptions::new());
    assert_eq!(place.names("box/rootfs"), [""; 0]);
}
