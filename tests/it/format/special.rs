//! Special files, owners, modes and times: rows 54 to 65 of the hostile inputs.
//! A number that a kernel would take as another one is refused, never cut.

use lxd_image::ErrorKind;

use super::forge::{Member, archive, directory, file, image, metadata, number, pax};
use super::verdict::unified;
use super::{MALFORMED, UNSAFE, is_root};

#[test]
fn fifo_in_the_root_is_made() {
    unified(image(&[Member::new(b'6', "rootfs/p").mode(0o620).uid(5).bytes()])).gives_base_and(&["rootfs/p p620 5:0"]);
}

#[test]
fn metadata_or_a_template_that_is_a_fifo_is_refused_without_opening_it() {
    let fifo = |name: &str| Member::new(b'6', name).bytes();
    unified(archive(&[fifo("metadata.yaml"), directory("rootfs/")])).refused(UNSAFE);
    unified(image(&[fifo("metadata.yaml")])).refused(UNSAFE);
    unified(image(&[fifo("templates/t")])).refused(UNSAFE);
    unified(image(&[fifo("templates")])).refused(UNSAFE);
}

fn devices() -> Vec<u8> {
    image(&[
        directory("rootfs/dev/"),
        Member::new(b'4', "rootfs/dev/sda").mode(0o660).gid(6).device(8, 0).bytes(),
        Member::new(b'3', "rootfs/etc/mem").mode(0o666).device(1, 1).bytes(),
        Member::new(b'1', "rootfs/dev/disk").link("rootfs/dev/sda").bytes(),
        Member::new(b'3', "rootfs/dev/huge").device(4095, 1_048_575).bytes(),
    ])
}

#[test]
fn devices_in_the_root_are_made_by_root() {
    if !is_root() {
        return println!("skipped: only root makes devices");
    }
    unified(devices()).gives_base_and(&[
        "rootfs/dev d755 0:0",
        "rootfs/dev/disk b660 0:6 8:0",
        "rootfs/dev/sda = rootfs/dev/disk",
        "rootfs/dev/huge c644 0:0 4095:1048575",
        "rootfs/etc/mem c666 0:0 1:1",
    ]);
}

#[test]
fn devices_are_left_out_on_request_with_their_further_names_and_reported() {
    let left =
        unified(devices()).options(|options| options.skip_devices(true)).gives_base_and(&["rootfs/dev d755 0:0"]);
    let paths: Vec<_> = left.unpacked.report.omissions.iter().map(|omission| omission.path.as_slice()).collect();
    assert_eq!(paths, [&b"dev/sda"[..], b"etc/mem", b"dev/disk", b"dev/huge"]);
}

#[test]
fn device_outside_of_the_root_is_refused() {
    for name in ["sda", "templates/sda", "metadata.yaml", "dev/sda", "rootfs", "templates"] {
        let device = Member::new(b'4', name).device(8, 0).bytes();
        unified(image(&[device])).refused(UNSAFE);
    }
}

#[test]
fn device_whose_number_is_none_or_too_large_is_malformed() {
    for bad in [
        Member::new(b'4', "rootfs/sda").device(1 << 32, 0),
        Member::new(b'4', "rootfs/sda").device(8, -1),
        Member::new(b'3', "rootfs/sda").raw(329, b"abc"),
        Member::new(b'3', "rootfs/sda").magic(&[0; 8]),
    ] {
        unified(image(&[bad.bytes()])).refused(MALFORMED);
    }
}

#[test]
fn setuid_setgid_and_sticky_bits_are_kept_with_their_owners() {
    unified(image(&[
        Member::new(b'0', "rootfs/su").mode(0o4755).uid(1000).data("su\n").bytes(),
        Member::new(b'0', "rootfs/wall").mode(0o2755).gid(5).data("w\n").bytes(),
        Member::new(b'0', "rootfs/all").mode(0o7777).uid(1).gid(1).bytes(),
        Member::new(b'5', "rootfs/tmp/").mode(0o1777).bytes(),
        Member::new(b'5', "rootfs/mail/").mode(0o2775).uid(8).gid(8).bytes(),
    ]))
    .gives_base_and(&[
        r#"rootfs/all -7777 1:1 """#,
        "rootfs/mail d2775 8:8",
        r#"rootfs/su -4755 1000:0 "su\n""#,
        "rootfs/tmp d1777 0:0",
        r#"rootfs/wall -2755 0:5 "w\n""#,
    ]);
}

#[test]
fn owners_up_to_the_largest_are_kept() {
    unified(image(&[
        Member::new(b'0', "rootfs/a").uid(1 << 31).gid((1 << 32) - 2).bytes(),
        [pax(&[("uid", "4294967294"), ("gid", "2147483648")]), file("rootfs/b", "")].concat(),
    ]))
    .gives_base_and(&[r#"rootfs/a -644 2147483648:4294967294 """#, r#"rootfs/b -644 4294967294:2147483648 """#]);
}

#[test]
fn owner_that_is_minus_one_or_more_than_32_bits_is_refused() {
    for id in [-1, (1 << 32) - 1, 1 << 32, (1 << 32) + 1000, i128::from(i64::MAX)] {
        unified(image(&[Member::new(b'0', "rootfs/su").mode(0o4755).raw(108, &number(8, id)).bytes()]))
            .refused(&[ErrorKind::Malformed, ErrorKind::LimitExceeded]);
        unified(image(&[Member::new(b'0', "rootfs/su").mode(0o2755).raw(116, &number(8, id)).bytes()]))
            .refused(&[ErrorKind::Malformed, ErrorKind::LimitExceeded]);
        for key in ["uid", "gid"] {
            unified(image(&[pax(&[(key, &id.to_string())]), file("rootfs/su", "x")]))
                .refused(&[ErrorKind::Malformed, ErrorKind::LimitExceeded]);
        }
    }
}

#[test]
fn names_of_owners_say_nothing_beside_their_numbers() {
    let named = Member::new(b'0', "rootfs/a").uid(1234).gid(5678).raw(265, b"root").raw(297, b"root").bytes();
    unified(image(&[
        named,
        pax(&[("uname", "root"), ("gname", "root")]),
        Member::new(b'0', "rootfs/b").uid(9).bytes(),
    ]))
    .gives_base_and(&[r#"rootfs/a -644 1234:5678 """#, r#"rootfs/b -644 9:0 """#]);
}

#[test]
fn times_before_1970_and_fractions_of_seconds_are_exact() {
    let timed = |name: &str, time: &str| [pax(&[("mtime", time)]), file(name, "")].concat();
    unified(image(&[
        Member::new(b'0', "rootfs/a").mtime(-86_400).bytes(),
        timed("rootfs/b", "-1.5"),
        timed("rootfs/c", "1600000000.123456789"),
        timed("rootfs/d", "1600000000.1234567899"),
        timed("rootfs/e", "0.000000001"),
        [pax(&[("mtime", "1600000000.5")]), Member::new(b'2', "rootfs/l").link("a").mode(0o777).bytes()].concat(),
        [pax(&[("mtime", "1600000000.25")]), directory("rootfs/dir/")].concat(),
        file("rootfs/dir/x", ""),
    ]))
    .gives_base_and(&[
        r#"rootfs/a -644 0:0 @-86400.000000000 """#,
        r#"rootfs/b -644 0:0 @-2.500000000 """#,
        r#"rootfs/c -644 0:0 @1600000000.123456789 """#,
        r#"rootfs/d -644 0:0 @1600000000.123456789 """#,
        r#"rootfs/dir d755 0:0 @1600000000.250000000"#,
        r#"rootfs/dir/x -644 0:0 """#,
        r#"rootfs/e -644 0:0 @0.000000001 """#,
        "rootfs/l l777 0:0 @1600000000.500000000 -> a",
    ]);
}

#[test]
fn time_that_no_calendar_reaches_or_that_is_none_is_malformed() {
    unified(image(&[Member::new(b'0', "rootfs/a").mtime(1 << 62).bytes()])).refused(MALFORMED);
    unified(image(&[Member::new(b'0', "rootfs/a").mtime(-(1 << 62)).bytes()])).refused(MALFORMED);
    for time in ["4611686018427387904", "99999999999999999999", "1.5e3", "--1", "1,5", "1.x", "."] {
        unified(image(&[pax(&[("mtime", time)]), file("rootfs/a", "x")])).refused(MALFORMED);
    }
    // One that is only too far for the file system is set as well as it can be, and that is said.
    unified(archive(&[metadata(), directory("rootfs/"), Member::new(b'0', "rootfs/a").mtime(1 << 35).bytes()]))
        .run()
        .unwrap();
}
