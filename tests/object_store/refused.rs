//! What an operator gets wrong, and what each error says about it.

use lxd_image::store::{BlobStore, ObjectBlobs, ObjectOptions};
use lxd_image::{Error, ErrorKind, Monitor};

use crate::proxy::{Fault, Proxy};
use crate::servers::{credentials, key, moto, options_for, prefix, radosgw, servers, staged};

/// All that a person would read of an error.
fn told(error: &Error) -> String {
    let mut text = format!("{error} | {error:?} | {}", error.hint().unwrap_or_default());
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text.push_str(&format!(" | {inner} | {inner:?}"));
        cause = inner.source();
    }
    text
}

#[test]
fn wrong_secret_is_an_error_without_the_secret() {
    let Some(server) = radosgw() else { return };
    for (key, secret) in [("AK", "not-the-secret"), ("nobody-key", "SK")] {
        let options = server.options().credentials_file(credentials(key, secret));
        let error = ObjectBlobs::connect(&prefix(), &options).unwrap_err();
        let told = told(&error);
        assert_eq!(error.kind(), ErrorKind::Io, "{told}");
        assert!(told.contains("does not accept the credentials") && told.contains(&server.endpoint), "{told}");
        assert!(!told.contains("not-the-secret") && !told.contains("nobody-key"), "{told}");
    }
}

#[test]
fn missing_bucket_is_named() {
    for server in servers() {
        let error = ObjectBlobs::connect("s3://no-such-bucket/x", &server.options()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{}", told(&error));
        assert!(error.to_string().contains("no-such-bucket") && error.hint().is_some(), "{}", told(&error));
    }
}

#[test]
fn blobs_of_another_store_are_refused() {
    for server in servers() {
        let place = prefix();
        let connect = || ObjectBlobs::connect(&place, &server.options().probe(false)).unwrap();
        connect().init("one").unwrap();
        assert_eq!(connect().identity().unwrap().as_deref(), Some("one"));
        connect().init("one").unwrap();
        connect().check_identity().unwrap();
        assert_eq!(connect().init("two").unwrap_err().kind(), ErrorKind::AlreadyExists);
        let error = connect().bind("two").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Malformed);
        assert!(error.hint().is_some_and(|hint| hint.contains("prefix")), "{}", told(&error));
    }
}

#[test]
fn prefix_without_a_store_is_refused() {
    for server in servers() {
        let blobs = ObjectBlobs::connect(&prefix(), &server.options().probe(false)).unwrap();
        assert_eq!(blobs.identity().unwrap(), None);
        assert_eq!(blobs.check_identity().unwrap_err().kind(), ErrorKind::Malformed);
    }
}

#[test]
fn store_that_changes_its_identity_is_noticed() {
    for server in servers() {
        let place = prefix();
        let blobs = ObjectBlobs::connect(&place, &server.options().probe(false)).unwrap();
        blobs.init("one").unwrap();
        server.request("DELETE", &format!("/lxd-image/{}/store.json", place.strip_prefix("s3://lxd-image/").unwrap()));
        assert_eq!(blobs.check_identity().unwrap_err().kind(), ErrorKind::Malformed);
        ObjectBlobs::connect(&place, &server.options().probe(false)).unwrap().init("two").unwrap();
        assert_eq!(blobs.check_identity().unwrap_err().kind(), ErrorKind::Malformed);
    }
}

#[test]
fn server_that_cannot_be_reached_is_transient() {
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let options = options_for(&format!("http://127.0.0.1:{port}")).retries(1);
    let error = ObjectBlobs::connect(&prefix(), &options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Transient, "{}", told(&error));
    assert!(error.is_transient() && told(&error).contains(&port.to_string()), "{}", told(&error));
}

#[test]
fn endpoint_without_tls_must_be_allowed() {
    let options = ObjectOptions::new().endpoint("http://127.0.0.1:1").credentials_file(credentials("AK", "SK"));
    let error = ObjectBlobs::connect(&prefix(), &options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{}", told(&error));
}

#[test]
fn wrong_settings_are_refused_without_a_request() {
    let file = credentials("AK", "SK");
    let options = || ObjectOptions::new().credentials_file(&file);
    for (url, options) in [
        ("http://bucket/x", options()),
        ("s3://bucket", options().endpoint("ftp://host")),
        ("s3://bucket", options().endpoint("https://user:secret@host")),
        ("s3://bucket", options().part_bytes(1)),
        ("s3://bucket", options().concurrency(0)),
    ] {
        let error = ObjectBlobs::connect(url, &options).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{url}: {}", told(&error));
        assert!(!told(&error).contains("secret"), "{}", told(&error));
    }
}

#[test]
fn missing_profile_is_named() {
    let options = ObjectOptions::new().credentials_file(credentials("AK", "SK")).profile("nobody");
    let error = ObjectBlobs::connect(&prefix(), &options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("nobody") && error.hint().is_some(), "{}", told(&error));
}

/// A failure that a server reports for every request, after a working start.
fn refused_with(fault: Fault, expected: ErrorKind, hint: &str) {
    let Some(server) = moto() else { return };
    let proxy = Proxy::start(&server.endpoint);
    let blobs = ObjectBlobs::connect(&prefix(), &options_for(&proxy.endpoint()).retries(1)).unwrap();
    proxy.always(fault);
    let errors = [
        blobs.put(&key("refused"), &mut staged(b"x"), &Monitor::none()).unwrap_err(),
        blobs.delete(&[key("refused")]).unwrap_err(),
        blobs.list(None, 10).unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), expected, "{}", told(&error));
        assert!(error.hint().is_some_and(|found| found.contains(hint)), "{}", told(&error));
    }
}

#[test]
fn denied_verb_names_its_permission() {
    refused_with(Fault::Answer(403, "AccessDenied"), ErrorKind::Io, "s3:");
}

#[test]
fn wrong_clock_is_named() {
    refused_with(Fault::Answer(403, "RequestTimeTooSkewed"), ErrorKind::Io, "clocks");
}

#[test]
fn full_server_is_storage_full() {
    refused_with(Fault::Answer(507, "InsufficientStorage"), ErrorKind::StorageFull, "space");
    refused_with(Fault::Answer(403, "QuotaExceeded"), ErrorKind::StorageFull, "quota");
}

#[test]
fn throttling_without_end_is_transient() {
    refused_with(Fault::Answer(503, "SlowDown"), ErrorKind::Transient, "overloaded");
}

#[test]
fn expired_credentials_are_named() {
    refused_with(Fault::Answer(400, "ExpiredToken"), ErrorKind::Io, "expired");
}

#[test]
fn wrong_region_is_named() {
    refused_with(Fault::Answer(301, "PermanentRedirect"), ErrorKind::InvalidInput, "region");
}

#[test]
fn server_that_hangs_is_given_up() {
    let Some(server) = moto() else { return };
    let proxy = Proxy::start(&server.endpoint);
    let options = options_for(&proxy.endpoint()).retries(0).idle_timeout(std::time::Duration::from_millis(300));
    let blobs = ObjectBlobs::connect(&prefix(), &options).unwrap();
    proxy.always(Fault::Delay(std::time::Duration::from_secs(3)));
    let begun = std::time::Instant::now();
    let error = blobs.put(&key("hangs"), &mut staged(b"x"), &Monitor::none()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Transient, "{}", told(&error));
    assert!(begun.elapsed() < std::time::Duration::from_secs(2));
}
