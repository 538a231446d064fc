//! Our server to clients whose certificate it trusts: the whole life of images with the real `lxc` and `incus`, and with us.
//! The server is the program, started as a user starts it; what it brings from others it brings by our own clients.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use super::remotes::Ours;
use super::serving::Serving;
use super::{Lxd, TempDir, available, run, small_root, try_run};

/// Two of our servers, which trust the same client, and that client.
struct Pair {
    place: TempDir,
    one: Serving,
    two: Serving,
    _other: TempDir,
    client: PathBuf,
}

impl Pair {
    /// With the client program of a peer, whose settings are in the variable.
    fn of(client: PathBuf, variable: &'static str) -> (Self, impl Fn(&[&str]) -> Output) {
        let (place, other) = (TempDir::new(), TempDir::new());
        for directory in ["trust", "conf"] {
            fs::create_dir(place.join(directory)).unwrap();
        }
        let make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:secp384r1 -nodes -days 10 -subj /CN=me \
                    -keyout conf/client.key -out conf/client.crt 2>/dev/null && cp conf/client.crt trust/me.crt";
        run(Command::new("sh").args(["-c", make]).current_dir(place.path()));
        let trust = place.join("trust").display().to_string();
        let one = Serving::start(&Ours(place.path()), &["--trust", &trust]);
        let two = Serving::start(&Ours(other.path()), &["--trust", &trust]);
        let (conf, work, program) = (place.join("conf"), place.path().to_owned(), client.clone());
        let ask = move |words: &[&str]| {
            let mut command = Command::new(&program);
            command.args(words).env(variable, &conf).env("HOME", &work).env("LXD_DIR", work.join("none"));
            try_run(command.current_dir(&work).stdin(Stdio::null()))
        };
        (Self { place, one, two, _other: other, client }, ask)
    }

    fn work(&self) -> &Path {
        self.place.path()
    }
}

/// A unified image, another one, and a split one in a directory; their fingerprints.
fn packed(work: &Path) -> [String; 3] {
    let ours = Ours(work);
    small_root(&work.join("root"));
    let about = ["--architecture", "amd64", "--property", "os=Box"];
    let pack = |words: &[&str]| ours.ok(&[&["pack"], words, about.as_slice()].concat()).trim().to_owned();
    [
        pack(&["root", "one.tar.xz", "--property", "description=one"]),
        pack(&["root", "other.tar.gz", "--compression", "gzip", "--property", "description=other"]),
        pack(&["root", "two", "--split", "--rootfs-format", "squashfs", "--property", "description=two"]),
    ]
}

/// All that one does with images, by a client that has no idea that this is neither LXD nor Incus.
fn whole_life(client: PathBuf, variable: &'static str) {
    let (pair, ask) = Pair::of(client, variable);
    let [one, other, two] = packed(pair.work());
    let ok = |words: &[&str]| {
        let Output { status, stdout, stderr } = ask(words);
        let said = String::from_utf8_lossy(&stderr).into_owned();
        assert!(status.success(), "{} {words:?}: {said}", pair.client.display());
        String::from_utf8(stdout).unwrap().trim().to_owned()
    };
    let fails = |words: &[&str], why: &str| {
        let Output { status, stderr, .. } = ask(words);
        let said = String::from_utf8_lossy(&stderr).into_owned();
        assert!(!status.success() && said.contains(why), "{words:?}: {said}");
    };
    let listed = |remote: &str, columns: &str| ok(&["image", "list", remote, "--format", "csv", "-c", columns]);
    ok(&["remote", "add", "ours", &pair.one.url(), "--accept-certificate"]);
    ok(&["remote", "add", "there", &pair.two.url(), "--accept-certificate"]);

    // Import.
    let told = ok(&["image", "import", "one.tar.xz", "ours:", "--alias", "box/1", "--public", "variant=small"]);
    assert!(told.contains(&one), "{told}");
    ok(&["image", "import", "two", "two.root", "ours:", "--alias", "box/2"]);
    fails(&["image", "import", "one.tar.xz", "ours:"], "already exists");
    let told = listed("ours:", "lFp");
    assert!(told.contains(&format!("box/1,{one},yes")) && told.contains(&format!("box/2,{two},no")), "{told}");
    assert_eq!(ok(&["image", "get-property", "ours:box/1", "variant"]), "small");

    // Edit.
    ok(&["image", "set-property", "ours:box/1", "variant", "large"]);
    assert_eq!(ok(&["image", "get-property", "ours:box/1", "variant"]), "large");
    ok(&["image", "unset-property", "ours:box/1", "variant"]);
    let shown = ok(&["image", "show", "ours:box/2"]);
    assert!(shown.contains("public: false") && shown.contains("os: Box"), "{shown}");
    let edited = shown.replace("public: false", "public: true").replace("os: Box", "os: Crate");
    let (conf, work) = (pair.place.join("conf"), pair.work());
    let mut edit = Command::new(&pair.client);
    edit.args(["image", "edit", "ours:box/2"]).env(variable, conf).env("HOME", work).current_dir(work);
    let mut edit = edit.stdin(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut edit.stdin.take().unwrap(), edited.as_bytes()).unwrap();
    assert!(edit.wait().unwrap().success());
    let shown = ok(&["image", "show", "ours:box/2"]);
    assert!(shown.contains("public: true") && shown.contains("os: Crate"), "{shown}");

    // Aliases.
    ok(&["image", "alias", "create", "ours:more", &one]);
    fails(&["image", "alias", "create", "ours:more", &one], "");
    ok(&["image", "alias", "rename", "ours:more", "other/name"]);
    fails(&["image", "alias", "rename", "ours:other/name", "box/2"], "");
    let told = ok(&["image", "alias", "list", "ours:", "--format", "csv"]);
    assert!(told.contains("other/name") && !told.contains("more"), "{told}");
    ok(&["image", "alias", "delete", "ours:other/name"]);
    fails(&["image", "alias", "delete", "ours:other/name"], "");

    // Export.
    fs::create_dir(pair.place.join("out")).unwrap();
    ok(&["image", "export", "ours:box/1", "out/one"]);
    let exported = fs::read_dir(pair.place.join("out")).unwrap().next().unwrap().unwrap().path();
    assert!(fs::read(exported).unwrap() == fs::read(pair.place.join("one.tar.xz")).unwrap());

    // Copies from one of our servers to the other: a public image by its alias, a private one by a secret; pulled,
    // pushed, and by way of the client.
    ok(&["image", "import", "other.tar.gz", "ours:", "--alias", "private"]);
    for mode in ["pull", "push", "relay"] {
        ok(&["image", "copy", "ours:private", "there:", "--alias", mode, "--mode", mode]);
        let told = listed("there:", "lF");
        assert!(told.contains(&format!("{mode},{other}")), "{mode}: {told}");
        ok(&["image", "delete", &format!("there:{mode}")]);
    }
    ok(&["image", "copy", "ours:box/1", "there:", "--copy-aliases", "--public"]);
    ok(&["image", "copy", &format!("ours:{two}"), "there:", "--alias", "box/2", "--mode", "push"]);
    let told = listed("there:", "lFp");
    assert!(told.contains(&format!("box/1,{one},yes")) && told.contains(&format!("box/2,{two}")), "{told}");

    // Refresh.
    ok(&["image", "delete", "there:box/1"]);
    ok(&["image", "copy", "ours:box/1", "there:", "--alias", "follows", "--auto-update"]);
    ok(&["image", "refresh", "there:follows"]);
    assert!(listed("there:", "lF").contains(&format!("follows,{one}")));
    ok(&["image", "alias", "delete", "ours:box/1"]);
    fs::write(pair.place.join("root/root/file"), "newer").unwrap();
    let about = ["--architecture", "amd64", "--property", "os=Box"];
    let newer = Ours(pair.work()).ok(&[&["pack", "root", "newer.tar.xz"], about.as_slice()].concat());
    ok(&["image", "import", "newer.tar.xz", "ours:", "--alias", "box/1", "--public"]);
    ok(&["image", "refresh", "there:follows"]);
    assert!(listed("there:", "lF").contains(&format!("follows,{}", newer.trim())), "{}", listed("there:", "lF"));

    // Delete.
    ok(&["image", "delete", "ours:box/1", "ours:box/2", "ours:private", &format!("ours:{one}")]);
    assert_eq!(listed("ours:", "F"), "");
    fails(&["image", "delete", &format!("ours:{one}")], "");
    Ours(pair.work()).ok(&["check"]);
}

#[test]
fn lxc_lives_the_whole_life_of_images_on_our_server() {
    if available(&["lxc", "openssl"]) {
        whole_life(PathBuf::from("lxc"), "LXD_CONF");
    }
}

#[test]
fn incus_lives_the_whole_life_of_images_on_our_server() {
    let Some(incus) = std::env::var_os("INCUS").map(PathBuf::from).filter(|path| path.is_file()) else {
        assert!(std::env::var_os("LXD_IMAGE_REQUIRE_PEERS").is_none_or(|value| value != "1"), "INCUS names no program");
        return;
    };
    if available(&["openssl"]) {
        whole_life(incus, "INCUS_CONF");
    }
}

#[test]
fn images_go_between_a_real_lxd_and_us_whoever_of_them_moves_them() {
    let Some(lxd) = Lxd::start() else { return };
    let [one, other, _] = packed(lxd.work());
    let ours = Ours(lxd.work());
    let trust = lxd.work().join("trusted");
    fs::create_dir(&trust).unwrap();
    // The client's certificate is made when it first adds a remote.
    let anybody = Serving::start(&ours, &[]);
    let _ = lxd.try_lxc(&["remote", "add", "anybody", &anybody.url(), "--accept-certificate"]);
    drop(anybody);
    let certificate = lxd.client_certificate();
    fs::copy(&certificate, trust.join("client.crt")).unwrap();
    let serving = Serving::start(&ours, &["--trust", &trust.display().to_string()]);
    lxd.lxc(&["remote", "add", "ours", &serving.url(), "--accept-certificate"]);
    lxd.lxc(&["image", "import", "one.tar.xz", "--alias", "one"]);
    lxd.lxc(&["image", "copy", "local:one", "ours:", "--alias", "from-lxd", "--mode", "push"]);
    assert!(ours.ok(&["info", "from-lxd"]).contains(&one));
    ours.ok(&["import", "other.tar.gz", "--alias", "private"]);
    lxd.lxc(&["image", "copy", "ours:private", "local:", "--alias", "from-us"]);
    assert_eq!(lxd.fingerprint("from-us"), other);
    lxd.lxc(&["image", "delete", "from-us"]);
    lxd.lxc(&["image", "copy", "ours:private", "local:", "--alias", "relayed", "--mode", "relay"]);
    assert_eq!(lxd.fingerprint("relayed"), other);
}

#[test]
fn our_own_client_lives_the_whole_life_of_images_on_our_server() {
    let (place, other) = (TempDir::new(), TempDir::new());
    let (here, there) = (Ours(place.path()), Ours(other.path()));
    let [one, unified, two] = packed(place.path());
    // The client's certificate is made when it first needs one.
    let stranger = Serving::start(&there, &[]);
    here.ok(&["remote", "add", "first", &stranger.url(), "--accept-certificate"]);
    drop(stranger);
    let certificate = place.join("settings/client.crt").display().to_string();
    let serving = Serving::start(&there, &["--trust", &certificate]);
    here.ok(&["remote", "add", "server", &serving.url(), "--accept-certificate"]);
    for words in [
        &["import", "one.tar.xz", "--alias", "one"][..],
        &["import", "two", "two.root", "--alias", "two"],
        &["import", "other.tar.gz", "--alias", "other"],
    ] {
        here.ok(words);
    }
    for (name, fingerprint) in [("one", &one), ("two", &two), ("other", &unified)] {
        assert_eq!(here.ok(&["copy", name, "server:", "--copy-aliases"]).trim(), fingerprint);
        assert!(there.ok(&["info", name]).contains(fingerprint));
    }
    here.ok(&["copy", "one", "server:"]);
    here.ok(&["delete", &two]);
    assert_eq!(here.ok(&["copy", "server:two", "local:"]).trim(), two);
    there.ok(&["check"]);
}

#[test]
fn server_with_an_upstream_serves_what_that_has_also_when_it_is_gone() {
    let (above, below, client) = (TempDir::new(), TempDir::new(), TempDir::new());
    let [one, hidden, two] = packed(above.path());
    let upstream = Ours(above.path());
    upstream.ok(&["import", "one.tar.xz", "--alias", "one", "--public"]);
    upstream.ok(&["import", "two", "two.root", "--alias", "two", "--public"]);
    upstream.ok(&["import", "other.tar.gz", "--alias", "hidden"]);
    let serving = Serving::start(&upstream, &[]);
    let cache = Ours(below.path());
    cache.ok(&["remote", "add", "above", &serving.url(), "--public", "--accept-certificate"]);
    let through = Serving::start(&cache, &["--upstream", "above:"]);
    let ours = Ours(client.path());
    ours.ok(&["remote", "add", "cache", &through.url(), "--public", "--accept-certificate"]);
    assert_eq!(ours.ok(&["copy", "cache:one", "local:"]).trim(), one);
    assert_eq!(ours.ok(&["copy", &format!("cache:{}", &two[..12]), "local:"]).trim(), two);
    ours.fails(&["copy", "cache:hidden", "local:"], 4, "NotFound");
    ours.fails(&["copy", &format!("cache:{hidden}"), "local:"], 4, "NotFound");
    let told = cache.ok(&["list", "--format", "{{ fingerprint }} {{ cached }} {{ public }}"]);
    for fingerprint in [&one, &two] {
        assert!(told.to_lowercase().contains(&format!("{fingerprint} true true")), "{told}");
    }
    drop(serving);
    ours.ok(&["delete", &one]);
    assert_eq!(ours.ok(&["copy", "cache:one", "local:"]).trim(), one);
    drop(through);
    // Also one that starts when the upstream is gone.
    let through = Serving::start(&cache, &["--upstream", "above:"]);
    ours.ok(&["delete", &one]);
    ours.ok(&["remote", "set-url", "cache", &through.url()]);
    assert_eq!(ours.ok(&["copy", "cache:one", "local:"]).trim(), one);
    cache.ok(&["check"]);
}
