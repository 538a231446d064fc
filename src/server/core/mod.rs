//! The services behind every interface of the server. None of them writes a response: they return
//! images, aliases and errors, and `api` and `web` turn these into bytes.
//!
//! | module | what it owns | bounded by |
//! |---|---|---|
//! | `services` | the store and all of the below, for functions that need several | |
//! | `client` | who asks | |
//! | `access` | the decision which images and aliases a client sees | one page of rows |
//! | `public` | an index of the public images, made once per change of the catalog | 20,000 whole images |
//! | `by_version` | the rule when such an index is made again | one maker at a time |
//! | `upstream_cache` | queries to the upstream and downloads from it | 8 queries, 8 downloads |
//! | `operations`, `events` | background work and who follows it | 256 tasks, 256 listeners |
//! | `fleet` | what the servers of one store tell each other | 5,000 operations in a list |
//! | `tokens`, `secret` | the secrets that trusted clients issue | 1,000 tokens, 5 minutes |
//! | `upload_spec` | what a client asks for an image that it uploads | |
//! | `lifecycle` | the events of images | |
//! | `metrics` | counters | |
//! | `quota` | how much each client may upload and store | 10,000 clients |
//! | `verified` | which stored files have been hashed already | 100,000 images |
//! | `notes` | log messages that belong to no request | 10,000 remembered messages |
//!
//! # Invariants
//!
//! - State is in memory only, or in shared records that expire (`fleet`). A restart forgets tokens, operations and answers of the upstream;
//!   images and aliases are in the store, and nothing else has to survive.
//! - No lock is held while the store, the disk or another server is asked. A service marks what it
//!   does under its lock, works without it, and removes the mark by a guard that also runs on a
//!   panic.
//! - A poisoned lock is used as it is: the state behind it is changed in steps that leave it valid,
//!   and a server must not refuse all requests because one of them panicked.
//! - Whatever an anonymous client can cause has a limit, and the limit is checked before the work.

pub(crate) mod access;
pub(crate) mod by_version;
pub(crate) mod client;
pub(crate) mod events;
pub(crate) mod fleet;
pub(crate) mod lifecycle;
pub(crate) mod metrics;
pub(crate) mod not_found;
pub(crate) mod notes;
pub(crate) mod operation;
pub(crate) mod operations;
pub(crate) mod public;
pub(crate) mod quota;
pub(crate) mod redirect;
pub(crate) mod secret;
pub(crate) mod services;
pub(crate) mod tokens;
pub(crate) mod transfer;
pub(crate) mod upload_spec;
pub(crate) mod upstream_cache;
pub(crate) mod verified;
