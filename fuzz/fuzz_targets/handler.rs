//! Any requests to a server's handler: a stranger changes nothing and finds nothing of what is private, whatever is asked and in
//! whatever words; whoever is trusted leaves a store that is whole.
#![no_main]

use std::cell::RefCell;
use std::io::Cursor;

use http::{HeaderName, HeaderValue, Method, Uri};
use libfuzzer_sys::fuzz_target;
use lxd_image::format::{ImageSource, Input};
use lxd_image::server::{Body, Client, Handler, Request, ServerOptions};
use lxd_image::store::{Alias, CheckOptions, ImportOptions, Store, StoredImage};
use lxd_image::{Fingerprint, Monitor};
use lxd_image_fuzz::{Arena, METADATA, limits, metadata_archive, tar};

/// What stands in the private image, its alias and its properties, and nowhere else.
const HIDDEN: &str = "hiddencanary";

/// A store with a public image of each form and a private one, and a handler that serves it.
struct Served {
    handler: Handler,
    store: Store,
    images: Vec<StoredImage>,
    private: Fingerprint,
    arena: Arena,
}

impl Served {
    fn new() -> Self {
        let arena = Arena::new();
        let store = Store::open(arena.destination()).expect("a new store");
        let alias = |name: &str| Alias::new(name).expect("a name");
        let public = ImportOptions::new().public(true);
        let stream = |bytes: Vec<u8>| ImageSource::unified(Input::stream(Cursor::new(bytes)));
        let unified = stream(tar(&[METADATA, ("rootfs/open", b"content")]));
        store.import(unified, &public.clone().alias(alias("open/1")), &Monitor::none()).expect("a good image");
        let rootfs = Input::stream(Cursor::new(tar(&[("etc/open", b"content")])));
        let split = ImageSource::split(Input::stream(metadata_archive()), rootfs);
        store.import(split, &public.alias(alias("open/2")), &Monitor::none()).expect("a good image");
        let private = stream(tar(&[METADATA, ("rootfs/secret", HIDDEN.as_bytes())]));
        let options = ImportOptions::new().alias(alias(HIDDEN)).property("os", HIDDEN).expect("a text");
        let private = store
            .import(private, &options.file_name(format!("{HIDDEN}.tar")), &Monitor::none())
            .expect("a good image")
            .fingerprint;
        let options = ServerOptions::new().limits(limits());
        let (handler, images) = (Handler::new(store.clone(), options), store.images().expect("a good store"));
        Self { handler, store, images, private, arena }
    }

    fn is_as_it_was(&self) -> bool {
        self.store.images().expect("the store can be read") == self.images
    }
}

thread_local! {
    static SERVED: RefCell<Option<Served>> = const { RefCell::new(None) };
}

/// A request as a few lines: `METHOD /path`, headers, an empty line, the body.
fn request(text: &[u8]) -> Option<Request> {
    let end = text.windows(2).position(|two| two == b"\n\n").unwrap_or(text.len());
    let (head, body) = text.split_at(end);
    let mut lines = head.split(|byte| *byte == b'\n');
    let first = lines.next()?;
    let blank = first.iter().position(|byte| *byte == b' ')?;
    let method = Method::from_bytes(&first[..blank]).ok()?;
    let uri = Uri::try_from(&first[blank + 1..]).ok()?;
    let mut request = Request::new(method, uri);
    for line in lines {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let name = HeaderName::from_bytes(&line[..colon]).ok()?;
        request.headers.append(name, HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?);
    }
    request.body = Box::new(Cursor::new(body.get(2..).unwrap_or_default().to_vec()));
    Some(request)
}

/// All that a response says.
fn said(response: lxd_image::server::Response) -> Vec<u8> {
    let mut all = format!("{} {:?}", response.status, response.headers).into_bytes();
    if let Body::Pieces(pieces) = response.body {
        let promised = pieces.length();
        let body = Body::Pieces(pieces).read_to_end().expect("nobody damages this store");
        assert!(promised.is_none_or(|promised| body.len() as u64 == promised));
        all.extend(body);
    }
    all
}

fn holds(text: &[u8], what: &[u8]) -> bool {
    text.windows(what.len()).any(|window| window == what)
}

fuzz_target!(|data: &[u8]| {
    SERVED.with_borrow_mut(|kept| {
        let served = kept.take().unwrap_or_else(Served::new);
        let mut trusted_came = false;
        for one in data.split(|byte| *byte == 0x1e).take(4) {
            let Some((mode, text)) = one.split_first() else { continue };
            let Some(mut request) = request(text) else { continue };
            if mode & 1 == 1 {
                request.client = Client::Trusted(Fingerprint::of(b"certificate"));
                trusted_came = true;
                said(served.handler.handle(request));
                continue;
            }
            let private = served.private.to_string();
            let asked = holds(&text.to_ascii_lowercase(), &private.as_bytes()[..4]) || holds(text, HIDDEN.as_bytes());
            let answer = said(served.handler.handle(request));
            if !trusted_came {
                assert!(served.is_as_it_was(), "a stranger changed the store");
                // What the stranger said may come back; nothing else of it may.
                if !asked {
                    assert!(!holds(&answer, private.as_bytes()), "the fingerprint of a private image");
                    assert!(!holds(&answer, HIDDEN.as_bytes()), "a text of a private image");
                }
                assert!(!holds(&answer, b"rootfs/secret"), "the bytes of a private image");
            }
        }
        if !trusted_came || served.is_as_it_was() {
            *kept = Some(served);
            return;
        }
        let report = served.store.check(&CheckOptions::new(), &Monitor::none()).expect("the store can be checked");
        assert!(report.is_clean(), "{:?}", report.findings);
        served.arena.check();
    });
});
