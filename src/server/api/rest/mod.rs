//! The REST API of LXD and Incus as far as it is about images: what strangers read, what trusted clients change.
//! To a stranger, what is private looks as if it were not there.

mod aliases;
mod aliases_write;
mod body;
mod events;
pub(in crate::server) mod export;
mod filter;
mod images;
mod images_write;
mod import;
mod listing;
mod operation_result;
mod operations;
mod upload;
mod upload_headers;

use http::Method;
use serde_json::json;

use crate::metadata::Architecture;
use crate::server::api::address::Address;
use crate::server::api::{answer, host};
use crate::server::handler::Handler;
use crate::server::message::{Request, Response};

pub(in crate::server) use images::quoted;
pub(crate) use operation_result::created;
pub(crate) use upload_headers::UploadSpec;

/// What of the API's extensions is done here, as far as clients look at them. Named by LXD's own list.
const EXTENSIONS: &[&str] = &[
    "etag",
    "patch",
    "image_types",
    "image_force_refresh",
    "images_push_relay",
    "image_create_aliases",
    "image_compression_algorithm",
    "simplestreams_properties",
    "event_lifecycle",
    "api_filtering",
];

/// `GET /`.
pub(crate) fn versions(request: &Request) -> Response {
    Handler::read_only(request).unwrap_or_else(|| answer::object(json!(["/1.0"])))
}

/// `/1.0` and what is below it.
pub(crate) fn route(handler: &Handler, request: Request, address: &Address, rest: &[&str]) -> Response {
    if address.query("project").is_some_and(|project| project != "default") {
        return answer::not_found();
    }
    let reads = matches!(request.method, Method::GET | Method::HEAD);
    // A browser shows its user's certificate for whatever page it is on.
    if (!reads || rest.first() == Some(&"events")) && host::is_cross_origin(handler, &request) {
        return answer::forbidden();
    }
    match rest {
        [] if reads => about(&request),
        [] => answer::wrong_method("GET, HEAD"),
        ["images"] if reads => images::list(handler, &request, address),
        ["images"] if request.method == Method::POST => upload::post(handler, request),
        ["images"] => answer::wrong_method("GET, HEAD, POST"),
        ["images", "aliases"] if reads => aliases::list(handler, &request, address),
        ["images", "aliases"] => aliases_write::create(handler, request),
        // The name's slashes are escaped by the peers' clients; whoever does not is understood as well.
        ["images", "aliases", name @ ..] if reads => aliases::get(handler, &request, &name.join("/")),
        ["images", "aliases", name @ ..] => aliases_write::change(handler, request, &name.join("/")),
        ["images", fingerprint] if reads => images::get(handler, &request, address, fingerprint),
        ["images", fingerprint] => images_write::image(handler, request, fingerprint),
        ["images", fingerprint, "export"] if reads => export::get(handler, &request, address, fingerprint),
        ["images", fingerprint, action] => images_write::action(handler, request, fingerprint, action),
        ["operations", rest @ ..] => operations::route(handler, &request, address, rest),
        ["events"] if reads => events::get(handler, &request, address),
        // What a real server has and this one has not is not there either.
        _ => answer::not_found(),
    }
}

/// `GET /1.0`.
fn about(request: &Request) -> Response {
    let trusted = request.is_trusted();
    let mut about = json!({
        "api_extensions": EXTENSIONS, "api_status": "stable", "api_version": "1.0",
        "auth": if trusted { "trusted" } else { "untrusted" }, "auth_methods": ["tls"], "public": !trusted,
    });
    if trusted {
        let architecture = Architecture::of_this_machine().map(Architecture::kernel_name);
        about["environment"] = json!({
            "server": "lxd-image", "server_version": env!("CARGO_PKG_VERSION"), "architectures": [architecture.unwrap_or("x86_64")],
            "project": "default", "server_name": "lxd-image", "server_clustered": false,
        });
        about["config"] = json!({});
    }
    answer::object(about)
}
