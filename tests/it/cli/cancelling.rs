//! Ctrl-C at several moments of every verb, with each codec: the program ends soon and leaves nothing.
//! `LXD_IMAGE_CANCEL_ROUNDS` sets how many moments are tried beyond the two of the small form.

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::run;
use crate::format::Place;

/// A second is promised; the rest is for machines that have too much to do.
const SOON: Duration = Duration::from_secs(3);

/// How a run that was interrupted ended.
struct Ended {
    status: Option<i32>,
    after: Duration,
    err: String,
}

fn start(place: &Place, words: &[&str], stdin: Stdio, stdout: Stdio) -> Child {
    Command::new(env!("CARGO_BIN_EXE_lxd-image"))
        .args(words)
        .current_dir(place.at(""))
        .env("LXD_IMAGE_STORE", place.at("store"))
        .env("TMPDIR", place.directory("tmp"))
        .stdin(stdin)
        .stdout(stdout)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn signal(child: &Child, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    // One that has ended is not waited for yet, so that its number is still its own.
    kill_process(pid, signal).unwrap();
}

fn end(mut child: Child, sent: Signal) -> Ended {
    signal(&child, sent);
    let begun = Instant::now();
    while child.try_wait().unwrap().is_none() && begun.elapsed() < SOON * 5 {
        std::thread::sleep(Duration::from_millis(10));
    }
    let after = begun.elapsed();
    let _ = child.kill();
    let output = child.wait_with_output().unwrap();
    Ended { status: output.status.code(), after, err: String::from_utf8_lossy(&output.stderr).into_owned() }
}

/// Everything in the place but what a store or a tree consists of while nothing is in it.
fn everything(place: &Place) -> BTreeSet<String> {
    fn walk(top: &Path, at: &Path, found: &mut BTreeSet<String>) {
        for entry in fs::read_dir(at).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                walk(top, &entry.path(), found);
            }
            found.insert(entry.path().strip_prefix(top).unwrap().to_string_lossy().into_owned());
        }
    }
    let mut found = BTreeSet::new();
    walk(&place.at(""), &place.at(""), &mut found);
    found.retain(|path| {
        let skeleton = path.starts_with("store") || path.starts_with("www") || path == "tmp";
        !skeleton || path.contains(".new.") || path.starts_with("www/.lxd-image/staging/") || path.contains("/images/")
    });
    found
}

/// Interrupts a verb at several moments. One that is done before may have done its work.
#[track_caller]
fn interrupt(place: &Place, words: &[&str]) {
    let rounds: u64 = std::env::var("LXD_IMAGE_CANCEL_ROUNDS").map_or(0, |rounds| rounds.parse().unwrap());
    for moment in [30, 400].into_iter().chain((0..rounds).map(|round| 50 + round * 150)) {
        let before = everything(place);
        let child = start(place, words, Stdio::null(), Stdio::null());
        std::thread::sleep(Duration::from_millis(moment));
        let ended = end(child, Signal::INT);
        assert!(ended.after < SOON, "{words:?} at {moment} ms: {:?}", ended.after);
        if ended.status.is_none() {
            // The signal came before the program had begun.
            assert_eq!(everything(place), before, "{words:?} at {moment} ms");
            continue;
        }
        if ended.status == Some(0) {
            for made in everything(place).difference(&before) {
                let _ = fs::remove_file(place.at(made)).or_else(|_| fs::remove_dir_all(place.at(made)));
            }
            continue;
        }
        assert_eq!(ended.status, Some(130), "{words:?} at {moment} ms: {}", ended.err);
        assert!(ended.err.ends_with("error[Cancelled]: cancelled\n"), "{words:?} at {moment} ms: {}", ended.err);
        assert_eq!(everything(place), before, "{words:?} at {moment} ms");
    }
}

/// A tree that takes a slow codec many seconds: words in no order.
fn tree(place: &Place, bytes: usize) {
    let mut state = 7_u64;
    let mut words = Vec::with_capacity(bytes);
    while words.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let word = (state >> 20) % 50_000;
        words.extend_from_slice(format!("{word:x} ").as_bytes());
    }
    place.directory("tree/rootfs/etc");
    fs::write(place.at("tree/rootfs/words"), words).unwrap();
    for number in 0..200 {
        fs::write(place.at(&format!("tree/rootfs/etc/{number}")), number.to_string()).unwrap();
    }
    fs::write(place.at("tree/metadata.yaml"), "architecture: x86_64\ncreation_date: 1700000000\n").unwrap();
}

#[test]
fn interrupted_encoders_leave_nothing() {
    let place = Place::new();
    tree(&place, 24 << 20);
    for codec in ["gzip", "xz", "xz:9", "zstd", "zstd:19", "bzip2", "lz4", "none"] {
        let words = ["pack", "tree/rootfs", "out", "--metadata", "tree/metadata.yaml", "--compression", codec];
        interrupt(&place, &words);
    }
    for codec in ["xz", "zstd:19"] {
        let words = ["pack", "tree/rootfs", "out", "--metadata", "tree/metadata.yaml", "--compression", codec];
        interrupt(&place, &[&words[..], &["--split", "--rootfs-format", "squashfs"]].concat());
        interrupt(&place, &["publish", "tree", "--compression", codec]);
    }
}

#[test]
fn interrupted_readers_leave_nothing() {
    let place = Place::new();
    tree(&place, 6 << 20);
    for codec in ["gzip", "xz:0", "zstd", "bzip2", "lz4", "none"] {
        let words = ["pack", "tree/rootfs", codec, "--metadata", "tree/metadata.yaml", "--compression", codec];
        run(&place, &words).good();
        for verb in [&["verify", codec][..], &["unpack", codec, "out"], &["inspect", codec]] {
            interrupt(&place, verb);
        }
    }
    interrupt(&place, &["convert", "lz4", "out", "--compression", "xz:9"]);
    interrupt(&place, &["convert", "lz4", "out", "--compression", "zstd:19"]);
    interrupt(&place, &["diff", "xz:0", "bzip2"]);
    interrupt(&place, &["fingerprint", "none"]);
    interrupt(&place, &["import", "bzip2"]);
    interrupt(
        &place,
        &[
            "simplestreams",
            "add",
            "www",
            "xz:0",
            "--no-default-alias",
            "--property",
            "os=Case",
            "--property",
            "release=1",
        ],
    );
}

/// Verbs that wait for somebody else, and the file `fifo` that nobody writes to.
#[test]
fn signal_ends_every_wait() {
    let place = Place::new();
    tree(&place, 1 << 20);
    let image = ["pack", "tree/rootfs", "image", "--metadata", "tree/metadata.yaml", "--compression", "none"];
    run(&place, &image).good();
    let imported = start(&place, &["import", "image", "--alias", "one"], Stdio::null(), Stdio::null());
    assert!(imported.wait_with_output().unwrap().status.success());
    rustix::fs::mknodat(
        rustix::fs::CWD,
        place.at("fifo"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    let before = everything(&place);
    for words in [
        &["verify", "-"][..],
        &["fingerprint", "-"],
        &["inspect", "-"],
        &["unpack", "-", "out"],
        &["convert", "-", "out"],
        &["import", "-"],
        &["edit", "one"],
        &["template", "render", "-"],
        &["verify", "fifo"],
        &["unpack", "fifo", "out"],
        &["import", "fifo"],
        &["pack", "tree/rootfs", "out", "--metadata", "fifo"],
        // Somebody who does not read.
        &["pack", "tree/rootfs", "-", "--metadata", "tree/metadata.yaml", "--compression", "none"],
        &["convert", "image", "-"],
        &["export", "one", "-"],
    ] {
        for sent in [Signal::INT, Signal::TERM, Signal::HUP] {
            let (reader, _silent) = std::io::pipe().unwrap();
            let (_unread, writer) = std::io::pipe().unwrap();
            let stdio = |end: OwnedFd| Stdio::from(end);
            let child = start(&place, words, stdio(reader.into()), stdio(writer.into()));
            std::thread::sleep(Duration::from_millis(150));
            let ended = end(child, sent);
            assert!(ended.after < SOON, "{words:?}: {:?}", ended.after);
            assert_eq!((ended.status, &*ended.err), (Some(130), "error[Cancelled]: cancelled\n"), "{words:?}");
            assert_eq!(everything(&place), before, "{words:?}");
            if std::env::var_os("LXD_IMAGE_CANCEL_ROUNDS").is_none() {
                break;
            }
        }
    }
}

#[test]
fn closed_terminal_cancels_like_ctrl_c() {
    let place = Place::new();
    tree(&place, 1 << 20);
    for sent in [Signal::TERM, Signal::HUP] {
        let (reader, _silent) = std::io::pipe().unwrap();
        let child = start(&place, &["verify", "-"], Stdio::from(OwnedFd::from(reader)), Stdio::null());
        std::thread::sleep(Duration::from_millis(150));
        assert_eq!(end(child, sent).status, Some(130), "{sent:?}");
    }
}

#[test]
fn next_run_removes_leftovers_of_a_killed_run() {
    let place = Place::new();
    tree(&place, 24 << 20);
    let pack = |codec| ["pack", "tree/rootfs", "out", "--metadata", "tree/metadata.yaml", "--compression", codec];
    let mut killed = start(&place, &pack("xz:9"), Stdio::null(), Stdio::null());
    let begun = Instant::now();
    let is_staged = |name: &String| name.starts_with(".out.lxd-image-");
    while !place.names("").iter().any(is_staged) {
        assert!(begun.elapsed() < Duration::from_secs(20), "nothing is staged");
        std::thread::sleep(Duration::from_millis(20));
    }
    // While it lives, what it makes is its own.
    let other = ["pack", "tree/rootfs", "other", "--metadata", "tree/metadata.yaml", "--compression", "none"];
    run(&place, &other).good();
    assert_eq!(place.names("").iter().filter(|name| is_staged(name)).count(), 1);
    killed.kill().unwrap();
    killed.wait().unwrap();
    run(&place, &pack("none")).good();
    assert_eq!(place.names(""), ["other", "out", "tmp", "tree"]);
}
