//! The route table: every path that the server knows, with the access that each method of it needs
//! and the function that answers. [`dispatch`] is the only place where a request meets a function,
//! and [`authorize`] the only place where a client is refused; what of an image's existence and
//! content a client sees is decided below it, in `core::access`.
//!
//! Patterns are tried from top to bottom, and the first one that matches the path counts: its
//! routes are those next to each other with the same pattern. `{name}` matches one segment of the
//! path, `{name...}` one or more. Segments are compared unescaped, so that `debian%2F12` is one.
//!
//! # The way of a request
//!
//! 1. The target is parsed into segments and a query ([`Address`]); an address that a proxy or file
//!    system could take for another one is refused.
//! 2. Below `/1.0`, requests for another project and writes of another site's page are refused.
//! 3. The pattern is found, and in it the route of the method; without a pattern the answer is 404.
//! 4. [`authorize`] checks the access of the route.
//! 5. The function answers. It decides what the client sees, and never whether it may call.
//!
//! # To add an endpoint
//!
//! Add a line to [`ROUTES`] next to those of the same path, with the least access that makes sense,
//! and a function with the signature of the others in `api` or `web`. The test that walks the table
//! fails until it knows what the route must answer to each kind of client.

use http::{Method, StatusCode, header};

use crate::server::api::address::Address;
use crate::server::api::call::{Call, Grant};
use crate::server::api::{answer, direct, metrics, rest, simplestreams};
use crate::server::message::{Request, Response};
use crate::server::state::ServerState;
use crate::server::web;

/// The methods of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    /// `GET`, and `HEAD` as the same without a body (RFC 9110, section 9.3.2).
    Read,
    /// Creates something, or begins an operation.
    Post,
    /// Replaces all that can be edited; what the body does not name becomes empty.
    Put,
    /// Edits what the body names.
    Patch,
    /// Deletes something, or cancels an operation.
    Delete,
    /// Every method, also one that no standard knows.
    Any,
}

impl Verb {
    /// Whether a request with this method is for the route.
    fn accepts(self, method: &Method) -> bool {
        match self {
            Self::Read => matches!(*method, Method::GET | Method::HEAD),
            Self::Any => true,
            Self::Post | Self::Put | Self::Patch | Self::Delete => method.as_str() == self.names(),
        }
    }

    /// The methods as the header `Allow` lists them.
    pub(crate) const fn names(self) -> &'static str {
        match self {
            Self::Read => "GET, HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
            Self::Any => "*",
        }
    }
}

/// What a client must show before the function of a route is called. A trusted client passes everywhere.
///
/// Trusted clients pass every check here; the order of the variants has no meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Nothing. Functions show an untrusted client public images only, by way of `core::access`.
    Anonymous,
    /// Nothing, as [`Access::Anonymous`]; but a download token in `?secret=` shows the private image that it was issued
    /// for. A wrong one is the same as none, so that it does not tell whether the image exists.
    ImageToken,
    /// The secret with which the client began this very operation, in `?secret=`; else 403.
    OperationToken,
    /// An upload token in a header, which is used up by showing it; else 403.
    UploadToken,
    /// A trusted certificate; else 403.
    Trusted,
    /// A connection from this machine that no proxy forwards; else 404, as if the path did not exist.
    Local,
}

impl Access {
    /// The name in [`RouteInfo::access`](crate::server::RouteInfo::access).
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Anonymous => "anonymous",
            Self::ImageToken => "image token",
            Self::OperationToken => "operation token",
            Self::UploadToken => "upload token",
            Self::Trusted => "trusted",
            Self::Local => "local",
        }
    }
}

/// One line of the table.
#[derive(Debug)]
pub(crate) struct Route {
    /// The methods that the route is for.
    pub(crate) verb: Verb,
    /// The path, with placeholders in braces.
    pub(crate) pattern: &'static str,
    /// What the client must show.
    pub(crate) access: Access,
    /// The function that answers. It is called after the access check only.
    function: fn(&ServerState, Call<'_>) -> Response,
}

/// A line of the table, short enough to be one line of code.
const fn route(
    verb: Verb,
    pattern: &'static str,
    access: Access,
    function: fn(&ServerState, Call<'_>) -> Response,
) -> Route {
    Route { verb, pattern, access, function }
}

use Access::{Anonymous, ImageToken, Local, OperationToken, Trusted, UploadToken};
use Verb::{Any, Delete, Patch, Post, Put, Read};

/// All routes. Where several methods share a pattern, their order is the order of the header `Allow`.
pub(crate) const ROUTES: &[Route] = &[
    route(Read, "/", Anonymous, web::index),
    // The REST API of LXD and Incus.
    route(Read, "/1.0", Anonymous, rest::server_info),
    route(Read, "/1.0/images", Anonymous, rest::list_images),
    route(Post, "/1.0/images", UploadToken, rest::create_image),
    route(Read, "/1.0/images/aliases", Anonymous, rest::list_aliases),
    route(Post, "/1.0/images/aliases", Trusted, rest::create_alias),
    // Clients of the peers escape the slashes of a name; unescaped slashes are accepted as well.
    route(Read, "/1.0/images/aliases/{name...}", Anonymous, rest::get_alias),
    route(Put, "/1.0/images/aliases/{name...}", Trusted, rest::edit_alias),
    route(Patch, "/1.0/images/aliases/{name...}", Trusted, rest::edit_alias),
    route(Post, "/1.0/images/aliases/{name...}", Trusted, rest::rename_alias),
    route(Delete, "/1.0/images/aliases/{name...}", Trusted, rest::delete_alias),
    // The body of an upload in parts, by a name that the client chose.
    route(Read, "/1.0/images/uploads/{name}", Trusted, rest::get_upload),
    route(Patch, "/1.0/images/uploads/{name}", Trusted, rest::append_to_upload),
    route(Delete, "/1.0/images/uploads/{name}", Trusted, rest::delete_upload),
    route(Read, "/1.0/images/{fingerprint}", ImageToken, rest::get_image),
    route(Put, "/1.0/images/{fingerprint}", Trusted, rest::edit_image),
    route(Patch, "/1.0/images/{fingerprint}", Trusted, rest::edit_image),
    route(Delete, "/1.0/images/{fingerprint}", Trusted, rest::delete_image),
    route(Read, "/1.0/images/{fingerprint}/export", ImageToken, rest::export_image),
    route(Post, "/1.0/images/{fingerprint}/export", Trusted, rest::push_image),
    route(Read, "/1.0/images/{fingerprint}/statements", ImageToken, rest::list_statements),
    route(Post, "/1.0/images/{fingerprint}/statements", Trusted, rest::attach_statements),
    route(Post, "/1.0/images/{fingerprint}/secret", Trusted, rest::issue_image_token),
    route(Post, "/1.0/images/{fingerprint}/refresh", Trusted, rest::refresh_image),
    // An untrusted client learns nothing of which actions there are.
    route(Any, "/1.0/images/{fingerprint}/{action}", Trusted, rest::not_found),
    // Names of LXD 6 for the servers that images come from.
    route(Read, "/1.0/image-registries", Trusted, rest::list_registries),
    route(Post, "/1.0/image-registries", Trusted, rest::change_registry),
    route(Read, "/1.0/image-registries/{name}", Trusted, rest::get_registry),
    route(Put, "/1.0/image-registries/{name}", Trusted, rest::change_registry),
    route(Patch, "/1.0/image-registries/{name}", Trusted, rest::change_registry),
    route(Post, "/1.0/image-registries/{name}", Trusted, rest::change_registry),
    route(Delete, "/1.0/image-registries/{name}", Trusted, rest::change_registry),
    route(Read, "/1.0/image-registries/{name}/images", Trusted, rest::list_registry_images),
    route(Any, "/1.0/image-registries/{name}/{action...}", Trusted, rest::not_found),
    route(Read, "/1.0/operations", Trusted, rest::list_operations),
    route(Read, "/1.0/operations/{id}", OperationToken, rest::get_operation),
    route(Delete, "/1.0/operations/{id}", Trusted, rest::cancel_operation),
    route(Read, "/1.0/operations/{id}/wait", OperationToken, rest::wait_for_operation),
    route(Any, "/1.0/operations/{id}/{action...}", Trusted, rest::not_found),
    route(Read, "/1.0/events", Trusted, rest::listen_to_events),
    route(Any, "/1.0/events", Anonymous, rest::not_found),
    route(Any, "/1.0/{path...}", Anonymous, rest::not_found),
    // The same images for simplestreams clients.
    route(Read, "/streams/v1", Anonymous, simplestreams_document),
    route(Read, "/streams/v1/{path...}", Anonymous, simplestreams_document),
    // Files of simplestreams items, and the pages of images.
    route(Read, "/images/{name}", Anonymous, image_file_or_page),
    // For administrators and monitoring.
    route(Read, "/metrics", Local, metrics::answer),
    route(Read, "/health", Anonymous, metrics::health),
    route(Read, "/health/live", Anonymous, metrics::is_alive),
    route(Read, "/health/ready", Anonymous, metrics::health),
    route(Read, "/static/{name}", Anonymous, web::asset),
    // Any other path may be an alias: direct import.
    route(Read, "/{alias...}", Anonymous, direct::answer),
];

/// The function of `/streams/v1`: index and list of products.
#[allow(clippy::needless_pass_by_value, reason = "all functions of the table have one signature")]
fn simplestreams_document(server: &ServerState, call: Call<'_>) -> Response {
    let parts = call.address.parts();
    simplestreams::route(server, &call.request, parts.get(2..).unwrap_or_default())
}

/// The function of `/images/NAME`: a file of a simplestreams item if the name is that of one, and
/// the page of an image otherwise. Names of files have an extension behind the fingerprint, so that
/// the two can't be confused.
fn image_file_or_page(server: &ServerState, call: Call<'_>) -> Response {
    match simplestreams::file(server, &call.request, call.parameter(0)) {
        Some(response) => response,
        None => web::image(server, call),
    }
}

/// Answers a request by the function of its route, if the client may call it.
///
/// Never fails: whatever is wrong with the request is a response.
pub(crate) fn dispatch(server: &ServerState, request: Request) -> Response {
    // Parsed once, so that the checks and the function can't disagree on the path.
    let address = match Address::of(&request.uri) {
        Ok(address) => address,
        Err(error) => return answer::error(&error, request.is_trusted()),
    };
    let is_rest = address.parts.first().is_some_and(|part| part == "1.0");
    // Before anything else: a browser shows its user's certificate for whatever page it is on.
    if is_rest && let Some(refused) = rest::refuse(server, &request, &address) {
        return refused;
    }
    // Only the path decides which pattern counts: a method never selects a more general one.
    let Some((routes, parameters)) = find(&address.parts) else { return answer::not_found() };
    // The method is looked for before the access check: a path without this method answers the same
    // to every client that may learn which methods it has.
    let Some(route) = routes.iter().find(|route| route.verb.accepts(&request.method)) else {
        return wrong_method(server, &request, &address, &parameters, routes, is_rest);
    };
    let grant = match authorize(server, route.access, &request, &address, &parameters) {
        Ok(grant) => grant,
        Err(refused) => return *refused,
    };
    (route.function)(server, Call { request, address: &address, parameters, grant })
}

/// The routes of the first pattern that matches the path, and what its placeholders matched.
fn find(parts: &[String]) -> Option<(&'static [Route], Vec<String>)> {
    let (index, first, parameters) = ROUTES
        .iter()
        .enumerate()
        .find_map(|(index, route)| matched(route.pattern, parts).map(|parameters| (index, route, parameters)))?;
    let rest = ROUTES.get(index..)?;
    let count = rest.iter().take_while(|route| route.pattern == first.pattern).count();
    Some((rest.get(..count)?, parameters))
}

/// What the placeholders of a pattern match in the segments of a path; `None` where the pattern does not match.
///
/// The last placeholder may take several segments; there is at most one of these in a pattern, at
/// its end. A path is compared segment by segment, without regular expressions and without a copy.
fn matched(pattern: &str, parts: &[String]) -> Option<Vec<String>> {
    let mut parts = parts.iter();
    let mut parameters = Vec::new();
    for segment in pattern.split('/').filter(|segment| !segment.is_empty()) {
        let part = parts.next()?;
        match segment.strip_prefix('{') {
            // At least one segment: `/1.0/images/aliases/` without a name is the list.
            Some(name) if name.ends_with("...}") => {
                let rest: Vec<&str> = std::iter::once(part).chain(parts.by_ref()).map(String::as_str).collect();
                parameters.push(rest.join("/"));
            }
            Some(_) => parameters.push(part.clone()),
            None if segment == part => {}
            None => return None,
        }
    }
    parts.next().is_none().then_some(parameters)
}

/// Checks that the client may call a route that needs this access.
///
/// A trusted client passes at once. Of all checks only that of an upload token has an
/// effect: it uses the token up.
///
/// # Errors
/// The response that refuses the client. It is the same whether or not what the path names exists.
fn authorize(
    server: &ServerState,
    access: Access,
    request: &Request,
    address: &Address,
    parameters: &[String],
) -> Result<Grant, Box<Response>> {
    // First, so that a trusted client that also sends a token does not use the token up.
    if request.is_trusted() {
        return Ok(Grant::Plain);
    }
    match access {
        Anonymous | ImageToken => Ok(Grant::Plain),
        Trusted => Err(Box::new(answer::forbidden())),
        OperationToken => {
            let id = parameters.first().map_or("", String::as_str);
            let secret = address.query("secret");
            let authenticated = secret.is_some_and(|secret| server.services.operations.is_open_to(id, secret));
            if authenticated { Ok(Grant::Plain) } else { Err(Box::new(answer::forbidden())) }
        }
        // Used up even if the upload fails afterwards, so that a token can't be tried many times.
        UploadToken => rest::redeem_upload_token(server, request)
            .map(|grant| Grant::Upload(Box::new(grant)))
            .ok_or_else(|| Box::new(answer::forbidden())),
        Local if metrics::is_local(request) => Ok(Grant::Plain),
        // 404 and not 403: a client from elsewhere does not learn that the path exists.
        Local => Err(Box::new(answer::not_found())),
    }
}

/// The response to a method that no route of the path has. Only a client that may use one of the methods
/// of a path learns which methods it has.
///
/// `405` with a header `Allow` tells that the path exists and what can be done with it. That is no
/// secret where some method is open to everybody. Elsewhere a client that may call none of them
/// gets the same refusal as for a method that exists.
fn wrong_method(
    server: &ServerState,
    request: &Request,
    address: &Address,
    parameters: &[String],
    routes: &[Route],
    is_rest: bool,
) -> Response {
    let is_open = |route: &Route| matches!(route.access, Anonymous | ImageToken);
    if let Some(first) = routes.first().filter(|_| !routes.iter().any(is_open))
        && let Err(refused) = authorize(server, first.access, request, address, parameters)
    {
        return *refused;
    }
    let known = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"];
    // RFC 9110, section 15.6.2. The peers answer 405 to methods that they don't know.
    if !is_rest && !known.contains(&request.method.as_str()) {
        return answer::failure(StatusCode::NOT_IMPLEMENTED, "this method is not known here");
    }
    let allowed: Vec<&str> = routes.iter().map(|route| route.verb.names()).collect();
    answer::failure(StatusCode::METHOD_NOT_ALLOWED, "this method is not allowed here")
        .with(header::ALLOW, &allowed.join(", "))
}
