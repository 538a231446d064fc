//! A server of a store: to LXD and Incus an image server by its REST API, to the tools of simplestreams a tree, to importers
//! of addresses a place that tells hash and URL, to people a page. [`Handler`] is a function from request to response, with
//! no socket behind it; [`Listener`] puts it on the network.

mod api;
mod core;
mod handler;
mod message;
mod net;
mod options;
mod web;

pub use self::core::transfer::{ImageTransfer, Pull, Push};
pub use handler::Handler;
pub use message::{Body, Check, Chunks, Client, Piece, Pieces, Request, Response};
pub use net::{Listener, ListenerOptions, ServerCertificate, TrustedClients};
pub use options::ServerOptions;
