//! The image endpoints of the REST API of LXD and Incus: images, aliases, operations, events. Each
//! endpoint is a function here, called by the route table after the access check; the modules below
//! it hold the work.
//!
//! Reads filter by what the client may see (`core::access`). Writes are reached by trusted clients,
//! and by uploads with a token. Work that takes long answers 202 with an operation, which the
//! client follows.
//!
//! | module | what it does |
//! |---|---|
//! | `images`, `aliases`, `operations`, `events` | reads |
//! | `images_write`, `aliases_write` | edits, deletions, tokens, refresh, push |
//! | `upload`, `upload_headers`, `body` | an image as the body of a request |
//! | `parts` | such a body in parts |
//! | `registries` | the servers that images can be fetched from |
//! | `extensions` | which API extensions are claimed, and why the others are not |
//! | `import` | an image from another server |
//! | `export` | the bytes of an image |
//! | `listing`, `filter` | lists in pages, and their filters |
//! | `operation_result` | the end of an operation, and the response made from it |
//!
//! # What is different from LXD
//!
//! - There is one project, `default`, and no cluster. Other projects are empty.
//! - An anonymous client sees the aliases of public images, as a public server should show them.
//! - Images are stored as they come. A request to compress one is refused, not ignored.
//! - Images are never made from instances, of which there are none.

mod aliases;
mod aliases_write;
mod body;
mod events;
pub(in crate::server) mod export;
mod extensions;
mod filter;
mod images;
mod images_write;
mod import;
mod listing;
mod operation_result;
pub(crate) mod operations;
mod parts;
mod registries;
mod statements;
mod upload;
mod upload_headers;

use http::{Method, StatusCode};
use serde_json::json;

use crate::error::{Escaped, Result};
use crate::metadata::Architecture;
use crate::server::api::address::Address;
use crate::server::api::call::{Call, Grant};
use crate::server::api::{answer, host};
use crate::server::message::{Request, Response};
use crate::server::state::ServerState;

pub use extensions::ApiExtension;
pub(crate) use extensions::EXTENSIONS;
pub(in crate::server) use images::quoted;
pub(crate) use upload::redeem_upload_token;

/// Refuses a request below `/1.0` that no function may see: for another project, and a write that another site's page
/// makes. There is one project, `default`; in any other nothing exists.
///
/// Without the last check, a page on the web could use the certificate that the browser of an
/// administrator shows on every connection.
pub(crate) fn refuse(server: &ServerState, request: &Request, address: &Address) -> Option<Response> {
    if let Some(project) = address.query("project").filter(|project| *project != "default") {
        // The same for each name: there is no other project that the answer could tell of.
        let shown: String = project.chars().take(64).collect();
        let sentence = format!("there is no project `{}`: this server has one, `default`", Escaped(shown.as_bytes()));
        return Some(answer::failure(StatusCode::NOT_FOUND, sentence));
    }
    // Reads of another site's page are harmless: the browser does not show it the response.
    let reads = matches!(request.method, Method::GET | Method::HEAD);
    // A WebSocket is a read that another site's page may begin, and then listen to.
    let is_events = address.parts.get(1).is_some_and(|part| part == "events");
    ((!reads || is_events) && host::is_cross_origin(server, request)).then(answer::forbidden)
}

/// Any method of a path that does not exist.
///
/// Used where a more general pattern would match otherwise, such as the alias of a direct import.
pub(crate) fn not_found(_: &ServerState, _: Call<'_>) -> Response {
    answer::not_found()
}

/// `GET /` of clients of the API: the versions that there are.
pub(crate) fn versions() -> Response {
    answer::object(json!(["/1.0"])).with(http::header::VARY, "Accept")
}

/// `GET /1.0`: what the server can do, and whether the client is trusted.
///
/// LXD's clients ask for it first. An untrusted client gets neither the version nor the
/// architecture.
pub(crate) fn server_info(_: &ServerState, call: Call<'_>) -> Response {
    about(&call.request)
}

/// `GET /1.0/images`: the images that the client may see.
pub(crate) fn list_images(server: &ServerState, call: Call<'_>) -> Response {
    images::list(server, &call.request, call.address)
}

/// `POST /1.0/images`: an upload, an import from another server, or a token for an upload.
///
/// An untrusted client gets here with an upload token only; the grant says what it allows.
pub(crate) fn create_image(server: &ServerState, call: Call<'_>) -> Response {
    let grant = match call.grant {
        Grant::Upload(grant) => Some(*grant),
        Grant::Plain => None,
    };
    upload::post(server, call.request, grant)
}

/// `GET /1.0/images/uploads/NAME`: how much of an upload in parts is there.
pub(crate) fn get_upload(server: &ServerState, call: Call<'_>) -> Response {
    trusted(parts::get(server, &call.request, call.parameter(0)))
}

/// `PATCH /1.0/images/uploads/NAME`: the next part.
pub(crate) fn append_to_upload(server: &ServerState, call: Call<'_>) -> Response {
    let name = call.parameter(0).to_owned();
    trusted(parts::append(server, call.request, &name))
}

/// `DELETE /1.0/images/uploads/NAME`.
pub(crate) fn delete_upload(server: &ServerState, call: Call<'_>) -> Response {
    trusted(parts::delete(server, &call.request, call.parameter(0)))
}

/// `GET /1.0/images/FINGERPRINT`: one image.
pub(crate) fn get_image(server: &ServerState, call: Call<'_>) -> Response {
    images::get(server, &call.request, call.address, call.parameter(0))
}

/// `PUT` and `PATCH /1.0/images/FINGERPRINT`: all of what can be edited, or some of it.
pub(crate) fn edit_image(server: &ServerState, mut call: Call<'_>) -> Response {
    let fingerprint = call.parameter(0).to_owned();
    trusted(images_write::edit(server, &mut call.request, &fingerprint))
}

/// `DELETE /1.0/images/FINGERPRINT`.
pub(crate) fn delete_image(server: &ServerState, call: Call<'_>) -> Response {
    trusted(images_write::delete(server, &call.request, call.parameter(0)))
}

/// `GET /1.0/images/FINGERPRINT/export`: the bytes of an image.
pub(crate) fn export_image(server: &ServerState, call: Call<'_>) -> Response {
    export::get(server, &call.request, call.address, call.parameter(0))
}

/// `POST /1.0/images/FINGERPRINT/export`: sends an image to another server.
pub(crate) fn push_image(server: &ServerState, mut call: Call<'_>) -> Response {
    let fingerprint = call.parameter(0).to_owned();
    trusted(images_write::push(server, &mut call.request, &fingerprint))
}

/// `GET /1.0/images/FINGERPRINT/statements`: the signed statements about an image.
pub(crate) fn list_statements(server: &ServerState, call: Call<'_>) -> Response {
    statements::get(server, &call.request, call.address, call.parameter(0))
}

/// `POST /1.0/images/FINGERPRINT/statements`: further statements about an image.
pub(crate) fn attach_statements(server: &ServerState, mut call: Call<'_>) -> Response {
    let fingerprint = call.parameter(0).to_owned();
    trusted(statements::attach(server, &mut call.request, &fingerprint))
}

/// `POST /1.0/images/FINGERPRINT/secret`: a token that lets somebody else download a private image.
pub(crate) fn issue_image_token(server: &ServerState, call: Call<'_>) -> Response {
    trusted(images_write::issue_image_token(server, &call.request, call.parameter(0)))
}

/// `POST /1.0/images/FINGERPRINT/refresh`: replaces an image by the newest of its source.
pub(crate) fn refresh_image(server: &ServerState, call: Call<'_>) -> Response {
    trusted(images_write::refresh(server, &call.request, call.parameter(0)))
}

/// `GET /1.0/images/aliases`: the aliases of images that the client may see.
pub(crate) fn list_aliases(server: &ServerState, call: Call<'_>) -> Response {
    aliases::list(server, &call.request, call.address)
}

/// `POST /1.0/images/aliases`.
pub(crate) fn create_alias(server: &ServerState, mut call: Call<'_>) -> Response {
    trusted(aliases_write::create(server, &mut call.request))
}

/// `GET /1.0/images/aliases/NAME`.
pub(crate) fn get_alias(server: &ServerState, call: Call<'_>) -> Response {
    aliases::get(server, &call.request, call.parameter(0))
}

/// `PUT` and `PATCH /1.0/images/aliases/NAME`: another target, another description.
pub(crate) fn edit_alias(server: &ServerState, mut call: Call<'_>) -> Response {
    let name = call.parameter(0).to_owned();
    trusted(aliases_write::edit(server, &mut call.request, &name))
}

/// `POST /1.0/images/aliases/NAME`: another name.
pub(crate) fn rename_alias(server: &ServerState, mut call: Call<'_>) -> Response {
    let name = call.parameter(0).to_owned();
    trusted(aliases_write::rename(server, &mut call.request, &name))
}

/// `DELETE /1.0/images/aliases/NAME`.
pub(crate) fn delete_alias(server: &ServerState, call: Call<'_>) -> Response {
    trusted(aliases_write::delete(server, &call.request, call.parameter(0)))
}

/// `GET /1.0/image-registries`: the servers that images can be fetched from.
pub(crate) fn list_registries(server: &ServerState, call: Call<'_>) -> Response {
    trusted(registries::list(server, call.address))
}

/// `GET /1.0/image-registries/NAME`.
pub(crate) fn get_registry(server: &ServerState, call: Call<'_>) -> Response {
    trusted(registries::get(server, &call.request, call.parameter(0)))
}

/// `GET /1.0/image-registries/NAME/images`: what there is.
pub(crate) fn list_registry_images(server: &ServerState, call: Call<'_>) -> Response {
    trusted(registries::images(server, call.parameter(0)))
}

/// Every change of a registry, which is refused.
pub(crate) fn change_registry(_: &ServerState, _: Call<'_>) -> Response {
    registries::refuse()
}

/// `GET /1.0/operations`: operations by their status.
pub(crate) fn list_operations(server: &ServerState, call: Call<'_>) -> Response {
    operations::list(server, call.address)
}

/// `GET /1.0/operations/ID`.
pub(crate) fn get_operation(server: &ServerState, call: Call<'_>) -> Response {
    operations::get(server, call.parameter(0))
}

/// `GET /1.0/operations/ID/wait`: an operation when it has ended, or when the time in `?timeout=` is over.
pub(crate) fn wait_for_operation(server: &ServerState, call: Call<'_>) -> Response {
    operations::wait(server, call.address, call.parameter(0))
}

/// `DELETE /1.0/operations/ID`: cancels an operation, or revokes the token that it stands for.
pub(crate) fn cancel_operation(server: &ServerState, call: Call<'_>) -> Response {
    operations::cancel(server, call.parameter(0))
}

/// `GET /1.0/events`: a WebSocket of what happens to operations and images.
pub(crate) fn listen_to_events(server: &ServerState, call: Call<'_>) -> Response {
    events::get(server, call.address)
}

/// The response of a function that only trusted clients reach: they see errors in full.
fn trusted(result: Result<Response>) -> Response {
    result.unwrap_or_else(|error| answer::error(&error, true))
}

/// The object of `GET /1.0`. The field `public` tells clients to treat the server as one that is
/// only read from.
fn about(request: &Request) -> Response {
    let trusted = request.is_trusted();
    let mut about = json!({
        "api_extensions": extensions::claimed(), "api_status": "stable", "api_version": "1.0",
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
