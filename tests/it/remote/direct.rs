//! Direct import: what a URL tells to `HEAD`, what is believed of it, and images that follow a URL.

use std::sync::{Arc, Mutex};

use lxd_image::remote::{Client, ClientOptions, CopyOptions, Direct, Remote, RemoteRefresh, RetryPolicy, Wanted, copy};
use lxd_image::store::{RefreshOptions, Refreshed, Store};
use lxd_image::{Architecture, ErrorKind, Fingerprint, Monitor};

use super::failed;
use super::server::{Server, answer};
use crate::store::{Clock, Scratch, alias, assert_clean, files, reads, unified};

/// What a server tells of its image, to be changed while it runs.
#[derive(Default)]
struct Told {
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

fn serve(told: &Arc<Mutex<Told>>) -> Server {
    let told = Arc::clone(told);
    Server::tls(move |asked, line| {
        let told = told.lock().unwrap();
        if asked.method == "HEAD" {
            let headers: Vec<(&str, &str)> = told.headers.iter().map(|(name, value)| (&**name, &**value)).collect();
            return super::server::head(line, 200, &headers, Some(0)).map(|()| super::server::Then::Keep);
        }
        answer(line, 200, &[], &told.body)
    })
}

fn tells(told: &Mutex<Told>, headers: &[(&str, &str)], body: &[u8]) {
    *told.lock().unwrap() = Told {
        headers: headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        body: body.to_vec(),
    };
}

fn direct(server: &Server) -> Direct {
    let options = server.options().retry(RetryPolicy::new().sleep(|_| {}));
    Direct::new(options, server.url("/lxd")).unwrap().certificate(server.pem())
}

#[test]
fn direct_import_url_is_imported_and_refreshed() {
    let scratch = Scratch::new();
    let store = Store::open(scratch.join("store")).unwrap();
    let told = Arc::new(Mutex::new(Told::default()));
    let server = serve(&told);
    let old = unified("old");
    tells(
        &told,
        &[("LXD-Image-Hash", &Fingerprint::of(&old).to_string()), ("LXD-Image-URL", &server.text("/x.tar"))],
        &old,
    );
    let options = CopyOptions::new().alias(alias("busybox")).auto_update(true).architectures([Architecture::X86_64]);
    let image = copy(&direct(&server), "", &store, &options, &Monitor::none()).unwrap();
    assert_eq!(image.fingerprint, Fingerprint::of(&old));
    assert_eq!(reads(&store, &image.fingerprint), old);
    let source = image.source.clone().unwrap();
    assert_eq!((&*source.protocol, &*source.server, &*source.alias), ("direct", &*server.text("/lxd"), ""));
    assert_eq!(source.certificate, server.pem());
    let asked = server.asked();
    for name in ["lxd", "incus"] {
        assert_eq!(asked[0].header(&format!("{name}-server-architectures")), Some("x86_64"));
        assert!(asked[0].header(&format!("{name}-server-version")).unwrap().starts_with("5."));
    }
    // Later there is another one, told in Incus' spelling.
    let new = unified("new");
    let hash = Fingerprint::of(&new).to_string();
    tells(&told, &[("Incus-Image-Hash", &hash), ("Incus-Image-URL", "/elsewhere/x.tar")], &new);
    let upstreams = RemoteRefresh::new({
        let options = server.options();
        move |source| Ok(Box::new(Direct::new(options.clone(), source.server.parse()?)?) as Box<dyn Remote>)
    });
    let done = store.refresh(&image.fingerprint, &upstreams, &RefreshOptions::new(), &Monitor::none()).unwrap();
    assert_eq!(done, Refreshed::Replaced { fingerprint: Fingerprint::of(&new) });
    assert_eq!(store.resolve("busybox").unwrap().fingerprint, Fingerprint::of(&new));
    assert_eq!(server.asked().last().unwrap().path, "/elsewhere/x.tar");
    assert_clean(&store);
}

/// hostile.md 160, 165, 167; CVE-2026-48769: no text of a server becomes the name of anything.
#[test]
fn direct_import_requires_a_valid_hash_and_an_allowed_url() {
    let scratch = Scratch::new();
    let path = scratch.join("store");
    let store = Store::open(&path).unwrap();
    let told = Arc::new(Mutex::new(Told::default()));
    let server = serve(&told);
    let image = unified("x");
    let hash = Fingerprint::of(&image).to_string();
    let place = server.text("/x.tar");
    let plain = place.replace("https", "http");
    let cases: &[(&[(&str, &str)], ErrorKind)] = &[
        (&[], ErrorKind::Remote),
        (&[("LXD-Image-URL", &place)], ErrorKind::Remote),
        (&[("LXD-Image-Hash", &hash)], ErrorKind::Remote),
        (&[("LXD-Image-Hash", "../../../../etc/cron.d/x"), ("LXD-Image-URL", &place)], ErrorKind::Malformed),
        (&[("LXD-Image-Hash", &hash[..63]), ("LXD-Image-URL", &place)], ErrorKind::Malformed),
        (&[("LXD-Image-Hash", &hash), ("LXD-Image-URL", "file:///etc/passwd")], ErrorKind::Remote),
        (&[("LXD-Image-Hash", &hash), ("LXD-Image-URL", "https://user:word@host/x")], ErrorKind::Remote),
        (
            &[("LXD-Image-Hash", &hash), ("Incus-Image-Hash", &"0".repeat(64)), ("LXD-Image-URL", &place)],
            ErrorKind::Remote,
        ),
        (&[("LXD-Image-Hash", &hash), ("LXD-Image-URL", &plain)], ErrorKind::Remote),
    ];
    for (headers, kind) in cases {
        tells(&told, headers, &image);
        let error = failed(copy(&direct(&server), "", &store, &CopyOptions::new(), &Monitor::none()), *kind);
        assert!(!error.to_string().contains('\u{1b}'), "{error}");
    }
    assert!(store.images().unwrap().is_empty());
    assert!(files(&path).is_empty());
}

/// CVE-2026-33542: what is stored under a fingerprint has it.
#[test]
fn direct_import_of_other_bytes_is_refused() {
    let scratch = Scratch::new();
    let path = scratch.join("store");
    let store = Store::open(&path).unwrap();
    let told = Arc::new(Mutex::new(Told::default()));
    let server = serve(&told);
    let known = Fingerprint::of(&unified("known"));
    tells(&told, &[("LXD-Image-Hash", &known.to_string()), ("LXD-Image-URL", "/x")], &unified("poison"));
    for reference in ["", &known.to_string()] {
        failed(copy(&direct(&server), reference, &store, &CopyOptions::new(), &Monitor::none()), ErrorKind::Mismatch);
        failed(
            store.get_or_fetch(&direct(&server), reference, &CopyOptions::new(), &Monitor::none()),
            ErrorKind::Mismatch,
        );
    }
    // Nor is an image that is wanted by its fingerprint replaced by one that the server would rather give.
    let other = unified("other");
    tells(&told, &[("LXD-Image-Hash", &Fingerprint::of(&other).to_string()), ("LXD-Image-URL", "/x")], &other);
    failed(
        copy(&direct(&server), "", &store, &CopyOptions::new().expected_fingerprint(known), &Monitor::none()),
        ErrorKind::Mismatch,
    );
    failed(
        copy(&direct(&server), &known.to_string(), &store, &CopyOptions::new(), &Monitor::none()),
        ErrorKind::NotFound,
    );
    assert!(store.images().unwrap().is_empty());
    assert!(files(&path).is_empty());
}

#[test]
fn cached_image_is_resolved_again_only_by_alias() {
    let scratch = Scratch::new();
    let clock = Clock::new();
    let store = clock.options().open(scratch.join("store")).unwrap();
    let told = Arc::new(Mutex::new(Told::default()));
    let server = serve(&told);
    let first = unified("first");
    let hash = Fingerprint::of(&first).to_string();
    tells(&told, &[("LXD-Image-Hash", &hash), ("LXD-Image-URL", "/x")], &first);
    let remote = direct(&server);
    let options = CopyOptions::new();
    let image = store.get_or_fetch(&remote, "latest", &options, &Monitor::none()).unwrap();
    assert!(image.cached && !image.auto_update && image.last_used_at.is_some());
    assert_eq!(server.asked().len(), 3, "told, told again when it is fetched, fetched");
    server.forget();
    for reference in [&*hash, &hash[..12]] {
        assert_eq!(
            store.get_or_fetch(&remote, reference, &options, &Monitor::none()).unwrap().fingerprint,
            image.fingerprint
        );
    }
    assert!(server.asked().is_empty(), "a fingerprint needs no server");
    assert_eq!(
        store.get_or_fetch(&remote, "latest", &options, &Monitor::none()).unwrap().fingerprint,
        image.fingerprint
    );
    assert_eq!(server.asked().len(), 1);
    let second = unified("second");
    clock.set(i64::from(u32::MAX));
    tells(&told, &[("LXD-Image-Hash", &Fingerprint::of(&second).to_string()), ("LXD-Image-URL", "/x")], &second);
    assert_eq!(
        store.get_or_fetch(&remote, "latest", &options, &Monitor::none()).unwrap().fingerprint,
        Fingerprint::of(&second)
    );
    drop(server);
    // What the alias meant last is better than nothing.
    assert_eq!(
        store.get_or_fetch(&remote, "latest", &options, &Monitor::none()).unwrap().fingerprint,
        Fingerprint::of(&second)
    );
    failed(store.get_or_fetch(&remote, "never-seen", &options, &Monitor::none()), ErrorKind::Remote);
    assert_clean(&store);
}

#[test]
fn copy_of_a_stored_image_downloads_nothing() {
    let scratch = Scratch::new();
    let store = Store::open(scratch.join("store")).unwrap();
    let told = Arc::new(Mutex::new(Told::default()));
    let server = serve(&told);
    let bytes = unified("x");
    tells(&told, &[("LXD-Image-Hash", &Fingerprint::of(&bytes).to_string()), ("LXD-Image-URL", "/x")], &bytes);
    let remote = direct(&server);
    assert!(store.get_or_fetch(&remote, "x", &CopyOptions::new(), &Monitor::none()).unwrap().cached);
    server.forget();
    assert!(!copy(&remote, "", &store, &CopyOptions::new(), &Monitor::none()).unwrap().cached);
    let named = copy(&remote, "", &store, &CopyOptions::new().alias(alias("mine")), &Monitor::none()).unwrap();
    assert_eq!(named.aliases, [alias("mine")]);
    assert_eq!(
        copy(&remote, "", &store, &CopyOptions::new(), &Monitor::none()).unwrap(),
        named,
        "the same again is a success"
    );
    let more = copy(&remote, "", &store, &CopyOptions::new().public(true).auto_update(true), &Monitor::none()).unwrap();
    assert!(more.public && more.auto_update, "what is asked for is done");
    assert!(server.asked().iter().all(|asked| asked.method == "HEAD"));
    assert_clean(&store);
}

#[test]
fn url_has_no_list_and_a_file_is_no_server() {
    let client = ClientOptions::new();
    let remote = Direct::new(client.clone(), "https://images.example/x".parse().unwrap()).unwrap();
    failed(remote.list(&Monitor::none()), ErrorKind::Unsupported);
    failed(Direct::new(client.clone(), "file:///srv/x".parse().unwrap()), ErrorKind::InvalidInput);
    assert!(Client::new(client).is_ok());
    assert!(Wanted::new("x").architectures.len() <= 2);
}
