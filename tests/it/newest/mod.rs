//! What the newest releases of LXD and Incus know, written from the facts of their sources: fields and names, extensions
//! of the API, this year's advisories, and the tools that build trees.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod advisories;
pub(crate) mod bridge;
mod built_trees;
mod extensions;
mod fields;
mod quotas;
mod split_publishing;
mod unknown_fields;
