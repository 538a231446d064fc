//! Names that climb, hide or confuse: rows 28 to 34 and 53 of the hostile inputs.
//! Bytes are kept as they are, and escaped where people see them.

use lxd_image::format::{Image, ImageSource, VerifyOptions};
use lxd_image::{ErrorKind, Monitor};

use super::forge::{METADATA, Member, archive, directory, file, hard_link, image, long, pax, pax_raw, record};
use super::verdict::unified;
use super::{MALFORMED, Place, UNSAFE};

#[test]
fn names_that_climb_are_refused_however_they_are_spelled() {
    for name in [
        "../outside/pwn",
        "rootfs/../../outside/pwn",
        "rootfs/..",
        "..",
        "./..//x",
        "rootfs/etc/../x",
        "templates/../x",
        "metadata.yaml/..",
    ] {
        for member in [
            file(name, "x"),
            directory(name),
            [pax(&[("path", name)]), file("rootfs/good", "x")].concat(),
            [long(b'L', name), file("rootfs/good", "x")].concat(),
            Member::new(b'0', name).prefix("rootfs").data("x").bytes(),
            Member::new(b'0', "x").prefix(name).data("x").bytes(),
        ] {
            unified(image(&[member])).refused(UNSAFE);
        }
    }
}

#[test]
fn absolute_names_are_refused() {
    for name in ["/etc/pwn", "//rootfs/x", "/rootfs/x", "/"] {
        unified(image(&[file(name, "x")])).refused(UNSAFE);
        unified(image(&[pax(&[("path", name)]), file("rootfs/good", "x")])).refused(UNSAFE);
    }
}

#[test]
fn slashes_and_dots_in_excess_say_nothing() {
    unified(image(&[file("rootfs//etc/.///x", "x"), directory("./rootfs/./d//")]))
        .gives_base_and(&[r#"rootfs/etc/x -644 0:0 "x""#, "rootfs/d d755 0:0"]);
}

#[test]
fn regular_file_whose_name_ends_with_a_slash_is_refused() {
    unified(archive(&[file("metadata.yaml/", METADATA), directory("rootfs/")]))
        .refused(&[ErrorKind::Malformed, ErrorKind::UnsafePath]);
    unified(image(&[file("rootfs/a/", "x")])).refused(&[ErrorKind::Malformed, ErrorKind::UnsafePath]);
}

#[test]
fn names_are_bytes_and_are_kept() {
    let names: [&[u8]; 6] = [b"back\\slash", b"new\nline", b"\x1b[31mred", b"\xff\xfe\x80", b" blank ", b"-rf *"];
    let members: Vec<_> = names.iter().map(|name| file([b"rootfs/", *name].concat(), "x")).collect();
    let left = unified(image(&members)).gives_base_and(&[
        r#"rootfs/back\\slash -644 0:0 "x""#,
        r#"rootfs/new\nline -644 0:0 "x""#,
        r#"rootfs/\x1b[31mred -644 0:0 "x""#,
        r#"rootfs/\xff\xfe\x80 -644 0:0 "x""#,
        r#"rootfs/ blank  -644 0:0 "x""#,
        r#"rootfs/-rf * -644 0:0 "x""#,
    ]);
    drop(left);
}

#[test]
fn error_shows_a_name_with_its_control_bytes_escaped() {
    let error = unified(image(&[Member::new(b'Q', "rootfs/\x1b[2J\n").bytes()])).refused(super::UNSUPPORTED);
    assert_eq!(error.entry(), Some(&b"rootfs/\x1b[2J\n"[..]));
    let shown = error.to_string();
    assert!(shown.contains(r"rootfs/\x1b[2J\n") && !shown.contains(char::is_control), "{shown}");
}

#[test]
fn nul_inside_a_name_is_malformed() {
    let nul = |key: &str, value: &[u8]| pax_raw(record(key, value));
    unified(image(&[nul("path", b"rootfs/a\0b"), file("rootfs/x", "x")])).refused(MALFORMED);
    unified(image(&[nul("linkpath", b"etc\0/x"), Member::new(b'2', "rootfs/l").link("etc").bytes()]))
        .refused(MALFORMED);
    unified(image(&[nul("linkpath", b"rootfs/etc/hostname\0"), hard_link("rootfs/h", "rootfs/etc/hostname")]))
        .refused(MALFORMED);
    unified(image(&[nul("GNU.sparse.name", b"rootfs/a\0b"), file("rootfs/x", "x")])).refused(MALFORMED);
    unified(image(&[long(b'L', "rootfs/a\0b"), file("rootfs/x", "x")])).refused(MALFORMED);
}

#[test]
fn path_or_a_component_that_no_kernel_could_name_is_over_a_limit() {
    let long_path = format!("rootfs/{}x", "d/".repeat(5000));
    for (name, limit) in [(long_path, "path"), (format!("rootfs/{}", "x".repeat(300)), "component")] {
        for member in [
            [pax(&[("path", &name)]), file("rootfs/n", "x")].concat(),
            [long(b'L', &name), file("rootfs/n", "x")].concat(),
        ] {
            let error = unified(image(&[member])).refused(super::LIMIT);
            assert_eq!(error.limit_name(), Some(limit));
        }
    }
}

#[test]
fn long_names_of_both_kinds_are_read() {
    let deep = format!("rootfs/{}", vec!["d".repeat(200); 10].join("/"));
    let target = format!("{}t", "t/".repeat(1500));
    let place = Place::new();
    for (name, link) in [
        (long(b'L', format!("{deep}/f")), long(b'K', &target)),
        (pax(&[("path", &format!("{deep}/f"))]), pax(&[("linkpath", &target)])),
    ] {
        let bytes = image(&[name, file("rootfs/n", "x"), link, Member::new(b'2', "rootfs/l").link("t").bytes()]);
        let image = Image::open(ImageSource::open(place.write("image", &bytes), None).unwrap()).unwrap();
        let mut seen = Vec::new();
        image
            .survey(&VerifyOptions::new(), &Monitor::none(), &mut |entry, _| {
                seen.push((entry.path.clone(), entry.kind.clone()));
                Ok(())
            })
            .unwrap();
        assert!(seen.iter().any(|(path, _)| [b"rootfs/", path.as_slice()].concat() == format!("{deep}/f").as_bytes()));
        let kind = lxd_image::format::EntryKind::Symlink { target: target.clone().into_bytes() };
        assert!(seen.contains(&(b"l".to_vec(), kind)));
        unified(bytes).run().unwrap();
    }
}

#[test]
fn whiteouts_of_layers_are_plain_files_here() {
    unified(image(&[file("rootfs/etc/.wh.hostname", ""), file("rootfs/.wh..wh..opq", "")]))
        .gives_base_and(&[r#"rootfs/.wh..wh..opq -644 0:0 """#, r#"rootfs/etc/.wh.hostname -644 0:0 """#]);
}

#[test]
#[cfg(feature = "cli")]
fn what_acts_on_a_terminal_is_escaped_in_json_and_yaml_too() {
    let place = Place::new();
    let text = "architecture: x86_64\ncreation_date: 1\nproperties:\n  os: \"a\\u009b31m\\u202eb\\u007f\"\n";
    let image = place.write("image.tar", archive(&[file("metadata.yaml", text), directory("rootfs/")]));
    for format in ["json", "yaml"] {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_lxd-image"))
            .args(["inspect", "--format", format])
            .arg(&image)
            .output()
            .unwrap();
        let shown = String::from_utf8(output.stdout).unwrap();
        assert!(shown.contains(r#""a\u009b31m\u202eb\u007f""#), "{shown}");
    }
}
