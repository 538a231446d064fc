//! Proxies as they come: a tunnel for TLS, absolute addresses for plain http, and names with passwords.

use lxd_image::ErrorKind;
use lxd_image::remote::{Client, ClientOptions, Proxy, Request};

use super::failed;
use super::server::{Server, answer};

fn through(proxy: &Server, who: &str) -> Client {
    let url = format!("http://{who}127.0.0.1:{}", proxy.port());
    Client::new(ClientOptions::new().allow_http(true).proxy(Proxy::Url(url))).unwrap()
}

#[test]
fn plain_http_goes_through_a_proxy_by_absolute_addresses() {
    let proxy = Server::plain(|asked, line| match &*asked.method {
        "CONNECT" => answer(line, 403, &[], b""),
        _ => answer(line, 200, &[("x-host", asked.header("host").unwrap_or_default())], asked.path.as_bytes()),
    });
    let client = through(&proxy, "");
    // The second one goes over the same connection.
    for url in ["http://images.example/a?b=c", "http://other.example:8080/d"] {
        let parsed = url.parse().unwrap();
        let answer = client.send(Request::get(&parsed)).unwrap();
        assert_eq!(answer.header("x-host"), Some(parsed.authority()));
        assert_eq!(answer.text().unwrap(), url);
    }
    assert!(proxy.asked().iter().all(|asked| asked.header("proxy-authorization").is_none()));
}

#[test]
fn name_and_password_of_a_proxy_are_sent_to_it() {
    let proxy = Server::plain(|asked, line| match asked.header("proxy-authorization") {
        Some("Basic dXMgZXI6cEBzcw==") => answer(line, 200, &[], b"in"),
        _ => answer(line, 407, &[("proxy-authenticate", "Basic realm=\"x\"")], b""),
    });
    let url = "http://images.example/".parse().unwrap();
    let error = failed(through(&proxy, "").send(Request::get(&url)), ErrorKind::Remote);
    assert!(error.message().contains("proxy"), "{error}");
    assert_eq!(through(&proxy, "us%20er:p%40ss@").send(Request::get(&url)).unwrap().text().unwrap(), "in");
}

#[test]
fn proxy_that_refuses_a_tunnel_is_named() {
    let proxy = Server::plain(|_, line| answer(line, 407, &[], b""));
    let url = "https://images.example/".parse().unwrap();
    let error = failed(through(&proxy, "").send(Request::get(&url)), ErrorKind::Remote);
    assert!(error.message().contains("the proxy on the way to images.example"), "{error}");
    assert!(error.hint().unwrap().contains("PASSWORD"), "{error}");
}
