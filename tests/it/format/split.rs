//! Two files for one image: rows 134 to 142 of the hostile inputs, and the other good forms of a split.
//! Content decides which file is which; what is neither half is refused.

use lxd_image::format::{Image, ImageForm, UnpackOptions};
use lxd_image::{ErrorKind, Fingerprint, Limits, Monitor};

use super::forge::{METADATA, Member, archive, directory, file, hard_link, image, metadata, rootfs, symlink};
use super::verdict::{files, open, unified};
use super::{MALFORMED, Place, UNSAFE};

fn meta() -> Vec<u8> {
    archive(&[metadata(), directory("templates/"), file("templates/t.tpl", "x")])
}

const MORE: &[&str] = &["templates d755 0:0 now", r#"templates/t.tpl -644 0:0 now "x""#];

#[test]
fn two_files_may_come_in_either_order() {
    let digest = Fingerprint::of(&[meta(), rootfs(&[])].concat());
    for order in [[meta(), rootfs(&[])], [rootfs(&[]), meta()]] {
        let left = files(order).gives_base_and(MORE);
        assert_eq!(left.unpacked.fingerprint, digest);
    }
}

#[test]
fn what_no_image_has_beside_the_metadata_does_not_make_it_a_root() {
    for stray in [directory("stuff/"), symlink("exec-output", "/"), file("stuff/x", "x")] {
        let meta = archive(&[stray, metadata(), directory("templates/"), file("templates/t.tpl", "x")]);
        let root = rootfs(&[file("large", [b'x'; 4096])]);
        for order in [[meta.clone(), root.clone()], [root, meta]] {
            files(order).run().unwrap();
        }
    }
    let device = archive(&[metadata(), Member::new(b'4', "sda").device(8, 0).bytes()]);
    files([device, rootfs(&[file("large", [b'x'; 4096])])]).refused(UNSAFE);
}

#[test]
fn metadata_that_brings_a_root_of_its_own_is_refused() {
    let kinds = &[ErrorKind::UnsafePath, ErrorKind::InvalidInput];
    let plant = symlink("rootfs/x", "../../outside/dir");
    for parts in [
        vec![metadata(), directory("rootfs/"), plant.clone()],
        vec![metadata(), plant.clone()],
        vec![plant, metadata()],
        vec![metadata(), symlink("rootfs", "../outside")],
        vec![metadata(), symlink("./rootfs", "/")],
        vec![metadata(), hard_link("rootfs", "metadata.yaml")],
        vec![metadata(), directory("rootfs/")],
        vec![metadata(), file("rootfs.img", super::forge::Disk::default().bytes())],
    ] {
        files([archive(&parts), rootfs(&[file("x/pwn", "x")])]).refused(kinds);
        files([rootfs(&[file("x/pwn", "x")]), archive(&parts)]).refused(kinds);
    }
}

#[test]
fn top_that_is_a_link_is_refused() {
    for name in [".", "./", "./."] {
        let link = symlink(name, "../outside");
        files([meta(), archive(&[link.clone(), directory("etc/"), file("etc/hostname", "x")])]).refused(UNSAFE);
        files([archive(&[link.clone(), metadata()]), rootfs(&[])]).refused(UNSAFE);
        unified(archive(&[link.clone(), super::forge::base()])).refused(UNSAFE);
        unified(image(&[link])).refused(UNSAFE);
        unified(image(&[file(name, "")])).refused(&[ErrorKind::Malformed, ErrorKind::UnsafePath]);
    }
}

#[test]
fn rootfs_does_not_climb_to_the_metadata() {
    for name in ["../metadata.yaml", "../templates/t.tpl", "etc/../../metadata.yaml", "/metadata.yaml"] {
        files([meta(), rootfs(&[file(name, "x")])]).refused(UNSAFE);
        files([meta(), rootfs(&[hard_link("etc/m", name)])]).refused(UNSAFE);
    }
}

#[test]
fn two_files_that_are_not_two_halves_are_refused() {
    let kinds = &[ErrorKind::Ambiguous, ErrorKind::Malformed, ErrorKind::InvalidInput];
    let other = archive(&[file("metadata.yaml", METADATA.replace("x86_64", "aarch64"))]);
    for pair in [
        [meta(), other],
        [meta(), meta()],
        [rootfs(&[]), rootfs(&[])],
        [image(&[]), rootfs(&[])],
        [rootfs(&[]), image(&[])],
        [image(&[]), image(&[])],
        [meta(), image(&[])],
        [super::forge::Disk::default().bytes(), super::forge::Disk::default().bytes()],
        [super::forge::Disk::default().bytes(), rootfs(&[])],
        [image(&[]), super::forge::Disk::default().bytes()],
    ] {
        files(pair).refused(kinds);
    }
    unified(meta()).refused(kinds);
    unified(rootfs(&[])).refused(kinds);
}

#[test]
fn root_directory_may_hold_a_file_called_metadata_yaml() {
    let odd = rootfs(&[file("metadata.yaml", "not: ours\n"), directory("templates/"), directory("rootfs/")]);
    for order in [[meta(), odd.clone()], [odd, meta()]] {
        let mut lines = MORE.to_vec();
        lines.extend([
            r#"rootfs/metadata.yaml -644 0:0 "not: ours\n""#,
            "rootfs/rootfs d755 0:0",
            "rootfs/templates d755 0:0",
        ]);
        files(order).gives_base_and(&lines);
    }
}

#[test]
fn rootfs_that_is_cut_short_or_empty_leaves_nothing() {
    let whole = rootfs(&[file("big", vec![b'x'; 4096])]);
    files([meta(), whole[..whole.len() - 2000].to_vec()]).refused(MALFORMED);
    files([meta(), vec![]]).refused(MALFORMED);
    files([meta(), vec![0; 1024]]).refused(MALFORMED);
}

#[test]
fn wrong_fingerprint_leaves_the_destination_as_it_was() {
    let pair = [meta(), rootfs(&[])];
    let trailing = [&pair.concat()[..], b"\0"].concat();
    for empty_destination in [false, true] {
        let place = Place::new();
        place.directory("box");
        if empty_destination {
            place.directory("box/dest");
        }
        let before = super::tree(&place.at("box"));
        let paths = [place.write("meta", &pair[0]), place.write("root", &pair[1])];
        for wrong in [
            Fingerprint::from_bytes([0; 32]),
            Fingerprint::of(&[rootfs(&[]), meta()].concat()),
            Fingerprint::of(&pair[1]),
            Fingerprint::of(&trailing),
        ] {
            let image = open(&paths, &Limits::default()).unwrap();
            let error = image
                .unpack_verified(place.at("box/dest"), &wrong, &UnpackOptions::new(), &Monitor::none())
                .unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Mismatch);
            let found = Fingerprint::of(&pair.concat()).to_string();
            assert_eq!(error.expected_and_found(), Some((&wrong.to_string()[..], &found[..])));
            assert_eq!(super::tree(&place.at("box")), before);
        }
    }
}

#[test]
fn fingerprint_counts_what_follows_the_end_of_both_archives() {
    let (meta, root) = ([&meta()[..], b"after"].concat(), [&rootfs(&[])[..], &[0; 700]].concat());
    let digest = Fingerprint::of(&[&meta[..], &root].concat());
    assert_eq!(files([meta, root]).gives_base_and(MORE).unpacked.fingerprint, digest);
}

#[test]
fn form_and_size_are_known_before_reading() {
    let place = Place::new();
    let paths = [place.write("root", rootfs(&[])), place.write("meta", meta())];
    let image: Image = open(&paths, &Limits::default()).unwrap();
    assert_eq!(image.form(), ImageForm::Split);
    assert_eq!(image.size(), Some((rootfs(&[]).len() + meta().len()) as u64));
    assert_eq!(image.metadata().unwrap().architecture(), "x86_64");
    assert_eq!(image.template("t.tpl").unwrap(), b"x");
    assert_eq!(image.template("no").unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn top_of_a_rootfs_gives_the_root_its_attributes() {
    let top = Member::new(b'5', "./").mode(0o711).uid(7).mtime(1_600_000_000).bytes();
    let left = files([meta(), archive(&[top, file("a", "x")])]).run().unwrap();
    let line = left.tree().into_iter().find(|line| line.starts_with("rootfs ")).unwrap();
    if super::is_root() {
        assert_eq!(line, "rootfs d711 7:0 @1600000000.000000000");
    }
}
