//! Blocks, headers and the members that an image must have: rows 1 to 27 of the hostile inputs.
//! Strict where two readers in the world would see two different archives.

use lxd_image::ErrorKind;

use super::forge::{END, METADATA, Member, archive, base, directory, file, image, metadata, number, symlink};
use super::verdict::unified;
use super::{MALFORMED, UNSAFE, UNSUPPORTED};

const HIDDEN: &str = "pwned\n";

#[test]
fn file_without_a_byte_is_malformed() {
    unified([]).refused(MALFORMED);
}

#[test]
fn archive_of_nothing_but_zeros_is_malformed() {
    unified(END).refused(MALFORMED);
    unified(vec![0; 10_240]).refused(MALFORMED);
}

#[test]
fn one_zero_block_or_no_end_marker_at_all_ends_an_archive_too() {
    unified(base()).gives_base_and(&[]);
    unified([&base()[..], &[0; 512]].concat()).gives_base_and(&[]);
}

#[test]
fn zero_block_between_members_is_malformed() {
    unified([&base()[..], &[0; 512], &file("rootfs/a", "x"), END].concat()).refused(MALFORMED);
}

#[test]
fn cut_inside_a_files_data_is_malformed() {
    let whole = [base(), file("rootfs/big", vec![b'x'; 5000])].concat();
    for cut in [1, 120, 3000, 5119] {
        unified(&whole[..whole.len() - cut]).refused(MALFORMED);
    }
}

#[test]
fn cut_inside_a_header_is_malformed() {
    let whole = base();
    for left in [1, 257, 511] {
        unified([&whole[..], &file("rootfs/a", "")[..left]].concat()).refused(MALFORMED);
    }
}

#[test]
fn wrong_checksum_of_a_later_header_is_malformed() {
    unified(image(&[Member::new(b'0', "rootfs/a").wrong_sum().bytes()])).refused(MALFORMED);
}

#[test]
fn checksum_over_signed_bytes_is_right_too() {
    let old = Member::new(b'0', b"rootfs/\xff\xfe\xfd").data("x").signed_sum().bytes();
    unified(image(&[old])).gives_base_and(&[r#"rootfs/\xff\xfe\xfd -644 0:0 "x""#]);
}

#[test]
fn what_follows_the_end_marker_is_no_member_but_counts_for_the_fingerprint() {
    let bytes = [image(&[]), archive(&[directory("rootfs/"), file("rootfs/hidden", HIDDEN)])].concat();
    let left = unified(bytes.clone()).gives_base_and(&[]);
    assert_eq!(left.unpacked.fingerprint, lxd_image::Fingerprint::of(&bytes));
    unified([&image(&[])[..], b"garbage"].concat()).gives_base_and(&[]);
}

#[test]
fn size_that_is_no_number_or_negative_or_over_63_bits_is_malformed() {
    for field in
        [b"12x45670000\0".to_vec(), b"-0000000001\0".to_vec(), vec![0xff; 12], number(12, 1 << 63), number(12, 1 << 80)]
    {
        unified(image(&[Member::new(b'0', "rootfs/a").raw(124, &field).bytes(), file("rootfs/b", "y")]))
            .refused(MALFORMED);
    }
}

#[test]
fn eight_gib_promised_and_ten_bytes_there_is_malformed() {
    let promise = Member::new(b'0', "rootfs/a").data("0123456789").size(8 << 30).bytes();
    unified([base(), promise].concat()).refused(MALFORMED);
}

#[test]
fn mode_that_is_no_number_is_malformed() {
    unified(image(&[Member::new(b'0', "rootfs/a").raw(100, b"rwxr-xr\0").bytes()])).refused(MALFORMED);
}

#[test]
fn empty_name_is_malformed() {
    unified(image(&[file("", "x")])).refused(MALFORMED);
}

#[test]
fn headers_of_version_7_are_read() {
    let v7 = |member: Member| member.magic(&[0; 8]).bytes();
    unified(archive(&[
        v7(Member::new(0, "metadata.yaml").data(METADATA)),
        v7(Member::new(0, "rootfs/").mode(0o755)),
        v7(Member::new(0, "rootfs/etc/").mode(0o755)),
        v7(Member::new(0, "rootfs/etc/hostname").data("box\n")),
        v7(Member::new(b'2', "rootfs/l").link("etc").mode(0o777)),
        v7(Member::new(b'1', "rootfs/h").link("rootfs/etc/hostname")),
    ]))
    .gives_base_and(&["rootfs/h = rootfs/etc/hostname", "rootfs/l l777 0:0 -> etc"]);
}

#[test]
fn prefix_of_ustar_and_contiguous_files_are_read() {
    let deep = Member::new(b'0', "name").prefix("rootfs/some/directory").data("x").bytes();
    let contiguous = Member::new(b'7', "rootfs/seven").data("7").bytes();
    unified(image(&[deep, contiguous])).gives_base_and(&[
        "rootfs/some d755 0:0 now",
        "rootfs/some/directory d755 0:0 now",
        r#"rootfs/some/directory/name -644 0:0 "x""#,
        r#"rootfs/seven -644 0:0 "7""#,
    ]);
}

#[test]
fn unknown_member_type_is_unsupported() {
    unified(image(&[Member::new(b'Q', "rootfs/q").data("what").bytes(), file("rootfs/b", "y")])).refused(UNSUPPORTED);
}

#[test]
fn data_of_a_directory_or_a_link_is_malformed() {
    let hidden = file("rootfs/hidden", HIDDEN);
    let size = i128::try_from(hidden.len()).unwrap();
    for header in [
        Member::new(b'5', "rootfs/d/"),
        Member::new(b'2', "rootfs/l").link("etc"),
        Member::new(b'1', "rootfs/h").link("rootfs/etc/hostname"),
        Member::new(b'6', "rootfs/p"),
        Member::new(b'3', "rootfs/c").device(1, 3),
    ] {
        unified(image(&[header.size(size).bytes(), hidden.clone()])).refused(MALFORMED);
    }
}

#[test]
fn of_two_files_of_one_name_the_last_stays() {
    unified(image(&[file("rootfs/a", "first, and longer"), file("rootfs/a", "last")]))
        .gives_base_and(&[r#"rootfs/a -644 0:0 "last""#]);
}

#[test]
fn two_metadata_files_are_malformed_unless_they_are_the_same() {
    let other = file("metadata.yaml", METADATA.replace("x86_64", "aarch64"));
    unified(image(std::slice::from_ref(&other))).refused(MALFORMED);
    unified(archive(&[other, base()])).refused(MALFORMED);
    unified(image(&[metadata()])).gives_base_and(&[]);
}

#[test]
fn file_that_becomes_a_directory_or_the_reverse_is_malformed() {
    unified(image(&[file("rootfs/a", "x"), directory("rootfs/a/"), file("rootfs/a/b", "y")])).refused(MALFORMED);
    unified(image(&[file("rootfs/a", "x"), file("rootfs/a/b", "y")])).refused(MALFORMED);
    unified(image(&[directory("rootfs/a/"), file("rootfs/a", "x")])).refused(MALFORMED);
    unified(image(&[file("rootfs/a/b", "y"), file("rootfs/a", "x")])).refused(MALFORMED);
    unified(image(&[directory("rootfs/a/"), symlink("rootfs/a", "etc")])).refused(MALFORMED);
}

#[test]
fn names_may_begin_with_a_dot_and_parents_need_no_members() {
    unified(archive(&[
        directory("./"),
        file("./rootfs/etc/hostname", "box\n"),
        file("./metadata.yaml", METADATA),
        directory("./rootfs"),
        directory("./rootfs/etc"),
    ]))
    .gives_base_and(&[]);
    let left = unified(archive(&[file("rootfs/a/b", "x"), metadata()])).gives(&[
        r#"metadata.yaml -644 0:0 now "architecture: x86_64\ncreation_date: 1700000000\nproperties:\n  os: Debian\n  release: "12"\n""#,
        "rootfs d755 0:0 now",
        "rootfs/a d755 0:0 now",
        r#"rootfs/a/b -644 0:0 "x""#,
    ]);
    assert_eq!(left.unpacked.report.entries, 1);
}

#[test]
fn image_without_metadata_or_without_a_root_is_malformed() {
    unified(archive(&[directory("rootfs/"), file("rootfs/a", "x")])).refused(MALFORMED);
    unified(archive(&[file("rootfs/metadata.yaml", METADATA)])).refused(MALFORMED);
    unified(archive(&[metadata()])).refused(MALFORMED);
    unified(archive(&[metadata(), directory("templates/")])).refused(MALFORMED);
}

#[test]
fn image_with_a_tree_and_a_disk_is_malformed() {
    let disk = file("rootfs.img", super::forge::Disk::default().bytes());
    unified(image(std::slice::from_ref(&disk))).refused(MALFORMED);
    unified(archive(&[metadata(), disk.clone(), directory("rootfs/")])).refused(MALFORMED);
    unified(archive(&[metadata(), disk.clone(), disk])).refused(MALFORMED);
}

#[test]
fn rootfs_that_is_no_directory_is_refused() {
    unified(archive(&[metadata(), file("rootfs", "x")])).refused(&[ErrorKind::Malformed, ErrorKind::UnsafePath]);
    unified(archive(&[metadata(), Member::new(b'6', "rootfs").bytes()])).refused(UNSAFE);
}

#[test]
fn what_no_image_has_at_its_top_is_reported_and_not_written() {
    let left = unified(image(&[
        file("backup.yaml", "container: {}\n"),
        file("README", "read me"),
        directory("scripts/"),
        file("scripts/run", "x"),
    ]))
    .gives_base_and(&[]);
    let strays: Vec<_> = left.unpacked.report.omissions.iter().map(|omission| omission.path.clone()).collect();
    assert_eq!(strays, [&b"backup.yaml"[..], b"README", b"scripts", b"scripts/run"]);
    assert!(!left.unpacked.report.is_complete());
}
