//! Signed statements about images: given out to clients that may see the image, and taken from trusted ones. An extension of
//! this server (`lxd_image_upload_statements`): the peers have no such paths and headers.
//!
//! A policy may demand statements before an image becomes visible, so a client sends them ahead of the image: as an upload in
//! parts (`parts.rs`), since they may be larger than headers can be, which the header `X-LXD-statements` of the image's own
//! upload names. For an image that is here already they are posted.

use std::io::Read;

use serde::Deserialize;
use serde_json::{Value, json};

use super::body;
use super::upload_headers::field;
use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::Fingerprint;
use crate::protocol::rest::upload;
use crate::server::api::address::Address;
use crate::server::api::answer;
use crate::server::core::access;
use crate::server::core::client::Client;
use crate::server::core::lifecycle;
use crate::server::core::notes::Notes;
use crate::server::core::quota::{Quotas, Uploader};
use crate::server::core::upload_spec::upload_id;
use crate::server::message::{Request, Response};
use crate::server::state::ServerState;
use crate::store::{Store, StoredImage};
use crate::trust::{Envelope, Evidence};

/// The statements, as a list of envelopes. They are verified by whoever uses them.
pub(super) fn get(server: &ServerState, request: &Request, address: &Address, fingerprint: &str) -> Response {
    let one = || -> Result<Response> {
        let image = access::find_image(&server.services, &request.client, fingerprint, address.query("secret"))?;
        Ok(answer::object(Value::Array(envelopes(server, &image)?)))
    };
    one().unwrap_or_else(|error| answer::error(&error, request.is_trusted()))
}

/// Adds to the object of an image how many statements there are, so that clients need not ask in vain.
pub(super) fn add_count(server: &ServerState, image: &StoredImage, object: &mut Value) -> Result<()> {
    let count = envelopes(server, image)?.len();
    if count > 0 {
        object["statements"] = json!(count);
    }
    Ok(())
}

fn envelopes(server: &ServerState, image: &StoredImage) -> Result<Vec<Value>> {
    let statements = server.services.store.statements(&image.fingerprint)?;
    let read = |text: &str| {
        serde_json::from_str(text).map_err(|error| Error::malformed("a statement is damaged").with_source(error))
    };
    statements.iter().map(|envelope| read(envelope.as_json())).collect()
}

/// The body of a `POST …/statements`.
#[derive(Deserialize)]
struct StatementsPost {
    /// Envelopes, as [`get`] gives them out.
    statements: Vec<Value>,
}

/// Keeps statements about an image that is here. Publishes the event
/// `image-updated`.
///
/// # Errors
/// `Mismatch` for a statement about another image; `LimitExceeded` (`statement`, `statements`); `Malformed`.
pub(super) fn attach(server: &ServerState, request: &mut Request, fingerprint: &str) -> Result<Response> {
    let mut limits = server.services.options.limits.clone();
    limits.request = limits.statements;
    let list = body::json::<StatementsPost>(request, &limits)?.statements;
    let image = access::find_local_image(&server.services, &request.client, fingerprint, None)?;
    let parsed =
        list.iter().map(|one| Envelope::parse_with(one.to_string().as_bytes(), &server.services.options.limits));
    server.services.store.attach_statements(&image.fingerprint, parsed.collect::<Result<_>>()?)?;
    lifecycle::image_changed(&server.services.operations, "image-updated", &image, &request.client);
    Ok(answer::done())
}

/// The statements that a client sent ahead of an image.
pub(super) struct SentStatements {
    /// The ID of the upload in the store that holds them.
    id: Fingerprint,
    pub(super) evidence: Evidence,
}

/// The statements that the headers of an upload name; `None` if they name none.
///
/// # Errors
/// `NotFound` for an upload that is not there; `Untrusted` for a client without a certificate; `LimitExceeded` (`statement`,
/// `statements`); `Malformed`.
pub(super) fn sent_ahead(server: &ServerState, request: &Request) -> Result<Option<SentStatements>> {
    let Some(name) = field(&request.headers, upload::STATEMENTS)? else { return Ok(None) };
    let id = upload_id(&request.client, &name)?;
    let (reader, length) = server.services.store.open_parts(&id)?.ok_or_else(|| {
        Error::new(ErrorKind::NotFound, "the statements that the upload names are not here")
            .with_hint("they were used, or removed three days after they were sent")
    })?;
    let limits = &server.services.options.limits;
    if length > limits.statements {
        return Err(Error::limit("statements", limits.statements, "a bundle of statements"));
    }
    let mut bundle = Vec::new();
    reader.take(length).read_to_end(&mut bundle).map_err(|error| Error::io("the statements can't be read", error))?;
    let evidence = Evidence::new().statements(Envelope::parse_bundle(&bundle, limits)?);
    Ok(Some(SentStatements { id, evidence }))
}

impl SentStatements {
    /// Removes them, now that they are kept beside their image. Best effort: otherwise they are swept after three days.
    pub(super) fn forget(&self, store: &Store, quotas: &Quotas, notes: &Notes, client: &Client) {
        // Only a client with a certificate sends ahead, so its address does not matter.
        quotas.forget_parts(&Uploader::of(client, None), &self.id);
        if let Err(error) = store.remove_parts(&self.id) {
            notes.parts_remain(&error);
        }
    }
}
