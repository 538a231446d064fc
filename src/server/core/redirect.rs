//! Decides whether a client is sent to the object storage for an image's file, instead of through this server.
//!
//! # Who is redirected
//!
//! - Only requests for a whole file that is one object of the store. A split image on the REST API is a form of two
//!   files, which no object has.
//! - Only if this server has hashed the object before (`verified`): a redirect can't hold back the last bytes of a
//!   damaged file, as a streamed response does. The first client of an image is therefore served by this server.
//! - Not LXD and Incus on the REST API: they check every connection of a remote against the certificate of this server,
//!   and object storage has another. simplestreams clients check against the system's authorities, and follow.
//! - Nobody from https to plain http.

use std::time::Duration;

use crate::error::Result;
use crate::store::{BlobKey, Store};

/// Where clients are redirected to.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Redirect {
    /// A presigned address of the object storage, valid for this long. An engine may shorten it.
    Presigned {
        /// How long the address is valid. It is checked when a download begins.
        lifetime: Duration,
    },
    /// The address of a CDN or proxy in front of the object storage, to which the key of the object is appended.
    Base {
        /// The URL, without a slash at the end.
        url: String,
    },
}

impl Redirect {
    /// The default lifetime of presigned addresses: 15 minutes, enough to begin a download behind a slow proxy.
    pub const LIFETIME: Duration = Duration::from_secs(15 * 60);
}

/// The address to send the client to for an object of the store; `None` to stream it. `secure` tells whether the client came
/// over TLS.
///
/// # Errors
/// Those of the blob store's signing.
pub(crate) fn location(redirect: &Redirect, store: &Store, key: &BlobKey, secure: bool) -> Result<Option<String>> {
    let address = match redirect {
        Redirect::Presigned { lifetime } => store.link(key, *lifetime)?,
        Redirect::Base { url } => Some(format!("{url}/{key}")),
    };
    Ok(address.filter(|address| !secure || address.starts_with("https://")))
}
