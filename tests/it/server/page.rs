//! The page for people: what is public, found and paged, and nothing that a stranger wrote does anything but be read.
//! How it looks and whether a browser is content is tried by `tests/page`.

use lxd_image::server::{Body, Response, ServerOptions};
use lxd_image::store::{ImportOptions, StoredImage};
use lxd_image::{Fingerprint, ImageType, Monitor};

use super::{Served, request, trusted, with};
use crate::store::{alias, split_stream, stream, unified, unified_with};

const HOST: &str = "mirror.example.org:8443";

fn ask(served: &Served, path: &str) -> Response {
    served.handler.handle(with(with(request("GET", path), "accept", "text/html,*/*;q=0.8"), "host", HOST))
}

fn html(response: Response) -> String {
    assert_eq!(response.header("content-type"), Some("text/html; charset=utf-8"));
    String::from_utf8(response.body.read_to_end().unwrap()).unwrap()
}

fn page(served: &Served, path: &str) -> String {
    let response = ask(served, path);
    assert_eq!(response.status, 200, "{path}");
    html(response)
}

fn described(served: &Served, tag: &str, properties: &serde_json::Value, aliases: &[&str]) -> StoredImage {
    let architecture = properties.get("architecture").and_then(|name| name.as_str()).unwrap_or("x86_64");
    let metadata = format!("{{architecture: {architecture}, creation_date: 1700000000, properties: {properties}}}");
    let options = aliases.iter().fold(ImportOptions::new().public(true), |options, name| options.alias(alias(name)));
    served.store.import(stream(unified_with(&metadata, tag.as_bytes())), &options, &Monitor::none()).unwrap()
}

/// The names in a list, in its order.
fn names(page: &str) -> Vec<&str> {
    page.split("<h3>").skip(1).map(|rest| rest.split("<bdi>").nth(1).unwrap().split("</bdi>").next().unwrap()).collect()
}

#[test]
fn root_path_is_a_page_for_browsers_and_the_api_for_programs() {
    let served = Served::new();
    served.import("one", &["debian/12"], true);
    assert!(page(&served, "/").contains("debian&#x2f;12"));
    for accept in ["*/*", "application/json", ""] {
        let response = served.handler.handle(with(request("GET", "/"), "accept", accept));
        assert_eq!(response.header("content-type"), Some("application/json"), "{accept}");
        assert_eq!(response.header("vary"), Some("Accept"));
    }
    assert_eq!(ask(&served, "/").header("vary"), Some("Accept"));
}

#[test]
fn every_page_has_a_strict_content_security_policy() {
    let served = Served::new();
    let image = served.import("one", &["one"], true);
    for path in ["/", "/?q=x", &format!("/images/{}", image.fingerprint), "/no/such/alias", "/images/abcd"] {
        let response = ask(&served, path);
        let policy = response.header("content-security-policy").unwrap().to_owned();
        for rule in [
            "default-src 'none'",
            "style-src 'self'",
            "form-action 'self'",
            "base-uri 'none'",
            "frame-ancestors 'none'",
        ] {
            assert!(policy.contains(rule), "{path}: {policy}");
        }
        assert_eq!(response.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(response.header("referrer-policy"), Some("no-referrer"));
        let text = html(response);
        assert!(
            text.contains("<html lang=\"en\">") && !text.contains("<script") && !text.contains(" style="),
            "{text}"
        );
    }
}

#[test]
fn untrusted_texts_are_escaped_in_pages() {
    let served = Served::new();
    let evil = "\"'><script>alert(1)</script>{{ 7 * 7 }}";
    let properties = serde_json::json!({
        "os": evil, "release": evil, "description": evil, evil: evil, "variant": "\u{202e}gnp.exe", "long": "x".repeat(5000),
    });
    let image = described(
        &served,
        "evil",
        &properties,
        &["<img src=x onerror=alert(1)>", "'; reboot #", "a\u{202e}b", "\"x\" onfocus=y"],
    );
    for path in [
        "/".to_owned(),
        format!("/images/{}", image.fingerprint),
        "/?q=%22%3E%3Cscript%3Ealert(1)&os=%3Cb%3E&sort=%3Ci%3E".to_owned(),
    ] {
        let text = page(&served, &path);
        for raw in ["<script", "<img", "<b>", "<i>", "\u{202e}", "\" onfocus", "='\"><"] {
            assert!(!text.contains(raw), "{path} has {raw}");
        }
        assert!(text.contains("&lt;script&gt;"), "{path}");
        assert!(path.contains("os=") || text.contains("{{ 7 * 7 }}"), "{path}: a template is made of a text");
    }
    let text = page(&served, &format!("/images/{}", image.fingerprint));
    // As a shell takes it: one word, whatever is in it.
    assert!(text.contains("lxc launch &#x27;mirror:"), "{text}");
    assert!(text.contains("a\u{fffd}b"), "what can't be seen has a sign in its place");
}

#[test]
fn private_image_is_on_no_page_even_for_trusted_clients() {
    let served = Served::new();
    served.import("public", &["public"], true);
    let private = served.import("private", &["hidden"], false);
    let absent = Fingerprint::of(b"absent");
    for trust in [false, true] {
        let ask = |path: &str| {
            let request = with(with(request("GET", path), "accept", "text/html"), "host", HOST);
            served.handler.handle(if trust { trusted(request) } else { request })
        };
        for path in ["/", "/?q=hidden", "/?q=private"] {
            let text = html(ask(path));
            assert!(!text.contains(&private.fingerprint.to_string()) && !text.contains("<bdi>hidden"), "{path}");
        }
        let digits = |fingerprint: &Fingerprint| [fingerprint.to_string(), fingerprint.short()];
        for (there, not_there) in digits(&private.fingerprint).into_iter().zip(digits(&absent)) {
            let (one, other) = (ask(&format!("/images/{there}")), ask(&format!("/images/{not_there}")));
            assert_eq!((one.status.as_u16(), &one.headers), (404, &other.headers));
            assert_eq!(html(one), html(other));
        }
    }
}

#[test]
fn search_filters_the_list_and_keeps_the_form() {
    let served = Served::new();
    let json = |os: &str, release: &str, architecture: &str| serde_json::json!({"os": os, "release": release, "architecture": architecture, "description": format!("{os} {release}")});
    described(&served, "one", &json("Debian", "bookworm", "x86_64"), &["debian/12"]);
    let arm = described(&served, "two", &json("Debian", "bookworm", "aarch64"), &["debian/12/arm64"]);
    described(&served, "three", &json("Ubuntu", "jammy", "x86_64"), &["ubuntu/22.04", "jammy"]);
    served.store.import(split_stream("four"), &ImportOptions::new().public(true), &Monitor::none()).unwrap();
    let found = |query: &str| page(&served, &format!("/?sort=name&{query}"));
    assert_eq!(names(&found("q=debian+12"))[..2], ["debian&#x2f;12", "debian&#x2f;12&#x2f;arm64"]);
    assert_eq!(names(&found("q=JAMMY")), ["jammy"]);
    assert_eq!(names(&found("q=debian+arm64")), ["debian&#x2f;12&#x2f;arm64"]);
    assert_eq!(names(&found("os=Debian&architecture=amd64"))[0], "debian&#x2f;12");
    assert_eq!(names(&found("architecture=aarch64")), ["debian&#x2f;12&#x2f;arm64"]);
    assert_eq!(names(&found(&format!("q={}", arm.fingerprint.short()))), ["debian&#x2f;12&#x2f;arm64"]);
    assert!(names(&found("type=virtual-machine")).is_empty());
    assert_eq!(names(&found("type=nothing&architecture=pdp11")).len(), 4, "a choice that is none is no choice");
    assert_eq!(names(&found("")).len(), 4);
    let text = found("q=debian+arm64&os=Debian");
    assert!(text.contains("value=\"debian arm64\""), "{text}");
    assert!(text.contains("<option value=\"Debian\" selected>"), "{text}");
    assert!(text.contains("1 of 4 images"), "{text}");
    assert!(found("q=nothing+like+this").contains("No image fits this search"));
}

#[test]
fn search_sorts_by_the_requested_order() {
    let served = Served::new();
    let made = |tag: &str, created: i64, content: &[u8]| {
        let metadata = format!("{{architecture: x86_64, creation_date: {created}, properties: {{}}}}");
        let options = ImportOptions::new().public(true).alias(alias(tag));
        served.store.import(stream(unified_with(&metadata, content)), &options, &Monitor::none()).unwrap();
    };
    made("b", 1_700_000_000, &[1; 10]);
    made("C", 1_600_000_000, &[2; 100_000]);
    made("a", 1_650_000_000, &[3; 10_000]);
    for (order, expected) in [
        ("", ["b", "a", "C"]),
        ("name", ["a", "b", "C"]),
        ("largest", ["C", "a", "b"]),
        ("smallest", ["b", "a", "C"]),
        ("x", ["b", "a", "C"]),
    ] {
        assert_eq!(names(&page(&served, &format!("/?sort={order}"))), expected, "{order}");
    }
}

#[test]
fn search_results_are_paged() {
    let served = Served::new();
    for number in 0..120 {
        served.import(&format!("image{number:03}"), &[&format!("name/{number:03}")], true);
    }
    let mut seen = Vec::new();
    let mut address = "/?sort=name&q=name".to_owned();
    loop {
        let text = page(&served, &address);
        assert!(text.len() < 500_000, "{}", text.len());
        seen.extend(names(&text).into_iter().map(str::to_owned));
        let Some((_, rest)) = text.split_once("rel=\"next\" href=\"") else { break };
        let next = rest.split('"').next().unwrap();
        address = next.replace("&amp;", "&").replace("&#x2f;", "/");
        assert!(address.contains("q=name") && address.contains("sort=name"), "{address}");
    }
    assert_eq!(seen.len(), 120);
    assert!(seen.is_sorted());
    for beyond in ["page=999", "page=0", "page=-1", "page=x", "page=99999999999999999999999"] {
        assert!(!names(&page(&served, &format!("/?{beyond}"))).is_empty(), "{beyond}");
    }
}

#[test]
fn image_page_shows_metadata_and_links_its_files() {
    let served = Served::new();
    let one = described(
        &served,
        "one",
        &serde_json::json!({"os": "Debian", "note": "first\nsecond"}),
        &["debian/12", "stable"],
    );
    let two = served
        .store
        .import(split_stream("two"), &ImportOptions::new().public(true).alias(alias("two")), &Monitor::none())
        .unwrap();
    let text = page(&served, &format!("/images/{}", one.fingerprint));
    for part in [
        "debian&#x2f;12",
        "stable",
        "first\nsecond",
        "2023-11-14 22:13 UTC",
        "x86_64",
        "amd64",
        "Container",
        &one.fingerprint.to_string(),
    ] {
        assert!(text.contains(part), "{part}");
    }
    for command in [
        "lxc launch mirror:debian&#x2f;12<",
        "incus launch mirror:debian&#x2f;12<",
        "lxd-image copy mirror:debian&#x2f;12<",
        "lxc remote add mirror https:&#x2f;&#x2f;mirror.example.org:8443 --public<",
        "lxc image import https:&#x2f;&#x2f;mirror.example.org:8443&#x2f;debian&#x2f;12<",
    ] {
        assert!(text.contains(command), "{command}: {text}");
    }
    assert_eq!(text, page(&served, &format!("/images/{}", one.fingerprint.short())));
    for (image, files) in [(&one, 1), (&two, 2)] {
        let text = page(&served, &format!("/images/{}", image.fingerprint));
        let links: Vec<_> = text
            .split("<li><a href=\"")
            .skip(1)
            .map(|rest| rest.split('"').next().unwrap().replace("&#x2f;", "/"))
            .collect();
        assert_eq!(links.len(), files, "{links:?}");
        let bytes: Vec<u8> = links.iter().flat_map(|path| served.get(path).body.read_to_end().unwrap()).collect();
        assert_eq!(Fingerprint::of(&bytes), image.fingerprint);
    }
    assert_eq!(two.image_type, ImageType::Container);
}

#[test]
fn alias_path_redirects_a_browser_to_the_image_page() {
    let served = Served::new();
    let image = served.import("one", &["debian/12"], true);
    for path in ["/debian/12", "/debian%2F12"] {
        let response = ask(&served, path);
        assert_eq!(
            (response.status.as_u16(), response.header("location")),
            (303, Some(&*format!("/images/{}", image.fingerprint)))
        );
        assert!(response.header("vary").unwrap().contains("Accept"));
    }
    let missing = ask(&served, "/debian/13");
    assert_eq!(missing.status, 404);
    assert!(html(missing).contains("Not found"));
}

#[test]
fn page_shows_the_configured_name_and_the_host_of_the_request() {
    let told = Served::with(ServerOptions::new().name("Images <of> us").base_url("https://images.example.net:8443/"));
    told.import("one", &["one"], true);
    let text = page(&told, "/");
    assert!(
        text.contains("Images &lt;of&gt; us")
            && text.contains("lxc remote add ours https:&#x2f;&#x2f;images.example.net:8443 "),
        "{text}"
    );
    let served = Served::new();
    served.import("one", &["one"], true);
    let nowhere = served.handler.handle(with(request("GET", "/"), "accept", "text/html"));
    assert_eq!(nowhere.status, 200);
    for host in ["a b", "x\"y", "<script>", "a/b", ""] {
        let response = served.handler.handle(with(with(request("GET", "/"), "accept", "text/html"), "host", host));
        assert_eq!(response.status, 400, "{host}");
        assert!(!html(response).contains("<script"));
    }
}

#[test]
fn head_has_the_headers_of_the_page_and_other_methods_are_refused() {
    let served = Served::new();
    let image = served.import("one", &["one"], true);
    for path in ["/", &format!("/images/{}", image.fingerprint), "/images/abcd", "/static/style.css", "/one", "/none"] {
        let head = served.handler.handle(with(with(request("HEAD", path), "accept", "text/html"), "host", HOST));
        let get = ask(&served, path);
        assert_eq!((head.status, &head.headers), (get.status, &get.headers), "{path}");
        let (Body::Pieces(one), Body::Pieces(other)) = (&head.body, &get.body) else { panic!("{path}") };
        assert_eq!(one.length(), other.length());
        for method in ["POST", "PUT", "DELETE"] {
            let response = served.handler.handle(with(request(method, path), "accept", "text/html"));
            assert_eq!(response.status, 405, "{method} {path}");
        }
    }
}

#[test]
fn assets_are_cached_under_paths_with_their_digest() {
    let served = Served::new();
    let text = page(&served, "/");
    for (name, content_type) in [("style.css", "text/css; charset=utf-8"), ("icon.svg", "image/svg+xml")] {
        let (_, rest) = text.split_once(&format!("/static/{name}").replace('/', "&#x2f;")).unwrap();
        let path = format!("/static/{name}{}", rest.split('"').next().unwrap());
        let response = served.get(&path);
        assert_eq!((response.status.as_u16(), response.header("content-type")), (200, Some(content_type)));
        assert_eq!(response.header("x-content-type-options"), Some("nosniff"));
        assert!(response.header("cache-control").unwrap().contains("max-age"));
        let etag = response.header("etag").unwrap().to_owned();
        assert!(path.contains(etag.trim_matches('"')), "{path} {etag}");
        assert_eq!(served.handler.handle(with(request("GET", &path), "if-none-match", &etag)).status, 304);
        assert!(!response.body.read_to_end().unwrap().is_empty());
    }
    for name in ["style.cs", "base.html", "..%2fmod.rs", "%2e%2e"] {
        assert!(matches!(served.get(&format!("/static/{name}")).status.as_u16(), 400 | 404), "{name}");
    }
}

#[test]
fn page_of_an_empty_store_explains_how_to_fill_it() {
    let served = Served::new();
    served.store.import(stream(unified("private")), &ImportOptions::new(), &Monitor::none()).unwrap();
    let text = page(&served, "/");
    assert!(text.contains("No images yet") && text.contains("--public") && !text.contains("<form"), "{text}");
}
