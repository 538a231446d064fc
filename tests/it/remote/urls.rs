//! URLs: which are taken, and what a reference in an answer means.

use lxd_image::ErrorKind;
use lxd_image::remote::{Scheme, Url};

use super::failed;

#[test]
fn only_addresses_of_servers_and_files_are_urls() {
    for (text, host, port, shown) in [
        ("https://images.example", "images.example", 443, "https://images.example/"),
        ("HTTPS://Images.Example:8443/a/./b/../c?d#e", "images.example", 8443, "https://images.example:8443/a/c?d"),
        ("http://[::1]:80/x", "::1", 80, "http://[::1]:80/x"),
        ("http://127.0.0.1?q", "127.0.0.1", 80, "http://127.0.0.1/?q"),
        ("file:///srv/a%20tree", "", 443, "file:///srv/a%20tree"),
    ] {
        let url: Url = text.parse().unwrap();
        assert_eq!((url.host(), url.port(), &*url.to_wire()), (host, port, shown), "{text}");
    }
    for text in [
        "",
        "images.example",
        "//images.example",
        "ftp://images.example",
        "https://",
        "https://:443",
        "https://a b/",
        "https://a/\r\nx: y",
        "https://user@images.example",
        "https://user:word@images.example",
        "https://a:0/",
        "https://a:99999/",
        "https://a:x/",
        "https://[::1",
        "https://::1/",
        "https://[x]/",
        "https://a/ü",
        "file://elsewhere/x",
        "file:///x?y",
        "https://a%2fb/",
    ] {
        failed(text.parse::<Url>(), ErrorKind::InvalidInput);
    }
    let file: Url = "file:///srv/a%20tree%2e".parse().unwrap();
    assert_eq!(file.to_file_path().unwrap().to_str(), Some("/srv/a tree."));
    assert_eq!(file.scheme(), Scheme::File);
    failed("file:///a%00b".parse::<Url>().unwrap().to_file_path(), ErrorKind::InvalidInput);
}

#[test]
fn reference_is_read_from_where_it_stands_and_names_no_file() {
    let base: Url = "https://images.example/a/b?c".parse().unwrap();
    for (reference, meant) in [
        ("x", "https://images.example/a/x"),
        ("../../../x", "https://images.example/x"),
        ("%2e%2E/x", "https://images.example/x"),
        ("/x?y#z", "https://images.example/x?y"),
        ("?y", "https://images.example/a/b?y"),
        ("#z", "https://images.example/a/b?c"),
        ("//other.example/x", "https://other.example/x"),
        ("http://other.example:8080", "http://other.example:8080/"),
        ("..", "https://images.example/"),
    ] {
        assert_eq!(base.join(reference).unwrap().to_wire(), meant, "{reference}");
    }
    failed(base.join("file:///etc/passwd"), ErrorKind::UnsafePath);
    failed(base.join("javascript:alert(1)"), ErrorKind::InvalidInput);
    failed(base.join("x\r\ny: z"), ErrorKind::InvalidInput);
}

#[test]
fn secrets_are_redacted_in_urls() {
    let url: Url = "https://images.example/a?recursion=1&X-Amz-Signature=hidden&hidden".parse().unwrap();
    let shown = "https://images.example/a?recursion=1&X-Amz-Signature=***&***";
    assert_eq!((url.to_string(), format!("{url:?}")), (shown.to_owned(), format!("Url({shown})")));
    assert!(url.to_wire().contains("hidden&hidden"));
}

#[test]
fn address_that_is_refused_is_shown_without_its_secrets() {
    for text in [
        "https://user:hidden@images.example/",
        "ftp://user:hidden@images.example/",
        "user:hidden@images.example",
        "https://us er:hidden@images.example/",
        "https://user:hid/hidden@images.example/",
        "ftp://images.example/?token=hidden",
        "https://images.example:x/?token=hidden#hidden",
    ] {
        let error = failed(text.parse::<Url>(), ErrorKind::InvalidInput);
        assert!(!format!("{error} {:?}", error.hint()).contains("hidden"), "{error}");
    }
    let base: Url = "https://images.example/".parse().unwrap();
    for reference in ["x?token=hidden hidden", "https://user:hidden@other.example/", "ftp://other.example/?a=hidden"] {
        let error = failed(base.join(reference), ErrorKind::InvalidInput);
        assert!(!error.to_string().contains("hidden"), "{error}");
    }
}
