//! Each limit that an archive can run into: refused by its name, and taken when it is raised.
//! Those of metadata and templates' language have their tests beside those modules.

use lxd_image::format::{Codec, Image, ImageSource, PackOptions};
use lxd_image::{ErrorKind, Limits};

use super::Place;
use super::forge::{
    Disk, METADATA, Member, archive, directory, file, image, long, metadata, old_sparse, pax, pax_raw, record,
    sparse_1_0, symlink,
};
use super::verdict::{files, unified};

#[test]
fn entries_are_counted() {
    let many: Vec<_> = (0..100).map(|number| file(format!("rootfs/f{number}"), "")).collect();
    unified(image(&many)).limit("entries", 50).over("entries", 104);
    unified(image(&many)).limit("entries", 103).over("entries", 104);
}

#[test]
fn directories_that_paths_imply_count_as_entries() {
    let deep = format!("rootfs/{}x", "d/".repeat(1000));
    unified(image(&[pax(&[("path", &deep)]), file("x", "x")])).limit("entries", 900).over("entries", 1100);
}

#[test]
fn access_control_lists_are_measured_and_do_not_add_up() {
    let list = |count: usize| pax_raw(record("SCHILY.acl.access", "u:1:rwx,".repeat(count)));
    let error = unified(image(&[list(9000), file("rootfs/a", "x")])).refused(super::LIMIT);
    assert_eq!(error.limit_name(), Some("xattr_value"));
    // A later list takes the place of an earlier one, which does not stay in memory beside it.
    let replaced =
        pax_raw([record("SCHILY.acl.access", "u::r"), record("SCHILY.acl.access", "u::rw,g::r,o::r")].concat());
    unified(image(&[replaced, file("rootfs/a", "x")])).run().unwrap();
}

#[test]
fn paths_components_and_link_targets_are_measured() {
    let deep = format!("rootfs/{}x", "d/".repeat(40));
    unified(image(&[file(&deep, "x")])).limit("path", 80).over("path", 88);
    unified(image(&[file("rootfs/0123456789", "x")]))
        .limit("component", 9)
        .limit("path", 200)
        .refused(&[ErrorKind::LimitExceeded]);
    unified(image(&[file("rootfs/0123456789abcdefg", "x")])).limit("component", 16).over("component", 17);
    unified(image(&[symlink("rootfs/l", "0123456789")])).limit("link_target", 9).over("link_target", 10);
}

#[test]
fn headers_and_attributes_are_measured() {
    let comment = pax(&[("comment", &"x".repeat(600))]);
    unified(image(&[comment, file("rootfs/a", "x")])).limit("extended_header", 512).over("extended_header", 1024);
    unified(image(&[long(b'L', "rootfs/long"), file("rootfs/a", "x")])).limit("gnu_name", 11).over("gnu_name", 12);
    let value = pax_raw(record("SCHILY.xattr.user.a", [b'v'; 100]));
    unified(image(&[value.clone(), file("rootfs/a", "x")])).limit("xattr_value", 99).over("xattr_value", 100);
    unified(image(&[value, file("rootfs/a", "x")])).limit("xattr_name", 5).over("xattr_name", 6);
    let several = pax(&[("SCHILY.xattr.user.a", "1"), ("SCHILY.xattr.user.b", "2"), ("SCHILY.xattr.user.c", "3")]);
    unified(image(&[several, file("rootfs/a", "x")])).limit("xattrs_per_entry", 2).over("xattrs_per_entry", 3);
    let large = pax_raw(record("SCHILY.xattr.user.a", vec![b'v'; (64 << 10) + 1]));
    let error = unified(image(&[large, file("rootfs/a", "x")])).refused(super::LIMIT);
    assert_eq!(error.limit_name(), Some("xattr_value"));
}

#[test]
fn sparse_files_are_counted_and_measured() {
    let data = [b'A'; 1024];
    let map = "2\n0\n512\n4096\n512\n";
    unified(image(&[sparse_1_0("rootfs/sp", "8192", map, &data)]))
        .limit("sparse_segments", 1)
        .over("sparse_segments", 2);
    let old = old_sparse("rootfs/sp", &[(0, 512), (4096, 512)], 8192, &data);
    unified(image(std::slice::from_ref(&old))).limit("sparse_segments", 1).over("sparse_segments", 2);
    unified(image(&[old])).limit("file_size", 8191).over("file_size", 8192);
    unified(image(&[file("rootfs/a", [b'x'; 600])])).limit("file_size", 599).over("file_size", 600);
}

#[test]
fn metadata_and_templates_are_measured_before_they_are_read() {
    let length = METADATA.len() as u64;
    unified(image(&[])).limit("metadata", length - 1).over("metadata", length);
    let promise = Member::new(b'0', "metadata.yaml").size(2 << 20).bytes();
    let error = unified(archive(&[promise])).refused(super::LIMIT);
    assert_eq!(error.limit_name(), Some("metadata"));
    let templates =
        image(&[directory("templates/"), file("templates/a", [b'a'; 100]), file("templates/b", [b'b'; 100])]);
    unified(templates.clone()).limit("template_file", 99).over("template_file", 100);
    unified(templates.clone()).limit("template_bytes", 199).over("template_bytes", 200);
    unified(templates).limit("templates", 1).over("templates", 2);
}

#[test]
fn what_is_written_is_counted() {
    let data = file("rootfs/a", vec![b'x'; 100_000]);
    unified(image(std::slice::from_ref(&data))).limit("output", 50_000).over("output", 200_000);
    let split = [archive(&[metadata()]), Disk::default().bytes()];
    files(split).limit("output", 1000).over("output", 1 << 20);
    // A hole takes nothing.
    let hole = old_sparse("rootfs/sp", &[(0, 512)], 1 << 30, &[b'A'; 512]);
    unified(image(&[hole])).limit("output", 4096).run().unwrap();
}

#[test]
fn bytes_after_the_end_marker_are_limited() {
    let bytes = [image(&[]), vec![0; 10_000]].concat();
    unified(bytes).limit("trailing", 9000).over("trailing", 11_000);
}

#[test]
fn disks_are_measured_by_what_a_machine_sees() {
    let split = || [archive(&[metadata()]), Disk { l1: Some((2, 3 << 16)), ..Disk::default() }.bytes()];
    files(split()).limit("qcow2_size", (1 << 20) - 1).over("qcow2_size", 1 << 20);
    files(split()).limit("l1_table", 15).over("l1_table", 16);
}

#[test]
fn look_for_metadata_does_not_decode_a_bomb() {
    if !Codec::Zstd.is_enabled() {
        return;
    }
    let size = 1_u64 << 30;
    let head = Member::new(b'0', "rootfs/zero").size(size.into()).bytes();
    let bytes = super::forge::zstd_zeros(&head, size + 1024);
    let place = Place::new();
    let image = Image::open(ImageSource::open(place.write("image", bytes), None).unwrap()).unwrap();
    let error = image.metadata().unwrap_err();
    assert_eq!((error.kind(), error.limit_name()), (ErrorKind::LimitExceeded, Some("ratio")));
}

#[test]
fn metadata_to_pack_is_measured_by_the_callers_limits() {
    let mut large = METADATA.as_bytes().to_vec();
    large.extend(format!("# {}\n", "x".repeat(2 << 20)).into_bytes());
    let mut limits = Limits::default();
    let refused = PackOptions::from_metadata_bytes(large.clone(), &limits).unwrap_err();
    assert_eq!(refused.limit_name(), Some("metadata"), "{refused}");
    limits.set("metadata", 4 << 20).unwrap();
    PackOptions::from_metadata_bytes(large, &limits).unwrap();
}
