//! `/1.0/operations`: work that goes on, by its name; waiting for it, and cancelling it.
//! Only for trusted clients, but for what a client began itself with a pass.

use std::collections::BTreeMap;
use std::time::Duration;

use http::Method;
use serde_json::{Value, json};

use super::images::is_recursive;
use crate::error::{Error, Result};
use crate::server::api::address::Address;
use crate::server::api::answer;
use crate::server::core::access;
use crate::server::core::operations::location;
use crate::server::handler::Handler;
use crate::server::message::{Request, Response};

/// `/1.0/operations` and what is below it.
pub(super) fn route(handler: &Handler, request: &Request, address: &Address, rest: &[&str]) -> Response {
    let reads = matches!(request.method, Method::GET | Method::HEAD);
    let done = match rest {
        [id] | [id, "wait"] if reads && sees(handler, request, address, id) => {
            if rest.len() == 1 {
                Ok(handler.operations.get(id))
            } else {
                wait(handler, address, id)
            }
        }
        _ if !request.is_trusted() => return answer::forbidden(),
        [] if reads => return list(handler, address),
        [] | [_, "wait"] => return answer::wrong_method("GET, HEAD"),
        [id] if request.method == Method::DELETE => {
            handler.tokens.revoke(id);
            return handler.operations.cancel(id).map_or_else(|error| answer::error(&error, true), |()| answer::done());
        }
        [_] => return answer::wrong_method("GET, HEAD, DELETE"),
        // Nothing here is spoken to by a socket of its own.
        _ => Ok(None),
    };
    match done {
        Ok(Some(operation)) => answer::object(json!(operation)),
        Ok(None) => answer::error(&access::not_found(), true),
        Err(error) => answer::error(&error, true),
    }
}

/// Whether the client may look at it.
fn sees(handler: &Handler, request: &Request, address: &Address, id: &str) -> bool {
    request.is_trusted()
        || address.query("secret").is_some_and(|secret| handler.operations.is_authenticated_by(id, secret))
}

fn list(handler: &Handler, address: &Address) -> Response {
    let objects = is_recursive(address);
    let mut by_status: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for mut operation in handler.operations.list() {
        // For whoever asked for it, and asks for the operation itself.
        operation.metadata.remove("secret");
        let status = operation.status.to_lowercase();
        let value = if objects { json!(operation) } else { json!(location(&operation.id)) };
        by_status.entry(status).or_default().push(value);
    }
    answer::object(json!(by_status))
}

fn wait(handler: &Handler, address: &Address, id: &str) -> Result<Option<crate::protocol::rest::Operation>> {
    let seconds = match address.query("timeout") {
        None => None,
        Some(text) => {
            let seconds: i64 = text.parse().map_err(|_| Error::invalid("the time to wait is no number of seconds"))?;
            // Less than nothing is: as long as it takes.
            u64::try_from(seconds).ok()
        }
    };
    handler.operations.wait(id, seconds.map(Duration::from_secs))
}
