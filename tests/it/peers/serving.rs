//! Our server to clients that have no idea that it is not LXD: journeys 26 and 27 with the real `lxc`, `incus` and a real LXD.
//! The server is the program, started as a user starts it.

use std::fs;
use std::io::{BufRead, BufReader, Lines};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use super::remotes::Ours;
use super::{Lxd, TempDir, available, run, small_root, try_run};

/// `lxd-image serve` on loopback, which ends with the test.
pub(crate) struct Serving {
    child: Child,
    /// Kept, since the server says more than where it is.
    _output: Lines<BufReader<ChildStdout>>,
    /// `127.0.0.1:PORT`.
    pub(crate) address: String,
}

impl Serving {
    /// Serves the store of these settings.
    pub(crate) fn start(ours: &Ours<'_>, more: &[&str]) -> Self {
        let mut command = ours.command(&[&["serve", "--listen", "127.0.0.1:0"], more].concat());
        let log = fs::File::create(ours.0.join("serve.log")).unwrap();
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = lines.by_ref().find_map(|line| {
            let line = line.unwrap();
            let (_, rest) = line.split_once("https://")?;
            Some(rest.split([' ', '/']).next().unwrap().to_owned())
        });
        let log = || fs::read_to_string(ours.0.join("serve.log")).unwrap_or_default();
        Self {
            child,
            _output: lines,
            address: address.unwrap_or_else(|| panic!("the server does not start: {}", log())),
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("https://{}", self.address)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A public unified image, a public split one, a public VM and a private one: their fingerprints.
struct Images {
    unified: String,
    split: String,
    disk: String,
    private: String,
}

fn images(ours: &Ours<'_>) -> Images {
    let work = ours.0;
    small_root(&work.join("root"));
    let about = ["--architecture", "amd64", "--property", "os=Box", "--property", "release=1"];
    let pack = |words: &[&str]| ours.ok(&[&["pack"], words, about.as_slice()].concat());
    pack(&["root", "one.tar.xz", "--property", "description=one file"]);
    pack(&["root", "two", "--split", "--rootfs-format", "squashfs", "--property", "description=two files"]);
    run(Command::new("qemu-img").args(["create", "-q", "-f", "qcow2", "disk.qcow2", "1M"]).current_dir(work));
    pack(&["disk.qcow2", "disk", "--split"]);
    pack(&["root", "hidden.tar.gz", "--compression", "gzip", "--property", "description=hidden"]);
    Images {
        unified: ours.ok(&["import", "one.tar.xz", "--alias", "box/1", "--alias", "first", "--public"]),
        split: ours.ok(&["import", "two", "two.root", "--alias", "box/2", "--public"]),
        disk: ours.ok(&["import", "disk", "disk.root", "--alias", "box/vm", "--public"]),
        private: ours.ok(&["import", "hidden.tar.gz", "--alias", "hidden"]),
    }
}

/// All regular files below a directory whose name begins so, sorted by name.
fn exported(directory: &Path) -> Vec<PathBuf> {
    let mut found: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.sort();
    found
}

#[test]
fn journey_26_lxc_lists_filters_looks_at_copies_and_exports_public_images_and_sees_no_others() {
    let Some(lxd) = Lxd::start() else { return };
    let ours = Ours(lxd.work());
    let images = images(&ours);
    let serving = Serving::start(&ours, &[]);
    lxd.lxc(&["remote", "add", "ours", &serving.url(), "--public", "--accept-certificate"]);

    let told = lxd.lxc(&["image", "list", "ours:", "--format", "csv", "-c", "lFt"]);
    for (image, kind) in
        [(&images.unified, "CONTAINER"), (&images.split, "CONTAINER"), (&images.disk, "VIRTUAL-MACHINE")]
    {
        assert!(told.lines().any(|line| line.contains(image) && line.ends_with(kind)), "{image}: {told}");
    }
    assert!(!told.contains(&images.private) && !told.contains("hidden"), "{told}");
    for (words, shown) in [
        (vec!["os=Box"], vec![&images.unified, &images.split, &images.disk]),
        (vec!["type=virtual-machine"], vec![&images.disk]),
        (vec!["description=two files"], vec![&images.split]),
        (vec!["first"], vec![&images.unified]),
        (vec!["os=Nothing"], vec![]),
    ] {
        let all = [&["image", "list", "ours:", "--format", "csv", "-c", "F"], words.as_slice()].concat();
        let told = lxd.lxc(&all);
        assert_eq!(told.lines().count(), shown.len(), "{words:?}: {told}");
        assert!(shown.iter().all(|image| told.contains(*image)), "{words:?}: {told}");
    }
    let info = lxd.lxc(&["image", "info", "ours:box/1"]);
    assert!(info.contains(&images.unified) && info.contains("Public: yes"), "{info}");
    assert!(lxd.lxc(&["image", "show", "ours:box/2"]).contains("two files"));
    assert!(!lxd.try_lxc(&["image", "info", "ours:hidden"]).status.success());
    assert!(!lxd.try_lxc(&["image", "info", &format!("ours:{}", images.private)]).status.success());

    lxd.lxc(&["image", "copy", "ours:box/1", "local:", "--copy-aliases"]);
    lxd.lxc(&["image", "copy", &format!("ours:{}", &images.split[..12]), "local:", "--alias", "two"]);
    lxd.lxc(&["image", "copy", "ours:box/vm", "local:", "--vm", "--alias", "vm"]);
    assert_eq!(lxd.fingerprint("first"), images.unified);
    assert_eq!(lxd.fingerprint("two"), images.split);
    assert_eq!(lxd.fingerprint("vm"), images.disk);

    for (alias, files) in
        [("box/1", vec!["one.tar.xz"]), ("box/2", vec!["two", "two.root"]), ("box/vm", vec!["disk", "disk.root"])]
    {
        let out = lxd.work().join(alias.replace('/', "-"));
        fs::create_dir(&out).unwrap();
        lxd.lxc(&["image", "export", &format!("ours:{alias}"), &format!("{}/", out.display())]);
        let got: Vec<_> = exported(&out).iter().map(|path| fs::read(path).unwrap()).collect();
        assert_eq!(got.len(), files.len(), "{:?}", exported(&out));
        for file in files {
            assert!(got.contains(&fs::read(lxd.work().join(file)).unwrap()), "{alias}: {file}");
        }
    }
}

#[test]
fn container_starts_on_a_real_lxd_from_an_image_that_we_serve() {
    let Some(lxd) = Lxd::start() else { return };
    let ours = Ours(lxd.work());
    images(&ours);
    let serving = Serving::start(&ours, &[]);
    lxd.lxc(&["remote", "add", "ours", &serving.url(), "--public", "--accept-certificate"]);
    for alias in ["box/1", "box/2"] {
        let name = alias.replace('/', "-");
        lxd.lxc(&["launch", &format!("ours:{alias}"), &name]);
        assert_eq!(lxd.lxc(&["list", &name, "--format", "csv", "-c", "s"]), "RUNNING", "{alias}");
        assert_eq!(lxd.lxc(&["exec", &name, "--", "/bin/busybox", "cat", "/root/file"]), "content", "{alias}");
    }
}

#[test]
fn real_lxd_updates_by_itself_from_us() {
    let Some(lxd) = Lxd::start() else { return };
    let ours = Ours(lxd.work());
    let images = images(&ours);
    let serving = Serving::start(&ours, &[]);
    lxd.lxc(&["remote", "add", "ours", &serving.url(), "--public", "--accept-certificate"]);
    lxd.lxc(&["image", "copy", "ours:box/1", "local:", "--alias", "follows", "--auto-update"]);
    assert_eq!(lxd.fingerprint("follows"), images.unified);

    fs::write(lxd.work().join("root/root/file"), "newer").unwrap();
    ours.ok(&["pack", "root", "newer.tar.xz", "--architecture", "amd64", "--property", "os=Box"]);
    let newer = ours.ok(&["import", "newer.tar.xz", "--alias", "box/1", "--reuse", "--public"]);
    // What the daemon's own clock does every few hours; a change of the interval starts it at once.
    lxd.lxc(&["config", "set", "images.auto_update_interval", "1"]);
    lxd.lxc(&["image", "refresh", "follows"]);
    assert_eq!(lxd.fingerprint("follows"), newer);
}

#[test]
fn journey_27_a_real_lxd_imports_by_address_and_gets_nothing_that_is_private() {
    if !available(&["lxd", "lxc", "curl", "openssl"]) {
        return;
    }
    let place = TempDir::new();
    let ours = Ours(place.path());
    let images = images(&ours);
    let serving = Serving::start(&ours, &[]);
    let certificate = place.join("server.crt");
    let script = "openssl s_client -connect \"$1\" </dev/null 2>/dev/null | openssl x509";
    fs::write(&certificate, run(Command::new("sh").args(["-c", script, "-", &serving.address]))).unwrap();

    let head = |path: &str| {
        let mut command = Command::new("curl");
        command.args(["-sSI", "-H", "LXD-Server-Architectures: x86_64, i686", "--cacert"]).arg(&certificate);
        run(command.arg(format!("{}/{path}", serving.url()))).to_lowercase()
    };
    let told = head("box/1");
    for name in ["lxd-image-hash", "incus-image-hash"] {
        assert!(told.contains(&format!("{name}: {}", images.unified)), "{told}");
    }
    for path in ["hidden", "nothing"] {
        let told = head(path);
        assert!(told.contains(" 404") && !told.contains("image-hash"), "{path}: {told}");
    }
    let Some(lxd) = Lxd::start_trusting(Some(&certificate)) else { return };
    lxd.lxc(&["image", "import", &format!("{}/box/1", serving.url()), "--alias", "direct"]);
    assert_eq!(lxd.fingerprint("direct"), images.unified);
    assert!(!lxd.try_lxc(&["image", "import", &format!("{}/hidden", serving.url())]).status.success());
    // Another store of ours, which trusts nobody else either.
    let other = TempDir::new();
    let there = Ours(other.path());
    let words = ["import", &format!("{}/box/1", serving.url()), "--alias", "mine"];
    assert_eq!(run(there.command(&words).env("SSL_CERT_FILE", &certificate)), images.unified);
}

#[test]
fn incus_lists_looks_at_and_exports_what_we_serve() {
    let Some(incus) = std::env::var_os("INCUS").map(PathBuf::from).filter(|path| path.is_file()) else {
        assert!(std::env::var_os("LXD_IMAGE_REQUIRE_PEERS").is_none_or(|value| value != "1"), "INCUS names no program");
        return;
    };
    let place = TempDir::new();
    let ours = Ours(place.path());
    let images = images(&ours);
    let serving = Serving::start(&ours, &[]);
    let words = |words: &[&str]| {
        let mut command = Command::new(&incus);
        command.args(words).env("INCUS_CONF", place.join("conf")).env("HOME", place.path());
        try_run(command.current_dir(place.path()))
    };
    let ok = |line: &[&str]| {
        let Output { status, stdout, stderr } = words(line);
        assert!(status.success(), "{line:?}: {}", String::from_utf8_lossy(&stderr));
        String::from_utf8(stdout).unwrap()
    };
    ok(&["remote", "add", "ours", &serving.url(), "--public", "--accept-certificate"]);
    let told = ok(&["image", "list", "ours:", "--format", "csv", "-c", "lF"]);
    assert!(
        told.contains(&images.unified) && told.contains(&images.split) && !told.contains(&images.private),
        "{told}"
    );
    assert!(ok(&["image", "info", "ours:box/2"]).contains(&images.split));
    fs::create_dir(place.join("out")).unwrap();
    ok(&["image", "export", "ours:box/1", "out/"]);
    let files = exported(&place.join("out"));
    assert_eq!(fs::read(&files[0]).unwrap(), fs::read(place.join("one.tar.xz")).unwrap(), "{files:?}");
    assert!(!words(&["image", "info", "ours:hidden"]).status.success());
}

#[test]
fn our_own_client_lists_copies_and_mirrors_what_we_serve_by_every_protocol() {
    let place = TempDir::new();
    let ours = Ours(place.path());
    let images = images(&ours);
    let serving = Serving::start(&ours, &[]);
    let other = TempDir::new();
    let there = Ours(other.path());
    there.ok(&["remote", "add", "rest", &serving.url(), "--public", "--accept-certificate"]);
    assert_eq!(there.ok(&["copy", "rest:box/1", "local:"]), images.unified);
    assert_eq!(there.ok(&["copy", "rest:box/2", "local:"]), images.split);
    assert_eq!(there.ok(&["copy", "rest:box/vm", "local:", "--vm"]), images.disk);
    there.fails(&["copy", "rest:hidden", "local:"], 4, "NotFound");
    there.ok(&["check"]);
}
