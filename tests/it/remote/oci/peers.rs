//! The command line with Debian's `docker-registry`, and what `skopeo` makes of it.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use lxd_image::Monitor;
use lxd_image::oci::{BlobSink, Descriptor, ImageConfig, Manifest, RootfsLayers, media_type, to_json};
use lxd_image::remote::{ClientOptions, OciLogin, OciRegistry, Proxy};

use super::{import_sized, store};
use crate::peers::available;
use crate::store::{Scratch, alias, split_stream};

/// A registry of a test, which ends with it.
pub(super) struct Registry {
    child: Child,
    port: u16,
}

impl Registry {
    /// Starts one on a free port. With `htpasswd` it wants to know who asks.
    pub(super) fn start(scratch: &Scratch, htpasswd: Option<&str>) -> Option<Self> {
        if !available(&["docker-registry", "skopeo"]) {
            return None;
        }
        let data = scratch.join("registry");
        let mut text = format!(
            "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  secret: s\n  addr: 127.0.0.1:0\n",
            data.display()
        );
        if let Some(lines) = htpasswd {
            fs::write(scratch.join("htpasswd"), lines).unwrap();
            let path = scratch.join("htpasswd");
            text.push_str(&format!("auth:\n  htpasswd:\n    realm: test\n    path: {}\n", path.display()));
        }
        let config = scratch.join("registry.yml");
        fs::write(&config, text).unwrap();
        let (child, port) = Self::serve(&config);
        Some(Self { child, port })
    }

    /// Ends the registry as a crash does, and starts it again at the same address.
    pub(super) fn restart(&mut self, scratch: &Scratch) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let config = scratch.join("registry.yml");
        let text = fs::read_to_string(&config).unwrap();
        fs::write(&config, text.replace("127.0.0.1:0", &format!("127.0.0.1:{}", self.port))).unwrap();
        self.child = Self::serve(&config).0;
    }

    /// Starts the program, and returns the port once it listens.
    fn serve(config: &Path) -> (Child, u16) {
        let mut child = Command::new("docker-registry")
            .arg("serve")
            .arg(config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut said = String::new();
        let port = loop {
            let mut line = String::new();
            assert!(log.read_line(&mut line).unwrap() > 0, "the registry ended: {said}");
            said.push_str(&line);
            let listening = line.split("listening on 127.0.0.1:").nth(1);
            if let Some(port) = listening.and_then(|rest| rest.split(|c: char| !c.is_ascii_digit()).next()) {
                break port.parse().unwrap();
            }
        };
        // A pipe that nobody reads would stop it.
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        (child, port)
    }

    pub(super) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(super) fn client(&self) -> OciRegistry {
        let options = ClientOptions::new().proxy(Proxy::Direct);
        OciRegistry::new(options, &self.url().parse().unwrap(), &OciLogin::Anonymous).unwrap()
    }

    /// `skopeo`'s name of an image here.
    fn skopeo(&self, name: &str) -> String {
        format!("docker://127.0.0.1:{}/{name}", self.port)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn run(scratch: &Scratch, words: &[&str]) -> Output {
    command(scratch).args(words).output().unwrap()
}

/// This program, with settings and a home of the test.
pub(super) fn command(scratch: &Scratch) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lxd-image"));
    command
        .env("LXD_IMAGE_STORE", scratch.join("store"))
        .env("LXD_IMAGE_CONFIG", scratch.join("config"))
        .env("HOME", scratch.path())
        .env_remove("REGISTRY_AUTH_FILE")
        .env_remove("XDG_RUNTIME_DIR")
        .env_remove("XDG_CONFIG_HOME")
        .env_remove("DOCKER_CONFIG");
    command
}

#[track_caller]
pub(super) fn ok(scratch: &Scratch, words: &[&str]) -> String {
    let output = run(scratch, words);
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[track_caller]
fn fails(scratch: &Scratch, words: &[&str], kind: &str) -> String {
    let output = run(scratch, words);
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && text.starts_with(&format!("error[{kind}]: ")), "{words:?}: {text}");
    text
}

fn skopeo(words: &[&str]) -> String {
    let output = Command::new("skopeo").args(words).env("REGISTRY_AUTH_FILE", "/nonexistent").output().unwrap();
    assert!(output.status.success(), "skopeo {words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A gzip member without compression, so that no crate is needed for it.
fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut child = Command::new("gzip").arg("-nc").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut stdin, bytes) = (child.stdin.take().unwrap(), bytes.to_vec());
    let writer = std::thread::spawn(move || stdin.write_all(&bytes).unwrap());
    let mut out = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut out).unwrap();
    writer.join().unwrap();
    child.wait().unwrap();
    out
}

/// A tar of files, of which all above them are directories.
pub(super) fn tar(files: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, content) in files {
        crate::store::member(&mut out, name, b'0', content.as_bytes());
    }
    out.resize(out.len() + 1024, 0);
    out
}

/// Pushes a container image of layers to a registry, piece by piece.
pub(super) fn push_container(registry: &OciRegistry, repository: &str, tag: &str, layers: &[Vec<u8>]) {
    let monitor = Monitor::none();
    let mut target = registry.repository(repository).unwrap();
    let mut descriptors = Vec::new();
    let mut config = ImageConfig {
        architecture: "amd64".to_owned(),
        os: "linux".to_owned(),
        created: Some("2024-01-02T03:04:05Z".to_owned()),
        rootfs: RootfsLayers { kind: "layers".to_owned(), diff_ids: Vec::new() },
        ..ImageConfig::default()
    };
    config.config.cmd = vec!["/bin/sh".to_owned()];
    let mut put = |descriptor: &Descriptor, bytes: &[u8]| {
        let mut open =
            || -> lxd_image::Result<Box<dyn Read + Send>> { Ok(Box::new(std::io::Cursor::new(bytes.to_vec()))) };
        target.put_blob(descriptor, &mut open, &monitor).unwrap();
    };
    for layer in layers {
        config.rootfs.diff_ids.push(lxd_image::oci::Digest::of(layer));
        let packed = gzip(layer);
        let descriptor = Descriptor::of("application/vnd.oci.image.layer.v1.tar+gzip", &packed);
        put(&descriptor, &packed);
        descriptors.push(descriptor);
    }
    let config = to_json(&config).unwrap();
    let about = Descriptor::of(media_type::IMAGE_CONFIG, &config);
    put(&about, &config);
    let manifest = to_json(&Manifest::new(about, descriptors)).unwrap();
    let descriptor = Descriptor::of(media_type::IMAGE_MANIFEST, &manifest);
    target.put_document(&descriptor, &manifest, Some(&tag.parse().unwrap()), &monitor).unwrap();
}

#[test]
fn image_goes_to_a_registry_and_back() {
    let scratch = Scratch::new();
    let Some(registry) = Registry::start(&scratch, None) else { return };
    let image = import_sized(&store(&scratch), "box", 3 << 20);
    let digits = format!("{}\n", image.fingerprint);
    ok(&scratch, &["remote", "add", "reg", &registry.url(), "--protocol", "oci"]);
    assert!(ok(&scratch, &["remote", "list", "--format", "csv"]).contains("reg,http://127.0.0.1"));
    assert_eq!(ok(&scratch, &["copy", "box", "reg:team/box:1", "--alias", "latest"]), digits);
    let listed = ok(&scratch, &["list", "reg:team/box/", "--format", "csv"]);
    assert_eq!(listed, "1,reg:team/box:1\nlatest,reg:team/box:latest\n");
    assert_eq!(ok(&scratch, &["list", "reg:team/", "--format", "{{ reference }}"]), "reg:team/box/\n");
    let info = ok(&scratch, &["info", "reg:team/box:1"]);
    assert!(info.contains(&digits.trim_end().to_owned()) && info.contains("release: 12"), "{info}");
    ok(&scratch, &["delete", "box"]);
    assert_eq!(ok(&scratch, &["copy", "reg:team/box:1", "local:", "--alias", "again", "--auto-update"]), digits);
    assert_eq!(ok(&scratch, &["get-property", "again", "os"]), "Debian\n");
    assert_eq!(run(&scratch, &["export", "reg:team/box", "-"]).stdout.len() as u64, image.size);
    fails(&scratch, &["copy", "reg:team/box:none", "local:"], "NotFound");
    fails(&scratch, &["copy", "reg:team/none", "local:"], "NotFound");
    fails(&scratch, &["copy", "again", "reg:"], "InvalidInput");
    fails(&scratch, &["copy", "again", "reg:team/box:2", "--public"], "InvalidInput");
    // The image under the tag is another one now.
    import_sized(&store(&scratch), "newer", 10);
    fails(&scratch, &["copy", "newer", "reg:team/box:1"], "AlreadyExists");
    let newer = ok(&scratch, &["copy", "newer", "reg:team/box:1", "--reuse"]);
    ok(&scratch, &["delete", "newer"]);
    ok(&scratch, &["refresh"]);
    assert_eq!(ok(&scratch, &["fingerprint", "again"]), newer);
}

#[test]
fn split_image_and_virtual_machine_architectures_share_a_tag() {
    let scratch = Scratch::new();
    let Some(registry) = Registry::start(&scratch, None) else { return };
    let store = store(&scratch);
    let split = store
        .import(split_stream("x"), &lxd_image::store::ImportOptions::new().alias(alias("amd")), &Monitor::none())
        .unwrap();
    let text = crate::store::metadata("arm", "").replace("amd64", "arm64");
    let arm = crate::store::unified_with(&text, b"arm");
    let arm = store
        .import(
            crate::store::stream(arm),
            &lxd_image::store::ImportOptions::new().alias(alias("arm")),
            &Monitor::none(),
        )
        .unwrap();
    ok(&scratch, &["remote", "add", "reg", &registry.url(), "--protocol", "oci"]);
    for name in ["amd", "arm"] {
        ok(&scratch, &["copy", name, "reg:multi:1"]);
    }
    ok(&scratch, &["delete", "amd", "arm"]);
    let both = ok(&scratch, &["copy", "reg:multi:1", "local:", "--all", "amd64", "arm64", "--alias", "m"]);
    assert_eq!(both, format!("{}\n{}\n", split.fingerprint, arm.fingerprint));
    // The same images again change nothing.
    ok(&scratch, &["copy", "m/amd64", "reg:multi:1"]);
    let mirrored = ok(&scratch, &["mirror", "reg:multi/", scratch.join("tree").to_str().unwrap(), "--format", "csv"]);
    assert_eq!(mirrored.lines().count(), 2, "{mirrored}");
    // Others read the index.
    let raw = skopeo(&["inspect", "--raw", "--tls-verify=false", &registry.skopeo("multi:1")]);
    assert!(raw.contains("\"arm64\"") && raw.contains("\"amd64\""), "{raw}");
}

#[test]
fn container_image_becomes_an_instance_image_once() {
    let scratch = Scratch::new();
    let Some(registry) = Registry::start(&scratch, None) else { return };
    let client = registry.client();
    let base = tar(&[("etc/passwd", "root:x:0:0::/root:/bin/sh\n"), ("bin/sh", "shell"), ("etc/old", "old")]);
    let upper = tar(&[("etc/.wh.old", ""), ("etc/new", "new")]);
    push_container(&client, "app", "1", &[base.clone(), upper]);
    ok(&scratch, &["remote", "add", "reg", &registry.url(), "--protocol", "oci"]);
    let info = ok(&scratch, &["info", "reg:app:1"]);
    // Incus hashes the digests of the layers, as `skopeo` names them, and no bytes.
    let raw: serde_json::Value =
        serde_json::from_str(&skopeo(&["inspect", "--raw", "--tls-verify=false", &registry.skopeo("app:1")])).unwrap();
    let digests = raw["layers"].as_array().unwrap().iter().map(|layer| layer["digest"].as_str().unwrap());
    let incus = lxd_image::Fingerprint::of(digests.collect::<String>().as_bytes());
    assert!(info.contains(&format!("(Incus: {incus})")), "{info}");
    assert!(info.contains("Digest: sha256:") && info.contains("type: oci"), "{info}");
    let digits = ok(&scratch, &["copy", "reg:app:1", "local:", "--alias", "app", "--auto-update"]);
    assert_eq!(ok(&scratch, &["get-property", "app", "type"]), "oci\n");
    let tree = scratch.join("tree");
    ok(&scratch, &["unpack", "app", tree.to_str().unwrap()]);
    assert_eq!(fs::read_to_string(tree.join("rootfs/etc/new")).unwrap(), "new");
    assert!(!tree.join("rootfs/etc/old").exists());
    assert!(tree.join("config.json").exists());
    assert_eq!(ok(&scratch, &["store", "info", "--format", "{{ layers }}"]), "2\n");
    // The same content again is recognised, and does not change.
    assert_eq!(ok(&scratch, &["copy", "reg:app:1", "local:", "--alias", "twice"]), digits);
    assert_eq!(ok(&scratch, &["refresh"]), "");
    push_container(&client, "app", "1", &[base, tar(&[("etc/newest", "newest")])]);
    assert_eq!(ok(&scratch, &["refresh"]).lines().count(), 1);
    assert_ne!(ok(&scratch, &["fingerprint", "app"]), digits);
    assert_eq!(ok(&scratch, &["refresh"]), "");
    fails(&scratch, &["copy", "reg:app:1", "local:", "--system"], "Unsupported");
    fails(&scratch, &["copy", "reg:app:1", "local:", "--vm"], "NotFound");
}

#[test]
fn statements_go_to_a_registry_and_back_and_by_a_bundle_as_well() {
    let scratch = Scratch::new();
    let Some(registry) = Registry::start(&scratch, None) else { return };
    let image = import_sized(&store(&scratch), "box", 1000);
    let key = lxd_image::trust::SecretKey::generate().unwrap();
    let path = |name: &str| scratch.join(name).to_str().unwrap().to_owned();
    fs::write(path("key"), key.to_text(None).unwrap()).unwrap();
    fs::write(path("key.pub"), key.public_key().to_text()).unwrap();
    let policy =
        "default = \"deny\"\n[keys]\nus = \"key.pub\"\n[[rule]]\nname = \"ours\"\nstatements = [{ key = \"us\" }]\n";
    fs::write(path("policy.toml"), policy).unwrap();
    ok(&scratch, &["remote", "add", "reg", &registry.url(), "--protocol", "oci"]);
    ok(&scratch, &["copy", "box", "reg:team/box:1"]);
    let (other, file, policy) = (path("other"), path("b.tar"), path("policy.toml"));
    let pull = |reference| ["--store", &other, "copy", reference, "local:", "--alias", "box", "--policy", &policy];
    fails(&scratch, &pull("reg:team/box:1"), "Untrusted");
    ok(&scratch, &["statement", "sign", "box", "--key", &path("key")]);
    // The image is there already, so that only the statement is pushed.
    ok(&scratch, &["copy", "box", "reg:team/box:1"]);
    assert_eq!(ok(&scratch, &pull("reg:team/box:1")), format!("{}\n", image.fingerprint));
    ok(&scratch, &["--store", &other, "statement", "verify", "box", "--key", &path("key.pub")]);
    // No tag of a statement is an image.
    let reference = format!("{}/team/box", registry.url().trim_start_matches("http://"));
    assert!(skopeo(&["list-tags", "--tls-verify=false", &format!("docker://{reference}")]).contains("sha256-"));
    assert_eq!(ok(&scratch, &["list", "reg:team/box/", "--format", "csv"]), "1,reg:team/box:1\n");

    // From a bundle to a registry by skopeo, which knows nothing of statements.
    ok(&scratch, &["bundle", "create", &file, "box"]);
    let index = Command::new("tar").args(["-xOf", &file, "index.json"]).output().unwrap().stdout;
    let index: serde_json::Value = serde_json::from_slice(&index).unwrap();
    for entry in index["manifests"].as_array().unwrap() {
        let name = entry["annotations"]["org.opencontainers.image.ref.name"].as_str().unwrap();
        let (from, to) = (format!("oci-archive:{file}:{name}"), registry.skopeo(&format!("by/skopeo:{name}")));
        skopeo(&["--insecure-policy", "copy", "-q", "--all", "--dest-tls-verify=false", &from, &to]);
    }
    fs::remove_dir_all(&other).unwrap();
    ok(&scratch, &pull("reg:by/skopeo:box"));
}

#[test]
fn prune_tells_of_the_layers_that_it_removes() {
    let scratch = Scratch::new();
    let Some(registry) = Registry::start(&scratch, None) else { return };
    push_container(&registry.client(), "app", "1", &[tar(&[("etc/passwd", "")]), tar(&[("bin/sh", "shell")])]);
    ok(&scratch, &["remote", "add", "reg", &registry.url(), "--protocol", "oci"]);
    ok(&scratch, &["copy", "reg:app:1", "local:"]);
    let told = |words: &[&str]| String::from_utf8(run(&scratch, words).stderr).unwrap();
    assert!(!told(&["prune"]).contains("layers"));
    std::thread::sleep(std::time::Duration::from_millis(1_100));
    let would = told(&["prune", "--unused-for", "1s", "--dry-run"]);
    assert!(would.contains("0 images and 2 layers (") && would.contains("would be freed"), "{would}");
    assert!(told(&["prune", "--unused-for", "1s"]).contains("0 images and 2 layers ("));
    assert_eq!(ok(&scratch, &["store", "info", "--format", "{{ layers }} {{ layer_size }}"]), "0 0\n");
}

/// A server of this program, which ends with the test.
struct Served(Child);

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn server_fetches_artifacts_of_a_registry_by_name() {
    let scratch = Scratch::new();
    let Some(registry) = Registry::start(&scratch, None) else { return };
    ok(&scratch, &["remote", "add", "reg", &registry.url(), "--protocol", "oci"]);
    let image = import_sized(&store(&scratch), "box", 100);
    ok(&scratch, &["copy", "box", "reg:team/box:1"]);
    push_container(&registry.client(), "app", "1", &[tar(&[("etc/passwd", "")])]);
    ok(&scratch, &["delete", "box"]);
    let mut child = command(&scratch)
        .args(["serve", "--listen", "http://127.0.0.1:0", "--upstream", "reg:"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let _served = Served(child);
    let url = line.trim_end().strip_prefix("listening at ").unwrap().to_owned();
    ok(&scratch, &["remote", "add", "srv", &url, "--protocol", "lxd", "--public"]);
    let elsewhere = scratch.join("elsewhere");
    let copied = ok(&scratch, &["--store", elsewhere.to_str().unwrap(), "copy", "srv:team/box/1", "local:"]);
    assert_eq!(copied.trim_end(), image.fingerprint.to_string());
    for name in ["srv:team/none/1", "srv:Not A Name", "srv:app/1", "srv:app"] {
        fails(&scratch, &["--store", elsewhere.to_str().unwrap(), "copy", name, "local:"], "NotFound");
    }
}

#[test]
fn skopeo_copies_both_ways() {
    let scratch = Scratch::new();
    let Some(registry) = Registry::start(&scratch, None) else { return };
    ok(&scratch, &["remote", "add", "reg", &registry.url(), "--protocol", "oci"]);
    // A container image from a layout of skopeo's.
    push_container(&registry.client(), "from", "1", &[tar(&[("etc/passwd", ""), ("bin/sh", "shell")])]);
    let layout = format!("oci:{}:x", scratch.join("layout").display());
    skopeo(&["copy", "--src-tls-verify=false", "--insecure-policy", &registry.skopeo("from:1"), &layout]);
    skopeo(&["copy", "--dest-tls-verify=false", "--insecure-policy", &layout, &registry.skopeo("to:1")]);
    let (one, other) = (scratch.join("one"), scratch.join("other"));
    ok(&scratch, &["unpack", "reg:from:1", one.to_str().unwrap()]);
    ok(&scratch, &["unpack", "reg:to:1", other.to_str().unwrap()]);
    let content = |tree: &Path| fs::read_to_string(tree.join("rootfs/bin/sh")).unwrap();
    assert_eq!((content(&one), content(&other)), ("shell".to_owned(), "shell".to_owned()));
    // An artifact of ours.
    let image = import_sized(&store(&scratch), "box", 100);
    ok(&scratch, &["copy", "box", "reg:artifact:1"]);
    let raw = skopeo(&["inspect", "--raw", "--tls-verify=false", &registry.skopeo("artifact:1")]);
    assert!(raw.contains(&format!("sha256:{}", image.fingerprint)), "{raw}");
    // Between two repositories of the registry nothing is sent.
    ok(&scratch, &["copy", "reg:artifact:1", "reg:other/place:2"]);
    let copied = ok(&scratch, &["info", "reg:other/place:2", "--format", "{{ fingerprint }}"]);
    assert_eq!(copied.trim_end(), image.fingerprint.to_string());
}

#[test]
fn registry_that_wants_a_password_gets_it_from_files() {
    // The user `us` with the password `word`.
    const LINE: &str = "us:$2y$04$Oepg6pfMF88nnq7HhBw7/OgBhQdnoiIR3dIPEzGWMWW6Bg8bS2Wnu\n";
    let scratch = Scratch::new();
    let Some(registry) = Registry::start(&scratch, Some(LINE)) else { return };
    let url = registry.url();
    let file = |name: &str, text: &str| {
        let path = scratch.join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (right, wrong) = (file("right", "word\n"), file("wrong", "w0rd\n"));
    let host = url.strip_prefix("http://").unwrap();
    let auth = file("auth.json", &format!(r#"{{"auths":{{"{host}":{{"auth":"dXM6d29yZA=="}}}}}}"#));
    let add = ["remote", "add", "reg", &url, "--protocol", "oci"];
    let refused = [&add[..], &["--username", "us", "--password-file", &wrong]].concat();
    let error = fails(&scratch, &refused, "Remote");
    assert!(!error.contains("w0rd"), "{error}");
    import_sized(&store(&scratch), "box", 100);
    // Nobody in particular may add it, and push nothing.
    ok(&scratch, &add);
    let error = fails(&scratch, &["copy", "box", "reg:box:1"], "Remote");
    assert!(error.contains("--username"), "{error}");
    for more in [&["--username", "us", "--password-file", &right][..], &["--auth-file", &auth]] {
        ok(&scratch, &["remote", "remove", "reg"]);
        ok(&scratch, &[&add[..], more].concat());
        ok(&scratch, &["copy", "box", "reg:box:1"]);
        assert_eq!(ok(&scratch, &["list", "reg:box/", "--format", "csv"]), "1,reg:box:1\n");
    }
    // The places where podman and docker look.
    ok(&scratch, &["remote", "remove", "reg"]);
    fs::create_dir_all(scratch.join(".docker")).unwrap();
    fs::copy(&auth, scratch.join(".docker/config.json")).unwrap();
    ok(&scratch, &add);
    ok(&scratch, &["info", "reg:box:1"]);
    assert!(!ok(&scratch, &["remote", "list", "--format", "json"]).contains("word\""));
    let settings = fs::read_to_string(scratch.join("config/remotes.yaml")).unwrap();
    assert!(!settings.contains("word\n") && !settings.contains("dXM6"), "{settings}");
}
