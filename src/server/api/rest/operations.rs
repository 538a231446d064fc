//! `/1.0/operations`: lists operations, shows one, waits for it, cancels it. For trusted clients,
//! and for the client that began the operation with a token; the route table checks both.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::filter::Expression;
use super::images::is_recursive;
use crate::error::{Error, Result};
use crate::protocol::rest;
use crate::server::api::address::Address;
use crate::server::api::answer;
use crate::server::core::access;
use crate::server::core::operation::{Class, OperationSnapshot, Status};
use crate::server::core::operations::location;
use crate::server::message::Response;
use crate::server::state::ServerState;

/// The API's name and code of a state, which are those of LXD's API (`doc/rest-api.md`).
const fn state_of(status: Status) -> (&'static str, u16) {
    match status {
        Status::Running => ("Running", 103),
        Status::Cancelling => ("Cancelling", 104),
        Status::Success => ("Success", 200),
        Status::Failure => ("Failure", 400),
        Status::Cancelled => ("Cancelled", 401),
    }
}

/// The API's object of an operation.
pub(crate) fn object(operation: &OperationSnapshot) -> Value {
    let (status, status_code) = state_of(operation.status);
    let class = match operation.class {
        Class::Task => "task",
        Class::Token => "token",
    };
    let images = (!operation.images.is_empty()).then(|| ("images".to_owned(), operation.images.clone()));
    json!(rest::Operation {
        id: operation.id.clone(),
        class: class.to_owned(),
        description: operation.description.clone(),
        created_at: operation.created_at.clone(),
        updated_at: operation.updated_at.clone(),
        status: status.to_owned(),
        status_code,
        resources: images.into_iter().collect(),
        metadata: operation.metadata.clone(),
        may_cancel: !operation.status.is_over(),
        err: operation.error.clone(),
        location: "none".to_owned(),
    })
}

/// The API's object of an operation, or null for one that is not there any more.
pub(super) fn known(operation: Option<OperationSnapshot>) -> Value {
    operation.map_or(Value::Null, |operation| object(&operation))
}

/// One operation.
pub(super) fn get(server: &ServerState, id: &str) -> Response {
    one(server.services.operations.find(id))
}

/// Cancels an operation. Where it stands for a token, that opens nothing any more.
///
/// The token is revoked first, so that it can't be used between the two steps.
pub(super) fn cancel(server: &ServerState, id: &str) -> Response {
    // Without effect on an operation that represents no token.
    let revoked = server.services.tokens.revoke(id);
    revoked
        .and_then(|()| server.services.operations.cancel_anywhere(id))
        .map_or_else(|error| answer::error(&error, true), |()| answer::done())
}

/// The response for an operation that was looked for.
fn one(found: Result<Option<OperationSnapshot>>) -> Response {
    match found {
        Ok(Some(operation)) => answer::object(object(&operation)),
        Ok(None) => answer::error(&access::not_found(), true),
        Err(error) => answer::error(&error, true),
    }
}

/// All operations by their status; tokens without their secrets.
pub(super) fn list(server: &ServerState, address: &Address) -> Response {
    let objects = is_recursive(address);
    let filter = match address.query("filter").map(str::parse::<Expression>).transpose() {
        Ok(filter) => filter,
        Err(error) => return answer::error(&error, true),
    };
    let mut by_status: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    let all = match server.services.operations.list_all() {
        Ok(all) => all,
        Err(error) => return answer::error(&error, true),
    };
    for mut operation in all {
        // The secret of a token is shown with its own operation only.
        // A list is shown on screens and in logs more often than one operation.
        operation.remove_secret();
        let status = state_of(operation.status).0.to_lowercase();
        // A list of paths without a filter needs no objects.
        if filter.is_none() && !objects {
            by_status.entry(status).or_default().push(json!(location(&operation.id)));
            continue;
        }
        let object = object(&operation);
        if filter.as_ref().is_none_or(|filter| filter.holds(&object)) {
            let value = if objects { object } else { json!(location(&operation.id)) };
            by_status.entry(status).or_default().push(value);
        }
    }
    answer::object(json!(by_status))
}

/// One operation when it has ended, or when the time that the client waits is over.
pub(super) fn wait(server: &ServerState, address: &Address, id: &str) -> Response {
    one(timeout(address).and_then(|time| server.services.operations.wait_anywhere(id, time)))
}

/// The time that a client waits; `None` for as long as the server lets it.
fn timeout(address: &Address) -> Result<Option<Duration>> {
    let Some(text) = address.query("timeout") else { return Ok(None) };
    let seconds: i64 = text.parse().map_err(|_| Error::invalid("the time to wait is no number of seconds"))?;
    // The peers' clients send -1 for no limit.
    Ok(u64::try_from(seconds).ok().map(Duration::from_secs))
}
