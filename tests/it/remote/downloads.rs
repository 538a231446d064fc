//! Downloads that break, lie, change under way: resumed or begun anew, and never put together from two files.

use std::io::Read;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lxd_image::format::ImageSource;
use lxd_image::remote::{Client, ClientOptions, CopyOptions, Direct, Download, RetryPolicy, copy};
use lxd_image::store::{ImportOptions, Store};
use lxd_image::{Cancel, Error, ErrorKind, Fingerprint, Limits, Monitor, Result};

use super::failed;
use super::server::{Asked, Line, Server, Then, answer, head, hold};
use crate::store::{Scratch, assert_clean, files, unified};

/// Bytes that don't repeat.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let step = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    };
    std::iter::repeat_with(step).take(length).collect()
}

/// A client whose pauses take no time, and the pauses.
fn client(options: ClientOptions) -> (Client, Arc<Mutex<Vec<Duration>>>) {
    let pauses = Arc::new(Mutex::new(Vec::new()));
    let slept = Arc::clone(&pauses);
    let retry = RetryPolicy::new().tries(4).sleep(move |time| slept.lock().unwrap().push(time));
    (Client::new(options.retry(retry)).unwrap(), pauses)
}

fn read(download: Download) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    match download.reader().read_to_end(&mut bytes) {
        Ok(_) => Ok(bytes),
        Err(error) => Err(Error::from(error)),
    }
}

/// Serves a file with ranges, each answer cut after `most` bytes.
fn serve(asked: &Asked, line: &mut dyn Line, file: &[u8], etag: &str, most: usize) -> std::io::Result<Then> {
    let whole = asked.header("if-range").is_some_and(|tag| tag != etag);
    let start = if whole { 0 } else { asked.from().unwrap_or(0) };
    let rest = &file[start..];
    let range = format!("bytes {start}-{}/{}", file.len().saturating_sub(1), file.len());
    let headers = [("etag", etag), ("content-range", &range)];
    head(line, if start > 0 { 206 } else { 200 }, &headers[..if start > 0 { 2 } else { 1 }], Some(rest.len()))?;
    line.write_all(&rest[..rest.len().min(most)])?;
    Ok(if rest.len() > most { Then::Cut } else { Then::Keep })
}

#[test]
fn download_cut_at_every_tenth_is_resumed_and_verified() {
    let file = noise(1 << 20);
    let served = file.clone();
    let tenth = file.len() / 10;
    let server = Server::tls(move |asked, line| serve(asked, line, &served, "\"a\"", tenth));
    let (client, pauses) = client(server.options());
    let download = Download::new(&client, &server.url("/f")).size(file.len() as u64).digest(Fingerprint::of(&file));
    assert!(read(download).unwrap() == file);
    let asked = server.asked();
    assert_eq!(asked.len(), 11);
    let starts: Vec<usize> = asked.iter().map(|asked| asked.from().unwrap_or(0)).collect();
    assert_eq!(starts, (0..11).map(|part| part * tenth).collect::<Vec<_>>());
    assert!(asked[1..].iter().all(|asked| asked.header("if-range") == Some("\"a\"")));
    assert!(!pauses.lock().unwrap().is_empty());
}

/// hostile.md 164.
#[test]
fn replaced_file_is_never_joined_with_the_old_one() {
    let (old, new) = (noise(300_000), vec![b'n'; 300_000]);
    // How the server lets know that it has another file: an ETag, nothing at all, another length, none of it left.
    for way in ["etag", "silent", "length", "range", "ignored"] {
        let (old, new) = (old.clone(), new.clone());
        let fingerprint = Fingerprint::of(&old);
        let count = AtomicUsize::new(0);
        let server = Server::plain(move |asked, line| {
            if count.fetch_add(1, Ordering::SeqCst) == 0 {
                return serve(asked, line, &old, "\"old\"", 100_000);
            }
            match way {
                "etag" => serve(asked, line, &new, "\"new\"", usize::MAX),
                "length" => {
                    let headers = [("content-range", "bytes 100000-199999/200000")];
                    answer(line, 206, &headers, &new[..100_000])
                }
                "range" => answer(line, 416, &[("content-range", "bytes */50")], b""),
                // Ignores the range, and says nothing that would tell the files apart.
                "ignored" => answer(line, 200, &[], &new),
                // The worst: claims that it is the same file.
                _ => serve(asked, line, &new, "\"old\"", usize::MAX),
            }
        });
        let (client, _) = client(server.options());
        let done = read(Download::new(&client, &server.url("/f")).digest(fingerprint));
        let error = done.expect_err(way);
        match way {
            "silent" => assert_eq!(error.kind(), ErrorKind::Mismatch, "{error}"),
            _ => {
                assert_eq!(error.kind(), ErrorKind::Remote, "{way}: {error}");
                assert!(error.message().contains("replaced by another file") && error.is_transient(), "{way}: {error}");
            }
        }
        assert_eq!(server.asked().len(), 2, "{way}");
    }
}

#[test]
fn wrong_range_response_is_followed_by_a_request_for_the_whole() {
    let file = noise(300_000);
    for way in ["before", "behind", "no range", "416", "416 untold"] {
        let served = file.clone();
        let count = AtomicUsize::new(0);
        let server = Server::plain(move |asked, line| {
            let Some(from) = asked.from() else {
                let most = if count.fetch_add(1, Ordering::SeqCst) == 0 { 100_000 } else { usize::MAX };
                return serve(asked, line, &served, "\"a\"", most);
            };
            let start = match way {
                "before" => from - 10,
                "behind" => from + 100,
                "no range" => return answer(line, 206, &[("etag", "\"a\"")], &served[from..]),
                "416" => return answer(line, 416, &[("content-range", "bytes */300000")], b""),
                _ => return answer(line, 416, &[], b""),
            };
            let range = format!("bytes {start}-{}/{}", served.len() - 1, served.len());
            answer(line, 206, &[("etag", "\"a\""), ("content-range", &range)], &served[start..])
        });
        let (client, _) = client(server.options());
        let download = Download::new(&client, &server.url("/f")).digest(Fingerprint::of(&file));
        assert!(read(download).unwrap() == file, "{way}");
        assert_eq!(server.asked().len(), 3, "{way}");
    }
}

#[test]
fn unrequested_content_encoding_is_accepted_only_for_the_file_itself() {
    let file = noise(1000);
    let served = file.clone();
    let server = Server::plain(move |_, line| answer(line, 200, &[("content-encoding", "gzip")], &served));
    let (client, _) = client(server.options());
    let download = || Download::new(&client, &server.url("/f"));
    assert!(read(download().size(1000)).unwrap() == file);
    assert!(read(download().digest(Fingerprint::of(&file))).unwrap() == file);
    let error = failed(read(download()), ErrorKind::Remote);
    assert!(error.message().contains("packed as gzip"), "{error}");
    failed(read(download().size(999)), ErrorKind::Remote);
    let error = failed(read(download().digest(Fingerprint::of(b"other"))), ErrorKind::Mismatch);
    assert!(error.hint().unwrap().contains("gzip"), "{error:?}");
}

#[test]
fn download_without_range_support_restarts_and_skips_known_bytes() {
    let file = noise(500_000);
    let served = file.clone();
    let count = AtomicUsize::new(0);
    let server = Server::plain(move |_, line| {
        head(line, 200, &[], Some(served.len()))?;
        let most = [200_000, 100_000, 400_000, 500_000][count.fetch_add(1, Ordering::SeqCst)];
        line.write_all(&served[..most])?;
        Ok(Then::Cut)
    });
    let (client, _) = client(server.options());
    assert!(read(Download::new(&client, &server.url("/f"))).unwrap() == file);
    assert_eq!(server.asked().len(), 4);
}

/// hostile.md 158, 164.
#[test]
fn wrong_size_or_digest_is_a_mismatch() {
    let file = noise(100_000);
    let served = file.clone();
    let server = Server::plain(move |asked, line| match &*asked.path {
        "/told" => answer(line, 200, &[], &served),
        "/endless" => {
            head(line, 200, &[], None)?;
            while line.write_all(&served).is_ok() {}
            Ok(Then::Cut)
        }
        _ => {
            head(line, 200, &[], None)?;
            line.write_all(&served)?;
            Ok(Then::Close)
        }
    });
    let (client, _) = client(server.options());
    let download = |path: &str| Download::new(&client, &server.url(path));
    for path in ["/told", "/untold", "/endless"] {
        let error = failed(read(download(path).size(99_999)), ErrorKind::Mismatch);
        assert!(error.message().starts_with("the size of http://"), "{error}");
    }
    failed(read(download("/told").size(100_001)), ErrorKind::Mismatch);
    let error = failed(read(download("/told").digest(Fingerprint::of(b"other"))), ErrorKind::Mismatch);
    assert!(error.message().starts_with("the sha256 of http://"), "{error}");
    // Shorter than it has to be, without a word: as if it had broken off.
    let error = failed(read(download("/untold").size(100_001)), ErrorKind::Remote);
    assert!(error.is_transient(), "{error}");
}

/// hostile.md 161.
#[test]
fn endless_file_fails_at_the_limit() {
    let server = Server::plain(|asked, line| {
        head(line, 200, &[], (asked.path == "/told").then_some(1 << 50))?;
        while line.write_all(&[0; 65536]).is_ok() {}
        Ok(Then::Cut)
    });
    let mut limits = Limits::default();
    limits.download = 1 << 20;
    let (client, _) = client(server.options().limits(limits));
    for path in ["/told", "/untold"] {
        let error = failed(read(Download::new(&client, &server.url(path))), ErrorKind::LimitExceeded);
        assert_eq!(error.limit_name(), Some("download"));
    }
}

#[test]
fn transient_error_is_retried_with_growing_delays() {
    let server = Server::plain(|asked, line| match &*asked.path {
        "/busy" => answer(line, 503, &[], b""),
        _ => answer(line, 403, &[], b""),
    });
    let (client, pauses) = client(server.options());
    failed(read(Download::new(&client, &server.url("/busy"))), ErrorKind::Remote);
    assert_eq!(server.asked().len(), 4);
    let slept: Duration = pauses.lock().unwrap().iter().sum();
    assert_eq!(slept, Duration::from_millis(500 + 1000 + 2000));
    server.forget();
    failed(read(Download::new(&client, &server.url("/forbidden"))), ErrorKind::Remote);
    assert_eq!(server.asked().len(), 1, "what will not pass is not tried again");
}

/// hostile.md 164.
#[test]
fn copy_restarts_when_the_file_was_replaced() {
    let scratch = Scratch::new();
    let store = Store::open(scratch.join("store")).unwrap();
    let image = unified("right");
    let (right, wrong) = (image.clone(), vec![b'w'; image.len()]);
    let hash = Fingerprint::of(&image).to_string();
    let count = AtomicUsize::new(0);
    let server = Server::tls(move |asked, line| {
        if asked.method == "HEAD" {
            return answer(line, 200, &[("lxd-image-hash", &hash), ("lxd-image-url", "/x")], b"");
        }
        match count.fetch_add(1, Ordering::SeqCst) {
            0 => serve(asked, line, &wrong, "\"wrong\"", 1100),
            _ => serve(asked, line, &right, "\"right\"", usize::MAX),
        }
    });
    let options = server.options().retry(RetryPolicy::new().sleep(|_| {}));
    let remote = Direct::new(options, server.url("/lxd")).unwrap();
    let stored = copy(&remote, "", &store, &CopyOptions::new(), &Monitor::none()).unwrap();
    assert_eq!(stored.fingerprint, Fingerprint::of(&image));
    assert_clean(&store);
}

#[test]
fn download_lands_in_the_store_or_leaves_nothing_there() {
    let scratch = Scratch::new();
    let path = scratch.join("store");
    let store = Store::open(&path).unwrap();
    let image = unified("from afar");
    let served = image.clone();
    let server = Server::tls(move |asked, line| {
        let etag = "\"x\"";
        match &*asked.path {
            "/good" => serve(asked, line, &served, etag, 1100),
            "/bad" => serve(asked, line, &[&served[..], b"more"].concat(), etag, usize::MAX),
            "/cut" => serve(asked, line, &served, etag, if asked.from().is_some() { 0 } else { 700 }),
            _ => {
                head(line, 200, &[], Some(served.len()))?;
                line.write_all(&served[..700])?;
                hold(line)
            }
        }
    });
    let (client, _) = client(server.options());
    let fetch = |path: &str, monitor: &Monitor| {
        let download = Download::new(&client, &server.url(path)).monitor(monitor);
        let options = ImportOptions::new().expected_fingerprint(Fingerprint::of(&image));
        store.import(ImageSource::unified(download.open()), &options, monitor)
    };
    failed(fetch("/bad", &Monitor::none()), ErrorKind::Mismatch);
    failed(fetch("/cut", &Monitor::none()), ErrorKind::Remote);
    let cancel = Cancel::new();
    let monitor = Monitor::none().with_cancel(cancel.clone());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !server.asked().iter().any(|asked| asked.path == "/silent") {
                std::thread::yield_now();
            }
            cancel.cancel();
        });
        failed(fetch("/silent", &monitor), ErrorKind::Cancelled);
    });
    assert!(files(&path).is_empty(), "nothing is left of what failed");
    let stored = fetch("/good", &Monitor::none()).unwrap();
    assert_eq!(stored.fingerprint, Fingerprint::of(&image));
    assert_clean(&store);
}
