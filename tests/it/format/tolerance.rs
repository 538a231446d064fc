//! Archives that GNU tar takes and that real hosts have: incremental backups, global headers, headers of old tars.
//! And what is told of them where something can't be kept.

use lxd_image::format::{Codec, Compression, ConvertOptions, ImageForm, RootfsFormat, UnpackOptions};
use lxd_image::{Monitor, Omitted};

use super::forge::{
    Disk, METADATA, Member, archive, base, directory, file, global, hard_link, image, metadata, pax, pax_raw, record,
    rootfs,
};
use super::verdict::{Left, files, open, unified};
use super::{MALFORMED, UNSUPPORTED, is_root};

fn mode(path: &std::path::Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    path.symlink_metadata().unwrap().permissions().mode() & 0o7777
}

fn omitted(left: &Left) -> Vec<(String, Omitted)> {
    let lossy = |path: &[u8]| String::from_utf8_lossy(path).into_owned();
    left.unpacked.report.omissions.iter().map(|omission| (lossy(&omission.path), omission.what.clone())).collect()
}

fn notes(left: &Left) -> String {
    left.unpacked.report.omissions.iter().map(|omission| format!("{omission}\n")).collect()
}

#[test]
fn root_directory_that_no_member_names_can_be_entered_by_all() {
    let unnamed = archive(&[metadata(), file("rootfs/etc/passwd", "x")]);
    let left = unified(unnamed).run().unwrap();
    assert_eq!(mode(&left.place.at("box/dest/rootfs")), 0o755);
    let split = || [archive(&[metadata()]), archive(&[directory("etc/"), file("etc/passwd", "x")])];
    let left = files(split()).run().unwrap();
    assert_eq!(mode(&left.place.at("box/dest/rootfs")), 0o755);
    let left = files(split()).options(|options| options.rootfs_only(true)).run().unwrap();
    assert_eq!(mode(&left.place.at("box/dest")), 0o755);
}

#[test]
fn root_directory_that_no_member_names_belongs_to_the_shifted_root() {
    use std::os::unix::fs::MetadataExt;
    if !is_root() {
        return;
    }
    let unnamed = archive(&[metadata(), file("rootfs/etc/passwd", "x")]);
    let map = "u:0:100000:65536,g:0:200000:65536".parse().unwrap();
    let left = unified(unnamed).options(|options| options.map_ids(map)).run().unwrap();
    let stat = left.place.at("box/dest/rootfs").metadata().unwrap();
    assert_eq!((stat.uid(), stat.gid()), (100_000, 200_000));
}

#[test]
fn attribute_that_the_file_system_cannot_hold_is_left_out_by_name() {
    let place = super::Place::new();
    let probe = place.write("probe", "");
    let value = vec![b'x'; 60_000];
    if rustix::fs::setxattr(&probe, "user.big", &value, rustix::fs::XattrFlags::empty()).is_ok() {
        return println!("skipped: this file system holds large attributes");
    }
    let big = pax_raw(record("SCHILY.xattr.user.big", &value));
    let left = unified(image(&[big, file("rootfs/f", "data"), file("rootfs/g", "more")]))
        .gives_base_and(&[r#"rootfs/f -644 0:0 "data""#, r#"rootfs/g -644 0:0 "more""#]);
    assert!(notes(&left).contains("f: attribute user.big left out: "), "{}", notes(&left));
}

#[test]
fn full_backup_of_gnu_tar_is_an_image() {
    let listed = Member::new(b'D', "rootfs/var/").mode(0o750).magic(b"ustar  \0").data("Ylog\0\0").bytes();
    unified(image(&[listed, file("rootfs/var/log", "x")]))
        .gives_base_and(&["rootfs/var d750 0:0", r#"rootfs/var/log -644 0:0 "x""#]);
    let pax_form = [pax(&[("GNU.dumpdir", "Ylog")]), directory("rootfs/var/")].concat();
    let left = unified(image(&[pax_form])).gives_base_and(&["rootfs/var d755 0:0"]);
    assert!(left.unpacked.report.is_complete());
}

#[test]
fn owners_and_times_of_a_global_header_hold_until_the_next() {
    let owners = global(&[("uid", "1234"), ("gid", "55"), ("mtime", "1500000000.5")]);
    let next = global(&[("uid", "7"), ("gid", "8"), ("mtime", "1700000000")]);
    let own = [pax(&[("uid", "9")]), file("rootfs/c", "x")].concat();
    let left = unified(image(&[owners, file("rootfs/a", "x"), next, file("rootfs/b", "x"), own])).run().unwrap();
    let lines = left.tree().join("\n");
    if is_root() {
        assert!(lines.contains("rootfs/a -644 1234:55 @1500000000.500000000"), "{lines}");
        assert!(lines.contains(r#"rootfs/b -644 7:8 "x""#), "{lines}");
        assert!(lines.contains(r#"rootfs/c -644 9:8 "x""#), "{lines}");
    }
}

#[test]
fn empty_record_takes_a_global_one_back() {
    let members = [global(&[("uid", "1234")]), pax(&[("uid", "")]), file("rootfs/a", "x")];
    unified(image(&members)).gives_base_and(&[r#"rootfs/a -644 0:0 "x""#]);
}

#[test]
fn global_header_that_readers_take_differently_is_refused_by_name() {
    let members = [global(&[("uid", "1")]), file("rootfs/a", "x"), global(&[("gid", "2")]), file("rootfs/b", "x")];
    let error = unified(image(&members)).refused(MALFORMED);
    assert!(error.to_string().contains("`uid`"), "{error}");
    for key in ["SCHILY.xattr.user.a", "LIBARCHIVE.xattr.user.a", "SCHILY.acl.access"] {
        let error = unified(image(&[global(&[(key, "x")]), file("rootfs/a", "x")])).refused(UNSUPPORTED);
        assert!(error.to_string().contains(key) && error.to_string().contains("global"), "{error}");
    }
    unified(image(&[global(&[("GNU.volume.filename", "rootfs/a")])])).refused(UNSUPPORTED);
}

#[test]
fn unknown_pax_record_is_reported_for_its_member() {
    let members = [pax(&[("VENDOR.magic", "1"), ("comment", "c"), ("SCHILY.ino", "7")]), file("rootfs/a", "x")];
    let left = unified(image(&members)).run().unwrap();
    assert_eq!(notes(&left), "a: PAX record `VENDOR.magic` left out: its meaning is not known\n");
    let left = unified(image(&[global(&[("VENDOR.all", "1")]), file("rootfs/a", "x")])).run().unwrap();
    assert_eq!(notes(&left), "a: global PAX record `VENDOR.all` left out: its meaning is not known\n");
}

#[test]
fn empty_attribute_is_kept_and_empty_names_say_nothing() {
    let members = [
        pax(&[("SCHILY.xattr.user.overlay.origin", ""), ("path", ""), ("uname", ""), ("SCHILY.acl.access", "")]),
        file("rootfs/a", "x"),
    ];
    unified(image(&members)).gives_base_and(&[r#"rootfs/a -644 0:0 "x" user.overlay.origin="#]);
}

#[test]
fn header_of_solaris_is_a_pax_header() {
    let header = Member::new(b'X', "PaxHeaders/x").data(record("path", "rootfs/long")).bytes();
    unified(image(&[header, file("rootfs/a", "x")])).gives_base_and(&[r#"rootfs/long -644 0:0 "x""#]);
    let list = Member::new(b'A', "acl").data("1000000\0").bytes();
    let left = unified(image(&[list, file("rootfs/a", "x")])).gives_base_and(&[r#"rootfs/a -644 0:0 "x""#]);
    assert!(notes(&left).contains("a: access control list left out"), "{}", notes(&left));
}

#[test]
fn numbers_of_old_headers_are_read_as_gnu_tar_reads_them() {
    let old = Member::new(0, "rootfs/f").data("hello").magic(b"\0\0\0\0\0\0\0\0").raw(100, b"100640 \0");
    let old = old.raw(108, b"     1 \0").raw(116, b"\x00000002\0").raw(124, b"          5 ").raw(136, b"14524770400 ");
    unified(image(&[old.bytes()])).gives_base_and(&[r#"rootfs/f -640 1:2 "hello""#]);
    let garbage = Member::new(b'0', "rootfs/g").data("x").raw(100, b"644\0junk");
    unified(image(&[garbage.bytes()])).gives_base_and(&[r#"rootfs/g -644 0:0 "x""#]);
}

#[test]
fn size_that_readers_take_differently_is_malformed() {
    let member = Member::new(b'0', "rootfs/f").data("x").raw(124, b"\x0000000000001");
    unified(image(&[member.bytes()])).refused(MALFORMED);
}

#[test]
fn empty_file_whose_name_ends_with_a_slash_is_a_directory() {
    for kind in [0, b'0', b'7'] {
        unified(image(&[Member::new(kind, "rootfs/d/").mode(0o750).bytes()])).gives_base_and(&["rootfs/d d750 0:0"]);
    }
    unified(image(&[file("rootfs/d/", "x")])).refused(MALFORMED);
}

#[test]
fn rubbish_after_one_zero_block_is_ignored() {
    for rubbish in [&b"junk"[..], &[7; 512], &[b'x'; 1300]] {
        unified([&base()[..], &[0; 512], rubbish].concat()).gives_base_and(&[]);
    }
}

#[test]
fn number_of_a_device_may_stand_in_a_record() {
    let device = Member::new(b'3', "rootfs/dev").magic(b"\0\0\0\0\0\0\0\0").bytes();
    let members = [pax(&[("SCHILY.devmajor", "1"), ("SCHILY.devminor", "3")]), device];
    unified(image(&members)).options(|options| options.skip_devices(true)).run().unwrap();
}

#[test]
fn time_outside_of_the_file_systems_range_is_reported_by_path() {
    let far = [pax(&[("mtime", "100000000000")]), file("rootfs/far", "x")].concat();
    let left = unified(image(&[far])).run().unwrap();
    let found = std::os::unix::fs::MetadataExt::mtime(&left.place.at("box/dest/rootfs/far").metadata().unwrap());
    let told = omitted(&left).iter().any(|(path, what)| path == "far" && matches!(what, Omitted::Clamped { .. }));
    assert_eq!(told, found != 100_000_000_000, "{}", notes(&left));
}

#[test]
fn error_for_an_image_without_a_root_lists_its_top() {
    let disk = archive(&[metadata(), file("haos.qcow2", Disk::default().bytes())]);
    let error = unified(disk).refused(MALFORMED);
    assert!(error.to_string().contains("`haos.qcow2`"), "{error}");
    assert!(error.hint().unwrap().contains("`rootfs.img`"), "{error}");
    let below = archive(&[directory("img/"), file("img/metadata.yaml", METADATA), directory("img/rootfs/")]);
    let error = unified(below).refused(MALFORMED);
    assert!(error.to_string().contains("`img/`"), "{error}");
    assert!(error.hint().unwrap().contains("tar -C img"), "{error}");
}

#[test]
fn attributes_that_squashfs_lacks_are_reported_by_path() {
    if !Codec::Gzip.is_enabled() {
        return;
    }
    let place = super::Place::new();
    let acl = "user::rwx,user:1000:r--,group::r-x,mask::r-x,other::r-x";
    let members = [
        [pax(&[("SCHILY.acl.access", acl)]), file("rootfs/acl", "x")].concat(),
        [pax(&[("mtime", "-5")]), file("rootfs/old", "x")].concat(),
        [pax(&[("mtime", "1500000000.25")]), file("rootfs/fraction", "x")].concat(),
    ];
    let paths = [place.write("image", image(&members))];
    let options = ConvertOptions::new().form(ImageForm::Split).rootfs_format(RootfsFormat::SquashFs);
    let options = options.compression(Compression::new(Codec::Gzip));
    let written =
        open(&paths, &Default::default()).unwrap().convert(place.at("out"), &options, &Monitor::none()).unwrap();
    let notes: Vec<String> = written.omissions.iter().map(ToString::to_string).collect();
    assert_eq!(
        notes,
        [
            "acl: attribute system.posix_acl_access left out: SquashFS has no place for it",
            "old: modification time -5 is out of range, 0 is used",
            "fractions of a second of 1 modification times left out: SquashFS holds whole seconds",
        ]
    );
}

#[test]
fn map_of_owners_is_refused_for_a_disk() {
    let place = super::Place::new();
    let paths = [place.write("meta", archive(&[metadata()])), place.write("disk", Disk::default().bytes())];
    let options = UnpackOptions::new().map_ids("0:100000:65536".parse().unwrap());
    let error = open(&paths, &Default::default())
        .unwrap()
        .unpack_unverified(place.at("dest"), &options, &Monitor::none())
        .unwrap_err();
    assert_eq!(error.kind(), lxd_image::ErrorKind::InvalidInput);
    assert!(!place.at("dest").exists());
}

#[test]
fn further_name_of_a_device_that_is_left_out_is_left_out_too() {
    let members = [Member::new(b'3', "null").device(1, 3).bytes(), hard_link("x", "null"), file("y", "y")];
    let case = files([archive(&[metadata()]), rootfs(&members)]);
    let left = case.options(|options| options.skip_devices(true)).run().unwrap();
    let names: Vec<String> = omitted(&left).into_iter().map(|(path, _)| path).collect();
    assert_eq!(names, ["null", "x"]);
}
