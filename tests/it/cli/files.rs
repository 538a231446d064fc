//! The verbs on files: streams, packing, converting, splitting, and what is left out.
//! `-` stands for standard input or output where one stream makes sense.

use lxd_image::Fingerprint;

use super::{run, run_with};
use crate::format::forge::{Member, archive, file, image, metadata, rootfs};
use crate::format::{Place, is_root, tree};

#[test]
fn image_is_read_from_standard_input() {
    let place = Place::new();
    let bytes = image(&[]);
    let digest = format!("{}\n", Fingerprint::of(&bytes));
    assert_eq!(run_with(&place, &["fingerprint", "-"], &bytes).good(), digest);
    assert_eq!(run_with(&place, &["verify", "-"], &bytes).good(), digest);
    assert_eq!(run_with(&place, &["unpack", "-", "dest"], &bytes).good(), digest);
    assert!(run_with(&place, &["inspect", "-"], &bytes).good().contains(digest.trim()));
    run_with(&place, &["verify", "-"], b"").failed(1, "error[Malformed]: standard input: ");
    place.write("root", rootfs(&[]));
    run_with(&place, &["verify", "-", "root"], &archive(&[metadata()])).good();
}

#[test]
fn image_on_standard_output_has_its_fingerprint_on_standard_error() {
    let place = Place::new();
    place.write("image.tar", image(&[]));
    let ran = run(&place, &["convert", "image.tar", "-", "--compression", "gzip"]);
    assert_eq!((ran.status, ran.err.trim()), (0, &Fingerprint::of(&ran.out).to_string()[..]));
    let quiet = run(&place, &["-q", "convert", "image.tar", "-", "--compression", "gzip"]);
    assert!(quiet.err.is_empty() && quiet.out == ran.out);
    run(&place, &["convert", "image.tar", "-", "--to", "split"]).failed(1, "error[InvalidInput]: ");
}

#[test]
fn packing_is_reproducible_and_unpacking_restores_the_tree() {
    let place = Place::new();
    std::fs::create_dir_all(place.at("tree/etc")).unwrap();
    place.write("tree/etc/hostname", "box\n");
    place.directory("templates");
    place.write("templates/hostname.tpl", "{{ container.name }}\n");
    let arguments = ["--architecture", "amd64", "--creation-date", "1700000000", "--property", "os=Box"];
    let pack = |out: &str, more: &[&str]| run(&place, &[&["pack", "tree", out][..], &arguments, more].concat()).good();
    let one = pack("one", &["--templates", "templates", "--threads", "1"]);
    let two = pack("two", &["--templates", "templates", "--threads", "4"]);
    assert_eq!(one, two);
    assert_eq!(one.trim(), Fingerprint::of(&std::fs::read(place.at("one")).unwrap()).to_string());
    run(&place, &["unpack", "one", "dest"]).good();
    assert_eq!(tree(&place.at("dest/rootfs")), tree(&place.at("tree")));
    assert_eq!(place.names("dest/templates"), ["hostname.tpl"]);
    pack("split", &["--split", "--rootfs-format", "squashfs", "--compression", "xz"]);
    let bytes = [std::fs::read(place.at("split")).unwrap(), std::fs::read(place.at("split.root")).unwrap()].concat();
    let digest = format!("{}\n", Fingerprint::of(&bytes));
    assert_eq!(run(&place, &["fingerprint", "split.root", "split"]).good(), digest);
    run(&place, &["unpack", "split.root", "split", "root", "--rootfs-only"]).good();
    // A SquashFS counts whole seconds.
    assert_eq!(place.names("root/etc"), ["hostname"]);
    for bad in [&["--rootfs-format", "squashfs"][..], &["--compression", "rar"], &["--compression", "zstd:99"]] {
        let all = [&["pack", "tree", "bad"][..], &arguments, bad].concat();
        run(&place, &all).failed(1, "error[InvalidInput]: ");
    }
    let bad = ["pack", "tree", "bad", "--architecture", "pdp11"];
    run(&place, &bad).failed(1, "error[InvalidInput]: ");
    assert!(!place.at("bad").exists());
}

#[test]
fn diff_names_differences_and_prints_nothing_for_equal_images() {
    let place = Place::new();
    place.write("a", image(&[file("rootfs/x", "one"), file("rootfs/only-a", "")]));
    place.write("b", image(&[file("rootfs/x", "two"), Member::new(b'0', "rootfs/only\x1b-b").bytes()]));
    assert_eq!(run(&place, &["diff", "a", "a"]).good(), "");
    let ran = run(&place, &["diff", "a", "b"]);
    assert_eq!((ran.status, ran.err.as_str()), (1, ""));
    let text = ran.text();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 3, "{text}");
    assert!(lines[0].starts_with(r"+ rootfs/only\x1b-b"));
    assert!(lines[1].starts_with("- rootfs/only-a"));
    assert!(lines[2].starts_with("~ rootfs/x: "));
    run(&place, &["convert", "a", "split", "--to", "split", "--compression", "zstd"]).good();
    assert_eq!(run(&place, &["diff", "a", "split", "--rootfs-b", "split.root"]).good(), "");
    run(&place, &["diff", "a", "tree"]).failed(4, "error[NotFound]: ");
    place.write("broken", &b"x"[..]);
    run(&place, &["diff", "a", "broken"]).failed(2, "error[Malformed]: ");
}

#[test]
fn differences_are_equal_in_every_format() {
    let place = Place::new();
    place.write("a", image(&[file("rootfs/x", "one"), file("rootfs/only-a", "")]));
    place.write("b", image(&[file("rootfs/x", "two")]));
    let json = run(&place, &["diff", "a", "b", "--format", "json"]);
    let rows: serde_json::Value = serde_json::from_str(json.text()).unwrap();
    assert_eq!(rows.as_array().map(Vec::len), Some(2));
    assert_eq!(json.text(), serde_json::to_string_pretty(&rows).unwrap() + "\n");
    assert_eq!(run(&place, &["diff", "a", "a", "--format", "json"]).good(), "[]\n");
    assert_eq!(run(&place, &["diff", "a", "b", "--format", "csv"]).text().lines().count(), 2);
    assert_eq!(run(&place, &["diff", "a", "b", "--format", "{{ path }}"]).text(), "rootfs/only-a\nrootfs/x\n");
}

#[test]
fn image_from_standard_input_is_compared() {
    let place = Place::new();
    let bytes = image(&[file("templates/t.tpl", "x"), file(b"templates/caf\xe9.tpl", "y"), file("rootfs/x", "one")]);
    place.write("a", &bytes);
    assert_eq!(super::run_with(&place, &["diff", "-", "a"], &bytes).good(), "");
}

#[test]
fn omissions_are_named() {
    let place = Place::new();
    place.write(
        "image.tar",
        image(&[
            Member::new(b'3', "rootfs/null").device(1, 3).bytes(),
            Member::new(b'3', "rootfs/zero").device(1, 5).bytes(),
            file("backup.yaml", "x"),
        ]),
    );
    let ran = run(&place, &["unpack", "image.tar", "one", "--skip-devices"]);
    assert!(ran.err.contains("note: null: device node not created"), "{}", ran.err);
    let ran = run(&place, &["-v", "unpack", "image.tar", "two", "--skip-devices"]);
    assert!(ran.err.contains("backup.yaml") && ran.err.contains("note: null: "), "{}", ran.err);
    let ran = run(&place, &["-q", "unpack", "image.tar", "three", "--skip-devices"]);
    assert_eq!((ran.status, &ran.err[..]), (0, ""));
}

#[test]
fn id_map_shifts_owners() {
    let place = Place::new();
    place.write("image.tar", image(&[]));
    run(&place, &["unpack", "image.tar", "bad", "--map-ids", "0-100000"]).failed(1, "error[InvalidInput]: ");
    run(&place, &["unpack", "image.tar", "dest", "--map-ids", "0:100000:65536"]).good();
    if is_root() {
        assert!(tree(&place.at("dest/rootfs"))[0].starts_with("etc d755 100000:100000"));
    }
}

#[test]
fn packing_reverses_the_id_map_and_forces_owners() {
    let place = Place::new();
    place.write("image.tar", image(&[]));
    run(&place, &["unpack", "image.tar", "box", "--map-uids", "0:100000:65536", "--map-gids", "0:200000:65536"]).good();
    let pack = |out: &str, more: &[&str]| {
        let all = ["pack", "box/rootfs", out, "--architecture", "amd64", "--creation-date", "1700000000"];
        run(&place, &[&all[..], more].concat())
    };
    pack("bad.tar", &["--owner", "root"]).failed(2, "error: ");
    pack("bad.tar", &["--owner", "0:0", "--map-ids", "0:1:1"]).failed(2, "error: ");
    pack("forced.tar", &["--owner", "0:0"]).good();
    if is_root() {
        pack("outside.tar", &["--map-ids", "0:0:10"]).failed(1, "error[InvalidInput]: ");
        pack("back.tar", &["--map-ids", "u:100000:0:65536,g:200000:0:65536"]).good();
        let bytes = |name: &str| std::fs::read(place.at(name)).unwrap();
        assert_eq!(bytes("back.tar"), bytes("forced.tar"));
    }
}

#[test]
fn new_tree_is_removed_if_the_addition_fails() {
    let place = Place::new();
    place.write("bad.tar", "no image");
    run(&place, &["simplestreams", "add", "www", "bad.tar"]).failed(1, "error[Malformed]: ");
    assert!(!place.at("www").exists());
    place.directory("there");
    run(&place, &["simplestreams", "add", "there", "bad.tar"]).failed(1, "error[Malformed]: ");
    assert!(place.at("there").exists(), "a directory that was there before is not this verb's");
}

#[test]
fn edit_refuses_empty_standard_input() {
    let place = Place::new();
    place.write("image.tar", image(&[]));
    run(&place, &["--store", "store", "import", "image.tar", "--alias", "box"]).good();
    run(&place, &["--store", "store", "edit", "box"]).failed(1, "error[InvalidInput]: standard input is empty");
}

#[test]
fn moving_an_alias_deletes_the_image_without_aliases() {
    let place = Place::new();
    place.write("one.tar", image(&[file("rootfs/one", "")]));
    place.write("two.tar", image(&[file("rootfs/two", "")]));
    let one = run(&place, &["--store", "store", "import", "one.tar", "--alias", "box"]).good();
    run(&place, &["--store", "store", "import", "two.tar", "--alias", "other"]).good();
    let moved = run(&place, &["--store", "store", "alias", "create", "box", "other", "--reuse"]);
    assert!(moved.status == 0 && moved.err.contains(one.trim()) && moved.err.contains("removed"), "{}", moved.err);
    let left = run(&place, &["--store", "store", "list", "-fcsv", "-cl"]).good();
    assert_eq!(left.lines().count(), 1, "{left}");
}

#[test]
fn packing_names_a_file_that_is_not_a_disk() {
    let place = Place::new();
    place.write("root.tar", rootfs(&[]));
    let ran = run(&place, &["pack", "root.tar", "out.tar", "--architecture", "amd64"]);
    ran.failed(1, "error[Unsupported]: root.tar: this is a tar archive");
    assert!(ran.err.contains("tar -xf root.tar"), "{}", ran.err);
}

#[test]
fn unreadable_catalog_row_hides_no_other_image() {
    let place = Place::new();
    for name in ["one", "two"] {
        place.write("image.tar", image(&[file(format!("rootfs/{name}"), "")]));
        run(&place, &["--store", "store", "import", "image.tar", "--alias", name]).good();
    }
    let catalog = rusqlite::Connection::open(place.at("store/catalog.sqlite")).unwrap();
    let first = "fingerprint = (SELECT min(fingerprint) FROM image)";
    catalog.execute(&format!("UPDATE image SET architecture = 'odd' WHERE {first}"), []).unwrap();
    drop(catalog);
    let ran = run(&place, &["--store", "store", "list", "-fcsv", "-cl"]);
    assert!(ran.err.contains("skipped") && ran.err.contains("`odd`"), "{}", ran.err);
    assert_eq!(ran.good().lines().count(), 1);
    let aliases = run(&place, &["--store", "store", "alias", "list", "-fcsv"]);
    assert_eq!(aliases.good().lines().count(), 2, "an alias is there whatever its image's row says");
}
