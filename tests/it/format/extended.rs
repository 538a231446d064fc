//! PAX records, GNU extensions and sparse files: rows 66 to 84 of the hostile inputs.
//! One size for each member, decided once; an extension that can't be read is an error, never skipped.

use std::os::unix::fs::MetadataExt;

use lxd_image::Omitted;

use super::forge::{
    Member, directory, file, global, image, long, old_sparse, pax, pax_raw, record, sparse_1_0, symlink,
};
use super::place::xattrs;
use super::verdict::{Left, unified};
use super::{LIMIT, MALFORMED, UNSAFE, UNSUPPORTED, is_root};

#[test]
fn size_of_a_pax_header_is_the_size() {
    let hidden = [file("rootfs/hidden", "pwned\n"), vec![0; 512]].concat();
    let size = hidden.len().to_string();
    let left = unified(image(&[
        pax(&[("size", &size)]),
        Member::new(b'0', "rootfs/outer").data(&hidden).size(0).bytes(),
        file("rootfs/after", "x"),
    ]))
    .run()
    .unwrap();
    let outer = left.place.at("box/dest/rootfs/outer");
    assert_eq!(std::fs::read(outer).unwrap(), hidden);
    assert_eq!(left.tree().iter().filter(|line| line.contains("hidden")).count(), 0);
    assert_eq!(left.tree().iter().filter(|line| line.contains("after")).count(), 1);
}

#[test]
fn size_of_a_pax_header_is_that_of_the_file_not_of_a_long_name_between() {
    let data = [file("rootfs/hidden", "pwned\n"), vec![0; 512]].concat();
    let size = data.len().to_string();
    let left = unified(image(&[
        pax(&[("size", &size)]),
        long(b'L', "rootfs/long"),
        Member::new(b'0', "rootfs/short").data(&data).size(8).bytes(),
    ]))
    .run()
    .unwrap();
    assert_eq!(std::fs::read(left.place.at("box/dest/rootfs/long")).unwrap(), data);
    assert_eq!(left.tree().len(), 5);
}

#[test]
fn broken_pax_record_is_malformed() {
    for block in [
        &b"99 path=rootfs/b\n"[..],
        b"5 path=rootfs/b\n",
        b"0 path=rootfs/b\n",
        b"99999999999999999999999 path=rootfs/b\n",
        b"18446744073709551615 path=x\n",
        b"16 pathrootfs/b\n",
        b"17 path=rootfs/b",
        b"17 path=rootfs/bX",
        b"-17 path=rootfs/b\n",
        b" 17 path=rootfs/b\n",
        b"4 =\n",
        b"6 =ab\n",
        b"\n",
        b"17",
        b"x",
    ] {
        unified(image(&[pax_raw(block), file("rootfs/a", "x")])).refused(MALFORMED);
        let in_global = Member::new(b'g', "g").data(block).bytes();
        unified(image(&[in_global, file("rootfs/a", "x")])).refused(MALFORMED);
    }
}

#[test]
fn extended_header_of_hundreds_of_mib_is_refused_before_it_is_read() {
    for (kind, limit) in [(b'x', "extended_header"), (b'g', "extended_header"), (b'L', "gnu_name"), (b'K', "gnu_name")]
    {
        let promise = Member::new(kind, "h").size(300 << 20).bytes();
        let error = unified(image(&[promise])).refused(LIMIT);
        assert_eq!(error.limit_name(), Some(limit));
    }
}

#[test]
fn number_in_a_pax_header_that_is_none_is_malformed() {
    for (key, value) in [
        ("size", "-1"),
        ("size", "18446744073709551616"),
        ("size", "9223372036854775808x"),
        ("size", "0x10"),
        ("size", " 1"),
        ("size", "+1"),
        ("uid", "-1"),
        ("uid", "4294967296"),
        ("gid", "root"),
    ] {
        unified(image(&[pax(&[(key, value)]), file("rootfs/a", "x")])).refused(MALFORMED);
    }
}

#[test]
fn global_header_names_and_sizes_nothing() {
    for (key, value) in [("path", "rootfs/b"), ("size", "512"), ("linkpath", "/etc"), ("GNU.sparse.name", "x")] {
        unified(image(&[global(&[(key, value)]), file("rootfs/a", "x")])).refused(MALFORMED);
    }
}

#[test]
fn global_header_may_comment() {
    let comment = global(&[("comment", "0123456789abcdef0123456789abcdef01234567")]);
    unified([comment, image(&[file("rootfs/a", "x")])].concat()).gives_base_and(&[r#"rootfs/a -644 0:0 "x""#]);
}

#[test]
fn of_two_extended_headers_in_a_row_the_later_wins() {
    unified(image(&[
        pax(&[("path", "rootfs/first"), ("mtime", "1600000000.5")]),
        pax(&[("path", "rootfs/second")]),
        file("rootfs/a", "x"),
    ]))
    .gives_base_and(&[r#"rootfs/second -644 0:0 @1600000000.500000000 "x""#]);
}

#[test]
fn extended_header_before_the_end_is_malformed() {
    for header in [pax(&[("path", "rootfs/b")]), long(b'L', "rootfs/b"), long(b'K', "rootfs/b")] {
        unified(image(std::slice::from_ref(&header))).refused(MALFORMED);
        unified([super::forge::base(), header].concat()).refused(MALFORMED);
    }
}

const CAPABILITY: &[u8] = b"\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00";

#[test]
fn attributes_keep_every_byte_and_a_capability_outlives_the_owner() {
    let records = [
        record("SCHILY.xattr.user.bin", b"\x00\xff\n="),
        record("SCHILY.xattr.user.empty", b""),
        record("SCHILY.xattr.security.capability", CAPABILITY),
    ]
    .concat();
    let encoded = [record("LIBARCHIVE.xattr.user.a%20b", "AAH/"), record("SCHILY.xattr.user.plain", "v")].concat();
    unified(image(&[
        pax_raw(&records),
        Member::new(b'0', "rootfs/ping").mode(0o755).uid(1000).data("x").bytes(),
        pax_raw(encoded),
        directory("rootfs/d/"),
        pax(&[("SCHILY.xattr.user.a%3D%25%2f", "v")]),
        file("rootfs/escaped", ""),
    ]))
    .gives_base_and(&[
        "rootfs/d d755 0:0 user.a b=0001ff user.plain=76",
        r#"rootfs/escaped -644 0:0 "" user.a=%%2f=76"#,
        &format!(
            r#"rootfs/ping -755 1000:0 "x" security.capability={} user.bin=00ff0a3d user.empty="#,
            super::place::hex(CAPABILITY)
        ),
    ]);
}

#[test]
fn attribute_without_a_name_or_in_a_broken_encoding_is_malformed() {
    for (key, value) in [
        ("SCHILY.xattr.", &b"v"[..]),
        ("SCHILY.xattr.user.a\0b", b"v"),
        ("LIBARCHIVE.xattr.", b"AAAA"),
        ("LIBARCHIVE.xattr.user.a%2", b"AAAA"),
        ("LIBARCHIVE.xattr.user.a%zz", b"AAAA"),
        ("LIBARCHIVE.xattr.user.a", b"A*AA"),
        ("SCHILY.acl.access", b"nonsense"),
        ("SCHILY.acl.access", b"user::rwz"),
    ] {
        unified(image(&[pax_raw(record(key, value)), file("rootfs/a", "x")])).refused(MALFORMED);
    }
}

#[test]
fn attribute_of_a_link_never_reaches_its_target() {
    let left = unified(image(&[
        pax(&[("SCHILY.xattr.user.a", "v")]),
        symlink("rootfs/l", "../../outside/secret"),
        pax(&[("SCHILY.xattr.user.a", "v")]),
        Member::new(b'6', "rootfs/p").bytes(),
    ]))
    .run()
    .unwrap();
    assert_eq!(xattrs(&left.place.at("outside/secret")), []);
    let omitted: Vec<_> = left.unpacked.report.omissions.iter().map(|omission| omission.path.as_slice()).collect();
    assert_eq!(omitted, [&b"l"[..], b"p"]);
}

#[test]
fn trusted_and_other_security_attributes_are_set_only_on_request() {
    let members = || {
        image(&[
            pax(&[("SCHILY.xattr.trusted.overlay.opaque", "y"), ("SCHILY.xattr.security.other", "z")]),
            file("rootfs/a", "x"),
        ])
    };
    let left = unified(members()).gives_base_and(&[r#"rootfs/a -644 0:0 "x""#]);
    let mut omitted: Vec<_> = left.unpacked.report.omissions.iter().map(|omission| omission.what.clone()).collect();
    omitted.sort();
    assert_eq!(
        omitted,
        [Omitted::Xattr(b"security.other".to_vec()), Omitted::Xattr(b"trusted.overlay.opaque".to_vec())]
    );
    if is_root() {
        unified(members())
            .options(|options| options.all_xattrs(true))
            .gives_base_and(&[r#"rootfs/a -644 0:0 "x" security.other=7a trusted.overlay.opaque=79"#]);
    }
}

const MIB10: i128 = 10 << 20;

/// 512 bytes, a hole up to 10 MiB, 512 bytes: in all forms that tars have for it.
fn sparse_forms() -> Vec<(&'static str, Vec<u8>)> {
    let data = [[b'A'; 512], [b'B'; 512]].concat();
    let real = (MIB10 + 512).to_string();
    let at = MIB10.to_string();
    vec![
        ("old", old_sparse("rootfs/sp", &[(0, 512), (MIB10, 512)], MIB10 + 512, &data)),
        ("0.0", {
            let about = [
                ("GNU.sparse.size", &real[..]),
                ("GNU.sparse.numblocks", "2"),
                ("GNU.sparse.offset", "0"),
                ("GNU.sparse.numbytes", "512"),
                ("GNU.sparse.offset", &at),
                ("GNU.sparse.numbytes", "512"),
            ];
            [pax(&about), file("rootfs/sp", &data)].concat()
        }),
        ("0.1", {
            let map = format!("0,512,{at},512");
            let about = [
                ("GNU.sparse.size", &real[..]),
                ("GNU.sparse.numblocks", "2"),
                ("GNU.sparse.map", &map),
                ("GNU.sparse.name", "rootfs/sp"),
            ];
            [pax(&about), file("rootfs/GNUSparseFile.0/sp", &data)].concat()
        }),
        ("1.0", sparse_1_0("rootfs/sp", &real, &format!("2\n0\n512\n{at}\n512\n"), &data)),
    ]
}

#[test]
fn sparse_files_of_every_form_have_the_right_content_and_stay_sparse() {
    let mut content = vec![0; 10 << 20];
    content[..512].fill(b'A');
    content.extend([b'B'; 512]);
    for (form, member) in sparse_forms() {
        let left: Left = unified(image(&[member, file("rootfs/after", "x")])).run().unwrap();
        let path = left.place.at("box/dest/rootfs/sp");
        assert!(std::fs::read(&path).unwrap() == content, "{form}");
        assert!(path.metadata().unwrap().blocks() <= 64, "{form} takes {} blocks", path.metadata().unwrap().blocks());
        assert_eq!(left.tree().len(), 6, "{form}");
    }
}

#[test]
fn sparse_file_whose_map_ends_early_has_its_whole_size() {
    for member in [
        old_sparse("rootfs/sp", &[(0, 512)], 1 << 20, &[b'A'; 512]),
        sparse_1_0("rootfs/sp", "1048576", "1\n0\n512\n", &[b'A'; 512]),
        sparse_1_0("rootfs/sp", "1048576", "0\n", b""),
    ] {
        let left = unified(image(&[member])).run().unwrap();
        assert_eq!(left.place.at("box/dest/rootfs/sp").metadata().unwrap().len(), 1 << 20);
    }
}

#[test]
fn sparse_map_that_can_not_be_true_is_malformed() {
    let data = [b'A'; 1024];
    for segments in [
        &[(0, 512), (256, 512)][..],
        &[(4096, 512), (0, 512)],
        &[(0, 512), (1 << 30, 512)],
        &[(0, 2048)],
        &[(0, 512)],
        &[(-512, 512), (0, 512)],
        &[((1 << 63) + (1 << 62), 1 << 63), (0, 512)],
    ] {
        unified(image(&[old_sparse("rootfs/sp", segments, 8192, &data)])).refused(MALFORMED);
    }
    for map in [
        "2\n0\n512\n256\n512\n",
        "2\n4096\n512\n0\n512\n",
        "2\n0\n512\n9999999\n512\n",
        "1\n18446744073709551615\n1024\n",
        "2\n0\n512\n",
        "x\n",
        "-1\n",
        "1\n0\n1024",
        "1\n\n0\n1024\n",
        "999999999999999999999\n",
    ] {
        unified(image(&[sparse_1_0("rootfs/sp", "8192", map, &data)])).refused(MALFORMED);
    }
    for map in ["0,512,512", "0,512,,512", "a,b", "0,512,256,512", "0,18446744073709551616"] {
        let about = [("GNU.sparse.size", "8192"), ("GNU.sparse.map", map)];
        unified(image(&[pax(&about), file("rootfs/sp", data)])).refused(MALFORMED);
    }
    for about in [
        &[("GNU.sparse.offset", "0"), ("GNU.sparse.offset", "0")][..],
        &[("GNU.sparse.numbytes", "512")],
        &[("GNU.sparse.size", "8192"), ("GNU.sparse.offset", "0")],
        &[("GNU.sparse.map", "0,1024")],
        &[("GNU.sparse.size", "8192"), ("GNU.sparse.numblocks", "2"), ("GNU.sparse.map", "0,1024")],
    ] {
        unified(image(&[pax(about), file("rootfs/sp", data)])).refused(MALFORMED);
    }
}

#[test]
fn map_of_too_many_segments_or_a_file_that_is_too_large_is_over_a_limit() {
    let error = unified(image(&[sparse_1_0("rootfs/sp", "8192", "1000000000000000000\n", &[])])).refused(LIMIT);
    assert_eq!(error.limit_name(), Some("sparse_segments"));
    let huge = 64_i128 << 50;
    for member in [
        old_sparse("rootfs/sp", &[(0, 512)], huge, &[b'A'; 512]),
        sparse_1_0("rootfs/sp", &huge.to_string(), "1\n0\n512\n", &[b'A'; 512]),
        Member::new(b'0', "rootfs/sp").size(huge).bytes(),
    ] {
        let error = unified(image(&[member])).refused(LIMIT);
        assert_eq!(error.limit_name(), Some("file_size"));
    }
}

#[test]
fn name_of_a_sparse_file_climbs_no_better_than_others() {
    unified(image(&[sparse_1_0("../outside/pwn", "512", "1\n0\n512\n", &[b'A'; 512])])).refused(UNSAFE);
    unified(image(&[sparse_1_0("/pwn", "512", "1\n0\n512\n", &[b'A'; 512])])).refused(UNSAFE);
    // What names the file is judged, not what stands in the header.
    unified(image(&[sparse_1_0("templates/x/y", "512", "1\n0\n512\n", &[b'A'; 512])])).refused(UNSAFE);
}

#[test]
fn unknown_sparse_format_is_unsupported() {
    let about = [("GNU.sparse.major", "2"), ("GNU.sparse.minor", "0"), ("GNU.sparse.realsize", "512")];
    unified(image(&[pax(&about), file("rootfs/sp", "x")])).refused(UNSUPPORTED);
}

#[test]
fn volume_label_is_skipped_and_a_part_of_several_volumes_unsupported() {
    let label = Member::new(b'V', "label").magic(b"ustar  \0").bytes();
    unified([label, image(&[])].concat()).gives_base_and(&[]);
    unified(image(&[Member::new(b'M', "rootfs/part").magic(b"ustar  \0").bytes()])).refused(UNSUPPORTED);
}
