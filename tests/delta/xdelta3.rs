//! `xdelta3` in both directions. Where it is not installed the tests say so and pass, unless `LXD_IMAGE_REQUIRE_PEERS=1`.

use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use lxd_image::delta::{self, DeltaOptions, Secondary};
use lxd_image::io::Blob;
use lxd_image::{Limits, Monitor};

use crate::{applied, noise, text};

/// A directory with an old and a new file, and `xdelta3` in it.
struct Peer(PathBuf);

impl Peer {
    /// `None` where there is no `xdelta3`.
    fn new(old: &[u8], new: &[u8]) -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        if Command::new("xdelta3").arg("-V").output().is_err() {
            let required = std::env::var_os("LXD_IMAGE_REQUIRE_PEERS").is_some_and(|value| value == "1");
            assert!(!required, "xdelta3 is not installed, and LXD_IMAGE_REQUIRE_PEERS=1 wants it");
            eprintln!("xdelta3 is not installed: nothing is compared");
            return None;
        }
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("lxd-image-delta-{}-{count}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join("old"), old).unwrap();
        std::fs::write(path.join("new"), new).unwrap();
        Some(Self(path))
    }

    fn run(&self, options: &[&str], output: &str) -> Vec<u8> {
        let done = Command::new("xdelta3").arg("-f").args(options).current_dir(&self.0).output().unwrap();
        assert!(done.status.success(), "{options:?}: {}", String::from_utf8_lossy(&done.stderr));
        std::fs::read(self.0.join(output)).unwrap()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Two versions with everything in them: moved and changed parts, new ones that compress and such that don't, runs.
fn versions() -> (Vec<u8>, Vec<u8>) {
    let old = [text(1, 300_000), noise(2, 300_000), vec![0; 70_000], text(3, 200_000)].concat();
    let mut new = [&old[400_000..], &text(4, 40_000), &noise(5, 100_000), &[7; 9000], &old[..450_000]].concat();
    new.iter_mut().skip(600_000).step_by(997).for_each(|byte| *byte ^= 1);
    (old, new)
}

#[test]
fn deltas_of_xdelta3_are_applied_whatever_its_options() {
    let (old, new) = versions();
    let Some(peer) = Peer::new(&old, &new) else { return };
    let levels = (0..10).map(|level| vec![format!("-{level}")]);
    let split = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let others = [
        "-S none",
        "-S lzma",
        "-S djw",
        "-S djw -9",
        "-S djw -1",
        "-S lzma -0",
        "-A",
        "-A=name",
        "-n",
        "-n -A -S none",
        "-W 16384",
        "-W 65536 -S djw",
        "-W 65536 -S none",
        "-W 16777216",
        "-B 524288",
        "-B 524288 -W 16384 -S djw",
        "-I 10",
        "-P 16384",
        "-N",
        "-D",
    ];
    for options in levels.chain(others.map(split)) {
        let mut all = vec!["-e"];
        all.extend(options.iter().map(String::as_str));
        all.extend(["-s", "old", "new", "delta"]);
        let delta = peer.run(&all, "delta");
        let (out, report) = applied(&old, &delta).unwrap_or_else(|error| panic!("{options:?}: {error}"));
        assert!(out == new, "{options:?}");
        let without = options.iter().any(|option| option == "-n");
        assert_eq!(report.checksums, !without, "{options:?}");
        let expected = match () {
            () if options.iter().any(|option| option == "djw") => Some(Secondary::Djw),
            () if options.iter().any(|option| option == "none") => None,
            () => Some(Secondary::Lzma),
        };
        assert_eq!(report.secondary, expected, "{options:?}");
    }
}

#[test]
fn delta_of_xdelta3_without_a_base_is_applied() {
    let (old, new) = versions();
    let Some(peer) = Peer::new(&old, &new) else { return };
    for options in [["-e", "-9", "-S", "lzma"], ["-e", "-9", "-S", "djw"], ["-e", "-1", "-S", "none"]] {
        let delta = peer.run(&[&options[..], &["new", "delta"]].concat(), "delta");
        assert!(applied(b"", &delta).unwrap().0 == new, "{options:?}");
    }
}

#[test]
fn xdelta3_applies_our_deltas() {
    let (old, new) = versions();
    let big = [noise(6, 9 << 20), new.clone(), text(7, 3 << 20), noise(6, 9 << 20)].concat();
    for (old, new) in [(&*old, &*new), (&*new, &*old), (&*big, &*new), (&*new, &*big), (b"", &*new), (&*old, b"")] {
        let Some(peer) = Peer::new(old, new) else { return };
        for level in [0, 1, 9] {
            let mut delta = Vec::new();
            let options = DeltaOptions::new().level(level);
            let (old, made) = (Blob::from(old.to_vec()), Blob::from(new.to_vec()));
            delta::make(&old, &made, &mut delta, &options, &Monitor::none()).unwrap();
            std::fs::write(peer.0.join("delta"), &delta).unwrap();
            assert!(peer.run(&["-d", "-s", "old", "delta", "out"], "out") == new, "level {level}");
        }
    }
}

#[test]
fn our_deltas_are_smaller_than_those_of_xdelta3() {
    // Parts that moved farther than the 64 MiB that xdelta3 looks at, and pages that changed in place.
    let old = noise(8, 100 << 20);
    let mut new = [&old[80 << 20..], &old[..80 << 20]].concat();
    new.iter_mut().step_by(100_003).for_each(|byte| *byte ^= 1);
    let Some(peer) = Peer::new(&old, &new) else { return };
    let theirs = peer.run(&["-e", "-9", "-s", "old", "new", "delta"], "delta").len();
    let mut ours = Vec::new();
    let (old, made) = (Blob::from(old), Blob::from(new.clone()));
    delta::make(&old, &made, &mut ours, &DeltaOptions::new(), &Monitor::none()).unwrap();
    assert!(ours.len() * 100 < theirs, "{} and {theirs}", ours.len());
    std::fs::write(peer.0.join("delta"), &ours).unwrap();
    assert!(peer.run(&["-d", "-s", "old", "delta", "out"], "out") == new);
    let mut out = Vec::new();
    delta::apply(&old, &*ours, &mut out, &Limits::default(), &Monitor::none()).unwrap();
    assert!(out == new);
}
