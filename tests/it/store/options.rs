//! Options of the program that a call cannot honour are refused, and help and manual say what there is.

use std::fs;

use super::cli::Shell;
use super::*;

#[test]
fn option_without_effect_is_refused() {
    let shell = Shell::new();
    shell.ok(&["import", "one.tar", "--alias", "a"]);
    shell.ok(&["unpack", "one.tar", "tree"]);
    fs::write(shell.scratch.join("x.tpl"), "x").unwrap();
    for words in [
        &["copy", "a", "images:", "--secret", "x"][..],
        &["copy", "a", "images:", "--auto-update"],
        &["import", "two.tar", "--allow-http"],
        &["import", "two.tar", "--auto-update"],
        &["import", "tree", "two.tar"],
        &["import", "https://127.0.0.1:1/x", "two.tar"],
        &["publish", "tree", "--auto-update"],
        &["mirror", "images:", "dir", "--allow-http"],
        &["unpack", "one.tar", "other", "--vm"],
        &["remote", "add", "x", "https://127.0.0.1:1", "--protocol", "simplestreams", "--password", "x"],
        &["pack", "tree/rootfs", "o.tar", "--architecture", "amd64", "--rootfs-format", "squashfs"],
        &["completions", "bash", "--format", "json"],
        &["man", ".", "--format", "json"],
        &["template", "render", "x.tpl", "--format", "json"],
    ] {
        shell.fails(words, 1, "InvalidInput");
    }
}

#[test]
fn every_verb_with_a_result_honours_the_format() {
    let shell = Shell::new();
    shell.ok(&["import", "one.tar", "--alias", "a"]);
    fs::create_dir(shell.scratch.join("r")).unwrap();
    for words in [
        &["import", "two.tar"][..],
        &["fingerprint", "one.tar"],
        &["unpack", "one.tar", "tree"],
        &["publish", "tree"],
        &["pack", "r", "o.tar", "--architecture", "amd64"],
        &["convert", "one.tar", "c.tar"],
        &["inspect", "one.tar"],
        &["list"],
        &["info", "a"],
        &["show", "a"],
        &["get-property", "a", "os"],
        &["export", "a", "e.tar"],
        &["alias", "list"],
        &["prune"],
        &["refresh"],
        &["remote", "list"],
        &["template", "list", "one.tar"],
        &["template", "check", "one.tar"],
        &["simplestreams", "add", "s", "meta.tar", "root.tar"],
        &["simplestreams", "list", "s"],
    ] {
        let printed = shell.ok(&[words, &["-f", "json"]].concat());
        assert!(serde_json::from_str::<serde_json::Value>(&printed).is_ok(), "{words:?}: {printed}");
    }
}

#[test]
fn help_shows_examples_and_what_stands_around_a_verb() {
    let shell = Shell::new();
    let top = shell.ok(&["--help"]);
    for text in ["/var/lib/lxd-image", "LXD_IMAGE_STORE", "SOURCE_DATE_EPOCH", "130", "entries ("] {
        assert!(top.contains(text), "{text}: {top}");
    }
    for verb in ["import", "list", "unpack", "copy", "serve", "check"] {
        let help = shell.ok(&[verb, "--help"]);
        assert!(help.contains(&format!("Examples:\n  lxd-image {verb}")), "{help}");
        assert!(help.contains("Global options:"), "{help}");
    }
    let help = shell.ok(&["unpack", "-h"]);
    assert!(help.contains("<IMAGE> [ROOTFS] <DEST>") && !help.contains("<ROOTFS>"), "{help}");
    fs::create_dir(shell.scratch.join("man")).unwrap();
    shell.ok(&["man", "man"]);
    for (page, example) in
        [("lxd-image.1", ""), ("lxd-image-list.1", "lxd\\-image list"), ("lxd-image-alias-create.1", "stable")]
    {
        let text = fs::read_to_string(shell.scratch.join("man").join(page)).unwrap();
        for section in ["FILES", "ENVIRONMENT", "EXIT STATUS"] {
            assert!(text.contains(&format!(".SH \"{section}\"")), "{page}: {section}");
        }
        assert!(text.contains(example) && (example.is_empty() || text.contains("EXAMPLES")), "{page}");
    }
}

#[test]
fn every_example_of_the_help_is_read() {
    let shell = Shell::new();
    let verbs = shell.ok(&["--help"]);
    let verbs = verbs.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| line.starts_with("  "));
    for verb in verbs.filter_map(|line| line.split_whitespace().next()).filter(|verb| *verb != "help") {
        let help = shell.ok(&[verb, "--help"]);
        let examples = help.lines().skip_while(|line| *line != "Examples:").skip(1);
        let examples: Vec<&str> = examples.take_while(|line| line.starts_with("  lxd-image")).collect();
        assert!(!examples.is_empty(), "{verb}");
    }
}

#[test]
fn template_apply_takes_a_name_and_warns_without_one() {
    let shell = Shell::new();
    let rules = "templates:\n  /etc/hostname:\n    when: [create]\n    template: hostname.tpl\n";
    fs::create_dir_all(shell.scratch.join("c1/rootfs/etc")).unwrap();
    fs::create_dir_all(shell.scratch.join("c1/templates")).unwrap();
    fs::write(shell.scratch.join("c1/templates/hostname.tpl"), "{{ container.name }}\n").unwrap();
    fs::write(shell.scratch.join("c1/metadata.yaml"), format!("{}{rules}", metadata("c1", ""))).unwrap();
    let output = shell.run(&["template", "apply", "c1", "--trigger", "create", "--dry-run"]);
    assert!(String::from_utf8(output.stderr).unwrap().contains("--name"));
    shell.ok(&["template", "apply", "c1", "--trigger", "create", "--name", "box"]);
    assert_eq!(fs::read_to_string(shell.scratch.join("c1/rootfs/etc/hostname")).unwrap(), "box\n");
}
