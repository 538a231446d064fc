//! Statements go where images go: from our server, and from a static tree, by copies, mirrors and caches. What the policy
//! of the receiving store needs comes along, and what does not come along is refused.

use std::sync::Arc;

use lxd_image::remote::{
    ClientOptions, CopyOptions, Lxd, MirrorOptions, MirrorTarget, Remote, Simplestreams, copy, mirror,
};
use lxd_image::server::{Handler, Listener, ListenerOptions, ServerOptions};
use lxd_image::simplestreams::{AddOptions, Tree};
use lxd_image::store::{ImportOptions, Store};
use lxd_image::trust::{Evidence, SecretKey};
use lxd_image::{Cancel, ErrorKind};

use super::policy::{needs_statement, store_with};
use super::stores::vouch;
use crate::store::{Scratch, alias, assert_kind, fingerprint, import, stream, unified};

/// A server of our own on loopback, in plain http. It stops when it is dropped.
struct Served {
    url: String,
    cancel: Cancel,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Served {
    fn new(store: Store) -> Self {
        let mut listener =
            Listener::new(Arc::new(Handler::new(store, ServerOptions::new())), ListenerOptions::new()).unwrap();
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", socket.local_addr().unwrap());
        listener.listen_plain(socket).unwrap();
        let cancel = Cancel::new();
        let stop = cancel.clone();
        let thread = std::thread::spawn(move || listener.run(&stop).unwrap());
        Self { url, cancel, thread: Some(thread) }
    }

    fn remote(&self) -> Lxd {
        Lxd::new(ClientOptions::new().allow_http(true), &self.url.parse().unwrap()).unwrap()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.cancel.cancel();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A server with the public image `a`, about which there is a statement, and `b`, about which there is none.
fn serve(key: &SecretKey) -> Served {
    let store = Store::in_memory().unwrap();
    let options = ImportOptions::new().public(true);
    let stated = Evidence::new().statements([vouch(&fingerprint("a"), key)]);
    store.import(stream(unified("a")), &options.clone().alias(alias("a")).evidence(stated)).unwrap();
    store.import(stream(unified("b")), &options.alias(alias("b"))).unwrap();
    Served::new(store)
}

#[test]
fn copy_from_our_server_takes_statements_along() {
    let key = SecretKey::generate().unwrap();
    let (served, scratch) = (serve(&key), Scratch::new());
    let store = store_with(&scratch, "s", needs_statement(&key));
    let remote = served.remote();
    copy(&remote, "a", &store, &CopyOptions::new().alias(alias("mine"))).unwrap();
    assert_eq!(store.statements(&fingerprint("a")).unwrap().len(), 1);
    assert_kind(copy(&remote, "b", &store, &CopyOptions::new()), ErrorKind::Untrusted);
    assert!(store.image(&fingerprint("b")).is_err());
}

#[test]
fn cache_is_refused_without_the_statement() {
    let key = SecretKey::generate().unwrap();
    let (served, scratch) = (serve(&key), Scratch::new());
    let store = store_with(&scratch, "s", needs_statement(&key));
    let remote = served.remote();
    assert_kind(store.get_or_fetch(&remote, "b", &CopyOptions::new()), ErrorKind::Untrusted);
    store.get_or_fetch(&remote, "a", &CopyOptions::new()).unwrap();
    assert!(store.image(&fingerprint("b")).is_err());
}

#[test]
fn mirror_takes_what_the_policy_admits() {
    let key = SecretKey::generate().unwrap();
    let (served, scratch) = (serve(&key), Scratch::new());
    let store = store_with(&scratch, "s", needs_statement(&key));
    let report = mirror(&served.remote(), MirrorTarget::Store(&store), &MirrorOptions::new());
    drop(report);
    let there: Vec<_> = store.images().unwrap().into_iter().map(|image| image.fingerprint).collect();
    assert_eq!(there, [fingerprint("a")]);
}

#[test]
fn static_tree_has_statements_that_a_copy_takes_along() {
    let key = SecretKey::generate().unwrap();
    let scratch = Scratch::new();
    let tree = Tree::create(scratch.join("tree")).unwrap();
    let bundle = format!("{}\n", vouch(&fingerprint("a"), &key).as_json());
    let options = AddOptions::new().alias("a").unwrap().statements(bundle);
    tree.lock().unwrap().add(stream(unified("a")), &options).unwrap();
    let url = format!("file://{}", scratch.join("tree").display());
    let remote = Simplestreams::new(ClientOptions::new(), &url.parse().unwrap()).unwrap();
    let store = store_with(&scratch, "s", needs_statement(&key));
    // The machine of the images is amd64, whatever this one is.
    let options = CopyOptions::new().architectures(["amd64".parse().unwrap()]);
    copy(&remote, "a", &store, &options).unwrap();
    assert_eq!(store.statements(&fingerprint("a")).unwrap().len(), 1);
    // Taken out with its image.
    tree.lock().unwrap().remove(&[fingerprint("a")]).unwrap();
    assert!(tree.listing().unwrap().images().is_empty());
    let list = std::fs::read_to_string(scratch.join("tree/streams/v1/images.json")).unwrap();
    assert!(!list.contains("intoto"), "{list}");
}

#[test]
fn private_image_shows_its_statements_to_nobody() {
    let store = Store::in_memory().unwrap();
    let image = import(&store, "a", &["a"]);
    store
        .attach_statements(&image.fingerprint, vec![vouch(&image.fingerprint, &SecretKey::generate().unwrap())])
        .unwrap();
    let served = Served::new(store);
    let evidence = served.remote().evidence(&image, &lxd_image::Monitor::none()).unwrap();
    assert!(evidence.is_empty());
}
