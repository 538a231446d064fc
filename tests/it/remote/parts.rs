//! Uploads that go on where they broke: the client of this library at a server of this library, over a line that is cut.

use std::io::{self, Cursor, Read};
use std::sync::Mutex;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use lxd_image::remote::{Lxd, RetryPolicy, UploadOptions};
use lxd_image::server::{Client, Handler, Request, ServerOptions};
use lxd_image::store::{ImportOptions, OpenedImage, Store};
use lxd_image::{ErrorKind, Fingerprint, Monitor};

use super::server::{Asked, Line, Server, Then};
use crate::store::{metadata, stream, unified_with};

/// What happens to requests, by what they are: `true` breaks the line. Called once for each request with a body.
type Break = dyn FnMut(&Asked) -> Fault + Send;

#[derive(Clone, Copy, PartialEq)]
enum Fault {
    None,
    /// After this many bytes of the body.
    Within(usize),
    /// After the server did what was asked: the response is lost.
    Behind,
}

/// A body that breaks.
struct Cut(Cursor<Vec<u8>>);

impl Read for Cut {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match self.0.read(out)? {
            0 => Err(io::ErrorKind::ConnectionReset.into()),
            count => Ok(count),
        }
    }
}

/// A server of an empty store behind a line with faults.
fn server(store: Store, fault: impl FnMut(&Asked) -> Fault + Send + 'static) -> Server {
    let handler = Handler::new(store, ServerOptions::new());
    let fault: Mutex<Box<Break>> = Mutex::new(Box::new(fault));
    Server::tls(move |asked, line| pass(&handler, asked, (fault.lock().unwrap())(asked), line))
}

fn pass(handler: &Handler, asked: &Asked, fault: Fault, line: &mut dyn Line) -> io::Result<Then> {
    let mut request = Request::new(asked.method.parse().unwrap(), asked.path.parse().unwrap());
    request.client = Client::Trusted(Fingerprint::of(b"the certificate of the client"));
    for (name, value) in &asked.headers {
        let name: HeaderName = name.parse().unwrap();
        request.headers.insert(name, HeaderValue::from_str(value).unwrap());
    }
    request.body = match fault {
        Fault::Within(bytes) => Box::new(Cut(Cursor::new(asked.body[..bytes].to_vec()))),
        _ => Box::new(Cursor::new(asked.body.clone())),
    };
    let response = handler.handle(request);
    if fault != Fault::None {
        return Ok(Then::Cut);
    }
    let headers: Vec<(String, String)> = (response.headers.iter())
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
        .filter(|(name, _)| name != "content-length")
        .collect();
    let headers: Vec<_> = headers.iter().map(|(name, value)| (&**name, &**value)).collect();
    let status = response.status.as_u16();
    let body = response.body.read_to_end()?;
    let is_head = asked.method == "HEAD";
    super::server::answer(line, status, &headers, if is_head { b"" } else { &body })
}

fn remote(server: &Server) -> Lxd {
    let retry = RetryPolicy::new().tries(3).pause(Duration::ZERO);
    Lxd::new(server.options().retry(retry), &server.url("/")).unwrap()
}

/// An image of about 100 kB, and a store that it came from.
fn image() -> (OpenedImage, Vec<u8>) {
    let store = Store::in_memory().unwrap();
    let noise: Vec<u8> =
        (0..3_200_u32).flat_map(|number| Fingerprint::of(&number.to_be_bytes()).as_bytes().to_vec()).collect();
    let bytes = unified_with(&metadata("large", ""), &noise);
    let imported = store.import(stream(bytes.clone()), &ImportOptions::new(), &Monitor::none()).unwrap();
    (store.open_image(&imported.fingerprint).unwrap(), bytes)
}

/// The ranges of the parts that were sent.
fn ranges(server: &Server) -> Vec<String> {
    let ranges = server.asked().into_iter().filter(|asked| asked.method == "PATCH");
    ranges.map(|asked| asked.header("content-range").unwrap_or_default().to_owned()).collect()
}

/// Breaks the first upload, and then requests of this method by `faults`, one after the other.
fn breaks(method: &'static str, faults: &[Fault]) -> impl FnMut(&Asked) -> Fault + Send + 'static {
    let mut faults: Vec<Fault> = faults.iter().rev().copied().collect();
    let mut is_first = true;
    move |asked| {
        if asked.method == "POST" && std::mem::take(&mut is_first) {
            return Fault::Within(asked.body.len() / 2);
        }
        if asked.method == method { faults.pop().unwrap_or(Fault::None) } else { Fault::None }
    }
}

fn arrived(store: &Store, image: &OpenedImage, bytes: &[u8]) -> bool {
    let Ok(opened) = store.open_image(&image.image().fingerprint) else { return false };
    let mut found = Vec::new();
    opened.files().0.reader().read_to_end(&mut found).unwrap();
    found == bytes
}

#[test]
fn upload_goes_on_where_the_line_was_cut() {
    let (image, bytes) = image();
    let store = Store::in_memory().unwrap();
    let server = server(store.clone(), breaks("PATCH", &[Fault::Within(10_000), Fault::Within(5_000)]));
    remote(&server).upload(&image, &UploadOptions::new(), &Monitor::none()).unwrap();
    assert!(arrived(&store, &image, &bytes));
    let total = bytes.len();
    let expected = [0, 10_000, 15_000].map(|start| format!("bytes {start}-{}/{total}", total - 1));
    assert_eq!(ranges(&server), expected);
}

#[test]
fn part_whose_response_was_lost_is_not_sent_twice() {
    let (image, bytes) = image();
    let store = Store::in_memory().unwrap();
    let server = server(store.clone(), breaks("PATCH", &[Fault::Behind]));
    remote(&server).upload(&image, &UploadOptions::new(), &Monitor::none()).unwrap();
    assert!(arrived(&store, &image, &bytes));
    assert_eq!(ranges(&server).len(), 1);
}

#[test]
fn import_whose_response_was_lost_is_found_done() {
    let (image, bytes) = image();
    let store = Store::in_memory().unwrap();
    let mut posts = 0;
    let server = server(store.clone(), move |asked| {
        posts += u32::from(asked.method == "POST");
        match (&*asked.method, posts) {
            ("POST", 1) => Fault::Within(10),
            ("POST", 2) => Fault::Behind,
            _ => Fault::None,
        }
    });
    remote(&server).upload(&image, &UploadOptions::new(), &Monitor::none()).unwrap();
    assert!(arrived(&store, &image, &bytes));
}

#[test]
fn later_run_goes_on_with_an_upload_that_failed() {
    let (image, bytes) = image();
    let store = Store::in_memory().unwrap();
    let faults = [Fault::Within(10_000), Fault::Within(0), Fault::Within(0), Fault::Within(0)];
    let server = server(store.clone(), breaks("PATCH", &faults));
    let error = remote(&server).upload(&image, &UploadOptions::new(), &Monitor::none()).unwrap_err();
    assert!(error.is_transient(), "{error}");
    server.forget();
    remote(&server).upload(&image, &UploadOptions::new(), &Monitor::none()).unwrap();
    assert!(arrived(&store, &image, &bytes));
}

#[test]
fn server_without_the_extension_gets_one_request() {
    let (image, _) = image();
    let handler = Handler::new(Store::in_memory().unwrap(), ServerOptions::new());
    let server = Server::tls(move |asked, line| {
        if asked.path == "/1.0" {
            let about = br#"{"type": "sync", "metadata": {"auth": "trusted", "api_extensions": []}}"#;
            return super::server::answer(line, 200, &[("content-type", "application/json")], about);
        }
        let fault = if asked.method == "POST" { Fault::Within(100) } else { Fault::None };
        pass(&handler, asked, fault, line)
    });
    let error = remote(&server).upload(&image, &UploadOptions::new(), &Monitor::none()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Remote);
    assert_eq!(server.asked().iter().filter(|asked| asked.method == "POST").count(), 1);
    assert_eq!(ranges(&server), Vec::<String>::new());
}

#[test]
fn image_that_arrived_meanwhile_ends_an_upload() {
    let (image, bytes) = image();
    let store = Store::in_memory().unwrap();
    let (other, whole) = (store.clone(), bytes.clone());
    let mut posts = 0;
    let server = server(store.clone(), move |asked| {
        posts += u32::from(asked.method == "POST");
        if asked.method == "POST" && posts == 1 {
            other.import(stream(whole.clone()), &ImportOptions::new(), &Monitor::none()).unwrap();
            return Fault::Within(10);
        }
        Fault::None
    });
    remote(&server).upload(&image, &UploadOptions::new(), &Monitor::none()).unwrap();
    assert!(arrived(&store, &image, &bytes));
}
