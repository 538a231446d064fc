//! How a server stops: what it began it ends, within its time; what is idle ends at once.

use std::io::Read;
use std::time::Instant;

use super::*;

#[test]
fn shutdown_finishes_downloads_and_closes_idle_connections() {
    let mut served = Listening::new();
    let (image, bytes) = served.import_large("large");
    let mut idle = served.tls();
    idle.ask("GET", "/health", &[]);
    idle.answer("GET").unwrap();
    let mut talk = served.tls();
    talk.ask("GET", &format!("/1.0/images/{}/export", image.fingerprint), &[]);
    talk.head().unwrap();
    served.begin_to_stop();
    let since = Instant::now();
    while connect(served.address).is_ok() {
        assert!(since.elapsed() < PATIENCE, "it still takes connections");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(idle.is_closed());
    let mut got = vec![0; bytes.len()];
    talk.stream.read_exact(&mut got).unwrap();
    assert!(got == bytes);
    assert!(talk.is_closed());
    served.stop().unwrap();
}

#[test]
fn download_is_cut_after_the_grace_time() {
    let mut served = Listening::with(|options, _| options.grace(Duration::from_millis(300)));
    let (image, bytes) = served.import_large("large");
    let mut talk = served.tls();
    talk.ask("GET", &format!("/1.0/images/{}/export", image.fingerprint), &[]);
    talk.head().unwrap();
    let mut silent = served.tcp();
    let since = Instant::now();
    served.stop().unwrap();
    assert!(since.elapsed() < PATIENCE);
    let mut got = Vec::new();
    let _ = talk.stream.read_to_end(&mut got);
    assert!(got.len() < bytes.len());
    assert!(!matches!(silent.read(&mut [0]), Ok(1)));
}

#[test]
fn shutdown_does_not_wait_for_incomplete_requests_and_handshakes() {
    use std::io::Write;
    let mut served = Listening::new();
    let mut half = served.tls();
    half.stream.get_mut().write_all(b"GET /1.0 HTTP/1.1\r\nHo").unwrap();
    half.stream.get_mut().flush().unwrap();
    let _silent = served.tcp();
    std::thread::sleep(Duration::from_millis(200));
    let since = Instant::now();
    served.stop().unwrap();
    assert!(since.elapsed() < Duration::from_secs(5), "{:?}", since.elapsed());
}

#[test]
fn listener_without_address_or_certificate_is_refused() {
    let scratch = Scratch::new();
    let handler = || Arc::new(Handler::new(Store::open(scratch.join("store")).unwrap(), ServerOptions::new()));
    let mut listener = Listener::new(handler(), ListenerOptions::new()).unwrap();
    let error = listener.bind("127.0.0.1:0".parse().unwrap()).unwrap_err();
    assert_eq!(error.kind(), lxd_image::ErrorKind::InvalidInput);
    assert_eq!(listener.run(&Cancel::new()).unwrap_err().kind(), lxd_image::ErrorKind::InvalidInput);
}
