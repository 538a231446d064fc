//! What every blob store promises, and what this one adds: ranges, versions, links, sweeps.

use std::io::Read;
use std::net::TcpStream;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lxd_image::io::ReadAt;
use lxd_image::store::{BlobKey, BlobStore, ObjectBlobs, Scratch, conformance};
use lxd_image::{Cancel, ErrorKind, Monitor, Update};

use crate::servers::{Server, key, pattern, prefix, servers, staged};

/// Reads an object from its start to its end.
fn content(blobs: &dyn BlobStore, key: &BlobKey) -> Vec<u8> {
    let mut bytes = Vec::new();
    blobs.open(key).unwrap().reader().read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn blobs_in_a_bucket_conform() {
    for server in servers() {
        conformance::blobs(&server.blobs(), &Scratch::in_memory())
            .unwrap_or_else(|error| panic!("{}: {error}, {:?}", server.name, error.hint()));
    }
}

#[test]
fn blobs_without_a_probe_conform() {
    for server in servers() {
        let blobs = ObjectBlobs::connect(&prefix(), &server.options().probe(false)).unwrap();
        blobs.init("unprobed").unwrap();
        conformance::blobs(&blobs, &Scratch::in_memory()).unwrap();
    }
}

#[test]
fn large_object_goes_up_in_parts_and_comes_back() {
    for server in servers() {
        let blobs = server.blobs();
        let (key, bytes) = (key("large"), pattern((16 << 20) + 12_345, 7));
        blobs.put(&key, &mut staged(&bytes), &Monitor::none()).unwrap();
        assert!(content(&blobs, &key) == bytes, "{}", server.name);
    }
}

#[test]
fn object_of_exactly_some_parts_comes_back() {
    for server in servers() {
        let blobs = server.blobs();
        for length in [5 << 20, (5 << 20) + 1, 10 << 20] {
            let (key, bytes) = (key("exact"), pattern(length, 8));
            blobs.put(&key, &mut staged(&bytes), &Monitor::none()).unwrap();
            assert!(content(&blobs, &key) == bytes, "{} {length}", server.name);
        }
    }
}

#[test]
fn ranges_are_read_by_many_threads_at_once() {
    for server in servers() {
        let blobs = server.blobs();
        let (key, bytes) = (key("ranges"), pattern(9 << 20, 9));
        blobs.put(&key, &mut staged(&bytes), &Monitor::none()).unwrap();
        let blob = blobs.open(&key).unwrap();
        std::thread::scope(|scope| {
            for thread in 0..6_usize {
                let (blob, bytes) = (&blob, &bytes);
                scope.spawn(move || {
                    for step in 0..25_usize {
                        let start = (thread * 7_919 + step * 400_009) % bytes.len();
                        let end = (start + 1 + step * 9_001).min(bytes.len());
                        let mut read = vec![0; end - start];
                        blob.read_exact_at(&mut read, start as u64).unwrap();
                        assert!(read == bytes[start..end]);
                    }
                });
            }
        });
    }
}

#[test]
fn reading_past_the_end_returns_nothing() {
    for server in servers() {
        let blobs = server.blobs();
        let key = key("end");
        blobs.put(&key, &mut staged(b"some bytes"), &Monitor::none()).unwrap();
        let blob = blobs.open(&key).unwrap();
        let mut buffer = [0; 100];
        assert_eq!(blob.read_at(&mut buffer, 4).unwrap(), 6);
        assert_eq!(blob.read_at(&mut buffer, 10).unwrap(), 0);
        assert_eq!(blob.read_at(&mut buffer, u64::MAX).unwrap(), 0);
    }
}

#[test]
fn object_that_is_replaced_under_a_reader_is_an_error() {
    for server in servers() {
        for probe in [true, false] {
            let blobs = ObjectBlobs::connect(&prefix(), &server.options().probe(probe).read_ahead(0)).unwrap();
            let (key, old, new) = (key("replaced"), pattern(1 << 20, 1), pattern(1 << 20, 2));
            blobs.put(&key, &mut staged(&old), &Monitor::none()).unwrap();
            let blob = blobs.open(&key).unwrap();
            let mut buffer = vec![0; 1000];
            blob.read_exact_at(&mut buffer, 0).unwrap();
            blobs.put(&key, &mut staged(&new), &Monitor::none()).unwrap();
            let error = blob.read_exact_at(&mut buffer, 900_000).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Malformed, "{} {error}", server.name);
        }
    }
}

#[test]
fn version_differs_between_objects_of_one_key() {
    for server in servers() {
        let blobs = server.blobs();
        let key = key("version");
        let version = |bytes: &[u8]| {
            blobs.put(&key, &mut staged(bytes), &Monitor::none()).unwrap();
            blobs.open(&key).unwrap().version().unwrap().unwrap()
        };
        let (first, second) = (version(b"one"), version(b"two"));
        assert_ne!(first, second);
        assert_eq!(first, version(b"one"));
    }
}

#[test]
fn cancelled_upload_leaves_no_object_and_no_parts() {
    for server in servers() {
        let place = prefix();
        let blobs = ObjectBlobs::connect(&place, &server.options().concurrency(1)).unwrap();
        let cancel = Cancel::new();
        let switch = cancel.clone();
        let progress = move |update: &Update| {
            if update.done > 6 << 20 {
                switch.cancel();
            }
            ControlFlow::Continue(())
        };
        let monitor = Monitor::none().with_cancel(cancel).with_progress(Arc::new(progress));
        let key = key("cancelled");
        let error = blobs.put(&key, &mut staged(&pattern(20 << 20, 3)), &monitor).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Cancelled);
        assert_eq!(blobs.open(&key).unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(uploads(server, &place), 0, "{}", server.name);
    }
}

/// How many unfinished uploads there are below an address.
fn uploads(server: &Server, place: &str) -> usize {
    let prefix = place.strip_prefix("s3://lxd-image/").unwrap();
    // In the order of the signature: by name.
    let listed = server.request("GET", &format!("/lxd-image?prefix={prefix}&uploads="));
    listed.matches("<UploadId>").count()
}

#[test]
fn progress_is_told_for_each_mebibyte() {
    for server in servers() {
        let blobs = server.blobs();
        for length in [4 << 20, 12 << 20] {
            let (last, steps) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
            let (seen, count) = (Arc::clone(&last), Arc::clone(&steps));
            let progress = move |update: &Update| {
                seen.store(update.done, Ordering::Relaxed);
                count.fetch_add(1, Ordering::Relaxed);
                ControlFlow::Continue(())
            };
            let monitor = Monitor::none().with_progress(Arc::new(progress));
            blobs.put(&key("progress"), &mut staged(&pattern(length, 4)), &monitor).unwrap();
            assert_eq!(last.load(Ordering::Relaxed), length as u64);
        }
    }
}

#[test]
fn list_has_every_key_once_in_order() {
    for server in servers() {
        let blobs = server.blobs();
        let mut keys: Vec<_> = (0..25).map(|number| key(&format!("list {number}"))).collect();
        for key in &keys {
            blobs.put(key, &mut staged(key.as_str().as_bytes()), &Monitor::none()).unwrap();
        }
        keys.sort();
        assert_eq!(blobs.list(None, 100).unwrap(), keys);
        assert_eq!(blobs.list(Some(&keys[9]), 5).unwrap(), keys[10..15]);
        blobs.delete(&keys).unwrap();
        assert!(blobs.list(None, 100).unwrap().is_empty());
    }
}

#[test]
fn archived_objects_are_kept_beside_the_store() {
    for server in servers() {
        let place = prefix();
        let blobs = ObjectBlobs::connect(&place, &server.options()).unwrap();
        let key = key("archived");
        for content in [&b"one"[..], b"two"] {
            blobs.put(&key, &mut staged(content), &Monitor::none()).unwrap();
            blobs.archive(std::slice::from_ref(&key)).unwrap();
        }
        let prefix = place.strip_prefix("s3://lxd-image/").unwrap();
        let listed = server.request("GET", &format!("/lxd-image?list-type=2&prefix={prefix}%2Farchive%2F"));
        assert_eq!(listed.matches(key.as_str()).count(), 2, "{listed}");
    }
}

#[test]
fn link_gives_the_object_to_anybody() {
    for server in servers() {
        let blobs = server.blobs();
        let key = key("linked");
        blobs.put(&key, &mut staged(b"linked bytes"), &Monitor::none()).unwrap();
        let link = blobs.link(&key, Duration::from_secs(60)).unwrap().unwrap();
        let (host, path) = link.strip_prefix("http://").unwrap().split_once('/').unwrap();
        let mut connection = TcpStream::connect(host).unwrap();
        let request = format!("GET /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        std::io::Write::write_all(&mut connection, request.as_bytes()).unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("linked bytes"), "{answer}");
    }
}

#[test]
fn link_is_valid_for_half_of_the_grace_at_most() {
    let Some(server) = servers().into_iter().next() else { return };
    let options = server.options().grace(Duration::from_secs(7200));
    let blobs = ObjectBlobs::connect(&prefix(), &options).unwrap();
    let link = blobs.link(&key("capped"), Duration::from_secs(1 << 30)).unwrap().unwrap();
    assert!(link.contains("X-Amz-Expires=3600"), "{link}");
}

#[test]
fn sweep_aborts_old_uploads_and_keeps_new_ones() {
    for server in servers() {
        let place = prefix();
        let blobs = ObjectBlobs::connect(&place, &server.options()).unwrap();
        let path = format!("/lxd-image/{}/blobs/{}", place.strip_prefix("s3://lxd-image/").unwrap(), key("old"));
        for _ in 0..3 {
            server.request("POST", &format!("{path}?uploads="));
        }
        // moto says of every upload that it began in 2010.
        if server.name != "moto" {
            assert_eq!(blobs.sweep().unwrap(), 0, "{}", server.name);
        }
        assert_eq!(uploads(server, &place), 3);
        let hasty = ObjectBlobs::connect(&place, &server.options().grace(Duration::from_secs(1))).unwrap();
        std::thread::sleep(Duration::from_secs(3));
        assert_eq!(hasty.sweep().unwrap(), 3, "{}", server.name);
        assert_eq!(uploads(server, &place), 0);
    }
}

#[test]
fn deletion_aborts_the_unfinished_uploads_of_its_objects() {
    for server in servers() {
        let place = prefix();
        let blobs = ObjectBlobs::connect(&place, &server.options()).unwrap();
        let path = |key: &BlobKey| format!("/lxd-image/{}/blobs/{key}", place.strip_prefix("s3://lxd-image/").unwrap());
        let keys = [key("one"), key("two"), key("three")];
        keys.iter().for_each(|key| _ = server.request("POST", &format!("{}?uploads=", path(key))));
        blobs.delete(&keys[..1]).unwrap();
        assert_eq!(uploads(server, &place), 2, "{}", server.name);
        blobs.delete(&keys[..2]).unwrap();
        assert_eq!(uploads(server, &place), 1, "{}", server.name);
    }
}

#[test]
fn store_works_on_threads_of_another_runtime() {
    let Some(server) = servers().into_iter().next() else { return };
    let blobs = server.blobs();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let key = key("runtime");
    // On a blocking thread, and in the middle of a future.
    let (blobs, key) = runtime
        .block_on(runtime.spawn_blocking(move || {
            blobs.put(&key, &mut staged(b"x"), &Monitor::none()).unwrap();
            (blobs, key)
        }))
        .unwrap();
    runtime.block_on(async { assert_eq!(content(&blobs, &key), b"x") });
}
