//! Our server as a simplestreams server, to the real clients and tools of that: they find, fetch and check what the store has,
//! under the names that it has there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use lxd_image::simplestreams::Tree;

use super::remotes::Ours;
use super::serving::Serving;
use super::{TempDir, run};
use lxd_image::Monitor;

/// A program that the environment names, or that is on PATH.
pub(super) fn program(variable: &str, name: &str) -> Option<PathBuf> {
    let named = std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_file());
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = named.or_else(|| std::env::split_paths(&path).map(|dir| dir.join(name)).find(|path| path.is_file()));
    if found.is_none() {
        let required = std::env::var_os("LXD_IMAGE_REQUIRE_PEERS").is_some_and(|value| value == "1");
        assert!(!required, "peers are required: no {name}; tests/peers/install.sh brings it");
        eprintln!("a test skips: no {name} here; tests/peers/install.sh brings it");
    }
    found
}

/// A store with a unified image, one with SquashFS, one with a tar, a second architecture and a private image; served. There are
/// statements about some of them.
struct Streams {
    dir: TempDir,
    serving: Serving,
    one: String,
    squashfs: String,
    tar: String,
    arm: String,
    private: String,
}

impl Streams {
    fn start() -> Self {
        let dir = TempDir::new();
        let ours = Ours(dir.path());
        fs::create_dir_all(dir.join("root/etc")).unwrap();
        fs::write(dir.join("root/etc/hostname"), "box\n").unwrap();
        let pack = |name: &str, architecture: &str, more: &[&str]| {
            let about = ["--architecture", architecture, "--property", "os=Box", "--property"];
            let release = format!("release={name}");
            ours.ok(&[&["pack", "root", name], about.as_slice(), &[&release], more].concat());
        };
        pack("one.tar.xz", "amd64", &[]);
        pack("two", "amd64", &["--split", "--rootfs-format", "squashfs"]);
        pack("three", "amd64", &["--split"]);
        pack("arm.tar.xz", "arm64", &[]);
        pack("private.tar.xz", "amd64", &[]);
        let import = |words: &[&str]| ours.ok(&[&["import"], words].concat());
        let one = import(&["one.tar.xz", "--public", "--alias", "box/1"]);
        let squashfs = import(&["two", "two.root", "--public", "--alias", "box/2"]);
        let tar = import(&["three", "three.root", "--public", "--alias", "box/3"]);
        let arm = import(&["arm.tar.xz", "--public", "--alias", "box/1/arm64"]);
        let private = import(&["private.tar.xz", "--alias", "hidden"]);
        // Items that clients of the peers don't know.
        let key = lxd_image::trust::SecretKey::generate().unwrap().to_text(None).unwrap();
        fs::write(dir.join("statement.key"), key).unwrap();
        for name in ["box/1", "box/2", "hidden"] {
            ours.ok(&["statement", "sign", name, "--key", "statement.key"]);
        }
        let serving = Serving::start(&ours, &[]);
        Self { dir, serving, one, squashfs, tar, arm, private }
    }

    fn public(&self) -> [&String; 4] {
        [&self.one, &self.squashfs, &self.tar, &self.arm]
    }

    fn authority(&self) -> PathBuf {
        Ours(self.dir.path()).server_certificate()
    }

    fn url(&self) -> String {
        self.serving.url()
    }
}

#[test]
fn clients_of_both_peers_list_resolve_and_fetch_by_simplestreams() {
    let streams = Streams::start();
    let clients = [(program("INCUS", "incus"), "INCUS_CONF"), (program("LXC", "lxc"), "LXD_CONF")];
    for (client, variable) in clients {
        let Some(client) = client else { continue };
        let home = streams.dir.join(variable);
        fs::create_dir(&home).unwrap();
        let words = |words: &[&str]| {
            let mut command = Command::new(&client);
            command.args(words).env("SSL_CERT_FILE", streams.authority()).env(variable, &home).env("HOME", &home);
            run(command.current_dir(&home))
        };
        words(&["remote", "add", "ours", &streams.url(), "--protocol", "simplestreams"]);
        let told = words(&["image", "list", "ours:", "--format", "csv", "-c", "lFat"]);
        for image in streams.public() {
            assert!(told.contains(image), "{}: {told}", client.display());
        }
        assert!(!told.contains(&streams.private) && !told.contains("hidden"), "{told}");
        for (alias, image) in [
            ("box/1", &streams.one),
            ("box/2", &streams.squashfs),
            ("box/3", &streams.tar),
            ("box/1/arm64", &streams.arm),
        ] {
            let info = words(&["image", "info", &format!("ours:{alias}")]);
            assert!(info.contains(image), "{}, {alias}: {info}", client.display());
        }
        // The clients check the digests of what they fetch.
        words(&["image", "export", "ours:box/1", "./one"]);
        words(&["image", "export", "ours:box/2", "./two"]);
        let begins = |name: &str| -> Vec<Vec<u8>> {
            let mut found: Vec<_> = fs::read_dir(&home).unwrap().map(|entry| entry.unwrap().path()).collect();
            found.retain(|path| path.file_name().unwrap().to_string_lossy().starts_with(name));
            found.sort();
            found.iter().map(|path| fs::read(path).unwrap()).collect()
        };
        assert_eq!(begins("one"), [fs::read(streams.dir.join("one.tar.xz")).unwrap()], "{}", client.display());
        let two = ["two", "two.root"].map(|name| fs::read(streams.dir.join(name)).unwrap());
        let mut found = begins("two");
        found.sort();
        let mut expected = two.to_vec();
        expected.sort();
        assert!(found == expected, "{}: {} files", client.display(), found.len());
    }
}

#[test]
fn tools_of_simplestreams_query_and_mirror_our_server() {
    let (query, mirror) = (program("SSTREAM_QUERY", "sstream-query"), program("SSTREAM_MIRROR", "sstream-mirror"));
    let (Some(query), Some(mirror)) = (query, mirror) else { return };
    let streams = Streams::start();
    let index = format!("{}/streams/v1/index.json", streams.url());
    // They use Python's requests, which has a list of authorities of its own.
    let tool = |program: &Path| {
        let mut command = Command::new(program);
        command.env("SSL_CERT_FILE", streams.authority()).env("REQUESTS_CA_BUNDLE", streams.authority());
        command
    };
    let format = "--output-format=%(ftype)s %(sha256)s %(item_url)s";
    let told = run(tool(&query).args(["--no-verify", format, &index, "ftype=lxd_combined.tar.gz"]));
    assert_eq!(told.lines().count(), 2, "{told}");
    assert!(told.contains(&streams.one) && told.contains(&streams.arm) && !told.contains(&streams.private), "{told}");
    let target = streams.dir.join("mirrored");
    run(tool(&mirror).args(["--no-verify", &index]).arg(&target));
    let tree = Tree::open(&target).unwrap();
    let mut found: Vec<_> =
        tree.listing().unwrap().images().iter().map(|image| image.fingerprint.to_string()).collect();
    found.sort();
    let mut expected: Vec<_> = streams.public().into_iter().cloned().collect();
    expected.sort();
    assert_eq!(found, expected);
    let report = tree.verify(&Default::default(), &Monitor::none()).unwrap();
    assert!(report.is_clean(), "{report:?}");
}

#[test]
fn our_own_client_copies_and_mirrors_our_server_by_simplestreams() {
    let streams = Streams::start();
    let there = streams.dir.join("there");
    fs::create_dir(&there).unwrap();
    let ours = Ours(&there);
    let certificate = streams.authority();
    let words = ["remote", "add", "ours", &streams.url(), "--protocol", "simplestreams"];
    ours.ok(&[&words[..], &["--certificate", certificate.to_str().unwrap()]].concat());
    assert_eq!(ours.ok(&["copy", "ours:box/2", "--alias", "two"]), streams.squashfs);
    ours.ok(&["mirror", "ours:", "local:"]);
    let listed = ours.ok(&["list", "--format", "{{ fingerprint }}"]);
    for image in streams.public() {
        assert!(listed.contains(image.as_str()), "{listed}");
    }
    assert!(!listed.contains(&streams.private), "{listed}");
    let info = ours.ok(&["info", "box/3"]);
    assert!(info.contains(&streams.tar), "the alias means here what it means there: {info}");
    ours.ok(&["check"]);
    // Nothing changed, so nothing is fetched again.
    assert!(!ours.ok(&["mirror", "ours:", "local:"]).contains("copied"));
}
