//! What servers tell: digests, names of files, and files that change while they are read.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use lxd_image::remote::{
    ClientOptions, CopyOptions, Direct, Lxd, MirrorOptions, MirrorTarget, RetryPolicy, Simplestreams, copy, mirror,
};
use lxd_image::simplestreams::{Tree, TreeVerifyOptions};
use lxd_image::store::{ImportOptions, Store};
use lxd_image::{Architecture, ErrorKind, Fingerprint, Monitor};
use serde_json::{Value, json};

use crate::remote::server::{Server, Then, answer, head};
use crate::remote::simplestreams::{Files, list, product, serve, split_items};
use crate::store::{Scratch, alias, assert_clean, files, stream, unified};

fn amd64() -> CopyOptions {
    CopyOptions::new().architectures([Architecture::X86_64])
}

fn streams(server: &Server) -> Simplestreams {
    let options = server.options().retry(RetryPolicy::new().sleep(|_| {}));
    Simplestreams::new(options, &server.url("")).unwrap().certificate(server.pem())
}

/// Each file has its own digest, and the pair is not the image that the list names.
#[test]
fn parts_of_two_images_are_no_image_cve_2026_33542() {
    let scratch = Scratch::new();
    let published = Files::default();
    let server = serve(&published);
    let (mut items, fingerprint) = split_items(&published, "good");
    let (other, _) = split_items(&published, "other");
    items["squashfs"] = other["squashfs"].clone();
    list(&published, &json!({"box": product(&json!({"20240101": {"items": items}}))}));
    let remote = streams(&server);
    let store = Store::open(scratch.join("store")).unwrap();
    let error = copy(&remote, "box", &store, &amd64(), &Monitor::none()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Mismatch, "copy: {error}");
    let error = store.get_or_fetch(&remote, &fingerprint.to_string(), &amd64(), &Monitor::none()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Mismatch, "fetch on use: {error}");
    assert_eq!(
        mirror(&remote, MirrorTarget::Store(&store), &MirrorOptions::new(), &Monitor::none()).unwrap().failed.len(),
        1
    );
    assert!(store.images().unwrap().is_empty() && files(&scratch.join("store")).is_empty());
    let tree = Tree::create(scratch.join("www")).unwrap();
    let done = mirror(&remote, MirrorTarget::Tree(&tree), &MirrorOptions::new(), &Monitor::none()).unwrap();
    assert_eq!(done.failed.iter().map(|(_, error)| error.kind()).collect::<Vec<_>>(), [ErrorKind::Mismatch]);
    assert!(tree.listing().unwrap().images().is_empty());
    // And a tree on disk that says so of files that are there.
    for (path, bytes) in published.lock().unwrap().iter() {
        let path = scratch.join("theirs").join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    let report =
        Tree::open(scratch.join("theirs")).unwrap().verify(&TreeVerifyOptions::new(), &Monitor::none()).unwrap();
    assert_eq!(report.findings.iter().map(lxd_image::Error::kind).collect::<Vec<_>>(), [ErrorKind::Mismatch]);
}

#[test]
fn hash_in_a_header_is_no_file_name_cve_2026_48769() {
    let bytes = unified("one");
    for header in ["LXD-Image-Hash", "Incus-Image-Hash"] {
        for hash in ["../../../../etc/cron.d/x", "/etc/passwd", "", "..", &"0".repeat(63), &"g".repeat(64), "a/b"] {
            let scratch = Scratch::new();
            let store = Store::open(scratch.join("store")).unwrap();
            let (served, hash) = (bytes.clone(), hash.to_owned());
            let server = Server::tls(move |asked, line| {
                let url = format!("https://{}/file", asked.header("host").unwrap_or_default());
                let headers = [(header, &*hash), ("LXD-Image-URL", &*url)];
                if asked.method == "HEAD" {
                    return head(line, 200, &headers, Some(0)).map(|()| Then::Keep);
                }
                answer(line, 200, &[], &served)
            });
            let direct = Direct::new(server.options(), server.url("/x")).unwrap().certificate(server.pem());
            copy(&direct, "", &store, &amd64(), &Monitor::none()).unwrap_err();
            assert!(store.images().unwrap().is_empty() && files(&scratch.join("store")).is_empty(), "{header}");
        }
    }
}

/// A server of LXD with one unified image, whose file has this name in the header and in the object.
fn with_file_name(name: &str) -> Server {
    let (bytes, name) = (unified("one"), name.to_owned());
    let digits = Fingerprint::of(&bytes).to_string();
    Server::tls(move |asked, line| {
        let sync = |object: Value| json!({"type": "sync", "status_code": 200, "metadata": object}).to_string();
        let object = json!({"fingerprint": digits, "architecture": "x86_64", "type": "container", "public": true,
            "size": bytes.len(), "filename": name});
        let path = asked.path.split('?').next().unwrap_or_default();
        let text = match path.strip_prefix("/1.0/images/") {
            Some("aliases/box") => sync(json!({"name": "box", "target": digits, "type": "container"})),
            Some(path) if path == digits => sync(object),
            Some(path) if path == format!("{digits}/export") => {
                let shown: String = name.chars().filter(|c| !c.is_control()).collect();
                let disposition = format!("inline;filename=\"{shown}\"");
                return answer(line, 200, &[("Content-Disposition", &disposition)], &bytes);
            }
            _ => return answer(line, 404, &[], b"{\"type\": \"error\", \"error_code\": 404}"),
        };
        answer(line, 200, &[("Content-Type", "application/json")], text.as_bytes())
    })
}

#[test]
fn file_name_of_a_server_is_no_path_cve_2026_81500() {
    for name in ["../../etc/cron.d/x", "/etc/passwd", "..", ".", "a\\..\\b", "\u{1b}[2Jx", "-rf", ".bashrc", "a/b", ""]
    {
        let scratch = Scratch::new();
        let store = Store::open(scratch.join("store")).unwrap();
        let server = with_file_name(name);
        let remote = Lxd::new(server.options(), &server.url("")).unwrap().certificate(server.pem());
        let image = copy(&remote, "box", &store, &amd64(), &Monitor::none()).unwrap();
        assert_eq!(image.file_name, None, "{name:?}");
        let target = scratch.join("exported");
        fs::create_dir(&target).unwrap();
        store.export(&image.fingerprint, &target, &Default::default()).unwrap();
        let names: Vec<_> = fs::read_dir(&target).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names.len(), 1, "{name:?}: {names:?}");
        assert!(names[0].to_str().unwrap().starts_with(&image.fingerprint.to_string()), "{name:?}: {names:?}");
    }
}

/// A server whose file is another one each time; what is stored has the digest that it is stored under.
#[test]
fn concurrent_downloads_of_a_changing_file_store_what_was_hashed_lxd_16687() {
    let scratch = Scratch::new();
    let store = Store::open(scratch.join("store")).unwrap();
    let (good, bad) = (unified("good"), unified("evil"));
    let fingerprint = Fingerprint::of(&good);
    let turn = AtomicUsize::new(0);
    let served = good.clone();
    let server = Server::tls(move |asked, line| {
        let url = format!("https://{}/file", asked.header("host").unwrap_or_default());
        let hash = Fingerprint::of(&served).to_string();
        if asked.method == "HEAD" {
            return head(line, 200, &[("LXD-Image-Hash", &*hash), ("LXD-Image-URL", &*url)], Some(0))
                .map(|()| Then::Keep);
        }
        let odd = turn.fetch_add(1, Ordering::SeqCst) % 2 == 1;
        answer(line, 200, &[], if odd { &bad } else { &served })
    });
    let options = |server: &Server| -> ClientOptions { server.options().retry(RetryPolicy::new().tries(1)) };
    let direct = Arc::new(Direct::new(options(&server), server.url("/x")).unwrap().certificate(server.pem()));
    let outcomes: Vec<bool> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|number| {
                let (direct, store) = (Arc::clone(&direct), store.clone());
                let options = amd64().alias(alias(&format!("name-{number}")));
                scope.spawn(move || copy(&*direct, "", &store, &options, &Monitor::none()).is_ok())
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(outcomes.contains(&true), "the first has the right bytes");
    let images = store.images().unwrap();
    assert_eq!(images.iter().map(|image| image.fingerprint).collect::<Vec<_>>(), [fingerprint]);
    assert_eq!(crate::store::reads(&store, &fingerprint), good);
    assert_clean(&store);
    // What is there already is never replaced by what comes under its name.
    let lie = ImportOptions::new().expected_fingerprint(fingerprint);
    store.import(stream(unified("lie")), &lie, &Monitor::none()).unwrap_err();
    assert_eq!(crate::store::reads(&store, &fingerprint), good);
}
