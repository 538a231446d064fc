//! The command line with servers: import from a URL, and refresh.

use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

use lxd_image::Fingerprint;

use super::server::{Server, answer};
use crate::store::{Scratch, unified};

fn run(scratch: &Scratch, words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lxd-image"))
        .args(words)
        .env("LXD_IMAGE_STORE", scratch.join("store"))
        .env_remove("SSL_CERT_FILE")
        .output()
        .unwrap()
}

#[track_caller]
fn ok(scratch: &Scratch, words: &[&str]) -> String {
    let output = run(scratch, words);
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[track_caller]
fn fails(scratch: &Scratch, words: &[&str], status: i32, kind: &str) -> String {
    let output = run(scratch, words);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(status), "{words:?}: {text}");
    assert!(text.starts_with(&format!("error[{kind}]: ")), "{words:?}: {text}");
    text
}

/// journeys.md 11.
#[test]
fn cli_imports_a_url_and_refreshes_it() {
    let scratch = Scratch::new();
    let current = Arc::new(Mutex::new(unified("old")));
    let served = Arc::clone(&current);
    let server = Server::plain(move |asked, line| {
        let image = served.lock().unwrap().clone();
        let hash = Fingerprint::of(&image).to_string();
        match (&*asked.method, &*asked.path) {
            ("HEAD", "/lxd") => answer(line, 200, &[("LXD-Image-Hash", &hash), ("LXD-Image-URL", "/box.tar")], b""),
            ("GET", "/box.tar") => answer(line, 200, &[], &image),
            ("HEAD", "/page") => answer(line, 200, &[], b""),
            _ => answer(line, 404, &[], b""),
        }
    });
    let url = server.text("/lxd");
    let old = Fingerprint::of(&unified("old")).to_string();
    let words = ["import", &url, "--alias", "box", "--auto-update", "--public", "--property", "mine=yes"];
    assert_eq!(ok(&scratch, &words).trim_end(), old);
    assert!(ok(&scratch, &["info", "box"]).contains(&url));
    assert_eq!(ok(&scratch, &["import", &url]).trim_end(), old);
    fails(&scratch, &["import", &url, "--fingerprint", &"0".repeat(64)], 1, "Mismatch");
    let told = fails(&scratch, &["import", &server.text("/page")], 1, "Remote");
    assert!(told.contains("LXD-Image-Hash"), "{told}");
    fails(&scratch, &["import", &server.text("/none")], 4, "NotFound");
    fails(&scratch, &["import", &url, "rootfs.tar"], 1, "InvalidInput");
    assert_eq!(ok(&scratch, &["refresh"]), "");
    let new = unified("new");
    *current.lock().unwrap() = new.clone();
    let moves = format!("box: {} → {}\n", &old[..12], Fingerprint::of(&new).short());
    assert_eq!(ok(&scratch, &["refresh", "--dry-run"]), moves);
    assert_eq!(ok(&scratch, &["refresh"]), moves);
    assert_eq!(ok(&scratch, &["get-property", "box", "mine"]).trim_end(), "yes");
    drop(server);
    // A server that is away is no reason to lose anything.
    assert_eq!(run(&scratch, &["info", "box"]).status.code(), Some(0));
}
