//! Metrics for Prometheus, and the health check. Metrics are shown to this machine and to trusted clients only, because
//! they reveal how the server is used.
//!
//! The counters are those of [`Metrics`](crate::server::core::metrics::Metrics).

use http::StatusCode;

use crate::error::{ErrorKind, Result};
use crate::fingerprint::Fingerprint;
use crate::server::api::call::Call;
use crate::server::message::{Request, Response};
use crate::server::state::ServerState;
use crate::store::{ImageQuery, Totals};

/// Whether a request comes from this machine. What a proxy on this machine forwards comes from elsewhere.
///
/// Such a header can be forged only by a client that is local anyway, and would then lose access.
pub(crate) fn is_local(request: &Request) -> bool {
    let forwarded =
        ["forwarded", "via", "x-forwarded-for", "x-real-ip"].iter().any(|name| request.headers.contains_key(*name));
    // A proxy on this machine connects from the loopback address for clients from everywhere.
    !forwarded && request.peer.is_some_and(|peer| peer.to_canonical().is_loopback())
}

/// `GET /metrics`. The numbers of images are read from the catalog, the others from counters.
pub(crate) fn answer(server: &ServerState, call: Call<'_>) -> Response {
    let request = &call.request;
    let count = || -> Result<(Totals, u64)> {
        // A proxy on this machine may not set any header: private images are counted for trusted clients only.
        let mut query = ImageQuery::new();
        query.public = (!request.is_trusted()).then_some(true);
        Ok((server.services.store.totals(&query)?, server.services.public_images()?.skipped))
    };
    match count() {
        Ok((totals, skipped)) => {
            let text = server.services.metrics.text(totals.images, totals.bytes, skipped);
            Response::text(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text)
        }
        Err(error) => crate::server::api::answer::error(&error, request.is_trusted()),
    }
}

/// `GET /health/live`: whether the process answers at all. It does not look at the store: a server whose database is
/// away must be taken out of service (`/health/ready`), but starting it again would not help.
pub(crate) fn is_alive(_: &ServerState, _: Call<'_>) -> Response {
    Response::text(StatusCode::OK, "text/plain; charset=utf-8", "ok\n")
}

/// `GET /health`: whether the catalog can be read.
///
/// Answers 200 or 503, to everybody: load balancers have no certificate.
pub(crate) fn health(server: &ServerState, _: Call<'_>) -> Response {
    if server.services.joined.is_err() {
        return Response::text(
            StatusCode::SERVICE_UNAVAILABLE,
            "text/plain; charset=utf-8",
            "the other servers of the store can't be joined\n",
        );
    }
    // Looks for an image that can't exist: the cost does not depend on the number of images.
    let (status, text) = match server.services.store.image(&Fingerprint::of(b"health")) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            (StatusCode::SERVICE_UNAVAILABLE, "the store can't be read\n")
        }
        _ => (StatusCode::OK, "ok\n"),
    };
    Response::text(status, "text/plain; charset=utf-8", text)
}
