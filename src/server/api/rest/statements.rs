//! `GET /1.0/images/FINGERPRINT/statements`: the signed statements about an image, for clients that may see it. An
//! extension of this server: the peers have no such path.

use serde_json::{Value, json};

use crate::error::Result;
use crate::server::api::address::Address;
use crate::server::api::answer;
use crate::server::core::access;
use crate::server::message::{Request, Response};
use crate::server::state::ServerState;
use crate::store::StoredImage;

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

#[cfg(feature = "trust")]
fn envelopes(server: &ServerState, image: &StoredImage) -> Result<Vec<Value>> {
    let statements = server.services.store.statements(&image.fingerprint)?;
    let read = |text: &str| {
        serde_json::from_str(text)
            .map_err(|error| crate::error::Error::malformed("a statement is damaged").with_source(error))
    };
    statements.iter().map(|envelope| read(envelope.as_json())).collect()
}

#[cfg(not(feature = "trust"))]
fn envelopes(_: &ServerState, _: &StoredImage) -> Result<Vec<Value>> {
    Ok(Vec::new())
}
