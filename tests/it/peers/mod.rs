//! Real programs to test against: a private LXD that lives as long as the test, and small trees.
//! Where a peer is missing a test says so and passes, unless `LXD_IMAGE_REQUIRE_PEERS=1`.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[cfg(feature = "cli")]
mod bridging;
#[cfg(feature = "cli")]
mod containers;
#[cfg(feature = "cli")]
mod journeys;
mod lxd;
#[cfg(feature = "cli")]
mod redirects;
#[cfg(feature = "cli")]
pub(crate) mod remotes;
#[cfg(feature = "cli")]
pub(crate) mod serving;
#[cfg(feature = "cli")]
mod serving_streams;
#[cfg(feature = "cli")]
mod serving_trusted;
mod templates;

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// A directory of its own, removed in the end. Its path is short: it may hold a Unix socket.
pub(crate) struct TempDir(PathBuf);

impl TempDir {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("lxi-{}-{count}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Whether all of `programs` are on PATH and we are root, which a real LXD needs.
pub(crate) fn available(programs: &[&str]) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let missing: Vec<_> = programs
        .iter()
        .filter(|program| !std::env::split_paths(&path).any(|dir| dir.join(program).is_file()))
        .copied()
        .collect();
    let reason = if !missing.is_empty() {
        format!("no {} here; tests/peers/install.sh brings it", missing.join(", "))
    } else if !rustix::process::geteuid().is_root() {
        "a real LXD needs root".to_owned()
    } else {
        return true;
    };
    assert!(
        std::env::var_os("LXD_IMAGE_REQUIRE_PEERS").is_none_or(|value| value != "1"),
        "peers are required: {reason}"
    );
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    // Past the capture of output, so that whoever runs the tests sees it.
    let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("{test} skips: {reason}\n").as_bytes());
    false
}

/// One of the scripts in `tests/peers`.
pub(crate) fn script(name: &str, args: &[&OsStr]) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers").join(name);
    run(Command::new("bash").arg(script).args(args))
}

/// Runs a program that must succeed; its output without the last line's end.
#[track_caller]
pub(crate) fn run(command: &mut Command) -> String {
    let output = try_run(command);
    assert!(
        output.status.success(),
        "{command:?} failed with {}:\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

/// Runs a program that may fail.
pub(crate) fn try_run(command: &mut Command) -> Output {
    command
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

/// A real LXD with a directory pool, private to one test.
pub(crate) struct Lxd {
    dir: TempDir,
    work: TempDir,
    /// The certificate of the web servers that it trusts, in place of those of the machine.
    certificate: Option<PathBuf>,
}

impl Lxd {
    /// Starts one; `None` where there is no LXD and none is required.
    pub(crate) fn start() -> Option<Self> {
        Self::start_trusting(None)
    }

    /// Starts one that trusts the web servers with this certificate, and no others.
    pub(crate) fn start_trusting(certificate: Option<&Path>) -> Option<Self> {
        if !available(&["lxd", "lxc", "tar", "busybox"]) {
            return None;
        }
        let lxd = Self { dir: TempDir::new(), work: TempDir::new(), certificate: certificate.map(Path::to_path_buf) };
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/lxd-up.sh");
        let mut command = Command::new("bash");
        command.arg(script).arg(lxd.dir.path());
        if let Some(certificate) = certificate {
            command.env("SSL_CERT_FILE", certificate);
        }
        run(&mut command);
        Some(lxd)
    }

    /// Runs the client, which must succeed; its output.
    #[track_caller]
    pub(crate) fn lxc(&self, args: &[&str]) -> String {
        run(&mut self.client(args))
    }

    /// Runs the client, which may fail.
    pub(crate) fn try_lxc(&self, args: &[&str]) -> Output {
        try_run(&mut self.client(args))
    }

    pub(crate) fn client(&self, args: &[&str]) -> Command {
        let mut command = Command::new("lxc");
        command.args(args).env("LXD_DIR", self.dir.path()).env("LXD_CONF", self.work.join("client"));
        if let Some(certificate) = &self.certificate {
            command.env("SSL_CERT_FILE", certificate);
        }
        command.current_dir(self.work.path());
        command
    }

    /// A directory for the test's own files; the client runs there.
    pub(crate) fn work(&self) -> &Path {
        self.work.path()
    }

    /// The certificate of its client, which makes it when it first adds a remote.
    #[cfg(feature = "cli")]
    pub(crate) fn client_certificate(&self) -> PathBuf {
        self.work.join("client").join("client.crt")
    }

    /// Its own directory, where its instances lie.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The full fingerprint of an image by its alias.
    #[track_caller]
    pub(crate) fn fingerprint(&self, alias: &str) -> String {
        let info = self.lxc(&["image", "info", alias]);
        let line = info.lines().find_map(|line| line.strip_prefix("Fingerprint: "));
        line.unwrap_or_else(|| panic!("no fingerprint in\n{info}")).to_owned()
    }
}

impl Drop for Lxd {
    fn drop(&mut self) {
        // A test that already panics must not panic again.
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/lxd-down.sh");
        let _ = try_run(Command::new("bash").arg(script).arg(self.dir.path()));
    }
}

/// A tree that starts as a container, with a few entries of the kinds that unpacking must keep. All
/// times are whole seconds: LXD's publishing rounds them.
pub(crate) fn small_root(at: &Path) {
    script("mkroot.sh", &[at.as_os_str()]);
    let shell = "ln bin/busybox bin/hard && cp bin/busybox bin/setuid && chmod 4755 bin/setuid && \
        echo content > root/file && chown 1000:1001 root/file && mkfifo tmp/pipe && ln -s ../etc/passwd root/link && \
        find . -depth -exec touch -h -d @981173106 {} +";
    run(Command::new("sh").arg("-ec").arg(shell).current_dir(at));
}

/// Each entry below a directory, one a line: name, type, mode, owner, size, links, mtime, target.
pub(crate) fn listing(root: &Path) -> Vec<String> {
    let format = "%P|%y|%#m|%U:%G|%s|%n|%T@|%l\\n";
    let lines = run(Command::new("find").arg(root).args(["-mindepth", "1", "-printf", format]));
    // A directory's size and links are its file system's business.
    let mut lines: Vec<_> = lines
        .lines()
        .map(|line| {
            let mut fields: Vec<_> = line.split('|').collect();
            if fields.get(1) == Some(&"d") {
                fields[4] = "-";
                fields[5] = "-";
            }
            fields.join("|")
        })
        .collect();
    lines.sort();
    lines
}
