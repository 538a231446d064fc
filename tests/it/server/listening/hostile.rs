//! Requests that were made to do harm: refused, the connection closed, and the server as well as before.

use super::*;

/// Sends bytes on a connection of their own; the statuses of all answers, until the server closes it.
fn statuses(served: &Listening, bytes: &[u8]) -> Vec<u16> {
    let mut talk = served.tls();
    let _ = talk.send(bytes);
    let mut found = Vec::new();
    while let Ok(answer) = talk.answer("GET") {
        found.push(answer.status);
        assert!(found.len() < 10);
    }
    found
}

#[test]
fn request_with_conflicting_lengths_is_refused_and_its_connection_closed() {
    let served = Listening::new();
    let hidden = "GET /1.0/images HTTP/1.1\r\nHost: a\r\n\r\n";
    let chunks = format!("0\r\n\r\n{hidden}");
    for head in [
        format!("Content-Length: {}\r\nTransfer-Encoding: chunked", chunks.len()),
        format!("Transfer-Encoding: chunked\r\nContent-Length: {}", chunks.len()),
        format!("transfer-encoding: chunked\r\nX: y\r\ncontent-length: {}", chunks.len()),
        "Content-Length: 0\r\nContent-Length: 5".to_owned(),
        "Content-Length: 5\r\nContent-Length: 5".to_owned(),
        "Content-Length: 5, 5".to_owned(),
        "Content-Length: +5".to_owned(),
        "Content-Length: -1".to_owned(),
        "Content-Length: 99999999999999999999999".to_owned(),
        "Content-Length: 0x5".to_owned(),
        "Transfer-Encoding: gzip".to_owned(),
        "Transfer-Encoding: chunked, gzip".to_owned(),
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked".to_owned(),
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity".to_owned(),
        "Content-Length : 5".to_owned(),
        "Content-Length: 5\r\n 5".to_owned(),
        "\tContent-Length: 5".to_owned(),
    ] {
        let bytes = format!("POST /1.0/images HTTP/1.1\r\nHost: a\r\n{head}\r\n\r\n{chunks}");
        assert_eq!(statuses(&served, bytes.as_bytes()), [400], "{head}");
    }
    assert_eq!(served.get("/health").status, 200);
}

#[test]
fn malformed_request_is_refused() {
    let served = Listening::new();
    for (bytes, expected) in [
        ("GET /1.0 HTTP/1.1\r\n\r\n", vec![400]),
        ("GET /1.0 HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", vec![400]),
        ("GET /1.0 HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n", vec![400]),
        ("GET /../../etc/passwd HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", vec![400]),
        ("GET /1.0/images/%00 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", vec![400]),
        ("GET * HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", vec![400]),
        ("CONNECT inside:22 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", vec![400]),
        ("TRACE /1.0 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", vec![405]),
        ("NOISE /1.0 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", vec![405]),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", vec![]),
    ] {
        let found = statuses(&served, bytes.as_bytes());
        // What can't be parsed at all may also just end.
        assert!(
            found == expected || (expected.is_empty() && found.iter().all(|status| *status >= 400)),
            "{bytes}: {found:?}"
        );
    }
    assert_eq!(served.get("/health").status, 200);
}

#[test]
fn endless_request_head_is_refused_at_the_limit() {
    let served = Listening::new();
    let long = format!("GET /1.0 HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "a".repeat(70 << 10));
    let many = format!("GET /1.0 HTTP/1.1\r\nHost: a\r\n{}\r\n", "A: b\r\n".repeat(200));
    let address = format!("GET /{} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "a".repeat(60 << 10));
    for (bytes, allowed) in [(long, &[400, 431][..]), (many, &[400, 431]), (address, &[400, 414])] {
        let found = statuses(&served, bytes.as_bytes());
        assert!(found.len() == 1 && allowed.contains(&found[0]), "{found:?}");
    }
    // One that goes on and on: the connection ends, and no memory goes with it.
    let mut talk = served.tls();
    talk.send(b"GET /1.0 HTTP/1.1\r\nHost: a\r\n").unwrap();
    let line = format!("X: {}\r\n", "a".repeat(1 << 10));
    let sent = (0..10_000).take_while(|_| talk.send(line.as_bytes()).is_ok()).count();
    assert!(sent < 9_000, "{sent} KiB of a head were taken");
    assert_eq!(served.get("/health").status, 200);
}

#[test]
fn anonymous_upload_is_refused_before_its_body_arrives() {
    let served = Listening::new();
    let mut talk = served.tls();
    talk.ask("POST", "/1.0/images", &[("Content-Length", "99999999999")]);
    let answer = talk.answer("POST").unwrap();
    assert_eq!(answer.status, 403);
    assert!(talk.is_closed());
}

#[test]
fn panic_in_a_handler_is_a_response_with_status_500() {
    let broken = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let switch = Arc::clone(&broken);
    let options = StoreOptions::new().clock(move || {
        assert!(!switch.load(std::sync::atomic::Ordering::Relaxed), "the clock of this test is broken");
        1_750_000_000
    });
    let served = Listening::of(&options, |options, _| options);
    let image = served.import("one");
    let path = format!("/1.0/images/{}/export", image.fingerprint);
    assert_eq!(served.get(&path).status, 200);
    broken.store(true, std::sync::atomic::Ordering::Relaxed);
    let mut talk = served.tls();
    talk.ask("GET", &path, &[]);
    let answer = talk.answer("GET").unwrap();
    assert_eq!((answer.status, answer.whole), (500, true));
    assert!(!answer.text().contains("clock"), "{}", answer.text());
    broken.store(false, std::sync::atomic::Ordering::Relaxed);
    talk.ask("GET", &path, &[]);
    assert_eq!(talk.answer("GET").unwrap().status, 200);
    assert!(served.get("/metrics").text().contains("lxd_image_panics_total 1\n"));
}

/// The file of the store that has so many bytes.
fn blob(served: &Listening, size: u64) -> std::path::PathBuf {
    let blobs = std::fs::read_dir(served.scratch.join("store/blobs")).unwrap();
    let mut paths: Vec<_> = blobs.map(|entry| entry.unwrap().path()).collect();
    while let Some(path) = paths.pop() {
        let data = std::fs::metadata(&path).unwrap();
        if data.is_dir() {
            paths.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if data.len() == size {
            return path;
        }
    }
    panic!("there is no file of {size} bytes");
}

#[test]
fn image_damaged_while_it_is_sent_never_arrives_completely() {
    use std::os::unix::fs::FileExt;
    let served = Listening::new();
    let (image, bytes) = served.import_large("large");
    let file = std::fs::File::options().write(true).open(blob(&served, image.size));
    let file = file.or_else(|_| {
        let path = blob(&served, image.size);
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
        std::fs::File::options().write(true).open(path)
    });
    let file = file.unwrap();
    let path = format!("/1.0/images/{}/export", image.fingerprint);
    let mut talk = served.tls();
    talk.ask("GET", &path, &[]);
    let head = talk.head().unwrap();
    assert_eq!(head.header("content-length"), Some(bytes.len().to_string().as_str()));
    // One byte near the end, which nobody has read yet.
    file.write_all_at(b"?", image.size - 5_000).unwrap();
    let mut got = Vec::new();
    let _ = (&mut talk.stream).take(image.size).read_to_end(&mut got);
    assert!(got.len() < bytes.len(), "{} of {} came", got.len(), bytes.len());
    // It becomes shorter: what is left of it can't be what was promised.
    file.set_len(image.size / 2).unwrap();
    let mut talk = served.tls();
    talk.ask("GET", &path, &[]);
    let short = talk.answer("GET").map_or(true, |answer| answer.status >= 500 || !answer.whole);
    assert!(short);
    drop(talk);
    assert!(!served.get("/metrics").text().contains("lxd_image_responses_broken_total 0\n"));
}
