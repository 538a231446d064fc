//! `Lxd` against a server that answers like one, and then wrongly.

use std::io::{self, Read};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lxd_image::remote::{ClientOptions, CopyOptions, Lxd, Remote, RetryPolicy, Trust, UploadOptions, Wanted, copy};
use lxd_image::store::{Edit, ImportOptions, Store};
use lxd_image::{ErrorKind, Fingerprint, ImageType, Limits, Monitor};
use serde_json::{Value, json};

use super::failed;
use super::server::{Asked, Line, Server, Then, answer, head};
use crate::multipart;
use crate::store::{Scratch, alias, assert_clean, split, split_stream, stream, unified};

fn sync(line: &mut dyn Line, object: &Value) -> io::Result<Then> {
    let body = json!({"type": "sync", "status": "Success", "status_code": 200, "metadata": object}).to_string();
    answer(line, 200, &[("Content-Type", "application/json")], body.as_bytes())
}

fn error(line: &mut dyn Line, status: u16, text: &str) -> io::Result<Then> {
    let body = json!({"type": "error", "error": text, "error_code": status, "metadata": null}).to_string();
    answer(line, status, &[("Content-Type", "application/json")], body.as_bytes())
}

fn object(fingerprint: &str, architecture: &str, aliases: &[&str]) -> Value {
    let aliases: Vec<Value> = aliases.iter().map(|name| json!({"name": name, "description": "told"})).collect();
    json!({
        "fingerprint": fingerprint, "architecture": architecture, "type": "container", "public": true, "size": 1 << 20,
        "filename": "box.tar", "properties": {"os": "Box"}, "aliases": aliases, "created_at": "2023-11-14T22:13:20Z",
        "expires_at": "1970-01-01T00:00:00Z", "uploaded_at": "2023-11-14T22:13:20Z", "last_used_at": "0001-01-01T00:00:00Z",
        "profiles": ["default"], "cached": false, "auto_update": false, "unknown": [1, {"more": null}]
    })
}

/// Both files of an image as a server sends them.
fn form(meta: &[u8], rootfs: &[u8], names: [&str; 2]) -> (String, Vec<u8>) {
    let body = multipart::write(&[(names[0], "meta.tar", meta), (names[1], "root.tar", rootfs)]);
    (multipart::content_type(), body)
}

/// A server with one image under the alias `box/one`; `export` answers when its bytes are asked for.
pub(crate) fn serving(
    fingerprint: Fingerprint,
    export: impl Fn(&Asked, &mut dyn Line) -> io::Result<Then> + Send + Sync + 'static,
) -> Server {
    let digits = fingerprint.to_string();
    Server::tls(move |asked, line| {
        let path = asked.path.split('?').next().unwrap_or_default();
        if path == "/1.0" {
            return sync(
                line,
                &json!({"auth": "untrusted", "api_version": "1.0", "public": true, "api_extensions": []}),
            );
        }
        match path.strip_prefix("/1.0/images").unwrap_or("elsewhere") {
            "" => sync(line, &json!([object(&digits, "x86_64", &["box/one"])])),
            "/aliases/box%2Fone" => {
                sync(line, &json!({"name": "box/one", "description": "", "target": digits, "type": "container"}))
            }
            path if path == format!("/{digits}/export") => export(asked, line),
            path if path.len() > 4 && digits.starts_with(&path[1..]) => {
                sync(line, &object(&digits, "x86_64", &["box/one"]))
            }
            _ => error(line, 404, "not found"),
        }
    })
}

pub(crate) fn remote(server: &Server) -> Lxd {
    let options = server.options().retry(RetryPolicy::new().tries(3).pause(Duration::ZERO));
    Lxd::new(options, &server.url("")).unwrap().certificate(server.pem())
}

pub(crate) fn amd64() -> CopyOptions {
    CopyOptions::new().architectures(["amd64".parse().unwrap()])
}

fn store(scratch: &Scratch) -> Store {
    Store::open(scratch.join("store")).unwrap()
}

/// The files of an image as they lie in the store.
fn bytes(store: &Store, fingerprint: &Fingerprint) -> (Vec<u8>, Option<Vec<u8>>) {
    let opened = store.open_image(fingerprint).unwrap();
    let all = |file: &lxd_image::io::Blob| {
        let mut bytes = Vec::new();
        file.reader().read_to_end(&mut bytes).unwrap();
        bytes
    };
    let (first, second) = opened.files();
    (all(first), second.map(all))
}

#[test]
fn image_in_one_file_is_copied_by_alias_fingerprint_and_prefix() {
    let image = unified("one");
    let fingerprint = Fingerprint::of(&image);
    let served = image.clone();
    let server = serving(fingerprint, move |_, line| {
        answer(line, 200, &[("Content-Disposition", "inline;filename=box.tar")], &served)
    });
    let remote = remote(&server);
    for reference in ["box/one", &fingerprint.to_string(), &fingerprint.short()] {
        let scratch = Scratch::new();
        let store = store(&scratch);
        let copied = copy(&remote, reference, &store, &amd64().copy_aliases(true), &Monitor::none()).unwrap();
        assert_eq!(copied.fingerprint, fingerprint);
        assert_eq!(bytes(&store, &fingerprint), (image.clone(), None));
        let told = store.resolve("box/one").unwrap();
        assert_eq!((told.properties.get("os"), &*told.aliases[0].description), (Some("Box"), "told"));
        let source = told.source.unwrap();
        assert_eq!((&*source.protocol, &*source.certificate), ("lxd", server.pem()));
        assert_eq!(source.alias, if reference == "box/one" { "box/one" } else { "" });
        assert_clean(&store);
    }
}

#[test]
fn image_in_two_files_is_copied_byte_for_byte() {
    let (meta, rootfs) = split("two");
    let fingerprint = Fingerprint::of(&[meta.clone(), rootfs.clone()].concat());
    let (kind, body) = form(&meta, &rootfs, ["metadata", "rootfs"]);
    let server = serving(fingerprint, move |_, line| answer(line, 200, &[("Content-Type", &kind)], &body));
    let scratch = Scratch::new();
    let store = store(&scratch);
    copy(&remote(&server), "box/one", &store, &amd64(), &Monitor::none()).unwrap();
    assert_eq!(bytes(&store, &fingerprint), (meta, Some(rootfs)));
    assert_clean(&store);
}

#[test]
fn broken_split_download_restarts_and_is_never_joined_164() {
    let (meta, rootfs) = split("two");
    let fingerprint = Fingerprint::of(&[meta.clone(), rootfs.clone()].concat());
    let (kind, body) = form(&meta, &rootfs, ["metadata", "rootfs"]);
    for breaks in [1, usize::MAX] {
        let (kind, body, times) = (kind.clone(), body.clone(), AtomicUsize::new(0));
        let server = serving(fingerprint, move |_, line| {
            if times.fetch_add(1, Ordering::SeqCst) < breaks {
                head(line, 200, &[("Content-Type", &kind)], Some(body.len()))?;
                line.write_all(&body[..body.len() - 700])?;
                return Ok(Then::Cut);
            }
            answer(line, 200, &[("Content-Type", &kind)], &body)
        });
        let scratch = Scratch::new();
        let store = store(&scratch);
        let copied = copy(&remote(&server), "box/one", &store, &amd64(), &Monitor::none());
        if breaks == 1 {
            assert_eq!(copied.unwrap().fingerprint, fingerprint);
        } else {
            failed(copied, ErrorKind::Remote);
            assert!(store.images().unwrap().is_empty());
        }
        assert_clean(&store);
    }
}

#[test]
fn bytes_with_another_digest_are_never_stored_157() {
    let (meta, rootfs) = split("two");
    let (kind, body) = form(&meta, &rootfs, ["metadata", "rootfs"]);
    let one = unified("one");
    for split in [true, false] {
        let (kind, body, one) = (kind.clone(), body.clone(), one.clone());
        let server = serving(Fingerprint::of(b"promised"), move |_, line| {
            if split { answer(line, 200, &[("Content-Type", &kind)], &body) } else { answer(line, 200, &[], &one) }
        });
        let scratch = Scratch::new();
        let store = store(&scratch);
        failed(copy(&remote(&server), "box/one", &store, &amd64(), &Monitor::none()), ErrorKind::Mismatch);
        assert!(store.images().unwrap().is_empty());
        assert_clean(&store);
    }
}

#[test]
fn parts_that_are_no_image_are_malformed_175() {
    let (meta, rootfs) = split("two");
    let fingerprint = Fingerprint::of(&[meta.clone(), rootfs.clone()].concat());
    let mut three = form(&meta, &rootfs, ["metadata", "rootfs"]).1;
    three.truncate(three.len() - multipart::tail().len());
    three.extend(multipart::head(false, "more", "x"));
    three.extend(multipart::tail());
    let mut alone = multipart::head(true, "metadata", "meta.tar");
    alone.extend_from_slice(&meta);
    alone.extend(multipart::tail());
    let kind = multipart::content_type();
    for (body, kind) in [
        (form(&meta, &rootfs, ["rootfs", "metadata"]).1, &*kind),
        (form(&meta, &rootfs, ["metadata", "../../rootfs"]).1, &*kind),
        (form(&meta, &rootfs, ["metadata", "rootfs"]).1, "multipart/form-data"),
        (three, &*kind),
        (alone, &*kind),
        (b"nothing".to_vec(), &*kind),
    ] {
        let kind = kind.to_owned();
        let server = serving(fingerprint, move |_, line| answer(line, 200, &[("Content-Type", &kind)], &body));
        let scratch = Scratch::new();
        let store = store(&scratch);
        failed(copy(&remote(&server), "box/one", &store, &amd64(), &Monitor::none()), ErrorKind::Malformed);
        assert!(store.images().unwrap().is_empty());
        assert_clean(&store);
    }
}

#[test]
fn download_over_the_limits_is_refused() {
    let (meta, rootfs) = split("two");
    let fingerprint = Fingerprint::of(&[meta.clone(), rootfs.clone()].concat());
    let (kind, body) = form(&meta, &rootfs, ["metadata", "rootfs"]);
    let mut limits = Limits::default();
    limits.download = 2000;
    for told in [true, false] {
        let (kind, body) = (kind.clone(), body.clone());
        let server = serving(fingerprint, move |_, line| {
            if told {
                return answer(line, 200, &[("Content-Type", &kind)], &body);
            }
            head(line, 200, &[("Content-Type", &kind), ("Connection", "close")], None)?;
            line.write_all(&body)?;
            Ok(Then::Close)
        });
        let remote = Lxd::new(server.options().limits(limits.clone()), &server.url("")).unwrap();
        let scratch = Scratch::new();
        let store = store(&scratch);
        let error = failed(copy(&remote, "box/one", &store, &amd64(), &Monitor::none()), ErrorKind::LimitExceeded);
        assert_eq!(error.limit_name(), Some("download"));
        assert_clean(&store);
    }
}

#[test]
fn image_for_another_machine_is_not_found_and_the_error_says_which_there_is() {
    let server = serving(Fingerprint::of(b"x"), |_, line| error(line, 500, "not asked for"));
    let remote = remote(&server);
    let wanted = Wanted::new("box/one").architectures(["riscv64".parse().unwrap()]);
    let error = failed(remote.resolve(&wanted, &Monitor::none()), ErrorKind::NotFound);
    assert!(error.hint().unwrap().contains("x86_64"), "{error:?}");
    let wanted = Wanted::new("box/one").image_type(ImageType::VirtualMachine).architectures(["amd64".parse().unwrap()]);
    let error = failed(remote.resolve(&wanted, &Monitor::none()), ErrorKind::NotFound);
    assert!(error.hint().unwrap().contains("container"), "{error:?}");
    for (name, near) in [("bx/one", true), ("box", true), ("something", false)] {
        let error = failed(remote.resolve(&Wanted::new(name), &Monitor::none()), ErrorKind::NotFound);
        assert_eq!(error.hint().unwrap().contains("box/one"), near, "{name}: {error:?}");
    }
    // Who reads no hint spares the server its list.
    let lists = || server.asked().iter().filter(|asked| asked.path.contains("recursion")).count();
    let before = lists();
    let error = remote.resolve(&Wanted::new("bx/one").suggest(false), &Monitor::none()).unwrap_err();
    assert_eq!((error.kind(), error.hint(), lists()), (ErrorKind::NotFound, None, before), "{error:?}");
    assert!(before > 0);
}

#[test]
fn answers_about_another_image_or_with_paths_for_fingerprints_are_refused_160() {
    let fingerprint = Fingerprint::of(b"x");
    let server = Server::tls(move |asked, line| match &*asked.path {
        "/1.0/images/aliases/path" => sync(line, &json!({"name": "path", "target": "../../../etc/passwd"})),
        "/1.0/images/aliases/other" => sync(line, &json!({"name": "other", "target": fingerprint})),
        "/1.0/images/aliases/deep" => {
            let body = format!("{{\"metadata\": {}}}", "[".repeat(100_000));
            answer(line, 200, &[("Content-Type", "application/json")], body.as_bytes())
        }
        "/1.0/images/aliases/page" => answer(line, 200, &[("Content-Type", "text/html")], b"<html>"),
        "/1.0/images/aliases/refused" => error(line, 403, "not authorized"),
        path if path.starts_with("/1.0/images/aliases/") => error(line, 404, "not found"),
        "/1.0/images/beef" => sync(line, &object("../../../etc/passwd", "x86_64", &[])),
        _ => sync(line, &object(&"0".repeat(64), "x86_64", &[])),
    });
    let remote = remote(&server);
    for (name, kind) in [
        ("path", ErrorKind::Malformed),
        ("other", ErrorKind::Mismatch),
        (&*Fingerprint::of(b"y").to_string(), ErrorKind::Mismatch),
        ("beef", ErrorKind::Malformed),
        ("abcd", ErrorKind::Mismatch),
        ("deep", ErrorKind::LimitExceeded),
        ("page", ErrorKind::Malformed),
        ("refused", ErrorKind::Remote),
    ] {
        failed(remote.resolve(&Wanted::new(name), &Monitor::none()), kind);
    }
}

#[test]
fn certificate_that_changed_since_it_was_pinned_is_an_error_of_the_remote_168() {
    let server = serving(Fingerprint::of(b"x"), |_, line| error(line, 500, "not asked for"));
    let options = ClientOptions::new().trust(Trust::Pinned(Fingerprint::of(b"another")));
    let remote = Lxd::new(options, &server.url("")).unwrap();
    let error = failed(remote.list(&Monitor::none()), ErrorKind::Remote);
    assert!(error.to_string().contains("pinned"), "{error}");
    assert!(!error.is_transient() && server.asked().is_empty());
}

#[test]
fn token_is_sent_with_every_request_and_transient_errors_are_retried() {
    let image = unified("one");
    let fingerprint = Fingerprint::of(&image);
    let times = AtomicUsize::new(0);
    let server = serving(fingerprint, move |asked, line| {
        assert!(asked.path.ends_with("/export?secret=a%2Fb+c"), "{}", asked.path);
        match times.fetch_add(1, Ordering::SeqCst) {
            0 => error(line, 503, "starting"),
            _ => answer(line, 200, &[], &image),
        }
    });
    let scratch = Scratch::new();
    let remote = remote(&server).secret("a/b c");
    copy(&remote, &fingerprint.to_string(), &store(&scratch), &amd64(), &Monitor::none()).unwrap();
    assert!(server.asked().iter().all(|asked| asked.path.ends_with("?secret=a%2Fb+c")));
    assert_eq!(server.asked().len(), 3);
}

/// A server that takes uploads: what it was sent, and how its operation goes.
fn taking(states: Vec<Value>, operation: &'static str) -> (Server, Arc<Mutex<Vec<Asked>>>) {
    let sent = Arc::new(Mutex::new(Vec::new()));
    let (seen, step) = (Arc::clone(&sent), AtomicUsize::new(0));
    let server =
        Server::tls(move |asked, line| match (&*asked.method, asked.path.split('?').next().unwrap_or_default()) {
            ("GET", "/1.0") => sync(line, &json!({"auth": "trusted"})),
            ("POST" | "PUT", path) => {
                seen.lock().unwrap().push(asked.clone());
                if path != "/1.0/images" {
                    return sync(line, &json!({}));
                }
                let body = json!({"type": "async", "status_code": 100, "operation": operation, "metadata": {}});
                answer(line, 202, &[("Content-Type", "application/json")], body.to_string().as_bytes())
            }
            ("GET", "/1.0/images/aliases/taken") => sync(line, &json!({"name": "taken", "target": "0".repeat(64)})),
            ("GET", "/1.0/operations/1/wait") => {
                let at = step.fetch_add(1, Ordering::SeqCst).min(states.len() - 1);
                match states[at].get("fails") {
                    Some(_) => error(line, 500, "context deadline exceeded"),
                    None => sync(line, &states[at]),
                }
            }
            ("GET", "/1.0/operations/1") => sync(line, &json!({"status_code": 103})),
            _ => error(line, 404, "not found"),
        });
    (server, sent)
}

fn running() -> Value {
    json!({"status_code": 103, "status": "Running"})
}

#[test]
fn push_uploads_the_image_with_properties_and_waits() {
    for split_image in [false, true] {
        let scratch = Scratch::new();
        let store = store(&scratch);
        let source = if split_image { split_stream("two") } else { stream(unified("one")) };
        let image =
            store.import(source, &ImportOptions::new().property("a b", "c&d").unwrap(), &Monitor::none()).unwrap();
        let done = json!({"status_code": 200, "metadata": {"fingerprint": image.fingerprint, "size": "7"}});
        let (server, sent) = taking(vec![running(), json!({"fails": true}), running(), done], "/1.0/operations/1");
        let opened = store.open_image(&image.fingerprint).unwrap();
        let options = UploadOptions::new().alias(alias("new/one")).alias(alias("taken")).public(true);
        // Nothing is sent where an alias is in the way.
        failed(remote(&server).upload(&opened, &options, &Monitor::none()), ErrorKind::AlreadyExists);
        assert!(sent.lock().unwrap().is_empty());
        remote(&server).upload(&opened, &options.reuse_aliases(true), &Monitor::none()).unwrap();
        let sent = sent.lock().unwrap();
        for name in ["x-lxd", "x-incus"] {
            let header = |field: &str| sent[0].header(&format!("{name}-{field}"));
            assert_eq!(header("fingerprint"), Some(&*image.fingerprint.to_string()));
            assert_eq!(header("public"), Some("true"));
            assert!(header("properties").unwrap().contains("a+b=c%26d"));
        }
        if split_image {
            let kind = sent[0].header("content-type").unwrap();
            let parts = multipart::read(&sent[0].body, kind);
            let (meta, rootfs) = split("two");
            let parts: Vec<_> = parts.into_iter().map(|(name, _, bytes)| (name, bytes)).collect();
            assert_eq!(parts, [("metadata".to_owned(), meta), ("rootfs".to_owned(), rootfs)]);
        } else {
            assert_eq!(sent[0].body, unified("one"));
        }
        let told: Vec<_> = sent[1..].iter().map(|asked| (&*asked.method, &*asked.path)).collect();
        assert_eq!(told, [("POST", "/1.0/images/aliases"), ("PUT", "/1.0/images/aliases/taken")]);
    }
}

#[test]
fn upload_that_a_server_fails_or_misreports_is_an_error_of_its_own_kind() {
    let scratch = Scratch::new();
    let store = store(&scratch);
    let image = store.import(stream(unified("one")), &ImportOptions::new(), &Monitor::none()).unwrap();
    let opened = store.open_image(&image.fingerprint).unwrap();
    let ends = |code: u16, err: &str| json!({"status_code": code, "err": err});
    let other = json!({"status_code": 200, "metadata": {"fingerprint": "0".repeat(64)}});
    for (state, operation, kind) in [
        (ends(400, "Image with same fingerprint already exists"), "/1.0/operations/1", ErrorKind::AlreadyExists),
        (ends(400, "disk is full"), "/1.0/operations/1", ErrorKind::Remote),
        (ends(401, ""), "/1.0/operations/1", ErrorKind::Remote),
        (other, "/1.0/operations/1", ErrorKind::Mismatch),
        (ends(200, ""), "https://elsewhere.example/1.0/operations/1", ErrorKind::Malformed),
        (ends(200, ""), "/1.0/operations/gone", ErrorKind::NotFound),
    ] {
        let (server, _) = taking(vec![state], operation);
        failed(remote(&server).upload(&opened, &UploadOptions::new(), &Monitor::none()), kind);
    }
    let stranger = Server::tls(|_, line| sync(line, &json!({"auth": "untrusted"})));
    let error = failed(remote(&stranger).upload(&opened, &UploadOptions::new(), &Monitor::none()), ErrorKind::Remote);
    assert!(error.to_string().contains("trust"), "{error}");
    assert_eq!(stranger.asked().len(), 1);
}

#[test]
fn download_is_limited_to_the_announced_size() {
    let fingerprint = Fingerprint::of(b"announced");
    for two in [false, true] {
        let sent = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&sent);
        let server = serving(fingerprint, move |_, line| {
            let (kind, mut begin) = match two {
                true => (multipart::content_type(), multipart::head(true, "metadata", "meta.tar")),
                false => ("application/octet-stream".to_owned(), Vec::new()),
            };
            if two {
                begin.extend(b"meta");
                begin.extend(multipart::head(false, "rootfs", "root.tar"));
            }
            head(line, 200, &[("Content-Type", &kind)], None)?;
            line.write_all(&begin)?;
            for _ in 0..200 {
                line.write_all(&[b'x'; 1 << 20])?;
                count.fetch_add(1, Ordering::SeqCst);
            }
            Ok(Then::Close)
        });
        let scratch = Scratch::new();
        let store = store(&scratch);
        let error = failed(copy(&remote(&server), "box/one", &store, &amd64(), &Monitor::none()), ErrorKind::Mismatch);
        assert!(error.to_string().contains("size"), "{error}");
        assert!(sent.load(Ordering::SeqCst) < 100, "the server went on to send");
        assert_clean(&store);
    }
}

#[test]
fn errors_contain_no_secret() {
    let server = serving(Fingerprint::of(b"x"), |asked, line| error(line, 403, &format!("no: {}", asked.path)));
    let digits = Fingerprint::of(b"x").to_string();
    let remote = remote(&server).secret("S3C/RET");
    let scratch = Scratch::new();
    for error in [
        copy(&remote, &digits, &store(&scratch), &amd64(), &Monitor::none()).unwrap_err(),
        copy(&remote, "nothing", &store(&scratch), &amd64(), &Monitor::none()).unwrap_err(),
    ] {
        let all = format!("{error} {error:?} {:?} {remote:?}", error.hint());
        assert!(!all.contains("S3C"), "{all}");
    }
}

#[test]
fn edit_sends_back_the_fields_that_only_the_server_knows() {
    let digits = "1".repeat(64);
    let (shown, path) = (object(&digits, "x86_64", &["box/one"]), format!("/1.0/images/{digits}"));
    let server = Server::tls(move |asked, line| match (&*asked.method, &*asked.path) {
        ("GET", "/1.0") => sync(line, &json!({"auth": "trusted"})),
        ("GET", asked) if asked == path => sync(line, &shown),
        ("PUT", asked) if asked == path => sync(line, &json!({})),
        _ => error(line, 404, "not found"),
    });
    let remote = remote(&server);
    let image = remote.resolve(&Wanted::new(&*digits), &Monitor::none()).unwrap();
    remote.edit_image(&image, &Edit::new().property("os", "Other").unwrap(), &Monitor::none()).unwrap();
    let sent = server.asked().into_iter().find(|asked| asked.method == "PUT").unwrap();
    let body: Value = serde_json::from_slice(&sent.body).unwrap();
    assert_eq!(body["unknown"], json!([1, {"more": null}]));
    assert_eq!(body["profiles"], json!(["default"]));
    assert_eq!(body["properties"], json!({"os": "Other"}));
    assert_eq!(body["fingerprint"], Value::Null);
}
