//! `kill -9` of this program and of the registry in the middle of a large layer: the next run, or this one, comes to its end.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::fake::Fake;
use super::layers::{add_container, asked, layer};
use super::peers::{Registry, command, ok, push_container, tar};
use super::{import_sized, store};
use crate::remote::server::{Server, head, hold};
use crate::store::Scratch;

const LARGE: usize = 96 << 20;
/// What has to be there before something is killed.
const BEGUN: u64 = 1 << 20;

/// The size of the largest file below a directory.
fn largest(directory: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(directory) else { return 0 };
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(about) if about.is_dir() => largest(&entry.path()),
        Ok(about) => about.len(),
        Err(_) => 0,
    };
    entries.flatten().map(size).max().unwrap_or(0)
}

/// Starts this program, and returns once it has written something below the directory.
fn begun(scratch: &Scratch, words: &[&str], directory: &Path) -> Child {
    let child = command(scratch).args(words).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let began = Instant::now();
    while largest(directory) < BEGUN && began.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_millis(1));
    }
    child
}

fn kill(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

/// A registry with a container image of one large layer, named as the remote `reg`.
fn with_container(scratch: &Scratch) -> Option<Registry> {
    let registry = Registry::start(scratch, None)?;
    // Text of which no more than a half is left when it is packed.
    let mut state = 1_u64;
    let mut content = String::new();
    while content.len() < LARGE / 2 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        content.push_str(&format!("{state:016x}"));
    }
    push_container(&registry.client(), "app", "1", &[tar(&[("etc/passwd", ""), ("big", &content)])]);
    ok(scratch, &["remote", "add", "reg", &registry.url(), "--protocol", "oci"]);
    Some(registry)
}

#[test]
fn killed_pull_is_done_by_the_next_run() {
    let scratch = Scratch::new();
    let Some(_registry) = with_container(&scratch) else { return };
    let staging = scratch.join("store/staging");
    kill(begun(&scratch, &["copy", "reg:app:1", "local:"], &staging));
    ok(&scratch, &["copy", "reg:app:1", "local:", "--alias", "app"]);
    ok(&scratch, &["check"]);
    assert_eq!(fs::read_dir(&staging).unwrap().count(), 0);
    assert_eq!(store(&scratch).layers().unwrap().layers, 1);
}

#[test]
fn killed_pull_fetches_neither_whole_layers_nor_the_part_of_one_again() {
    for is_damaged in [false, true] {
        killed_pull_goes_on(is_damaged);
    }
}

/// A pull is killed when one layer is kept and half of another has arrived; that half may be damaged then.
fn killed_pull_goes_on(is_damaged: bool) {
    let scratch = Scratch::new();
    let (small, large) = (layer("etc/passwd", b""), layer("large", &vec![7; 4 << 20]));
    let fake = Fake::default();
    add_container(&fake, "1", &[&small, &large]);
    let end = format!("/blobs/{}", lxd_image::oci::Digest::of(&large));
    let is_stuck = Arc::new(AtomicBool::new(true));
    let (half, stuck) = (large[..large.len() / 2].to_vec(), Arc::clone(&is_stuck));
    let server = Server::plain(move |asked, line| {
        if !asked.path.ends_with(&end) || !stuck.load(Ordering::Relaxed) {
            return fake.respond(asked, line);
        }
        head(line, 200, &[], Some(half.len() * 2))?;
        line.write_all(&half)?;
        line.flush()?;
        hold(line)
    });
    ok(&scratch, &["remote", "add", "reg", &server.url("/").to_string(), "--protocol", "oci"]);
    let words = ["copy", "reg:app:1", "local:"];
    let child = command(&scratch).args(words).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let began = Instant::now();
    let staging = scratch.join("store/staging");
    while largest(&staging) < large.len() as u64 / 2 || store(&scratch).layers().unwrap().layers == 0 {
        assert!(began.elapsed() < Duration::from_secs(20), "no layer is kept");
        std::thread::sleep(Duration::from_millis(20));
    }
    kill(child);
    is_stuck.store(false, Ordering::Relaxed);
    server.forget();
    let parts: Vec<_> = fs::read_dir(&staging).unwrap().map(|entry| entry.unwrap().path()).collect();
    let part = parts.iter().find(|path| path.file_name().unwrap().to_str().unwrap().starts_with("part-")).unwrap();
    if is_damaged {
        fs::OpenOptions::new().write(true).open(part).unwrap().write_all(b"damaged").unwrap();
    }
    ok(&scratch, &["copy", "reg:app:1", "local:", "--alias", "app"]);
    assert_eq!(asked(&server, [&small, &large]), [0, if is_damaged { 2 } else { 1 }]);
    let end = format!("/blobs/{}", lxd_image::oci::Digest::of(&large));
    let first = server.asked().into_iter().find(|asked| asked.path.ends_with(&end)).unwrap();
    assert_eq!(first.from(), Some(large.len() / 2));
    assert_eq!(fs::read_dir(&staging).unwrap().count(), 0);
    ok(&scratch, &["check"]);
}

#[test]
fn pull_goes_on_when_the_registry_comes_back() {
    let scratch = Scratch::new();
    let Some(mut registry) = with_container(&scratch) else { return };
    let mut child = begun(&scratch, &["copy", "reg:app:1", "local:", "--alias", "app"], &scratch.join("store/staging"));
    registry.restart(&scratch);
    assert!(child.wait().unwrap().success());
    ok(&scratch, &["check"]);
}

#[test]
fn killed_push_is_done_by_the_next_run() {
    let scratch = Scratch::new();
    let Some(registry) = Registry::start(&scratch, None) else { return };
    let image = import_sized(&store(&scratch), "box", LARGE);
    ok(&scratch, &["remote", "add", "reg", &registry.url(), "--protocol", "oci"]);
    kill(begun(&scratch, &["copy", "box", "reg:box:1"], &scratch.join("registry")));
    let digits = ok(&scratch, &["copy", "box", "reg:box:1"]);
    assert_eq!(digits.trim_end(), image.fingerprint.to_string());
}

#[test]
fn push_goes_on_when_the_registry_comes_back() {
    let scratch = Scratch::new();
    let Some(mut registry) = Registry::start(&scratch, None) else { return };
    let image = import_sized(&store(&scratch), "box", LARGE);
    ok(&scratch, &["remote", "add", "reg", &registry.url(), "--protocol", "oci"]);
    let mut child = begun(&scratch, &["copy", "box", "reg:box:1"], &scratch.join("registry"));
    registry.restart(&scratch);
    assert!(child.wait().unwrap().success());
    let info = ok(&scratch, &["info", "reg:box:1"]);
    assert!(info.contains(&image.fingerprint.to_string()), "{info}");
}
