//! `Notes`: what happens in the server that concerns no single request, for the log: rows that can't be read, what an image of
//! the upstream lost on its way. The listener has the log; a handler without one keeps silent.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::error::Error;
use crate::omissions::Omissions;

/// How many things are told at most once each.
const MAX_DEDUPLICATED: usize = 10_000;
/// How many omissions of one image are told one by one.
const MAX_LISTED: usize = 10;

type Write = Box<dyn Fn(&dyn fmt::Display) + Send + Sync>;

/// Where notes go.
#[derive(Default)]
pub(crate) struct Notes {
    write: OnceLock<Write>,
    told: Mutex<HashSet<String>>,
}

impl fmt::Debug for Notes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notes").finish_non_exhaustive()
    }
}

impl Notes {
    /// Has notes written by `write` from now on.
    pub(crate) fn write_to(&self, write: impl Fn(&dyn fmt::Display) + Send + Sync + 'static) {
        // The first log stays: a handler has one listener.
        let _ = self.write.set(Box::new(write));
    }

    fn tell(&self, text: &dyn fmt::Display) {
        if let Some(write) = self.write.get() {
            write(text);
        }
    }

    /// An image was left out of what is listed. Told once, for lists are made often.
    pub(crate) fn skipped(&self, name: &str, error: &Error) {
        let text = format!("image {}: skipped: {error}", crate::error::Escaped(name.as_bytes()));
        let new = {
            let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            told.len() < MAX_DEDUPLICATED && told.insert(text.clone())
        };
        if new {
            self.tell(&text);
        }
    }

    /// A list could not be sent to its end.
    pub(crate) fn cut_short(&self, error: &Error) {
        self.tell(&format_args!("a list was cut short: {error}"));
    }

    /// What was left out of an image that came from the upstream.
    pub(crate) fn omitted(&self, omissions: &Omissions) {
        for omission in omissions.iter().take(MAX_LISTED) {
            self.tell(&omission);
        }
        let more = omissions.total().saturating_sub(MAX_LISTED as u64);
        if more > 0 {
            self.tell(&format_args!("{more} more omissions"));
        }
    }
}
