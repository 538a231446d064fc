//! Results in every format, progress, and names that a terminal could act on.
//! The snapshots are what people see of one small image.

use super::run;
use crate::format::Place;
use crate::format::forge::{END, METADATA, Member, directory, file, image, symlink};

fn sample() -> Vec<u8> {
    let rules = "templates:\n  /etc/hostname:\n    when:\n    - create\n    - copy\n    template: hostname.tpl\n";
    [
        file("metadata.yaml", format!("{METADATA}{rules}")),
        directory("templates/"),
        file("templates/hostname.tpl", "{{ container.name }}\n"),
        directory("rootfs/"),
        directory("rootfs/etc/"),
        file("rootfs/etc/hostname", "box\n"),
        symlink("rootfs/bin", "usr/bin"),
        Member::new(b'3', "rootfs/null").mode(0o666).device(1, 3).bytes(),
        Member::new(b'1', "rootfs/etc/again").link("rootfs/etc/hostname").bytes(),
        file("rootfs/\x1b[31mred\n", "x"),
        file("README", "stray"),
        END.to_vec(),
    ]
    .concat()
}

fn place() -> Place {
    let place = Place::new();
    place.write("image.tar", sample());
    place
}

#[test]
fn image_is_shown_to_people() {
    insta::assert_snapshot!(run(&place(), &["inspect", "image.tar"]).good());
}

#[test]
fn image_is_shown_as_json() {
    let text = run(&place(), &["inspect", "image.tar", "--format", "json"]).good();
    serde_json::from_str::<serde_json::Value>(&text).unwrap();
    insta::assert_snapshot!(text);
}

#[test]
fn image_is_shown_as_yaml_and_csv() {
    insta::assert_snapshot!("yaml", run(&place(), &["inspect", "image.tar", "--format", "yaml"]).good());
    insta::assert_snapshot!("csv", run(&place(), &["inspect", "image.tar", "--format", "csv"]).good());
}

#[test]
fn members_are_listed() {
    insta::assert_snapshot!("entries", run(&place(), &["inspect", "image.tar", "--entries"]).good());
    insta::assert_snapshot!(
        "compact",
        run(&place(), &["inspect", "image.tar", "--entries", "--format", "compact"]).good()
    );
}

#[test]
fn template_format_prints_one_line_per_record() {
    let place = place();
    let text = run(&place, &["inspect", "image.tar", "--format", "{{ architecture }} {{ properties.os }}"]).good();
    assert_eq!(text, "x86_64 Debian\n");
    let text = run(&place, &["inspect", "image.tar", "--entries", "--format", "{{ type }}"]).good();
    assert_eq!(text.lines().count(), 7);
    run(&place, &["inspect", "image.tar", "--format", "{{ broken"]).failed(1, "error[InvalidInput]: ");
    run(&place, &["inspect", "image.tar", "--format", "{% include '/etc/passwd' %}"])
        .failed(1, "error[InvalidInput]: ");
}

#[test]
fn no_format_lets_a_name_reach_the_terminal_unescaped() {
    let place = place();
    for format in ["table", "json", "yaml", "csv", "compact", "markdown", "{{ path }}"] {
        let ran = run(&place, &["-v", "inspect", "image.tar", "--entries", "--format", format]);
        assert_eq!(ran.status, 0);
        assert!(!ran.out.contains(&0x1b) && !ran.err.contains('\x1b'), "{format}");
    }
    place.write("other.tar", image(&[]));
    let ran = run(&place, &["diff", "image.tar", "other.tar"]);
    assert!(!ran.out.contains(&0x1b) && ran.status == 1);
}

#[test]
fn verify_report_is_printed_in_every_format() {
    let place = place();
    let text = run(&place, &["verify", "image.tar", "--format", "json"]).good();
    let facts: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&facts["valid"], &facts["strays"][0]), (&true.into(), &"README".into()));
    assert_eq!(facts["fingerprint"].as_str().map(str::len), Some(64));
    assert_eq!(run(&place, &["verify", "image.tar", "--format", "{{ type }}"]).good(), "container\n");
    place.write("bad.tar", image(&[symlink("rootfs/l", "/"), file("rootfs/l/x", "")]));
    let ran = run(&place, &["verify", "bad.tar", "--format", "json"]);
    let facts: serde_json::Value = serde_json::from_str(ran.text()).unwrap();
    assert_eq!((ran.status, &facts["findings"][0]["kind"]), (1, &"UnsafePath".into()));
}

#[test]
fn json_progress_is_one_object_per_line() {
    let place = Place::new();
    place.write("image.tar", image(&[file("rootfs/big", vec![b'x'; 2 << 20])]));
    let ran = run(&place, &["--progress", "json", "verify", "image.tar"]);
    assert_eq!(ran.status, 0);
    let lines: Vec<serde_json::Value> = ran.err.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(!lines.is_empty());
    for line in lines {
        assert_eq!(line["phase"], "verify");
        assert!(line["done"].as_u64().unwrap() <= line["total"].as_u64().unwrap());
    }
    for mode in ["auto", "never"] {
        assert_eq!(run(&place, &["--progress", mode, "verify", "image.tar"]).err, "");
    }
}

#[test]
fn json_progress_ends_with_the_total() {
    let place = Place::new();
    place.write("image.tar", image(&[file("rootfs/big", vec![b'x'; 2 << 20])]));
    std::fs::create_dir(place.at("tree")).unwrap();
    std::fs::write(place.at("tree/file"), vec![b'x'; 1 << 20]).unwrap();
    for verb in [
        &["verify", "image.tar"][..],
        &["fingerprint", "image.tar"],
        &["unpack", "image.tar", "unpacked"],
        &["convert", "image.tar", "converted"],
        &["pack", "tree", "packed", "--architecture", "amd64"],
    ] {
        let ran = run(&place, &[&["--progress", "json"], verb].concat());
        assert_eq!(ran.status, 0, "{verb:?}: {}", ran.err);
        let last: serde_json::Value = serde_json::from_str(ran.err.lines().last().unwrap()).unwrap();
        assert!(last["done"].as_u64().unwrap() > 0, "{verb:?}: {last}");
        assert_eq!(last["done"], last["total"], "{verb:?}");
    }
}

#[test]
fn progress_always_prints_lines_without_a_terminal() {
    let place = Place::new();
    place.write("image.tar", image(&[file("rootfs/big", vec![b'x'; 2 << 20])]));
    let ran = run(&place, &["--progress", "always", "verify", "image.tar"]);
    let last = ran.err.lines().last().unwrap();
    assert!(last.starts_with("verify: 2.0") && last.contains(" of 2.0"), "{}", ran.err);
}

#[test]
fn closed_pipe_prints_no_error() {
    use std::process::{Command, Stdio};
    let place = place();
    let mut child = Command::new(env!("CARGO_BIN_EXE_lxd-image"))
        .args(["inspect", "image.tar"])
        .current_dir(place.at(""))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
}
