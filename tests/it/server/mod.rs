//! The server: requests in, responses out, mostly without a socket.
//! Each area has a file of its own; what they share is here.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::PathBuf;

use http::{HeaderName, HeaderValue, Method};
use lxd_image::server::{Client, Handler, Request, Response, ServerOptions};
use lxd_image::store::{ImportOptions, Store, StoredImage};
use lxd_image::{Fingerprint, Monitor};
use serde_json::Value;

use crate::store::{Scratch, alias, stream, unified};

mod aliases;
mod changes;
mod direct;
mod fleet;
mod listening;
mod listing;
mod odd;
mod operations;
mod page;
mod parts;
pub(crate) mod pulling;
mod reading;
mod redirecting;
mod routes;
mod secrets;
mod streams;
mod uploads;

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
        self.store.import(stream(unified(tag)), &options, &Monitor::none()).unwrap()
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

/// The same with a body.
pub(crate) fn body(mut request: Request, body: impl Into<Vec<u8>>) -> Request {
    request.body = Box::new(std::io::Cursor::new(body.into()));
    request
}

/// A trusted client's request with JSON in it.
pub(crate) fn sent(method: &str, path: &str, json: &Value) -> Request {
    body(with(trusted(request(method, path)), "content-type", "application/json"), json.to_string())
}

/// A body of two files, and its `Content-Type`.
pub(crate) fn form(parts: &[(&str, &[u8])]) -> (String, Vec<u8>) {
    let parts: Vec<_> = parts.iter().map(|(name, content)| (*name, "a-file", *content)).collect();
    (crate::multipart::content_type(), crate::multipart::write(&parts))
}

impl Served {
    /// What a trusted client gets.
    pub(crate) fn ask(&self, method: &str, path: &str) -> Response {
        self.handler.handle(trusted(request(method, path)))
    }

    /// What a trusted client gets for some JSON.
    pub(crate) fn send(&self, method: &str, path: &str, json: &Value) -> Response {
        self.handler.handle(sent(method, path, json))
    }

    /// The operation that an answer began, when it is over.
    pub(crate) fn finished(&self, response: Response) -> Value {
        let location = response.header("location").expect("an operation").to_owned();
        let (status, envelope) = self::json(response);
        assert_eq!((status, &envelope["type"], &envelope["operation"]), (202, &"async".into(), &(&*location).into()));
        let operation = object(self.ask("GET", &format!("{location}/wait?timeout=20")));
        assert!(operation["status_code"].as_u64().unwrap() >= 200, "{operation}");
        operation
    }

    /// That there is nothing but these images, and nothing half done.
    pub(crate) fn holds(&self, images: &[&Fingerprint]) {
        let mut expected: Vec<_> = images.iter().map(ToString::to_string).collect();
        expected.sort();
        let found: Vec<_> = self.store.images().unwrap().iter().map(|image| image.fingerprint.to_string()).collect();
        assert_eq!(found, expected);
        let files = crate::store::files(&self.root());
        assert!(!files.iter().any(|name| name.starts_with("staging/")), "{files:?}");
        crate::store::assert_clean(&self.store);
    }
}
