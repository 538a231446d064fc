//! Direct import: hash and place of the image of an alias, for the architectures that the importer runs.
//! What the client names as the host goes nowhere unless it is one.

use lxd_image::protocol::direct::{self, ARCHITECTURES, Answer};
use lxd_image::server::{Request, Response, ServerOptions};
use lxd_image::store::{ImportOptions, StoredImage};
use lxd_image::{Fingerprint, Monitor};

use super::{Served, json, request, trusted, with};
use crate::store::{alias, split_stream, stream, unified, unified_with};

fn importer(path: &str) -> Request {
    with(request("HEAD", path), "host", "images.example.org:8443")
}

fn running(request: Request, architectures: &str) -> Request {
    with(request, &ARCHITECTURES[0].to_ascii_lowercase(), architectures)
}

fn answer(response: &Response) -> Answer {
    Answer::from_headers(|name| response.header(name)).unwrap()
}

fn of(served: &Served, tag: &str, architecture: &str, properties: &str, aliases: &[&str]) -> StoredImage {
    let metadata = format!("architecture: {architecture}\ncreation_date: 1700000000\nproperties: {{{properties}}}\n");
    let options = aliases.iter().fold(ImportOptions::new().public(true), |options, name| options.alias(alias(name)));
    served.store.import(stream(unified_with(&metadata, tag.as_bytes())), &options, &Monitor::none()).unwrap()
}

#[test]
fn direct_import_headers_name_the_image_in_both_spellings() {
    let served = Served::new();
    let image = served.import("one", &["debian/12"], true);
    for path in ["/debian/12", "/debian%2F12", "/debian%2f12/"] {
        let response = served.handler.handle(importer(path));
        assert_eq!(response.status, 200);
        let told = answer(&response);
        assert_eq!(told.fingerprint, image.fingerprint);
        assert_eq!(told.url, format!("https://images.example.org:8443/1.0/images/{}/export", image.fingerprint));
        for name in direct::HASH.iter().chain(&direct::URL) {
            assert!(response.header(*name).is_some(), "{name}");
        }
        assert!(response.header("vary").unwrap().contains("LXD-Server-Architectures"));
        let place: http::Uri = told.url.parse().unwrap();
        let bytes = served.get(place.path()).body.read_to_end().unwrap();
        assert_eq!(Fingerprint::of(&bytes), image.fingerprint);
    }
}

#[test]
fn getting_an_alias_gives_the_same_headers_and_the_image() {
    let served = Served::new();
    served.import("one", &["debian/12"], true);
    let head = served.handler.handle(importer("/debian/12"));
    let get = served.handler.handle(with(request("GET", "/debian/12"), "host", "images.example.org:8443"));
    assert_eq!((head.status, &head.headers), (get.status, &get.headers));
    assert_eq!(get.body.read_to_end().unwrap(), unified("one"));
    let part = with(importer("/debian/12"), "range", "bytes=0-9");
    assert_eq!(served.handler.handle(part).status, 206);
    assert_eq!(served.handler.handle(request("POST", "/debian/12")).status, 405);
}

#[test]
fn direct_import_url_has_the_host_of_the_request_or_of_the_options() {
    let served = Served::new();
    served.import("one", &["one"], true);
    for host in ["a b", "a/b", "x@y", "a\"", "<script>", "a:b:c", "[::1", "", "a,b", "a:99999", "evil.example/x?"] {
        let response = served.handler.handle(with(request("HEAD", "/one"), "host", host));
        assert_eq!(response.status, 400, "{host}");
        assert!(response.header("LXD-Image-URL").is_none());
    }
    let mut two = importer("/one");
    two.headers.append("host", http::HeaderValue::from_static("other.example"));
    assert_eq!(served.handler.handle(two).status, 400);
    assert_eq!(served.handler.handle(request("HEAD", "/one")).status, 400, "nobody tells the host");
    // HTTP/2 has it in the address.
    let response = served.handler.handle(request("HEAD", "https://[::1]:8443/one"));
    assert!(answer(&response).url.starts_with("https://[::1]:8443/1.0/"));
    let told = Served::with(ServerOptions::new().base_url("https://images.example.net/"));
    told.import("one", &["one"], true);
    assert!(answer(&told.handler.handle(request("HEAD", "/one"))).url.starts_with("https://images.example.net/1.0/"));
}

#[test]
fn direct_import_selects_the_architecture_of_the_client() {
    let served = Served::new();
    let amd = of(&served, "amd", "x86_64", "os: Debian, release: '12'", &["debian/12"]);
    let arm = of(&served, "arm", "aarch64", "os: Debian, release: '12'", &["debian/12/arm64"]);
    let s390x = of(&served, "s390x", "s390x", "os: Debian, release: '12'", &[]);
    of(&served, "other", "riscv64", "os: Debian, release: '13'", &[]);
    let told =
        |architectures| answer(&served.handler.handle(running(importer("/debian/12"), architectures))).fingerprint;
    assert_eq!(told("x86_64, i686"), amd.fingerprint);
    assert_eq!(told("aarch64, x86_64"), amd.fingerprint, "it runs what the alias means");
    assert_eq!(told("aarch64, armv7l"), arm.fingerprint);
    assert_eq!(told("s390x"), s390x.fingerprint);
    let incus = with(importer("/debian/12"), "incus-server-architectures", "aarch64");
    assert_eq!(answer(&served.handler.handle(incus)).fingerprint, arm.fingerprint);
    let refused = served.handler.handle(running(with(request("GET", "/debian/12"), "host", "a"), "riscv64"));
    assert!(refused.header("LXD-Image-Hash").is_none());
    let (status, error) = json(refused);
    assert_eq!((status, error["error"].as_str().unwrap()), (404, "`debian/12` is for x86_64, and not for riscv64"));
}

#[test]
fn alias_of_each_architecture_is_found_without_the_one_of_all() {
    let served = Served::new();
    let arm = of(&served, "arm", "aarch64", "os: Debian", &["box/aarch64"]);
    let response = served.handler.handle(running(importer("/box"), "x86_64, aarch64"));
    assert_eq!(answer(&response).fingerprint, arm.fingerprint);
    // A name alone is not believed.
    of(&served, "liar", "aarch64", "os: Debian", &["thing/amd64"]);
    assert_eq!(served.handler.handle(running(importer("/thing"), "x86_64")).status, 404);
}

#[test]
fn direct_import_of_a_split_image_is_refused_with_a_reason() {
    let served = Served::new();
    served
        .store
        .import(split_stream("two"), &ImportOptions::new().public(true).alias(alias("two")), &Monitor::none())
        .unwrap();
    let (status, error) = json(served.handler.handle(with(request("GET", "/two"), "host", "a")));
    assert_eq!(status, 404);
    assert!(error["error"].as_str().unwrap().contains("two files"), "{error}");
}

#[test]
fn direct_import_hides_private_images_from_all_clients() {
    let served = Served::new();
    served.import("hidden", &["hidden", "box/amd64"], false);
    for (there, not_there) in [("/hidden", "/nothing"), ("/box", "/nobox")] {
        for trust in [false, true] {
            for accept in ["*/*", "text/html,*/*"] {
                let ask = |path| {
                    let request = running(with(with(request("GET", path), "host", "a"), "accept", accept), "x86_64");
                    served.handler.handle(if trust { trusted(request) } else { request })
                };
                let (one, other) = (ask(there), ask(not_there));
                assert_eq!(one.status, 404);
                assert_eq!(one.headers, other.headers);
                assert_eq!(one.body.read_to_end().unwrap(), other.body.read_to_end().unwrap());
            }
        }
    }
}

#[test]
fn direct_import_finds_aliases_by_their_escaped_names() {
    let served = Served::new();
    for name in ["a b", "é/ü", "<script>alert(1)</script>", "100%", "a?b#c", "x\u{202e}y", "1.0", "static/x"] {
        let image = served.import(name, &[name], true);
        let path = format!("/{}", percent_encoded(name));
        let response = served.handler.handle(importer(&path));
        if matches!(name, "1.0") {
            assert_eq!(response.header("LXD-Image-Hash"), None, "an address of the API stays one");
            continue;
        }
        assert_eq!(answer(&response).fingerprint, image.fingerprint, "{name}");
    }
    for path in ["/%0d%0aX-Evil:%201", "/%00", "/%ff", "/a%0ab"] {
        let response = served.handler.handle(importer(path));
        assert!(matches!(response.status.as_u16(), 400 | 404), "{path}");
        assert!(response.header("x-evil").is_none());
    }
}

/// A text as one segment of a path.
fn percent_encoded(text: &str) -> String {
    let unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes()
        .map(|byte| if unreserved(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}
