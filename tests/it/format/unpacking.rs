//! What unpacking promises beside the tree: staging, verifying, cancelling, faults, owners, users.
//! Whatever ends it early, the destination is as it was and nothing stands beside it.

use std::ops::ControlFlow;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use lxd_image::Omitted;
use lxd_image::format::{Codec, Compression, ConvertOptions, IdMap, Image, ImageSource, UnpackOptions};
use lxd_image::{Cancel, ErrorKind, Fingerprint, Monitor, Update};

use super::forge::{Member, directory, file, hard_link, image, pax, pax_raw, record};
use super::verdict::unified;
use super::{Place, is_root, tree};

fn place(bytes: &[u8]) -> (Place, impl Fn() -> Image + use<>) {
    let place = Place::new();
    place.directory("box");
    let path = place.write("image", bytes);
    (place, move || Image::open(ImageSource::open(&path, None).unwrap()).unwrap())
}

#[test]
fn root_alone_can_be_unpacked() {
    let top = Member::new(b'5', "rootfs/").mode(0o750).bytes();
    let left = unified(image(&[top, directory("templates/"), file("templates/t", "x")]))
        .options(|options| options.rootfs_only(true))
        .gives(&["etc d755 0:0", r#"etc/hostname -644 0:0 "box\n""#]);
    use std::os::unix::fs::PermissionsExt;
    let mode = left.place.at("box/dest").metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o750);
}

#[test]
fn empty_directory_at_the_destination_keeps_its_mode() {
    use std::os::unix::fs::PermissionsExt;
    let (place, image) = place(&image(&[]));
    let dest = place.directory("box/dest");
    std::fs::set_permissions(&dest, std::fs::Permissions::from_mode(0o751)).unwrap();
    image().unpack_unverified(&dest, &UnpackOptions::new(), &Monitor::none()).unwrap();
    assert_eq!(dest.metadata().unwrap().permissions().mode() & 0o7777, 0o751);
    assert_eq!(place.names("box/dest"), ["metadata.yaml", "rootfs"]);
}

#[test]
fn staged_image_is_private_and_removed_when_dropped() {
    use std::os::unix::fs::PermissionsExt;
    let (place, image) = place(&image(&[]));
    let staged = image().stage(place.at("box/dest"), &UnpackOptions::new(), &Monitor::none()).unwrap();
    let names = place.names("box");
    assert_eq!(names.len(), 1);
    assert_eq!(place.at("box").join(&names[0]).metadata().unwrap().permissions().mode() & 0o7777, 0o700);
    drop(staged);
    assert_eq!(place.names("box"), [""; 0]);
    let staged = image().stage(place.at("box/dest"), &UnpackOptions::new(), &Monitor::none()).unwrap();
    staged.discard().unwrap();
    assert_eq!(place.names("box"), [""; 0]);
    let staged = image().stage(place.at("box/dest"), &UnpackOptions::new(), &Monitor::none()).unwrap();
    assert_eq!(staged.verify(&Fingerprint::of(b"")).unwrap_err().kind(), ErrorKind::Mismatch);
    assert_eq!(place.names("box"), [""; 0]);
}

#[test]
fn taken_name_gives_the_handle_back() {
    let (place, image) = place(&image(&[]));
    place.directory("box/full/x");
    place.write("box/file", "x");
    std::os::unix::fs::symlink("full", place.at("box/link")).unwrap();
    let before = tree(&place.at("box"));
    let mut staged =
        image().stage(place.at("box/dest"), &UnpackOptions::new(), &Monitor::none()).unwrap().accept_unverified();
    for (name, kind) in [
        ("full", ErrorKind::AlreadyExists),
        ("file", ErrorKind::AlreadyExists),
        ("link", ErrorKind::AlreadyExists),
        ("a/b", ErrorKind::InvalidInput),
        ("..", ErrorKind::InvalidInput),
        ("", ErrorKind::InvalidInput),
    ] {
        let failed = staged.commit(name).unwrap_err();
        assert_eq!(failed.error.kind(), kind, "{name}");
        staged = *failed.staged;
    }
    let path = staged.commit("other").unwrap();
    assert_eq!(path, place.at("box/other"));
    std::fs::remove_dir_all(path).unwrap();
    assert_eq!(tree(&place.at("box")), before);
}

#[test]
fn cancelled_run_leaves_nothing_wherever_it_was() {
    let (place, image) = place(&image(&[file("rootfs/big", vec![b'x'; 3 << 20])]));
    let reports = Arc::new(AtomicU64::new(0));
    let count = |reports: &Arc<AtomicU64>, stop_at: u64| {
        let reports = Arc::clone(reports);
        Monitor::none().with_progress(Arc::new(move |_: &Update| {
            let so_far = reports.fetch_add(1, Ordering::Relaxed);
            if so_far == stop_at { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        }))
    };
    let options = UnpackOptions::new().threads(2);
    drop(image().stage(place.at("box/dest"), &options, &count(&reports, u64::MAX)).unwrap());
    let all = reports.load(Ordering::Relaxed);
    assert!(all >= 3, "at least one report for each MiB");
    for stop_at in 0..all {
        let monitor = count(&Arc::default(), stop_at);
        let error = image().unpack_unverified(place.at("box/dest"), &options, &monitor).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Cancelled);
        assert_eq!(place.names("box"), [""; 0]);
    }
    let cancel = Cancel::new();
    cancel.cancel();
    let error =
        image().unpack_unverified(place.at("box/dest"), &options, &Monitor::none().with_cancel(cancel)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
}

#[test]
fn owners_are_shifted_also_inside_of_attributes() {
    let acl = |id: u32| {
        [
            &b"\x02\0\0\0\x01\0\x07\0\xff\xff\xff\xff\x02\0\x06\0"[..],
            &id.to_le_bytes(),
            b"\x04\0\x04\0\xff\xff\xff\xff\x10\0\x07\0\xff\xff\xff\xff\x20\0\x04\0\xff\xff\xff\xff",
        ]
        .concat()
    };
    let capability = b"\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00";
    let records = [
        record("SCHILY.xattr.security.capability", capability),
        record("SCHILY.xattr.system.posix_acl_access", acl(1000)),
    ];
    let map: IdMap = "0:100000:65536".parse().unwrap();
    let bytes = image(&[pax_raw(records.concat()), Member::new(b'0', "rootfs/a").mode(0o4754).uid(5).gid(6).bytes()]);
    let (place, opened) = place(&bytes);
    let done = opened()
        .unpack_unverified(place.at("box/dest"), &UnpackOptions::new().map_ids(map.clone()), &Monitor::none())
        .unwrap();
    if !is_root() {
        return println!("skipped: only root gives files away");
    }
    assert!(done.report.is_complete(), "{:?}", done.report);
    let lines = tree(&place.at("box/dest/rootfs"));
    let mut shifted = capability.to_vec();
    shifted[3] = 3;
    shifted.extend(100_000_u32.to_le_bytes());
    let owed = format!(
        r#"a -4774 100005:100006 "" security.capability={} system.posix_acl_access={}"#,
        super::place::hex(&shifted),
        super::place::hex(&acl(101_000)),
    );
    assert_eq!(lines[0], owed);
    assert_eq!(lines[1], "etc d755 100000:100000");
    let beyond = image(&[Member::new(b'0', "rootfs/a").uid(70_000).bytes()]);
    unified(beyond.clone()).run().unwrap();
    let path = place.write("beyond", beyond);
    let opened = Image::open(ImageSource::open(path, None).unwrap()).unwrap();
    let error =
        opened.unpack_unverified(place.at("box/no"), &UnpackOptions::new().map_ids(map), &Monitor::none()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.hint().is_some());
}

#[test]
fn id_map_that_makes_no_sense_is_refused() {
    for text in
        ["", "0", "0:1", "0:1:0", "0:1:2:3", "a:b:c", "0:4294967295:1", "4294967290:0:10", "0:0:5,3:9:5", "-1:0:1"]
    {
        assert_eq!(text.parse::<IdMap>().unwrap_err().kind(), ErrorKind::InvalidInput, "{text}");
    }
    let map: IdMap = "0:100000:1000,1000:1000:1,1001:101001:64535".parse().unwrap();
    assert_eq!((map.shift(999).unwrap(), map.shift(1000).unwrap(), map.shift(1001).unwrap()), (100_999, 1000, 101_001));
}

/// Mounts a file system of 1 MiB at a directory, until dropped.
struct Small(std::path::PathBuf);

impl Small {
    fn mount(at: std::path::PathBuf) -> Option<Self> {
        let done = Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "none"]).arg(&at).output();
        done.is_ok_and(|output| output.status.success()).then_some(Self(at))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).output();
    }
}

#[test]
fn full_disk_ends_in_an_error_and_gets_its_space_back() {
    let place = Place::new();
    let Some(small) = is_root().then(|| Small::mount(place.directory("small"))).flatten() else {
        return println!("skipped: a small file system can't be mounted here");
    };
    let space = || rustix::fs::statvfs(&small.0).unwrap().f_bfree;
    let before = space();
    // One file that is too large, and many whose room the budget of bytes does not tell.
    let many: Vec<_> = (0..600).map(|number| file(format!("rootfs/f{number}"), [b'x'; 200])).collect();
    for bytes in [image(&[file("rootfs/big", vec![b'x'; 3 << 20])]), image(&many)] {
        let path = place.write("image", bytes);
        let opened = Image::open(ImageSource::open(path, None).unwrap()).unwrap();
        let error =
            opened.unpack_unverified(small.0.join("dest"), &UnpackOptions::new(), &Monitor::none()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StorageFull, "{error:?}");
        let hint = error.hint().unwrap();
        assert!(hint.contains(small.0.to_str().unwrap()) && !hint.contains("--limit"), "{hint}");
        assert_eq!(place.names("small"), [""; 0]);
        assert_eq!(space(), before);
    }
}

#[test]
fn converting_onto_a_full_disk_ends_and_leaves_nothing() {
    let place = Place::new();
    let Some(small) = is_root().then(|| Small::mount(place.directory("small"))).flatten() else {
        return println!("skipped: a small file system can't be mounted here");
    };
    // More than all buffers between the stages hold, so that whoever reads waits for whoever failed.
    let path = place.write("image", image(&[file("rootfs/big", vec![b'x'; 24 << 20])]));
    let options = ConvertOptions::new().compression(Compression::new(Codec::None));
    let error = Image::open(ImageSource::open(path, None).unwrap()).unwrap().convert(
        small.0.join("out"),
        &options,
        &Monitor::none(),
    );
    let error = error.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull, "{error:?}");
    assert!(error.hint().unwrap().contains(small.0.to_str().unwrap()), "{error:?}");
    assert_eq!(place.names("small"), [""; 0]);
}

/// What the test below runs as an ordinary user.
#[test]
fn as_an_ordinary_user_what_can_not_be_done_is_reported() {
    const MARK: &str = "LXD_IMAGE_TEST_AS_USER";
    if let Some(directory) = std::env::var_os(MARK) {
        return unpack_as_user(std::path::Path::new(&directory));
    }
    if !is_root() {
        println!("this process is an ordinary user's already");
        let place = Place::new();
        place.write("image", for_user());
        return unpack_as_user(&place.at(""));
    }
    // Below the system's own temporary directory: an ordinary user can't reach every build directory.
    let directory = std::env::temp_dir().join(format!("lxd-image-user-{}", std::process::id()));
    std::fs::create_dir(&directory).unwrap();
    std::fs::write(directory.join("image"), for_user()).unwrap();
    let program = directory.join("it");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    std::os::unix::fs::chown(&directory, Some(12_345), Some(12_345)).unwrap();
    let output = Command::new(&program)
        .args(["as_an_ordinary_user", "--nocapture"])
        .env(MARK, &directory)
        .current_dir(&directory)
        .uid(12_345)
        .gid(12_345)
        .output();
    std::fs::remove_dir_all(&directory).unwrap();
    let output = output.unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("unpacked as a user"), "{text}");
}

fn for_user() -> Vec<u8> {
    image(&[
        Member::new(b'3', "rootfs/null").device(1, 3).bytes(),
        hard_link("rootfs/null2", "rootfs/null"),
        Member::new(b'0', "rootfs/su").mode(0o4755).data("su").bytes(),
        Member::new(b'5', "rootfs/shut/").mode(0).bytes(),
        file("rootfs/shut/in", "x"),
        Member::new(b'5', "rootfs/mine/").mode(0o2570).uid(12_345).gid(12_345).bytes(),
        file("rootfs/mine/in", "x"),
        [pax(&[("SCHILY.xattr.trusted.x", "y"), ("SCHILY.xattr.user.a", "b")]), file("rootfs/a", "x")].concat(),
        Member::new(b'6', "rootfs/p").bytes(),
    ])
}

fn unpack_as_user(directory: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt;
    let opened = Image::open(ImageSource::open(directory.join("image"), None).unwrap()).unwrap();
    let done = opened.unpack_unverified(directory.join("dest"), &UnpackOptions::new(), &Monitor::none()).unwrap();
    let omitted = |path: &str, what: Omitted| {
        done.report.omissions.iter().any(|omission| omission.path == path.as_bytes() && omission.what == what)
    };
    for (path, what) in [
        ("null", Omitted::Device),
        ("null2", Omitted::Device),
        ("su", Omitted::Owner),
        ("su", Omitted::SetId),
        ("shut", Omitted::Owner),
        ("a", Omitted::Xattr(b"trusted.x".to_vec())),
        ("p", Omitted::Owner),
    ] {
        assert!(omitted(path, what.clone()), "{path} {what:?} is not among {:?}", done.report.omissions);
    }
    let mode = |path: &str| {
        let about = directory.join("dest/rootfs").join(path).symlink_metadata().unwrap();
        about.permissions().mode() & 0o7777
    };
    assert_eq!((mode("su"), mode("shut"), mode("etc/hostname")), (0o755, 0, 0o644));
    if rustix::process::geteuid().as_raw() == 12_345 {
        assert!(!omitted("mine", Omitted::SetId));
        assert_eq!(mode("mine"), 0o2570);
    }
    // So that whoever made the directory can remove it.
    std::fs::set_permissions(directory.join("dest/rootfs/shut"), std::fs::Permissions::from_mode(0o700)).unwrap();
    println!("unpacked as a user");
}
