//! Exit statuses and the lines of errors: a contract with scripts.
//! 0 done, 1 failed, 2 wrong usage, 3 a mismatch that was looked for, 4 not found, 5 already there.

use lxd_image::Fingerprint;

use super::run;
use crate::format::Place;
use crate::format::forge::{Member, directory, file, image};

fn place() -> (Place, String) {
    let place = Place::new();
    let bytes = image(&[]);
    place.write("image.tar", &bytes);
    (place, Fingerprint::of(&bytes).to_string())
}

#[test]
fn fingerprint_is_printed_and_nothing_else() {
    let (place, digest) = place();
    assert_eq!(run(&place, &["fingerprint", "image.tar"]).good(), format!("{digest}\n"));
    let quiet = run(&place, &["-q", "verify", "image.tar", "--fingerprint", &digest]);
    assert_eq!((quiet.text(), &quiet.err[..], quiet.status), (&format!("{digest}\n")[..], "", 0));
}

#[test]
fn verify_needs_twelve_digits_and_has_status_3_on_a_mismatch() {
    let (place, digest) = place();
    for digits in [12, 13, 63, 64] {
        run(&place, &["verify", "image.tar", "--fingerprint", &digest[..digits].to_uppercase()]).good();
    }
    for wrong in ["0123456789ab", &"0".repeat(64)] {
        let ran = run(&place, &["verify", "image.tar", "--fingerprint", wrong]);
        ran.failed(3, "error[Mismatch]: ");
        assert!(ran.err.contains(wrong) && ran.err.contains(&digest), "{}", ran.err);
    }
    let long = format!("{digest}0");
    for bad in [&digest[..8], &digest[..11], &long, "../../etc/passwd", "zzzzzzzzzzzz", ""] {
        run(&place, &["verify", "image.tar", "--fingerprint", bad]).failed(1, "error[InvalidInput]: ");
    }
}

#[test]
fn unpack_and_convert_take_whole_fingerprints_only() {
    let (place, digest) = place();
    for bad in [&digest[..12], &digest[..63], "x"] {
        run(&place, &["unpack", "image.tar", "dest", "--fingerprint", bad]).failed(1, "error[InvalidInput]: ");
        run(&place, &["convert", "image.tar", "out", "--fingerprint", bad]).failed(1, "error[InvalidInput]: ");
    }
    let zeros = "0".repeat(64);
    run(&place, &["unpack", "image.tar", "dest", "--fingerprint", &zeros]).failed(1, "error[Mismatch]: ");
    run(&place, &["convert", "image.tar", "out", "--fingerprint", &zeros]).failed(1, "error[Mismatch]: ");
    assert_eq!(place.names(""), ["image.tar"]);
    assert_eq!(run(&place, &["unpack", "image.tar", "dest", "--fingerprint", &digest]).good(), format!("{digest}\n"));
    assert_eq!(place.names("dest"), ["metadata.yaml", "rootfs"]);
}

#[test]
fn missing_is_status_4_and_existing_is_status_5() {
    let (place, _) = place();
    for arguments in [
        &["fingerprint", "no.tar"][..],
        &["inspect", "no.tar"],
        &["verify", "image.tar", "no.tar"],
        &["unpack", "no.tar", "dest"],
        &["pack", "no", "out", "--architecture", "x86_64"],
        &["unpack", "image.tar", "no/such/dest"],
    ] {
        run(&place, arguments).failed(4, "error[NotFound]: ");
    }
    place.directory("full/x");
    place.directory("tree");
    let ran = run(&place, &["unpack", "image.tar", "full"]);
    ran.failed(5, "error[AlreadyExists]: full: ");
    assert!(ran.err.contains("\nhint: "), "{}", ran.err);
    run(&place, &["convert", "image.tar", "image.tar"]).failed(5, "error[AlreadyExists]: ");
    run(&place, &["pack", "tree", "image.tar", "--architecture", "x86_64"]).failed(5, "error[AlreadyExists]: ");
}

#[test]
fn wrong_usage_is_status_2() {
    let (place, _) = place();
    for arguments in [
        &[][..],
        &["no-such-verb"],
        &["inspect"],
        &["inspect", "image.tar", "--no-such-option"],
        &["inspect", "image.tar", "--format", "xml"],
        &["inspect", "image.tar", "--limit", "no-such-limit=1"],
        &["inspect", "image.tar", "--limit", "entries=0"],
        &["inspect", "image.tar", "--limit", "entries=many"],
        &["inspect", "image.tar", "--limit", "entries"],
        &["inspect", "image.tar", "--threads", "0"],
        &["unpack", "image.tar"],
        &["pack", "tree", "out"],
    ] {
        let ran = run(&place, arguments);
        assert_eq!((ran.status, ran.text()), (2, ""), "{arguments:?}: {}", ran.err);
    }
    assert_eq!(place.names(""), ["image.tar"]);
}

#[test]
fn error_is_one_line_with_its_kind_and_its_names_escaped() {
    let place = Place::new();
    place.write("bad.tar", image(&[file("rootfs/\x1b[31m/../x", "x")]));
    for verb in [&["verify", "bad.tar"][..], &["inspect", "bad.tar"], &["unpack", "bad.tar", "dest"]] {
        let ran = run(&place, verb);
        ran.failed(1, r"error[UnsafePath]: bad.tar: entry rootfs/\x1b[31m/../x: ");
        assert!(!ran.err.contains('\x1b'));
    }
    assert_eq!(place.names(""), ["bad.tar"]);
}

#[test]
fn verify_names_each_broken_rule() {
    let place = Place::new();
    place.write(
        "bad.tar",
        image(&[Member::new(b'4', "sda").device(8, 0).bytes(), directory("rootfs/d/"), file("rootfs/d", "x")]),
    );
    let ran = run(&place, &["verify", "bad.tar"]);
    assert_eq!((ran.status, ran.text()), (1, ""));
    let mut kinds: Vec<_> = ran.err.lines().filter_map(|line| line.split(": ").next()).collect();
    kinds.sort_unstable();
    assert_eq!(kinds, ["error[Malformed]", "error[UnsafePath]"]);
}

#[test]
fn missing_template_of_a_rule_is_a_finding() {
    let place = Place::new();
    let rules = "templates:\n  /etc/hostname:\n    when: [create]\n    template: no.tpl\n";
    let metadata = format!("{}{rules}", crate::format::forge::METADATA);
    place.write("bad.tar", crate::format::forge::archive(&[file("metadata.yaml", metadata), directory("rootfs/")]));
    run(&place, &["verify", "bad.tar"]).failed(1, "error[NotFound]: ");
    let ran = run(&place, &["inspect", "bad.tar"]);
    assert!(ran.status == 0 && ran.err.starts_with("warning: "), "{}", ran.err);
}

#[test]
fn exceeded_limit_names_its_option() {
    let place = Place::new();
    let many: Vec<_> = (0..50).map(|number| file(format!("rootfs/f{number}"), "x")).collect();
    place.write("image.tar", image(&many));
    let ran = run(&place, &["unpack", "image.tar", "dest", "--limit", "entries=20"]);
    ran.failed(1, "error[LimitExceeded]: ");
    assert!(ran.err.contains("\nhint: raise it with `--limit entries=N`"), "{}", ran.err);
    run(&place, &["unpack", "image.tar", "dest", "--limit", "entries=1k"]).good();
}
