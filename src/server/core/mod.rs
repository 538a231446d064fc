//! The services behind every interface of the server. None of them writes a response: they return images, aliases and
//! errors, and `api` and `web` turn these into bytes.

pub(crate) mod access;
pub(crate) mod by_version;
pub(crate) mod events;
pub(crate) mod notes;
pub(crate) mod operations;
pub(crate) mod public;
pub(crate) mod tokens;
pub(crate) mod transfer;
pub(crate) mod upstream_cache;
pub(crate) mod verified;
