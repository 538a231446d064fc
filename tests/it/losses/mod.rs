//! Nothing is lost without a word: inputs that some output cannot hold, through every verb, as a library and as a program.
//! Each loss must be in the record of the call and on standard error; new rows go into the tables.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod images;
mod options;
mod stores;
mod trees;
mod verbs;

use lxd_image::Omissions;

/// What must be told of a loss: the object, and one of these words.
#[derive(Clone, Copy)]
pub(crate) struct Told {
    /// The object's path or name; part of it is enough.
    pub(crate) path: &'static str,
    /// One of these is in the text.
    pub(crate) words: &'static [&'static str],
}

impl Told {
    /// Whether the record has it.
    pub(crate) fn is_in(&self, omissions: &Omissions) -> bool {
        omissions.iter().any(|omission| {
            let text = omission.to_string();
            text.contains(self.path) && self.words.iter().any(|word| text.contains(word))
        })
    }

    /// Whether a line of standard error has it.
    pub(crate) fn is_on(&self, stderr: &str) -> bool {
        stderr.lines().any(|line| line.contains(self.path) && self.words.iter().any(|word| line.contains(word)))
    }
}
