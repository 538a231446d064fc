//! Remotes by name: what a file of them holds, and what becomes of it when things go wrong.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use lxd_image::remote::{ClientOptions, FirstUse, KnownRemote, Protocol, Settings};
use lxd_image::store::UpdateSource;
use lxd_image::{ErrorKind, Monitor};

use super::failed;
use super::server::{Server, answer};
use crate::store::Scratch;

fn remote(url: &str) -> KnownRemote {
    KnownRemote::new(url.parse().unwrap(), Protocol::Lxd)
}

fn names(settings: &Settings) -> Vec<String> {
    settings.remotes().unwrap().into_iter().map(|(name, _)| name).collect()
}

#[test]
fn well_known_servers_are_there_from_the_start_and_can_be_changed_like_others() {
    let scratch = Scratch::new();
    let settings = Settings::open(scratch.join("settings"));
    assert_eq!(names(&settings), ["images", "ubuntu", "ubuntu-daily", "ubuntu-minimal"]);
    assert!(!scratch.join("settings").exists(), "reading makes nothing");
    settings.remove("images").unwrap();
    settings.add("mine", remote("https://box.example:8443")).unwrap();
    settings.rename("ubuntu", "u").unwrap();
    settings.set_url("mine", "https://other.example".parse().unwrap()).unwrap();
    assert_eq!(names(&settings), ["mine", "u", "ubuntu-daily", "ubuntu-minimal"]);
    assert_eq!(settings.get("mine").unwrap(), remote("https://other.example"));
    for name in names(&settings) {
        settings.remove(&name).unwrap();
    }
    assert!(names(&settings).is_empty(), "what was removed does not come back");
    settings.add("again", remote("https://box.example")).unwrap();
    assert_eq!(names(&settings), ["again"]);
}

#[test]
fn remote_names_taken_unknown_and_invalid_are_different_errors() {
    let scratch = Scratch::new();
    let settings = Settings::open(scratch.path());
    failed(settings.add("ubuntu", remote("https://x.example")), ErrorKind::AlreadyExists);
    failed(settings.rename("ubuntu", "images"), ErrorKind::AlreadyExists);
    let error = failed(settings.get("ubunto"), ErrorKind::NotFound);
    assert!(error.hint().unwrap().contains("ubuntu"), "{error:?}");
    failed(settings.remove("none"), ErrorKind::NotFound);
    failed(settings.set_url("none", "https://x.example".parse().unwrap()), ErrorKind::NotFound);
    for name in ["", "local", "a:b", "a/b", "a b", "a\nb", "-a", &"x".repeat(101)] {
        failed(settings.add(name, remote("https://x.example")), ErrorKind::InvalidInput);
        failed(settings.rename("ubuntu", name), ErrorKind::InvalidInput);
    }
    failed(settings.connect_lxd("ubuntu", ClientOptions::new()).map(|_| ()), ErrorKind::Unsupported);
    assert_eq!(names(&settings).len(), 4);
}

#[test]
fn file_that_is_damaged_is_an_error_and_is_never_written_over() {
    let scratch = Scratch::new();
    let settings = Settings::open(scratch.path());
    let file = scratch.join("remotes.yaml");
    for text in [
        "mine: [",
        "mine: text\n",
        "mine:\n  url: none\n",
        "mine:\n  protocol: lxd\n",
        "a:\n  url: https://x\n  public: perhaps\n",
        "a:\n  url: https://x\n  certificate: none\n",
        "a:\n  url: https://x\n  protocol: ftp\n",
        "local:\n  url: https://x\n",
    ] {
        fs::write(&file, text).unwrap();
        assert!(settings.remotes().is_err(), "{text}");
        assert!(settings.add("new", remote("https://x.example")).is_err(), "{text}");
        assert_eq!(fs::read_to_string(&file).unwrap(), text);
    }
    fs::write(&file, "# by hand\nmine:\n  url: https://box.example\n").unwrap();
    assert_eq!(settings.get("mine").unwrap(), remote("https://box.example"));
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 2, "the file and its lock, and nothing half written");
}

#[test]
fn changes_of_many_at_once_are_all_kept() {
    let scratch = Scratch::new();
    std::thread::scope(|scope| {
        for number in 0..16 {
            let settings = Settings::open(scratch.path());
            scope.spawn(move || settings.add(&format!("r{number}"), remote("https://x.example")).unwrap());
        }
    });
    assert_eq!(names(&Settings::open(scratch.path())).len(), 4 + 16);
}

#[test]
fn client_s_certificate_is_made_once_and_only_its_owner_reads_the_key() {
    let scratch = Scratch::new();
    let settings = Settings::open(scratch.join("deep/settings"));
    let made: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| settings.identity().unwrap().certificate())).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(made.iter().all(|certificate| *certificate == made[0]));
    for name in ["client.key", "client.crt"] {
        let mode = fs::metadata(settings.directory().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    assert_eq!(fs::metadata(settings.directory()).unwrap().permissions().mode() & 0o777, 0o700);
    fs::remove_file(settings.directory().join("client.key")).unwrap();
    failed(settings.identity(), ErrorKind::Malformed);
}

#[test]
fn server_s_own_certificate_is_unknown_until_it_is_pinned_and_then_no_other_will_do() {
    let server = Server::tls(|_, line| answer(line, 404, &[], b""));
    let options = ClientOptions::new();
    let known = remote(&server.text(""));
    let seen = known.first_use(&options, &Monitor::none()).unwrap();
    assert_eq!(seen, FirstUse::Unknown(server.certificate()));
    assert!(server.asked().is_empty(), "nothing was sent to it");
    let pinned = known.certificate(server.certificate());
    assert_eq!(pinned.first_use(&options, &Monitor::none()).unwrap(), FirstUse::Vouched);
    let other = Server::tls(|_, line| answer(line, 404, &[], b""));
    let moved = remote(&other.text("")).certificate(server.certificate());
    failed(moved.first_use(&options, &Monitor::none()), ErrorKind::Remote);
    let plain = Server::plain(|_, line| answer(line, 200, &[], b""));
    assert_eq!(remote(&plain.text("")).first_use(&options, &Monitor::none()).unwrap(), FirstUse::Plain);
    failed(remote("http://box.example").first_use(&options, &Monitor::none()), ErrorKind::InvalidInput);
}

#[test]
fn image_is_followed_as_its_server_is_known_here_with_the_certificate_of_the_client() {
    let scratch = Scratch::new();
    let settings = Settings::open(scratch.path());
    let server = Server::tls(|_, line| {
        answer(line, 200, &[("content-type", "application/json")], br#"{"type":"sync","metadata":[]}"#)
    });
    settings.add("mine", remote(&server.text("")).certificate(server.certificate())).unwrap();
    let source = UpdateSource::new(server.text(""), "lxd", "box").certificate(server.pem());
    let own = settings.identity().unwrap().certificate();
    settings.open_source(&source, ClientOptions::new()).unwrap().list(&Monitor::none()).unwrap();
    assert_eq!(server.asked().pop().unwrap().client.as_deref(), Some(own.der()));
    settings.remove("mine").unwrap();
    settings.open_source(&source, ClientOptions::new()).unwrap().list(&Monitor::none()).unwrap();
    assert_eq!(server.asked().pop().unwrap().client, None, "a stranger is not shown who asks");
}

#[test]
fn addresses_get_what_people_leave_out() {
    for (text, protocol, expected) in [
        ("box.example", Protocol::Lxd, "https://box.example:8443/"),
        ("box.example:1234", Protocol::Incus, "https://box.example:1234/"),
        ("[::1]", Protocol::Lxd, "https://[::1]:8443/"),
        ("box.example/tree", Protocol::Simplestreams, "https://box.example/tree"),
        ("https://box.example", Protocol::Lxd, "https://box.example/"),
        ("http://127.0.0.1:80", Protocol::Lxd, "http://127.0.0.1:80/"),
    ] {
        assert_eq!(KnownRemote::address(text, protocol).unwrap().to_string(), expected);
    }
    assert!(KnownRemote::address("user@host", Protocol::Lxd).is_err());
}
