//! Images of a server changed from the command line: imported there, edited, named, replaced, deleted.
//! The server is the program itself, which trusts this client.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Output, Stdio};

use lxd_image::Fingerprint;
use lxd_image::remote::Settings;

use crate::store::{Scratch, unified};

struct Server {
    scratch: Scratch,
    child: Child,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    fn start() -> Self {
        let scratch = Scratch::new();
        for tag in ["one", "two"] {
            std::fs::write(scratch.join(&format!("{tag}.tar")), unified(tag)).unwrap();
        }
        let settings = Settings::open(scratch.join("config"));
        settings.identity().unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_lxd-image"))
            .args(["serve", "--listen", "127.0.0.1:0", "--trust"])
            .arg(settings.certificate_file())
            .env("LXD_IMAGE_STORE", scratch.join("server"))
            .env("LXD_IMAGE_CONFIG", scratch.join("server-config"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (out, err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let (sender, receiver) = std::sync::mpsc::channel();
        for stream in [Box::new(out) as Box<dyn std::io::Read + Send>, Box::new(err)] {
            let sender = sender.clone();
            // Read to its end, so that the server never waits for a reader.
            std::thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    if let Some(url) = line.split_whitespace().find(|word| word.starts_with("https://127.0.0.1:")) {
                        let _ = sender.send(url.trim_end_matches('/').to_owned());
                    }
                }
            });
        }
        let url = receiver.recv_timeout(std::time::Duration::from_secs(30)).unwrap();
        let server = Self { scratch, child };
        server.ok(&["remote", "add", "s", &url, "--accept-certificate"]);
        server
    }

    fn run(&self, words: &[&str], input: &[u8]) -> Output {
        let mut child = Command::new(env!("CARGO_BIN_EXE_lxd-image"))
            .args(words)
            .current_dir(self.scratch.path())
            .env("LXD_IMAGE_STORE", self.scratch.join("store"))
            .env("LXD_IMAGE_CONFIG", self.scratch.join("config"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), input).ok();
        child.wait_with_output().unwrap()
    }

    #[track_caller]
    fn ok(&self, words: &[&str]) -> String {
        let output = self.run(words, b"");
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

#[test]
fn images_of_a_server_are_imported_edited_and_deleted() {
    let server = Server::start();
    let one = Fingerprint::of(&unified("one")).to_string();
    assert_eq!(server.ok(&["import", "one.tar", "s:", "--alias", "x", "os=Mine"]).trim(), one);
    assert_eq!(server.ok(&["get-property", "s:x", "os"]), "Mine\n");
    server.ok(&["set-property", "s:x", "k", "v"]);
    server.ok(&["set", "s:x", "public=true", "expires_at=2031-01-01"]);
    let shown = server.ok(&["show", "s:x"]);
    assert!(shown.contains("k: v") && shown.contains("public: true") && shown.contains("2031-01-01"), "{shown}");
    server.ok(&["unset-property", "s:x", "k"]);
    assert_eq!(server.run(&["get-property", "s:x", "k"], b"").status.code(), Some(4));
    assert!(server.run(&["edit", "s:x"], b"properties: {only: this}\n").status.success());
    let shown = server.ok(&["show", "s:x"]);
    assert!(shown.contains("only: this") && !shown.contains("Mine") && shown.contains("2031-01-01"), "{shown}");
    server.ok(&["delete", "s:x"]);
    assert_eq!(server.ok(&["list", "s:", "-f", "csv"]), "");
}

#[test]
fn aliases_of_a_server_are_made_renamed_and_removed() {
    let server = Server::start();
    server.ok(&["import", "one.tar", "s:", "--alias", "x"]);
    server.ok(&["alias", "create", "s:y", "x"]);
    server.ok(&["alias", "rename", "s:y", "z"]);
    let listed = server.ok(&["alias", "list", "s:", "-f", "{{ name }}"]);
    assert_eq!(listed, "x\nz\n");
    assert_eq!(server.ok(&["alias", "list", "s:", "z", "-f", "{{ name }}"]), "z\n");
    server.ok(&["alias", "delete", "s:z"]);
    assert_eq!(server.ok(&["alias", "list", "s:", "-f", "{{ name }}"]), "x\n");
}

#[test]
fn repeated_import_to_a_server_succeeds_and_removes_a_replaced_image() {
    let server = Server::start();
    server.ok(&["import", "one.tar", "s:", "--alias", "daily"]);
    server.ok(&["import", "one.tar", "s:", "--public"]);
    assert!(server.ok(&["show", "s:daily"]).contains("public: true"));
    let output = server.run(&["import", "two.tar", "s:", "--alias", "daily", "--reuse"], b"");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains(&Fingerprint::of(&unified("one")).to_string()), "{said}");
    let two = Fingerprint::of(&unified("two")).to_string();
    assert_eq!(server.ok(&["list", "s:", "-f", "csv", "-c", "F"]), format!("{two}\n"));
}

#[test]
fn url_of_a_server_that_is_pinned_is_imported() {
    let server = Server::start();
    server.ok(&["import", "one.tar", "s:", "--alias", "web", "--public"]);
    let remotes = server.ok(&["remote", "list", "-f", "{% if name == 's' %}{{ url }}{% endif %}"]);
    let url = format!("{}/web", remotes.trim().trim_end_matches('/'));
    for _ in 0..2 {
        server.ok(&["import", &url, "--alias", "mine"]);
    }
    let digits = Fingerprint::of(&unified("one")).to_string();
    assert_eq!(server.ok(&["fingerprint", "s:web"]).trim(), digits);
}
