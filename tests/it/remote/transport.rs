//! One request and its answer: trust, redirects, limits, silence, and what goes wrong on the way.

use std::io::{Read, Write};

use lxd_image::remote::{Client, ClientOptions, Identity, Method, Proxy, Request, Trust, Url};
use lxd_image::{Cancel, ErrorKind, Fingerprint, Limits, Monitor};

use super::failed;
use super::server::{Server, Then, answer, head, hold};

fn client(server: &Server) -> Client {
    Client::new(server.options()).unwrap()
}

fn limits(change: impl FnOnce(&mut Limits)) -> Limits {
    let mut limits = Limits::default();
    change(&mut limits);
    limits
}

#[test]
fn answer_comes_with_its_status_headers_and_body() {
    for server in [
        Server::plain(|asked, line| answer(line, 200, &[("x-path", &asked.path)], b"hello")),
        Server::tls(|asked, line| answer(line, 200, &[("x-path", &asked.path)], b"hello")),
    ] {
        let client = client(&server);
        for path in ["/a?b=c", "/d"] {
            let answer = client.send(Request::get(&server.url(path))).unwrap().success().unwrap();
            assert_eq!((answer.status(), answer.header("X-Path"), answer.length()), (200, Some(path), Some(5)));
            assert_eq!(answer.text().unwrap(), "hello");
        }
    }
}

#[test]
fn body_is_sent_whole_whether_its_length_is_known_or_not() {
    let server = Server::tls(|asked, line| answer(line, 202, &[], &asked.body));
    let client = client(&server);
    let url = server.url("/1.0/images");
    let bytes = vec![7; 300_000];
    let request = Request::new(Method::Post, &url).bytes("application/octet-stream", bytes.clone());
    assert_eq!(client.send(request).unwrap().contents("remote_index", 1 << 20).unwrap(), bytes);
    let request = Request::new(Method::Put, &url).stream("x/y", Some(300_000), &*bytes);
    let mut back = Vec::new();
    client.send(request).unwrap().into_body().read_to_end(&mut back).unwrap();
    assert_eq!(back, bytes);
    assert_eq!(server.asked()[1].header("content-type"), Some("x/y"));
    let request = Request::new(Method::Patch, &url).json(&serde_json::json!({"public": true}));
    assert_eq!(client.send(request).unwrap().text().unwrap(), "{\"public\":true}");
}

/// hostile.md 168.
#[test]
fn certificate_that_changed_since_it_was_pinned_ends_the_connection() {
    let server = Server::tls(|_, line| answer(line, 200, &[], b"secret"));
    let pinned = Fingerprint::of(b"another");
    let client = Client::new(server.options().trust(Trust::Pinned(pinned))).unwrap();
    let error = failed(client.send(Request::get(&server.url("/"))), ErrorKind::Remote);
    let now = server.certificate().fingerprint();
    assert!(error.message().contains(&pinned.to_string()) && error.message().contains(&now.to_string()), "{error}");
    assert!(!error.is_transient());
    assert!(server.asked().is_empty(), "nothing was asked of a stranger");
}

#[test]
fn self_signed_certificate_is_refused_unless_it_is_pinned_or_an_authority() {
    let server = Server::tls(|_, line| answer(line, 200, &[], b"x"));
    let client = Client::new(ClientOptions::new()).unwrap();
    let error = failed(client.send(Request::get(&server.url("/"))), ErrorKind::Remote);
    assert!(error.message().contains("not signed by an authority"), "{error}");
    let options = ClientOptions::new().trust(Trust::SystemAnd(vec![server.certificate()]));
    assert_eq!(Client::new(options).unwrap().send(Request::get(&server.url("/"))).unwrap().status(), 200);
}

#[test]
fn certificate_that_says_it_is_an_authority_serves_those_who_named_it_under_its_own_name() {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut about = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    about.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let made = rcgen::CertifiedKey { cert: about.self_signed(&key).unwrap(), signing_key: key };
    let server = Server::with_certificate(&made, |_, line| answer(line, 200, &[], b"x"));
    let named = ClientOptions::new().trust(Trust::SystemAnd(vec![server.certificate()]));
    let client = Client::new(named).unwrap();
    let ask = |host: &str| client.send(Request::get(&format!("https://{host}:{}/", server.port()).parse().unwrap()));
    assert_eq!(ask("localhost").unwrap().status(), 200);
    let error = failed(ask("127.0.0.1"), ErrorKind::Remote);
    assert!(error.message().contains("is for another name"), "{error}");
    let stranger = Client::new(ClientOptions::new()).unwrap();
    failed(
        stranger.send(Request::get(&format!("https://localhost:{}/", server.port()).parse().unwrap())),
        ErrorKind::Remote,
    );
}

/// As `openssl x509 -req -signkey` makes them: without extensions, of version 1.
#[test]
fn pinned_certificate_of_version_1_is_taken() {
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let (certificate, key) = (include_str!("version-1.crt"), include_str!("version-1.key"));
        let server = Server::with_pem(certificate, key, version, |_, line| answer(line, 200, &[], b"old"));
        assert_eq!(client(&server).send(Request::get(&server.url("/"))).unwrap().text().unwrap(), "old", "{version:?}");
        let other = Client::new(server.options().trust(Trust::Pinned(Fingerprint::of(b"other")))).unwrap();
        failed(other.send(Request::get(&server.url("/"))), ErrorKind::Remote);
        let shown = client(&server).server_certificate(&server.url("/"), &Monitor::none()).unwrap();
        assert_eq!(shown, server.certificate());
    }
}

#[test]
fn unknown_server_certificate_can_be_inspected_before_trust() {
    let server = Server::tls(|_, line| answer(line, 200, &[], b"x"));
    let client = Client::new(ClientOptions::new()).unwrap();
    let seen = client.server_certificate(&server.url("/"), &Monitor::none()).unwrap();
    assert_eq!(seen, server.certificate());
    assert_eq!(lxd_image::remote::Certificate::from_pem(&seen.to_pem()).unwrap(), seen);
    assert_eq!(seen.to_pem().replace('\r', ""), server.pem().replace('\r', ""));
    assert!(server.asked().is_empty());
}

#[test]
fn client_certificate_is_shown_only_to_its_server() {
    let other = Server::plain(|_, line| answer(line, 200, &[], b"there"));
    let to = other.text("/x");
    let server = Server::tls(move |asked, line| match &*asked.path {
        "/away" => answer(line, 200, &[], b""),
        _ => answer(line, 200, &[("x-other", &to)], &asked.client.clone().unwrap_or_default()),
    });
    let made = rcgen::generate_simple_self_signed(vec!["me".to_owned()]).unwrap();
    let identity = Identity::from_pem(&made.cert.pem(), &made.signing_key.serialize_pem()).unwrap();
    let client = Client::new(server.options().identity(identity.clone())).unwrap();
    let shown = client.send(Request::get(&server.url("/"))).unwrap().contents("remote_index", 1 << 20).unwrap();
    assert_eq!(Fingerprint::of(&shown), identity.certificate().fingerprint());
    // The same server, but a way that another one told.
    let request = Request::get(&server.url("/away")).referred_by(&other.url("/"));
    client.send(request).unwrap();
    assert_eq!(server.asked()[1].client, None);
}

#[test]
fn redirects_are_followed_without_downgrade() {
    let target = Server::tls(|_, line| answer(line, 200, &[], b"target"));
    let there = target.text("/there");
    let server = Server::plain(move |asked, line| match &*asked.path {
        "/relative/x" => answer(line, 302, &[("location", "../one?q=1#f")], b"moved"),
        "/one?q=1" => answer(line, 301, &[("location", &there)], b""),
        _ => answer(line, 404, &[], b""),
    });
    let client = Client::new(target.options()).unwrap();
    let done = client.send(Request::get(&server.url("/relative/x"))).unwrap();
    assert_eq!(done.url(), &target.url("/there"));
    assert_eq!(done.text().unwrap(), "target");
    // A request that changes something is not sent elsewhere.
    let posted = client.send(Request::new(Method::Post, &server.url("/one?q=1")).bytes("x/y", vec![1])).unwrap();
    assert_eq!(posted.status(), 301);
}

/// hostile.md 165.
#[test]
fn redirect_loops_downgrades_and_other_schemes_are_refused() {
    let server = Server::tls(|asked, line| {
        let to = asked.path.trim_start_matches("/to?").to_owned();
        answer(line, 302, &[("location", if asked.path == "/loop" { "/loop" } else { &to })], b"")
    });
    let client = client(&server);
    let error = failed(client.send(Request::get(&server.url("/loop"))), ErrorKind::LimitExceeded);
    assert_eq!(error.limit_name(), Some("redirects"));
    assert_eq!(server.asked().len(), 6);
    for (to, why) in [
        ("http://127.0.0.1:1/x", "from https"),
        ("file:///etc/passwd", "what can't be followed"),
        ("gopher://x/", "what can't be followed"),
        ("https://user@example.com/", "what can't be followed"),
    ] {
        let error = failed(client.send(Request::get(&server.url(&format!("/to?{to}")))), ErrorKind::Remote);
        assert!(error.message().contains(why), "{to}: {error}");
    }
}

/// hostile.md 165.
#[test]
fn redirect_from_elsewhere_to_this_machine_is_refused() {
    let server = Server::plain(|_, line| answer(line, 200, &[], b"internal"));
    let client = Client::new(ClientOptions::new().proxy(Proxy::Direct).allow_http(true)).unwrap();
    let elsewhere: Url = "https://images.example/".parse().unwrap();
    for host in ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "169.254.169.254", "[fe80::1]"] {
        let url: Url = format!("http://{host}:{}/", server.port()).parse().unwrap();
        let error = failed(client.send(Request::get(&url).referred_by(&elsewhere)), ErrorKind::Remote);
        assert!(error.message().contains("an address of this machine"), "{host}: {error}");
    }
    assert!(server.asked().is_empty());
    let lenient = Client::new(ClientOptions::new().proxy(Proxy::Direct).allow_local(true)).unwrap();
    assert!(lenient.send(Request::get(&server.url("/")).referred_by(&elsewhere)).is_ok());
}

#[test]
fn plain_http_is_spoken_with_this_machine_only_unless_allowed() {
    let client = Client::new(ClientOptions::new().proxy(Proxy::Direct)).unwrap();
    let error = failed(client.send(Request::get(&"http://images.example/x".parse().unwrap())), ErrorKind::InvalidInput);
    assert!(error.hint().unwrap().contains("--allow-http"));
}

/// hostile.md 164.
#[test]
fn truncated_response_is_a_transient_error() {
    let server = Server::tls(|_, line| {
        head(line, 200, &[], Some(100))?;
        line.write_all(b"only this")?;
        Ok(Then::Cut)
    });
    let error = failed(client(&server).send(Request::get(&server.url("/"))).unwrap().text(), ErrorKind::Remote);
    assert!(error.message().contains("after 9 of 100 bytes") && error.is_transient(), "{error}");
}

/// hostile.md 164.
#[test]
fn chunks_that_lie_about_their_size_are_an_error() {
    for body in [
        "fffffffffffffffff\r\nabc\r\n0\r\n\r\n",
        "-5\r\nabc\r\n0\r\n\r\n",
        "zz\r\nabc\r\n0\r\n\r\n",
        "5\r\nabc\r\n0\r\n\r\n",
        "ffffffff\r\nabc",
    ] {
        let server = Server::plain(move |_, line| {
            head(line, 200, &[("transfer-encoding", "chunked")], None)?;
            line.write_all(body.as_bytes())?;
            Ok(Then::Close)
        });
        failed(
            client(&server).send(Request::get(&server.url("/"))).and_then(|answer| answer.text()),
            ErrorKind::Remote,
        );
    }
}

#[test]
fn answer_with_two_lengths_is_an_error() {
    for headers in [
        [("content-length", "3"), ("content-length", "5")],
        [("content-length", "3"), ("transfer-encoding", "chunked")],
    ] {
        let server = Server::plain(move |_, line| {
            head(line, 200, &headers, None)?;
            line.write_all(b"3\r\nabc\r\n0\r\n\r\n")?;
            Ok(Then::Close)
        });
        let done = client(&server).send(Request::get(&server.url("/"))).and_then(|answer| answer.text());
        // Either it is refused, or the chunks count: never the length.
        if let Ok(text) = done {
            assert_eq!(text, "abc", "{headers:?}");
        }
    }
}

/// hostile.md 161.
#[test]
fn in_memory_response_is_bounded_with_and_without_length() {
    let small = limits(|limits| limits.remote_index = 1000);
    for told in [Some(1001), None] {
        let server = Server::plain(move |_, line| {
            head(line, 200, &[], told)?;
            // Without a length, for ever.
            while line.write_all(&[b'x'; 1000]).is_ok() && told.is_none() {}
            Ok(Then::Close)
        });
        let client = Client::new(server.options().limits(small.clone())).unwrap();
        let error = failed(client.send(Request::get(&server.url("/"))).unwrap().text(), ErrorKind::LimitExceeded);
        assert_eq!(error.limit_name(), Some("remote_index"));
    }
}

/// hostile.md 161.
#[cfg(feature = "gzip")]
#[test]
fn compressed_response_is_bounded_after_decompression() {
    // 64 MiB of zeros, 64 KiB packed, made once by `gzip`.
    let pack = |bytes: &[u8]| {
        use std::process::{Command, Stdio};
        let mut gzip = Command::new("gzip").arg("-c").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut input = gzip.stdin.take().unwrap();
        let bytes = bytes.to_vec();
        let feed = std::thread::spawn(move || input.write_all(&bytes).unwrap());
        let packed = gzip.wait_with_output().unwrap().stdout;
        feed.join().unwrap();
        packed
    };
    let bomb = pack(&vec![0; 64 << 20]);
    let fair = pack(b"fair");
    let server = Server::plain(move |asked, line| {
        assert_eq!(asked.header("accept-encoding"), Some("gzip"));
        let (kind, body): (_, &[u8]) = match &*asked.path {
            "/bomb" => ("gzip", &bomb),
            "/fair" => ("gzip", &fair),
            "/cut" => ("gzip", &fair[..fair.len() - 9]),
            _ => ("br", b"x"),
        };
        answer(line, 200, &[("content-encoding", kind)], body)
    });
    let client = Client::new(server.options().limits(limits(|limits| limits.remote_index = 1 << 20))).unwrap();
    let ask = |path: &str| client.send(Request::get(&server.url(path)).accept_gzip()).unwrap().text();
    assert_eq!(ask("/fair").unwrap(), "fair");
    assert_eq!(failed(ask("/bomb"), ErrorKind::LimitExceeded).limit_name(), Some("remote_index"));
    failed(ask("/cut"), ErrorKind::Malformed);
    failed(ask("/brotli"), ErrorKind::Unsupported);
}

/// hostile.md 166.
#[test]
fn silent_server_times_out() {
    let server = Server::tls(|asked, line| {
        match &*asked.path {
            "/head" => {}
            "/body" => head(line, 200, &[], Some(10))?,
            // A byte now and then is silence too.
            _ => {
                head(line, 200, &[], Some(1 << 20))?;
                while line.write_all(b"x").and_then(|()| line.flush()).is_ok() {
                    std::thread::sleep(std::time::Duration::from_millis(50));
                }
            }
        }
        hold(line)
    });
    let client = Client::new(server.options().limits(limits(|limits| limits.idle = 1))).unwrap();
    for path in ["/head", "/body", "/drip"] {
        let done = client.send(Request::get(&server.url(path))).and_then(|answer| answer.text());
        let error = failed(done, ErrorKind::Remote);
        assert!(error.message().contains("silent for 1 s") && error.is_transient(), "{path}: {error}");
    }
}

/// hostile.md 166.
#[test]
fn endless_headers_end_at_the_limit() {
    let server = Server::plain(|_, line| {
        line.write_all(b"HTTP/1.1 200 OK\r\n")?;
        while line.write_all(b"x-more: and more and more and more and more\r\n").is_ok() {}
        Ok(Then::Cut)
    });
    let done = client(&server).send(Request::get(&server.url("/")));
    let error = done.err().unwrap();
    assert!(matches!(error.kind(), ErrorKind::LimitExceeded | ErrorKind::Remote), "{error}");
}

#[test]
fn response_over_the_total_time_limit_fails() {
    let server = Server::plain(|_, line| {
        head(line, 200, &[], None)?;
        while line.write_all(&[b'x'; 4096]).is_ok() {}
        Ok(Then::Cut)
    });
    let client = Client::new(server.options().limits(limits(|limits| limits.total = 1))).unwrap();
    let mut body = client.send(Request::get(&server.url("/"))).unwrap().into_body();
    let error = lxd_image::Error::from(std::io::copy(&mut body, &mut std::io::sink()).unwrap_err());
    assert_eq!((error.kind(), error.limit_name()), (ErrorKind::LimitExceeded, Some("total")));
}

#[test]
fn cancelled_request_ends_though_the_server_is_silent() {
    let server = Server::tls(|_, line| hold(line));
    let cancel = Cancel::new();
    let monitor = Monitor::none().with_cancel(cancel.clone());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while server.asked().is_empty() {
                std::thread::yield_now();
            }
            cancel.cancel();
        });
        let request = Request::get(&server.url("/")).monitor(&monitor);
        failed(client(&server).send(request), ErrorKind::Cancelled);
    });
}

#[test]
fn connection_errors_are_readable() {
    let client = Client::new(ClientOptions::new()).unwrap();
    // No server listens at the lowest port.
    let nobody = "https://127.0.0.1:1/".parse().unwrap();
    let error = failed(client.send(Request::get(&nobody)), ErrorKind::Remote);
    assert!(error.message().contains("refuses the connection") && error.is_transient(), "{error}");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let speaks = std::thread::spawn(move || {
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(b"SSH-2.0-whatever\r\n").unwrap();
            // Until the client has had enough.
            let _ = std::io::copy(&mut stream, &mut std::io::sink());
        }
    });
    let ask = |url: String| failed(client.send(Request::get(&url.parse().unwrap())), ErrorKind::Remote);
    let error = ask(format!("https://{address}/"));
    assert!(error.message().contains("does not speak TLS"), "{error}");
    let error = ask(format!("http://{address}/"));
    assert!(error.message().contains("is no HTTP"), "{error}");
    speaks.join().unwrap();
}

#[test]
fn server_error_message_is_passed_on() {
    let server = Server::plain(|asked, line| match &*asked.path {
        "/json" => answer(line, 403, &[], br#"{"type":"error","error":"not authorized","error_code":403}"#),
        "/text" => answer(line, 503, &[("content-type", "text/plain; charset=utf-8")], b"come back\x1b[2J later\n"),
        _ => answer(line, 404, &[("content-type", "text/html")], b"<h1>nothing</h1>"),
    });
    let client = client(&server);
    let ask = |path: &str| client.send(Request::get(&server.url(path))).unwrap().success();
    let error = failed(ask("/json"), ErrorKind::Remote);
    assert!(error.message().ends_with("(status 403): not authorized") && !error.is_transient(), "{error}");
    let error = failed(ask("/text"), ErrorKind::Remote);
    assert!(error.message().ends_with("status 503: come back\\x1b[2J later") && error.is_transient(), "{error}");
    let error = failed(ask("/none"), ErrorKind::NotFound);
    assert!(error.message().ends_with("/none is not there"), "{error}");
}

#[test]
fn proxy_is_used_for_other_machines_only() {
    let proxy = Server::plain(|asked, line| {
        assert_eq!((&*asked.method, &*asked.path), ("CONNECT", "images.example:443"));
        answer(line, 502, &[], b"")
    });
    let here = Server::plain(|_, line| answer(line, 200, &[], b"here"));
    let client = Client::new(ClientOptions::new().proxy(Proxy::Url(proxy.text("")))).unwrap();
    assert_eq!(client.send(Request::get(&here.url("/"))).unwrap().text().unwrap(), "here");
    let error = failed(client.send(Request::get(&"https://images.example/".parse().unwrap())), ErrorKind::Remote);
    assert!(error.message().contains("the proxy does not lead to images.example"), "{error}");
    assert_eq!(proxy.asked().len(), 1);
    let wrong = Client::new(ClientOptions::new().proxy(Proxy::Url("nonsense://x".into())));
    failed(wrong, ErrorKind::InvalidInput);
}
