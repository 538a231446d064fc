//! Layers to trees. Each case of what layers do to each other is compared with the tree that umoci unpacks with
//! `--keep-dirlinks`, as Incus calls it.

use std::path::Path;
use std::process::Command;

use lxd_image::format::Codec;
use lxd_image::oci::ContainerOptions;
use lxd_image::{Limits, Monitor};
use serde_json::{Value, json};

use super::{Forged, unpack};
use crate::format::forge::{Member, directory, file, hard_link, long, pax, record, symlink};
use crate::format::{Place, is_root, tree};
use crate::peers::available;

/// A small root file system, like that of busybox.
fn base() -> Vec<Vec<u8>> {
    vec![
        directory("./"),
        directory("bin/"),
        file("bin/busybox", "program"),
        hard_link("bin/sh", "bin/busybox"),
        hard_link("bin/ls", "bin/busybox"),
        directory("etc/"),
        file("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nwww:x:33:33:web:/srv:/bin/sh\n"),
        file("etc/group", "root:x:0:\nadm:x:4:www\nwww:x:33:\n"),
        directory("usr/"),
        directory("usr/lib/"),
        file("usr/lib/libc.so", "library"),
        symlink("lib", "usr/lib"),
        directory("var/"),
        directory("var/cache/"),
        file("var/cache/a", "a"),
        file("var/cache/b", "b"),
        directory("var/cache/deep/"),
        file("var/cache/deep/c", "c"),
        Member::new(b'5', "tmp/").mode(0o1777).bytes(),
    ]
}

/// Layers that each do one thing to those below.
fn cases() -> Vec<(&'static str, Vec<Vec<Vec<u8>>>)> {
    let on_base = |layer: Vec<Vec<u8>>| vec![base(), layer];
    let var = || directory("var/");
    let cache = || directory("var/cache/");
    let wide: Vec<Vec<Vec<u8>>> = std::iter::once(base())
        .chain((0..200).map(|number| {
            vec![
                directory("etc/"),
                file(format!("etc/file-{}", number % 50), format!("{number}")),
                file(format!("etc/.wh.file-{}", (number * 7) % 50), ""),
            ]
        }))
        .collect();
    vec![
        ("one layer", vec![base()]),
        ("file replaced", on_base(vec![directory("etc/"), file("etc/passwd", "root:x:0:0::/:/bin/sh\n")])),
        ("file whited out", on_base(vec![var(), cache(), file("var/cache/.wh.a", "")])),
        ("directory whited out", on_base(vec![var(), file("var/.wh.cache", "")])),
        ("whiteout of nothing", on_base(vec![var(), file("var/.wh.nothing", "")])),
        (
            "directory whited out and made again",
            on_base(vec![var(), file("var/.wh.cache", ""), cache(), file("var/cache/new", "n")]),
        ),
        (
            "whiteout after what it must not hide",
            on_base(vec![var(), cache(), file("var/cache/a", "upper"), file("var/cache/.wh.a", "")]),
        ),
        (
            "directory entered before its whiteout",
            on_base(vec![var(), cache(), file("var/cache/new", "n"), file("var/.wh.cache", "")]),
        ),
        (
            "opaque directory",
            on_base(vec![var(), cache(), file("var/cache/.wh..wh..opq", ""), file("var/cache/new", "n")]),
        ),
        (
            "opaque marker last",
            on_base(vec![
                var(),
                cache(),
                file("var/cache/new", "n"),
                directory("var/cache/deep/"),
                file("var/cache/deep/d", "d"),
                file("var/cache/.wh..wh..opq", ""),
            ]),
        ),
        (
            "opaque in the lower of three",
            vec![
                base(),
                vec![var(), cache(), file("var/cache/.wh..wh..opq", ""), file("var/cache/middle", "m")],
                vec![var(), cache(), file("var/cache/top", "t")],
            ],
        ),
        ("directory replaced by file", on_base(vec![var(), file("var/cache", "now a file")])),
        ("directory replaced by link", on_base(vec![var(), symlink("var/cache", "../tmp")])),
        (
            "file replaced by directory",
            on_base(vec![
                directory("etc/"),
                directory("etc/new/"),
                directory("var/cache/a/"),
                file("var/cache/a/x", "x"),
            ]),
        ),
        (
            "directory's attributes replaced",
            on_base(vec![Member::new(b'5', "var/cache/").mode(0o700).uid(7).gid(8).bytes()]),
        ),
        ("hard link to a lower layer", on_base(vec![directory("usr/"), hard_link("usr/again", "bin/busybox")])),
        ("one name of several replaced", on_base(vec![directory("bin/"), file("bin/busybox", "another program")])),
        ("first name of several whited out", on_base(vec![directory("bin/"), file("bin/.wh.busybox", "")])),
        (
            "hard link to what a higher layer hides",
            vec![
                base(),
                vec![directory("usr/"), hard_link("usr/kept", "var/cache/a")],
                vec![var(), file("var/.wh.cache", "")],
            ],
        ),
        ("member through a link to a directory", on_base(vec![file("lib/new.so", "new")])),
        (
            "directory over a link to a directory",
            on_base(vec![Member::new(b'5', "lib/").uid(5).bytes(), file("lib/new.so", "new")]),
        ),
        (
            "directory over a link to nothing",
            vec![vec![directory("./"), symlink("gone", "nowhere")], vec![directory("gone/"), file("gone/x", "x")]],
        ),
        ("whiteout through a link", on_base(vec![file("lib/.wh.libc.so", "")])),
        ("whiteout of a link", on_base(vec![file(".wh.lib", "")])),
        (
            "link that climbs out stays inside",
            vec![
                vec![directory("./"), directory("a/"), symlink("a/up", "../../../../etc"), directory("etc/")],
                vec![file("a/up/inside", "in")],
            ],
        ),
        (
            "absolute link stays inside",
            vec![vec![directory("./"), symlink("abs", "/etc"), directory("etc/")], vec![file("abs/inside", "in")]],
        ),
        ("hard link to a symbolic link", on_base(vec![directory("usr/"), hard_link("usr/lib-link", "lib")])),
        (
            "long names",
            on_base(vec![
                directory("usr/"),
                [long(b'L', "usr/".to_owned() + &"n".repeat(200)), file("x", "gnu")].concat(),
                [pax(&[("path", &("usr/".to_owned() + &"p".repeat(240)))]), file("y", "pax")].concat(),
            ]),
        ),
        (
            "replaced types",
            vec![
                vec![
                    directory("./"),
                    file("a", "1"),
                    directory("b/"),
                    symlink("c", "a"),
                    Member::new(b'6', "d").bytes(),
                ],
                vec![directory("a/"), Member::new(b'6', "b").bytes(), file("c", "3"), symlink("d", "c")],
                vec![symlink("a", "b"), file("b", "2"), directory("c/"), directory("d/")],
            ],
        ),
        ("many layers of small changes", wide),
    ]
}

/// The tree that umoci unpacks.
fn umoci(layout: &Path, to: &Path) -> Vec<String> {
    let image = format!("{}:box", layout.display());
    let ran = Command::new("umoci").args(["unpack", "--keep-dirlinks", "--image", &image]).arg(to).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    tree(&to.join("rootfs"))
}

#[test]
fn trees_are_those_of_umoci() {
    if !available(&["umoci"]) {
        return;
    }
    for (name, layers) in cases() {
        let place = Place::new();
        let layers: Vec<&[Vec<u8>]> = layers.iter().map(Vec::as_slice).collect();
        let layout = Forged::new(&layers).layout(&place, "layout");
        let ours = place.at("ours");
        unpack(&layout, &ours, &ContainerOptions::new(), &Limits::default(), &Monitor::none())
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        // umoci does not restore the time of a directory of which it removed something; ours keeps what the layer says.
        let theirs: Vec<String> =
            umoci(&layout, &place.at("umoci")).into_iter().map(|line| line.replace(" now", "")).collect();
        assert_eq!(tree(&ours.join("rootfs")), theirs, "{name}");
    }
}

#[test]
fn runtime_configuration_runs_what_umocis_does() {
    if !available(&["umoci"]) {
        return;
    }
    for config in [
        json!({}),
        json!({"Entrypoint": ["/bin/sh", "-c"], "Cmd": ["echo hi"], "Env": ["A=b", "PATH=/bin", "A=c=d"], "WorkingDir": "/srv"}),
        json!({"User": "www", "Labels": {"one": "1", "org.opencontainers.image.author": "me"}, "StopSignal": "SIGINT"}),
        json!({"User": "33:adm", "ExposedPorts": {"80/tcp": {}, "53/udp": {}}}),
        json!({"User": "1000:1000"}),
    ] {
        let place = Place::new();
        let layout = Forged::new(&[&base()]).config(json!({"config": config})).layout(&place, "layout");
        unpack(&layout, &place.at("ours"), &ContainerOptions::new(), &Limits::default(), &Monitor::none()).unwrap();
        umoci(&layout, &place.at("umoci"));
        let read = |dir: &str| -> Value {
            serde_json::from_slice(&std::fs::read(place.at(dir).join("config.json")).unwrap()).unwrap()
        };
        let (ours, theirs) = (read("ours"), read("umoci"));
        for field in ["/process/args", "/process/env", "/process/cwd", "/process/user", "/root/path"] {
            assert_eq!(ours.pointer(field), theirs.pointer(field), "{field} of {config}");
        }
        for (key, value) in theirs["annotations"].as_object().unwrap() {
            // An older umoci writes several ports in any order, and empty annotations.
            if key != "org.opencontainers.image.exposedPorts" && value != "" {
                assert_eq!(ours["annotations"].get(key), Some(value), "{key} of {config}");
            }
        }
    }
}

/// What the tree of these layers is, whatever umoci makes of them.
#[track_caller]
fn assert_tree(layers: &[&[Vec<u8>]], expected: &[&str]) {
    let place = Place::new();
    let layout = Forged::new(layers).layout(&place, "layout");
    unpack(&layout, &place.at("out"), &ContainerOptions::new(), &Limits::default(), &Monitor::none()).unwrap();
    assert_eq!(tree(&place.at("out/rootfs")), expected);
}

#[test]
fn all_codecs_and_names_from_the_root_give_one_tree() {
    if !is_root() {
        return;
    }
    let layer = [directory("/"), directory("/etc/"), file("/etc/x", "x"), hard_link("/etc/y", "/etc/x")];
    for codec in [Codec::None, Codec::Gzip, Codec::Zstd] {
        let place = Place::new();
        let layout = Forged::new(&[&layer]).codec(codec).layout(&place, "layout");
        unpack(&layout, &place.at("out"), &ContainerOptions::new(), &Limits::default(), &Monitor::none()).unwrap();
        let expected = ["etc d755 0:0", "etc/x -644 0:0 \"x\"", "etc/y = etc/x"];
        assert_eq!(tree(&place.at("out/rootfs")), expected, "{codec}");
    }
}

#[test]
fn attributes_and_capabilities_are_kept() {
    if !is_root() {
        return;
    }
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let records =
        [record("SCHILY.xattr.user.note", "n"), record("SCHILY.xattr.security.capability", capability)].concat();
    let ping = [crate::format::forge::pax_raw(records), file("ping", "p")].concat();
    assert_tree(
        &[&[directory("./"), ping], &[file("other", "o")]],
        &[
            "other -644 0:0 \"o\"",
            "ping -644 0:0 \"p\" security.capability=0100000200040000000000000000000000000000 user.note=6e",
        ],
    );
}

#[test]
fn files_of_aufs_are_left_out_and_reported() {
    let place = Place::new();
    let layer = [
        directory("./"),
        directory(".wh..wh.plnk/"),
        file(".wh..wh.plnk/1.2", ""),
        file(".wh..wh.aufs", ""),
        file("kept", "k"),
    ];
    let layout = Forged::new(&[&layer]).layout(&place, "layout");
    let monitor = Monitor::none();
    unpack(&layout, &place.at("out"), &ContainerOptions::new(), &Limits::default(), &monitor).unwrap();
    assert_eq!(place.names("out/rootfs"), ["kept"]);
    assert_eq!(monitor.omissions().iter().filter(|omission| omission.what.to_string().contains("AUFS")).count(), 3);
}

#[test]
fn system_container_has_templates_and_no_entry_point() {
    let place = Place::new();
    let init = [directory("./"), directory("sbin/"), file("sbin/init", "init")];
    let layout = Forged::new(&[&init]).layout(&place, "layout");
    unpack(&layout, &place.at("out"), &ContainerOptions::new().system(true), &Limits::default(), &Monitor::none())
        .unwrap();
    assert_eq!(place.names("out"), ["metadata.yaml", "rootfs", "templates"]);
    assert_eq!(place.names("out/templates"), ["hostname.tpl", "hosts.tpl"]);

    let layout = Forged::new(&[&base()]).layout(&place, "without-init");
    let error =
        unpack(&layout, &place.at("none"), &ContainerOptions::new().system(true), &Limits::default(), &Monitor::none())
            .unwrap_err();
    assert!(error.to_string().contains("/sbin/init"), "{error}");
}
