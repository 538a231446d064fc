//! Comparing images: everything that they hold, in bounded memory, from one pass.

use lxd_image::format::{Difference, Image, ImageSource, Input, VerifyOptions, differences};
use lxd_image::{ErrorKind, Limits, Monitor};

use super::forge::{Disk, Member, archive, file, image, metadata};

fn open(bytes: &[u8], limits: &Limits) -> Image {
    Image::open_with(ImageSource::unified(Input::stream(std::io::Cursor::new(bytes.to_vec()))), limits).unwrap()
}

fn memory(bytes: u64) -> Limits {
    let mut limits = Limits::default();
    limits.diff_memory = bytes;
    limits
}

fn compare(one: &[u8], other: &[u8], limits: &Limits) -> Vec<Difference> {
    differences(&open(one, limits), &open(other, limits), &VerifyOptions::new().threads(1), &Monitor::none()).unwrap()
}

#[test]
fn memory_that_is_too_small_changes_no_answer() {
    let members = |skip: usize| {
        let files =
            (0..500).filter(|n| n % skip != 1).map(|n| file(format!("rootfs/{:03}", n * 7919 % 500), n.to_string()));
        image(&files.collect::<Vec<_>>())
    };
    let (one, other) = (members(50), members(40));
    let owed = compare(&one, &other, &Limits::default());
    assert!(owed.len() > 10);
    for diff_memory in [1, 3_000] {
        assert_eq!(compare(&one, &other, &memory(diff_memory)), owed);
    }
    assert_eq!(compare(&one, &one, &memory(1)), []);
}

#[test]
fn last_of_members_of_one_name_is_compared_whatever_the_memory() {
    let twice = image(&[file("rootfs/x", "one"), file("rootfs/y", ""), file("rootfs/x", "two")]);
    let once = image(&[file("rootfs/x", "two"), file("rootfs/y", "")]);
    for diff_memory in [1, 1 << 20] {
        assert_eq!(compare(&twice, &once, &memory(diff_memory)), []);
    }
}

#[test]
fn templates_are_compared_whatever_their_names() {
    let with = |content: &str| image(&[file(b"templates/caf\xe9.tpl", content)]);
    assert_eq!(compare(&with("x"), &with("x"), &Limits::default()), []);
    let found = compare(&with("x"), &with("y"), &Limits::default());
    assert_eq!(found.iter().map(Difference::path).collect::<Vec<_>>(), [b"templates/caf\xe9.tpl"]);
}

#[test]
fn disks_are_compared_by_their_content() {
    let with = |end: u8| {
        let mut disk = Disk::default().bytes();
        disk.extend(vec![0; 100_000]);
        disk.push(end);
        archive(&[metadata(), file("rootfs.img", disk)])
    };
    assert_eq!(compare(&with(1), &with(1), &Limits::default()), []);
    let found = compare(&with(1), &with(2), &Limits::default());
    assert_eq!(found.iter().map(Difference::path).collect::<Vec<_>>(), [b"rootfs.img"]);
}

#[test]
fn fraction_of_a_second_counts_only_where_both_have_one() {
    let at = |time: &str| {
        let records = super::forge::pax(&[("mtime", time)]);
        image(&[[records, Member::new(b'0', "rootfs/x").bytes()].concat()])
    };
    let same = |one, other| compare(&at(one), &at(other), &Limits::default()).is_empty();
    assert!(same("1700000000.25", "1700000000"));
    assert!(same("-5.75", "-6"));
    assert!(!same("1700000000.25", "1700000000.5"));
    assert!(!same("1700000000.25", "1700000001"));
}

#[test]
fn image_that_breaks_a_rule_is_not_compared() {
    let limits = Limits::default();
    let bad = image(&[super::forge::symlink("rootfs/l", "/"), file("rootfs/l/x", "")]);
    let error = differences(&open(&bad, &limits), &open(&image(&[]), &limits), &VerifyOptions::new(), &Monitor::none())
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnsafePath);
}
