//! The server: requests in, responses out, mostly without a socket.
//! Each area has a file of its own; what they share is here.

use std::path::PathBuf;

use http::{HeaderName, HeaderValue, Method};
use lxd_image::Fingerprint;
use lxd_image::server::{Client, Handler, Request, Response, ServerOptions};
use lxd_image::store::{ImportOptions, Store, StoredImage};
use serde_json::Value;

use crate::store::{Scratch, alias, stream, unified};

mod direct;
mod listening;
mod page;
mod reading;
mod streams;

/// A store, and a handler that serves it.
pub(crate) struct Served {
    pub(crate) handler: Handler,
    pub(crate) store: Store,
    scratch: Scratch,
}

impl Served {
    pub(crate) fn new() -> Self {
        Self::with(ServerOptions::new())
    }

    pub(crate) fn with(options: ServerOptions) -> Self {
        let scratch = Scratch::new();
        let store = Store::open(scratch.join("store")).unwrap();
        Self { handler: Handler::new(store.clone(), options), store, scratch }
    }

    /// Where the store is.
    pub(crate) fn root(&self) -> PathBuf {
        self.scratch.join("store")
    }

    /// Imports a unified image.
    pub(crate) fn import(&self, tag: &str, aliases: &[&str], public: bool) -> StoredImage {
        let options =
            aliases.iter().fold(ImportOptions::new().public(public), |options, name| options.alias(alias(name)));
        self.store.import(stream(unified(tag)), &options).unwrap()
    }

    /// What a stranger gets.
    pub(crate) fn get(&self, path: &str) -> Response {
        self.handler.handle(request("GET", path))
    }
}

/// A stranger's request.
pub(crate) fn request(method: &str, path: &str) -> Request {
    Request::new(Method::from_bytes(method.as_bytes()).unwrap(), path.parse().unwrap())
}

/// The same from a client with a certificate that is trusted.
pub(crate) fn trusted(mut request: Request) -> Request {
    request.client = Client::Trusted(Fingerprint::of(b"certificate"));
    request
}

/// The same with a header.
pub(crate) fn with(mut request: Request, name: &str, value: &str) -> Request {
    request.headers.insert(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
    request
}

/// The status of a response and the JSON in it.
pub(crate) fn json(response: Response) -> (u16, Value) {
    let status = response.status.as_u16();
    let body = response.body.read_to_end().unwrap();
    (status, serde_json::from_slice(&body).unwrap_or_else(|_| panic!("no JSON: {}", String::from_utf8_lossy(&body))))
}

/// The object in a response that is no error.
pub(crate) fn object(response: Response) -> Value {
    let (status, mut envelope) = json(response);
    assert!(status < 300, "{status}: {envelope}");
    envelope["metadata"].take()
}
