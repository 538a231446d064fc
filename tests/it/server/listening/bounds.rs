//! Clients that hold what others need: slow ones, silent ones, many at once. Each is cut in time, and others are served meanwhile.

use std::io::Read;
use std::time::Instant;

use lxd_image::Limits;

use super::*;

fn limits(idle: u64) -> Limits {
    let mut limits = Limits::default();
    limits.idle = idle;
    limits
}

/// Until the server ends the connection.
fn until_closed(mut read: impl FnMut() -> io::Result<usize>) -> Duration {
    let since = Instant::now();
    loop {
        match read() {
            Ok(0) => return since.elapsed(),
            Ok(_) => {}
            Err(error) => {
                let patience = matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut);
                assert!(!patience, "the connection goes on");
                return since.elapsed();
            }
        }
    }
}

#[test]
fn idle_clients_are_disconnected() {
    let served = Listening::with(|options, _| options.head_time(Duration::from_millis(400)));
    // Says nothing at all, and not even begins TLS.
    let mut silent = served.tcp();
    // Talks TLS, and asks for nothing.
    let mut idle = served.tls();
    idle.ask("GET", "/health", &[]);
    idle.answer("GET").unwrap();
    // A head, a byte at a time.
    let mut dribbling = served.tls();
    dribbling.send(b"GET /1.0 HTTP/1.1\r\nHost: a\r\nX: ").unwrap();
    let since = Instant::now();
    while dribbling.send(b"a").is_ok() {
        assert!(since.elapsed() < PATIENCE, "a head may take for ever");
        assert_eq!(served.get("/health").status, 200);
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut byte = [0];
    assert!(until_closed(|| silent.read(&mut byte)) < PATIENCE);
    assert!(until_closed(|| idle.stream.read(&mut byte)) < PATIENCE);
    assert_eq!(served.get("/health").status, 200);
}

#[test]
fn download_whose_client_reads_nothing_is_cut() {
    let served = Listening::with(|options, _| options.limits(limits(1)));
    let (image, bytes) = served.import_large("large");
    let mut talk = served.tls();
    talk.ask("GET", &format!("/1.0/images/{}/export", image.fingerprint), &[]);
    let head = talk.head().unwrap();
    assert_eq!(head.status, 200);
    let since = Instant::now();
    while !served.get("/metrics").text().contains("lxd_image_connections_cut_total 1\n") {
        assert!(since.elapsed() < PATIENCE, "a client that does not read is never left");
        std::thread::sleep(Duration::from_millis(100));
    }
    let mut got = Vec::new();
    let _ = talk.stream.read_to_end(&mut got);
    assert!(got.len() < bytes.len() && bytes.starts_with(&got));
}

#[test]
fn download_that_is_read_slowly_goes_on() {
    let served = Listening::with(|options, _| options.limits(limits(1)));
    let (image, bytes) = served.import_large("large");
    let mut talk = served.tls();
    talk.ask("GET", &format!("/1.0/images/{}/export", image.fingerprint), &[]);
    talk.head().unwrap();
    let mut got = vec![0; bytes.len()];
    // In all three times what silence may last.
    for part in got.chunks_mut(bytes.len().div_ceil(15)) {
        talk.stream.read_exact(part).unwrap();
        std::thread::sleep(Duration::from_millis(200));
    }
    assert!(got == bytes);
}

fn healthy(talk: &mut Talk<Tls>) {
    talk.ask("GET", "/health", &[]);
    assert_eq!(talk.answer("GET").unwrap().status, 200);
}

#[test]
fn connections_over_the_limit_wait() {
    let served = Listening::with(|options, _| options.connections(3));
    let mut held: Vec<_> = (0..3).map(|_| served.tls()).collect();
    held.iter_mut().for_each(healthy);
    let mut more = served.tls();
    let wait = |talk: &mut Talk<Tls>, time| talk.stream.get_mut().sock.set_read_timeout(Some(time)).unwrap();
    wait(&mut more, Duration::from_millis(300));
    let error = more.send(b"GET /health HTTP/1.1\r\n").unwrap_err();
    assert!(matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut), "{error}");
    drop(held.pop());
    wait(&mut more, PATIENCE);
    healthy(&mut more);
}

#[test]
fn connections_are_limited_per_address() {
    let Ok(other) = TcpListener::bind("[::1]:0") else { return };
    let there = other.local_addr().unwrap();
    let served = Listening::also(other, |options, _| options.connections_per_address(3));
    let mut held: Vec<_> = (0..3).map(|_| served.tls()).collect();
    for talk in &mut held {
        healthy(talk);
    }
    for _ in 0..10 {
        let mut more = served.tls();
        let refused = more.send(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n").and_then(|()| more.answer("GET"));
        assert!(refused.is_err());
        // Another address is another client.
        let mut else_where = Talk::new(StreamOwned::new(client(None, &[b"http/1.1"]), connect(there).unwrap()));
        healthy(&mut else_where);
    }
    drop(held.pop());
    let since = Instant::now();
    loop {
        let mut talk = served.tls();
        let answered = talk.send(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n").and_then(|()| talk.answer("GET"));
        if let Ok(answer) = answered {
            assert!(!answer.text().contains("lxd_image_connections_refused_total 0\n"));
            break;
        }
        assert!(since.elapsed() < PATIENCE, "a connection that ended still counts");
    }
}

#[test]
fn too_large_body_gets_a_response_instead_of_a_reset() {
    let served = Listening::with(|options, _| options);
    for round in 0..30 {
        let mut talk = served.tls();
        let length = (4_usize << 20).to_string();
        let mut head = format!("POST /1.0/images HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n").into_bytes();
        head.resize(head.len() + (4 << 20), b'x');
        // All of it is sent before the answer is read, as simple clients do.
        talk.send(&head).unwrap_or_else(|error| panic!("round {round}: {error}"));
        assert_eq!(talk.head().unwrap().status, 403, "round {round}");
    }
}
