//! What is read of a server whose lists must be signed, and what is refused.

use std::time::Duration;

use lxd_image::remote::{Remote, RetryPolicy, Simplestreams, Wanted, copy};
use lxd_image::store::Store;
use lxd_image::trust::openpgp::SecretKey;
use lxd_image::{Architecture, ErrorKind, Fingerprint, Monitor};
use serde_json::{Value, json};

use super::{OTHER, OWNER, keys, now, other, owner};
use crate::remote::failed;
use crate::remote::server::Server;
use crate::remote::simplestreams::{Files, list, product, put, serve, split_items};
use crate::store::Scratch;

fn get(files: &Files, path: &str) -> Vec<u8> {
    files.lock().unwrap()[path].clone()
}

fn remove(files: &Files, path: &str) {
    files.lock().unwrap().remove(path).unwrap();
}

/// Writes lists of one image with a time of their own, unsigned.
fn lists(files: &Files, tag: &str, updated: &str) -> Fingerprint {
    let (items, fingerprint) = split_items(files, tag);
    list(files, &json!({"box:1:default:amd64": product(&json!({"20240101": {"items": items}}))}));
    for path in ["/streams/v1/index.json", "/streams/v1/images.json"] {
        let mut document: Value = serde_json::from_slice(&get(files, path)).unwrap();
        if !updated.is_empty() {
            document["updated"] = json!(updated);
        }
        put(files, path, serde_json::to_string_pretty(&document).unwrap() + "\n");
    }
    fingerprint
}

/// Adds the signed messages, as python-simplestreams does.
fn sign(files: &Files, key: &SecretKey, at: i64) {
    for name in ["index", "images"] {
        let text = String::from_utf8(get(files, &format!("/streams/v1/{name}.json"))).unwrap();
        let text = text.replace(".json\"", ".sjson\"");
        put(files, &format!("/streams/v1/{name}.sjson"), key.sign_cleartext(&text, at).unwrap());
    }
}

/// Adds the signatures beside the documents.
fn sign_beside(files: &Files, key: &SecretKey, at: i64) {
    for name in ["index", "images"] {
        let path = format!("/streams/v1/{name}.json");
        put(files, &format!("{path}.gpg"), key.sign_detached(&get(files, &path), at).unwrap());
    }
}

fn remote(server: &Server) -> Simplestreams {
    let options = server.options().retry(RetryPolicy::new().tries(1).sleep(|_| {}));
    Simplestreams::new(options, &server.url("")).unwrap().keys(keys(OWNER))
}

fn listed(remote: &Simplestreams) -> Vec<Fingerprint> {
    remote.list(&Monitor::none()).unwrap().into_iter().map(|image| image.fingerprint).collect()
}

const OLD: &str = "Wed, 01 Jan 2025 00:00:00 +0000";
const NEW: &str = "Sat, 01 Feb 2025 00:00:00 +0000";

#[test]
fn signed_messages_are_read_and_name_their_signer() {
    let files = Files::default();
    let fingerprint = lists(&files, "one", OLD);
    sign(&files, &owner(), now());
    // Without the keys these would be read.
    remove(&files, "/streams/v1/index.json");
    remove(&files, "/streams/v1/images.json");
    let server = serve(&files);
    let remote = remote(&server);
    assert!(remote.list_signatures().is_empty());
    assert_eq!(listed(&remote), [fingerprint]);
    let [signature] = &remote.list_signatures()[..] else { panic!("one key signed") };
    assert_eq!((&*signature.kind, &signature.key), ("openpgp", &owner().fingerprint()));
}

#[test]
fn signatures_beside_the_documents_are_read_where_there_are_no_messages() {
    let files = Files::default();
    let fingerprint = lists(&files, "one", OLD);
    sign_beside(&files, &owner(), now());
    let server = serve(&files);
    assert_eq!(listed(&remote(&server)), [fingerprint]);
}

#[test]
fn copy_resolve_and_open_refuse_what_list_refuses() {
    let files = Files::default();
    let fingerprint = lists(&files, "one", OLD);
    sign(&files, &owner(), now());
    let server = serve(&files);
    let scratch = Scratch::new();
    let store = Store::open(scratch.join("store")).unwrap();
    let options = lxd_image::remote::CopyOptions::new().architectures([Architecture::X86_64]);
    assert_eq!(copy(&remote(&server), "box", &store, &options, &Monitor::none()).unwrap().fingerprint, fingerprint);
    sign(&files, &other(), now());
    failed(copy(&remote(&server), "box", &store, &options, &Monitor::none()), ErrorKind::Untrusted);
    let wanted = Wanted::new("box").architectures([Architecture::X86_64]);
    failed(remote(&server).resolve(&wanted, &Monitor::none()), ErrorKind::Untrusted);
    failed(remote(&server).withheld(&Monitor::none()), ErrorKind::Untrusted);
}

/// Each row changes a tree that is signed well, and must be refused as a whole.
#[test]
fn no_list_is_read_that_the_owner_did_not_sign_as_it_is() {
    type Change = fn(&Files);
    let rows: &[(&str, Change)] = &[
        ("unsigned", |files| {
            remove(files, "/streams/v1/index.sjson");
            remove(files, "/streams/v1/images.sjson");
        }),
        ("index unsigned, products signed", |files| remove(files, "/streams/v1/index.sjson")),
        ("index signed, products unsigned", |files| {
            let index = String::from_utf8(get(files, "/streams/v1/index.json")).unwrap();
            put(files, "/streams/v1/index.sjson", owner().sign_cleartext(&index, now()).unwrap());
        }),
        ("index by another key", |files| {
            let index = String::from_utf8(get(files, "/streams/v1/index.json")).unwrap().replace(".json\"", ".sjson\"");
            put(files, "/streams/v1/index.sjson", other().sign_cleartext(&index, now()).unwrap());
        }),
        ("products by another key", |files| {
            let list = String::from_utf8(get(files, "/streams/v1/images.json")).unwrap();
            put(files, "/streams/v1/images.sjson", other().sign_cleartext(&list, now()).unwrap());
        }),
        ("products with a changed digit", |files| {
            let list = String::from_utf8(get(files, "/streams/v1/images.sjson")).unwrap();
            put(files, "/streams/v1/images.sjson", list.replace("20240101", "20240102"));
        }),
        ("products with text after the message", |files| {
            let mut list = get(files, "/streams/v1/images.sjson");
            list.extend_from_slice(b"{}\n");
            put(files, "/streams/v1/images.sjson", list);
        }),
        ("products as plain JSON under the signed name", |files| {
            put(files, "/streams/v1/images.sjson", get(files, "/streams/v1/images.json"));
        }),
        ("signature of the index beside the products", |files| {
            remove(files, "/streams/v1/index.sjson");
            sign_beside(files, &owner(), now());
            put(files, "/streams/v1/images.json.gpg", get(files, "/streams/v1/index.json.gpg"));
        }),
        ("signed in the future", |files| sign(files, &owner(), now() + 2 * 86_400)),
    ];
    for (name, change) in rows {
        let files = Files::default();
        lists(&files, "one", OLD);
        sign(&files, &owner(), now());
        change(&files);
        let server = serve(&files);
        let error = remote(&server).list(&Monitor::none()).err().unwrap_or_else(|| panic!("{name}: was accepted"));
        assert_eq!(error.kind(), ErrorKind::Untrusted, "{name}: {error}");
    }
}

#[test]
fn signed_list_does_not_vouch_for_other_bytes_of_an_image() {
    let files = Files::default();
    lists(&files, "one", OLD);
    sign(&files, &owner(), now());
    let (items, _) = split_items(&files, "evil");
    let path = items["squashfs"]["path"].as_str().unwrap();
    put(&files, "/images/one.squashfs", get(&files, &format!("/{path}")));
    let server = serve(&files);
    let scratch = Scratch::new();
    let store = Store::open(scratch.join("store")).unwrap();
    let options = lxd_image::remote::CopyOptions::new().architectures([Architecture::X86_64]);
    failed(copy(&remote(&server), "box", &store, &options, &Monitor::none()), ErrorKind::Mismatch);
    assert!(store.images().unwrap().is_empty());
}

#[test]
fn older_list_is_refused_and_can_be_accepted_on_purpose() {
    let files = Files::default();
    let scratch = Scratch::new();
    let server = serve(&files);
    let recorded = || remote(&server).record_file(scratch.join("signed/box.json"));
    let new = lists(&files, "new", NEW);
    sign(&files, &owner(), now());
    assert_eq!(listed(&recorded()), [new]);
    // Signed later, but what it says is older.
    let old = lists(&files, "old", OLD);
    sign(&files, &owner(), now());
    let error = failed(recorded().list(&Monitor::none()), ErrorKind::Untrusted);
    assert!(error.hint().unwrap().contains("accept-older"), "{error:?}");
    // The other form of the same document has the same past.
    remove(&files, "/streams/v1/index.sjson");
    sign_beside(&files, &owner(), now());
    failed(recorded().list(&Monitor::none()), ErrorKind::Untrusted);
    assert_eq!(listed(&recorded().accept_older(true)), [old]);
    assert_eq!(listed(&recorded()), [old]);
}

#[test]
fn lists_without_a_time_are_ordered_by_their_signatures() {
    let files = Files::default();
    let server = serve(&files);
    let remote = remote(&server);
    lists(&files, "one", "");
    sign(&files, &owner(), now() - 100);
    let before = (get(&files, "/streams/v1/index.sjson"), get(&files, "/streams/v1/images.sjson"));
    let one = listed(&remote);
    let two = lists(&files, "two", "");
    sign(&files, &owner(), now() - 50);
    assert_eq!(listed(&remote), [two]);
    put(&files, "/streams/v1/index.sjson", before.0);
    put(&files, "/streams/v1/images.sjson", before.1);
    failed(remote.list(&Monitor::none()), ErrorKind::Untrusted);
    assert_eq!(one.len(), 1);
}

#[test]
fn old_product_list_under_a_new_index_is_refused() {
    let files = Files::default();
    let server = serve(&files);
    let remote = remote(&server);
    lists(&files, "old", OLD);
    sign(&files, &owner(), now() - 100);
    let old = get(&files, "/streams/v1/images.sjson");
    listed(&remote);
    lists(&files, "new", NEW);
    sign(&files, &owner(), now());
    listed(&remote);
    put(&files, "/streams/v1/images.sjson", old);
    failed(remote.list(&Monitor::none()), ErrorKind::Untrusted);
}

#[test]
fn cached_lists_are_verified_each_time() {
    let files = Files::default();
    let scratch = Scratch::new();
    let server = serve(&files);
    lists(&files, "one", OLD);
    sign(&files, &owner(), now());
    let cached = || remote(&server).cache_dir(scratch.join("lists")).max_age(Duration::from_secs(3600));
    listed(&cached());
    // Another key is trusted now: the cached bytes do not count any more, and the server's don't either.
    failed(cached().keys(keys(OTHER)).list(&Monitor::none()), ErrorKind::Untrusted);
    // Unsigned lists in the cache are not taken for signed ones.
    let files = Files::default();
    lists(&files, "evil", NEW);
    let server = serve(&files);
    let unsigned = Simplestreams::new(server.options(), &server.url("")).unwrap().cache_dir(scratch.join("lists"));
    listed(&unsigned);
    failed(unsigned.keys(keys(OWNER)).list(&Monitor::none()), ErrorKind::Untrusted);
}

#[test]
fn remotes_without_keys_read_unsigned_lists_as_before() {
    let files = Files::default();
    let fingerprint = lists(&files, "one", OLD);
    sign(&files, &other(), now());
    let server = serve(&files);
    let unsigned = Simplestreams::new(server.options(), &server.url("")).unwrap();
    assert_eq!(listed(&unsigned), [fingerprint]);
    assert!(unsigned.list_signatures().is_empty());
}
