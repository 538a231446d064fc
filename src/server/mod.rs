//! Serves the images of a [`Store`](crate::store::Store): by the REST API of LXD and Incus, as a
//! simplestreams tree, for direct import by URL, and as web pages. [`Handler`] is a function from
//! [`Request`] to [`Response`] without a socket; [`Listener`] puts it on the network with TLS,
//! HTTP/1.1 and HTTP/2.
//!
//! # Parts
//!
//! - `routes`: the route table. Each route has its methods, its path, the access that it needs, and
//!   its function. Every request is dispatched by it, and clients are refused nowhere else;
//!   [`Handler::routes`] lists it.
//! - `state`: what the functions of the routes share: the services, and the documents that are kept.
//! - `core/`: the services behind all interfaces, which know no HTTP. `access` decides which images and aliases a
//!   client sees; `tokens` holds the secrets that trusted clients issue; `operations` and `events`
//!   are what clients follow; `upstream_cache` fetches images that the store lacks; `public`
//!   indexes the public images.
//! - `api/`: the interfaces for programs: `rest/`, `simplestreams/`, `direct`, `metrics`.
//! - `web/`: the pages for people.
//! - `net/`: sockets, TLS, the limits on connections and requests, the access log.
//!
//! # Data flow
//!
//! `net` accepts a connection, determines the [`Client`] by its certificate, and calls
//! [`Handler::handle`] on a thread. The route table calls a function of `api` or `web`, which asks
//! `core` for what this client may see. The response's body is read while it is sent: neither an
//! image nor a list is ever in memory as a whole.
//!
//! # Invariants
//!
//! - To an untrusted client a private image is indistinguishable from a missing one: same status,
//!   same bytes, same lists.
//! - Tokens are kept as digests, in memory or in the shared records of a catalog, are used once, and expire.
//! - An image that is damaged in the store never reaches a client completely: unverified files are
//!   hashed while they are sent.
//! - Everything that a client can make the server do is bounded: see [`Limits`](crate::Limits) and
//!   [`ListenerOptions`].
//!
//! # What is not here
//!
//! - No client: other servers are reached by the [`ImageTransfer`] that the program provides.
//! - No instances, networks, storage pools or projects. Paths of LXD's API below `/1.0` that are
//!   not about images, operations or events answer 404, as on a server that lacks the feature.
//! - No configuration files and no signal handling: the program reads its options, and stops the
//!   listener by a [`Cancel`](crate::Cancel).
//! - No user accounts. A client is trusted by its certificate or not at all; tokens grant single
//!   actions.

mod api;
mod core;
mod handler;
mod message;
mod net;
mod options;
mod routes;
mod state;
mod web;

pub use self::core::client::Client;
pub use self::core::redirect::Redirect;
pub use self::core::transfer::{ImageTransfer, Pull, Push, Registry};
pub use api::rest::ApiExtension;
pub use handler::{Handler, RouteInfo};
pub use message::{Body, Check, Chunks, Piece, Pieces, Request, Response};
pub use net::{Listener, ListenerOptions, ServerCertificate, TrustedClients};
pub use options::ServerOptions;
