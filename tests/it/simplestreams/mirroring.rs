//! Mirrors: from a server over TLS and from a tree on disk, into a tree and into a store.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use lxd_image::format::ImageSource;
use lxd_image::remote::{MirrorOptions, MirrorTarget, Mirrored, RetryPolicy, Simplestreams, Url, mirror};
use lxd_image::simplestreams::{AddOptions, Tree};
use lxd_image::store::Store;
use lxd_image::{ErrorKind, Fingerprint, Monitor};
use serde_json::Value;

use super::{add, add_split, assert_clean, failed, input, listed, sorted, stored, tree};
use crate::remote::server::{Server, answer};
use crate::store::{Scratch, unified, unified_with};

/// Serves a directory.
pub(crate) fn serve(root: &Path) -> Server {
    let root = root.to_path_buf();
    Server::tls(move |asked, line| {
        let path = asked.path.split('?').next().unwrap_or_default();
        match fs::read(root.join(path.trim_start_matches('/'))) {
            Ok(bytes) => answer(line, 200, &[], &bytes),
            Err(_) => answer(line, 404, &[], b""),
        }
    })
}

fn from(server: &Server) -> Simplestreams {
    Simplestreams::new(server.options().retry(RetryPolicy::new().sleep(|_| {})), &server.url("")).unwrap()
}

fn on_disk(root: &Path) -> Simplestreams {
    let url: Url = format!("file://{}", root.display()).parse().unwrap();
    Simplestreams::new(lxd_image::remote::ClientOptions::new(), &url).unwrap()
}

fn into_tree(remote: &Simplestreams, tree: &Tree, options: &MirrorOptions) -> Mirrored {
    mirror(remote, MirrorTarget::Tree(tree), options, &Monitor::none()).unwrap()
}

/// How often files of images were asked for.
fn fetched(server: &Server) -> usize {
    server.asked().iter().filter(|asked| asked.path.starts_with("/images/")).count()
}

#[test]
fn mirror_has_what_the_server_has_and_fetches_only_what_is_new() {
    let scratch = Scratch::new();
    let (origin, _) = tree(&scratch.join("origin"));
    let (one, two) = (add(&origin, "one"), add_split(&origin, "two"));
    let server = serve(origin.path());
    let (copy, _) = tree(&scratch.join("copy"));
    let done = into_tree(&from(&server), &copy, &MirrorOptions::new());
    assert_eq!((done.copied.len(), done.kept, fetched(&server)), (2, 0, 3));
    assert_clean(&copy);
    // What is said of the images is what is said there.
    assert_eq!(copy.products().unwrap().products, origin.products().unwrap().products);
    assert_eq!(stored(copy.path()), stored(origin.path()));
    let again = into_tree(&from(&server), &copy, &MirrorOptions::new().delete(true));
    assert_eq!((again.copied.len(), again.kept, again.removed.len(), fetched(&server)), (0, 2, 0, 3));
    let three = add(&origin, "three");
    origin.lock().unwrap().remove(&[one]).unwrap();
    // New aliases of what is there already come, too.
    let list = origin.path().join("streams/v1/images.json");
    let mut document: Value = serde_json::from_slice(&fs::read(&list).unwrap()).unwrap();
    document["products"]["Debian:two:default:amd64"]["aliases"] = "two,second".into();
    document["products"]["Debian:two:default:amd64"]["release_title"] = "The Second".into();
    fs::write(&list, document.to_string()).unwrap();
    let kept = into_tree(&from(&server), &copy, &MirrorOptions::new());
    assert_eq!((kept.copied[0].fingerprint, kept.kept, fetched(&server)), (three, 1, 4));
    assert_eq!(listed(&copy), sorted([one, two, three]));
    let done = into_tree(&from(&server), &copy, &MirrorOptions::new().delete(true));
    assert_eq!((done.removed, fetched(&server)), (vec![one], 4));
    assert_eq!(copy.products().unwrap().products, origin.products().unwrap().products);
    assert_clean(&copy);
    // Its file is still there for who read the list a moment ago.
    assert!(stored(copy.path()).contains(&format!("{one}.incus_combined.tar.gz")));
}

#[test]
fn files_that_a_dead_run_brought_are_not_fetched_again() {
    let scratch = Scratch::new();
    let (origin, _) = tree(&scratch.join("origin"));
    add_split(&origin, "two");
    let server = serve(origin.path());
    let (copy, _) = tree(&scratch.join("copy"));
    for name in stored(origin.path()) {
        fs::copy(origin.path().join("images").join(&name), copy.path().join("images").join(&name)).unwrap();
    }
    assert_eq!(into_tree(&from(&server), &copy, &MirrorOptions::new()).copied.len(), 1);
    assert_eq!(fetched(&server), 0);
    assert_clean(&copy);
    // One that is not what its name says is.
    let (copy, _) = tree(&scratch.join("other"));
    for name in stored(origin.path()) {
        let mut bytes = fs::read(origin.path().join("images").join(&name)).unwrap();
        bytes[9] ^= 1;
        fs::write(copy.path().join("images").join(&name), bytes).unwrap();
    }
    into_tree(&from(&server), &copy, &MirrorOptions::new());
    assert_eq!(fetched(&server), 2);
    assert_clean(&copy);
}

#[test]
fn image_that_can_not_be_had_does_not_stop_the_others_and_is_tried_again() {
    let scratch = Scratch::new();
    let (origin, _) = tree(&scratch.join("origin"));
    let (bad, good) = (add_split(&origin, "bad"), add(&origin, "good"));
    let rootfs = stored(origin.path()).into_iter().find(|name| name.ends_with(".root.tar.xz")).unwrap();
    let rootfs = origin.path().join("images").join(rootfs);
    let bytes = fs::read(&rootfs).unwrap();
    let mut broken = bytes.clone();
    broken[600] ^= 1;
    fs::write(&rootfs, broken).unwrap();
    let server = serve(origin.path());
    let (copy, _) = tree(&scratch.join("copy"));
    let done = into_tree(&from(&server), &copy, &MirrorOptions::new());
    assert_eq!(listed(&copy), [good]);
    let [(fingerprint, error)] = &*done.failed else { panic!("{:?}", done.failed) };
    assert_eq!((*fingerprint, error.kind()), (bad, ErrorKind::Mismatch));
    assert_clean(&copy);
    fs::write(&rootfs, bytes).unwrap();
    let done = into_tree(&from(&server), &copy, &MirrorOptions::new());
    assert_eq!((done.copied.len(), done.kept, done.failed.len()), (1, 1, 0));
    assert_clean(&copy);
}

#[test]
fn filters_choose_what_comes_and_what_may_go_and_an_empty_server_removes_nothing() {
    let scratch = Scratch::new();
    let (origin, _) = tree(&scratch.join("origin"));
    let [one, two] = [add(&origin, "one"), add(&origin, "two")];
    let (copy, _) = tree(&scratch.join("copy"));
    let remote = on_disk(origin.path());
    let only = |text: &str| MirrorOptions::new().filter(text.parse().unwrap()).delete(true);
    into_tree(&remote, &copy, &only("release=one"));
    assert_eq!(listed(&copy), [one]);
    origin.lock().unwrap().remove(&[one]).unwrap();
    assert_eq!(into_tree(&remote, &copy, &only("release=two")).removed, []);
    assert_eq!(listed(&copy), sorted([one, two]));
    assert_eq!(into_tree(&remote, &copy, &only("release=one")).removed, [one]);
    origin.lock().unwrap().remove(&[two]).unwrap();
    let options = MirrorOptions::new().delete(true);
    failed(mirror(&remote, MirrorTarget::Tree(&copy), &options, &Monitor::none()), ErrorKind::Remote);
    assert_eq!(listed(&copy), [two]);
}

#[test]
fn store_gets_the_images_and_the_aliases_that_are_meant_here() {
    let scratch = Scratch::new();
    let (origin, _) = tree(&scratch.join("origin"));
    let version = |arch: &str, created: u64| {
        let text = format!("architecture: {arch}\ncreation_date: {created}\nproperties: {{os: Box, release: '1'}}\n");
        let source = ImageSource::unified(input(unified_with(&text, arch.as_bytes())));
        let options = AddOptions::new().default_alias(false).alias("box").unwrap();
        origin.lock().unwrap().add(source, &options, &Monitor::none()).unwrap().fingerprint
    };
    // The other machine's is newer, and does not take the short name for that.
    let own = version("x86_64", 1_700_000_000);
    let other = version("aarch64", 1_700_100_000);
    let old = version("i686", 1_600_000_000);
    let store = Store::open(scratch.join("store")).unwrap();
    let remote = on_disk(origin.path());
    let run = |delete: bool| {
        mirror(&remote, MirrorTarget::Store(&store), &MirrorOptions::new().delete(delete), &Monitor::none()).unwrap()
    };
    assert_eq!(run(false).copied.len(), 3);
    assert_eq!(store.resolve("box/arm64").unwrap().fingerprint, other);
    assert_eq!(store.resolve("box/i386").unwrap().fingerprint, old);
    let named = store.resolve("box").unwrap().fingerprint;
    let machine = rustix::system::uname().machine().to_string_lossy().into_owned();
    if machine == "x86_64" {
        assert_eq!(named, own);
    }
    assert!(store.image(&own).unwrap().public);
    // Somebody's own copy, by its alias, is theirs.
    let mine = Fingerprint::of(&unified("mine"));
    crate::store::import(&store, "mine", &["mine"]);
    let newer = version("x86_64", 1_700_200_000);
    origin.lock().unwrap().remove(&[own]).unwrap();
    let done = run(true);
    assert_eq!((done.copied.len(), done.removed), (1, vec![own]));
    if machine == "x86_64" {
        assert_eq!(store.resolve("box").unwrap().fingerprint, newer);
    }
    assert!(store.image(&mine).is_ok());
    crate::store::assert_clean(&store);
}

#[test]
fn server_that_goes_away_ends_the_run_and_what_came_stays() {
    let scratch = Scratch::new();
    let (origin, _) = tree(&scratch.join("origin"));
    for tag in ["one", "two", "three"] {
        add(&origin, tag);
    }
    let root: PathBuf = origin.path().to_path_buf();
    let count = Arc::new(Mutex::new(0));
    let server = Server::tls(move |asked, line| {
        if asked.path.starts_with("/images/") {
            let mut count = count.lock().unwrap();
            *count += 1;
            if *count > 1 {
                return answer(line, 503, &[], b"");
            }
        }
        answer(line, 200, &[], &fs::read(root.join(asked.path.trim_start_matches('/'))).unwrap())
    });
    let (copy, _) = tree(&scratch.join("copy"));
    let remote = from(&server);
    failed(mirror(&remote, MirrorTarget::Tree(&copy), &MirrorOptions::new(), &Monitor::none()), ErrorKind::Remote);
    assert_eq!(listed(&copy).len(), 1);
    assert_clean(&copy);
}
