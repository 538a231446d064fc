//! Images on servers: simplestreams, LXD and Incus, and single URLs, behind one trait.
//! Nothing that a server says is believed: what is stored is named by the digest of what came.

mod download;
mod http;
mod retry;

pub use download::Download;
pub use http::{
    Body, Certificate, Client, ClientOptions, Identity, Method, Proxy, Request, Response, Scheme, Trust, Url,
};
pub use retry::Retry;
