//! A server that is killed while clients upload and delete, again and again: what it answered is so, what it was about is done or not,
//! and nothing else is there. `LXD_IMAGE_KILL_ROUNDS` sets how often.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use lxd_image::store::Store;

use super::serving::{Process, serve};
use super::*;
use crate::store::{assert_clean, files, fingerprint, reads};

const CLIENTS: usize = 4;
const IMAGES: usize = 5;

/// Whether an image is there, as far as a client knows: `None` while its question has no answer.
type Known = BTreeMap<String, Option<bool>>;

/// Uploads what is not there, deletes what is, until the server is gone.
fn work(address: SocketAddr, friend: &Identity, known: &mut Known, done: &AtomicUsize) {
    let tags: Vec<String> = known.keys().cloned().collect();
    let mut talk = Talk::new(StreamOwned::new(client(Some(friend), &[b"http/1.1"]), connect(address).unwrap()));
    for tag in tags.iter().cycle() {
        let there = known[tag].unwrap();
        known.insert(tag.clone(), None);
        let name = fingerprint(tag);
        let (method, answered) = if there {
            ("DELETE", talk.try_ask("DELETE", &format!("/1.0/images/{name}"), &[]))
        } else {
            let bytes = unified(tag);
            let kind = ("Content-Type", "application/octet-stream");
            let asked = talk.try_ask("POST", "/1.0/images", &[kind, ("Content-Length", &bytes.len().to_string())]);
            // In two parts, so that the server is killed in between now and then.
            let (first, second) = bytes.split_at(700);
            ("POST", asked.and_then(|()| talk.send(first)).and_then(|()| talk.send(second)))
        };
        let Ok(answer) = answered.and_then(|()| talk.answer(method)) else { return };
        if !answer.whole {
            return;
        }
        let told: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        assert!(answer.status < 300, "{told}");
        if let Some(status) = told["metadata"]["status_code"].as_u64() {
            assert_eq!(status, 200, "{told}");
        }
        known.insert(tag.clone(), Some(!there));
        done.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn killed_server_keeps_confirmed_changes_and_no_partial_ones() {
    let rounds: u64 = std::env::var("LXD_IMAGE_KILL_ROUNDS").map_or(6, |text| text.parse().unwrap());
    let scratch = Scratch::new();
    let friend = Identity::new();
    std::fs::write(scratch.join("friend.crt"), &friend.pem).unwrap();
    let trust = scratch.join("friend.crt").to_str().unwrap().to_owned();
    let mut clients: Vec<Known> = (0..CLIENTS)
        .map(|client| (0..IMAGES).map(|image| (format!("{client}-{image}"), Some(false))).collect())
        .collect();
    let (mut done, mut interrupted) = (0, 0);
    for round in 0..rounds {
        let mut process = Process::start(serve(&scratch, &["--listen", "127.0.0.1:0", "--trust", &trust]));
        let answered = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            let (answered, friend, address) = (&answered, &friend, process.address);
            for known in &mut clients {
                scope.spawn(move || work(address, friend, known, answered));
            }
            // After so many answers, and then some moments more: another place each round.
            let (answers, moments) = (1 + round as usize * 7 % 23, round * 7_919 % 31 * 100);
            let since = Instant::now();
            while answered.load(Ordering::Relaxed) < answers {
                assert!(since.elapsed() < PATIENCE, "nothing is answered");
                std::thread::sleep(Duration::from_micros(100));
            }
            std::thread::sleep(Duration::from_micros(moments));
            process.child.kill().unwrap();
            process.child.wait().unwrap();
        });
        done += answered.into_inner();
        let store = Store::open(scratch.join("store")).unwrap();
        assert_clean(&store);
        let there: Vec<_> = store.images().unwrap().into_iter().map(|image| image.fingerprint).collect();
        let mut expected = 0;
        for (tag, known) in clients.iter_mut().flatten() {
            let found = there.contains(&fingerprint(tag));
            match known {
                Some(known) => assert_eq!(found, *known, "round {round}: {tag}"),
                None => interrupted += 1,
            }
            if found {
                assert_eq!(reads(&store, &fingerprint(tag)), unified(tag));
                expected += 1;
            }
            *known = Some(found);
        }
        assert_eq!(there.len(), expected, "round {round}: images that nobody sent");
        let left = files(&scratch.join("store"));
        assert_eq!(left.len(), expected * 2, "round {round}: leftovers: {left:?}");
    }
    println!("{rounds} rounds: {done} requests answered, {interrupted} interrupted");
}
