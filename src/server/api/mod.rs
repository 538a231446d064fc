//! The interfaces for programs: the REST API of LXD and Incus, simplestreams, direct import, metrics; and what they
//! share: the parsed address, conditional requests, the host that a client names, and the envelope of responses.

// All functions of the route table have one signature, and those of uploads consume the request.
#![allow(clippy::needless_pass_by_value)]

pub(crate) mod address;
pub(crate) mod answer;
pub(crate) mod conditional;
pub(crate) mod direct;
pub(crate) mod host;
pub(crate) mod metrics;
pub(crate) mod rest;
pub(crate) mod simplestreams;
