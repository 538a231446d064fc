//! A real LXD as a remote, from the command line: what it gives is byte for byte what it has, and so is what it is sent.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::{Lxd, run, small_root, try_run};

/// The command line with a store and settings of its own.
pub(crate) struct Ours<'a>(pub(crate) &'a Path);

impl Ours<'_> {
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lxd-image"));
        command.args(words).current_dir(self.0);
        command.env("LXD_IMAGE_STORE", self.0.join("store")).env("LXD_IMAGE_CONFIG", self.0.join("settings"));
        command.env_remove("SSL_CERT_FILE");
        command
    }

    #[track_caller]
    pub(crate) fn ok(&self, words: &[&str]) -> String {
        run(&mut self.command(words))
    }

    #[track_caller]
    pub(super) fn fails(&self, words: &[&str], status: i32, kind: &str) -> String {
        let Output { status: found, stderr, .. } = try_run(&mut self.command(words));
        let text = String::from_utf8(stderr).unwrap();
        assert_eq!(found.code(), Some(status), "{words:?}: {text}");
        assert!(text.contains(&format!("error[{kind}]: ")), "{words:?}: {text}");
        text
    }

    /// The certificate that a server of these settings made for itself.
    #[track_caller]
    pub(super) fn server_certificate(&self) -> PathBuf {
        let found =
            run(Command::new("find").arg(self.0.join("settings")).args(["-path", "*server*", "-name", "*.crt"]));
        PathBuf::from(found.lines().next().expect("the server has a certificate"))
    }

    /// The two remotes of one LXD: `there` for strangers, `mine` for those it trusts.
    pub(super) fn add(&self, lxd: &Lxd) {
        let url = address(lxd);
        self.ok(&["remote", "add", "there", &url, "--public", "--accept-certificate"]);
        self.ok(&["remote", "add", "mine", &url, "--accept-certificate", "--password", "peers"]);
    }
}

/// Where an LXD listens.
pub(super) fn address(lxd: &Lxd) -> String {
    format!("https://{}", lxd.lxc(&["config", "get", "core.https_address"]))
}

/// A unified image and a split one in the LXD's working directory: `one.tar.xz`, `two` and `two.root`.
pub(super) fn packed(lxd: &Lxd) -> (String, String) {
    let (work, ours) = (lxd.work(), Ours(lxd.work()));
    small_root(&work.join("root"));
    let words = ["pack", "root", "one.tar.xz", "--architecture", "amd64", "--property", "os=One"];
    let one = ours.ok(&words);
    let words = ["pack", "root", "two", "--architecture", "amd64", "--split", "--rootfs-format", "squashfs"];
    let two = ours.ok(&words);
    (one.trim().to_owned(), two.trim().to_owned())
}

#[track_caller]
pub(super) fn same(work: &Path, one: &str, other: &str) {
    assert!(fs::read(work.join(one)).unwrap() == fs::read(work.join(other)).unwrap(), "{one} is not {other}");
}

/// The name of the exported file that ends so.
#[track_caller]
fn exported(ours: &Ours<'_>, reference: &str, target: &str) -> Vec<String> {
    ours.ok(&["export", reference, target]).lines().map(str::to_owned).collect()
}

#[test]
fn images_of_a_real_lxd_are_listed_and_copied_by_alias_fingerprint_and_prefix_byte_for_byte() {
    let Some(lxd) = Lxd::start() else { return };
    let (one, two) = packed(&lxd);
    lxd.lxc(&["image", "import", "one.tar.xz", "--alias", "box/one", "--public"]);
    lxd.lxc(&["image", "import", "two", "two.root", "--alias", "box/two", "--public"]);
    let ours = Ours(lxd.work());
    ours.add(&lxd);
    let listed = ours.ok(&["list", "there:", "--format", "{{ fingerprint }} {{ aliases[0].name }}"]);
    assert_eq!(listed, format!("{one} box/one\n{two} box/two"));
    assert!(ours.ok(&["list", "there:", "two", "-c", "l", "--format", "csv"]).ends_with("box/two"));
    let info = ours.ok(&["info", "there:box/one"]);
    assert!(info.contains(&one) && info.contains("os: One"), "{info}");
    assert!(ours.ok(&["show", "there:box/one"]).contains("os: One"));
    for (number, (alias, fingerprint)) in [("box/one", &one), ("box/two", &two)].into_iter().enumerate() {
        for (way, reference) in [alias, fingerprint, &fingerprint[..12]].into_iter().enumerate() {
            let copied = ours.ok(&["copy", &format!("there:{reference}"), "local:"]);
            assert_eq!(copied, *fingerprint, "{reference}");
            let files = exported(&ours, fingerprint, &format!("out{number}{way}"));
            same(lxd.work(), &files[0], if number == 0 { "one.tar.xz" } else { "two" });
            if number == 1 {
                same(lxd.work(), &files[1], "two.root");
            }
            assert_eq!(ours.ok(&["copy", &format!("there:{reference}")]), *fingerprint, "the same again");
            ours.ok(&["delete", fingerprint]);
        }
    }
    let told = ours.fails(&["copy", "there:bx/one"], 4, "NotFound");
    assert!(told.contains("box/one"), "{told}");
    let told = ours.fails(&["info", "theer:box/one"], 4, "NotFound");
    assert!(told.contains("there"), "{told}");
    ours.fails(&["copy", "there:box/one", "--vm"], 4, "NotFound");
    ours.fails(&["copy", "there:box/one", "--all", "arm64"], 4, "NotFound");
    assert_eq!(ours.ok(&["list", "--format", "csv"]), "", "the store is as it was");
    ours.ok(&["copy", "there:box/one", "--all", "amd64", "--alias", "b"]);
    for name in ["b", "b/amd64"] {
        assert!(ours.ok(&["info", name]).contains(&one), "{name}");
    }
    assert_eq!(exported(&ours, "there:box/two", "direct").len(), 2);
    same(lxd.work(), "direct.root", "two.root");
}

#[test]
fn private_image_of_a_real_lxd_is_given_to_those_it_trusts_and_to_those_with_a_secret() {
    let Some(lxd) = Lxd::start() else { return };
    let (one, two) = packed(&lxd);
    lxd.lxc(&["image", "import", "one.tar.xz", "--alias", "one"]);
    lxd.lxc(&["image", "import", "two", "two.root", "--alias", "two"]);
    let ours = Ours(lxd.work());
    ours.add(&lxd);
    assert_eq!(ours.ok(&["list", "mine:", "--format", "{{ fingerprint }}"]), format!("{one}\n{two}"));
    assert_eq!(ours.ok(&["list", "there:", "--format", "{{ fingerprint }}"]), "");
    for (alias, fingerprint) in [("one", &one), ("two", &two)] {
        ours.fails(&["copy", &format!("there:{alias}")], 4, "NotFound");
        ours.fails(&["copy", &format!("there:{fingerprint}"), "--secret", "wrong"], 4, "NotFound");
        let token = lxd.lxc(&["query", "-X", "POST", "-d", "{}", &format!("/1.0/images/{fingerprint}/secret")]);
        let token: serde_json::Value = serde_json::from_str(&token).unwrap();
        let secret = token["metadata"]["secret"].as_str().unwrap();
        assert_eq!(ours.ok(&["copy", &format!("there:{fingerprint}"), "--secret", secret]), *fingerprint);
        ours.ok(&["delete", fingerprint]);
        assert_eq!(ours.ok(&["copy", &format!("mine:{alias}")]), *fingerprint);
    }
    ours.ok(&["check"]);
}

#[test]
fn what_is_sent_to_a_real_lxd_is_there_byte_for_byte_and_starts() {
    let Some(lxd) = Lxd::start() else { return };
    let (one, two) = packed(&lxd);
    let ours = Ours(lxd.work());
    ours.add(&lxd);
    ours.ok(&["import", "one.tar.xz", "--alias", "one", "--property", "note=a & b"]);
    ours.ok(&["import", "two", "two.root", "--alias", "two"]);
    ours.fails(&["copy", "one", "there:"], 1, "Remote");
    // LXD keeps no statements, and that is told.
    let key = lxd_image::trust::SecretKey::generate().unwrap().to_text(None).unwrap();
    std::fs::write(lxd.work().join("statement.key"), key).unwrap();
    ours.ok(&["statement", "sign", "one", "--key", "statement.key"]);
    let Output { status, stdout, stderr } =
        try_run(&mut ours.command(&["copy", "one", "mine:", "--alias", "up/one", "--public"]));
    let told = String::from_utf8_lossy(&stderr);
    assert!(status.success() && told.contains("the server keeps none"), "{told}");
    assert_eq!(String::from_utf8_lossy(&stdout).trim_end(), one);
    assert_eq!(ours.ok(&["copy", "two", "mine:", "--copy-aliases"]), two);
    let info = lxd.lxc(&["image", "info", "up/one"]);
    assert!(info.contains("Public: yes") && info.contains("note: a & b"), "{info}");
    assert_eq!((lxd.fingerprint("up/one"), lxd.fingerprint("two")), (one.clone(), two));
    lxd.lxc(&["image", "export", "up/one", "back"]);
    // The client adds an ending to the name, or not.
    let back = fs::read_dir(lxd.work()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let back: Vec<String> = back.filter(|name| name.starts_with("back")).collect();
    same(lxd.work(), &back[0], "one.tar.xz");
    lxd.lxc(&["image", "export", "two", "back2"]);
    same(lxd.work(), "back2.root", "two.root");
    ours.ok(&["copy", "one", "mine:"]);
    ours.fails(&["copy", "one", "mine:", "--alias", "two"], 5, "AlreadyExists");
    ours.ok(&["copy", "one", "mine:", "--alias", "two", "--reuse"]);
    assert_eq!(lxd.fingerprint("two"), one);
    ours.ok(&["copy", "there:up/one", "mine:", "--alias", "again"]);
    assert_eq!(lxd.fingerprint("again"), one);
    lxd.lxc(&["launch", "up/one", "c1"]);
    assert_eq!(lxd.lxc(&["exec", "c1", "--", "cat", "/root/file"]), "content");
    lxd.lxc(&["delete", "--force", "c1"]);
}

#[test]
fn real_lxd_that_nobody_vouches_for_is_added_only_by_those_who_accept_its_certificate() {
    let Some(lxd) = Lxd::start() else { return };
    let (ours, url) = (Ours(lxd.work()), address(&lxd));
    let told = ours.fails(&["remote", "add", "there", &url], 1, "Remote");
    assert!(told.contains("--accept-certificate"), "{told}");
    assert!(!ours.ok(&["remote", "list"]).contains("there"));
    let certificate = lxd.dir().join("server.crt");
    ours.ok(&["remote", "add", "there", &url, "--certificate", certificate.to_str().unwrap()]);
    ours.ok(&["list", "there:"]);
    ours.fails(&["remote", "add", "there", &url], 5, "AlreadyExists");
    ours.ok(&["remote", "rename", "there", "here"]);
    ours.fails(&["remote", "remove", "there"], 4, "NotFound");
    // Another server at that address, as after an attack or a new installation.
    let Some(other) = Lxd::start() else { return };
    ours.ok(&["remote", "set-url", "here", &address(&other)]);
    let told = ours.fails(&["list", "here:"], 1, "Remote");
    assert!(told.contains("pinned"), "{told}");
    ours.ok(&["remote", "remove", "here"]);
}
