//! Who is trusted: whoever has the key of a certificate that lies where the server looks, now.

use std::fs;

use super::*;

fn auth(talk: &mut Talk<Tls>) -> String {
    talk.ask("GET", "/1.0", &[]);
    let about: serde_json::Value = serde_json::from_slice(&talk.answer("GET").unwrap().body).unwrap();
    about["metadata"]["auth"].as_str().unwrap().to_owned()
}

#[test]
fn client_is_trusted_only_with_a_trusted_certificate() {
    let (friend, other) = (Identity::new(), Identity::new());
    let mut served = Listening::trusting(&friend);
    let mut talk = served.trusted(&friend);
    assert_eq!(auth(&mut talk), "trusted");
    assert_eq!(auth(&mut served.trusted(&other)), "untrusted");
    assert_eq!(auth(&mut served.tls()), "untrusted");
    // It is taken away, and another is there, while a connection goes on.
    fs::remove_file(served.scratch.join("trusted/one.crt")).unwrap();
    assert_eq!(auth(&mut talk), "untrusted");
    fs::write(served.scratch.join("trusted/two.pem"), [other.pem.as_str(), friend.pem.as_str()].concat()).unwrap();
    assert_eq!(auth(&mut talk), "trusted");
    assert_eq!(auth(&mut served.trusted(&other)), "trusted");
    // What can't be understood makes nobody trusted.
    fs::write(served.scratch.join("trusted/three.crt"), "no certificate").unwrap();
    assert_eq!(auth(&mut talk), "untrusted");
    served.stop().unwrap();
    let log = served.log.text();
    assert!(log.contains(&format!("127.0.0.1 - {} [", friend.fingerprint().short())), "{log}");
    assert!(log.contains("three.crt"), "{log}");
}

#[test]
fn client_certificate_without_its_key_fails_the_handshake() {
    let friend = Identity::new();
    let served = Listening::trusting(&friend);
    let mut talk = served.trusted(&friend.stolen());
    // With TLS 1.3 the client hears of it after its first request.
    let sent = talk.send(b"GET /1.0 HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(sent.is_err() || talk.answer("GET").is_err());
    assert_eq!(auth(&mut served.trusted(&friend)), "trusted");
}

#[test]
fn server_without_trusted_clients_requests_no_client_certificate() {
    let served = Listening::new();
    assert_eq!(auth(&mut served.trusted(&Identity::new())), "untrusted");
    let mut shown = served.trusted(&Identity::new().stolen());
    assert_eq!(auth(&mut shown), "untrusted");
}

#[test]
fn client_with_an_untrusted_certificate_gets_anonymous_responses_on_every_route() {
    let (friend, wrong) = (Identity::new(), Identity::new());
    let served = Listening::trusting(&friend);
    let image = served.import("shown");
    for route in Handler::routes() {
        let method = if route.methods == "*" { "PUT" } else { route.methods.split(", ").next().unwrap() };
        let path = route.pattern.replace("{fingerprint}", &image.fingerprint.to_string()).replace(['{', '}', '.'], "");
        let mut answers = [served.tls(), served.trusted(&wrong)].into_iter().map(|mut talk| {
            talk.ask(method, &path, &[]);
            let answer = talk.answer(method).unwrap();
            (answer.status, if path == "/metrics" { Vec::new() } else { answer.body })
        });
        assert_eq!(answers.next(), answers.next(), "{method} {path}");
    }
}
