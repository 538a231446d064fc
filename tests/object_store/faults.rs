//! Requests that break in every way: what was acknowledged is there, and no wrong byte is returned.

use std::io::Read;
use std::time::Duration;

use lxd_image::io::ReadAt;
use lxd_image::store::{BlobKey, BlobStore, ObjectBlobs};
use lxd_image::{ErrorKind, Monitor};

use crate::proxy::{Fault, Proxy};
use crate::servers::{Server, key, options_for, pattern, prefix, servers, staged};

/// Faults that a request may survive.
const FAULTS: [Fault; 11] = [
    Fault::DropBefore,
    Fault::DropAfter,
    Fault::Duplicate,
    Fault::Delay(Duration::from_millis(80)),
    Fault::Answer(500, "InternalError"),
    Fault::Answer(503, "SlowDown"),
    Fault::AnswerAfter(500, "InternalError"),
    Fault::AnswerAfter(503, "SlowDown"),
    Fault::ShortBody,
    Fault::ShortChunked,
    Fault::Pass,
];

/// Two handles to one prefix: through a proxy, and direct.
fn pair(server: &Server) -> (Proxy, ObjectBlobs, ObjectBlobs) {
    let (proxy, place) = (Proxy::start(&server.endpoint), prefix());
    let broken = ObjectBlobs::connect(&place, &options_for(&proxy.endpoint())).unwrap();
    let direct = ObjectBlobs::connect(&place, &server.options().probe(false)).unwrap();
    (proxy, broken, direct)
}

fn content(blobs: &ObjectBlobs, key: &BlobKey) -> lxd_image::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    blobs.open(key)?.reader().read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Numbers that look random, the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % sides
    }
}

#[test]
fn acknowledged_object_survives_broken_requests() {
    let (mut acknowledged, mut refused) = (0, 0);
    for server in servers() {
        let (proxy, broken, direct) = pair(server);
        let mut dice = Dice(42);
        proxy.plan(move |_| if dice.roll(4) == 0 { FAULTS[dice.roll(FAULTS.len())] } else { Fault::Pass });
        for round in 0..30_usize {
            // Every tenth one is sent in three parts.
            let length = if round % 10 == 0 { (11 << 20) + round } else { round * 7_001 };
            let (key, bytes) = (key(&format!("fault {round}")), pattern(length, round as u64));
            match broken.put(&key, &mut staged(&bytes), &Monitor::none()) {
                Ok(()) => {
                    acknowledged += 1;
                    assert!(content(&direct, &key).unwrap() == bytes, "{} {round}", server.name);
                }
                Err(error) => {
                    refused += 1;
                    assert_eq!(error.kind(), ErrorKind::Transient, "{} {round} {error}", server.name);
                }
            }
        }
    }
    assert!(refused * 10 <= acknowledged, "{refused} of {} were refused", refused + acknowledged);
}

#[test]
fn broken_reads_return_the_right_bytes_or_an_error() {
    for server in servers() {
        let (proxy, broken, direct) = pair(server);
        let (key, bytes) = (key("read"), pattern(6 << 20, 5));
        direct.put(&key, &mut staged(&bytes), &Monitor::none()).unwrap();
        let mut dice = Dice(7);
        proxy.plan(move |_| if dice.roll(3) == 0 { FAULTS[dice.roll(FAULTS.len())] } else { Fault::Pass });
        for round in 0..6_usize {
            assert!(content(&broken, &key).unwrap() == bytes, "{}", server.name);
            let blob = broken.open(&key).unwrap();
            for step in 0..6_usize {
                let start = (round * 1_000_003 + step * 777_777) % bytes.len();
                let end = (start + 40_000).min(bytes.len());
                let mut read = vec![0; end - start];
                blob.read_exact_at(&mut read, start as u64).unwrap();
                assert!(read == bytes[start..end], "{} {round} {step}", server.name);
            }
        }
    }
}

#[test]
fn every_fault_of_every_request_of_an_upload_is_survived() {
    for server in servers() {
        let (proxy, broken, direct) = pair(server);
        for fault in FAULTS {
            // Create, two parts, complete, look.
            for victim in 0..5_usize {
                let mut count = 0;
                proxy.plan(move |_| {
                    count += 1;
                    if count == victim + 1 { fault } else { Fault::Pass }
                });
                let (key, bytes) = (key("victim"), pattern((5 << 20) + 99, victim as u64));
                broken.put(&key, &mut staged(&bytes), &Monitor::none()).unwrap_or_else(|error| {
                    panic!("{} {fault:?} {victim}: {error} {:?}", server.name, error.hint());
                });
                let found = direct.open(&key).unwrap();
                let mut end = [0; 99];
                found.read_exact_at(&mut end, 5 << 20).unwrap();
                assert_eq!((found.len(), &end[..]), (bytes.len() as u64, &bytes[5 << 20..]));
            }
        }
    }
}

#[test]
fn wrong_answers_are_errors_and_no_bytes() {
    for server in servers() {
        let (proxy, broken, direct) = pair(server);
        let (key, bytes) = (key("wrong"), pattern(3 << 20, 6));
        direct.put(&key, &mut staged(&bytes), &Monitor::none()).unwrap();
        for fault in [Fault::WrongRange, Fault::OtherTag, Fault::NoRange] {
            proxy.plan(move |request| if request.method == "GET" { fault } else { Fault::Pass });
            let error = content(&broken, &key).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Malformed, "{} {fault:?} {error}", server.name);
        }
    }
}

#[test]
fn upload_that_is_damaged_on_its_way_is_sent_again_or_fails() {
    for server in servers() {
        let (proxy, broken, direct) = pair(server);
        for length in [70_001, 11 << 20] {
            let mut left = 1;
            proxy.plan(move |request| {
                let is_damaged = request.method == "PUT" && left > 0;
                left -= i32::from(is_damaged);
                if is_damaged { Fault::Damaged } else { Fault::Pass }
            });
            let (key, bytes) = (key(&format!("damaged {length}")), pattern(length, 3));
            match broken.put(&key, &mut staged(&bytes), &Monitor::none()) {
                Ok(()) => assert!(content(&direct, &key).unwrap() == bytes, "{} {length}", server.name),
                Err(error) => assert!(error.to_string().contains("MD5"), "{} {length} {error}", server.name),
            }
        }
    }
}

#[test]
fn deletion_survives_broken_requests() {
    for server in servers() {
        let (proxy, broken, direct) = pair(server);
        let mut dice = Dice(3);
        proxy.plan(move |_| if dice.roll(2) == 0 { FAULTS[dice.roll(FAULTS.len())] } else { Fault::Pass });
        for round in 0..10 {
            let keys: Vec<BlobKey> = (0..3).map(|number| key(&format!("delete {round} {number}"))).collect();
            for key in &keys {
                direct.put(key, &mut staged(b"x"), &Monitor::none()).unwrap();
            }
            broken.delete(&keys).unwrap();
            for key in &keys {
                assert_eq!(direct.open(key).unwrap_err().kind(), ErrorKind::NotFound, "{}", server.name);
            }
        }
    }
}

#[test]
fn server_that_answers_incorrectly_is_refused_at_once() {
    for server in servers() {
        for fault in [Fault::WrongRange, Fault::OtherTag, Fault::NoRange] {
            let proxy = Proxy::start(&server.endpoint);
            // All reads of objects; listings have another target.
            proxy.plan(move |request| {
                if request.method == "GET" && !request.target.contains("list-type") { fault } else { Fault::Pass }
            });
            let error = ObjectBlobs::connect(&prefix(), &options_for(&proxy.endpoint())).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{} {fault:?} {error}", server.name);
        }
    }
}
