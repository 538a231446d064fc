//! Links as traps: rows 35 to 52 of the hostile inputs.
//! No link of an archive is ever followed, and a hard link leads only to what the archive brought.

use lxd_image::format::{Image, ImageSource, UnpackOptions};
use lxd_image::{ErrorKind, Monitor};

use super::forge::{
    METADATA, Member, archive, directory, file, hard_link, image, long, metadata, pax, pax_raw, record, symlink,
};
use super::verdict::unified;
use super::{LIMIT, MALFORMED, Place, UNSAFE};

#[test]
fn nothing_is_written_below_a_link() {
    for target in ["/tmp", "../../../outside/dir", "etc", "rootfs", "."] {
        let link = || symlink("rootfs/x", target);
        for member in [
            file("rootfs/x/pwn", "x"),
            directory("rootfs/x/d"),
            symlink("rootfs/x/l", "etc"),
            hard_link("rootfs/x/h", "rootfs/etc/hostname"),
            Member::new(b'6', "rootfs/x/p").bytes(),
            file("rootfs/x/a/b/c", "x"),
        ] {
            unified(image(&[link(), member])).refused(UNSAFE);
        }
    }
    let chain = [symlink("rootfs/a", "../../.."), symlink("rootfs/b", "a/outside"), file("rootfs/b/dir/pwn", "x")];
    unified(image(&chain)).refused(UNSAFE);
    // Also where the link lies in the middle of the path, and where it came over a hard link.
    unified(image(&[directory("rootfs/d/"), symlink("rootfs/d/x", "/"), file("rootfs/d/x/y/z", "x")])).refused(UNSAFE);
    unified(image(&[symlink("rootfs/x", "/"), hard_link("rootfs/y", "rootfs/x"), file("rootfs/y/z", "x")]))
        .refused(UNSAFE);
}

#[test]
fn directory_does_not_take_the_place_of_a_link() {
    let open = Member::new(b'5', "rootfs/x/").mode(0o777).uid(1234).mtime(1).bytes();
    unified(image(&[symlink("rootfs/x", "../../outside/dir"), open])).refused(UNSAFE);
    unified(image(&[directory("rootfs/x/"), symlink("rootfs/x", "../../outside/dir")])).refused(MALFORMED);
}

#[test]
fn file_takes_the_place_of_a_link_and_leaves_its_target_alone() {
    for over in [file("rootfs/x", "new"), [file("rootfs/y", "new"), hard_link("rootfs/x", "rootfs/y")].concat()] {
        let left = unified(image(&[symlink("rootfs/x", "../../outside/secret"), over])).run().unwrap();
        assert_eq!(std::fs::read(left.place.at("box/dest/rootfs/x")).unwrap(), b"new");
    }
}

#[test]
fn hard_link_to_outside_is_refused() {
    for target in ["/etc/passwd", "../outside/secret", "rootfs/../../outside/secret", "rootfs/etc/../etc/hostname"] {
        unified(image(&[hard_link("rootfs/h", target)])).refused(UNSAFE);
        let by_pax = [pax(&[("linkpath", target)]), hard_link("rootfs/h", "rootfs/etc/hostname")].concat();
        unified(image(&[by_pax])).refused(UNSAFE);
        let by_gnu = [long(b'K', target), hard_link("rootfs/h", "rootfs/etc/hostname")].concat();
        unified(image(&[by_gnu])).refused(UNSAFE);
    }
    let through = [symlink("rootfs/x", "../../outside"), hard_link("rootfs/h", "rootfs/x/secret")];
    unified(image(&through)).refused(UNSAFE);
    let through = [symlink("rootfs/x", "etc"), hard_link("rootfs/h", "rootfs/x/hostname")];
    unified(image(&through)).refused(UNSAFE);
}

#[test]
fn file_over_a_hard_link_to_a_link_leaves_the_outside_alone() {
    unified(image(&[
        symlink("rootfs/l", "../../outside/secret"),
        hard_link("rootfs/h", "rootfs/l"),
        file("rootfs/h", "new"),
    ]))
    .gives_base_and(&[r#"rootfs/h -644 0:0 "new""#, "rootfs/l l777 0:0 -> ../../outside/secret"]);
}

#[test]
fn hard_link_before_its_target_or_to_itself_or_to_a_directory_is_malformed() {
    unified(image(&[hard_link("rootfs/h", "rootfs/later"), file("rootfs/later", "x")])).refused(MALFORMED);
    unified(image(&[hard_link("rootfs/h", "rootfs/no/such")])).refused(MALFORMED);
    unified(image(&[file("rootfs/a", "x"), hard_link("rootfs/a", "rootfs/a")])).refused(MALFORMED);
    unified(image(&[file("rootfs/a", "x"), hard_link("rootfs/a", "./rootfs//a")])).refused(MALFORMED);
    unified(image(&[hard_link("rootfs/h", "rootfs/etc")])).refused(MALFORMED);
    unified(image(&[hard_link("rootfs/h", "rootfs/etc/hostname/x")])).refused(MALFORMED);
    unified(image(&[hard_link("rootfs/h", "rootfs")])).refused(&[ErrorKind::Malformed, ErrorKind::UnsafePath]);
}

#[test]
fn hard_link_from_the_root_to_metadata_or_templates_is_refused() {
    let template = [directory("templates/"), file("templates/t.tpl", "x")].concat();
    for target in ["metadata.yaml", "templates/t.tpl", "./metadata.yaml", "README"] {
        unified(image(&[template.clone(), file("README", "x"), hard_link("rootfs/m", target)])).refused(UNSAFE);
    }
}

#[test]
fn rootfs_that_is_a_link_is_refused_first_or_second() {
    for link in [symlink("rootfs", "/"), symlink("./rootfs", ".."), hard_link("rootfs", "metadata.yaml")] {
        unified(image(std::slice::from_ref(&link))).refused(UNSAFE);
        unified(archive(&[metadata(), link.clone(), file("rootfs/x", "x")])).refused(UNSAFE);
        unified(archive(&[metadata(), directory("rootfs/"), link])).refused(UNSAFE);
    }
}

#[test]
fn metadata_and_templates_that_are_links_are_refused_first_or_second() {
    for (first, link) in [
        (vec![], symlink("templates", "/etc")),
        (vec![directory("templates/")], symlink("templates", "/etc")),
        (vec![], symlink("templates/t", "/etc/passwd")),
        (vec![file("templates/t", "x")], symlink("templates/t", "/etc/passwd")),
        (vec![], hard_link("templates/t", "metadata.yaml")),
        (vec![], hard_link("templates/t", "rootfs/etc/hostname")),
        (vec![], symlink("metadata.yaml", "/etc/passwd")),
        (vec![file("x", METADATA)], hard_link("metadata.yaml", "x")),
        (vec![directory("templates/")], directory("templates/d")),
    ] {
        unified(image(&[first.concat(), link.clone()])).refused(UNSAFE);
        unified(archive(&[first.concat(), link, super::forge::base()])).refused(UNSAFE);
    }
}

#[test]
fn other_links_at_the_top_are_not_written() {
    let left =
        unified(image(&[symlink("exec-output", "/etc"), hard_link("more", "metadata.yaml")])).gives_base_and(&[]);
    assert_eq!(left.unpacked.report.omissions.total(), 2);
}

#[test]
fn loop_of_links_leads_nowhere() {
    unified(image(&[symlink("rootfs/a", "b"), symlink("rootfs/b", "a"), file("rootfs/a/x", "x")])).refused(UNSAFE);
}

#[test]
fn link_to_the_empty_name_is_malformed_and_one_that_is_too_long_over_a_limit() {
    unified(image(&[symlink("rootfs/l", "")])).refused(MALFORMED);
    unified(image(&[Member::new(b'1', "rootfs/h").bytes()])).refused(MALFORMED);
    let error =
        unified(image(&[pax_raw(record("linkpath", "t/".repeat(2500))), symlink("rootfs/l", "t")])).refused(LIMIT);
    assert_eq!(error.limit_name(), Some("link_target"));
}

#[test]
fn links_in_the_root_lead_wherever_they_like() {
    unified(image(&[
        symlink("rootfs/etc/localtime", "/usr/share/zoneinfo/UTC"),
        symlink("rootfs/etc/up", "../../../../../../etc"),
        symlink("rootfs/etc/self", "self"),
    ]))
    .gives_base_and(&[
        "rootfs/etc/localtime l777 0:0 -> /usr/share/zoneinfo/UTC",
        "rootfs/etc/self l777 0:0 -> self",
        "rootfs/etc/up l777 0:0 -> ../../../../../../etc",
    ]);
}

#[test]
fn destination_that_is_in_use_or_a_link_is_refused_and_stays() {
    let place = Place::new();
    place.directory("box");
    let path = place.write("image", image(&[]));
    let unpack = |name: &str| {
        let image = Image::open(ImageSource::open(&path, None).unwrap()).unwrap();
        image
            .unpack_unverified(place.at(name), &UnpackOptions::new(), &Monitor::none())
            .map(|_| ())
            .map_err(|error| error.kind())
    };
    place.directory("box/full/inner");
    place.directory("box/linked");
    place.directory("target");
    std::os::unix::fs::symlink("../../target", place.at("box/linked/x")).unwrap();
    std::os::unix::fs::symlink("../target", place.at("box/link")).unwrap();
    std::os::unix::fs::symlink("nowhere", place.at("box/dangling")).unwrap();
    place.write("box/file", "x");
    let before = super::tree(&place.at("box"));
    assert_eq!(unpack("box/full"), Err(ErrorKind::AlreadyExists));
    assert_eq!(unpack("box/linked"), Err(ErrorKind::AlreadyExists));
    assert_eq!(unpack("box/link"), Err(ErrorKind::UnsafePath));
    assert_eq!(unpack("box/link/"), Err(ErrorKind::UnsafePath));
    assert_eq!(unpack("box/dangling"), Err(ErrorKind::UnsafePath));
    assert_eq!(unpack("box/file"), Err(ErrorKind::AlreadyExists));
    assert_eq!(unpack("box/no/such"), Err(ErrorKind::NotFound));
    assert_eq!(super::tree(&place.at("box")), before);
    assert_eq!(place.names("target"), [""; 0]);
}

#[test]
fn directories_without_permissions_and_their_times_and_hard_links_come_out_exactly() {
    let closed = |name: &str, mode| Member::new(b'5', name).mode(mode).mtime(1_600_000_000).bytes();
    unified(image(&[
        closed("rootfs/shut/", 0),
        closed("rootfs/shut/in/", 0o500),
        file("rootfs/shut/in/f", "x"),
        file("rootfs/one", "1\n"),
        hard_link("rootfs/shut/two", "rootfs/one"),
        hard_link("rootfs/three", "rootfs/shut/two"),
        // Back into directories that were left before.
        file("rootfs/etc/late", "x"),
        file("rootfs/shut/in/late", "x"),
    ]))
    .gives_base_and(&[
        r#"rootfs/etc/late -644 0:0 "x""#,
        r#"rootfs/one -644 0:0 "1\n""#,
        "rootfs/shut d0 0:0 @1600000000.000000000",
        "rootfs/shut/in d500 0:0 @1600000000.000000000",
        r#"rootfs/shut/in/f -644 0:0 "x""#,
        r#"rootfs/shut/in/late -644 0:0 "x""#,
        "rootfs/shut/two = rootfs/one",
        "rootfs/three = rootfs/one",
    ]);
}
