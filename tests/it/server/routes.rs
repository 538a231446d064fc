//! The route table as clients meet it: each route with what an anonymous client, the holder of a token and a trusted client get.
//! A client whose certificate is not trusted is compared with an anonymous one on the network, in `listening::trusting`.

use std::collections::BTreeSet;

use lxd_image::server::{Handler, Response};
use serde_json::{Value, json};

use super::{Served, body, object, request, trusted, with};
use crate::store::unified;

/// One route: its methods and pattern as in the table, a request for it, and the statuses that the three clients get. `PUBLIC`,
/// `PRIVATE` and `OPERATION` stand for the fingerprints of two images and for the operation of an upload. Requests have no body
/// but for the upload, so that 400 from a write is the status of a client that the table let in.
type Row = (&'static str, &'static str, &'static str, &'static str, [u16; 3]);

const ROWS: &[Row] = &[
    ("GET, HEAD", "/", "GET", "/", [200, 200, 200]),
    ("GET, HEAD", "/1.0", "GET", "/1.0", [200, 200, 200]),
    ("GET, HEAD", "/1.0/images", "GET", "/1.0/images", [200, 200, 200]),
    ("POST", "/1.0/images", "POST", "/1.0/images", [403, 202, 202]),
    ("GET, HEAD", "/1.0/images/aliases", "GET", "/1.0/images/aliases", [200, 200, 200]),
    ("POST", "/1.0/images/aliases", "POST", "/1.0/images/aliases", [403, 403, 400]),
    ("GET, HEAD", "/1.0/images/aliases/{name...}", "GET", "/1.0/images/aliases/a/hidden", [404, 404, 200]),
    ("PUT", "/1.0/images/aliases/{name...}", "PUT", "/1.0/images/aliases/a/hidden", [403, 403, 400]),
    ("PATCH", "/1.0/images/aliases/{name...}", "PATCH", "/1.0/images/aliases/a/hidden", [403, 403, 400]),
    ("POST", "/1.0/images/aliases/{name...}", "POST", "/1.0/images/aliases/a/hidden", [403, 403, 400]),
    ("DELETE", "/1.0/images/aliases/{name...}", "DELETE", "/1.0/images/aliases/a/hidden", [403, 403, 200]),
    ("GET, HEAD", "/1.0/images/uploads/{name}", "GET", "/1.0/images/uploads/PUBLIC", [403, 403, 404]),
    ("PATCH", "/1.0/images/uploads/{name}", "PATCH", "/1.0/images/uploads/PUBLIC", [403, 403, 400]),
    ("DELETE", "/1.0/images/uploads/{name}", "DELETE", "/1.0/images/uploads/PUBLIC", [403, 403, 404]),
    ("GET, HEAD", "/1.0/images/{fingerprint}", "GET", "/1.0/images/PRIVATE", [404, 200, 200]),
    ("PUT", "/1.0/images/{fingerprint}", "PUT", "/1.0/images/PRIVATE", [403, 403, 400]),
    ("PATCH", "/1.0/images/{fingerprint}", "PATCH", "/1.0/images/PRIVATE", [403, 403, 400]),
    ("GET, HEAD", "/1.0/images/{fingerprint}/export", "GET", "/1.0/images/PRIVATE/export", [404, 200, 200]),
    ("POST", "/1.0/images/{fingerprint}/export", "POST", "/1.0/images/PRIVATE/export", [403, 403, 400]),
    ("GET, HEAD", "/1.0/images/{fingerprint}/statements", "GET", "/1.0/images/PRIVATE/statements", [404, 200, 200]),
    ("POST", "/1.0/images/{fingerprint}/statements", "POST", "/1.0/images/PRIVATE/statements", [403, 403, 400]),
    ("POST", "/1.0/images/{fingerprint}/secret", "POST", "/1.0/images/PRIVATE/secret", [403, 403, 202]),
    ("POST", "/1.0/images/{fingerprint}/refresh", "POST", "/1.0/images/PRIVATE/refresh", [403, 403, 501]),
    ("*", "/1.0/images/{fingerprint}/{action}", "GET", "/1.0/images/PRIVATE/nothing", [403, 403, 404]),
    ("DELETE", "/1.0/images/{fingerprint}", "DELETE", "/1.0/images/PRIVATE", [403, 403, 202]),
    ("GET, HEAD", "/1.0/image-registries", "GET", "/1.0/image-registries", [403, 403, 200]),
    ("POST", "/1.0/image-registries", "POST", "/1.0/image-registries", [403, 403, 501]),
    ("GET, HEAD", "/1.0/image-registries/{name}", "GET", "/1.0/image-registries/x", [403, 403, 404]),
    ("PUT", "/1.0/image-registries/{name}", "PUT", "/1.0/image-registries/x", [403, 403, 501]),
    ("PATCH", "/1.0/image-registries/{name}", "PATCH", "/1.0/image-registries/x", [403, 403, 501]),
    ("POST", "/1.0/image-registries/{name}", "POST", "/1.0/image-registries/x", [403, 403, 501]),
    ("DELETE", "/1.0/image-registries/{name}", "DELETE", "/1.0/image-registries/x", [403, 403, 501]),
    ("GET, HEAD", "/1.0/image-registries/{name}/images", "GET", "/1.0/image-registries/x/images", [403, 403, 404]),
    ("*", "/1.0/image-registries/{name}/{action...}", "GET", "/1.0/image-registries/x/y", [403, 403, 404]),
    ("GET, HEAD", "/1.0/operations", "GET", "/1.0/operations", [403, 403, 200]),
    ("GET, HEAD", "/1.0/operations/{id}", "GET", "OPERATION", [403, 200, 200]),
    ("DELETE", "/1.0/operations/{id}", "DELETE", "OPERATION", [403, 403, 400]),
    ("GET, HEAD", "/1.0/operations/{id}/wait", "GET", "OPERATION/wait", [403, 200, 200]),
    ("*", "/1.0/operations/{id}/{action...}", "GET", "OPERATION/websocket", [403, 403, 404]),
    ("GET, HEAD", "/1.0/events", "GET", "/1.0/events", [403, 403, 200]),
    ("*", "/1.0/events", "POST", "/1.0/events", [404, 404, 404]),
    ("*", "/1.0/{path...}", "PUT", "/1.0/instances/one", [404, 404, 404]),
    ("GET, HEAD", "/streams/v1", "GET", "/streams/v1", [404, 404, 404]),
    ("GET, HEAD", "/streams/v1/{path...}", "GET", "/streams/v1/index.json", [200, 200, 200]),
    ("GET, HEAD", "/images/{name}", "GET", "/images/PUBLIC", [200, 200, 200]),
    ("GET, HEAD", "/metrics", "GET", "/metrics", [404, 404, 200]),
    ("GET, HEAD", "/health", "GET", "/health", [200, 200, 200]),
    ("GET, HEAD", "/health/live", "GET", "/health/live", [200, 200, 200]),
    ("GET, HEAD", "/health/ready", "GET", "/health/ready", [200, 200, 200]),
    ("GET, HEAD", "/static/{name}", "GET", "/static/nothing", [404, 404, 404]),
    ("GET, HEAD", "/{alias...}", "GET", "/no/such/alias", [404, 404, 404]),
];

/// The secret of the token that an answer holds.
fn secret(response: Response) -> String {
    let envelope: Value = serde_json::from_slice(&response.body.read_to_end().unwrap()).unwrap();
    envelope["metadata"]["metadata"]["secret"].as_str().expect("a secret").to_owned()
}

#[test]
fn each_route_lets_in_the_clients_that_the_table_names() {
    let served = Served::new();
    let public = served.import("public", &["shown"], true).fingerprint;
    let private = served.import("private", &["a/hidden"], false).fingerprint;
    let upload_token =
        || secret(served.send("POST", "/1.0/images", &json!({"source": {"type": "image", "mode": "push"}})));
    let upload = |tag: &str| body(request("POST", "/1.0/images"), unified(tag));
    let operation_secret = upload_token();
    let uploaded = served.handler.handle(with(upload("uploaded"), "X-LXD-secret", &operation_secret));
    let operation = uploaded.header("location").expect("an operation").to_owned();
    let image_secret = secret(served.ask("POST", &format!("/1.0/images/{private}/secret")));

    for (_, pattern, method, path, expected) in ROWS {
        let path = path
            .replace("PUBLIC", &public.to_string())
            .replace("PRIVATE", &private.to_string())
            .replace("OPERATION", &operation);
        let uploads = (*method, *pattern) == ("POST", "/1.0/images");
        let plain = |path: &str| if uploads { upload(path) } else { request(method, path) };
        let token = if uploads {
            with(upload("by token"), "X-LXD-secret", &upload_token())
        } else {
            let secret = if pattern.contains("operations") { &operation_secret } else { &image_secret };
            request(method, &format!("{path}?secret={secret}"))
        };
        let requests = [plain(&path), token, trusted(plain(&path))];
        let statuses = requests.map(|request| served.handler.handle(request).status.as_u16());
        assert_eq!(statuses, *expected, "{method} {path}: anonymous, token, trusted");
    }
    assert_eq!(object(served.get("/1.0/images/aliases")), json!(["/1.0/images/aliases/shown"]));
}

#[test]
fn every_route_is_walked() {
    let table: BTreeSet<_> = Handler::routes().map(|route| (route.methods, route.pattern)).collect();
    let rows: BTreeSet<_> = ROWS.iter().map(|(methods, pattern, ..)| (*methods, *pattern)).collect();
    assert_eq!(rows, table);
}

#[test]
fn wrong_method_is_told_to_clients_that_may_use_another() {
    let served = Served::new();
    for (method, path, anonymous, trusted_status, allow) in [
        ("BREW", "/1.0/images", 405, 405, "GET, HEAD, POST"),
        ("DELETE", "/health", 405, 405, "GET, HEAD"),
        ("BREW", "/health", 501, 501, ""),
        ("PUT", "/1.0/images/abc/secret", 403, 405, "POST"),
        ("PUT", "/1.0/images/abc/export", 405, 405, "GET, HEAD, POST"),
        ("POST", "/1.0/images/abc", 405, 405, "GET, HEAD, PUT, PATCH, DELETE"),
        ("BREW", "/1.0/images/aliases/a", 405, 405, "GET, HEAD, PUT, PATCH, POST, DELETE"),
        ("POST", "/1.0/operations", 403, 405, "GET, HEAD"),
        ("POST", "/metrics", 404, 405, "GET, HEAD"),
    ] {
        let answer = served.handler.handle(request(method, path));
        assert_eq!(answer.status.as_u16(), anonymous, "anonymous {method} {path}");
        let answer = served.handler.handle(trusted(request(method, path)));
        let allowed = answer.header("allow").unwrap_or_default();
        assert_eq!((answer.status.as_u16(), allowed), (trusted_status, allow), "trusted {method} {path}");
    }
}
