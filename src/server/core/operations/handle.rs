//! `OperationHandle`: an operation in the hands of whoever does the work: what is told of it meanwhile, and how it ends.
//! It ends exactly once, also when the work panics.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Entry, Registry, Status, location};
use crate::error::ErrorKind;
use crate::progress::{Cancel, Phase, Progress, Update};
use crate::protocol::rest;
use crate::server::core::tokens::SecretDigest;

/// An operation that goes on. Whoever drops it without a word about its end has it fail.
#[derive(Debug)]
pub(crate) struct OperationHandle {
    shared: Arc<Registry>,
    id: String,
    cancel: Cancel,
    open: bool,
}

impl OperationHandle {
    pub(super) fn new(shared: Arc<Registry>, id: String, cancel: Cancel) -> Self {
        Self { shared, id, cancel, open: true }
    }

    /// Its name.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Where it is found.
    pub(crate) fn location(&self) -> String {
        location(&self.id)
    }

    /// The switch by which clients stop it.
    pub(crate) fn cancel(&self) -> Cancel {
        self.cancel.clone()
    }

    /// What it is now.
    pub(crate) fn snapshot(&self) -> rest::Operation {
        self.shared.lock().find(&self.id).map(|entry| entry.snapshot()).unwrap_or_default()
    }

    /// Says more of it.
    pub(crate) fn add_metadata(&self, metadata: impl IntoIterator<Item = (&'static str, Value)>) {
        self.change(|entry| {
            entry.operation.metadata.extend(metadata.into_iter().map(|(key, value)| (key.to_owned(), value)));
            entry.operation.updated_at = jiff::Timestamp::now().to_string();
        });
    }

    /// Tells how far a long call is, at most once a second, as the peers' clients show it.
    pub(crate) fn progress(&self) -> Arc<dyn Progress> {
        let (shared, id) = (Arc::clone(&self.shared), self.id.clone());
        let told: Mutex<Option<Instant>> = Mutex::new(None);
        Arc::new(move |update: &Update| {
            let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
            if told.is_none_or(|told| told.elapsed() >= Duration::from_secs(1)) {
                *told = Some(Instant::now());
                let text = match update.total.filter(|total| *total > 0) {
                    Some(total) => format!("{}%", (u128::from(update.done) * 100 / u128::from(total)).min(100)),
                    None => format!("{}MB", update.done / 1_000_000),
                };
                let step = if update.phase == Phase::Hash { "image" } else { update.phase.name() };
                change(&shared, &id, |entry| {
                    let value = Value::String(format!("{step}: {text}"));
                    entry.operation.metadata.insert("download_progress".to_owned(), value);
                });
            }
            ControlFlow::Continue(())
        })
    }

    /// It was begun by whoever has this pass, which is used up, but for looking at this. An LXD that sends an image takes
    /// it from here when it waits.
    pub(crate) fn authenticated_by(&self, secret: &str) {
        self.change(|entry| {
            entry.pass = Some(SecretDigest::of(secret));
            entry.operation.metadata.insert("secret".to_owned(), Value::String(secret.to_owned()));
        });
    }

    /// The work is done; `images` are the addresses of what it is about.
    pub(crate) fn succeed(mut self, images: &[String], metadata: impl IntoIterator<Item = (&'static str, Value)>) {
        self.open = false;
        self.change(|entry| {
            entry.operation.metadata.extend(metadata.into_iter().map(|(key, value)| (key.to_owned(), value)));
            if !images.is_empty() {
                entry.operation.resources = BTreeMap::from([("images".to_owned(), images.to_vec())]);
            }
            entry.set(Status::Success);
        });
    }

    /// The work failed, with a sentence for the client.
    pub(crate) fn fail(mut self, kind: ErrorKind, sentence: impl Into<String>) {
        self.end_badly(kind, sentence.into());
    }

    /// A token goes on without anybody's doing, for so long.
    pub(crate) fn into_token(mut self, time: Duration) {
        self.open = false;
        self.change(|entry| entry.ends = Some(Instant::now() + time));
    }

    fn end_badly(&mut self, kind: ErrorKind, sentence: String) {
        self.open = false;
        let cancelled = kind == ErrorKind::Cancelled && self.cancel.is_cancelled();
        self.change(|entry| {
            entry.operation.err = sentence;
            entry.set(if cancelled { Status::Cancelled } else { Status::Failure });
        });
    }

    fn change(&self, how: impl FnOnce(&mut Entry)) {
        change(&self.shared, &self.id, how);
    }
}

fn change(shared: &Registry, id: &str, how: impl FnOnce(&mut Entry)) {
    let mut state = shared.lock();
    if let Some(entry) = state.find(id).filter(|entry| !entry.status.is_over()) {
        how(entry);
        shared.notify(entry);
    }
}

impl Drop for OperationHandle {
    fn drop(&mut self) {
        if self.open {
            self.end_badly(ErrorKind::Io, "the work ended without a result".to_owned());
        }
    }
}
