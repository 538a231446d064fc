//! The interfaces for programs: the REST API of LXD and Incus, simplestreams, direct import, metrics.

pub(crate) mod address;
pub(crate) mod answer;
pub(crate) mod conditional;
pub(crate) mod direct;
pub(crate) mod host;
pub(crate) mod metrics;
pub(crate) mod rest;
pub(crate) mod simplestreams;

use super::core::{access as sight, notes, public, verified};
use super::{handler, message};
