//! The `template` verbs of the command line: what they print, and how they end.
//! Results on standard output, errors as one line with their kind.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use super::Site;

/// Status, standard output, standard error.
fn run(args: &[&str], input: Option<&[u8]>) -> (i32, String, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_lxd-image"))
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.unwrap_or_default()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn shown(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A site with rules, and a context beside it.
fn site() -> (Site, String, String) {
    let site = Site::new();
    let rules = "architecture: x86_64\ncreation_date: 1\ntemplates:\n  /etc/hostname:\n    when: [create, copy]\n    \
                 template: name.tpl\n  /etc/start:\n    when: [start]\n    template: broken.tpl\n";
    fs::write(site.dest().join("metadata.yaml"), rules).unwrap();
    fs::remove_file(site.dest().join("templates/failing.tpl")).unwrap();
    let context = site.dest().join("context.json");
    fs::write(&context, r#"{"container": {"name": "c1"}, "config": {"user.x": "y"}, "extra": [1, "b"]}"#).unwrap();
    let (dest, context) = (shown(&site.dest()).to_owned(), shown(&context).to_owned());
    (site, dest, context)
}

#[test]
fn cli_render_takes_a_file_or_standard_input() {
    let (site, _, context) = site();
    let name = site.dest().join("templates/name.tpl");
    let (status, out, _) = run(&["template", "render", shown(&name), "--context", &context], None);
    assert_eq!((status, out.as_str()), (0, "c1   \n"));
    let source = b"{{ instance.name }} {{ config_get('user.x', '') }} {{ extra.1 }} {{ extra.0 + 1 }}";
    let (status, out, _) = run(&["template", "render", "-", "--context", &context], Some(source));
    assert_eq!((status, out.as_str()), (0, "c1 y b 2"));
    let both = b"{{ 'a' + 'b' }}";
    for (dialect, expected) in [("lxd", "0"), ("incus", "ab")] {
        let args = ["template", "render", "-", "--context", &context, "--dialect", dialect];
        assert_eq!(run(&args, Some(both)).1, expected);
    }
}

#[test]
fn cli_errors_have_kind_location_and_exit_status() {
    let (site, dest, context) = site();
    let broken = site.dest().join("templates/broken.tpl");
    let (status, out, err) = run(&["template", "render", shown(&broken), "--context", &context], None);
    assert_eq!((status, out.as_str()), (1, ""));
    assert!(
        err.starts_with("error[Template]: ") && err.contains("broken.tpl: ") && err.contains("line 1, column 9"),
        "{err}"
    );
    fs::write(site.dest().join("bad.json"), "{\"container\": [").unwrap();
    let bad = site.dest().join("bad.json");
    let (status, _, err) = run(&["template", "render", shown(&broken), "--context", shown(&bad)], None);
    assert!(status == 1 && err.starts_with("error[Malformed]: "), "{err}");
    for usage in [
        &["template", "apply", &dest, "--trigger", "reboot", "--context", &context][..],
        &["template", "apply", &dest],
        &["template", "render", "-", "--dialect", "django"],
        &["template"],
    ] {
        assert_eq!(run(usage, None).0, 2, "{usage:?}");
    }
    let (status, out, err) = run(&["template", "apply", &dest, "--trigger", "start", "--context", &context], None);
    assert_eq!(status, 1);
    assert!(out.contains("| /etc/start    | broken.tpl | failed "), "{out}");
    assert!(err.contains("error[Template]: ") && err.contains("`/etc/start`"), "{err}");
    assert!(!site.root("etc/start").exists());
}

#[test]
fn cli_apply_prints_each_file_and_its_action() {
    let (site, dest, context) = site();
    let apply = ["template", "apply", &dest, "--trigger", "create", "--context", &context];
    let (status, out, err) = run(&[&apply[..], &["--dry-run"]].concat(), None);
    assert_eq!((status, err.as_str()), (0, ""));
    assert_eq!(out, "--- nothing\n+++ /etc/hostname\n@@ -0,0 +1,1 @@\n+c1 create /etc/hostname \n");
    assert!(!site.root("etc/hostname").exists());

    let (status, out, _) = run(&[&apply[..], &["--format", "json"]].concat(), None);
    let rows: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(status, 0);
    assert_eq!(
        (&rows[0]["done"], &rows[0]["mode"], &rows[0]["path"]),
        (&"created".into(), &"0644".into(), &"/etc/hostname".into())
    );
    assert_eq!((&rows[1]["done"], &rows[1]["why"]), (&"skipped".into(), &"not at create, only at start".into()));
    assert_eq!(site.text("etc/hostname"), "c1 create /etc/hostname \n");

    fs::write(site.root("etc/hostname"), "a\nb\nc1 create /etc/hostname \n\x1b[31m").unwrap();
    let (_, out, _) = run(&[&apply[..], &["--dry-run"]].concat(), None);
    assert_eq!(
        out,
        "--- /etc/hostname\n+++ /etc/hostname\n@@ -1,4 +1,1 @@\n-a\n-b\n-c1 create /etc/hostname \n-\\x1b[31m\n\\ No newline at end of file\n+c1 create /etc/hostname \n"
    );
}

#[test]
fn list_show_and_check_accept_packed_and_unpacked_images() {
    let (site, dest, _) = site();
    let packed = site.host().join("image.tar");
    let metadata = site.dest().join("metadata.yaml");
    let templates = site.dest().join("templates");
    let args =
        ["pack", shown(&site.dest().join("rootfs")).to_owned().leak(), shown(&packed), "--metadata", shown(&metadata)];
    let (status, _, err) =
        run(&[&args[..], &["--templates", shown(&templates), "--compression", "none"]].concat(), None);
    assert_eq!((status, err.as_str()), (0, ""));
    for image in [dest.as_str(), shown(&packed)] {
        let (status, out, _) = run(&["template", "list", image, "--format", "csv"], None);
        assert_eq!(
            (status, out.as_str()),
            (0, "broken.tpl,17,/etc/start,start,no\nname.tpl,64,/etc/hostname,\"create, copy\",no\n")
        );
        let (status, out, _) = run(&["template", "show", image, "broken.tpl"], None);
        assert_eq!((status, out.as_str()), (0, "{{ name|nosuch }}"));
        let (status, out, err) = run(&["template", "check", image], None);
        assert_eq!(status, 1);
        assert!(out.contains("| broken.tpl | error  | 1:9   | error[Template]: "), "{out}");
        assert!(out.contains("| name.tpl   | ok     |"), "{out}");
        assert_eq!(err, "error[Template]: 1 error in the templates of this image, which has 2\n");
    }
    site.template("broken.tpl", "{% if trigger == \"create\" %}{% endif %}");
    let (status, out, _) = run(&["template", "check", &dest, "--format", "csv"], None);
    assert!(status == 0 && out.starts_with("broken.tpl,warning,1:4,"), "{out}");
}
