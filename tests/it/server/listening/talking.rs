//! What clients get that ask decently: over TLS and without, one request after the other, in parts, from what they have.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use lxd_image::server::ServerCertificate;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};

use super::*;
use crate::server::{Served, request, trusted, with};
use crate::store::reads;

#[test]
fn connection_is_reused_for_further_requests() {
    let served = Listening::new();
    let image = served.import("one");
    let mut talk = served.tls();
    for _ in 0..3 {
        talk.ask("GET", "/1.0/images", &[]);
        let answer = talk.answer("GET").unwrap();
        assert_eq!((answer.status, answer.whole), (200, true));
        assert!(answer.text().contains(&image.fingerprint.to_string()));
    }
    // Several at once are answered in their order.
    let one = "HEAD /1.0 HTTP/1.1\r\nHost: a\r\n\r\n";
    talk.send(format!("{one}GET /health HTTP/1.1\r\nHost: a\r\n\r\n{one}").as_bytes()).unwrap();
    let about = talk.answer("HEAD").unwrap();
    assert_eq!(talk.answer("GET").unwrap().text(), "ok\n");
    assert_eq!(talk.answer("HEAD").unwrap().header("content-length"), about.header("content-length"));
    talk.ask("GET", "/1.0", &[("Connection", "close")]);
    assert_eq!(talk.answer("GET").unwrap().body.len().to_string(), about.header("content-length").unwrap());
    assert!(talk.is_closed());
}

#[test]
fn image_is_served_whole_by_range_and_as_not_modified() {
    let served = Listening::new();
    let (image, bytes) = served.import_large("large");
    let path = format!("/1.0/images/{}/export", image.fingerprint);
    let mut talk = served.tls();
    for _ in 0..2 {
        // The first time it is hashed on its way, the second time it is known.
        talk.ask("GET", &path, &[]);
        let whole = talk.answer("GET").unwrap();
        assert!(whole.status == 200 && whole.whole && whole.body == bytes);
    }
    talk.ask("HEAD", &path, &[]);
    let head = talk.answer("HEAD").unwrap();
    assert_eq!((head.status, head.header("content-length")), (200, Some(bytes.len().to_string().as_str())));
    talk.ask("GET", &path, &[("Range", "bytes=1000000-1999999")]);
    let part = talk.answer("GET").unwrap();
    assert_eq!((part.status, part.body == bytes[1_000_000..2_000_000]), (206, true));
    talk.ask("GET", &path, &[("If-None-Match", head.header("etag").unwrap())]);
    let known = talk.answer("GET").unwrap();
    assert_eq!((known.status, known.header("content-length")), (304, None));
    // The connection is where it was.
    talk.ask("GET", "/health", &[]);
    assert_eq!(talk.answer("GET").unwrap().text(), "ok\n");
}

#[test]
fn plain_http_is_served_only_on_plain_sockets() {
    let served = Listening::new();
    let mut plain = served.plain();
    plain.ask("GET", "/1.0", &[]);
    assert_eq!(plain.answer("GET").unwrap().status, 200);
    let mut wrong = served.tcp();
    wrong.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut got = Vec::new();
    let _ = wrong.read_to_end(&mut got);
    assert!(!got.starts_with(b"HTTP/") && got.len() < 64, "{got:?}");
}

#[test]
fn old_clients_agree_on_tls_1_2_and_those_without_protocols_on_http_1() {
    let served = Listening::new();
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let mut talk = Talk::new(StreamOwned::new(client_of(&[version], None, &[]), served.tcp()));
        talk.ask("GET", "/health", &[]);
        assert_eq!(talk.answer("GET").unwrap().text(), "ok\n");
        let agreed = &talk.stream.get_ref().conn;
        assert_eq!((agreed.protocol_version(), agreed.alpn_protocol()), (Some(version.version), None));
    }
}

#[test]
fn curl_downloads_over_http_2_many_at_once() {
    if !crate::peers::available(&["curl"]) {
        return;
    }
    let served = Listening::new();
    let (image, bytes) = served.import_large("large");
    let url = format!("https://{}/1.0/images/{}/export", served.address, image.fingerprint);
    let mut curl = Command::new("curl");
    curl.args(["-sSfk", "--http2", "--parallel", "--parallel-immediate", "-w", "%{http_version} %{http_code}\n"]);
    let outs: Vec<_> = (0..5).map(|index| served.scratch.join(&format!("out-{index}"))).collect();
    for out in &outs {
        curl.arg("-o").arg(out).arg(&url);
    }
    let told = crate::peers::run(&mut curl);
    assert_eq!(told.lines().collect::<Vec<_>>(), ["2 200"; 5]);
    assert!(outs.iter().all(|out| std::fs::read(out).unwrap() == bytes));
    let part = crate::peers::run(Command::new("curl").args(["-sSk", "--http2", "-r", "5-14", "-o", "-"]).arg(&url));
    assert_eq!(part.as_bytes(), &bytes[5..15]);
    let head = crate::peers::run(Command::new("curl").args(["-sSkI", "--http2"]).arg(&url));
    assert!(head.contains(&format!("content-length: {}", bytes.len())), "{head}");
    let known = crate::peers::run(
        Command::new("curl")
            .args(["-sSkI", "--http2", "-H"])
            .args([&format!("If-None-Match: \"{}\"", image.fingerprint), &url]),
    );
    assert!(known.starts_with("HTTP/2 304") && !known.contains("content-length"), "{known}");
    assert_eq!(reads(&served.store, &image.fingerprint), bytes);
}

#[test]
fn access_log_has_one_line_per_request_without_secrets() {
    let mut served = Listening::new();
    let image = served.import("one");
    let name = image.fingerprint.to_string();
    served.get(&format!("/1.0/images/{name}?secret=hidden&q=%0aforged"));
    served.get("/nothing\"here");
    let size = served.get(&format!("/1.0/images/{name}/export")).body.len();
    served.stop().unwrap();
    let text = served.log.text();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 3, "{text}");
    assert!(lines[0].starts_with("127.0.0.1 - - ["), "{text}");
    assert!(lines[0].contains(&format!("\"GET /1.0/images/{name}?secret=***&q=%0aforged HTTP/1.1\" 200 ")), "{text}");
    assert!(lines[1].contains("\"GET /nothing%22here HTTP/1.1\" 40"), "{text}");
    assert!(lines[2].contains(&format!("/export HTTP/1.1\" 200 {size} ")), "{text}");
    assert!(!text.contains("hidden"));
}

#[test]
fn metrics_are_hidden_from_remote_anonymous_clients() {
    let listening = Listening::new();
    let image = listening.import("one");
    listening.get("/1.0/images");
    listening.get("/nothing");
    let told = listening.get("/metrics").text();
    for line in [
        "lxd_image_images 1".to_owned(),
        format!("lxd_image_image_bytes {}", image.size),
        "lxd_image_requests_total{method=\"GET\",status=\"2xx\"} 1".to_owned(),
        "lxd_image_requests_total{method=\"GET\",status=\"4xx\"} 1".to_owned(),
        "lxd_image_panics_total 0".to_owned(),
    ] {
        assert!(told.lines().any(|other| other == line), "{line}\n{told}");
    }
    let served = Served::new();
    let from = |address: &str| {
        let mut request = request("GET", "/metrics");
        request.peer = Some(address.parse().unwrap());
        request
    };
    for (address, status) in [("192.0.2.7", 404), ("2001:db8::1", 404), ("::1", 200), ("::ffff:127.0.0.1", 200)] {
        assert_eq!(served.handler.handle(from(address)).status, status, "{address}");
    }
    assert_eq!(served.handler.handle(trusted(from("192.0.2.7"))).status, 200);
    // A proxy on this machine.
    assert_eq!(served.handler.handle(with(from("127.0.0.1"), "x-forwarded-for", "192.0.2.7")).status, 404);
    assert_eq!(served.get("/metrics").status, 404);
    assert_eq!(served.handler.handle(trusted(request("DELETE", "/metrics"))).status, 405);
}

#[test]
fn health_check_fails_when_the_catalog_is_unreadable() {
    let served = Served::new();
    served.import("one", &[], true);
    assert_eq!(served.get("/health").status, 200);
    let catalog = std::fs::read_dir(served.root()).unwrap().map(|entry| entry.unwrap().path());
    let found = catalog.filter(|path| path.is_file()).collect::<Vec<_>>();
    for path in found {
        std::fs::write(path, vec![b'x'; 64 << 10]).unwrap();
    }
    let response = served.get("/health");
    assert_eq!(response.status, 503);
    assert_eq!(response.body.read_to_end().unwrap(), b"the store can't be read\n");
}

#[test]
fn certificate_is_made_once_for_all_names_and_its_key_is_private() {
    let scratch = Scratch::new();
    let names = ["images.example".to_owned(), "192.0.2.7".to_owned()];
    let made = ServerCertificate::kept_in(&scratch.join("a/b"), &names).unwrap();
    let again = ServerCertificate::kept_in(&scratch.join("a/b"), &[]).unwrap();
    assert_eq!(made.fingerprint(), again.fingerprint());
    let mode = |name: &str| std::fs::metadata(scratch.join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("a/b/server.key"), mode("a/b")), (0o600, 0o700));
    // Clients that look at names find all of them.
    let certificate = CertificateDer::from_pem_slice(&std::fs::read(scratch.join("a/b/server.crt")).unwrap()).unwrap();
    assert_eq!(Fingerprint::of(&certificate), made.fingerprint());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
    for (name, fits) in [
        ("images.example", true),
        ("192.0.2.7", true),
        ("localhost", true),
        ("127.0.0.1", true),
        ("::1", true),
        ("other.example", false),
    ] {
        let verified =
            verifier.verify_server_cert(&certificate, &[], &ServerName::try_from(name).unwrap(), &[], UnixTime::now());
        assert_eq!(verified.is_ok(), fits, "{name}: {verified:?}");
    }
    // One without the other is no certificate, and is not replaced.
    std::fs::remove_file(scratch.join("a/b/server.key")).unwrap();
    assert!(ServerCertificate::kept_in(&scratch.join("a/b"), &[]).is_err());
    assert!(ServerCertificate::kept_in(&scratch.join("c"), &["no name".to_owned()]).is_err());
}

#[test]
fn list_longer_than_a_page_goes_in_chunks() {
    let served = Listening::new();
    crate::server::listing::add(&served.scratch.join("store"), &crate::server::listing::long(3_000));
    let mut talk = served.tls();
    talk.ask("GET", "/1.0/images?recursion=1", &[("Connection", "close")]);
    let head = talk.head().unwrap();
    assert_eq!((head.header("content-length"), head.header("transfer-encoding")), (None, Some("chunked")));
    let mut body = Vec::new();
    talk.stream.read_to_end(&mut body).unwrap();
    assert!(body.ends_with(b"\r\n0\r\n\r\n"));
}

#[test]
fn head_of_a_list_longer_than_a_page_has_no_body() {
    let served = Listening::new();
    crate::server::listing::add(&served.scratch.join("store"), &crate::server::listing::long(3_000));
    let mut talk = served.tls();
    for _ in 0..2 {
        talk.ask("HEAD", "/1.0/images?recursion=1", &[]);
        let head = talk.answer("HEAD").unwrap();
        assert_eq!((head.status, head.header("content-length")), (200, None));
    }
}
