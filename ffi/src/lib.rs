//! The C interface of `lxd-image`. `include/lxd_image.h` is made of these files; their comments are its manual.
//! All unsafe code of the project is here: `args` and `handle` check what comes in, `error` frames every call.
#![allow(non_camel_case_types, reason = "the names are C's")]
#![allow(
    unsafe_op_in_unsafe_fn,
    reason = "each exported call only hands its caller's promise, which the header states once for all calls, on to `args` and `handle`"
)]
#![allow(
    clippy::missing_safety_doc,
    reason = "the promise is the same everywhere: the header's `Rules for every call`"
)]

mod about;
mod alias;
mod apply;
mod args;
mod buffer;
mod context;
mod cursor;
mod delta;
mod diff;
mod disk;
mod edit;
mod error;
mod export;
mod fingerprint;
mod handle;
mod image;
mod import;
mod key;
mod layout;
mod limits;
mod list;
mod maintenance;
mod metadata;
mod mirror;
mod monitor;
mod names;
mod omissions;
mod pack;
mod policy;
mod registry;
mod remote;
mod rule;
mod server;
mod settings;
mod staged;
mod statement;
mod store;
mod stored;
mod stream;
mod template;
mod transfer;
mod tree;
mod types;
mod unpack;
mod verify;

pub use about::*;
pub use alias::*;
pub use apply::*;
pub use buffer::*;
pub use context::*;
pub use cursor::*;
pub use delta::*;
pub use diff::*;
pub use disk::*;
pub use edit::*;
pub use error::*;
pub use export::*;
pub use fingerprint::*;
pub use image::*;
pub use import::*;
pub use key::*;
pub use layout::*;
pub use limits::*;
pub use list::*;
pub use maintenance::*;
pub use metadata::*;
pub use mirror::*;
pub use monitor::*;
pub use names::*;
pub use omissions::*;
pub use pack::*;
pub use policy::*;
pub use registry::*;
pub use remote::*;
pub use rule::*;
pub use server::*;
pub use settings::*;
pub use staged::*;
pub use statement::*;
pub use store::*;
pub use stored::*;
pub use stream::*;
pub use template::*;
pub use transfer::*;
pub use tree::*;
pub use types::*;
pub use unpack::*;
pub use verify::*;
