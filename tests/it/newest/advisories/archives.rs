//! Members of archives: links at the top, a rootfs that changes its kind, templates that lead elsewhere.

use std::fs;
use std::os::unix::fs::symlink as link;
use std::path::Path;

use lxd_image::format::{Compression, ConvertOptions, Image, ImageSource, UnpackOptions, VerifyOptions};
use lxd_image::simplestreams::{AddOptions, Tree};
use lxd_image::store::{ImportOptions, Store};
use lxd_image::templates::{ApplyOptions, Context, InstanceDir, Trigger, apply};
use lxd_image::{Error, ErrorKind, Limits, Monitor};

use crate::cli::run;
use crate::format::Place;
use crate::format::forge::{END, METADATA, base, directory, file, hard_link, rootfs, symlink};
use crate::server::{Served, body, json, request, trusted};

/// What becomes of an image with a hostile member.
#[derive(Clone, Copy)]
enum Fate {
    /// No image: refused with this kind.
    Refused(ErrorKind),
    /// The member is no part of an image: reported and not written.
    LeftOut,
}

/// The hostile members. `OUTSIDE` stands for a directory that belongs to nobody's image.
fn members(outside: &str) -> Vec<(&'static str, &'static str, Vec<u8>, Fate)> {
    let refused = Fate::Refused(ErrorKind::UnsafePath);
    let file_in = |name: &str| format!("{outside}/{name}");
    vec![
        ("CVE-2026-48749", "rootfs, then a link of that name", symlink("rootfs", "/"), refused),
        (
            "CVE-2026-48749",
            "rootfs, then a link and a file through it",
            [symlink("rootfs", outside), file("rootfs/pwned", "x")].concat(),
            refused,
        ),
        ("CVE-2026-48749", "with a slash", symlink("./rootfs/", outside), refused),
        ("CVE-2026-48752", "templates is a link", symlink("templates", outside), refused),
        (
            "CVE-2026-48752",
            "a file through the link",
            [symlink("templates", outside), file("templates/pwned", "x")].concat(),
            refused,
        ),
        ("CVE-2026-48752", "a template is a link", symlink("templates/x.tpl", &file_in("secret")), refused),
        ("CVE-2026-48750", "exec-output is a link", symlink("exec-output", outside), Fate::LeftOut),
        (
            "CVE-2026-48750",
            "a file through exec-output",
            [symlink("exec-output", outside), file("exec-output/pwned", "x")].concat(),
            Fate::LeftOut,
        ),
        ("GHSA-j825-cg34-5fr5", "metadata.yaml is a link", symlink("metadata.yaml", &file_in("secret")), refused),
        (
            "GHSA-j825-cg34-5fr5",
            "metadata.yaml is a hard link",
            hard_link("metadata.yaml", "rootfs/etc/hostname"),
            refused,
        ),
        ("GHSA-fv82-v4fj-mm4m", "backup.yaml is a link", symlink("backup.yaml", &file_in("pwned")), Fate::LeftOut),
        ("GHSA-fv82-v4fj-mm4m", "backup.yaml is a file", file("backup.yaml", "instance: {}\n"), Fate::LeftOut),
        ("GHSA-fv82-v4fj-mm4m", "config.json is a link", symlink("config.json", &file_in("pwned")), Fate::LeftOut),
    ]
}

/// Whether a call did what it owes: refused with the kind, or done.
#[track_caller]
fn judge<T>(done: Result<T, Error>, fate: Fate, where_: &str) {
    match (fate, done) {
        (Fate::Refused(kind), Err(error)) => assert_eq!(error.kind(), kind, "{where_}: {error}"),
        (Fate::Refused(_), Ok(_)) => panic!("{where_}: taken"),
        (Fate::LeftOut, Ok(_)) => {}
        (Fate::LeftOut, Err(error)) => panic!("{where_}: {error}"),
    }
}

/// A directory that stands for the host, with a file in it.
fn host(place: &Place) -> String {
    let outside = place.directory("host");
    fs::write(outside.join("secret"), "the host's").unwrap();
    outside.to_str().unwrap().to_owned()
}

fn assert_untouched(place: &Place, case: &str) {
    assert_eq!(place.names("host"), ["secret"], "{case}");
    assert_eq!(fs::read_to_string(place.at("host/secret")).unwrap(), "the host's", "{case}");
}

#[test]
fn hostile_member_writes_nothing_outside() {
    for number in 0..members("").len() {
        let place = Place::new();
        let outside = host(&place);
        let (id, what, member, fate) = members(&outside).swap_remove(number);
        let case = format!("{id}: {what}");
        let unified = place.write("image.tar", [&base()[..], &member, END].concat());
        let source = || ImageSource::open(place.at("image.tar"), None).unwrap();
        let image = || Image::open(source());
        let unpack = image()
            .and_then(|image| image.unpack_unverified(place.at("tree"), &UnpackOptions::new(), &Monitor::none()));
        judge(unpack, fate, &format!("unpack, {case}"));
        if place.at("tree").exists() {
            let mut names = place.names("tree");
            names.retain(|name| !["metadata.yaml", "rootfs"].contains(&name.as_str()));
            assert!(names.is_empty(), "{case}: {names:?}");
        }
        let verified = image()
            .and_then(|image| image.verify(&VerifyOptions::new(), &Monitor::none()))
            .and_then(|mut report| if report.findings.is_empty() { Ok(()) } else { Err(report.findings.remove(0)) });
        judge(verified, fate, &format!("verify, {case}"));
        let converted = image().and_then(|image| {
            let options = ConvertOptions::new().compression(Compression::new(lxd_image::format::Codec::None));
            image.convert(place.at("converted.tar"), &options, &Monitor::none())
        });
        judge(converted, fate, &format!("convert, {case}"));
        if let Ok(bytes) = fs::read(place.at("converted.tar")) {
            let holds = |name: &[u8]| bytes.windows(name.len()).any(|window| window == name);
            assert!(!holds(b"exec-output") && !holds(b"backup.yaml"), "{case}");
        }
        let store = Store::open(place.at("store")).unwrap();
        judge(store.import(source(), &ImportOptions::new(), &Monitor::none()), fate, &format!("import, {case}"));
        let tree = Tree::create(place.at("www")).unwrap();
        judge(
            tree.lock().unwrap().add(source(), &AddOptions::new(), &Monitor::none()),
            fate,
            &format!("simplestreams add, {case}"),
        );
        let served = Served::new();
        let upload = body(trusted(request("POST", "/1.0/images")), fs::read(&unified).unwrap());
        let (status, envelope) = json(served.handler.handle(upload));
        let expected = if matches!(fate, Fate::LeftOut) { 202 } else { 400 };
        assert_eq!(status, expected, "upload, {case}: {envelope}");
        // As the metadata of a split image, whose root is elsewhere: no member of `rootfs/` may be in it.
        let meta: Vec<u8> = [&file("metadata.yaml", METADATA)[..], &member, END].concat();
        place.write("meta.tar", meta);
        place.write("root.tar", rootfs(&[]));
        let split = ImageSource::open(place.at("meta.tar"), Some(&place.at("root.tar"))).and_then(Image::open);
        let done =
            split.and_then(|image| image.unpack_unverified(place.at("split"), &UnpackOptions::new(), &Monitor::none()));
        assert!(done.is_err() || matches!(fate, Fate::LeftOut), "split, {case}");
        assert_untouched(&place, &case);
    }
}

/// A directory that `tar` unpacked, whose links are those of the archive.
#[test]
fn publish_of_a_directory_follows_no_link() {
    for (id, name) in [
        ("CVE-2026-48749", "rootfs"),
        ("CVE-2026-48749", "rootfs.img"),
        ("CVE-2026-48752", "templates"),
        ("GHSA-j825-cg34-5fr5", "metadata.yaml"),
        ("GHSA-fv82-v4fj-mm4m", "config.json"),
    ] {
        let place = Place::new();
        host(&place);
        let tree = place.directory("tree");
        fs::create_dir(tree.join("rootfs")).unwrap();
        fs::write(tree.join("metadata.yaml"), METADATA).unwrap();
        let target = place.at(if matches!(name, "rootfs" | "templates") { "host" } else { "host/secret" });
        let _ = fs::remove_file(tree.join(name));
        let _ = fs::remove_dir(tree.join(name));
        link(&target, tree.join(name)).unwrap();
        for verb in [&["publish", "tree"][..], &["import", "tree"]] {
            let ran = run(&place, &[&["--store", "store"], verb].concat());
            ran.failed(1, "error[UnsafePath]: ");
            assert!(ran.err.contains(name) && !ran.err.contains("the host's"), "{id}: {}", ran.err);
        }
        assert_eq!(run(&place, &["--store", "store", "list", "-f", "csv"]).good(), "");
        assert_untouched(&place, id);
    }
}

#[test]
fn template_that_leaves_its_directory_is_refused_cve_2026_23954() {
    for template in ["../../secret", "/etc/passwd", "..", "a/b.tpl", "link.tpl"] {
        let place = Place::new();
        host(&place);
        let instance = instance(&place, "/etc/x", template);
        link(place.at("host/secret"), instance.join("templates/link.tpl")).unwrap();
        assert_eq!(applied(&instance), Err(ErrorKind::UnsafePath), "{template}");
        assert!(!instance.join("rootfs/etc/x").exists(), "{template}");
        // The rule is a finding before anything is unpacked.
        let metadata = format!("{METADATA}templates:\n  /etc/x:\n    template: {template}\n    when: [create]\n");
        let archive = [
            file("metadata.yaml", metadata),
            directory("templates/"),
            file("templates/x.tpl", "x"),
            directory("rootfs/"),
            END.to_vec(),
        ];
        place.write("image.tar", archive.concat());
        assert_ne!(run(&place, &["verify", "image.tar"]).status, 0, "{template}");
    }
}

#[test]
fn template_target_that_leaves_the_root_is_refused_cve_2026_23954() {
    for target in ["/../../host/pwned", "../../../host/pwned", "/link/pwned", "/up/host/pwned", "/file"] {
        let place = Place::new();
        let outside = host(&place);
        let instance = instance(&place, target, "x.tpl");
        link(&outside, instance.join("rootfs/link")).unwrap();
        link("../..", instance.join("rootfs/up")).unwrap();
        link(place.at("host/secret"), instance.join("rootfs/file")).unwrap();
        // A link is resolved as the guest would: whatever is written is below the root.
        let _ = applied(&instance);
        assert_untouched(&place, target);
    }
}

/// An unpacked image with one rule.
fn instance(place: &Place, target: &str, template: &str) -> std::path::PathBuf {
    let path = place.directory("instance");
    for name in ["rootfs/etc", "templates"] {
        fs::create_dir_all(path.join(name)).unwrap();
    }
    fs::write(path.join("templates/x.tpl"), "written").unwrap();
    let rule = format!("templates:\n  {target}:\n    template: {template}\n    when: [create]\n");
    fs::write(path.join("metadata.yaml"), format!("{METADATA}{rule}")).unwrap();
    path
}

fn applied(instance: &Path) -> Result<(), ErrorKind> {
    let dir = InstanceDir::open(instance).map_err(|error| error.kind())?;
    let metadata = dir.metadata(&Limits::default()).map_err(|error| error.kind())?;
    let options = ApplyOptions::new();
    apply(&dir, metadata.templates(), Trigger::Create, &Context::new(), &options, &Monitor::none())
        .map(drop)
        .map_err(|failed| failed.error.kind())
}
