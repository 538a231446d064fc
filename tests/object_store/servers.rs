//! The servers to test against. One of each for all tests; they stop when this process ends.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use lxd_image::Fingerprint;
use lxd_image::store::{BlobKey, ObjectBlobs, ObjectOptions, Scratch, StagedFile};

/// A running S3 server with the buckets `lxd-image` and `other`.
pub(crate) struct Server {
    pub(crate) name: &'static str,
    pub(crate) endpoint: String,
    /// The server stops when the standard input of this is closed: when this process ends.
    _process: Child,
}

/// Both servers, as far as they are installed. Says which one is not; with
/// `LXD_IMAGE_REQUIRE_PEERS=1` that is an error.
pub(crate) fn servers() -> Vec<&'static Server> {
    [radosgw(), moto()].into_iter().flatten().collect()
}

/// Ceph's object gateway.
pub(crate) fn radosgw() -> Option<&'static Server> {
    static SERVER: OnceLock<Option<Server>> = OnceLock::new();
    SERVER
        .get_or_init(|| {
            let root = installed("radosgw", "RADOSGW_ROOT")?;
            // Short: it holds sockets.
            let run = std::env::temp_dir().join(format!("lxi-rgw-{}", std::process::id()));
            Some(start("radosgw", "radosgw.sh", &[Path::new("run"), &root, &run]))
        })
        .as_ref()
}

/// moto, a fake of S3 in memory.
pub(crate) fn moto() -> Option<&'static Server> {
    static SERVER: OnceLock<Option<Server>> = OnceLock::new();
    SERVER.get_or_init(|| Some(start("moto", "moto.sh", &[&installed("moto", "MOTO_SERVER")?]))).as_ref()
}

/// The path that the environment names for a peer.
fn installed(name: &str, variable: &str) -> Option<PathBuf> {
    let path = std::env::var_os(variable).map(PathBuf::from).filter(|path| path.exists());
    if path.is_none() {
        let reason = format!("{variable} names no {name}; tests/peers/install.sh brings it");
        assert!(std::env::var_os("LXD_IMAGE_REQUIRE_PEERS").is_none_or(|value| value != "1"), "{reason}");
        // Past the capture of output, so that whoever runs the tests sees it.
        let _ = std::io::stderr().write_all(format!("skips {name}: {reason}\n").as_bytes());
    }
    path
}

fn start(name: &'static str, script: &str, arguments: &[&Path]) -> Server {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers").join(script);
    let mut child =
        Command::new("bash").arg(script).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let endpoint = line.trim().strip_prefix("S3_ENDPOINT=").unwrap_or_else(|| panic!("{name} did not start"));
    Server { name, endpoint: endpoint.to_owned(), _process: child }
}

/// A file of credentials with these keys. The files stay below the target directory.
pub(crate) fn credentials(key: &str, secret: &str) -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("credentials-{count}"));
    let text = format!("[default]\naws_access_key_id = {key}\naws_secret_access_key = {secret}\n");
    std::fs::write(&file, text).unwrap();
    file
}

/// The options for an endpoint that takes the keys of the servers here.
pub(crate) fn options_for(endpoint: &str) -> ObjectOptions {
    ObjectOptions::new()
        .endpoint(endpoint)
        .allow_http(true)
        .credentials_file(credentials("AK", "SK"))
        .part_bytes(5 << 20)
        .idle_timeout(Duration::from_secs(20))
}

/// A prefix that no other test has.
pub(crate) fn prefix() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("s3://lxd-image/t{}-{count}", std::process::id())
}

impl Server {
    /// The options for this server.
    pub(crate) fn options(&self) -> ObjectOptions {
        options_for(&self.endpoint)
    }

    /// Blobs below a prefix of their own, with an identity.
    pub(crate) fn blobs(&self) -> ObjectBlobs {
        let blobs = ObjectBlobs::connect(&prefix(), &self.options()).unwrap();
        blobs.init("a store of the tests").unwrap();
        blobs
    }

    /// Sends one signed request, and returns the body of the answer. `path` begins with the bucket.
    pub(crate) fn request(&self, method: &str, path: &str) -> String {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/s3.py");
        let output =
            Command::new("python3").arg(script).args([&self.endpoint, "AK", "SK", method, path]).output().unwrap();
        assert!(output.status.success(), "{method} {path}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

/// Bytes in which every range differs from every other one.
pub(crate) fn pattern(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let bytes = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()
    });
    let mut bytes: Vec<u8> = bytes.take(length.div_ceil(8)).flatten().collect();
    bytes.truncate(length);
    bytes
}

/// A new key for some image.
pub(crate) fn key(name: &str) -> BlobKey {
    BlobKey::pair(&Fingerprint::of(name.as_bytes())).0
}

/// A staged file with this content.
pub(crate) fn staged(content: &[u8]) -> StagedFile {
    let mut file = Scratch::in_memory().create().unwrap();
    file.write_all(content).unwrap();
    file
}
