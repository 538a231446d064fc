//! The interfaces for programs: the REST API of LXD and Incus, simplestreams, direct import, metrics; and what they
//! share: the parsed address, conditional requests, the host that a client names, and the envelope of responses.

pub(crate) mod address;
pub(crate) mod answer;
pub(crate) mod conditional;
pub(crate) mod direct;
pub(crate) mod host;
pub(crate) mod metrics;
pub(crate) mod rest;
pub(crate) mod simplestreams;

use super::core::{notes, public, verified};
use super::{handler, message};

/// The names that the lists use for [`super::core::access`].
mod sight {
    pub(crate) use super::super::core::access::{
        anonymous as anybody, find_image as image, find_local_image as here, list_images as images, not_found as absent,
    };
}
