//! kill -9 of mirrors and prunes, at any moment: whatever is left is a whole tree, and the next run goes on.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use lxd_image::simplestreams::Tree;
use lxd_image::{Fingerprint, Monitor};

use super::{add, add_split, assert_clean, listed, stored, tree};
use crate::store::Scratch;

/// Good enough to choose by, and the same everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

#[test]
fn mirror_that_is_killed_leaves_a_whole_tree_and_the_next_run_goes_on() {
    let rounds: u64 = std::env::var("LXD_IMAGE_KILL_ROUNDS").map_or(24, |text| text.parse().unwrap());
    let scratch = Scratch::new();
    let mut origins: Vec<(String, Vec<Fingerprint>)> = Vec::new();
    for name in ["a", "b"] {
        let (origin, _) = tree(&scratch.join(name));
        for index in 0..4 {
            add(&origin, &format!("{name}-{index}"));
            add_split(&origin, &format!("{name}-split-{index}"));
        }
        add(&origin, "of-both");
        origins.push((format!("file://{}", origin.path().display()), listed(&origin)));
    }
    let at = scratch.join("copy");
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let (mut killed, mut partial) = (0, 0);
    for round in 0..rounds {
        let (url, _) = &origins[usize::from(random.below(3) == 0)];
        let mut child = Command::new(env!("CARGO_BIN_EXE_lxd-image"))
            .args(["mirror", "--delete", url])
            .arg(&at)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // Longer if nothing came so far: a machine may be slow to start a program at all.
        let until = Instant::now() + Duration::from_micros(random.below(80_000));
        while Instant::now() < until && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_micros(200));
        }
        child.kill().unwrap();
        let output = child.wait_with_output().unwrap();
        killed += u64::from(output.status.code().is_none());
        assert!(
            output.status.code().is_none_or(|code| code == 0),
            "round {round}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        if !at.join("streams/v1/images.json").exists() {
            continue;
        }
        let copy = Tree::open(&at).unwrap();
        assert_clean(&copy);
        let found = listed(&copy);
        assert!(found.iter().all(|image| origins.iter().any(|(_, all)| all.contains(image))), "round {round}");
        partial += u64::from(!found.is_empty() && origins.iter().all(|(_, all)| *all != found));
        // What `sstream-query` and the clients would read first.
        let index = at.join("streams/v1/index.json");
        assert!(found.is_empty() || serde_json::from_slice::<serde_json::Value>(&fs::read(index).unwrap()).is_ok());
    }
    let status = Command::new(env!("CARGO_BIN_EXE_lxd-image"))
        .args(["-q", "mirror", "--delete", &origins[0].0])
        .arg(&at)
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    let copy = Tree::open(&at).unwrap();
    assert_clean(&copy);
    assert_eq!(listed(&copy), origins[0].1);
    assert_eq!(fs::read_dir(at.join(".lxd-image/staging")).unwrap().count(), 0);
    // Two hours later only what is listed is left.
    let later = lxd_image::simplestreams::TreeOptions::new().clock(|| i64::from(i32::MAX)).open(&at).unwrap();
    let mut writer = later.lock().unwrap();
    writer.prune(&lxd_image::simplestreams::PruneOptions::new(), &Monitor::none()).unwrap();
    writer.prune(&lxd_image::simplestreams::PruneOptions::new().after(Duration::ZERO), &Monitor::none()).unwrap();
    assert_eq!(stored(&at), stored(&scratch.join("a")));
    println!("{rounds} rounds: {killed} killed, {partial} of them in the middle of a copy");
}
