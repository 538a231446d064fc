//! The verbs of the store through the binary: outputs, exit statuses, and that they keep to one store.

use std::fs;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Command, Output, Stdio};

use super::*;
use lxd_image::Monitor;

pub(super) struct Shell {
    pub(super) scratch: Scratch,
}

impl Shell {
    pub(super) fn new() -> Self {
        let scratch = Scratch::new();
        for tag in ["one", "two"] {
            fs::write(scratch.join(&format!("{tag}.tar")), unified(tag)).unwrap();
        }
        let (meta, rootfs) = split("split");
        fs::write(scratch.join("meta.tar"), meta).unwrap();
        fs::write(scratch.join("root.tar"), rootfs).unwrap();
        Self { scratch }
    }

    pub(super) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lxd-image"));
        command
            .args(words)
            .current_dir(self.scratch.path())
            .env("LXD_IMAGE_STORE", self.scratch.join("store"))
            .env_remove("SOURCE_DATE_EPOCH")
            .stdin(Stdio::null());
        command
    }

    pub(super) fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    #[track_caller]
    pub(super) fn ok(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    #[track_caller]
    pub(super) fn fails(&self, words: &[&str], status: i32, kind: &str) -> String {
        let output = self.run(words);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(status), "{words:?}: {text}");
        assert!(text.starts_with(&format!("error[{kind}]: ")), "{words:?}: {text}");
        text
    }
}

#[test]
fn import_prints_the_fingerprint_and_list_shows_a_table_like_lxc() {
    let shell = Shell::new();
    let printed = shell.ok(&["import", "one.tar", "--alias", "debian/12", "--alias", "x", "--public"]);
    assert_eq!(printed, format!("{}\n", fingerprint("one")));
    let text = shell.ok(&["list"]);
    let lines: Vec<&str> = text.lines().collect();
    let words: Vec<&str> = lines[1].split('|').map(str::trim).filter(|word| !word.is_empty()).collect();
    assert_eq!(words, ["ALIAS", "FINGERPRINT", "PUBLIC", "DESCRIPTION", "ARCHITECTURE", "TYPE", "SIZE", "UPLOAD DATE"]);
    let cells: Vec<&str> = lines[3].split('|').map(str::trim).collect();
    assert_eq!(cells[1..5], ["x (1 more)", &fingerprint("one").short(), "yes", ""]);
    assert_eq!(cells[5..8], ["x86_64", "CONTAINER", "3.50KiB"]);
    assert_eq!(shell.ok(&["list", "-c", "F", "--format", "csv", "debian"]), format!("{}\n", fingerprint("one")));
    assert_eq!(
        shell.ok(&["list", "-c", "lp", "--format", "csv", "architecture=amd64", "public=true"]),
        "x (1 more),yes\n"
    );
    assert_eq!(
        shell.ok(&["list", "--format", "{{ fingerprint }} {{ type }}"]),
        format!("{} container\n", fingerprint("one"))
    );
    shell.fails(&["list", "-c", "x"], 1, "InvalidInput");
}

#[test]
fn json_has_the_keys_of_the_rest_object() {
    let shell = Shell::new();
    shell.ok(&["import", "root.tar", "meta.tar", "--alias", "a"]);
    let list: serde_json::Value = serde_json::from_str(&shell.ok(&["list", "--format", "json"])).unwrap();
    let info: serde_json::Value = serde_json::from_str(&shell.ok(&["info", "a", "--format", "json"])).unwrap();
    assert_eq!(list[0], info);
    let keys: Vec<&str> = info.as_object().unwrap().keys().map(String::as_str).collect();
    for key in [
        "aliases",
        "architecture",
        "cached",
        "created_at",
        "expires_at",
        "filename",
        "fingerprint",
        "last_used_at",
        "properties",
        "public",
        "size",
        "type",
        "uploaded_at",
        "auto_update",
        "profiles",
    ] {
        assert!(keys.contains(&key), "{key}");
    }
}

#[test]
fn explain_says_why_a_near_miss_is_not_listed() {
    let shell = Shell::new();
    shell.ok(&["import", "one.tar", "--alias", "web"]);
    let output = shell.run(&["list", "--explain", "os=debian", "--format", "csv"]);
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "");
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        "web: `os` is `Debian`, which is written differently from `debian`\n"
    );
}

#[test]
fn exit_statuses_are_a_contract() {
    let shell = Shell::new();
    shell.ok(&["import", "one.tar", "--alias", "web"]);
    shell.ok(&["import", "one.tar"]);
    shell.fails(&["import", "two.tar", "--alias", "web"], 5, "AlreadyExists");
    let near = shell.fails(&["info", "wep"], 4, "NotFound");
    assert!(near.contains("hint: similar names: web"), "{near}");
    shell.fails(&["delete", "web", "nothing"], 4, "NotFound");
    assert!(shell.ok(&["list", "-c", "l", "--format", "csv"]).contains("web"), "a slip in one name deletes nothing");
    shell.fails(&["import", "two.tar", "--fingerprint", &"0".repeat(64)], 1, "Mismatch");
    shell.fails(&["import", "http://images.example/x"], 1, "InvalidInput");
    shell.fails(&["info", "nowhere:debian"], 4, "NotFound");
    shell.fails(&["import", "one.tar", "--auto-update"], 1, "InvalidInput");
    shell.fails(&["import", "missing.tar"], 4, "NotFound");
    assert_eq!(shell.run(&["import"]).status.code(), Some(2));
    let blob = blob_of(&shell.scratch.join("store"), &fingerprint("one"));
    fs::write(&blob, b"x").unwrap();
    let output = shell.run(&["check"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8(output.stdout).unwrap().contains(&fingerprint("one").to_string()));
    assert_eq!(shell.run(&["check", "--repair"]).status.code(), Some(3));
    shell.ok(&["check"]);
}

#[test]
fn properties_and_flags_are_set_got_and_edited() {
    let shell = Shell::new();
    shell.ok(&["import", "one.tar", "--alias", "a", "--property", "x=1=2"]);
    assert_eq!(shell.ok(&["get-property", "a", "x"]), "1=2\n");
    shell.ok(&["set-property", "a", "x", "no"]);
    assert_eq!(shell.ok(&["get-property", "a", "x"]), "no\n");
    shell.ok(&["unset-property", "a", "x"]);
    shell.fails(&["get-property", "a", "x"], 4, "NotFound");
    shell.ok(&["set", "a", "public=true", "expires_at=2030-01-01"]);
    let shown = shell.ok(&["show", "a"]);
    assert!(shown.contains("public: true") && shown.contains("expires_at: \"2030-01-01T00:00:00Z\""), "{shown}");
    shell.fails(&["set", "a", "architecture=arm64"], 1, "InvalidInput");
    let mut edit = shell.command(&["edit", "a"]);
    let mut child = edit.stdin(Stdio::piped()).spawn().unwrap();
    let text = shown
        .replace("Debian", "no")
        .replace("public: true", "public: false")
        .replace("2030-01-01T00:00:00Z", "0001-01-01T00:00:00Z");
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
    let shown = shell.ok(&["show", "a"]);
    assert!(
        shown.contains("os: \"no\"")
            && shown.contains("public: false")
            && shown.contains("expires_at: \"0001-01-01T00:00:00Z\""),
        "{shown}"
    );
    assert_eq!(shell.ok(&["show", "a"]), shown);
}

#[test]
fn aliases_go_through_their_own_verbs() {
    let shell = Shell::new();
    shell.ok(&["import", "one.tar"]);
    shell.ok(&["import", "two.tar", "--alias", "two"]);
    let one = fingerprint("one").short();
    shell.ok(&["alias", "create", "web", &one, "--description", "what for"]);
    shell.fails(&["alias", "create", "web", "two"], 5, "AlreadyExists");
    assert_eq!(
        shell.ok(&["alias", "list", "--format", "csv"]),
        format!("two,{},CONTAINER,\nweb,{one},CONTAINER,what for\n", fingerprint("two").short())
    );
    shell.ok(&["alias", "rename", "web", "local:site"]);
    shell.ok(&["alias", "create", "site", "two", "--reuse"]);
    assert_eq!(shell.ok(&["list", "site", "-c", "F", "--format", "csv"]), format!("{}\n", fingerprint("two")));
    shell.ok(&["alias", "delete", "site"]);
    shell.fails(&["alias", "delete", "site"], 4, "NotFound");
}

#[test]
fn export_returns_the_imported_bytes_to_files_and_streams() {
    let shell = Shell::new();
    shell.ok(&["import", "one.tar", "--alias", "a"]);
    fs::create_dir(shell.scratch.join("out")).unwrap();
    assert_eq!(shell.ok(&["export", "a", "out"]), "out/one.tar\n");
    assert_eq!(fs::read(shell.scratch.join("out/one.tar")).unwrap(), unified("one"));
    shell.fails(&["export", "a", "out"], 5, "AlreadyExists");
    assert_eq!(shell.run(&["export", "a", "-"]).stdout, unified("one"));
    shell.ok(&["import", "meta.tar", "root.tar", "--alias", "s"]);
    shell.fails(&["export", "s", "-"], 1, "InvalidInput");
    assert_eq!(shell.ok(&["export", "s", "out"]), "out/meta-root.tar\nout/root.tar\n");
    let mut stdin = shell.command(&["import", "-", "--alias", "piped"]);
    let mut child = stdin.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(&unified("two")).unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(shell.ok(&["export", "piped", "out"]), format!("out/{}.tar\n", fingerprint("two")));
}

#[test]
fn publish_and_import_of_a_directory_pack_it() {
    let shell = Shell::new();
    let tree = shell.scratch.join("tree");
    fs::create_dir_all(tree.join("rootfs/etc")).unwrap();
    fs::create_dir_all(tree.join("templates")).unwrap();
    fs::write(tree.join("rootfs/etc/hostname"), b"x").unwrap();
    fs::write(tree.join("templates/hosts.tpl"), b"{{ x }}").unwrap();
    fs::write(tree.join("metadata.yaml"), metadata("tree", "")).unwrap();
    let first = shell.ok(&["publish", "tree", "--alias", "mine"]);
    shell.ok(&["delete", "mine"]);
    assert_eq!(shell.ok(&["import", "tree"]), first, "the same tree gives the same bytes");
    shell.ok(&["check"]);
    shell.ok(&["publish", "tree/rootfs", "--metadata", "tree/metadata.yaml", "--compression", "gzip", "--alias", "r"]);
    shell.fails(&["publish", "tree/rootfs", "--alias", "n"], 4, "NotFound");
}

#[test]
fn prune_reports_removed_images_and_use_keeps_them() {
    let shell = Shell::new();
    shell.ok(&["import", "one.tar"]);
    {
        let store = Store::open(shell.scratch.join("store")).unwrap();
        store
            .import(stream(unified("old")), &ImportOptions::new().cached(true).expires_at(5), &Monitor::none())
            .unwrap();
    }
    shell.ok(&["use", &fingerprint("old").short()]);
    assert!(shell.ok(&["info", &fingerprint("old").short()]).contains("Last used: 20"));
    let dry = shell.ok(&["prune", "--dry-run", "--format", "csv"]);
    assert_eq!(dry, format!("{},,3.50KiB,expired\n", fingerprint("old").short()));
    assert_eq!(shell.ok(&["prune", "--format", "csv"]), dry);
    assert_eq!(shell.ok(&["prune", "--format", "csv"]), "");
    assert_eq!(shell.run(&["prune", "--unused-for", "10"]).status.code(), Some(2));
}

#[test]
fn untrusted_text_is_escaped() {
    let shell = Shell::new();
    let text = metadata("x", "  description: \"a\\e[31mb\"\n");
    fs::write(shell.scratch.join("x.tar"), unified_with(&text, b"")).unwrap();
    shell.ok(&["import", "x.tar", "--alias", "x"]);
    for words in [&["list"][..], &["info", "x"], &["list", "--explain", "nothing"]] {
        let output = shell.run(words);
        assert!(!output.stdout.contains(&0x1b) && !output.stderr.contains(&0x1b), "{words:?}");
    }
}

#[test]
fn damaged_catalog_is_repaired_from_the_command_line() {
    let shell = Shell::new();
    shell.ok(&["import", "one.tar", "--alias", "a"]);
    fs::write(shell.scratch.join("store/catalog.sqlite"), b"").unwrap();
    shell.fails(&["list"], 1, "Malformed");
    assert_eq!(shell.run(&["check"]).status.code(), Some(3));
    assert_eq!(shell.run(&["check", "--repair"]).status.code(), Some(3));
    assert_eq!(shell.ok(&["list", "-c", "l", "--format", "csv"]), "a\n");
}

#[test]
fn read_only_store_is_readable_and_writes_fail_at_once() {
    if !rustix::process::geteuid().is_root() {
        return; // Another user is needed, and only root becomes one.
    }
    let shell = Shell::new();
    shell.ok(&["import", "one.tar", "--alias", "a"]);
    let store = shell.scratch.join("store");
    // The binary may stand where another user does not get to.
    let binary = shell.scratch.join("lxd-image");
    fs::copy(env!("CARGO_BIN_EXE_lxd-image"), &binary).unwrap();
    let chown = Command::new("chown").args(["-R", "65534:65534"]).arg(&store).status().unwrap();
    assert!(chown.success());
    let chmod = Command::new("chmod").args(["-R", "a-w"]).arg(&store).status().unwrap();
    assert!(chmod.success());
    let run = |words: &[&str]| {
        Command::new(&binary).args(words).env("LXD_IMAGE_STORE", &store).uid(65534).gid(65534).output().unwrap()
    };
    let listed = run(&["list", "-c", "l", "--format", "csv"]);
    assert_eq!(String::from_utf8_lossy(&listed.stdout), "a\n", "{}", String::from_utf8_lossy(&listed.stderr));
    assert_eq!(run(&["export", "a", "-"]).stdout, unified("one"));
    for words in [&["delete", "a"][..], &["use", "a"], &["alias", "delete", "a"]] {
        let output = run(words);
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(text.starts_with("error[Io]"), "{words:?}: {text}");
    }
    shell.ok(&["check"]);
}

#[test]
fn check_works_on_a_read_only_file_system() {
    let shell = Shell::new();
    let Some(mounted) = super::Mounted::new(&shell.scratch, "8m") else { return };
    let store = mounted.path().join("store");
    let run = |words: &[&str]| shell.command(words).env("LXD_IMAGE_STORE", &store).output().unwrap();
    assert!(run(&["import", "one.tar", "--alias", "a"]).status.success());
    let remounted = Command::new("mount").args(["-o", "remount,ro"]).arg(mounted.path()).status().unwrap();
    if !remounted.success() {
        return;
    }
    let output = run(&["check"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn check_reports_as_repaired_only_what_was() {
    let shell = Shell::new();
    shell.ok(&["import", "one.tar"]);
    let blob = blob_of(&shell.scratch.join("store"), &fingerprint("one"));
    fs::rename(&blob, shell.scratch.join("kept")).unwrap();
    // Neither a file nor nothing: it can't be read, and that does not lie in its bytes.
    fs::create_dir(&blob).unwrap();
    fs::write(shell.scratch.join("store/blobs/stray"), "x").unwrap();
    let text = shell.fails(&["check", "--repair", "-q"], 3, "Mismatch");
    assert!(text.contains("1 thing was put right in the store, 1 thing was left"), "{text}");
    fs::remove_dir(&blob).unwrap();
    fs::rename(shell.scratch.join("kept"), &blob).unwrap();
    shell.ok(&["check"]);
}

/// The file that holds an image, by its name.
fn blob_of(store: &Path, fingerprint: &Fingerprint) -> std::path::PathBuf {
    let mut names: Vec<_> = fs::read_dir(store.join("blobs")).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.retain(|path| {
        let name = path.file_name().unwrap().to_string_lossy();
        name.starts_with(&fingerprint.to_string()) && !name.ends_with(".json") && !name.ends_with(".rootfs")
    });
    names.pop().unwrap()
}

#[test]
fn store_is_moved_to_the_place_of_a_description_and_back() {
    let shell = Shell::new();
    shell.ok(&["import", "one.tar", "--alias", "debian/12"]);
    fs::write(shell.scratch.join("there.toml"), "catalog = \"there/rows.sqlite\"\nblobs = \"there\"\n").unwrap();
    shell.ok(&["store", "migrate", "store", "there.toml"]);
    shell.ok(&["store", "migrate", "there.toml", "back"]);
    let listed = |store: &str| shell.ok(&["--store", store, "list", "--format", "json"]);
    assert_eq!(listed("back"), listed("store"));
}

#[test]
fn store_info_names_the_engines_of_a_description() {
    let shell = Shell::new();
    fs::write(shell.scratch.join("there.toml"), "catalog = \"there/rows.sqlite\"\nblobs = \"there\"\n").unwrap();
    shell.ok(&["--store", "there.toml", "store", "init"]);
    let info = shell.ok(&["--store", "there.toml", "store", "info", "--format", "json"]);
    assert!(info.contains("\"catalog\"") && info.contains("there/rows.sqlite"), "{info}");
}

#[test]
fn store_info_does_not_create_a_store() {
    let shell = Shell::new();
    shell.fails(&["store", "info"], 4, "NotFound");
    assert!(!shell.scratch.join("store").exists());
}
