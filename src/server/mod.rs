//! A server of a store: to LXD and Incus an image server by its REST API, to the tools of simplestreams a tree, to importers
//! of addresses a place that tells hash and URL, to people a page. [`Handler`] is a function from request to response, with
//! no socket behind it; [`Listener`] puts it on the network.

mod address;
mod answer;
mod by_version;
mod conditional;
mod direct;
mod events;
mod handler;
mod host;
mod listener;
mod message;
mod metrics;
mod notes;
mod operations;
mod options;
mod page;
mod public;
mod rest;
mod secrets;
mod sight;
mod simplestreams;
mod through;
mod upstream;
mod verified;

pub use handler::Handler;
pub use listener::{Listener, ListenerOptions, ServerCertificate, TrustedClients};
pub use message::{Body, Check, Chunks, Client, Piece, Pieces, Request, Response};
pub use options::ServerOptions;
pub use upstream::{Fetch, Pull, Push};
