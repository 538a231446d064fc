//! [`OperationSnapshot`]: an operation at one moment.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The status of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Status {
    /// The worker has not ended it yet.
    Running,
    /// A client asked it to stop, and the worker has not noticed yet.
    Cancelling,
    /// It did what it was begun for. Final.
    Success,
    /// It ended with an error, which is in [`OperationSnapshot::error`]. Final.
    Failure,
    /// It stopped because a client asked for it, or the token that it represents expired. Final.
    Cancelled,
}

impl Status {
    /// Whether the state is final.
    pub(crate) const fn is_over(self) -> bool {
        matches!(self, Self::Success | Self::Failure | Self::Cancelled)
    }
}

/// The class of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Class {
    /// Work in the background.
    Task,
    /// A token that was issued, until it is used, revoked or expired.
    Token,
}

/// An operation as it is at one moment: what clients, waiters, listeners and the other servers of the store get. The REST API
/// has an object of its own for it, which `api` makes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct OperationSnapshot {
    /// Its UUID.
    pub(crate) id: String,
    /// What it represents.
    pub(crate) class: Class,
    /// A description for people.
    pub(crate) description: String,
    /// When it began, as RFC 3339 in UTC.
    pub(crate) created_at: String,
    /// When it last changed, as RFC 3339 in UTC.
    pub(crate) updated_at: String,
    /// Its state.
    pub(crate) status: Status,
    /// The URL paths of the images that it is about.
    pub(crate) images: Vec<String>,
    /// Its results and its progress, by the names that LXD's clients know.
    pub(crate) metadata: BTreeMap<String, Value>,
    /// Why it failed, or empty.
    pub(crate) error: String,
}

impl OperationSnapshot {
    /// Removes the secret of a token: only the client that it was issued to may have it.
    pub(crate) fn remove_secret(&mut self) {
        self.metadata.remove("secret");
    }
}
