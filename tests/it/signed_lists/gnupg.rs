//! GnuPG in a directory of its own, which is gone with its agent when the test ends.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use super::now;
use crate::format::peers::have;

/// A home directory of GnuPG. Its path is short, since the agent's socket is in it.
pub(super) struct Gnupg(PathBuf);

impl Drop for Gnupg {
    fn drop(&mut self) {
        let _ = Command::new("gpgconf").args(["--kill", "all"]).env("GNUPGHOME", &self.0).output();
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Gnupg {
    /// `None` where GnuPG is not installed.
    pub(super) fn new(name: &str) -> Option<Self> {
        if !have("gpg") || !have("gpgv") {
            return None;
        }
        let home = PathBuf::from(format!("/tmp/lxi-gpg-{}-{name}", std::process::id()));
        fs::create_dir(&home).unwrap();
        fs::set_permissions(&home, fs::Permissions::from_mode(0o700)).unwrap();
        Some(Self(home))
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Runs `gpg` with words that are separated by blanks; what follows comes from `input`.
    pub(super) fn gpg(&self, words: &str, input: &[u8]) -> Vec<u8> {
        let output = self.run(words, input);
        assert!(output.status.success(), "gpg {words}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    fn run(&self, words: &str, input: &[u8]) -> Output {
        let mut child = Command::new("gpg")
            .args(["--batch", "--quiet", "--yes", "--no-tty", "--pinentry-mode", "loopback", "--passphrase", ""])
            .args(words.split(' '))
            .env("GNUPGHOME", &self.0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_vec();
        let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        output
    }

    /// Makes a key of these usages and returns its public part.
    pub(super) fn key(&self, name: &str, algorithm: &str, usage: &str, expires: &str) -> Vec<u8> {
        let id = format!("{name}@example");
        let words = ["--quick-gen-key", &id, algorithm, usage, expires];
        self.gpg(&format!("--faked-system-time {} {}", now() - 100_000, words.join(" ")), b"");
        self.public(name)
    }

    pub(super) fn public(&self, name: &str) -> Vec<u8> {
        self.gpg(&format!("--export {name}@example"), b"")
    }

    pub(super) fn fingerprint(&self, name: &str) -> String {
        let listing = self.gpg(&format!("--with-colons --list-keys {name}@example"), b"");
        let text = String::from_utf8(listing).unwrap();
        text.lines().find_map(|line| line.strip_prefix("fpr:::::::::")).unwrap().trim_end_matches(':').to_owned()
    }

    /// Whether `gpgv` takes a message, or a signature beside a document, by the keys of a keyring.
    pub(super) fn gpgv(&self, keyring: &[u8], signed: &[u8], document: Option<&[u8]>) -> bool {
        let write = |name: &str, bytes: &[u8]| {
            let path = self.path(name);
            fs::write(&path, bytes).unwrap();
            path
        };
        let mut command = Command::new("gpgv");
        command.env("GNUPGHOME", &self.0).arg("--keyring").arg(write("ring.gpg", keyring)).arg(write("signed", signed));
        if let Some(document) = document {
            command.arg(write("document", document));
        }
        command.output().unwrap().status.success()
    }
}

/// Runs a program that must succeed.
pub(super) fn ran(program: &str, words: &[&str], directory: &Path) -> Vec<u8> {
    let output = Command::new(program).args(words).current_dir(directory).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{program} {words:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}
