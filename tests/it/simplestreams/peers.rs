//! Real programs over our trees: Incus' own tool, the tools of simplestreams, the clients of both peers, nginx.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use lxd_image::format::{ImageForm, ImageSource, PackOptions, Rootfs, RootfsFormat, pack};
use lxd_image::remote::{
    Certificate, ClientOptions, CopyOptions, Direct, MirrorOptions, MirrorTarget, Proxy, Simplestreams, Trust, copy,
    mirror,
};
use lxd_image::simplestreams::{AddOptions, Tree};
use lxd_image::store::Store;
use lxd_image::{ErrorKind, Fingerprint, Metadata, Monitor};

use super::mirroring::serve;
use super::{add, assert_clean, failed, listed, sorted, tree};
use crate::peers::run;
use crate::store::{Scratch, unified};

/// A real program, by the variable that `install.sh` prints; `None`, said aloud, where it is missing and not required.
pub(crate) fn program(variable: &str) -> Option<PathBuf> {
    let named = std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_file());
    if named.is_none() {
        missing(&format!("{variable} names no program; tests/peers/install.sh brings it"));
    }
    named
}

/// A real program of the system.
pub(crate) fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    let found = std::env::split_paths(&path).chain(system).map(|dir| dir.join(name)).find(|path| path.is_file());
    if found.is_none() {
        missing(&format!("no {name} here; tests/peers/install.sh brings it"));
    }
    found
}

fn missing(reason: &str) {
    assert!(
        std::env::var_os("LXD_IMAGE_REQUIRE_PEERS").is_none_or(|value| value != "1"),
        "peers are required: {reason}"
    );
    let text = format!("a test of trees skips: {reason}\n");
    let _ = std::io::Write::write_all(&mut std::io::stderr(), text.as_bytes());
}

/// A split image with a SquashFS, as most servers have them.
fn add_squashfs(scratch: &Scratch, tree: &Tree, name: &str) -> Fingerprint {
    let (meta, rootfs) = squashfs(scratch, name);
    let added =
        tree.lock().unwrap().add(ImageSource::open(meta, Some(&rootfs)).unwrap(), &AddOptions::new(), &Monitor::none());
    added.unwrap().fingerprint
}

fn squashfs(scratch: &Scratch, name: &str) -> (PathBuf, PathBuf) {
    let root = scratch.join(&format!("{name}.root.d"));
    fs::create_dir_all(root.join("etc")).unwrap();
    fs::write(root.join("etc/name"), name).unwrap();
    let mut metadata = Metadata::new("x86_64", 1_700_000_000).unwrap();
    for (key, value) in [("os", "Box"), ("release", name), ("variant", "default"), ("architecture", "amd64")] {
        metadata.properties_mut().set(key, value).unwrap();
    }
    metadata.properties_mut().set("description", format!("Box {name}")).unwrap();
    let options = PackOptions::new(metadata)
        .compression("xz".parse().unwrap())
        .form(ImageForm::Split)
        .rootfs_format(RootfsFormat::SquashFs);
    let out = scratch.join(&format!("{name}.tar.xz"));
    pack(&Rootfs::open(&root).unwrap(), &out, &options, &Monitor::none()).unwrap();
    (out, scratch.join(&format!("{name}.tar.xz.root")))
}

/// A tree with one image of each form.
fn two_images(scratch: &Scratch, at: &Path) -> (Tree, [Fingerprint; 2]) {
    let (tree, _) = tree(at);
    let images = [add(&tree, "one"), add_squashfs(scratch, &tree, "two")];
    (tree, images)
}

#[test]
fn incus_simplestreams_verifies_lists_and_changes_our_trees_and_we_its_own() {
    let Some(incus) = program("INCUS_SIMPLESTREAMS") else { return };
    let scratch = Scratch::new();
    let (ours, images) = two_images(&scratch, &scratch.join("ours"));
    let at = |tree: &Tree, words: &[&str]| run(Command::new(&incus).args(words).current_dir(tree.path()));
    at(&ours, &["verify"]);
    let told = at(&ours, &["list", "-f", "csv"]);
    assert!(images.iter().all(|image| told.contains(&image.to_string())), "{told}");
    // What its prune would take is nothing of ours.
    at(&ours, &["prune"]);
    assert_clean(&ours);
    // A mirror of ours is as good.
    let server = serve(ours.path());
    let remote = Simplestreams::new(server.options(), &server.url("")).unwrap();
    let (copy, _) = tree(&scratch.join("copy"));
    mirror(&remote, MirrorTarget::Tree(&copy), &MirrorOptions::new(), &Monitor::none()).unwrap();
    at(&copy, &["verify"]);
    assert_eq!(listed(&copy), sorted(images));
    // Both write into one tree, one after the other.
    let (meta, rootfs) = squashfs(&scratch, "three");
    run(Command::new(&incus).arg("add").arg(&meta).arg(&rootfs).current_dir(ours.path()));
    assert_clean(&ours);
    let three = Fingerprint::of(&[fs::read(&meta).unwrap(), fs::read(&rootfs).unwrap()].concat());
    assert_eq!(listed(&ours), sorted([images[0], images[1], three]));
    add(&ours, "four");
    at(&ours, &["verify"]);
    at(&ours, &["remove", &images[1].to_string()]);
    at(&ours, &["verify"]);
    assert_clean(&ours);
    assert!(!listed(&ours).contains(&images[1]));
    // And a tree that only it wrote is mirrored.
    let theirs = scratch.join("theirs");
    fs::create_dir(&theirs).unwrap();
    run(Command::new(&incus).arg("add").arg(&meta).arg(&rootfs).current_dir(&theirs));
    let server = serve(&theirs);
    let remote = Simplestreams::new(server.options(), &server.url("")).unwrap();
    let (copy, _) = tree(&scratch.join("copy-of-theirs"));
    mirror(&remote, MirrorTarget::Tree(&copy), &MirrorOptions::new(), &Monitor::none()).unwrap();
    at(&copy, &["verify"]);
    assert_clean(&copy);
    assert_eq!(listed(&copy), [three]);
}

#[test]
fn tools_of_simplestreams_query_and_mirror_our_mirror() {
    let (Some(query), Some(mirrors)) = (program("SSTREAM_QUERY"), program("SSTREAM_MIRROR")) else { return };
    let scratch = Scratch::new();
    let (ours, images) = two_images(&scratch, &scratch.join("ours"));
    let server = serve(ours.path());
    let remote = Simplestreams::new(server.options(), &server.url("")).unwrap();
    let (copy, _) = tree(&scratch.join("copy"));
    mirror(&remote, MirrorTarget::Tree(&copy), &MirrorOptions::new(), &Monitor::none()).unwrap();
    let index = copy.path().join("streams/v1/index.json");
    let format = "--output-format=%(product_name)s %(ftype)s %(sha256)s %(path)s";
    let asked = |filter: &str| run(Command::new(&query).args(["--no-verify", format]).arg(&index).arg(filter));
    let told = asked("ftype=lxd_combined.tar.gz");
    let expected =
        format!("Debian:one:default:amd64 lxd_combined.tar.gz {0} images/{0}.incus_combined.tar.gz", images[0]);
    assert_eq!(told, expected);
    assert_eq!(asked("os=Box").lines().count(), 3);
    let theirs = scratch.join("theirs");
    run(Command::new(&mirrors).arg("--no-verify").arg(&index).arg(&theirs));
    let theirs = Tree::open(theirs).unwrap();
    assert_clean(&theirs);
    assert_eq!(listed(&theirs), sorted(images));
}

#[test]
fn clients_of_both_peers_list_and_fetch_from_a_mirror_over_tls() {
    let scratch = Scratch::new();
    let clients = [(program("INCUS"), "INCUS_CONF"), (on_path("lxc"), "LXD_CONF")];
    let (ours, images) = two_images(&scratch, &scratch.join("ours"));
    let (copy, _) = tree(&scratch.join("copy"));
    let url = format!("file://{}", ours.path().display()).parse().unwrap();
    let remote = Simplestreams::new(ClientOptions::new(), &url).unwrap();
    mirror(&remote, MirrorTarget::Tree(&copy), &MirrorOptions::new(), &Monitor::none()).unwrap();
    let server = serve(copy.path());
    let authority = scratch.join("ca.pem");
    fs::write(&authority, server.pem()).unwrap();
    for (client, variable) in clients {
        let Some(client) = client else { continue };
        let home = scratch.join(variable);
        fs::create_dir(&home).unwrap();
        let words = |words: &[&str]| {
            let mut command = Command::new(&client);
            command.args(words).env("SSL_CERT_FILE", &authority).env(variable, &home).env("HOME", &home);
            run(command.current_dir(&home))
        };
        words(&["remote", "add", "ours", &server.text(""), "--protocol", "simplestreams"]);
        let told = words(&["image", "list", "ours:", "--format", "csv", "-c", "lFt"]);
        for image in &images {
            assert!(told.contains(&image.to_string()), "{}: {told}", client.display());
        }
        let info = words(&["image", "info", "ours:Box/two/default/amd64"]);
        assert!(info.contains(&images[1].to_string()), "{}: {info}", client.display());
        // The clients check the digests of what they fetch.
        words(&["image", "export", "ours:Debian/one/default/amd64", "./one"]);
        let fetched = fs::read_dir(&home).unwrap().map(|entry| entry.unwrap().path());
        let fetched = fetched.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("one"));
        assert!(fetched.into_iter().any(|path| fs::read(path).unwrap() == unified_bytes(&copy, &images[0])));
    }
}

fn unified_bytes(tree: &Tree, image: &Fingerprint) -> Vec<u8> {
    fs::read(tree.path().join(format!("images/{image}.incus_combined.tar.gz"))).unwrap()
}

/// A real nginx, stopped when it is dropped.
struct Nginx(Child);

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Nginx {
    /// Serves with our snippet, changed as its comments say: the host, the certificate, the directory, the image.
    fn start(program: &Path, scratch: &Scratch, root: &Path, image: &Fingerprint) -> (Self, u16, String) {
        let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
        fs::write(scratch.join("server.pem"), made.cert.pem()).unwrap();
        fs::write(scratch.join("server.key"), made.signing_key.serialize_pem()).unwrap();
        let snippet = Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib/nginx-direct-import.conf");
        let snippet = fs::read_to_string(snippet).unwrap();
        // Somebody may take the port between our look and nginx's: then another is tried.
        for _ in 0..5 {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let own = snippet
                .replace("listen 443 ssl", &format!("listen 127.0.0.1:{port} ssl"))
                .replace("/etc/ssl/images.example.pem", scratch.join("server.pem").to_str().unwrap())
                .replace("/etc/ssl/images.example.key", scratch.join("server.key").to_str().unwrap())
                .replace("/srv/images", root.to_str().unwrap())
                .replace("https://images.example/", &format!("https://127.0.0.1:{port}/"))
                .replace(&format!("{:064}", 1), &image.to_string());
            fs::write(scratch.join("snippet.conf"), own).unwrap();
            let at = scratch.path().display();
            let paths = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
            let paths: String = paths.iter().map(|name| format!("{name}_temp_path {at}/{name};\n")).collect();
            let whole = format!(
                "daemon off; master_process off; pid {at}/nginx.pid; error_log stderr;\nevents {{}}\n\
                 http {{ access_log off;\n{paths}include {at}/snippet.conf; }}\n"
            );
            fs::write(scratch.join("nginx.conf"), whole).unwrap();
            let mut command = Command::new(program);
            command.arg("-e").arg("stderr").arg("-c").arg(scratch.join("nginx.conf")).arg("-p").arg(scratch.path());
            let log = fs::File::create(scratch.join("nginx.log")).unwrap();
            let mut nginx = Self(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap());
            let until = Instant::now() + Duration::from_secs(20);
            while nginx.0.try_wait().unwrap().is_none() {
                if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                    return (nginx, port, made.cert.pem());
                }
                assert!(Instant::now() < until, "nginx does not answer");
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        panic!("nginx does not start: {}", fs::read_to_string(scratch.join("nginx.log")).unwrap_or_default());
    }
}

/// journeys.md 27.
#[test]
fn nginx_with_our_snippet_answers_direct_imports_and_serves_the_tree() {
    let Some(nginx) = on_path("nginx") else { return };
    let scratch = Scratch::new();
    let (ours, images) = two_images(&scratch, &scratch.join("tree"));
    let (_running, port, pem) = Nginx::start(&nginx, &scratch, ours.path(), &images[0]);
    let pinned = Certificate::from_pem(&pem).unwrap().fingerprint();
    let options = || ClientOptions::new().proxy(Proxy::Direct).trust(Trust::Pinned(pinned));
    let direct = Direct::new(options(), format!("https://127.0.0.1:{port}/box").parse().unwrap()).unwrap();
    let store = Store::open(scratch.join("store")).unwrap();
    // This machine's 64-bit self, and what else it runs, in one header.
    let here = CopyOptions::new().architectures(["x86_64".parse().unwrap(), "i686".parse().unwrap()]);
    let got = copy(&direct, "", &store, &here, &Monitor::none()).unwrap();
    assert_eq!((got.fingerprint, images[0]), (Fingerprint::of(&unified("one")), got.fingerprint));
    let elsewhere = CopyOptions::new().architectures(["s390x".parse().unwrap()]);
    failed(copy(&direct, "", &store, &elsewhere, &Monitor::none()), ErrorKind::NotFound);
    let remote = Simplestreams::new(options(), &format!("https://127.0.0.1:{port}/").parse().unwrap()).unwrap();
    let (copy_of_it, _) = tree(&scratch.join("copy"));
    assert_eq!(
        mirror(&remote, MirrorTarget::Tree(&copy_of_it), &MirrorOptions::new(), &Monitor::none()).unwrap().copied.len(),
        2
    );
    assert_clean(&copy_of_it);
    let hidden = Direct::new(options(), format!("https://127.0.0.1:{port}/.lxd-image/lock").parse().unwrap()).unwrap();
    failed(copy(&hidden, "", &store, &here, &Monitor::none()), ErrorKind::NotFound);
}
