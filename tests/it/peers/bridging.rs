//! Real programs of one peer at what was published for the other: at a mirror, and at a server with such a tree as its upstream.
//! The bytes are transferred once and are on disk once.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::remotes::Ours;
use super::serving::Serving;
use super::serving_streams::program;
use super::{Lxd, TempDir, run};
use crate::newest::bridge::tree_of_one_peer;
use crate::remote::server::Server;
use crate::simplestreams::mirroring::serve;
use crate::store::Scratch;

/// A tree that names its files for one peer only, on a web server, and our settings with it as the remote `theirs`.
struct Origin {
    tree: PathBuf,
    fingerprint: String,
    rootfs: Vec<u8>,
    server: Server,
    place: TempDir,
    _scratch: Scratch,
}

impl Origin {
    fn start(metadata_name: &str) -> Self {
        let scratch = Scratch::new();
        let (tree, fingerprint, rootfs) = tree_of_one_peer(&scratch, metadata_name);
        let server = serve(&tree);
        let place = TempDir::new();
        let fingerprint = fingerprint.to_string();
        let origin = Self { tree, fingerprint, rootfs, server, place, _scratch: scratch };
        let words = ["remote", "add", "theirs", &origin.server.text("/"), "--protocol", "simplestreams"];
        origin.ours().ok(&[&words[..], &["--accept-certificate"]].concat());
        origin
    }

    fn ours(&self) -> Ours<'_> {
        Ours(self.place.path())
    }

    /// Fails unless each file of the image was asked for once.
    #[track_caller]
    fn assert_transferred_once(&self) {
        let asked = self.server.asked();
        let mut files: Vec<_> =
            asked.iter().filter(|asked| asked.path.starts_with("/images/")).map(|asked| &*asked.path).collect();
        files.sort_unstable();
        let unique: BTreeSet<_> = files.iter().copied().collect();
        assert_eq!((files.len(), unique.len()), (2, 2), "metadata and rootfs, each once: {files:?}");
    }

    /// Fails unless the files of the image are below a directory once. `more` is what else is there, in bytes at most.
    #[track_caller]
    fn assert_stored_once(&self, directory: &Path, more: u64) {
        let size = bytes_below(&self.tree.join("images"));
        let found = bytes_below(directory);
        assert!(found >= size && found < size + more, "{found} bytes for an image of {size}");
    }
}

/// The bytes of all files below a directory; several names of one file count once.
fn bytes_below(directory: &Path) -> u64 {
    let mut seen = BTreeSet::new();
    let mut pending = vec![directory.to_path_buf()];
    let mut bytes = 0;
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let entry = entry.unwrap();
            let about = entry.metadata().unwrap();
            if about.is_dir() {
                pending.push(entry.path());
            } else if seen.insert((about.dev(), about.ino())) {
                bytes += about.len();
            }
        }
    }
    bytes
}

/// A client of Incus with a home of its own.
struct Incus {
    program: PathBuf,
    home: TempDir,
}

impl Incus {
    fn find() -> Option<Self> {
        Some(Self { program: program("INCUS", "incus")?, home: TempDir::new() })
    }

    #[track_caller]
    fn run(&self, authority: Option<&Path>, words: &[&str]) -> String {
        let mut command = Command::new(&self.program);
        command.args(words).current_dir(self.home.path()).env("HOME", self.home.path());
        command.env("INCUS_CONF", self.home.join("conf"));
        if let Some(authority) = authority {
            command.env("SSL_CERT_FILE", authority);
        }
        run(&mut command)
    }

    /// Exports an image and fails unless one of its files is this.
    #[track_caller]
    fn assert_exports(&self, authority: Option<&Path>, reference: &str, rootfs: &[u8]) {
        let directory = self.home.join("out");
        fs::create_dir(&directory).unwrap();
        self.run(authority, &["image", "export", reference, "out/"]);
        let mut files = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path());
        assert!(files.any(|path| fs::read(path).unwrap() == rootfs), "{reference}");
        fs::remove_dir_all(&directory).unwrap();
    }
}

/// The certificate of our server as the authority that clients trust.
fn authority(origin: &Origin) -> PathBuf {
    origin.ours().server_certificate()
}

#[test]
fn incus_uses_a_mirror_of_a_tree_for_lxd() {
    let Some(incus) = Incus::find() else { return };
    let origin = Origin::start("lxd.tar.xz");
    let ours = origin.ours();
    ours.ok(&["mirror", "theirs:", "mirror"]);
    ours.ok(&["mirror", "theirs:", "mirror"]);
    origin.assert_transferred_once();
    origin.assert_stored_once(&origin.place.join("mirror/images"), 1);
    let server = serve(&origin.place.join("mirror"));
    let trusted = incus.home.join("ca.pem");
    fs::write(&trusted, server.pem()).unwrap();
    incus.run(Some(&trusted), &["remote", "add", "ours", &server.text(""), "--protocol", "simplestreams"]);
    let listed = incus.run(Some(&trusted), &["image", "list", "ours:", "--format", "csv", "-c", "F"]);
    assert_eq!(listed, origin.fingerprint);
    incus.assert_exports(Some(&trusted), "ours:box/one", &origin.rootfs);
}

#[test]
fn incus_uses_a_server_whose_upstream_is_a_tree_for_lxd() {
    let Some(incus) = Incus::find() else { return };
    let origin = Origin::start("lxd.tar.xz");
    let ours = origin.ours();
    let serving = Serving::start(&ours, &["--upstream", "theirs:"]);
    incus.run(None, &["remote", "add", "ours", &serving.url(), "--public", "--accept-certificate"]);
    let info = incus.run(None, &["image", "info", "ours:box/one"]);
    assert!(info.contains(&origin.fingerprint), "{info}");
    incus.assert_exports(None, "ours:box/one", &origin.rootfs);
    // From now on it is in the server's own list, under Incus' names.
    let trusted = authority(&origin);
    let url = serving.url().replace("127.0.0.1", "localhost");
    incus.run(Some(&trusted), &["remote", "add", "list", &url, "--protocol", "simplestreams"]);
    let listed = incus.run(Some(&trusted), &["image", "list", "list:", "--format", "csv", "-c", "F"]);
    assert_eq!(listed, origin.fingerprint);
    incus.assert_exports(Some(&trusted), &format!("list:{}", origin.fingerprint), &origin.rootfs);
    origin.assert_transferred_once();
    drop(serving);
    // The catalog, its log and the sidecar.
    origin.assert_stored_once(&origin.place.join("store"), 4 << 20);
    let rootfs = origin.rootfs.len() as u64;
    let large = |path: &Path| fs::metadata(path).unwrap().len() == rootfs;
    let stored = run(Command::new("find").arg(origin.place.join("store")).args(["-type", "f"]));
    assert_eq!(stored.lines().filter(|path| large(Path::new(path))).count(), 1, "{stored}");
}

#[test]
fn real_lxd_uses_a_mirror_of_a_tree_for_incus() {
    let origin = Origin::start("incus.tar.xz");
    origin.ours().ok(&["mirror", "theirs:", "mirror"]);
    origin.assert_transferred_once();
    origin.assert_stored_once(&origin.place.join("mirror/images"), 1);
    let server = serve(&origin.place.join("mirror"));
    let trusted = origin.place.join("ca.pem");
    fs::write(&trusted, server.pem()).unwrap();
    let Some(lxd) = Lxd::start_trusting(Some(&trusted)) else { return };
    lxd.lxc(&["remote", "add", "ours", &server.text(""), "--protocol", "simplestreams"]);
    lxd.lxc(&["image", "copy", "ours:box/one", "local:", "--alias", "box"]);
    assert_eq!(lxd.fingerprint("box"), origin.fingerprint);
}

#[test]
fn real_lxd_uses_a_server_whose_upstream_is_a_tree_for_incus() {
    let origin = Origin::start("incus.tar.xz");
    let Some(lxd) = Lxd::start() else { return };
    let ours = origin.ours();
    let serving = Serving::start(&ours, &["--upstream", "theirs:"]);
    lxd.lxc(&["remote", "add", "ours", &serving.url(), "--public", "--accept-certificate"]);
    lxd.lxc(&["image", "copy", "ours:box/one", "local:", "--alias", "box"]);
    assert_eq!(lxd.fingerprint("box"), origin.fingerprint);
    origin.assert_transferred_once();
    drop(serving);
    origin.assert_stored_once(&origin.place.join("store"), 4 << 20);
}
