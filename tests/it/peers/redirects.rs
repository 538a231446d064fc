//! What the real clients do when a download is sent elsewhere: to a web server before the objects of the store, with another
//! certificate than ours.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::journeys::Nginx;
use super::remotes::Ours;
use super::serving::Serving;
use super::serving_streams::program;
use super::{Lxd, TempDir, available, run, small_root};

/// A server that redirects to nginx, which has the objects of the same store.
struct Redirecting {
    dir: TempDir,
    serving: Serving,
    _nginx: Nginx,
    image: String,
}

impl Redirecting {
    fn start() -> Option<Self> {
        if !Path::new("/usr/sbin/nginx").exists() {
            available(&["nginx-of-tests/peers"]);
            return None;
        }
        let dir = TempDir::new();
        let ours = Ours(dir.path());
        small_root(&dir.join("root"));
        ours.ok(&["pack", "root", "one.tar.xz", "--architecture", "amd64", "--property", "os=Box"]);
        let image = ours.ok(&["import", "one.tar.xz", "--alias", "box", "--public"]);
        let blobs = dir.join("store/blobs");
        let nginx = Nginx::start(dir.path(), |_| format!("location /objects/ {{ alias {}/; }}", blobs.display()));
        let serving = Serving::start(&ours, &[&format!("--redirect=https://127.0.0.1:{}/objects", nginx.1)]);
        let both = [ours.server_certificate(), dir.join("web.crt")].map(|path| fs::read_to_string(path).unwrap());
        fs::write(dir.join("both.crt"), both.concat()).unwrap();
        // The first download is served by the node itself, which verifies the file on the way.
        let url = format!("{}/1.0/images/{image}/export", serving.url());
        run(Command::new("curl")
            .args(["-sSf", "-o"])
            .arg(dir.join("first"))
            .arg("--cacert")
            .arg(dir.join("both.crt"))
            .arg(url));
        Some(Self { dir, serving, _nginx: nginx, image })
    }

    /// What nginx gave to whom.
    fn given(&self) -> String {
        fs::read_to_string(self.dir.join("agents.log")).unwrap_or_default()
    }
}

/// Has a client export the image by a protocol. Returns whether the bytes came from nginx.
fn exports(variable: &str, name: &str, settings: &str, protocol: &str) -> Option<bool> {
    let (client, redirecting) = (program(variable, name)?, Redirecting::start()?);
    let home = redirecting.dir.join("home");
    fs::create_dir(&home).unwrap();
    let words = |words: &[&str]| {
        let mut command = Command::new(&client);
        command.args(words).env("SSL_CERT_FILE", redirecting.dir.join("both.crt")).env(settings, &home);
        run(command.env("HOME", &home).current_dir(&home))
    };
    let add = ["remote", "add", "ours", &redirecting.serving.url()];
    if protocol == "simplestreams" {
        words(&[&add[..], &["--protocol", protocol]].concat());
    } else {
        words(&[&add[..], &["--public", "--accept-certificate"]].concat());
    }
    words(&["image", "export", "ours:box", "./one"]);
    let mut files = fs::read_dir(&home).unwrap().map(|entry| entry.unwrap().path());
    let exported = files.find(|path| path.file_name().unwrap().to_string_lossy().starts_with("one")).unwrap();
    assert!(
        fs::read(exported).unwrap() == fs::read(redirecting.dir.join("one.tar.xz")).unwrap(),
        "{name} has other bytes"
    );
    Some(redirecting.given().contains("GET 200 /objects/"))
}

#[test]
fn lxc_follows_a_redirect_of_a_simplestreams_file() {
    assert_ne!(exports("LXC", "lxc", "LXD_CONF", "simplestreams"), Some(false));
}

#[test]
fn incus_follows_a_redirect_of_a_simplestreams_file() {
    assert_ne!(exports("INCUS", "incus", "INCUS_CONF", "simplestreams"), Some(false));
}

#[test]
fn lxc_gets_an_image_of_the_rest_api_from_the_node_itself() {
    assert_ne!(exports("LXC", "lxc", "LXD_CONF", "lxd"), Some(true));
}

#[test]
fn incus_gets_an_image_of_the_rest_api_from_the_node_itself() {
    assert_ne!(exports("INCUS", "incus", "INCUS_CONF", "incus"), Some(true));
}

#[test]
fn real_lxd_follows_a_redirect_of_a_simplestreams_file() {
    if !available(&["lxd", "busybox"]) {
        return;
    }
    let Some(redirecting) = Redirecting::start() else { return };
    let Some(lxd) = Lxd::start_trusting(Some(&redirecting.dir.join("both.crt"))) else { return };
    let url = redirecting.serving.url();
    let lxc = |words: &[&str]| {
        let mut command = lxd.client(words);
        run(command.env("SSL_CERT_FILE", redirecting.dir.join("both.crt")))
    };
    lxc(&["remote", "add", "ours", &url, "--protocol", "simplestreams"]);
    lxc(&["image", "copy", "ours:box", "local:", "--alias", "copied"]);
    assert_eq!(lxd.fingerprint("copied"), redirecting.image);
    let given = redirecting.given();
    let asked = fs::read_to_string(redirecting.dir.join("serve.log")).unwrap();
    assert!(
        given.lines().any(|line| line.starts_with("GET 200 /objects/") && line.contains("LXD 5.")),
        "{given} {asked}"
    );
}
