//! An option that a call cannot honour is refused, or is in the record.

use lxd_image::format::{
    ConvertOptions, Image, ImageForm, ImageSource, Input, PackOptions, Rootfs, RootfsFormat, pack, pack_metadata,
    pack_to,
};
use lxd_image::remote::{ClientOptions, CopyOptions, Simplestreams};
use lxd_image::store::{Alias, ImportOptions, Store};
use lxd_image::templates::{ApplyOptions, Context, InstanceDir, Trigger, apply};
use lxd_image::{ErrorKind, Fingerprint, Limits, Metadata, Monitor, Result};

use crate::format::Place;
use crate::format::forge::{Disk, archive, base, file, image, metadata};

/// It is refused, and the error names the option.
#[track_caller]
fn refused<T>(done: Result<T>, option: &str) {
    let error = done.err().expect("this must be refused");
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    assert!(error.to_string().contains(option), "{error} does not name `{option}`");
}

fn packing() -> PackOptions {
    PackOptions::new(Metadata::new("x86_64", 1_700_000_000).unwrap())
}

fn tree(place: &Place) -> Rootfs {
    Rootfs::Directory(place.directory("tree"))
}

fn disk(place: &Place) -> Rootfs {
    Rootfs::open(place.write("disk.qcow2", Disk::default().bytes())).unwrap()
}

#[test]
fn squashfs_is_refused_in_a_stream() {
    let place = Place::new();
    let options = packing().rootfs_format(RootfsFormat::SquashFs);
    refused(pack_to(&tree(&place), std::io::sink(), &options, &Monitor::none()), "rootfs_format");
    let input = Input::open(place.write("image.tar", image(&[]))).unwrap();
    let options = ConvertOptions::new().rootfs_format(RootfsFormat::SquashFs);
    refused(
        Image::open(ImageSource::unified(input)).unwrap().convert_to(std::io::sink(), &options, &Monitor::none()),
        "rootfs_format",
    );
}

#[test]
fn squashfs_is_refused_when_publishing() {
    let place = Place::new();
    let store = Store::open(place.at("store")).unwrap();
    let options = packing().rootfs_format(RootfsFormat::SquashFs);
    refused(store.publish(&tree(&place), &options, &ImportOptions::new(), &Monitor::none()), "rootfs_format");
}

#[test]
fn options_about_a_tree_are_refused_for_a_disk() {
    let place = Place::new();
    let rootfs = disk(&place);
    let split = packing().form(ImageForm::Split).rootfs_format(RootfsFormat::SquashFs);
    refused(pack(&rootfs, place.at("out"), &split, &Monitor::none()), "rootfs_format");
    refused(pack(&rootfs, place.at("out"), &packing().all_xattrs(true), &Monitor::none()), "all_xattrs");
    assert!(!place.at("out").exists() && !place.at("out.root").exists());
}

#[test]
fn options_about_a_rootfs_are_refused_for_metadata_alone() {
    let place = Place::new();
    refused(
        pack_metadata(place.at("out"), &packing().rootfs_format(RootfsFormat::SquashFs), &Monitor::none()),
        "rootfs_format",
    );
    refused(pack_metadata(place.at("out"), &packing().all_xattrs(true), &Monitor::none()), "all_xattrs");
    assert!(!place.at("out").exists());
}

#[test]
fn time_that_a_squashfs_cannot_hold_is_refused() {
    let place = Place::new();
    for seconds in [-1, 1 << 40] {
        let options =
            packing().form(ImageForm::Split).rootfs_format(RootfsFormat::SquashFs).newest_mtime(Some(seconds));
        refused(pack(&tree(&place), place.at("out"), &options, &Monitor::none()), "newest_mtime");
    }
}

#[test]
fn rootfs_format_of_a_disk_cannot_be_converted() {
    let place = Place::new();
    let parts = [
        Input::open(place.write("meta.tar", archive(&[metadata()]))).unwrap(),
        Input::open(place.write("disk.qcow2", Disk::default().bytes())).unwrap(),
    ];
    let [meta, disk] = parts;
    let split = Image::open(ImageSource::split(meta, disk)).unwrap();
    let options = ConvertOptions::new().rootfs_format(RootfsFormat::Tar);
    refused(split.convert(place.at("out"), &options, &Monitor::none()), "rootfs_format");
    let unified = archive(&[metadata(), file("rootfs.img", Disk::default().bytes())]);
    let input = Input::open(place.write("unified.tar", unified)).unwrap();
    let options = ConvertOptions::new().form(ImageForm::Split).rootfs_format(RootfsFormat::SquashFs);
    let error = Image::open(ImageSource::unified(input))
        .unwrap()
        .convert(place.at("out"), &options, &Monitor::none())
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    assert!(!place.at("out").exists() && !place.at("out.root").exists());
}

fn source(place: &Place) -> ImageSource {
    ImageSource::unified(Input::open(place.write("image.tar", image(&[]))).unwrap())
}

#[test]
fn file_name_that_is_not_plain_is_refused() {
    let place = Place::new();
    let store = Store::open(place.at("store")).unwrap();
    for name in ["../up", "", "a\nb", ".hidden", "-flag"] {
        refused(store.import(source(&place), &ImportOptions::new().file_name(name), &Monitor::none()), "file name");
    }
    assert!(store.images().unwrap().is_empty());
    let named = store.import(source(&place), &ImportOptions::new().file_name("box.tar"), &Monitor::none()).unwrap();
    assert_eq!(named.file_name.as_deref(), Some("box.tar"));
}

#[test]
fn file_name_of_the_source_that_is_not_plain_is_recorded() {
    let place = Place::new();
    let store = Store::open(place.at("store")).unwrap();
    let monitor = Monitor::none();
    let options = ImportOptions::new().source_file_name("../up");
    let stored = store.import(source(&place), &options, &monitor).unwrap();
    assert_eq!(stored.file_name.as_deref(), Some("image.tar"));
    let told = monitor.omissions();
    let line = told.iter().next().unwrap().to_string();
    assert_eq!(line, format!("{}: file name `../up` left out: it is not a plain name", stored.fingerprint));
}

#[test]
fn aliases_of_a_cached_image_are_refused() {
    let place = Place::new();
    let store = Store::open(place.at("store")).unwrap();
    let url = format!("file://{}", place.directory("tree").display()).parse().unwrap();
    let remote = Simplestreams::new(ClientOptions::new(), &url).unwrap();
    for (options, name) in [
        (CopyOptions::new().alias(Alias::new("x").unwrap()), "alias"),
        (CopyOptions::new().copy_aliases(true), "copy_aliases"),
        (CopyOptions::new().reuse_aliases(true), "reuse_aliases"),
    ] {
        refused(store.get_or_fetch(&remote, "debian/12", &options, &Monitor::none()), name);
    }
}

#[test]
fn expected_fingerprint_counts_for_an_image_that_is_here() {
    let place = Place::new();
    let store = Store::open(place.at("store")).unwrap();
    let here = store.import(source(&place), &ImportOptions::new(), &Monitor::none()).unwrap();
    let url = format!("file://{}", place.directory("tree").display()).parse().unwrap();
    let remote = Simplestreams::new(ClientOptions::new(), &url).unwrap();
    let other = CopyOptions::new().expected_fingerprint(Fingerprint::of(b"another"));
    let error = store.get_or_fetch(&remote, &here.fingerprint.to_string(), &other, &Monitor::none()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Mismatch, "{error}");
}

fn instance(place: &Place, rules: &str) -> InstanceDir {
    let dir = place.directory("instance");
    std::fs::create_dir_all(dir.join("rootfs")).unwrap();
    std::fs::create_dir_all(dir.join("templates")).unwrap();
    std::fs::write(dir.join("templates/a.tpl"), "a").unwrap();
    let metadata = format!("architecture: x86_64\ncreation_date: 1\ntemplates:\n{rules}");
    std::fs::write(dir.join("metadata.yaml"), metadata).unwrap();
    InstanceDir::open(dir).unwrap()
}

#[test]
fn shifting_owners_is_refused_for_the_files_of_a_virtual_machine() {
    let place = Place::new();
    let instance = instance(&place, "  /a: {when: [create], template: a.tpl}\n");
    let rules = instance.metadata(&Limits::default()).unwrap();
    let options = ApplyOptions::new().output(place.directory("output")).shift_owners(|id| Ok(id + 100_000));
    let done = apply(&instance, rules.templates(), Trigger::Create, &Context::new(), &options, &Monitor::none());
    refused(done.map_err(lxd_image::Error::from), "shift_owners");
}

#[test]
fn owners_in_rules_that_lxd_does_not_know_are_recorded() {
    let place = Place::new();
    let rule = "  /a: {when: [create], template: a.tpl, uid: \"1000\", mode: \"0600\"}\n";
    let instance = instance(&place, rule);
    let rules = instance.metadata(&Limits::default()).unwrap();
    let monitor = Monitor::none();
    let options = ApplyOptions::new();
    apply(&instance, rules.templates(), Trigger::Create, &Context::new(), &options, &monitor).unwrap();
    let told: Vec<String> = monitor.omissions().iter().map(ToString::to_string).collect();
    let line = |key: &str| format!("/a: `{key}` of the rule has no effect: only Incus knows it");
    assert_eq!(told, [line("uid"), line("mode")]);
}

#[test]
fn options_that_are_honoured_leave_the_record_empty() {
    let place = Place::new();
    let monitor = Monitor::none();
    let options = packing().form(ImageForm::Split).rootfs_format(RootfsFormat::SquashFs);
    pack(&tree(&place), place.at("out"), &options.newest_mtime(Some(1_000)), &monitor).unwrap();
    let store = Store::open(place.at("store")).unwrap();
    store
        .import(
            ImageSource::unified(Input::open(place.write("a", archive(&[base()]))).unwrap()),
            &ImportOptions::new(),
            &monitor,
        )
        .unwrap();
    assert!(monitor.omissions().is_empty(), "{:?}", monitor.omissions());
}
