//! Statements go where images go: from our server, and from a static tree, by copies, mirrors and caches. What the policy
//! of the receiving store needs comes along, and what does not come along is refused.

use std::sync::Arc;

use lxd_image::remote::{
    ClientOptions, CopyOptions, Lxd, MirrorOptions, MirrorTarget, Remote, Simplestreams, UploadOptions, copy, mirror,
};
use lxd_image::server::{Client, Handler, Listener, ListenerOptions, Request, ServerOptions};
use lxd_image::simplestreams::{AddOptions, Tree};
use lxd_image::store::{ImportOptions, Store};
use lxd_image::trust::{Evidence, SecretKey};
use lxd_image::{Cancel, ErrorKind, Fingerprint, Monitor};

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
    store.import(stream(unified("a")), &options.clone().alias(alias("a")).evidence(stated), &Monitor::none()).unwrap();
    store.import(stream(unified("b")), &options.alias(alias("b")), &Monitor::none()).unwrap();
    Served::new(store)
}

#[test]
fn copy_from_our_server_takes_statements_along() {
    let key = SecretKey::generate().unwrap();
    let (served, scratch) = (serve(&key), Scratch::new());
    let store = store_with(&scratch, "s", needs_statement(&key));
    let remote = served.remote();
    copy(&remote, "a", &store, &CopyOptions::new().alias(alias("mine")), &Monitor::none()).unwrap();
    assert_eq!(store.statements(&fingerprint("a")).unwrap().len(), 1);
    assert_kind(copy(&remote, "b", &store, &CopyOptions::new(), &Monitor::none()), ErrorKind::Untrusted);
    assert!(store.image(&fingerprint("b")).is_err());
}

#[test]
fn cache_is_refused_without_the_statement() {
    let key = SecretKey::generate().unwrap();
    let (served, scratch) = (serve(&key), Scratch::new());
    let store = store_with(&scratch, "s", needs_statement(&key));
    let remote = served.remote();
    assert_kind(store.get_or_fetch(&remote, "b", &CopyOptions::new(), &Monitor::none()), ErrorKind::Untrusted);
    store.get_or_fetch(&remote, "a", &CopyOptions::new(), &Monitor::none()).unwrap();
    assert!(store.image(&fingerprint("b")).is_err());
}

#[test]
fn mirror_takes_what_the_policy_admits() {
    let key = SecretKey::generate().unwrap();
    let (served, scratch) = (serve(&key), Scratch::new());
    let store = store_with(&scratch, "s", needs_statement(&key));
    let report = mirror(&served.remote(), MirrorTarget::Store(&store), &MirrorOptions::new(), &Monitor::none());
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
    tree.lock().unwrap().add(stream(unified("a")), &options, &Monitor::none()).unwrap();
    let url = format!("file://{}", scratch.join("tree").display());
    let remote = Simplestreams::new(ClientOptions::new(), &url.parse().unwrap()).unwrap();
    let store = store_with(&scratch, "s", needs_statement(&key));
    // The machine of the images is amd64, whatever this one is.
    let options = CopyOptions::new().architectures(["amd64".parse().unwrap()]);
    copy(&remote, "a", &store, &options, &Monitor::none()).unwrap();
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

/// The lists that a server makes: an item that other readers ignore.
#[test]
fn copy_from_the_lists_of_our_server_takes_statements_along() {
    let key = SecretKey::generate().unwrap();
    let (served, scratch) = (serve(&key), Scratch::new());
    let options = ClientOptions::new().allow_http(true);
    let remote = Simplestreams::new(options, &served.url.parse().unwrap()).unwrap();
    let store = store_with(&scratch, "s", needs_statement(&key));
    let options = CopyOptions::new().architectures(["amd64".parse().unwrap()]);
    copy(&remote, "a", &store, &options, &Monitor::none()).unwrap();
    assert_eq!(store.statements(&fingerprint("a")).unwrap().len(), 1);
    assert_kind(copy(&remote, "b", &store, &options, &Monitor::none()), ErrorKind::Untrusted);
}

#[test]
fn statement_that_is_added_later_is_in_the_next_list() {
    let key = SecretKey::generate().unwrap();
    let store = Store::in_memory().unwrap();
    let image = store
        .import(stream(unified("b")), &ImportOptions::new().public(true).alias(alias("b")), &Monitor::none())
        .unwrap();
    let served = Served::new(store.clone());
    let remote = Simplestreams::new(ClientOptions::new().allow_http(true), &served.url.parse().unwrap()).unwrap();
    let listed = |remote: &Simplestreams| {
        let image = remote.list(&Monitor::none()).unwrap().pop().unwrap();
        remote.listed(&image, &Monitor::none()).unwrap().unwrap().statements
    };
    assert_eq!(listed(&remote), None);
    store.attach_statements(&image.fingerprint, vec![vouch(&image.fingerprint, &key)]).unwrap();
    let first = listed(&remote).unwrap();
    let other = SecretKey::generate().unwrap();
    store.attach_statements(&image.fingerprint, vec![vouch(&image.fingerprint, &other)]).unwrap();
    // The list that was read before names other bytes by now.
    let evidence = remote.evidence(&image, &Monitor::none()).unwrap();
    assert_eq!(evidence.statements.len(), 2);
    assert_ne!(listed(&remote).unwrap(), first);
}

#[test]
fn mirror_to_a_tree_takes_statements_from_either_face_of_our_server() {
    let key = SecretKey::generate().unwrap();
    let (served, scratch) = (serve(&key), Scratch::new());
    let options = ClientOptions::new().allow_http(true);
    let lists = Simplestreams::new(options, &served.url.parse().unwrap()).unwrap();
    let rest = served.remote();
    for (name, remote) in [("rest", &rest as &dyn Remote), ("lists", &lists)] {
        let tree = Tree::create(scratch.join(name)).unwrap();
        for _ in 0..2 {
            mirror(remote, MirrorTarget::Tree(&tree), &MirrorOptions::new(), &Monitor::none()).unwrap();
        }
        let url = format!("file://{}", scratch.join(name).display());
        let mirrored = Simplestreams::new(ClientOptions::new(), &url.parse().unwrap()).unwrap();
        let stated: Vec<_> = mirrored
            .list(&Monitor::none())
            .unwrap()
            .into_iter()
            .filter(|image| !mirrored.evidence(image, &Monitor::none()).unwrap().is_empty())
            .map(|image| image.fingerprint)
            .collect();
        assert_eq!(stated, [fingerprint("a")], "{name}");
    }
}

/// A server whose every client is trusted, behind TLS.
fn trusting(store: Store) -> crate::remote::server::Server {
    let handler = Handler::new(store, ServerOptions::new());
    crate::remote::server::Server::tls(move |asked, line| {
        let mut request = Request::new(asked.method.parse().unwrap(), asked.path.parse().unwrap());
        request.client = Client::Trusted(Fingerprint::of(b"the certificate of the client"));
        for (name, value) in &asked.headers {
            let name: http::HeaderName = name.parse().unwrap();
            request.headers.insert(name, http::HeaderValue::from_str(value).unwrap());
        }
        request.body = Box::new(std::io::Cursor::new(asked.body.clone()));
        let response = handler.handle(request);
        let headers: Vec<(String, String)> = (response.headers.iter())
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
            .filter(|(name, _)| name != "content-length")
            .collect();
        let headers: Vec<_> = headers.iter().map(|(name, value)| (&**name, &**value)).collect();
        let (status, is_head) = (response.status.as_u16(), asked.method == "HEAD");
        let body = response.body.read_to_end()?;
        crate::remote::server::answer(line, status, &headers, if is_head { b"" } else { &body })
    })
}

#[test]
fn upload_sends_statements_ahead_so_that_the_policy_of_the_server_sees_them() {
    let key = SecretKey::generate().unwrap();
    let scratch = Scratch::new();
    let there = store_with(&scratch, "there", needs_statement(&key));
    let server = trusting(there.clone());
    let remote = Lxd::new(server.options(), &server.url("/")).unwrap();
    let here = Store::in_memory().unwrap();
    let image = import(&here, "a", &["a"]);
    let opened = || here.open_image(&image.fingerprint).unwrap();
    assert!(remote.upload(&opened(), &UploadOptions::new(), &Monitor::none()).is_err());
    assert!(there.images().unwrap().is_empty());
    let first = vouch(&image.fingerprint, &key);
    remote.upload(&opened(), &UploadOptions::new().statements(vec![first.clone()]), &Monitor::none()).unwrap();
    assert_eq!(there.statements(&image.fingerprint).unwrap(), std::slice::from_ref(&first));
    // For an image that is there, further ones.
    let second = vouch(&image.fingerprint, &SecretKey::generate().unwrap());
    remote.upload(&opened(), &UploadOptions::new().statements(vec![first, second]), &Monitor::none()).unwrap();
    assert_eq!(there.statements(&image.fingerprint).unwrap().len(), 2);
    // Nothing of them is left among the uploads.
    let uploads = server.asked().into_iter().filter(|asked| asked.method == "PATCH").map(|asked| asked.path);
    let uploads: Vec<String> = uploads.collect();
    assert_eq!(uploads.len(), 1);
    let asked = Request::new("GET".parse().unwrap(), uploads[0].parse().unwrap());
    let mut asked = asked;
    asked.client = Client::Trusted(Fingerprint::of(b"the certificate of the client"));
    assert_eq!(Handler::new(there, ServerOptions::new()).handle(asked).status.as_u16(), 404);
}

#[test]
fn statement_about_another_image_fails_the_upload() {
    let key = SecretKey::generate().unwrap();
    let there = Store::in_memory().unwrap();
    let server = trusting(there.clone());
    let remote = Lxd::new(server.options(), &server.url("/")).unwrap();
    let here = Store::in_memory().unwrap();
    let image = import(&here, "a", &["a"]);
    let wrong = vouch(&fingerprint("b"), &key);
    let options = UploadOptions::new().statements(vec![wrong]);
    assert!(remote.upload(&here.open_image(&image.fingerprint).unwrap(), &options, &Monitor::none()).is_err());
    assert!(there.images().unwrap().is_empty());
}
