//! The interfaces for programs: the REST API of LXD and Incus, simplestreams, direct import, metrics; and what they
//! share: the parsed address, conditional requests, the host that a client names, and the envelope of responses.
//!
//! Functions here parse a request, ask `core`, and format the response. They decide formats and
//! statuses, and never what a client may see.
//!
//! | module | paths | clients |
//! |---|---|---|
//! | `rest` | `/1.0/…` | LXD, Incus, this library |
//! | `simplestreams` | `/streams/v1/…`, `/images/FILE` | clients with a simplestreams remote |
//! | `direct` | any other path | `lxc image import URL`, `incus image import URL` |
//! | `metrics` | `/metrics`, `/health` | Prometheus, load balancers |
//!
//! `address`, `conditional`, `host` and `answer` are shared by all of them: parsing targets,
//! conditional and range requests, the server's own URL, and the envelope of responses.

// All functions of the route table have one signature, and those of uploads consume the request.
#![allow(clippy::needless_pass_by_value)]

pub(crate) mod address;
pub(crate) mod answer;
pub(crate) mod call;
pub(crate) mod conditional;
pub(crate) mod direct;
pub(crate) mod host;
pub(crate) mod metrics;
pub(crate) mod rest;
pub(crate) mod simplestreams;

/// A text of decimal digits alone, as numbers in HTTP are: the parser of Rust would take a sign as well.
fn digits(text: &str) -> Option<&str> {
    (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())).then_some(text)
}
