//! `/1.0/operations`: work that goes on, by its name; waiting for it, and cancelling it.
//! Only for trusted clients, but for what a client began itself.

use super::super::address::Address;
use super::super::answer;
use super::super::handler::Handler;
use super::super::message::{Request, Response};

/// `/1.0/operations` and what is below it.
pub(super) fn route(_handler: &Handler, _request: &Request, _address: &Address, _rest: &[&str]) -> Response {
    answer::forbidden()
}
