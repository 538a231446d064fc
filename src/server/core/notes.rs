//! [`Notes`]: log messages that belong to no request: rows that can't be read, omissions of images
//! that were fetched from the upstream. The listener provides the log; a handler without a listener
//! discards them.
//!
//! Messages of a request go into its response instead, and into the access log as its status. A
//! message is written here where the request that met the problem can't report it: a damaged row is
//! left out of a list, and the list is still right for its client.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::error::Error;
use crate::omissions::Omissions;

/// Messages that are remembered in order to write each once. When there are more, later messages
/// about damaged rows are not written at all: they would repeat with every list.
const MAX_DEDUPLICATED: usize = 10_000;
/// Omissions of one image that are written one by one; the rest is counted.
///
/// A hostile image can have one omission per member.
const MAX_LISTED: usize = 10;

/// The function that writes a message to the log. It must not block for long.
type Write = Box<dyn Fn(&dyn fmt::Display) + Send + Sync>;

/// The log of a handler.
#[derive(Default)]
pub(crate) struct Notes {
    /// The log, from the moment when a listener runs.
    write: OnceLock<Write>,
    /// The messages about skipped rows that were written already.
    told: Mutex<HashSet<String>>,
}

impl fmt::Debug for Notes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notes").finish_non_exhaustive()
    }
}

impl Notes {
    /// Writes messages by `write` from now on. A second call has no effect.
    pub(crate) fn write_to(&self, write: impl Fn(&dyn fmt::Display) + Send + Sync + 'static) {
        // The first log stays: a handler has one listener.
        let _ = self.write.set(Box::new(write));
    }

    /// Writes a message, or discards it before there is a log.
    fn tell(&self, text: &dyn fmt::Display) {
        if let Some(write) = self.write.get() {
            write(text);
        }
    }

    /// Reports an image that is left out of lists, once: lists are made often.
    ///
    /// `name` is the file or key of the row, which may be anything: it is escaped.
    pub(crate) fn skipped(&self, name: &str, error: &Error) {
        let text = format!("image {}: skipped: {error}", crate::error::Escaped(name.as_bytes()));
        let new = {
            let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            told.len() < MAX_DEDUPLICATED && told.insert(text.clone())
        };
        // Written without the lock: the log may be slow.
        if new {
            self.tell(&text);
        }
    }

    /// Reports a list whose response was cut off by an error.
    pub(crate) fn cut_short(&self, error: &Error) {
        self.tell(&format_args!("a list was cut short: {error}"));
    }

    /// Reports that the other servers of the store can't be reached by the catalog.
    pub(crate) fn fleet(&self, error: &Error) {
        self.tell(&format_args!("the other servers of this store are not told of changes for now: {error}"));
    }

    /// Reports that leftovers stay, since the catalog is damaged.
    pub(crate) fn not_swept(&self, damage: &str) {
        self.tell(&format_args!("leftovers are not removed, since the catalog is damaged: {damage}; run `check`"));
    }

    /// Reports that the parts of a finished upload are still there. They take up space until a sweep.
    pub(crate) fn parts_remain(&self, error: &Error) {
        self.tell(&format_args!("the parts of a finished upload can't be removed now: {error}"));
    }

    /// Reports what was left out of an image of the upstream.
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
